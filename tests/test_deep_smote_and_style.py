"""The chapter on derived images: penalties and permutations, Gram matrices by hand, who gets a gradient when."""

import numpy as np
import pytest
import torch

from helpers import generators
from helpers.chapters import load
from helpers.datasets import Split, long_tailed
from helpers.training import Recipe, fit, prepare, reproducible

chapter = load("generative/deep_smote_and_style")


@pytest.fixture(autouse=True)
def _one_draw():
    with reproducible(0):
        yield


@pytest.fixture(scope="module")
def data():
    return long_tailed("FashionMNIST", data="stand-in")


@pytest.fixture
def small(data):
    """Four images of each class, in [0, 1]."""
    rows = torch.cat([(data.train.labels == label).nonzero().flatten()[:4] for label in range(10)])
    return Split(data.train.inputs[rows].float() / 255, data.train.labels[rows])


# ---------------------------------------------------------------- what fills a class

def test_what_is_missing_by_hand():
    labels = torch.tensor([0] * 30 + [1] * 8 + [2] * 3)
    assert chapter.missing(labels, 10).tolist() == [0, 2, 7] + [10] * 7
    assert chapter.missing(labels, 10, most=5).tolist() == [0, 2, 5] + [5] * 7


def test_made_images_join_and_copies_make_all_classes_equal():
    train = Split(torch.zeros(12, 1, 2, 2, dtype=torch.uint8), torch.tensor([0] * 10 + [1] * 2))
    pool = torch.full((3, 1, 2, 2), 9, dtype=torch.uint8), torch.tensor([1, 1, 1])
    filled = chapter.fill_up(train, 5, {5: pool, 6: (pool[0] * 0, pool[1])})
    assert torch.bincount(filled.labels).tolist() == [10, 10]
    assert torch.equal(filled.inputs[:12], train.inputs) and (filled.inputs[12:15] == 9).all()


def test_images_to_bytes_and_back():
    images = torch.tensor([-0.1, 0.0, 0.5, 1.0, 1.2])
    assert chapter.as_bytes(images).tolist() == [0, 0, 128, 255, 255]
    torch.testing.assert_close(chapter.unit(chapter.as_bytes(images[1:4])), torch.tensor([0, 128 / 255, 1]))


# ---------------------------------------------------------------- DeepSMOTE

def test_a_permutation_keeps_each_places_class_and_moves_everybody_sometime():
    labels = torch.tensor([2, 0, 1, 0, 2, 1, 0, 2, 2])
    seen = torch.stack([chapter.within_classes(labels) for _ in range(200)])
    assert (labels[seen] == labels).all()
    assert (seen.sort(1).values == torch.arange(9)).all(), "each is there once"
    for place, label in enumerate(labels.tolist()):
        assert set(seen[:, place].tolist()) == set((labels == label).nonzero().flatten().tolist())


