"""The pages that answer: all techniques side by side, and the guide; from results that are made up here."""

import json
import re

import benchmark
import catalogue
import guide
import numpy as np
import pandas as pd
import pytest
import recorded

from helpers import graphs, results, texts
from helpers.datasets import long_tailed
from helpers.messages import load_messages

SEEDS = range(5)
GAINS = {"baseline": 0.0, "logit adjustment": 0.02, "balanced data": 0.09}


def made_up(gains, datasets=("MNIST-LT", "FashionMNIST-LT"), ece=0.0, scatter=0.0004):
    """Rows of a chapter: each technique is above the baseline by its gain, with a little noise of its own."""
    rows = []
    for dataset in datasets:
        for place, (name, gain) in enumerate(({**GAINS, **gains}).items()):
            for seed in SEEDS:
                value = 0.8 + gain + 0.01 * seed + scatter * ((seed + place) % 5 - 2)
                found = {"balanced accuracy": value, "PR-AUC": value - 0.1, "head recall": value + 0.1 - 2 * gain,
                         "tail recall": value + gain, "ECE": 0.1 + gain * ece + scatter * ((seed * 3) % 5),
                         "seconds": 2.0 if "twice" in name else 1.0, "recall": np.full(10, value)}
                rows.append(results.tidy(dataset, name, seed, found))
    return pd.concat(rows, ignore_index=True)


@pytest.fixture
def book(tmp_path, monkeypatch):
    """Write the record of a chapter; returns the chapters that have one."""
    monkeypatch.setattr(catalogue, "build_folder", lambda: tmp_path)

    def write(profile="book", data="real", **tables):
        recorded.facts.cache_clear()
        recorded.results.cache_clear()
        names = {name.replace("__", "/"): table for name, table in tables.items()}
        for name, table in names.items():
            path = catalogue.results_path(name, profile, ".json")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"profile": profile, "data": data, "dataset": []}), encoding="utf-8")
            table.to_csv(path.with_suffix(".csv"), index=False)
        return list(names)

    yield write
    recorded.facts.cache_clear()
    recorded.results.cache_clear()


def two(book, **facts):
    return book(resampling__long_tailed_digits=made_up({"helper": 0.05, "harm": -0.03}),
                augmentation__mixing=made_up({"helper": 0.5, "twice the work": 0.03}), **facts)


def test_other_budgets_are_told_in_order_of_their_steps_once_they_were_run(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "ROOT", tmp_path)
    assert benchmark.budgets() == ""
    early = made_up({"slow": -0.05, "quick": 0.05}, datasets=["400 steps"])
    late = made_up({"slow": 0.06, "quick": 0.01}, datasets=["1600 steps"])
    (tmp_path / "book").mkdir()
    (tmp_path / "book/other_budgets.csv").write_text(
        "# Recorded on a <day>.\n" + pd.concat([late, early]).to_csv(index=False), encoding="utf-8")
    made = benchmark.budgets()
    assert made.index(">400 steps<") < made.index(">1600 steps<")
    assert "The ranks of the 3 at 400 steps and at 1600 steps correlate by −0.5." in made  # 2, 1, 3 and 1, 3, 2
    assert "At 1600 steps the free correction adds +2.0" in made
    assert "clearly above the baseline after Holm: slow, quick; clearly above the correction: slow." in made
    assert "Recorded on a &#60;day&#62;." in made
    row = re.search(r"<tr><th scope=\"row\">slow</th>(.*?)</tr>", made)[1]
    assert row.index("−7.0") < row.index("+4.0")
    assert "balanced data" not in made


def test_each_technique_stands_once_beside_the_free_correction_and_is_judged_in_each_arena(book):
    listed = benchmark.entries("book", two(book))
    by_name = {entry["technique"]: entry for entry in listed}
    assert list(by_name) == ["baseline", "helper", "harm", "twice the work"]
    assert by_name["helper"]["chapter"] == "resampling/long_tailed_digits", "the first chapter that names it"
    assert benchmark.both(by_name["helper"], "gap") == pytest.approx(0.03, abs=0.002)
    assert by_name["twice the work"]["MNIST-LT"]["seconds"] == 2
    assert benchmark.both(by_name["harm"], "head recall") == pytest.approx(0.03, abs=0.002)
    assert [benchmark.ahead(by_name[name], "MNIST-LT") for name in ("helper", "harm")] == [True, False]
    said = benchmark.words(listed)
    assert "4 techniques ran in both arenas" in said
    assert "On the digits, 2 (helper, twice the work) are clearly above the free correction after Holm, and 2 " in said


