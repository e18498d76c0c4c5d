"""The plan stage: tensors with layer types become pieces to write, and traces to undo them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from torch2mlx import _core
from torch2mlx.catalog.weights.actions import Merge, Move, On, Split
from torch2mlx.catalog.weights.folds import FORMULAS, LIKE
from torch2mlx.catalog.weights.merges import MERGES, from_array, to_array
from torch2mlx.checkpoint.plan.moves import NO_RULE, Seen, View, identity, repeated, shared_rule
from torch2mlx.checkpoint.plan.owners import Owner, Resolver
from torch2mlx.checkpoint.plan.typing import Typed
from torch2mlx.common.collecting import paused
from torch2mlx.common.key_errors import naming_keys
from torch2mlx.errors import ConversionError, KeyCollisionError
from torch2mlx.types import (
    LARGEST_SIZE,
    Deferred,
    Fold,
    Made,
    Piece,
    Plan,
    TensorSource,
    Trace,
    original,
    oversized,
)

_SIDECAR = ("s",)


@dataclass(frozen=True, slots=True)
class Effective:
    """A tensor as a rule sees it: straight from the checkpoint, or folded from others.

    `keys` are names in the checkpoint as it came, wrappers' prefixes included; `made` is the
    number of a computed tensor among those of the plan; `same` is equal for tensors that are
    computed alike from the same bytes, () for no other.
    """

    source: TensorSource
    keys: tuple[str, ...]
    note: str = ""
    made: int | None = None
    same: tuple[object, ...] = ()

    @property
    def deferred(self) -> bool:
        return isinstance(self.source, Deferred)


def _fold(fold: Fold, owner: Owner, typed: Typed) -> Effective:
    """The tensor that a fold computes; shape and dtype are those of one of its sources."""
    sources = [typed.tensors[owner.keys[name]] for name in fold.sources]
    keys = tuple(source.key for source in sources)
    name = f"{owner.record.path}.{fold.name}".lstrip(".")
    if fold.how == "module":
        compute = typed.tree.compute
        assert compute is not None, "a tree with such folds is of a live module"
        made = compute(owner.record.path, fold.name)
        make = lambda: compute(owner.record.path, fold.name)  # noqa: E731
        return Effective(Deferred(name, made.shape, made.dtype, make), keys, "parametrization")
    like, formula = sources[LIKE[fold.how]], FORMULAS[fold.how]

    def compute_fold() -> _core.Tensor:
        return from_array(formula(fold.dim, *(to_array(s.load()) for s in sources)), like.dtype)

    return Effective(Deferred(name, like.shape, like.dtype, compute_fold), keys, fold.how)


@dataclass
class _Made:
    """A plan in the making."""

    seen: Seen
    pieces: list[Piece] = field(default_factory=list)
    traces: dict[str, Trace] = field(default_factory=dict)
    made: list[Made] = field(default_factory=list)

    def add(self, resolver: Resolver, typed: Typed) -> None:
        """Plans the tensors of all modules. What is only moved is planned in C."""
        rules = [
            None if record.folds or record.renamed or wrapper else shared_rule(spec)
            for record, spec, wrapper in resolver.modules()
        ]
        same = self.seen.repeated
        _core.plan_moves(
            resolver.rows(typed.tensors),
            rules,
            dict(typed.tensors),
            dict(typed.actions),
            (Deferred, Piece, Trace, View),
            (
                lambda row, given: self.seen.moves(resolver.owner(row), given),
                lambda row, given: self._add(resolver.owner(row), resolver, typed, given),
                (lambda source, rule: identity(source, rule, same)) if same else None,
            ),
            self.pieces,
            self.traces,
        )

    def _add(
        self,
        owner: Owner,
        resolver: Resolver,
        typed: Typed,
        given: Mapping[str, TensorSource],
    ) -> None:
        """Plans the tensors of one module, of which some are more than moved."""
        if owner.spec and owner.spec.transparent and resolver.is_wrapper(owner.record.path):
            _wrapper_owned(owner, typed, self.traces)
        else:
            _OwnerPlan(owner, typed, self).run(given)


class _OwnerPlan:
    """The pieces and traces of one module's tensors, where some are more than moved."""

    def __init__(self, owner: Owner, typed: Typed, out: _Made) -> None:
        self.owner, self.typed, self.seen, self.made = owner, typed, out.seen, out.made
        self.pieces, self.traces = out.pieces, out.traces

    def run(self, given: Mapping[str, TensorSource]) -> None:
        """Adds what becomes of the module's tensors, by name."""
        owner, typed = self.owner, self.typed
        tensors = {name: Effective(source, (source.key,)) for name, source in given.items()}
        for fold in owner.record.folds:
            if all(name in tensors for name in fold.sources):
                folded = self._make(_fold(fold, owner, typed), fold.how, fold.dim)
                parts = [tensors[name] for name in fold.sources if fold.how != "module"]
                folded = replace(folded, same=self._alike((fold.how, fold.dim), parts))
                for name in fold.sources:
                    self._keep(tensors.pop(name), f"folded into {fold.name}: {fold.how}")
                tensors[fold.name] = folded
        chosen = {
            name: On(name, typed.actions[key])
            for name, key in owner.keys.items()
            if name in tensors and key in typed.actions
        }
        renamed = {n: On(n, Move(to=to)) for n, to in owner.record.renamed.items() if n in tensors}
        chosen = {**renamed, **chosen}
        shapes = {n: e.source.shape for n, e in tensors.items() if n not in chosen}
        rule = owner.spec.weights if owner.spec else NO_RULE
        for action in (*chosen.values(), *self.seen.actions(rule, owner.record, shapes)):
            self._apply(action, tensors)

    def _apply(self, action: On | Merge, tensors: Mapping[str, Effective]) -> None:
        if isinstance(action, Merge):
            self._merge(action, [self._needed(name, action, tensors) for name in action.sources])
            return
        effective = self._needed(action.name, action, tensors)
        if isinstance(action.action, Move):
            self._move(action.name, action.action, effective)
        elif isinstance(action.action, Split):
            self._split(action.name, action.action, effective)
        else:
            self._keep(effective, action.action.reason)

    def _needed(self, name: str, action: On | Merge, tensors: Mapping[str, Effective]) -> Effective:
        if name not in tensors:
            where = self.owner.record.path or "the root module"
            raise ConversionError(f"{where}: tensor {name!r} is missing, which {action} needs")
        return tensors[name]

    def _make(
        self,
        effective: Effective,
        how: str,
        dim: int | None,
        sources: tuple[str | int, ...] | None = None,
    ) -> Effective:
        """Numbers a computed tensor, so that revert can undo it where it was trained."""
        source = effective.source
        self.made.append(Made(how, dim, sources or effective.keys, source.dtype, source.shape))
        return replace(effective, made=len(self.made) - 1)

    def _alike(self, how: tuple[object, ...], parts: Sequence[Effective]) -> tuple[object, ...]:
        """What two tensors have in common that are computed so, from parts of the same bytes."""
        alike = [p.same or identity(p.source, "", self.seen.repeated) for p in parts]
        return (how, *alike) if alike and all(alike) else ()

    def _trace(self, effective: Effective, recipe: tuple[object, ...], reason: str = "") -> None:
        if effective.made is not None and recipe != _SIDECAR:
            self.made[effective.made] = replace(self.made[effective.made], recipe=recipe)
        elif len(effective.keys) == 1 and not effective.note:
            source = effective.source
            key = effective.keys[0]
            self.traces.setdefault(key, Trace(key, source.dtype, source.shape, recipe, reason))

    def _keep(self, effective: Effective, reason: str) -> None:
        self._trace(effective, _SIDECAR, reason)

    def _add(
        self, target: str, effective: Effective, shape: tuple[int, ...], rule: str, view: Any
    ) -> None:
        source, note, same = effective.source, effective.note, effective.same
        described = f"{note}, {rule}" if note and rule != "copy" else note or rule
        load: Callable[[], _core.Tensor] = source.load
        if view is not None:
            load = cast("Callable[[], _core.Tensor]", View(source, view))
        self.pieces.append(
            Piece(
                self.owner.prefix + target,
                shape,
                source.dtype,
                effective.keys,
                described,
                load,
                effective.deferred,
                (*same, rule) if same else identity(source, rule, self.seen.repeated),
                effective.made is not None,
            )
        )

    def _move(self, name: str, action: Move, effective: Effective) -> None:
        target = action.to or name
        full = self.owner.prefix + target
        if action.layout is None:
            self._add(target, effective, effective.source.shape, "copy", None)
            self._trace(effective, ("t", full))
            return
        try:
            known = self._known(action, effective.source.shape)
            fitted = self.seen.fit(action.layout, effective.source.shape, known)
        except ValueError as error:
            raise ConversionError(f"tensor {effective.keys[0]!r}: {error}") from error
        self._add(target, effective, fitted.shape, fitted.text, fitted.view)
        self._trace(effective, ("l", full, fitted.text, fitted.sizes))

    def _known(self, action: Move, weight: tuple[int, ...]) -> dict[str, int]:
        """Sizes of layout letters that the module's options tell."""
        options = self.owner.record.options
        known = {letter: int(options.get(name, 1)) for letter, name in action.letters.items()}
        if known and "from_keys" in options and "bias" in self.owner.keys:
            outputs = self.typed.tensors[self.owner.keys["bias"]].shape[0]
            for name in action.letters.values():
                if name == "groups" and options.get(name, 1) * weight[1] != outputs:
                    raise ValueError(f"{outputs} outputs and shape {weight} need other groups")
        return known

    def _split(self, name: str, action: Split, effective: Effective) -> None:
        source, parts = effective.source, len(action.to)
        if not source.shape or source.shape[0] % parts:
            raise ConversionError(
                f"tensor {effective.keys[0]!r}: {list(source.shape)} cannot be split in {parts}"
            )
        rows = source.shape[0] // parts
        for i, target in enumerate(action.to):
            narrow = lambda t, start=i * rows: t.narrow(0, start, rows)  # noqa: E731
            shape = (rows, *source.shape[1:])
            self._add(target, effective, shape, f"part {i + 1} of {parts}", narrow)
        self._trace(effective, ("c", [self.owner.prefix + target for target in action.to]))

    def _merge(self, action: Merge, parts: list[Effective]) -> None:
        values, shape = MERGES[action.how]
        dtype = parts[0].source.dtype

        def make() -> _core.Tensor:
            return from_array(values(*(to_array(p.source.load()) for p in parts)), dtype)

        keys = tuple(key for part in parts for key in part.keys)
        merged = shape(*(part.source.shape for part in parts))
        effective = Effective(Deferred(action.to, merged, dtype, make), keys)
        parents = tuple(part.keys[0] if part.made is None else part.made for part in parts)
        effective = self._make(effective, action.how, None, parents)
        effective = replace(effective, same=self._alike((action.how,), parts))
        self._add(action.to, effective, merged, action.how, None)
        self._trace(effective, ("t", self.owner.prefix + action.to))
        for part in parts:
            self._keep(part, f"merged into {self.owner.prefix}{action.to}")


