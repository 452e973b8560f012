"""All techniques on images side by side: what each adds to the free correction, what it costs, whom it helps."""

from pathlib import Path

import catalogue
import recorded
from catalogue import escape

ARENAS = {"MNIST-LT": "digits", "FashionMNIST-LT": "garments"}
REFERENCE, BASELINE = "logit adjustment", "baseline"
MEASURE = "balanced accuracy"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8C6D1F", "#6A3D9A", "#56B4E9", "#B2182B")
EDGE = -7  # points: what is further behind is drawn at the edge, so that the others can be told apart
EMPTY = "*Here stands the comparison of all techniques. This is a preview without results: `make book` draws it.*"
DICTIONARY = {
    "chapter": "the chapter that recorded the row, part/chapter", "dataset": "the data set, by its name in the book",
    "technique": "as the chapter names it", "protocol": "fair, or the one of a source that is reproduced",
    "seed": "the random seed of the draw and of the training", "metric": "what was measured, on the test split",
    "value": "a fraction; seconds are seconds, and a learning rate is itself"}


def entries(profile: str, chapters: list[str]) -> list[dict]:
    """Each technique that ran in both arenas, once: from the first chapter that names it.

    Two names with the same numbers are the same runs: the second stands under ``also``.
    """
    from helpers import metrics
    from helpers.results import CEILING

    found: dict[str, dict] = {}
    for chapter in chapters:
        if chapter.split("/")[0] in recorded.NO_REMEDIES or not recorded.is_real(recorded.facts(chapter, profile)):
            continue
        table = recorded.results(chapter, profile)
        table = table[(table.protocol == "fair") & table.dataset.isin(ARENAS) & (table["class"] == "")]
        gaps = {one: recorded.gaps(table[table.dataset == one], REFERENCE, MEASURE) for one in ARENAS}
        means = table.groupby(["dataset", "technique", "metric"]).value.mean()
        for name in table.technique.unique():
            if name in found or name == CEILING or not all(name in gaps[one] for one in ARENAS):
                continue
            per = {}
            for one in ARENAS:
                per[one] = {"gap": gaps[one][name]}
                for part in ("head recall", "tail recall", "ECE", "seconds"):
                    ours, plain = (float(means[one, who, part]) for who in (name, BASELINE))
                    per[one][part] = ours / plain if part == "seconds" and plain else ours - plain
            seen = [per[one]["gap"].seen for one in ARENAS]
            twin = next((entry for entry in found.values() if [entry[one]["gap"].seen for one in ARENAS] == seen), None)
            if twin:
                twin["also"].append(name)
                continue
            found[name] = {"technique": name, "also": [], "chapter": chapter, "family": chapter.split("/")[0], **per}
    listed = list(found.values())
    for one in ARENAS:
        for entry, p in zip(listed, metrics.holm([entry[one]["gap"].p for entry in listed]), strict=True):
            entry[one]["clear"] = bool(p < 0.05)
    return listed


def both(entry: dict, what: str) -> float:
    """The mean over the two arenas."""
    seen = [entry[one][what] for one in ARENAS]
    return sum(getattr(value, "mean", value) for value in seen) / len(seen)


def cost(entry: dict) -> float:
    """Seconds of training over the baseline's, to a tenth: two runs of one recipe differ by a few hundredths."""
    return round(both(entry, "seconds"), 1)


def ahead(entry: dict, arena: str) -> bool:
    return entry[arena]["clear"] and entry[arena]["gap"].mean > 0


def page(profile: str, chapters: list[str], folder: Path) -> str:
    """The figure, the findings in words, the table and the file."""
    listed = entries(profile, chapters)
    if not listed:
        return EMPTY
    others = [entry for entry in listed if entry["technique"] != BASELINE]
    picture(draw, listed, folder / "_static" / "benchmark.svg")
    picture(draw_costs, listed, folder / "_static" / "benchmark_cost.svg")
    rows = write(profile, chapters, folder / "_static" / "results.csv")
    alt = ("Every technique as a dot: across, its difference to logit adjustment on the digits; upwards, on the "
           f"garments. {words(others)}")
    meanings = "".join(f"<dt><code>{name}</code></dt><dd>{escape(text)}</dd>" for name, text in DICTIONARY.items())
    return "\n\n".join([
        f'<figure><img src="../_static/benchmark.svg" alt="{escape(alt)}"></figure>',
        f'<p class="where">{edge(listed)}</p>', words(others), families(others),
        "## What a gain costs", costs(listed),
        "## Every technique", table(listed), budgets(),
        f'<p><a href="../_static/results.csv" download>All {rows:,} numbers as one file</a>, a row a number:</p>'
        f"<dl>{meanings}</dl>"])


