"""The chapter on mixing: shares, masks and labels by hand, against torchvision, and the errata beside the right way."""

import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms import v2

from helpers.chapters import load
from helpers.datasets import long_tailed
from helpers.training import Recipe, fit, oversample, prepare, reproducible

chapter = load("augmentation/mixing")
HOOKS = ["mixup", "cutmix", "mixup_or_cutmix", "mixup_then_cutmix", "remix", "fmix"]


@pytest.fixture(scope="module")
def data():
    return long_tailed("FashionMNIST", data="stand-in")


@pytest.fixture
def run(data):
    return prepare(Recipe(), data.train, 10, steps=100, batch_size=8, seed=0)


def one_garment_each(run, count=8):
    """Image k is blank but for channel value k + 1, label k: a mix can be read off the pixels."""
    labels = torch.arange(count)
    return (labels + 1.0).view(-1, 1, 1, 1).expand(-1, 1, 28, 28).clone(), labels


@pytest.mark.parametrize("name", HOOKS)
@pytest.mark.parametrize("seed", range(5))
def test_label_mass_sums_to_one_and_follows_the_pixels(run, name, seed):
    inputs, labels = one_garment_each(run)
    with reproducible(seed):
        run.rng, run.generator = chapter.np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        mixed, targets = getattr(chapter, name)(inputs, labels, run)
    assert mixed.shape == inputs.shape and targets.shape == (8, 10)
    torch.testing.assert_close(targets.sum(1), torch.ones(8))
    assert (targets >= 0).all()
    if name != "remix":  # its labels leave the pixels on purpose
        expected = targets[:, :8] @ torch.arange(1.0, 9)
        torch.testing.assert_close(mixed.mean((1, 2, 3)), expected, rtol=0, atol=0.02 if "then" in name else 1e-4)


@pytest.mark.parametrize("name", [*HOOKS, "sample_pairing"])
def test_the_inputs_are_left_alone(run, name):
    inputs, labels = one_garment_each(run)
    before, run.step = inputs.clone(), 50
    getattr(chapter, name)(inputs, labels, run)
    assert torch.equal(inputs, before) and torch.equal(labels, torch.arange(8))


def test_sequence_mixes_up_to_three_and_choice_takes_both_ways(run):
    inputs, labels = one_garment_each(run)
    parts, kinds = 0, set()
    for seed in range(20):
        with reproducible(seed):
            parts = max(parts, int((chapter.mixup_then_cutmix(inputs, labels, run)[1] > 0).sum(1).max()))
        with reproducible(seed):
            mixed, _ = chapter.mixup_or_cutmix(inputs, labels, run)
        kinds.add(bool((mixed == mixed.round()).all()))
    assert parts == 3
    assert kinds == {True, False}  # CutMix keeps whole pixels, MixUp does not


def test_torchvision_pairs_neighbours(run):
    inputs, labels = one_garment_each(run)
    _, targets = chapter.mixup(inputs, labels, run, alpha=20.0)
    assert torch.equal((targets > 0).nonzero().view(8, 2, 2)[..., 1].sort(1).values,
                       torch.stack([labels, labels.roll(1)], 1).sort(1).values)
    stored = torch.tensor([3] * 64 + [5] * 64)
    _, targets = v2.MixUp(num_classes=10)(torch.zeros(128, 1, 4, 4), stored)
    assert (targets.max(1).values == 1).sum() == 126  # unshuffled: like with like


@pytest.mark.parametrize(("share", "count_i", "count_j", "expected"), [
    (0.3, 6000, 60, 0.0),   # branch 1: the rare second image fills 70 %
    (0.7, 6000, 60, 0.7),   # the common image fills 70 %
    (0.7, 60, 6000, 1.0),   # branch 2: the rare first image fills 70 %
    (0.3, 60, 6000, 0.3),
    (0.3, 300, 100, 0.0),   # κ itself counts
    (0.3, 299, 100, 0.3),   # just below κ
    (0.7, 100, 300, 1.0),   # 1/κ itself counts
    (0.5, 6000, 60, 0.5),   # τ itself does not
    (0.5, 60, 6000, 0.5),
    (0.3, 100, 100, 0.3),
])
def test_remix_branches_by_hand(share, count_i, count_j, expected):
    counts = torch.tensor([float(count_i)]), torch.tensor([float(count_j)])
    assert float(chapter.remix_share(share, *counts)) == pytest.approx(expected)


