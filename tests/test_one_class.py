"""One-class learning: scores, the trap of the constant map, thresholds from the majority, labels by the handful."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics as sk

from helpers.cases import Case, by_table, draw
from helpers.chapters import load
from helpers.results import tidy

one_class = load("tables/one_class")


def cloud(rows=300, features=4, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, features))


# ---------------------------------------------------------------- Deep SVDD and its trap

def test_a_network_without_biases_cannot_map_all_rows_to_a_centre_off_zero():
    net, center = one_class.layers(4, 32, 8, bias=False), torch.full((8,), 0.5)
    assert [name for name, _ in net.named_parameters() if "bias" in name] == []
    assert (net(torch.zeros(1, 4)) == 0).all()  # zero stays at zero, whatever the weights
    other = one_class.layers(4, 32, 8, bias=True)
    with torch.no_grad():
        for value in other.parameters():
            value.zero_()
        other[-1].bias.copy_(center)
    assert ((other(torch.randn(50, 4)) - center) ** 2).sum() == 0  # the constant map: no loss, and nothing found


def test_with_biases_or_a_centre_at_zero_the_distances_collapse():
    X, steps = cloud(), 400
    rows = torch.tensor(X, dtype=torch.float32)
    ways = {"right": {}, "biases": {"bias": True}, "zero": {"center": torch.zeros(8)}}
    left = {way: float(one_class.deep_svdd(X, steps, 0, **options)(rows).mean().detach()
                       / one_class.deep_svdd(X, 0, 0, **options)(rows).mean().detach())
            for way, options in ways.items()}
    assert left["right"] > 5 * left["biases"] and left["right"] > 5 * left["zero"]
    assert left["right"] < 0.5  # it has learned


def test_collapse_reports_the_three_set_ups(monkeypatch):
    asked = []

    def svdd(X, steps, seed, bias=False, center=None):
        asked.append((len(X), steps, bias, center is not None))
        return lambda rows: torch.full((len(rows),), 2.0 if steps == 0 else 0.5)

    monkeypatch.setattr(one_class, "deep_svdd", svdd)
    assert set(one_class.collapse("Wilt", "stand-in", 500, 7, 0).values()) == {0.25}
    common = int((draw("Wilt", "stand-in", 500, 0).train[1] == 0).sum())
    assert asked == [(common, steps, bias, zero) for bias, zero in ((False, False), (True, False), (False, True))
                     for steps in (7, 0)]


def test_the_centre_is_the_mean_of_the_first_pass_pushed_off_zero():
    center = torch.tensor([0.5, 0.03, -0.03, -2.0, 0.0])
    assert one_class.pushed_off_zero(center).tolist() == pytest.approx([0.5, 0.1, -0.1, -2.0, 0.1])
    X = cloud()
    torch.manual_seed(3)
    net = one_class.layers(4, 32, 8, bias=False)
    rows = torch.tensor(X, dtype=torch.float32)
    center = one_class.pushed_off_zero(net(rows).mean(0))
    expected = ((net(rows) - center) ** 2).sum(1)
    assert torch.allclose(one_class.deep_svdd(X, 0, 3)(rows), expected)


def test_training_draws_the_common_rows_together_and_a_stranger_stays_outside():
    X = cloud(500)
    score = one_class.strangeness("Deep SVDD", X, 200, 0)
    assert np.median(score(cloud(100, seed=1) + 6)) > 5 * np.median(score(X))


def test_the_autoencoder_restores_what_it_knows():
    rng = np.random.default_rng(0)
    line = rng.normal(size=(400, 1)) * np.array([1.0, 2.0, -1.0])
    score = one_class.strangeness("autoencoder", line, 400, 0)
    assert np.median(score(line)) < 0.1 < np.median(score(line * [1, 1, -1]))  # same spread, another direction
    before = one_class.strangeness("autoencoder", line, 0, 0)
    assert np.median(before(line)) > 5 * np.median(score(line))
    rows = torch.tensor(line, dtype=torch.float32)
    assert one_class.autoencoder(line, 0, 0)(rows).shape == (400,)


@pytest.mark.parametrize("method", one_class.ALONE)
def test_every_method_calls_strange_rows_strange(method):
    X = cloud(400)
    score = one_class.strangeness(method, X, 150, 0)
    rows = np.concatenate([cloud(200, seed=1), cloud(50, seed=2) * 0.5 + 5])
    assert sk.roc_auc_score(np.repeat([0, 1], [200, 50]), score(rows)) > 0.95


def test_nu_is_the_share_outside():
    X = cloud(1000, 2)
    model = one_class.OneClassSVM(nu=0.1).fit(X)
    assert (model.predict(X) == -1).mean() == pytest.approx(0.1, abs=0.02)


# ---------------------------------------------------------------- threshold and protocol

def test_the_threshold_looks_at_common_validation_rows_alone():
    val_y, test_y = np.repeat([0, 1], [100, 20]), np.array([0, 0, 1, 1])
    nothing = np.zeros((1, 1))
    case = Case((nothing, np.zeros(8)), (nothing, val_y), (nothing, test_y))
    val = np.concatenate([np.arange(100.0), np.full(20, -50.0)])
    found = one_class.judge(case, val, np.array([94.0, 94.2, 94.0, 99.0]), allowed=0.05)
    assert found["false alarms"] == 0.5 and found["recall at 5 % false alarms"] == 0.5  # the threshold is 94.05
    val[100:] = 1e6
    assert one_class.judge(case, val, np.array([94.0, 94.2, 94.0, 99.0])) == found
    assert found["ROC-AUC"] == 0.625 and found["test to train"] == 0.5


def test_one_class_methods_see_no_rare_row_unless_contaminated(monkeypatch):
    seen = []

    def recorded(method, X, steps, seed):
        seen.append(X)
        return lambda rows: rows[:, 0]

    monkeypatch.setattr(one_class, "strangeness", recorded)
    found = one_class.one_class("Deep SVDD", "Wilt", "stand-in", 600, 1, 0)
    case = draw("Wilt", "stand-in", 600, 0)
    X, y = case.train
    assert [len(rows) for rows in seen] == [(y == 0).sum(), len(y)]
    assert all(np.allclose(rows.mean(0), 0, atol=1e-8) for rows in seen)  # scaled by what it may see
    assert np.allclose(seen[0] * X[y == 0].std(0) + X[y == 0].mean(0), X[y == 0])
    assert list(found) == ["Deep SVDD", "Deep SVDD, contaminated"]


def test_a_classifier_gets_so_many_rare_rows_and_all_common_ones(monkeypatch):
    seen = []

    class Recorded:
        def fit(self, X, y):
            seen.append((X, y))
            return self

        def predict_proba(self, X):
            return np.stack([1 - X[:, 0], X[:, 0]], 1)

    monkeypatch.setattr(one_class, "classifier", lambda method, seed: Recorded())
    found = one_class.labelled("XGBoost", "Wilt", "stand-in", 600, 0)
    X, y = draw("Wilt", "stand-in", 600, 0).train
    assert [int(labels.sum()) for _, labels in seen] == [1, 2, 4, 8, 16, int(y.sum())]
    assert all((labels == 0).sum() == (y == 0).sum() for _, labels in seen)
    rare = [{row.tobytes() for row in rows[labels == 1]} for rows, labels in seen]
    assert all(few < more for few, more in pairwise(rare))  # more rows, never others
    assert rare[-1] == {row.tobytes() for row in X[y == 1]}
    assert next(iter(found)) == "XGBoost, 1 labelled" and list(found)[-1] == "XGBoost, all labelled"
    assert found["XGBoost, all labelled"]["labelled rare rows"] == y.sum()


def test_the_two_classifiers():
    assert one_class.classifier("logistic regression", 0).class_weight == "balanced"
    assert type(one_class.classifier("XGBoost", 0)).__name__ == "XGBClassifier"


def test_a_curve_goes_from_one_label_to_all_of_them():
    rows = [tidy("Wilt", f"XGBoost, {count} labelled", seed, {"PR-AUC": 0.1 * place + 0.02 * seed,
                                                              "labelled rare rows": many})
            for place, (count, many) in enumerate(((1, 1), (2, 2), (16, 16), ("all", 27))) for seed in (0, 1)]
    rows += [tidy("Wilt", "XGBoost2, 1 labelled", 0, {"PR-AUC": 0.9, "labelled rare rows": 1})]
    results = pd.concat(rows, ignore_index=True)
    counts, values = one_class.curve(results, "XGBoost", "Wilt")
    assert counts == [1, 2, 16, 27] and values == pytest.approx([0.01, 0.11, 0.21, 0.31])
    assert by_table(results, "PR-AUC").loc["XGBoost, 16 labelled", "Wilt"] == pytest.approx(0.21)
