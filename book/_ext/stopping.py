"""How a build is stopped: a signal reaches everything that it started, and nothing is left behind."""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def passed_on(process, patience: float = 10):
    """Let a signal that would end this process end the group of `process` first, then wait for it; one line says so.

    `process` leads a group of its own (``start_new_session=True``). What does not end within `patience` seconds is
    killed.

    Raises
    ------
    SystemExit
        With 128 and the signal's number, as shells count.
    """
    caught = []

    def stop(number, _frame):
        if not caught:
            print("\nStopping …", flush=True)
            killer = threading.Timer(patience, _send, (process.pid, signal.SIGKILL))
            killer.daemon = True
            killer.start()
        caught.append(number)
        _send(process.pid, signal.SIGTERM)

    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
        while caught and _send(process.pid, 0):
            time.sleep(0.05)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if caught:
        print("Stopped. What was finished is kept; the same command goes on from there.", flush=True)
        raise SystemExit(128 + caught[0])


def _send(group: int, number: int) -> bool:
    """Whether anybody was there to get it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False


@contextlib.contextmanager
def private_folder():
    """A folder for sockets, with a short path, as the system asks for; what killed builds have left is swept."""
    for old in Path(tempfile.gettempdir()).glob("book-*-*"):
        owner = old.name.split("-")[1]
        if owner.isdigit() and not Path("/proc", owner).exists() and Path("/proc").is_dir():
            shutil.rmtree(old, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=f"book-{os.getpid()}-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def end_tidily() -> None:
    """Let SIGTERM unwind this process, so that what it holds is given back."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
