"""Stored tensors and modules as the emitted file names them: `self.layers[0].weight`."""

from __future__ import annotations

import keyword
from collections.abc import Collection, Iterable
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from torch2mlx.export.ir.nodes import Node, Symbol
from torch2mlx.export.ir.regions import Region
from torch2mlx.export.ir.render import literal
from torch2mlx.export.lower.module_tree import Tree
from torch2mlx.export.lower.parameters import Stored
from torch2mlx.export.structure.classes import Construct
from torch2mlx.export.structure.constructors import nested
from torch2mlx.export.structure.series import Series, numbered, of_list

#: Attributes of mlx.nn.Module, a dict: members of these names need an index.
_OWN: frozenset[str] = frozenset()


def _own_names() -> frozenset[str]:
    import mlx.nn as nn

    return frozenset(dir(nn.Module)) - {"weight", "bias"}


class Paths:
    """Texts for stored nodes, relative to the module whose method reads them."""

    def __init__(self, tree: Tree, stored: Stored, written: Collection[str] = ()) -> None:
        self._written = {"", *map(tree.owner, written)}  # modules that get their own class
        self._tree, self._stored = tree, stored
        self._reserved = _own_names()
        ties = stored.plan.ties
        self.keys = {key: v for key, v in stored.shapes.items() if key not in ties}
        self.large = [k for k in stored.constants if not stored.printed(k)]
        self._own = _by_owner(self.keys)
        self._own_constants = _by_owner(self.large)
        self._inside = {p for key in (*self.keys, *self.large) for p in prefixes(key)[:-1]}
        self._unowned = self._find_unowned()
        plain = (path for path in tree.modules if tree.owner(path) in self._unowned)
        self._written |= {tree.owner(path) for path in plain if tree.stock(path) is None}
        self._lists, self._dicts = self._list_owners(), self._dict_owners()
        for keys in (keys for held in self._unowned.values() for keys in held.values()):
            self._open(keys)
        self._trains = any(p.requires_grad for p in tree.model.parameters())

    def series(self, region: Region) -> list[Series]:
        """Rows of modules under a region's, as its methods name them, those of lists first."""
        owner, found = region.owner, []
        for path, length in self._lists.items():
            if path != owner and (not owner or path.startswith(f"{owner}.")):
                name = self._walk(owner, path[len(owner) + 1 :] if owner else path)
                found.append(of_list(name, length))
        found.sort(key=lambda one: len(one.source))
        if region.module in self._tree.modules:
            names = [name for name in self._tree.children(region.module) if "." not in name]
            found += numbered(names, [self._walk(owner, name) for name in names])
        return found

    def _dict_owners(self) -> set[str]:
        tree = self._tree
        return {tree.owner(path) for path in tree.modules if tree.kind(path) == "dict"}

    def _list_owners(self) -> dict[str, int]:
        found = {}
        for path in self._tree.modules:
            kind, owner = self._tree.kind(path), self._tree.owner(path)
            if kind in ("sequential", "numbered"):
                owner = ".".join(p for p in (owner, "layers") if p)
            if kind == "parameters":
                found[owner] = len(self._tree.modules[path])
            if kind in ("list", "sequential", "numbered"):
                children = self._tree.children(path)
                found[owner] = len(children) if kind == "list" else sum("." in c for c in children)
        return found

    def _find_unowned(self) -> dict[str, dict[str, list[str]]]:
        """Owner -> names under it that are no module of torch's -> the keys below them."""
        owners = map(self._tree.owner, self._tree.modules)
        self._known = known = {prefix for owner in owners for prefix in prefixes(owner)}
        found: dict[str, dict[str, list[str]]] = {}
        for key in self.keys:
            for prefix in prefixes(key)[:-1]:
                if prefix not in known:
                    owner = prefix.rpartition(".")[0]
                    found.setdefault(owner, {}).setdefault(prefix, []).append(key)
        return found

    def _open(self, keys: list[str]) -> None:
        """Notes which of the names on the way to tensors are dicts of a module, or lists in it."""
        inner: dict[str, set[str]] = {}
        for key in keys:
            for above, name in pairwise(prefixes(key)):
                inner.setdefault(above, set()).add(name.rpartition(".")[2])
        for path, names in inner.items():
            if path in self._known:
                continue
            if all(name.isdigit() for name in names):
                self._lists[path] = len(names)
            elif self._is_dict(path):
                self._dicts.add(path)

    def _is_dict(self, path: str) -> bool:
        """Whether what is at a path, which is no module of torch's, is no module here either."""
        owner = next((p for p in prefixes(path)[::-1] if p in self._known), "")
        within = path[len(owner) :].split(".")
        return owner in self._written or any(part.isdigit() for part in within)

    def holds(self, owner: str) -> bool:
        """Whether there are stored tensors under a module, its own or those of others in it."""
        return owner in self._inside

    def loose(self, owner: str) -> list[tuple[str, Construct]]:
        """Those names, each with a dict of its tensors."""
        made = []
        unowned = self._unowned.get(owner, {}) if owner in self._written else {}
        for prefix, keys in unowned.items():
            items = {key[len(prefix) + 1 :]: _zeros(*self.keys[key]) for key in keys}
            made.append((prefix.rpartition(".")[2], nested(items)))
        return made

    def of(self, node: Node, region: Region) -> str:
        """A stored tensor, a constant or a module, as text in a region's method."""
        name = node.args[0]
        if node.op == "constant" and self._stored.printed(name):
            written: Symbol = self.value(self._stored.constants[name])
            return written.text
        return self.relative(node.args[-1], region)

    def relative(self, target: str, region: Region) -> str:
        """`self...` from a region's module to a path under it."""
        if not region.owner:
            return self._walk("", target)
        if target != region.owner and not target.startswith(f"{region.owner}."):
            raise ValueError(f"{region.module}: reaches {target}, which is not part of it")
        return self._walk(region.owner, target[len(region.owner) + 1 :])

    def _walk(self, owner: str, rest: str) -> str:
        text, at = "self", owner
        for part in rest.split("."):
            if part.isdigit() and at in self._lists:
                text += f"[{part}]"
            elif self._plain(part) and at not in self._dicts:
                text += f".{part}"
            else:
                text += f"[{literal(part)}]"
            at = f"{at}.{part}" if at else part
        return text

    def attribute(self, name: str) -> str:
        """What an assignment to a member of self writes to."""
        return f"self.{name}" if self._plain(name) else f"self[{literal(name)}]"

    def _plain(self, name: str) -> bool:
        """Whether a member can be written after a point."""
        word = name.isidentifier() and not keyword.iskeyword(name)
        return word and name not in self._reserved

    def tensors(self, owner: str) -> list[tuple[str, Construct]]:
        """Tensors that a module itself holds: name, and how they start."""
        held = {key: self.keys[key] for key in self._own.get(owner, ())}
        for key in self._own_constants.get(owner, ()):
            value = self._stored.constants[key]
            held[key] = (tuple(value.shape), str(value.dtype).rsplit(".", 1)[-1])
        return [(key.rpartition(".")[2], self._made(key, *known)) for key, known in held.items()]

    def _made(self, key: str, shape: tuple[int, ...], dtype: str) -> Construct:
        """How a tensor starts: zeros, or a layer of experts."""
        if key not in self._stored.experts:
            return _zeros(shape, dtype)
        made = _experts(shape, self._stored.experts[key])
        return made.add(".freeze()") if self._trains and key not in self._stored.trained else made

    def buffers(self, path: str) -> tuple[str, ...]:
        """Names of a module's own buffers that are stored, and of parameters that are frozen."""
        held = self._own.get(self._tree.owner(path), ())
        trained = self._stored.trained
        own = [key for key in held if key not in trained and key not in self._stored.experts]
        buffers = [key for key in own if key in self._stored.buffers]
        # of a model that is frozen whole, nothing is
        frozen = [key for key in own if key not in buffers] if self._trains else []
        return tuple(key.rpartition(".")[2] for key in (*buffers, *frozen))

    def freezing(self, path: str, made: Construct) -> Construct:
        """A stock layer's constructor, with the parameters frozen that are."""
        if not self._trains:
            return made
        prefix, trained = f"{self._tree.owner(path)}.", self._stored.trained
        held = [key for key in self.keys if key.startswith(prefix)]
        held = [key for key in held if key not in self._stored.buffers]
        fixed = [key for key in held if key not in trained]
        if not fixed:
            return made
        if len(fixed) == len(held):
            return made.add(".freeze()")
        names = dict.fromkeys(key.rpartition(".")[2] for key in fixed)
        if all(key in fixed for key in held if key.rpartition(".")[2] in names):
            keys = ", ".join(map(literal, names))
            return made.add(f".freeze(keys=[{keys}])")
        inner = ", ".join(literal(key[len(prefix) :]) for key in fixed)
        return Construct(["kit.training.frozen("]).extend(made).add(f", [{inner}])")

    def value(self, value: Any) -> Any:
        """A constructor's argument: tensors as a literal."""
        if hasattr(value, "detach"):
            return Symbol(_array(value))
        return value


