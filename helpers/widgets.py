"""Figures with a slider: a picture that stands alone, and beside it the grid from which a script on the page moves it.

A chapter computes every state beforehand. In the book ``widgets.js`` draws them; in Colab, on paper and without scripts
the picture of the first state stands there.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator

from helpers import plots

LARGEST = 100_000  # bytes of a grid
_INKS = (plots.colour("random oversampling"), "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#8C6D1F")


def slider(name: str, values: Sequence, start: int = 0, choice: bool = False) -> dict:
    """One axis of a grid: name, values as they are shown, the place to begin at. A list, not a slider, if `choice`.

    Examples
    --------
    >>> slider("τ", [0, 0.5, 1], start=2)
    {'name': 'τ', 'values': ['0', '0.5', '1'], 'start': 2, 'choice': False}
    """
    shown = [value if isinstance(value, str) else f"{value:.3g}" for value in values]
    return {"name": name, "values": shown, "start": start, "choice": choice}


def bars(title: str, names: Sequence[str], series: Mapping[str, object], top: float = 100) -> dict:
    """Lying bars, a name each. The first series is drawn as bars, a second one as marks across them.

    Parameters
    ----------
    series : mapping
        Values of the shape (places of each slider …, names).
    top : float
        Where the axis ends; it begins at 0.
    """
    return {"kind": "bars", "title": title, "names": list(names), "series": dict(series), "top": top}


def lines(title: str, x, series: Mapping[str, object], *, xlabel: str = "", mark=None,
          ticks: Sequence[tuple[float, str]] = (), limits: tuple | None = None,
          inks: Mapping[str, str] | None = None) -> dict:
    """Curves. Without a `mark` they run along the first slider, and a dot shows where it stands.

    Parameters
    ----------
    x : array
        Without a mark, of the sliders' shape; with one, the points of every curve.
    series : mapping
        Without a mark, values of the sliders' shape; with one, of the shape (places of each slider …, points).
    mark : array, optional
        Of the sliders' shape: where a vertical line stands, while each place has curves of its own.
    ticks : sequence of (float, str), optional
        Of the horizontal axis, if they are not to be its numbers: where that is a logarithm, say.
    limits : (float, float), optional
        Of the vertical axis.
    inks : mapping, optional
        A colour a curve.
    """
    inks = inks or dict(zip(series, _INKS, strict=False))
    return {"kind": "lines", "title": title, "x": x, "series": dict(series), "xlabel": xlabel, "mark": mark,
            "inks": [inks[name] for name in series], "ticks": [list(tick) for tick in ticks], "limits": limits}


def counts(title: str, rows: Sequence[str], columns: Sequence[str], values) -> dict:
    """Counts by row and column; `values` of the shape (places of each slider …, rows, columns)."""
    return {"kind": "counts", "title": title, "rows": list(rows), "columns": list(columns), "values": values}


def blend(title: str, images: Sequence, names: Sequence[str], share) -> dict:
    """Two grey images (0 to 1) and their mix, of which `share` is the first; `share` of the sliders' shape."""
    return {"kind": "blend", "title": title, "images": [_png(image) for image in images], "names": list(names),
            "share": share}


