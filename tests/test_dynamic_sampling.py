"""Dynamic sampling's formula, its draws, and the two errata beside the right version."""

import copy
import itertools

import pytest
import torch
from sklearn.metrics import confusion_matrix

from helpers.chapters import load
from helpers.datasets import Split, long_tailed
from helpers.metrics import precision_per_class, recall_per_class
from helpers.models import Linear
from helpers.training import Fit, Recipe, fit, prepare, random_affine, shuffled

chapter = load("resampling/dynamic_sampling")
COUNTS = torch.tensor([600, 100, 6])


@pytest.fixture
def run():
    labels = torch.repeat_interleave(torch.arange(3), COUNTS)
    train = Split(torch.zeros(len(labels), 1), labels)
    return prepare(Recipe(model=lambda classes: Linear(classes, 1)), train, 3, 100, 60, seed=0)


def share(sampler, run, batches=300):
    rows = torch.cat(list(itertools.islice(sampler, batches)))
    return torch.bincount(run.train.labels[rows], minlength=3) / len(rows)


def validation(f1):
    """Logits and labels on which class 0 is right, and class 1 is confused with class 2."""
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    said = torch.tensor([0, 0, 1, 2, 2, 2]) if f1 == "some" else labels
    return torch.nn.functional.one_hot(said, 3).float(), labels


def test_the_worked_example():
    assert chapter.next_shares([0.1, 0.2, 0.3]).tolist() == pytest.approx([0.375, 0.8 / 2.4, 0.7 / 2.4])


def test_shares_are_equal_when_every_class_is_perfect():
    assert chapter.next_shares([1.0, 1.0]).tolist() == [0.5, 0.5]


def test_shares_are_equal_before_the_first_validation(run):
    assert torch.allclose(share(chapter.dynamic(run), run), torch.full((3,), 1 / 3), atol=0.015)


def test_a_class_is_drawn_by_its_share_whatever_its_size(run):
    wanted = torch.tensor([0.2, 0.3, 0.5])
    got = share((chapter.draw_by_share(run, wanted) for _ in range(300)), run)
    assert torch.allclose(got, wanted, atol=0.015)


def test_the_next_batches_follow_the_f1_of_the_last_validation(run):
    log = []
    drawn = chapter.dynamic(run, log)
    next(drawn)
    run.validation = validation("some")  # F1 of 1, 2/3 and 4/5
    assert chapter.validation_f1(run).tolist() == pytest.approx([1, 2 / 3, 4 / 5])
    wanted = torch.tensor([0, 5 / 8, 3 / 8])
    assert torch.allclose(share(drawn, run), wanted, atol=0.015)
    assert log[0][1] == pytest.approx(wanted.tolist())


def test_without_the_division_the_head_comes_back(run):
    got = share(chapter.multiplied(run), run)
    assert torch.allclose(got, COUNTS / COUNTS.sum(), atol=0.015)
    assert got[0] > 0.8
    assert torch.allclose(chapter.shares_got([1 / 3] * 3, COUNTS), got, atol=0.015)


def test_a_swapped_confusion_matrix_read_by_rows_is_precision():
    labels, said = torch.tensor([0, 0, 0, 1, 1, 1, 1]), torch.tensor([0, 0, 0, 1, 1, 0, 0])
    swapped = confusion_matrix(said, labels)
    by_row = swapped.diagonal() / swapped.sum(1)
    assert by_row == pytest.approx(precision_per_class(said, labels, 2))
    assert recall_per_class(said, labels, 2).tolist() == [1.0, 0.5]
    assert by_row.tolist() == pytest.approx([0.6, 1.0])


class Says(torch.nn.Module):
    """A model that says the same of every image."""

    def __init__(self, *probabilities):
        super().__init__()
        self.logits = torch.tensor(probabilities).log() + 5  # logits have no fixed zero

    def forward(self, inputs):
        return self.logits.expand(len(inputs), -1)


def test_fusion_is_the_mean_of_the_probabilities():
    both = chapter.Fusion(Says(0.8, 0.2), Says(0.4, 0.6))(torch.zeros(3, 1))
    assert torch.allclose(both.exp(), torch.tensor([[0.6, 0.4]]).expand(3, -1))


