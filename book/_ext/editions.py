"""The book in one file, an EPUB and a PDF, from the pages that were staged last; and a check of their links outside.

Both need Chromium: it prints the PDF, and has MathJax write the formulas of the EPUB as MathML.
"""

import contextlib
import html
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import catalogue
from catalogue import Trouble

NAME = "learning-from-imbalanced-data"
MATH = re.compile(r'<(span|div) class="math[^"]*"[^>]*>(.*?)</\1>', re.DOTALL)
INSIDE = re.compile(r'(?<=href=")(?!\w+:)([^"#]*)\.html(#[^"]*)?(?=")')
REFUSED = re.compile(r"(401|403|418|429|999) ")  # a site that lets no robot in is no dead link
EPUB = {"html_js_files": [], "html_css_files": [], "epub_css_files": ["epub.css"], "html_static_path": ["book/_static"],
        "epub_show_urls": "no", "epub_exclude_files": ["search.xhtml", "genindex.xhtml", "py-modindex.xhtml"],
        "epub_basename": NAME, "epub_tocdepth": 2, "epub_tocscope": "includehidden", "epub_use_index": False}
PRINT = """() => {
  const places = new Map([...document.querySelectorAll('[id]')].map(node => [node.id, node]));
  for (const link of document.querySelectorAll('a[href*=".html"]')) {
    const found = link.getAttribute('href').match(/^(?!\\w+:)(?:.*\\/)?([^/#]+)\\.html(?:#(.*))?$/);
    if (!found) continue;
    const page = [...places.keys()].find(id => id.startsWith('document-') && id.endsWith('/' + found[1]));
    const place = found[2] && places.has(found[2]) ? found[2] : page;
    if (place) link.setAttribute('href', '#' + place); else link.removeAttribute('href');
  }
  for (const fold of document.querySelectorAll('details')) fold.open = true;
  const chapters = [...document.querySelectorAll('[id^="document-"]')].map(door => door.nextElementSibling);
  const list = document.createElement('ol');
  for (const chapter of chapters) {
    const line = document.createElement('li'), link = document.createElement('a');
    const words = chapter.querySelector('h1, h2, h3').cloneNode(true);
    words.querySelectorAll('.headerlink').forEach(node => node.remove());
    chapter.classList.add('print-chapter');
    link.href = '#' + chapter.id;
    link.textContent = words.textContent;
    line.append(link);
    list.append(line);
  }
  list.className = 'print-contents';
  document.querySelector('.bd-article h1').after(list);
}"""
PAPER = ".print-chapter { break-before: page } .print-contents { break-after: page; font-size: 11pt; line-height: 1.7 }"


def sphinx(builder: str, settings: dict, log: Path, keep: bool = False) -> Path:
    """The staged pages by another builder, with some settings of Sphinx's changed; returns the folder that it fills."""
    folder = catalogue.build_folder()
    stage, log = folder / "stage", log.with_suffix(f".{builder}.log")
    if not (stage / "_config.yml").is_file():
        raise Trouble("there are no pages yet: `make book`, or `make preview`, lays them out")
    config = catalogue.read_yaml(stage / "_config.yml")
    config["sphinx"]["config"] |= settings
    config["launch_buttons"] = {}
    config["html"] = {name: value for name, value in config["html"].items() if not name.startswith("use_")}
    (stage / f"{builder}.yml").write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    made = folder / "sphinx" / "_build" / builder
    shutil.rmtree(made, ignore_errors=True)
    which = ["--builder", "custom", "--custom-builder", builder]
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", *which, "--config",
               str(stage / f"{builder}.yml"), "--path-output", str(folder / "sphinx"), str(stage)]
    with log.open("w", encoding="utf-8") as out:
        code = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, check=False, cwd=catalogue.ROOT).returncode
    if code and not keep:
        raise Trouble(f"{builder} failed: see {log}")
    return made