def _check_targets(pieces: Sequence[Piece]) -> None:
    """Raises KeyCollisionError for equal targets and for `a` beside `a.b`."""
    with naming_keys():
        found = _core.collision([piece.target for piece in pieces])
    if found is None:
        return
    first, second = pieces[found[0]], pieces[found[1]]
    if first.target == second.target:
        raise KeyCollisionError(
            f"{_names(first)} and {_names(second)} would both become {first.target!r}"
        )
    raise KeyCollisionError(
        f"{_names(first)} becomes {first.target!r}, which is also the prefix of "
        f"{second.target!r} (from {_names(second)}); MLX cannot hold both"
    )


def _check_sizes(pieces: Iterable[Piece]) -> None:
    """Raises UnsupportedTensorError for a dimension that no MLX array has."""
    shapes = {piece.shape for piece in pieces if piece.shape}
    if all(max(shape) <= LARGEST_SIZE for shape in shapes):
        return
    for piece in pieces:
        if piece.shape and max(piece.shape) > LARGEST_SIZE:
            raise oversized(f"tensor {_names(piece)}", piece.shape)


def _check_names(pieces: Iterable[Piece]) -> None:
    """Raises ConversionError for the one name that no tensor of a safetensors file can have."""
    for piece in pieces:
        if piece.target == "__metadata__":
            raise ConversionError(
                f"{_names(piece)} would be written as {piece.target!r}, a name that safetensors "
                "keeps for itself: rename it in the state dict first"
            )


