"""The build's traps, each sprung once, in a small copy of the book with chapters that take a second."""

import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import building
import catalogue
import execution
import kept
import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]

HELPERS = '''
import json, os
from pathlib import Path

claims = []

def claim(sentence, holds, acknowledged=None):
    judged = os.environ["BOOK_PROFILE"] == "book" and os.environ["BOOK_SEEDS"] == "[100]"
    status = ("held" if holds else "refuted") if judged else "not judged"
    claims.append({"sentence": sentence, "status": status, "acknowledged": acknowledged, "detail": "+1.0 points",
                   "difference": [0.01, -0.02, 0.04], "n": 5, "p": 0.4, "p_holm": 0.8})

def record(chapter, **facts):
    folder = Path(os.environ["BOOK_BUILD"], "results", os.environ["BOOK_PROFILE"])
    folder.mkdir(parents=True, exist_ok=True)
    name = chapter.replace("/", "-")
    real = Path(os.environ.get("BOOK_DATA") or "nowhere").is_dir()
    facts = {"chapter": chapter, "profile": os.environ["BOOK_PROFILE"], "dataset": ["toy"], "seeds": [0],
             "data": "real" if real else "stand-in", "verdict": "it <script>alert(1)</script> *works*",
             "claims": claims, **facts}
    (folder / f"{name}.csv").write_text("dataset,technique\\n")
    (folder / f"{name}.json").write_text(json.dumps(facts))
'''

SURROUNDINGS = '''
import os

def environment():
    return repr([os.environ.get(name) for name in ("ATEN_CPU_CAPABILITY", "PROCESSOR")])
'''

CHAPTER = '''# %% [markdown]
# # Chapter {name}

# %% [markdown]
# <div class="admonition note">
#
# **Verdict**: <span class="verdict">computed by the last cell</span>
#
# </div>

# %% tags=["parameters"]
SEEDS = [0]
STEPS = 1
DATA = "auto"

# %%
import os, time
from helpers import claim, record
print("steps", STEPS, "workers", os.environ["BOOK_WORKERS"])

# %%
record("part/{name}")
'''


class Book:
    """A small book, and what one can do with it."""

    def __init__(self, folder: Path):
        self.folder = folder

    def write(self, path: str, text: str):
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(text, encoding="utf-8")

    def edit(self, path: str, old: str, new: str):
        text = (self.folder / path).read_text(encoding="utf-8")
        assert old in text
        self.write(path, text.replace(old, new))

    def command(self, *targets: str, profile: str = "smoke") -> list[str]:
        return [sys.executable, "book/_ext/bookmaker.py", "build", "--profile", profile, "--cores", "2", *targets]

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("BOOK_", "PYTEST_"))}
        return {**kept, "PYTHONPATH": "", "XDG_CACHE_HOME": str(self.folder / "cache"), **more}

    def build(self, *targets: str, profile: str = "smoke", **more: str) -> subprocess.CompletedProcess:
        return subprocess.run(self.command(*targets, profile=profile), cwd=self.folder, env=self.environment(**more),
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=3000)

    def notebook(self, name: str, profile: str = "smoke") -> Path:
        return self.folder / f"build/notebooks/{profile}/part/{name}.ipynb"


ONE, TWO = "build/notebooks/smoke/part/one.ipynb", "build/notebooks/smoke/part/two.ipynb"


def ran(result: subprocess.CompletedProcess) -> set[str]:
    """The chapters that this build began to execute."""
    return {line.split("part/")[1].removesuffix(" …") for line in result.stdout.splitlines()
            if line.startswith("[") and line.endswith(" …")}


@pytest.fixture(scope="session")
def built(tmp_path_factory, worker_id) -> Book:
    """A book of two chapters, built with its pages: once, however many processes test."""
    shared = tmp_path_factory.getbasetemp() if worker_id == "master" else tmp_path_factory.getbasetemp().parent
    book = Book(shared / "built")
    with FileLock(shared / "built.lock"):
        if not book.folder.is_dir():
            fill(book)
            result = book.build()
            assert result.returncode == 0, result.stdout
            assert ran(result) == {"one", "two"}
            assert result.stdout.rstrip().endswith("build/html/index.html")
    return book