def edge(listed: list[dict]) -> str:
    """How to read the figure, and what lies outside it, with its numbers."""
    from helpers.results import shown

    last = sorted((entry for entry in listed if any(100 * entry[one]["gap"].mean < EDGE for one in ARENAS)),
                  key=lambda entry: both(entry, "gap"))
    both_gaps = [" and ".join(shown(entry[one]["gap"].mean, "+%") for one in ARENAS) for entry in last]
    told = "; ".join(f"{escape(entry['technique'])} {gaps}" for entry, gaps in zip(last, both_gaps, strict=True))
    outside = f" A triangle lies outside, some at one place, on the digits and on the garments: {told}."
    return "A hollow dot is clear of zero in neither arena, after Holm." + outside * bool(last)


def words(listed: list[dict]) -> str:
    """What the comparison says, in sentences that are computed."""
    from helpers.results import shown

    parts = [f"Beside the plain baseline {len(listed)} techniques ran in both arenas, under one name and with a "
             "learning rate of their own."]
    for one, name in ARENAS.items():
        better = [entry["technique"] for entry in listed if ahead(entry, one)]
        worse = sum(entry[one]["clear"] and entry[one]["gap"].mean < 0 for entry in listed)
        named = f" ({', '.join(better)})" if 0 < len(better) <= 8 else ""
        parts.append(f"On the {name}, {len(better) or 'none'}{named} {'is' if len(better) < 2 else 'are'} clearly "
                     f"above the free correction after Holm, and {worse or 'none'} clearly below.")
    rank, low, high = rank_correlation(listed)
    parts.append(f"Does one arena predict the other? The rank correlation of the techniques is {shown(rank, '')} "
                 f"(95 % interval {shown(low, '')} to {shown(high, '')}).")
    return " ".join(parts)


def rank_correlation(listed: list[dict]) -> tuple[float, float, float]:
    """Spearman's coefficient of the techniques' gains in the two arenas, with Fisher's 95 % interval."""
    import numpy as np
    from scipy.stats import spearmanr

    gains = [[entry[one]["gap"].mean for entry in listed] for one in ARENAS]
    if len(listed) < 4:
        return float("nan"), float("nan"), float("nan")
    rank = float(spearmanr(*gains).statistic)
    half = 1.96 * np.sqrt((1 + rank**2 / 2) / (len(listed) - 3))  # Bonett and Wright (2000)
    ends = np.tanh(np.arctanh(np.clip(rank, -0.9999, 0.9999)) + np.array([-half, half]))
    return rank, float(ends[0]), float(ends[1])


YARDSTICK = {"technique": REFERENCE} | {one: {"gap": 0.0, "seconds": 1.0} for one in ARENAS}


def front(listed: list[dict]) -> list[dict]:
    """What nothing else beats at its cost or below it, cheapest first (the Pareto front), the yardstick among them."""
    kept: list[dict] = []
    for entry in sorted([YARDSTICK, *listed], key=lambda entry: (cost(entry), -both(entry, "gap"))):
        if not kept or both(entry, "gap") > both(kept[-1], "gap"):
            kept.append(entry)
    return kept


def costs(listed: list[dict]) -> str:
    """The figure of cost against gain, and its front in words."""
    from helpers.results import shown

    named = "; ".join(f"{escape(entry['technique'])} ({cost(entry):g} times, "
                      f"{shown(both(entry, 'gap'), '+%')})" for entry in front(listed))
    last = ("Nothing that costs more gives more." if front(listed)[-1] is YARDSTICK else
            f"They were picked from {len(listed)}, so the last of them look better than they are.")
    said = (f"Cost is the time of training over that of the baseline, second models included. From the "
            f"cheapest on, these give more than everything that costs less: {named}. {last}")
    if min(100 * both(entry, "gap") for entry in listed) < EDGE:
        said += f" A triangle lies below {shown(EDGE, '')} points."
    alt = f"Every technique as a dot: its cost across, its mean gain over logit adjustment upwards. {said}"
    return f'<figure><img src="../_static/benchmark_cost.svg" alt="{alt}"></figure>\n\n<p>{said}</p>'


