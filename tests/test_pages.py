"""The built pages in a real browser: no request leaves the site, nothing overflows, the parts that move do move."""

import functools
import http.server
import os
import shutil
import threading
from pathlib import Path

import bookmaker
import pytest

SITE = bookmaker.ROOT / "build" / "html"
BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
PAGES = [f"book/{path.stem}.html" for path in sorted((bookmaker.ROOT / "book").glob("*.md"))]
PAGES += [f"notebooks/{chapter}.html" for chapter in bookmaker.in_order()]
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


@pytest.fixture
def visit(site, chromium):
    """Open a page, watch what it asks for and what it complains about."""
    contexts = []

    def visit(page, width=1280, scheme="light"):
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        contexts.append(context)
        tab = context.new_page()
        tab.requests, tab.complaints = [], []
        tab.on("request", lambda request: tab.requests.append(request.url))
        tab.on("console", lambda message: message.type == "error" and tab.complaints.append(message.text))
        tab.on("response", lambda got: got.status >= 400 and tab.complaints.append(f"{got.status} {got.url}"))
        tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
        tab.goto(site + page, wait_until="networkidle")
        return tab

    yield visit
    for context in contexts:
        context.close()


@pytest.mark.parametrize("page", [*PAGES, "index.html", "search.html?q=tail"])
def test_a_page_asks_for_nothing_outside_the_site_and_complains_of_nothing(visit, site, page):
    tab = visit(page)
    assert [url for url in tab.requests if not url.startswith((site, "data:", "blob:"))] == []
    assert tab.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_no_page_is_wider_than_the_window(visit, width, scheme):
    for page in PAGES:
        tab = visit(page, width, scheme)
        assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, page


def test_every_image_has_alt_text_and_is_there(visit):
    for page in PAGES:
        images = visit(page).evaluate("[...document.images].map(i => [i.src, i.alt, i.naturalWidth])")
        assert [image for image in images if not image[1] or not image[2]] == [], page


def test_formulas_are_typeset(visit):
    tab = visit(CHAPTER)
    tab.wait_for_selector("mjx-container", timeout=20_000)
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


def test_pages_are_light():
    sizes = {path: path.stat().st_size for path in Path(SITE).rglob("*.html")}
    assert max(sizes.values()) < 2_000_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit, scheme):
    from axe_playwright_python.base import AXE_SCRIPT

    for page in PAGES:
        tab = visit(page, scheme=scheme)
        tab.evaluate(AXE_SCRIPT)
        found = [one for one in tab.evaluate("axe.run()")["violations"] if one["impact"] in ("serious", "critical")]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found] == [], page
