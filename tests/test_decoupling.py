"""Two stages: schedules at their steps, a frozen backbone, heads by hand; and the chapter on decoupling."""

import copy
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from helpers import stages
from helpers.chapters import load
from helpers.datasets import Split, long_tailed
from helpers.models import CompactNet
from helpers.results import collapsed, tidy
from helpers.stages import Heads, Stage, as_features, balanced, of_head, two_stages
from helpers.training import Recipe, fit, logit_adjustment, prepare, shuffled

chapter = load("two_stages/decoupling")


@pytest.fixture(scope="module")
def data():
    return long_tailed("FashionMNIST", data="stand-in")


@pytest.fixture(scope="module")
def trained(data):
    return fit(Recipe(), data, steps=8, batch_size=64)


@pytest.fixture
def stage(data, trained):
    features = replace(data, train=as_features(trained.run, data.train), val=as_features(trained.run, data.val))
    return Stage(trained, features, Recipe(), steps=4, batch_size=32, seed=0)


def a_run(data, steps=600, batch_size=256):
    return prepare(Recipe(), data.train, 10, steps=steps, batch_size=batch_size, seed=0)


def share_of_rows(run, draw, at, batches=40):
    """Mean share of each class in the batches that a sampler draws at a step."""
    run.step = at
    drawn = torch.cat([next(draw) for _ in range(batches)])
    return torch.bincount(run.train.labels[drawn], minlength=10) / len(drawn), drawn


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# ---------------------------------------------------------------- the two stages themselves

def test_features_are_those_that_the_head_sees_and_batch_norm_stays_as_it_was(data, trained):
    before, trained.run.model = state(trained.run.model), trained.run.model.train()
    found = as_features(trained.run, data.val)
    assert trained.run.model.training, "the mode is put back"
    assert same(before, state(trained.run.model)), "looking changes nothing"
    logits = trained.run.model.head(found.inputs)
    torch.testing.assert_close(logits, trained.predict(data.val), rtol=0.05, atol=0.05)  # bfloat16 on some machines
    assert torch.equal(found.labels, data.val.labels)
    trained.run.model.eval()


def test_balanced_batches_hold_as_much_of_each_class(data):
    run = a_run(data)
    share, _ = share_of_rows(run, balanced(run), 0, batches=80)
    torch.testing.assert_close(share, torch.full((10,), 0.1), atol=0.015, rtol=0)


def test_heads_give_each_its_logits_by_name(trained):
    heads = {"one": nn.Linear(64, 10), "other": nn.Linear(64, 10)}
    model = Heads(CompactNet(10).features, heads).eval()
    images = torch.rand(3, 1, 28, 28)
    logits = model(images)
    assert logits.shape == (3, 2, 10)
    run = replace(trained.run, model=model)
    for name in heads:
        torch.testing.assert_close(of_head(logits, run, name), heads[name](model.features(images)))


@pytest.mark.parametrize(("share", "first"), [(0.8, 8), (0.5, 5), (1, 10), (0.99, 9), (0.01, 1)])
def test_the_steps_of_both_stages_are_those_of_the_baseline(data, share, first):
    left = []
    found = two_stages(Recipe(), data, steps=10, batch_size=16, seed=0, share=share,
                       heads={"head": lambda stage: left.append(stage.steps) or stage.head})
    assert found.history[-1]["step"] == first and left == [10 - first]


def test_the_backbone_is_frozen_and_the_first_stage_is_that_of_plain_training(data):
    plain = fit(Recipe(), data, steps=8, batch_size=32, seed=3)
    heads = {"cRT": chapter.crt, "LWS": chapter.lws, "MiSLAS": chapter.mislas}
    found = two_stages(Recipe(), data, steps=10, batch_size=32, seed=3, heads=heads)
    assert same(state(plain.run.model.features), state(found.run.model.features)), "weights, means and variances"
    assert not found.run.model.training


def test_heads_of_one_procedure_share_one_training(data, monkeypatch):
    count = []
    monkeypatch.setattr(stages, "fit", lambda *given, **more: count.append(1) or fit(*given, **more))
    found = fit(replace(Recipe(), **chapter.TECHNIQUES["NCM"]), data, steps=2, batch_size=16)
    assert len(count) == 1 and len(found.run.model.heads) == 6
    assert chapter.TECHNIQUES["NCM"]["procedure"] is chapter.TECHNIQUES["τ-norm"]["procedure"]


def test_the_second_stage_has_the_recipes_rate_and_none_of_its_mixing(data, monkeypatch):
    seen = []

    def watched(recipe, data, **settings):
        seen.append((recipe.lr, recipe.mix, data.train.inputs.ndim, settings["steps"]))
        return fit(recipe, data, **settings)

    monkeypatch.setattr(stages, "fit", watched)
    recipe = replace(Recipe(lr=0.03), **chapter.TECHNIQUES["MiSLAS"])
    fit(recipe, data, steps=10, batch_size=16)
    assert seen == [(0.03, chapter.mixup, 4, 8), (0.03, None, 2, 2)]


