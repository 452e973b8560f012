"""The one tool around the chapters: pair, check, execute, stage, html, build.

A chapter is ``notebooks/<part>/<name>.py``; it is called ``<part>/<name>`` everywhere. Its pair, the ``.ipynb`` without
outputs, is what Colab opens. ``build`` is what `make book` calls; the rest are the steps that it, or a writer, runs.
"""

import argparse
import ast
import contextlib
import fcntl
import functools
import hashlib
import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VERDICT = re.compile(r'(<span class="verdict">).*?(</span>)', re.DOTALL)
MINUTES = re.compile(r'(<span class="minutes">).*?(</span>)', re.DOTALL)
OUTSIDE = re.compile(r"\]\(\.\./(?!notebooks/)([\w./-]+)(?:#(\w+))?\)")
ADDRESS = re.compile(r'(?<=git\+)[^"\s]*')
ERRATUM = re.compile(r"\[(E\d+)\]\(errata\.md#(e\d+)\)")
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
          "language_info": {"name": "python"}}


class Trouble(SystemExit):
    """What a writer or reader can mend: printed as one line, without a traceback."""

    def __init__(self, message: str):
        super().__init__(f"error: {message}")


# ---------------------------------------------------------------- what there is

def read_yaml(path: Path) -> dict:
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.MarkedYAMLError as error:
        raise Trouble(f"{path.relative_to(ROOT)}, line {error.problem_mark.line + 1}: this is not YAML "
                      f"({error.problem}); look at the indentation") from None


def in_order() -> list[str]:
    """The chapters, in the order of ``_toc.yml``."""
    toc = read_yaml(ROOT / "_toc.yml")
    pages = [page["file"] for part in [toc, *toc.get("parts", [])] for page in part.get("chapters", [])]
    chapters = [page.removeprefix("notebooks/") for page in pages if page.startswith("notebooks/")]
    for chapter in chapters:
        if not source(chapter).is_file():
            raise Trouble(f"_toc.yml names notebooks/{chapter}, but there is no notebooks/{chapter}.py")
    return chapters


def source(chapter: str) -> Path:
    return ROOT / "notebooks" / f"{chapter}.py"


def build_folder() -> Path:
    """Where everything that is made goes. Chapters find it in ``$BOOK_BUILD``."""
    return ROOT / "build"


def results_path(chapter: str, profile: str, suffix: str) -> Path:
    return build_folder() / "results" / profile / f"{chapter.replace('/', '-')}{suffix}"


def address() -> str:
    """The repository's address, which is typed in ``_config.yml`` and nowhere else."""
    return read_yaml(ROOT / "_config.yml")["repository"]["url"].rstrip("/")


def parameters(profile: str, chapter: str) -> dict:
    """What papermill sets: the profile's defaults, then its lines for this chapter."""
    path = ROOT / "notebooks" / "profiles" / f"{profile}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise Trouble(f"unknown profile {profile!r}; known: {known}")
    lines = read_yaml(path)
    strange = [name for name in lines if name != "default" and not source(name).is_file()]
    if strange:
        raise Trouble(f"{path.relative_to(ROOT)} has lines for {strange[0]}, which is no chapter")
    return {**(lines.get("default") or {}), **(lines.get(chapter) or {})}


