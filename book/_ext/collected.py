"""What pages outside the chapters take from the results: a page asks with ``<!-- made: … -->``, staging answers.

``run`` is the banner, ``chapters`` the table of chapters, ``gains`` the figure of the first page, ``table T1`` a
published table beside its reproduction. Nothing here trains or judges; it reads what the chapters have recorded.
"""

import ast
import functools
import json
import re
import sys
from pathlib import Path

import bookmaker
from bookmaker import ROOT, escape

sys.path.insert(0, str(ROOT))

MARK = re.compile(r"<!-- made: (\w+)(?: ([^>]+?))? -->")
# What a chapter measures gains against where it is not called "baseline", and the techniques that are a change to it.
BASELINES = {"graphs/page_network": ("GCN", ("random oversampling", "logit adjustment", "class weights",
                                             "class-balanced loss", "embedding SMOTE"))}
# Published metrics that we measure in another way, because the published way is an error.
OURS = {"recall of the last 500": "recall"}
STRONG = {"random oversampling": ("s", "#0072B2", "#56B4E9"), "logit adjustment": ("D", "#B84A00", "#F0A35E")}


# ---------------------------------------------------------------- what the chapters have recorded

@functools.cache
def facts(chapter: str, profile: str) -> dict:
    """The manifest of a chapter's run."""
    return json.loads(bookmaker.results_path(chapter, profile, ".json").read_text(encoding="utf-8"))


@functools.cache
def results(chapter: str, profile: str):
    """The results table of a chapter's run."""
    import pandas as pd

    found = pd.read_csv(bookmaker.results_path(chapter, profile, ".csv"), dtype={"class": str})
    return found.fillna({"class": ""})


def is_real(fact: dict) -> bool:
    return fact.get("data") == "real" and fact.get("profile") != "smoke"


@functools.cache
def title(chapter: str) -> str:
    return re.search(r"^# # (.+)$", bookmaker.source(chapter).read_text(encoding="utf-8"), flags=re.MULTILINE)[1]


def short(chapter: str) -> str:
    return re.split(r": ", title(chapter))[0]


