"""What a job depends on, as a key: equal in another process and on another day, different when anything changes.

A key is a hash over the job's function and everything that it reaches, *by value*: the code of functions (what Python
runs, so comments, docstrings, positions and file names are not in it), their defaults, closures and the globals they
name, classes with attributes and bases, the arguments. Installed packages stand in it by name and version.

A wrong hit would be the worst fault of the book. So what cannot be followed has no key (`Unkeyable`), and where it is
doubtful whether something matters, it is in the key.
"""

from __future__ import annotations

import builtins
import copyreg
import dis
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import struct
import sys
import types
from collections import deque
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from helpers import files
from helpers.surroundings import environment, is_foreign, text, version_of

_UNFOLLOWED = (eval, exec, globals, __import__, importlib.import_module)
_NOT_CODE = {"__module__", "__doc__", "__dict__", "__weakref__", "__abstractmethods__", "_abc_impl", "__slotnames__",
             "__firstlineno__", "__static_attributes__", "__annotate__", "__annotate_func__", "__annotations_cache__"}
_TOLD_OF_A_CLASS = {"__doc__", "__firstlineno__", "__static_attributes__"}  # the last two since Python 3.13
_DESCRIPTORS = (types.WrapperDescriptorType, types.MethodDescriptorType, types.ClassMethodDescriptorType,
                types.GetSetDescriptorType, types.MemberDescriptorType)


class Unkeyable(TypeError):
    """Raised for a job of which cannot be told what it depends on."""


def keys(function: Callable, jobs: list[tuple]) -> list[str | Unkeyable]:
    """The key of each job, 64 hexadecimal digits, or why it has none.

    Parameters
    ----------
    function : callable
    jobs : list of tuple
        Arguments for each call.

    Examples
    --------
    >>> one, same, other = keys(divmod, [(7, 2), (7, 2), (7.0, 2)])
    >>> one == same, one == other
    (True, False)
    """
    start = _Walk()
    trouble = _try(lambda: (start.token(environment()), start.value(function).digest()))
    if isinstance(trouble, Unkeyable):
        return [trouble] * len(jobs)
    return [_try(lambda job=job: start.copy().value(tuple(job)).digest()) for job in jobs]


def _try(work: Callable):
    try:
        return work()
    except Unkeyable as trouble:
        return trouble
    except Exception as error:  # whatever an object does when it is looked at; it is said, and the job is not kept
        return Unkeyable(f"a value that raises {type(error).__name__}: {error}")


