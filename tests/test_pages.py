"""The built pages in a real browser: no request leaves the site, nothing overflows, the parts that move do move."""

import functools
import http.server
import os
import shutil
import threading
from pathlib import Path

import catalogue
import pytest

SITE = catalogue.ROOT / "build" / "html"
BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
PAGES = [f"book/{path.stem}.html" for path in sorted((catalogue.ROOT / "book").glob("*.md"))]
PAGES += [f"notebooks/{chapter}.html" for chapter in catalogue.in_order()]
CHAPTER = next(page for page in PAGES if page.startswith("notebooks/"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (SITE / "index.html").is_file(), reason="needs the pages: `make preview` builds them"),
    pytest.mark.skipif(not BROWSER, reason="needs Chromium: install it, or name it in $CHROMIUM"),
]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(SITE))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    quiet = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=quiet)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def visit(site, chromium):
    """Open a page, watch what it asks for and what it complains about; one tab, used again and again."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab = context.new_page()
    tab.requests, tab.complaints, tab.untouched = [], [], None
    tab.on("request", lambda request: tab.requests.append(request.url))
    tab.on("console", lambda message: message.type == "error" and tab.complaints.append(message.text))
    tab.on("response", lambda got: got.status >= 400 and tab.complaints.append(f"{got.status} {got.url}"))
    tab.on("pageerror", lambda error: tab.complaints.append(str(error)))

    def visit(page, again=True):
        tab.set_viewport_size({"width": 1280, "height": 900})
        if tab.untouched == page and not again:
            return tab
        tab.untouched = None if again else page
        tab.requests.clear()
        tab.complaints.clear()
        tab.goto(site + page, wait_until="load")
        tab.wait_for_function("!document.querySelector('.math') || document.querySelector('mjx-container')")
        tab.wait_for_load_state("networkidle")
        return tab

    yield visit
    context.close()


def every(pages):
    """One page after the other, so that tests which leave it as it is need to open it once."""
    return pytest.mark.parametrize("page", pages, scope="module")


CONTRAST = {"runOnly": ["color-contrast"]}
THE_REST = {"rules": {"color-contrast": {"enabled": False}}}


def serious(tab, options: dict, code: bool = True) -> list[tuple[str, str]]:
    """What axe calls serious or critical; without the code, whose colours are the same on every page, it is quicker."""
    from axe_playwright_python.base import AXE_SCRIPT

    tab.evaluate("source => { if (!window.axe) { (0, eval)(source); } }", AXE_SCRIPT)
    context = {"include": [["html"]]} | ({} if code else {"exclude": [["div.highlight pre"]]})
    options = {"resultTypes": ["violations"], "preload": False, **options}
    found = tab.evaluate("([context, options]) => axe.run(context, options)", [context, options])["violations"]
    return [(one["id"], one["nodes"][0]["html"][:300]) for one in found if one["impact"] in ("serious", "critical")]


@every([*PAGES, "index.html", "search.html?q=tail"])
def test_a_page_in_light_and_dark_wide_and_narrow(visit, site, page):
    tab = visit(page, again=False)
    images = tab.evaluate("[...document.images].map(i => [i.src, i.alt, i.complete && i.naturalWidth > 0])")
    assert [image for image in images if not image[1] or not image[2]] == [], "an image without alt text, or broken"
    outside = [url for url in tab.requests if not url.startswith((site, "data:", "blob:"))]
    assert outside == [], "a request leaves the site"
    assert tab.complaints == []
    assert page not in PAGES or serious(tab, THE_REST) == []
    for scheme in ("light", "dark"):
        tab.evaluate("scheme => { document.documentElement.dataset.theme = scheme; }", scheme)
        tab.set_viewport_size({"width": 1280, "height": 900})
        if page in PAGES:
            assert serious(tab, CONTRAST, code=page == CHAPTER) == [], scheme
        for width in (1280, 390):
            tab.set_viewport_size({"width": width, "height": 900})
            assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, f"overflow at {width} px"
    tab.set_viewport_size({"width": 1280, "height": 900})
    wide = "all => all.filter(e => e.scrollWidth > e.clientWidth + 1).length"
    assert tab.locator("div.cell_input pre").evaluate_all(wide) == 0, "code that does not fit at 1280 px"


# Of each table that shows: how far it sticks out of the text, how much of it is hidden, and whether a reader sees that.
TABLES = """() => {
  const text = document.querySelector('.bd-article').getBoundingClientRect();
  return [...document.querySelectorAll('.bd-article table')].filter(t => t.checkVisibility()).map(table => {
    let place = table.parentElement;
    const inside = () => place.matches('.bd-article *');
    while (inside() && !/auto|scroll/.test(getComputedStyle(place).overflowX)) place = place.parentElement;
    const scrolls = inside(), box = (scrolls ? place : table).getBoundingClientRect();
    return {
      what: table.innerText.slice(0, 60), out: box.right - text.right,
      hidden: scrolls ? place.scrollWidth - place.clientWidth : 0,
      hint: getComputedStyle(place).maskImage != 'none', keys: place.tabIndex == 0,
    };
  });
}"""


def cut(tables: list[dict]) -> list[str]:
    """The tables that a reader of a wide window does not see whole."""
    return [table["what"] for table in tables if table["out"] > 1 or table["hidden"] > 1]


def lost(tables: list[dict]) -> list[str]:
    """The tables of which a part is out of sight with no sign of it, or out of the keyboard's reach."""
    return [table["what"] for table in tables
            if table["out"] > 1 or (table["hidden"] > 1 and not (table["hint"] and table["keys"]))]


