"""The chapter on ensembles: the cascade's kept rate, the focal objective, weights, tuning and ranks, by hand."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from helpers.cases import Case
from helpers.chapters import load
from helpers.metrics import holm
from helpers.undersampling import self_paced, uniform

ensembles = load("tables/ensembles")


# ---------------------------------------------------------------- the cascade

def left_after(rounds, common, rare):
    cascade, rng, sizes = ensembles.Cascade(rounds), np.random.default_rng(0), []
    hardness = rng.random(common)
    for number in range(rounds):
        chosen = cascade(number, hardness, rare, rng)
        sizes.append(len(cascade.left))
        assert len(np.unique(chosen)) == len(chosen) == rare and set(chosen) <= set(cascade.left)
    return sizes, cascade, hardness


def test_the_cascade_keeps_the_published_share_each_round():
    assert left_after(4, 1000, 8)[0] == [1000, 200, 40, 8]  # f = (8 / 1000)^(1/3) = 1/5
    assert left_after(10, 512, 1)[0] == [512, 256, 128, 64, 32, 16, 8, 4, 2, 1]


def test_the_cascade_keeps_the_hardest_and_what_it_dropped_never_returns():
    _, cascade, hardness = left_after(4, 1000, 8)
    assert sorted(hardness[cascade.left]) == sorted(hardness)[-8:]
    again = cascade(3, -hardness, 8, np.random.default_rng(1))
    assert set(again) <= set(cascade.left) and sorted(hardness[cascade.left]) == sorted(hardness)[-8:]


def test_among_equally_hard_rows_chance_decides_what_stays():
    kept = []
    for seed in range(300):
        cascade, rng = ensembles.Cascade(2), np.random.default_rng(seed)
        cascade(0, np.zeros(10), 5, rng)
        cascade(1, np.zeros(10), 5, rng)
        kept.append(cascade.left)
    assert (abs(np.bincount(np.concatenate(kept), minlength=10) / 300 - 0.5) < 0.12).all()


def test_a_new_fit_begins_with_all_rows():
    cascade, rng = ensembles.Cascade(3), np.random.default_rng(0)
    for number in range(3):
        cascade(number, rng.random(100), 4, rng)
    cascade(0, np.zeros(100), 4, rng)
    assert len(cascade.left) == 100


def test_the_log_of_choices_shows_what_was_left():
    X, y = ensembles.clouds(common=200, rare=10)
    assert np.bincount(y).tolist() == [200, 10] and X[y == 1].mean(0) == pytest.approx([1.5, 1.5], abs=0.6)
    log = ensembles.chosen_rows(X, y, ensembles.Cascade(5), rounds=5)
    assert [len(left) for _, left in log] == [200, 95, 45, 21, 10]  # 200 · (1/20)^(i/4)
    assert all(len(rows) == 10 for rows, _ in log)
    assert [len(left) for _, left in ensembles.chosen_rows(X, y, uniform, rounds=2)] == [200, 200]


def test_of_mislabelled_rare_points_the_cascade_has_most():
    seeds = range(8)
    kept, paced = (np.mean([ensembles.wrong_among_chosen(choose, seed=seed) for seed in seeds]) for choose in
                   (ensembles.Cascade(10), partial(self_paced, rounds=10)))
    assert 1 < kept <= 6 and kept > 1.5 * paced


# ---------------------------------------------------------------- weights and losses

def test_the_focal_objective_is_the_derivative_of_the_focal_loss():
    y, x = np.array([0, 1, 0, 1, 1]), np.array([-1.0, 0.5, 1.5, -0.7, 2.0])

    def loss(x, gamma=2):
        q = expit((2 * y - 1) * x)
        return -((1 - q) ** gamma) * np.log(q)

    gradient, curvature = ensembles.focal(y, x)
    step = 1e-5
    assert gradient == pytest.approx((loss(x + step) - loss(x - step)) / (2 * step), abs=1e-8)
    numeric = (ensembles.focal(y, x + step)[0] - ensembles.focal(y, x - step)[0]) / (2 * step)
    assert curvature == pytest.approx(numeric, abs=1e-8)


def test_without_gamma_the_focal_objective_is_that_of_cross_entropy():
    y, x = np.array([0, 1, 1]), np.array([-2.0, 0.3, -3.0])
    gradient, curvature = ensembles.focal(y, x, gamma=0.0)
    assert gradient == pytest.approx(expit(x) - y)
    assert curvature == pytest.approx(expit(x) * (1 - expit(x)))


def test_where_the_loss_is_not_convex_the_curvature_stays_positive():
    assert ensembles.focal(np.array([1]), np.array([-3.0]))[1] > 0


def test_both_classes_weigh_the_same():
    y = np.repeat([0, 1], [9, 1])
    assert ensembles.weights(y)[[0, 9]] == pytest.approx([10 / 18, 5])
    assert ensembles.weights(y)[y == 0].sum() == pytest.approx(ensembles.weights(y)[y == 1].sum())


def blobs(common=300, rare=30, gap=2.0, seed=0):
    rng = np.random.default_rng(seed)
    y = np.repeat([0, 1], [common, rare])
    return rng.normal(size=(common + rare, 2)) + gap * y[:, None], y


def test_weights_lift_the_networks_scores_as_much_as_the_classes_differ():
    X, y = blobs(gap=1.0)
    plain, weighted = (ensembles.mlp(X, y, 0.01, way, 300, 0)(X) for way in (False, True))
    assert plain.mean() == pytest.approx(y.mean(), abs=0.02)
    moved = np.log(weighted / (1 - weighted)) - np.log(plain / (1 - plain))
    assert np.median(moved) == pytest.approx(np.log(10), abs=0.7)


@pytest.mark.parametrize("name", ensembles.GRID)
def test_every_method_finds_two_clouds_that_lie_apart(name):
    X, y = blobs(gap=4.0)
    score = ensembles.fit(name, ensembles.GRID[name][1], X, y, 0, 80)
    new, truth = blobs(gap=4.0, seed=1)
    found = score(new)
    assert found.shape == (330,) and found.min() >= 0 and found.max() <= 1
    assert sk.roc_auc_score(truth, found) > 0.95


def named(name, setting=1):
    return ensembles.estimator(name, setting, np.repeat([0, 1], [90, 10]), seed=5)


def test_what_is_done_to_a_method_is_done_once_and_to_the_training_rows():
    assert named("XGBoost + weights").scale_pos_weight == 9 and named("XGBoost").scale_pos_weight == 1
    assert named("logistic regression + weights").class_weight == "balanced"
    assert named("logistic regression").class_weight is None
    for remedy, common, rare in (("oversampling", 90, 90), ("undersampling", 10, 10), ("SMOTE", 90, 90)):
        pipeline = named(f"XGBoost + {remedy}")
        X = np.random.default_rng(0).normal(size=(100, 2))
        counts = np.bincount(pipeline[0].fit_resample(X, np.repeat([0, 1], [90, 10]))[1])
        assert counts.tolist() == [common, rare]
        assert pipeline[1].scale_pos_weight == 1  # not weighted as well
    few = ensembles.estimator("XGBoost + SMOTE", 1, np.repeat([0, 1], [90, 3]), 0)
    assert few[0].k_neighbors == 2


def test_settings_reach_the_models_and_trees_are_as_many_as_the_page_says():
    for name, setting in (("bagging", 10), ("random forest", 10), ("balanced random forest", 10)):
        model = named(name, setting)
        assert model.n_estimators == ensembles.TREES
        assert getattr(model, "estimator" if name == "bagging" else "min_samples_leaf") is not None
    assert named("random forest", 10).min_samples_leaf == 10
    assert named("bagging", 10).estimator.min_samples_leaf == 10
    assert named("AdaBoost + weights", 3).estimator.max_depth == 3
    easy = named("EasyEnsemble", 2)
    assert easy.n_estimators * easy.estimator.n_estimators == 50 and easy.estimator.estimator.max_depth == 2
    assert named("XGBoost", 0.3).learning_rate == 0.3 and named("SVM + weights", 10).C == 10
    assert len({len(settings) for settings in ensembles.GRID.values()}) == 1


def test_adaboost_gets_the_weights(monkeypatch):
    seen = {}

    class Recorded:
        def fit(self, X, y, **extra):
            seen.update(extra)
            return self

    monkeypatch.setattr(ensembles, "estimator", lambda *_: Recorded())
    y = np.repeat([0, 1], [9, 1])
    ensembles.fit("AdaBoost + weights", 1, np.zeros((10, 1)), y, 0, 1)
    assert seen["sample_weight"].tolist() == ensembles.weights(y).tolist()
    seen.clear()
    ensembles.fit("random forest", 1, np.zeros((10, 1)), y, 0, 1)
    assert not seen


# ---------------------------------------------------------------- protocol

def test_the_setting_comes_from_validation_rows_of_the_tuning_split(monkeypatch):
    asked = []

    def drawn(table, data, rows, seed):
        asked.append(seed)
        nothing = np.zeros((4, 1))
        return Case((nothing, np.array([0, 0, 1, 1])), (nothing, np.array([0, 1, 0, 1])), (nothing, None))

    def fit(name, setting, X, y, seed, steps):
        scores = {0.03: [0, 1, 1, 0], 0.1: [0, 1, 0, 1], 0.3: [1, 0, 1, 0]}[setting]
        return lambda rows: np.array(scores)

    monkeypatch.setattr(ensembles, "draw", drawn)
    monkeypatch.setattr(ensembles, "fit", fit)
    assert ensembles.tune("XGBoost", "any", "real", 10, 1) == 0.1
    assert asked == [1000]


def test_a_run_fits_to_training_rows_and_leaves_the_svm_without_a_brier_score():
    plain = ensembles.run("logistic regression", 1, "Wilt", "stand-in", 1000, 1, 0)
    case = ensembles.draw("Wilt", "stand-in", 1000, 0)
    line = LogisticRegression(C=1, max_iter=1000).fit(*case.train)
    assert plain["PR-AUC"] == sk.average_precision_score(case.test[1], line.predict_proba(case.test[0])[:, 1])
    assert plain["seconds"] > 0 and "Brier score" in plain
    assert "Brier score" not in ensembles.run("SVM + weights", 1, "Wilt", "stand-in", 300, 1, 0)


def test_ranks_and_p_values_by_hand():
    table = pd.DataFrame([[0.9, 0.8, 0.7, 0.6, 0.9, 0.8], [0.8, 0.7, 0.6, 0.5, 0.8, 0.7],
                          [0.85, 0.6, 0.9, 0.4, 0.7, 0.9]], index=["good", "XGBoost", "mixed"])
    ranks = ensembles.ranked(table, "XGBoost")
    assert ranks["rank"].to_dict() == pytest.approx({"good": 8 / 6, "XGBoost": 15 / 6, "mixed": 13 / 6})
    assert np.isnan(ranks["p"]["XGBoost"])
    assert ranks["p"]["good"] == pytest.approx(2 * 2 / 2**6)  # all six alike: 2 · 2⁻⁶, and Holm doubles the smaller one
    assert holm([0.03125, 0.5])[0] == pytest.approx(ranks["p"]["good"])
