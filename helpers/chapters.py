"""What the chapters define, by name, without running them: for your own script, and for the tests of this book.

>>> load("augmentation/mixing").mixup
<function mixup at ...>
"""

from __future__ import annotations

import ast
import builtins
import functools
import sys
from pathlib import Path
from types import ModuleType

import cloudpickle

_PACKAGE = Path(__file__).resolve().parent
_FOLDER = _PACKAGE / "notebooks" if (_PACKAGE / "notebooks").is_dir() else _PACKAGE.parent / "notebooks"
_PLAIN_CALLS = {"dict", "float", "frozenset", "int", "list", "partial", "range", "set", "str", "tuple"}


def _is_constant(value: ast.expr, known: set[str]) -> bool:
    """True for an expression made of literals, operators and constants already known."""
    for node in ast.walk(value):
        if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in _PLAIN_CALLS):
            return False
        if isinstance(node, ast.Name) and node.id not in known and not hasattr(builtins, node.id):
            return False
        if isinstance(node, ast.Await | ast.NamedExpr | ast.comprehension):
            return False
    return True


def definitions(text: str) -> ast.Module:
    """Keep the imports, functions, classes and constants of a chapter; drop what trains, prints or draws.

    >>> kept = definitions("import torch\\nRATIO = 10 * 10\\nmodel = train()\\ndef f(x): return x\\nprint(RATIO)")
    >>> print(ast.unparse(kept))
    import torch
    RATIO = 10 * 10
    def f(x):
        return x
    """
    kept, known = [], set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            known.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            known.add(node.name)
        elif isinstance(node, ast.Assign) and all(isinstance(target, ast.Name) for target in node.targets):
            if not _is_constant(node.value, known):
                continue
            known.update(target.id for target in node.targets)
        else:
            continue
        kept.append(node)
    return ast.Module(body=kept, type_ignores=[])


def names() -> list[str]:
    """The chapters that `load` knows, ``"part/chapter"``."""
    return [f"{path.parent.name}/{path.stem}" for path in sorted(_FOLDER.glob("*/*.py"))]


@functools.cache
def load(chapter: str) -> ModuleType:
    """The imports, functions, classes and constants of a chapter as a module; nothing is trained or drawn.

    Parameters
    ----------
    chapter : str
        ``"part/chapter"``, as in the address of its page.

    Raises
    ------
    ValueError
        If there is no such chapter; the message names those there are.
    """
    if chapter not in names():
        raise ValueError(f"there is no chapter {chapter!r}; known: {', '.join(names())}")
    path = _FOLDER / f"{chapter}.py"
    module = ModuleType("chapter_" + chapter.replace("/", "_"))
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and pickles look their module up
    cloudpickle.register_pickle_by_value(module)  # a worker has no module of this name to import
    exec(compile(definitions(path.read_text(encoding="utf-8")), str(path), "exec"), module.__dict__)
    return module
