"""Jobs on all workers, and their results kept by content: a wrong hit would be the worst fault of this book."""

import contextlib
import functools
import json
import math
import os
import pickle
import re
import shutil
import subprocess
import sys
import textwrap
import time
import types
from functools import partial
from pathlib import Path

import cloudpickle
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit

from helpers import chapters, datasets, files, keys, runs, store, surroundings
from helpers.keys import Unkeyable
from helpers.runs import parallel, workers

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def shop(monkeypatch, tmp_path):
    """A store of its own, one process, nothing said yet."""
    monkeypatch.setenv("BOOK_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("BOOK_WORKERS", "1")
    monkeypatch.setattr(files, "stand_ins", set())
    monkeypatch.setattr(files, "used", {})
    monkeypatch.delenv("BOOK_PROFILE", raising=False)
    monkeypatch.delenv("CI", raising=False)
    runs._say.cache_clear()
    return tmp_path / "runs"


def cell(text, name="a cell", **beside):
    """What a notebook's cells define, in a scope of its own."""
    scope = {"__name__": "__main__", **beside}
    exec(compile(textwrap.dedent(text), name, "exec"), scope)
    return types.SimpleNamespace(**scope)


def key(function, *job):
    (found,) = keys.keys(function, [job])
    return found


# ---------------------------------------------------------------------------------------------------------- keys

CELLS = '''
import functools
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.special import expit
from torch import nn
from torch.nn import functional as F

from helpers import metrics
from helpers.models import Linear
from helpers.training import Recipe, fit

RATIO = 10
NAMES = {"a", "b", "c"}
PRIOR = torch.tensor([0.5, 0.25])


class Base(nn.Module):
    width = 64

    def size(self):
        return self.width


class Model(Base):
    """A model."""

    depth = 2

    def forward(self, inputs):
        """Logits."""
        return F.relu(inputs) * self.depth


@dataclass(frozen=True)
class Settings:
    rate: float = 0.5
    sizes: tuple = (1, 2)


def maker(scale):
    def inner(value):
        """An inner function."""
        return value * scale

    return inner


scaled = maker(3.0)
half = functools.partial(pow, 2)
weight = lambda x: x + 1  # noqa


@functools.cache
def helper(x, power=2):
    # how it is
    return x ** power


def run(seed, *, lr=0.1):
    """A job."""
    def local(x):
        return x if x in {"left", "right"} else -0.0

    class Inside:
        """A class inside."""

        size = 3

    settings = Settings()
    model = Model()
    return [helper(seed), scaled(RATIO), weight(seed), local("left"), half(3), sorted(NAMES), PRIOR.sum(), lr,
            settings.rate, Inside.size, metrics.recall_per_class, [x * 2 for x in range(3)]]
'''
CHANGES = {
    "constant": ("RATIO = 10", "RATIO = 11"),
    "type of a constant": ("RATIO = 10", "RATIO = 10.0"),
    "entry of a set": ('{"a", "b", "c"}', '{"a", "b", "d"}'),
    "tensor": ("[0.5, 0.25]", "[0.5, 0.125]"),
    "dtype of a tensor": ("[0.5, 0.25])", "[0.5, 0.25], dtype=torch.float64)"),
    "default": ("power=2", "power=3"),
    "keyword default": ("lr=0.1", "lr=0.2"),
    "code of a function that is called": ("x ** power", "x * power"),
    "closure": ("maker(3.0)", "maker(4.0)"),
    "code of a closure": ("value * scale", "value + scale"),
    "lambda": ("x + 1", "x + 2"),
    "partial": ("partial(pow, 2)", "partial(pow, 3)"),
    "class attribute": ("depth = 2", "depth = 3"),
    "method": ("F.relu(inputs)", "F.elu(inputs)"),
    "attribute of a base class": ("width = 64", "width = 32"),
    "method of a base class": ("return self.width", "return -self.width"),
    "base class": ("class Model(Base)", "class Model(nn.Module)"),
    "field of a dataclass": ("rate: float = 0.5", "rate: float = 0.25"),
    "order of the fields": ("rate: float = 0.5\n    sizes: tuple = (1, 2)",
                            "sizes: tuple = (1, 2)\n    rate: float = 0.5"),
    "constant inside": ('"right"', '"wrong"'),
    "attribute of a class inside": ("size = 3", "size = 4"),
    "sign of zero": ("-0.0", "0.0"),
    "comprehension": ("x * 2 for", "x * 3 for"),
    "decorator": ("@functools.cache", "@functools.lru_cache(maxsize=None)\n@functools.wraps(print)"),
    "what a name stands for": ("from torch.nn import functional as F", "from torch import special as F"),
    "function of helpers": ("metrics.recall_per_class", "metrics.precision_per_class"),
}
SAME = {
    "comment": ("    # how it is", "    # how it was, told\n    # at length"),
    "docstring": ('"""A model."""', '"""A model of another kind."""'),
    "docstring of a method": ('        """Logits."""\n', ""),
    "docstring of the job": ('    """A job."""\n', '    """One of many jobs.\n\n    At length.\n    """\n'),
    "docstring of a class inside": ('"""A class inside."""', '"""Another."""'),
    "docstring of a closure": ('        """An inner function."""\n', ""),
    "a new docstring": ("    def size(self):\n", '    def size(self):\n        """Its width."""\n'),
    "blank lines": ("\n\n\ndef run", "\n\n\n\n\n# a line\n\ndef run"),
    "a name that nothing uses": ("RATIO = 10", "OTHER = 3\nRATIO = 10"),
    "order of the cells": ('RATIO = 10\nNAMES = {"a", "b", "c"}', 'NAMES = {"c", "b", "a"}\nRATIO = 10'),
    "layout": ("return x ** power", "return (\n        x ** power)"),
}


@pytest.fixture(scope="module")
def base():
    return key(cell(CELLS).run, 0)


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_gives_another_key(what, base):
    old, new = CHANGES[what]
    assert CELLS.count(old) == 1
    changed = key(cell(CELLS.replace(old, new)).run, 0)
    assert isinstance(changed, str) and changed != base


@pytest.mark.parametrize("what", SAME)
def test_what_changes_no_number_changes_no_key(what, base):
    old, new = SAME[what]
    assert CELLS.count(old) == 1
    assert key(cell(CELLS.replace(old, new), "another cell").run, 0) == base


def test_a_function_that_has_run_keeps_its_key(base):
    """Python rewrites the code of a function that is called often."""
    cells = cell(CELLS)
    for _ in range(100):
        cells.run(1)
    assert key(cells.run, 0) == base


ARGUMENTS = [
    0, 1, True, 0.0, -0.0, 1.0, math.nan, None, "0", b"0", (0,), [0], {0}, frozenset({0}), {0: 0}, {"0": 0}, 1j,
    range(2),
    [[0], 0], [[0, 0]], (1, 2), (2, 1), {1: 2, 3: 4}, {3: 4, 1: 2}, "ab", ("a", "b"), ("ab",),
    np.zeros(2), np.zeros(2, np.float32), np.zeros((2, 1)), np.zeros((1, 2)), -np.zeros(2), np.array(["a"]),
    np.array(["a"], dtype=object), np.array([1, "1"], dtype=object), np.float64(0), np.float32(0), np.int64(0),
    torch.zeros(2), torch.zeros(2, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.float16), torch.zeros(2, 1),
    torch.zeros(2, requires_grad=True), torch.zeros(2, dtype=torch.int32), torch.eye(2)[0],
    torch.nn.Parameter(torch.zeros(2)),
    pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]}), pd.DataFrame({"a": [1.0]}), pd.DataFrame({"a": [1]}, index=[1]),
    pd.Series([1]), pd.Series([1], name="a"), pd.Index([1]), pd.Series(["a"]), pd.Series(["a"], dtype=object),
    np.random.default_rng(0), np.random.default_rng(1), torch.Generator().manual_seed(0),
    torch.Generator().manual_seed(1),
    int, float, torch.float32, torch.float64, torch.device("cpu"), np.float32, torch.relu, torch.nn.functional.relu,
    np.exp,
    np.log, partial(int, base=2), partial(int, base=3), "a".join, "b".join, str.join, torch.optim.SGD, torch.optim.Adam,
    Path("a"), Path("b"), re.compile("a"), re.compile("b"), int | str, int | float,
    torch.nn.Linear(2, 1, bias=False).requires_grad_(False), torch.nn.Flatten(),
    torch.nn.Flatten(2),
]