def fill(book: Book):
    """Write the sources of the small book."""
    shutil.copytree(ROOT / "book/_ext", book.folder / "book/_ext", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "book/_static", book.folder / "book/_static")
    for name in ("Snakefile", "_config.yml"):
        shutil.copyfile(ROOT / name, book.folder / name)
    book.write("requirements.lock", "nothing==1\n")
    book.write("helpers/__init__.py", HELPERS)
    book.write("helpers/surroundings.py", SURROUNDINGS)
    lines = "seeds: {{default: {}}}\npart/one:\n  STEPS: {}\npart/two:\n  STEPS: {}\n"
    book.write("notebooks/profiles/smoke.yaml", lines.format(0, 7, 7))
    book.write("notebooks/profiles/book.yaml", lines.format(100, 9, 9))
    book.write("book/index.md", "# A book\n\nSee [one](../notebooks/part/one.ipynb). Math: $x^2$.\n")
    book.write("book/references.bib", "")
    book.write("_toc.yml", "format: jb-book\nroot: book/index\nparts:\n- caption: Part\n  chapters:\n"
                           "  - file: notebooks/part/one\n  - file: notebooks/part/two\n  - file: book/claims\n")
    book.write("book/claims.md", "# What we claimed\n\n<!-- made: claims -->\n")
    for name in ("one", "two"):
        book.write(f"notebooks/part/{name}.py", CHAPTER.format(name=name))


@pytest.fixture
def book(built, tmp_path) -> Book:
    """A copy of the built book, to spoil."""
    shutil.copytree(built.folder, tmp_path / "book", symlinks=True)
    return Book(tmp_path / "book")


# ---------------------------------------------------------------- what runs again, and what does not

def test_nothing_to_do_takes_seconds(book):
    for path in book.folder.glob("notebooks/part/*.py"):
        path.touch()
    before = os.times()
    result = book.build()
    assert result.returncode == 0, result.stdout
    assert ran(result) == set()
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent < 5, "seconds of the processor's, so that a busy machine is no excuse and no reason to fail"


@pytest.mark.slow
def test_snakemake_itself_finds_nothing_to_do_when_only_times_differ(book):
    for path in [*book.folder.glob("notebooks/part/*.py"), book.folder / "helpers/__init__.py"]:
        path.touch()
    result = book.build(ONE, TWO)
    assert (result.returncode, ran(result)) == (0, set()), result.stdout


def test_an_edited_chapter_runs_alone(book):
    book.edit("notebooks/part/one.py", '"steps"', '"some steps"')
    result = book.build(ONE, TWO)
    assert (result.returncode, ran(result)) == (0, {"one"}), result.stdout


def test_edited_prose_changes_the_page_and_runs_nothing(book):
    book.edit("notebooks/part/one.py", "# # Chapter one", "# # The first chapter")
    book.edit("notebooks/part/one.py", "import os, time", "import os, time  # said anew")
    result = book.build()
    assert (result.returncode, ran(result)) == (0, set()), result.stdout
    page = (book.folder / "build/html/notebooks/part/one.html").read_text(encoding="utf-8")
    assert "The first chapter" in page
    assert "said anew" in page
    assert "steps 7 workers" in page, "the outputs of the run stay"


@pytest.mark.slow
def test_an_edit_that_keeps_the_old_time_is_noticed(book):
    path = book.folder / "notebooks/part/one.py"
    before = path.stat()
    book.edit("notebooks/part/one.py", "STEPS = 1", "STEPS = 2")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert ran(book.build(ONE, TWO)) == {"one"}


@pytest.mark.slow
@pytest.mark.parametrize("path", ["helpers/__init__.py", "requirements.lock", "notebooks/profiles/smoke.yaml"])
def test_what_all_chapters_share_runs_all(book, path):
    with (book.folder / path).open("a") as file:
        file.write("\n# changed\n")
    if path == "notebooks/profiles/smoke.yaml":
        book.edit(path, "default: 0", "default: 0-1")
    result = book.build(ONE, TWO)
    assert (result.returncode, ran(result)) == (0, {"one", "two"}), result.stdout


