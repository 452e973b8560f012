"""The site: the folder that jupyter-book reads, laid out like the repository, and the HTML made from it."""

import ast
import hashlib
import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import catalogue
import collected
import execution
import pairs
import recorded
from catalogue import Trouble, escape

VERDICT = re.compile(r'(<span class="verdict">).*?(</span>)', re.DOTALL)
# The head of a table whose index has a name: the row of columns, then one for the name alone. One row says both.
NAMED = re.compile(r"(<tr[^>]*>\s*)<th></th>((?:\s*<th[^>]*>[^<]*</th>)+\s*</tr>)\s*"
                   r"<tr>\s*(<th>[^<]+</th>)(?:\s*<th></th>)+\s*</tr>(?=\s*</thead>)")
MINUTES = re.compile(r'(<span class="minutes">).*?(</span>)', re.DOTALL)
TWICE = re.compile(r'(## (.+)\n\n<div class="admonition note">\n)<p class="admonition-title">\2</p>\n')
OUTSIDE = re.compile(r"\]\(\.\./(?!notebooks/)([\w./-]+)(?:#(\w+))?\)")
PLACE = re.compile(r"\[([^][]+)\]\(((?:\.\./)*(?:book/)?(?:errata|glossary|references))\.md#([\w.-]+)\)")


def tell(nb, verdict: str) -> None:
    """Write the verdict into its box, and let links to an erratum, a source or a term lead there.

    A box right below a heading of its name (in Colab a box has no frame, but it has its title) keeps the heading alone.
    """
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cell.source = TWICE.sub(r"\1", cell.source)
            cell.source = places(VERDICT.sub(lambda match: match[1] + escape(verdict) + match[2], cell.source))


def places(text: str) -> str:
    """Links to one erratum, source or term as plain HTML, as Sphinx follows Markdown links to headings alone."""
    return PLACE.sub(r'<a href="\2.html#\3">\1</a>', text)


def without_results(chapter: str, title: str, reason: str):
    """The chapter as it is written, with a box that says why there is nothing to see. Its headings can be linked to."""
    import nbformat

    nb = pairs.as_notebook(catalogue.text(chapter))
    tell(nb, "none in this build")
    box = f'<div class="admonition error">\n<p class="admonition-title">{escape(title)}</p>\n\n' \
          f'<pre class="traceback">\n{html.escape(execution.pathless(reason).strip())}\n</pre>\n\n</div>'
    nb.cells.insert(1, nbformat.v4.new_markdown_cell(box, id="no-results"))
    return nb


def page(chapter: str, profile: str):
    """What stands in a chapter's place, and, if the chapter failed only now, why."""
    if catalogue.is_current(chapter, profile):
        try:
            return staged(chapter, profile), None
        except Trouble as trouble:
            return without_results(chapter, "This chapter failed in this build", str(trouble)), str(trouble)
    if not catalogue.executed(chapter, profile).is_file() and (reason := catalogue.reason(chapter, profile)):
        return without_results(chapter, "This chapter failed in this build", reason), None
    forget(chapter, profile)
    return without_results(chapter, "This chapter was not run in this build",
                           "It has changed since it ran last, or has never run."), None


def staged(chapter: str, profile: str):
    """The executed notebook as the page shows it: with the verdict in its box and the banner below its title."""
    import nbformat

    nb = pairs.with_outputs(chapter, nbformat.read(catalogue.executed(chapter, profile), as_version=4))
    facts = recorded.facts(chapter, profile)
    took = escape(recorded.time_taken(facts)) if facts.get("minutes") else ""
    prefix = "" if recorded.is_real(facts) else "(not a result) "
    tell(nb, prefix + (facts.get("verdict") or "not judged in this run"))
    for cell in nb.cells:
        if cell.cell_type == "markdown" and took and profile != "smoke":  # a quick run's time says nothing
            cell.source = MINUTES.sub(lambda match: match[1] + took + match[2], cell.source)
    for cell in nb.cells:
        images = [o for o in cell.get("outputs", []) if any(kind.startswith("image/") for kind in o.get("data", {}))]
        if images:  # what a plotting call returns says nothing to a reader
            cell.outputs = [o for o in cell.outputs if set(o.get("data", {})) != {"text/plain"}]
        for output in cell.get("outputs", []):
            said, table = (output.get("data", {}).get(kind, "") for kind in ("text/plain", "text/html"))
            if said[:1] in ("'", '"') and isinstance(sentence := _literal(said), str):
                output.data["text/plain"] = sentence  # a sentence is read, not typed: without its quotes
            if table:
                output.data["text/html"] = NAMED.sub(r"\1\3\2", table)
        if images and not cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "").strip():
            raise Trouble(f"{chapter}: a figure without alt text; write mystnb={{\"image\": {{\"alt\": \"…\"}}}} "
                          f"after the # %% of the cell\n\n{cell.source}")
    nb.cells.insert(1, nbformat.v4.new_markdown_cell(recorded.banner(facts), id="run-banner"))
    return nb


