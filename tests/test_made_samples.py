"""The chapter on made samples: losses and schedules by hand, who gets a gradient when, what fills a class."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from helpers.chapters import load
from helpers.datasets import Split, long_tailed
from helpers.training import Recipe, fit, reproducible

chapter = load("generative/made_samples")


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
    return chapter.as_floats(data.train[rows])


# ---------------------------------------------------------------- what fills a class

def test_made_images_fill_the_rare_classes_alone_and_all_end_equal():
    train = Split(torch.zeros(60, 1, 2, 2, dtype=torch.uint8), torch.tensor([0] * 30 + [1] * 20 + [2] * 10))
    pool = torch.full((40, 1, 2, 2), 9, dtype=torch.uint8), torch.arange(10).repeat_interleave(4).clamp_max(2)
    filled = chapter.fill_up(train, 5, {5: pool, 6: (pool[0] * 0, pool[1])}, fill=18)
    assert torch.bincount(filled.labels).tolist() == [30, 30, 30]
    shares = [float((filled.inputs[filled.labels == label] == 9).float().mean()) for label in range(3)]
    assert shares[:2] == [0, 0], "the second class has enough of its own"
    assert shares[2] == pytest.approx(8 / 18, abs=0.3)
    whole = filled.inputs[:68].flatten(1)[:, 0]  # the copies stand behind
    assert int((whole == 9).sum()) == 8, "as many as are missing, no more"
    assert torch.equal(filled.inputs[:60], train.inputs)


def test_a_pool_that_is_too_small_is_filled_with_copies():
    train = Split(torch.zeros(12, 1, 2, 2, dtype=torch.uint8), torch.tensor([0] * 10 + [1] * 2))
    pool = {0: (torch.full((1, 1, 2, 2), 9, dtype=torch.uint8), torch.tensor([1]))}
    assert torch.bincount(chapter.fill_up(train, 0, pool, fill=8).labels).tolist() == [10, 10]


def test_batches_are_balanced():
    labels = torch.tensor([0] * 900 + [1] * 90 + [2] * 10)
    drawn = torch.cat([labels[rows] for rows in chapter.islice(chapter.evenly(labels, 100), 60)])
    np.testing.assert_allclose(torch.bincount(drawn) / len(drawn), [1 / 3] * 3, atol=0.03)


# ---------------------------------------------------------------- the VAE

def test_divergence_by_hand():
    found = chapter.divergence(torch.tensor([[1.0, -1.0], [0, 0]]), torch.tensor([[1.0, 4.0], [1, 1]]).log())
    assert found.tolist() == pytest.approx([1.80685, 0], abs=1e-5)


def test_divergence_is_torchs_own():
    mean, log_variance = torch.randn(5, 7), torch.randn(5, 7)
    ours = torch.distributions.Normal(mean, (log_variance / 2).exp())
    theirs = torch.distributions.kl_divergence(ours, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(chapter.divergence(mean, log_variance), theirs)


def test_the_reconstruction_is_summed_over_pixels_and_averaged_over_the_batch(small):
    model = chapter.VAE()
    for parameter in model.draw.parameters():
        torch.nn.init.zeros_(parameter)
    pixels, _ = chapter.vae_losses(model, small.inputs, small.labels)
    assert pixels.item() == pytest.approx(784 * np.log(2), rel=1e-4), "half grey everywhere"
    slip, distance = chapter.mean_reduced(model, small.inputs, small.labels)
    assert slip.item() == pytest.approx(np.log(2), rel=1e-4)
    assert distance.item() > 0


def test_a_told_layer_adds_the_bias_of_the_class():
    layer, inputs = chapter.Told(3, 2), torch.randn(4, 3)
    labels = torch.tensor([0, 1, 1, 9])
    plain = F.linear(inputs, layer.weight, layer.bias)
    torch.testing.assert_close(layer(inputs, labels) - plain, layer.own.weight[labels])


def test_encoder_and_decoder_are_told_the_class(small):
    model, other = chapter.VAE(), (small.labels + 1) % 10
    assert not torch.allclose(model.encode(small.inputs, small.labels)[0], model.encode(small.inputs, other)[0])
    codes = torch.randn(40, model.latent)
    assert not torch.allclose(model.decode(codes, small.labels), model.decode(codes, other))


def test_training_lowers_the_loss_of_the_vae(small):
    history = np.array(chapter.descend(chapter.vae_losses, chapter.VAE(), small, 60))
    assert history.shape == (60, 2)
    assert history[-5:].sum(1).mean() < 0.7 * history[:2].sum(1).mean()


# ---------------------------------------------------------------- the GAN: who gets a gradient when

def gradients(model):
    return [parameter.grad for parameter in model.parameters()]


def test_the_critics_step_leaves_the_generator_alone(small):
    generator, critic = chapter.Generator(), chapter.Critic()
    chapter.critic_loss(generator, critic, 2 * small.inputs - 1, small.labels).backward()
    assert all(grad is None for grad in gradients(generator))
    assert all(grad is not None for grad in gradients(critic))


def test_the_generators_gradient_comes_through_the_critic(small):
    generator, critic = chapter.Generator(), chapter.Critic()
    chapter.generator_loss(generator, critic, small.labels).backward()
    assert all(grad is not None for grad in gradients(generator))
    assert any(grad.abs().sum() > 0 for grad in gradients(generator))


def test_both_losses_by_hand(small):
    def says(images, labels):
        return torch.full((len(images), 1), 2.0) * (1 if images.requires_grad else -1)

    class Forger:
        def __call__(self, labels):
            return torch.zeros(len(labels), 1, 28, 28, requires_grad=True)

    real = (2 * small.inputs - 1).requires_grad_()
    sure = np.log1p(np.exp(-2))
    assert chapter.critic_loss(Forger(), says, real, small.labels).item() == pytest.approx(2 * sure, rel=1e-5)
    assert chapter.generator_loss(Forger(), says, small.labels).item() == pytest.approx(sure, rel=1e-5)


def test_the_critic_multiplies_features_with_a_vector_of_the_class(small):
    critic, other = chapter.Critic(), (small.labels + 1) % 10
    found = critic.features(small.inputs)
    vectors = critic.own.weight
    apart = critic(small.inputs, small.labels) - critic(small.inputs, other)
    by_hand = (found * (vectors[small.labels] - vectors[other])).sum(1, keepdim=True) / 8
    torch.testing.assert_close(apart, by_hand, atol=1e-5, rtol=1e-4)


def test_both_networks_start_small():
    generator, critic = chapter.Generator().apply(chapter.start_small), chapter.Critic().apply(chapter.start_small)
    for module in [*generator.modules(), *critic.modules()]:
        if isinstance(module, torch.nn.Conv2d):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.2)
        if isinstance(module, torch.nn.Embedding):
            assert module.weight.std().item() == pytest.approx(0.1, rel=0.1)


def test_a_gan_trains_both_networks(small):
    generator, history = chapter.train_gan(small, 3, batch_size=8)
    assert np.shape(history) == (3, 2)
    with reproducible(0):
        fresh = chapter.Generator()
    assert not torch.equal(generator.first.weight, fresh.first.weight)
    images = generator.make(torch.arange(10))
    assert images.shape == (10, 1, 28, 28) and images.min() >= 0 and images.max() <= 1


# ---------------------------------------------------------------- diffusion

def test_the_cosine_schedule_ends_in_noise_and_the_linear_one_does_not():
    left = chapter.cosine_schedule()
    assert len(left) == 201 and left[0] == 1
    assert (left.diff() < 0).all() and left[-1] < 0.001
    assert float(left[100]) == pytest.approx(0.49, abs=0.01)
    linear = torch.linspace(1e-4, 2e-2, 200, dtype=torch.float64)
    assert float((1 - linear).prod()) == pytest.approx(0.132, abs=0.002)


class Known(torch.nn.Module):
    """Says one noise for a class, another for "any"."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def forward(self, codes, times, labels):
        self.asked.append((times, labels))
        return torch.where(labels == 10, 1.0, 3.0)[:, None].expand_as(codes)