def test_seconds_are_those_of_both_stages(data):
    found = two_stages(Recipe(), data, steps=4, batch_size=16, seed=0,
                       heads={"slow": lambda stage: setattr(stage, "seconds", 50.0) or stage.head})
    assert found.seconds > 50


# ---------------------------------------------------------------- schedules

def test_two_phase_learning_sees_at_most_t_of_a_class_and_then_all(data):
    run = a_run(data)
    draw = chapter.two_phase(run, most=20)
    share, rows = share_of_rows(run, draw, 0)
    run.step = 399
    rows = torch.cat([rows, next(draw)]).unique()
    counts = torch.bincount(run.train.labels[rows], minlength=10)
    assert torch.equal(counts, run.class_counts.long().clamp(max=20)), "the same few, all of them"
    assert float(share.max() / share[run.class_counts >= 20].min()) < 1.1
    _, later = share_of_rows(run, draw, 400)
    assert len(later.unique()) > 2 * len(rows)


def test_deferred_resampling_is_plain_to_the_last_fifth(data):
    run = a_run(data)
    draw, prior = chapter.deferred_resampling(run), run.class_counts / run.class_counts.sum()
    torch.testing.assert_close(share_of_rows(run, draw, 479)[0], prior, atol=0.02, rtol=0)
    torch.testing.assert_close(share_of_rows(run, draw, 480)[0], torch.full((10,), 0.1), atol=0.02, rtol=0)


def test_effective_weights_by_hand_and_their_mean_over_the_training_set_is_one():
    counts = torch.tensor([6000.0, 600, 60])
    weights = chapter.effective_weights(counts)
    by_hand = torch.tensor([0.03564, 0.27614, 2.68822])
    torch.testing.assert_close(3 * weights / weights.sum(), by_hand, atol=1e-4, rtol=0)
    assert float((weights * counts).sum() / counts.sum()) == pytest.approx(1, abs=1e-5)


def test_deferred_weights_from_step_480_on_and_divided_by_the_batch(data):
    run = a_run(data)
    run.class_counts = torch.tensor([6000.0, 600, 60])
    logits, labels = torch.tensor([[2.0, 0, 1], [0, 1, 0]]), torch.tensor([1, 2])
    losses = F.cross_entropy(logits, labels, reduction="none")
    run.step = 479
    torch.testing.assert_close(chapter.deferred_weights(logits, labels, run), losses.mean())
    run.step = 480
    weights = chapter.effective_weights(run.class_counts)
    expected = (weights[1] * losses[0] + weights[2] * losses[1]) / 2
    torch.testing.assert_close(chapter.deferred_weights(logits, labels, run), expected)


# ---------------------------------------------------------------- heads

def test_crt_forgets_the_old_head_and_learns_on_balanced_batches(stage, monkeypatch):
    asked = {}
    monkeypatch.setattr(Stage, "learn", lambda self, **hooks: asked.update(hooks) or nn.Linear(64, 10))
    chapter.crt(stage)
    assert asked == {"sampler": balanced}
    monkeypatch.undo()
    learned = chapter.crt(stage)
    assert isinstance(learned, nn.Linear) and not torch.equal(learned.weight, stage.head.weight)


def test_lws_learns_one_factor_a_class_and_nothing_else(stage):
    model = chapter.Scaled(stage.head)
    assert [name for name, one in model.named_parameters() if one.requires_grad] == ["scale"]
    assert model.scale.numel() == 10 and torch.equal(model.scale, torch.ones(10))
    F.cross_entropy(model(stage.features.train.inputs[:8]), stage.features.train.labels[:8]).backward()
    assert model.head.weight.grad is None and model.head.bias.grad is None and model.scale.grad.abs().sum() > 0
    learned = chapter.lws(stage)
    assert torch.equal(learned.head.weight, stage.head.weight) and not torch.equal(learned.scale, torch.ones(10))


def test_scaled_logits_by_hand():
    model = chapter.Scaled(nn.Linear(1, 2))
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor([[1.0], [2]]))
        model.head.bias.copy_(torch.tensor([0.0, 1]))
        model.scale.copy_(torch.tensor([3.0, 0.5]))
    assert model(torch.tensor([[2.0]])).tolist() == [[6.0, 2.5]]


