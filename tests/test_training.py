"""The loop: reproducible, equal steps, hooks in their places, nothing of the test split in training."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from helpers.datasets import Dataset, Split, long_tailed
from helpers.machine import in_bfloat16
from helpers.models import CompactNet, ConvNet, Linear, Net
from helpers.training import (
    Diverged,
    Recipe,
    Run,
    fit,
    logit_adjustment,
    oversample,
    pixel_moments,
    prepare,
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

    trained = fit(Recipe(model=Spy), data, steps=4, evaluate_every=1)  # E5: evaluation must not stay on
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


def test_on_a_long_tailed_validation_split_the_most_accurate_weights_are_others():
    class Threshold(nn.Module):
        """Class 1 above a number that the objective sets."""

        def __init__(self, classes):
            super().__init__()
            self.number, self.weight = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

        def forward(self, inputs):
            return torch.cat([inputs * 0, inputs - self.number], 1)

    def objective(run, inputs, labels):
        run.model.number.data.fill_((9.0, 3.2, 6.5)[run.step])
        return run.model.weight ** 2

    nine_and_one = Split(torch.tensor([*range(9), 3.5])[:, None], torch.tensor([0] * 9 + [1]))
    trained = fit(Recipe(model=Threshold, objective=objective), Dataset("toy", ("0", "1"), *[nine_and_one] * 3),
                  steps=3, batch_size=2, evaluate_every=1)
    found = {select: int(trained.predict(nine_and_one, select).argmax(1).sum())
             for select in ("validation", "validation accuracy", "last")}
    assert found == {"validation": 6, "validation accuracy": 0, "last": 2}


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch_size": 0}, {"steps": 2.5}])
def test_wrong_budget_is_named(data, wrong):
    with pytest.raises(ValueError, match="must be a whole number, 1 or more"):
        fit(Recipe(), data, **wrong)


def test_wrong_selection_is_named(data):
    with pytest.raises(ValueError, match="'test' is unknown; choose last, validation or validation accuracy"):
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


@pytest.mark.parametrize("model", [Linear, Net, ConvNet, CompactNet])
def test_a_model_learns_a_handful_by_heart(data, model):
    handful = data.train[torch.tensor([int((data.train.labels == label).nonzero()[0]) for label in range(10)])]
    gentle = Recipe(model=model, lr=0.02)
    trained = fit(gentle, replace(data, train=handful, val=handful), steps=200, batch_size=10)
    assert (trained.predict(handful).argmax(1) == handful.labels).float().mean() >= 0.9


def test_pooling_before_the_rectifier_is_the_published_order():
    convolved = torch.randn(2, 32, 24, 24)
    pool, relu = nn.MaxPool2d(2), nn.ReLU()
    assert torch.equal(pool(relu(convolved)), relu(pool(convolved)))


def test_run_reports_progress():
    run = Run(None, None, torch.zeros(2), None, 10, 1, None, None, None, None, step=5)
    assert run.progress == 0.5


@pytest.mark.parametrize(("split", "words"), [
    (Split(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)), "at least one"),
    (Split(torch.zeros(3, 3), torch.zeros(2, dtype=torch.long)), "3 inputs and 2 labels in train"),
    (Split(torch.zeros(2, 3), torch.tensor([0, 2])), "labels from 0 to 2 in train, but there are 2 classes"),
    (Split(torch.zeros(2, 3), torch.tensor([-1, 0])), "labels from -1 to 0")])
def test_data_that_cannot_be_learned_from_are_named(split, words):
    fine = Split(torch.zeros(2, 3), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=words):
        fit(Recipe(), Dataset("toy", ("a", "b"), split, fine, fine), steps=1)


def test_a_recipe_and_a_data_set_are_asked_for(data):
    with pytest.raises(TypeError, match="recipe is a NoneType; it must be a Recipe"):
        fit(None, data, steps=1)
    with pytest.raises(TypeError, match="it must be a Dataset"):
        fit(Recipe(), lambda seed: data, steps=1)


def test_a_loss_that_is_no_number_stops_at_its_step(data):
    def loss(logits, targets, run):
        return logits.sum() * (torch.nan if run.step == 2 else 1)

    with pytest.raises(Diverged, match=r"nan at step 3 of 9, learning rate 0\.01"):
        fit(Recipe(loss=loss, lr=0.01), data, steps=9)


def test_a_procedure_takes_the_place_of_the_loop(data):
    def twice(recipe, data, *, steps, batch_size, seed):
        assert recipe.procedure is None
        first = fit(recipe, data, steps=steps - 1, batch_size=batch_size, seed=seed)
        first.seconds += 100
        return first

    assert fit(Recipe(procedure=twice), data, steps=3).history[-1]["step"] == 2


def test_a_class_without_samples_is_never_predicted_after_logit_adjustment(data):
    run = prepare(Recipe(), data.train, 10, 1, 8, 0)
    run.class_counts[3] = 0
    adjusted = logit_adjustment(torch.zeros(2, 10), run)
    assert torch.isneginf(adjusted[:, 3]).all() and adjusted.isfinite().sum() == 18


def test_pixels_are_counted_as_they_would_be_averaged(data):
    images = data.train.inputs
    mean, std = pixel_moments(images)
    assert (mean, std) == (pytest.approx((images.float() / 255).mean().item(), abs=1e-6),
                           pytest.approx((images.float() / 255).std().item(), abs=1e-6))


def test_half_precision_can_be_switched_off(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert in_bfloat16(torch.device("cpu"))
    monkeypatch.setenv("BOOK_BF16", "off")
    assert not in_bfloat16(torch.device("cpu"))
