"""Rooms with one-way doors: a module imports only from the floors below its own, and can be read in one sitting."""

import ast
import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WORKSHOP = [["catalogue", "pages", "stopping"],
            ["compared", "editions", "kept", "pairs", "progress", "recorded"], ["checks"],
            ["benchmark", "execution", "forecast", "gains", "ledger", "reproduced", "techniques"],
            ["guide"], ["collected"], ["website"], ["building"], ["bookmaker"]]
HELPERS = [["chapters", "files", "machine", "metrics", "models", "undersampling"],
           ["datasets", "networks", "messages", "tables", "texts"],
           ["training", "surroundings", "cases", "photos"], ["generators", "stages"], ["keys"], ["store"], ["runs"],
           ["results"], ["claims"], ["records"], ["experiments"], ["graphs"], ["plots"], ["widgets"]]
HOUSES = {"workshop": (ROOT / "book/_ext", WORKSHOP), "helpers": (ROOT / "helpers", HELPERS)}


def asked(code: str) -> set[str]:
    """The modules that a file imports, wherever in it, by their last names."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found.update(alias.name.removeprefix("helpers.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module in ("helpers", None):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.removeprefix("helpers."))
    return found


def wrong_doors(modules: dict[str, str], floors: list[list[str]]) -> list[str]:
    """Imports that do not lead down; with none of them there can be no circle."""
    floor = {name: number for number, names in enumerate(floors) for name in names}
    return [f"{name} → {other}" for name, code in modules.items() for other in sorted(asked(code) & set(floor))
            if floor[other] >= floor[name]]


def modules(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))
            if path.stem != "__init__"}


@pytest.mark.parametrize("house", HOUSES)
def test_every_module_has_a_floor_and_imports_from_lower_ones_alone(house):
    folder, floors = HOUSES[house]
    found = modules(folder)
    assert set(found) <= {name for names in floors for name in names}, "give the new module its floor"
    assert wrong_doors(found, floors) == []


@pytest.mark.parametrize(("code", "door"), [
    ("import upper", ["lower → upper"]), ("from helpers import upper", ["lower → upper"]),
    ("from helpers.upper import f", ["lower → upper"]), ("import beside", ["lower → beside"]),
    ("def f():\n    from upper import g", ["lower → upper"]), ("import torch", [])])
def test_a_door_that_leads_up_or_sideways_is_found(code, door):
    assert wrong_doors({"lower": code, "beside": "", "upper": "import lower"}, [["lower", "beside"], ["upper"]]) == door


@pytest.mark.parametrize("house", HOUSES)
def test_a_module_can_be_read_in_one_sitting(house):
    lengths = {name: len(code.splitlines()) for name, code in modules(HOUSES[house][0]).items()}
    assert {name: length for name, length in lengths.items() if length > 460} == {}


@pytest.mark.parametrize("name", modules(HOUSES["workshop"][0]))
def test_examples_in_the_workshop_run(name):
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0
