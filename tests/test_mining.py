"""Hard examples: losses worked out by hand, references from libraries, the erratum beside the right version."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from helpers.chapters import load
from helpers.datasets import long_tailed
from helpers.models import Net
from helpers.training import Recipe, fit, prepare

mining = load("hard_examples/mining")


def logits_with_losses(*losses):
    """Binary logits whose cross-entropy for class 0 is given."""
    p = torch.tensor(losses).neg().exp()
    return torch.stack([p.log(), (1 - p).log()], 1), torch.zeros(len(losses), dtype=torch.long)


def test_ohem_averages_the_highest_losses_and_not_the_lowest():
    logits, labels = logits_with_losses(0.1, 2.0, 0.3, 1.0)
    assert float(mining.ohem(logits, labels, None, share=0.5)) == pytest.approx(1.5, abs=1e-5)
    as_printed = F.cross_entropy(logits, labels, reduction="none").topk(2, largest=False).values.mean()
    assert float(as_printed) == pytest.approx(0.2, abs=1e-5)


def test_ohem_of_the_whole_batch_is_cross_entropy():
    logits, labels = torch.randn(16, 10), torch.randint(10, (16,))
    assert torch.allclose(mining.ohem(logits, labels, None, share=1), F.cross_entropy(logits, labels))


def test_only_the_kept_samples_get_a_gradient():
    logits, labels = logits_with_losses(0.1, 2.0, 0.3, 1.0)
    logits.requires_grad_()
    mining.ohem(logits, labels, None, share=0.5).backward()
    assert (logits.grad.abs().sum(1) > 0).tolist() == [False, True, False, True]


@pytest.mark.parametrize(("batch", "share", "expected"),
                         [(8, 0.5, 4), (7, 0.5, 4), (3, 0.01, 1), (10, 0.7, 7), (5, 1, 5)])
def test_k_is_rounded_up_and_never_zero(batch, share, expected):
    assert mining.kept(batch, share) == expected


@pytest.mark.parametrize("share", [0, -0.1, 1.5])
def test_a_share_outside_its_range_is_refused(share):
    with pytest.raises(ValueError, match="share="):
        mining.kept(8, share)


def test_divided_by_the_batch_what_is_kept_pulls_as_before():
    losses = [0.1, 2.0, 0.3, 1.0, 0.2, 0.4, 0.6, 0.5]
    logits, labels = logits_with_losses(*losses)
    assert float(mining.ohem_same_pull(logits, labels, None, share=0.25)) == pytest.approx(3.0 / 8, abs=1e-5)


def test_a_falling_share_begins_with_all_and_ends_with_a_quarter():
    logits, labels = logits_with_losses(0.1, 2.0, 0.3, 1.0)
    start, end = (float(mining.falling(logits, labels, SimpleNamespace(progress=progress))) for progress in (0.0, 1.0))
    assert (start, end) == (pytest.approx(3.4 / 4, abs=1e-5), pytest.approx(2.0, abs=1e-5))


def test_focal_loss_by_hand_and_with_gamma_zero():
    logits, labels = logits_with_losses(-np.log(0.8), -np.log(0.5))
    by_hand = (0.2**2 * -np.log(0.8) + 0.5**2 * -np.log(0.5)) / 2
    assert float(mining.focal(logits, labels, None)) == pytest.approx(by_hand, abs=1e-6)
    assert torch.allclose(mining.focal(logits, labels, None, gamma=0), F.cross_entropy(logits, labels))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_softmax_focal_loss_of_two_classes_is_torchvisions_sigmoid_form(gamma):
    score, labels = torch.randn(50), torch.randint(2, (50,))
    ours = mining.focal(torch.stack([torch.zeros(50), score], 1), labels, None, gamma=gamma)
    theirs = sigmoid_focal_loss(score, labels.float(), alpha=-1, gamma=gamma, reduction="mean")
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_three_to_one_keeps_all_positives_and_three_hardest_negatives_for_each():
    logits, labels = torch.randn(6, 10), torch.randint(10, (6,))
    each = F.binary_cross_entropy_with_logits(logits, F.one_hot(labels, 10).float(), reduction="none")
    positive = F.one_hot(labels, 10).bool()
    by_hand = (each[positive].sum() + each[~positive].sort(descending=True).values[:18].sum()) / 6
    assert torch.allclose(mining.one_vs_rest(logits, labels, None, negatives=3), by_hand)
    assert torch.allclose(mining.one_vs_rest(logits, labels, None), each.sum() / 6)
    assert torch.allclose(mining.one_vs_rest(logits, labels, None, negatives=9), each.sum() / 6)


def test_screener_loss_by_hand_and_its_best_weight():
    assert float(mining.screener_loss(torch.tensor([0.25]), torch.tensor([0.4]))) == pytest.approx(
        0.75**2 * 0.4 + 0.25**2 * 0.6)
    grid = torch.linspace(0, 1, 1001)
    for loss, best in ((0.3, 0.3), (0.9, 0.9), (2.0, 1.0)):
        values = [float(mining.screener_loss(w[None], torch.tensor([loss]))) for w in grid]
        assert float(grid[int(np.argmin(values))]) == pytest.approx(best, abs=0.002)


def screened_batch(bias=None):
    """A run that `screened` takes, with a batch; where a bias is given, the screener says the same of every image."""
    model = mining.Screened(10).eval()
    if bias is not None:
        torch.nn.init.zeros_(model.screener[-1].weight)
        torch.nn.init.constant_(model.screener[-1].bias, bias)
    run = SimpleNamespace(model=model, normalise=lambda images: images)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(8, 1, 28, 28, generator=generator)
    return run, images, torch.randint(10, (8,), generator=generator)


def test_screener_and_classifier_do_not_reach_into_each_other(monkeypatch):
    run, images, labels = screened_batch()
    gradient, original = {}, mining.screener_loss
    for known in (1.0, 5.0):  # the screener's term must leave the classifier's gradient alone
        run.model.zero_grad()
        monkeypatch.setattr(mining, "screener_loss", lambda w, losses, known=known: known * original(w, losses))
        mining.screened(run, images, labels, alpha=0).backward()
        gradient[known] = run.model.head.weight.grad.clone(), run.model.screener[-1].weight.grad.clone()
    assert torch.allclose(gradient[1.0][0], gradient[5.0][0])
    assert torch.allclose(5 * gradient[1.0][1], gradient[5.0][1], atol=1e-6)  # and takes none from the classifier's


def test_the_classifier_learns_as_much_from_an_image_as_the_screener_says():
    run, images, labels = screened_batch(bias=float(torch.tensor(0.2).logit()))
    mining.screened(run, images, labels).backward()
    weighted = run.model.head.weight.grad.clone()
    run.model.zero_grad()
    F.cross_entropy(run.model(images), labels).backward()
    assert torch.allclose(weighted, 0.2 * run.model.head.weight.grad, atol=1e-6)


def test_the_screener_is_kept_small_by_the_sum_of_its_parameters():
    run, images, labels = screened_batch()
    size = sum(values.abs().sum() for values in run.model.screener.parameters())
    gap = mining.screened(run, images, labels, alpha=0.5) - mining.screened(run, images, labels, alpha=0)
    assert gap.item() == pytest.approx(0.5 * size.item() / 8, rel=1e-4)


def test_disagreement_is_zero_for_equal_and_log_two_for_opposite_predictions():
    same = torch.tensor([[[0.3, 0.7]], [[0.3, 0.7]]])
    opposite = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    assert float(mining.jensen_shannon(same)) == pytest.approx(0, abs=1e-6)
    assert float(mining.jensen_shannon(opposite)) == pytest.approx(np.log(2), abs=1e-6)


def test_disagreement_is_measured_without_dropout_and_leaves_the_mode_as_it_was(monkeypatch):
    data = long_tailed("MNIST", data="stand-in")
    run = prepare(Recipe(model=Net), data.train, 10, steps=1, batch_size=8, seed=0)
    moved = mining.disagreement(run, data.val, copies=3)
    assert moved.shape == (len(data.val),)
    assert float(moved.mean()) > 0
    assert run.model.training
    monkeypatch.setattr(mining, "random_affine", lambda images, run, **_: images)  # copies that are equal
    assert float(mining.disagreement(run, data.val).max()) == pytest.approx(0, abs=1e-6)
    run.model.eval()
    mining.disagreement(run, data.val)
    assert not run.model.training


def test_the_disagreement_sampler_prefers_what_the_copies_disagree_on(monkeypatch):
    data = long_tailed("MNIST", data="stand-in")
    trained = fit(Recipe(), data, steps=6, batch_size=32)
    run = trained.run
    measured = torch.zeros(len(run.train))
    measured[:10] = 1.0
    monkeypatch.setattr(mining, "disagreement", lambda *_: measured)
    draw, run.steps, run.step = mining.by_disagreement(run), 3, 0
    assert len(next(draw)) == run.batch_size
    run.step = 1
    rows = torch.cat([next(draw) for _ in range(100)])
    relative = measured / measured.mean()
    expected = float((0.2 + relative[:10]).sum() / (0.2 + relative).sum())
    assert float((rows < 10).float().mean()) == pytest.approx(expected, abs=0.04)


def test_the_disagreement_sampler_measures_twice_and_not_before_it_has_learned(monkeypatch):
    data = long_tailed("MNIST", data="stand-in")
    run = prepare(Recipe(), data.train, 10, steps=9, batch_size=8, seed=0)
    measured = []
    monkeypatch.setattr(mining, "disagreement", lambda run, split: measured.append(run.step) or torch.ones(len(split)))
    draw = mining.by_disagreement(run)
    for run.step in range(9):
        next(draw)
    assert measured == [3, 6]


def test_five_percent_of_the_labels_are_flipped_and_all_to_another_class():
    data = long_tailed("MNIST", data="stand-in")
    noisy, flipped = mining.flip_labels(data, seed=0)
    changed = (noisy.train.labels != data.train.labels).nonzero().flatten()
    assert changed.tolist() == flipped.sort().values.tolist()
    assert len(changed) == round(0.05 * len(data.train))
    assert torch.equal(noisy.test.labels, data.test.labels)


def test_windows_hold_the_digits_that_they_promise_and_each_way_chooses_as_named():
    data = long_tailed("MNIST", data="stand-in")
    images, labels = mining.make_windows(data.train, 4, torch.Generator().manual_seed(0))
    assert images.shape == (256, 1, 28, 28)
    assert int(labels.sum()) == 8
    losses = torch.arange(256.0)
    chosen = {way: mining.choose(way, losses, labels, 32, torch.Generator()) for way in
              ("random windows", "all windows", "OHEM", "3:1 negatives")}
    assert {way: len(rows) for way, rows in chosen.items()} == {
        "random windows": 32, "all windows": 256, "OHEM": 32, "3:1 negatives": 32}
    assert sorted(chosen["OHEM"].tolist()) == list(range(224, 256))
    assert int(labels[chosen["3:1 negatives"]].sum()) == 8
    assert sorted(chosen["3:1 negatives"].tolist())[8:] == list(range(232, 256))


def test_the_reader_scores_windows_with_the_weights_of_the_last_step(monkeypatch):
    digits = long_tailed("MNIST", data="stand-in").train
    windows = mining.make_windows(digits, 4, torch.Generator().manual_seed(0))
    monkeypatch.setattr(mining, "make_windows", lambda *_: windows)
    read, choose = [], mining.choose
    monkeypatch.setattr(mining, "choose", lambda way, losses, *rest: read.append(losses) or choose(way, losses, *rest))
    after_two, _ = mining.train_windows("OHEM", 0.05, seed=1, steps=2, split=digits)
    mining.train_windows("OHEM", 0.05, seed=1, steps=3, split=digits)
    images, labels = windows
    with torch.no_grad():
        expected = F.binary_cross_entropy_with_logits(after_two(images), labels.float(), reduction="none")
    assert torch.allclose(read[-1], expected, atol=1e-5)
    assert not torch.allclose(read[-1], read[-2], atol=1e-3)


@pytest.mark.parametrize("way", ["random windows", "all windows", "OHEM", "3:1 negatives", "focal loss"])
def test_every_way_of_choosing_windows_learns_to_find_digits(way):
    data = long_tailed("MNIST", data="stand-in")
    network, seconds = mining.train_windows(way, 0.05, seed=0, steps=60, split=data.train)
    images, labels = mining.make_windows(data.test, 16, torch.Generator().manual_seed(9))
    with torch.no_grad():
        found = average_precision_score(labels, network(images))
    assert seconds > 0
    assert found > 4 * float(labels.float().mean())


@pytest.mark.parametrize("part", ["val", "test"])
def test_windows_are_judged_on_digits_that_were_not_trained_on(part, monkeypatch):
    data = long_tailed("MNIST", seed=3, data="stand-in")
    seen, original = [], mining.make_windows
    monkeypatch.setattr(mining, "make_windows", lambda split, *rest: seen.append(split) or original(split, *rest))
    found = mining.window_run("random windows", 0.05, 3, 2, "stand-in", part)
    assert torch.equal(seen[-1].inputs, getattr(data, part).inputs)
    assert all(torch.equal(split.inputs, data.train.inputs) for split in seen[:-1])
    assert 0 < found["average precision"] < 1


@pytest.mark.parametrize(("share", "expected"), [(0.25, 1.0), (0.02, 0.4)])
def test_wrong_labels_are_found_where_a_network_knows_the_right_ones(share, expected, monkeypatch):
    right = long_tailed("MNIST", seed=2, data="stand-in").train.labels
    knows = SimpleNamespace(predict=lambda _: 9.0 * F.one_hot(right, 10))
    monkeypatch.setattr(mining, "fit", lambda *_, **__: knows)
    found = mining.wrong_labels_found(2, 1, "stand-in", share)
    assert found["wrong labels found"] == pytest.approx(expected, abs=0.02)


def test_wrong_labels_are_sought_with_a_network_that_was_trained_on_them(monkeypatch):
    trained_on, original = [], mining.fit
    monkeypatch.setattr(mining, "fit", lambda recipe, data, **rest: trained_on.append(data) or original(
        recipe, data, **rest))
    mining.wrong_labels_found(2, 1, "stand-in")
    right = long_tailed("MNIST", seed=2, data="stand-in").train.labels
    assert float((trained_on[0].train.labels != right).float().mean()) == pytest.approx(0.05, abs=0.001)