@pytest.mark.slow
def test_a_stand_in_gives_way_once_there_are_data(book):
    (book.folder / "data").mkdir()
    book.write("data/digits", "0123456789")
    result = book.build(ONE, TWO, BOOK_DATA="data")
    assert ran(result) == {"one", "two"}, result.stdout
    assert json.loads((book.folder / "build/results/smoke/part-one.json").read_text())["data"] == "real"
    result = book.build(ONE, TWO, BOOK_DATA="data")
    assert ran(result) == set(), (book.folder / "build/logs/smoke/snakemake.txt").read_text()


@pytest.mark.slow
def test_profiles_do_not_share_runs_and_the_book_gives_a_chapter_two_cores(book):
    result = book.build("build/notebooks/book/part/one.ipynb", profile="book")
    assert ran(result) == {"one"}, result.stdout
    assert "steps 9 workers 2" in book.notebook("one", "book").read_text()
    assert "steps 7 workers 1" in book.notebook("one").read_text()


@pytest.mark.slow
def test_two_chapters_share_four_cores(book):
    """Each waits for the other to begin, so that one by one they would not end."""
    wait = 'import os, time\nfrom pathlib import Path\n(here := Path("{0}")).with_name(NAME).touch()\n' + \
        'while not all(here.with_name(name).exists() for name in ("one", "two")): time.sleep(.05)'
    for name in ("one", "two"):
        book.edit(f"notebooks/part/{name}.py", "import os, time",
                  wait.format(book.folder / "mark").replace("NAME", f'"{name}"'))
    result = book.build("--cores", "4", profile="book")
    assert result.returncode == 0, result.stdout
    assert all("steps 9 workers 2" in book.notebook(name, "book").read_text() for name in ("one", "two"))
    log = (book.folder / "build/logs/book/snakemake.txt").read_text()
    assert re.search(r"name=two\n *priority: 1\n", log) and "priority: -1" not in log, "the end goes first"


# ---------------------------------------------------------------- what is kept

