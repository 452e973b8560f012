"""Hard examples: losses worked out by hand, references from libraries, the erratum beside the right version."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from chapters import load
from sklearn.ensemble import AdaBoostClassifier
from sklearn.tree import DecisionTreeClassifier
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from helpers.datasets import long_tailed
from helpers.training import Recipe, fit

mining = load("hard_examples/mining")


def logits_with_losses(*losses):
    """Binary logits whose cross-entropy for class 0 is given."""
    p = torch.tensor(losses).neg().exp()
    return torch.stack([p.log(), (1 - p).log()], 1), torch.zeros(len(losses), dtype=torch.long)


def test_ohem_averages_the_highest_losses_and_not_the_lowest():
    logits, labels = logits_with_losses(0.1, 2.0, 0.3, 1.0)
    assert float(mining.ohem(logits, labels, None, rate=0.5)) == pytest.approx(1.5, abs=1e-5)
    as_printed = F.cross_entropy(logits, labels, reduction="none").topk(2, largest=False).values.mean()
    assert float(as_printed) == pytest.approx(0.2, abs=1e-5)


def test_ohem_at_rate_one_is_cross_entropy():
    logits, labels = torch.randn(16, 10), torch.randint(10, (16,))
    assert torch.allclose(mining.ohem(logits, labels, None, rate=1), F.cross_entropy(logits, labels))


def test_only_the_kept_samples_get_a_gradient():
    logits, labels = logits_with_losses(0.1, 2.0, 0.3, 1.0)
    logits.requires_grad_()
    mining.ohem(logits, labels, None, rate=0.5).backward()
    assert (logits.grad.abs().sum(1) > 0).tolist() == [False, True, False, True]


@pytest.mark.parametrize(("batch", "rate", "expected"),
                         [(8, 0.5, 4), (7, 0.5, 4), (3, 0.01, 1), (10, 0.7, 7), (5, 1, 5)])
def test_k_is_rounded_up_and_never_zero(batch, rate, expected):
    assert mining.kept(batch, rate) == expected


@pytest.mark.parametrize("rate", [0, -0.1, 1.5])
def test_a_rate_outside_its_range_is_refused(rate):
    with pytest.raises(ValueError, match="rate="):
        mining.kept(8, rate)


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


def test_screener_and_classifier_do_not_reach_into_each_other(monkeypatch):
    model = mining.Screened(10).eval()
    run = SimpleNamespace(model=model, normalise=lambda images: images)
    images, labels = torch.rand(8, 1, 28, 28), torch.randint(10, (8,))
    gradient, original = {}, mining.screener_loss
    for known in (1.0, 5.0):  # the screener's term must leave the classifier's gradient alone
        model.zero_grad()
        monkeypatch.setattr(mining, "screener_loss", lambda w, losses, known=known: known * original(w, losses))
        mining.screened(run, images, labels).backward()
        gradient[known] = model.head.weight.grad.clone(), model.screener[-1].weight.grad.clone()
    assert torch.allclose(gradient[1.0][0], gradient[5.0][0])
    assert torch.allclose(5 * gradient[1.0][1], gradient[5.0][1], atol=1e-6)  # and takes none from the classifier's


def test_disagreement_is_zero_for_equal_and_log_two_for_opposite_predictions():
    same = torch.tensor([[[0.3, 0.7]], [[0.3, 0.7]]])
    opposite = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    assert float(mining.jensen_shannon(same)) == pytest.approx(0, abs=1e-6)
    assert float(mining.jensen_shannon(opposite)) == pytest.approx(np.log(2), abs=1e-6)


def test_wiggle_without_range_changes_nothing():
    images = torch.rand(4, 1, 28, 28)
    assert torch.allclose(mining.wiggle(images, degrees=0, shift=0), images, atol=1e-5)
    assert not torch.allclose(mining.wiggle(images), images, atol=1e-2)


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


def test_adaboost_weights_agree_with_scikit_learns_ensemble():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(200, 3))
    targets = np.where(inputs[:, 0] + 0.5 * inputs[:, 1] ** 2 + 0.3 * rng.normal(size=200) > 0.3, 1, -1)
    weights, margins = mining.adaboost_weights(inputs, targets, rounds=10)
    reference = AdaBoostClassifier(DecisionTreeClassifier(max_depth=1), n_estimators=10, random_state=0)
    reference.fit(inputs, targets)
    assert (np.sign(margins * targets) == reference.predict(inputs)).all()
    assert np.allclose(weights, np.exp(-margins) / np.exp(-margins).sum())


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
