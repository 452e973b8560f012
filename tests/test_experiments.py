"""Comparisons: the same splits for all, paired intervals, claims that stop the build, records with a manifest."""

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk

from helpers import claims, experiments, metrics, records
from helpers import results as read
from helpers.claims import Check, all_of, better, between, claim, equivalent, none_ahead
from helpers.datasets import Dataset, Split, long_tailed
from helpers.experiments import TUNING_SEED, compare, in_arena
from helpers.models import Linear
from helpers.records import fingerprint, record
from helpers.results import (
    COLUMNS,
    clearly_ahead,
    collapsed,
    difference,
    lost_trainings,
    mean,
    tidy,
    values,
)
from helpers.training import Recipe, logit_adjustment, shuffled

BASE = Recipe(model=Linear)


def stand_in(seed):
    return long_tailed(seed=seed, data="stand-in")


def results(dataset="MNIST-LT", **techniques):
    return pd.concat([tidy(dataset, name, seed, {"balanced accuracy": value})
                      for name, found in techniques.items() for seed, value in enumerate(found)])


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    monkeypatch.setattr(claims, "made", [])
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


def test_only_what_happens_after_training_is_shared():
    mild, steep = (lambda logits, labels, context, by=by: by * (logits ** 2).mean() for by in (0.1, 10.0))
    own = {"baseline": BASE, "mild": replace(BASE, loss=mild), "steep": replace(BASE, loss=steep)}
    assert experiments._sharing({**own, "corrected": replace(BASE, posthoc=logit_adjustment)}) == [
        ["baseline", "corrected"], ["mild"], ["steep"]]


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
        read.published("T99")


def test_printed_numbers_per_class_keep_the_order_of_print():
    printed = read.published_per_class("CelebA", "balanced accuracy")
    assert list(printed.columns) == ["bald", "mustache", "grey hair", "pale skin", "double chin"]
    assert list(printed.index)[::4] == ["baseline", "CRL"]
    assert printed.loc["CRL", "pale skin"] == 92


def test_one_seed_is_not_one_seeds():
    table = compare({"a": BASE}, stand_in, seeds=[0, 1], steps=2).table
    assert read.mean(table, "a", "accuracy").seeds == "2 seeds"
    assert read.mean(table[table.seed == 0], "a", "accuracy").seeds == "1 seed"


def test_checks():
    table = results(good=[0.9, 0.91, 0.92], bad=[0.8, 0.81, 0.82], noisy=[0.99, 0.80, 0.95])
    assert better(table, "good", "bad").holds
    assert better(table, "good", "bad", by=0.09).holds and not better(table, "good", "bad", by=0.11).holds
    assert not better(table, "noisy", "good").holds
    assert not between(table, "good", "balanced accuracy", 0.9, 0.92).holds, "the mean is inside, its interval is not"
    assert between(table, "good", "balanced accuracy", 0.88, 0.94).holds
    assert not between(table, "good", "balanced accuracy", 0.88, 0.93).holds
    assert not between(table, "good", "balanced accuracy", 0.89, 0.94).holds
    assert not (better(table, "good", "bad") & better(table, "bad", "good")).holds


def test_a_number_that_is_none_is_not_written(tmp_path):
    rows = read.tidy("MNIST-LT", "a", 0, {"accuracy": 0.5, "precision": np.array([0.5, np.nan])})
    assert rows.value.isna().sum() == 1, "a class that is never predicted has no precision"
    record("part/chapter", rows, verdict="so", seeds=[0], steps=1)
    written = pd.read_csv(next(tmp_path.glob("results/*/part-chapter.csv")))
    assert len(written) == 2 and written.value.notna().all()


def test_a_sentences_p_is_that_of_what_it_claims():
    seen = [0.031, 0.036, 0.029, 0.034, 0.03]
    table = results(good=[0.9 + gap for gap in seen], bad=[0.9] * 5)
    for by in (0.0, 0.01, 0.03, 0.06):
        found = better(table, "good", "bad", by=by)
        above = stats.ttest_1samp(seen, by, alternative="greater").pvalue
        assert found.gap.p == pytest.approx(min(1, 2 * above)) and found.kind == "difference"
        assert found.holds == (found.gap.p < 0.05)
    for within in (0.034, 0.05):
        found = equivalent(table, "good", "bad", within=within)
        sides = [stats.ttest_1samp(seen, -within, alternative="greater").pvalue,
                 stats.ttest_1samp(seen, within, alternative="less").pvalue]
        assert found.gap.p == pytest.approx(2 * max(sides)) and found.kind == "equality"
        assert found.holds == (found.gap.p < 0.05)
    assert equivalent(table, "good", "bad", within=0.01).gap.p == 1


