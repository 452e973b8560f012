"""What runs have returned, kept by key on disk: read without pickle, written whole or not at all.

The folder is ``build/runs`` (below ``$BOOK_BUILD`` where it is set); ``BOOK_RUNS=off`` turns the store off, and the
name of a folder moves it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import secrets
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from helpers import files
from helpers.keys import tensor_bytes

LIMIT = 4 * 2**30  # bytes; what was not used for the longest time goes first
_MARK = b"book-run-1\n"


class Unstorable(TypeError):
    """Raised for a result that holds something beside plain data."""


class Damaged(ValueError):
    """Raised for an entry that is not what was written."""


def folder() -> Path | None:
    """Where runs are kept; None where the store is off, or a stand-in replaces real data in this process."""
    chosen = os.environ.get("BOOK_RUNS", "")
    if chosen == "off" or files.stand_ins:
        return None
    found = Path(chosen).expanduser() if chosen else Path(os.environ.get("BOOK_BUILD", "build"), "runs")
    return found.absolute()  # a worker may stand in another folder


def path_of(root: Path, key: str) -> Path:
    """The file of an entry."""
    return root / key[:2] / f"{key}.run"


def read(root: Path, key: str) -> tuple:
    """What the run of this key has returned, and the facts that were written beside it.

    Raises
    ------
    FileNotFoundError
        If there is none, or it had read a data file that is another one now.
    Damaged
        If the entry is not what was written.
    """
    path = path_of(root, key)
    value, facts = decode(path.read_bytes())
    if any(files.digest(name) != digest for name, digest in facts["files"].items()):
        raise FileNotFoundError(f"{path} was computed from other data")
    with contextlib.suppress(OSError):  # a store that is shared may be read-only
        os.utime(path)
    return value, facts


def write(root: Path, key: str, value, facts: dict) -> None:
    """Keep what a run has returned.

    Parameters
    ----------
    root : Path
    key : str
    value
        Plain data, see `encode`.
    facts : dict
        For whoever looks into the store: strings and numbers.

    Raises
    ------
    Unstorable
        If `value` holds anything beside plain data.
    """
    replace(path_of(root, key), encode(value, {**facts, "files": dict(files.used)}))


def replace(path: Path, content: bytes) -> None:
    """Write a file in one step: a reader sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{secrets.token_hex(6)}.part")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def forget(root: Path, limit: int | None = None) -> None:
    """Remove what was not used for the longest time, until the store is smaller than `limit` bytes."""
    entries = []
    for path in root.glob("??/*"):
        with contextlib.suppress(FileNotFoundError):  # another process forgets, too
            found = path.stat()
            entries.append((found.st_mtime, found.st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= (LIMIT if limit is None else limit):
            return
        path.unlink(missing_ok=True)
        total -= size


# ---------------------------------------------------------------- plain data as bytes

def encode(value, facts: dict | None = None) -> bytes:
    """Plain data as bytes.

    Parameters
    ----------
    value
        None, a bool, number, string or bytes; a list, tuple, dict or set; an array, tensor, frame or series. Subclasses
        are something else.
    facts : dict, optional
        Strings and numbers that are kept beside it.

    Raises
    ------
    Unstorable
        If it holds anything else; the message names the type.

    Examples
    --------
    >>> decode(encode({("a", 1): [1.5, None]}))[0]
    {('a', 1): [1.5, None]}
    """
    buffers: list[bytes] = []
    head = json.dumps({"value": _encode(value, buffers), "facts": facts or {}, "sizes": list(map(len, buffers))},
                      separators=(",", ":")).encode()
    body = b"".join([struct.pack("<Q", len(head)), head, *buffers])
    return _MARK + hashlib.sha256(body).digest() + body


def decode(content: bytes):
    """The value and the facts that `encode` was given.

    Raises
    ------
    Damaged
        If a byte is missing or another, or it is not what this edition writes.
    """
    start = len(_MARK) + 32
    body = memoryview(content)[start:]
    if content[:start] != _MARK + hashlib.sha256(body).digest():
        raise Damaged("its hash is another")
    end = 8 + struct.unpack("<Q", body[:8])[0]
    head, buffers = json.loads(bytes(body[8:end])), []
    for size in head["sizes"]:
        buffers.append(body[end:end + size])
        end += size
    try:
        return _decode(head["value"], buffers), head["facts"]
    except Exception as error:  # whole, but written by another edition of this module
        raise Damaged(f"it cannot be read: {type(error).__name__}") from error


def _encode(value, buffers: list[bytes]):
    """As JSON: plain where JSON has it, else ``[kind, …]``. Longer content goes to the buffers."""
    def keep(content: bytes) -> int:
        buffers.append(content)
        return len(buffers) - 1

    def each(values) -> list:
        return [_encode(entry, buffers) for entry in values]

    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else ["float", struct.pack("<d", value).hex()]
    if kind is bytes:
        return ["bytes", keep(value)]
    if kind in (list, tuple):
        return [kind.__name__, each(value)]
    if kind in (set, frozenset):
        return [kind.__name__, each(sorted(value, key=repr))]
    if kind is dict:
        return ["dict", each(value), each(value.values())]
    if isinstance(value, np.generic) or kind is np.ndarray:
        return _encode_array(value, keep, each)
    if kind is torch.Tensor:
        if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu" or value.requires_grad:
            raise Unstorable(f"a tensor of layout {value.layout} on {value.device}"
                             f"{' that requires a gradient' if value.requires_grad else ''}")
        return ["tensor", str(value.dtype).removeprefix("torch."), list(value.shape), keep(tensor_bytes(value))]
    if kind is pd.Series:
        return ["series", *each([value.name, value.index]), _encode_column(value, buffers)]
    if kind is pd.DataFrame:
        columns = [_encode_column(value.iloc[:, place], buffers) for place in range(value.shape[1])]
        return ["frame", *each([value.columns, value.index]), columns]
    if kind is pd.RangeIndex:
        return ["range", value.start, value.stop, value.step, _encode(value.name, buffers)]
    if kind is pd.Index:
        return ["index", _encode(value.name, buffers), _encode_column(value, buffers)]
    if kind is pd.MultiIndex:
        return ["levels", each(value.levels), each(np.asarray(codes) for codes in value.codes), each(value.names)]
    raise Unstorable(f"a {kind.__module__}.{kind.__qualname__}")


def _encode_array(value, keep, each):
    scalar, array = isinstance(value, np.generic), np.asarray(value)
    if array.dtype.kind == "O":
        return ["objects", list(array.shape), each(array.ravel().tolist())]
    if array.dtype.kind not in "biufcSUMm":
        raise Unstorable(f"a numpy array of {array.dtype}")
    return ["scalar" if scalar else "array", array.dtype.str, list(array.shape), keep(array.tobytes())]


def _encode_column(values, buffers: list[bytes]):
    """The values of a column or an index, with their dtype."""
    if isinstance(values.dtype, np.dtype):
        return ["numpy", _encode(np.asarray(values), buffers)]
    if isinstance(values.dtype, pd.StringDtype):
        missing = values.dtype.na_value is pd.NA
        texts = [None if gone else str(text) for text, gone in zip(values.array, values.isna(), strict=True)]
        return ["string", values.dtype.storage, missing, texts]
    if isinstance(values.dtype, pd.CategoricalDtype):
        return ["category", _encode(values.dtype.categories, buffers), _encode(np.asarray(values.array.codes), buffers),
                bool(values.dtype.ordered)]
    raise Unstorable(f"a pandas column of {values.dtype}")


def _decode(found, buffers: list[memoryview]):
    if not isinstance(found, list):
        return found
    return _DECODERS[found[0]](lambda entry: _decode(entry, buffers), buffers, *found[1:])


def _column(of, _buffers, kind: str, *parts):
    if kind == "numpy":
        return pd.Series(of(parts[0]), dtype=of(parts[0]).dtype)  # else pandas may choose another
    if kind == "string":
        storage, missing, texts = parts
        return pd.Series(texts, dtype=pd.StringDtype(storage, na_value=pd.NA if missing else np.nan))
    categories, codes, ordered = parts
    return pd.Series(pd.Categorical.from_codes(of(codes), of(categories), ordered=ordered))


def _array(of, buffers, dtype, shape, place):
    return np.frombuffer(buffers[place], np.dtype(dtype)).reshape(shape).copy()


def _objects(of, buffers, shape, entries):
    array = np.empty(len(entries), dtype=object)
    for place, entry in enumerate(entries):
        array[place] = of(entry)
    return array.reshape(shape)


def _tensor(of, buffers, dtype, shape, place):
    content = torch.from_numpy(np.frombuffer(buffers[place], np.uint8).copy())
    return content.view(getattr(torch, dtype)).reshape(shape) if len(content) else torch.empty(
        shape, dtype=getattr(torch, dtype))


def _series(of, buffers, name, index, column):
    series = _column(of, buffers, *column)
    series.index, series.name = of(index), of(name)
    return series


def _frame(of, buffers, columns, index, values):
    found = dict(enumerate(_column(of, buffers, *column) for column in values))
    frame = pd.DataFrame(found) if found else pd.DataFrame(index=of(index))
    frame.index, frame.columns = of(index), of(columns)
    return frame


_DECODERS = {
    "float": lambda of, buffers, digits: struct.unpack("<d", bytes.fromhex(digits))[0],
    "bytes": lambda of, buffers, place: bytes(buffers[place]),
    "list": lambda of, buffers, entries: [of(entry) for entry in entries],
    "tuple": lambda of, buffers, entries: tuple(of(entry) for entry in entries),
    "set": lambda of, buffers, entries: {of(entry) for entry in entries},
    "frozenset": lambda of, buffers, entries: frozenset(of(entry) for entry in entries),
    "dict": lambda of, buffers, names, values: {of(name): of(value)
                                                for name, value in zip(names, values, strict=True)},
    "array": _array,
    "scalar": lambda of, *array: _array(of, *array)[()],
    "objects": _objects,
    "tensor": _tensor,
    "series": _series,
    "frame": _frame,
    "range": lambda of, buffers, start, stop, step, name: pd.RangeIndex(start, stop, step, name=of(name)),
    "index": lambda of, buffers, name, column: pd.Index(_column(of, buffers, *column), name=of(name)),
    "levels": lambda of, buffers, levels, codes, names: pd.MultiIndex(
        [of(level) for level in levels], [of(code) for code in codes], names=[of(name) for name in names]),
}