@functools.cache
def _shared_key() -> bytes:
    files = sorted(p for p in (ROOT / "helpers").rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    digest = hashlib.sha256()
    for path in [*files, ROOT / "requirements.lock"]:
        if path.is_file():
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.digest()


def key(chapter: str, profile: str) -> str:
    """What an execution depends on, by content. The repository's address, which changes no result, is left out."""
    text = ADDRESS.sub("", source(chapter).read_text(encoding="utf-8"))
    chosen = json.dumps(parameters(profile, chapter), sort_keys=True)
    return hashlib.sha256(b"\0".join([text.encode(), chosen.encode(), _shared_key()])).hexdigest()[:16]


# ---------------------------------------------------------------- pairs

def as_notebook(text: str):
    """A chapter's source as a notebook without outputs; a cell's id follows from its place and text."""
    import jupytext
    import nbformat

    nb = jupytext.reads(text, fmt="py:percent")
    nb.metadata = nbformat.from_dict(KERNEL)
    nb.nbformat, nb.nbformat_minor = 4, 5
    for place, cell in enumerate(nb.cells):
        cell.id = hashlib.sha256(f"{place}\0{cell.cell_type}\0{cell.source}".encode()).hexdigest()[:12]
        cell.metadata = nbformat.from_dict(
            {name: cell.metadata[name] for name in sorted(cell.metadata) if name in ("tags", "name", "mystnb")})
    return nb


def with_address(text: str) -> str:
    """A chapter's source, with the repository's address in its bootstrap cell."""
    return ADDRESS.sub(address(), text)


def pair(chapter: str, *, check: bool = False) -> list[str]:
    """Write ``<chapter>.ipynb`` from ``<chapter>.py``; with ``check`` only name the files that would change."""
    import nbformat

    path, text = source(chapter), source(chapter).read_text(encoding="utf-8")
    wanted = {path: with_address(text)}
    wanted[path.with_suffix(".ipynb")] = nbformat.writes(as_notebook(wanted[path])) + "\n"
    changed = []
    for file, content in wanted.items():
        if not file.is_file() or file.read_bytes() != content.encode():
            changed.append(str(file.relative_to(ROOT)))
            if not check:
                file.write_text(content, encoding="utf-8")
    return changed


# ---------------------------------------------------------------- execution

def declared(nb) -> list[str]:
    """The names that the cell tagged ``parameters`` assigns."""
    for cell in nb.cells:
        if "parameters" in cell.metadata.get("tags", []):
            targets = [node.targets if isinstance(node, ast.Assign) else [node.target]
                       for node in ast.parse(cell.source).body if isinstance(node, ast.Assign | ast.AnnAssign)]
            return [target.id for some in targets for target in some if isinstance(target, ast.Name)]
    return []


def plain(text: str) -> str:
    """Without terminal colours."""
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)


def data_seen() -> str:
    """A digest of the names and sizes of the data files that the chapters could have read."""
    import platformdirs

    folders = [os.environ.get("BOOK_DATA"), platformdirs.user_cache_dir("learning-from-imbalanced-data")]
    files = [(str(path.relative_to(folder)), path.stat().st_size) for folder in folders if folder
             for path in sorted(Path(folder).rglob("*")) if path.is_file() and path.suffix != ".lock"]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]