@pytest.fixture
def clones(built, tmp_path):
    """Copies of the small book without anything built, which share a store and data."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/digits").write_text("0123456789", encoding="utf-8")

    def another(name: str) -> Book:
        shutil.copytree(built.folder, tmp_path / name, symlinks=True,
                        ignore=shutil.ignore_patterns("build", ".snakemake"))
        return Book(tmp_path / name)

    return another, {"BOOK_RUNS": str(tmp_path / "runs"), "BOOK_DATA": str(tmp_path / "data")}


@pytest.mark.slow
def test_a_clone_that_finds_the_chapters_in_the_store_runs_none(clones):
    another, shared = clones
    first, second = another("first"), another("second")
    result = first.build(ONE, TWO, **shared)
    assert ran(result) == {"one", "two"}, result.stdout
    second.edit("notebooks/part/one.py", "# # Chapter one", "# # Chapter one, in other words")
    result = second.build(ONE, TWO, **shared)
    assert (result.returncode, ran(result)) == (0, set()), result.stdout
    assert {"[1/2] part/one: from the store", "[2/2] part/two: from the store"} <= set(result.stdout.splitlines())
    for path in (ONE, TWO, "build/results/smoke/part-one.csv", "build/results/smoke/part-two.json",
                 "build/run/smoke/part/one/key", "build/run/smoke/part/one/runs.jsonl"):
        assert (second.folder / path).read_bytes() == (first.folder / path).read_bytes()
    result = second.build(ONE, TWO, **shared)
    assert (result.returncode, "part/" in result.stdout) == (0, False), "all of it is current"


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["off", "damage"])
def test_without_a_whole_copy_a_chapter_runs(clones, trouble):
    another, shared = clones
    another("first").build(ONE, **shared)
    if trouble == "off":
        shared["BOOK_RUNS"] = "off"
    else:
        [path] = Path(shared["BOOK_RUNS"]).glob("??/*.chapter")
        path.write_bytes(path.read_bytes()[:-30])
    result = another("second").build(ONE, **shared)
    assert (result.returncode, ran(result)) == (0, {"one"}), result.stdout
    assert ("is damaged" in result.stdout) == (trouble == "damage")


@pytest.mark.parametrize(("change", "same"), [
    ("nothing", True), ("prose", True), ("code", False), ("helpers", False), ("profile", False), ("processor", False),
    ("data", False), ("the builder", False)])
def test_what_decides_the_numbers_decides_what_is_taken_from_the_store(clones, tmp_path, monkeypatch, change, same):
    another, shared = clones
    book = another("book")
    monkeypatch.setattr(catalogue, "ROOT", book.folder)
    for name, value in {**shared, "XDG_CACHE_HOME": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)

    def place() -> Path:
        catalogue._shared_key.cache_clear()
        kept.surroundings.cache_clear()
        return kept.place(tmp_path, "part/one", "smoke")

    before = place()
    if change == "prose":
        book.edit("notebooks/part/one.py", "# # Chapter one", "# # Chapter one, in other words")
    elif change == "code":
        book.edit("notebooks/part/one.py", '"steps"', '"some steps"')
    elif change == "helpers":
        book.edit("helpers/__init__.py", "import json, os", "import os, json")
    elif change == "profile":
        book.edit("notebooks/profiles/smoke.yaml", "STEPS: 7", "STEPS: 8")
    elif change == "processor":
        monkeypatch.setenv("PROCESSOR", "another")
    elif change == "data":
        Path(shared["BOOK_DATA"], "more").write_text("0", encoding="utf-8")
    elif change == "the builder":
        book.edit("book/_ext/execution.py", '"""Run one chapter', '"""Run a chapter')
    assert (place() == before) == same
    monkeypatch.undo()
    catalogue._shared_key.cache_clear()
    kept.surroundings.cache_clear()


@pytest.mark.slow
def test_a_chapter_that_failed_or_ran_on_a_stand_in_is_not_kept(clones):
    another, shared = clones
    book = another("first")
    book.edit("notebooks/part/two.py", "import os, time", "import os, time, nowhere")
    assert book.build(ONE, TWO, **shared | {"BOOK_DATA": ""}).returncode
    assert list(Path(shared["BOOK_RUNS"]).glob("**/*.chapter")) == []


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Two chapters and a store; nothing of them runs."""
    monkeypatch.setattr(catalogue, "ROOT", tmp_path)
    monkeypatch.setattr(catalogue, "in_order", lambda: ["part/one", "part/two"])
    monkeypatch.setattr(catalogue, "key", lambda chapter, profile: f"key of {chapter}")
    monkeypatch.setattr(kept, "surroundings", lambda: "here")
    monkeypatch.setenv("BOOK_RUNS", str(tmp_path / "runs"))
    shutil.copytree(ROOT / "book/_ext", tmp_path / "book/_ext", ignore=shutil.ignore_patterns("__pycache__"))

    def write(chapter: str, table: str, data="real"):
        for name, path in kept._files(chapter, "book").items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text({".json": json.dumps({"data": data}), ".csv": table, "key": f"key of {chapter}"}.get(
                name, name), encoding="utf-8")

    return write


def test_what_waits_for_a_chapter_that_was_edited_since_stays_where_it_is(small, monkeypatch):
    small("part/one", "table")
    kept.keep(["part/one"], "book")
    catalogue.executed("part/one", "book").unlink()
    kept.fetch(["part/one"], "book")
    monkeypatch.setattr(catalogue, "key", lambda chapter, profile: "another key")
    assert not kept.take("part/one", "book")
    assert not catalogue.executed("part/one", "book").is_file()


def test_a_store_that_cannot_be_written_costs_a_line_and_no_build(small, tmp_path, capsys):
    small("part/one", "table")
    (tmp_path / "runs").write_text("a file", encoding="utf-8")
    kept.keep(["part/one"], "book")
    assert capsys.readouterr().out.startswith("note: part/one was not kept (")


