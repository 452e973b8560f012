"""The decision guide: what to do first, for each kind of data, number of rare samples, change and aim; from results."""

import json

import benchmark
import recorded
from catalogue import escape

# What you are paid for: the metric, and whether more is better.
AIMS = {
    "each class counts the same": ("balanced accuracy", True),
    "a ranking": ("PR-AUC", True),
    "few false alarms": ("recall at 99 % precision", True),
    "probabilities": ("ECE", False),
}
# How many samples of the rarest class there are to train on: from, and below.
COUNTS = {"a handful (below 10)": (0, 10), "dozens (10 to 99)": (10, 100), "hundreds or more": (100, float("inf"))}
HANDFUL, DOZENS, HUNDREDS = COUNTS
CHANGES = {"only the threshold": "threshold", "the sampler or the loss": "training", "the data": "data",
           "the model or its schedule": "model"}
# Images: what a part of the book changes. Elsewhere: what a technique changes, by its name.
# A name with one of these is of two changes at once, which no single row may take the credit for.
TWO_CHANGES = (" + ", "logit adjustment,", "oversampling,", "dynamic sampling,", "meta images")
PARTS = {"resampling": "training", "losses": "training", "hard_examples": "training", "augmentation": "data",
         "generative": "data", "two_stages": "model"}
TEXTS = {"class weights": "training", "random oversampling": "training", "random undersampling": "training",
         "near-duplicate undersampling": "training"}
GRAPHS = {"random oversampling": "training", "class weights": "training", "class-balanced loss": "training",
          "embedding SMOTE": "data"}
# One data set each, so one number of rare samples; a test looks at the data.
IMAGES = ("images", DOZENS)
ELSEWHERE = {("text", HUNDREDS): (("text/augmentation", "text/copies"), TEXTS, "data"),
             ("a graph", HUNDREDS): (("graphs/rare_pages",), GRAPHS, "model")}
# Tables: the plain model has its threshold from validation rows, as all have; some metrics are others.
TABLES = "tables/ensembles"
RARE = "rare training rows"
TREES = {"threshold from validation": "threshold",
         **dict.fromkeys(("XGBoost + weights", "XGBoost, focal", "XGBoost + oversampling", "XGBoost + SMOTE",
                          "XGBoost + undersampling"), "training")}
THEIR_AIMS = AIMS | {"few false alarms": ("recall at 80 % precision", True), "probabilities": ("Brier score", False)}
# With a handful: methods that need no label, and an ordinary model, against boosted trees with the same eight labels.
FEW = "tables/one_class"
FEW_PLAIN = "XGBoost, 8 labelled"
FEW_TRIED = ("logistic regression, 8 labelled", "one-class SVM", "Isolation Forest", "Deep SVDD", "autoencoder")
FEW_AIMS = {"a ranking": ("PR-AUC", True), "few false alarms": ("recall at 5 % false alarms", True)}
THRESHOLD = "logit adjustment"
NOTHING = "nothing is clear of the baseline after Holm"
# What needs no comparison: of two classes, a threshold leaves the order as it is.
OF_TWO = ("text", "a table")
NO_RANKING = ("a threshold changes no ranking of two classes; choose it on validation for the precision that you need "
              '(<a href="../notebooks/foundations/metrics_and_thresholds.html">Metrics and thresholds</a>)')
EMPTY = "*Here stands the guide. This is a preview without results: `make book` makes it.*"


def cells(profile: str, chapters: list[str]) -> dict[tuple[str, str, str, str], str]:
    """An answer, as HTML, for each kind of data, number, change and aim; those without evidence are missing."""
    found = images(profile, chapters)
    for data, (some, kinds, rest) in ELSEWHERE.items():
        there = [one for one in some if one in chapters and recorded.is_real(recorded.facts(one, profile))]
        for aim, (metric, more) in AIMS.items():
            gaps = {}
            for chapter in there:
                table = recorded.at_home(chapter, profile)
                gaps |= {name: [(chapter, gap)] for name, gap in to_baseline(table, metric, more).items()
                         if name not in gaps}
            found |= answers(data, aim, gaps, lambda name: kinds.get(name, rest))  # noqa: B023
    for chapter, read in ((FEW, few), (TABLES, tables)):
        if chapter in chapters and recorded.is_real(recorded.facts(chapter, profile)):
            found |= read(recorded.results(chapter, profile))
    return found