def execute(chapter: str, profile: str, output: Path, log: Path) -> None:
    """Run one chapter from top to bottom and write the executed notebook to ``output``, whole or not at all."""
    import nbformat
    import papermill
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    chapters = in_order()
    number = f"[{chapters.index(chapter) + 1}/{len(chapters)}]" if chapter in chapters else "[–]"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("", encoding="utf-8")

    def fail(message: str):
        log.write_text(message + "\n", encoding="utf-8")
        print(f"{number} {chapter} failed", flush=True)
        raise SystemExit(1)

    nb, chosen = as_notebook(source(chapter).read_text(encoding="utf-8")), parameters(profile, chapter)
    unknown, known = sorted(set(chosen) - set(declared(nb))), declared(nb)
    if unknown:
        fail(f"{chapter} has no parameter {', '.join(unknown)} (set in notebooks/profiles/{profile}.yaml); "
             f"known: {', '.join(known) or 'none, it has no cell tagged parameters'}")

    # A folder of its own, so that a chapter finds nothing that another has left there.
    standard = build_folder() / "notebooks" / profile / f"{chapter}.ipynb"
    folder = build_folder() / "run" / profile / chapter
    if output.resolve() != standard:  # a trial run beside the book's own
        folder = output.resolve().with_suffix(".run")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    nbformat.write(nb, folder / "input.ipynb")
    os.environ.update(BOOK_PROFILE=profile, BOOK_BUILD=str(build_folder()), IPYTHONDIR=str(folder / "ipython"),
                      PYTHONPATH=os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    if os.environ.get("BOOK_DATA"):
        os.environ["BOOK_DATA"] = str(Path(os.environ["BOOK_DATA"]).expanduser().absolute())
    manifest, started = results_path(chapter, profile, ".json"), time.time()
    manifest.unlink(missing_ok=True)

    # Talk to the kernel through files: of kernels that start together, two may be given the same port, and one dies.
    sockets = tempfile.mkdtemp(prefix="book-")  # a short path, as the system asks for
    private = Config({"KernelManager": {"transport": "ipc", "connection_file": f"{sockets}/kernel.json"}})
    print(f"{number} {chapter} …", flush=True)
    try:
        ran = papermill.execute_notebook(
            str(folder / "input.ipynb"), str(folder / "output.ipynb"), parameters=chosen, cwd=str(folder),
            kernel_name="python3", progress_bar=False, log_output=False, config=private)
    except PapermillExecutionError as error:
        fail(f"{chapter}: the cell\n\n{error.source}\n\nfailed; what had run until then: {folder / 'output.ipynb'}\n\n"
             + plain("\n".join(error.traceback)))
    except Exception as error:  # a dead kernel, say: the log is where a writer looks
        fail(f"{chapter}: {type(error).__name__}: {plain(str(error))}")
    finally:
        shutil.rmtree(sockets, ignore_errors=True)
    if not manifest.is_file():
        fail(f"{chapter} ran, but wrote no {manifest.name}: its last code cell must call record(…)")

    slowest = sorted(((cell.metadata.get("papermill", {}).get("duration") or 0, cell.source.strip().splitlines()[-1])
                      for cell in ran.cells if cell.cell_type == "code" and cell.source.strip()), reverse=True)[:5]
    ran.metadata.pop("papermill", None)  # it tells paths of this machine
    for cell in ran.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata.tags.append("remove-cell")
    (folder / "data-seen").write_text(data_seen(), encoding="utf-8")
    output.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(ran, folder / "output.ipynb")
    (folder / "output.ipynb").replace(output)
    took = time.time() - started
    print(f"{number} {chapter}: {f'{took:.0f} s' if took < 100 else f'{took / 60:.1f} min'}", flush=True)
    lines = [f"{chapter} ran in {took:.1f} s; its slowest cells, by their last lines:",
             *(f"{seconds:8.1f} s  {line}" for seconds, line in slowest)]
    log.write_text("\n".join(lines) + "\n", encoding="utf-8")


# ---------------------------------------------------------------- the folder that jupyter-book reads

def escape(text: object) -> str:
    """Text that neither HTML nor Markdown reads as markup, whatever a data set or a manifest holds."""
    return re.sub(r"[&<>\"'\\`*_{}\[\]$~|#^:]", lambda match: f"&#{ord(match[0])};", " ".join(str(text).split()))


def banner(facts: dict) -> str:
    """How the page was made: one line to see, the rest to unfold."""
    def listing(value):
        return "; ".join(map(str, value)) if isinstance(value, list) else str(value)

    minutes = float(facts.get("minutes") or 0)
    seeds = facts.get("seeds") or []
    warnings = []
    if facts.get("data") != "real":
        warnings.append("stand-in data")
    if facts.get("profile") == "smoke":
        warnings.append("the smoke profile")
    line = " · ".join(escape(part) for part in [
        f"{facts.get('profile', '?')} profile", f"{facts.get('data', '?')} data ({listing(facts.get('dataset', '?'))})",
        f"{len(seeds)} seed{'' if len(seeds) == 1 else 's'}", facts.get("device", "?"),
        f"{minutes:.1f} min" if minutes >= 1 else f"{minutes * 60:.0f} s", str(facts.get("date", "?"))[:10]])
    rows = {"Profile": facts.get("profile"), "Data": f"{facts.get('data')}: {listing(facts.get('dataset', '?'))}",
            "Data hash": facts.get("data_hash"), "Code hash": facts.get("code_hash"), "Commit": facts.get("commit"),
            "Seeds": ", ".join(map(str, seeds)), "Steps": facts.get("steps"), "Device": facts.get("device"),
            "Versions": ", ".join(f"{name} {version}" for name, version in (facts.get("versions") or {}).items()),
            "Run on": facts.get("date"), "Minutes": f"{minutes:.1f}"}
    table = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in rows.items()
                    if value not in (None, ""))
    warning = (f'<p class="run-warning"><strong>Built from {escape(" and ".join(warnings))}: '
               "the numbers on this page are not results.</strong></p>" if warnings else "")
    kind = "run-banner run-banner-warning" if warnings else "run-banner"
    return f'<div class="{kind}">{warning}<details><summary>{line}</summary><dl>{table}</dl></details></div>'


