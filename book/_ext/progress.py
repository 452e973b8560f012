"""How far the chapters are, while they run.

A chapter under way, or one seed of it where seeds are jobs of their own, has a file in ``build/progress``, named to its
kernel in ``$BOOK_PROGRESS``. `helpers.runs` appends lines of JSON: ``{"runs": 50, "stored": 12, "time": …}`` when a
queue begins (12 of the 50 need no training), and ``{"seconds": 6.2}`` for each run that was trained.
"""

import contextlib
import json
import shutil
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import catalogue


def path(chapter: str, seed: int | None = None) -> Path:
    own = "" if seed is None else f".{seed}"
    return catalogue.build_folder() / "progress" / f"{catalogue.flat(chapter)}{own}.jsonl"


@dataclass
class State:
    """Runs done and known of; how many came from the store; seconds that the present queue may still take."""

    done: int = 0
    known: int = 0
    stored: int = 0
    left: float | None = None

    @classmethod
    def of(cls, text: str, now: float) -> "State":
        state, queue, trained = cls(), {"runs": 0, "stored": 0}, 0
        for line in text.splitlines():
            try:
                fact = json.loads(line)
            except json.JSONDecodeError:  # not whole yet
                continue
            if "runs" in fact:
                queue, trained = fact, 0
                state.known, state.stored = state.known + fact["runs"], state.stored + fact["stored"]
                state.done += fact["stored"]
            else:
                trained, state.done = trained + 1, state.done + 1
        waiting = queue["runs"] - queue["stored"] - trained
        if trained and waiting > 0:
            state.left = (now - queue["time"]) / trained * waiting
        return state


def told(chapter: str, now: float) -> str:
    """One chapter; seeds that are jobs count together, and take as long as the slowest. Empty where nothing runs."""
    states = []
    for file in path(chapter).parent.glob(f"{catalogue.flat(chapter)}.*jsonl"):
        with contextlib.suppress(FileNotFoundError):  # it may end just now
            states.append(State.of(file.read_text(encoding="utf-8"), now))
    if not states:
        return ""
    done, known, stored = (sum(getattr(state, name) for state in states) for name in ("done", "known", "stored"))
    said = f"{chapter}: {done} of {known} run{'s' * (known != 1)}" if known else f"{chapter}: under way"
    said += f", {stored} from the store" if stored else ""
    if left := max((state.left for state in states if state.left), default=None):
        said += f", about {f'{left:.0f} s' if left < 90 else f'{left / 60:.0f} min'} left"
    return said


def report(now: float) -> str:
    """All chapters that are under way."""
    return "; ".join(filter(None, (told(chapter, now) for chapter in catalogue.in_order())))


def begin(chapter: str, seed: int | None = None) -> str:
    """Make the file of what begins; returns its path, for ``$BOOK_PROGRESS``."""
    file = path(chapter, seed)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("", encoding="utf-8")
    return str(file)


def forget() -> None:
    """A build that was killed has left its files."""
    shutil.rmtree(catalogue.build_folder() / "progress", ignore_errors=True)


class News:
    """What steps on other machines have to say: the first line of each log, once it is written."""

    def __init__(self, profile: str):
        self.folder, self.known = catalogue.logs(profile), {}
        self()

    def __call__(self) -> list[str]:
        found = []
        for path in sorted([*self.folder.glob("*-*.log"), *self.folder.glob("seeds/*.log")]):
            text, changed = path.read_text(encoding="utf-8"), path.stat().st_mtime_ns
            if self.known.get(path) != changed and text and catalogue.STOPPED not in text:
                self.known[path] = changed
                found.append(text.splitlines()[0].split("; its slowest")[0])
        return found


def follow(process, every: float | None = None, news=list) -> int:
    """Show what the steps say, and in between how far their runs are, until the process ends.

    On a terminal that is one line that changes; elsewhere a line a minute. `news` gives lines to show beside those of
    the process.
    """
    live, lock, over = sys.stdout.isatty(), threading.Lock(), threading.Event()
    clear = "\r\x1b[K" if live else ""

    def tell():
        last = ""
        while not over.wait(every or (2 if live else 60)):
            said = report(time.time())
            with lock:
                for line in news():
                    print(f"{clear}{line}", flush=True)
                if live:
                    print(clear + said[:shutil.get_terminal_size().columns - 1], end="", flush=True)
                elif said and said != last:
                    print(f"  {said}", flush=True)
            last = said

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    for line in process.stdout:
        with lock:
            print(clear + line, end="", flush=True)
    over.set()
    teller.join()
    for line in news():
        print(f"{clear}{line}", flush=True)
    print(clear, end="", flush=True)
    return process.wait()
