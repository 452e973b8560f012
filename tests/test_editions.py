"""The book in one file, and its links: an EPUB that readers open, and a dead link that is told from a shy one."""

import json
import posixpath
import re
import xml.etree.ElementTree as ET
import zipfile

import catalogue
import editions
import pytest
import recorded
from test_pages import BROWSER

KNOWN = {("x_1 < 2", False): "<math><mi>x</mi></math>", ("\\sum x", True): '<math display="block"><mo>∑</mo></math>'}
PAGE = ('<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml"><head>'
        "<title>t</title></head><body>{}</body></html>")


def page(body: str) -> str:
    return editions.for_readers(PAGE.format(body), KNOWN, "page.xhtml")


def test_formulas_become_mathml():
    made = page(r'<p><span class="math notranslate nohighlight">\(x_1 &lt; 2\)</span></p>'
                r'<div class="math notranslate nohighlight">\[\sum x\]</div>')
    assert "<mi>x</mi>" in made and 'display="block"' in made and "\\" not in made


def test_a_page_is_well_formed_has_no_scripts_and_no_folds():
    made = page('<p>a&nbsp;b<br>c</p><img src="i.png" alt="i"><form hidden><select></select></form>'
                '<script type="application/json">{"a": 1}</script><details><summary>told</summary>why</details>'
                '<details class="hide above-input"><summary>Show code</summary>solution</details>')
    root = ET.fromstring(made)
    tags = [node.tag.split("}")[1] for node in root.iter()]
    assert not {"script", "form", "select", "details", "summary"} & set(tags)
    assert "told" in made and "why" in made and "solution" in made and "Show code" not in made


def test_a_page_that_no_reader_would_open_is_refused():
    with pytest.raises(SystemExit, match=r"page\.xhtml is no XHTML"):
        page("<p><a:b>no such name</a:b></p>")


def test_of_the_sites_styles_and_files_none_is_named():
    made = page('<link rel="stylesheet" href="../_static/mystnb.1.css">'
                '<link rel="stylesheet" href="../_static/epub.css">'
                '<a href="../_static/results.csv" download>All numbers</a>')
    assert re.findall(r'href="([^"]+)"', made) == ["../_static/epub.css"] and "All numbers" in made


def test_links_inside_lead_to_pages_of_the_file_and_others_stay():
    made = page('<a href="../book/errata.html#e3">E3</a> <a href="x.html">x</a> <a href="#here">h</a>'
                '<a href="https://example.org/a.html#b">out</a>')
    assert re.findall(r'href="([^"]+)"', made) == ["../book/errata.xhtml#e3", "x.xhtml", "#here",
                                                   "https://example.org/a.html#b"]


def test_a_page_with_formulas_is_declared_as_one():
    listing = '<item href="a.xhtml" id="1"/><item href="b.xhtml" id="2"/><item href="nav.xhtml" properties="nav"/>'
    assert editions.declare_math(listing, ["a.xhtml", "nav.xhtml"]) == (
        '<item properties="mathml" href="a.xhtml" id="1"/><item href="b.xhtml" id="2"/>'
        '<item href="nav.xhtml" properties="nav"/>')


def entry(status, info=""):
    return json.dumps({"uri": f"https://{status}.org", "status": status, "info": info, "filename": "p", "lineno": 1})


def test_a_dead_link_is_told_from_one_that_lets_no_robot_in():
    found = [entry("working"), entry("broken", "404 Client Error: Not Found for url: https://x.org/403"),
             entry("broken", "403 Client Error: Forbidden for url: y"), entry("timeout", "Read timed out"),
             entry("ignored"), entry("broken", "Anchor 'a' not found")]
    dead, refused = editions.sort_links("\n".join(found) + "\n")
    assert [line.split(": ")[1].split()[0] for line in dead] == ["404", "Read", "Anchor"]
    assert len(refused) == 1 and "403" in refused[0]


def test_without_pages_there_is_a_word_on_where_they_come_from(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match="make preview"):
        editions.sphinx("epub", {}, tmp_path / "editions.log")


def dead_ends(texts: dict[str, str], files: set[str]) -> list[tuple[str, str]]:
    """The links inside a book that lead to no file of it, or to no place in that file."""
    found = []
    for name, text in texts.items():
        for link in re.findall(r'(?:href|src)="(?!\w+:)([^"]+)"', text):
            path, _, place = link.partition("#")
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) if path else name
            if target not in files or (place and f'id="{place}"' not in texts.get(target, "")):
                found.append((name, link))
    return found


def test_a_dead_end_is_found():
    texts = {"a/x.xhtml": '<a href="../b/y.xhtml#here"/><a href="#there"/><img src="../i.png"/><a href="https://e.org"/>',
             "b/y.xhtml": '<p id="here"/>'}
    assert dead_ends(texts, {*texts, "i.png"}) == [("a/x.xhtml", "#there")]
    assert dead_ends(texts, {"a/x.xhtml"})[0] == ("a/x.xhtml", "../b/y.xhtml#here")


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER, reason="needs Chromium: install it, or name it in $CHROMIUM")
@pytest.mark.skipif(not (catalogue.ROOT / "build/stage/_config.yml").is_file(), reason="needs `make preview`")
def test_both_editions_hold_every_chapter(tmp_path):
    titles = [recorded.title(chapter) for chapter in catalogue.in_order()]
    with zipfile.ZipFile(editions.epub(tmp_path / "log")) as box:
        assert box.namelist()[0] == "mimetype" and box.testzip() is None
        for chapter, title in zip(catalogue.in_order(), titles, strict=True):
            text = box.read(f"notebooks/{chapter}.xhtml").decode()
            assert title.split(":")[0] in text
            assert "\\(" not in re.sub(r"<pre.*?</pre>", "", text, flags=re.DOTALL), "a formula that was left as TeX"
        texts = {name: box.read(name).decode() for name in box.namelist() if name.endswith(".xhtml")}
        assert dead_ends(texts, set(box.namelist())) == []
        shown = {name for name in box.namelist() if name.endswith((".png", ".svg"))}
        assert len(shown) > len(titles)
    printed = editions.pdf(tmp_path / "log").read_bytes()
    assert printed.startswith(b"%PDF") and printed.count(b"/Type /Page\n") > 2 * len(titles)
