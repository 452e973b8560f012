"""The samplers of the first chapter keep their promises."""

import pytest
import torch
from torch.utils.data import WeightedRandomSampler

from helpers.chapters import load
from helpers.datasets import Split, long_tailed
from helpers.experiments import BASELINES
from helpers.metrics import expected_calibration_error, recall_per_class
from helpers.models import Linear
from helpers.training import Recipe, logit_adjustment, prepare

chapter = load("resampling/long_tailed_digits")
COUNTS = [600, 100, 6]


@pytest.fixture
def run():
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor(COUNTS))
    train = Split(torch.zeros(len(labels), 1), labels)
    return prepare(Recipe(model=lambda classes: Linear(classes, 1)), train, 3, 100, 60, seed=0)


def draw(sampler, run, batches):
    found = sampler(run)
    return torch.cat([next(found) for _ in range(batches)])


@pytest.mark.parametrize("sampler", [chapter.weighted, chapter.class_aware, chapter.label_shuffling])
def test_balanced_samplers_draw_every_class_equally(sampler, run):
    share = torch.bincount(run.train.labels[draw(sampler, run, 300)]) / (300 * 60)
    assert torch.allclose(share, torch.full((3,), 1 / 3), atol=0.015)


def test_class_aware_sampling_leaves_no_chance_to_the_class(run):
    for rows in torch.tensor_split(draw(chapter.class_aware, run, 20), 20):
        assert torch.bincount(run.train.labels[rows]).tolist() == [20, 20, 20]


def test_class_aware_sampling_repeats_no_image_before_its_class_is_through(run):
    rows = draw(chapter.class_aware, run, 10)
    tail = rows[run.train.labels[rows] == 2][:6]
    assert len(tail.unique()) == 6


def test_label_shuffling_shows_each_image_of_a_class_equally_often_give_or_take_one(run):
    rows = draw(chapter.label_shuffling, run, 30)  # one epoch: 3 classes × 600
    shown = torch.bincount(rows, minlength=sum(COUNTS))
    for label, count in enumerate(COUNTS):
        own = shown[run.train.labels == label]
        assert own.sum() == 600
        assert own.min() >= 600 // count and own.max() <= -(-600 // count)


def test_label_shuffling_draws_a_new_permutation_each_epoch(run):
    rows = draw(chapter.label_shuffling, run, 60)
    assert not torch.equal(rows[:1800], rows[1800:])


def test_weighted_sampler_is_torchs(run):
    weights = (1 / run.class_counts)[run.train.labels]
    torch_rows = list(WeightedRandomSampler(weights.tolist(), 6000, generator=torch.Generator().manual_seed(0)))
    share = torch.bincount(run.train.labels[torch_rows]) / 6000
    assert torch.allclose(share, torch.full((3,), 1 / 3), atol=0.03)


def test_one_weight_a_class_draws_the_first_images_only(run):  # E9
    wrong = list(WeightedRandomSampler((1 / run.class_counts).tolist(), 500))
    assert set(wrong) <= {0, 1, 2}
    assert set(run.train.labels[wrong].tolist()) == {0}


def test_the_square_root_lies_between_plain_and_balanced_sampling(run):
    share = torch.bincount(run.train.labels[draw(chapter.square_root, run, 300)]) / (300 * 60)
    root = torch.tensor(COUNTS).sqrt()
    assert torch.allclose(share, root / root.sum(), atol=0.015)


def test_a_loader_that_does_not_shuffle_repeats_its_epoch(run):
    rows = draw(chapter.in_order, run, 24)
    first, second = rows[:706], rows[706:1412]
    assert torch.equal(first.sort().values, torch.arange(706))
    assert torch.equal(first, second)
    assert not torch.equal(first, torch.arange(706)), "in the order of the files, which knows no classes"


def test_the_sources_optimiser_has_half_a_momentum_and_no_nesterov():
    (group,) = chapter.source_sgd([torch.zeros(1, requires_grad=True)], 0.01).param_groups
    assert (group["lr"], group["momentum"], group["nesterov"]) == (0.01, 0.5, False)


@pytest.fixture(scope="module")
def digits():
    return long_tailed(data="stand-in").train