def test_without_guidance_it_is_the_conditional_model_and_with_it_it_is_pushed_away_from_any():
    codes, times, labels = torch.zeros(2, 4), torch.ones(2), torch.tensor([0, 9])
    for guidance, expected in ((0.0, 3.0), (0.5, 4.0), (2.0, 7.0)):
        assert (chapter.guided(Known(), codes, times, labels, guidance) == expected).all()


def test_hidden_labels_are_an_eleventh_class():
    model, labels = Known(), torch.zeros(4000, dtype=torch.long)
    chapter.diffusion_losses(model, torch.randn(4000, 4), labels)
    (times, seen), = model.asked
    assert set(seen.tolist()) == {0, 10}
    assert float((seen == 10).float().mean()) == pytest.approx(0.1, abs=0.02)
    assert times.min() > 0 and times.max() == 1
    assert (labels == 0).all(), "the labels of the caller stay as they are"


def test_the_denoiser_sees_the_code_in_the_share_of_the_schedule():
    class Perfect(torch.nn.Module):
        def forward(self, noisy, times, labels):
            level = chapter.cosine_schedule()[(times * 200).round().long()][:, None]
            return (noisy - level.sqrt() * 2) / (1 - level).sqrt()

    loss, = chapter.diffusion_losses(Perfect(), torch.full((64, 4), 2.0), torch.zeros(64, dtype=torch.long))
    assert loss.item() < 1e-4