@pytest.fixture
def noted(monkeypatch):
    """The recipes and seeds that a procedure trains with, and the weights that it starts from."""
    calls = []

    def training(recipe, data, *, steps, seed, batch_size=128):
        start = copy.deepcopy(recipe.model(10).state_dict())
        trained = fit(recipe, data, steps=steps, batch_size=batch_size, seed=seed)
        calls.append((recipe, seed, start, trained.seconds, copy.deepcopy(trained.run.model.state_dict())))
        return trained

    monkeypatch.setattr(chapter, "fit", training)
    return calls


SETTINGS = {"steps": 2, "batch_size": 8, "seed": 3}


def test_the_second_model_starts_from_the_firsts_weights_and_sees_plain_batches(noted):
    recipe = Recipe(model=Linear, sampler=chapter.dynamic)
    trained = chapter.transfer(recipe, long_tailed(data="stand-in"), **SETTINGS)
    (first, _, _, spent, end), (second, _, start, more, last) = noted
    assert (first.sampler, second.sampler) == (chapter.dynamic, shuffled)
    assert all(torch.equal(end[name], start[name]) for name in end), "it starts where the first one ended"
    kept = trained.run.model.first.state_dict(), trained.run.model.second.state_dict()
    assert all(torch.equal(kept[0][name], end[name]) for name in end), "the first one is left as it was"
    assert all(torch.equal(kept[1][name], last[name]) for name in last)
    assert not torch.equal(kept[0]["head.weight"], kept[1]["head.weight"])
    assert trained.seconds == pytest.approx(spent + more)


def test_the_rival_pair_comes_from_two_seeds_and_one_draw(noted):
    drawn = []

    def half(train, seed):
        drawn.append(seed)
        return train[::2]

    trained = chapter.two_seeds(Recipe(model=Linear, resample=half), long_tailed(data="stand-in"), **SETTINGS)
    assert [seed for _, seed, *_ in noted] == [3, 10_003]
    assert drawn == [3], "both see the same samples, so that both are normalised alike"
    assert len(trained.run.train) == len(long_tailed(data="stand-in").train[::2])
    assert not torch.equal(trained.run.model.first.head.weight, trained.run.model.second.head.weight)
    assert isinstance(trained, Fit)
    assert trained.predict(long_tailed(data="stand-in").test).shape == (400, 10)


def test_validation_images_join_the_training_split_and_no_other():
    plain = long_tailed("FashionMNIST", seed=4, data="stand-in")
    more = chapter.with_validation("garments", "stand-in", 4)
    assert torch.equal(more.class_counts, plain.class_counts + 100)
    assert torch.equal(more.train.inputs[-len(plain.val):], plain.val.inputs)
    assert torch.equal(more.train.labels[-len(plain.val):], plain.val.labels)
    assert torch.equal(more.test.inputs, plain.test.inputs)


def test_the_sources_optimiser_has_half_a_momentum_and_no_nesterov():
    (group,) = chapter.source_sgd([torch.zeros(1, requires_grad=True)], 0.1).param_groups
    assert (group["lr"], group["momentum"], group["nesterov"]) == (0.1, 0.5, False)


def test_random_affine_without_amounts_changes_nothing(run):
    images = torch.rand(4, 1, 28, 28)
    assert torch.allclose(random_affine(images, run, degrees=0, shift=0, zoom=0), images, atol=1e-5)


def test_random_affine_draws_for_every_image(run):
    images = torch.rand(1, 1, 28, 28).expand(4, -1, -1, -1)
    found = random_affine(images, run)
    assert all(not torch.allclose(one, other) for one, other in itertools.combinations(found, 2))


def test_the_watched_training_keeps_the_shares_of_every_round(noted):
    trained, shares = chapter.watched("garments", 4, "stand-in")
    ((recipe, seed, *_),) = noted
    assert (recipe.augment, seed, trained.run.steps) == (random_affine, 0, 4)
    assert tuple(shares.columns) == long_tailed("FashionMNIST", data="stand-in").class_names
    assert len(shares) and shares.index.is_monotonic_increasing
    assert shares.sum(axis=1).tolist() == pytest.approx([1] * len(shares))