def test_a_value_is_tested_against_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("BOOK_PROFILE", "book")
    table = results(good=[0.9, 0.91, 0.92], bad=[0.8, 0.82, 0.81])
    level = between(table, "good", "balanced accuracy", 0.88, 0.94)
    gap = better(table, "good", "bad")
    assert all((both.gap, both.kind) == (gap.gap, "difference") for both in (level & gap, all_of([level, gap, level])))
    claim("as published", level)
    claim("ahead", gap)
    record("part/chapter", table, verdict="so", seeds=[0, 1, 2], steps=5)
    first, second = json.loads((tmp_path / "results/book/part-chapter.json").read_text())["claims"]
    assert (first["p"], first["p_holm"]) == (None, None) and first["difference"][0] == pytest.approx(0.91)
    assert second["p_holm"] == second["p"], "the value above is no test that this one is counted with"


def test_as_good_as_needs_the_whole_interval_inside_the_margin():
    table = results(a=[0.900, 0.905, 0.910], b=[0.901, 0.904, 0.911], wide=[0.80, 0.905, 0.99],
                    low=[0.88, 0.886, 0.889])
    assert equivalent(table, "a", "b").holds
    assert not equivalent(table, "a", "b", within=0.001).holds
    assert not equivalent(table, "wide", "a").holds, "a wide interval is no evidence of equality"
    assert not equivalent(table, "low", "a").holds and not equivalent(table, "a", "low").holds


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_seed_or_two_bear_nothing_out(seeds):
    assert not better(results(a=[0.9] * seeds, b=[0.1] * seeds), "a", "b").holds
    assert not equivalent(results(a=[0.9] * seeds, b=[0.9] * seeds), "a", "b").holds


def test_two_seeds_are_printed_as_they_are():
    table = results(a=[0.847, 0.85])
    assert f"{mean(table, 'a', 'balanced accuracy'):%}" == "84.7 and 85.0"
    assert np.isnan(mean(table, "a", "balanced accuracy").low)


def test_overlapping_splits_widen_the_interval_as_nadeau_and_bengio_say():
    gap = np.array([0.01, 0.03, 0.02, 0.04])
    table = pd.concat([results(a=0.8 + gap, b=[0.8] * 4),
                       *(tidy("MNIST-LT", "a", seed, {"test to train": 0.25}) for seed in range(4))])
    found = difference(table, "a", "b", "balanced accuracy")
    half = stats.t.ppf(0.975, 3) * np.sqrt((1 / 4 + 0.25) * gap.var(ddof=1))
    assert (found.low, found.high) == pytest.approx((gap.mean() - half, gap.mean() + half))
    plain = difference(table, "b", "a", "balanced accuracy")  # b has no such row
    assert plain.high - plain.low < found.high - found.low


def test_p_values_equal_scipys_and_holm_by_hand():
    one, two = np.array([0.9, 0.8, 0.85, 0.95]), np.array([0.8, 0.75, 0.7, 0.9])
    assert difference(results(a=one, b=two), "a", "b", "balanced accuracy").p == pytest.approx(
        stats.ttest_rel(one, two).pvalue)
    assert metrics.holm([0.01, np.nan, 0.04, 0.03, 0.5]) == pytest.approx([0.04, np.nan, 0.09, 0.09, 0.5], nan_ok=True)


def test_a_seed_counts_once_and_data_sets_are_not_pooled():
    twice = pd.concat([results(a=[0.9, 0.8]), results(a=[0.9])])
    with pytest.raises(ValueError, match="seed 0 twice"):
        mean(twice, "a", "balanced accuracy")
    pooled = pd.concat([results(a=[0.9, 0.8, 0.7]), results("FashionMNIST-LT", a=[0.1, 0.2, 0.3])])
    with pytest.raises(ValueError, match="2 data sets; name one"):
        mean(pooled, "a", "balanced accuracy")
    assert mean(pooled, "a", "balanced accuracy", dataset="FashionMNIST-LT").mean == pytest.approx(0.2)
    with pytest.raises(ValueError, match="holds one twice"):
        compare({"a": BASE}, stand_in, seeds=[0, 0], steps=1)