def families(listed: list[dict]) -> str:
    """A row a part of the book: how many techniques, their middle, the best one, and what head and tail get."""
    from statistics import median

    from helpers.results import shown

    rows = []
    for family in dict.fromkeys(entry["family"] for entry in listed):
        own = sorted((entry for entry in listed if entry["family"] == family), key=lambda entry: both(entry, "gap"))
        best, middle = own[-1], median(both(entry, "gap") for entry in own)
        rows.append([escape(family.replace("_", " ").capitalize()), str(len(own)), shown(middle, "+%"),
                     f"{recorded.link(best['chapter'], best['technique'])} {shown(both(best, 'gap'), '+%')}",
                     *(shown(median(both(entry, part) for entry in own), "+%") for part in ("head recall",
                                                                                           "tail recall"))])
    head = ["part", "techniques", "median", "the best, picked afterwards", "head recall", "tail recall"]
    return recorded.wide("Parts of the book", head, rows) + (
        "\n\n<p class=\"where\">Points of balanced accuracy above logit adjustment, mean of both arenas; head and tail "
        "recall against the plain baseline, median of the part. A best that was picked from many looks better than it "
        "is.</p>")


def table(listed: list[dict]) -> str:
    """A row a technique; a script on the page lets you sort and filter it."""
    from helpers.results import shown

    rows = []
    for entry in sorted(listed, key=lambda entry: -both(entry, "gap")):
        cells = [f"{entry[one]['gap']:+%}{'*' * entry[one]['clear']}" for one in ARENAS]
        also = f"<small>also: {escape(', '.join(entry['also']))}</small>" if entry["also"] else ""
        rows.append([recorded.link(entry["chapter"], entry["technique"]) + also,
                     escape(entry["family"].replace("_", " ")), *cells, shown(both(entry, "gap"), "+%"),
                     shown(both(entry, "head recall"), "+%"),
                     shown(both(entry, "tail recall"), "+%"), shown(both(entry, "ECE"), "+%"),
                     f"{cost(entry):.1f}"])
    head = ["technique", "part", *ARENAS.values(), "mean", "head recall", "tail recall", "ECE", "cost"]
    return recorded.wide("Every technique", head, rows, "sortable") + (
        '\n\n<p class="where">Digits, garments and their mean: balanced accuracy minus that of logit adjustment, in '
        "points, ± half of the paired 95 % interval; * clear of zero after Holm within the arena. Head recall, tail "
        "recall, ECE: minus the plain baseline. Cost: seconds of training over those of the baseline.</p>")


def budgets() -> str:
    """What each technique adds at other numbers of steps: a run that takes long, recorded once.

    Nothing while ``book/other_budgets.csv`` is not there: a line that says when and where, then rows of results, whose
    data set is the number of steps.
    """
    import pandas as pd

    from helpers import results as read
    from helpers.results import CEILING, shown

    path = catalogue.ROOT / "book" / "other_budgets.csv"
    if not path.is_file():
        return ""
    with path.open(encoding="utf-8") as file:
        said = file.readline().removeprefix("#").strip()
        rows = pd.read_csv(file, dtype={"class": str}).fillna({"class": ""})
    sets = sorted(rows.dataset.unique(), key=lambda name: int(name.split()[0]))
    names = [name for name in rows.technique.unique() if name not in (REFERENCE, CEILING)]
    gaps = {one: [read.difference(rows, name, REFERENCE, MEASURE, dataset=one) for name in names] for one in sets}
    means = pd.DataFrame({one: [gap.mean for gap in gaps[one]] for one in sets})
    agreed = means.corr("spearman").iloc[0, -1]
    own = {one: read.difference(rows, REFERENCE, BASELINE, MEASURE, dataset=one) for one in sets}

    def above(reference: str, one: str) -> str:
        rivals = [name for name in names if name != reference]
        found = read.clearly_ahead(rows, rivals, reference, MEASURE, [one])
        return ", ".join(escape(name) for name, _ in found) or "none"

    ends = [(one, above(BASELINE, one), above(REFERENCE, one)) for one in (sets[0], sets[-1])]
    words = (f"The ranks of the {len(names)} at {sets[0]} and at {sets[-1]} correlate by {shown(agreed, '')}. "
             + " ".join(f"At {one} the free correction adds {own[one]:+%} to the baseline; of the others, clearly "
                        f"above the baseline after Holm: {better}; clearly above the correction: {best}."
                        for one, better, best in ends))
    cells = [[escape(name), *(f"{gaps[one][place]:+%}" for one in sets)] for place, name in enumerate(names)]
    return (f"## Other numbers of steps\n\nDoes the ranking belong to its budget? {words}\n\n"
            + recorded.wide("Other numbers of steps", ["technique", *sets], cells)
            + f'\n\n<p class="where">Garments: balanced accuracy minus that of logit adjustment, in points, ± half of '
              f"the paired 95 % interval; each rate is chosen at its own number of steps. {escape(said)}</p>")


