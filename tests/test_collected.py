"""What the front page and the tables are made of: numbers from the records, warnings where they are not results."""

import ast
import json
import re
import shutil

import catalogue
import collected
import gains
import ledger
import numpy as np
import pairs
import pandas as pd
import pytest
import recorded
import reproduced
import website

from helpers import results
from helpers.texts import table_of_words

ROOT = catalogue.ROOT
CHAPTERS = catalogue.in_order()
REMEDIES = [chapter for chapter in CHAPTERS if chapter.split("/")[0] not in ("foundations", "synthesis")]
DIGITS, NETWORK, SPAM = "resampling/long_tailed_digits", "graphs/page_network", "text/augmentation"
PUBLISHED = (ROOT / "book/published.md").read_text(encoding="utf-8")
SEEDS = range(5)
GAIN = {"baseline": 0.0, "random oversampling": 0.10, "logit adjustment": 0.08, "a better one": 0.20, "a vain one": 0.0}


def made_up(names, protocol="fair", noise=0.01, accuracy=0.8):
    """Accuracies and recalls as a chapter records them; the seeds share their noise, the gains hardly scatter."""
    rows = []
    for seed in SEEDS:
        common = noise * (seed - 2)
        for place, (name, gain) in enumerate(names.items()):
            value = accuracy + gain + common + 0.001 * ((seed * (place + 1)) % 3 - 1)
            values = {"accuracy": value, "balanced accuracy": value, "PR-AUC": value, "recall": np.full(10, value)}
            rows.append(results.tidy("MNIST-LT", name, seed, values, protocol=protocol))
    return pd.concat(rows)