def test_arguments_that_differ_have_keys_that_differ():
    found = keys.keys(repr, [(argument,) for argument in ARGUMENTS])
    assert all(isinstance(each, str) for each in found), found
    assert len(set(found)) == len(ARGUMENTS)


def test_equal_arguments_have_equal_keys():
    def both():
        layer = torch.nn.Linear(2, 1)
        torch.nn.init.constant_(layer.weight, 0.5)
        torch.nn.init.constant_(layer.bias, 0.5)
        return [np.arange(6).reshape(2, 3)[:, ::2], torch.arange(6).reshape(2, 3), {"b", "a"}, layer, [1, {"a": ()}],
                pd.DataFrame({"a": ["x", "y"], "b": [1.5, math.nan]}), partial(int, base=2), slice(1, 2)]
    assert key(repr, *both()) == key(repr, *both())


def test_the_order_that_a_set_happens_to_have_is_not_in_its_key():
    one, other = {0, 8}, {8, 0}  # both fall on one place, and whichever came first has it
    assert one == other and list(one) != list(other)
    assert key(repr, one) == key(repr, other) and key(repr, frozenset(one)) == key(repr, frozenset(other))


def test_each_argument_counts_in_its_place():
    assert key(divmod, 1, 2) != key(divmod, 2, 1)
    assert key(max, (1, 2)) != key(max, 1, 2)
    assert key(max, 1) != key(min, 1)


