"""Feature maps that are flattened into a Linear: there a hand-written twin in MLX goes wrong.

torch flattens (C, H, W), MLX's maps are (H, W, C): the same weights then meet other inputs, and
neither a shape nor `load_weights` shows it. Found by following feature maps through the source of
the forwards, as values that know their channels; nothing is run. What cannot be followed is
nothing known, so that what is found is found by the shapes: in_features = C * H * W.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch2mlx.analysis.functions import read
from torch2mlx.catalog.layers.entry import class_name
from torch2mlx.catalog.layers.lookup import lookup
from torch2mlx.checkpoint.source.module_tree import parts

#: Expressions looked at before giving up; no source of a model comes near.
BUDGET = 200_000
_DEPTH = 24


@dataclass(frozen=True)
class Map:
    """A feature map, channels first: how many channels, and dimensions after them."""

    channels: int
    rank: int
    flat: bool = False


@dataclass(frozen=True)
class Flattened:
    """A Linear that takes a flattened feature map: `positions` is H * W."""

    path: str
    in_features: int
    channels: int
    positions: int
    rank: int

    @property
    def reason(self) -> str:
        """What its shapes say."""
        return f"in_features {self.in_features} = {self.channels} channels x {self.positions}"

    @property
    def advice(self) -> str:
        """What to write in MLX."""
        order = ", ".join(map(str, (0, self.rank + 1, *range(1, self.rank + 1))))
        return f"x.transpose({order}).flatten(1)"

    def __str__(self) -> str:
        return (
            f"{self.path} takes a flattened feature map ({self.reason} positions): torch flattens "
            f"channels first, MLX's maps have channels last; written by hand in MLX it needs "
            f"{self.advice} before it (translate and port see to that)"
        )


Value = Map | None

_CONV = re.compile(r"torch\.nn\.Conv(Transpose)?([123])d")
_NORM = re.compile(r"torch\.nn\.(Batch|Instance)Norm([23])d")
# what keeps channels, and where they are
_SAME_LAYER = re.compile(
    r"torch\.nn\.((\w*Pool|\w*Pad|Dropout|(Batch|Instance)Norm|Upsampl\w*)\w*|\w*(ReLU|LU)6?|Identity"
    r"|Sigmoid|Tanh|Soft\w+|Hard\w+|Mish|GroupNorm|LocalResponseNorm|LogSigmoid|Threshold|GLU)"
)
_SAME_CALL = re.compile(
    r"(\w*pool\w*|pad|\w*dropout\w*|\w*norm|interpolate|upsample|\w*(relu|lu)6?_?|sigmoid_?|tanh_?"
    r"|soft\w+|hard\w+|mish|contiguous|clone|detach|to|float|half|type|cpu|cuda|abs|exp|sqrt|clamp_?"
    r"|clip|add_?|sub_?|mul_?|div_?|checkpoint|max_pool\w*|mean_pool\w*|requires_grad_|squeeze)"
)
_FLATTENING = re.compile(r"\s*(\w+) (\w+) .*->\s*\1 \(\s*\2 [^()]*\)\s*")


def _kind(module: Any, pattern: re.Pattern[str]) -> re.Match[str] | None:
    names = map(class_name, type(module).__mro__)
    return next((m for m in map(pattern.fullmatch, names) if m), None)


def _is(module: Any, name: str) -> bool:
    return any(class_name(cls) == f"torch.nn.{name}" for cls in type(module).__mro__)


class _Follower:
    """Follows feature maps through modules, and keeps what it finds."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self.found: dict[str, Flattened] = {}
        self.known: dict[tuple[int, str, Value], Value] = {}
        self.left, self.depth = BUDGET, 0

    @cached_property
    def paths(self) -> dict[int, str]:
        """The first path of each module, by its id."""
        return {id(module): path for path, module in self._root.named_modules()}

    def module(self, module: Any, value: Value) -> Value:
        """What a module gives for a value."""
        spec = lookup(type(module))
        if spec is not None and spec.transparent:
            return self.module(getattr(module, spec.transparent), value)
        if _is(module, "Sequential") and type(module).forward.__module__ == _TORCH_SEQUENTIAL:
            for child in module:
                value = self.module(child, value)
            return value
        if not type(module).__module__.startswith(("torch.nn.", "einops.")):
            return self.method(module, "forward", [value], {})
        return self._layer(module, value)

    def _layer(self, module: Any, value: Value) -> Value:
        """What a layer of torch gives."""
        conv, norm = _kind(module, _CONV), _kind(module, _NORM)
        if conv:
            return Map(module.out_channels, int(conv[2]))
        if norm and value is None and module.num_features:
            return Map(module.num_features, int(norm[2]))
        if _is(module, "Linear"):
            return self._linear(module, value)
        if _is(module, "Flatten"):
            return _flat(value, (module.start_dim, module.end_dim))
        if _is(module, "PixelShuffle") and value:
            return Map(value.channels // module.upscale_factor**2, value.rank)
        if type(module).__name__ == "Rearrange":
            return _rearranged(value, str(getattr(module, "pattern", "")))
        return value if _kind(module, _SAME_LAYER) else None

    def _linear(self, module: Any, value: Value) -> Value:
        taken = module.in_features
        if value is not None and value.flat and value.channels and taken:
            positions, rest = divmod(taken, value.channels)
            path = self.paths.get(id(module), "")
            if not rest and positions > 1 and value.channels > 1:
                row = Flattened(path, taken, value.channels, positions, value.rank)
                self.found.setdefault(path, row)
        return None

    def method(
        self, module: Any, name: str, given: list[Value], named: Mapping[str, Value]
    ) -> Value:
        """What a method of a module gives; its first arguments decide what is known already."""
        function = inspect.unwrap(getattr(type(module), name, None) or _none)
        key = (id(module), name, given[0] if given else None)
        if key in self.known or self.depth >= _DEPTH or not inspect.isfunction(function):
            return self.known.get(key)
        self.known[key] = None  # a recursion gives nothing
        source = read(function)
        if source is not None:
            tree = source.tree
            own, *names = [a.arg for a in (*tree.args.posonlyargs, *tree.args.args)] or [""]
            scope = {**dict(zip(names, given, strict=False)), **named}
            self.depth += 1
            self.known[key] = _Body(self, module, own, scope).run(tree.body)
            self.depth -= 1
        elif name == "forward":
            self.known[key] = self._in_order(module, value=given[0] if given else None)
        return self.known[key]

    def _in_order(self, module: Any, value: Value) -> Value:
        """Where a forward has no source: layers in the order in which they were declared."""
        named = set(type(module).forward.__code__.co_names)
        flattens = bool(named & {"flatten", "view", "reshape", "rearrange"})
        for layer in module.modules():
            if layer is module or next(layer.children(), None) is not None:
                continue
            if value is not None and flattens and _is(layer, "Linear"):
                value = Map(value.channels, value.rank, True)
            value = self.module(layer, value)
        return value


def _none() -> None:
    """Stands for a method that is not there."""


_TORCH_SEQUENTIAL = "torch.nn.modules.container"


def _flat(value: Value, span: tuple[int, int]) -> Value:
    """A map after flatten(start, end): of all but the batch, it is flat."""
    if value is None or value.flat:
        return value
    start, end = span
    if start in (0, 1, -1 - value.rank) and end in (-1, value.rank + 1):
        return Map(value.channels, value.rank, True)
    return value if start >= 2 else None


def _rearranged(value: Value, pattern: str) -> Value:
    flat = value is not None and _FLATTENING.fullmatch(pattern)
    return Map(value.channels, value.rank, True) if flat and value else None


class _Body:
    """One run through the statements of a method."""

    def __init__(self, follower: _Follower, module: Any, own: str, scope: dict[str, Value]) -> None:
        self.follower, self.module, self.own, self.scope = follower, module, own, scope
        self.items: dict[str, Any] = {}  # loop variables that are modules
        self.results: list[Value] = []

    def run(self, statements: Iterable[ast.stmt]) -> Value:
        """What is returned: the first value that is known."""
        for statement in statements:
            self.statement(statement)
        return next((value for value in self.results if value is not None), None)

    def statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign):
            value = self.value(node.value)
            for target in node.targets:
                self._bind(target, value)
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign)) and node.value is not None:
            before = self.value(node.target) if isinstance(node, ast.AugAssign) else None
            self._bind(node.target, self.value(node.value) or before)
        elif isinstance(node, ast.Return) and node.value is not None:
            self.results.append(self.value(node.value))
        elif isinstance(node, ast.Expr):
            self.value(node.value)
        elif isinstance(node, ast.For):
            self._loop(node)
        else:
            self._blocks(node)

    def _bind(self, target: ast.expr, value: Value) -> None:
        if isinstance(target, ast.Name):
            self.scope[target.id] = value
            self.items.pop(target.id, None)
        elif isinstance(target, (ast.Tuple, ast.List)):
            for part in target.elts:
                self._bind(part, None)

    def _blocks(self, node: ast.stmt) -> None:
        """Statements that hold others: each branch is looked at, a known value stays."""
        before = dict(self.scope)
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None) or []
            kept, self.scope = self.scope, dict(before)
            for statement in block:
                self.statement(statement)
            if block:
                merged = {n: self.scope.get(n) or kept.get(n) for n in {*self.scope, *kept}}
                self.scope = merged
            else:
                self.scope = kept

    def _loop(self, node: ast.For) -> None:
        """A loop over modules runs once for each; any other once."""
        modules = self._modules(node.iter)
        target = node.target
        if isinstance(target, ast.Tuple) and target.elts:  # enumerate, items
            target = target.elts[-1]
        for module in modules if modules is not None else [None]:
            self._bind(node.target, None)
            if module is not None and isinstance(target, ast.Name):
                self.items[target.id] = module
            for statement in node.body:
                self.statement(statement)

    def _modules(self, node: ast.expr) -> list[Any] | None:
        """The modules of `self.blocks`, `enumerate(self.blocks)`, `self.heads.values()`."""
        if isinstance(node, ast.Call):
            inner = node.args[0] if node.args else getattr(node.func, "value", None)
            return self._modules(inner) if isinstance(inner, ast.expr) else None
        found = self.object(node)
        children = getattr(found, "_modules", None)
        return [m for m in children.values() if m is not None] if children else None

    def object(self, node: ast.expr) -> Any:
        """The module (or other attribute) that an expression such as self.blocks[0] names."""
        if isinstance(node, ast.Name):
            return self.module if node.id == self.own else self.items.get(node.id)
        if isinstance(node, ast.Attribute):
            return getattr(self.object(node.value), node.attr, None)
        if isinstance(node, ast.Subscript):
            base = self.object(node.value)
            at = node.slice.value if isinstance(node.slice, ast.Constant) else None
            try:
                return base[at] if at is not None and hasattr(base, "_modules") else None
            except (KeyError, IndexError, TypeError):
                return None
        return None

    def value(self, node: ast.expr | None) -> Value:
        """What is known of an expression."""
        self.follower.left -= 1
        if node is None or self.follower.left < 0:
            return None
        if isinstance(node, ast.Name):
            return self.scope.get(node.id)
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.BinOp):
            left, right = self.value(node.left), self.value(node.right)
            return left or right
        if isinstance(node, ast.NamedExpr):
            value = self.value(node.value)
            self._bind(node.target, value)
            return value
        if isinstance(node, ast.IfExp):
            return self.value(node.body) or self.value(node.orelse)
        if isinstance(node, (ast.Tuple, ast.List)):
            values = [self.value(part) for part in node.elts]
            return values[0] if len(values) == 1 else None
        for part in ast.iter_child_nodes(node):
            if isinstance(part, ast.expr):
                self.value(part)
        return None

    def _call(self, node: ast.Call) -> Value:
        values = [self.value(arg) for arg in node.args]
        named = {k.arg: self.value(k.value) for k in node.keywords if k.arg}
        called = self.object(node.func)
        if called is not None and hasattr(called, "_modules"):
            return self.follower.module(called, values[0] if values else _first(named))
        if isinstance(node.func, ast.Name) or not isinstance(node.func, ast.Attribute):
            name, owner = getattr(node.func, "id", ""), None
        else:
            name, owner = node.func.attr, self.object(node.func.value)
        if owner is not None and hasattr(owner, "_modules"):
            return self.follower.method(owner, name, values, named)
        return self._operation(node, name, values)

    def _operation(self, node: ast.Call, name: str, values: list[Value]) -> Value:
        """A function, or a method of a value."""
        own = self.value(node.func.value) if isinstance(node.func, ast.Attribute) else None
        value, args = (own, node.args) if own else (values[0] if values else None, node.args[1:])
        if name == "flatten":
            return _flat(value, _span(args, node.keywords))
        if name in ("cat", "concat", "concatenate") and node.args:
            return self._joined(node.args[0])
        if name in ("view", "reshape"):
            return _viewed(value, args)
        if name == "rearrange":
            text = args[0].value if args and isinstance(args[0], ast.Constant) else ""
            return _rearranged(value, str(text))
        return value if _SAME_CALL.fullmatch(name) else None

    def _joined(self, node: ast.expr) -> Value:
        """Maps side by side: their channels add up."""
        parts = (
            [self.value(n) for n in node.elts] if isinstance(node, (ast.Tuple, ast.List)) else []
        )
        known = [part for part in parts if part is not None and not part.flat]
        if not parts or len(known) < len(parts):
            return None
        return Map(sum(part.channels for part in known), known[0].rank)