def test_the_summary_leaves_out_what_says_nothing():
    table = pd.concat([tidy("D", "a", seed, {"accuracy": 0.5 + seed, "balanced accuracy": 0.5 + seed})
                       for seed in (0, 1)])
    assert list(read.summary(table).columns) == ["balanced accuracy"]
    table.loc[(table.metric == "accuracy") & (table.seed == 1), "value"] = 0.7
    assert list(read.summary(table).columns) == ["accuracy", "balanced accuracy"]


def test_rates_are_chosen_on_the_validation_split_of_the_tuning_draw():
    asked = []

    def data(seed):
        asked.append(seed)
        drawn = stand_in(seed)
        blind = Split(drawn.test.inputs, (drawn.test.labels + 1) % 10)  # whoever chooses by the test set is misled
        return replace(drawn, test=blind)

    found = compare({"a": BASE}, data, seeds=[3], steps=40, rates=[1e-6, 0.1])
    assert asked == [TUNING_SEED, TUNING_SEED, 3]
    assert found.rates.loc["a", 0.1] > found.rates.loc["a", 1e-6]
    assert set(found.table[found.table.metric == "learning rate"].value) == {0.1}


def test_a_technique_that_steers_by_validation_sees_it_while_its_rate_is_chosen():
    seen = []

    def steering(run):
        for rows in shuffled(run):
            seen.append(run.validation is not None)
            yield rows

    compare({"a": replace(BASE, sampler=steering)}, stand_in, seeds=[0], steps=20, rates=[0.01, 0.1])
    assert len(seen) == 3 * 20
    assert seen[19], "the first tuning run had looked before its last step"
    assert seen[:20] == seen[40:], "as often as the run that is judged"


def test_a_technique_that_diverges_is_at_chance_and_stops_nobody():
    found = compare({"a": replace(BASE, loss=lambda logits, targets, run: logits.sum() * torch.nan)}, stand_in,
                    seeds=[0], steps=5).table
    assert values(found, "a", "balanced accuracy").item() == pytest.approx(0.1)
    assert "seconds" not in set(found.metric), "what did not end took no time that could be compared"
    record("part/chapter", found, verdict="so", seeds=[0], steps=5)


def test_an_arena_runs_the_strong_baselines_and_the_ceiling():
    run = in_arena("garments", {"half": {"lr": 0.1}}, seeds=[0], steps=2, rates=[0.1], data="stand-in")
    assert run.table.technique.unique().tolist() == ["baseline", "logit adjustment", "random oversampling", "half",
                                                     "balanced data"]
    assert run.table.dataset.unique().tolist() == ["stand-in for FashionMNIST-LT"]
    assert len(run.logits) == len(run.history) == 5 and ("balanced data", 0) in run.logits
    with pytest.raises(ValueError, match="digits, garments"):
        in_arena("birds", {}, seeds=[0])
    with pytest.raises(TypeError, match="wheels"):
        in_arena("digits", {"odd": {"wheels": 4}}, seeds=[0])


def test_what_a_baseline_trains_does_not_depend_on_what_it_is_compared_with(monkeypatch):
    """So the store has it for every chapter. All trainings of an arena stand in one queue, all tunings in another."""
    asked = []

    def spy(function, jobs, label="runs"):
        asked.append([next(part for part in job if isinstance(part, dict)) for job in jobs])
        return [function(*job) for job in jobs]

    monkeypatch.setattr(experiments, "parallel", spy)
    posthoc = partial(logit_adjustment, tau=0.5)
    for techniques in ({}, {"half": {"posthoc": posthoc}, "other": {"lr": 0.1}}):
        in_arena("digits", techniques, seeds=[0], steps=1, rates=[0.1, 0.2], data="stand-in")
    tunings, trainings, more_tunings, more_trainings = ([set(job) for job in queue] for queue in asked)
    for few, many, count in [(tunings, more_tunings, 2), (trainings, more_trainings, 1)]:
        assert [job for job in many if not job & {"half", "other"}] == few
        assert sum(job == {"balanced data"} for job in many) == count and len(many) > len(few)


@pytest.mark.parametrize(("profile", "dataset", "holds", "status"), [
    ("book", "MNIST-LT", True, "held"), ("book", "MNIST-LT", False, "refuted"), ("full", "MNIST-LT", False, "refuted"),
    ("smoke", "MNIST-LT", False, "not judged"), ("book", "stand-in for MNIST-LT", False, "not judged"),
    (None, "MNIST-LT", False, "not judged")])
