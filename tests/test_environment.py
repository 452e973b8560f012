"""pyproject.toml, requirements.lock and environment.yml say the same, and torch fits torchvision."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from helpers import mismatch

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
REQUIREMENTS = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["book"],
                *PROJECT["optional-dependencies"]["test"]]


def locked() -> dict[str, list[str]]:
    """Package -> its versions: more than one where they differ between Pythons or systems."""
    versions: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", LOCK, flags=re.MULTILINE):
        versions.setdefault(canonicalize_name(name), []).append(version)
    return versions


@pytest.mark.parametrize("requirement", [Requirement(line) for line in REQUIREMENTS], ids=lambda wish: wish.name)
def test_the_lock_meets_every_requirement(requirement):
    versions = locked().get(canonicalize_name(requirement.name))
    assert versions, f"{requirement.name} is not in requirements.lock: run `make lock`"
    for version in versions:
        assert requirement.specifier.contains(version, prereleases=True), "run `make lock`"


def test_requirements_are_lower_bounds_so_that_colab_keeps_its_own_packages():
    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert {clause.operator for clause in requirement.specifier} == {">="}, requirement


def test_every_locked_package_has_a_hash_and_none_an_address():
    entries = re.split(r"\n(?=[A-Za-z0-9])", LOCK.strip())
    assert len(entries) > 100
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in LOCK
    assert "index-url" not in LOCK


def test_the_locked_torch_and_torchvision_belong_together():
    (torch,), (torchvision,) = locked()["torch"], locked()["torchvision"]
    if metadata.version("torchvision") != torchvision:
        pytest.skip(f"torchvision {torchvision}, whose wish for a torch is asked here, is not installed")
    (wish,) = [r for r in map(Requirement, metadata.requires("torchvision")) if r.name == "torch"]
    assert wish.specifier.contains(torch)


def test_conda_users_get_the_same_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    packages = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    installed_by_pip = [entry for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert installed_by_pip == [{"pip": ["--requirement requirements.lock"]}]
    (python,) = (Requirement(entry) for entry in packages if entry.startswith("python"))
    assert PROJECT["requires-python"] in str(python.specifier).split(",")
    assert {"pip", "make", "git"} <= set(packages)


@pytest.mark.parametrize(("torch", "wanted"), [("2.15.0", "2.15.0"), ("2.15.0+cpu", "2.15.0"), ("2.15.1", "2.15.0")])
def test_a_matching_pair_passes(torch, wanted):
    assert mismatch(torch, "0.29.2", wanted) is None


def test_a_mismatch_names_both_versions_and_the_remedy():
    message = mismatch("2.13.0+cpu", "0.29.2", "2.15.0")
    assert "2.13.0+cpu" in message
    assert "0.29.2" in message
    assert "install torch 2.15.0" in message
