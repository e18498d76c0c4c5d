"""A state dict under a module's own names: wrappers and prefixes that savers put before them.

Trainers save `model.layer.weight` for the module that calls it `layer.weight`, averaged weights
stand beside under `ema_model.`, compiled layers have `_orig_mod.` within their keys.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from torch2mlx.checkpoint.source.arguments import check_text, of_part
from torch2mlx.common import options
from torch2mlx.common.amounts import counted, listed
from torch2mlx.errors import AmbiguousCheckpointError, StateDictMismatchError
from torch2mlx.types import Checkpoint, ModuleTree, TensorSource

Tensors = Mapping[str, TensorSource]

#: What wrappers put into keys: data parallel, averaging, torch.compile, FSDP, checkpointing.
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


@dataclass(frozen=True)
class Fitted:
    """Tensors under the names that a module has for them.

    `outside` are sources that lie outside of the prefix that was taken off, with the reason that
    they are no part of the module.
    """

    tensors: Mapping[str, TensorSource]
    outside: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def strip_wrappers(tensors: Tensors) -> dict[str, TensorSource]:
    """Takes `module.`, `_orig_mod.` and the like off keys that all begin so."""
    stripped = dict(tensors)
    while stripped:
        first = next((w for w in WRAPPERS if all(k.startswith(f"{w}.") for k in stripped)), None)
        if first is None:
            break
        stripped = {key[len(first) + 1 :]: value for key, value in stripped.items()}
    return stripped


def _plain(key: str) -> str:
    """A key without the components of wrappers."""
    *above, last = key.split(".")
    return ".".join([*(part for part in above if part not in WRAPPERS), last])


def _unwrapped(keys: Iterable[str]) -> dict[str, str] | None:
    """Keys by their form without wrappers; None where two would be one."""
    keys = list(keys)
    plain = {_plain(key): key for key in keys}
    return plain if len(plain) == len(keys) else None


class _Module:
    """What a module's state dict must have."""

    def __init__(self, tree: ModuleTree, strict: bool) -> None:
        self.tree, self.strict = tree, strict
        self.plain = _unwrapped(tree.shapes) or {}
        counted = (key for key in tree.shapes if not key.endswith("num_batches_tracked"))
        self.groups: dict[str, list[str]] = {}  # names of which one has to be there
        for key in counted:
            self.groups.setdefault(tree.ties.get(key, key), []).append(key)

    def missing(self, tensors: Mapping[str, object]) -> list[str]:
        """Names that a state dict lacks; of tied ones, one is enough."""
        return [
            name
            for names in self.groups.values()
            if not any(name in tensors for name in names)
            for name in names
        ]

    def misshapen(self, tensors: Tensors) -> list[str]:
        """Tensors that have other shapes than the module's of these names, and both shapes."""
        return [
            f"{key} is {list(tensors[key].shape)}, the module has {list(shape)}"
            for key, shape in self.tree.shapes.items()
            if key in tensors and tensors[key].shape != shape
        ]

    def problems(self, tensors: Tensors) -> list[str]:
        """Why tensors under these names are not the module's; unknown ones if `strict`."""
        wrong = self.misshapen(tensors)
        found = [f"shapes differ: {listed(wrong)}"] if wrong else []
        missing = self.missing(tensors) if self.strict else []
        unexpected = [key for key in tensors if key not in self.tree.shapes] if self.strict else []
        found += [f"missing: {listed(missing)}"] if missing else []
        return found + ([f"unexpected: {listed(unexpected)}"] if unexpected else [])

    def aligned(self, tensors: Tensors) -> dict[str, TensorSource]:
        """Tensors under the module's names, where wrappers are all that differs."""
        if not self.tree.shapes or not self.problems(tensors):
            return dict(tensors)
        plain = _unwrapped(tensors) if self.plain else None
        if plain is not None:
            made = {self.plain.get(name, name): tensors[key] for name, key in plain.items()}
            if not self.problems(made) or not tensors.keys() & self.tree.shapes.keys():
                return made
        return dict(tensors)