def test_a_claim_is_judged_in_the_book_on_real_data_alone(monkeypatch, profile, dataset, holds, status):
    if profile:
        monkeypatch.setenv("BOOK_PROFILE", profile)
    table = results(dataset, a=[0.9, 0.91, 0.92] if holds else [0.1, 0.11, 0.13], b=[0.5, 0.51, 0.52])
    made = claim("a beats b", better(table, "a", "b"))
    assert made.status == status
    record("part/chapter", table, verdict="so", seeds=[0, 1, 2], steps=5)  # whatever its status: a book is a book


@pytest.mark.parametrize(("seeds", "real", "holds", "said"), [
    ([100, 101], True, True, "held"), ([100, 101], True, False, "refuted"),
    ([3, 100], True, True, "not judged, as seed 3 is one to write with"),
    ([100], False, True, "not judged, as the data are a stand-in"), (None, True, True, "not judged, as no notebook")])
def test_a_readers_notebook_judges_by_the_books_seeds_and_says_why_not(monkeypatch, seeds, real, holds, said):
    import IPython

    shell = SimpleNamespace(user_ns={"SEEDS": seeds, "In": ["claim(…)"]})
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    made = claim("a beats b", claims.Check(holds, "so", real))
    assert f"<em>{said}" in made._repr_html_() and f"[{said}" in repr(made)
    assert made.status == said.split(",")[0]


def test_a_readers_run_ends_with_its_verdict(capsys, tmp_path):
    table = results(a=[0.9], b=[0.8])
    claim("a beats b", claims.Check(True, "so"))
    record("part/chapter", table, verdict="a is ahead", seeds=[0], steps=7)
    said = capsys.readouterr().out
    assert "Verdict of this run: a is ahead" in said and "Claims: 1 not judged." in said
    assert str(tmp_path / "results/reader/part-chapter.csv") in said


def test_splits_of_one_data_set_get_wider_intervals():
    recipes = {"a": Recipe(), "b": Recipe(lr=0.01)}
    plain, wide = (compare(recipes, stand_in, seeds=[0, 1, 2], steps=2, batch_size=8, overlap=share).table
                   for share in (None, 0.5))
    assert len(wide) == len(plain) + 2 * 3 and set(wide.metric) - set(plain.metric) == {"test to train"}
    one, other = (difference(table, "a", "b", "ECE") for table in (plain, wide))
    assert (other.high - other.low) == pytest.approx((one.high - one.low) * np.sqrt((1 / 3 + 0.5) * 3))


def test_a_refuted_claim_says_what_is_there(monkeypatch, tmp_path):
    monkeypatch.setenv("BOOK_PROFILE", "book")
    table = results(a=[0.1, 0.11, 0.12], b=[0.5, 0.51, 0.52])
    said = claim("a beats b", better(table, "a", "b"), refuted="We expected it. It is <far> below.")
    assert "It is &lt;far&gt; below" in said._repr_html_() and "claim-refuted" in said._repr_html_()
    claim("b beats a", better(table, "b", "a"))
    record("part/chapter", table, verdict="so", seeds=[0, 1, 2], steps=5)
    first, second = json.loads((tmp_path / "results/book/part-chapter.json").read_text())["claims"]
    assert (first["status"], first["acknowledged"]) == ("refuted", "We expected it. It is <far> below.")
    assert (second["status"], second["acknowledged"]) == ("held", None)
    assert first["difference"] == pytest.approx([-0.4, -0.4, -0.4]) and first["n"] == 3
    assert second["p_holm"] >= second["p"]
    with pytest.raises(TypeError, match="check=True must be a Check"):
        claim("a beats b", True)


def test_a_sentence_is_escaped_on_the_page():
    shown = claim("<script>alert(1)</script>", claims.Check(True, "<b>"))._repr_html_()
    assert "<script>" not in shown and "&lt;b&gt;" in shown
    assert "the boots&#x27; +1.0;<br>two" in claim("x", claims.Check(True, "the boots' +1.0; two"))._repr_html_()


def test_runs_are_counted_on_each_data_set(tmp_path, monkeypatch):
    monkeypatch.setenv("BOOK_BUILD", str(tmp_path))
    rows = [read.tidy(name, "a", seed, {"accuracy": 0.5}) for name in ("one", "two") for seed in range(3)]
    counted = record("part/chapter", pd.concat(rows), verdict="so", seeds=[0, 1, 2], steps=5)
    assert counted.loc["fair"].tolist() == [1, 6]