def test_with_tau_one_the_length_of_a_classs_weights_does_not_matter():
    head, features = nn.Linear(5, 3), torch.randn(4, 5)
    longer = copy.deepcopy(head)
    with torch.no_grad():
        longer.weight[1] *= 7
    torch.testing.assert_close(chapter.normalised(head, 1)(features), chapter.normalised(longer, 1)(features))
    assert not torch.allclose(chapter.normalised(head, 0.5)(features), chapter.normalised(longer, 0.5)(features))
    torch.testing.assert_close(chapter.normalised(longer, 1).weight.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(chapter.normalised(longer, 0.5).weight.norm(dim=1), longer.weight.norm(dim=1).sqrt())


def test_the_bias_is_dropped_or_kept_and_the_head_left_alone():
    head = nn.Linear(5, 3)
    before = state(head)
    assert not chapter.normalised(head, 0).bias.any()
    assert torch.equal(chapter.normalised(head, 1, keep_bias=True).bias, head.bias)
    assert torch.equal(chapter.normalised(head, 0).weight, head.weight)
    assert same(before, state(head))


def test_the_adjusted_head_is_post_hoc_logit_adjustment(stage):
    counts, inputs = stage.features.class_counts, stage.features.val.inputs
    run = replace(stage.trained.run, class_counts=counts.float())
    for tau in (0.5, 1, 2):
        torch.testing.assert_close(chapter.adjusted(stage.head, tau, counts)(inputs),
                                   logit_adjustment(stage.head(inputs), run, tau))


def test_the_best_tau_is_that_of_the_validation_split(stage):
    def wrong_but_for(head, tau):
        """A head that answers with the first feature, off by one unless τ is the right one."""
        return lambda inputs: F.one_hot((inputs[:, 0].long() + (tau != 1.25)) % 10, 10).float()

    val = Split(stage.features.val.labels[:, None].float(), stage.features.val.labels)
    stage.features = replace(stage.features, val=val)
    stage.trained.run.model.head.out_features = 10
    made = {}

    class Spy:
        out_features = 10

        def __init__(self, head, tau):
            self.tau, self.call = tau, wrong_but_for(head, tau)
            made[tau] = self

        def __call__(self, inputs):
            return self.call(inputs)

    assert chapter.best_tau(stage, Spy).tau == 1.25
    assert list(made) == chapter.TAUS


def test_heads_without_training_are_what_their_names_say(stage):
    assert not chapter.bias_dropped(stage).bias.any()
    assert not chapter.tau_norm(stage).bias.any() and chapter.tau_norm(stage, keep_bias=True).bias.any()
    assert torch.equal(chapter.own_tau(stage).weight, stage.head.weight)
    assert chapter.ncm(stage).unit and not chapter.ncm(stage, unit=False).unit


def test_the_mean_of_a_class_of_one_point_is_the_point():
    points = Split(torch.tensor([[0.0, 0], [4, 0], [1, 3]]), torch.tensor([0, 0, 1]))
    plain = chapter.NearestMean(points, unit=False)
    assert plain.means.tolist() == [[2, 0], [1, 3]]
    logits = plain(torch.tensor([[1.0, 3]]))
    torch.testing.assert_close(logits, torch.tensor([[-10.0, 0]]))
    unit = chapter.NearestMean(points)
    middle = points.inputs.mean(0)
    torch.testing.assert_close(unit.means[1], F.normalize(points.inputs[2] - middle, dim=0))
    assert float(unit(points.inputs[2:])[0, 1]) == pytest.approx(0, abs=1e-5)
    torch.testing.assert_close(unit(middle + 9 * (points.inputs - middle)), unit(points.inputs))


def test_label_aware_smoothing_by_hand():
    counts = torch.tensor([6000.0, 600, 60])
    torch.testing.assert_close(chapter.smoothing(counts), torch.tensor([0.3, 0.04269, 0]), atol=1e-5, rtol=0)
    logits = torch.tensor([[2.0, 0, 1]])
    log_p = logits.log_softmax(1)[0]
    common = -(0.7 * log_p[0] + 0.15 * log_p[1] + 0.15 * log_p[2])
    torch.testing.assert_close(chapter.label_aware(logits, torch.tensor([0]), None, counts), common)
    torch.testing.assert_close(chapter.label_aware(logits, torch.tensor([2]), None, counts), -log_p[2])
    assert math.isclose(float(chapter.smoothing(torch.ones(4)).max()), 0.0), "equal classes: nothing is given away"


def test_mislas_learns_head_and_scale_with_the_counts_of_the_long_tail(stage, monkeypatch):
    asked = {}
    monkeypatch.setattr(Stage, "learn", lambda self, **hooks: asked.update(hooks))
    chapter.mislas(stage)
    model = asked["model"](10)
    assert all(one.requires_grad for one in model.parameters()) and torch.equal(model.head.weight, stage.head.weight)
    assert asked["sampler"] is balanced
    assert asked["loss"].keywords["counts"].tolist() == stage.features.class_counts.tolist()


def test_mixup_gives_distributions(data):
    run = a_run(data)
    mixed, targets = chapter.mixup(torch.rand(8, 1, 28, 28), torch.arange(8), run)
    assert mixed.shape == (8, 1, 28, 28) and targets.shape == (8, 10)
    torch.testing.assert_close(targets.sum(1), torch.ones(8))


# ---------------------------------------------------------------- what the page measures and draws

def test_batch_norm_drifts_in_training_mode_and_no_weight_changes(data, trained):
    before = state(trained.run.model)
    after = chapter.drifted(trained.run, 5)
    assert same(before, state(trained.run.model)), "the original is left alone"
    changed = {name for name, value in after.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all("running" in name or "num_batches" in name for name in changed)


def test_lengths_are_norms_and_biases():
    head = nn.Linear(2, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[3.0, 4], [0, 2]]))
        head.bias.copy_(torch.tensor([1.0, -1]))
    norms, biases = chapter.lengths(head)
    assert norms.tolist() == [5, 2] and biases.tolist() == [1, -1]


