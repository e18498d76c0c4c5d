"""What the code of a forward can reach outside of its modules: variables of files, attributes of
functions, classes and other objects, closures, default arguments."""

from __future__ import annotations

import argparse
import array
import collections
import copy
import dis
import functools
import sys
import types
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from torch2mlx.export.verify.iterators import Taken, again, is_iterator, progress, sources

#: Objects that are looked at.
MAX_OBJECTS = 20_000
#: What changes no model: torch's own files, and those of Python.
_LIBRARIES = sys.stdlib_module_names | {"torch", "functorch", "numpy", "mlx", "torch2mlx", "sympy"}
_CONTAINERS = (dict, list, set, deque)
#: Numbers in memory, which change without becoming another object.
_ARRAYS = (np.ndarray, array.array, bytearray)
#: Python's own classes whose objects hold what users give them.
_HOLDERS = (
    *(types.SimpleNamespace, argparse.Namespace),
    *(collections.UserDict, collections.UserList),
)
_STORE = dis.opmap["STORE_GLOBAL"]
_CACHE = type(functools.lru_cache(lambda: None))
#: What leads from something that stands for a function to the function.
_INNER = ("__func__", "__self__", "__wrapped__")
#: What a module keeps its tensors and children in: these are looked at by themselves.
OF_MODULES = frozenset({"_parameters", "_buffers", "_modules"})


