"""The figure of the first page: what each technique adds to its chapter's baseline."""

from pathlib import Path

import recorded
from catalogue import escape

# What a chapter measures its techniques by, where that is not balanced accuracy: whoever searches for a rare class
# needs the right order; where the line is drawn is another question.
METRICS = {"text/copies": "PR-AUC", "text/augmentation": "PR-AUC"}
FLOOR = -16  # points: what is worse is drawn at the edge, so that a training that failed does not hide the others
STRONG = {"random oversampling": ("s", "#0072B2", "#56B4E9"), "logit adjustment": ("D", "#B84A00", "#F0A35E")}


def gains(profile: str, chapters: list[str]) -> dict:
    """Each technique's paired gain over its chapter's baseline, in the chapter's metric.

    A chapter without a "baseline" compares models and not remedies; it has no place in the figure. Nor have the parts
    that compare networks, or show how to use the book.
    """
    found = {}
    for chapter in chapters:
        if chapter.split("/")[0] in recorded.NO_REMEDIES or not recorded.is_real(recorded.facts(chapter, profile)):
            continue
        if over := recorded.gaps(recorded.at_home(chapter, profile), "baseline", measure(chapter)):
            found[chapter] = over
    return found


def measure(chapter: str) -> str:
    """The metric of a chapter's gains."""
    return METRICS.get(chapter, "balanced accuracy")