def test_a_walk_with_the_true_noise_ends_at_the_clean_code_and_back():
    clean = torch.tensor([[0.5, -1.5, 2.0]])

    class Perfect(torch.nn.Module):
        def forward(self, noisy, times, labels):
            level = chapter.cosine_schedule()[(times * 200).round().long()][:, None]
            return (noisy - level.sqrt() * clean) / (1 - level).sqrt().clamp_min(1e-6)

    label = torch.tensor([3])
    start = torch.randn(1, 3)
    torch.testing.assert_close(chapter.walk(Perfect(), start, label, chapter.TIMES, 0.7), clean, atol=1e-3, rtol=0)
    middle = [8, 48, 100, 160]
    noisy = chapter.cosine_schedule()[8].sqrt() * clean + (1 - chapter.cosine_schedule()[8]).sqrt() * start
    there = chapter.walk(Perfect(), noisy, label, middle)
    torch.testing.assert_close(chapter.walk(Perfect(), there, label, middle[::-1]), noisy, atol=1e-3, rtol=0)


def test_the_latent_space_is_scaled_before_and_unscaled_after(small):
    vae, codes = chapter.VAE(), torch.randn(50, 16) * 4 + 7
    model = chapter.Diffusion(vae, codes)
    seen = []
    vae.decode = lambda codes, labels: seen.append(codes) or torch.zeros(len(codes), 1, 28, 28)
    chapter_walk, chapter.walk = chapter.walk, lambda *given: torch.zeros(10, 16)
    try:
        model.make(torch.arange(10))
    finally:
        chapter.walk = chapter_walk
    torch.testing.assert_close(seen[0], codes.mean(0).expand(10, 16))
    assert model.scale.mean().item() == pytest.approx(4, abs=0.5)


# ---------------------------------------------------------------- training, making, measuring

def test_every_generator_makes_what_is_missing_and_a_control_stays_untrained(data):
    made = chapter.generate(0, 2, 150, 3, "stand-in")
    counts = torch.bincount(data.train.labels, minlength=10)
    for name, found in made.items():
        assert torch.equal(torch.bincount(found["labels"]), (150 - counts).clamp_min(3)), name
        assert found["images"].dtype == torch.uint8 and found["images"].shape == (len(found["labels"]), 1, 28, 28)
        assert len(found["losses"]) == (0 if name.startswith("untrained") else 2)
    assert set(made) == {"untrained VAE", "VAE", "GAN", "diffusion"}
    assert made["diffusion"]["seconds"] > made["VAE"]["seconds"] * 0.5
    assert not torch.equal(made["VAE"]["weights"]["draw.weight"], made["untrained VAE"]["weights"]["draw.weight"])
    again = chapter.generate(0, 2, 150, 3, "stand-in")
    assert all(torch.equal(made[name]["images"], again[name]["images"]) for name in made)
    chapter.made = {0: made}
    for kind in ("VAE", "GAN", "diffusion"):
        for key, weight in chapter.revive(kind, 0).state_dict().items():
            assert torch.equal(weight, made[kind]["weights"][key])
    rows = chapter.morph(data.train.inputs[:2], 9, 0, torch.linspace(0, 1, 3))
    assert {len(row) for row in rows.values()} == {3}
    torch.testing.assert_close(rows["pixels"][[0, 2]], data.train.inputs[:2].float() / 255)
    torch.testing.assert_close(rows["pixels"][1], data.train.inputs[:2].float().mean(0) / 255)
    shown = chapter.stages(0, 9, count=2)
    assert list(shown) == ["diffusion, noise", "diffusion, halfway", "diffusion, end"]
    assert not torch.equal(shown["diffusion, noise"], shown["diffusion, end"])
    again = chapter.redrawn(data.train.inputs[:2], 9, 0)
    torch.testing.assert_close(again, rows["VAE"][[0, 2]])


