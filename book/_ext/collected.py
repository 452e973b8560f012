"""What pages outside the chapters take from the results: a page asks with ``<!-- made: … -->``, staging answers.

``run`` is the banner, ``chapters`` the table of chapters, ``gains`` the figure of the first page, ``claims`` the ledger
of all claims, ``benchmark`` all techniques on images side by side, ``guide`` what to try first, ``techniques`` the list
of all, ``table T1`` a published table beside its reproduction.
Nothing here trains or judges; it reads what the
chapters have recorded.
"""

import re
from pathlib import Path

import benchmark
import catalogue
import gains
import guide
import ledger
import recorded
import reproduced
import techniques
from catalogue import Trouble, escape

MARK = re.compile(r"<!-- made: (\w+)(?: ([^>]+?))? -->")


def run(profile: str, chapters: list[str]) -> str:
    """The banner of a page that rests on several chapters: warning and all."""
    if not chapters:
        return "*No chapter has results in this build.*"
    every = [recorded.facts(chapter, profile) for chapter in chapters]
    dates = sorted(str(fact.get("date", "?"))[:10] for fact in every)
    together = {"profile": profile, "data": "real" if all(f.get("data") == "real" for f in every) else "stand-in",
                "dataset": sorted({name for fact in every for name in fact.get("dataset", [])}),
                "seeds": sorted({seed for fact in every for seed in fact.get("seeds", [])}),
                "device": ", ".join(sorted({str(fact.get("device", "?")) for fact in every})),
                "minutes": sum(float(fact.get("minutes") or 0) for fact in every), "date": dates[-1],
                "commit": ", ".join(sorted({str(fact.get("commit", "?")) for fact in every}))}
    return recorded.banner(together)


def chapters_table(profile: str, chapters: list[str]) -> str:
    """Question, data, minutes and computed verdict of each chapter."""
    rows = []
    for chapter in catalogue.in_order():
        fact = recorded.facts(chapter, profile) if chapter in chapters else {}
        verdict = escape(fact.get("verdict") or "–") if recorded.is_real(fact) else "<em>no result in this run</em>"
        took = escape(recorded.time_taken(fact)) if recorded.is_real(fact) else "<em>not measured in this run</em>"
        question, data = (escape(recorded.box(chapter, what)) for what in ("Question", "Data"))
        name = recorded.link(chapter, recorded.short(chapter))
        rows.append(f'<tr role="row"><td role="cell">{name}<small>{took}</small></td>'
                    f'<td role="cell">{question}<small>{data}</small></td>'
                    f'<td role="cell" data-label="Verdict">{verdict}</td></tr>')
    head = "".join(f'<th role="columnheader" scope="col">{name}</th>' for name in
                   ("Chapter and time", "Question and data", "Verdict, computed"))
    return (f'<table role="table" class="chapters"><thead role="rowgroup"><tr role="row">{head}</tr></thead>'
            f'<tbody role="rowgroup">{"".join(rows)}</tbody></table>')


def fill(text: str, profile: str, folder: Path) -> str:
    """Answer every mark of a page; what a page may ask for is listed at the top of this module."""
    chapters = recorded.there(profile)

    def answer(match):
        what, which = match[1], match[2]
        if what == "run":
            return run(profile, chapters)
        if what == "chapters":
            return chapters_table(profile, chapters)
        if what == "gains":
            return gains.gains_figure(profile, chapters, folder)
        if what == "claims":
            return ledger.page(profile, chapters)
        if what == "benchmark":
            return benchmark.page(profile, chapters, folder)
        if what == "guide":
            return guide.page(profile, chapters)
        if what == "techniques":
            return techniques.table(catalogue.in_order())
        if what == "table":
            if which not in reproduced.reproductions():
                raise Trouble(f"a page asks for table {which}, which no chapter reproduces")
            return reproduced.published_table(which, profile)
        raise Trouble(f"a page asks for {what!r}; known: "
                      "run, chapters, gains, claims, benchmark, guide, techniques, table")

    return MARK.sub(answer, text)
