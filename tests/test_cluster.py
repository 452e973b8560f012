"""The commands that README gives for a cluster, on a real SLURM of one machine: results are those of a local build."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import catalogue
import compared
import pytest
import slurm

ROOT = catalogue.ROOT
CHAPTERS = ["graphs/message_passing", "tables/one_class"]
# There is no accounting database here, and nobody to wait for; a real cluster needs neither word.
HERE = "--slurm-status-command squeue --slurm-init-seconds-before-status-checks 2 --slurm-keep-successful-logs"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing())]


def copy(folder: Path) -> Path:
    """The working tree, without what was built."""
    listing = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True,
                             capture_output=True, check=True)
    for name in listing.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    return folder


def make(folder: Path, *words: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "SLURM_"))
                   and name not in ("BOOK_BUILD", "BOOK_PROFILE", "BOOK_RUNS", "BOOK_WORKERS")}
    command = ["make", "preview", f"PY={sys.executable}", f"CHAPTERS={' '.join(CHAPTERS)}", *words]
    result = subprocess.run(command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, check=False)
    assert result.returncode == 0, result.stdout
    return result.stdout


def kept(folder: Path) -> set[str]:
    """The names of the runs in the store."""
    return {path.stem for path in (folder / "build/runs").rglob("*.run")}


def test_two_chapters_through_slurm_equal_a_local_build(tmp_path):
    far, near = copy(tmp_path / "far"), copy(tmp_path / "near")
    with slurm.running(tmp_path / "slurm", cores=os.cpu_count() or 1), ThreadPoolExecutor() as beside:
        local = beside.submit(make, near)  # meanwhile: Snakemake mostly waits before it asks SLURM again
        said = make(far, f"OPTIONS=--executor slurm --jobs 4 {HERE}")
    jobs = {path.parent.parent.name for path in far.glob(".snakemake/slurm_logs/*/*/*.log")}
    assert jobs == {"rule_fill", "rule_execute"}
    for chapter in CHAPTERS:
        for seed in catalogue.parameters("smoke", chapter)["SEEDS"]:
            assert f"{chapter}, seed {seed}: " in said
    local.result()
    results = "build/results/smoke"
    assert compared.compare(far / results, near / results) == (len(CHAPTERS), [])
    assert kept(far) == kept(near) != set()