def test_the_last_stage_is_what_one_walk_over_all_times_makes(data, monkeypatch):
    """The walk is cut into stages, and nothing is lost at the cuts."""
    vae = chapter.VAE()
    model = chapter.Diffusion(vae, torch.randn(50, 16))
    monkeypatch.setattr(chapter, "revive", lambda kind, seed: model)
    with reproducible(3):
        whole = model.make(torch.tensor([9, 9]))
    torch.testing.assert_close(chapter.stages(3, 9, count=2)["diffusion, end"], whole)


def test_an_arc_keeps_the_length_of_noise():
    one, other = torch.tensor([3.0, 0]), torch.tensor([0, 5.0])
    found = chapter.arc(one, other, torch.tensor([0, 0.5, 1]))
    torch.testing.assert_close(found.norm(dim=1), torch.tensor([3.0, 4, 5]))
    torch.testing.assert_close(found[[0, 2]], torch.stack([one, other]))


def test_novelty_and_diversity_by_hand():
    def line(*values):
        return torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1)

    real, fresh = line(0, 100), line(10, 110)
    assert chapter.novelty(line(0, 100), real, fresh) == 0, "copies"
    assert chapter.novelty(line(10, 90), real, fresh) == pytest.approx(1)
    assert chapter.novelty(line(30, 70), real, fresh) == pytest.approx(3)
    assert chapter.diversity(line(5, 5, 5), fresh) == 0, "collapsed"
    assert chapter.diversity(line(0, 50), fresh) == pytest.approx(0.5)


def test_the_nearest_real_image_stands_beside_the_made_one():
    real = torch.tensor([0, 100, 200], dtype=torch.uint8).view(3, 1, 1, 1)
    images, nearest = chapter.beside_nearest(torch.tensor([90, 10], dtype=torch.uint8).view(2, 1, 1, 1), real)
    assert nearest.flatten().tolist() == [100, 0] and images.flatten().tolist() == [90, 10]


def test_a_panel_and_its_drawing(data, monkeypatch):
    labels = torch.arange(10).repeat_interleave(9)
    pool = {"images": torch.zeros(90, 1, 28, 28, dtype=torch.uint8), "labels": labels}
    monkeypatch.setattr(chapter, "made", {0: dict.fromkeys(["A"], pool)}, raising=False)
    monkeypatch.setattr(chapter, "KINDS", ["A"], raising=False)
    monkeypatch.setattr(chapter, "DATA", "stand-in")
    rows = chapter.panel(9, 0)
    assert list(rows) == ["real", "A", "A: nearest real"] and {len(row) for row in rows.values()} == {8}
    axes = chapter.draw_rows([rows, rows])
    assert axes.shape == (3, 2) and axes[1, 0].get_ylabel() == "A"
    chapter.plt.close("all")


def test_the_judge_has_seen_the_balanced_set_and_names_real_images(data):
    found = chapter.ask_the_judge(0, 150, "stand-in", {"real": data.test.inputs, "none": data.test.inputs[:0 + 1] * 0})
    assert float((found["real"] == data.test.labels).float().mean()) > 0.8
    assert len(found["none"]) == 1


def test_measure_counts_what_the_judge_has_said(data, monkeypatch):
    labels = torch.arange(10).repeat_interleave(4)
    images = torch.cat([data.train.inputs[data.train.labels == label][:4] for label in range(10)])
    monkeypatch.setattr(chapter, "made", {0: {"copies": {"images": images, "labels": labels}}}, raising=False)
    monkeypatch.setattr(chapter, "KINDS", ["copies"], raising=False)
    monkeypatch.setattr(chapter, "DATA", "stand-in")
    said = labels.clone()
    said[:3] = 5
    found = chapter.measure(0, {"copies 0": said})
    assert found.recognised.tolist() == [0.25] + [1.0] * 9
    assert found.nearest.tolist() == pytest.approx([0.0] * 10, abs=0.01)
    assert found["class"].tolist() == list(range(10))