@contextlib.contextmanager
def browser():
    """An empty page of Chromium."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(
        shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not path:
        raise Trouble("this needs Chromium: install it, or name it in $CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield chromium.new_page()
        chromium.close()


def target(suffix: str) -> Path:
    folder = catalogue.build_folder() / "editions"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{NAME}{suffix}"


def pdf(log: Path) -> Path:
    """Print all pages, one after the other; folds are open, links lead to places in the file."""
    whole = sphinx("singlehtml", {"html_js_files": []}, log)
    page = whole / "whole.html"  # what it names lies beside it, and not beside the first page
    text = (whole / "book" / "index.html").read_text(encoding="utf-8")
    page.write_text(text.replace('="../_static/', '="_static/'), encoding="utf-8")
    with browser() as tab:
        tab.set_default_timeout(600_000)  # a thousand formulas, maybe on a busy machine
        tab.goto(page.as_uri(), wait_until="load")
        tab.evaluate("() => MathJax.startup.promise")
        tab.evaluate(PRINT)
        tab.add_style_tag(content=PAPER)
        tab.evaluate("document.documentElement.dataset.theme = 'light'")
        number = '<div style="font-size: 8px; width: 100%; text-align: center"><span class="pageNumber"></span></div>'
        tab.pdf(path=target(".pdf"), format="A4", print_background=True, outline=True, tagged=True,
                display_header_footer=True, header_template="<span></span>", footer_template=number,
                margin={"top": "18mm", "bottom": "18mm", "left": "16mm", "right": "16mm"})
    return target(".pdf")


def epub(log: Path) -> Path:
    """Pack the pages for a reader: well-formed, without scripts, formulas as MathML, folds open."""
    told = catalogue.read_yaml(catalogue.ROOT / "_config.yml")
    what = {"epub_title": told["title"], "epub_description": told["title"], "epub_contributor": told["author"],
            "epub_identifier": catalogue.address(), "epub_scheme": "URL", "epub_uid": "address",
            "version": told["copyright"]}
    made = sphinx("epub", EPUB | what, log) / f"{NAME}.epub"
    with zipfile.ZipFile(made) as box:
        files = {entry.filename: box.read(entry) for entry in box.infolist()}
    pages = {name: files[name].decode() for name in files if name.endswith(".xhtml")}
    known = in_mathml(sorted({formula(match) for text in pages.values() for match in MATH.finditer(text)}))
    for name, text in pages.items():
        files[name] = for_readers(text, known, name).encode()
    with_math = [name for name in pages if b"<math" in files[name]]
    files["content.opf"] = declare_math(files["content.opf"].decode(), with_math).encode()
    with zipfile.ZipFile(target(".epub"), "w", zipfile.ZIP_DEFLATED) as box:
        box.writestr("mimetype", files.pop("mimetype"), zipfile.ZIP_STORED)  # first and as it is: a reader looks there
        for name, content in files.items():
            box.writestr(name, content)
    return target(".epub")


def formula(match) -> tuple[str, bool]:
    """The TeX of a formula, and whether it stands alone."""
    tex = html.unescape(re.sub(r"<[^>]+>", "", match[2])).strip()
    return re.sub(r"^\\[(\[]|\\[)\]]$", "", tex).strip(), match[1] == "div"


def in_mathml(formulas: list[tuple[str, bool]]) -> dict[tuple[str, bool], str]:
    """Each formula in MathML, by the MathJax that the site carries."""
    script = catalogue.build_folder() / "stage" / "vendored" / "mathjax" / "tex-chtml.js"
    door = script.with_name("door.html")
    door.write_text('<!DOCTYPE html><script src="tex-chtml.js"></script>', encoding="utf-8")
    with browser() as tab:
        tab.goto(door.as_uri(), wait_until="load")
        tab.evaluate("() => MathJax.startup.promise")
        call = "all => Promise.all(all.map(([tex, display]) => MathJax.tex2mmlPromise(tex, {display})))"
        return dict(zip(formulas, tab.evaluate(call, [list(one) for one in formulas]), strict=True))


def for_readers(text: str, known: dict, name: str) -> str:
    """One page of the EPUB."""
    from bs4 import BeautifulSoup

    text = INSIDE.sub(r"\1.xhtml\2", MATH.sub(lambda match: known[formula(match)], text))
    soup = BeautifulSoup(text, "html.parser")
    styles = ", ".join(f'link[href$="{name}"]' for name in ("pygments.css", "epub.css"))
    for node in soup.select(f"script, form, button, .run-banner dl, details.hide > summary, "
                            f'link[rel~="stylesheet"]:not({styles})'):
        node.decompose()
    for node in soup.select("a[download]"):  # a file that lies on the site alone
        node.unwrap()
    for node in soup(["details", "summary"]):  # not every reader can unfold
        node.name = {"details": "div", "summary": "p"}[node.name]
    page = re.sub(r"^.*?(?=<html)", '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE html>\n', str(soup), count=1,
                  flags=re.DOTALL)
    try:
        ET.fromstring(page)
    except ET.ParseError as error:
        raise Trouble(f"{name} is no XHTML, so no reader would open it: {error}") from None
    return page


def declare_math(listing: str, pages: list[str]) -> str:
    """The listing of an EPUB's files, in which a page with MathML has to be called one."""
    for page in pages:
        item = rf'(<item(?=[^>]*\bhref="{re.escape(page)}")(?![^>]*\bproperties=))'
        listing = re.sub(item, r'\1 properties="mathml"', listing)
    return listing


def links(log: Path) -> int:
    """Ask for every address outside; say which are dead, and which let no robot in. Returns how many are dead."""
    own = re.escape(catalogue.address())
    found = sphinx("linkcheck", {"linkcheck_anchors": False, "linkcheck_timeout": 20, "linkcheck_retries": 3,
                                 "linkcheck_ignore": [own, r"https://colab\.research\.google\.com/github/"]},
                   log, keep=True) / "output.json"
    if not found.is_file():
        raise Trouble("linkcheck failed: see its log")
    dead, refused = sort_links(found.read_text(encoding="utf-8"))
    for what, told in (("refuses robots", refused), ("dead", dead)):
        print("".join(f"{what}: {line}\n" for line in told), end="")
    print(f"{len(dead)} dead links, {len(refused)} that refuse robots")
    return len(dead)


def sort_links(output: str) -> tuple[list[str], list[str]]:
    """Of what linkcheck wrote, an entry a line: the dead links, and those that only a person may open."""
    dead, refused = [], []
    for entry in map(json.loads, filter(str.strip, output.splitlines())):
        if entry["status"] in ("broken", "timeout"):
            line = f"{entry['uri']} ({entry['filename']}, line {entry['lineno']}): {entry['info']}"
            (refused if REFUSED.match(entry["info"]) else dead).append(line)
    return dead, refused
