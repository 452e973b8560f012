"""The networks that are tried before any remedy, how they are tried, and what is compared on three of them."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import nn

from helpers.chapters import load
from helpers.datasets import long_tailed
from helpers.experiments import BASELINES, TUNING_SEED
from helpers.results import tidy
from helpers.training import Diverged

chapter = load("foundations/before_any_remedy")


@pytest.mark.parametrize("network", [chapter.Net, chapter.ConvNet])
def test_without_dropout_the_same_weights_see_the_same_and_nothing_is_left_to_chance(network):
    whole, images = network(10).eval(), torch.rand(4, 1, 28, 28)
    expected = whole(images)
    plain = chapter.without_dropout(whole).train()
    assert torch.allclose(plain(images), expected)
    assert torch.equal(plain(images), plain(images))


@pytest.mark.parametrize(("network", "parent"), [(chapter.plain_net, chapter.Net),
                                                 (chapter.plain_convnet, chapter.ConvNet)])
def test_the_plain_copy_is_its_parents_but_for_the_dropout(network, parent):
    kept = [type(layer) for layer in parent(10).features if not isinstance(layer, nn.Dropout | nn.Dropout2d)]
    assert [type(layer) for layer in network(10).features] == kept
    assert len(kept) < len(parent(10).features)


def test_batch_norm_follows_each_convolution_and_no_dropout_is_left():
    layers = list(chapter.batch_norm_net(10).features)
    for place, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d):
            assert isinstance(layers[place + 1], nn.BatchNorm2d)
            assert layers[place + 1].num_features == layer.out_channels
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in layers) == 2
    assert not [layer for layer in layers if isinstance(layer, nn.Dropout | nn.Dropout2d)]


@pytest.mark.parametrize("network", chapter.NETWORKS)
def test_every_candidate_makes_ten_logits(network):
    assert chapter.NETWORKS[network][0](10)(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_a_dear_network_takes_fewer_steps_and_each_at_least_one(monkeypatch):
    assert chapter.steps_of("CompactNet") == chapter.STEPS == 400
    assert chapter.steps_of("Net") == 280
    monkeypatch.setattr(chapter, "STEPS", 1)
    assert all(chapter.steps_of(network) == 1 for network in chapter.NETWORKS)


def test_a_draw_is_of_its_arena_and_its_seed():
    digits, garments = (chapter.draw(arena, "stand-in", 3) for arena in ("digits", "garments"))
    assert "Fashion" in garments.name and "Fashion" not in digits.name
    assert torch.equal(garments.train.inputs, long_tailed("FashionMNIST", seed=3, data="stand-in").train.inputs)
    assert not torch.equal(garments.val.inputs, chapter.draw("garments", "stand-in", 4).val.inputs)


def test_candidates_are_judged_on_validation_of_the_tuning_draw(monkeypatch):
    asked = []

    def blind(name, *, seed, data):
        asked.append(seed)
        drawn = long_tailed(name, seed=seed, data=data)
        return replace(drawn, test=replace(drawn.test, inputs=None, labels=None))

    monkeypatch.setattr(chapter, "long_tailed", blind)
    monkeypatch.setattr(chapter, "STEPS", 2)
    score, seconds = chapter.tried("CompactNet", "digits", 0.1, "stand-in")
    assert asked == [TUNING_SEED]
    assert 0 <= score <= 1
    assert seconds > 0


def test_a_candidate_that_diverges_has_no_score(monkeypatch):
    def diverges(*_, **__):
        raise Diverged("the loss is nan")

    monkeypatch.setattr(chapter, "fit", diverges)
    assert all(map(pd.isna, chapter.tried("Net", "digits", 0.64, "stand-in")))


def test_each_network_meets_the_strong_baselines_and_nothing_else_changes(monkeypatch):
    def noted(recipes, data, *, seeds, steps, rates):
        return recipes, data(5).name, seeds, steps, rates

    monkeypatch.setattr(chapter, "compare", noted)
    recipes, name, seeds, steps, rates = chapter.on_network("Net", "garments", [7], [0.1], "stand-in")
    assert (name, seeds, steps, rates) == ("stand-in for FashionMNIST-LT", [7], 280, [0.1])
    assert list(recipes) == ["baseline, Net", "logit adjustment, Net", "random oversampling, Net"]
    for (remedy, hooks), recipe in zip(BASELINES.items(), recipes.values(), strict=True):
        assert recipe == chapter.Recipe(model=chapter.Net, **hooks), remedy


def test_the_gain_is_the_remedys_minus_the_others_on_the_same_network(monkeypatch):
    found = {"baseline": 0.94, "random oversampling": 0.95, "baseline, Net": 0.7, "random oversampling, Net": 0.8}
    table = pd.concat([
        tidy("MNIST-LT", technique, seed, {"balanced accuracy": value + seed / 100, "accuracy": value**2})
        for technique, value in found.items() for seed in (0, 1, 2)])
    monkeypatch.setattr(chapter, "results", table, raising=False)
    assert chapter.gain("Net", "baseline", "MNIST-LT").mean == pytest.approx(0.1)
    assert chapter.gain("CompactNet", "baseline", "MNIST-LT").mean == pytest.approx(0.01)
    assert chapter.gain("Net", "baseline", "MNIST-LT", metric="accuracy").mean == pytest.approx(0.15)