def _zeros(shape: tuple[int, ...], dtype: str) -> Construct:
    made = Construct(["mx.zeros(("])
    for i, size in enumerate(shape):
        made.add(", " if i else "", ("size", int(size)))
    names = {"bool": "bool_", "complex128": "complex64"}
    made.add("," if len(shape) == 1 else "", ")")
    return made.add("" if dtype == "float32" else f", dtype=mx.{names.get(dtype, dtype)}", ")")


def _experts(shape: tuple[int, ...], turned: bool) -> Construct:
    """The constructor of a layer of experts with a weight of this shape."""
    count, rows, columns = map(int, shape)
    inputs, outputs = (rows, columns) if turned else (columns, rows)
    made = Construct(["kit.moe.ExpertLinear(", ("input_dims", inputs), ", "])
    made.add(("output_dims", outputs), ", ", ("experts", count), ", bias=False")
    return made.add(", turned=True)" if turned else ")")


def _array(value: Any) -> str:
    """A small tensor as source; floats in the shortest form that reads back the same."""
    dtype = str(value.dtype).rsplit(".", 1)[-1]
    plain = value.detach().cpu()
    plain = plain.float() if dtype in ("bfloat16", "float16") else plain
    numbers = np.asarray(plain)
    text = _numbers(numbers)
    usual = {"float32": "", "int32": "", "bool": ""}.get(dtype)
    names = {"bool": "bool_", "complex128": "complex64"}
    return (
        f"mx.array({text})"
        if usual == ""
        else f"mx.array({text}, dtype=mx.{names.get(dtype, dtype)})"
    )


def _numbers(numbers: Any) -> str:
    if numbers.ndim:
        return f"[{', '.join(_numbers(item) for item in numbers)}]"
    value = numbers.item()
    if isinstance(value, float):
        if not np.isfinite(value):
            return "mx.nan" if value != value else "mx.inf" if value > 0 else "-mx.inf"
        return repr(float(str(numbers[()]))) if numbers.dtype == np.float32 else repr(value)
    return repr(value)


def _by_owner(keys: Iterable[str]) -> dict[str, list[str]]:
    """Module -> the keys of the tensors that it holds itself."""
    found: dict[str, list[str]] = {}
    for key in keys:
        found.setdefault(key.rpartition(".")[0], []).append(key)
    return found


def prefixes(key: str) -> list[str]:
    """`a.b.c` -> `a`, `a.b`, `a.b.c`."""
    return list(accumulate(key.split("."), "{}.{}".format))