def test_runs_that_two_chapters_name_differently_are_counted_once(book, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "budgets", lambda: "")
    first = made_up({"helper": 0.05, "harm": -0.13})
    chapters = book(resampling__long_tailed_digits=first, losses__weights=first.replace("helper", "the helper again"))
    listed = benchmark.entries("book", chapters)
    assert {entry["technique"]: entry["also"] for entry in listed} == {
        "baseline": [], "helper": ["the helper again"], "harm": []}
    shown = benchmark.page("book", chapters, tmp_path)
    assert "Beside the plain baseline 2 techniques ran" in shown and "<small>also: the helper again</small>" in shown


def test_what_is_drawn_at_the_edge_is_told_with_its_numbers(book):
    listed = benchmark.entries("book", book(resampling__long_tailed_digits=made_up({"helper": 0.05, "harm": -0.13})))
    said = benchmark.edge(listed)
    assert said.endswith("on the digits and on the garments: harm −15.0 and −15.0.")
    assert "A triangle lies below −7.0 points." in benchmark.costs(listed)
    near = [entry for entry in listed if entry["technique"] != "harm"]
    assert "triangle" not in benchmark.edge(near) + benchmark.costs(near), "what is not drawn is not explained"


def test_a_technique_of_one_arena_is_not_compared(book):
    whole, part = made_up({"helper": 0.05}), made_up({"half": 0.05}, datasets=("MNIST-LT",))
    both = pd.concat([whole, part[part.technique == "half"]], ignore_index=True)
    listed = benchmark.entries("book", book(losses__weights=both))
    assert [entry["technique"] for entry in listed] == ["baseline", "helper"]


def test_a_preview_shows_no_numbers(book, tmp_path):
    assert benchmark.page("smoke", two(book, profile="smoke"), tmp_path) == benchmark.EMPTY
    assert guide.page("book", two(book, data="stand-in")) == guide.EMPTY


