"""What every chapter and page keeps: skeleton, Markdown that Colab shows too, alt text, links that lead somewhere."""

import ast
import re
import subprocess
from itertools import pairwise

import catalogue
import pairs
import pytest
import yaml

from helpers.experiments import RATES

ROOT = catalogue.ROOT
CHAPTERS = catalogue.in_order()
PAGES = sorted((ROOT / "book").glob("*.md"))
SECTIONS = ["At a glance", "When this does not help", "Published and reproduced", "Try it"]
SHARED_FIGURES = [node.name for node in ast.parse((ROOT / "helpers/plots.py").read_text(encoding="utf-8")).body
                  if isinstance(node, ast.FunctionDef) and node.returns
                  and ast.unparse(node.returns) in ("Axes", "Figure")]
DRAWS = re.compile(rf"\bplots\.({'|'.join(SHARED_FIGURES)})\(|\bplt\.(?!close)\w+\(|"
                   r"\b\w+\.(imshow|plot|bar|barh|hist|scatter)\(")
RAW = {
    "a directive": r"^\s*(```|~~~|:::+)\s*\{",
    "a role": r"\{[a-z][\w:-]*\}`",
    "a target": r"^\([\w-]+\)=\s*$",
    "a block break": r"^\+\+\+",
    "a comment": r"^%",
    "a substitution": r"\{\{",
}


@pytest.fixture(params=CHAPTERS, scope="module")
def cells(request):
    """The cells of each chapter in turn."""
    return pairs.as_notebook(catalogue.source(request.param).read_text(encoding="utf-8")).cells


def kind(cells, cell_type):
    return [cell for cell in cells if cell.cell_type == cell_type]


def tagged(cells, tag):
    return [cell for cell in cells if tag in cell.metadata.get("tags", [])]


