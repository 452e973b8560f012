"""Executed chapters, kept beside the runs that they read: a clone that finds them starts no kernel.

A chapter is kept by all that decides its numbers. What was put back waits in the chapter's folder until its turn comes.
"""

import contextlib
import functools
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import catalogue


@functools.cache
def surroundings() -> str:
    """What decides the numbers beside code and data; asked of another process, as to import torch takes its room."""
    command = [sys.executable, "-c", "from helpers.surroundings import environment; print(environment())"]
    return subprocess.run(command, cwd=catalogue.ROOT, capture_output=True, text=True, encoding="utf-8",
                          check=True).stdout


def place(root: Path, chapter: str, profile: str) -> Path:
    """The file of a chapter as it stands."""
    facts = [chapter, profile, catalogue.key(chapter, profile), surroundings(), catalogue.data_seen(),
             (catalogue.ROOT / "book/_ext/execution.py").read_text(encoding="utf-8")]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return root / key[:2] / f"{key}.chapter"


def waiting(chapter: str, profile: str) -> Path:
    return catalogue.run_folder(chapter, profile) / "kept"


def fetch(chapters: list[str], profile: str) -> None:
    """Lay what is kept of chapters that would run into their folders."""
    root = catalogue.runs()
    for chapter in chapters if root and root.is_dir() else []:
        folder = waiting(chapter, profile)
        shutil.rmtree(folder, ignore_errors=True)
        if not (path := place(root, chapter, profile)).is_file():
            continue
        try:
            with zipfile.ZipFile(path) as box:
                box.extractall(folder)  # the sums that stand in it are checked
        except (OSError, zipfile.BadZipFile) as error:
            shutil.rmtree(folder, ignore_errors=True)
            print(f"note: {chapter} runs, for what was kept of it is damaged ({error})", flush=True)
            continue
        with contextlib.suppress(OSError):  # a store that is shared may be read-only
            os.utime(path)


def take(chapter: str, profile: str) -> bool:
    """Put what waits in its places, unless the chapter is another one now."""
    folder = waiting(chapter, profile)
    if not folder.is_dir() or (folder / "key").read_text() != catalogue.key(chapter, profile):
        return False
    for name, target in _files(chapter, profile).items():
        target.parent.mkdir(parents=True, exist_ok=True)
        (folder / name).replace(target)
    shutil.rmtree(folder)
    return True


def keep(chapters: list[str], profile: str) -> None:
    """Keep each chapter that ran on real data, whole or not at all."""
    root = catalogue.runs()
    for chapter in chapters if root else []:
        files = _files(chapter, profile)
        if (not catalogue.is_current(chapter, profile) or not all(path.is_file() for path in files.values())
                or json.loads(files[".json"].read_text(encoding="utf-8")).get("data") != "real"
                or (path := place(root, chapter, profile)).is_file()):
            continue
        partial = path.with_name(f"{path.name}.{secrets.token_hex(6)}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as box:
                for name, file in files.items():
                    box.write(file, name)
            partial.replace(path)
        except OSError as error:  # a store that may not be written to, or is full
            print(f"note: {chapter} was not kept ({error})", flush=True)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


def _files(chapter: str, profile: str) -> dict[str, Path]:
    """What an execution leaves, by the name under which it is kept; the notebook last, as it says that all is there."""
    folder = catalogue.run_folder(chapter, profile)
    return {**{suffix: catalogue.results_path(chapter, profile, suffix) for suffix in (".csv", ".json")},
            **{name: folder / name for name in ("key", "data-seen", "runs.jsonl")},
            "notebook.ipynb": catalogue.executed(chapter, profile)}