class Outside:
    """What a model's code reaches, found by the names that its functions speak of."""

    def __init__(self, model: Any) -> None:
        self.containers: list[tuple[str, Any]] = []
        self.tensors: list[tuple[str, Any]] = []
        self._arrays: list[tuple[str, Any]] = []
        self._slotted: list[tuple[str, Any]] = []
        #: where names are looked up: a dict, an object with attributes, or a cell of a closure
        self._variables: dict[tuple[int, str], tuple[str, Any]] = {}
        self._owners: list[tuple[str, Any]] = []
        self._cells: list[tuple[str, Any]] = []
        self._iterators: list[tuple[str, Any]] = []
        self._modules: list[Any] = []
        self._caches: list[tuple[Any, Any]] = []
        self._waiting: list[tuple[str, Any]] = []
        self._seen: set[int] = set()
        self._walk(model)

    def state(self) -> dict[Any, Any]:
        """Everything by (name, place): its value now."""
        found: dict[Any, Any] = {}
        for (place, key), (name, holder) in self._variables.items():
            if key in holder:
                found[name, place] = holder[key]
        for name, owner in self._owners:
            for key, value in dict(vars(owner)).items():
                if not key.startswith("__"):
                    found[f"{name}.{key}", id(owner)] = value
        for name, owner in self._slotted:
            for key in _slots(owner):
                found[f"{name}.{key}", id(owner)] = getattr(owner, key, _ABSENT)
        for name, cell in self._cells:
            found[name, id(cell)] = _content(cell)
        for name, value in self.containers:
            found[name, id(value)] = value
        return found

    def moved(self) -> dict[Any, Any]:
        """What is changed without becoming another object: tensors' versions, and how far
        iterators are."""
        tensors = {(name, id(t)): 0 if t.is_inference() else t._version for name, t in self.tensors}
        arrays = {(name, id(value)): _bytes(value) for name, value in self._arrays}
        return tensors | arrays | {(n, id(it)): progress(it) for n, it in self._iterators}

    def taken(self) -> dict[Any, Taken]:
        """What stands for each iterator, should it go on."""
        return {(name, id(it)): Taken(again(it) is not None) for name, it in self._iterators}

    def undo(self) -> Iterator[Callable[[], None]]:
        """What gives names their values of now back; containers and tensors are the caller's."""
        before = self.state()
        for (place, key), (name, holder) in self._variables.items():
            yield functools.partial(_set_item, holder, key, before.get((name, place), _ABSENT))
        for _, owner in self._owners:
            held = {k: v for k, v in vars(owner).items() if not k.startswith("__")}
            yield functools.partial(_set_attributes, owner, held)
        for _, owner in self._slotted:
            held = {key: getattr(owner, key, _ABSENT) for key in _slots(owner)}
            yield functools.partial(_set_slots, owner, held)
        for _, numbers in self._arrays:
            yield functools.partial(_set_numbers, numbers, copy.copy(numbers))
        for name, cell in self._cells:
            yield functools.partial(_set_cell, cell, before[name, id(cell)])
        for cache, known in self._caches:
            yield functools.partial(_forget, cache, known)
        for _, iterator in self._iterators:
            yield functools.partial(self._rewind, iterator, progress(iterator), again(iterator))

    def _rewind(self, iterator: Any, known: Any, other: Any) -> None:
        """Where an iterator has gone on, everything that held it gets one that has not."""
        if other is None or progress(iterator) == known:
            return
        for held in self._holders():
            keys = list(held) if isinstance(held, dict) else range(len(held))
            for key in keys:
                if held[key] is iterator:
                    held[key] = other
        for _, owner in self._owners:
            for name in [n for n, v in vars(owner).items() if v is iterator]:
                setattr(owner, name, other)
        for _, cell in self._cells:
            if _content(cell) is iterator:
                cell.cell_contents = other

    def _holders(self) -> Iterator[Any]:
        """What holds values by keys or by numbers, and lets them be replaced."""
        yield from (space for _, space in self._variables.values())
        yield from map(vars, self._modules)
        yield from (held for _, held in self.containers if not isinstance(held, set))

    def _walk(self, model: Any) -> None:
        for path, module in model.named_modules():
            self._modules.append(module)
            self._seen.add(id(module))
            self._of_class(type(module))
            for key, value in vars(module).items():
                if key not in OF_MODULES:
                    self._waiting.append((f"{path}.{key}".lstrip("."), value))
        while self._waiting and len(self._seen) < MAX_OBJECTS:
            name, value = self._waiting.pop()
            if id(value) not in self._seen and not isinstance(value, _PLAIN):
                self._seen.add(id(value))
                self._visit(name, value)

    def _of_class(self, kind: type) -> None:
        """The code of a class, and what it holds itself."""
        for cls in kind.__mro__:
            if id(cls) in self._seen or _of_library(cls.__module__):
                continue
            self._seen.add(id(cls))
            self._owners.append((cls.__qualname__, cls))
            for key, value in vars(cls).items():
                if not key.startswith("__") or callable(value):
                    self._waiting.append((f"{cls.__qualname__}.{key}", value))

    def _visit(self, name: str, value: Any) -> None:
        import torch

        if isinstance(value, torch.Tensor):
            self.tensors.append((name, value))
        elif isinstance(value, _ARRAYS):
            self._arrays.append((name, value))
        elif isinstance(value, _CONTAINERS):
            self.containers.append((name, value))
            items = list(value.values()) if isinstance(value, dict) else list(value)
            self._waiting += [(name, item) for item in items]
        elif isinstance(value, (tuple, frozenset)):
            self._waiting += [(name, item) for item in value]
        elif isinstance(value, type):
            self._of_class(value)
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif not self._wrapped(name, value):
            self._object(name, value)

    def _wrapped(self, name: str, value: Any) -> bool:
        """Follows what stands for a function."""
        if isinstance(value, _CACHE):
            self._caches.append((value, value.cache_info()))
        # asked of the class and of what the object holds itself: one that makes an attribute for
        # every name, as mocks and proxies do, stands for no function
        held = (dir(type(value)), getattr(value, "__dict__", ()))
        inner = [getattr(value, key, None) for key in _INNER if any(key in names for names in held)]
        if isinstance(value, (property, functools.cached_property, functools.partial)):
            keys = ("fget", "func", "args", "keywords")
            inner += [getattr(value, key, None) for key in keys]
        inner = [each for each in inner if each is not None and each is not value]
        if isinstance(value, types.ModuleType) or not inner:
            return isinstance(value, types.ModuleType)
        self._waiting += [(name, each) for each in inner]
        return True

    def _function(self, function: Any) -> None:
        if _of_library(function.__module__):
            return
        named, stored = _names(function.__code__)
        space = function.__globals__
        for key in named:
            value = space.get(key, _ABSENT)
            if isinstance(value, types.ModuleType) and not _of_library(value.__name__):
                self._variables_of(vars(value), named)
            elif key in stored or value is not _ABSENT:
                self._variable(space, key)
        called = function.__qualname__.rpartition("<locals>.")[2]
        self._owners.append((called, function))
        for key, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            self._cells.append((f"{key} of {called}", cell))
            self._waiting.append((f"{key} of {called}", _content(cell)))
        defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
        self._waiting += [(f"a default of {called}", value) for value in defaults]

    def _variables_of(self, space: Any, named: frozenset[str]) -> None:
        """Those of another file that a function may read as attributes of it."""
        for key in named & space.keys():
            self._variable(space, key)

    def _variable(self, space: Any, key: str) -> None:
        value = space.get(key)
        if isinstance(value, (types.ModuleType, types.BuiltinFunctionType)):
            return
        self._variables.setdefault((id(space), key), (key, space))
        self._waiting.append((key, value))

    def _object(self, name: str, value: Any) -> None:
        kind = type(value)
        known = isinstance(value, _HOLDERS) or not _of_library(kind.__module__)
        seen = hasattr(value, "__dict__") and known
        if known and (slots := _slots(value)):
            self._slotted.append((name, value))
            self._of_class(kind)
            self._waiting += [(f"{name}.{k}", getattr(value, k, _ABSENT)) for k in slots]
        if is_iterator(value) and not seen:
            self._iterators.append((name, value))
            self._waiting += [(name, source) for source in sources(value)]
        elif seen:
            self._owners.append((name, value))
            self._of_class(kind)
            self._waiting += [(f"{name}.{key}", held) for key, held in vars(value).items()]


