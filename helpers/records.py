"""What a chapter leaves behind: its results, and a manifest of how they came about."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from helpers import claims, metrics
from helpers.datasets import Dataset
from helpers.machine import in_bfloat16
from helpers.results import COLUMNS, is_real
from helpers.runs import minutes

_started = time.time()


def record(chapter: str, results: pd.DataFrame, *, verdict: str, seeds: Sequence[int], steps: int,
           data_hash: str = "") -> pd.DataFrame:
    """Write a chapter's results and their manifest; the last cell of every chapter.

    Parameters
    ----------
    chapter : str
        ``"part/chapter"``.
    results : pandas.DataFrame
        Rows as `tidy` makes them.
    verdict : str
        The chapter's finding in one sentence, its numbers computed.
    seeds, steps
        As the chapter ran.
    data_hash : str, optional
        From `fingerprint`.

    Returns
    -------
    pandas.DataFrame
        How many techniques and runs each protocol has, to show.

    Raises
    ------
    ValueError
        If a column is missing or a value is not a number.
    """
    missing = [column for column in COLUMNS if column not in results]
    if missing:
        raise ValueError(f"the results lack {', '.join(missing)}; they need {', '.join(COLUMNS)}")
    results = _checked(results)
    profile = os.environ.get("BOOK_PROFILE", "reader")
    folder = Path(os.environ.get("BOOK_BUILD", "build")) / "results" / profile
    folder.mkdir(parents=True, exist_ok=True)
    stem = chapter.replace("/", "-")
    results[COLUMNS].to_csv(folder / f"{stem}.csv", index=False, float_format="%.6g")
    manifest = {
        "chapter": chapter, "profile": profile, "dataset": sorted(results.dataset.unique()),
        "data": "real" if is_real(results) else "stand-in", "data_hash": data_hash, "code_hash": code_hash(),
        "seeds": [int(seed) for seed in seeds], "steps": int(steps),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU", "versions": _versions(),
        "commit": _commit(), "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "minutes": round(minutes(_started), 2), "claims": _with_holm(claims.made), "verdict": verdict,
        "arithmetic": arithmetic(),
    }
    (folder / f"{stem}.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    if profile == "reader":
        print(_told(manifest, folder / f"{stem}.csv"))
    runs = results.drop_duplicates(["protocol", "dataset", "technique", "seed"]).groupby("protocol", sort=False)
    counted = runs.agg(techniques=("technique", "nunique"), runs=("seed", "size"))
    return counted.rename_axis(columns="protocol", index=None)


def _told(manifest: dict, table: Path) -> str:
    """The end of a notebook that somebody runs on their own: what came out, and where it lies."""
    status = [entry["status"] for entry in manifest["claims"]]
    counts = ", ".join(f"{status.count(kind)} {kind}" for kind in ("held", "refuted", "not judged") if kind in status)
    return "\n".join([f"Verdict of this run: {manifest['verdict']}", f"Claims: {counts or 'none'}.",
                      f"Every number of this run: {table}"])


def _checked(results: pd.DataFrame) -> pd.DataFrame:
    """The rows to write: numbers, each once. A class that is never predicted has no precision; its row is left out."""
    rows = results[COLUMNS]
    if not pd.api.types.is_numeric_dtype(rows.value):
        strange = next(value for value in rows.value if not isinstance(value, int | float | np.number))
        raise ValueError(f"the column value holds {strange!r}, which is no number")
    per_class = rows["class"].astype(str) != ""
    for trouble, found in (("is not a number", rows[~np.isfinite(rows.value) & ~per_class]),
                           ("stands twice", rows[rows.duplicated(COLUMNS[:-1])])):
        if len(found):
            first = found.iloc[0]
            raise ValueError(f"{first.metric!r} of {first.technique!r} ({first.dataset}, {first.protocol}, seed "
                             f"{first.seed}) {trouble}")
    return rows[np.isfinite(rows.value)]


def _with_holm(entries: Sequence[dict]) -> list[dict]:
    """The claims of a chapter with p-values adjusted for their number."""
    adjusted = metrics.holm([np.nan if entry["p"] is None else entry["p"] for entry in entries])
    return [{**entry, "p_holm": None if np.isnan(p) else float(p)} for entry, p in zip(entries, adjusted, strict=True)]


def arithmetic() -> str:
    """What numbers are computed with: another processor gives other ones."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return torch.backends.cpu.get_cpu_capability() + ", bfloat16" * in_bfloat16(torch.device("cpu"))


def fingerprint(data: Dataset) -> str:
    """Hash of a data set's splits, 16 hexadecimal digits: equal splits, equal hash."""
    digest = hashlib.sha256()
    for split in (data.train, data.val, data.test):
        for tensor in (split.inputs, split.labels):
            digest.update(np.ascontiguousarray(tensor.cpu().numpy()))
    return digest.hexdigest()[:16]


def code_hash() -> str:
    """Hash of the `helpers` package, 16 hexadecimal digits."""
    files = sorted(Path(__file__).parent.glob("*.*"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _versions() -> dict[str, str]:
    found = {}
    for package in ("numpy", "scikit-learn", "imbalanced-learn", "torch", "torchvision", "torch-geometric", "xgboost"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str:
    try:
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "not a checkout"