@pytest.mark.parametrize(("options", "there"), [
    ([], False), (["--executor", "local"], False), (["--executor", "slurm"], True), (["--executor=kubernetes"], True)])
def test_processors_of_other_machines_are_told_from_this_one(options, there):
    assert building.elsewhere(options) == there


def test_only_what_is_real_and_current_is_kept(small, tmp_path):
    small("part/one", "table", data="stand-in")
    small("part/two", "table")
    (catalogue.run_folder("part/two", "book") / "key").write_text("of old code", encoding="utf-8")
    kept.keep(["part/one", "part/two"], "book")
    assert list(tmp_path.glob("runs/**/*.chapter")) == []


# ---------------------------------------------------------------- failures

def test_a_failing_chapter_costs_the_others_nothing_and_its_traceback_is_the_last_word(book):
    """The site is built with a plain page in its place; it fails now and again, until it is mended."""
    page = book.folder / "build/html/notebooks/part/one.html"
    book.edit("notebooks/part/one.py", "import os, time",
              "import os, time\nfrom pathlib import Path\nlogits = [1, 2][STEPS] if Path.cwd() else f'{STEPS}'")
    book.edit("notebooks/part/two.py", "STEPS = 1", "STEPS = 2")
    for _ in ("now", "again"):
        result = book.build()
        assert result.returncode != 0
        assert result.stdout.rstrip().endswith("IndexError: list index out of range"), result.stdout
        assert "logits = [1, 2][STEPS]" in result.stdout
        assert "The book (smoke profile, 2 chapters): " in result.stdout
        assert not book.notebook("one").exists()
        assert book.notebook("two").exists()
        shown = page.read_text(encoding="utf-8")
        assert "This chapter failed in this build" in shown
        assert "IndexError: list index out of range" in shown
        assert str(book.folder) not in shown
        other = (book.folder / "build/html/notebooks/part/two.html").read_text(encoding="utf-8")
        assert "steps 7 workers" in other
    book.edit("notebooks/part/one.py", "[1, 2][STEPS]", "[1, 2]")
    result = book.build()
    assert (result.returncode, ran(result)) == (0, {"one"}), result.stdout
    assert "This chapter failed" not in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_chapter_that_fails_in_another_way_has_its_new_traceback_on_its_page(book):
    book.edit("notebooks/part/one.py", "from helpers import claim, record", "import helpers\nhelpers.nothing")
    book.build()
    book.edit("helpers/__init__.py", "def record", "def __getattr__(name):\n    raise ValueError(name)\n\ndef record")
    assert book.build().returncode != 0
    shown = (book.folder / "build/html/notebooks/part/one.html").read_text(encoding="utf-8")
    assert "ValueError: nothing" in shown


# ---------------------------------------------------------------- claims

def planted(book, *lines):
    book.edit("notebooks/part/one.py", 'record("part/one")', "\n".join([*lines, 'record("part/one")']))
    book.write("data/digits", "0123456789")


@pytest.mark.slow
def test_a_readers_build_counts_what_does_not_hold_and_a_publishers_fails_for_it(book):
    planted(book, 'claim("One holds.", True)', 'claim("One is <i>false</i>.", False)',
            'claim("Another is false.", False, "we expected more")')
    result = book.build(profile="book", BOOK_DATA="data")
    assert result.returncode == 0, result.stdout
    assert "2 of 3 claims did not hold on this machine, 1 of them as their chapters say:" in result.stdout
    assert "part/one: One is <i>false</i>.\n    +1.0 points" in result.stdout
    shown = (book.folder / "build/html/book/claims.html").read_text(encoding="utf-8")
    assert "Of 3 claims, <strong>1 held and 2 were refuted</strong>." in shown
    assert "One is <i>false</i>." in html.unescape(shown)
    assert "<i>false" not in shown
    assert shown.count("status-refuted") == 2
    result = book.build("--judge", profile="book", BOOK_DATA="data")
    assert result.returncode == 1
    assert ran(result) == set()
    said = result.stdout.split("error: refuted, and the chapter does not say so")[1]
    assert "One is <i>false</i>." in said
    assert "Another" not in said
    book.edit("notebooks/part/one.py", '"One is <i>false</i>.", False', '"One is <i>false</i>.", False, "and is"')
    assert book.build("--judge", profile="book", BOOK_DATA="data").returncode == 0