def draw_gains(found: dict, target: Path, dark: bool) -> None:
    """One band a chapter, one dot a technique, with its interval; best, worst and the strong baselines stand out."""
    import matplotlib as mpl
    import numpy as np
    from matplotlib import pyplot as plt

    ink, soft, plain = ("#dfe6ea", "#3b454d", "#93a4ae") if dark else ("#222222", "#d5dde2", "#7a8790")
    style = {"text.color": ink, "axes.labelcolor": ink, "xtick.color": ink, "axes.edgecolor": soft,
             "svg.hashsalt": "book", "font.family": "DejaVu Sans", "font.size": 9, "axes.grid": False,
             "figure.constrained_layout.use": True}
    with mpl.rc_context(style):
        figure, ax = plt.subplots(figsize=(4.4, 0.7 + 0.74 * len(found)))
        for band, (chapter, values) in enumerate(found.items()):
            ranked = sorted((name for name in values if name not in STRONG), key=lambda name: values[name].mean)
            for place, name in enumerate(ranked):
                height = band + 0.16 + 0.28 * (place % 5 - 2) / 2
                gap = values[name]
                clear = gap.low > 0 or gap.high < 0
                outside = 100 * gap.mean < FLOOR
                if not outside:
                    ax.plot([100 * gap.low, 100 * gap.high], [height] * 2, color=plain, linewidth=0.8, alpha=0.55,
                            zorder=1)
                ax.plot(max(100 * gap.mean, FLOOR), height, "<" if outside else "o", markersize=4, color=plain,
                        zorder=5 if name in (ranked[0], ranked[-1]) else 2, markerfacecolor=plain if clear else "none")
                if name in (ranked[0], ranked[-1]):
                    best = name == ranked[-1]
                    end = FLOOR if outside else 100 * (gap.high if best else gap.low)
                    away = f" {100 * gap.mean:+.0f}".replace("-", "−") if outside else ""
                    ax.annotate(name + away, (max(end, FLOOR), height), fontsize=6.5, va="center", zorder=5,
                                xytext=(4 if best or outside else -4, 0), textcoords="offset points",
                                ha="left" if best or outside else "right")
            for name, (marker, light, pale) in STRONG.items():
                if name in values:
                    colour, gap = pale if dark else light, values[name]
                    ax.plot([100 * gap.low, 100 * gap.high], [band + 0.16] * 2, color=colour, linewidth=2, zorder=3)
                    ax.plot(100 * gap.mean, band + 0.16, marker, markersize=7, color=colour, zorder=4,
                            label=name.removeprefix("random ") if band == 0 else None)
            name = recorded.short(chapter) + (f" ({METRICS[chapter]})" if chapter in METRICS else "")
            ax.text(0, band - 0.36, name, transform=ax.get_yaxis_transform(), fontsize=9,
                    va="center", fontweight="bold")
        for band in range(1, len(found)):
            ax.axhline(band - 0.5, color=soft, linewidth=0.8)
        for band in range(len(found)):
            ax.plot([0, 0], [band - 0.22, band + 0.5], color=ink, linewidth=1, zorder=1)  # not through the names
        ax.plot([], [], "o", markersize=4, color=plain, label="any other technique")
        ax.set(ylim=(len(found) - 0.5, -0.5), yticks=[],
               xlabel="balanced accuracy (or as named) minus baseline (points)")
        for side in ("top", "right", "left"):
            ax.spines[side].set_visible(False)
        means = [100 * gap.mean for values in found.values() for gap in values.values()]
        low, high = max(np.nanmin(means), FLOOR), np.nanmax(means)
        ax.set_xlim(low - 0.06 * (high - low), high + 0.52 * (high - low))
        figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=8, handletextpad=0.3,
                      columnspacing=1.2)
        figure.savefig(target, transparent=True, bbox_inches="tight", pad_inches=0.02,  # no name is cut
                       metadata={"Date": None, "Creator": None})
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
        told.append(f"{recorded.short(chapter)}, {measure(chapter)}: {', '.join(said)}")
        if "random oversampling" in values:
            others = [name for name in values if name != "random oversampling"]
            over = recorded.gaps(recorded.at_home(chapter, profile), "random oversampling", measure(chapter))
            tried += len(others)
            beaten += sum(bool(over[name].low > 0) for name in others)
    count = sum(len(values) for values in found.values())
    alt = "Paired gains over the baseline, in points with 95 percent intervals. " + "; ".join(told)
    images = "".join(f'<img class="gains {kind}" src="../_static/gains-{name}.svg" alt="{escape(alt)}">'
                     for kind, name in (("only-light", "light"), ("only-dark", "dark")))
    drawn = (f"All {count} techniques of {len(found)} chapters, none left out: what each adds to its chapter's "
             "baseline under the fair protocol. Bars are 95 % intervals over paired seeds; a hollow dot's interval "
             "holds zero, and an arrow lies outside.")
    listed = (f"Of {count} techniques of {len(found)} chapters the best and the last of each: what they add to "
              "their chapter's baseline under the fair protocol, ± half of the 95 % interval over paired seeds.")
    both = (f"{tried} of all stand beside plain random oversampling: {beaten or 'none'} of these "
            f"{'is' if beaten < 2 else 'are'} distinguishably better than it, where chance alone would make about "
            f"{0.025 * tried:.0f} look so.")
    caption = (f'<span class="gains-drawn">{escape(drawn)}</span><span class="gains-listed">{escape(listed)}</span> '
               f"{escape(both)}")
    # in a div, because the theme hides a caption that stands beside a hidden image
    return (f'<figure class="gains-figure"><div>{images}</div>{in_words(found)}'
            f"<figcaption>{caption}</figcaption></figure>")


def in_words(found: dict) -> str:
    """What stands out in the figure, as a table: on a phone its letters would be too small."""
    rows = []
    for chapter, values in found.items():
        ranked = sorted((name for name in values if name not in STRONG), key=lambda name: -values[name].mean)
        cells = ["<br>".join(f"{escape(name)} <b>{values[name]:+%}</b>" for name in names if name in values)
                 for names in (ranked[:1] + ranked[1:][-1:], STRONG)]
        metric = "" if measure(chapter) == "balanced accuracy" else f"<small>{escape(measure(chapter))}</small>"
        rows.append([recorded.link(chapter, recorded.short(chapter)) + metric, *cells])
    head = ["points above the baseline", "the best and the last", "strong baselines"]
    return f'<div class="gains-table">{recorded.wide("The figure in words", head, rows)}</div>'