def box(chapter: str, what: str) -> str:
    """A line of the box *At a glance*: its question, say."""
    text = re.sub(r"^# ?", "", bookmaker.source(chapter).read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = re.search(rf"^\*\*{what}\.\*\* (.+?)\n\n", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"[*_`]", "", " ".join(found[1].split())) if found else ""


def link(chapter: str, text: str, anchor: str = "") -> str:
    """A link to a chapter from a page of ``book/``."""
    return f'<a href="../notebooks/{chapter}.html{anchor}">{escape(text)}</a>'


# ---------------------------------------------------------------- the parts of a page

def run(profile: str, chapters: list[str]) -> str:
    """The banner of a page that rests on several chapters: warning and all."""
    every = [facts(chapter, profile) for chapter in chapters]
    dates = sorted(str(fact.get("date", "?"))[:10] for fact in every)
    together = {"profile": profile, "data": "real" if all(f.get("data") == "real" for f in every) else "stand-in",
                "dataset": sorted({name for fact in every for name in fact.get("dataset", [])}),
                "seeds": sorted({seed for fact in every for seed in fact.get("seeds", [])}),
                "device": ", ".join(sorted({str(fact.get("device", "?")) for fact in every})),
                "minutes": sum(float(fact.get("minutes") or 0) for fact in every), "date": dates[-1],
                "commit": ", ".join(sorted({str(fact.get("commit", "?")) for fact in every}))}
    return bookmaker.banner(together)


def chapters_table(profile: str, chapters: list[str]) -> str:
    """Question, data, minutes and computed verdict of each chapter."""
    rows = []
    for chapter in chapters:
        fact = facts(chapter, profile)
        verdict = escape(fact.get("verdict") or "–") if is_real(fact) else "<em>no result in this run</em>"
        took = escape(bookmaker.time_taken(fact)) if is_real(fact) else "<em>not measured in this run</em>"
        question, data = (escape(box(chapter, what)) for what in ("Question", "Data"))
        rows.append(f'<tr role="row"><td role="cell">{link(chapter, short(chapter))}<small>{took}</small></td>'
                    f'<td role="cell">{question}<small>{data}</small></td>'
                    f'<td role="cell" data-label="Verdict">{verdict}</td></tr>')
    head = "".join(f'<th role="columnheader" scope="col">{name}</th>' for name in
                   ("Chapter and time", "Question and data", "Verdict, computed"))
    return (f'<table role="table" class="chapters"><thead role="rowgroup"><tr role="row">{head}</tr></thead>'
            f'<tbody role="rowgroup">{"".join(rows)}</tbody></table>')


def gains(profile: str, chapters: list[str]) -> dict:
    """Each technique's paired gain over its chapter's baseline in balanced accuracy, by chapter."""
    from helpers import experiments

    found = {}
    for chapter in chapters:
        if not is_real(facts(chapter, profile)):
            continue
        table = results(chapter, profile)
        known = table[(table.protocol == "fair") & (table.metric == "balanced accuracy")].technique.unique().tolist()
        baseline, chosen = BASELINES.get(chapter, ("baseline", known))
        if baseline not in known:
            continue
        found[chapter] = {name: experiments.difference(table, name, baseline, "balanced accuracy")
                          for name in chosen if name in known and name != baseline}
    return found


def draw_gains(found: dict, target: Path, dark: bool) -> None:
    """One band a chapter, one dot a technique, with its interval; the two strong baselines stand out."""
    import matplotlib as mpl
    import numpy as np
    from matplotlib import pyplot as plt

    ink, soft, plain = ("#dfe6ea", "#3b454d", "#93a4ae") if dark else ("#222222", "#d5dde2", "#7a8790")
    style = {"text.color": ink, "axes.labelcolor": ink, "xtick.color": ink, "axes.edgecolor": soft,
             "svg.hashsalt": "book", "font.family": "DejaVu Sans", "font.size": 9, "axes.grid": False,
             "figure.constrained_layout.use": True}
    with mpl.rc_context(style):
        figure, ax = plt.subplots(figsize=(4.4, 0.7 + 0.68 * len(found)))
        for band, (chapter, values) in enumerate(found.items()):
            ranked = sorted((name for name in values if name not in STRONG), key=lambda name: values[name].mean)
            for place, name in enumerate(ranked):
                height = band + 0.12 + 0.3 * (place % 5 - 2) / 2
                gap = values[name]
                ax.plot([100 * gap.low, 100 * gap.high], [height] * 2, color=plain, linewidth=0.8, alpha=0.55, zorder=1)
                clear = gap.low > 0 or gap.high < 0
                ax.plot(100 * gap.mean, height, "o", markersize=4, color=plain, zorder=2,
                        markerfacecolor=plain if clear else "none")
            for name, (marker, light, pale) in STRONG.items():
                if name in values:
                    colour, gap = pale if dark else light, values[name]
                    ax.plot([100 * gap.low, 100 * gap.high], [band + 0.12] * 2, color=colour, linewidth=2, zorder=3)
                    ax.plot(100 * gap.mean, band + 0.12, marker, markersize=7, color=colour, zorder=4,
                            label=name.removeprefix("random ") if band == 0 else None)
            ax.text(0, band - 0.33, short(chapter), transform=ax.get_yaxis_transform(), fontsize=9, va="center",
                    fontweight="bold")
        for band in range(1, len(found)):
            ax.axhline(band - 0.5, color=soft, linewidth=0.8)
        ax.axvline(0, color=ink, linewidth=1)
        ax.plot([], [], "o", markersize=4, color=plain, label="any other technique")
        ax.set(ylim=(len(found) - 0.5, -0.5), yticks=[], xlabel="balanced accuracy minus baseline (points)")
        for side in ("top", "right", "left"):
            ax.spines[side].set_visible(False)
        ends = [100 * end for values in found.values() for gap in values.values() for end in (gap.low, gap.high)]
        ax.set_xlim(np.nanmin(ends) - 1, np.nanmax(ends) + 1)
        figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=8, handletextpad=0.3,
                      columnspacing=1.2)
        figure.savefig(target, transparent=True, metadata={"Date": None, "Creator": None})
        plt.close(figure)