@every(PAGES)
def test_no_table_is_cut_on_a_wide_page_and_on_a_phone_it_shows_that_it_scrolls(visit, page):
    tab = visit(page, again=False)
    assert cut(tab.evaluate(TABLES)) == []
    tab.set_viewport_size({"width": 390, "height": 900})
    tab.wait_for_timeout(100)  # the fading edge is set by an observer
    assert lost(tab.evaluate(TABLES)) == []


def test_a_table_that_is_too_wide_would_be_found(visit):
    tab = visit(CHAPTER)
    row = "<td>" + "</td><td>".join(["a wide cell of many words"] * 30) + "</td>"
    style = "<style>.trial td { white-space: nowrap }</style>"
    for around in ("<div>{}</div>", "<div style='overflow-x: auto'>{}</div>"):
        whole = style + around.format(f"<table class='trial'><tr>{row}</tr></table>")
        tab.evaluate("whole => document.querySelector('.bd-article').insertAdjacentHTML('afterbegin', whole)", whole)
        found = tab.evaluate(TABLES)
        assert len(cut(found)) == len(lost(found)) == 1
        tab.evaluate("document.querySelector('.trial').parentElement.remove()")


def test_formulas_are_typeset(visit):
    tab = visit(CHAPTER)
    assert tab.locator("mjx-container").count() > 0
    assert tab.locator("mjx-merror").count() == 0


def test_search_finds_a_term(visit):
    tab = visit("search.html?q=oversampling")
    tab.wait_for_selector("#search-results li a", timeout=20_000)
    assert tab.locator("#search-results li a").count() > 0


def test_set_up_cells_unfold_and_code_can_be_copied(visit):
    tab = visit(CHAPTER)
    folded = tab.locator("div.cell details").first
    assert folded.get_attribute("open") is None
    folded.locator("summary").click()
    assert folded.get_attribute("open") is not None
    block = tab.locator("div.cell_input div.highlight").nth(1)
    block.hover()
    block.locator("button.copybtn").click()
    assert tab.evaluate("navigator.clipboard.readText()").strip() in block.inner_text().replace("\xa0", " ").strip()


def test_the_theme_switch_and_the_arrows_work(visit):
    tab = visit(CHAPTER)
    before = tab.evaluate("document.documentElement.dataset.theme")
    for _ in range(2):
        tab.locator("button.theme-switch-button:visible").first.click()
    assert before in ("light", "dark")
    assert tab.evaluate("document.documentElement.dataset.mode") != "auto"
    tab.locator("a.right-next").click()
    tab.wait_for_load_state()
    tab.locator("a.left-prev").click()
    tab.wait_for_load_state()
    assert tab.url.endswith(CHAPTER)