def picture(draw_on, listed: list[dict], target: Path) -> None:
    """A figure of all techniques, each part of the book in its colour, as a file."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    target.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "book", "font.family": "DejaVu Sans", "font.size": 9,
                         "figure.constrained_layout.use": True}):
        figure, ax = plt.subplots(figsize=(7.5, 5.2))
        parts = list(dict.fromkeys(entry["family"] for entry in listed))
        inks = {family: COLOURS[place % len(COLOURS)] for place, family in enumerate(parts)}
        for family, ink in inks.items():
            ax.plot([], [], "o", color=ink, label=family.replace("_", " "))
        draw_on(ax, listed, inks)
        ax.axhline(0, color="#333", linewidth=0.8)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        ax.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(1.0, 0.0))
        figure.savefig(target, transparent=True, metadata={"Date": None, "Creator": None})
        plt.close(figure)


def draw(ax, listed: list[dict], inks: dict[str, str]) -> None:
    """Digits across, garments upwards; filled where a technique is clear of zero in one or both, after Holm."""
    def place(entry):
        return [max(100 * entry[one]["gap"].mean, EDGE) for one in ARENAS]

    for entry in listed:
        (x, y), ink = place(entry), inks[entry["family"]]
        clear = any(entry[one]["clear"] for one in ARENAS)
        ax.plot(x, y, "v" if y == EDGE else "<" if x == EDGE else "o", color=ink, markersize=6,
                markerfacecolor=ink if clear else "white", clip_on=False)
    best = sorted(listed, key=lambda entry: -both(entry, "gap"))[:5]
    name_dots(ax, [(entry["technique"], place(entry)) for entry in best])
    ax.axvline(0, color="#333", linewidth=0.8)
    ax.set(xlabel=f"digits: {MEASURE} minus {REFERENCE} (points)", ylabel="garments: the same")


def draw_costs(ax, listed: list[dict], inks: dict[str, str]) -> None:
    """Cost across, gain upwards, and the front as a line."""
    for entry in listed:
        gain = max(100 * both(entry, "gap"), EDGE)
        ax.plot(both(entry, "seconds"), gain, "v" if gain == EDGE else "o", color=inks[entry["family"]], markersize=5,
                clip_on=False)
    best = front(listed)
    at = [(both(entry, "seconds"), 100 * both(entry, "gap")) for entry in best]
    ax.step(*zip(*at, strict=True), where="post", color="#333", linewidth=0.8, linestyle=":")
    name_dots(ax, [(entry["technique"], place) for entry, place in zip(best[::-1], at[::-1], strict=True)])
    ax.set_xscale("log")
    dearest = max(cost(entry) for entry in listed)
    ax.set_xticks(ticks := [tick for tick in (0.5, 1, 2, 4, 8, 16) if tick <= 2 * dearest], map(str, ticks))
    ax.minorticks_off()
    ax.set(xlabel="seconds of training over the baseline's",
           ylabel=f"{MEASURE} minus {REFERENCE}, mean of both arenas (points)")


def name_dots(ax, dots: list[tuple[str, tuple[float, float]]]) -> None:
    """Names in a column on the right, from the top, each with a line to its dot: dots that lie close keep theirs."""
    for place, (name, at) in enumerate(sorted(dots, key=lambda dot: -dot[1][1])):
        ax.annotate(name, at, xytext=(1.02, 0.97 - 0.05 * place), textcoords="axes fraction", fontsize=7, va="center",
                    arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": "#888", "relpos": (0, 0.5)})


def write(profile: str, chapters: list[str], target: Path) -> int:
    """Every overall number of every chapter that has results, as one file; returns how many."""
    import pandas as pd

    tables = [recorded.results(chapter, profile).assign(chapter=chapter) for chapter in chapters
              if recorded.is_real(recorded.facts(chapter, profile))]
    whole = pd.concat(tables, ignore_index=True)
    whole = whole[whole["class"] == ""][list(DICTIONARY)]
    target.parent.mkdir(parents=True, exist_ok=True)
    whole.to_csv(target, index=False, float_format="%.5g")
    return len(whole)