@pytest.mark.slow
def test_a_publishers_build_fails_for_a_stale_acknowledgement_and_without_real_data(book):
    planted(book, 'claim("One holds.", True, "we thought it was false")')
    result = book.build("--judge", profile="book", BOOK_DATA="data")
    assert result.returncode == 1
    assert "error: acknowledged as refuted, but held:\n  part/one: One holds." in result.stdout
    book.edit("notebooks/part/one.py", ', "we thought it was false")', ")")
    assert book.build("--judge", profile="book", BOOK_DATA="data").returncode == 0
    (book.folder / "data/digits").unlink()
    (book.folder / "data").rmdir()
    book.edit("notebooks/part/one.py", "STEPS = 1", "STEPS = 2")
    result = book.build("--judge", profile="book")
    assert result.returncode == 1
    assert "error: no judgement without the real data: part/one" in result.stdout


@pytest.mark.slow
def test_another_arithmetic_stays_beside_and_the_ledger_tells_what_is_fragile(book):
    planted(book, 'claim("One is firm.", True)', 'claim("One is fragile.", "BOOK_ARITHMETIC" not in os.environ)')
    first = book.build("--arithmetic", "avx2", profile="book", BOOK_DATA="data")
    assert first.returncode == 0, first.stdout
    assert "1 of 2 claims did not hold" in first.stdout
    assert not (book.folder / "build/results/book").exists()
    result = book.build(profile="book", BOOK_DATA="data")
    assert (result.returncode, ran(result)) == (0, {"one", "two"}), result.stdout
    assert "Fragile, for another arithmetic judges otherwise:\n  part/one: One is fragile." in result.stdout
    assert "One is firm" not in result.stdout
    book.edit("notebooks/part/one.py", '"steps"', '"some steps"')
    result = book.build(profile="book", BOOK_DATA="data")
    assert "Fragile" not in result.stdout, "the other arithmetic has not run this code"
    result = book.build("--arithmetic", "abacus", profile="book")
    assert result.stdout.strip() == "error: unknown arithmetic 'abacus'; known: avx2"


# ---------------------------------------------------------------- some chapters

@pytest.mark.slow
def test_a_build_of_some_chapters_runs_these_and_shows_no_old_numbers_of_the_others(book):
    for name in ("one", "two"):
        book.edit(f"notebooks/part/{name}.py", "STEPS = 1", "STEPS = 2")
    result = book.build("--chapters", "notebooks/part/two.py")
    assert (result.returncode, ran(result)) == (0, {"two"}), result.stdout
    one, two = ((book.folder / f"build/html/notebooks/part/{name}.html").read_text() for name in ("one", "two"))
    assert "This chapter was not run in this build" in one
    assert "steps 7 workers" not in one
    assert "steps 7 workers" in two
    assert ran(book.build()) == {"one"}
    result = book.build("--chapters", "part/three")
    assert result.stdout.strip() == "error: part/three is no chapter; known: part/one, part/two"


# ---------------------------------------------------------------- seeds as jobs

def test_a_line_of_a_build_is_written_in_one_piece(monkeypatch):
    """Chapters run side by side and share one output."""
    written = []
    monkeypatch.setattr(sys, "stdout", types.SimpleNamespace(write=written.append, flush=lambda: None))
    execution.say("[1/2] part/one …")
    assert written == ["[1/2] part/one …\n"]