def staged(chapter: str, profile: str):
    """The executed notebook as the page shows it: with the verdict in its box and the banner below its title."""
    import nbformat

    nb = nbformat.read(build_folder() / "notebooks" / profile / f"{chapter}.ipynb", as_version=4)
    facts = json.loads(results_path(chapter, profile, ".json").read_text(encoding="utf-8"))
    verdict = escape(facts.get("verdict") or "not judged in this run")
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cell.source = VERDICT.sub(lambda match: match[1] + verdict + match[2], cell.source)
            if profile != "smoke" and facts.get("minutes"):  # a quick run's time says nothing about the page
                cell.source = MINUTES.sub(lambda match: match[1] + escape(time_taken(facts)) + match[2], cell.source)
    for cell in nb.cells:
        images = [o for o in cell.get("outputs", []) if any(kind.startswith("image/") for kind in o.get("data", {}))]
        if images:  # what a plotting call returns says nothing to a reader
            cell.outputs = [o for o in cell.outputs if set(o.get("data", {})) != {"text/plain"}]
        if images and not cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "").strip():
            raise Trouble(f"{chapter}: a figure without alt text; write mystnb={{\"image\": {{\"alt\": \"…\"}}}} "
                          f"after the # %% of the cell\n\n{cell.source}")
    nb.cells.insert(1, nbformat.v4.new_markdown_cell(banner(facts), id="run-banner"))
    return nb


def time_taken(facts: dict) -> str:
    """The measured time of a chapter, as its first box tells it."""
    minutes, device = float(facts["minutes"]), facts.get("device", "CPU")
    words = "Under a minute" if minutes < 1 else f"{minutes:.0f} minute{'' if round(minutes) == 1 else 's'}"
    return f"{words} on {'a CPU' if device == 'CPU' else f'one {device}'}"


def outward_links(text: str) -> str:
    """Let links to files outside the book lead to the repository: ``#name`` after a .py becomes the line of its def.

    A link to an erratum by its number becomes plain HTML, as Sphinx follows Markdown links to headings alone.
    """
    settings = read_yaml(ROOT / "_config.yml")["repository"]

    def answer(match):
        path, name, line = match[1], match[2], ""
        if name:
            code = (ROOT / path).read_text(encoding="utf-8").splitlines()
            line = next((f"#L{n}" for n, row in enumerate(code, 1) if row.startswith(f"def {name}(")), "")
        return f"]({settings['url'].rstrip('/')}/blob/{settings.get('branch', 'main')}/{path}{line})"

    return ERRATUM.sub(r'<a href="errata.html#\2">\1</a>', OUTSIDE.sub(answer, text))


