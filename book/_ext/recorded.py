"""What the chapters have recorded, and the words for it: manifests, tables, the banner, titles, links."""

import functools
import json
import re

import catalogue
from catalogue import escape

# Parts that compare networks or data, and no remedies.
NO_REMEDIES = ("foundations", "synthesis")


@functools.cache
def facts(chapter: str, profile: str) -> dict:
    """The manifest of a chapter's run."""
    return json.loads(catalogue.results_path(chapter, profile, ".json").read_text(encoding="utf-8"))


@functools.cache
def results(chapter: str, profile: str):
    """The results table of a chapter's run."""
    import pandas as pd

    found = pd.read_csv(catalogue.results_path(chapter, profile, ".csv"), dtype={"class": str})
    return found.fillna({"class": ""})


def there(profile: str) -> list[str]:
    """The chapters that have a record, in the book's order."""
    return [chapter for chapter in catalogue.in_order() if catalogue.results_path(chapter, profile, ".json").is_file()]


def at_home(chapter: str, profile: str):
    """The results of a chapter on the data set that it discusses, which stands first; of the fair protocol, that is.

    Without the network that was trained on balanced data: it is what is left to gain, and no technique.
    """
    from helpers.results import CEILING

    table = results(chapter, profile)
    fair = table.protocol == "fair"
    home = table.dataset[fair].iloc[0] if fair.any() else ""
    return table[(~fair | (table.dataset == home)) & (table.technique != CEILING)]


def gaps(table, reference: str, metric: str, more: bool = True) -> dict:
    """Each technique's paired gain over one, as `helpers.results.difference` has it, all at once.

    Of the fair protocol, on one data set. Without `more`, a fall is a gain.
    """
    from helpers.results import OVERLAP, Interval, chosen

    table = chosen(table[(table["class"] == "") & table.metric.isin([metric, OVERLAP])])
    own = table[table.metric == metric]
    by_seed = own.pivot(index="seed", columns="technique", values="value")
    overlaps = table[table.metric == OVERLAP].groupby("technique").value.mean()
    if reference not in by_seed:
        return {}
    pairs = {name: (name, reference) if more else (reference, name)
             for name in own.technique.unique() if name != reference}
    return {name: Interval.of((by_seed[one] - by_seed[other]).dropna(), float(overlaps.get(one, 0)))
            for name, (one, other) in pairs.items()}


def is_real(fact: dict) -> bool:
    return fact.get("data") == "real" and fact.get("profile") != "smoke"


@functools.cache
def title(chapter: str) -> str:
    return re.search(r"^# # (.+)$", catalogue.text(chapter), flags=re.MULTILINE)[1]


def short(chapter: str) -> str:
    return re.split(r": ", title(chapter))[0]


def box(chapter: str, what: str) -> str:
    """A line of the box *At a glance*: its question, say."""
    text = re.sub(r"^# ?", "", catalogue.text(chapter), flags=re.MULTILINE)
    found = re.search(rf"^\*\*{what}\.\*\* (.+?)\n\n", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"[*_`]", "", " ".join(found[1].split())) if found else ""


def link(chapter: str, text: str, anchor: str = "") -> str:
    """A link to a chapter from a page of ``book/``."""
    return f'<a href="../notebooks/{chapter}.html{anchor}">{escape(text)}</a>'


def banner(facts: dict) -> str:
    """How the page was made: one line to see, the rest to unfold."""
    def listing(value):
        return "; ".join(map(str, value)) if isinstance(value, list) else str(value)

    minutes = float(facts.get("minutes") or 0)
    seeds = facts.get("seeds") or []
    warnings = []
    if facts.get("data") != "real":
        warnings.append("stand-in data")
    if facts.get("profile") == "smoke":
        warnings.append("the smoke profile")
    sets = facts.get("dataset", "?")
    drawn = isinstance(sets, list) and all(str(one).startswith(("distance ", "generated ")) for one in sets)
    data = "generated" if drawn and facts.get("data") == "real" else facts.get("data", "?")
    named = f"{len(sets)} sets" if isinstance(sets, list) and len(sets) > 3 else listing(sets)
    line = " · ".join(escape(part) for part in [
        f"{facts.get('profile', '?')} profile", f"{data} data ({named})",
        f"{len(seeds)} seed{'' if len(seeds) == 1 else 's'}", facts.get("device", "?"),
        f"{minutes:.1f} min" if minutes >= 1 else f"{minutes * 60:.0f} s", str(facts.get("date", "?"))[:10]])
    rows = {"Profile": facts.get("profile"), "Data": f"{data}: {listing(facts.get('dataset', '?'))}",
            "Data hash": facts.get("data_hash"), "Code hash": facts.get("code_hash"), "Commit": facts.get("commit"),
            "Seeds": ", ".join(map(str, seeds)), "Steps": facts.get("steps"), "Device": facts.get("device"),
            "Versions": ", ".join(f"{name} {version}" for name, version in (facts.get("versions") or {}).items()),
            "Run on": facts.get("date"), "Minutes": f"{minutes:.1f}"}
    table = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in rows.items()
                    if value not in (None, ""))
    warning = (f"Built from {escape(' and '.join(warnings))}: the numbers on this page are not results." if warnings
               else "Built from the draft's seeds: for writing, nothing is judged." if facts.get("profile") == "draft"
               else "")
    kind = "run-banner" + " run-banner-warning" * bool(warning) + " run-banner-noresult" * bool(warnings)
    warning = warning and f'<p class="run-warning"><strong>{warning}</strong></p>'
    return f'<div class="{kind}">{warning}<details><summary>{line}</summary><dl>{table}</dl></details></div>'


def time_taken(facts: dict) -> str:
    """The measured time of a chapter, as its first box tells it."""
    minutes, device = float(facts["minutes"]), facts.get("device", "CPU")
    words = "Under a minute" if minutes < 1 else f"{minutes:.0f} minute{'' if round(minutes) == 1 else 's'}"
    return f"{words} on {'a CPU' if device == 'CPU' else f'one {device}'}"


def wide(name: str, head: list[str], rows: list[list[str]], kind: str = "") -> str:
    """A table that scrolls inside itself; the first cell of a row is its heading."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>"
                   for row in rows)
    return (f'<div class="table-wide" role="region" aria-label="{escape(name)}" tabindex="0">'
            f'<table class="{f"dataframe {kind}".strip()}">'
            f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>")