@pytest.mark.slow
def test_where_seeds_are_jobs_the_first_goes_ahead_and_the_chapter_comes_last(book):
    book.edit("notebooks/profiles/smoke.yaml", "default: 0", "default: 0-2")
    book.edit("notebooks/part/two.py", "import os, time", "import os, time\nassert len(SEEDS) > 1, 'too few'")
    result = book.build("--executor", "local")
    assert result.returncode == 0, result.stdout
    said = [line.split("part/")[1] for line in result.stdout.splitlines() if line.startswith("[")]
    for name in ("one", "two"):
        of_it = [line for line in said if line.startswith(name)]
        assert of_it[0] == f"{name}, seed 0 …"
        assert of_it[1].startswith(f"{name}, seed 0: ")
        assert {f"{name}, seed 1 …", f"{name}, seed 2 …"} < set(of_it[2:-2])
        assert of_it[-2] == f"{name} …"
    assert sum("stopped early: AssertionError: too few" in line for line in said) == 3, "and the chapter itself runs"
    assert "seed" not in " ".join(path.name for path in (book.folder / "build/run/smoke/part").iterdir())
    result = book.build(ONE, TWO)
    assert (result.returncode, ran(result)) == (0, set()), "where it ran makes no difference"


# ---------------------------------------------------------------- slips

def test_an_unknown_parameter_is_an_error_that_lists_the_known_ones(book):
    book.write("notebooks/profiles/smoke.yaml", "seeds: {default: 0}\npart/one:\n  EPOCHS: 3\n")
    result = book.build(ONE, TWO)
    assert result.returncode != 0
    assert result.stdout.strip() == ("error: notebooks/profiles/smoke.yaml, part/one: there is no parameter EPOCHS; "
                                     "the chapter has SEEDS, STEPS, DATA")


@pytest.mark.slow
def test_a_chapter_that_records_nothing_is_an_error(book):
    book.edit("notebooks/part/one.py", 'record("part/one")', "pass")
    result = book.build(ONE)
    assert result.returncode != 0
    assert "its last code cell must call record" in result.stdout


@pytest.mark.slow
def test_a_warning_of_the_pages_is_an_error_again_and_again(book):
    book.write("book/index.md", "# A book\n\nSee [three](../notebooks/part/three.ipynb).\n")
    for _ in range(2):
        result = book.build()
        assert result.returncode != 0
        assert "three.ipynb" in result.stdout
        assert ran(result) == set()


@pytest.mark.slow
def test_a_figure_without_alt_text_fails_its_chapter_alone(book):
    book.edit("notebooks/part/one.py", "import os, time",
              "import os, time\nfrom IPython.display import display\n"
              "display({'image/png': 'iVBORw0KGgo=', 'text/plain': 'x'}, raw=True)")
    for _ in ("now", "again"):
        result = book.build()
        assert result.returncode != 0
        assert "part/one: a figure without alt text" in result.stdout
    assert "a figure without alt text" in (book.folder / "build/html/notebooks/part/one.html").read_text()
    assert "steps 7 workers" in (book.folder / "build/html/notebooks/part/two.html").read_text()


# ---------------------------------------------------------------- interruptions and leftovers

