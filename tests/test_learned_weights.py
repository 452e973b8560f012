"""The chapter on learned weights: the step in thought against a real one, the meta gradient against differences."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from helpers.chapters import load
from helpers.datasets import Split, long_tailed
from helpers.training import Recipe, fit, prepare, reproducible

chapter = load("losses/learned_weights")


@pytest.fixture(scope="module")
def data():
    return long_tailed("MNIST", data="stand-in")


def toy(seed=0, size=24):
    """A linear layer, a smooth weigher, a batch and a meta set, in double precision."""
    torch.manual_seed(seed)
    head = nn.Linear(4, 3).double()
    weigher = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 1), nn.Sigmoid()).double()
    batch, meta = ((torch.randn(size, 4).double(), torch.randint(3, (size,))) for _ in range(2))
    return weigher, head, batch, meta


def test_weights_have_mean_one_and_follow_the_loss():
    weigher = nn.Sequential(nn.Linear(1, 1), nn.Sigmoid())
    weigher[0].weight.data.fill_(1.0)
    weigher[0].bias.data.fill_(0.0)
    losses = torch.tensor([0.0, 1.0, 3.0])
    found = chapter.weigh(weigher, losses)
    assert found.shape == (3,) and float(found.mean()) == pytest.approx(1)
    torch.testing.assert_close(found / found[0], losses.sigmoid() / 0.5)


def test_the_step_in_thought_is_a_real_step_and_leaves_the_layer_alone():
    _, head, (features, labels), _ = toy()
    weights = torch.rand(len(labels)).double()
    before = [value.clone() for value in head.parameters()]
    ahead = chapter.step_in_thought(head, features, labels, weights, 0.3)
    assert all(torch.equal(old, new) for old, new in zip(before, head.parameters(), strict=True))
    assert all(value.grad is None for value in head.parameters())
    optimizer = torch.optim.SGD(head.parameters(), 0.3)
    (weights * F.cross_entropy(head(features), labels, reduction="none")).mean().backward()
    optimizer.step()
    for name, value in head.named_parameters():
            torch.testing.assert_close(ahead[name], value.detach())


def test_the_meta_gradient_is_not_zero_and_equals_finite_differences():
    weigher, head, batch, meta = toy()

    def loss():
        return chapter.meta_loss(weigher, head, batch, meta, rate=0.5)

    slopes = torch.autograd.grad(loss(), list(weigher.parameters()))
    for parameter, slope in zip(weigher.parameters(), slopes, strict=True):
        assert slope.abs().max() > 1e-6
        for place in range(min(parameter.numel(), 3)):
            flat, kept = parameter.data.view(-1), float(parameter.data.view(-1)[place])
            sides = []
            for shift in (1e-4, -1e-4):
                flat[place] = kept + shift
                sides.append(float(loss()))
            flat[place] = kept
            assert (sides[0] - sides[1]) / 2e-4 == pytest.approx(float(slope.view(-1)[place]), rel=1e-3, abs=1e-8)


def test_it_goes_through_the_weigher_alone():
    weigher, head, batch, meta = toy()
    chapter.meta_loss(weigher, head, batch, meta, rate=0.5).backward()
    assert all(value.grad is None for value in head.parameters())
    assert all(value.grad is not None for value in weigher.parameters())


@pytest.mark.parametrize(("wrong", "direction"), [(True, -1), (False, 1)])
def test_it_tells_a_wrong_label_from_a_hard_sample(wrong, direction):
    """A layer that is right about nearly all; the samples with a large loss are wrong labels, or a class it lacks."""
    torch.manual_seed(0)
    head = nn.Linear(2, 2, bias=False).double()
    head.weight.data = torch.tensor([[2.0, 0.0], [-2.0, 0.0]]).double()
    easy = torch.tensor([[1.0, 0.0]] * 20).double(), torch.zeros(20, dtype=torch.long)
    odd = (easy[0][:5] if wrong else torch.tensor([[1.0, 1.0]] * 5).double()), torch.ones(5, dtype=torch.long)
    batch = [torch.cat(both) for both in zip(easy, odd, strict=True)]
    meta = easy if wrong else batch
    weigher = nn.Sequential(nn.Linear(1, 1), nn.Sigmoid()).double()
    weigher[0].weight.data.fill_(0.0)
    loss = chapter.meta_loss(weigher, head, batch, meta, rate=0.1)
    (slope,) = torch.autograd.grad(loss, weigher[0].weight)
    assert direction * -float(slope) > 0, "descent turns the weight of a large loss down, or up"


# ---------------------------------------------------------------- the meta set

def test_the_meta_set_leaves_validation_with_ten_images_a_class(data):
    meta, rest = chapter.split_meta(data)
    assert torch.bincount(meta.labels).tolist() == [10] * 10
    assert len(rest.val) == len(data.val) - 100
    assert torch.equal(rest.train.labels, data.train.labels) and rest.test is data.test
    both = torch.cat([meta.inputs, rest.val.inputs]).flatten(1).unique(dim=0)
    assert len(both) == len(data.val.inputs.flatten(1).unique(dim=0)), "every validation image is in one of the two"
    overlap = (meta.inputs.flatten(1)[:, None] == rest.val.inputs.flatten(1)[None]).all(2).any()
    assert not overlap


def test_the_rival_trains_on_the_meta_images(data):
    trained = chapter.with_meta_images(Recipe(), data, steps=1, batch_size=8, seed=0)
    meta, _ = chapter.split_meta(data)
    assert len(trained.run.train) == len(data.train) + 100
    torch.testing.assert_close(trained.run.class_counts, (data.class_counts + 10).float())
    assert torch.equal(trained.run.train.inputs[-100:], meta.inputs)


# ---------------------------------------------------------------- the objective

def begun(data, every=5):
    with reproducible(0):
        run = prepare(Recipe(), data.train, 10, steps=20, batch_size=16, seed=0)
        objective = chapter.MetaWeighted(chapter.split_meta(data)[0], every=every)
        objective.begin(run)
    return run, objective, run.batch(data.train, torch.arange(0, len(data.train), 20))


def test_the_weigher_learns_at_every_fifth_step_and_is_used_at_each(data):
    run, objective, batch = begun(data)
    before = [value.clone() for value in objective.weigher.parameters()]
    changed = []
    for run.step in range(6):
        objective(run, *batch)
        now = [value.clone() for value in objective.weigher.parameters()]
        changed.append(not all(map(torch.equal, before, now)))
        before = now
    assert changed == [True, False, False, False, False, True]


def test_the_classifiers_step_takes_the_weights_as_given(data):
    run, objective, (inputs, labels) = begun(data)
    run.step = 1
    for value in objective.weigher.parameters():
        value.grad = None
    run.model.eval()
    loss = objective(run, inputs, labels)
    each = F.cross_entropy(run.forward(inputs), labels, reduction="none")
    weights = chapter.weigh(objective.weigher, each).detach()
    torch.testing.assert_close(loss, (weights * each).mean())
    assert float(weights.std()) > 0
    loss.backward()
    assert all(value.grad is None for value in objective.weigher.parameters())
    assert run.model.head.weight.grad.abs().sum() > 0


def test_a_look_ahead_leaves_the_classifier_and_its_statistics_alone(data):
    run, objective, (inputs, labels) = begun(data)
    features = run.model.features(run.normalise(inputs)).detach()
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    objective.learn(run, features, labels)
    assert all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items())
    assert run.model.training


def test_the_meta_set_does_not_come_from_training_and_the_procedure_uses_it(data, monkeypatch):
    seen = []
    monkeypatch.setattr(chapter, "fit", lambda recipe, rest, **how: seen.append((recipe.objective, rest)))
    chapter.meta_weight_net(Recipe(), data, steps=1)
    (objective, rest), (meta, _) = seen[0], chapter.split_meta(data)
    assert isinstance(objective, chapter.MetaWeighted)
    assert torch.equal(objective.meta.inputs, meta.inputs) and len(rest.val) == len(data.val) - 100


# ---------------------------------------------------------------- wrong labels

def test_a_fifth_of_the_training_labels_becomes_another_class(data):
    noisy, rows = chapter.wrong_labels(data, seed=3)
    changed = (noisy.train.labels != data.train.labels).nonzero()[:, 0]
    assert torch.equal(changed, rows.sort().values), "each chosen label has changed, and no other"
    assert len(rows) == round(0.2 * len(data.train))
    assert noisy.val is data.val and noisy.test is data.test and torch.equal(noisy.train.inputs, data.train.inputs)
    assert set(noisy.train.labels[changed].tolist()) == set(range(10))
    assert not torch.equal(rows, chapter.wrong_labels(data, seed=4)[1])
    untouched, none = chapter.wrong_labels(data, seed=3, share=0.0)
    assert torch.equal(untouched.train.labels, data.train.labels) and not len(none)


def test_the_noisy_study_has_wrong_labels_in_training_alone():
    noisy, clean = chapter.mislabelled(5, "stand-in"), long_tailed("MNIST", seed=5, data="stand-in")
    assert float((noisy.train.labels != clean.train.labels).float().mean()) == pytest.approx(0.2, abs=0.01)
    assert torch.equal(noisy.val.labels, clean.val.labels) and torch.equal(noisy.test.labels, clean.test.labels)


def test_a_watched_training_keeps_its_curves_and_weighs_the_kinds():
    found = chapter.watch(0.2, 0.16, 0, 4, "stand-in")
    assert sorted(found["curves"]) == [1, 2, 3, 4]
    assert all(len(curve) == len(chapter.GRID) and max(curve) == pytest.approx(1) for curve in found["curves"].values())
    weights = found["weights"]
    assert set(weights) == {"weight, wrong", "weight, right", "weight, right, rare", "weight, right, common"}
    assert 0.2 * weights["weight, wrong"] + 0.8 * weights["weight, right"] == pytest.approx(1, abs=0.01)
    assert "weight, wrong" not in chapter.watch(0.0, 0.16, 0, 1, "stand-in")["weights"]


@pytest.mark.parametrize("name", chapter.TECHNIQUES)
def test_every_technique_trains(data, name):
    trained = fit(Recipe(**chapter.TECHNIQUES[name]), data, steps=2, batch_size=16)
    assert torch.isfinite(torch.tensor(trained.history[-1]["loss"]))
    assert trained.predict(Split(data.test.inputs[:4], data.test.labels[:4])).shape == (4, 10)