def test_remix_takes_integer_counts_and_keeps_each_samples_own_branch():
    share = chapter.remix_share(0.7, torch.tensor([60, 6000, 60]), torch.tensor([6000, 60, 60]))
    torch.testing.assert_close(share, torch.tensor([1.0, 0.7, 0.7]))


def test_remix_after_oversampling_is_mixup(data):
    run = prepare(Recipe(), oversample(data.train, 0), 10, steps=1, batch_size=8, seed=0)
    inputs, labels = one_garment_each(run)
    mixed, targets = chapter.remix(inputs, labels, run)
    torch.testing.assert_close(mixed.mean((1, 2, 3)), targets[:, :8] @ torch.arange(1.0, 9))


def test_sample_pairing_schedule(run):
    on = [chapter.pairing_is_on(step, 100) for step in range(100)]
    assert not any(on[:10]) and not any(on[80:])
    assert on[10:20] == [True] * 8 + [False] * 2
    assert sum(on) == 56
    inputs, labels = one_garment_each(run)
    run.step = 0
    same, _ = chapter.sample_pairing(inputs, labels, run)
    assert torch.equal(same, inputs)
    run.step = 50
    mixed, targets = chapter.sample_pairing(inputs, labels, run)
    assert torch.equal(targets, labels)
    partner = 2 * mixed[:, 0, 0, 0] - inputs[:, 0, 0, 0]
    assert partner.sort().values.tolist() == list(range(1, 9))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.93, 1.0])
def test_cloud_mask_has_the_share_it_was_asked_for(share):
    mask = chapter.cloud_mask(share, 28, 28, torch.Generator().manual_seed(0))
    assert mask.shape == (28, 28) and set(mask.unique().tolist()) <= {0.0, 1.0}
    assert abs(float(mask.mean()) - share) <= 0.5 / 784 + 1e-6


def test_cloud_mask_is_smooth():
    mask = chapter.cloud_mask(0.5, 28, 28, torch.Generator().manual_seed(0))
    rough = chapter.cloud_mask(0.5, 28, 28, torch.Generator().manual_seed(0), decay=0.0)
    edges = [float((m[1:] != m[:-1]).float().mean()) for m in (mask, rough)]
    assert edges[0] < 0.15 < 0.4 < edges[1]


def test_cutmix_pastes_less_than_it_draws():
    drawn, pasted = chapter.box_shares(5000)
    assert drawn.mean() == pytest.approx(0.5, abs=0.02)
    assert (pasted <= drawn + 1e-9).all() and pasted.mean() < 0.4


def test_box_shares_agree_with_torchvision(run):
    inputs, labels = one_garment_each(run)
    with reproducible(0):
        kept = torch.stack([chapter.cutmix(inputs, labels, run)[1][torch.arange(8), labels][0] for _ in range(1500)])
    assert 1 - float(kept.mean()) == pytest.approx(chapter.box_shares(5000)[1].mean(), abs=0.03)


def test_mix_labels_by_hand():
    mixed = chapter.mix_labels(torch.tensor([0, 2]), torch.tensor([1, 2]), torch.tensor([0.7, 0.4]), 3)
    torch.testing.assert_close(mixed, torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.0, 1.0]]))


