"""What the front page and the tables are made of: numbers from the records, warnings where they are not results."""

import json
import re
from itertools import pairwise

import bookmaker
import collected
import numpy as np
import pandas as pd
import pytest
from chapters import load

from helpers import experiments

ROOT = bookmaker.ROOT
CHAPTERS = bookmaker.in_order()
DIGITS, NETWORK = "resampling/long_tailed_digits", "graphs/page_network"
ERRATA = (ROOT / "book/errata.md").read_text(encoding="utf-8")
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
            values = {"accuracy": value, "balanced accuracy": value, "recall": np.full(10, value)}
            rows.append(experiments.tidy("MNIST-LT", name, seed, values, protocol=protocol))
    return pd.concat(rows)


@pytest.fixture
def build(tmp_path, monkeypatch):
    """A build folder with the record of every chapter; returns a function that changes one of them."""
    monkeypatch.setattr(bookmaker, "build_folder", lambda: tmp_path)

    def write(chapter, profile="book", table=None, **facts):
        collected.facts.cache_clear()
        collected.results.cache_clear()
        path = bookmaker.results_path(chapter, profile, ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = {"chapter": chapter, "profile": profile, "dataset": ["MNIST-LT"], "data": "real", "seeds": [*SEEDS],
                 "device": "CPU", "minutes": 7.4, "date": "2026-01-02", "verdict": "It's 5 % <b>better</b>", **facts}
        path.write_text(json.dumps(facts), encoding="utf-8")
        if table is None:
            baseline = collected.BASELINES.get(chapter, ("baseline",))[0]
            table = made_up({name.replace("baseline", baseline): gain for name, gain in GAIN.items()})
        table.to_csv(bookmaker.results_path(chapter, profile, ".csv"), index=False)

    for chapter in CHAPTERS:
        write(chapter)
        write(chapter, "smoke")
    yield write
    collected.facts.cache_clear()
    collected.results.cache_clear()


def text_of(markup):
    """What a reader sees of HTML."""
    import html

    return html.unescape(re.sub(r"<[^>]+>", " ", markup))


# ---------------------------------------------------------------- text from elsewhere

@pytest.mark.parametrize("text", [
    "XGBoost's <script>alert('x')</script>", 'a "quoted" & *starred* #1 [link](x) $y$ `z`'])
def test_escaped_text_reads_as_it_was_and_is_no_markup(text):
    escaped = bookmaker.escape(text)
    assert text_of(escaped) == text
    assert not set("<>\"'*[`$") & set(escaped)


def test_a_message_that_carries_a_script_is_shown_as_text():
    shown = load("text/spam").show({"spam": ["WIN <script>alert(1)</script> & <img src=x onerror=alert(1)>"]}).data
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
    assert found == ["function, job = cloudpickle.loads(pickled)"]
    for wrong in ("x = torch.load(path)", "pickle.load(file)", "np.load(path, allow_pickle=True)"):
        assert loads.search(wrong)
    assert not loads.search("torch.load(path, weights_only=True)")


# ---------------------------------------------------------------- the front page

def test_the_figure_is_drawn_from_the_records_and_its_words_are_computed(build, tmp_path):
    (tmp_path / "_static").mkdir()
    made = collected.gains_figure("book", CHAPTERS, tmp_path)
    for name in ("light", "dark"):
        drawn = (tmp_path / f"_static/gains-{name}.svg").read_text(encoding="utf-8")
        assert drawn.count("<use") > 5 * len(collected.gains("book", CHAPTERS))
    alt = text_of(re.search(r'alt="([^"]+)"', made)[1])
    assert re.search(r"Long-tailed digits: best a better one \+20\.0 ± 0\.\d, random oversampling \+10\.0 ± 0\.\d", alt)
    chapters = [c for c in CHAPTERS if c not in collected.BASELINES]
    caption = text_of(made)
    assert f"All {4 * len(chapters) + 2} techniques of {len(CHAPTERS)} chapters" in caption
    beside = 3 * len(chapters) + 1
    assert f"{beside} of them stand beside plain random oversampling: {len(chapters)} of these are" in caption


def test_the_gain_is_paired(build):
    gap = collected.gains("book", CHAPTERS)[DIGITS]["a better one"]
    assert gap.mean == pytest.approx(0.20, abs=0.001)
    assert gap.high - gap.low < 0.004, "the noise that the seeds share must cancel"


def test_a_graph_remedy_is_measured_against_the_graph_network(build):
    gains = collected.gains("book", CHAPTERS)[NETWORK]
    assert set(gains) == {"random oversampling", "logit adjustment"}, "other models are no remedies"


def test_what_is_no_result_is_not_drawn(build, tmp_path):
    build(DIGITS, data="stand-in")
    assert DIGITS not in collected.gains("book", CHAPTERS)
    assert collected.gains("smoke", CHAPTERS) == {}
    made = collected.gains_figure("smoke", CHAPTERS, tmp_path)
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
            assert collected.box(chapter, what) in read
            assert len(collected.box(chapter, what)) > 20


def test_a_quick_run_has_no_verdict_on_the_first_page(build):
    build(DIGITS, data="stand-in")
    assert "better" not in collected.chapters_table("smoke", CHAPTERS)
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
    assert bookmaker.time_taken({"minutes": minutes, "device": device}) == words


@pytest.mark.parametrize("profile", ["book", "smoke"])
def test_the_box_tells_the_measured_minutes_but_not_those_of_a_quick_run(build, tmp_path, profile):
    import nbformat

    nb = bookmaker.as_notebook(bookmaker.source(DIGITS).read_text(encoding="utf-8"))
    target = tmp_path / f"notebooks/{profile}/{DIGITS}.ipynb"
    target.parent.mkdir(parents=True)
    nbformat.write(nb, target)
    page = "\n".join(cell.source for cell in bookmaker.staged(DIGITS, profile).cells)
    assert ('<span class="minutes">7 minutes on a CPU</span>' in page) == (profile == "book")


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_no_chapter_types_its_minutes(chapter):
    assert '**Time.** <span class="minutes">' in bookmaker.source(chapter).read_text(encoding="utf-8")


# ---------------------------------------------------------------- published and reproduced

def test_every_table_that_a_chapter_repeats_is_on_the_page_and_no_other():
    asked = {match[2] for match in collected.MARK.finditer(PUBLISHED) if match[1] == "table"}
    assert asked == set(collected.reproductions())
    for section in re.split(r"^## ", PUBLISHED, flags=re.MULTILINE)[1:]:
        assert "<!-- made: table" not in section or "Why the columns differ:" in section, section[:40]


def test_names_are_joined_as_the_chapter_joins_them():
    assert collected.reproductions()["T3"] == {"augmentation/single_images": {"AugMix": "AugMix, transform only"}}
    assert list(collected.reproductions()["T1"]) == [DIGITS, "resampling/dynamic_sampling"]


def test_a_row_holds_the_published_number_ours_and_their_difference(build):
    printed = experiments.published("T1").query("technique == 'baseline' and metric == 'accuracy'").value.item()
    both = pd.concat([made_up({"baseline": 0.0}, "source", accuracy=0.9), made_up({"baseline": 0.0}, accuracy=0.7)])
    build(DIGITS, table=both)
    made = collected.published_table("T1", "book")
    row = text_of(re.search(r"<tr><th scope=\"row\">baseline</th>(.*?)</tr>", made)[1])
    assert row.split()[:4] == [f"{printed:.1f}", "90.0", "±", "2.0"]
    seeds = 100 * experiments.values(both, "baseline", "accuracy", protocol="source")
    assert f"{seeds.min():.1f} to {seeds.max():.1f}, 5 seeds" in row
    assert f"{90 - printed:+.1f}".replace("-", "−") in row
    assert "70.0 ± 2.0" in row
    missing = text_of(re.search(r"<tr><th scope=\"row\">weighted sampler</th>(.*?)</tr>", made)[1])
    assert "–" in missing


def test_a_row_is_taken_from_the_chapter_that_has_it(build):
    build(DIGITS, table=made_up({"baseline": 0.0}, "source"))
    build("resampling/dynamic_sampling", table=made_up({"dynamic sampling, as copied": 0.1}, "source"))
    chapter, values = collected.ours("T1", "dynamic sampling, true recall", "accuracy", "", "source", "book")
    assert chapter == "resampling/dynamic_sampling"
    assert values.mean() == pytest.approx(0.9, abs=0.001)
    assert collected.ours("T1", "SMOTE", "accuracy", "", "source", "book") == (None, None)


def test_recalls_of_the_last_images_stand_beside_ours_over_all(build):
    build("augmentation/mixing", table=made_up({"baseline": 0.0}, "source"))
    made = text_of(collected.published_table("T2", "book"))
    assert "ours: recall over the whole test set" in made
    assert "baseline, source protocol" in made


def test_the_share_of_the_budget_is_computed():
    assert collected.parameter(DIGITS, "book", "SOURCE_STEPS") == 4640, "from the chapter where the profile is silent"
    share = bookmaker.parameters("book", "augmentation/mixing")["SOURCE_STEPS"] \
        / bookmaker.parameters("full", "augmentation/mixing")["SOURCE_STEPS"]
    assert f"{share:.0%} of the source" in text_of(collected.where("T2", ["augmentation/mixing"], "book"))


@pytest.mark.parametrize("wrong", ["<!-- made: nonsense -->", "<!-- made: table T99 -->"])
def test_a_page_that_asks_for_what_there_is_not_is_an_error(wrong, tmp_path):
    with pytest.raises(bookmaker.Trouble, match="asks for"):
        collected.fill(wrong, "book", tmp_path)


# ---------------------------------------------------------------- errata

def entries():
    parts = re.split(r'<span id="e(\d+)"></span>\n\n### E(\d+): ', ERRATA)[1:]
    return list(zip(parts[::3], parts[1::3], parts[2::3], strict=True))


def test_errata_are_numbered_once_each_and_without_a_gap():
    assert all(anchor == number for anchor, number, _ in entries())
    assert sorted(int(number) for _, number, _ in entries()) == [*range(1, len(entries()) + 1)]
    assert len(entries()) == ERRATA.count("### E")


@pytest.mark.parametrize(("number", "text"), [(number, text) for _, number, text in entries()])
def test_an_erratum_says_where_what_and_links_to_its_proof(number, text):
    terms = ["Where", "Wrong", "Right", "What it changes", "Shown in"]
    places = [text.index(f"\n{term}\n: ") for term in terms]
    assert places == sorted(places)
    assert all(after - before > 12 for before, after in pairwise(places))
    shown = text[places[-1]:]
    assert re.search(r"\]\(\.\./notebooks/[\w/]+\.ipynb#[\w-]+\)|\]\(\.\./tests/\w+\.py#test_\w+\)", shown)


def test_what_pages_say_about_an_erratum_leads_to_it():
    numbers = {number for _, number, _ in entries()}
    for page in (ROOT / "book").glob("*.md"):
        for shown, target in re.findall(r"\[E(\d+)\]\(errata\.md#e(\d+)\)", page.read_text(encoding="utf-8")):
            assert shown == target
            assert shown in numbers, f"{page.name}: there is no E{shown}"


def test_links_out_of_the_book_lead_to_the_line_in_the_repository():
    name = "test_links_out_of_the_book_lead_to_the_line_in_the_repository"
    links = f"[x](../tests/test_collected.py#{name}) [y](../LICENSE) [z](../notebooks/a/b.ipynb)"
    made = bookmaker.outward_links(links)
    line = (ROOT / "tests/test_collected.py").read_text(encoding="utf-8").splitlines().index(f"def {name}():") + 1
    assert f"[x]({bookmaker.address()}/blob/main/tests/test_collected.py#L{line})" in made
    assert f"[y]({bookmaker.address()}/blob/main/LICENSE)" in made
    assert "[z](../notebooks/a/b.ipynb)" in made
    assert bookmaker.outward_links("[E3](errata.md#e3)") == '<a href="errata.html#e3">E3</a>'
