"""Augmentations draw for every image; AugMix and its loss keep their formulas."""

import itertools
import math

import numpy as np
import pytest
import torch
from chapters import load
from torchvision.transforms import v2

from helpers.datasets import Split
from helpers.models import Net
from helpers.training import Recipe, prepare, reproducible

chapter = load("augmentation/single_images")
PER_IMAGE = [chapter.resized_crop, chapter.light, chapter.noise, chapter.cutout]
GROUPED = [chapter.auto_augment, chapter.rand_augment, chapter.augmix]


@pytest.fixture
def run():
    train = Split(torch.randint(0, 256, (20, 1, 28, 28), dtype=torch.uint8), torch.arange(20) % 10)
    return prepare(Recipe(model=Net), train, 10, 100, 20, seed=0)


@pytest.fixture
def images():
    return torch.rand(12, 1, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("change", [*PER_IMAGE, *GROUPED, chapter.flip])
def test_an_augmentation_keeps_shape_and_range(change, run, images):
    with reproducible(0):
        found = change(images, run)
    assert found.shape == images.shape
    assert found.dtype == images.dtype
    assert found.min() >= -1e-5
    assert found.max() <= 1 + 1e-5


@pytest.mark.parametrize("change", PER_IMAGE)
def test_every_image_gets_its_own_draw(change, run, images):
    found = change(images[:1].expand(4, -1, -1, -1), run)
    assert all(not torch.allclose(one, other) for one, other in itertools.combinations(found, 2))


def test_torchvision_draws_once_a_batch_and_groups_mend_that(images):
    equal, turn = images[:1].expand(16, -1, -1, -1), v2.RandomRotation(30)
    with reproducible(0):
        assert len(chapter.in_groups(equal, turn, 16).flatten(1).unique(dim=0)) == 1
        assert len(chapter.in_groups(equal, turn, 1).flatten(1).unique(dim=0)) > 8


def test_half_of_the_images_are_mirrored(run, images):
    many = images[:1].expand(2000, -1, -1, -1)
    mirrored = (chapter.flip(many, run) == many.flip(-1)).flatten(1).all(1)
    assert float(mirrored.float().mean()) == pytest.approx(0.5, abs=0.05)


def test_a_crop_of_the_whole_picture_is_the_picture(run, images):
    assert torch.allclose(chapter.resized_crop(images, run, smallest=1.0), images, atol=1e-5)


def test_a_crop_never_leaves_the_picture(run):
    white = torch.ones(200, 1, 28, 28)
    assert chapter.resized_crop(white, run, smallest=0.3)[..., 1:-1, 1:-1].min() > 0.999


def test_cutout_blackens_one_clipped_square(run):
    holes = chapter.cutout(torch.ones(300, 1, 28, 28), run, side=14) == 0
    assert int(holes.flatten(1).sum(1).max()) == 14 * 14
    assert all(torch.equal(hole[0], hole[0].any(1)[:, None] & hole[0].any(0)[None]) for hole in holes)


def test_the_divergence_by_hand():
    sure = torch.tensor([[[50.0, 0.0]], [[0.0, 50.0]]])
    assert float(chapter.jensen_shannon(sure)) == pytest.approx(math.log(2), abs=1e-4)
    p, q = np.array([0.8, 0.2]), np.array([0.4, 0.6])
    middle = (p + q) / 2
    by_hand = (np.sum(p * np.log(p / middle)) + np.sum(q * np.log(q / middle))) / 2
    views = torch.tensor(np.stack([p, q])).log()[:, None]
    assert float(chapter.jensen_shannon(views)) == pytest.approx(by_hand, abs=1e-6)


def test_the_divergence_is_that_of_scipy_for_three_views():
    from scipy.stats import entropy

    views = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    p = views.softmax(-1).double().numpy()
    expected = np.mean(entropy(p.mean(0), axis=-1) - entropy(p, axis=-1).mean(0))
    assert float(chapter.jensen_shannon(views)) == pytest.approx(expected, abs=1e-5)


def test_equal_views_do_not_diverge():
    assert float(chapter.jensen_shannon(torch.randn(1, 5, 4).expand(3, -1, -1))) == pytest.approx(0, abs=1e-6)


def test_augmix_is_its_formula():
    clean, chains = torch.tensor([[1.0], [0.0]]), torch.tensor([[[0.0], [0.5], [1.0]], [[1.0], [1.0], [1.0]]])
    weights, share = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]), torch.tensor([0.6, 0.25])
    assert chapter.mix_chains(clean, chains, weights, share).flatten().tolist() == pytest.approx([0.7, 0.75])


def test_augmix_mixes_chains_that_do_nothing_into_the_image(run, images, monkeypatch):
    monkeypatch.setattr(chapter, "one_operation", lambda part, run, severity: part)
    assert torch.allclose(chapter.augmix(images, run), images, atol=1 / 255)


def test_augmix_disturbs_about_as_much_as_torchvision(run):
    column = torch.linspace(0, 1, 28)
    images = (column[:, None] * column).expand(24, 1, 28, 28)
    with reproducible(0):
        ours = torch.cat([chapter.augmix(images, run, group=1) for _ in range(3)])
        theirs = torch.cat([chapter.in_groups(images, v2.AugMix(severity=3, all_ops=False), 1) for _ in range(3)])
    moved = [float((found - images[:1]).abs().mean()) for found in (ours, theirs)]
    assert 0.5 < moved[0] / moved[1] < 2


def test_the_weights_and_the_skip_are_drawn_for_every_image(run, images):
    equal = images[:1].expand(8, -1, -1, -1)
    with reproducible(0):
        found = chapter.augmix(equal, run, group=8)
    assert len(found.flatten(1).unique(dim=0)) == 8


def test_the_consistency_loss_is_one_pass_over_three_views(run, images):
    passes = []
    run.model.register_forward_hook(lambda model, given, found: passes.append(len(found)))
    loss = chapter.consistent(run, images, torch.arange(12) % 10)
    assert passes == [36]
    assert loss.ndim == 0 and torch.isfinite(loss)


@pytest.mark.parametrize("kind", chapter.DAMAGES)
def test_damage_is_the_same_every_time(kind, run):
    images = run.train.inputs
    once, twice = (chapter.damage(images, kind) for _ in range(2))
    assert torch.equal(once, twice) and once.dtype == torch.uint8 and not torch.equal(once, images)


def test_unknown_damage_is_an_error():
    with pytest.raises(ValueError, match="fog"):
        chapter.damage(torch.zeros(1, 1, 28, 28, dtype=torch.uint8), "fog")
