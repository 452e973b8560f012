"""The pairs of the real chapters, and the tool that makes them."""

import json

import bookmaker
import nbformat
import pytest

CHAPTERS = bookmaker.in_order()
TEXT = '''# %% [markdown]
# # A title

# %% tags=["bootstrap", "remove-cell"]
install("git+https://example.org/old")

# %% mystnb={"image": {"alt": "A falling line"}} editable=false
plot()

# %%
plot()
'''


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_notebook_equals_its_source_byte_for_byte(chapter):
    assert bookmaker.pair(chapter, check=True) == [], "run `make pair` and commit both files"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_notebook_is_valid_and_holds_no_outputs(chapter):
    nb = json.loads(bookmaker.source(chapter).with_suffix(".ipynb").read_text(encoding="utf-8"))
    nbformat.validate(nb)
    assert nb["metadata"]["kernelspec"]["language"] == "python"
    code = [cell for cell in nb["cells"] if cell["cell_type"] == "code"]
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"] is not None] == []


def test_cell_ids_come_from_place_and_text():
    first, again = bookmaker.as_notebook(TEXT), bookmaker.as_notebook(TEXT)
    assert nbformat.writes(first) == nbformat.writes(again)
    ids = [cell.id for cell in first.cells]
    assert len(set(ids)) == len(ids) == 4, "two cells with the same text have different ids"
    edited = bookmaker.as_notebook(TEXT.replace("A title", "Another title"))
    assert [a.id == b.id for a, b in zip(first.cells, edited.cells, strict=True)] == [False, True, True, True]


def test_alt_text_survives_the_pairing_and_other_metadata_does_not():
    cell = bookmaker.as_notebook(TEXT).cells[2]
    assert cell.metadata == {"mystnb": {"image": {"alt": "A falling line"}}}


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "notebooks/part").mkdir(parents=True)
    (tmp_path / "notebooks/part/one.py").write_text(TEXT)
    (tmp_path / "_config.yml").write_text("repository:\n  url: https://example.org/new/\n")
    monkeypatch.setattr(bookmaker, "ROOT", tmp_path)
    return tmp_path


def test_pair_writes_both_files_and_check_finds_drift(project):
    pair = ["notebooks/part/one.py", "notebooks/part/one.ipynb"]
    assert bookmaker.pair("part/one", check=True) == pair
    assert bookmaker.pair("part/one") == pair
    assert bookmaker.pair("part/one", check=True) == []
    for file in pair:
        text = (project / file).read_text()
        assert "git+https://example.org/new" in text
        assert "example.org/old" not in text
    notebook = project / pair[1]
    notebook.write_text(notebook.read_text().replace("falling", "rising"))
    assert bookmaker.pair("part/one", check=True) == [pair[1]]


def test_a_run_does_not_depend_on_the_address(project):
    (project / "notebooks/profiles").mkdir()
    (project / "notebooks/profiles/smoke.yaml").write_text("default: {STEPS: 1}")
    before = bookmaker.key("part/one", "smoke")
    bookmaker.pair("part/one")
    assert bookmaker.key("part/one", "smoke") == before
    (project / "notebooks/profiles/smoke.yaml").write_text("default: {STEPS: 2}")
    assert bookmaker.key("part/one", "smoke") != before


def test_a_profile_that_names_no_chapter_or_does_not_exist_is_an_error(project):
    (project / "notebooks/profiles").mkdir()
    (project / "notebooks/profiles/smoke.yaml").write_text("default: {STEPS: 1}\npart/two: {STEPS: 2}")
    with pytest.raises(SystemExit, match="part/two, which is no chapter"):
        bookmaker.parameters("smoke", "part/one")
    with pytest.raises(SystemExit, match="unknown profile 'fast'; known: smoke"):
        bookmaker.parameters("fast", "part/one")
    (project / "notebooks/profiles/smoke.yaml").write_text("default: {STEPS: 1, SEEDS: [0]}\npart/one: {STEPS: 2}")
    assert bookmaker.parameters("smoke", "part/one") == {"STEPS": 2, "SEEDS": [0]}


def test_declared_parameters_are_those_of_the_tagged_cell():
    nb = bookmaker.as_notebook('# %%\nOTHER = 1\n\n# %% tags=["parameters"]\nSEEDS = [0]\nSTEPS: int = 5\n')
    assert bookmaker.declared(nb) == ["SEEDS", "STEPS"]


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "a *b* _c_ `d` $e$ [f](g)", "{role}`x` <!-- y -->"])
def test_what_a_manifest_says_is_text_and_never_markup(text):
    from markdown_it import MarkdownIt

    rendered = MarkdownIt().render(f"<span>{bookmaker.escape(text)}</span>")
    assert rendered.count("<") == 4, "only the paragraph and the span"
    assert "*" not in bookmaker.escape(text)


def test_the_banner_warns_of_stand_ins_and_quick_runs_only():
    facts = {"profile": "book", "data": "real", "dataset": ["MNIST-LT"], "seeds": [0, 1], "minutes": 2.5,
             "device": "cpu", "versions": {"torch": "2.15.0"}, "date": "2026-11-23T10:00:00",
             "commit": "abc1234", "steps": 600}
    banner = bookmaker.banner(facts)
    assert "warning" not in banner
    for fact in ["real data (MNIST-LT)", "2 seeds", "2.5 min", "cpu", "torch 2.15.0", "2026-11-23", "abc1234"]:
        assert fact in banner.replace("&#45;", "-").replace("&#95;", "_"), fact
    assert "not results" in bookmaker.banner({**facts, "data": "stand-in"})
    assert "the smoke profile" in bookmaker.banner({**facts, "profile": "smoke"})
