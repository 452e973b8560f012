"""Where the work is done: jobs on all workers, none of them twice."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import cloudpickle
import numpy as np
import torch

from helpers import files, store
from helpers.keys import Unkeyable, keys
from helpers.machine import quiet


def workers() -> int:
    """Processes that train side by side: ``$BOOK_WORKERS``, else one a core; one where there is a GPU.

    Raises
    ------
    ValueError
        If ``$BOOK_WORKERS`` is not a whole number, 1 or more.
    """
    chosen = os.environ.get("BOOK_WORKERS", "")
    if chosen and not (chosen.isdecimal() and int(chosen) > 0):
        raise ValueError(f"BOOK_WORKERS={chosen!r}: give a whole number of processes, 1 or more")
    if torch.cuda.is_available():
        return 1
    return int(chosen) if chosen else os.cpu_count() or 1


_stored: list[float] = []  # seconds that runs took which this process had from the store


def minutes(since: float) -> float:
    """Minutes from then to now, had every run been computed; all workers share those that came from the store."""
    return (time.time() - since + sum(_stored) / workers()) / 60


def parallel(function: Callable, jobs: Sequence[tuple], label: str = "runs") -> list:
    """``[function(*job) for job in jobs]``, on all workers, each job computed once and for all.

    Each job must depend on its arguments and on the code that it reaches alone, so that neither the number of workers
    nor the day changes a result. What a job returns is kept by content (`helpers.keys` says of what, `helpers.store`
    where); a job whose result is there is not run again. Its result must be plain data for that: numbers, strings,
    containers, arrays, tensors, frames. A job that takes long begins early, as far as earlier durations tell.

    Parameters
    ----------
    function : callable
    jobs : sequence of tuple
        Arguments for each call.
    label : str
        What the progress bar counts.

    Examples
    --------
    >>> parallel(divmod, [(7, 2)])
    [(3, 1)]
    """
    from tqdm import tqdm  # in plain text: a widget needs a package, and warns where it is missing

    jobs, root, results = [tuple(job) for job in jobs], store.folder(), {}
    found = keys(function, jobs) if root else [None] * len(jobs)
    for place, key in enumerate(found):
        if isinstance(key, Unkeyable):
            _say(f"{_name(function)}: its results are not kept, because they depend on {key}")
            found[place] = None
        elif key:
            try:
                results[place], facts = store.read(root, key)
                _stored.append(facts["seconds"])
            except OSError:  # there is none, or none that can be read
                continue
            except store.Damaged as trouble:
                _say(f"{store.path_of(root, key)} is damaged ({trouble}) and is computed again")
    kept, times = len(results), _Times(root)
    _progress(runs=len(jobs), stored=kept, time=time.time())
    if kept and not quiet():
        print(f"{kept} of {len(jobs)} {label} from the store")
    todo = times.longest_first(function, {place: job for place, job in enumerate(jobs) if place not in results})
    with (tqdm(total=len(jobs), initial=kept, unit=label, disable=quiet() or len(todo) < 2) as bar,
          contextlib.closing(_run_all(function, jobs, found, root, todo)) as running):
        for place, result, seconds, note, stand_ins in running:
            results[place] = result
            files.stand_ins.update(stand_ins)
            if note:
                _say(f"{_name(function)}: {note}")
            times.learn(function, jobs[place], seconds)
            _progress(seconds=round(seconds, 3))
            bar.update()
    if todo and store.folder():
        times.write()
        _forget(root)
    return [results[place] for place in range(len(jobs))]


def _run_all(function, jobs, found, root, todo: list[int]) -> Iterator[tuple]:
    """The jobs of `todo` as they are done: place, result, seconds, what to tell, stand-ins."""
    if min(workers(), len(todo)) <= 1:
        for place in todo:
            yield place, *_run(function, jobs[place], found[place], root)
        return
    pool, waiting = _pool(workers()), {}
    try:
        for place in todo:
            waiting[pool.submit(_call, _packed((function, jobs[place], found[place], root)))] = place
        for future in as_completed(waiting):
            yield waiting[future], *future.result()
    except BrokenProcessPool:  # the system has killed a worker: the next cell gets new ones
        _pool.cache_clear()
        raise
    finally:  # if one fails, or the reader stops the cell, the next cell shall not wait for the others
        for future in waiting:
            future.cancel()


class _Packer(cloudpickle.Pickler):
    """Sends functions such as `numpy.exp` or `scipy.special.expit` by the library that has them.

    They do not say where they come from, and pickle's own search can end at the notebook that imported them: a worker
    has no such notebook.
    """

    def reducer_override(self, obj):
        if isinstance(obj, np.ufunc):
            for name, library in list(sys.modules.items()):
                if name.startswith(("numpy", "scipy")) and vars(library).get(obj.__name__) is obj:
                    return getattr, (library, obj.__name__)
        return super().reducer_override(obj)


def _packed(work: tuple) -> bytes:
    with io.BytesIO() as file:
        _Packer(file).dump(work)
        return file.getvalue()


@functools.cache
def _pool(count: int) -> ProcessPoolExecutor:
    """Fresh processes, kept for the next comparison. (Forking is not safe once torch has run threads.)"""
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"), initializer=_obey_parent)


def _obey_parent() -> None:
    """In a worker: end when the process that started it ends, even if it was killed, and not when it is interrupted."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _call(pickled: bytes):
    """Run a pickled job; cloudpickle carries functions that a notebook defines. An interrupt ends the job alone."""
    work = cloudpickle.loads(pickled)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return _run(*work)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run(function: Callable, job: tuple, key: str | None, root: Path | None) -> tuple:
    """Run a job and keep what it returns, unless it is not the job of this key here, or used a stand-in."""
    note = ""
    if key and keys(function, [job]) != [key]:  # helpers were edited meanwhile, or an earlier job has left its traces
        key, note = None, "a result is not kept, because what it depends on has changed since the cell began"
    if key and not files.stand_ins:
        with contextlib.suppress(OSError, store.Damaged):  # another chapter may have computed it since the cell began
            result, facts = store.read(root, key)
            return result, facts["seconds"], note, set()
    started = time.perf_counter()
    result = function(*job)
    seconds = time.perf_counter() - started
    if key and not files.stand_ins:
        try:
            store.write(root, key, result, {"function": _name(function), "seconds": seconds})
        except (store.Unstorable, OSError, ValueError) as trouble:
            note = f"its results are not kept, because of {getattr(trouble, 'strerror', None) or trouble}"
    return result, seconds, note, set(files.stand_ins)


