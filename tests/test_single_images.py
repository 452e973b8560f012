"""Augmentations draw for every image; AugMix keeps its operations, its formula and its loss."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch.nn import functional as F
from torchvision.transforms import v2

from helpers.chapters import load
from helpers.datasets import Split, long_tailed
from helpers.models import Linear
from helpers.training import Recipe, prepare, reproducible

chapter = load("augmentation/single_images")
PER_IMAGE = [chapter.resized_crop, chapter.light, chapter.noise, chapter.cutout]
GROUPED = [chapter.auto_augment, chapter.rand_augment, chapter.augmix]


@pytest.fixture
def run():
    train = Split(torch.randint(0, 256, (20, 1, 28, 28), dtype=torch.uint8), torch.arange(20) % 10)
    return prepare(Recipe(model=Linear), train, 10, 100, 20, seed=0)


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
    assert not torch.equal(found, images)


@pytest.mark.parametrize("change", PER_IMAGE)
def test_every_image_gets_its_own_draw(change, run, images):
    found = change(images[:1].expand(4, -1, -1, -1), run)
    assert all(not torch.allclose(one, other) for one, other in itertools.combinations(found, 2))


def test_torchvision_draws_once_a_batch_and_groups_mend_that(images):
    equal, turn = images[:1].expand(16, -1, -1, -1), v2.RandomRotation(30)
    with reproducible(0):
        assert len(chapter.in_groups(equal, turn, 16).flatten(1).unique(dim=0)) == 1
        assert len(chapter.in_groups(equal, turn, 1).flatten(1).unique(dim=0)) > 8


def test_groups_keep_the_order(images):
    assert torch.allclose(chapter.in_groups(images, v2.Identity(), 5), images, atol=1 / 255)


def test_half_of_the_images_are_mirrored(run, images):
    many = images[:1].expand(2000, -1, -1, -1)
    mirrored = (chapter.flip(many, run) == many.flip(-1)).flatten(1).all(1)
    assert float(mirrored.float().mean()) == pytest.approx(0.5, abs=0.05)


def test_a_crop_of_the_whole_picture_is_the_picture(run, images):
    assert torch.allclose(chapter.resized_crop(images, run, smallest=1.0), images, atol=1e-5)


def test_a_crop_never_leaves_the_picture(run):
    white = torch.ones(200, 1, 28, 28)
    assert chapter.resized_crop(white, run, smallest=0.3)[..., 1:-1, 1:-1].min() > 0.999


def test_light_changes_brightness_and_contrast_within_their_limits(run):
    images = torch.full((400, 1, 4, 4), 0.4)
    images[..., :2] = 0.6
    found = chapter.light(images, run, amount=0.4)
    middle, spread = found.mean((1, 2, 3)) / 0.5, (found[..., 0] - found[..., 3]).mean((1, 2)) / 0.2
    assert 0.6 <= middle.min() < 0.65 and 1.35 < middle.max() <= 1.4 + 1e-4
    contrast = spread / middle
    assert contrast.min() + 1e-4 >= 0.6 and 1.3 < contrast.max() <= 1.4 + 1e-4


def test_noise_has_the_spread_it_was_asked_for(run):
    grey = torch.full((50, 1, 28, 28), 0.5)
    assert float(chapter.noise(grey, run, sigma=0.1).std()) == pytest.approx(0.1, abs=0.003)


def test_cutout_blackens_one_clipped_square(run):
    holes = chapter.cutout(torch.ones(300, 1, 28, 28), run, side=14) == 0
    assert int(holes.flatten(1).sum(1).max()) == 14 * 14
    assert all(torch.equal(hole[0], hole[0].any(1)[:, None] & hole[0].any(0)[None]) for hole in holes)


# ---------------------------------------------------------------- AugMix: its operations

LEVELS = [(0.5, 1), (1.7, -1), (2.9, 1), (2.9, -1)]


@pytest.fixture(scope="module")
def pictures():
    smooth = F.interpolate(torch.rand(16, 1, 7, 7, generator=torch.Generator().manual_seed(1)), size=(28, 28),
                           mode="bilinear")
    return (smooth * 255).round().to(torch.uint8)


@pytest.mark.parametrize("name", chapter.OPERATIONS)
@pytest.mark.parametrize(("level", "sign"), LEVELS)
def test_an_operation_of_augmix_is_torchvisions(pictures, name, level, sign):
    pixels = sign * int(28 / 3 * level / 10)
    theirs, magnitude = {
        "autocontrast": ("AutoContrast", 0.0), "equalize": ("Equalize", 0.0),
        "posterize": ("Posterize", 4.0 - int(4 * level / 10)),
        "solarize": ("Solarize", (256 - int(256 * level / 10)) / 255),
        "rotate": ("Rotate", float(sign * int(30 * level / 10))),
        "shear x": ("ShearX", sign * 0.3 * level / 10), "shear y": ("ShearY", sign * 0.3 * level / 10),
        "move x": ("TranslateX", float(pixels)), "move y": ("TranslateY", float(pixels))}[name]
    library = v2.AugMix(all_ops=False)
    assert theirs in library._PARTIAL_AUGMENTATION_SPACE
    expected = library._apply_image_or_video_transform(pictures, theirs, magnitude, library.interpolation,
                                                       library._fill)
    assert torch.equal(chapter.operation(pictures, name, level, sign), expected)


def test_augmix_has_the_nine_operations_of_torchvision():
    assert len(chapter.OPERATIONS) == len(v2.AugMix._PARTIAL_AUGMENTATION_SPACE) == 9


@pytest.mark.parametrize("name", chapter.OPERATIONS)
@pytest.mark.parametrize(("level", "sign"), LEVELS)
def test_an_operation_of_augmix_is_the_official_one_over_pil(pictures, name, level, sign):
    def official(picture):
        slope, pixels = sign * 0.3 * level / 10, -sign * int(28 / 3 * level / 10)
        matrix = {"shear x": (1, slope, 0, 0, 1, 0), "shear y": (1, 0, 0, slope, 1, 0),
                  "move x": (1, 0, pixels, 0, 1, 0), "move y": (1, 0, 0, 0, 1, pixels)}
        if name in matrix:
            return picture.transform((28, 28), Image.Transform.AFFINE, matrix[name], Image.Resampling.BILINEAR)
        return {"autocontrast": lambda: ImageOps.autocontrast(picture), "equalize": lambda: ImageOps.equalize(picture),
                "posterize": lambda: ImageOps.posterize(picture, 4 - int(4 * level / 10)),
                "solarize": lambda: ImageOps.solarize(picture, 256 - int(256 * level / 10)),
                "rotate": lambda: picture.rotate(sign * int(30 * level / 10), Image.Resampling.BILINEAR)}[name]()

    theirs = torch.stack([torch.tensor(np.array(official(Image.fromarray(one[0].numpy()))))[None] for one in pictures])
    apart = (chapter.operation(pictures, name, level, sign).int() - theirs.int()).abs()[..., 4:-4, 4:-4]
    assert int(apart.max()) <= 2, "bytes, away from the border, where PIL blends otherwise"


def test_posterize_keeps_three_or_four_bits_at_severity_three(pictures):
    left = {level: len(chapter.operation(pictures, "posterize", level, 1).unique()) for level in (0.1, 2.4, 2.6, 3.0)}
    assert left == {0.1: 16, 2.4: 16, 2.6: 8, 3.0: 8}


def test_a_chain_is_one_to_three_operations_at_levels_up_to_the_severity(run, pictures, monkeypatch):
    seen, lengths = [], []
    monkeypatch.setattr(chapter, "operation", lambda images, *drawn: seen.append(drawn) or images)
    for _ in range(300):
        before = len(seen)
        chapter.chain(pictures, run, severity=3)
        lengths.append(len(seen) - before)
    assert set(lengths) == {1, 2, 3}
    assert {name for name, *_ in seen} == set(chapter.OPERATIONS)
    levels = [level for _, level, _ in seen]
    assert 0.1 <= min(levels) < 0.2 and 2.9 < max(levels) <= 3
    assert {sign for *_, sign in seen} == {-1, 1}


# ---------------------------------------------------------------- AugMix: mix and loss

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
    monkeypatch.setattr(chapter, "operation", lambda part, *drawn: part)
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


def test_the_objective_is_cross_entropy_of_the_clean_view_plus_twelve_divergences(run, images, monkeypatch):
    labels, views = torch.arange(12) % 10, iter([images * 0.5, 1 - images])
    monkeypatch.setattr(chapter, "augmix", lambda inputs, run: next(views))
    loss = chapter.consistent(run, images, labels)
    logits = torch.stack([run.forward(view) for view in (images, images * 0.5, 1 - images)])
    p = logits.softmax(-1)
    divergence = (p * (p / p.mean(0)).log()).sum(-1).mean()
    assert float(divergence) > 0.01
    assert float(loss) == pytest.approx(float(F.cross_entropy(logits[0], labels) + 12 * divergence), rel=1e-4)


def test_the_consistency_loss_is_one_pass_over_three_views(run, images):
    passes = []
    run.model.register_forward_hook(lambda model, given, found: passes.append(len(found)))
    loss = chapter.consistent(run, images, torch.arange(12) % 10)
    assert passes == [36]
    assert loss.ndim == 0 and torch.isfinite(loss)


@pytest.mark.parametrize("name", chapter.TECHNIQUES)
def test_every_technique_trains(run, images, name):
    recipe = replace(run.recipe, **chapter.TECHNIQUES[name])
    run.recipe = recipe
    with reproducible(0):
        loss = recipe.objective(run, images, torch.arange(12) % 10)
    loss.backward()
    assert torch.isfinite(loss) and float(run.model.head.weight.grad.abs().sum()) > 0


# ---------------------------------------------------------------- readings, damage, the source's draw

def test_turned_digits_are_read_and_every_reading_is_counted(monkeypatch):
    seen = []

    class Reader:
        """Reads six where the upper half is brighter, else nine; an empty picture is a three."""

        def predict(self, split):
            seen.append(set(split.labels.tolist()))
            ink = split.inputs.float().sum((1, 3))
            said = torch.where(ink[:, :14].sum(1) > ink[:, 14:].sum(1), 6, 9)
            return F.one_hot(torch.where(ink.sum(1) == 0, 3, said), 10).float()

    inputs = torch.zeros(12, 1, 28, 28, dtype=torch.uint8)
    inputs[:6, :, 3:9, 11:17] = 255  # six sixes, ink above; of the nines, two are empty
    inputs[6:10, :, 19:25, 11:17] = 255
    digits = replace(long_tailed("MNIST", data="stand-in"), test=Split(inputs, torch.tensor([6] * 6 + [9] * 6)))
    monkeypatch.setattr(chapter, "long_tailed", lambda name, **which: digits)
    monkeypatch.setattr(chapter, "fit", lambda *args, **which: Reader())
    found = chapter.readings(0, 1, "stand-in")
    assert found.shape == (2, len(chapter.ANGLES), 3)
    np.testing.assert_allclose(found.sum(2), 1)
    upright, upside_down = chapter.ANGLES.index(0), chapter.ANGLES.index(180)
    np.testing.assert_allclose(found[:, upright], [[1, 0, 0], [0, 4 / 6, 2 / 6]])
    np.testing.assert_allclose(found[:, upside_down], [[0, 1, 0], [4 / 6, 0, 2 / 6]])
    assert seen == [{6}] * len(chapter.ANGLES) + [{9}] * len(chapter.ANGLES)


def test_the_rate_counts_images(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(chapter.time, "process_time", lambda: next(clock))
    # the start is read at 0, the loop looks at 1, 2 and 3, the end at 4: two rounds of 30 images in 4 seconds
    assert chapter.rate(lambda images: images, torch.zeros(30), seconds=2.5) == pytest.approx(2 * 30 / 4)


@pytest.mark.parametrize("kind", chapter.DAMAGES)
def test_damage_is_the_same_every_time_and_leaves_the_images_alone(kind, run):
    images, before = run.train.inputs, run.train.inputs.clone()
    once, twice = (chapter.damage(images, kind) for _ in range(2))
    assert torch.equal(once, twice) and once.dtype == torch.uint8 and not torch.equal(once, images)
    assert torch.equal(images, before)


def test_unknown_damage_is_an_error():
    with pytest.raises(ValueError, match="fog"):
        chapter.damage(torch.zeros(1, 1, 28, 28, dtype=torch.uint8), "fog")


def test_the_damaged_arena_trains_on_whole_images_and_tests_on_every_fifth_in_each_damage():
    whole, found = long_tailed("FashionMNIST", seed=3, data="stand-in"), chapter.damaged(3, "stand-in")
    assert torch.equal(found.train.inputs, whole.train.inputs) and torch.equal(found.val.inputs, whole.val.inputs)
    assert found.name == f"{whole.name}, damaged" and found.is_stand_in
    fifth = whole.test[torch.arange(0, len(whole.test), 5)]
    for kind, inputs, labels in zip(chapter.DAMAGES, found.test.inputs.chunk(5), found.test.labels.chunk(5),
                                    strict=True):
        assert torch.equal(inputs, chapter.damage(fifth.inputs, kind))
        assert torch.equal(labels, fifth.labels)


def results_of(**rates):
    from helpers.results import tidy

    return chapter.pd.concat([tidy("FashionMNIST-LT", name, 0, {"learning rate": rate, "balanced accuracy": 0.5})
                              for name, rate in rates.items()])


def test_a_recipe_is_tested_under_damage_at_the_rate_that_was_chosen_for_it(monkeypatch):
    monkeypatch.setattr(chapter, "results", results_of(noise=0.64, affine=0.04, baseline=0.16), raising=False)
    found = chapter.at_its_rate("noise")
    assert (found.lr, found.augment, chapter.at_its_rate("baseline").lr) == (0.64, chapter.noise, 0.16)


def test_the_heat_map_takes_each_damage_from_its_own_part(monkeypatch):
    from types import SimpleNamespace

    truth = torch.arange(10).repeat(len(chapter.DAMAGES))
    said = truth.clone()
    for place in range(len(chapter.DAMAGES)):  # the first damage is read without an error, the next with one, …
        said[10 * place:10 * place + place] = 9 - said[10 * place:10 * place + place]
    under = SimpleNamespace(labels=truth, logits={("noise", seed): F.one_hot(said, 10).float() for seed in (0, 1)})
    for name, value in {"under": under, "SEEDS": [0, 1]}.items():
        monkeypatch.setattr(chapter, name, value, raising=False)
    found = chapter.by_damage("noise")
    assert (list(found.index), tuple(found.columns)) == ([0, 1], chapter.DAMAGES)
    np.testing.assert_allclose(found, [[1, 0.9, 0.8, 0.7, 0.6]] * 2)


def test_the_notebooks_draw_trains_on_a_fifth_and_validates_on_the_rest_as_imbalanced():
    found, other = chapter.notebook_draw(3, "stand-in"), chapter.notebook_draw(4, "stand-in")
    sizes = len(found.train), len(found.val)
    assert sizes[0] == sum(sizes) // 5
    counts = torch.bincount(torch.cat([found.train.labels, found.val.labels]), minlength=10)
    wanted = torch.tensor(chapter.NOTEBOOK_COUNTS) * counts.sum() / sum(chapter.NOTEBOOK_COUNTS)
    assert (counts / wanted).min() > 0.9 and (counts / wanted).max() < 1.1
    assert torch.bincount(found.val.labels, minlength=10).argmin() == 9
    assert len(found.train.labels.unique_consecutive()) > 50, "the classes stand in a random order"
    assert not torch.equal(found.train.labels, other.train.labels)
    assert len(found.test) == len(long_tailed("FashionMNIST", data="stand-in").test)


def test_an_unshuffled_loader_begins_every_epoch_with_the_same_images(run):
    run.batch_size, draw = 8, None
    draw = chapter.unshuffled(run)
    batches = [next(draw).tolist() for _ in range(6)]
    assert batches[:3] == batches[3:] == [list(range(8)), list(range(8, 16)), list(range(16, 20))]


def test_a_gain_under_damage_is_paired_with_the_baseline_of_its_seed(monkeypatch):
    tables = {"Cutout": chapter.pd.DataFrame({"hole": [0.5, 0.7, 0.9]}, index=[0, 1, 2]),
              "baseline": chapter.pd.DataFrame({"hole": [0.7, 0.4, 0.3]}, index=[1, 0, 2])}
    monkeypatch.setattr(chapter, "by_damage", tables.get)
    found = chapter.under_damage("Cutout", "hole")
    assert (found.n, found.mean) == (3, pytest.approx((0.1 + 0 + 0.6) / 3))


def test_the_gain_of_the_verdict_is_in_balanced_accuracy_on_one_data_set(monkeypatch):
    table = results_of(noise=0.1, baseline=0.1)
    table.loc[(table.technique == "noise") & (table.metric == "balanced accuracy"), "value"] = 0.6
    monkeypatch.setattr(chapter, "results", table, raising=False)
    assert chapter.gain("noise", "baseline", "FashionMNIST-LT").mean == pytest.approx(0.1)
