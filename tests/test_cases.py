"""A split of a table and its metrics, and ensembles on chosen common rows, against values worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from helpers import cases
from helpers.claims import better, between
from helpers.results import COLUMNS, difference
from helpers.tables import load_table
from helpers.undersampling import bin_weights, grow, pace, rare_scores, self_paced, uniform

# ---------------------------------------------------------------- a split and its metrics


def test_a_case_is_standardised_by_its_training_rows_and_holds_no_point_twice():
    case = cases.draw("mammography", "stand-in", 1500, seed=3)
    X, y = case.train
    assert np.allclose(X.mean(0), 0, atol=1e-9) and np.allclose(X.std(0), 1)
    assert abs(case.test[0].mean(0)).max() > 1e-3  # it does not know the test rows
    everything = np.concatenate([part for part, _ in (case.train, case.val, case.test)])
    assert len(np.unique(everything, axis=0)) == len(everything) == 1500
    assert case.overlap == len(case.test[1]) / len(y) == pytest.approx(1 / 3, abs=0.01)
    assert set(y) == set(case.val[1]) == set(case.test[1]) == {0, 1}


def test_a_large_table_is_cut_the_same_for_every_seed_and_a_small_one_is_whole():
    whole = load_table("mammography", "stand-in").distinct()
    assert cases.distinct("mammography", "stand-in", 10**6).digest == whole.digest
    cut = cases.distinct("mammography", "stand-in", 500)
    assert len(cut) == 500 and cut.digest == cases.distinct("mammography", "stand-in", 500).digest


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_is_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat([1, 0], [8, 40]))
    score = rng.normal(1.5 * truth, 1).round(1)  # with equal scores
    found = sk.balanced_accuracy_score(truth, score > cases.best_threshold(truth, score))
    assert found == pytest.approx(max(sk.balanced_accuracy_score(truth, score > at)
                                      for at in [-10, *(np.unique(score) + 0.05)]))


def test_a_threshold_needs_both_classes():
    with pytest.raises(ValueError, match="0 of 3 rows are rare"):
        cases.best_threshold([0, 0, 0], [0.1, 0.2, 0.3])


def case_of(val, test):
    nothing = np.zeros((len(val), 1))
    return cases.Case((nothing, np.array(val)), (nothing, np.array(val)), (nothing[:len(test)], np.array(test)))


def test_metrics_of_a_split_by_hand():
    # Threshold .35 from validation. On test it finds one of two rare rows, with one false alarm among two.
    case = case_of([0, 0, 1, 1], [1, 0, 1, 0])
    found = cases.measure(case, np.array([0.1, 0.3, 0.4, 0.9]), np.array([0.8, 0.45, 0.2, 0.1]))
    assert found["threshold"] == pytest.approx(0.35)
    assert found["recall"].tolist() == [0.5, 0.5] and found["balanced accuracy"] == 0.5
    assert found["balanced accuracy at one half"] == 0.75 and found["worst-class recall"] == 0.5
    assert found["PR-AUC"] == pytest.approx((1 + 2 / 3) / 2)  # the second rare row comes third
    assert found["recall at 80 % precision"] == 0.5 and found["ROC-AUC"] == 0.75
    assert found["Brier score"] == pytest.approx((0.04 + 0.2025 + 0.64 + 0.01) / 4)
    assert found["test to train"] == 1
    assert "Brier score" not in cases.measure(case, np.ones(4) - 0.5, np.arange(4.0), probabilities=False)


def test_the_threshold_does_not_look_at_the_test_rows():
    val = np.array([0.1, 0.3, 0.4, 0.9])
    one, other = (cases.measure(case_of([0, 0, 1, 1], [1, 0, 1, 0]), val, test)["threshold"]
                  for test in (np.arange(4) / 4, 1 - np.arange(4) / 4))
    assert one == other


def rows_of(values):
    rows = [(table, name, "fair", seed, metric, "", value) for (table, name, seed, metric), value in values.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_over_tables_a_table_counts_once_whatever_its_seeds():
    values = {(table, name, seed, "PR-AUC"): 0.1 * place + (name == "b") * (0.2 if table == "x" else 0.4) + 0.01 * seed
              for place, table in enumerate("xyz") for name in "ab" for seed in range(4)}
    values |= {(table, name, 0, "test to train"): 1 / 3 for table in "xyz" for name in "ab"}
    results = rows_of(values)
    over = cases.over_tables(results)
    gap = difference(over, "b", "a", "PR-AUC")
    assert gap.n == 3 and gap.mean == pytest.approx(1 / 3)
    assert gap.high - gap.mean == pytest.approx(4.3027 * np.std([0.2, 0.4, 0.4], ddof=1) / np.sqrt(3), rel=1e-4)
    assert over.dataset.unique().tolist() == ["3 tables"]
    assert better(over, "b", "a", "PR-AUC").detail.endswith("3 tables")
    assert between(over, "b", "PR-AUC").detail.endswith("3 tables")
    assert better(results[results.dataset == "x"], "b", "a", "PR-AUC").detail.endswith("4 seeds")
    wide = cases.by_table(results, "PR-AUC")
    assert wide.loc["b", "y"] == pytest.approx(0.1 + 0.4 + 0.015) and wide.columns.tolist() == ["x", "y", "z"]


def test_over_tables_a_stand_in_stays_one():
    results = rows_of({("stand-in for x", "a", 0, "PR-AUC"): 0.5, ("y", "a", 0, "PR-AUC"): 0.5})
    assert cases.over_tables(results).dataset.unique().tolist() == ["stand-in for 2 tables"]
    assert cases.by_table(results, "PR-AUC").columns.tolist() == ["x", "y"]


# ---------------------------------------------------------------- ensembles on chosen rows

def test_alpha_of_ten_rounds_by_hand():
    assert [pace(number, 10) for number in range(10)] == pytest.approx(
        [0, 0.176327, 0.363970, 0.577350, 0.839100, 1.191754, 1.732051, 2.747477, 5.671282, np.inf], abs=1e-6)


def test_weights_of_bins_by_hand():
    alpha = np.tan(np.pi / 4)  # round 2 of 5: 1
    assert bin_weights([0.0, 1.0], 2, 5) == pytest.approx([2 / 3, 1 / 3])
    assert pace(2, 5) == pytest.approx(alpha)
    assert bin_weights([0.1, np.nan, 0.9], 4, 5).tolist() == [0.5, 0, 0.5]  # at last each gives as many


def test_self_paced_draws_what_the_weights_say_and_no_row_twice():
    hardness = np.repeat([0.0, 0.5, 1.0], [600, 300, 100])
    rng = np.random.default_rng(0)
    for number in (1, 5, 9):
        rows = self_paced(number, hardness, 90, rng, rounds=10, bins=3)
        expected = np.round(90 * bin_weights([0.0, 0.5, 1.0], number, 10))
        assert np.bincount(np.searchsorted([0.25, 0.75], hardness[rows]), minlength=3).tolist() == expected.tolist()
        assert len(np.unique(rows)) == len(rows)
    assert len(self_paced(9, np.repeat([0.0, 1.0], [999, 1]), 100, rng, rounds=10, bins=2)) == 51  # one has one row


def test_before_there_is_a_hardness_any_row_is_as_good():
    rng = np.random.default_rng(0)
    drawn = np.bincount(np.concatenate([self_paced(0, np.arange(10.0), 5, rng) for _ in range(2000)]), minlength=10)
    assert (abs(drawn / 2000 - 0.5) < 0.05).all()
    assert len(self_paced(3, np.zeros(10), 5, rng)) == 5  # nothing to tell them apart


def test_a_tree_sees_all_rare_rows_and_as_many_chosen_ones(monkeypatch):
    seen, X = [], np.arange(100.0)[:, None]
    y = (X[:, 0] >= 90).astype(int)

    def choose(number, hardness, count, rng):
        seen.append((number, hardness.copy(), count))
        return np.arange(10 * number, 10 * number + 10)

    trees = grow(X, y, choose, rounds=3, depth=1)
    assert [number for number, *_ in seen] == [0, 1, 2] and {count for *_, count in seen} == {10}
    assert not seen[0][1].any() and len(seen[0][1]) == 90
    # The first tree has seen 0–9 and 90–99 and cuts at 49.5; the second 10–19, at 54.5: their mean is the hardness.
    assert seen[1][1].tolist() == [0.0] * 50 + [1.0] * 40
    assert seen[2][1].tolist() == [0.0] * 50 + [0.5] * 5 + [1.0] * 35
    assert rare_scores(trees, [[52.0]]).tolist() == pytest.approx([1 / 3])
    assert max(tree.get_depth() for tree in trees) == 1


def test_uniform_has_no_favourites_and_gives_what_there_is():
    rng = np.random.default_rng(0)
    drawn = np.bincount(np.concatenate([uniform(5, np.arange(8.0), 2, rng) for _ in range(4000)]), minlength=8)
    assert (abs(drawn / 4000 - 0.25) < 0.03).all()
    assert sorted(uniform(0, np.zeros(3), 9, rng)) == [0, 1, 2]


def test_an_ensemble_needs_both_classes():
    with pytest.raises(ValueError, match="3 common and 0 rare rows"):
        grow(np.zeros((3, 1)), np.zeros(3), uniform)
