"""Mending the features: gaps and enemies by hand, moments, branches, made images, experts."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from helpers.chapters import load
from helpers.datasets import Split, long_tailed
from helpers.models import CompactNet
from helpers.results import tidy
from helpers.stages import balanced
from helpers.training import Recipe, fit, prepare

chapter = load("two_stages/mending_features")


@pytest.fixture(scope="module")
def data():
    return long_tailed("FashionMNIST", data="stand-in")


def a_run(data, recipe=None, steps=600, batch_size=32, seed=0):
    return prepare(recipe or Recipe(), data.train, 10, steps=steps, batch_size=batch_size, seed=seed)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------- the gap

def test_the_gap_by_hand():
    train = Split(torch.tensor([[0.0, 0], [2, 2], [5, 5]]), torch.tensor([0, 0, 1]))
    test = Split(torch.tensor([[1.0, 3], [-1, 1], [5, 9]]), torch.tensor([0, 0, 1]))
    # class 0: feature 0 falls 1 short below, feature 1 reaches 1 above; class 1: feature 1 reaches 4 above
    assert chapter.gap(train, test).tolist() == [1, 2]
    assert chapter.gap(test, test).tolist() == [0, 0]


def test_equal_counts_are_those_of_the_smallest_class_drawn_at_random(data):
    split = Split(torch.arange(len(data.train))[:, None].float(), data.train.labels)
    found, other = chapter.equal_counts(split, 0), chapter.equal_counts(split, 1)
    assert torch.bincount(found.labels).tolist() == [int(data.class_counts.min())] * 10
    assert torch.equal(split.labels[found.inputs[:, 0].long()], found.labels)
    assert not torch.equal(found.inputs, other.inputs)


def test_every_way_to_widen_has_its_gap(data, monkeypatch):
    monkeypatch.setattr(chapter, "fit", partial(fit, batch_size=32))
    name, found = chapter.gaps_of("FashionMNIST", 0, 2, "stand-in")
    assert name == data.name and set(found) == {"as trained", "equal counts", "with SMOTE", "with EOS"}
    assert all(len(values) == 10 and min(values) >= 0 for values in found.values())
    assert all(abs(one - two) < 1e-5 for one, two in zip(found["as trained"], found["with SMOTE"], strict=True)), \
        "SMOTE stays inside the range"
    assert all(one <= two + 1e-6 for one, two in zip(found["with EOS"], found["as trained"], strict=True))
    assert found["equal counts"][0] > found["as trained"][0], "fewer samples span a shorter range"


# ---------------------------------------------------------------- enemies

LINE = Split(torch.tensor([[0.0], [1], [3], [3.5], [20], [21], [22], [23]]),
             torch.tensor([1, 1, 0, 0, 0, 0, 0, 0]))


def test_neighbours_by_hand_and_without_the_point_itself():
    near = chapter.neighbours(LINE.inputs, torch.tensor([0, 4]), k=3)
    assert near.tolist() == [[1, 2, 3], [5, 6, 7]]


def test_a_long_list_is_searched_in_parts():
    features = torch.randn(1203, 3, generator=generator())
    near = chapter.neighbours(features, torch.arange(1203), k=4)
    whole = torch.cdist(features, features).fill_diagonal_(torch.inf).topk(4, largest=False).indices
    assert torch.equal(near, whole)


def test_every_partner_is_an_enemy_and_a_near_one():
    rows = torch.tensor([0, 1])
    near = chapter.neighbours(LINE.inputs, rows, k=3)
    own, other = chapter.to_enemies(LINE, rows, near, 1, 200, generator())
    assert set(own.tolist()) == {0, 1} and set(other.tolist()) == {2, 3}


def test_a_sample_without_enemies_near_makes_none():
    rows = torch.tensor([0, 1])
    near = torch.tensor([[1, 1], [0, 2]])
    own, other = chapter.to_enemies(LINE, rows, near, 1, 50, generator())
    assert set(own.tolist()) == {1} and set(other.tolist()) == {2}


def test_the_published_partners_are_one_place_off():
    rows = torch.tensor([0, 1])
    near = chapter.neighbours(LINE.inputs, rows, k=3)  # of 0: 1, 2, 3, of which 2 and 3 are enemies
    right = chapter.to_enemies(LINE, rows, near, 1, 300, generator())
    found = chapter.one_place_off(LINE, rows, near, 1, 300, generator())
    before = {(0, 2): (0, 1), (0, 3): (0, 2), (1, 2): (1, 0), (1, 3): (1, 2)}
    assert [before[pair] for pair in zip(*map(torch.Tensor.tolist, right), strict=True)] == \
        list(zip(*map(torch.Tensor.tolist, found), strict=True))
    nearest = torch.tensor([[2, 3, 1]])
    assert set(chapter.one_place_off(LINE, rows[:1], nearest, 1, 100, generator())[1].tolist()) == {0, 2}, "itself"


def test_eos_makes_classes_equal_on_the_way_to_enemies_with_the_rare_label():
    made = chapter.eos(LINE, 0, k=3)
    assert torch.bincount(made.labels).tolist() == [6, 6]
    assert torch.equal(made.inputs[:8], LINE.inputs) and torch.equal(made.labels[:8], LINE.labels)
    assert made.labels[8:].tolist() == [1] * 4
    assert bool(((made.inputs[8:] >= 0) & (made.inputs[8:] <= 3.5)).all())
    assert float(chapter.eos(Split(LINE.inputs.repeat(1, 1), LINE.labels), 1, k=3).inputs[8:].max()) > 1


def test_eos_leaves_a_class_without_enemies_as_it_is():
    apart = Split(torch.tensor([[0.0], [1], [2], [50], [51], [52], [53]]), torch.tensor([1, 1, 1, 0, 0, 0, 0]))
    assert torch.bincount(chapter.eos(apart, 0, k=2).labels).tolist() == [4, 3]


def test_feature_smote_stays_between_samples_of_the_class():
    features = torch.cat([torch.rand(30, 4, generator=generator()), 5 + torch.rand(8, 4, generator=generator(1))])
    split = Split(features, torch.tensor([0] * 30 + [1] * 8))
    made = chapter.feature_smote(split, 0)
    assert torch.bincount(made.labels).tolist() == [30, 30] and made.inputs.dtype == torch.float32
    low, high = features[30:].aminmax(dim=0)
    new = made.inputs[38:]
    assert bool(((new >= low - 1e-6) & (new <= high + 1e-6)).all()) and not bool((new == features[30]).all(1).any())


def test_kinds_of_partners_are_shares():
    assert chapter.kinds(LINE, 1, chapter.to_enemies) == ["0%", "0%", "100%"]
    shares = chapter.kinds(LINE, 1, chapter.one_place_off)
    assert shares[2] != "100%" and sum(int(share[:-1]) for share in shares) == pytest.approx(100, abs=1)


def test_the_toy_has_a_dozen_rare_points():
    points = chapter.toy()
    assert torch.bincount(points.labels).tolist() == [150, 12]
    assert float(points.inputs[150:, 0].mean()) > 1.5


# ---------------------------------------------------------------- mixing inside

def test_two_labels_by_hand():
    logits, one, other = torch.tensor([[2.0, 0, 1]]), torch.tensor([0]), torch.tensor([1])
    expected = 0.7 * F.cross_entropy(logits, one) + 0.3 * F.cross_entropy(logits, other)
    torch.testing.assert_close(chapter.two_labels(logits, one, other, 0.7), expected)


def test_manifold_mixup_mixes_at_each_depth_with_the_share_of_the_labels(data, monkeypatch):
    run, seen = a_run(data), []
    monkeypatch.setattr(chapter, "two_labels", lambda logits, labels, others, share: seen.append((logits, share)))
    run.model.eval()
    inputs, labels = run.batch(run.train, torch.arange(0, 320, 40))
    for depth in (0, 3, 6):
        run.rng = type("Fixed", (), {"beta": lambda *_: 0.3, "choice": lambda *given, depth=depth: depth})()
        run.generator = generator()
        chapter.manifold_mixup(run, inputs, labels)
        partner = torch.randperm(8, generator=generator())
        hidden = run.model.features[:depth](run.normalise(inputs))
        mixed = 0.3 * hidden + 0.7 * hidden[partner]
        expected = run.model.head(run.model.features[depth:](mixed))
        torch.testing.assert_close(seen[-1][0], expected)
        assert seen[-1][1] == 0.3
    assert not torch.allclose(seen[0][0], seen[1][0])


def test_two_rows_swap_their_moments():
    hidden = torch.tensor([[1.0, 3], [10, 30]])[:, :, None, None]
    found = chapter.exchange(hidden, torch.tensor([1, 0]), epsilon=0)
    torch.testing.assert_close(found[:, :, 0, 0], torch.tensor([[10.0, 30], [1, 3]]))


def test_an_image_that_is_its_own_partner_stays_as_it_is():
    hidden = torch.randn(4, 6, 3, 3, generator=generator())
    torch.testing.assert_close(chapter.exchange(hidden, torch.arange(4)), hidden)


def test_moments_are_those_of_each_position():
    hidden = torch.randn(2, 16, 3, 3, generator=generator())
    found = chapter.exchange(hidden, torch.tensor([1, 0]))
    torch.testing.assert_close(found[0].mean(0), hidden[1].mean(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[0].std(0), hidden[1].std(0), atol=1e-4, rtol=0)


def test_moex_keeps_nine_tenths_of_the_label_of_the_content_in_half_of_the_batches(data, monkeypatch):
    run, seen = a_run(data), []
    monkeypatch.setattr(chapter, "two_labels", lambda *given: seen.append(given[1:]) or given[0].sum())
    inputs, labels = run.batch(run.train, torch.arange(8))
    for _ in range(200):
        chapter.moex(run, inputs, labels)
    assert 70 < len(seen) < 130
    assert all(torch.equal(own, labels) and share == 0.9 for own, _, share in seen)
    plain = F.cross_entropy(run.forward(inputs), labels)
    run.model.eval()
    plain = F.cross_entropy(run.forward(inputs), labels)
    torch.testing.assert_close(chapter.moex(run, inputs, labels, chance=0), plain)


# ---------------------------------------------------------------- made images

def test_the_chance_of_becoming_another_class_by_hand():
    counts = torch.tensor([6000.0, 5000, 60])
    chances = chapter.chance_of(counts, torch.tensor([0, 0, 2, 1]), torch.tensor([2, 1, 0, 1]))
    torch.testing.assert_close(chances, torch.tensor([1 - 0.999**5940, 1 - 0.999**1000, 0, 0]))


def test_translation_raises_the_target_and_lowers_the_source(data):
    pupil, teacher = a_run(data), a_run(data, seed=1)
    for run in (pupil, teacher):
        torch.manual_seed(run is pupil)
        run.model = CompactNet(10).eval()
    images = torch.rand(6, 1, 28, 28, generator=generator())
    sources, targets = torch.tensor([0, 1, 2, 3, 4, 5]), torch.tensor([9, 9, 8, 8, 7, 7])
    made = chapter.translate(pupil, teacher, images, sources, targets)
    assert not made.requires_grad and float(made.min()) >= 0 and float(made.max()) <= 1

    def logit(run, images, labels):
        with torch.no_grad():
            return run.model(run.normalise(images)).gather(1, labels[:, None])[:, 0]

    assert bool((logit(teacher, made, targets) > logit(teacher, images, targets)).all())
    pupil.generator = generator(1)
    letting_go = chapter.translate(pupil, teacher, images, sources, targets, weight=50.0)
    assert float(logit(pupil, letting_go, sources).mean()) < float(logit(pupil, made, sources).mean())


def test_each_round_has_the_same_length(data):
    run = a_run(data)
    run.model.eval()
    images = torch.full((3, 1, 28, 28), 0.5)
    labels = torch.tensor([0, 1, 2])
    start = chapter.translate(run, run, images, labels, labels.flip(0), rounds=0, size=0.5)
    torch.testing.assert_close((start - images).flatten(1).norm(dim=1), torch.full((3,), 0.5))
    run.generator = generator()
    one = chapter.translate(run, run, images, labels, labels.flip(0), rounds=1, size=0.5)
    torch.testing.assert_close((one - start).flatten(1).norm(dim=1), torch.full((3,), 0.5), atol=1e-3, rtol=0)


@pytest.fixture
def fixed(data, monkeypatch):
    """A run, a batch of eight, and a teacher who is sure of every second made image alone."""
    run = a_run(data)
    run.class_counts = torch.tensor([6000.0, 6000, 6000, 6000, 6000, 6000, 6000, 60, 60, 60])
    labels = torch.tensor([0, 1, 2, 3, 7, 8, 9, 9])
    inputs = torch.rand(8, 1, 28, 28, generator=generator())
    monkeypatch.setattr(chapter, "translate", lambda run, teacher, images, sources, targets:
                        torch.full_like(images, 2.0) + 0.1 * (torch.arange(len(images)) % 2).view(-1, 1, 1, 1))

    class Teacher:
        def normalise(self, images):
            return images

        def model(self, images):
            wanted = labels[labels >= 7][:len(images)]
            sure = torch.where(images[:, 0, 0, 0] > 2.05, 20.0, -20.0)
            return F.one_hot(wanted, 10) * sure[:, None]

    return run, Teacher(), inputs, labels


def test_only_images_of_which_the_teacher_is_sure_are_kept_and_the_others_stay(fixed):
    run, teacher, inputs, labels = fixed
    run.generator = generator(3)
    run.class_counts[7:] = 1e-3  # so that each rare row is wanted
    found, kept = chapter.m2m_batch(run, teacher, inputs, labels)
    assert kept.tolist() == [5, 7], "every second of the rows 4 to 7"
    assert bool((found[kept] > 2.05).all())
    others = torch.tensor([row for row in range(8) if row not in (5, 7)])
    assert torch.equal(found[others], inputs[others])
    assert run.model.training


def test_common_images_are_never_replaced(fixed):
    run, teacher, inputs, labels = fixed
    for seed in range(10):
        run.generator = generator(seed)
        _, kept = chapter.m2m_batch(run, teacher, inputs, labels)
        assert bool((labels[kept] >= 7).all())


def test_a_batch_without_rare_images_stays_as_it_is(fixed):
    run, teacher, inputs, _ = fixed
    found, kept = chapter.m2m_batch(run, teacher, inputs, torch.zeros(8, dtype=torch.long))
    assert torch.equal(found, inputs) and not len(kept)


def test_images_are_made_in_the_last_fifth_alone(data, monkeypatch):
    run, asked = a_run(data), []
    monkeypatch.setattr(chapter, "m2m_batch", lambda run, teacher, inputs, _: (asked.append(run.step) or inputs, 0))
    inputs, labels = run.batch(run.train, torch.arange(8))
    for run.step in (0, 479, 480, 599):
        chapter.m2m_step(run, inputs, labels, teacher=None)
    assert asked == [480, 599]


def test_the_teacher_is_another_network_and_is_not_trained(data, monkeypatch):
    seen = []

    def watched(recipe, data, **settings):
        found = fit(recipe, data, **settings)
        seen.append((recipe, settings["seed"], found))
        return found

    monkeypatch.setattr(chapter, "fit", watched)
    found = chapter.m2m(Recipe(), data, steps=5, batch_size=32, seed=0)
    (_, one, teacher), (second, other, pupil) = seen
    assert found is pupil and one != other and teacher.run.model is not pupil.run.model
    assert second.objective.keywords["teacher"] is teacher.run and second.sampler is balanced
    alone = fit(Recipe(), data, steps=5, batch_size=32, seed=one)
    for value, same in zip(teacher.run.model.state_dict().values(), alone.run.model.state_dict().values(), strict=True):
        assert torch.equal(value, same)
    assert not any(one.requires_grad for one in teacher.run.model.parameters())
    assert found.seconds > teacher.seconds


def test_translated_shows_how_sure_the_teacher_is(data):
    run = a_run(data)
    images = torch.rand(2, 1, 28, 28)
    made, sure = chapter.translated(run, images, torch.tensor([0, 1]), torch.tensor([8, 9]))
    with torch.no_grad():
        said = run.model(run.normalise(made)).softmax(1)
    torch.testing.assert_close(sure, torch.stack([said[0, 8], said[1, 9]]))


# ---------------------------------------------------------------- branches and experts

def test_alpha_moves_from_the_plain_branch_to_the_reversed_one():
    assert [round(chapter.alpha_at(step, 600), 4) for step in (0, 300, 599)] == [1, 0.75, 0.0033]


def test_at_test_both_branches_count_the_same():
    model = chapter.Bilateral(10).eval()
    images = torch.rand(4, 1, 28, 28)
    shared = model.trunk(images)
    both = torch.cat([model.plain(shared), model.reverse(shared)], 1)
    torch.testing.assert_close(model(images), model.head(both))
    torch.testing.assert_close(model.mixed(images, images.flip(0), 1.0),
                               model.head(torch.cat([2 * model.plain(shared), torch.zeros(4, 64)], 1)))
    names = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert names == {"trunk", "plain", "reverse", "head"}
    assert not torch.equal(model.plain[0].weight, model.reverse[0].weight)


def test_reversed_batches_have_shares_of_one_over_the_size(data):
    run = a_run(data, batch_size=4000)
    share = torch.bincount(run.train.labels[chapter.reversed_rows(run)], minlength=10) / 4000
    expected = (1 / run.class_counts) / (1 / run.class_counts).sum()
    torch.testing.assert_close(share, expected, atol=0.03, rtol=0)


def test_each_branch_learns_with_its_weight(data, monkeypatch):
    run = a_run(data, Recipe(model=chapter.Bilateral))
    inputs, labels = run.batch(run.train, torch.arange(8))
    monkeypatch.setattr(chapter, "reversed_rows", lambda run: torch.arange(100, 108))
    run.model.eval()
    for run.step in (0, 300, 599):
        alpha = chapter.alpha_at(run.step, 600)
        others, other_labels = run.batch(run.train, torch.arange(100, 108))
        logits = run.model.mixed(run.normalise(inputs), run.normalise(others), alpha)
        expected = alpha * F.cross_entropy(logits, labels) + (1 - alpha) * F.cross_entropy(logits, other_labels)
        torch.testing.assert_close(chapter.bbn(run, inputs, labels), expected)
    run.step = 0
    run.model.zero_grad()
    chapter.bbn(run, inputs, labels).backward()
    assert not run.model.reverse[0].weight.grad.any() and run.model.plain[0].weight.grad.any()


def test_twice_the_batch_is_twice_the_batch_in_as_many_steps(data):
    rows = next(chapter.twice(a_run(data, batch_size=32)))
    assert len(rows) == 64 == len(rows.unique())
    sizes = []

    def counted(run, inputs, labels):
        sizes.append(len(labels))
        return F.cross_entropy(run.forward(inputs), labels)

    fit(Recipe(sampler=chapter.twice, objective=counted), data, steps=3, batch_size=16)
    assert sizes == [32] * 3


def test_the_reversed_prior_by_hand():
    torch.testing.assert_close(chapter.reversed_prior(torch.tensor([0.7, 0.2, 0.1])), torch.tensor([0.1, 0.2, 0.7]))
    torch.testing.assert_close(chapter.reversed_prior(torch.tensor([0.2, 0.1, 0.7])), torch.tensor([0.2, 0.7, 0.1]))


def test_three_experts_and_their_mean():
    model = chapter.Experts(10).eval()
    images = torch.rand(5, 1, 28, 28)
    assert model.each(images).shape == (3, 5, 10)
    torch.testing.assert_close(model(images), model.each(images).mean(0))
    names = [name for name, _ in model.named_parameters()]
    assert all(name.startswith(("trunk", "experts")) for name in names) and sum("trunk" in name for name in names) == 8


def test_the_experts_losses_by_hand(data):
    run = a_run(data)
    prior = torch.tensor([0.7, 0.2, 0.1])
    run.class_counts = 1000 * prior
    z = torch.tensor([[2.0, 0, 1]])

    class Same:
        def each(self, inputs):
            return z.expand(3, 1, 3)

    run.model = Same()
    label = torch.tensor([1])
    flipped = torch.tensor([0.1, 0.2, 0.7])
    expected = (F.cross_entropy(z, label) + F.cross_entropy(z + prior.log(), label)
                + F.cross_entropy(z + prior.log() - 2 * flipped.log(), label))
    torch.testing.assert_close(chapter.experts_loss(run, torch.zeros(1, 1, 28, 28), label), expected)


def test_a_new_head_is_learned_on_resampled_features(monkeypatch):
    asked = {}

    class Stage:
        def learn(self, **hooks):
            asked.update(hooks)

    chapter.head_on(Stage(), chapter.eos)
    assert asked == {"resample": chapter.eos}


def test_the_slope_by_hand(monkeypatch):
    gaps = tidy("MNIST-LT", "as trained", 0, {"gap": np.array([1.0, 2, 3, 9, 9, 9, 9, 4, 5, 6])}, protocol="gap")
    monkeypatch.setattr(chapter, "gaps", gaps, raising=False)
    assert chapter.slope("as trained", "MNIST-LT").mean == pytest.approx(2.5)


def test_other_moments_are_those_of_each_channel():
    hidden = torch.randn(2, 5, 6, 6, generator=generator())
    found = chapter.exchange_channels(hidden, torch.tensor([1, 0]))
    torch.testing.assert_close(found[0].mean((1, 2)), hidden[1].mean((1, 2)), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1].std((1, 2)), hidden[0].std((1, 2)), atol=1e-4, rtol=0)


def test_shares_with_an_enemy_near(monkeypatch):
    monkeypatch.setattr(chapter, "train", LINE, raising=False)
    assert chapter.has_enemy(1, k=1) == 0 and chapter.has_enemy(1, k=2) == 1 and chapter.has_enemy(0, k=1) == 0


@pytest.mark.parametrize("name", chapter.TECHNIQUES)
def test_every_technique_trains(data, name):
    found = fit(replace(Recipe(), **chapter.TECHNIQUES[name]), data, steps=5, batch_size=32)
    logits = found.predict(data.val)
    assert logits.shape == (len(data.val), 10) and bool(torch.isfinite(logits).all())
