"""Figures with sliders: the grid is what the chapter computed, the picture is its start, the keyboard moves them."""

import base64
import io
import json
import re

import catalogue
import numpy as np
import pytest
from matplotlib import pyplot as plt
from test_pages import BROWSER, CONTRAST, THE_REST, chromium, serious  # noqa: F401  a fixture

from helpers.widgets import LARGEST, Widget, bars, blend, counts, lines, slider

STATIC = catalogue.ROOT / "book" / "_static"
X, Y = np.arange(4)[:, None], np.arange(2)[None]  # the places of two sliders


def widget():
    """Every kind of panel over two sliders; value = 10 x + y wherever a number stands for its place."""
    value = 10 * X + Y
    return Widget(
        "A trial", [slider("x", [0, 0.25, 0.5, 1], start=1), slider("y", ["one", "two"], start=1, choice=True)],
        [bars("bars", ["a", "b"], {"now": np.stack([value, value + 1], -1), "then": np.stack([0 * value, value], -1)}),
         lines("along", X + 0 * Y, {"u": value / 7, "v": value / 3.0}),
         lines("whole", [0.0, 1.0, 2.0], {"w": value[..., None] * np.ones(3)}, mark=X / 2 + 0 * Y),
         counts("counts", ["r", "s"], ["p", "q"], value[..., None, None] + np.array([[0, 100], [200, 1000]])),
         blend("blend", [np.zeros((4, 4)), np.ones((4, 4))], ["white", "black"], X / 3 + 0 * Y)],
        {"place": value, "word": np.array([["<b>", "b"], ["c", "d"], ["e", "f"], ["g", "h"]])}, "Made up & <short>.")


def test_the_last_slider_moves_fastest_and_the_alt_text_is_the_start():
    made = widget()
    assert made.numbers["place"] == ["0", "1", "10", "11", "20", "21", "30", "31"]
    assert repr(made) == "A trial, at x 0.25, y two: place 11; word d"
    assert [panel["kind"] for panel in made.panels] == ["bars", "lines", "lines", "counts", "blend"]
    assert made.panels[3]["values"][3] == [[11, 111], [211, 1011]]


def test_the_grid_can_be_read_back_and_holds_no_markup():
    page = widget()._repr_html_()
    (grid,) = re.findall(r'<script type="application/json">(.*?)</script>', page)
    assert "<" not in grid
    assert json.loads(grid)["numbers"]["word"][0] == "<b>"
    assert "Made up &amp; &lt;short&gt;." in page


def test_the_picture_is_there_without_scripts():
    (address,) = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="A trial, at', widget()._repr_html_())
    assert min(plt.imread(io.BytesIO(base64.b64decode(address))).shape[:2]) > 200


def test_what_is_not_a_number_is_left_out_and_the_axis_does_not_mind():
    made = Widget("A gap", [slider("x", [0, 1, 2])], [lines("t", [0, 1, 2], {"u": [0.5, np.nan, 1.5]})])
    assert made.panels[0]["series"]["u"] == [0.5, None, 1.5]
    assert made.panels[0]["ylim"] == [0.5, 1.5]
    assert "NaN" not in made.grid


def test_an_array_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"A slip, u: the shape \(3, 4\) does not begin with the sliders' \(4,\)"):
        Widget("A slip", [slider("x", range(4))], [bars("t", "abcd", {"u": np.zeros((3, 4))})])