_ABSENT: Any = object()
_PLAIN = (int, float, complex, str, bytes, type(None), types.BuiltinFunctionType, types.CodeType)


def _slots(owner: Any) -> tuple[str, ...]:
    """The names that an object of a user's class has places for."""
    return tuple(
        key
        for cls in type(owner).__mro__
        if not _of_library(cls.__module__)
        for key, value in vars(cls).items()
        if isinstance(value, types.MemberDescriptorType) and not key.startswith("__")
    )


def _bytes(numbers: Any) -> bytes:
    return bytes(numbers) if isinstance(numbers, bytearray) else numbers.tobytes()


def _of_library(name: Any) -> bool:
    return str(name or "").partition(".")[0] in _LIBRARIES - {"__main__"}


@functools.lru_cache(maxsize=8192)
def _names(code: types.CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Names that are no locals in a function and the functions within, and those of them that a
    `global` statement assigns."""
    # pytest puts names that no source can spell into the assertions of a test file
    named, stored = {name for name in code.co_names if name.isidentifier()}, set()
    if _STORE in code.co_code[::2]:
        stored |= {i.argval for i in dis.get_instructions(code) if i.opname == "STORE_GLOBAL"}
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            more, assigned = _names(inner)
            named |= more
            stored |= assigned
    return frozenset(named), frozenset(stored)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing was assigned yet
        return _ABSENT


def _set_item(holder: Any, key: str, value: Any) -> None:
    if value is _ABSENT:
        holder.pop(key, None)
    elif holder.get(key, _ABSENT) is not value:
        holder[key] = value


def _set_attributes(owner: Any, held: dict[str, Any]) -> None:
    for key in [k for k in vars(owner) if not k.startswith("__")]:
        if key not in held:
            delattr(owner, key)
    for key, value in held.items():
        if vars(owner).get(key, _ABSENT) is not value:
            setattr(owner, key, value)


def _set_slots(owner: Any, held: dict[str, Any]) -> None:
    for key, value in held.items():
        if getattr(owner, key, _ABSENT) is value:
            continue
        if value is _ABSENT:
            delattr(owner, key)
        else:
            object.__setattr__(owner, key, value)


def _set_numbers(numbers: Any, before: Any) -> None:
    if _bytes(numbers) != _bytes(before):
        numbers[... if isinstance(numbers, np.ndarray) else slice(None)] = before


def _set_cell(cell: Any, value: Any) -> None:
    if value is not _ABSENT and _content(cell) is not value:
        cell.cell_contents = value


def _forget(cache: Any, known: Any) -> None:
    """Empties a cache that was filled meanwhile: it may hold tensors of a trace."""
    if cache.cache_info().misses != known.misses:
        cache.cache_clear()