def tables(results) -> dict[tuple[str, str, str, str], str]:
    """The same for tables, where each table counts once, and boosted trees are the baseline.

    Those with dozens and those with hundreds of rare rows are asked apart. Each are few; where nothing is clear among
    them, but something is over all, that is the answer, and it says so.
    """
    rare = results[results.metric == RARE].groupby("dataset").value.first()
    whole, found = of_tables(results, "all"), {}
    for count, (low, high) in COUNTS.items():
        own = results[results.dataset.isin(rare[(rare >= low) & (rare < high)].index)]
        for (kind, _, *rest), answer in of_tables(own, count).items():
            over_all = whole[kind, "all", *rest]
            other = answer.startswith(NOTHING) and not over_all.startswith(NOTHING)
            found[kind, count, *rest] = f"{over_all}<small>over all {len(rare)} tables</small>" if other else answer
    return found


def of_tables(results, count: str) -> dict[tuple[str, str, str, str], str]:
    """The answers from some tables."""
    from helpers.cases import over_tables

    half, found = "balanced accuracy at one half", {}
    names = {half: "baseline", "balanced accuracy": "threshold from validation"}
    over = over_tables(results).replace({"technique": {"XGBoost": "baseline"}})
    plain = over[(over.technique == "baseline") & over.metric.isin(list(names))]
    moved = plain.assign(technique=plain.metric.map(names), metric="balanced accuracy")
    for aim, (metric, more) in THEIR_AIMS.items():
        gaps = to_baseline(over, metric, more) | to_baseline(moved, metric, more)
        found |= answers(("a table", count), aim, {name: [(TABLES, gap)] for name, gap in gaps.items()},
                         lambda name: TREES.get(name, "model"))
    return found


def few(results) -> dict[tuple[str, str, str, str], str]:
    """The same for a table with eight labelled rare rows."""
    from helpers.cases import over_tables

    over = over_tables(results[results.technique.isin([FEW_PLAIN, *FEW_TRIED])])
    over, found = over.replace({"technique": {FEW_PLAIN: "baseline"}}), {}
    for aim, (metric, more) in FEW_AIMS.items():
        gaps = {name: [(FEW, gap)] for name, gap in to_baseline(over, metric, more).items()}
        found |= answers(("a table", HANDFUL), aim, gaps, lambda name: "model")
    return found


def images(profile: str, chapters: list[str]) -> dict[tuple[str, str, str, str], str]:
    """The same for images, where a technique has to show itself in both arenas."""
    found, places = {}, {}
    for aim, (metric, more) in AIMS.items():
        gaps: dict[str, list] = {}
        for chapter in chapters:
            if chapter.split("/")[0] not in PARTS or not recorded.is_real(recorded.facts(chapter, profile)):
                continue
            table = recorded.results(chapter, profile)
            per = [to_baseline(table[(table.dataset == one) & (table.protocol == "fair")], metric, more)
                   for one in benchmark.ARENAS]
            for name in per[0]:
                if name in per[1] and name not in gaps:
                    gaps[name], places[name] = [(chapter, one[name]) for one in per], chapter
        found |= answers(IMAGES, aim, gaps, lambda name: changed(name, places[name]))
    return found


def changed(name: str, chapter: str) -> str | None:
    """What a technique on images changes; None where it is two things, such as an augmentation and the threshold."""
    if name == "logit adjustment, own τ":
        return "threshold"
    return None if any(word in name for word in TWO_CHANGES) else PARTS[chapter.split("/")[0]]