def _first(named: Mapping[str, Value]) -> Value:
    return next((value for value in named.values() if value is not None), None)


def _number(node: ast.expr | None, default: int) -> int:
    try:
        return int(ast.literal_eval(node)) if node is not None else default
    except (ValueError, TypeError):
        return default


def _span(args: list[ast.expr], keywords: list[ast.keyword]) -> tuple[int, int]:
    by_name = {k.arg: k.value for k in keywords}
    start = args[0] if args else by_name.get("start_dim")
    end = args[1] if len(args) > 1 else by_name.get("end_dim")
    return _number(start, 0), _number(end, -1)


def _viewed(value: Value, args: list[ast.expr]) -> Value:
    """A map as rows: view(n, -1) or reshape((-1, 400)); any other view is not followed."""
    if len(args) == 1 and isinstance(args[0], (ast.Tuple, ast.List)):
        args = args[0].elts
    if value is None or len(args) > 2 or any(isinstance(a, ast.Starred) for a in args):
        return None
    return Map(value.channels, value.rank, True)


def _worth_it(root: Any) -> bool:
    """Whether any Linear of a model could take what any convolution gives, flattened."""
    by_class: dict[type, list[Any]] = {}
    for module in parts(root):
        by_class.setdefault(type(module), []).append(module)
    channels: set[int] = set()
    features: set[int] = set()
    for same in by_class.values():  # base classes are looked at once
        channels |= {m.out_channels for m in same} if _kind(same[0], _CONV) else set()
        channels |= {m.num_features for m in same} if _kind(same[0], _NORM) else set()
        features |= {m.in_features for m in same} if _is(same[0], "Linear") else set()
    return any(c and f > c and f % c == 0 for c in channels for f in features)


def flattened(root: Any) -> tuple[Flattened, ...]:
    """The Linears of a live module (on any device, meta included) that take a flattened map."""
    if not _worth_it(root):
        return ()
    follower = _Follower(root)
    try:
        follower.module(root, None)
    except Exception:  # strangers' classes may do anything when asked for an attribute
        return tuple(follower.found.values())
    return tuple(follower.found.values())