def test_what_cannot_be_followed_has_no_key():
    import threading

    cells = cell("""
        import importlib
        count = 0

        def counting(seed):
            global count
            count += 1
            return count

        def evaluated(text):
            return eval(text)

        def imported(name):
            return importlib.import_module(name).value

        def locked(seed):
            return lock

        def outer(seed):
            return [counting(seed)]
        """, lock=threading.Lock())
    for function, words in [(cells.counting, "count, which a job changes"), (cells.evaluated, r"eval\(…\)"),
                            (cells.imported, r"import_module\(…\)"), (cells.locked, "lock.*reached by locked"),
                            (cells.outer, "reached by counting")]:
        found = key(function, 1)
        assert isinstance(found, Unkeyable) and re.search(words, str(found)), found


def test_a_layer_that_has_run_keeps_its_key(monkeypatch):
    """PyG writes methods into a class at its first use; it asks for the class's text, which a notebook has not."""
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    cells = cell("""
        import torch
        from torch_geometric.nn import MessagePassing

        class Layer(MessagePassing):
            def forward(self, inputs, edges):
                return self.propagate(edges, x=inputs)

            def message(self, x_j):
                return x_j + 1

        def job(seed):
            return Layer()(torch.ones(2, 1), torch.tensor([[0], [1]])).tolist()
        """)
    before = key(cells.job, 0)
    assert cells.job(0) == [[0.0], [2.0]]
    assert "_jinja_propagate" in vars(cells.Layer) and key(cells.job, 0) == before


def test_what_helpers_and_a_cell_share_has_one_key_here_and_in_a_worker():
    """A worker imports helpers, and gets a copy of what the cell has from them."""
    cells = cell("""
        from helpers.datasets import _IMAGE_SETS as known
        from helpers.datasets import load_images

        def job(seed, twice):
            return [known, load_images, twice]
        """)
    once = [1]
    function, job = cloudpickle.loads(cloudpickle.dumps((cells.job, (0, [once, once]))))
    assert function.__globals__["known"] is not datasets._IMAGE_SETS
    assert isinstance(key(function, *job), str)
    assert key(function, *job) == key(cells.job, 0, [once, once]) != key(cells.job, 0, [once, [1]])


def test_circles_end():
    cells = cell("""
        def even(n):
            return n == 0 or odd(n - 1)

        def odd(n):
            return n != 0 and even(n - 1)
        """)
    ring = [1]
    ring.append(ring)
    assert key(cells.even, ring) == key(cells.even, ring)
    assert key(cells.even, 1) != key(cells.odd, 1)


ELSEWHERE = """
import sys
sys.path.insert(0, {tests!r})
import test_runs
from helpers import chapters
print(test_runs.key(test_runs.cell(test_runs.CELLS).run, 0))
print(test_runs.key(chapters.load("resampling/long_tailed_digits").label_shuffling, 3))
"""


def elsewhere(program, *arguments, **environment):
    ran = subprocess.run([sys.executable, "-c", program, *arguments], text=True, capture_output=True, check=False,
                         timeout=900, env=os.environ | {"PYTHONPATH": str(ROOT)} | environment)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


def test_another_process_finds_the_same_keys(base):
    chapter = chapters.load("resampling/long_tailed_digits")
    expected = [base, key(chapter.label_shuffling, 3)]
    other = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    assert elsewhere(ELSEWHERE.format(tests=str(ROOT / "tests")), PYTHONHASHSEED=other) == expected


GIVES_WORK = {"parallel", "compare", "in_arena"}  # what calls these is no job, it hands out jobs


@pytest.mark.parametrize("chapter", [path.relative_to(ROOT / "notebooks").with_suffix("").as_posix()
                                     for path in sorted((ROOT / "notebooks").glob("*/*.py"))])
def test_a_chapters_functions_have_the_same_key_in_two_loads_and_in_a_worker(chapter):
    text = (ROOT / "notebooks" / f"{chapter}.py").read_text(encoding="utf-8")

    def defined(name="here", before=""):
        scope = {"__name__": "__main__"}
        exec(compile(chapters.definitions(before + text), name, "exec"), scope)
        return scope

    one, two = defined(), defined("elsewhere", "# a line\n\n")
    for name, function in one.items():
        if not isinstance(function, types.FunctionType) or function.__globals__ is not one:
            continue
        if GIVES_WORK & set(function.__code__.co_names):
            continue
        found = key(function, 0)
        assert isinstance(found, str) and found == key(two[name], 0), (name, found)
        sent = defined()[name]  # of its own: what cloudpickle loads, it writes into the classes that it has sent
        with contextlib.suppress(pickle.PicklingError):  # a cached function goes to no worker
            assert found == key(cloudpickle.loads(cloudpickle.dumps(sent)), 0), name