class Mirror(torch.nn.Module):
    """An autoencoder that loses nothing."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def encode(self, images):
        return images * self.scale

    def decode(self, codes):
        return codes


def test_the_penalty_compares_with_the_images_in_their_old_order(monkeypatch):
    images = torch.tensor([0.0, 1.0, 3.0]).view(3, 1, 1, 1)
    monkeypatch.setattr(chapter, "within_classes", lambda labels, generator=None: torch.tensor([1, 0, 2]))
    labels = torch.tensor([0, 0, 1])
    assert chapter.deep_smote_loss(Mirror(), images, labels).item() == pytest.approx(2 / 3)
    assert chapter.deep_smote_loss(Mirror(), images, labels, as_published=True).item() == 0


def test_the_right_penalty_teaches_the_encoder_and_the_published_one_does_not(small, monkeypatch):
    """All but the penalty is taken away: what is left of the encoder's gradient is the penalty's."""
    def gradient(as_published):
        model = chapter.Autoencoder()
        whole = chapter.deep_smote_loss(model, small.inputs, small.labels, as_published)
        penalty = whole - chapter.squared_error(model.decode(model.encode(small.inputs)), small.inputs)
        penalty.backward()
        return float(model.encode[1].weight.grad.abs().sum()), float(model.decode[0].weight.grad.abs().sum())

    right, published = gradient(False), gradient(True)
    assert right[0] > 1 and right[1] > 1
    assert published[0] < 1e-3 * right[0] and published[1] > 1


def test_the_published_penalty_is_plain_reconstruction(small):
    model = chapter.Autoencoder()
    plain = chapter.squared_error(model.decode(model.encode(small.inputs)), small.inputs)
    as_published = chapter.deep_smote_loss(model, small.inputs, small.labels, as_published=True)
    torch.testing.assert_close(as_published, 2 * plain)
    assert chapter.deep_smote_loss(model, small.inputs, small.labels) > 2.02 * plain.item() - plain.item()


def test_squared_errors_are_summed_over_pixels():
    assert chapter.squared_error(torch.ones(3, 1, 4, 4), torch.zeros(3, 1, 4, 4)).item() == 16


def test_an_autoencoder_learns(data):
    train = data.train[torch.arange(0, len(data.train), 5)]
    images, labels = chapter.unit(train.inputs), train.labels
    with reproducible(1):
        fresh = chapter.Autoencoder()
    with reproducible(1):
        model = chapter.train_autoencoder(train, 60)
    with torch.no_grad():
        before, after = (chapter.deep_smote_loss(one, images, labels).item() for one in (fresh, model))
    assert after < 0.7 * before


def test_smote_makes_what_is_wanted_between_two_of_a_class():
    codes = torch.cat([torch.rand(20, 3), torch.rand(8, 3) + 5])
    labels = torch.tensor([0] * 20 + [1] * 8)
    made, names = chapter.smote_up(codes, labels, torch.tensor([0, 30]), seed=0)
    assert names.tolist() == [1] * 30
    inside = (made >= codes[20:].min(0).values - 1e-5) & (made <= codes[20:].max(0).values + 1e-5)
    assert inside.all() and torch.cdist(made, codes[20:]).min(1).values.max() > 0.01, "no copies"


@pytest.mark.parametrize("space", ["pixels", "permuted", "as published"])
def test_blends_fill_each_class_in_every_space(data, space):
    found = chapter.blends(0, 2, 150, space, "stand-in")
    counts = torch.bincount(data.train.labels, minlength=10)
    assert torch.equal(torch.bincount(found["labels"], minlength=10), (150 - counts).clamp_min(0))
    assert found["images"].dtype == torch.uint8 and found["images"].shape[1:] == (1, 28, 28)
    assert (found["redrawn"] is None) == (space == "pixels")
    assert chapter.some(found, 9, 3).shape == (3, 1, 28, 28)


# ---------------------------------------------------------------- style

def test_gram_by_hand():
    """C·H·W is four; without the division it is ((5, 11), (11, 25))."""
    found = chapter.gram(torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]]))
    torch.testing.assert_close(4 * found, torch.tensor([[[5.0, 11.0], [11.0, 25.0]]]))


def test_a_gram_matrix_forgets_places_and_size():
    features = torch.rand(2, 3, 4, 4)
    shuffled = features.flatten(2)[:, :, torch.randperm(16)].view_as(features)
    torch.testing.assert_close(chapter.gram(features), chapter.gram(shuffled))
    torch.testing.assert_close(chapter.gram(features), chapter.gram(features.repeat(1, 1, 2, 2)))


def test_variation_by_hand():
    images = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]], [[[0.5, 0.5], [0.5, 0.5]]]])
    assert chapter.variation(images).tolist() == [1, 0]


def test_three_losses_by_hand():
    flat, rough = torch.zeros(1, 1, 2, 2), torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
    ones, twos = torch.ones(1, 1, 2, 2), 2 * torch.ones(1, 1, 2, 2)
    found = chapter.style_losses([flat, twos], [ones, flat], [flat, ones], rough)
    assert [one.item() for one in found] == [4, 9, 1], "content 2² at the deeper block; Gram (4 − 1)²; one step"


def test_transfer_without_style_leaves_the_content_and_with_style_lowers_its_loss(data):
    drawn, model = chapter.lender(0, 10, "stand-in")
    assert not any(parameter.requires_grad for parameter in model.parameters()) and not model.training
    content, style = (chapter.unit(drawn.train.inputs[drawn.train.labels == label][:4]) for label in (9, 0))
    start = content.clone()
    torch.testing.assert_close(chapter.transfer(model, content, style, 5, strength=0, smooth=0), content)
    made = chapter.transfer(model, content, style, 20, strength=100.0)
    assert torch.equal(content, start) and made.min() >= 0 and made.max() <= 1

    def loss(images):
        return float(chapter.style_losses(*(chapter.feature_maps(model, one) for one in (images, content, style)),
                                          images)[1])
    assert loss(made) < 0.7 * loss(content)


def test_each_image_is_transferred_alone(data):
    """A batch is many transfers, not one: what stands beside an image does not touch it."""
    drawn, model = chapter.lender(0, 3, "stand-in")
    content, style = (chapter.unit(drawn.train.inputs[drawn.train.labels == label][:3]) for label in (9, 0))
    together = chapter.transfer(model, content, style, 5)
    torch.testing.assert_close(together[:1], chapter.transfer(model, content[:1], style[:1], 5), atol=1e-3, rtol=0)


def test_feature_maps_are_those_of_the_networks_two_blocks():
    model = chapter.CompactNet(10).eval()
    maps = chapter.feature_maps(model, torch.rand(2, 1, 28, 28))
    assert [one.shape[1:] for one in maps] == [(16, 14, 14), (32, 7, 7)]


def test_rare_content_common_style(data):
    found = chapter.styled(0, 2, 1, 150, 20.0, "stand-in", most=20)
    counts = (150 - torch.bincount(data.train.labels, minlength=10)).clamp(0, 20)
    assert torch.equal(torch.bincount(found["labels"], minlength=10), counts)
    own = {image.numpy().tobytes(): int(label) for image, label in
           zip(data.train.inputs, data.train.labels, strict=True)}
    assert [own[image.numpy().tobytes()] for image in found["content"]] == found["labels"].tolist()
    assert {own[image.numpy().tobytes()] for image in found["style"]} <= {0, 1, 2, 3}


def test_survival_is_asked_of_a_classifier_of_the_balanced_set(monkeypatch):
    seen, plain = [], chapter.fit
    for where in (chapter, generators):
        monkeypatch.setattr(where, "fit", lambda recipe, data, **rest: seen.append(data.class_counts)
                            or plain(recipe, data, **rest))
    found, styles = chapter.survival(0, 5, 1, (0.0, 5.0), "stand-in", 9, count=12)
    ratios = [float(counts.max() / counts.min()) for counts in seen]
    assert ratios[0] > 50 and ratios[1] < 1.2, "the features are the long tail's, the judge is not"
    assert set(found) == {0.0, 5.0} and len(styles) == 10
    assert all(0 <= share <= 1 and len(images) == 10 for share, images in found.values())


# ---------------------------------------------------------------- neural augmentation

def a_run(data, steps=10, batch_size=40):
    return prepare(Recipe(model=chapter.Augmenting), data.train, 10, steps=steps, batch_size=batch_size, seed=0)


def test_the_classifiers_gradient_reaches_the_augmenter(data, small):
    run = a_run(data)
    chapter.joint_loss(run, small.inputs, small.labels, content=0.0).backward()
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in run.model.layers.parameters())
    assert all(parameter.grad is not None for parameter in run.model.classifier.parameters())


def test_partners_come_from_the_class(data, small, monkeypatch):
    run, given = a_run(data), []
    plain = run.model.augment
    monkeypatch.setattr(run.model, "augment", lambda one, other: given.append(other) or plain(one, other))
    chapter.joint_loss(run, small.inputs, small.labels)
    own = {image.numpy().tobytes(): int(label) for image, label in zip(small.inputs, small.labels, strict=True)}
    assert [own[image.numpy().tobytes()] for image in given[0]] == small.labels.tolist()


def test_the_augmenter_plays_no_part_at_the_test(small):
    model = chapter.Augmenting().eval()
    before = model(small.inputs)
    torch.nn.init.zeros_(model.layers[0].weight)
    torch.testing.assert_close(model(small.inputs), before)
    torch.testing.assert_close(model.classifier(small.inputs), before)


def test_the_augmenter_sees_both_images_and_draws_one(small):
    model = chapter.Augmenting()
    images, partners = small.inputs[:4], small.inputs[4:8]
    drawn = model.augment(images, partners)
    assert drawn.shape == images.shape and drawn.min() >= 0 and drawn.max() <= 1
    assert not torch.allclose(drawn, model.augment(images, images))
    assert not torch.allclose(drawn, model.augment(partners, partners))


def test_the_joint_loss_by_hand(data, small, monkeypatch):
    """A classifier that knows nothing, an augmenter that draws black: only the content is left to see."""
    run = a_run(data)
    monkeypatch.setattr(chapter, "within_classes", lambda labels, generator=None: torch.arange(len(labels)))
    monkeypatch.setattr(run.model, "augment", lambda images, partners: torch.zeros_like(images))
    monkeypatch.setattr(run.model, "forward", lambda inputs: torch.zeros(len(inputs), 10))
    images = torch.full((6, 1, 28, 28), 0.5)
    found = chapter.joint_loss(run, images, torch.arange(6)).item()
    assert found == pytest.approx(0.75 * 2 * np.log(10) + 0.25 * 0.25, rel=1e-5)


def test_the_recipes_train(data):
    images = torch.zeros(20, 1, 28, 28, dtype=torch.uint8)
    pool = {0: (images, torch.arange(10).repeat_interleave(2))}
    for recipe in (Recipe(resample=chapter.partial(chapter.fill_up, made=pool)),
                   Recipe(model=chapter.Augmenting, objective=chapter.joint_loss)):
        trained = fit(recipe, data, steps=2, batch_size=16)
        assert torch.isfinite(torch.tensor(trained.history[-1]["loss"]))
        assert trained.predict(data.val).shape == (len(data.val), 10)


# ---------------------------------------------------------------- pictures and exercises

def test_rows_of_pictures_are_named():
    axes = chapter.draw_rows({"one": torch.zeros(3, 1, 28, 28), "other": torch.ones(3, 1, 28, 28)})
    assert [ax.get_ylabel() for ax in axes] == ["one", "other"]
    chapter.plt.close("all")


def test_the_pictured_augmenter_is_trained_with_its_content_loss(data, monkeypatch):
    monkeypatch.setattr(chapter, "SEEDS", [0])
    models = [chapter.jointly_trained(share, 3, data) for share in (0.0, 0.9, 0.9)]
    weights = [model.layers[-1].weight for model in models]
    assert torch.equal(weights[1], weights[2]) and not torch.equal(weights[0], weights[1])
    assert not models[0].training