def _name(function: Callable) -> str:
    return getattr(function, "__qualname__", None) or type(function).__name__


_forget = functools.cache(store.forget)  # once a process is enough


# ---------------------------------------------------------------- what is said meanwhile

class _Times:
    """How long jobs of a kind took the last time; a kind is the function and the words among its arguments."""

    def __init__(self, root: Path | None):
        self.path = root / "seconds.json" if root else None
        self.known, self.new = self._read(), {}

    def _read(self) -> dict[str, float]:
        try:
            return json.loads(self.path.read_text(encoding="utf-8")) if self.path else {}
        except (OSError, ValueError):  # none yet; two processes may also meet
            return {}

    @staticmethod
    def kind(function: Callable, job: tuple) -> str:
        words = [word for part in job for word in (part if isinstance(part, dict) else [part])
                 if isinstance(word, str) and len(word) < 60]
        return " | ".join([os.environ.get("BOOK_PROFILE", "reader"), _name(function), *words])

    def expected(self, function: Callable, job: tuple) -> float | None:
        return self.known.get(self.kind(function, job))

    def longest_first(self, function: Callable, jobs: dict[int, tuple]) -> list[int]:
        """Places of the jobs; those that nobody has timed come first, in their order."""
        expected = {place: self.expected(function, job) for place, job in jobs.items()}
        return sorted(jobs, key=lambda place: (expected[place] is not None, -(expected[place] or 0)))

    def learn(self, function: Callable, job: tuple, seconds: float) -> None:
        self.new[self.kind(function, job)] = round(seconds, 3)

    def write(self) -> None:
        try:
            store.replace(self.path, json.dumps(self._read() | self.new, indent=0).encode())
        except OSError:  # a store that cannot be written to has been named already
            return


def _progress(**facts: float) -> None:
    """Tell the command around the chapters: a line of JSON in the file that ``$BOOK_PROGRESS`` names.

    ``{"runs", "stored", "time"}`` when a queue begins, ``{"seconds"}`` for each run that was computed.
    """
    if path := os.environ.get("BOOK_PROGRESS"):
        with Path(path).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(facts) + "\n")


@functools.cache
def _say(text: str) -> None:
    """Tell the reader, once; while the book is built, the file ``$BOOK_BUILD/logs/<profile>/runs.log``."""
    build, profile = os.environ.get("BOOK_BUILD"), os.environ.get("BOOK_PROFILE")
    if build and profile:
        path = Path(build) / "logs" / profile / "runs.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as log:
            log.write(f"{os.environ.get('BOOK_CHAPTER', '')}: {text}\n".removeprefix(": "))
    else:
        print(text, file=sys.stderr if quiet() else sys.stdout)