HELPERS = """
import sys
from pathlib import Path

HERE = Path(sys.argv[1])
sys.path.insert(0, str(HERE))


def found():
    for name in [name for name in sys.modules if name.partition(".")[0] == "helpers"]:
        del sys.modules[name]
    from helpers import keys
    from helpers.datasets import long_tailed
    from helpers.experiments import _train
    from helpers.training import Recipe
    assert Path(keys.__file__).parent.parent == HERE
    return keys.keys(_train, [(long_tailed, 0, {"baseline": Recipe()})])[0]


def edited(module, old, new):
    path = HERE / "helpers" / f"{module}.py"
    text = path.read_text(encoding="utf-8")
    assert old in text, (module, old)
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return found()


print(found())
print(edited("plots", "import numpy as np", "import numpy as np\\nSIZE = 3"))
print(edited("experiments", "def compare(", "SIZE = 3\\n\\n\\ndef compare("))
print(edited("training", "def sgd(", "# as ever\\n\\n\\ndef sgd(  # how a step is made\\n    "))
print(edited("models", "nn.Conv2d(1, 10, 5)", "nn.Conv2d(1, 12, 5)"))
print(edited("training", "Stochastic gradient descent", "Gradient descent"))
print(edited("training", "momentum: float = 0.9", "momentum: float = 0.8"))
print(edited("models", "nn.Conv2d(1, 16, 5,", "nn.Conv2d(1, 12, 5,"))
print(edited("datasets", "validation: int = 100", "validation: int = 90"))
print(edited("metrics", "def recall_per_class(", "print()\\n\\n\\ndef recall_per_class("))
print(edited("files", "class NoData(", "os.environ['A'] = ''\\n\\n\\nclass NoData("))
"""


def test_an_edit_to_helpers_counts_where_it_is_reached(tmp_path):
    """Five edits that reach no number, five that may."""
    shutil.copytree(ROOT / "helpers", tmp_path / "helpers")
    # Python takes a compiled file for current whose source has the same size and second: two edits may fall into one.
    before, *found = elsewhere(HELPERS, tmp_path, BOOK_RUNS="off", PYTHONDONTWRITEBYTECODE="1")
    assert found[:5] == [before] * 5
    assert len({before, *found[5:]}) == 6


def test_the_machine_is_in_the_key(monkeypatch):
    before = key(divmod, 7, 2)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert key(divmod, 7, 2) != before
    monkeypatch.undo()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "ANOTHER")
    assert key(divmod, 7, 2) != before
    monkeypatch.undo()
    monkeypatch.setattr(surroundings, "version", lambda package: "0")
    assert key(divmod, 7, 2) != before
    monkeypatch.undo()
    monkeypatch.setattr(surroundings, "in_bfloat16", lambda device: "another")
    assert key(divmod, 7, 2) != before


def test_the_version_of_a_package_is_in_the_key(monkeypatch):
    import tqdm

    before = key(tqdm.tqdm, 1)
    monkeypatch.setattr(keys, "version_of", lambda module: "0")
    assert key(tqdm.tqdm, 1) != before


# ---------------------------------------------------------------------------------------------------------- values

def same(one, two):
    """Equal bit for bit, dtype for dtype."""
    if type(one) is not type(two):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == two.dtype and one.shape == two.shape and store.tensor_bytes(one) == store.tensor_bytes(two)
    if isinstance(one, np.ndarray | np.generic):
        if one.dtype != two.dtype or np.shape(one) != np.shape(two):
            return False
        if one.dtype == object:
            return same(one.ravel().tolist(), two.ravel().tolist())
        return one.tobytes() == two.tobytes()
    if isinstance(one, pd.MultiIndex):
        return one.names == two.names and same(one.tolist(), two.tolist()) and all(map(same, one.levels, two.levels))
    if isinstance(one, pd.RangeIndex):
        return all(getattr(one, fact) == getattr(two, fact) for fact in ("start", "stop", "step", "name"))
    if isinstance(one, pd.Index | pd.Series):
        return (one.dtype == two.dtype and one.name == two.name and same(list(one), list(two))
                and (isinstance(one, pd.Index) or same(one.index, two.index)))
    if isinstance(one, pd.DataFrame):
        return same(one.columns, two.columns) and same(one.index, two.index) and all(
            same(one.iloc[:, place], two.iloc[:, place]) for place in range(one.shape[1]))
    if isinstance(one, float):
        return np.float64(one).tobytes() == np.float64(two).tobytes()
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, dict):
        return same(list(one.items()), list(two.items()))
    return one == two