def gains_figure(profile: str, chapters: list[str], folder: Path) -> str:
    """The figure of the first page, and what it says in words, both from the results."""
    found = gains(profile, chapters)
    if not found:
        return "*Here stands a figure of all results. This is a preview without results: `make book` draws it.*"
    for name, dark in (("gains-light.svg", False), ("gains-dark.svg", True)):
        draw_gains(found, folder / "_static" / name, dark)
    told, beaten, tried = [], 0, 0
    for chapter, values in found.items():
        best = sorted((name for name in values if name not in STRONG), key=lambda name: -values[name].mean)[:1]
        said = [f"best {name} {values[name]:+%}" for name in best]
        said += [f"{name} {values[name]:+%}" for name in STRONG if name in values]
        told.append(f"{short(chapter)}: {', '.join(said)}")
        if "random oversampling" in values:
            others = [name for name in values if name != "random oversampling"]
            tried += len(others)
            beaten += sum(above(profile, chapter, name) for name in others)
    count = sum(len(values) for values in found.values())
    alt = "Paired gains in balanced accuracy over the baseline, in points with 95 percent intervals. " + "; ".join(told)
    images = "".join(f'<img class="gains {kind}" src="../_static/gains-{name}.svg" alt="{escape(alt)}">'
                     for kind, name in (("only-light", "light"), ("only-dark", "dark")))
    caption = (f"All {count} techniques of {len(found)} chapters, none left out: what each adds to its chapter's "
               "baseline under the fair protocol. Bars are 95 % intervals over paired seeds; a hollow dot's interval "
               "holds zero. "
               f"{tried} of them stand beside plain random oversampling: {beaten or 'none'} of these "
               f"{'is' if beaten < 2 else 'are'} distinguishably better than it, where chance alone would make about "
               f"{0.025 * tried:.0f} look so.")
    # in a div, because the theme hides a caption that stands beside a hidden image
    return (f'<figure class="gains-figure"><div>{images}</div>'
            f"<figcaption>{escape(caption)}</figcaption></figure>")


def above(profile: str, chapter: str, name: str) -> bool:
    """Whether a technique is distinguishably better than plain random oversampling."""
    from helpers import experiments

    gap = experiments.difference(results(chapter, profile), name, "random oversampling", "balanced accuracy")
    return bool(gap.low > 0)


# ---------------------------------------------------------------- published and reproduced

