"""What every test shares: where the real data are, and a skip that says so where they are not."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before PyTorch is loaded: the tests share the cores by process

import matplotlib
import pytest

matplotlib.use("Agg")

os.environ.setdefault("BOOK_RUNS", "off")  # a test computes what it looks at; those of the store name a folder
BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"
if not os.environ.get("BOOK_DATA") and BESIDE.is_dir():
    os.environ["BOOK_DATA"] = str(BESIDE)
elif os.environ.get("BOOK_DATA"):  # tests work in other folders too
    os.environ["BOOK_DATA"] = str(Path(os.environ["BOOK_DATA"]).expanduser().absolute())


def pytest_runtest_setup(item):
    if item.get_closest_marker("data") and not Path(os.environ.get("BOOK_DATA") or "nowhere").is_dir():
        pytest.skip("needs the real data sets: set BOOK_DATA to their folder")