@pytest.fixture
def build(tmp_path, monkeypatch):
    """A build folder with the record of every chapter; returns a function that changes one of them."""
    monkeypatch.setattr(catalogue, "build_folder", lambda: tmp_path)

    def write(chapter, profile="book", table=None, **facts):
        recorded.facts.cache_clear()
        recorded.results.cache_clear()
        reproduced.rows_of.cache_clear()
        path = catalogue.results_path(chapter, profile, ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = {"chapter": chapter, "profile": profile, "dataset": ["MNIST-LT"], "data": "real", "seeds": [*SEEDS],
                 "device": "CPU", "minutes": 7.4, "date": "2026-01-02", "verdict": "It's 5 % <b>better</b>", **facts}
        path.write_text(json.dumps(facts), encoding="utf-8")
        if table is None:
            table = made_up(GAIN)
        table.to_csv(catalogue.results_path(chapter, profile, ".csv"), index=False)

    for chapter in CHAPTERS:
        write(chapter)
        write(chapter, "smoke")
    yield write
    recorded.facts.cache_clear()
    recorded.results.cache_clear()
    reproduced.rows_of.cache_clear()


def text_of(markup):
    """What a reader sees of HTML."""
    import html

    return html.unescape(re.sub(r"<[^>]+>", " ", markup))


# ---------------------------------------------------------------- text from elsewhere

@pytest.mark.parametrize("text", [
    "XGBoost's <script>alert('x')</script>", 'a "quoted" & *starred* #1 [link](x) $y$ `z`'])
def test_escaped_text_reads_as_it_was_and_is_no_markup(text):
    escaped = catalogue.escape(text)
    assert text_of(escaped) == text
    assert not set("<>\"'*[`$") & set(escaped)


def test_a_message_that_carries_a_script_is_shown_as_text():
    message = "WIN <script>alert(1)</script> & <img src=x onerror=alert(1)>"
    shown = table_of_words({"spam": [message]}).data
    assert "<script" not in shown
    assert "<img" not in shown
    assert "&lt;script&gt;alert(1)" in shown


def test_a_data_set_with_a_script_for_a_name_is_shown_as_text(build):
    build(DIGITS, dataset=["<script>alert(1)</script>"], verdict="<script>alert(2)</script>")
    for made in (collected.run("book", CHAPTERS), collected.chapters_table("book", CHAPTERS)):
        assert "<script" not in made
        assert "<b>better" not in made
    assert "<script>alert(2)" in text_of(collected.chapters_table("book", CHAPTERS))


def test_nothing_loads_a_pickle_from_a_file():
    loads = re.compile(r"\b(?:pickle|dill|joblib|cloudpickle|shelve)\.(?:load|open)\w*\(|read_pickle\(|"
                       r"allow_pickle=True|weights_only=False|\btorch\.load\((?![^\n]*weights_only=True)|"
                       r"^import pickle|^from pickle")
    files = [*(ROOT / "helpers").rglob("*.py"), *(ROOT / "notebooks").rglob("*.py"), *(ROOT / "book/_ext").glob("*.py")]
    found = [line.strip() for file in files for line in file.read_text(encoding="utf-8").splitlines()
             if loads.search(line)]
    # the one place: bytes that the parent process has made itself, a moment before
    assert found == ["work = cloudpickle.loads(pickled)"]
    for wrong in ("x = torch.load(path)", "pickle.load(file)", "np.load(path, allow_pickle=True)"):
        assert loads.search(wrong)
    assert not loads.search("torch.load(path, weights_only=True)")


# ---------------------------------------------------------------- the front page

def test_the_figure_is_drawn_from_the_records_and_its_words_are_computed(build, tmp_path):
    (tmp_path / "_static").mkdir()
    made = gains.gains_figure("book", CHAPTERS, tmp_path)
    for name in ("light", "dark"):
        drawn = (tmp_path / f"_static/gains-{name}.svg").read_text(encoding="utf-8")
        assert drawn.count("<use") > 5 * len(gains.gains("book", CHAPTERS))
        assert drawn.count("<!-- a better one -->") == drawn.count("<!-- a vain one -->") == len(REMEDIES)
    alt = text_of(re.search(r'alt="([^"]+)"', made)[1])
    assert re.search(r"Long-tailed digits, balanced accuracy: best a better one \+20\.0 ± 0\.\d, random oversampling "
                     r"\+10\.0 ± 0\.\d", alt)
    caption = text_of(made)
    count = len(REMEDIES)
    assert f"All {4 * count} techniques of {count} chapters" in caption
    assert f"{3 * count} of all stand beside plain random oversampling: {count} of these are" in caption
    assert f"Of {4 * count} techniques of {count} chapters the best and the last of each" in caption
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</tr>", made)  # what a phone shows in the figure's place
    assert len(rows) == count
    told = r"Long-tailed digits.*a better one \+20\.0 ± 0\.\d.*a vain one .*random oversampling \+10\.0 ± 0\.\d"
    assert re.search(told, " ".join(text_of(rows[0]).split()))


def test_a_long_name_is_not_cut_at_the_edge_of_the_figure(build, tmp_path):
    def width(name):
        build(DIGITS, table=made_up({**GAIN, name: 0.3}))
        gains.draw_gains(gains.gains("book", CHAPTERS), tmp_path / "drawn.svg", dark=False)
        return float(re.search(r'width="([\d.]+)pt"', (tmp_path / "drawn.svg").read_text(encoding="utf-8"))[1])

    assert width("a name of many words, " * 6) > width("a name of many words, " * 3) + 100


def test_a_chapter_is_measured_on_the_data_set_that_it_discusses(build):
    home, away = made_up({**GAIN, "balanced data": 0.3}), made_up({**GAIN, "a better one": -0.5})
    build(DIGITS, table=pd.concat([home, away.assign(dataset="FashionMNIST-LT")]))
    found = gains.gains("book", CHAPTERS)[DIGITS]
    assert found["a better one"].mean == pytest.approx(0.20, abs=0.001)
    assert "balanced data" not in found


def test_the_gain_is_paired(build):
    gap = gains.gains("book", CHAPTERS)[DIGITS]["a better one"]
    assert gap.mean == pytest.approx(0.20, abs=0.001)
    assert gap.high - gap.low < 0.004, "the noise that the seeds share must cancel"


def test_rival_models_and_bugs_are_no_techniques(build):
    models = made_up({"GCN": 0.1, "XGBoost": 0.0})
    build(NETWORK, table=models)
    build(DIGITS, table=pd.concat([made_up(GAIN), made_up({"another network": 0.1, "a bug": -0.4}, protocol="rivals")]))
    found = gains.gains("book", CHAPTERS)
    assert NETWORK not in found
    assert set(found[DIGITS]) == set(GAIN) - {"baseline"}


def test_a_chapter_enters_the_figure_by_the_metric_that_it_argues_with(build):
    assert set(gains.METRICS) <= set(CHAPTERS)
    halved = made_up({name: gain / 2 for name, gain in GAIN.items()})
    table = pd.concat([made_up(GAIN).query("metric != 'PR-AUC'"), halved.query("metric == 'PR-AUC'")])
    build(SPAM, table=table)
    build(DIGITS, table=table)
    found = gains.gains("book", CHAPTERS)
    assert found[SPAM]["a better one"].mean == pytest.approx(0.10, abs=0.001)
    assert found[DIGITS]["a better one"].mean == pytest.approx(0.20, abs=0.001)


def test_what_is_no_result_is_not_drawn(build, tmp_path):
    build(DIGITS, data="stand-in")
    assert DIGITS not in gains.gains("book", CHAPTERS)
    assert gains.gains("smoke", CHAPTERS) == {}
    made = gains.gains_figure("smoke", CHAPTERS, tmp_path)
    assert "preview without results" in made
    assert "<img" not in made


def test_the_table_of_chapters_says_question_data_minutes_and_verdict(build):
    rows = re.findall(r"<tr role=\"row\">(.*?)</tr>", collected.chapters_table("book", CHAPTERS))[1:]
    assert len(rows) == len(CHAPTERS)
    for chapter, row in zip(CHAPTERS, rows, strict=True):
        read = text_of(row)
        assert f'href="../notebooks/{chapter}.html"' in row
        assert "7 minutes on a CPU" in read
        assert "It's 5 % <b>better</b>" in read
        for what in ("Question", "Data"):
            assert recorded.box(chapter, what) in read
            assert len(recorded.box(chapter, what)) > 20


def test_a_quick_run_has_no_verdict_on_the_first_page(build):
    build(DIGITS, data="stand-in")
    assert "It's 5 %" not in text_of(collected.chapters_table("smoke", CHAPTERS))
    assert "It's 5 %" in text_of(collected.chapters_table("book", CHAPTERS))
    assert text_of(collected.chapters_table("book", CHAPTERS)).count("no result in this run") == 1


@pytest.mark.parametrize(("profile", "data", "words"), [
    ("book", "real", None), ("book", "stand-in", "stand-in data"), ("smoke", "real", "the smoke profile")])
def test_one_stand_in_is_enough_for_the_warning(build, profile, data, words):
    build(DIGITS, profile, data=data)
    made = collected.run(profile, CHAPTERS)
    assert ("run-warning" in made) == bool(words)
    assert not words or words in text_of(made)


# ---------------------------------------------------------------- the minutes in the box

@pytest.mark.parametrize(("minutes", "device", "words"), [
    (0.4, "CPU", "Under a minute on a CPU"), (1.2, "CPU", "1 minute on a CPU"), (17.7, "CPU", "18 minutes on a CPU"),
    (3.0, "H200", "3 minutes on one H200")])
def test_measured_times_in_words(minutes, device, words):
    assert recorded.time_taken({"minutes": minutes, "device": device}) == words


@pytest.mark.parametrize("profile", ["book", "smoke"])
def test_the_box_tells_the_measured_minutes_but_not_those_of_a_quick_run(build, tmp_path, profile):
    import nbformat

    nb = pairs.as_notebook(catalogue.source(DIGITS).read_text(encoding="utf-8"))
    target = tmp_path / f"notebooks/{profile}/{DIGITS}.ipynb"
    target.parent.mkdir(parents=True)
    nbformat.write(nb, target)
    page = "\n".join(cell.source for cell in website.staged(DIGITS, profile).cells)
    assert ('<span class="minutes">7 minutes on a CPU</span>' in page) == (profile == "book")


def test_a_sentence_is_shown_without_the_quotes_of_python_and_other_values_as_they_are(build, tmp_path):
    import nbformat

    nb = pairs.as_notebook(catalogue.source(DIGITS).read_text(encoding="utf-8"))
    cell = next(cell for cell in nb.cells if cell.cell_type == "code")
    said = ["'It\\'s 5 of 7'", "['a', 'b']", "'a' + 'b'"]
    cell.outputs = [nbformat.v4.new_output("execute_result", {"text/plain": one}, execution_count=1) for one in said]
    table = pd.DataFrame({"F1": [1]}, index=pd.Index(["a"], name="technique")).to_html()
    cell.outputs.append(nbformat.v4.new_output("display_data", {"text/html": table}))
    target = tmp_path / f"notebooks/book/{DIGITS}.ipynb"
    target.parent.mkdir(parents=True)
    nbformat.write(nb, target)
    *shown, last = next(cell for cell in website.staged(DIGITS, "book").cells if cell.get("outputs")).outputs
    assert [output.data["text/plain"] for output in shown] == ["It's 5 of 7", *said[1:]]
    assert re.findall(r"<th>(.*?)</th>", last.data["text/html"]) == ["technique", "F1", "a"]


def test_a_table_whose_index_has_a_name_has_a_head_of_one_row():
    named = pd.DataFrame({"F1": [1], "ECE": [2]}, index=pd.Index(["a"], name="technique"))
    head = website.NAMED.sub(r"\1\3\2", named.to_html()).split("</thead>")[0]
    assert re.findall(r"<th>(.*?)</th>", head) == ["technique", "F1", "ECE"] and head.count("<tr") == 1
    for other in (named.rename_axis(None), named.rename_axis(None).rename_axis(columns="technique")):
        assert website.NAMED.sub(r"\1\3\2", other.to_html()) == other.to_html()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_no_chapter_types_its_minutes(chapter):
    assert '**Time.** <span class="minutes">' in catalogue.source(chapter).read_text(encoding="utf-8")


# ---------------------------------------------------------------- the ledger of claims

HELD = {"sentence": "A <b>remedy</b> helps.", "status": "held", "acknowledged": None, "detail": "+2.0 points",
        "difference": [0.02, 0.01, 0.03], "n": 5, "p": 0.0001, "p_holm": 0.0004}
FELL = {**HELD, "sentence": "Another helps too.", "status": "refuted", "difference": [-0.004, -0.02, 0.012], "p": 0.5,
        "p_holm": 1.0}
KNOWN = {**FELL, "sentence": "A third helps.", "acknowledged": "We expected a gain, and there is none."}
BARE = {**HELD, "sentence": "The ink is grey.", "difference": None, "n": None, "p": None, "p_holm": None}


LEVEL = {**HELD, "sentence": "The GCN is as published.", "kind": "value", "difference": [0.886, 0.872, 0.9], "p": None,
         "p_holm": None}
SAME = {**HELD, "sentence": "Two are as good as each other.", "kind": "equality", "difference": [0.0, -0.002, 0.002]}


def ledger_of(build, *claims, chapter=DIGITS, **facts):
    build(chapter, claims=list(claims), **facts)
    return text_of(ledger.page("book", CHAPTERS))


def test_the_ledger_counts_what_held_and_what_chance_alone_would_give(build):
    said = ledger_of(build, HELD, FELL, KNOWN, BARE, LEVEL, SAME)
    assert "Of 6 claims, **4 held and 2 were refuted**. 1 of the refuted is acknowledged in the chapter." in said
    assert "3 of the judged claims rest on a test of a difference, 1 on one of an equality." in said
    assert "2 of all that held stay significant" in said
    assert ledger.by_chance([HELD] * 60 + [FELL] * 20 + [BARE] * 7 + [SAME] * 9) == (80, 2.0)
    assert "fragile" not in said


def test_a_row_of_the_ledger_holds_difference_interval_seeds_and_adjusted_p(build):
    build(DIGITS, claims=[HELD, FELL, KNOWN, BARE, LEVEL])
    rows = re.findall(r'<tr><th scope="row">(.*?)</tr>', ledger.page("book", CHAPTERS))
    assert [" ".join(text_of(row).split()) for row in rows] == [
        "A <b>remedy</b> helps. +2.0 points held +2.0 +1.0 to +3.0 5 < .001",
        "Another helps too. +2.0 points refuted −0.4 −2.0 to +1.2 5 1.000",
        "A third helps. We expected a gain, and there is none. refuted −0.4 −2.0 to +1.2 5 1.000",
        "The ink is grey. +2.0 points held – – – –",
        "The GCN is as published. +2.0 points held 88.6 87.2 to 90.0 5 –"]
    assert 'class="status status-refuted"' in rows[1]
    assert f'href="../notebooks/{DIGITS}.html"' in ledger.page("book", CHAPTERS)


def test_a_build_that_judges_nothing_says_so(build):
    said = ledger_of(build, {**HELD, "status": "not judged"}, {**FELL, "status": "not judged"})
    assert "This build judges nothing: its 2 claims were made without the book's seeds or" in said
    assert "held and" not in said


def test_what_a_publisher_objects_to():
    stale = {**HELD, "acknowledged": "We thought not."}
    assert [*ledger.objections([HELD, FELL, KNOWN, BARE, stale]).values()] == [[FELL], [stale]]
    unjudged = [{**claim, "status": "not judged"} for claim in (FELL, stale)]
    assert [*ledger.objections(unjudged).values()] == [[], []]


def test_a_claim_that_falls_in_another_arithmetic_is_fragile(build, tmp_path, monkeypatch):
    beside = tmp_path / "build/arithmetic/avx2"
    for file, text in {"run/book/part/one/key": "today", "results/book/part-one.json": json.dumps(
            {"claims": [{**HELD, "status": "refuted"}, FELL, BARE]})}.items():
        (beside / file).parent.mkdir(parents=True, exist_ok=True)
        (beside / file).write_text(text)
    monkeypatch.setattr(catalogue, "ROOT", tmp_path)
    monkeypatch.setattr(catalogue, "key", lambda chapter, profile: "today")
    build("part/one", claims=[HELD, FELL, {**BARE, "status": "not judged"}])
    assert [claim["fragile"] for claim in ledger.entries("book", ["part/one"])] == [["avx2"], [], []]
    said = ledger.totals(ledger.entries("book", ["part/one"]))
    assert "2 were judged in another arithmetic too (avx2): 1 of them came out otherwise, and is marked" in said
    monkeypatch.setattr(catalogue, "key", lambda chapter, profile: "tomorrow")
    assert [claim["fragile"] for claim in ledger.entries("book", ["part/one"])] == [[], [], []], "of another code"


def test_what_another_arithmetic_judged_is_put_on_record_and_shown_from_there(build, tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "ROOT", tmp_path)
    monkeypatch.setattr(catalogue, "key", lambda chapter, profile: "today")
    (tmp_path / "book").mkdir()
    head = "arithmetic,date,chapter,sentence,status\n"
    (tmp_path / "book" / ledger.RECORD).write_text(
        head + 'avx2,2026-01-01,part/two,"Old, and kept.",held\navx2,2026-01-01,part/one,Judged again.,held\n'
        'avx2,2026-01-01,part/gone,It was here.,held\n')
    beside = tmp_path / "build/arithmetic/avx2"
    facts = {"date": "2026-02-03T04:05", "claims": [{**HELD, "status": "refuted"}, {**FELL, "status": "not judged"}]}
    for file, text in {"run/book/part/one/key": "today", "results/book/part-one.json": json.dumps(facts)}.items():
        (beside / file).parent.mkdir(parents=True, exist_ok=True)
        (beside / file).write_text(text)
    chapters = ["part/one", "part/two"]
    assert ledger.put_on_record(chapters) == 1
    assert (tmp_path / "book" / ledger.RECORD).read_text() == (
        head + f'avx2,2026-02-03,part/one,{HELD["sentence"]},refuted\navx2,2026-01-01,part/two,"Old, and kept.",held\n')
    shutil.rmtree(beside)
    build("part/one", claims=[HELD, FELL])
    assert [claim["fragile"] for claim in ledger.entries("book", ["part/one"])] == [["avx2"], []]
    build("part/one", profile="draft", claims=[HELD])
    assert [claim["fragile"] for claim in ledger.entries("draft", ["part/one"])] == [[]], "of the book's seeds alone"


def test_every_sentence_on_record_stands_in_its_chapter():
    """A claim that was reworded was not judged in the other arithmetic."""
    said = {chapter: {ast.literal_eval(node.args[0]) for node in ast.walk(ast.parse(catalogue.text(chapter)))
                      if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "claim"}
            for chapter in CHAPTERS}
    rows = ledger.on_record()
    assert rows and [row for row in rows if row["sentence"] not in said[row["chapter"]]] == []
    assert len({(row["arithmetic"], row["chapter"], row["sentence"]) for row in rows}) == len(rows)


def test_the_first_judgement_is_shown_once_it_is_there(tmp_path, monkeypatch):
    assert ledger.first_judgement() == "" or (ROOT / "book/first_judgement.csv").is_file()
    monkeypatch.setattr(recorded, "short", lambda chapter: "Mining")
    monkeypatch.setattr(catalogue, "ROOT", tmp_path)
    (tmp_path / "book").mkdir()
    assert ledger.first_judgement() == ""
    file = tmp_path / "book/first_judgement.csv"
    file.write_text('chapter,sentence,status,detail\nhard_examples/mining,"A, <b>then</b> B.",refuted,−1.0 points\n'
                    "hard_examples/mining,Two.,held,+1\nhard_examples/mining,Three.,held,+1\n", encoding="utf-8")
    made = ledger.first_judgement()
    assert "3 claims, those of 1 of its nine chapters, were judged once" in made
    assert "**2 held, 1 was refuted**" in made
    assert "A, <b>then</b> B. −1.0 points Mining" in " ".join(text_of(made).split())
    assert "Two." not in made
    file.write_text("chapter,claim\na,b\n")
    with pytest.raises(catalogue.Trouble, match="columns chapter, sentence, status, detail"):
        ledger.first_judgement()


def test_a_chapter_without_a_record_is_left_out_of_the_made_pages(build, tmp_path):
    for suffix in (".json", ".csv"):
        catalogue.results_path(DIGITS, "book", suffix).unlink()
    assert recorded.there("book") == [chapter for chapter in CHAPTERS if chapter != DIGITS]
    made = text_of(collected.fill("<!-- made: chapters --> <!-- made: table T1 -->", "book", tmp_path))
    assert made.count("no result in this run") == 1


# ---------------------------------------------------------------- published and reproduced

def test_every_table_that_a_chapter_repeats_is_on_the_page_and_no_other():
    asked = {match[2] for match in collected.MARK.finditer(PUBLISHED) if match[1] == "table"}
    assert asked == set(reproduced.reproductions())
    for section in re.split(r"^## ", PUBLISHED, flags=re.MULTILINE)[1:]:
        assert "<!-- made: table" not in section or "Why the columns differ:" in section, section[:40]


def test_names_are_joined_as_the_chapter_joins_them():
    assert reproduced.reproductions()["T3"] == {"augmentation/single_images": {"AugMix": "AugMix, transform only"}}
    assert list(reproduced.reproductions()["T1"]) == [DIGITS, "resampling/dynamic_sampling"]


def test_no_number_of_another_data_set_than_the_chapter_names_stands_beside_a_published_one(build):
    chapter = "generative/made_samples"
    source = made_up({"untrained VAE": 0.0}, "source", accuracy=0.9).assign(dataset="MNIST-LT")
    fair = made_up({"untrained VAE": 0.0}, accuracy=0.7).assign(dataset="FashionMNIST-LT")
    build(chapter, table=pd.concat([fair, source]))
    row = text_of(re.search(r"<tr><th scope=\"row\">VAE</th>(.*?)</tr>", reproduced.published_table("T4", "book"))[1])
    assert "90.0" in row and "70.0" not in row and row.rstrip().endswith("–")


def test_a_row_holds_the_published_number_ours_and_their_difference(build):
    printed = results.published("T1").query("technique == 'baseline' and metric == 'accuracy'").value.item()
    both = pd.concat([made_up({"baseline": 0.0}, "source", accuracy=0.9), made_up({"baseline": 0.0}, accuracy=0.7)])
    build(DIGITS, table=both)
    made = reproduced.published_table("T1", "book")
    row = text_of(re.search(r"<tr><th scope=\"row\">baseline</th>(.*?)</tr>", made)[1])
    assert row.split()[:4] == [f"{printed:.1f}", "90.0", "±", "2.0"]
    seeds = 100 * results.values(both, "baseline", "accuracy", protocol="source")
    assert f"{seeds.min():.1f} to {seeds.max():.1f}, 5 seeds" in row
    assert f"{90 - printed:+.1f}".replace("-", "−") in row
    assert "70.0 ± 2.0" in row
    missing = text_of(re.search(r"<tr><th scope=\"row\">weighted sampler</th>(.*?)</tr>", made)[1])
    assert "–" in missing


def test_a_row_is_taken_from_the_chapter_that_has_it(build):
    build(DIGITS, table=made_up({"baseline": 0.0}, "source"))
    build("resampling/dynamic_sampling", table=made_up({"dynamic sampling, as copied": 0.1}, "source"))
    derived = "dynamic sampling, true recall (derived by us)"
    chapter, found = reproduced.ours("T1", derived, "accuracy", "", "source", "book")
    assert chapter == "resampling/dynamic_sampling"
    assert found.mean == pytest.approx(0.9, abs=0.001)
    assert reproduced.ours("T1", "SMOTE", "accuracy", "", "source", "book") == (None, None)


def test_where_splits_overlap_the_interval_is_that_of_the_chapter(build):
    table = made_up({"baseline": 0.0}, "source")
    overlapping = table[table.metric == "accuracy"].assign(metric="test to train", value=5 / 12)
    build(DIGITS, table=pd.concat([table, overlapping], ignore_index=True))
    _, found = reproduced.ours("T1", "baseline", "accuracy", "", "source", "book")
    alone = results.Interval.of(results.values(table, "baseline", "accuracy", protocol="source"))
    assert found.high - found.low == pytest.approx((alone.high - alone.low) * (1 + 5 * 5 / 12) ** 0.5)
    assert f"{found:%}" in reproduced.interval(found)


def test_recalls_of_the_last_images_stand_beside_ours_over_all(build):
    build("augmentation/mixing", table=made_up({"baseline": 0.0}, "source").assign(dataset="FashionMNIST-LT"))
    made = text_of(reproduced.published_table("T2", "book"))
    assert "ours: recall over the whole test set" in made
    assert "baseline, source protocol" in made


def test_what_we_derived_is_not_called_published(build):
    build(DIGITS, table=made_up({"baseline": 0.0}, "source"))
    made = text_of(reproduced.published_table("T1", "book"))
    assert "dynamic sampling, as printed, published" in made
    assert "(derived by us), published" not in made
    assert "true recall (derived by us)" in made


def test_the_share_of_the_budget_is_computed():
    assert pairs.parameter(DIGITS, "book", "SOURCE_STEPS") == 4640, "from the chapter where the profile is silent"
    ours, whole = (pairs.parameter("augmentation/mixing", name, "SOURCE_STEPS") for name in ("book", "full"))
    share = ours / whole
    assert f"{share:.0%} of the source" in text_of(reproduced.where("T2", ["augmentation/mixing"], "book"))


@pytest.mark.parametrize("wrong", ["<!-- made: nonsense -->", "<!-- made: table T99 -->"])
def test_a_page_that_asks_for_what_there_is_not_is_an_error(wrong, tmp_path):
    with pytest.raises(catalogue.Trouble, match="asks for"):
        collected.fill(wrong, "book", tmp_path)


# ---------------------------------------------------------------- links

def test_links_out_of_the_book_lead_to_the_line_in_the_repository():
    name = "test_links_out_of_the_book_lead_to_the_line_in_the_repository"
    links = f"[x](../tests/test_collected.py#{name}) [y](../LICENSE) [z](../notebooks/a/b.ipynb)"
    made = website.outward_links(links)
    line = (ROOT / "tests/test_collected.py").read_text(encoding="utf-8").splitlines().index(f"def {name}():") + 1
    assert f"[x]({catalogue.address()}/blob/main/tests/test_collected.py#L{line})" in made
    assert f"[y]({catalogue.address()}/blob/main/LICENSE)" in made
    assert "[z](../notebooks/a/b.ipynb)" in made
    assert website.outward_links("[E3](errata.md#e3)") == '<a href="errata.html#e3">E3</a>'
    source = "[Chawla et al., 2002](references.md#chawla2002)"
    assert website.outward_links(source) == '<a href="references.html#chawla2002">Chawla et al., 2002</a>'


def test_a_box_below_a_heading_of_its_name_has_no_title_of_its_own():
    box = '<div class="admonition note">\n<p class="admonition-title">{}</p>\n\n**Question.** Why?\n\n</div>'
    for title, kept in (("At a glance", 1), ("Another", 2)):
        nb = pairs.as_notebook(of_prose("## At a glance\n\n" + box.format(title)))
        website.tell(nb, "so")
        (cell,) = nb.cells
        assert cell.source.count(title) + cell.source.count("At a glance") * (title != "At a glance") == kept
        assert "**Question.** Why?" in cell.source


def of_prose(text: str) -> str:
    """A chapter of one cell of prose."""
    return "# %% [markdown]\n" + "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines())


def test_chapters_link_to_one_erratum_one_source_and_one_term():
    nb = pairs.as_notebook("# %% [markdown]\n"
                           "# [E3](../../book/errata.md#e3), a [prior](../../book/glossary.md#term-prior)\n"
                           '#\n# [part](../../book/errata.md) <span class="verdict">x</span>')
    website.tell(nb, "it is so")
    assert nb.cells[0].source.split("\n\n") == [
        '<a href="../../book/errata.html#e3">E3</a>, a <a href="../../book/glossary.html#term-prior">prior</a>',
        '[part](../../book/errata.md) <span class="verdict">it is so</span>']


@pytest.mark.parametrize(("sets", "data", "said"), [
    (["distance 1", "distance 8"], "real", "generated data (distance 1; distance 8)"),
    (["generated photos", "MNIST-LT"], "real", "real data (generated photos; MNIST-LT)"),
    (["distance 1"], "stand-in", "stand-in data (distance 1)")])
def test_data_that_a_chapter_makes_are_not_called_real(sets, data, said):
    assert said in text_of(recorded.banner({"dataset": sets, "data": data}))


@pytest.mark.parametrize("more", [True, False])
def test_gaps_to_one_technique_are_the_differences_of_the_results(more):
    three = {"second": (0.4, 0.5, range(5)), "first": (0.2, 0.1, range(4)), "without overlap": (0.3, 0, (1, 2, 3, 7))}
    found = pd.concat([
        results.tidy("a set", name, seed, {"recall": np.array([0.1, 0.9]), results.OVERLAP: overlap,
                                           "PR-AUC": value + 0.01 * (seed * seed + len(name)) % 0.03})
        for name, (value, overlap, seeds) in three.items() for seed in seeds])
    found = found[(found.metric != results.OVERLAP) | (found.value > 0)]
    gaps = recorded.gaps(pd.concat([found, results.tidy("another", "second", 0, {"PR-AUC": 1}, protocol="source")]),
                         "first", "PR-AUC", more)
    assert list(gaps) == ["second", "without overlap"]
    for name, gap in gaps.items():
        pair = (name, "first") if more else ("first", name)
        assert gap == results.difference(found, *pair, "PR-AUC")
    assert recorded.gaps(found, "nobody", "PR-AUC") == {}
    with pytest.raises(ValueError, match="2 data sets"):
        recorded.gaps(pd.concat([found, results.tidy("another", "second", 0, {"PR-AUC": 1})]), "first", "PR-AUC")
