"""The pairs of the real chapters, and the tool that makes them."""

import json

import catalogue
import execution
import nbformat
import pairs
import pytest
import recorded

CHAPTERS = catalogue.in_order()
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
    assert pairs.pair(chapter, check=True) == [], "run `make pair` and commit both files"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_notebook_is_valid_and_holds_no_outputs(chapter):
    nb = json.loads(catalogue.source(chapter).with_suffix(".ipynb").read_text(encoding="utf-8"))
    nbformat.validate(nb)
    assert nb["metadata"]["kernelspec"]["language"] == "python"
    code = [cell for cell in nb["cells"] if cell["cell_type"] == "code"]
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"] is not None] == []


def test_cell_ids_come_from_place_and_text():
    first, again = pairs.as_notebook(TEXT), pairs.as_notebook(TEXT)
    assert nbformat.writes(first) == nbformat.writes(again)
    ids = [cell.id for cell in first.cells]
    assert len(set(ids)) == len(ids) == 4, "two cells with the same text have different ids"
    edited = pairs.as_notebook(TEXT.replace("A title", "Another title"))
    assert [a.id == b.id for a, b in zip(first.cells, edited.cells, strict=True)] == [False, True, True, True]


def test_alt_text_survives_the_pairing_and_other_metadata_does_not():
    cell = pairs.as_notebook(TEXT).cells[2]
    assert cell.metadata == {"mystnb": {"image": {"alt": "A falling line"}}}


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "notebooks/part").mkdir(parents=True)
    (tmp_path / "notebooks/part/one.py").write_text(TEXT)
    (tmp_path / "_config.yml").write_text("repository:\n  url: https://example.org/new/\n")
    monkeypatch.setattr(catalogue, "ROOT", tmp_path)
    monkeypatch.setattr(catalogue, "in_order", lambda: ["part/one"])
    return tmp_path


def test_pair_writes_both_files_and_check_finds_drift(project):
    pair = ["notebooks/part/one.py", "notebooks/part/one.ipynb"]
    assert pairs.pair("part/one", check=True) == pair
    assert pairs.pair("part/one") == pair
    assert pairs.pair("part/one", check=True) == []
    for file in pair:
        text = (project / file).read_text()
        assert "git+https://example.org/new" in text
        assert "example.org/old" not in text
    notebook = project / pair[1]
    notebook.write_text(notebook.read_text().replace("falling", "rising"))
    assert pairs.pair("part/one", check=True) == [pair[1]]


def test_a_run_does_not_depend_on_the_address(project):
    (project / "notebooks/profiles").mkdir()
    (project / "notebooks/profiles/smoke.yaml").write_text("seeds: {default: 1}")
    before = catalogue.key("part/one", "smoke")
    pairs.pair("part/one")
    assert catalogue.key("part/one", "smoke") == before
    (project / "notebooks/profiles/smoke.yaml").write_text("seeds: {default: 2}")
    assert catalogue.key("part/one", "smoke") != before


def test_code_that_a_chapter_loads_decides_about_it(project, monkeypatch):
    (project / "notebooks/profiles").mkdir()
    (project / "notebooks/profiles/smoke.yaml").write_text("seeds: {default: 1}")
    (project / "notebooks/part/all.py").write_text('# %%\nother = load("part/one")\n')
    (project / "notebooks/part/alone.py").write_text('# %%\nother = load("part/none")\n')
    monkeypatch.setattr(catalogue, "in_order", lambda: ["part/one", "part/all", "part/alone"])
    before = [catalogue.key(chapter, "smoke") for chapter in catalogue.in_order()]
    one = project / "notebooks/part/one.py"
    one.write_text(one.read_text().replace("A falling line", "A rising line").replace("# # A title", "# # Another"))
    assert before == [catalogue.key(chapter, "smoke") for chapter in catalogue.in_order()], "prose and alt text"
    one.write_text(one.read_text().replace("plot()", "plot(1)"))
    after = [catalogue.key(chapter, "smoke") for chapter in catalogue.in_order()]
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, False, True]


@pytest.mark.parametrize(("old", "new", "same"), [
    ("# # A title", "# # Another title\n#\n# and a line", True),  # prose
    ("plot()\n", "plot()  # why\n", True),  # a comment
    ('old")\n', 'old")\n# why\n', True),  # a comment that ends a cell
    ('"remove-cell"', '"remove-cell", "hide-input"', True),  # what the page shows of it
    ("A falling line", "A rising line", True),  # the alt text
    ("# %%\nplot()", "# %% [markdown]\n# Look.\n\n# %%\nplot()", True),  # prose between
    ("plot()\n", "plot();\n", False),  # hides what the cell returns
    ("plot()\n", "plot(1)\n", False),
    ("# %%\nplot()", "# %%\n\n# %%\nplot()", False),  # outputs would stand elsewhere
    ("# %%\nplot()", '# %% tags=["parameters"]\nplot()', False),
    ("# %%\nplot()", "# %%\nif plot:\n    plot()", False),
])
def test_a_run_depends_on_code_and_not_on_prose(old, new, same):
    assert TEXT.count(old) >= 1
    assert (catalogue.code(TEXT.replace(old, new)) == catalogue.code(TEXT)) == same