def test_a_made_image_is_judged_by_the_half_that_has_not_seen_its_source(data, monkeypatch):
    """Each judge knows the images of its half by heart, and calls all others the next class."""
    half = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0)) % 2

    def by_heart(recipe, part, **_):
        known = {image.numpy().tobytes() for image in part.train.inputs}

        def predict(split):
            seen = torch.tensor([image.numpy().tobytes() in known for image in split.inputs])
            truth = torch.tensor([true[image.numpy().tobytes()] for image in split.inputs])
            return F.one_hot(torch.where(seen, truth, (truth + 1) % 10), 10).float()
        return SimpleNamespace(predict=predict)

    true = {image.numpy().tobytes(): int(label) for image, label in
            zip(data.train.inputs, data.train.labels, strict=True)}
    monkeypatch.setattr(chapter, "fit", by_heart)
    copies = data.train[torch.arange(0, len(data.train), 7)]
    found = chapter.accepted(0, 1, {"copies": copies.inputs}, copies.labels, "stand-in")["copies"]
    assert not found.any(), "a copy of what a judge has learned by heart is judged by the other"
    assert half.float().mean() == pytest.approx(0.5, abs=0.01)


# ---------------------------------------------------------------- the source

def test_the_sources_vae_fills_each_class_with_reconstructions_of_its_own(data, monkeypatch):
    train = data.train[torch.arange(0, len(data.train), 5)]
    filled = chapter.fill_by_reconstruction(train, 0, steps=0)
    counts = torch.bincount(filled.labels, minlength=10)
    assert (counts == counts.max()).all()
    assert torch.equal(filled.inputs[:len(train)], train.inputs)
    calls = []
    monkeypatch.setattr(chapter, "descend", lambda losses, model, split, steps, **_: calls.append(steps))
    chapter.fill_by_reconstruction(train, 0, steps=0)
    assert calls == [], "the source has trained another network than the one that it used (E29)"
    chapter.fill_by_reconstruction(train, 0, steps=7)
    assert calls == [7]


def test_an_untrained_vae_makes_images_that_show_no_class(data):
    train = data.train[torch.arange(0, len(data.train), 5)]
    made = chapter.fill_by_reconstruction(train, 0, steps=0)[torch.arange(len(train), 2 * len(train))]
    means = torch.stack([made.inputs[made.labels == label].float().mean(0) for label in made.labels.unique()])
    real = torch.stack([train.inputs[train.labels == label].float().mean(0) for label in made.labels.unique()])
    assert torch.pdist(means.flatten(1)).mean() < 0.05 * torch.pdist(real.flatten(1)).mean()


def test_the_sources_network_has_its_sizes():
    model = chapter.SourceVAE()
    mean, log_variance = model.encode(torch.zeros(2, 1, 28, 28), torch.zeros(2))
    assert mean.shape == log_variance.shape == (2, 4)
    assert model.decode(mean, torch.zeros(2)).shape == (2, 1, 28, 28)
    assert chapter.adadelta([torch.nn.Parameter(torch.zeros(1))], 0.1).param_groups[0]["lr"] == 0.1


# ---------------------------------------------------------------- exercises

def test_a_gaussian_of_the_class_has_its_mean_and_a_shrunk_covariance():
    codes = torch.randn(500, 1) * torch.tensor([[2.0, 2.0]]) + torch.tensor([5.0, -5.0])
    drawn = chapter.class_gaussian(codes, 20_000)
    torch.testing.assert_close(drawn.mean(0), codes.mean(0), atol=0.1, rtol=0)
    assert float(drawn.T.corrcoef()[0, 1]) == pytest.approx(0.7, abs=0.02), "its own was one"


def test_a_recipe_with_made_images_trains(data):
    images = torch.zeros(20, 1, 28, 28, dtype=torch.uint8)
    pool = {0: (images, torch.arange(10).repeat_interleave(2))}
    trained = fit(Recipe(resample=chapter.partial(chapter.fill_up, made=pool, fill=100)), data, steps=2, batch_size=16)
    assert torch.isfinite(torch.tensor(trained.history[-1]["loss"]))
