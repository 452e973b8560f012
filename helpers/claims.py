"""Sentences about results, with the checks that bear them out or refute them."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from helpers.results import Interval, clearly_ahead, difference, is_real, mean, shown

JUDGED_PROFILES = ("book", "full")
FIRST_JUDGING_SEED = 100  # smaller ones are for writing


@dataclass(frozen=True)
class Check:
    """Whether the data bear a sentence out, and the numbers that say so.

    Attributes
    ----------
    holds : bool
    detail : str
        The numbers, for the page.
    real : bool
        Whether they come from real data.
    gap : Interval, optional
        What was measured. Its p is that of the sentence itself: of a difference no larger than claimed, say.
    kind : {"difference", "equality", "value"}
        What was measured, and tested; a value is tested against nothing.
    """

    holds: bool
    detail: str
    real: bool = True
    gap: Interval | None = None
    kind: str = "difference"

    def __and__(self, other: Check) -> Check:
        """Both must hold; the weaker of the two measurements, by its p-value, stands for both."""
        weaker = max((self, other), key=_weakness)
        return Check(self.holds and other.holds, f"{self.detail}; {other.detail}", self.real and other.real,
                     weaker.gap, weaker.kind)


def all_of(checks: Iterable[Check]) -> Check:
    """All must hold; of many, the page shows the least certain: one that fails, else that of the largest p-value.

    Examples
    --------
    >>> all_of([Check(True, "one"), Check(False, "two"), Check(True, "three")])
    Check(holds=False, detail='two (the least certain of 3)', real=True, gap=None, kind='difference')
    """
    checks = list(checks)
    weakest = max(checks, key=lambda check: (not check.holds, _weakness(check)))
    return Check(all(check.holds for check in checks), f"{weakest.detail} (the least certain of {len(checks)})",
                 all(check.real for check in checks), weakest.gap, weakest.kind)


def _weakness(check: Check) -> float:
    """To tell the weakest of several: the p-value, below it what has none, last what was not measured."""
    return -2 if check.gap is None else -1 if np.isnan(check.gap.p) else check.gap.p


def _beyond(gap: Interval, lead: float) -> float:
    """Twice the one-sided p-value of a lead that should be above zero, with the spread of the interval; at most one.

    It is below .05 just where the whole 95 % interval lies above; NaN without an interval.
    """
    spread = (gap.high - gap.low) / 2 / stats.t.ppf(0.975, max(gap.n - 1, 1))
    if spread == 0:
        return float(lead <= 0)
    return float(min(1.0, 2 * stats.t.sf(lead / spread, max(gap.n - 1, 1))))


def _paired(results, technique, reference, metric, which) -> tuple[Interval, str]:
    gap = difference(results, technique, reference, metric, **which)
    spec, unit = ("+", "s") if metric == "seconds" else ("+%", "points")
    if gap.n > 2:
        number = f"{shown(gap.mean, spec)} {unit}, 95 % interval {shown(gap.low, spec)} to {shown(gap.high, spec)}"
    else:
        number = f"{gap:{spec}} {unit}"
    where = f" on {which['dataset']}" if which.get("dataset") else ""
    return gap, f"{technique} − {reference}{where}, {metric}: {number}, {_counted(results, gap)}"


def _counted(results: pd.DataFrame, gap: Interval) -> str:
    """How many seeds; or tables, where each of them counts once (`helpers.cases.over_tables`)."""
    return gap.seeds.replace("seed", "table") if results.dataset.str.endswith(" tables").all() else gap.seeds


def better(results: pd.DataFrame, technique: str, reference: str, metric: str = "balanced accuracy", by: float = 0.0,
           **which) -> Check:
    """`technique` exceeds `reference` by more than `by`: the whole paired 95 % interval lies above it.

    For a metric that is better when small (ECE, seconds), swap the two names. `which` as in `helpers.results.values`.
    """
    gap, detail = _paired(results, technique, reference, metric, which)
    return Check(bool(gap.low > by), detail, is_real(results), replace(gap, p=_beyond(gap, gap.mean - by)))


def equivalent(results: pd.DataFrame, technique: str, reference: str, metric: str = "balanced accuracy",
               within: float = 0.01, **which) -> Check:
    """`technique` is as good as `reference`: the whole paired 95 % interval lies within ± the margin.

    A wide interval is no evidence of equality, so it does not hold. Its p is that of the two one-sided tests, doubled
    like any other (Schuirmann, 1987).
    """
    gap, detail = _paired(results, technique, reference, metric, which)
    inside = bool(-within <= gap.low and gap.high <= within)
    p = max(_beyond(gap, gap.mean + within), _beyond(gap, within - gap.mean))
    return Check(inside, f"{detail}, margin ±{100 * within:g}", is_real(results), replace(gap, p=p), "equality")


def none_ahead(results: pd.DataFrame, names: Sequence[str], reference: str, metric: str = "balanced accuracy",
               datasets: Sequence[str | None] = (None,)) -> Check:
    """No technique is clearly ahead of `reference`, on any of the data sets (see `helpers.results.clearly_ahead`)."""
    ahead = clearly_ahead(results, names, reference, metric, datasets)
    best, name, dataset = max(((difference(results, name, reference, metric, dataset=dataset), name, dataset)
                               for dataset in datasets for name in names), key=lambda found: found[0].mean)
    where = f" on {dataset}" if dataset else ""
    return Check(not ahead, f"{metric}, the best of {len(names) * len(datasets)} is {name}{where}: {best:+%} points; "
                            f"clearly ahead after Holm: {len(ahead) or 'none'}", is_real(results))


def between(results: pd.DataFrame, technique: str, metric: str, low: float = -np.inf, high: float = np.inf,
            **which) -> Check:
    """The 95 % interval of the mean over seeds lies between two bounds."""
    found = mean(results, technique, metric, **which)
    where = f" on {which['dataset']}" if which.get("dataset") else ""
    detail = f"{technique}{where}, {metric}: {found:{'' if metric == 'seconds' else '%'}}, {_counted(results, found)}"
    inside = bool(low <= found.low and found.high <= high)
    return Check(inside, detail, is_real(results), replace(found, p=np.nan), "value")


made: list[dict] = []


class Claim:
    """A sentence with its check, shown on the page. Made by `claim`."""

    def __init__(self, sentence: str, status: str, detail: str, refuted: str | None = None, source: str = "",
                 reason: str = ""):
        self.sentence, self.status, self.detail = sentence, status, detail
        self.refuted, self.source, self.reason = refuted, source, reason

    def _verdict(self) -> str:
        return f"{self.status}, {self.reason}" if self.reason else self.status

    def __repr__(self) -> str:
        return f"{self.sentence} [{self._verdict()}: {self.detail}]"

    def _repr_html_(self) -> str:
        kind = self.status.replace(" ", "")
        instead = (f'<p class="claim-refuted-text">{html.escape(self.refuted)}</p>'
                   if self.refuted and self.status == "refuted" else "")
        folded = (f"<details><summary>How it is checked</summary><pre>{html.escape(self.source)}</pre></details>"
                  if self.source else "")
        each = ";<br>".join(html.escape(part) for part in self.detail.split("; "))
        return (f'<div class="claim claim-{kind}"><p><strong>{html.escape(self.sentence)}</strong></p>{instead}'
                f"<p><em>{html.escape(self._verdict())}</em> – {each}</p>{folded}</div>")


def claim(sentence: str, check: Check, refuted: str | None = None) -> Claim:
    """State a result and check it.

    A sentence is written on the draft seeds. With real data and the book's seeds it is judged, in the book as in a
    notebook of your own: held or refuted. One that is refuted stays, and says what was expected and what is there.
    Otherwise it is shown as not judged, and says why.

    Parameters
    ----------
    sentence : str
    check : Check
        From `better`, `equivalent` or `between`, or made by hand.
    refuted : str, optional
        Acknowledges that the book's seeds refute the sentence: what was expected, and what is there.

    Raises
    ------
    TypeError
        If `check` is not a `Check`.

    Examples
    --------
    >>> claim("Two is more than one.", Check(2 > 1, "2 − 1 = 1"))
    Two is more than one. [not judged, as no notebook's SEEDS are known here: 2 − 1 = 1]
    >>> made.clear()
    """
    if not isinstance(check, Check):
        raise TypeError(f"check={check!r} must be a Check: better(…), equivalent(…), between(…), Check(holds, detail)")
    reason = _reason_not_to_judge(check)
    status = "not judged" if reason else "held" if check.holds else "refuted"
    gap = check.gap
    measured = gap is not None and np.isfinite(gap.low)
    made.append({"sentence": sentence, "status": status, "acknowledged": refuted, "detail": check.detail,
                 "difference": [gap.mean, gap.low, gap.high] if measured else None,
                 "kind": check.kind, "n": gap.n if gap is not None else None,
                 "p": gap.p if measured and np.isfinite(gap.p) else None})
    return Claim(sentence, status, check.detail, refuted, _cell(), reason)


def _reason_not_to_judge(check: Check) -> str:
    """Why this run judges nothing; empty where it does. A reader's own notebook judges by the book's seeds."""
    profile = os.environ.get("BOOK_PROFILE")
    if not check.real:
        return "as the data are a stand-in"
    if profile:
        return "" if profile in JUDGED_PROFILES else f"as the profile {profile} is for writing"
    from IPython import get_ipython

    shell = get_ipython()
    seeds = shell.user_ns.get("SEEDS") if shell else None
    if not seeds:
        return "as no notebook's SEEDS are known here"
    early = [seed for seed in seeds if seed < FIRST_JUDGING_SEED]
    return f"as seed {early[0]} is one to write with; the book judges by {FIRST_JUDGING_SEED} and more" if early else ""


def _cell() -> str:
    """The source of the notebook's cell that runs; empty elsewhere."""
    from IPython import get_ipython

    shell = get_ipython()
    return shell.user_ns.get("In", [""])[-1] if shell else ""