class _Keys:
    """Keys of a state dict, sorted, to look under a prefix without looking at all."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self.original, self.sorted = keys, sorted(keys)

    def under(self, prefix: str) -> list[str]:
        """All keys that begin so."""
        first = bisect_left(self.sorted, prefix)
        last = bisect_left(self.sorted, f"{prefix}\U0010ffff") if prefix else len(self.sorted)
        return self.sorted[first:last]

    def prefixes(self, names: Iterable[str]) -> Iterator[str]:
        """What stands before any of these names."""
        seen: dict[str, None] = {}
        for name in names:
            for key in self.sorted:
                if key == name or key.endswith(f".{name}"):
                    seen[key[: len(key) - len(name)]] = None
        yield from seen


def _candidates(tensors: Tensors, module: _Module) -> dict[str, dict[str, TensorSource]]:
    """Prefixes under which everything of a module is there, and nothing else if strict.

    Keys are taken as they are, and without the wrappers within; what comes out the same counts
    once.
    """
    found: dict[frozenset[str], tuple[str, dict[str, TensorSource]]] = {}
    views = [({key: key for key in tensors}, {key: key for key in module.tree.shapes})]
    plain = _unwrapped(tensors) if module.plain else None
    views += [(plain, module.plain)] if plain is not None else []
    for view, names in views:
        anchor = next(iter(sorted(module.groups.values(), key=len)), None)
        keys, back = _Keys(view), {own: name for name, own in names.items()}
        for prefix in keys.prefixes(back[own] for own in anchor or ()):
            need = ([prefix + back[own] for own in group] for group in module.groups.values())
            if not all(any(key in view for key in group) for group in need):
                continue
            below = {key: view[key] for key in keys.under(prefix)}
            cut = {key[len(prefix) :]: original for key, original in below.items()}
            made = {names.get(name, name): tensors[original] for name, original in cut.items()}
            if not module.problems(made):
                found.setdefault(frozenset(below.values()), (prefix, made))
    return {prefix: made for prefix, made in found.values() if prefix}


def _outside(tensors: Tensors, inside: Iterable[TensorSource], prefix: str) -> dict[str, str]:
    kept = {source.key for source in inside}
    reason = f"outside of the prefix {prefix!r}, so no part of the module"
    return {source.key: reason for source in tensors.values() if source.key not in kept}


def _taken(tensors: Tensors, made: Mapping[str, TensorSource], prefix: str) -> Fitted:
    outside = _outside(tensors, made.values(), prefix)
    if not prefix:
        return Fitted(made)
    note = f"the prefix {prefix!r} was taken off {counted(len(made), 'key')}"
    if outside:
        note += f"; outside of it, and so left to the sidecar: {listed(outside)}"
    return Fitted(made, outside, (note,))


def select(checkpoint: Checkpoint, prefix: str) -> tuple[Checkpoint, Fitted]:
    """The part of a checkpoint under a prefix, without it, and what was left outside.

    The prefix's last dot may be left out. Raises StateDictMismatchError, which lists prefixes that
    are there, when nothing begins so; ConversionError for a live module, which has parts instead.
    """
    tensors = checkpoint.tensors
    check_text("prefix", prefix)
    if checkpoint.tree is not None:
        raise of_part("prefix", prefix)
    for start in (prefix if prefix.endswith(".") or not prefix else f"{prefix}.", prefix):
        made = {key[len(start) :]: v for key, v in tensors.items() if key.startswith(start)}
        if made and "" not in made:
            return replace(checkpoint, tensors=made), _taken(tensors, made, start)
    first = sorted({key.partition(".")[0] + "." for key in tensors if "." in key})
    begin = f"they begin with {listed(first)}" if first else "no key has a prefix"
    raise StateDictMismatchError(f"{checkpoint.origin}: no key begins with {prefix!r}; {begin}")


def fit(checkpoint: Checkpoint, tree: ModuleTree, strict: bool, search: bool) -> Fitted:
    """The tensors of a checkpoint under a module's own names.

    What wrappers put into keys may be on either side. With `search`, the one prefix under which
    everything of the module is there is found and told.

    Raises StateDictMismatchError when keys (if `strict`) or shapes do not fit,
    AmbiguousCheckpointError when several prefixes would do.
    """
    module, tensors = _Module(tree, strict), checkpoint.tensors
    made = module.aligned(tensors)
    problems = module.problems(made)
    unfit = problems or not made.keys() & tree.shapes.keys()
    here = tensors.keys() & tree.shapes.keys() and not module.missing(tensors)
    if search and tree.shapes and unfit and not here:
        found = _candidates(tensors, module)
        if len(found) > 1:
            raise _several(checkpoint.origin, tuple(found))
        for prefix, fitting in found.items():
            names = {source.key: name for name, source in fitting.items()}
            kept = (source for source in tensors.values() if source.key in names)
            return _taken(tensors, {names[source.key]: source for source in kept}, prefix)
        problems += _nearest(tensors, module)
    if problems:
        raise _misfit(checkpoint.origin, problems, bool(module.misshapen(made)))
    return Fitted(made, notes=_told(tensors, made))


def _told(tensors: Tensors, made: Tensors) -> tuple[str, ...]:
    """A note on keys that differ from the module's by components of wrappers."""
    changed = [pair for pair in zip(tensors, made, strict=True) if pair[0] != pair[1]]
    if not changed:
        return ()
    key, name = changed[0]
    differ = "1 key differs" if len(changed) == 1 else f"{counted(len(changed), 'key')} differ"
    return (f"{differ} from the module's by wrappers: {name!r} is {key!r}",)


def _nearest(tensors: Tensors, module: _Module) -> list[str]:
    """The prefix under which most of a module is there, for what to look at."""
    keys = _Keys({key: key for key in tensors})
    names = [names[0] for names in module.groups.values()]
    spread = names[:: max(1, len(names) // 10)]
    counts = Counter(prefix for name in spread for prefix in keys.prefixes([name]) if prefix)
    if not counts:
        return []
    prefix, _ = counts.most_common(1)[0]
    there = sum(prefix + name in tensors for name in names)
    return [
        f"under the prefix {prefix!r} {there} of {len(names)} are there: "
        f"{options.given('prefix', prefix)} says what is not"
    ]


def _several(origin: str, prefixes: tuple[str, ...]) -> AmbiguousCheckpointError:
    offered = " or ".join(options.given("prefix", prefix) for prefix in prefixes[:5])
    more = f" ({len(prefixes)} in all)" if len(prefixes) > 5 else ""
    return AmbiguousCheckpointError(
        f"{origin}: the module fits under several prefixes: pass {offered}{more}", prefixes
    )


def _misfit(origin: str, problems: list[str], shapes: bool) -> StateDictMismatchError:
    """`shapes`: whether shapes differ, which leaving names out does not change."""
    advice = f"; pass the right module, or {options.given('strict', False)}"
    return StateDictMismatchError(
        f"{origin} and the module do not fit: {'; '.join(problems)}{'' if shapes else advice}"
    )