def test_records_come_with_a_manifest(tmp_path, monkeypatch):
    monkeypatch.setenv("BOOK_PROFILE", "smoke")
    table = results(a=[0.9], b=[0.8])
    record("part/some_chapter", table, verdict="fine", seeds=[0], steps=7, data_hash="abc")
    written = pd.read_csv(tmp_path / "results/smoke/part-some_chapter.csv")
    assert list(written.columns) == COLUMNS and written.value.tolist() == [0.9, 0.8]
    manifest = json.loads((tmp_path / "results/smoke/part-some_chapter.json").read_text())
    assert manifest["data"] == "real" and manifest["steps"] == 7 and manifest["verdict"] == "fine"
    assert manifest["versions"]["torch"] and manifest["code_hash"] == records.code_hash()
    odd = {"lack value": table.drop(columns="value"), "stands twice": pd.concat([table, table]),
           "is not a number": table.assign(value=np.nan), "'ten', which is no number": table.assign(value="ten")}
    for words, wrong in odd.items():
        with pytest.raises(ValueError, match=words):
            record("x/y", wrong, verdict="", seeds=[], steps=0)


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
    assert found["macro F1"] == pytest.approx(sk.f1_score(labels, predictions, average="macro"))
    each = sk.average_precision_score(np.eye(5)[labels], logits.softmax(1), average=None)
    assert found["PR-AUC"] == pytest.approx(each.mean()) and found["PR-AUC"] != pytest.approx(each.max())


def test_precision_is_not_recall():  # E1: the confusion matrix read along the wrong axis
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


# ---------------------------------------------------------------- many checks, many rivals

def spread(gains, datasets=("one",)):
    """Five seeds of each technique, with a little noise of its own."""
    rows = [tidy(dataset, name, seed, {"F1": 0.5 + gain + 0.002 * ((seed * (place + 2)) % 5)})
            for dataset in datasets for place, (name, gain) in enumerate({"plain": 0.0, **gains}.items())
            for seed in range(5)]
    return pd.concat(rows, ignore_index=True)


def test_of_many_checks_the_page_shows_one_that_fails_or_the_weakest():
    table = spread({"far": 0.3, "near": 0.02, "behind": -0.1})
    far, near, behind = (better(table, name, "plain", "F1") for name in ("far", "near", "behind"))
    assert all_of([far, near]).holds and all_of([far, near]).gap == near.gap, "the larger p-value"
    failed = all_of([far, behind, near])
    assert not failed.holds and failed.detail.startswith("behind") and "least certain of 3" in failed.detail
    assert not all_of([Check(True, "a"), Check(True, "b", real=False)]).real


def test_ahead_is_what_is_clear_of_zero_after_holm_on_its_data_set():
    table = spread({"up": 0.1, "down": -0.1, "level": 0.0}, ("one", "two"))
    table.loc[(table.technique == "up") & (table.dataset == "two"), "value"] -= 0.1
    names = ["up", "down", "level"]
    assert clearly_ahead(table, names, "plain", "F1", ("one", "two")) == [("up", "one")]
    assert none_ahead(table, ["down", "level"], "plain", "F1", ("one", "two")).holds
    told = none_ahead(table, names, "plain", "F1", ("one", "two"))
    assert not told.holds and "the best of 6 is up on one: +10." in told.detail


def test_many_looks_make_it_harder_to_be_ahead():
    noisy = {f"vain {number}": 0.0 for number in range(30)}
    table = spread({"small": 0.008} | noisy)
    assert difference(table, "small", "plain", "F1").low > 0
    assert clearly_ahead(table, ["small"], "plain", "F1") == [("small", None)]
    assert clearly_ahead(table, ["small", *noisy], "plain", "F1") == []


def test_lost_trainings_are_told_with_how_many_there_were():
    rows = [tidy(dataset, name, seed, {"balanced accuracy": value, "recall": np.full(10, value)})
            for dataset in ("one", "two") for name, ends in (("steady", (0.9, 0.9)), ("wild", (0.9, 0.1)))
            for seed, value in enumerate(ends)]
    table = pd.concat(rows, ignore_index=True)
    assert collapsed(table) == {"wild": 2}
    assert lost_trainings(table) == "trainings that ended at chance: wild (2 of 4)"
    assert lost_trainings(table[table.technique == "steady"]).endswith("none")
