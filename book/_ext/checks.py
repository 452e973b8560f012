"""What can be wrong before anything runs: the table of contents, the profiles, $BOOK_DATA. One clear line each."""

import ast
import os
from pathlib import Path

import catalogue
import pairs
from catalogue import Trouble

SHAPES = {int: "a whole number", float: "a number", str: "a text", list: "a list", dict: "a mapping",
          bool: "true or false"}


def before_anything_runs(profile: str) -> None:
    """Look at all that a build reads and a writer types."""
    contents()
    for chapter in catalogue.in_order():
        parameters(profile, chapter)
    data_folder()


# ---------------------------------------------------------------- the table of contents

def contents() -> None:
    """Check the structure of ``_toc.yml``: what is there, what is accepted, and in which line."""
    path = catalogue.ROOT / "_toc.yml"
    root = _composed(path)
    top = _mapping(path, root, "the file", {"format", "root", "parts", "defaults"}, {"format", "root", "parts"})
    seen: dict[str, int] = {}
    for part in _listing(path, top["parts"], "parts"):
        keys = _mapping(path, part, "a part", {"caption", "chapters", "numbered"}, {"caption", "chapters"})
        for page in _listing(path, keys["chapters"], "chapters"):
            name = _mapping(path, page, "a chapter", {"file", "title", "url"}, {"file"})["file"]
            where = f"{path.name}, line {name.start_mark.line + 1}"
            if not isinstance(name.value, str) or not _is_page(name.value):
                raise Trouble(f"{where}: there is no {name.value}.md and no {name.value}.py")
            if name.value in seen:
                raise Trouble(f"{where}: {name.value} stands in line {seen[name.value]} already")
            seen[name.value] = name.start_mark.line + 1


def _is_page(name: str) -> bool:
    return any((catalogue.ROOT / f"{name}{ending}").is_file() for ending in (".md", ".py"))


def _composed(path: Path):
    """The nodes of a YAML file, which know their lines."""
    import yaml

    catalogue.read_yaml(path)  # says what is no YAML
    node = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
    if node is None:
        raise Trouble(f"{path.name} is empty")
    return node


def _mapping(path: Path, node, what: str, known: set[str], needed: set[str]) -> dict:
    import yaml

    where = f"{path.name}, line {node.start_mark.line + 1}"
    if not isinstance(node, yaml.MappingNode):
        raise Trouble(f"{where}: {what} must have {', '.join(sorted(needed))}; here is {node.value!r}")
    found = {key.value: value for key, value in node.value}
    for key, _ in node.value:
        if key.value not in known:
            raise Trouble(f"{path.name}, line {key.start_mark.line + 1}: {what} has {key.value!r}; "
                          f"accepted: {', '.join(sorted(known))}")
    if missing := sorted(needed - set(found)):
        raise Trouble(f"{where}: {what} lacks {', '.join(missing)}")
    return found


def _listing(path: Path, node, what: str) -> list:
    import yaml

    if not isinstance(node, yaml.SequenceNode) or not node.value:
        raise Trouble(f"{path.name}, line {node.start_mark.line + 1}: {what} must be a list, with at least one entry")
    return node.value


# ---------------------------------------------------------------- profiles

def parameters(profile: str, chapter: str) -> None:
    """Whether a profile sets what the chapter has, to something of the same kind."""
    declared = _declared(chapter)
    where = f"notebooks/profiles/{profile}.yaml, {chapter}"
    for name, value in catalogue.parameters(profile, chapter).items():
        if name not in declared:
            raise Trouble(f"{where}: there is no parameter {name}; the chapter has {', '.join(declared) or 'none'}")
        wanted = type(declared[name])
        fits = type(value) is wanted or (wanted is float and type(value) is int)
        if not fits and wanted in SHAPES:
            raise Trouble(f"{where}: {name} is {value!r}; it must be {SHAPES[wanted]}, as {declared[name]!r}")
        if wanted in (int, float) and value < 0 < declared[name]:
            raise Trouble(f"{where}: {name} is {value!r}; it must not be negative")


def _declared(chapter: str) -> dict:
    """The parameters of a chapter and their values, from its own cell."""
    try:
        for cell in pairs.as_notebook(catalogue.text(chapter)).cells:
            if "parameters" in cell.metadata.get("tags", []):
                return {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(cell.source).body}
    except (SyntaxError, ValueError, AttributeError) as error:
        raise Trouble(f"notebooks/{chapter}.py: the cell tagged parameters must hold plain assignments of literals "
                      f"({error})") from None
    return {}


# ---------------------------------------------------------------- data

def data_folder() -> None:
    """Let every process find ``$BOOK_DATA``, wherever it works; a folder that is none is said at once."""
    chosen = os.environ.get("BOOK_DATA")
    if not chosen:
        return
    folder = Path(chosen).expanduser().absolute()
    if not folder.is_dir():
        raise Trouble(f"BOOK_DATA is {chosen}, which is no folder: make it, name another, or unset it")
    os.environ["BOOK_DATA"] = str(folder)
