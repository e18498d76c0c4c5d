"""The MLX script under a recorder: torch's first weights and draws in, what happens out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from torch2mlx.lockstep.copies import Changed, Copies, give_copies, in_torch_layout, reached
from torch2mlx.lockstep.draws import Stream
from torch2mlx.lockstep.matching import Key, Matching
from torch2mlx.lockstep.mlx_draws import Served
from torch2mlx.lockstep.mlx_patches import patch
from torch2mlx.lockstep.options import module_options, optimizer_options
from torch2mlx.lockstep.records import Recorder, read
from torch2mlx.lockstep.scripts import (
    held_by,
    kept_by,
    leave,
    line_of,
    makes_weights,
    name_of,
    run,
    seed_all,
)


def host(array: Any) -> np.ndarray | None:
    """An array's values now, half formats as float32; None within what has none (vmap)."""
    import mlx.core as mx

    try:
        small = array.dtype in (mx.bfloat16, mx.float16)
        return np.array(array.astype(mx.float32) if small else array)
    except (ValueError, RuntimeError):
        return None


def leaves(tree: Any) -> list[tuple[str, Any]]:
    """The leaves of a tree by dotted names."""
    from mlx.utils import tree_flatten as flattened

    found: Any = flattened(tree)
    return list(found)


def once(root: Any, named: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Those of a module that it holds at several places at the last of them: MLX's gradients and
    updates come there, and to the other places zeros."""
    owners = {path: id(module) for path, module in root.named_modules()}
    last: dict[tuple[int, str], str] = {}
    for name, _ in named:
        parts = name.split(".")
        ends = (i for i in range(len(parts) - 1, -1, -1) if ".".join(parts[:i]) in owners)
        end = next(ends)
        last[owners[".".join(parts[:end])], ".".join(parts[end:])] = name
    kept = set(last.values())
    return [(name, array) for name, array in named if name in kept]


def arrays_in(value: Any) -> list[Any]:
    """The arrays of nested lists, tuples and dicts, in order."""
    import mlx.core as mx

    if isinstance(value, mx.array):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [found for item in value for found in arrays_in(item)]
    return []


def mx_array(values: Any, dtype: Any) -> Any:
    """An array of MLX of some values."""
    import mlx.core as mx

    return mx.array(np.ascontiguousarray(values)).astype(dtype)


def replaced(tree: Any, values: dict[str, Any], prefix: str = "") -> Any:
    """A tree with other leaves, by dotted names."""
    if isinstance(tree, dict):
        return {k: replaced(v, values, f"{prefix}{k}.") for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(replaced(v, values, f"{prefix}{k}.") for k, v in enumerate(tree))
    return values.get(prefix[:-1], tree)


class MLXRecorder:
    """Patches MLX from outside and keeps what happens, step by step."""

    def __init__(self, job: dict[str, Any], torch: dict[str, Any]) -> None:
        self.job, self.torch = job, torch
        self.script = Path(job["script"]).resolve()
        self.kept = Recorder()
        self.steps: list[dict[str, Any]] = []
        self.made: list[Any] = []
        self.roots: list[Any] = []
        self.names: list[str] = []
        self.optimizers: list[Any] = []
        self.stack: list[Any] = []
        self.inside = 0  # of functions that are differentiated
        self.pending: list[Any] = []
        self.same: Any = None  # an operator that gives an array again
        self.applying: list[Any] = []  # optimizers whose updates run
        self.started = False
        self.paths: dict[int, tuple[int, str]] = {}
        self.start: list[Any] = []
        self.matching = Matching(torch["start"]["roots"])
        self.given = {
            f"{root}:{name}": values for root, name, values, *_ in torch["start"]["tensors"]
        }
        self.at, self.covered = (
            0,
            set[str](),
        )  # the step of torch that is gone on from, and its part
        self.stream = Stream(torch["draws"], torch["start"]["draws"])
        self.step = self._fresh()

    def _fresh(self) -> dict[str, Any]:
        first = len(self.stream.served)
        return {"calls": [], "losses": [], "raw": {}, "backwards": 0, "first_draw": first}

    def told(self) -> dict[str, Any]:
        """What is known of the random draw that is being asked for."""
        import mlx.nn as nn

        early, weights = not self.started, makes_weights(nn.Module)
        return {
            "weights": early and weights,
            **({"soft": True} if weights else {}),
            "early": early,
            "step": len(self.steps),
            "line": line_of(self.script.parent),
            "module": self.path_of(self.stack[-1])[1] if self.stack else "",
        }

    def path_of(self, module: Any) -> tuple[int, str]:
        """The root that a module belongs to, by its number, and its path there."""
        return self.paths.get(id(module), (-1, type(module).__name__))

    def begin(self) -> None:
        """Gives the models that are there torch's first weights, those that have none yet."""
        import mlx.nn as nn

        known = {id(root) for root in self.roots}
        made = [m for ref in self.made if (m := ref()) is not None]
        copied = kept_by(self.script.parent, nn.Module)
        alive = list({id(m): m for m in (*made, *copied)}.values())
        self.made = [ref for ref in self.made if ref() is not None]
        unknown = [m for m in alive if id(m) not in known and id(m) not in self.paths]
        new = roots_of(unknown)
        self.started = True
        if not new:
            return
        first = len(self.roots)
        self.roots += new
        for number, root in enumerate(new, first):
            for path, module in root.named_modules():
                self.paths.setdefault(id(module), (number, path))
        held = {key: array for key, array in self.held().items() if key[0] >= first}
        self.names += [
            name_of(root, f"model{number + 1}", self.script.parent)
            for number, root in enumerate(new, first)
        ]
        shapes = {key: array.shape for key, array in held.items()}
        self.matching.add(shapes, self.names, len(self.steps))
        trained = self._trainable()
        before = {key: host(array) for key, array in held.items()}
        for key, array in held.items():
            match = self.matching.pairs.get(key)
            kept, ours = self._put(array), key in trained
            self.start.append([*key, kept, ours, match is not None])
            if match is not None:
                self._set(key, match.of(self.given, array.shape), array.dtype)
        self._set_copies(before)

    def _set_copies(self, before: dict[Key, Any]) -> None:
        """Gives torch's first weights to the copies of them that the script took already."""
        import mlx.core as mx

        matched = [
            (self.matching.pairs[key], old, self.matching.pairs[key].of(self.given, old.shape))
            for key, old in before.items()
            if old is not None and key in self.matching.pairs
        ]
        known = [(match, old, new) for match, old, new in matched if new is not None]
        ours = [Changed(old, np.asarray(new)) for _, old, new in known]
        theirs = in_torch_layout([(match, old) for match, old, _ in known], self.given)
        folder, own = self.script.parent, {id(array) for array in self.held().values()}
        arrays = reached((item for _, item in held_by(folder)), f"{folder}{os.sep}", mx.array)
        copies = (array for array in arrays if id(array) not in own)
        give_copies(Copies([ours, theirs]), copies, host, mx_array)

    def _set(self, key: Key, values: Any, dtype: Any) -> None:
        if values is None:
            return
        *parts, last = key[1].split(".")
        owner = self.roots[key[0]]
        for part in parts:
            owner = owner[int(part)] if isinstance(owner, (list, tuple)) else owner[part]
        value = mx_array(values, dtype)
        if isinstance(owner, list):
            owner[int(last)] = value
        else:
            dict.__setitem__(owner, last, value)

    def held(self) -> dict[Key, Any]:
        """All arrays of the models, by root and name."""
        return {
            (number, name): array
            for number, root in enumerate(self.roots)
            for name, array in once(root, leaves(root.parameters()))
        }

    def _trainable(self) -> set[Key]:
        return {
            (number, name)
            for number, root in enumerate(self.roots)
            for name, _ in leaves(root.trainable_parameters())
        }

    # --- what the patches call

    def call(self, original: Any, module: Any, args: Any, kwargs: Any) -> Any:
        """A module's call, recorded where it belongs to a model that is trained."""
        if self.stack and self.stack[-1] is module:
            return original(module, *args, **kwargs)  # super().__call__
        if not self.stack and self.optimizers:
            self.begin()
        if not self.started or id(module) not in self.paths:
            self.stack.append(module)
            try:
                return original(module, *args, **kwargs)
            finally:
                self.stack.pop()
        inputs = self._all([args, kwargs])
        self.stack.append(module)
        try:
            out = original(module, *args, **kwargs)
        finally:
            self.stack.pop()
        root, path = self.path_of(module)
        self.step["calls"].append(
            {
                "root": root,
                "path": path,
                "kind": type(module).__name__,
                "training": module.training,
                "depth": len(self.stack),
                "inputs": inputs,
                "outputs": self._all(out),
                "line": line_of(self.script.parent) if not self.stack else "",
            }
        )
        return out

    def _put(self, array: Any) -> Any:
        value = host(array)
        return None if value is None else self.kept.put(value)

    def _all(self, value: Any) -> list[Any]:
        """What stands for the arrays of a value. Within a function that is differentiated they are
        looked at when it has been: before, that would cut the graph of a second derivative."""
        found: list[Any] = []
        for place, array in enumerate(arrays_in(value)):
            found.append(None if self.inside else self._put(array))
            if self.inside:
                self.pending.append((found, place, self.same(array)))
        return found

    def tracing(self, run: Callable[[], Any]) -> Any:
        """Runs a function that MLX transforms."""
        self.inside += 1
        try:
            return run()
        finally:
            self.inside -= 1
            if not self.inside:
                pending, self.pending = self.pending, []
                for found, place, array in pending:
                    found[place] = self._put(array)

    def differentiated(self, names: Callable[[], Any], run: Callable[[], Any], value: bool) -> Any:
        """A call of a function that gives gradients: the loss and the gradients."""
        if self._done() and not self.inside:
            self.finish("")
        self.begin()
        out = self.tracing(run)
        if self.inside:
            return out
        self.step["backwards"] += 1
        loss, gradients = out if value else (None, out)
        for array in arrays_in(loss)[:1]:
            found = host(array)
            if found is not None and found.size == 1:
                line = line_of(self.script.parent)
                self.step["losses"].append({"value": float(found), "line": line})
        self._raw(names(), gradients)
        return out

    def _done(self) -> bool:
        """Whether all steps of torch were made; optimizers of several parts make more than one
        for each."""
        last = len(self.torch["steps"]) - 1
        if self.covered and self.at <= last:
            return self.at == last
        return len(self.steps) >= int(self.job["steps"])

    def _raw(self, tree: Any, gradients: Any) -> None:
        for key, gradient in self.named(tree, gradients):
            values = host(gradient)
            held = self.step["raw"].get(key)
            if values is not None:
                self.step["raw"][key] = values if held is None else held + values

    def named(self, tree: Any, gradients: Any) -> list[tuple[str, Any]]:
        """Gradients by "root:name", by the arrays or the module that they belong to."""
        names = self._names(tree, gradients)
        return [(names[name], g) for name, g in leaves(gradients) if name in names]

    def _names(self, tree: Any, gradients: Any) -> dict[str, str]:
        """ "root:name" of the arrays that gradients belong to, by their names in the tree."""
        from mlx.nn import Module

        flat = [name for name, _ in leaves(gradients)]
        if isinstance(tree, Module) and id(tree) in self.paths:
            number, path = self.paths[id(tree)]
            prefix = f"{number}:{path}." if path else f"{number}:"
            return {name: prefix + name for name in flat}
        known = {id(array): f"{key[0]}:{key[1]}" for key, array in self.held().items()}
        pool = dict(leaves(tree.parameters() if isinstance(tree, Module) else tree))
        found = {name: known.get(id(pool.get(name))) or self._alone(name) for name in flat}
        return {name: key for name, key in found.items() if key is not None}

    def _alone(self, name: str) -> str | None:
        """The one array of all models that has a name."""
        having = [key for key in self.held() if key[1] == name]
        return f"{having[0][0]}:{name}" if len(having) == 1 else None

    def applied(
        self, optimizer: Any, gradients: Any, parameters: Any, run: Callable[[], Any]
    ) -> Any:
        """An optimizer's update: the gradients that reach it, what it holds and makes."""
        if any(one is optimizer for one in self.applying):
            return run()  # super().apply_gradients
        self.begin()
        self.applying.append(optimizer)
        try:
            kept = self._kept(parameters, gradients)
            out = run()
        finally:
            self.applying.pop()
        if getattr(optimizer, "gradients", None) is not None:
            kept = self._kept(parameters, optimizer.gradients)  # made by a closure within the step
        if hasattr(optimizer, "optimizers"):
            return out  # each of its parts told of itself
        options = optimizer_options(optimizer)
        options["lr"] = _scalar(optimizer.state.get("learning_rate"))
        self.step["optimizer"] = {
            "kind": type(optimizer).__name__,
            "number": next((i for i, o in enumerate(self.optimizers) if o() is optimizer), -1),
            "line": line_of(self.script.parent),
            "options": {key: options for key in kept},
        }
        after = {key: value for key, value in self.named(parameters, out)}
        self._end(kept, self._slots(optimizer, parameters, gradients), after)
        return self._resumed(parameters, out, kept)

    def _kept(self, parameters: Any, gradients: Any) -> dict[str, Any]:
        named = self.named(parameters, gradients)
        return {key: self._put(g) for key, g in named if hasattr(g, "shape")}

    def _resumed(self, parameters: Any, out: Any, trained: Iterable[str]) -> Any:
        """The updated arrays as torch has them at this step: rounding does not add up over steps,
        and each is compared from the same place. As they are where steps are not torch's."""
        pairs = {f"{root}:{name}": match for (root, name), match in self.matching.pairs.items()}
        ties = self.torch["start"]["ties"]
        mine = {ties.get(s, s) for key in trained if key in pairs for s in pairs[key].sources}
        owned = (step["optimizer"]["options"] for step in self.torch["steps"])
        steps = [{ties.get(name, name) for name in names} for names in owned]
        if self.covered and (mine & self.covered or not mine <= steps[self.at]):
            self.at, self.covered = self.at + 1, set()
        if not mine or self.at >= len(steps) or not mine <= steps[self.at]:
            self.at = len(steps)
            return out
        there = self.torch["steps"][self.at]
        self.covered |= mine
        held = {f"{root}:{name}": values for root, name, values, *_ in there["after"]}
        names, values = self._names(parameters, out), {}
        self.steps[-1]["resumed"] = {}
        for name, array in leaves(out):
            match = pairs.get(names.get(name, ""))
            theirs = match.of(held, array.shape) if match is not None else None
            if theirs is not None:
                values[name] = mx_array(theirs, array.dtype)
                self.steps[-1]["resumed"][names[name]] = self._put(values[name])
        return replaced(out, values)

    def _slots(self, optimizer: Any, parameters: Any, gradients: Any) -> dict[str, Any]:
        keys = self._names(parameters, gradients)
        found: dict[str, Any] = {}
        for name, value in leaves(optimizer.state):
            owner, _, slot = name.rpartition(".")
            if owner in keys and hasattr(value, "shape"):
                found.setdefault(keys[owner], {})[slot] = self._put(value)
        return found

    def _end(self, gradients: dict[str, Any], slots: Any, after: dict[str, Any]) -> None:
        """A step ends: everything that the models hold now, updated arrays from `after`."""
        trained = self._trainable()
        held = [
            [*key, self._put(after.get(f"{key[0]}:{key[1]}", array)), key in trained]
            for key, array in self.held().items()
        ]
        self.step["raw"] = {key: self.kept.put(g) for key, g in self.step["raw"].items()}
        self.step.update(gradients=gradients, slots=slots, after=held)
        self.step["draws"] = len(self.stream.served)
        self.steps.append(self.step)
        self.step = self._fresh()

    def updated(self, module: Any) -> None:
        """`module.update` outside of an optimizer: the end of a step if gradients came before."""
        if self.applying or self.inside or not self.started or not self.step["backwards"]:
            return
        if id(module) not in self.paths or not self.step["raw"]:
            return
        gradients = {key: self.kept.put(g) for key, g in self.step["raw"].items()}
        self.step["optimizer"] = {
            "kind": "",
            "number": -1,
            "line": line_of(self.script.parent),
            "options": {},
        }
        self._end(gradients, {}, {})

    def finish(self, failure: str) -> None:
        """Writes the recording and ends the process."""
        self.step["raw"], self.step["draws"] = {}, len(self.stream.served)
        pairs = [[*key, match.number, match.how] for key, match in self.matching.pairs.items()]
        roots = [
            {
                "name": self.names[number],
                "kind": type(root).__name__,
                "modules": {
                    path: {"kind": type(m).__name__, "options": module_options(m)}
                    for path, m in root.named_modules()
                },
            }
            for number, root in enumerate(self.roots)
        ]
        data = {
            "failure": failure,
            "start": {"roots": roots, "tensors": self.start},
            "pairs": pairs,
            "root_of": list(self.matching.root_of.items()),
            "steps": self.steps,
            "tail": self.step,
            "served": self.stream.served,
            "used": sorted(self.stream.used),
            "optimizers": len(self.optimizers),
        }
        self.kept.save(Path(self.job["folder"]), data)
        leave()


def _scalar(value: Any) -> float | None:
    found = host(value) if hasattr(value, "dtype") else value
    return None if found is None else float(found)


def _library(kind: type) -> bool:
    """Whether a class is of a library: those that cannot be called only hold models together."""
    return kind.__module__.partition(".")[0] in ("torch2mlx", "mlx")


def roots_of(modules: list[Any]) -> list[Any]:
    """The modules with arrays that no other one holds, in the order of making."""
    models = [m for m in modules if callable(m) or not _library(type(m))]
    inner = {id(m) for module in models for m in module.modules() if m is not module}
    return [m for m in models if id(m) not in inner and arrays_in(m.parameters())]


def record(job: dict[str, Any]) -> None:
    """Runs the script of a job under a recorder; the process ends with it."""
    import mlx.core as mx

    mx.set_default_device(mx.cpu)
    torch = read(Path(job["torch"]))
    recorder = MLXRecorder(job, torch)
    seed_all(job["seed"])
    mx.random.seed(job["seed"])
    patch(recorder)
    Served(recorder.stream, recorder.told)
    run(recorder.script, job["args"], recorder.finish)