def test_undersampling_keeps_the_smallest_class_whole(digits):
    smallest = int(torch.bincount(digits.labels).min())
    kept = chapter.undersample(digits, 0)
    assert torch.bincount(kept.labels).tolist() == [smallest] * 10
    rows = {row.numpy().tobytes() for row in digits.inputs}
    assert all(row.numpy().tobytes() in rows for row in kept.inputs)


def test_noise_is_on_the_copies_alone(digits):
    made = chapter.oversample_with_noise(digits, 0, sigma=0.1)
    assert torch.equal(made.inputs[:len(digits)], digits.inputs)
    copies = made.inputs[len(digits):].float()
    assert len(copies.unique(dim=0)) == len(copies)
    repeated = torch.stack([(digits.inputs.float() - copy).square().mean((1, 2, 3)).min() for copy in copies[:50]])
    assert 5 < repeated.mean().sqrt() < 26, "a tenth of white, less what is cut off at black and white"
    assert set(torch.bincount(made.labels).tolist()) == {int(torch.bincount(digits.labels).max())}


def test_smote_lies_between_a_sample_and_a_neighbour_of_its_class():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.cat([torch.randint(0, 20, (40, 1, 2, 2), generator=generator),
                        torch.randint(200, 255, (8, 1, 2, 2), generator=generator)]).to(torch.uint8)
    train = Split(inputs, torch.tensor([0] * 40 + [1] * 8))
    made = chapter.smote(train, 0)
    assert torch.bincount(made.labels).tolist() == [40, 40]
    rare, new = inputs[40:].flatten(1).double(), made.inputs[48:].flatten(1).double()
    for point in new:
        assert min(_off_segment(a, b, point) for a in rare for b in rare) < 1.5  # rounding to whole grey values


def _off_segment(a, b, point):
    along = b - a
    share = 0.0 if not along.any() else float(((point - a) @ along / (along @ along)).clamp(0, 1))
    return float((a + share * along - point).norm())


def test_the_signed_difference_matters():  # E14: |x' − x| leaves the segment
    a, b, share = torch.tensor([10.0, 10.0]), torch.tensor([0.0, 20.0]), 0.5
    assert _off_segment(a, b, a + share * (b - a)) == 0
    assert _off_segment(a, b, a + share * (b - a).abs()) > 5


def test_every_technique_is_one_hook_of_the_recipe_and_no_baseline_is_named_twice():
    assert all(len(hooks) == 1 for hooks in chapter.TECHNIQUES.values())
    assert not {*chapter.TECHNIQUES} & {*BASELINES}


def test_batches_are_counted_as_they_are_drawn(monkeypatch):
    data = long_tailed(data="stand-in")
    monkeypatch.setattr(chapter, "data", data, raising=False)
    monkeypatch.setattr(chapter, "baseline", Recipe(), raising=False)
    plain = chapter.count_batches("baseline", batches=60)
    assert plain.sum(1).tolist() == [128] * 60
    assert torch.allclose(plain.float().mean(0) / 128, data.class_counts / data.class_counts.sum(), atol=0.01)
    for name in ("random oversampling", "class-aware sampling"):
        assert torch.allclose(chapter.count_batches(name, batches=60).float().mean(0), torch.tensor(12.8), atol=1.5)


def test_at_tau_one_stands_logit_adjustment_and_at_zero_the_baseline(run):
    logits, labels = torch.randn(300, 3, generator=torch.Generator().manual_seed(0)), torch.arange(300) % 3
    prior = run.class_counts / run.class_counts.sum()
    recall, error = chapter.along_tau(logits, labels, prior, [0, 1])
    for place, moved in enumerate((logits, logit_adjustment(logits, run))):
        assert recall[place].tolist() == recall_per_class(moved.argmax(1), labels, 3).tolist()
        assert error[place] == expected_calibration_error(moved.softmax(1), labels)
    assert recall[1, 2] > recall[0, 2]


def test_grey_is_the_share_of_the_ink_that_is_neither_black_nor_white():
    assert chapter.grey(torch.tensor([[0.0, 0.1, 0.5, 1.0]])) == 0.5