def headings(text):
    return re.findall(r"^(#+) (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE)


def tracked() -> list[str]:
    """The files of the project that git knows or would add."""
    listing = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                             capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [name for name in sorted(set(listing.stdout.splitlines())) if (ROOT / name).is_file()]


# ---------------------------------------------------------------- the skeleton of a chapter

def test_it_begins_with_its_title_and_the_box(cells):
    assert re.match(r"# \S", cells[0].source)
    box = next(cell.source for cell in cells if "## At a glance" in cell.source)
    assert '<div class="admonition' in box
    assert '<span class="verdict">computed by the last cell</span>' in box, "the verdict is computed, never typed"


def test_it_has_the_sections_in_order_and_headings_that_skip_no_level(cells):
    found = [heading for cell in kind(cells, "markdown") for heading in headings(cell.source)]
    titles = [title.strip() for _, title in found]
    places = [titles.index(section) for section in SECTIONS]
    assert places == sorted(places)
    levels = [len(marks) for marks, _ in found]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_its_bootstrap_cell_installs_only_where_the_package_is_missing(cells):
    (cell,) = tagged(cells, "bootstrap")
    assert "remove-cell" in cell.metadata.tags
    assert cell is kind(cells, "code")[0]
    (attempt,) = ast.parse(cell.source).body
    assert isinstance(attempt, ast.Try)
    assert ast.unparse(attempt.handlers[0].type) == "ModuleNotFoundError"
    assert f'"git+{catalogue.address()}"' in cell.source


def test_its_parameters_are_declared_once_and_are_literals(cells):
    (cell,) = tagged(cells, "parameters")
    values = {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(cell.source).body}
    assert {"SEEDS", "STEPS", "DATA"} <= set(values)
    assert values["DATA"] == "auto"
    assert len(values["SEEDS"]) >= 5


def test_it_ends_by_recording_its_results(cells):
    assert "record(" in kind(cells, "code")[-1].source


def test_its_exercises_have_folded_solutions(cells):
    start = next(i for i, cell in enumerate(cells) if re.search(r"^## Try it", cell.source, flags=re.MULTILINE))
    folded = [cell for cell in cells[start:] if "<details" in cell.source
              or {"solution", "hide-cell"} <= set(cell.metadata.get("tags", []))]
    assert folded
    assert all("hide-cell" in cell.metadata.tags for cell in tagged(cells, "solution"))


def test_every_figure_has_alt_text_that_says_something(cells):
    for cell in kind(cells, "code"):
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        lines = [line for line in cell.source.splitlines() if not line.startswith((" ", "def ", "import ", "from "))]
        if DRAWS.search("\n".join(lines)):
            assert len(alt.split()) >= 5, f"alt text is missing or too short:\n{cell.source}"
        assert not re.match(r"(figure|image|plot|picture) of\b", alt, flags=re.IGNORECASE), alt


def test_its_code_keeps_the_house_rules(cells):
    for cell in kind(cells, "code"):
        assert not re.search(r"^\s*[!%]", cell.source, flags=re.MULTILINE), "no shell lines or magics"
        assert "import *" not in cell.source
        assert "filterwarnings" not in cell.source
        assert not re.search(r"^\s*except\s*:", cell.source, flags=re.MULTILINE)


def test_its_lines_of_code_fit_the_page(cells):
    long = [line for cell in kind(cells, "code") for line in cell.source.splitlines() if len(line) > 100]
    assert long == [], "at most 100 characters, so that no reader has to scroll sideways"


# ---------------------------------------------------------------- Markdown that reads the same everywhere

@pytest.mark.parametrize("what", RAW)
def test_its_markdown_holds_nothing_that_colab_would_show_raw(cells, what):
    for cell in kind(cells, "markdown"):
        found = re.search(RAW[what], cell.source, flags=re.MULTILINE)
        assert not found, f"{what} in a notebook: {found[0]!r}"


@pytest.mark.parametrize(("text", "what"), [
    ("```{note}\nhello\n```", "a directive"), (":::{tip}\n:::", "a directive"), ("{cite}`chawla2002`", "a role"),
    ("(here)=\n# A", "a target"), ("+++", "a block break"), ("% not shown", "a comment"),
    ("a quarter, 25\n%, is lost", "a comment"), ("{{ name }}", "a substitution")])
def test_the_check_for_raw_markup_finds_it(text, what):
    assert re.search(RAW[what], text, flags=re.MULTILINE)


def test_boxes_leave_a_blank_line_around_their_markdown(cells):
    for cell in kind(cells, "markdown"):
        for opening in re.finditer(r"^<(?:div|details)\b.*\n(?:<(?:p|summary)\b.*\n)?(.*)$", cell.source, re.MULTILINE):
            following = opening[1]
            assert not following.strip() or following.lstrip().startswith("<"), \
                f"Markdown after an HTML line needs a blank line between: {following!r}"


def anchors(path) -> set[str]:
    """The anchors that the headings of a page make."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for _, title in headings(text)}
    if path.stem == "references":  # a source's address is its key
        keys = path.with_suffix(".bib").read_text(encoding="utf-8")
        slugs |= set(re.findall(r"^@\w+\{([\w-]+),", keys, re.MULTILINE))
    if path.stem == "glossary":  # a term's address, as Sphinx makes it
        terms = re.findall(r"^(?!```|#)(\S.*)$", text, re.MULTILINE)
        slugs |= {"term-" + re.sub(r"[^a-zA-Z0-9._]+", "-", term).strip("-._") for term in terms}
    return slugs | set(re.findall(r'<span id="(\w+)">', text))


def links(text: str) -> list[str]:
    text = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:href|src)="([^"]+)"', text)


SOURCES = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md", *map(catalogue.source, CHAPTERS)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_links_inside_the_book_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        cells = pairs.as_notebook(text).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    for link in links(text):
        if re.match(r"(https?|mailto):", link):
            continue
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        assert file.is_file(), f"{path.name} links to {link}, which is not there"
        if file.suffix == ".py" and file.parent == ROOT / "tests":  # staging makes it a link to the repository
            assert re.search(rf"^def {anchor}\(", file.read_text(encoding="utf-8"), re.MULTILINE), f"no test for {link}"
            continue
        assert file.suffix != ".py" or not target, f"{link}: link to the .ipynb, which is the page"
        if anchor and file.suffix in (".md", ".ipynb", ".py"):
            page = file if file.suffix == ".md" else file.with_suffix(".py")
            assert anchor in anchors(page), f"no heading for {link}"


# ---------------------------------------------------------------- the project

def test_every_chapter_on_disk_is_in_the_table_of_contents():
    on_disk = {str(p.relative_to(ROOT / "notebooks").with_suffix("")) for p in (ROOT / "notebooks").rglob("*.py")}
    assert on_disk == set(CHAPTERS)
    assert {p.with_suffix(".py") for p in (ROOT / "notebooks").rglob("*.ipynb")} == {*map(catalogue.source, CHAPTERS)}


def test_every_chapter_has_one_open_task():
    tasks = (ROOT / "book/exercises.md").read_text(encoding="utf-8").split("## Open tasks")[1]
    asked = re.findall(r"^\[[^]]+\]\(\.\./notebooks/(.+)\.ipynb\)\n: \S", tasks, flags=re.MULTILINE)
    assert asked == CHAPTERS, "one task for each chapter, in the book's order"


def test_profiles_know_every_parameter_they_set():
    for path in sorted((ROOT / "notebooks/profiles").glob("*.yaml")):
        for chapter in CHAPTERS:
            nb = pairs.as_notebook(catalogue.source(chapter).read_text(encoding="utf-8"))
            assert set(catalogue.parameters(path.stem, chapter)) <= set(pairs.declared(nb)), (path.name, chapter)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_no_seed_that_writes_is_one_that_judges(chapter):
    small = chapter.split("/")[0] in ("text", "graphs", "tables", "foundations")
    in_arenas = "in_arena(" in catalogue.text(chapter)  # trains as the chapters on images do, and shares their runs
    many = 10 if small and not in_arenas else 5
    seeds = {name: catalogue.parameters(name, chapter)["SEEDS"] for name in ("draft", "book", "full", "smoke")}
    assert seeds["draft"] == [*range(many)]
    assert seeds["book"] == [*range(100, 100 + many)]
    assert seeds["full"] == [*range(100, 100 + 2 * many)]
    assert not {*seeds["draft"], *seeds["smoke"]} & {*seeds["full"]}


@pytest.mark.parametrize("chapter", [chapter for chapter in CHAPTERS if "in_arena(" in catalogue.text(chapter)])
def test_every_technique_of_the_arenas_chooses_from_one_grid_of_rates(chapter):
    assert tuple(pairs.parameter(chapter, "book", "RATES")) == RATES
    assert not {"RATES"} & {*catalogue.parameters("draft", chapter), *catalogue.parameters("full", chapter)}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_reader_in_colab_runs_what_the_book_runs_and_a_preview_is_short(chapter):
    cell = next(cell for cell in pairs.as_notebook(catalogue.text(chapter)).cells
                if "parameters" in cell.metadata.get("tags", []))
    own = {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(cell.source).body}
    assert catalogue.parameters("book", chapter).items() <= own.items()
    assert catalogue.parameters("smoke", chapter).get("STEPS", 1000) <= 20, "give it lines in smoke.yaml"


def test_the_address_is_typed_in_the_config_alone():
    address = catalogue.address()
    typed = [name for name in tracked() if address in (ROOT / name).read_bytes().decode("utf-8", "ignore")]
    derived = [str(catalogue.source(chapter).with_suffix(suffix).relative_to(ROOT))
               for chapter in CHAPTERS for suffix in (".py", ".ipynb")]
    assert set(typed) - set(derived) == {"_config.yml"}
    if "YOUR-ACCOUNT" in address:
        assert "YOUR-ACCOUNT" in (ROOT / "README.md").read_text(encoding="utf-8"), "the README explains the placeholder"


def test_no_built_thing_is_committed():
    for name in tracked():
        assert not name.startswith(("build/", ".snakemake/", ".venv")), name
        assert (ROOT / name).stat().st_size < 600_000, f"{name} is large"
        if name.endswith(".ipynb"):
            assert '"output_type"' not in (ROOT / name).read_text(encoding="utf-8"), f"{name} holds outputs"


def test_chapters_load_no_pickle_and_the_ci_runs_what_the_readme_says():
    for chapter in CHAPTERS:
        assert not re.search(r"\bpickle\b|weights_only=False", catalogue.source(chapter).read_text(encoding="utf-8"))
    steps = (ROOT / ".ci/run").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in ("make test", "make preview"):
        assert command in steps
        assert command in readme
    for workflow in (ROOT / ".github/workflows").glob("*.yml"):
        assert "jobs" in yaml.safe_load(workflow.read_text(encoding="utf-8"))