def test_headings_can_be_linked_to(visit, site):
    tab = visit(CHAPTER)
    anchor = tab.locator("h2 a.headerlink").nth(2).get_attribute("href")
    tab.goto(f"{site}{CHAPTER}{anchor}")
    tab.wait_for_timeout(1500)  # the page scrolls smoothly
    assert 0 <= tab.evaluate("a => document.querySelector(a).getBoundingClientRect().top", anchor) < 300


def test_a_chapter_can_be_downloaded_opened_in_colab_and_edited(visit, site):
    tab = visit(CHAPTER)
    address, name = catalogue.address(), CHAPTER.removesuffix(".html")
    links = {link.get_attribute("href") for link in tab.locator(".header-article a, .bd-header-article a").all()}
    repository = address.removeprefix("https://github.com/")
    assert f"https://colab.research.google.com/github/{repository}/blob/main/{name}.ipynb" in links
    assert f"{address}/edit/main/{name}.py" in links
    assert address in links, "the repository"
    issue = f"{address}/issues/new?title=Issue%20on%20page%20%2F{name}.html"
    assert any(link and link.startswith(issue) for link in links), "an issue about this page"
    (download,) = [link for link in links if link and link.endswith(".ipynb") and not link.startswith("http")]
    got = tab.request.get(f"{site}{CHAPTER.rsplit('/', 1)[0]}/{download}")
    assert got.ok
    assert got.json()["nbformat"] == 4


def test_the_keyboard_skips_to_the_text_and_unfolds_a_cell(visit):
    tab = visit(CHAPTER)
    tab.keyboard.press("Tab")
    assert "skip" in tab.evaluate("document.activeElement.innerText").lower()
    folded = tab.locator("div.cell details summary").first
    folded.focus()
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.parentElement.open")


def test_the_first_page_leads_to_every_chapter(visit, site):
    tab = visit("book/index.html")
    cells = tab.locator("table.chapters tbody td:first-child a").all()
    wanted = [f"{site}notebooks/{chapter}.html" for chapter in catalogue.in_order()]
    assert [cell.evaluate("a => a.href") for cell in cells] == wanted
    shown = tab.locator("img.gains").evaluate_all("all => all.map(i => getComputedStyle(i).display != 'none')")
    assert sum(shown) in (0, 1), "one figure, in the colours of the page; none in a preview"


def test_an_erratum_has_an_address_and_its_links_lead_somewhere(visit, site):
    tab = visit("book/errata.html")
    assert tab.locator("#e1").count() == 1
    links = tab.evaluate("[...document.querySelectorAll('section dl a')].map(a => a.href)")
    inside = {link for link in links if link.startswith(site)}
    assert len(inside) > 5
    for link in inside:
        file, _, anchor = link.removeprefix(site).partition("#")
        assert f'id="{anchor}"' in (SITE / file).read_text(encoding="utf-8"), link
    outside = set(links) - inside
    assert outside
    assert all(link.startswith(f"{catalogue.address()}/blob/main/tests/") for link in outside)


WIDGETS = {f"notebooks/{chapter}.html": count for chapter in catalogue.in_order()
           if (count := catalogue.text(chapter).count("\nWidget("))}


@pytest.mark.parametrize("page", WIDGETS)
def test_a_chapters_sliders_move_by_keyboard(visit, page):
    tab = visit(page)
    figures = tab.locator("figure.widget.widget-moves")
    assert figures.count() == WIDGETS[page]
    for figure in figures.all():
        for slider in figure.locator("input[type=range]").all():
            before = figure.locator(".widget-panels").inner_html()
            slider.focus()
            tab.keyboard.press("End")
            last = figure.locator(".widget-panels").inner_html()
            tab.keyboard.press("Home")
            assert len({before, last, figure.locator(".widget-panels").inner_html()}) > 1
            assert slider.get_attribute("aria-valuetext")
    assert tab.complaints == []


def test_pages_are_light():
    sizes = {path: path.stat().st_size for path in Path(SITE).rglob("*.html")}
    assert max(sizes.values()) < 2_000_000
