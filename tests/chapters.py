"""Load what a chapter defines, so that tests run the very code that the reader sees.

>>> from chapters import load
>>> chapter = load("resampling/long_tailed_digits")     # doctest: +SKIP
>>> chapter.label_shuffling                             # doctest: +SKIP
<function label_shuffling at …>
"""

import ast
import builtins
import functools
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
PLAIN_CALLS = {"dict", "float", "frozenset", "int", "list", "range", "set", "str", "tuple"}


def _is_constant(value: ast.expr, known: set[str]) -> bool:
    """True for an expression made of literals, operators and constants already known."""
    for node in ast.walk(value):
        if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in PLAIN_CALLS):
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


@functools.cache
def load(chapter: str) -> ModuleType:
    """The definitions of ``notebooks/<chapter>.py`` as a module."""
    path = ROOT / "notebooks" / f"{chapter}.py"
    module = ModuleType("chapter_" + chapter.replace("/", "_"))
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and pickles look their module up
    exec(compile(definitions(path.read_text(encoding="utf-8")), str(path), "exec"), module.__dict__)
    return module
