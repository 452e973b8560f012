"""Comparisons: the same splits for all, paired intervals, claims that stop the build, records with a manifest."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk

from helpers import experiments, metrics
from helpers.datasets import Dataset, Split, long_tailed
from helpers.experiments import (
    COLUMNS,
    ClaimRefuted,
    better,
    between,
    claim,
    compare,
    difference,
    fingerprint,
    indistinguishable,
    mean,
    record,
    tidy,
)
from helpers.models import Linear
from helpers.training import Recipe, logit_adjustment

BASE = Recipe(model=Linear)


def stand_in(seed):
    return long_tailed(seed=seed, data="stand-in")


def results(dataset="MNIST-LT", **techniques):
    return pd.concat([tidy(dataset, name, seed, {"balanced accuracy": value})
                      for name, found in techniques.items() for seed, value in enumerate(found)])


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    monkeypatch.setattr(experiments, "_claims", [])
    monkeypatch.setenv("BOOK_BUILD", str(tmp_path))
    monkeypatch.delenv("BOOK_PROFILE", raising=False)
    monkeypatch.setenv("BOOK_WORKERS", "1")


def test_all_recipes_of_a_seed_see_the_same_splits(monkeypatch):
    seen = {}

    def spy(train, seed):
        seen.setdefault(seed, set()).add(train.inputs.float().sum().item())
        return train

    compare({"a": replace(BASE, resample=spy), "b": replace(BASE, resample=lambda t, s: spy(t, s))}, stand_in,
            seeds=[0, 1], steps=1)
    assert [len(sums) for sums in seen.values()] == [1, 1]
    assert seen[0] != seen[1]


def test_posthoc_variants_share_one_training():
    trainings = []
    base = replace(BASE, resample=lambda train, seed: (trainings.append(seed), train)[1])
    runs = compare({"baseline": base, "logit adjustment": replace(base, posthoc=logit_adjustment)}, stand_in, seeds=[0],
                   steps=3)
    assert trainings == [0]
    prior = stand_in(0).class_counts / stand_in(0).class_counts.sum()
    expected = runs.logits["baseline", 0] - prior.log()
    assert torch.allclose(runs.logits["logit adjustment", 0], expected, atol=1e-5)


def test_the_number_of_workers_changes_no_number(monkeypatch):
    tables = []
    for workers in ("1", "2"):
        monkeypatch.setenv("BOOK_WORKERS", workers)
        table = compare({"a": BASE}, stand_in, seeds=[0, 1], steps=2).table
        tables.append(table[table.metric != "seconds"].reset_index(drop=True))
    pd.testing.assert_frame_equal(*tables)


def test_the_table_is_tidy_and_complete():
    table = compare({"baseline": BASE}, stand_in, seeds=[0], steps=1).table
    assert list(table.columns) == COLUMNS
    assert set(table.protocol) == {"fair"}
    assert {"accuracy", "balanced accuracy", "macro F1", "G-mean", "worst-class recall", "head recall", "mid recall",
            "tail recall", "PR-AUC", "ECE", "seconds", "recall", "precision"} == set(table.metric)
    assert table[table.metric == "recall"]["class"].tolist() == list("0123456789")


@pytest.mark.parametrize(("wrong", "words"), [({"protocol": "mine"}, "fair or source"), ({"seeds": []}, "0 seeds")])
def test_wrong_comparison_is_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        compare({"a": BASE}, stand_in, **{"seeds": [0], "steps": 1, **wrong})


def test_paired_interval_equals_scipys():
    one, two = np.array([0.9, 0.8, 0.85, 0.95]), np.array([0.8, 0.75, 0.7, 0.9])
    gap = difference(results(a=one, b=two), "a", "b", "balanced accuracy")
    low, high = stats.ttest_rel(one, two).confidence_interval()
    assert (gap.mean, gap.low, gap.high) == pytest.approx(((one - two).mean(), low, high))


def test_pairing_uses_only_common_seeds():
    table = results(a=[0.9, 0.8, 0.7], b=[0.8, 0.7])
    assert difference(table, "a", "b", "balanced accuracy").n == 2


def test_missing_rows_are_named_with_what_there_is():
    with pytest.raises(KeyError, match=r"no 'recall'.*there are: balanced accuracy"):
        mean(results(a=[1.0]), "a", "recall")
    with pytest.raises(KeyError, match=r"'c' .*there are: a, b"):
        mean(results(a=[1.0], b=[1.0]), "c", "recall")
    with pytest.raises(KeyError, match="T1, T2"):
        experiments.published("T99")


STOPPED = """
import os, signal, threading, time
from helpers.experiments import parallel