def test_the_page_holds_figure_table_and_file(book, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "budgets", lambda: "## Other numbers of steps")
    shown = benchmark.page("book", two(book), tmp_path)
    assert "helper (1 times, +3.0)" in shown and "baseline (1 times" not in shown, "cost against gain, in words"
    assert (tmp_path / "_static/benchmark_cost.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert shown.count('<th scope="row">') == 2 + 4, "two parts of the book, four techniques"
    assert "## Other numbers of steps" in shown
    assert '<table class="dataframe sortable">' in shown and "+3.0 ± 0.1*" in shown
    assert (tmp_path / "_static/benchmark.svg").read_text(encoding="utf-8").startswith("<?xml")
    table = pd.read_csv(tmp_path / "_static/results.csv")
    assert list(table.columns) == list(benchmark.DICTIONARY)
    assert len(table) == 2 * 2 * 5 * 5 * 6 and "recall" not in set(table.metric)
    assert f"All {len(table):,} numbers" in shown


def test_on_the_front_is_what_nothing_beats_in_both_cost_and_gain():
    def entry(name, cost, gain):
        return {"technique": name} | {one: {"gap": results.Interval.of([gain] * 3), "seconds": cost}
                                      for one in benchmark.ARENAS}

    listed = [entry("dear and best", 3, 0.03), entry("cheap", 0.5, -0.01), entry("cheap and worse", 0.5, -0.02),
              entry("dearer than better", 2, 0.005), entry("between", 2, 0.02), entry("level", 1, 0)]
    assert [one["technique"] for one in benchmark.front(listed)] == [
        "cheap", "logit adjustment", "between", "dear and best"]
    assert "picked from 6" in benchmark.costs(listed)
    assert "Nothing that costs more gives more." in benchmark.costs(listed[1:3])


def test_rank_correlation_by_hand():
    gaps = [[1, 1], [2, 2], [3, 3], [4, 5], [5, 4]]
    listed = [{one: {"gap": results.Interval.of([value] * 3)} for one, value in
               zip(benchmark.ARENAS, pair, strict=True)} for pair in gaps]
    rank, low, high = benchmark.rank_correlation(listed)
    assert rank == pytest.approx(1 - 6 * 2 / (5 * 24))
    assert -1 < low < rank < high < 1


def test_the_guide_names_the_best_that_is_clear_and_says_where_nothing_is(book):
    found = guide.cells("book", two(book))
    training = found[*guide.IMAGES, "the sampler or the loss", "each class counts the same"]
    assert ">helper</a> +5.0 ± 0.1, +5.0 ± 0.1" in training and "2 tried" in training
    assert ">twice the work</a>" in found[*guide.IMAGES, "the data", "a ranking"]
    assert found[*guide.IMAGES, "only the threshold", "each class counts the same"].startswith("<a")
    assert (*guide.IMAGES, "the model or its schedule", "a ranking") not in found, "no evidence, no answer"
    assert (*guide.IMAGES, "the data", "few false alarms") not in found


def test_what_changes_two_things_is_no_answer_for_either(book):
    table = made_up({"affine": 0.01, "affine + logit adjustment": 0.05, "logit adjustment, own τ": 0.04})
    found = guide.cells("book", book(augmentation__single_images=table))
    assert ">affine</a>" in found[*guide.IMAGES, "the data", "each class counts the same"]
    assert "affine + logit" not in str(found)
    assert "own τ" in found[*guide.IMAGES, "only the threshold", "each class counts the same"]


def test_the_guide_does_not_recommend_what_is_not_clear_in_both_arenas(book):
    one = made_up({"helper": 0.05}, datasets=("MNIST-LT",))
    other = made_up({"helper": 0.0}, datasets=("FashionMNIST-LT",))
    found = guide.cells("book", book(resampling__long_tailed_digits=pd.concat([one, other], ignore_index=True)))
    said = found[*guide.IMAGES, "the sampler or the loss", "each class counts the same"]
    assert said.startswith("nothing is clear of the baseline after Holm; nearest is")


def test_what_was_tried_for_another_question_hides_no_answer(book):
    many = {f"vain {number}": 0.0 for number in range(20)}
    table = made_up(many | {"twin": 0.02}, scatter=0.0043)
    found = guide.cells("book", book(losses__weights_and_margins=table))
    assert found[*guide.IMAGES, "only the threshold", "each class counts the same"].startswith("<a")
    assert found[*guide.IMAGES, "the sampler or the loss", "each class counts the same"].startswith("nothing"), "of 21"


def test_networks_and_the_readers_own_data_are_no_techniques(book):
    chapters = book(foundations__before_any_remedy=made_up({"Net": -0.2}),
                    losses__weights_and_margins=made_up({"x": 0}), synthesis__your_own_data=made_up({"own": 0.1}))
    assert {entry["technique"] for entry in benchmark.entries("book", chapters)} == {"baseline", "x"}


def test_where_less_is_better_a_rise_is_no_gain(book):
    found = guide.cells("book", book(resampling__long_tailed_digits=made_up({"overconfident": 0.05}, ece=1.0)))
    assert found[*guide.IMAGES, "the sampler or the loss", "probabilities"].startswith("nothing is clear")


def of_tables(sets=13, rare=200):
    """Rows of tables: weights are level, undersampling loses ten points, the threshold is worth five."""
    rows = []
    for place in range(sets):
        for name, gain in (("XGBoost", 0), ("XGBoost + weights", 0), ("XGBoost + undersampling", -0.1),
                           ("bagging", 0.005 * place)):
            for seed in SEEDS:
                value = 0.7 + 0.01 * place + gain + 0.002 * ((place * 7 + len(name)) % 5 - 2)
                rows.append(results.tidy(f"table {place}", name, seed, {
                    "PR-AUC": value, "balanced accuracy": value, "balanced accuracy at one half": value - 0.05,
                    "recall at 80 % precision": value, "Brier score": 0.1 + gain, "test to train": 1 / 3,
                    "rare training rows": rare}))
    return pd.concat(rows, ignore_index=True)


def test_the_guide_counts_each_table_once_and_gives_boosted_trees_their_threshold(book):
    found = guide.cells("book", book(tables__ensembles=of_tables()))
    moved = found["a table", guide.HUNDREDS, "only the threshold", "each class counts the same"]
    assert ">threshold from validation</a> +5.0 ± 0.0" in moved
    training = found["a table", guide.HUNDREDS, "the sampler or the loss", "a ranking"]
    assert training.startswith("nothing is clear of the baseline after Holm; nearest is")
    assert ">XGBoost + weights</a>" in training
    assert ">bagging</a> +3.0 ±" in found["a table", guide.HUNDREDS, "the model or its schedule", "few false alarms"]
    training = found["a table", guide.HUNDREDS, "the sampler or the loss", "probabilities"]
    assert ">XGBoost + undersampling</a> +10.0" in training
    assert ("a table", guide.HUNDREDS, "only the threshold", "a ranking") not in found


def test_tables_with_dozens_of_rare_rows_are_asked_apart_from_those_with_hundreds(book):
    few, many = of_tables(6, rare=99), of_tables(6, rare=100)
    few.loc[(few.technique == "bagging") & (few.metric == "PR-AUC"), "value"] += 0.2
    many["dataset"] = "large " + many.dataset
    found = guide.cells("book", book(tables__ensembles=pd.concat([few, many], ignore_index=True)))
    model = "the model or its schedule", "a ranking"
    assert ">bagging</a> +21" in found["a table", guide.DOZENS, *model]
    assert ">bagging</a> +1." in found["a table", guide.HUNDREDS, *model]
    assert ("a table", guide.HANDFUL, *model) not in found


def test_where_few_tables_show_nothing_the_guide_says_what_all_of_them_show(book):
    few, many = of_tables(2, rare=50), of_tables(6, rare=500)
    many["dataset"] = "large " + many.dataset
    place = "only the threshold", "each class counts the same"
    few.loc[(few.technique == "XGBoost") & (few.dataset == "table 1") & (few.metric == "balanced accuracy"),
            "value"] += 0.02  # with two tables, an interval that is wide
    alone = guide.cells("book", book(tables__ensembles=few))
    assert alone["a table", guide.DOZENS, *place].startswith(guide.NOTHING)
    found = guide.cells("book", book(tables__ensembles=pd.concat([few, many], ignore_index=True)))
    assert "over all 8 tables" in found["a table", guide.DOZENS, *place]
    assert "over all" not in found["a table", guide.HUNDREDS, *place], "they show it by themselves"


def test_with_a_handful_of_rare_rows_the_guide_asks_for_eight_labels(book):
    rows = [results.tidy(f"table {place}", name, seed, {"PR-AUC": level + 0.01 * place + 0.002 * (place * seed % 3),
                                                       "recall at 5 % false alarms": 0.5, "test to train": 1 / 3})
            for place in range(13) for seed in SEEDS
            for name, level in (("XGBoost, 8 labelled", 0.5), ("logistic regression, 8 labelled", 0.6),
                                ("XGBoost, all labelled", 0.9), ("one-class SVM", 0.3))]
    found = guide.cells("book", book(tables__one_class=pd.concat(rows, ignore_index=True)))
    said = found["a table", guide.HANDFUL, "the model or its schedule", "a ranking"]
    assert ">logistic regression, 8 labelled</a> +10.0" in said and "2 tried" in said
    assert "all labelled" not in str(found), "who has a handful has no more"


@pytest.mark.data
def test_the_rarest_class_of_images_text_and_graph_is_as_large_as_the_guide_says():
    words = np.array(load_messages("real").texts, dtype=object)
    labels = load_messages("real").labels[texts.first_of_each(texts.near_duplicates(words))]
    smallest = {("images", name): long_tailed(name, data="real").class_counts.min()
                for name in ("MNIST", "FashionMNIST")}
    smallest["a graph", "pages"] = graphs.draw(graphs.load_page_network("real"), 0).class_counts.min()
    smallest["text", "spam"] = labels[texts.split(labels, 0)[0]].sum()
    counts = dict([guide.IMAGES, *guide.ELSEWHERE])
    for (kind, _), number in smallest.items():
        low, high = guide.COUNTS[counts[kind]]
        assert low <= number < high, (kind, number)


def test_the_form_holds_every_answer_and_the_table_all_of_them(book):
    shown = guide.page("book", two(book))
    data = re.search(r'<script type="application/json">(.*?)</script>', shown, flags=re.DOTALL)[1]
    assert "<" not in data
    answers = json.loads(data)
    assert set(answers) == {"|".join(place) for place in guide.cells("book", ["resampling/long_tailed_digits",
                                                                             "augmentation/mixing"])}
    assert "no evidence in this book" in shown
    opened = re.findall(r"<option selected>(.*?)</option>", shown)
    assert "|".join(opened) in answers, "the first answer that a reader sees is one"
    total = len(guide.COUNTS) * len(guide.CHANGES) * len(guide.AIMS)
    assert f"{len(answers)} of {total} cells rest on a comparison" in shown
    assert "images with a handful (below 10) or with hundreds or more." in shown


def test_a_threshold_is_said_to_leave_a_ranking_of_two_classes_as_it_is(monkeypatch):
    kind = ("text", guide.HUNDREDS)
    monkeypatch.setattr(guide, "cells", lambda *_: {(*kind, "the data", "a ranking"): "measured",
                                                    ("a graph", guide.HUNDREDS, "the data", "a ranking"): "measured"})
    data = re.search(r'<script type="application/json">(.*?)</script>', guide.page("book", []), flags=re.DOTALL)[1]
    answers = json.loads(data)
    assert answers["|".join((*kind, "only the threshold", "a ranking"))].startswith("a threshold changes no ranking")
    assert answers["|".join((*kind, "the data", "a ranking"))] == "measured"
    assert not any(place.startswith("a graph") and "threshold" in place for place in answers), "four classes"


def test_the_guide_knows_what_each_technique_on_text_and_graphs_changes():
    """A renamed technique would fall among the rest without a word."""
    trees = [name for name in guide.TREES if name != "threshold from validation"]
    for some, kinds, _ in (*guide.ELSEWHERE.values(), ([guide.TABLES], trees, "model")):
        text = "".join(catalogue.text(chapter) for chapter in some)
        assert [name for name in kinds if f'"{name}"' not in text] == []
    parts = {chapter.split("/")[0] for chapter in catalogue.in_order() if "in_arena(" in catalogue.text(chapter)}
    assert parts - {"foundations", "synthesis"} <= set(guide.PARTS)