def _literal(text: str):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None


def outward_links(text: str) -> str:
    """Let links to files outside the book lead to the repository: ``#name`` after a .py becomes the line of its def."""
    settings = catalogue.read_yaml(catalogue.ROOT / "_config.yml")["repository"]

    def answer(match):
        path, name, line = match[1], match[2], ""
        if name:
            code = (catalogue.ROOT / path).read_text(encoding="utf-8").splitlines()
            line = next((f"#L{n}" for n, row in enumerate(code, 1) if row.startswith(f"def {name}(")), "")
        return f"]({settings['url'].rstrip('/')}/blob/{settings.get('branch', 'main')}/{path}{line})"

    return places(OUTSIDE.sub(answer, text))


def fill_pages(folder: Path, profile: str) -> None:
    """Write into the pages what they ask for in ``<!-- made: … -->``: numbers of the results, never typed."""
    for page in sorted((folder / "book").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        filled = outward_links(text)
        if "<!-- made: " in text:
            filled = collected.fill(filled, profile, folder / "book")
        if filled != text:
            page.write_text(filled, encoding="utf-8")


def mathjax(target: Path) -> None:
    """Copy MathJax, of which a package of the lock carries a whole tree, into the site."""
    from importlib.metadata import distribution

    wanted = re.compile(r".*/es5/(tex-chtml\.js|(a11y|input/tex|output/chtml|sre/mathmaps/(en|base))\b.*)")
    files = [f for f in distribution("django-static-mathjax").files or [] if wanted.fullmatch(f.as_posix())]
    if not files:
        raise Trouble("django-static-mathjax, which carries MathJax, holds no es5 folder any more")
    for file in files:
        copy = target / file.as_posix().split("/es5/")[1]
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.locate(), copy)


def stage(profile: str, output: Path) -> None:
    """Lay out ``build/stage`` like the repository, the executed notebooks in their places.

    A chapter that cannot be shown leaves a page that says so; the others lose nothing. Its name stands in `output`.
    """
    import nbformat

    folder, chapters = catalogue.build_folder() / "stage", catalogue.in_order()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("_config.yml", "_toc.yml"):
        shutil.copyfile(catalogue.ROOT / name, folder / name)
    shutil.copytree(catalogue.ROOT / "book", folder / "book", ignore=shutil.ignore_patterns("__pycache__", "snakemake"))
    mathjax(folder / "vendored" / "mathjax")
    failed = {}
    for chapter in chapters:
        target = folder / "notebooks" / f"{chapter}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        shown, trouble = page(chapter, profile)
        failed.update({chapter: trouble} if trouble else {})
        nbformat.write(shown, target)
    fill_pages(folder, profile)
    forget_orphans(profile, chapters)
    digests = {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
               for p in sorted(folder.rglob("*")) if p.is_file()}
    done = {"profile": profile, "failed": failed, "files": digests}
    output.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")


def forget(chapter: str, profile: str) -> None:
    """Remove what a chapter left before it was changed: no page may take its old numbers for new ones."""
    for path in (catalogue.executed(chapter, profile), *(catalogue.results_path(chapter, profile, suffix)
                                                         for suffix in (".csv", ".json"))):
        path.unlink(missing_ok=True)


def forget_orphans(profile: str, chapters: list[str]) -> None:
    """Remove what chapters that are gone or renamed have left behind."""
    flat = {chapter.replace("/", "-") for chapter in chapters}
    for path in (catalogue.build_folder() / "notebooks" / profile).glob("*/*.ipynb"):
        if f"{path.parent.name}/{path.stem}" not in chapters:
            path.unlink()
    for kind in ("results", "logs"):
        for path in (catalogue.build_folder() / kind / profile).glob("*-*.*"):
            if path.name.split(".")[0] not in flat:
                path.unlink()


def pages(log: Path) -> None:
    """Build the HTML, warnings being errors, in a clean folder."""
    folder = catalogue.build_folder()
    for name in ("sphinx", "html"):
        shutil.rmtree(folder / name, ignore_errors=True)
    print("building the pages …", flush=True)
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", "-W", "-n",
               "--keep-going", "--path-output", str(folder / "sphinx"), str(folder / "stage")]
    with log.open("w", encoding="utf-8") as out:
        code = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        raise SystemExit(code)
    door = folder / "sphinx" / "_build" / "html" / "index.html"  # leads on to the first page; has no title, no icon
    head = ["<!DOCTYPE html>", '<html lang="en">', '<link rel="icon" href="_static/favicon.svg">',
            f"<title>{html.escape(catalogue.read_yaml(catalogue.ROOT / '_config.yml')['title'])}</title>"]
    door.write_text("\n".join([*head, door.read_text(encoding="utf-8")]), encoding="utf-8")
    door.parent.rename(folder / "html")