def interrupt():
    os.killpg(0, signal.SIGINT)

if __name__ == "__main__":
    parallel(time.sleep, [(0,)] * 2)
    for jobs in ([(5,)] * 40, [(5,), (0,)]):  # all workers busy; one of the two idle
        threading.Timer(1, interrupt).start()
        try:
            parallel(time.sleep, jobs)
        except KeyboardInterrupt:
            print("stopped")
    print(parallel(divmod, [(7, 2), (7, 3)]))
"""


def test_a_cell_that_is_stopped_leaves_workers_for_the_next(tmp_path):
    """Jupyter interrupts the kernel and all of its workers, busy or idle."""
    (tmp_path / "stopped.py").write_text(STOPPED, encoding="utf-8")
    ran = subprocess.run([sys.executable, tmp_path / "stopped.py"], text=True, capture_output=True, timeout=50,
                         env=os.environ | {"BOOK_WORKERS": "2", "BOOK_PROFILE": "smoke"}, start_new_session=True,
                         check=False)
    assert (ran.stdout, ran.returncode) == ("stopped\nstopped\n[(3, 1), (2, 1)]\n", 0), ran.stderr
    assert "KeyboardInterrupt" not in ran.stderr


def test_printed_numbers_per_class_keep_the_order_of_print():
    printed = experiments.published_per_class("CelebA", "balanced accuracy")
    assert list(printed.columns) == ["bald", "mustache", "grey hair", "pale skin", "double chin"]
    assert list(printed.index)[::4] == ["baseline", "CRL"]
    assert printed.loc["CRL", "pale skin"] == 92


def test_one_seed_is_not_one_seeds():
    table = compare({"a": BASE}, stand_in, seeds=[0, 1], steps=2).table
    assert experiments.mean(table, "a", "accuracy").seeds == "2 seeds"
    assert experiments.mean(table[table.seed == 0], "a", "accuracy").seeds == "1 seed"


def test_checks():
    table = results(good=[0.9, 0.91, 0.92], bad=[0.8, 0.81, 0.82], noisy=[0.99, 0.80, 0.95])
    assert better(table, "good", "bad").holds
    assert better(table, "good", "bad", by=0.09).holds and not better(table, "good", "bad", by=0.11).holds
    assert not better(table, "noisy", "good").holds
    assert indistinguishable(table, "noisy", "good").holds and not indistinguishable(table, "good", "bad").holds
    assert between(table, "good", "balanced accuracy", 0.9, 0.92).holds
    assert not (better(table, "good", "bad") & better(table, "bad", "good")).holds


def test_one_seed_bears_nothing_out():
    assert not better(results(a=[0.9], b=[0.1]), "a", "b").holds


@pytest.mark.parametrize(("profile", "dataset", "holds", "status"), [
    ("book", "MNIST-LT", True, "held"), ("book", "MNIST-LT", False, "refuted"), ("full", "MNIST-LT", False, "refuted"),
    ("smoke", "MNIST-LT", False, "not judged"), ("book", "stand-in for MNIST-LT", False, "not judged"),
    (None, "MNIST-LT", False, "not judged")])
def test_a_claim_is_judged_in_the_book_on_real_data_alone(monkeypatch, profile, dataset, holds, status):
    if profile:
        monkeypatch.setenv("BOOK_PROFILE", profile)
    table = results(dataset, a=[0.9, 0.91] if holds else [0.1, 0.11], b=[0.5, 0.51])
    made = claim("a beats b", better(table, "a", "b"))
    assert made.status == status
    run = partial(record, "part/chapter", table, verdict="so", seeds=[0, 1], steps=5)
    if status == "refuted":
        with pytest.raises(ClaimRefuted, match="a beats b"):
            run()
    else:
        run()


def test_a_sentence_is_escaped_on_the_page():
    shown = claim("<script>alert(1)</script>", experiments.Check(True, "<b>"))._repr_html_()
    assert "<script>" not in shown and "&lt;b&gt;" in shown


def test_records_come_with_a_manifest(tmp_path, monkeypatch):
    monkeypatch.setenv("BOOK_PROFILE", "smoke")
    table = results(a=[0.9], b=[0.8])
    record("part/some_chapter", table, verdict="fine", seeds=[0], steps=7, data_hash="abc")
    written = pd.read_csv(tmp_path / "results/smoke/part-some_chapter.csv")
    assert list(written.columns) == COLUMNS and written.value.tolist() == [0.9, 0.8]
    manifest = json.loads((tmp_path / "results/smoke/part-some_chapter.json").read_text())
    assert manifest["data"] == "real" and manifest["steps"] == 7 and manifest["verdict"] == "fine"
    assert manifest["versions"]["torch"] and manifest["code_hash"] == experiments.code_hash()
    with pytest.raises(ValueError, match="lack value"):
        record("x/y", table.drop(columns="value"), verdict="", seeds=[], steps=0)


def test_equal_splits_equal_fingerprint():
    assert fingerprint(stand_in(0)) == fingerprint(stand_in(0)) != fingerprint(stand_in(1))


# ------------------------------------------------------------------------------------------------------- metrics

def test_metrics_by_hand_and_against_scikit_learn():
    generator = np.random.default_rng(0)
    logits = torch.tensor(generator.normal(size=(400, 5)), dtype=torch.float32)
    labels = torch.tensor(generator.integers(0, 5, 400))
    found = metrics.evaluate(logits, labels, [50, 40, 30, 20, 10])
    predictions = logits.argmax(1)
    assert found["balanced accuracy"] == pytest.approx(sk.balanced_accuracy_score(labels, predictions))
    assert found["recall"] == pytest.approx(sk.recall_score(labels, predictions, average=None))
    assert found["precision"] == pytest.approx(sk.precision_score(labels, predictions, average=None))
    assert found["tail recall"] == pytest.approx(found["recall"][4:].mean())
    assert found["G-mean"] == pytest.approx(np.prod(found["recall"]) ** (1 / 5))
    assert found["worst-class recall"] == found["recall"].min()


def test_precision_is_not_recall():  # erratum 1: the confusion matrix read along the wrong axis
    labels, predictions = np.array([0] * 8 + [1] * 2), np.array([0] * 6 + [1] * 4)
    assert metrics.recall_per_class(predictions, labels, 2).tolist() == [0.75, 1.0]
    assert metrics.precision_per_class(predictions, labels, 2).tolist() == [1.0, 0.5]


def test_calibration_error_equals_torchmetrics():
    reference = pytest.importorskip("torchmetrics.functional.classification").multiclass_calibration_error
    probabilities = torch.randn(300, 7, generator=torch.Generator().manual_seed(0)).mul(3).softmax(1)
    labels = torch.arange(300) % 7
    ours = metrics.expected_calibration_error(probabilities, labels)
    assert ours == pytest.approx(float(reference(probabilities, labels, 7, n_bins=15)), abs=1e-5)


@pytest.mark.parametrize(("hits", "low", "high"), [(12, 0.51, 0.90), (11, 0.44, 0.86), (6, 0.18, 0.61)])
def test_wilson_intervals_of_sixteen_nodes(hits, low, high):
    assert metrics.wilson(hits, 16) == pytest.approx((low, high), abs=0.006)


def test_a_lost_class_empties_the_g_mean():
    assert metrics.g_mean([0.9, 0.0, 0.8]) == 0


def test_toy_dataset_evaluates_without_a_class_in_the_test_split():
    data = Dataset("toy", ("a", "b", "c"), *[Split(torch.randn(6, 2), torch.tensor([0, 0, 0, 1, 1, 1]))] * 3)
    found = metrics.evaluate(torch.eye(3)[data.test.labels], data.test.labels, [3, 3, 1])
    assert found["balanced accuracy"] == 1.0 and np.isnan(found["recall"][2])