def to_baseline(table, metric: str, more: bool) -> dict:
    """Each technique's paired gain over the baseline; a fall of what is better when small is a gain."""
    from helpers.results import CEILING

    found = recorded.gaps(table, "baseline", metric, more)
    found.pop(CEILING, None)
    return found


def answers(data: tuple[str, str], aim: str, gaps: dict[str, list], kind) -> dict[tuple[str, str, str, str], str]:
    """For each kind of change the best technique that is clear of zero, after Holm among those of its kind, or none."""
    from helpers import metrics

    found = {}
    for change, what in CHANGES.items():
        own = [name for name in gaps if (kind(name) if name != THRESHOLD else "threshold") == what]
        if not own:
            continue
        flat = [(name, gap) for name in own for _, gap in gaps[name]]
        clear: dict[str, list[bool]] = {}
        for (name, gap), p in zip(flat, metrics.holm([gap.p for _, gap in flat]), strict=True):
            clear.setdefault(name, []).append(bool(p < 0.05 and gap.mean > 0))
        ranked = sorted(own, key=lambda name: -sum(gap.mean for _, gap in gaps[name]))
        first = next((name for name in ranked if all(clear[name])), None)
        said = told(first or ranked[0], gaps)
        if not first:
            said = f"{NOTHING}; nearest is {said}"
        found[*data, change, aim] = said + (f"<small>{len(own)} tried</small>" if len(own) > 1 else "")
    return found


def told(name: str, gaps: dict[str, list]) -> str:
    numbers = ", ".join(f"{gap:+%}" for _, gap in gaps[name])
    return f"{recorded.link(gaps[name][0][0], name)} {numbers}"


def page(profile: str, chapters: list[str]) -> str:
    """Four choices that lead to an answer, and below them the whole table, which needs no script."""
    found = cells(profile, chapters)
    if not found:
        return EMPTY
    kinds = list(dict.fromkeys(place[:2] for place in found))
    known = {(*kind, "only the threshold", aim): NO_RANKING for kind in kinds if kind[0] in OF_TWO
             for aim in ("a ranking", "few false alarms")} | found
    rows = [[escape(f"{', '.join(kind)}: {change}"),
             *(known.get((*kind, change, aim), "<em>no evidence in this book</em>") for aim in AIMS)]
            for kind in kinds for change in CHANGES if any(place[:3] == (*kind, change) for place in known)]
    data = list(dict.fromkeys(kind for kind, _ in kinds))
    asked = [("Your data", data), ("Of the rarest class you have", list(COUNTS)), ("You may change", list(CHANGES)),
             ("You are paid for", list(AIMS))]
    first = next(iter(found))  # what the page opens on has an answer
    options = {name: "".join(f"<option{' selected' * (one in first)}>{escape(one)}</option>" for one in some)
               for name, some in asked}
    fields = "".join(f"<label>{name} <select>{some}</select></label>" for name, some in options.items())
    answered = json.dumps({"|".join(place): answer for place, answer in known.items()}, ensure_ascii=False)
    answered = answered.replace("<", "\\u003c")
    total = len(data) * len(COUNTS) * len(CHANGES) * len(AIMS)
    return "\n\n".join([
        f'<form class="guide" hidden>{fields}<output aria-live="polite"></output>'
        f'<script type="application/json">{answered}</script></form>',
        f"<p>{len(found)} of {total} cells rest on a comparison in this book. The table leaves out the rest: "
        f"{missing(kinds)}.</p>",
        recorded.wide("The guide", ["data, rare samples, and what you may change", *AIMS], rows, "words")])


def missing(kinds: list[tuple[str, str]]) -> str:
    """In words: the kinds of data and numbers of rare samples that nothing here was measured on."""
    data = dict.fromkeys(kind for kind, _ in kinds)
    none = {kind: [count for count in COUNTS if (kind, count) not in kinds] for kind in data}
    return "; ".join(f"{escape(kind)} with {' or with '.join(map(escape, counts))}"
                     for kind, counts in none.items() if counts)
