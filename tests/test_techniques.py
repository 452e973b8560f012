"""Every technique can be had by name, without running its chapter, stands in the list of all, and is tested."""

import ast
import builtins
import inspect
import re

import catalogue
import pages
import pairs
import pytest
import techniques
from test_rooms import HELPERS

from helpers import chapters, runs
from helpers.training import Recipe

CHAPTERS = [chapter for chapter in catalogue.in_order() if techniques.listed(chapter)]


def test_the_loader_knows_the_books_chapters_and_names_them():
    assert sorted(catalogue.in_order()) == sorted(chapters.names())
    with pytest.raises(ValueError, match="no chapter 'mixing'; known: augmentation/mixing"):
        chapters.load("mixing")


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_technique_of_a_chapter_can_be_imported_and_is_a_recipe(chapter):
    found, listed = chapters.load(chapter).TECHNIQUES, techniques.listed(chapter)
    assert set(listed) == set(found)
    for name, hooks in found.items():
        recipe = Recipe(**hooks)
        assert all(getattr(recipe, hook) is hooks[hook] for hook in hooks)
        assert [hook for hook, _ in listed[name]] == list(hooks)
        for _, function in listed[name]:
            assert hasattr(chapters.load(chapter), function) or not function.isidentifier()


def test_a_chapters_function_goes_to_a_worker(monkeypatch):
    monkeypatch.setenv("BOOK_WORKERS", "2")
    monkeypatch.setenv("BOOK_RUNS", "off")
    counted = chapters.load("foundations/is_it_the_ratio").precision_and_recall
    assert runs.parallel(counted, [(2, 10, 1.0), (2, 10, 2.0)]) == [counted(2, 10, 1.0), counted(2, 10, 2.0)]


def test_the_list_says_what_each_does_and_names_its_source():
    shown = techniques.table(CHAPTERS)
    rows = {re.sub(r"<[^>]+>", "", row.split("</th>")[0]): row for row in shown.split("<tr>")[2:]}
    assert len(rows) <= sum(len(techniques.listed(chapter)) for chapter in CHAPTERS)
    assert {name for chapter in CHAPTERS for name in techniques.listed(chapter)} == {
        name.replace("&#58;", ":").replace("&#39;", "'") for name in rows}
    assert "references.html#chou2020" in rows["Remix"] and "label shares by a rule" in rows["Remix"]
    assert "references.html" not in rows["weighted sampler"], "the source of another heading is not its own"


def test_what_a_technique_does_comes_from_its_head_or_from_helpers_where_the_chapter_is_silent():
    rows = dict(re.findall(r'<tr><th scope="row">(.*?)</th><td>(.*?)</td>', techniques.table(CHAPTERS)))
    assert [name for name, what in rows.items() if not what] == []
    assert rows["EOS"].startswith("Expansive oversampling") and rows["cRT"].startswith("Classifier re-training")
    assert rows["affine"].startswith("Turn, move, scale and shear") and "&#96;" not in "".join(rows.values())
    assert "noise of deviation <code>sigma</code>" in rows["noise-added oversampling"]
    assert "margin" in rows["LDAM"], "the loss says what it is, and not the network that it needs"


def test_a_hook_inside_partial_is_named():
    assert techniques._function(ast.parse("partial(ohem, share=0.25)", mode="eval").body) == "ohem"
    assert techniques._function(ast.parse("0.5", mode="eval").body) == "0.5"


def test_the_page_of_the_helpers_has_every_module_that_chapters_use():
    page = (catalogue.ROOT / "book/api.md").read_text(encoding="utf-8")
    inner = {"keys", "store", "surroundings"}
    assert re.findall(r"automodule:: helpers\.(\w+)", page) == [name for floor in HELPERS for name in floor
                                                               if name not in inner]


# ---------------------------------------------------------------- what a chapter defines is reached by a test

def names_in(node: ast.AST) -> set[str]:
    """All names that a piece of code speaks of: variables, attributes, texts."""
    return {getattr(part, "id", None) or getattr(part, "attr", None) or getattr(part, "value", None)
            for part in ast.walk(node) if isinstance(part, ast.Name | ast.Attribute)
            or (isinstance(part, ast.Constant) and isinstance(part.value, str))}


def unreached(source: str, tested: set[str], importable: set[str]) -> list[str]:
    """The functions and classes of a chapter that no test names, and none that a test names calls.

    Left out: solutions, what draws, and what reads a variable that is there only when the chapter has run.
    """
    defined, exempt = {}, set()
    for cell in pairs.as_notebook(source).cells:
        if cell.cell_type != "code":
            continue
        for node in ast.parse(cell.source).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                defined[node.name] = node
                variables = [part for part in ast.walk(node) if isinstance(part, ast.Name)]
                own = {part.id for part in variables if isinstance(part.ctx, ast.Store)}
                own |= {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
                read = {part.id for part in variables} - own - importable
                if "solution" in cell.metadata.get("tags", []) or {"plt", "ax", "plots"} & names_in(node) or {
                        name for name in read if not hasattr(builtins, name)}:
                    exempt.add(node.name)
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                defined[node.targets[0].id] = node
    todo = [name for name in defined if name in tested]
    reached = set(todo)
    while todo:
        more = (names_in(defined[todo.pop()]) & set(defined)) - reached
        reached |= more
        todo += more
    return [name for name, node in defined.items()
            if not isinstance(node, ast.Assign) and name not in reached | exempt]


@pytest.mark.parametrize("chapter", catalogue.in_order())
def test_every_function_of_a_chapter_is_reached_by_a_test(chapter):
    texts = [path.read_text(encoding="utf-8") for path in (catalogue.ROOT / "tests").glob("test_*.py")]
    tested = set().union(*(names_in(ast.parse(text)) for text in texts if f'load("{chapter}")' in text))
    source = catalogue.source(chapter).read_text(encoding="utf-8")
    assert unreached(source, tested, set(vars(chapters.load(chapter)))) == []


def test_a_function_that_no_test_reaches_is_found():
    source = """
# %%
import torch
def used(): return helper() + LIMIT
def helper(): return 1
def forgotten(): return torch.zeros(2)
def of_the_page(): return results
LIMIT = 3
# %% tags=["solution"]
def solved(): return 2
"""
    known = {"torch", "used", "helper", "forgotten", "of_the_page", "LIMIT", "solved"}
    assert unreached(source, {"used"}, known) == ["forgotten"]
    assert unreached(source, set(), known) == ["used", "helper", "forgotten"]


def test_the_page_of_the_helpers_lists_no_field_among_the_methods_and_names_defaults():
    from helpers import tables, training

    def left_out(owner, name):
        return pages.leave_out_fields(None, "class", name, inspect.getattr_static(owner, name), False, None)

    assert left_out(training.Recipe, "sampler") and left_out(tables.Parts, "train")
    assert left_out(tables.Table, "split") is None and left_out(tables.Table, "digest") is None
    shown = "(sampler=<function shuffled at 0x7f>, unpack=<class 'numpy.ndarray'>)"
    assert pages.name_the_defaults(*[None] * 5, shown, None) == ("(sampler=shuffled, unpack=ndarray)", None)