def _names(piece: Piece) -> str:
    return " + ".join(map(repr, piece.sources))


def _tie(pieces: Iterable[Piece]) -> tuple[list[Piece], dict[str, str]]:
    """Pieces whose bytes are written once, and aliases of those left out."""
    kept: list[Piece] = []
    first: dict[tuple[object, ...], str] = {}
    ties: dict[str, str] = {}
    for piece in pieces:
        if piece.identity and first.setdefault(piece.identity, piece.target) != piece.target:
            ties[piece.target] = first[piece.identity]
        else:
            kept.append(piece)
    return kept, ties


def _absent_ties(typed: Typed, resolver: Resolver, pieces: list[Piece]) -> dict[str, str]:
    """Targets of tied tensors that the checkpoint left out because it has the other name."""
    if not typed.tree.ties:
        return {}
    by_source = {piece.sources: piece for piece in pieces}
    ties = {}
    for owner in resolver.owners(typed.tree.ties):
        for name, absent in owner.keys.items():
            piece = by_source.get((typed.tensors[typed.tree.ties[absent]].key,))
            if piece is not None and piece.rule == "copy":
                ties[owner.prefix + name] = piece.target
    return ties


def _cast(pieces: list[Piece], dtype: str | None) -> list[Piece]:
    if dtype is None:
        return pieces
    floats = {"float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"}
    return [piece.cast(dtype) if piece.dtype in floats else piece for piece in pieces]