@pytest.mark.parametrize("seed", range(12))
def test_remix_gives_the_label_to_the_rare_image_that_fills_most_of_the_picture(run, seed):
    inputs, labels = one_garment_each(run)
    run.class_counts = torch.tensor([6000.0, 3000, 900, 800, 250, 120, 100, 30, 20, 10])
    run.rng, run.generator = chapter.np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    mixed, targets = chapter.remix(inputs, labels, run)
    share = float(chapter.np.random.default_rng(seed).beta(0.5, 0.5))
    partners = torch.randperm(8, generator=torch.Generator().manual_seed(seed)).tolist()
    for own, partner in enumerate(partners):
        expected = torch.zeros(10)
        if own < partner and share < 0.5 and run.class_counts[own] >= 3 * run.class_counts[partner]:
            expected[partner] = 1  # the rarer class has the larger class number here
        elif own > partner and share > 0.5 and 3 * run.class_counts[own] <= run.class_counts[partner]:
            expected[own] = 1
        else:
            expected[own] += share
            expected[partner] += 1 - share
        torch.testing.assert_close(targets[own], expected)
        assert float(mixed[own, 0, 0, 0]) == pytest.approx(share * (own + 1) + (1 - share) * (partner + 1), rel=1e-5)


def test_e10_one_hot_is_the_two_term_loss():
    logits, one, other = torch.randn(6, 10), torch.randint(10, (6,)), torch.randint(10, (6,))
    soft = F.cross_entropy(logits, chapter.mix_labels(one, other, 0.3, 10))
    torch.testing.assert_close(soft, 0.3 * F.cross_entropy(logits, one) + 0.7 * F.cross_entropy(logits, other))
    assert int(0.5 * 2 + 0.5 * 4) == 3  # printed: half a pullover and half a coat are a dress


def test_e11_the_missing_branch():
    def as_printed(share, counts_i, counts_j):
        """Without the branch for a rare first image."""
        return torch.where((counts_i / counts_j >= 3) & torch.tensor(share < 0.5), 0.0, share)

    rare, common = torch.tensor([60.0]), torch.tensor([6000.0])
    for share in (0.2, 0.7):
        torch.testing.assert_close(chapter.remix_share(share, common, rare), as_printed(share, common, rare))
    assert float(chapter.remix_share(0.7, rare, common)) == 1
    assert float(as_printed(0.7, rare, common)) == pytest.approx(0.7)


def test_e12_mean_losses_times_shares_give_every_pair_the_mean_share():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 10, generator=generator)
    one, other = torch.tensor([0, 9, 0, 3]), torch.tensor([9, 0, 1, 3])
    counts = torch.tensor([6000.0, 3596, 2156, 1292, 774, 464, 278, 166, 100, 60])
    own = chapter.remix_share(0.7, counts[one], counts[other])
    assert own.tolist() == pytest.approx([0.7, 1.0, 0.7, 0.7])
    notebook = (F.cross_entropy(logits, one) * own + F.cross_entropy(logits, other) * (1 - own)).mean()
    shares = chapter.everyones_share(0.7, counts[one], counts[other])
    as_run = F.cross_entropy(logits, chapter.mix_labels(one, other, shares, 10))
    torch.testing.assert_close(as_run, notebook)
    right = F.cross_entropy(logits, chapter.mix_labels(one, other, own, 10))
    assert abs(float(right - notebook)) > 0.01


def test_e5_dropout_is_off_from_the_second_epoch(data):
    modes = []

    def watched(run, inputs, labels):
        loss = chapter.dropout_forgotten(run, inputs, labels)
        modes.append(run.model.training)
        return loss

    first = data.train[torch.arange(64)]
    fit(Recipe(objective=watched), chapter.replace(data, train=first), steps=6, batch_size=32)
    assert modes == [True, True, False, False, False, False]


# ---------------------------------------------------------------- what is counted and drawn

@pytest.fixture
def on_page(data, monkeypatch):
    """The chapter with its data set, as its cells have it."""
    monkeypatch.setattr(chapter, "data", data, raising=False)
    return chapter


