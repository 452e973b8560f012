"""Two builds of the same code: whether they have recorded the same, and if not, what."""

import csv
import json
from itertools import zip_longest
from pathlib import Path

from catalogue import Trouble

TIMED = "seconds"  # how metrics end that are other numbers on every day


def records(folder: Path, name: str) -> list[tuple[str, ...]]:
    """All that a chapter has recorded, line by line, without what tells of time."""
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file) if not row["metric"].endswith(TIMED)]
    claims = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["claims"]
    return rows + [(claim["sentence"], claim["status"], claim["detail"]) for claim in claims
                   if TIMED not in claim["detail"]]


def compare(before: Path, after: Path) -> tuple[int, list[str]]:
    """How many chapters two folders of results share, and a line for each that differs.

    Raises
    ------
    Trouble
        If there is no chapter of which both have results.
    """
    both = sorted({path.stem for path in before.glob("*.csv")} & {path.stem for path in after.glob("*.csv")})
    if not both:
        raise Trouble(f"{before} and {after} have results of no chapter in common")
    said = []
    for name in both:
        lines = list(zip_longest(records(before, name), records(after, name)))
        differ = [(one, other) for one, other in lines if one != other]
        if differ:
            first, then = (", ".join(filter(None, line)) if line else "nothing" for line in differ[0])
            said.append(f"{name}: {len(differ)} of {len(lines)} records differ; the first: {first} | {then}")
    return len(both), said