def _sidecar(typed: Typed, traces: Mapping[str, Trace]) -> tuple[Piece, ...]:
    return tuple(original(s) for s in typed.sources if traces[s.key].recipe == _SIDECAR)


def _shared(
    tensors: Iterable[TensorSource], repeated: frozenset[int]
) -> tuple[tuple[str, ...], ...]:
    """Groups of source keys that are one tensor, so that one value must fit them all."""
    if not repeated:
        return ()
    groups: dict[tuple[object, ...], list[str]] = {}
    for source in tensors:
        same = identity(source, "", repeated)
        if same:
            groups.setdefault(same, []).append(source.key)
    return tuple(tuple(keys) for keys in groups.values() if len(keys) > 1)


def _wrapper_owned(owner: Owner, typed: Typed, traces: dict[str, Trace]) -> None:
    for key in owner.keys.values():
        source = typed.tensors[key]
        reason = f"belongs to the wrapper {owner.record.kinds[0].rpartition('.')[2]}"
        traces[source.key] = Trace(source.key, source.dtype, source.shape, _SIDECAR, reason)


@paused()
def make_plan(typed: Typed, dtype: str | None = None) -> Plan:
    """Plans a conversion; nothing is read or written.

    `dtype` casts floating-point targets. Raises ConversionError (KeyCollisionError for targets
    that clash) when a rule does not fit its tensors or when nothing would be written.
    """
    resolver = Resolver(typed.tree.records)
    made = _Made(Seen(repeated(typed.sources)))
    made.add(resolver, typed)
    if not made.pieces:
        raise ConversionError("there is not a single tensor to convert")
    _check_names(made.pieces)
    _check_sizes(made.pieces)
    _check_targets(made.pieces)
    absent = _absent_ties(typed, resolver, made.pieces)
    pieces, ties = _tie(_cast(made.pieces, dtype))
    traces, same = made.traces, made.seen.repeated
    for s in typed.sources if typed.outside else ():
        if s.key in typed.outside:
            traces[s.key] = Trace(s.key, s.dtype, s.shape, _SIDECAR, typed.outside[s.key])
    ordered = tuple(traces[source.key] for source in typed.sources)
    aliases = {**{k: ties.get(first, first) for k, first in absent.items()}, **ties}
    sidecar, shared = _sidecar(typed, traces), _shared(typed.sources, same)
    _check_names(sidecar)
    return Plan(tuple(pieces), ordered, aliases, sidecar, typed.notes, tuple(made.made), shared)
