"""Published tables, each beside its reproduction under the source's protocol and ours under the fair one."""

import ast
import functools

import catalogue
import pairs
import recorded
from catalogue import escape

# Published metrics that we measure in another way, because the published way is an error.
OURS = {"recall of the last 500": "recall"}


@functools.cache
def calls() -> list[tuple[str, str, dict]]:
    """Each chapter's own calls of `published_and_reproduced`: table, chapter, and the keywords."""
    return [(ast.literal_eval(node.args[1]), chapter, {given.arg: given.value for given in node.keywords})
            for chapter in catalogue.in_order() for node in ast.walk(ast.parse(catalogue.text(chapter)))
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("published_and_reproduced")]


@functools.cache
def reproductions() -> dict[str, dict[str, dict]]:
    """By table and chapter: the names that the chapter joins."""
    found = {}
    for table, chapter, given in calls():
        names = ast.literal_eval(given["names"]) if "names" in given else {}
        found.setdefault(table, {}).setdefault(chapter, {}).update(names)
    return found


@functools.cache
def rows_of(table: str, chapter: str, profile: str):
    """A chapter's results at home; on the one data set alone that its call spells out, if it does."""
    found = recorded.at_home(chapter, profile)
    for name, where, given in calls():
        if (name, where) == (table, chapter) and isinstance(given.get("dataset"), ast.Constant):
            return found[found.dataset == given["dataset"].value]
    return found


def ours(table: str, technique: str, metric: str, label: str, protocol: str, profile: str):
    """What we have for a published number: chapter and mean with its interval, from the first chapter that has it."""
    from helpers import results as read

    for chapter, names in reproductions()[table].items():
        if not catalogue.results_path(chapter, profile, ".csv").is_file():
            continue
        try:
            return chapter, read.mean(rows_of(table, chapter, profile), names.get(technique, technique),
                                      OURS.get(metric, metric), label=label, protocol=protocol)
        except KeyError:
            continue
    return None, None


def interval(found) -> str:
    """Mean ± half of the 95 % interval, as the chapter has it, its range and the number of seeds."""
    if found is None:
        return "–"
    spread = f"{100 * min(found.seen):.1f} to {100 * max(found.seen):.1f}, " if found.n > 1 else ""
    return f"{found:%} <small>{spread}{found.seeds}</small>"


def published_table(table: str, profile: str) -> str:
    """A published table, its reproduction under the source's protocol and ours under the fair one."""
    from helpers import results as read

    printed = read.published(table)
    overall = printed[printed["class"] == ""]
    several = overall.metric.nunique() > 1
    rows, used = [], {}
    for row in overall.itertuples():
        there, source = ours(table, row.technique, row.metric, "", "source", profile)
        _, fair = ours(table, row.technique, row.metric, "", "fair", profile)
        used.update({there: None} if there else {})
        gap = "–" if source is None else f"{100 * source.mean - row.value:+z.1f}".replace("-", "−")
        name = escape(row.technique) + (f", {escape(row.metric)}" if several else "")
        rows.append([name, f"{row.value:.1f}", interval(source), gap, interval(fair)])
    metric = "%" if several else f"{overall.metric.iloc[0]}, %"
    head = [escape(metric), "published, 1 seed", "reproduced, source protocol", "difference", "ours, fair protocol"]
    parts = [recorded.wide(f"Table {table}", head, rows)]
    parts += [per_class(table, metric, group, profile) for metric, group in
              printed[printed["class"] != ""].groupby("metric", sort=False)]
    return "\n\n".join([*parts, where(table, list(used) or list(reproductions()[table]), profile)])


def per_class(table: str, metric: str, printed, profile: str) -> str:
    """The per-class numbers, folded away."""
    labels, rows = list(printed["class"].unique()), []
    for technique, group in printed.groupby("technique", sort=False):
        theirs = group.set_index("class").value
        whose = "" if "derived by us" in technique else ", published"
        rows.append([f"{escape(technique)}{whose}", *(f"{theirs[label]:.1f}" for label in labels)])
        for protocol in ("source", "fair"):
            means = [ours(table, technique, metric, label, protocol, profile)[1] for label in labels]
            if None not in means:
                rows.append([f"{escape(technique)}, {protocol} protocol", *(f"{100 * one.mean:.1f}" for one in means)])
    measure = f"{metric} (ours: {OURS[metric]} over the whole test set)" if metric in OURS else metric
    head = [f"{escape(metric)}, %", *map(escape, labels)]
    return (f"<details><summary>By class: {escape(measure)}</summary>\n"
            + recorded.wide(f"Table {table} by class, {metric}", head, rows) + "</details>")


def where(table: str, chapters: list[str], profile: str) -> str:
    """Which chapters ran it, and with what share of the source's budget."""
    told = []
    for chapter in chapters:
        steps, whole = (pairs.parameter(chapter, name, "SOURCE_STEPS") for name in (profile, "full"))
        share = f", with {steps / whole:.0%} of the source's training steps" if steps and steps < whole else ""
        told.append(recorded.link(chapter, recorded.short(chapter), "#published-and-reproduced") + share)
    return f'<p class="where">Reproduced in {" and in ".join(told)}.</p>'
