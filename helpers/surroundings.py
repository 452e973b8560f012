"""What a job runs in: installed packages, the kind of machine, the text of this package."""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import sys
from pathlib import Path

import torch

from helpers.machine import in_bfloat16

NUMERIC = ("numpy", "scipy", "pandas", "scikit-learn", "imbalanced-learn", "torch", "torchvision", "torch-geometric",
           "xgboost", "nlpaug", "nltk", "transformers", "tokenizers", "sentencepiece", "networkx",
           "pytorch-metric-learning", "datasketch", "diffusers")
_DISTRIBUTIONS = {"sklearn": "scikit-learn", "imblearn": "imbalanced-learn", "PIL": "pillow"}


def environment() -> str:
    """What decides the numbers beside code and data: versions, the kind of device, its arithmetic."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    flags = sorted(name for name, there in getattr(torch.cpu, "get_capabilities", dict)().items()
                   if there is True and name.startswith(("avx", "amx", "fma", "sve", "neon", "bf16")))
    facts = {"edition of the keys": 1, "python": sys.version_info[:2], "device": kind,
             **{name: version(name) for name in NUMERIC},
             "capability": torch.backends.cpu.get_cpu_capability(), "instructions": flags,
             "onednn": os.environ.get("ONEDNN_MAX_CPU_ISA"), "bfloat16": in_bfloat16(device),
             "dtype": str(torch.get_default_dtype())}
    return repr(sorted(facts.items()))


@functools.cache
def text(module: str, *, parts: bool = False) -> dict[str, str]:
    """Digest of the text of a module of ours and of those of ours that it imports, without comments and docstrings.

    With `parts`, of what they do while they are loaded alone: a definition is in the key where it is reached.
    """
    found, waiting = {}, [module]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        digest, imported = _parsed(importlib.import_module(name).__file__, parts)
        found[name] = f"{name} {digest}"
        waiting += [each for each in ("helpers", *imported) if importlib.util.find_spec(each)]
    return found


@functools.cache
def _parsed(path: str, parts: bool) -> tuple[str, tuple[str, ...]]:
    tree = ast.parse(Path(path).read_bytes())
    imported = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "helpers":
            imported += [node.module] if "." in node.module else [f"helpers.{each.name}" for each in node.names]
        elif isinstance(node, ast.Import):
            imported += [each.name for each in node.names if each.name.startswith("helpers.")]
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) \
                and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    if parts:
        tree.body = [node for node in tree.body if not _only_names(node)]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), tuple(dict.fromkeys(imported))


def _only_names(node: ast.stmt) -> bool:
    """Whether a statement gives something a name, and does nothing beside."""
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return all(isinstance(target, ast.Name) for target in targets) and not any(
            isinstance(each, ast.Call) for each in ast.walk(node))
    return isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)


@functools.cache
def is_foreign(module: str) -> bool:
    """Whether a module comes with Python or with an installed package, so that name and version tell what it is."""
    top = module.partition(".")[0]
    if top in ("helpers", "__main__", "__mp_main__"):
        return False
    if top in sys.stdlib_module_names or top == "builtins":
        return True
    with contextlib.suppress(ValueError, ImportError):  # a module that was made by hand has no place
        origin = importlib.util.find_spec(top)
        places = [origin.origin, *(origin.submodule_search_locations or ())] if origin else []
        return any({"site-packages", "dist-packages"} & set(Path(place).parts) for place in places if place)
    return False


@functools.cache
def version_of(module: str) -> str:
    """The version of the package that a module belongs to."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top == "builtins":
        return "python"  # its version is in the environment
    found = version(_DISTRIBUTIONS.get(top, top)) or next((version(name) for name in _owners().get(top, ())), None)
    found = found or getattr(sys.modules.get(top), "__version__", None)
    if not found:
        raise LookupError(f"the package {top} does not tell its version")
    return str(found)


@functools.cache
def version(distribution: str) -> str | None:
    """The installed version of a package, by the name under which it is installed; None where it is not."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


_owners = functools.cache(importlib.metadata.packages_distributions)
