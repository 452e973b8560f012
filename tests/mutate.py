"""Planted faults: `make mutants` breaks the code in each way that is listed, and the named test must go red.

``mutants/*.toml`` lists them::

    [[mutant]]
    file = "helpers/metrics.py"
    old = "stats.t.ppf((1 + confidence) / 2"
    new = "stats.t.ppf(confidence"
    test = "tests/test_experiments.py::test_paired_interval_equals_scipys"
    why = "a one-sided quantile makes intervals too narrow"

``old`` stands once in its file. ``test`` is a test, or a file of tests. Nothing is changed in this checkout: each fault
is planted in a copy. First all these tests must be green without any fault, or none of them says anything.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parents[1]
LISTS = Path(__file__).with_name("mutants")
FIELDS = {"file", "old", "new", "test", "why"}


@dataclass(frozen=True)
class Mutant:
    """One fault, and where it is listed."""

    listed: str
    file: str
    old: str
    new: str
    test: str
    why: str

    def trouble(self, root: Path = ROOT) -> str | None:
        """What is wrong with the entry itself, in one line; None where it can be planted."""
        path, test = root / self.file, root / self.test.split("::")[0]
        if not path.is_file() or not test.is_file():
            return f"{self.listed}: there is no {self.test if path.is_file() else self.file}"
        count = path.read_text(encoding="utf-8").count(self.old)
        if count != 1 or self.old == self.new:
            return f"{self.listed}: {self.old!r} stands {count} times in {self.file}; it must stand once, and change"
        return None


def listed(folder: Path = LISTS) -> list[Mutant]:
    """All faults, in the order of the files' names."""
    found = []
    for path in sorted(folder.glob("*.toml")):
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("mutant", [])
        for place, entry in enumerate(entries, 1):
            if set(entry) != FIELDS:
                raise SystemExit(f"error: {path.name}, mutant {place}: has {', '.join(sorted(entry))}; "
                                 f"needs {', '.join(sorted(FIELDS))}")
            found.append(Mutant(f"{path.stem} {place}", **entry))
    return found


def copy_of(root: Path, target: Path) -> Path:
    """The files of the checkout that git tracks or would track, in another folder."""
    names = subprocess.run(["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                           capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, target / name)
    return target


def pytest(folder: Path, *arguments: str, timeout: int) -> subprocess.CompletedProcess:
    """Run tests of a copy."""
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
                          cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout, check=False)


def red_already(mutants: list[Mutant], folder: Path, workers: int) -> str:
    """What pytest says where a test is red without any fault; empty where all are green."""
    ran = pytest(folder, "-n", str(workers), *dict.fromkeys(mutant.test for mutant in mutants), timeout=3600)
    return "" if ran.returncode == 0 else f"{ran.stdout[-2000:]}{ran.stderr[-2000:]}"


def survives(mutant: Mutant, folder: Path) -> bool:
    """Plant the fault in a copy, run its test, take the fault out again."""
    path = folder / mutant.file
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        ran = pytest(folder, "-x", mutant.test, timeout=900)
    except subprocess.TimeoutExpired:
        return False  # a fault that never ends is noticed
    finally:
        path.write_text(before, encoding="utf-8")
    if ran.returncode not in (0, 1, 2):
        raise SystemExit(f"error: {mutant.listed}: {mutant.test} could not be run:\n{ran.stdout[-2000:]}")
    return ran.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="*", help="names of lists, without .toml; all unless given")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    mutants = [mutant for mutant in listed() if not options.only or mutant.listed.split()[0] in options.only]
    troubles = [trouble for mutant in mutants if (trouble := mutant.trouble())]
    if troubles:
        print("\n".join(troubles))
        return 1
    started, survivors = time.time(), []
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(options.workers) as pool:
        folders = [copy_of(ROOT, Path(scratch) / f"copy{number}" / "book") for number in range(options.workers)]
        if red := red_already(mutants, folders[0], options.workers):
            print(f"{red}\nerror: a test is red without any fault")
            return 1
        copies = SimpleQueue()
        for folder in folders:
            copies.put(folder)

        def run(mutant):
            folder = copies.get()
            try:
                return mutant, survives(mutant, folder)
            finally:
                copies.put(folder)

        for done, (mutant, alive) in enumerate(pool.map(run, mutants), 1):
            print(f"[{done}/{len(mutants)}] {'SURVIVED' if alive else 'killed'}: {mutant.listed}, {mutant.file}: "
                  f"{mutant.why}", flush=True)
            if alive:
                survivors.append(mutant)
    print(f"\n{len(mutants)} faults planted, {len(survivors)} survived, {(time.time() - started) / 60:.1f} minutes.")
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main())