def test_a_grid_too_large_for_a_page_is_refused():
    wide = np.random.default_rng(0).random((4, LARGEST // 20))
    with pytest.raises(ValueError, match="bytes; 100,000 are allowed"):
        Widget("A flood", [slider("x", range(4))], [bars("t", ["n"] * wide.shape[1], {"u": wide})])


def test_the_script_is_short_and_asks_for_nothing():
    script = (STATIC / "widgets.js").read_text(encoding="utf-8")
    assert len(script.splitlines()) <= 200
    assert not re.search(r"\b(fetch|import|XMLHttpRequest|eval)\b|https?://(?!www\.w3\.org)", script)


PAGE = """<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>A trial</title>
<style>html {{ --pst-color-background: #fff; --pst-color-text-base: #222832; }}
html[data-theme="dark"] {{ --pst-color-background: #14181e; --pst-color-text-base: #ced6dd; }}
body {{ background: var(--pst-color-background); color: var(--pst-color-text-base); }}</style>
<link rel="stylesheet" href="{static}/custom.css"><script src="{static}/widgets.js"></script></head>
<body><main class="bd-article"><h1>A trial</h1>{figure}</main></body></html>"""


@pytest.fixture
def opened(tmp_path, request):
    """The widget on a page of its own, opened from a file; `opened(javaScriptEnabled=False)` and the like."""
    if not BROWSER:
        pytest.skip("needs Chromium: install it, or name it in $CHROMIUM")
    browser = request.getfixturevalue("chromium")
    page = tmp_path / "page.html"
    page.write_text(PAGE.format(static=STATIC.as_uri(), figure=widget()._repr_html_()), encoding="utf-8")
    contexts = []

    def opened(**options):
        contexts.append(browser.new_context(viewport={"width": 900, "height": 900}, **options))
        tab = contexts[-1].new_page()
        tab.complaints = []
        tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
        tab.on("console", lambda said: said.type == "error" and tab.complaints.append(said.text))
        tab.goto(page.as_uri())
        return tab

    yield opened
    for context in contexts:
        context.close()


def told(tab):
    return tab.locator(".widget-numbers").inner_text().split()


@pytest.mark.slow
def test_the_keyboard_moves_every_panel(opened):
    tab = opened()
    assert told(tab) == ["place", "11", "word", "d"]
    assert not tab.locator("figure.widget > img").is_visible()
    before = [box.inner_html() for box in tab.locator(".widget-body").all()]
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.type") == "range"
    tab.keyboard.press("ArrowRight")
    assert told(tab) == ["place", "21", "word", "f"]
    assert tab.locator("output").inner_text() == "0.5"
    assert tab.locator("input[type=range]").get_attribute("aria-valuetext") == "0.5"
    after = [box.inner_html() for box in tab.locator(".widget-body").all()]
    assert [one != other for one, other in zip(before, after, strict=True)] == [True] * 5
    tab.keyboard.press("Tab")
    tab.keyboard.press("ArrowUp")
    assert told(tab) == ["place", "20", "word", "e"]
    tab.keyboard.press("Shift+Tab")
    tab.keyboard.press("End")
    assert told(tab) == ["place", "30", "word", "g"]
    assert tab.complaints == []


@pytest.mark.slow
def test_what_is_drawn_is_what_the_grid_says(opened):
    tab = opened()
    assert tab.locator(".widget-counts td").all_inner_texts() == ["", "11", "111", "211", "1,011"]
    assert tab.locator(".widget-bars svg").get_attribute("aria-label") == "bars: a 11, b 12"
    bar = tab.locator(".widget-bars .ink rect[height='12']")
    widths = [float(one.get_attribute("width")) for one in bar.all()]
    assert widths[1] / widths[0] == pytest.approx(12 / 11)
    assert tab.locator(".widget-blend image").nth(2).get_attribute("opacity") == str(1 - 0.3333)
    curve = tab.locator(".widget-lines polyline").first.get_attribute("points").split()
    dot = tab.locator(".widget-lines circle").first
    at = [float(dot.get_attribute(name)) for name in ("cx", "cy")]
    assert len(curve) == 4 and at == pytest.approx([float(n) for n in curve[1].split(",")], abs=0.06)


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_has_nothing_to_say(opened, theme):
    tab = opened()
    tab.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
    assert serious(tab, THE_REST) == []
    assert serious(tab, CONTRAST) == []


@pytest.mark.slow
def test_on_paper_and_without_scripts_the_picture_stands(opened):
    tab = opened()
    tab.emulate_media(media="print")
    assert tab.locator("figure.widget > img").is_visible() and not tab.locator(".widget-live").is_visible()
    still = opened(java_script_enabled=False)
    assert still.locator("figure.widget > img").is_visible() and still.locator(".widget-live").count() == 0
    assert still.locator("figcaption").inner_text() == "Made up & <short>."


@pytest.mark.slow
def test_it_fits_a_phone(opened):
    tab = opened()
    tab.set_viewport_size({"width": 360, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