class Widget:
    """A figure with sliders, for the last line of a cell.

    Parameters
    ----------
    label : str
        What it is, in a few words; the beginning of its alt text.
    sliders : sequence of dict
        Made by `slider`; the grid has their lengths as its first axes.
    panels : sequence of dict
        Made by `bars`, `lines`, `counts` or `blend`.
    numbers : mapping, optional
        What is told in words: values of the sliders' shape, or strings.
    about : str, optional
        What it was computed from; stands below.

    Raises
    ------
    ValueError
        If an array does not have the sliders' shape, or the grid is too large for a page.
    """

    def __init__(self, label: str, sliders: Sequence[dict], panels: Sequence[dict],
                 numbers: Mapping[str, object] | None = None, about: str = ""):
        self.label, self.about = label, about
        self.shape = tuple(len(one["values"]) for one in sliders)
        self.sliders, self.start = list(sliders), np.ravel_multi_index([one["start"] for one in sliders], self.shape)
        self.panels = [self._flat(panel) for panel in panels]
        self.numbers = {name: [value if isinstance(value, str) else f"{value:.3g}"
                               for value in self._rows(values, name)] for name, values in (numbers or {}).items()}
        self.grid = json.dumps({"label": label, "sliders": self.sliders, "panels": self.panels,
                                "numbers": self.numbers}, ensure_ascii=False).replace("<", "\\u003c")
        if (size := len(self.grid.encode())) > LARGEST:
            raise ValueError(f"{label}: a grid of {size:,} bytes; {LARGEST:,} are allowed: take fewer places")

    def _rows(self, values, what: str) -> list:
        """Values by place, the sliders' axes made one; four digits are enough for a picture."""
        values = np.asarray(values)
        if values.shape[:len(self.shape)] != self.shape:
            raise ValueError(f"{self.label}, {what}: the shape {values.shape} does not begin with the sliders' "
                             f"{self.shape}")
        return _rounded(values.reshape(-1, *values.shape[len(self.shape):]))

    def _flat(self, panel: dict) -> dict:
        """A panel as the page reads it: plain lists by place, and where its axes begin, end and have their ticks."""
        panel = dict(panel)
        for key in ("values", "share"):
            if key in panel:
                panel[key] = self._rows(panel[key], panel["title"])
        if "series" in panel:
            panel["series"] = {name: self._rows(values, name) for name, values in panel["series"].items()}
        if panel["kind"] == "lines":
            whole = panel["mark"] is not None
            panel["x"] = _rounded(np.asarray(panel["x"])) if whole else self._rows(panel["x"], panel["title"])
            panel["mark"] = self._rows(panel["mark"], panel["title"]) if whole else None
            low, high = panel.pop("limits") or _ends(list(panel["series"].values()))
            panel["ylim"], panel["xlim"] = [low, high], list(_ends(panel["x"]))
            panel["yticks"] = [[at, f"{at:.3g}"] for at in _between(low, high)]
            panel["xticks"] = panel.pop("ticks") or [[at, f"{at:.3g}"] for at in _between(*panel["xlim"])]
        return panel

    def __repr__(self) -> str:
        """What the picture shows, in words: its alt text."""
        places = np.unravel_index(self.start, self.shape)
        at = ", ".join(f"{one['name']} {one['values'][place]}" for one, place in zip(self.sliders, places, strict=True))
        told = "; ".join(f"{name} {values[self.start]}" for name, values in self.numbers.items())
        return f"{self.label}, at {at}{': ' if told else ''}{told}"

    def _repr_html_(self) -> str:
        return (f'<figure class="widget"><img src="{self.picture()}" alt="{html.escape(repr(self))}">'
                f"<figcaption>{html.escape(self.about)}</figcaption>"
                f'<script type="application/json">{self.grid}</script></figure>')

    def picture(self) -> str:
        """The first state, drawn once, as the address of an image."""
        figure, axes = plt.subplots(1, len(self.panels), figsize=(7.5, 2.9), squeeze=False)
        kinds = {"bars": _draw_bars, "lines": self._draw_lines, "counts": _draw_counts, "blend": _draw_blend}
        for ax, panel in zip(axes[0], self.panels, strict=True):
            kinds[panel["kind"]](ax, panel, self.start)
            ax.set_title(panel["title"], fontsize=9)
            ax.tick_params(labelsize=8)
        figure.suptitle(repr(self).removeprefix(f"{self.label}, at "), fontsize=9, x=0.01, ha="left")
        file = io.BytesIO()
        figure.savefig(file, format="png", metadata={"Software": None})
        plt.close(figure)
        return _address(file.getvalue())

    def _draw_lines(self, ax, panel, place):
        along = np.arange(np.prod(self.shape)).reshape(self.shape[0], -1)
        own = along[:, place % along.shape[1]]
        for ink, (name, values) in zip(panel["inks"], panel["series"].items(), strict=True):
            if panel["mark"] is None:
                ax.plot([panel["x"][one] for one in own], [values[one] for one in own], color=ink, label=name)
                ax.plot(panel["x"][place], values[place], "o", color=ink)
            else:
                ax.plot(panel["x"], values[place], color=ink, label=name)
        if panel["mark"] is not None:
            ax.axvline(panel["mark"][place], color="#333", linestyle=":")
        ax.set(xlim=panel["xlim"], ylim=panel["ylim"], xlabel=panel["xlabel"])
        ax.set_xticks([at for at, _ in panel["xticks"]], [name for _, name in panel["xticks"]])
        if len(panel["series"]) > 1:
            ax.legend(fontsize=7)


def _draw_bars(ax, panel, place):
    rows = np.arange(len(panel["names"]))
    for number, (name, values) in enumerate(panel["series"].items()):
        if number == 0:
            ax.barh(rows, values[place], color=_INKS[0], label=name)
        else:
            ax.plot(values[place], rows, "|", color="#333", markersize=10, markeredgewidth=2, label=name)
    ax.set(xlim=(0, panel["top"]), yticks=rows)
    ax.set_yticklabels(panel["names"])
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    if len(panel["series"]) > 1:
        ax.legend(fontsize=7, loc="lower left", bbox_to_anchor=(0, -0.3), ncols=2)


def _draw_counts(ax, panel, place):
    ax.axis("off")
    drawn = ax.table([[f"{value:,}" for value in row] for row in panel["values"][place]], rowLabels=panel["rows"],
                     colLabels=panel["columns"], loc="center", cellLoc="center", bbox=(0.45, 0.2, 0.55, 0.6))
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8)


def _draw_blend(ax, panel, place):
    one, other = (plt.imread(io.BytesIO(base64.b64decode(image.split(",")[1])))[..., 0] for image in panel["images"])
    share = panel["share"][place]
    ax.imshow(share * one + (1 - share) * other, cmap="gray", vmin=0, vmax=1)
    ax.axis("off")


def _rounded(values: np.ndarray) -> list:
    """Lists with four digits a number; what is not finite is None."""
    if values.dtype.kind != "f":
        return values.tolist()
    flat = [float(f"{value:.4g}") if np.isfinite(value) else None for value in values.ravel()]
    return np.array(flat, dtype=object).reshape(values.shape).tolist()


def _ends(values) -> tuple[float, float]:
    """The smallest and the largest number of nested lists."""
    flat = np.array(values, dtype=float).ravel()
    return float(np.nanmin(flat)), float(np.nanmax(flat))


def _between(low: float, high: float) -> list[float]:
    """A few round numbers of an axis."""
    return [float(at) for at in MaxNLocator(5).tick_values(low, high) if low <= at <= high]


def _png(image) -> str:
    """A grey image, dark ink on white, as an address."""
    file = io.BytesIO()
    plt.imsave(file, 1 - np.asarray(image, dtype=float).squeeze(), cmap="gray", vmin=0, vmax=1, format="png",
               metadata={"Software": None})
    return _address(file.getvalue())


def _address(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
