"""Foundations: closed forms, metrics, corrections and estimators against values worked out by hand or by a library."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import hypergeom, norm
from sklearn import metrics as sk
from sklearn.ensemble import AdaBoostClassifier
from sklearn.tree import DecisionTreeClassifier

from helpers.chapters import load
from helpers.results import mean
from helpers.tables import load_table

ratio = load("foundations/is_it_the_ratio")
thresholds = load("foundations/metrics_and_thresholds")


# ---------------------------------------------------------------- is it the ratio?

def test_the_rare_points_of_a_seed_are_the_same_whatever_the_ratio():
    few, many = ratio.draw(20, 20, 3, [5, 0])[0], ratio.draw(20, 2000, 3, [5, 0])[0]
    assert np.array_equal(few[:20], many[:20])
    points, labels = ratio.draw(5000, 5000, 3, 0)
    assert labels[:5000].all() and not labels[5000:].any()
    assert np.allclose(points[:5000].mean(0), [3, 0], atol=0.06) and np.allclose(points[5000:].mean(0), 0, atol=0.06)
    assert np.allclose(points[labels == 1].std(0), 1, atol=0.05)


def test_the_all_knowing_rule_by_hand_and_by_counting():
    assert ratio.all_knowing(2) == pytest.approx(norm.cdf(1))
    assert ratio.all_knowing(2, 100) == pytest.approx(0.5479, abs=1e-4)  # Φ(1 + 2.303) = .9995, Φ(1 − 2.303) = .0964
    points, labels = ratio.draw(200_000, 200_000, 2, 0)
    found = 2 * points[:, 0] - 2 - np.log(100) > 0
    assert sk.balanced_accuracy_score(labels, found) == pytest.approx(ratio.all_knowing(2, 100), abs=0.003)


def test_logistic_regression_without_a_penalty_finds_the_true_log_odds():
    inputs, labels = ratio.draw(4000, 40_000, 2, 0)
    line = ratio.learners(1, 0)["logistic regression"].fit(inputs, labels)
    assert line.coef_[0] == pytest.approx([2, 0], abs=0.1)
    assert line.intercept_[0] == pytest.approx(-2 - np.log(10), abs=0.1)


def test_a_penalty_forgets_a_rare_class_of_separable_points():
    inputs, labels = ratio.draw(20, 2000, 8, 0)
    found = {name: ratio.learners(1, 0)[name].fit(inputs, labels).predict(inputs)[:20].mean()
             for name in ("penalised", "logistic regression")}
    assert found["logistic regression"] == 1 and found["penalised"] < 0.7


def test_five_neighbours_by_hand():
    line = np.arange(7.0)[:, None]
    knn = ratio.learners(1, 0)["k-NN"].fit(line, [0, 0, 1, 1, 1, 0, 0])
    assert knn.predict_proba([[3.0]])[0].tolist() == [0.4, 0.6]
    two = ratio.learners(1, 0)["k-NN"].fit(line, [0, 0, 1, 1, 0, 0, 0])
    assert not two.predict(line).any()


def test_sizes_hold_the_rare_class_or_the_total():
    assert ratio.sizes("rare", 20, 1000) == (20, 20_000)
    assert [ratio.sizes("total", 2000, r)[0] for r in (1, 10, 100, 1000)] == [1000, 182, 20, 2]
    assert ratio.sizes("total", 2000, 10) == (182, 1818)
    assert ratio.sizes("total", 20, 1000) == (1, 19)


def test_adjusted_means_above_the_prior_and_changes_nothing_at_one_to_one():
    found = ratio.measure(("logistic regression", "k-NN"), "rare", 30, 2, (1, 100), 1, 0)
    for name in ("logistic regression", "k-NN"):
        assert np.array_equal(found[name, 1], found[f"{name}, adjusted", 1])
        assert found[f"{name}, adjusted", 100][1] > found[name, 100][1]
    inputs, labels = ratio.draw(30, 3000, 2, [0, 0])
    points, truth = ratio.draw(2500, 2500, 2, [0, 1])
    line = ratio.learners(1, 0)["logistic regression"].fit(inputs, labels)
    above = line.predict_proba(points)[:, 1] > 1 / 101
    recall = [1 - above[truth == 0].mean(), above[truth == 1].mean()]
    assert found["logistic regression, adjusted", 100].tolist() == pytest.approx(recall)


def test_the_surface_is_a_table_of_every_learner_design_distance_ratio_and_seed(monkeypatch):
    monkeypatch.setattr(ratio, "parallel", lambda function, jobs: [function(*job) for job in jobs])
    table = ratio.surface(("k-NN",), [("rare", 10), ("total", 100)], (1, 8), (1, 10), 1, [0, 1])
    assert set(table.dataset) == {"distance 1", "distance 8"}
    assert set(table.technique) == {f"k-NN{a} at 1:{r}, {d}" for a in ("", ", adjusted") for r in (1, 10)
                                    for d in ("10 rare", "100 in all")}
    apart = mean(table, "k-NN at 1:10, 10 rare", "balanced accuracy", dataset="distance 8").mean
    close = mean(table, "k-NN at 1:10, 10 rare", "balanced accuracy", dataset="distance 1").mean
    assert apart > 0.99 and close < 0.7


@pytest.mark.parametrize(("common_per_rare", "by_the_book"), [(100, 0.280), (1000, 0.880), (10_000, 0.987)])
def test_the_binomial_chance_of_a_batch_without_a_rare_sample(common_per_rare, by_the_book):
    assert (common_per_rare / (common_per_rare + 1)) ** 128 == pytest.approx(by_the_book, abs=5e-4)


def test_the_books_sampler_draws_without_replacement():
    counted, chance = ratio.empty_batches(10, 1000, batches=8000), hypergeom.pmf(0, 1010, 10, 128)
    assert counted == pytest.approx(chance, abs=0.012)
    assert abs(counted - (100 / 101) ** 128) > 0.012  # which the binomial is not
    assert ratio.empty_batches(10, 1000, batches=100, balanced=True) == 0


def weights_of(net):
    return [value.clone() for value in net.state_dict().values()]


def test_training_yields_the_network_before_each_step_and_after_the_last():
    inputs, labels = ratio.draw(5, 50, 2, 0)
    seen = [weights_of(net) for net in ratio.train(inputs, labels, 3, 0, batch=16)]
    assert len(seen) == 4
    assert all(not torch.equal(one[0], other[0]) for one, other in pairwise(seen))


def test_the_log_prior_bias_is_the_only_difference_at_the_start():
    inputs, labels = ratio.draw(5, 500, 2, 0)
    plain, started = (weights_of(next(ratio.train(inputs, labels, 1, 0, prior_bias=way))) for way in (False, True))
    assert all(torch.equal(one, other) for one, other in zip(plain[:3], started[:3], strict=True))
    assert started[3].tolist() == pytest.approx([np.log(500 / 505), np.log(5 / 505)])


def test_watch_begins_with_the_prior_and_counts_looks():
    seen = ratio.watch("log-prior bias", 20, 0, ratio=50)
    assert seen.shape == (3, 4)
    assert seen[0, 1] == pytest.approx(-np.log(50), abs=1e-5)
    assert ratio.watch("balanced batches", 20, 0, ratio=50)[-1, 2] > 0.8  # recall
    assert ratio.watch("plain batches", 20, 0, ratio=1000)[-1, 2] == 0


def test_adaboost_weights_agree_with_scikit_learns_ensemble():
    inputs, labels = ratio.draw(40, 160, 2, 0)
    targets = 2 * labels - 1
    weights, margins = ratio.adaboost_weights(inputs, targets, rounds=10)
    reference = AdaBoostClassifier(DecisionTreeClassifier(max_depth=1, random_state=0), n_estimators=10)
    reference.fit(inputs, labels)
    theirs = sum(weight / 2 * (2 * tree.predict(inputs) - 1) for weight, tree in
                 zip(reference.estimator_weights_, reference.estimators_, strict=True))
    assert np.allclose(margins, targets * theirs, atol=1e-6)
    assert np.allclose(weights, np.exp(-margins) / np.exp(-margins).sum(), atol=1e-9)


def test_an_update_gives_half_of_the_weight_to_the_mistakes():
    inputs, targets = np.arange(10.0)[:, None], np.array([-1, -1, -1, 1, -1, -1, -1, 1, 1, 1])
    weights, margins = ratio.adaboost_weights(inputs, targets, rounds=1)
    assert weights[margins < 0].sum() == pytest.approx(0.5)
    assert (margins < 0).sum() == 1 and np.abs(margins) == pytest.approx(0.5 * np.log(9))


def test_shares_of_points_and_of_weight_are_counted_by_side():
    portion, held = ratio.weight_shares(3, 10, 0)
    assert portion.sum() == pytest.approx(1) and held.sum() == pytest.approx(1)
    assert portion[2:].sum() == pytest.approx(50 / 550)
    inputs, labels = ratio.draw(50, 500, 3, 0)
    beyond = 3 * inputs[:, 0] - 4.5 - np.log(10) > 0
    assert portion[3] == pytest.approx((~beyond & (labels == 1)).mean())
    assert portion[1] == pytest.approx((beyond & (labels == 0)).mean())
    assert held[3] > 3 * portion[3]


# ---------------------------------------------------------------- metrics

@pytest.mark.parametrize("seed", range(3))
def test_each_metric_by_hand_is_the_librarys(seed):
    rng = np.random.default_rng(seed)
    truth, found = rng.random(500) < 0.1, rng.random(500) < 0.2
    (tn, fp), (fn, tp) = sk.confusion_matrix(truth, found)
    ours = thresholds.by_hand(tp, fp, fn, tn, cost=7)
    both = sk.recall_score(truth, found, average=None)
    expected = {"accuracy": sk.accuracy_score(truth, found), "recall": both[1], "specificity": both[0],
                "precision": sk.precision_score(truth, found), "F1": sk.f1_score(truth, found),
                "macro F1": sk.f1_score(truth, found, average="macro"),
                "balanced accuracy": sk.balanced_accuracy_score(truth, found), "G-mean": np.sqrt(both.prod()),
                "worst class": both.min(), "MCC": sk.matthews_corrcoef(truth, found),
                "cost": (fp + 7 * fn) / (~truth).sum()}
    assert ours == pytest.approx(expected)


def test_one_rare_sample_in_ten_thousand_and_one():
    nothing = thresholds.by_hand(0, 0, 1, 10_000)
    assert nothing["accuracy"] == pytest.approx(0.9999, abs=1e-6)
    assert nothing["balanced accuracy"] == 0.5 and nothing["precision"] == nothing["MCC"] == nothing["F1"] == 0
    detector = thresholds.by_hand(0.9, 100, 0.1, 9900)
    assert detector["accuracy"] == pytest.approx(0.990, abs=5e-4)
    assert detector["precision"] == pytest.approx(0.0089, abs=5e-5)


def test_weights_do_what_more_common_samples_would():
    rng = np.random.default_rng(0)
    truth = np.repeat([1, 0], [20, 60])
    score = rng.normal(truth, 1)
    repeated = np.concatenate([np.arange(20), np.repeat(np.arange(20, 80), 10)])
    ours = thresholds.at_ratio(truth, score, score > 0.5, 30)
    theirs = thresholds.at_ratio(truth[repeated], score[repeated], score[repeated] > 0.5, 30)
    assert ours == pytest.approx(theirs)
    assert ours["PR-AUC"] == pytest.approx(sk.average_precision_score(truth[repeated], score[repeated]))
    rarer = thresholds.at_ratio(truth, score, score > 0.5, 3000)
    for name in ("ROC-AUC", "balanced accuracy", "G-mean", "recall"):
        assert rarer[name] == pytest.approx(ours[name])
    for name in ("PR-AUC", "F1", "MCC", "precision"):
        assert rarer[name] < 0.8 * ours[name]


# ---------------------------------------------------------------- intervals

def test_the_corrected_interval_is_wider_and_holds_the_truth_more_often():
    held = np.array([thresholds.covered(seed) for seed in range(40)])
    assert (held[:, 1] >= held[:, 0]).all()
    assert held[:, 0].mean() < 0.9 < held[:, 1].mean() + 0.05


# ---------------------------------------------------------------- thresholds

@pytest.mark.parametrize("metric", ["balanced accuracy", "F1", "MCC"])
def test_the_best_threshold_is_that_of_a_search_over_all(metric):
    rng = np.random.default_rng(1)
    for _ in range(20):
        truth = rng.permutation(np.repeat([1, 0], [8, 40]))
        score = rng.normal(1.5 * truth, 1).round(1)  # with ties

        def value(threshold, truth=truth, score=score):
            (tn, fp), (fn, tp) = sk.confusion_matrix(truth, score > threshold)
            return thresholds.by_hand(tp, fp, fn, tn)[metric]

        best = max(value(threshold) for threshold in [-10, *(np.unique(score) + 0.05)])
        assert value(thresholds.best_threshold(truth, score, metric)) == pytest.approx(best)


def test_a_threshold_lies_half_way_between_two_scores():
    assert thresholds.best_threshold(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.6, 0.9]),
                                     "balanced accuracy") == pytest.approx(0.4)


def test_posterior_recalibration_is_logit_adjustment():
    assert thresholds.recalibrate(np.array([[0.9, 0.1]]), np.array([0.9, 0.1]), 1).tolist() == [[0.5, 0.5]]
    rng = np.random.default_rng(0)
    logits, prior = torch.from_numpy(rng.normal(size=(50, 4))), np.array([0.7, 0.2, 0.09, 0.01])
    for tau in (0, 0.3, 1, 1.7):
        adjusted = (logits - tau * torch.from_numpy(np.log(prior))).softmax(1).numpy()
        assert np.allclose(thresholds.recalibrate(logits.softmax(1).numpy(), prior, tau), adjusted)


def test_the_prior_is_the_threshold_of_logit_adjustment_with_two_classes():
    p, prior = np.linspace(0.001, 0.999, 200), 0.03
    posterior = np.stack([1 - p, p], 1)
    moved = thresholds.recalibrate(posterior, np.array([1 - prior, prior]), 1)
    assert np.array_equal(moved.argmax(1) == 1, p > prior)


def test_decisions_of_every_technique_by_hand():
    val, test = np.array([0.1, 0.2, 0.6, 0.9]), np.array([0.3, 0.05])
    run = {"scores": {name: [val, test] for name in ("baseline", "class weights")}, "val": np.array([0, 0, 1, 1]),
           "test": np.array([1, 0]), "prior": 0.02, "cross-validated": 0.07}
    found = {name: threshold for name, (_, threshold) in thresholds.decide(run).items()}
    assert found == pytest.approx({"baseline": 0.5, "class weights": 0.5, "logit adjustment": 0.02,
                                   "tuned on validation": 0.4, "tuned in cross-validation": 0.07, "tuned for F1": 0.4,
                                   "threshold for cost": 1 / 11})


def test_a_split_is_trained_on_its_training_rows_alone(monkeypatch):
    seen = []

    class Recorded:
        classes_ = np.array([0, 1])

        def __init__(self, steps, **options):
            self.options = options

        def fit(self, X, y):
            seen.append((X, y, self.options))
            return self

        def predict_proba(self, X):
            return np.stack([1 - X[:, 0], X[:, 0]], 1)

    class Tuned:
        def __init__(self, model, **options):
            assert options["scoring"] == "balanced_accuracy"

        def fit(self, X, y):
            seen.append((X, y, None))
            self.best_threshold_ = 0.25
            return self

    monkeypatch.setattr(thresholds, "model", Recorded)
    monkeypatch.setattr(thresholds, "TunedThresholdClassifierCV", Tuned)
    table = thresholds.load("thyroid", "stand-in")
    parts = table.split(3)
    run = thresholds.train_all("thyroid", "stand-in", 1, 3)
    assert np.array_equal(run["scores"]["baseline"][0], table.X[parts.val, 0])
    assert np.array_equal(run["scores"]["baseline"][1], table.X[parts.test, 0])
    assert np.array_equal(run["test"], table.y[parts.test]) and np.array_equal(run["val"], table.y[parts.val])
    assert run["prior"] == table.y[parts.train].mean() and run["cross-validated"] == 0.25
    assert run["overlap"] == pytest.approx(1 / 3, abs=0.01)
    known = {row.tobytes() for row in table.X[parts.train]}
    assert all({row.tobytes() for row in X} <= known for X, *_ in seen)
    rare = int(table.y[parts.train].sum())
    counts = [np.bincount(y).tolist() for _, y, _ in seen]
    common = len(parts.train) - rare
    assert counts == [[common, rare], [common, rare], [common, common], [rare, rare], [common, rare]]
    assert seen[1][2] == {"class_weight": "balanced"}


def test_the_table_has_one_row_of_each_point_and_at_most_twenty_thousand(monkeypatch):
    table = thresholds.load("mammography", "stand-in")
    assert len(np.unique(table.X, axis=0)) == len(table) < len(load_table("mammography", "stand-in"))


@pytest.mark.data
def test_cover_is_cut_to_the_same_rows_for_all():
    table = thresholds.load("cover", "real")
    assert len(table) == 20_000 and table.y.mean() == pytest.approx(2747 / 286_048, abs=1e-4)
    assert table.digest == thresholds.load("cover", "real").digest


# ---------------------------------------------------------------- probabilities

def test_the_formula_of_undersampling_by_hand():
    assert thresholds.back_to_prior(0.5, 0.01) == pytest.approx(0.0099, abs=1e-5)
    assert thresholds.back_to_prior(0.3, 1) == pytest.approx(0.3)
    rare, common = 0.6 * 0.04, 0.1 * 0.96  # joint chances at one point; keeping a quarter of the common ones
    sampled = rare / (rare + common / 4)
    assert thresholds.back_to_prior(sampled, 0.25) == pytest.approx(rare / (rare + common))


def test_temperature_is_found_again():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=20_000) * 2
    truth = rng.random(20_000) < 1 / (1 + np.exp(-logits))
    assert thresholds.temperature(3 * logits, truth) == pytest.approx(3, rel=0.05)


def test_of_the_repairs_the_formula_moves_and_the_temperature_stretches():
    rng = np.random.default_rng(0)
    truth = (rng.random(4000) < 0.05).astype(int)
    p = 1 / (1 + np.exp(-(rng.normal(size=4000) + 2 * truth - 4.9)))
    sampled = p / (p + (1 - p) / 19)
    run = {"scores": {"baseline": [p, p], "random undersampling": [sampled, sampled]}, "prior": 0.05,
           "val": truth, "test": truth}
    found = thresholds.repaired(run)
    assert np.allclose(found["by the formula"], p) and found["plain model"] is p and found["undersampled"] is sampled
    odds = thresholds.log_odds(found["by temperature"]) / thresholds.log_odds(sampled)
    assert np.allclose(odds, odds[0])
    assert found["by Platt's two numbers"].mean() == pytest.approx(truth.mean(), rel=0.02)


def test_a_probability_under_another_prior_by_hand():
    assert thresholds.shift_prior(0.5, 0.5, 0.1) == pytest.approx(0.1)
    assert thresholds.shift_prior(0.2, 0.1, 0.1) == pytest.approx(0.2)
    assert thresholds.shift_prior(0.8, 0.5, 0.2) == pytest.approx(0.5)


def test_the_prior_of_a_case_that_can_be_solved_by_hand():
    # One yes-or-no feature, yes in 80 % of the rare and in 20 % of the common, trained at equal shares: p is .8 or .2.
    # In the new place 44 % say yes, and .8 q + .2 (1 − q) = .44 has the solution q = .4.
    p = np.repeat([0.8, 0.2], [44, 56])
    assert thresholds.estimate_prior(p, 0.5) == pytest.approx(0.4, abs=1e-6)


def test_where_the_prior_moves_a_third_of_the_test_rows_is_rare():
    truth = np.repeat([1, 0], [30, 970])
    p = np.where(np.random.default_rng(0).random(1000) < 0.9, truth, 1 - truth) * 0.55 + 0.02
    run = {"scores": {"baseline": [p, p]}, "test": truth, "prior": 0.03, "overlap": 1 / 3}
    found = thresholds.deploy(run, 0)
    assert found["by the known prior"]["prior"] == pytest.approx(1 / 3)
    assert found["by the old prior"]["prior"] == 0.03
    assert found["by the known prior"]["error rate"] == pytest.approx(0.1, abs=0.08)
    assert found["by the estimated prior"]["prior"] > 0.15


def test_the_calibration_error_of_the_rare_class_by_hand():
    p, truth = np.array([0.1, 0.1, 0.9, 0.9, 1.0]), np.array([0, 1, 1, 1, 1])
    assert thresholds.rare_calibration_error(p, truth, bins=10) == pytest.approx((0.8 + 0.2) / 5)
    swapped = np.array([0.1] * 5 + [0.9] * 5), np.array([1, 0, 0, 0, 0, 1, 1, 1, 1, 0])
    assert thresholds.rare_calibration_error(*swapped) == pytest.approx(0.1)


def test_copies_flatter_the_count_of_false_alarms():
    found = thresholds.with_copies("stand-in", 5, 0)
    everything, new = found["all test rows"], found["new rows"]
    table = load_table("mammography", "stand-in")
    train, test = thresholds.train_test_split(np.arange(len(table)), test_size=0.2, stratify=table.y, random_state=0)
    known = {row.tobytes() for row in table.X[train]}
    fresh = [row for row in test if table.X[row].tobytes() not in known]
    assert everything["share of the test rows"] == 1
    assert new["share of the test rows"] == pytest.approx(len(fresh) / len(test)) and len(fresh) < 0.9 * len(test)
    alarms = everything["false alarms"] * (table.y[test] == 0).sum()
    assert new["false alarms"] * (table.y[fresh] == 0).sum() <= alarms + 1e-9


def test_precision_and_recall_of_a_line_are_those_of_counted_points():
    rng = np.random.default_rng(0)
    rare, common = rng.normal(2, 1, 100_000), rng.normal(0, 1, 1_000_000)
    hits, alarms = (rare > 1.5).sum(), (common > 1.5).sum()
    found = ratio.precision_and_recall(2, 10, 1.5)
    assert found["recall"] == pytest.approx(hits / 100_000, abs=0.006)
    assert found["precision"] == pytest.approx(hits / (hits + alarms), abs=0.006)
