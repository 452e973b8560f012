"""Dynamic sampling's formula, its draws, and the two errata beside the right version."""

import itertools

import pytest
import torch
from chapters import load
from sklearn.metrics import confusion_matrix

from helpers.datasets import Split
from helpers.metrics import precision_per_class, recall_per_class
from helpers.models import Linear
from helpers.training import Recipe, prepare, random_affine

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


@pytest.mark.parametrize("sampler", [chapter.weighted, chapter.dynamic])
def test_shares_are_equal_before_the_first_validation(sampler, run):
    assert torch.allclose(share(sampler(run), run), torch.full((3,), 1 / 3), atol=0.015)


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


def test_a_swapped_confusion_matrix_read_by_rows_is_precision():
    labels, said = torch.tensor([0, 0, 0, 1, 1, 1, 1]), torch.tensor([0, 0, 0, 1, 1, 0, 0])
    swapped = confusion_matrix(said, labels)
    by_row = swapped.diagonal() / swapped.sum(1)
    assert by_row == pytest.approx(precision_per_class(said, labels, 2))
    assert recall_per_class(said, labels, 2).tolist() == [1.0, 0.5]
    assert by_row.tolist() == pytest.approx([0.6, 1.0])


def test_fusion_is_the_mean_of_the_probabilities():
    first, second = torch.tensor([[0.8, 0.2]]).log(), torch.tensor([[0.4, 0.6]]).log()
    assert torch.allclose(chapter.fuse(first, second).softmax(1), torch.tensor([[0.6, 0.4]]))


def test_transfer_starts_from_the_weights():
    model = chapter.Net(10)
    again = chapter.transfer(model.state_dict(), 10)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_random_affine_without_amounts_changes_nothing(run):
    images = torch.rand(4, 1, 28, 28)
    assert torch.allclose(random_affine(images, run, degrees=0, shift=0, zoom=0), images, atol=1e-5)


def test_random_affine_draws_for_every_image(run):
    images = torch.rand(1, 1, 28, 28).expand(4, -1, -1, -1)
    found = random_affine(images, run)
    assert all(not torch.allclose(one, other) for one, other in itertools.combinations(found, 2))