NAN = np.frombuffer(np.uint64(0xFFF8000000000123).tobytes(), np.float64)[0]
VALUES = [
    None, True, False, 0, -1, 10**30, 0.1, -0.0, math.inf, -math.inf, math.nan, float(NAN), "", "é\ud800\0", b"",
    b"\0\xff", [],
    (), {}, set(), {1, "a", (2,)}, frozenset({1}), [[1], (2, [3])], {("a", 1): [1.5], None: {}, 2: {"x": ()}},
    ["list", [1]], ["float", "00"],
    np.zeros(0), np.zeros((0, 3), np.float32), np.array(2.5), np.array([NAN, -0.0]),
    np.arange(6, dtype=np.int8).reshape(2, 3).T,
    np.array(["ab", "c"]), np.array([], dtype="U3"), np.array([True]), np.array([1j]),
    np.array(["2020-01-01"], "M8[D]"), np.arange(3, dtype=">i4"),
    np.array(["a", None, 1.5, (1,)], dtype=object), np.array([], dtype=object), np.float32(0.1), np.float64(NAN),
    np.int64(3), np.bool_(True), np.str_("a"),
    torch.zeros(0), torch.tensor(1.5), torch.tensor([math.nan, -0.0]), torch.randn(3, 4).to(torch.bfloat16),
    torch.arange(6).reshape(2, 3).T,
    torch.tensor([True, False]), torch.tensor([1j]), torch.zeros(2, 0, 3, dtype=torch.float16),
    torch.arange(4, dtype=torch.uint8)[::2],
    pd.DataFrame(), pd.DataFrame({"a": []}),
    pd.DataFrame({"a": pd.Series([], dtype=np.int8), "b": pd.Series([], dtype="str")}), pd.DataFrame(index=[3, 4]),
    pd.DataFrame({"a": [1, 2], "b": [NAN, -0.0], "c": ["x", None], "d": [True, False]}),
    pd.DataFrame({"a": ["x", 1, None]}, dtype=object),
    pd.DataFrame([[1, 2.5], [3, 4.5]], columns=["a", "a"], index=["u", "v"]),
    pd.DataFrame({"a": pd.Categorical(["x", "y", None], ["y", "x"], ordered=True)}),
    pd.DataFrame({("a", 1): [1], ("b", 2): [2.5]}),
    pd.DataFrame({"v": [1, 2]}, index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", None])),
    pd.DataFrame({0: [1], 1: [2]}), pd.DataFrame({"a": [1.5]}, index=pd.RangeIndex(3, 4, name="n")),
    pd.DataFrame({"a": ["x"]}, dtype="string"),
    pd.Series([1.5, 2.5], index=["a", "b"], name="s"), pd.Series([], dtype=float), pd.Series(["a"]).value_counts(),
    pd.DataFrame({"t": pd.to_datetime(["2020-01-01"])}),
    pd.DataFrame({"a": np.array([1, 2], np.float32)}),
    pd.Series(["a", "b"], dtype=object, index=pd.Index([1.5, 2.5], name="f")),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_is_kept_comes_back_bit_for_bit(value):
    back, facts = store.decode(store.encode(value, {"seconds": 1.5}))
    assert same(value, back) and facts == {"seconds": 1.5}


def test_what_comes_back_can_be_changed():
    array, tensor = store.decode(store.encode([np.zeros(2), torch.zeros(2)]))[0]
    array[0], tensor[0] = 1, 1
    assert array.sum() == tensor.sum() == 1


@pytest.mark.parametrize(("value", "words"), [
    (object(), "builtins.object"), ([{"a": torch.nn.Flatten()}], "torch.nn.modules.flatten.Flatten"),
    (torch.zeros(1, requires_grad=True), "requires a gradient"),
    (torch.eye(2).to_sparse(), "sparse"), (type("Odd", (dict,), {})(), "Odd"), (lambda: 0, "function"),
    (pd.Timestamp(0), "Timestamp"),
    (torch.nn.Parameter(torch.zeros(1)), "Parameter"), (pd.Series([1, None], dtype="Int64"), "Int64"),
    (np.zeros(1, [("a", int)]), r"\[\('a'")])
def test_what_is_not_plain_data_is_named(value, words):
    with pytest.raises(store.Unstorable, match=words):
        store.encode(value)


def test_every_damage_is_seen():
    content = store.encode({"a": np.arange(20.0)})
    for place in range(0, len(content), 7):
        with pytest.raises(store.Damaged):
            store.decode(content[:place] + bytes([content[place] ^ 1]) + content[place + 1:])
    for cut in (0, 5, 40, len(content) - 1):
        with pytest.raises(store.Damaged):
            store.decode(content[:cut])
    with pytest.raises(store.Damaged):
        store.decode(content + b"\0")


# ---------------------------------------------------------------------------------------------------------- the store

COUNTED = """
from pathlib import Path

def job(seed, place):
    with open(place, "a") as log:
        log.write(f"{seed} ")
    return {"seed": seed, "nothing": float("nan")}
"""


def counted(tmp_path):
    log = tmp_path / "log"
    log.touch()
    return cell(COUNTED).job, log


def test_a_job_is_run_once_and_for_all(tmp_path, capsys):
    job, log = counted(tmp_path)
    first = parallel(job, [(seed, str(log)) for seed in range(2)])
    again = parallel(cell(COUNTED).job, [(seed, str(log)) for seed in range(4)])
    assert log.read_text() == "0 1 2 3 " and [found["seed"] for found in again] == [0, 1, 2, 3]
    assert repr(again[:2]) == repr(first)
    assert "2 of 4 runs from the store" in capsys.readouterr().out


def test_what_was_computed_since_the_queue_began_is_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("BOOK_WORKERS", "1")
    job, log = counted(tmp_path)
    first, second = parallel(job, [(7, str(log)), (7, str(log))])  # neither is there when the queue begins
    assert repr(first) == repr(second) and log.read_text() == "7 "


def test_a_run_that_is_taken_late_keeps_the_seconds_of_its_training(shop):
    job = cell("def job(seed):\n    return seed").job
    store.write(shop, key(job, 7), 7, {"seconds": 240.0})
    assert runs._run(job, (7,), key(job, 7), shop) == (7, 240.0, "", set())


def test_minutes_are_those_of_a_chapter_that_finds_nothing_in_the_store(shop, monkeypatch):
    monkeypatch.setattr(runs, "_stored", [])
    monkeypatch.setenv("BOOK_WORKERS", "2")
    job = cell("def job(seed):\n    return seed").job
    store.write(shop, key(job, 7), 7, {"seconds": 240.0})
    assert parallel(job, [(7,)]) == [7] and runs.minutes(time.time() - 60) == pytest.approx(1 + 2, abs=0.1)


def test_off_is_off_and_a_folder_is_a_folder(tmp_path, monkeypatch):
    job, log = counted(tmp_path)
    monkeypatch.setenv("BOOK_RUNS", "off")
    for _ in range(2):
        parallel(job, [(0, str(log))])
    assert log.read_text() == "0 0 "
    monkeypatch.delenv("BOOK_RUNS")
    monkeypatch.setenv("BOOK_BUILD", str(tmp_path / "built"))
    parallel(job, [(0, str(log))])
    assert len(list((tmp_path / "built/runs").glob("??/*.run"))) == 1
    monkeypatch.setenv("BOOK_RUNS", str(tmp_path / "moved"))
    parallel(job, [(0, str(log))])
    assert len(list((tmp_path / "moved").glob("??/*.run"))) == 1


def test_a_damaged_entry_is_computed_again(tmp_path, shop, capsys):
    job, log = counted(tmp_path)
    parallel(job, [(0, str(log))])
    (entry,) = shop.glob("??/*.run")
    whole = entry.read_bytes()
    entry.write_bytes(whole[:-3])
    for _ in range(2):
        assert parallel(job, [(0, str(log))])[0]["seed"] == 0
    assert log.read_text() == "0 0 "
    assert f"{entry} is damaged" in capsys.readouterr().out
    assert store.decode(entry.read_bytes())[0]["seed"] == 0


def test_what_is_not_plain_data_is_not_kept_and_says_so(shop, capsys):
    job = cell("def job(seed): return [seed, object]").job
    for _ in range(2):
        assert parallel(job, [(0,), (1,)]) == [[0, object], [1, object]]
    assert not list(shop.glob("??/*"))
    assert capsys.readouterr().out.count("not kept, because of a builtins.type") == 1


def test_an_entry_of_another_edition_is_damaged(monkeypatch):
    content = store.encode(np.zeros(2))
    monkeypatch.delitem(store._DECODERS, "array")
    with pytest.raises(store.Damaged, match="KeyError"):
        store.decode(content)


def test_what_has_no_name_is_run_all_the_same():
    job = partial(divmod, 7)
    assert parallel(job, [(2,), (3,)]) == parallel(job, [(2,), (3,)]) == [(3, 1), (2, 1)]


def test_what_has_no_key_is_not_kept_and_says_so(shop, capsys):
    job = cell("def job(seed): return eval(seed)").job
    for _ in range(2):
        assert parallel(job, [("1",), ("2",)]) == [1, 2]
    assert not list(shop.glob("??/*"))
    assert capsys.readouterr().out.count("job: its results are not kept, because they depend on eval(…)") == 1


STAND_IN = """
from helpers.datasets import long_tailed

def job(seed, data):
    return len(long_tailed(seed=seed, data=data).train)
"""


@pytest.mark.parametrize("count", ["1", "2"])
def test_what_a_stand_in_gives_is_not_kept(shop, monkeypatch, count):
    monkeypatch.setenv("BOOK_WORKERS", count)
    monkeypatch.setattr(runs, "_pool", functools.cache(runs._pool.__wrapped__))  # workers that no other test meets
    job = cell(STAND_IN).job
    assert len(set(parallel(job, [(0, "stand-in"), (1, "stand-in")]))) == 1
    assert not list(shop.glob("??/*"))
    assert files.stand_ins == {"stand-in for MNIST"}


def test_a_process_with_a_stand_in_neither_reads_nor_writes(tmp_path, shop):
    job, log = counted(tmp_path)
    parallel(job, [(0, str(log))])
    files.stand_ins.add("stand-in for a test")
    parallel(job, [(0, str(log)), (1, str(log))])
    assert log.read_text() == "0 0 1 "
    assert len(list(shop.glob("??/*.run"))) == 1


def test_a_fallback_is_a_stand_in_and_real_data_are_none(tmp_path, monkeypatch):
    def missing():
        raise files.NoData
    assert files.resolve("auto", lambda: 1, lambda: 2) == 1 and not files.stand_ins
    assert files.resolve("auto", missing, lambda: 2) == 2 and files.stand_ins


def test_a_result_is_not_kept_under_a_key_that_is_not_its_own(tmp_path, shop, capsys):
    """Helpers that are edited while a cell runs: a worker that starts later is not the one that was asked for."""
    job, log = counted(tmp_path)
    wrong = key(job, 1, str(log))
    result, _, note, _ = runs._run(job, (0, str(log)), wrong, shop)
    assert result["seed"] == 0 and "has changed since" in note
    assert not list(shop.glob("??/*"))


def test_an_entry_from_other_data_is_computed_again(tmp_path, monkeypatch):
    monkeypatch.setenv("BOOK_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/words").write_text("one")
    job = cell("""
        from helpers import files

        def job(seed):
            files.used["words"] = files.digest("words")
            return (files.data_folders()[0] / "words").read_text()
        """).job
    assert parallel(job, [(0,)]) == ["one"]
    monkeypatch.setattr(files, "used", {})
    assert parallel(job, [(0,)]) == ["one"]
    (tmp_path / "data/words").write_text("two")
    os.utime(tmp_path / "data/words", (1, 1))
    assert parallel(job, [(0,)]) == ["two"]


def test_two_processes_may_meet(tmp_path):
    program = """
import sys
from pathlib import Path
from helpers import store
root, start = Path(sys.argv[1]), Path(sys.argv[2])
while not start.exists():
    pass
for turn in range(40):
    store.write(root, "ab12", list(range(turn % 7, 5000)), {})
    found, _ = store.read(root, "ab12")
    assert found[-1] == 4999, found
"""
    start, root = tmp_path / "start", tmp_path / "shared"
    both = [subprocess.Popen([sys.executable, "-c", program, str(root), str(start)], stderr=subprocess.PIPE,
                             env=os.environ | {"PYTHONPATH": str(ROOT)}) for _ in range(2)]
    start.touch()
    assert [process.communicate(timeout=600) and process.returncode for process in both] == [0, 0]
    assert [path.name for path in root.glob("??/*")] == ["ab12.run"]


def test_an_entry_that_could_not_be_written_whole_changes_nothing(shop, monkeypatch):
    def full(path, content):
        with path.open("wb") as file:
            file.write(content[:len(content) // 2])
        raise OSError("no space left on device")

    store.write(shop, "ab12", "old", {})
    monkeypatch.setattr(Path, "write_bytes", full)
    for name in ("ab12", "cd34"):
        with pytest.raises(OSError, match="no space"):
            store.write(shop, name, "new", {})
    assert [path.name for path in shop.glob("??/*")] == ["ab12.run"] and store.read(shop, "ab12")[0] == "old"


def test_what_was_not_used_for_long_goes_first(shop):
    for place, name in enumerate(["aa1", "bb2", "cc3"]):
        store.write(shop, name, b"x" * 1000, {})
        os.utime(store.path_of(shop, name), (place, place))
    store.read(shop, "aa1")  # used just now
    size = store.path_of(shop, "aa1").stat().st_size
    store.forget(shop, 3 * size)
    assert len(list(shop.glob("??/*"))) == 3
    store.forget(shop, 2 * size)
    assert sorted(path.stem for path in shop.glob("??/*")) == ["aa1", "cc3"]


def test_a_store_that_cannot_be_written_to_stops_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("BOOK_RUNS", str(tmp_path / "file"))
    assert parallel(divmod, [(7, 2), (9, 2)]) == [(3, 1), (4, 1)]
    assert capsys.readouterr().out.count("not kept, because of") == 1


def test_reading_needs_no_pickle(shop, monkeypatch):
    parallel(cell("def job(seed): return [seed, {'a': (1.5, None)}]").job, [(0,)])
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.delattr(pickle, name)
    assert parallel(cell("def job(seed): return [seed, {'a': (1.5, None)}]").job, [(0,)]) == [[0, {"a": (1.5, None)}]]
    (entry,) = shop.glob("??/*.run")
    assert b"\x80\x04" not in entry.read_bytes()


# ---------------------------------------------------------------------------------------------------------- workers

def test_workers_find_the_key_that_was_asked_for(shop, monkeypatch, capsys):
    """A function of a notebook reaches a worker by cloudpickle, and is the same job there."""
    monkeypatch.setenv("BOOK_WORKERS", "2")
    plain = CELLS.replace("metrics.recall_per_class, ", "").replace("@functools.cache\n", "")
    first = parallel(cell(plain).run, [(1,), (2,), (3,)])
    assert "not kept" not in (said := capsys.readouterr().out), said
    assert len(list(shop.glob("??/*.run"))) == 3
    assert same(first, parallel(cell(plain).run, [(1,), (2,), (3,)]))
    assert "3 of 3 runs from the store" in capsys.readouterr().out


def test_a_function_of_numpy_or_scipy_is_sent_by_its_library():
    """It does not say where it comes from; pickle's own search for it can end at the notebook, which no worker has."""
    for function, home in ((expit, b"scipy"), (np.exp, b"numpy")):
        sent = runs._packed((function, lambda rows, function=function: function(rows)))
        assert home in sent and b"getattr" in sent
        assert cloudpickle.loads(sent)[0] is function


@pytest.mark.parametrize("wrong", ["abc", "0", "-1", "1.5", "²"])
def test_a_strange_number_of_workers_is_named(monkeypatch, wrong):
    monkeypatch.setenv("BOOK_WORKERS", wrong)
    with pytest.raises(ValueError, match=f"BOOK_WORKERS='{wrong}'.*whole number"):
        workers()


def test_the_longest_job_comes_first(tmp_path, monkeypatch):
    job = cell("""
        import time

        def job(technique, seed, place):
            with open(place, "a") as log:
                log.write(technique + str(seed) + " ")
            time.sleep({"long": 0.2, "short": 0.0, "mid": 0.1}.get(technique, 0))
        """).job
    log = tmp_path / "log"
    order = ["short", "mid", "long"]
    parallel(job, [(name, 0, str(log)) for name in order])
    parallel(job, [(name, 1, str(log)) for name in [*order, "new"]])
    assert log.read_text() == "short0 mid0 long0 new1 long1 mid1 short1 "


def test_the_order_of_the_results_is_that_of_the_jobs(monkeypatch):
    monkeypatch.setenv("BOOK_WORKERS", "2")
    monkeypatch.setenv("BOOK_RUNS", "off")
    job = cell("""
        import time

        def job(seconds):
            time.sleep(seconds)
            return seconds
        """).job
    assert parallel(job, [(0.3,), (0.0,), (0.2,), (0.1,)]) == [0.3, 0.0, 0.2, 0.1]


def test_progress_is_told_to_the_command_and_not_to_the_page(tmp_path, monkeypatch, capsys):
    build, told = tmp_path / "built", tmp_path / "progress.jsonl"
    for name, value in {"BOOK_BUILD": build, "BOOK_PROFILE": "draft", "BOOK_PROGRESS": told}.items():
        monkeypatch.setenv(name, str(value))
    job = cell("def job(seed): return seed").job
    parallel(job, [(seed,) for seed in range(3)])
    parallel(job, [(seed,) for seed in range(4)])
    parallel(cell("def job(seed): return object()").job, [(0,)])
    first, *lines = [json.loads(line) for line in told.read_text().splitlines()]
    assert (first["runs"], first["stored"], [list(line) for line in lines[:3]]) == (3, 0, [["seconds"]] * 3)
    assert lines[3]["runs"] == 4 and lines[3]["stored"] == 3 and lines[3]["time"] >= first["time"]
    assert lines[4]["seconds"] >= 0 and lines[5]["runs"] == 1
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    said = (build / "logs/draft/runs.log").read_text()
    assert said == "job: its results are not kept, because of a builtins.object\n"


STOPPED = """
import os, signal, sys, threading, time
from pathlib import Path

from helpers.runs import parallel

HERE = Path(sys.argv[1])


def wait_for(*names):
    while not all((HERE / name).exists() for name in names):
        time.sleep(0.01)


def job(turn, name):
    if name == "quick":
        return
    try:
        (HERE / f"{turn} {name} began").touch()
        wait_for(f"{turn} is over")
    except KeyboardInterrupt:
        (HERE / f"{turn} {name} stopped").touch()
        raise


def interrupt_once(*names):
    wait_for(*names)
    os.killpg(0, signal.SIGINT)


if __name__ == "__main__":
    for turn, names, busy in [("all", [str(n) for n in range(40)], ["0", "1"]), ("one", ["0", "quick"], ["0"])]:
        threading.Thread(target=interrupt_once, args=[f"{turn} {name} began" for name in busy]).start()
        try:
            parallel(job, [(turn, name) for name in names])
        except KeyboardInterrupt:
            wait_for(*[f"{turn} {name} stopped" for name in busy])
            print("stopped")
        (HERE / f"{turn} is over").touch()
    print(parallel(divmod, [(7, 2), (7, 3)]))
"""


def test_a_cell_that_is_stopped_leaves_workers_for_the_next(tmp_path):
    """Jupyter interrupts the kernel and all of its workers, busy or idle."""
    (tmp_path / "stopped.py").write_text(STOPPED, encoding="utf-8")
    facts = {"BOOK_WORKERS": "2", "BOOK_PROFILE": "smoke", "BOOK_RUNS": "off", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, tmp_path / "stopped.py", tmp_path], text=True, capture_output=True,
                         timeout=900, env=os.environ | facts, start_new_session=True, check=False)
    assert (ran.stdout, ran.returncode) == ("stopped\nstopped\n[(3, 1), (2, 1)]\n", 0), ran.stderr
    assert len(list(tmp_path.glob("all * began"))) < 20, "the next cell waited for what the stopped one had queued"
    assert "KeyboardInterrupt" not in ran.stderr