def test_a_new_head_is_learned_on_features_with_the_sampler_given(stage, monkeypatch):
    monkeypatch.setattr(chapter, "STEPS", 5)
    drawn = []

    def counted(run):
        for rows in shuffled(run):
            drawn.append(len(rows))
            yield rows

    head = chapter.new_head(stage.features, counted)
    assert isinstance(head, nn.Linear) and len(drawn) == 5 and not head.weight.requires_grad


def test_the_border_is_where_both_logits_are_equal():
    torch.manual_seed(0)
    head, features = nn.Linear(6, 3).requires_grad_(False), torch.randn(40, 6)
    labels = torch.arange(40) % 3
    middle, directions = chapter.plane(features, labels, 2, 0, head)
    torch.testing.assert_close(directions.T @ directions, torch.eye(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(middle, features[labels != 1].mean(0))
    heights = torch.tensor([-1.0, 0, 2])
    across = chapter.border(head, 2, 0, middle, directions, heights)
    logits = head(middle + torch.stack([across, heights], 1) @ directions.T)
    torch.testing.assert_close(logits[:, 2], logits[:, 0], atol=1e-5, rtol=0)


def test_every_head_on_every_backbone(data, monkeypatch):
    monkeypatch.setattr(chapter, "fit", partial(fit, batch_size=32))
    name, labels, counts, found = chapter.crossed("FashionMNIST", 0, 2, "stand-in")
    assert name == data.name and torch.equal(labels, data.test.labels) and torch.equal(counts, data.class_counts)
    heads = ["long tail", "long tail, adjusted", "balanced batches", "balanced set"]
    assert list(found) == [(source, head) for source in ("long tail", "balanced data") for head in heads]
    prior = (counts / counts.sum()).log()
    for source in ("long tail", "balanced data"):
        torch.testing.assert_close(found[source, "long tail, adjusted"], found[source, "long tail"] - prior)
    assert not torch.allclose(found["long tail", "long tail"], found["balanced data", "long tail"])
    assert not torch.allclose(found["long tail", "long tail"], found["long tail", "balanced set"])


def test_the_share_that_a_head_closes_by_hand(monkeypatch):
    ends = {"long tail | long tail": (0.80, 0.82), "long tail | long tail, adjusted": (0.84, 0.84),
            "long tail | balanced set": (0.86, 0.87), "balanced data | balanced set": (0.90, 0.92)}
    probes = pd.concat([tidy("FashionMNIST-LT", name, seed, {"balanced accuracy": value}, protocol="probe")
                        for name, found in ends.items() for seed, value in enumerate(found)])
    monkeypatch.setattr(chapter, "probes", probes, raising=False)
    adjusted, best = chapter.share_of_the_head("FashionMNIST-LT")
    assert adjusted.seen == pytest.approx((0.4, 0.2)) and best.seen == pytest.approx((0.6, 0.5))


def test_what_ended_at_chance_is_named():
    def run(name, dataset, seed, value):
        return tidy(dataset, name, seed, {"balanced accuracy": value, "recall": np.zeros(10)})

    table = pd.concat([run("good", "a", 0, 0.9), run("good", "b", 0, 0.16), run("bad", "a", 0, 0.1),
                       run("bad", "a", 1, 0.9), run("bad", "b", 0, 0.14)])
    assert collapsed(table) == {"bad": 2}


@pytest.mark.parametrize("name", chapter.TECHNIQUES)
def test_every_technique_trains(data, name):
    found = fit(Recipe(**chapter.TECHNIQUES[name]), data, steps=3, batch_size=16)
    logits = found.predict(data.val)
    assert logits.shape == (len(data.val), 10) and bool(torch.isfinite(logits).all())