def test_label_mass_is_that_of_the_data_for_plain_and_mixed_and_equal_after_oversampling(on_page, data):
    share = data.class_counts / data.class_counts.sum()
    for recipe in (Recipe(), Recipe(mix=chapter.mixup)):
        mass = on_page.label_mass(recipe, batches=150)
        assert float(mass.sum()) == pytest.approx(1, abs=1e-4)
        torch.testing.assert_close(mass[:4], share[:4], rtol=0.1, atol=0)
    torch.testing.assert_close(on_page.label_mass(Recipe(resample=oversample), batches=150), torch.full((10,), 0.1),
                               rtol=0.15, atol=0)


def test_the_greedy_rule_gives_the_whole_label_to_the_rarer_class():
    counts = torch.tensor([60.0, 6000.0])
    for share in (0.2, 0.8):
        assert chapter.greedy(share, counts, counts.flip(0)).tolist() == [1, 0]


def test_one_share_a_batch_adds_no_label_mass_and_one_a_pair_adds_spread_around_none(on_page, data):
    assert abs(on_page.added_mass(False, batches=50)).max() < 1e-9
    added = on_page.added_mass(True, batches=400)
    assert added.shape == (400,) and added.std() > 1e-3
    assert abs(added.mean()) < 3 * added.std() / 20
    assert on_page.np.array_equal(added, on_page.added_mass(True, batches=400))


def test_a_look_shows_the_images_asked_for_and_what_their_labels_became(on_page, data):
    rows = torch.tensor([0, 5, 9])
    images, targets = on_page.look(None, rows)
    assert torch.equal(images, data.train.inputs[rows] / 255)
    assert torch.equal(targets, F.one_hot(data.train.labels[rows], 10).float())
    mixed, targets = on_page.look(chapter.partial(chapter.mixup, alpha=20.0), rows)
    assert not torch.equal(mixed, images)
    torch.testing.assert_close(targets.sum(1), torch.ones(3))
    assert torch.equal(on_page.look(chapter.sample_pairing, rows)[1], F.one_hot(data.train.labels[rows], 10).float())


def test_a_label_bar_has_the_colours_of_the_classes_in_their_shares():
    colours = [(one / 10, 0.0, 1.0) for one in range(10)]
    target = torch.zeros(10)
    target[2], target[7] = 0.25, 0.75
    panel = chapter.with_label_bar(torch.zeros(1, 28, 28), target, colours)
    bar = panel[30, 1:29]
    assert [tuple(one) for one in bar] == [colours[2]] * 7 + [colours[7]] * 21
    assert (panel[:28] == 1).all(), "an empty picture is white"


def test_a_row_of_pictures_a_technique(on_page):
    images, targets = torch.rand(3, 1, 28, 28), torch.eye(10)[:3]
    on_page.draw_with_labels({"original": (images, targets), "MixUp then CutMix": (images, targets)})
    figure = on_page.plt.gcf()
    assert [ax.get_ylabel() for ax in figure.axes] == ["original", "MixUp\nthen CutMix"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(on_page.data.class_names)
    on_page.plt.close(figure)


def test_pairs_of_trainings_lie_apart_by_accuracy_and_by_the_last_500():
    labels = torch.tensor([4, 0] * 400)  # 800 images; of the last 500 half are of class 4
    right = F.one_hot(labels, 10).float()
    worse, other = right.clone(), right.clone()
    worse[:200] = right[:200].flip(1)  # a quarter is wrong, none of it among the last 500
    other[700:] = right[700:].flip(1)  # 100 wrong, 50 of the 250 coats
    found = chapter.apart([right, worse, other], labels)
    chapter.np.testing.assert_allclose(found, [[25, 0], [12.5, 20], [12.5, 20]])
    assert chapter.apart([right], labels).shape == (0, 2)


@pytest.mark.parametrize("name", chapter.TECHNIQUES)
def test_every_technique_trains(data, name):
    trained = fit(Recipe(**chapter.TECHNIQUES[name]), data, steps=2, batch_size=16)
    assert torch.isfinite(torch.tensor(trained.history[-1]["loss"]))
