"""The loop: reproducible, equal steps, hooks in their places, nothing of the test split in training."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from helpers.datasets import Dataset, Split, long_tailed
from helpers.models import ConvNet, Linear, Net
from helpers.training import (
    Recipe,
    Run,
    fit,
    logit_adjustment,
    oversample,
    prepare,
    sgd,
    shuffled,
)


@pytest.fixture(scope="module")
def data():
    return long_tailed(data="stand-in")


def test_same_seed_same_numbers_bit_for_bit(data):
    first, again, other = (fit(Recipe(), data, steps=6, seed=seed).predict(data.test) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_loop_leaves_the_global_generators_alone(data):
    torch.manual_seed(0), np.random.seed(0)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(0), np.random.seed(0)
    fit(Recipe(model=Linear), data, steps=1, seed=9)
    assert (torch.rand(1), np.random.rand()) == expected


def test_every_recipe_gets_the_same_steps_however_large_its_data(data):
    seen = []

    def counted(run):
        for rows in shuffled(run):
            seen.append(len(rows))
            yield rows

    for recipe in (Recipe(model=Linear, sampler=counted), Recipe(model=Linear, sampler=counted, resample=oversample)):
        seen.clear()
        fit(recipe, data, steps=7, batch_size=32)
        assert seen == [32] * 7


def test_one_epoch_of_plain_sampling_is_every_row_once(data):
    run = prepare(Recipe(model=Linear), data.train, 10, 10, 100, seed=0)
    draw, rows = shuffled(run), []
    while len(rows) < len(data.train):
        rows += next(draw).tolist()
    assert sorted(rows[:len(data.train)]) == list(range(len(data.train)))


def test_training_looks_at_no_test_sample(data):
    poisoned = replace(data, test=Split(torch.full_like(data.test.inputs, 255), data.test.labels * 0))
    first, second = (fit(Recipe(model=Linear), each, steps=5) for each in (data, poisoned))
    assert torch.equal(first.predict(data.val), second.predict(data.val))
    assert first.history[-1]["balanced accuracy"] == second.history[-1]["balanced accuracy"]


def test_dropout_is_on_in_every_step_and_off_in_every_prediction(data):
    modes = []

    class Spy(Linear):
        def forward(self, inputs):
            modes.append(self.training)
            return super().forward(inputs)

    trained = fit(Recipe(model=Spy), data, steps=4, evaluate_every=1)  # erratum 5: evaluation must not stay on
    assert modes == [True, False] * 4
    trained.predict(data.test)
    assert modes[-1] is False


def test_hooks_are_called_in_order_and_posthoc_never_in_training(data):
    calls = []

    def note(name, value):
        calls.append(name)
        return value

    recipe = Recipe(
        model=Linear, augment=lambda x, run: note("augment", x),
        mix=lambda x, y, run: note("mix", (x, nn.functional.one_hot(y, 10).float())),
        loss=lambda z, t, run: note("loss", nn.functional.cross_entropy(z, t)),
        posthoc=lambda z, run: note("posthoc", z))
    fit(recipe, data, steps=2, evaluate_every=2)
    assert calls == ["augment", "mix", "loss"] * 2 + ["posthoc"]


def test_the_selected_weights_are_those_of_the_best_validation(data):
    trained = fit(Recipe(), data, steps=30, evaluate_every=3, seed=4)
    best = max(entry["balanced accuracy"] for entry in trained.history)
    logits = trained.predict(data.val, "validation")
    recall = [(logits.argmax(1)[data.val.labels == c] == c).float().mean() for c in range(10)]
    assert float(torch.stack(recall).mean()) == pytest.approx(best, abs=1e-6)
    last = trained.predict(data.val)
    assert torch.equal(last, trained.predict(data.val))  # looking at the selected weights changes nothing


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch_size": 0}])
def test_wrong_budget_is_named(data, wrong):
    with pytest.raises(ValueError, match="must be 1 or more"):
        fit(Recipe(), data, **wrong)


def test_wrong_selection_is_named(data):
    with pytest.raises(ValueError, match="'test' is unknown; choose last or validation"):
        fit(Recipe(model=Linear), data, steps=1).predict(data.test, "test")


def test_oversampling_equalises_and_keeps_the_originals_first(data):
    larger = oversample(data.train, 0)
    assert set(torch.bincount(larger.labels).tolist()) == {int(data.class_counts.max())}
    assert torch.equal(larger.inputs[:len(data.train)], data.train.inputs)


def test_logit_adjustment_by_hand():
    run = prepare(Recipe(model=lambda classes: Linear(classes, 1)),
                  Split(torch.zeros(10, 1), torch.tensor([0] * 8 + [1] * 2)), 2, 1, 1, seed=0)
    adjusted = logit_adjustment(torch.tensor([[1.0, 0.0]]), run)
    assert torch.allclose(adjusted, torch.tensor([[1 - np.log(0.8), -np.log(0.2)]], dtype=torch.float32))
    assert adjusted.argmax() == 1  # the rare class wins once its prior is taken off


def test_feature_vectors_are_left_as_they_are():
    inputs = torch.randn(40, 3) * 50
    data = Dataset("toy", ("a", "b"), *[Split(inputs, (inputs[:, 0] > 0).long())] * 3)
    seen = []
    spy = lambda run, x, y: (seen.append(x), run.recipe.loss(run.forward(x), y, run))[1]  # noqa: E731
    fit(Recipe(model=lambda classes: Linear(classes, 3), objective=spy), data, steps=1, batch_size=8)
    assert set(map(tuple, seen[0].tolist())) <= set(map(tuple, inputs.tolist()))


@pytest.mark.parametrize("model", [Linear, Net, ConvNet])
def test_a_model_learns_a_handful_by_heart(data, model):
    handful = data.train[torch.tensor([int((data.train.labels == label).nonzero()[0]) for label in range(10)])]
    gentle = Recipe(model=model, optimizer=partial(sgd, lr=0.02))
    trained = fit(gentle, replace(data, train=handful, val=handful), steps=200, batch_size=10)
    assert (trained.predict(handful).argmax(1) == handful.labels).float().mean() >= 0.9


def test_pooling_before_the_rectifier_is_the_published_order():
    convolved = torch.randn(2, 32, 24, 24)
    pool, relu = nn.MaxPool2d(2), nn.ReLU()
    assert torch.equal(pool(relu(convolved)), relu(pool(convolved)))


def test_run_reports_progress():
    run = Run(None, None, torch.zeros(2), None, 10, 1, None, None, None, None, step=5)
    assert run.progress == 0.5
