"""Pairs: a chapter's ``.py`` is the source, its ``.ipynb``, without outputs, is what Colab opens."""

import ast
import copy
import functools
import hashlib

import catalogue
from catalogue import ADDRESS, Trouble

KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
          "language_info": {"name": "python"}}


def as_notebook(text: str):
    """A chapter's source as a notebook without outputs; a cell's id follows from its place and text."""
    return copy.deepcopy(_parsed(text))


@functools.cache
def _parsed(text: str):
    import jupytext
    import nbformat

    nb = jupytext.reads(text, fmt="py:percent")
    nb.metadata = nbformat.from_dict(KERNEL)
    nb.nbformat, nb.nbformat_minor = 4, 5
    for place, cell in enumerate(nb.cells):
        cell.id = hashlib.sha256(f"{place}\0{cell.cell_type}\0{cell.source}".encode()).hexdigest()[:12]
        cell.metadata = nbformat.from_dict(
            {name: cell.metadata[name] for name in sorted(cell.metadata) if name in ("tags", "name", "mystnb")})
    return nb


def with_address(text: str) -> str:
    """A chapter's source, with the repository's address in its bootstrap cell."""
    return ADDRESS.sub(catalogue.address(), text)


def pair(chapter: str, *, check: bool = False) -> list[str]:
    """Write ``<chapter>.ipynb`` from ``<chapter>.py``; with ``check`` only name the files that would change."""
    import nbformat

    path, text = catalogue.source(chapter), catalogue.text(chapter)
    wanted = {path: with_address(text)}
    wanted[path.with_suffix(".ipynb")] = nbformat.writes(as_notebook(wanted[path])) + "\n"
    changed = []
    for file, content in wanted.items():
        if not file.is_file() or file.read_bytes() != content.encode():
            changed.append(str(file.relative_to(catalogue.ROOT)))
            if not check:
                file.write_text(content, encoding="utf-8")
    return changed


def declared(nb) -> list[str]:
    """The names that the cell tagged ``parameters`` assigns."""
    for cell in nb.cells:
        if "parameters" in cell.metadata.get("tags", []):
            targets = [node.targets if isinstance(node, ast.Assign) else [node.target]
                       for node in ast.parse(cell.source).body if isinstance(node, ast.Assign | ast.AnnAssign)]
            return [target.id for some in targets for target in some if isinstance(target, ast.Name)]
    return []


def parameter(chapter: str, profile: str, name: str):
    """A parameter as a profile sets it, or else as the chapter does; None where it has no such parameter."""
    if name in (chosen := catalogue.parameters(profile, chapter)):
        return chosen[name]
    for cell in as_notebook(catalogue.text(chapter)).cells:
        if "parameters" in cell.metadata.get("tags", []):
            values = {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(cell.source).body}
            return values.get(name)
    return None


def with_outputs(chapter: str, ran):
    """The chapter as its source says it now, with the outputs of a run of the same code: prose trains nothing anew."""
    nb, cells = as_notebook(catalogue.text(chapter)), []
    own = [cell for cell in nb.cells if cell.cell_type == "code"]
    runs = [cell for cell in ran.cells if cell.cell_type == "code"]
    injected = [cell for cell in runs if "injected-parameters" in cell.metadata.get("tags", [])]
    runs = [cell for cell in runs if cell not in injected]
    if [catalogue.code(cell.source) for cell in own] != [catalogue.code(cell.source) for cell in runs]:
        raise Trouble(f"{chapter} was changed after it ran: run it again")
    for cell, run in zip(own, runs, strict=True):
        cell.outputs, cell.execution_count = run.outputs, run.execution_count
    for cell in nb.cells:
        cells += [cell, *(injected if "parameters" in cell.metadata.get("tags", []) else [])]
    nb.cells = cells
    return nb
