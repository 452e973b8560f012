"""Files: where they are, how they come, how they are checked; stand-ins for a machine without network.

Every loader looks in ``$BOOK_DATA`` and in the user's cache folder, downloads what is missing, and with ``data="auto"``
falls back to a stand-in that ships with the packages. A stand-in is announced wherever it is used.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CHOICES = ("auto", "real", "stand-in")

stand_ins: set[str] = set()  # those that this process has loaded: what is computed from them is never kept
used: dict[str, str] = {}  # files this process has read whose content no hash in the code pins: path, hash


class NoData(RuntimeError):
    """Raised when a data set is neither on this machine nor to be had from the network."""


class DamagedData(RuntimeError):
    """Raised when a file is there but is not the published one, byte for byte."""


def digest(name: str) -> str:
    """Hash of the file that lies at `name` below a data folder; empty where there is none."""
    path = next((path for folder in data_folders() if (path := folder / name).is_file()), None)
    return _digest(path, path.stat().st_mtime_ns) if path else ""


@functools.cache
def _digest(path: Path, _changed: int) -> str:
    return sha256(path.read_bytes())


@dataclass(frozen=True)
class Resource:
    """One published file.

    Parameters
    ----------
    path : str
        Where it lies below the data folder, for example ``"MNIST/raw/train-images-idx3-ubyte"``.
    sha256 : str
        Hash of the file as it is used (after unpacking).
    urls : tuple of str
        Where it can be had; the mirrors are tried in turn.
    unpack : callable, optional
        Turns the downloaded bytes into the file's bytes.
    """

    path: str
    sha256: str
    urls: tuple[str, ...]
    unpack: Callable[[bytes], bytes] = bytes


def cache_folder() -> Path:
    """The user's own folder for what the book downloads or processes."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("learning-from-imbalanced-data"))


def data_folders() -> list[Path]:
    """The folders searched, in order: ``$BOOK_DATA`` where it is set, then the user's cache folder.

    Raises
    ------
    NotADirectoryError
        If ``$BOOK_DATA`` is set and is no folder.
    """
    chosen = os.environ.get("BOOK_DATA")
    if chosen and not Path(chosen).expanduser().is_dir():
        raise NotADirectoryError(f"BOOK_DATA is {chosen}, which is no folder: make it, name another, or unset it")
    return [*([Path(chosen).expanduser()] if chosen else []), cache_folder()]


def sha256(content: bytes) -> str:
    """Hash of some bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def fetch(resource: Resource) -> Path:
    """Find a published file on this machine, or download it.

    The download is checked by hash and moved into place in one step, under a lock, so that a file that exists is whole.

    Returns
    -------
    pathlib.Path
        The checked file.

    Raises
    ------
    DamagedData
        If the file in ``$BOOK_DATA``, or every download of it, has another hash.
    NoData
        If no mirror answers, or no folder can be written to.
    """
    folders = data_folders()
    for folder in folders:
        path = folder / resource.path
        if path.is_file():
            found = sha256(path.read_bytes())
            if found == resource.sha256:
                return path
            if folder != cache_folder():
                raise DamagedData(f"{path} is damaged: sha256 {found[:12]}…, expected {resource.sha256[:12]}…; "
                                  "delete it, or point BOOK_DATA elsewhere")
    folder = writable(folders, resource.path)
    from filelock import FileLock

    with FileLock(folder / ".download.lock"):
        path = folder / resource.path
        if path.is_file() and sha256(path.read_bytes()) == resource.sha256:  # another kernel was faster
            return path
        content = _download(resource)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as partial:  # gone with what is in it if the disk is full
            whole = Path(partial) / path.name
            whole.write_bytes(content)
            whole.replace(path)
    return path


def writable(folders: list[Path], missing: str) -> Path:
    """The first folder that can be written to, for a file that is missing in all of them."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
    raise NoData(f"{missing} is missing, and {' or '.join(map(str, folders))} cannot be written to: set BOOK_DATA to a "
                 "folder that you may write to, or to one that holds the data")


def _download(resource: Resource, attempts: int = 2, timeout: float = 15) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # in a notebook it asks for a package that draws progress bars
        import pooch

    troubles = []
    for url in resource.urls * attempts:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "download"
            try:
                pooch.HTTPDownloader(timeout=timeout)(url, str(target), None)
                content = resource.unpack(target.read_bytes())
            except Exception as error:  # a mirror fails in many ways; each is reported below
                troubles.append(f"{url}: {type(error).__name__}")
                continue
        found = sha256(content)
        if found == resource.sha256:
            return content
        troubles.append(f"{url}: sha256 {found[:12]}…, expected {resource.sha256[:12]}…")
    kind = DamagedData if any("expected" in trouble for trouble in troubles) else NoData
    raise kind(f"{resource.path} could not be had ({'; '.join(dict.fromkeys(troubles))}); put it under BOOK_DATA, "
               'or choose DATA="stand-in"')


def resolve(data: str, real: Callable, stand_in: Callable):
    """Load the real data or the stand-in, as `data` asks: the one place where that choice is made.

    Parameters
    ----------
    data : {"auto", "real", "stand-in"}
        "auto" takes the real data where they can be had and the stand-in elsewhere, with a banner.
    real, stand_in : callable
        Loaders without arguments. `real` raises `NoData` where there are none.

    Raises
    ------
    ValueError
        If `data` is none of the three.
    NoData
        If ``data="real"`` and there are none.
    """
    if data not in CHOICES:
        raise ValueError(f"data={data!r} is unknown; choose one of {', '.join(CHOICES)}")
    if data != "stand-in":
        try:
            return real()
        except NoData:
            if data == "real":
                raise
    found = stand_in()
    stand_ins.add(getattr(found, "name", "stand-in"))
    return found


@functools.cache
def announce(what: str, instead: str) -> None:
    """Say, once a kernel and on the page, that a stand-in replaces real data."""
    text = f"Stand-in data: {instead} in place of {what}. The numbers on this page are not results."
    from IPython import get_ipython
    from IPython.display import HTML, display

    if get_ipython() is None:
        print(text, file=sys.stderr)
    else:
        title = '<p class="admonition-title">Stand-in data</p>'
        display(HTML(f'<div class="admonition warning">{title}<p>{text}</p></div>'))