@pytest.mark.slow
def test_a_killed_build_goes_on_where_it_stopped(book):
    for name in ("one", "two"):
        book.edit(f"notebooks/part/{name}.py", "STEPS = 1", "STEPS = 2")
    book.edit("notebooks/part/two.py", "import os, time",
              "import os, time\nwhile 'WAIT' in os.environ and not os.path.exists(os.environ['WAIT']): time.sleep(.1)")
    started = time.time()
    waiting = book.environment(WAIT=str(book.folder / "go"))
    process = subprocess.Popen(book.command(ONE, TWO), cwd=book.folder, env=waiting, text=True, start_new_session=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    for line in process.stdout:  # until chapter one is done, and chapter two is under way
        if line.startswith("[1/2] part/one: "):
            break
    metadata, deadline = book.folder / ".snakemake/metadata", time.monotonic() + 600
    while time.monotonic() < deadline:  # until its three outputs are on snakemake's record
        if sum(path.is_file() and path.stat().st_mtime > started for path in metadata.rglob("*")) >= 3:
            break
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (book.folder / "go").touch()  # what the killed build has started ends by itself, and nobody reads what it says
    result = book.build(ONE, TWO)
    assert (result.returncode, ran(result)) == (0, {"two"}), result.stdout


@pytest.mark.slow
def test_a_stale_lock_does_no_harm(book):
    locks = book.folder / ".snakemake/locks"
    locks.mkdir(parents=True, exist_ok=True)
    (locks / "0.output.lock").write_text(f"{book.folder}/{ONE}\n")
    (locks / "0.input.lock").write_text(f"{book.folder}/notebooks/part/one.py\n")
    (book.folder / "build/lock").write_text("")
    book.edit("notebooks/part/one.py", "STEPS = 1", "STEPS = 2")
    result = book.build(ONE)
    assert (result.returncode, ran(result)) == (0, {"one"}), result.stdout


def test_a_slip_in_the_table_of_contents_is_one_clear_line(book):
    book.edit("_toc.yml", "  - file: notebooks/part/two", "    - file: notebooks/part/two")
    result = book.build()
    assert result.returncode == 1
    assert result.stdout.strip().startswith("error: _toc.yml, line 7: this is not YAML"), result.stdout
    assert len(result.stdout.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_renamed_chapter_leaves_no_orphans(book):
    (book.folder / "notebooks/part/two.py").rename(book.folder / "notebooks/part/three.py")
    book.edit("notebooks/part/three.py", 'record("part/two")', 'record("part/three")')
    for place in ("_toc.yml", "notebooks/profiles/smoke.yaml", "notebooks/profiles/book.yaml"):
        book.edit(place, "part/two", "part/three")
    result = book.build()
    assert (result.returncode, ran(result)) == (0, {"three"}), result.stdout
    left = [path for path in (book.folder / "build").rglob("*two*") if "run" not in path.parts]
    assert left == []
    assert (book.folder / "build/html/notebooks/part/three.html").is_file()


# ---------------------------------------------------------------- the pages

def test_the_page_shows_verdict_and_banner_as_text(built):
    page = (built.folder / "build/html/notebooks/part/one.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; *works*" in page.replace("&#42;", "*")
    assert "computed by the last cell" not in page
    assert "(not a result) it" in html.unescape(page), "a verdict of a quick run claims nothing"
    assert "Built from stand-in data and the smoke profile" in page.replace("&#45;", "-")
    assert "injected" not in page


def test_buttons_lead_to_the_right_files(built):
    import catalogue

    page = (built.folder / "build/html/notebooks/part/one.html").read_text(encoding="utf-8")
    account = catalogue.address().removeprefix("https://github.com/")
    assert f'href="https://colab.research.google.com/github/{account}/blob/main/notebooks/part/one.ipynb"' in page
    assert f'href="{catalogue.address()}/edit/main/notebooks/part/one.py"' in page
    assert 'href="../../_sources/notebooks/part/one.ipynb"' in page
    downloaded = json.loads((built.folder / "build/html/_sources/notebooks/part/one.ipynb").read_text(encoding="utf-8"))
    assert any(cell.get("outputs") for cell in downloaded["cells"])
    front = (built.folder / "build/html/book/index.html").read_text(encoding="utf-8")
    assert f'href="{catalogue.address()}/edit/main/book/index.md"' in front
    assert 'url=book/index.html' in (built.folder / "build/html/index.html").read_text(encoding="utf-8")


def test_nothing_tells_where_it_was_built(built):
    told = [path for path in (built.folder / "build/html").rglob("*")
            if path.suffix in (".html", ".ipynb", ".js") and str(built.folder) in path.read_text(encoding="utf-8")]
    assert told == []


def test_mathjax_is_part_of_the_site(built):
    site = built.folder / "build/html"
    assert (site / "_static/mathjax/tex-chtml.js").is_file()
    assert list((site / "_static/mathjax").rglob("*.woff"))
    page = (site / "book/index.html").read_text(encoding="utf-8")
    assert "_static/mathjax/tex-chtml.js" in page
    assert "cdn" not in page.lower().replace("thebe", "")