@functools.cache
def reproductions() -> dict[str, dict[str, dict]]:
    """By table and chapter: the names that the chapter joins, read from its own call of `published_and_reproduced`."""
    found = {}
    for chapter in bookmaker.in_order():
        for node in ast.walk(ast.parse(bookmaker.source(chapter).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("published_and_reproduced"):
                table = ast.literal_eval(node.args[1])
                names = next((ast.literal_eval(k.value) for k in node.keywords if k.arg == "names"), {})
                found.setdefault(table, {}).setdefault(chapter, {}).update(names)
    return found


def parameter(chapter: str, profile: str, name: str):
    """A parameter as a profile sets it, or else as the chapter does; None where it has no such parameter."""
    if name in (chosen := bookmaker.parameters(profile, chapter)):
        return chosen[name]
    for cell in bookmaker.as_notebook(bookmaker.source(chapter).read_text(encoding="utf-8")).cells:
        if "parameters" in cell.metadata.get("tags", []):
            values = {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(cell.source).body}
            return values.get(name)
    return None


def ours(table: str, technique: str, metric: str, label: str, protocol: str, profile: str):
    """Our values for a published number: chapter and series over seeds, from the first chapter that has them."""
    from helpers import experiments

    for chapter, names in reproductions()[table].items():
        try:
            return chapter, experiments.values(results(chapter, profile), names.get(technique, technique),
                                               OURS.get(metric, metric), label=label, protocol=protocol)
        except KeyError:
            continue
    return None, None


def interval(values, scale: float = 100) -> str:
    """Mean ± half of the 95 % interval, and the number of seeds."""
    from helpers import experiments, metrics

    if values is None:
        return "–"
    found = experiments.Interval(*metrics.t_interval(values), len(values))
    spread = f"{scale * values.min():.1f} to {scale * values.max():.1f}, " if found.n > 1 else ""
    return f"{found:%} <small>{spread}{found.seeds}</small>"


def wide(name: str, head: list[str], rows: list[list[str]]) -> str:
    """A table that scrolls inside itself; the first cell of a row is its heading."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>"
                   for row in rows)
    return (f'<div class="table-wide" role="region" aria-label="{escape(name)}" tabindex="0"><table class="dataframe">'
            f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>")


def published_table(table: str, profile: str) -> str:
    """A published table, its reproduction under the source's protocol and ours under the fair one."""
    from helpers import experiments

    printed = experiments.published(table)
    overall = printed[printed["class"] == ""]
    several = overall.metric.nunique() > 1
    rows, used = [], {}
    for row in overall.itertuples():
        there, source = ours(table, row.technique, row.metric, "", "source", profile)
        _, fair = ours(table, row.technique, row.metric, "", "fair", profile)
        used.update({there: None} if there else {})
        gap = "–" if source is None else f"{100 * source.mean() - row.value:+z.1f}".replace("-", "−")
        name = escape(row.technique) + (f", {escape(row.metric)}" if several else "")
        rows.append([name, f"{row.value:.1f}", interval(source), gap, interval(fair)])
    metric = "%" if several else f"{overall.metric.iloc[0]}, %"
    head = [escape(metric), "published, 1 seed", "reproduced, source protocol", "difference", "ours, fair protocol"]
    parts = [wide(f"Table {table}", head, rows)]
    parts += [per_class(table, metric, group, profile) for metric, group in
              printed[printed["class"] != ""].groupby("metric", sort=False)]
    return "\n\n".join([*parts, where(table, list(used) or list(reproductions()[table]), profile)])


def per_class(table: str, metric: str, printed, profile: str) -> str:
    """The per-class numbers, folded away."""
    labels, rows = list(printed["class"].unique()), []
    for technique, group in printed.groupby("technique", sort=False):
        theirs = group.set_index("class").value
        rows.append([f"{escape(technique)}, published", *(f"{theirs[label]:.1f}" for label in labels)])
        for protocol in ("source", "fair"):
            values = [ours(table, technique, metric, label, protocol, profile)[1] for label in labels]
            if all(value is not None for value in values):
                rows.append([f"{escape(technique)}, {protocol} protocol", *(f"{100 * v.mean():.1f}" for v in values)])
    measure = f"{metric} (ours: {OURS[metric]} over the whole test set)" if metric in OURS else metric
    head = [f"{escape(metric)}, %", *map(escape, labels)]
    return (f"<details><summary>By class: {escape(measure)}</summary>\n"
            + wide(f"Table {table} by class, {metric}", head, rows) + "</details>")


def where(table: str, chapters: list[str], profile: str) -> str:
    """Which chapters ran it, and with what share of the source's budget."""
    told = []
    for chapter in chapters:
        steps, whole = (parameter(chapter, name, "SOURCE_STEPS") for name in (profile, "full"))
        share = f", with {steps / whole:.0%} of the source's training steps" if steps and steps < whole else ""
        told.append(link(chapter, short(chapter), "#published-and-reproduced") + share)
    return f'<p class="where">Reproduced in {" and in ".join(told)}.</p>'


# ---------------------------------------------------------------- filling the pages

def fill(text: str, profile: str, folder: Path) -> str:
    """Answer every mark of a page; what a page may ask for is listed at the top of this module."""
    chapters = bookmaker.in_order()

    def answer(match):
        what, which = match[1], match[2]
        if what == "run":
            return run(profile, chapters)
        if what == "chapters":
            return chapters_table(profile, chapters)
        if what == "gains":
            return gains_figure(profile, chapters, folder)
        if what == "table":
            if which not in reproductions():
                raise bookmaker.Trouble(f"a page asks for table {which}, which no chapter reproduces")
            return published_table(which, profile)
        raise bookmaker.Trouble(f"a page asks for {what!r}; known: run, chapters, gains, table")

    return MARK.sub(answer, text)