def fill_pages(folder: Path, profile: str) -> None:
    """Write into the pages what they ask for in ``<!-- made: … -->``: numbers of the results, never typed."""
    for page in sorted((folder / "book").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        filled = outward_links(text)
        if "<!-- made: " in text:
            import collected

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
    """Lay out ``build/stage`` like the repository, the executed notebooks in their places."""
    import nbformat

    folder, chapters = build_folder() / "stage", in_order()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("_config.yml", "_toc.yml"):
        shutil.copyfile(ROOT / name, folder / name)
    shutil.copytree(ROOT / "book", folder / "book", ignore=shutil.ignore_patterns("__pycache__", "snakemake"))
    mathjax(folder / "vendored" / "mathjax")
    for chapter in chapters:
        target = folder / "notebooks" / f"{chapter}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(staged(chapter, profile), target)
    fill_pages(folder, profile)
    forget_orphans(profile, chapters)
    digests = {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
               for p in sorted(folder.rglob("*")) if p.is_file()}
    output.write_text(json.dumps({"profile": profile, "files": digests}, indent=1) + "\n", encoding="utf-8")


def forget_orphans(profile: str, chapters: list[str]) -> None:
    """Remove what chapters that are gone or renamed have left behind."""
    flat = {chapter.replace("/", "-") for chapter in chapters}
    for path in (build_folder() / "notebooks" / profile).glob("*/*.ipynb"):
        if f"{path.parent.name}/{path.stem}" not in chapters:
            path.unlink()
    for kind in ("results", "logs"):
        for path in (build_folder() / kind / profile).glob("*-*.*"):
            if path.name.split(".")[0] not in flat:
                path.unlink()


def pages(log: Path) -> None:
    """Build the HTML, warnings being errors, in a clean folder."""
    folder = build_folder()
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
            f"<title>{html.escape(read_yaml(ROOT / '_config.yml')['title'])}</title>"]
    door.write_text("\n".join([*head, door.read_text(encoding="utf-8")]), encoding="utf-8")
    door.parent.rename(folder / "html")


# ---------------------------------------------------------------- the whole build