class _Walk:
    """Feeds a hash with all that a value reaches.

    What was met before is named by its place, so that circles end; definitions wait in a queue, so that nothing nests
    deeply. An object that two modules share is met in each: a worker imports one of them and may get a copy from the
    other.
    """

    def __init__(self):
        self._hash, self._met, self._kept, self._queue, self._owner = hashlib.sha256(), {}, [], deque(), None
        self._home = ""

    def copy(self) -> _Walk:
        other = _Walk()
        other._hash, other._met, other._kept = self._hash.copy(), dict(self._met), list(self._kept)
        return other

    def digest(self) -> str:
        while self._queue:
            self._owner = owner = self._queue.popleft()
            self.token("definition", str(self._met["definition", id(owner)]))
            self._home = owner.__module__ if isinstance(owner, type) else owner.__globals__.get("__name__", "")
            (self._class if isinstance(owner, type) else self._function)(owner)
        return self._hash.hexdigest()

    def token(self, *parts: str | bytes) -> None:
        for part in parts:
            content = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
            self._hash.update(b"%s%d:" % (b"b" if content is part else b"s", len(content)))
            self._hash.update(content)

    def value(self, value) -> _Walk:
        self._dispatch(value)
        return self

    def each(self, what: str, values) -> None:
        values = list(values)
        self.token(what, str(len(values)))
        for value in values:
            self.value(value)

    def _refuse(self, why: str):
        raise Unkeyable(why + (f", reached by {self._owner.__qualname__}" if self._owner else ""))

    def _again(self, value, home: str) -> bool:
        """Whether `value` was met before at its home; if so, name it by its place."""
        home = "" if home in ("__main__", "__mp_main__") else home
        place = self._met.setdefault((home, id(value)), len(self._met))
        if place < len(self._kept):
            self.token("met", str(place))
            return True
        self._kept.append(value)  # alive, so that its id stays its own
        return False

    def _dispatch(self, value) -> None:
        kind = type(value)
        if value is None or value is Ellipsis or value is NotImplemented or kind in (bool, int, range):
            self.token(kind.__name__, repr(value))
        elif kind is float:
            self.token("float", struct.pack("<d", value))
        elif kind is complex:
            self.token("complex", struct.pack("<dd", value.real, value.imag))
        elif kind in (str, bytes):
            self.token(kind.__name__, value)
        elif kind is tuple:
            self.each("tuple", value)
        elif kind in (set, frozenset):  # their order is another in each process
            self.token(kind.__name__, *sorted(_Walk().value(entry).digest() for entry in value))
        elif kind is types.CodeType:
            self._code(value, {})
        elif isinstance(value, types.ModuleType):
            self._module(value)
        elif isinstance(value, type) or kind is types.FunctionType:
            if not self._by_name(value) and not self._again(value, "definition"):
                self._queue.append(value)
                self.token("defined below")
        elif kind is types.BuiltinFunctionType:
            if not self._by_name(value):
                if value.__self__ is None:
                    self._refuse(f"the built-in {value.__qualname__}")
                self.token("bound", value.__name__)
                self.value(value.__self__)
        elif kind in _DESCRIPTORS:
            self.token("descriptor", value.__name__)
            self.value(value.__objclass__) if is_foreign(value.__objclass__.__module__) else None
        elif not self._again(value, self._home):
            self._object(value, kind)

    # ------------------------------------------------------------------ data

    def _object(self, value, kind: type) -> None:
        if kind is list:
            self.each("list", value)
        elif kind is dict or kind is types.MappingProxyType:
            self.token(kind.__name__, str(len(value)))
            for name, entry in value.items():
                self.value(name)
                self.value(entry)
        elif isinstance(value, torch.Tensor):
            self._tensor(value, kind)
        elif isinstance(value, np.ndarray | np.generic):
            self._array(value, kind)
        elif isinstance(value, torch.Generator):
            self.token("generator", str(value.device))
            self.value(value.get_state())
        elif isinstance(value, pd.DataFrame):
            self.value(kind)
            self.each("frame", [value.columns, value.index, *(value.iloc[:, place] for place in range(value.shape[1]))])
        elif isinstance(value, pd.Series):
            self.value(kind)
            self.each("series", [value.name, str(value.dtype), value.index, value.to_numpy()])
        elif isinstance(value, pd.Index):
            self.value(kind)
            self.each("index", [list(value.names), str(value.dtype), value.to_numpy()])
        elif isinstance(value, set | frozenset):
            self.value(kind)
            self.token("set", *sorted(_Walk().value(entry).digest() for entry in value))
            self.value(getattr(value, "__dict__", None))
        elif kind is functools.partial:
            self.each("partial", [value.func, value.args, value.keywords])
        elif kind is types.MethodType:
            self.each("method", [value.__func__, value.__self__])
        elif kind is types.CellType:
            self._cell(value)
        elif isinstance(value, functools._lru_cache_wrapper):
            self.each("cached", [value.__wrapped__])
        elif isinstance(value, property):
            self.each("property", [kind, value.fget, value.fset, value.fdel])
        elif isinstance(value, staticmethod | classmethod):
            self.each(kind.__name__, [value.__func__])
        elif isinstance(value, functools.cached_property):
            self.each("cached property", [value.func])
        else:
            self._reduced(value, kind)

    def _tensor(self, value: torch.Tensor, kind: type) -> None:
        if value.layout != torch.strided or value.is_quantized:
            self._refuse(f"a tensor of layout {value.layout}")
        self.value(kind)
        strides = "" if value.is_contiguous() else str(value.stride())
        self.token("tensor", str(value.dtype), str(tuple(value.shape)), strides, value.device.type,
                   str(value.requires_grad), tensor_bytes(value))

    def _array(self, value: np.ndarray | np.generic, kind: type) -> None:
        self.value(kind)
        array = np.asarray(value)
        order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
        self.token("array", repr(array.dtype), str(array.shape), order)
        if array.dtype.hasobject:
            self.each("objects", array.ravel().tolist())
        else:
            self.token(array.tobytes())

    def _reduced(self, value, kind: type) -> None:
        """Any other object: as pickle takes it apart, since that is what a worker gets."""
        if self._by_name(value):  # a function in Cython, say
            return None
        try:
            reduce = copyreg.dispatch_table.get(kind)
            parts = reduce(value) if reduce else value.__reduce_ex__(4)
        except Exception as error:  # an object may refuse in any way
            self._refuse(f"a {kind.__module__}.{kind.__qualname__} ({error})")
        self.token("object")
        self.value(kind)
        if isinstance(parts, str):  # a global of a package, told by its name
            module = getattr(value, "__module__", None) or kind.__module__
            if not is_foreign(module):
                self._refuse(f"a {kind.__module__}.{kind.__qualname__} that is known by name alone")
            return self.token("name", module, parts)
        for part in parts:
            self.value(list(part) if hasattr(part, "__next__") else part)
        return None

    # ------------------------------------------------------------------ code

    def _by_name(self, value) -> bool:
        """Name a function or class of an installed package; False unless it is found there under its name."""
        module, path = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
        owner = getattr(value, "__self__", None)
        if module is None and isinstance(owner, types.ModuleType):
            module = owner.__name__
        if not (isinstance(module, str) and isinstance(path, str) and is_foreign(module)):
            return False
        for there in (path, path.rpartition(".")[2]):
            found = sys.modules.get(module)
            for name in there.split("."):
                found = getattr(found, name, None)
            if found is value:
                self.token("name", module, there, version_of(module))
                return True
        return False

    def _function(self, function: types.FunctionType) -> None:
        self.token("function", function.__name__)
        self.each("facts", [function.__defaults__, function.__kwdefaults__, function.__annotations__,
                            function.__dict__])
        for cell in function.__closure__ or ():
            self._cell(cell)
        home = function.__globals__.get("__name__", "__main__")
        if is_foreign(home):  # made by a package around something of ours, which the closure holds
            self.token("from", home, version_of(home))
            self._code(function.__code__, None)
        else:
            if home.partition(".")[0] == "helpers":
                self.token("loading", *sorted(text(home, parts=True).values()))
            self._code(function.__code__, function.__globals__)

    def _cell(self, cell: types.CellType) -> None:
        try:
            content = cell.cell_contents
        except ValueError:
            return self.token("empty cell")
        self.token("cell")
        self.value(content)
        return None

    def _code(self, code: types.CodeType, scope: dict | None) -> None:
        digest, used, imported, trouble = _normalised(code)
        self.token("code", digest)
        if scope is None:
            return
        if trouble:
            self._refuse(trouble)
        for name, *attributes in used:
            if name in scope:
                self._reach(name, scope[name], attributes)
            elif hasattr(builtins, name):
                self._reach(name, getattr(builtins, name), [])
            else:
                self.token("unbound", name)
        for name, level, taken in imported:
            self._import(name, level, taken, scope)

    def _reach(self, name: str, value, attributes: list[str]) -> None:
        """A global and, where it is a module of ours, the attribute of it that is used."""
        if value is files.stand_ins or value is files.used:  # what has happened in this process
            return
        self.token("global", name)
        while isinstance(value, types.ModuleType) and attributes:
            if not hasattr(value, attributes[0]):
                break
            if is_foreign(value.__name__) and value is not importlib:
                break
            self.token("attribute", attributes[0])
            value = getattr(value, attributes.pop(0))
        if any(value is each for each in _UNFOLLOWED):
            self._refuse(f"{value.__name__}(…), whose doing cannot be followed")
        self.value(value)

    def _import(self, name: str, level: int, taken: tuple[str, ...], scope: dict) -> None:
        if level:
            name = importlib.util.resolve_name("." * level + name, scope.get("__package__") or "")
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            return self.token("absent", name)
        if is_foreign(name):
            return self.token("import", name, version_of(name))
        module = importlib.import_module(name)
        for attribute in taken:
            self._reach(name, getattr(module, attribute, None), [])
        return None if taken else self._module(module)

    def _class(self, value: type) -> None:
        self.token("class", value.__name__)
        self.each("bases", [type(value), *value.__bases__])
        hooks = ("propagate", "edge_updater")  # PyG writes these into a class at its first use, from what is in the key
        written = {getattr(vars(value).get(f"_jinja_{hook}"), "__module__", value.__module__) for hook in hooks}
        written -= {value.__module__}
        for name, attribute in sorted(vars(value).items()):
            if written and (getattr(attribute, "__module__", None) in written or name.removeprefix("_orig_") in hooks):
                continue
            if name == "__dataclass_fields__":
                self.token(name)
                for field in attribute.values():
                    self.each("field", [field.name, field.type, field.default, field.default_factory, field.init,
                                        field.compare, field.kw_only, field.hash])
            elif name not in _NOT_CODE:
                self.token("attribute", name)
                self.value(attribute)

    def _module(self, module: types.ModuleType) -> None:
        name = module.__name__
        if is_foreign(name):
            self.token("module", name, version_of(name))
        elif name.partition(".")[0] == "helpers":  # used as a whole: all of its text, and of those that it imports
            self.token("module", *sorted(text(name).values()))
        else:
            self._refuse(f"the module {name}, used as a whole")


