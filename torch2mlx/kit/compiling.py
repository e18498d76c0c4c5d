"""`mx.compile` for a training step, with what torch programs change between steps watched.

@kit.compiled(model, optimizer)
def step(x, y):
    def loss_fn():
        return criterion(model(x), y)
    loss, grads = nn.value_and_grad(model, loss_fn)()
    optimizer.update(model, grads)
    return loss

A compiled program holds what was no array when it was traced. So each call looks at that (modes,
what is frozen, options, numbers, sizes of the arguments): where it has changed, another program is
traced, up to VARIANTS of them, and what cannot be compiled runs as it is written.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.optimizers import Optimizer

from torch2mlx.kit.parameter_groups import ParameterGroups

#: Programs of one step; a call that would need one more runs as it is written.
VARIANTS = 4
#: Steps of one optimizer that are kept, to be found again when they are defined again.
KEPT = 16
#: Steps that run as they are written before the first program is made, by the type of device: one
#: lets the optimizer make its state; the CPU's kernels come from a C++ compiler, in seconds each,
#: which few steps would not earn.
WAIT = {"gpu": 1, "cpu": 100}
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), mx.Dtype)
#: Modules whose classes keep no state that a trace would miss, beside those of the step's own file.
_KNOWN = ("mlx.", "torch2mlx.kit.")


class _Unknown(Exception):
    """Something that a program can neither take nor hold."""


def _split(value: Any, arrays: list[mx.array]) -> Any:
    """A hashable description of a value; its arrays are put into a list. Raises _Unknown."""
    if isinstance(value, mx.array):
        arrays.append(value)
        return mx.array, tuple(value.shape), value.dtype
    if isinstance(value, _PLAIN):
        return type(value), value
    if isinstance(value, dict):
        return dict, tuple((key, _split(item, arrays)) for key, item in value.items())
    if type(value) in (list, tuple) or hasattr(value, "_fields"):
        return type(value), tuple(_split(item, arrays) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        held = (getattr(value, f.name) for f in dataclasses.fields(value))
        return type(value), tuple(_split(item, arrays) for item in held)
    raise _Unknown


def _joined(value: Any, arrays: list[mx.array]) -> Any:
    """A value like another, its arrays taken from a list in order."""
    if isinstance(value, mx.array):
        return arrays.pop(0)
    if isinstance(value, dict):
        return {key: _joined(item, arrays) for key, item in value.items()}
    if hasattr(value, "_fields"):
        return type(value)(*(_joined(item, arrays) for item in value))
    if type(value) in (list, tuple):
        return type(value)(_joined(item, arrays) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        held = {f.name: _joined(getattr(value, f.name), arrays) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **held)
    return value


def _outline(value: Any) -> Any:
    """What of a value a trace would hold: numbers, identities; arrays that are inputs are not."""
    if isinstance(value, mx.array):
        return mx.array
    if isinstance(value, _PLAIN):
        return type(value), value
    if isinstance(value, nn.Module):
        return id(value)
    if isinstance(value, dict):
        return tuple((key, _outline(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(_outline(item) for item in value)
    if isinstance(value, (set, frozenset)):
        return frozenset(value)
    return id(value)


def _found(value: Any, file: str, seen: dict[int, Any]) -> None:
    """Gathers modules and optimizers, through lists, dicts and objects of the file's own classes.
    Raises _Unknown for a module whose class is of another file: its code has not been looked at."""
    if id(value) in seen or isinstance(value, (mx.array, *_PLAIN)):
        return
    module, own = isinstance(value, nn.Module), type(value).__module__ == file
    if module and not own and not type(value).__module__.startswith(_KNOWN):
        raise _Unknown
    inner: list[Any] = list(value) if isinstance(value, (list, tuple)) else []
    inner += list(dict.values(value)) if isinstance(value, dict) else []
    optimizer = isinstance(value, Optimizer)
    if isinstance(value, ParameterGroups):
        inner += value.optimizers
    elif not optimizer and (module or own):
        inner += vars(value).values()
    if module or optimizer or own:
        seen[id(value)] = value
    for item in inner:
        _found(item, file, seen)


class _Held:
    """What a step reads and changes beside its arguments."""

    def __init__(self, roots: tuple[Any, ...], file: str) -> None:
        found: dict[int, Any] = {}
        _found(roots, file, found)
        self.modules = [part for part in found.values() if isinstance(part, nn.Module)]
        self.optimizers = [part for part in found.values() if isinstance(part, Optimizer)]
        self.options = [vars(part) for part in (*self.modules, *self.optimizers)]
        hidden = [held for held in map(vars, self.modules) if any(map(_has_arrays, held.values()))]
        self.state: list[Any] = [*self.modules, mx.random.state, *hidden]
        self.state += [optimizer.state for optimizer in self.optimizers]
        self._dicts: list[dict[str, Any]] = [*self.modules, *map(vars, self.modules)]
        watched: list[tuple[dict[str, Any], tuple[str, ...]]] = [(m, ()) for m in self.modules]
        watched += [(vars(module), _counted(module)) for module in self.modules]
        watched += [(vars(each), _OWN) for each in self.optimizers]
        pairs = [(held, key) for held, but in watched for key in held if key not in but]
        self._plain = [(held, key) for held, key in pairs if isinstance(held[key], _PLAIN)]
        kinds = (mx.array, *_PLAIN)
        self._nested = [(held, key) for held, key in pairs if not isinstance(held[key], kinds)]

    def outline(self) -> tuple[Any, ...]:
        """What a trace would hold of it; counters that say nothing about a step left out."""
        plain = [dict.get(held, key) for held, key in self._plain]
        nested = tuple(_outline(dict.get(held, key)) for held, key in self._nested)
        return tuple(plain), tuple(map(type, plain)), tuple(map(len, self._dicts)), nested

    def counts(self) -> list[tuple[dict[str, Any], str, int]]:
        """The counters that were left out."""
        return [(vars(m), name, vars(m)[name]) for m in self.modules for name in _counted(m)]


#: What optimizers keep beside their options.
_OWN = ("_state", "_initialized", "_compiled_steps")


def _counted(part: Any) -> tuple[str, ...]:
    return getattr(part, "counted", ())


def _has_arrays(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_has_arrays, value))
    if isinstance(value, dict):
        return not isinstance(value, nn.Module) and any(map(_has_arrays, value.values()))
    return isinstance(value, mx.array)


class _Saved:
    """What a step may change, as it is now: a trace that fails leaves its own arrays behind."""

    def __init__(self, held: _Held) -> None:
        random: Any = mx.random.state
        high, low = (int(word) for word in random[0].tolist())
        self._seed = high << 32 | low
        self._counts = held.counts()
        self._copies = [(tree, _copied(tree)) for tree in held.state]
        self._vars = [(values, dict(values)) for values in held.options]

    def restore(self) -> None:
        """Puts everything back."""
        for tree, copy in self._copies:
            _put_back(tree, copy)
        for values, copy in self._vars:
            values.clear()
            values.update(copy)
        for values, name, count in self._counts:
            values[name] = count
        mx.random.seed(self._seed)


def _copied(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _copied(item) for key, item in dict.items(tree)}
    return [_copied(item) for item in tree] if isinstance(tree, list) else tree


def _put_back(tree: Any, copy: Any) -> None:
    if isinstance(tree, dict):
        for key in [key for key in tree if key not in copy]:
            dict.__delitem__(tree, key)
        for key, item in copy.items():
            if isinstance(item, (dict, list)):
                _put_back(dict.__getitem__(tree, key), item)
            else:
                dict.__setitem__(tree, key, item)
    elif isinstance(tree, list):
        for i, item in enumerate(copy):
            if isinstance(item, (dict, list)):
                _put_back(tree[i], item)
            else:
                tree[i] = item


class _Program:
    """One trace of a step: for one kind of arguments, modes and options."""

    def __init__(self, function: Callable[..., Any], held: _Held, given: tuple[Any, ...]) -> None:
        self._held, self._answer = held, ()
        self._steps: list[tuple[dict[str, Any], str, int]] = []

        def run(*arrays: mx.array) -> list[mx.array]:
            answer = function(*_joined(given, list(arrays)))
            found: list[mx.array] = []
            _split(answer, found)
            self._answer = answer
            return found

        self._run = mx.compile(run, inputs=held.state, outputs=held.state)

    def first(self, arrays: list[mx.array]) -> Any:
        """The first call, which traces. Raises what the trace raises, everything put back."""
        saved, before = _Saved(self._held), self._held.counts()
        try:
            found = self._run(*arrays)
        except Exception:
            saved.restore()
            raise
        after = self._held.counts()
        pairs = zip(before, after, strict=True)
        self._steps = [(h, k, new - old) for (h, k, old), (_, _, new) in pairs if new != old]
        self._answer = _joined(self._answer, [mx.array(0)] * len(found))  # its structure alone
        return _joined(self._answer, list(found))

    def __call__(self, arrays: list[mx.array]) -> Any:
        for values, name, more in self._steps:
            values[name] += more
        return _joined(self._answer, list(self._run(*arrays)))


class _Compiled:
    """A step, and the programs that were made of it."""

    def __init__(self, function: Callable[..., Any], held: tuple[Any, ...]) -> None:
        self._function, self._roots, self._calls = function, held, 0
        self._programs: dict[Any, _Program | None] = {}
        self._held: _Held | None = None
        self._states: list[int] = []
        self._wait = _wait()
        self.surroundings = _surroundings(function)

    def same(self) -> bool:
        """Whether the function still is closed over what it was."""
        return _surroundings(self._function) == self.surroundings

    def __call__(self, *given: Any) -> Any:
        self._calls += 1
        if self._calls <= self._wait or self._wait < 0:
            return self._function(*given)
        try:
            arrays: list[mx.array] = []
            asked = _split(given, arrays)
            held = self._current()
            key = (asked, held.outline())
        except _Unknown:
            return self._function(*given)
        if key in self._programs:
            program = self._programs[key]
            return self._function(*given) if program is None else program(arrays)
        if len(self._programs) >= VARIANTS:
            return self._function(*given)
        return self._traced(key, held, given, arrays)

    def _traced(self, key: Any, held: _Held, given: tuple[Any, ...], arrays: list[mx.array]) -> Any:
        program = _Program(self._function, held, given)
        try:
            answer = program.first(arrays)
        except Exception:  # what is wrong with the step itself is raised again when it runs
            self._programs[key] = None
            return self._function(*given)
        changed = held.outline() != key[1]  # something that is no array: each step changes it
        self._programs[key] = None if changed else program
        return answer

    def _current(self) -> _Held:
        """What is held now; found anew where an optimizer was given another state."""
        held = self._held
        if held is None or [id(o.state) for o in held.optimizers] != self._states:
            try:
                held = self._held = _Held(self._roots, self._function.__module__)
            except _Unknown:
                self._wait = -1
                raise
            self._states = [id(optimizer.state) for optimizer in held.optimizers]
            self._programs = {}
        return held


def _wait() -> int:
    """Calls before the first trace; -1: never, where nothing makes kernels."""
    device = "cpu" if mx.default_device() == mx.Device(mx.cpu) else "gpu"
    return -1 if device == "cpu" and shutil.which("g++") is None else WAIT[device]


class _Kept(dict[Any, _Compiled]):
    """Steps of an optimizer; a copy of it has none."""

    def __deepcopy__(self, memo: Any) -> _Kept:
        return _Kept()

    def __reduce__(self) -> Any:
        return _Kept, ()


def _surroundings(function: Callable[..., Any]) -> tuple[Any, ...] | None:
    """The values that a function is closed over; None where one is bound later."""
    try:
        return tuple(_Same(c.cell_contents) for c in getattr(function, "__closure__", None) or ())
    except ValueError:
        return None


class _Same:
    """A value that equals numbers and words like it, and otherwise itself alone."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self._key = (type(value), value) if isinstance(value, _PLAIN) else id(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


def compiled(*held: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Has a function compiled; the state of `held` (modules, optimizers) is its input and output.

    The function takes arrays, numbers, and lists, tuples, dicts and dataclasses of them, changes
    nothing but `held` and MLX's random state, and answers the like. What a function of the same
    code and surroundings was compiled to before is used again.
    """

    def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
        found: dict[int, Any] = {}
        made = _Compiled(function, held)
        _found([h for h in held if isinstance(h, (Optimizer, ParameterGroups))], "", found)
        if not found or made.surroundings is None:
            return made
        kept = vars(next(iter(found.values()))).setdefault("_compiled_steps", _Kept())
        key = (function.__code__, made.surroundings, tuple(map(_Same, held)))
        if key not in kept or not kept[key].same():
            if len(kept) >= KEPT:  # it is made for each call: nothing would be used again
                return function
            kept[key] = made
        return kept[key]

    return decorated