@contextlib.contextmanager
def alone(folder: Path):
    """One build at a time in a checkout. The system drops the lock with its last process, so it is never stale."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another build is at work in this checkout; waiting for it to end.", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle


def forget_stand_ins(profile: str, chapters: list[str]) -> None:
    """A chapter that ran on a stand-in runs again once there are other data files than it saw."""
    for chapter in chapters:
        manifest = results_path(chapter, profile, ".json")
        seen = build_folder() / "run" / profile / chapter / "data-seen"
        if (manifest.is_file() and seen.is_file() and parameters(profile, chapter).get("DATA") != "stand-in"
                and json.loads(manifest.read_text(encoding="utf-8")).get("data") != "real"
                and seen.read_text(encoding="utf-8") != data_seen()):
            (build_folder() / "notebooks" / profile / f"{chapter}.ipynb").unlink(missing_ok=True)


def fingerprint(profile: str, chapters: list[str]) -> str:
    """What a finished build rests on, by content, and what it left, by size and time: the same again, nothing to do."""
    folder = build_folder()
    rest = [ROOT / name for name in ("Snakefile", "_config.yml", "_toc.yml")]
    rest += [path for path in (ROOT / "book").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    made = [folder / "stage.json", folder / "html" / "index.html"]
    made += [folder / "notebooks" / profile / f"{chapter}.ipynb" for chapter in chapters]
    made += [results_path(chapter, profile, suffix) for chapter in chapters for suffix in (".csv", ".json")]
    facts = [profile, [key(chapter, profile) for chapter in chapters],
             [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in sorted(rest)],
             [(path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else None for path in made]]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def build(profile: str, cores: str, extra: list[str]) -> int:
    """Run Snakemake, unless it would find nothing to do; at the end say where the book is, or show what failed."""
    chapters = in_order()
    for chapter in chapters:
        parameters(profile, chapter)
    logs = build_folder() / "logs" / profile
    logs.mkdir(parents=True, exist_ok=True)
    state = build_folder() / "state.json"
    with alone(build_folder()) as lock, (logs / "snakemake.txt").open("w", encoding="utf-8") as talk:
        forget_stand_ins(profile, chapters)
        if not extra and state.is_file() and state.read_text(encoding="utf-8") == fingerprint(profile, chapters):
            code = 0
            print("Nothing has changed since the last build.")
        else:
            command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--workflow-profile",
                       "book/_ext/snakemake", "--cores", cores, *extra, "--config", f"profile={profile}"]
            code = subprocess.run(command, cwd=ROOT, stderr=talk, pass_fds=[lock.fileno()], check=False).returncode
            if code == 0:
                state.write_text(fingerprint(profile, chapters), encoding="utf-8")
    if code:
        show_failures(profile, chapters, logs)
        return code
    facts = [json.loads(results_path(c, profile, ".json").read_text(encoding="utf-8")) for c in chapters]
    if (build_folder() / "html" / "index.html").is_file():
        stand_ins = sum(fact.get("data") != "real" for fact in facts)
        if stand_ins:
            print(f"\n{stand_ins} of {len(facts)} chapters ran on stand-in data, and say so. For the real data, "
                  "connect to the network or set BOOK_DATA; then `make clean` and build again.")
        print(f"\nThe book ({profile} profile, {len(chapters)} chapter{'' if len(chapters) == 1 else 's'}): "
              f"{build_folder() / 'html' / 'index.html'}")
    return 0


def show_failures(profile: str, chapters: list[str], logs: Path) -> None:
    """Print the log of each step that failed, so that its traceback is the last thing on the screen."""
    steps = {"stage": build_folder() / "stage.json", "html": build_folder() / "html" / "index.html"}
    for chapter in chapters:
        steps[chapter.replace("/", "-")] = build_folder() / "notebooks" / profile / f"{chapter}.ipynb"
    failed = [path for name, result in steps.items()
              if not result.is_file() and (path := logs / f"{name}.log").is_file() and path.stat().st_size]
    for path in failed or [logs / "snakemake.txt"]:
        print(f"\n======== {path}\n{plain(path.read_text(encoding='utf-8')).rstrip()}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    steps = parser.add_subparsers(dest="step", required=True)
    for name, what in [("pair", "write the .ipynb of each chapter"), ("check", "name the pairs that are out of step")]:
        step = steps.add_parser(name, help=what)
        step.add_argument("chapters", nargs="*", metavar="part/chapter")
    step = steps.add_parser("execute", help="run one chapter")
    step.add_argument("chapter", metavar="part/chapter")
    step.add_argument("--profile", default="book")
    step.add_argument("--output", type=Path, required=True)
    step.add_argument("--log", type=Path, required=True)
    step = steps.add_parser("stage", help="lay out the folder that jupyter-book reads")
    step.add_argument("--profile", default="book")
    step.add_argument("--output", type=Path, required=True)
    step = steps.add_parser("html", help="build the pages from that folder")
    step.add_argument("--log", type=Path, required=True)
    step = steps.add_parser("build", help="run everything; unknown options go to Snakemake")
    step.add_argument("--profile", default="book")
    step.add_argument("--cores", default="all")
    options, extra = parser.parse_known_args(arguments)
    if extra and options.step != "build":
        parser.error(f"unrecognized arguments: {' '.join(extra)}")

    if options.step in ("pair", "check"):
        chapters = [str(c).removeprefix("notebooks/").removesuffix(".py") for c in options.chapters] or in_order()
        changed = [file for chapter in chapters for file in pair(chapter, check=options.step == "check")]
        for file in changed:
            print(f"{file}: {'out of step; run `make pair`' if options.step == 'check' else 'written'}")
        return int(bool(changed) and options.step == "check")
    if options.step == "execute":
        execute(options.chapter, options.profile, options.output, options.log)
    elif options.step == "stage":
        stage(options.profile, options.output)
    elif options.step == "html":
        pages(options.log)
    elif options.step == "build":
        return build(options.profile, options.cores, extra)
    return 0


if __name__ == "__main__":
    sys.exit(main())