def tensor_bytes(value: torch.Tensor) -> bytes:
    """A tensor's content as bytes, in row-major order, whatever its dtype."""
    plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
    return plain.reshape(-1).view(torch.uint8).numpy().tobytes()


# ---------------------------------------------------------------- code, without what does not matter

@functools.cache
def _normalised(code: types.CodeType) -> tuple[bytes, tuple, tuple, str]:
    """Digest of what runs; the globals it uses, each with the attributes asked of it; its imports; what is amiss.

    Constants stand where they are used. So an unused one, which a docstring is, plays no part.
    """
    walk, used, imported, trouble = _Walk(), [], [], ""
    walk.token(code.co_name, repr((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount,
                                   code.co_flags & ~0x4000000, code.co_names, code.co_varnames, code.co_freevars,
                                   code.co_cellvars)), getattr(code, "co_exceptiontable", b""))
    steps = [step for step in dis.get_instructions(code) if step.opname != "EXTENDED_ARG"]
    for place, step in enumerate(steps):
        after = steps[place + 1] if place + 1 < len(steps) else step
        if step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
            trouble = f"the global {step.argval}, which a job changes"
        elif step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            chain = [step.argval]
            for later in steps[place + 1:]:
                if later.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
                    break
                chain.append(later.argval)
            used.append(tuple(chain))
        elif step.opname == "IMPORT_NAME":
            imported.append((step.argval, steps[place - 2].argval, steps[place - 1].argval or ()))
        if step.opcode in dis.hasconst:
            if after.opname == "STORE_NAME" and after.argval in _TOLD_OF_A_CLASS:  # inside a function
                continue
            constant = step.argval
            if isinstance(constant, types.CodeType):
                digest, more_used, more_imported, more_trouble = _normalised(constant)
                walk.token(step.opname, "code", digest)
                used, imported = used + list(more_used), imported + list(more_imported)
                trouble = trouble or more_trouble
            else:
                walk.token(step.opname)
                walk.value(constant)
        else:
            walk.token(step.opname, str(step.arg))
    return walk.digest().encode(), tuple(dict.fromkeys(used)), tuple(dict.fromkeys(imported)), trouble