def test_outputs_meet_the_prose_of_today_and_no_other_code(project):
    import nbformat.v4

    ran = pairs.as_notebook(TEXT)
    ran.cells[2].outputs = [nbformat.v4.new_output("stream", text="drawn")]
    ran.cells.insert(2, nbformat.v4.new_code_cell("X = 1", metadata={"tags": ["injected-parameters"]}))
    source, text = project / "notebooks/part/one.py", TEXT.replace('["bootstrap"', '["parameters"')
    source.write_text(text.replace("A title", "Another title").replace("falling", "rising"))
    met = pairs.with_outputs("part/one", ran)
    assert [cell.source.split("\n")[0] for cell in met.cells] == ["# Another title", ran.cells[1].source, "X = 1",
                                                                  "plot()", "plot()"]
    assert [cell.get("outputs") for cell in met.cells][3][0].text == "drawn"
    assert met.cells[3].metadata.mystnb.image.alt == "A rising line"
    for other in (text.replace("plot()", "draw()"), text + "\n# %%\nmore()\n", text[:text.rindex("# %%")]):
        source.write_text(other)
        with pytest.raises(catalogue.Trouble, match="part/one was changed after it ran"):
            pairs.with_outputs("part/one", ran)


def profile(project, text):
    (project / "notebooks/profiles").mkdir(exist_ok=True)
    (project / "notebooks/profiles/smoke.yaml").write_text(text)


def test_a_profile_that_names_no_chapter_or_does_not_exist_is_an_error(project):
    profile(project, "seeds: {default: 1}\npart/two: {STEPS: 2}")
    with pytest.raises(SystemExit, match="part/two, which is no chapter"):
        catalogue.parameters("smoke", "part/one")
    with pytest.raises(SystemExit, match="unknown profile 'fast'; known: smoke"):
        catalogue.parameters("fast", "part/one")


def test_seeds_come_from_the_part_and_the_rest_from_the_chapters_own_lines(project):
    profile(project, "seeds: {default: 100-104}")
    assert catalogue.parameters("smoke", "part/one") == {"SEEDS": [100, 101, 102, 103, 104]}
    profile(project, "seeds: {default: 100-104, part: 7-8}\npart/one: {STEPS: 2}")
    assert catalogue.parameters("smoke", "part/one") == {"SEEDS": [7, 8], "STEPS": 2}
    profile(project, "seeds: {default: 100-104, part: 7-8}\npart/one: {SEEDS: [3]}")
    assert catalogue.parameters("smoke", "part/one") == {"SEEDS": [3]}


@pytest.mark.parametrize(("seeds", "said"), [
    ("default: {STEPS: 1}", "needs seeds"), ("seeds: 1-5", "needs seeds"), ("seeds: {part: 1-5}", "needs seeds"),
    ("seeds: {default: 0, part/one: 1}", "needs seeds"), ("seeds: {default: 5-1}", "no seeds"),
    ("seeds: {default: 1-}", "no seeds"), ("seeds: {default: [1, 1]}", "each seed once"),
    ("seeds: {default: 1.5}", "no seeds"), ("seeds: {default: []}", "no seeds")])
def test_a_profile_whose_seeds_are_none_is_an_error(project, seeds, said):
    profile(project, seeds)
    with pytest.raises(SystemExit, match=said):
        catalogue.parameters("smoke", "part/one")


def test_declared_parameters_are_those_of_the_tagged_cell():
    nb = pairs.as_notebook('# %%\nOTHER = 1\n\n# %% tags=["parameters"]\nSEEDS = [0]\nSTEPS: int = 5\n')
    assert pairs.declared(nb) == ["SEEDS", "STEPS"]


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "a *b* _c_ `d` $e$ [f](g)", "{role}`x` <!-- y -->"])
def test_what_a_manifest_says_is_text_and_never_markup(text):
    from markdown_it import MarkdownIt

    rendered = MarkdownIt().render(f"<span>{catalogue.escape(text)}</span>")
    assert rendered.count("<") == 4, "only the paragraph and the span"
    assert "*" not in catalogue.escape(text)


def test_the_banner_warns_of_stand_ins_and_quick_runs_only():
    facts = {"profile": "book", "data": "real", "dataset": ["MNIST-LT"], "seeds": [0, 1], "minutes": 2.5,
             "device": "cpu", "versions": {"torch": "2.15.0"}, "date": "2026-11-23T10:00:00",
             "commit": "abc1234", "steps": 600}
    banner = recorded.banner(facts)
    assert "warning" not in banner
    for fact in ["real data (MNIST-LT)", "2 seeds", "2.5 min", "cpu", "torch 2.15.0", "2026-11-23", "abc1234"]:
        assert fact in banner.replace("&#45;", "-").replace("&#95;", "_"), fact
    assert "not results" in recorded.banner({**facts, "data": "stand-in"})
    assert "the smoke profile" in recorded.banner({**facts, "profile": "smoke"})
    draft = recorded.banner({**facts, "profile": "draft"})
    assert "run-banner-warning" in draft
    assert "nothing is judged" in draft


def test_a_traceback_on_a_page_names_no_folder_of_this_machine():
    root = catalogue.ROOT
    text = (f"File {root}/helpers/runs.py:61, in parallel\n  File \"/usr/lib/python3.11/random.py\", line 3\n"
            f"FileNotFoundError: '/home/me/data/x.csv' and ~/.cache/y; see https://example.org/a/b\nx = 1 / 2; a /b\n"
            f"what had run: {root}/build/run/output.ipynb")
    assert execution.pathless(text) == (
        "File helpers/runs.py:61, in parallel\n  File \"random.py\", line 3\n"
        "FileNotFoundError: 'x.csv' and y; see https://example.org/a/b\nx = 1 / 2; a /b\n"
        "what had run: build/run/output.ipynb")
