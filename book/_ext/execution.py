"""Run one chapter from top to bottom, or one seed of it."""

import json
import os
import re
import shutil
import sys
import time
from pathlib import Path

import catalogue
import checks
import kept
import pairs
import progress
import stopping


def pathless(text: str) -> str:
    """A traceback as a page may show it: files of the checkout by their place in it, others by their names."""
    for root in (str(catalogue.ROOT), str(catalogue.ROOT).replace(str(Path.home()), "~", 1)):
        text = text.replace(f"{root}/", "")
    return re.sub(r"(?<![\w.:/<])(?:~/|/(?=[\w.]))[^\s'\":,()]*/", "", text)


class Failed(Exception):
    """A chapter did not run to its end; the message is for the log."""


def prepare(chapter: str, profile: str, folder: Path, build: Path, seed: int | None = None):
    """An empty folder to run in, and the environment of the kernel; returns notebook and parameters.

    A folder of its own, so that a chapter finds nothing that another has left there.
    """
    import nbformat

    nb, chosen = pairs.as_notebook(catalogue.text(chapter)), catalogue.parameters(profile, chapter)
    chosen |= {} if seed is None else {"SEEDS": [seed]}
    unknown, known = sorted(set(chosen) - set(pairs.declared(nb))), pairs.declared(nb)
    if unknown:
        raise Failed(f"{chapter} has no parameter {', '.join(unknown)} (set in notebooks/profiles/{profile}.yaml); "
                     f"known: {', '.join(known) or 'none, it has no cell tagged parameters'}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    nbformat.write(nb, folder / "input.ipynb")
    os.environ.update(BOOK_PROFILE=profile, BOOK_BUILD=str(build), BOOK_CHAPTER=chapter,
                      BOOK_PROGRESS=progress.begin(chapter, seed),
                      BOOK_SEEDS=json.dumps(chosen["SEEDS"]), IPYTHONDIR=str(folder / "ipython"),
                      PYTHONPATH=os.pathsep.join([str(catalogue.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    checks.data_folder()
    os.environ["BOOK_RUNS"] = str(catalogue.runs() or "off")
    return chosen


def run(chapter: str, folder: Path, chosen: dict):
    """Run ``input.ipynb`` from top to bottom; returns the executed notebook."""
    import papermill
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    stopping.end_tidily()
    started = time.time()
    try:
        # Talk to the kernel through files: of kernels that start together, two may be given the same port: one dies.
        with stopping.private_folder() as sockets:
            private = Config({"KernelManager": {"transport": "ipc", "connection_file": f"{sockets}/kernel.json"}})
            return papermill.execute_notebook(
                str(folder / "input.ipynb"), str(folder / "output.ipynb"), parameters=chosen, cwd=str(folder),
                kernel_name="python3", progress_bar=False, log_output=False, config=private,
                start_timeout=1200)  # a busy machine may take its time
    except PapermillExecutionError as error:
        raise Failed(f"{chapter}: the cell\n\n{error.source}\n\nfailed; what had run until then: "
                     f"{folder / 'output.ipynb'}\n\n{catalogue.plain(chr(10).join(error.traceback))}") from None
    except Exception as error:  # a dead kernel, say: the log is where a writer looks
        raise Failed(f"{chapter}: {type(error).__name__}: {catalogue.plain(str(error))}") from None
    finally:
        _keep_times(folder, time.time() - started)


def _keep_times(folder: Path, took: float) -> None:
    """Move the seconds of each run from where they show progress to where `forecast` finds them."""
    told = Path(os.environ["BOOK_PROGRESS"])
    whole = json.dumps({"workers": int(os.environ.get("BOOK_WORKERS") or os.cpu_count() or 1), "took": round(took, 1)})
    (folder / "runs.jsonl").write_text(told.read_text(encoding="utf-8") + whole + "\n", encoding="utf-8")
    told.unlink()


def say(line: str) -> None:
    """Print a line in one piece: `print` writes its end apart, and chapters that run side by side would mix."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def called(chapter: str) -> str:
    """Its place in the book and its name, as the lines of a build begin."""
    chapters = catalogue.in_order()
    return f"[{chapters.index(chapter) + 1 if chapter in chapters else '–'}/{len(chapters)}] {chapter}"


def took(started: float) -> str:
    seconds = time.time() - started
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def execute(chapter: str, profile: str, output: Path, log: Path) -> None:
    """Run one chapter and write the executed notebook to ``output``, whole or not at all."""
    import nbformat

    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(f"{chapter} {catalogue.STOPPED}.\n", encoding="utf-8")
    folder, key = catalogue.run_folder(chapter, profile), catalogue.key(chapter, profile)
    if output.resolve() != catalogue.executed(chapter, profile):  # a trial run beside the book's own
        folder = output.resolve().with_suffix(".run")
    manifest, started = catalogue.results_path(chapter, profile, ".json"), time.time()
    if output.resolve() == catalogue.executed(chapter, profile) and kept.take(chapter, profile):
        log.write_text(f"{called(chapter)}: from the store\n", encoding="utf-8")
        say(f"{called(chapter)}: from the store")
        return
    manifest.unlink(missing_ok=True)
    try:
        chosen = prepare(chapter, profile, folder, catalogue.build_folder())
        say(f"{called(chapter)} …")
        ran = run(chapter, folder, chosen)
        if not manifest.is_file():
            raise Failed(f"{chapter} ran, but wrote no {manifest.name}: its last code cell must call record(…)")
    except Failed as failure:
        log.write_text(f"{failure}\n", encoding="utf-8")
        say(f"{called(chapter)} failed")
        raise SystemExit(1) from None

    slowest = sorted(((cell.metadata.get("papermill", {}).get("duration") or 0, cell.source.strip().splitlines()[-1])
                      for cell in ran.cells if cell.cell_type == "code" and cell.source.strip()), reverse=True)[:5]
    ran.metadata.pop("papermill", None)  # it tells paths of this machine
    for cell in ran.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata.tags.append("remove-cell")
    (folder / "data-seen").write_text(catalogue.data_seen(), encoding="utf-8")
    (folder / "key").write_text(key, encoding="utf-8")
    output.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(ran, folder / "output.ipynb")
    (folder / "output.ipynb").replace(output)
    say(f"{called(chapter)}: {took(started)}")
    lines = [f"{chapter} ran in {time.time() - started:.1f} s; its slowest cells, by their last lines:",
             *(f"{seconds:8.1f} s  {line}" for seconds, line in slowest)]
    log.write_text("\n".join(lines) + "\n", encoding="utf-8")


def fill(chapter: str, profile: str, seed: int, log: Path) -> None:
    """Run one seed of a chapter for what it leaves in the store of runs; tables and pages of it are thrown away.

    A cell that needs all seeds may fail here: what was trained until then is in the store, and the rest is trained when
    the chapter itself runs, which is what counts.
    """
    started, name = time.time(), f"{called(chapter)}, seed {seed}"
    folder = catalogue.run_folder(chapter, profile).with_name(f"{chapter.split('/')[1]}-seed-{seed}")
    say(f"{name} …")
    try:
        run(chapter, folder, prepare(chapter, profile, folder, folder / "build", seed))
        said = f"{name}: {took(started)}"
    except Failed as failure:
        said = f"{name}: {took(started)}, stopped early: {str(failure).rstrip().splitlines()[-1]}"
    say(said)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(f"{said}\n", encoding="utf-8")
    shutil.rmtree(folder)
