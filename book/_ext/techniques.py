"""The list of all techniques: where each is defined, by which hook it enters the recipe, and its source."""

import ast
import re

import catalogue
import pairs
import recorded
from catalogue import escape

CODE = re.compile(r"(?:&#96;)+(.+?)(?:&#96;)+")  # as escape writes it
SOURCE = re.compile(r"\[([^][]+)\]\(\.\./\.\./book/references\.md#([\w.-]+)\)")


def table(chapters: list[str]) -> str:
    """One row a technique of every chapter that names its techniques by their hooks."""
    rows = []
    for chapter in chapters:
        found = listed(chapter)
        about = definitions(chapter) if found else {}
        for name, hooks in (found | {name: own for name, own in heads(chapter).items() if name in found}).items():
            own = [part for _, part in sorted(hooks, key=lambda entry: entry[0] == "model") if part in about]
            what, source = about[own[0]] if own else (of_helpers(hooks), "")
            used = "<br>".join(f"<code>{escape(hook)}</code> {escape(part).replace('&#95;', '&#95;<wbr>')}"
                               for hook, part in hooks)
            place = recorded.link(chapter, recorded.short(chapter))
            rows.append([escape(name), CODE.sub(r"<code>\1</code>", escape(what)), used, source, place])
    head = ["technique", "what it does", "hook and function", "source", "chapter"]
    return recorded.wide("All techniques", head, rows, "words")


def listed(chapter: str) -> dict[str, list[tuple[str, str]]]:
    """Names in a chapter's ``TECHNIQUES``, each with its hooks and the functions that they hold.

    Where a chapter compares models and not changes to a recipe, there is none.
    """
    for node in ast.parse(catalogue.text(chapter)).body:
        if (isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "TECHNIQUES"
                and isinstance(node.value, ast.Dict)):
            return {key.value: [(hook.value, _function(value)) for hook, value in
                                zip(entry.keys, entry.values, strict=True)]
                    for key, entry in zip(node.value.keys, node.value.values, strict=True)
                    if isinstance(key, ast.Constant) and isinstance(entry, ast.Dict)}
    return {}


def heads(chapter: str) -> dict[str, list[tuple[str, str]]]:
    """The functions of techniques that put heads of their own on one shared training: the head says what each is."""
    found = {}
    for node in ast.walk(ast.parse(catalogue.text(chapter))):
        if isinstance(node, ast.keyword) and node.arg == "heads" and isinstance(node.value, ast.Dict):
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                inner = [part.id for part in ast.walk(value) if isinstance(part, ast.Name) and part.id != "partial"]
                special = next((name for name in inner if name != "head_on"), inner[0])
                found[key.value] = [("head", special), ("procedure", "two_stages")]
    return found


def of_helpers(hooks: list[tuple[str, str]]) -> str:
    """What the functions of `helpers` do that a technique is made of, in the first words of their docstrings."""
    from helpers import stages, training

    told = [(getattr(module, part).__doc__ or "") for _, part in hooks for module in (training, stages)
            if callable(getattr(module, part, None))]
    said = [re.split(r";|\.(?:\s|$)", " ".join(doc.split()))[0] for doc in dict.fromkeys(told)]
    return " ".join(f"{one}." for one in said)


def _function(node: ast.expr) -> str:
    """The name of what a hook holds: of the function inside ``partial(function, …)``, say."""
    names = [part.id for part in ast.walk(node) if isinstance(part, ast.Name) and part.id != "partial"]
    return names[0] if names else ast.unparse(node)


def definitions(chapter: str) -> dict[str, tuple[str, str]]:
    """What a chapter's functions and classes do, and the source that the text before them names last."""
    found, source = {}, ""
    for cell in pairs.as_notebook(catalogue.text(chapter)).cells:
        if cell.cell_type == "markdown":
            headed = re.split(r"^#+ ", cell.source, flags=re.MULTILINE)
            links, source = SOURCE.findall(headed[-1]), "" if len(headed) > 1 else source
            source = f'<a href="references.html#{links[-1][1]}">{escape(links[-1][0])}</a>' if links else source
            continue
        for node in ast.parse(re.sub(r"^[%!].*", "", cell.source, flags=re.MULTILINE)).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                first = (ast.get_docstring(node) or "").split("\n\n")[0]
                found[node.name] = re.split(r"(?<=\.)\s", " ".join(first.split()))[0], source
    return found
