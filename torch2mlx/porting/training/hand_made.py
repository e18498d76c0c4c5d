"""Which tensors of a file are parameters that no module holds, and which names list them.

W = torch.randn(4, 3, requires_grad=True)       a tensor
params = [W, b]                                 a list of such tensors, one module in the end
everything = params + others                    a row of such lists, written out where it is read
Adam(list(net.parameters()) + [W])              a list of other parameters too, with those of W
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import Names, dotted
from torch2mlx.porting.scopes.resolved import KEEPING, Key, Resolved
from torch2mlx.porting.scopes.traversal import calls, of_kinds, walk
from torch2mlx.porting.training.fresh_tensors import FreshTensors

_LISTS = (cst.List, cst.Tuple)
#: What a name of a tensor may stand in: it is computed with, or asked for something.
_COMPUTING: tuple[type, ...] = (
    cst.BinaryOperation,
    cst.UnaryOperation,
    cst.Comparison,
    cst.ComparisonTarget,
)
_COMPUTING += (cst.Attribute, cst.Subscript, cst.Index, cst.Slice, cst.AugAssign, cst.Expr)
_COMPUTING += (
    cst.NameItem,
    cst.FormattedStringExpression,
    cst.If,
    cst.While,
    cst.Assert,
    cst.AssignTarget,
)
#: Calls that take lists of parameters, and keep nothing of them but what they answer.
_TAKING: tuple[str, ...] = ("list", "tuple", "iter", "chain", "enumerate", "zip", "sum", "filter")
_TAKING += ("clip_grad_norm_", "clip_grad_value_")
_PLAIN = ("print", "float", "len", "int", "str")


class HandMade:
    """`tensors`: key -> its first assignment and value. `lists`: key -> the keys in it. `rows`: key
    -> keys of lists. `spread`: items of lists in the place of which all parameters stand."""

    def __init__(self, module: cst.Module, names: Names) -> None:
        self._module, self._names = module, names
        self.tensors: dict[Key, tuple[Any, Any]] = {}
        self.lists: dict[Key, list[Key]] = {}
        self.rows: dict[Key, list[Key]] = {}
        self.spread: set[Any] = set()
        self.left: dict[Key, Any] = {}  # tensors that are trained and held elsewhere too
        self.bare: set[Any] = set()  # names that stay the names of modules
        self.whole: set[Any] = set()  # expressions for all parameters of a module
        self._stepping: dict[Any, bool] = {}
        self.asked: set[Any] = set()  # statements that say which tensors need gradients
        self.renewed: set[Any] = set()  # `w = w - lr * w.grad`
        optimizers = [c for c in calls(module) if c.args and self._is_optimizer(c)]
        graded = any(n.attr.value == "grad" for n in of_kinds(module, cst.Attribute))
        if optimizers or graded:
            self._find([c.args[0].value for c in optimizers])

    def _is_optimizer(self, call: cst.Call) -> bool:
        full = self._names.of(call.func)
        return full.startswith("torch.optim.") and "lr_scheduler" not in full

    def _find(self, given: list[Any]) -> None:
        self.resolved = Resolved(self._module)
        made = FreshTensors(self._module, self._names, self.resolved)
        self.tensors, self.fresh = made.found, made
        if not self.tensors:
            return
        self._take_lists()
        self._mixed(given)
        self._wholes(given)
        trained = set(self._trained(given))
        self.tensors = {k: v for k, v in self.tensors.items() if k in trained}
        self.lists = {k: v for k, v in self.lists.items() if set(v) <= trained}
        self.rows = {k: v for k, v in self.rows.items() if set(v) <= self.lists.keys()}
        known = dict(self.tensors)
        while (bad := self._held()) & (self.tensors.keys() | self.lists.keys()):
            self._without(bad)
        self.left = {k: known[k][0] for k in known if k not in self.tensors}
        self._note()

    # --- lists

    def _take_lists(self) -> None:
        """Names that are given a list of such tensors, once, or several of these lists."""
        once = {}
        for node in of_kinds(self._module, cst.Assign):
            key = self._target(node)
            if key is not None and len(self.resolved.bindings[key]) == 1:
                once[key] = node.value
        for key, value in once.items():
            items = [e.value for e in value.elements] if isinstance(value, _LISTS) else []
            keys = [self.resolved.key(item) for item in items]
            if keys and all(k in self.tensors for k in keys):
                self.lists[key] = [k for k in keys if k is not None]
        for key, value in once.items():
            parts = [self.resolved.key(part) for part in _summands(value)]
            if len(parts) > 1 and all(k in self.lists or k in self.rows for k in parts):
                self.rows[key] = [k for part in parts if part for k in self.rows.get(part, [part])]

    def _target(self, node: cst.Assign) -> Key | None:
        return self.resolved.key(node.targets[0].target) if len(node.targets) == 1 else None

    def _mixed(self, given: list[Any]) -> None:
        """Items of other lists that optimizers are given."""
        lists = [one for value in given for one in _displays(value)]
        names = {self.resolved.key(n) for value in given for n in _names_in(value)} - {None}
        names -= self.lists.keys() | self.rows.keys()
        for node in of_kinds(self._module, cst.Assign, cst.AugAssign):
            target = node.targets[0].target if isinstance(node, cst.Assign) else node.target
            if self.resolved.key(target) in names:
                lists += _displays(node.value)
        for one in lists:
            self.spread |= {e for e in one.elements if self._is_item(e)}

    def _wholes(self, given: list[Any]) -> None:
        """Where an optimizer, or a loop that reads gradients, takes all of what one name holds."""
        places = [part for value in given for part in _parts(value)]
        loops = (n for n in of_kinds(self._module, cst.For) if _reads_gradients(n))
        self.whole = {n for n in (*places, *(n.iter for n in loops)) if self._container(n)}

    def _container(self, node: Any) -> Key | None:
        """The name of several parameters that `params` or `params.values()` is of."""
        if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and not node.args:
            node = node.func.value if node.func.attr.value == "values" else None
        key = self.resolved.key(node)
        return key if key in self.fresh.held else None

    def _is_item(self, element: Any) -> bool:
        return isinstance(element, cst.Element) and self.resolved.key(element.value) in self.tensors

    # --- what is trained

    def _trained(self, given: list[Any]) -> Iterator[Key]:
        """Tensors that an optimizer is given, or whose gradient is read."""
        named = [self.resolved.key(n) for value in given for n in _names_in(value)]
        named += [self.resolved.key(e.value) for e in self.spread]
        for node in of_kinds(self._module, cst.Attribute):
            if node.attr.value == "grad":
                named.append(self.resolved.key(node.value))
        for loop in of_kinds(self._module, cst.For):
            if _reads_gradients(loop):
                named += [self.resolved.key(n) for n in _names_in(loop.iter)]
        named += [self._container(n) for n in self.whole]
        for key in named:
            rows = self.rows.get(key, [key]) if key is not None else []
            for part in rows:
                yield from self.lists.get(part, [part])

    # --- what cannot be

    def _held(self) -> set[Key]:
        """Tensors and lists that something else may hold, which would not see new values."""
        allowed = self._allowed()
        bad: set[Key] = set()
        for node, key in self.resolved.nodes.items():
            listed = key in self.lists or key in self.rows
            if (listed or key in self.tensors) and node not in allowed:
                bad |= {key} if listed or self._is_held(node) else set()
        for key, (assign, _) in self.tensors.items():
            fine = {assign, *self._rebound(key)}
            bad |= {key} if set(self.resolved.bindings[key]) - fine else set()
        return bad | {k for k in (*self.tensors, *self.lists) if k[1] in self._hidden(k)}

    def _hidden(self, key: Key) -> set[str]:
        """Names that functions with a backward pass have for something else than the key has."""
        return {name for f, name in self.resolved.bindings if f is not key[0] and self._steps(f)}

    def _steps(self, function: Any) -> bool:
        if function not in self._stepping:
            inner = walk(function) if function is not None else ()
            words = (n.attr.value for n in inner if isinstance(n, cst.Attribute))
            self._stepping[function] = any(word == "backward" for word in words)
        return self._stepping[function]

    def _rebound(self, key: Key) -> list[Any]:
        """What gives a tensor new numbers: `w -= lr * w.grad`."""
        bindings = self.resolved.bindings[key]
        self.renewed |= {n for n in bindings if self._renews(n, key)}
        return [n for n in bindings if n in self.renewed or isinstance(n, cst.AugAssign)]

    def _renews(self, node: Any, key: Key) -> bool:
        """Whether a line is `w = w - lr * w.grad`, by itself or as a parameter again."""
        if not isinstance(node, cst.Assign) or len(node.targets) != 1:
            return False
        read = (n for n in walk(node.value) if isinstance(n, cst.Attribute))
        return any(n.attr.value == "grad" and self.resolved.key(n.value) == key for n in read)

    def _is_held(self, node: Any) -> bool:
        """Whether a name of a tensor stands where the tensor itself is kept."""
        around = self.resolved.around.get(node)
        if isinstance(around, cst.Arg):
            call: Any = self.resolved.around.get(around)
            return not self._computes(call, around)
        if isinstance(around, (cst.Element, cst.DictElement)):
            whole = self.resolved.around.get(self.resolved.around.get(around))
            call = self.resolved.around.get(whole) if isinstance(whole, cst.Arg) else None
            return not (call is not None and self._names.of(call.func).startswith("torch."))
        return not isinstance(around, _COMPUTING)

    def _computes(self, call: cst.Call, argument: Any) -> bool:
        """Whether a call computes something of an argument, and keeps nothing."""
        func: Any = call.func
        full = self._names.of(func)
        place, _, name = full.rpartition(".")
        if isinstance(func, cst.Name) and func.value in _PLAIN:
            return True
        if full:
            return place in ("torch", "torch.nn.functional") and name[:1].islower()
        if isinstance(func, cst.Attribute):
            return func.attr.value not in KEEPING and dotted(func.value) != "self"
        return self.resolved.only_reads(call, argument)

    def _allowed(self) -> set[Any]:
        """Names that stand where the lists, and the modules of tensors, are meant to stand."""
        found: set[Any] = {e.value for e in self.spread} | self.whole
        for node in of_kinds(self._module, cst.Assign):
            key = self._target(node)
            if key in self.lists or key in self.rows:
                found |= {node.targets[0].target, *_names_in(node.value)}
        for node in of_kinds(self._module, cst.For, cst.CompFor):
            found |= {node.iter} | set(_listed(node.iter))
        for node in of_kinds(self._module, cst.StarredElement):
            found.add(node.value)
        for call in calls(self._module):
            last = dotted(call.func).rpartition(".")[2]
            if last in _TAKING or self._is_optimizer(call):
                found |= {n for a in call.args[:1] for n in _names_in(a.value)}
                found |= {a.value for a in call.args}
        for node in of_kinds(self._module, cst.Attribute):
            if node.attr.value in ("grad", "zero_grad", "parameters"):
                found.add(node.value)
        return found

    def _without(self, bad: set[Key]) -> None:
        """Leaves out what cannot be, and what it is listed with."""
        whole = {k for k, parts in self.rows.items() if k in bad or set(parts) & bad}
        bad = bad | {part for k in whole for part in self.rows[k]} | whole
        mixed = {k for k, parts in self.lists.items() if k in bad or set(parts) & bad}
        bad = bad | {part for k in mixed for part in self.lists[k]} | mixed
        self.tensors = {k: v for k, v in self.tensors.items() if k not in bad}
        self.lists = {k: v for k, v in self.lists.items() if k not in bad}
        self.rows = {k: v for k, v in self.rows.items() if k not in bad}

    def _note(self) -> None:
        """Which names stay as they are, and what goes."""
        asked = self.fresh.asked.items()
        self.asked = {s for s, keys in asked if all(k in self.tensors for k in keys)}
        self.whole = {n for n in self.whole if self._container(n) in self.tensors}
        self.spread = {e for e in self.spread if self.resolved.key(e.value) in self.tensors}
        for node in of_kinds(self._module, cst.Assign):
            key = self._target(node)
            if key in self.lists:
                self.bare |= {e.value for e in node.value.elements}
        for node in of_kinds(self._module, cst.Attribute):
            if node.attr.value in ("grad", "zero_grad"):
                self.bare.add(node.value)
        for node in of_kinds(self._module, cst.For):
            self.bare |= set(_listed(node.iter))
        self.bare |= {e.value for e in self.spread}


def _summands(node: Any) -> list[Any]:
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Add):
        return [*_summands(node.left), *_summands(node.right)]
    return [node]


def _displays(node: Any) -> list[Any]:
    """The lists in what an optimizer is given."""
    return [n for n in walk(node) if isinstance(n, _LISTS) and isinstance(n, cst.BaseExpression)]


def _reads_gradients(loop: Any) -> bool:
    return any(isinstance(n, cst.Attribute) and n.attr.value == "grad" for n in walk(loop))


def _names_in(node: Any) -> list[Any]:
    """The names of parameters and lists in what an optimizer is given."""
    return [part for part in _parts(node) if isinstance(part, cst.Name)]


def _parts(node: Any) -> list[Any]:
    """What an optimizer is given, taken apart."""
    waiting, found = [node], []
    while waiting:
        part = waiting.pop()
        if isinstance(part, cst.Name):
            found.append(part)
        elif isinstance(part, cst.BinaryOperation):
            waiting += [part.left, part.right]
        elif isinstance(part, (*_LISTS, cst.Dict)):
            waiting += [e.value for e in part.elements]
        elif isinstance(part, cst.Call) and dotted(part.func).rpartition(".")[2] in _TAKING:
            waiting += [a.value for a in part.args]
        else:
            found.append(part)
    return found


def _listed(node: Any) -> list[Any]:
    """The names in a list that a loop goes over."""
    elements = node.elements if isinstance(node, _LISTS) else ()
    return [e.value for e in elements if isinstance(e.value, cst.Name)]
