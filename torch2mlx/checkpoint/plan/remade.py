"""Sources of computed tensors: the originals where nothing changed, else what gives the new value.

A tensor made (a fold, a merge) and all that shares sources with it are solved together, one such
group at a time, when the first of its sources is asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from torch2mlx import _core
from torch2mlx.catalog.weights.folds import FORMULAS, LIKE
from torch2mlx.catalog.weights.inverses import FITS, INVERSES, New, Old, Underivable
from torch2mlx.catalog.weights.layout import parse
from torch2mlx.catalog.weights.merges import MERGES, Array, from_array, to_array
from torch2mlx.checkpoint.plan.trained import Match, Origin
from torch2mlx.types import Made

_REAL = ("float16", "bfloat16", "float32", "float64")


def digest_of(tensor: _core.Tensor) -> str:
    """The digest that a file holds of a tensor with these bytes."""
    empty = 0 in tensor.shape
    dense = b"" if empty else np.asarray(tensor.dense()).reshape(-1).view(np.uint8).data
    return hashlib.blake2b(dense, digest_size=16).hexdigest()


def _unchanged(tensor: _core.Tensor, told: tuple[str, str]) -> bool:
    """Whether a tensor is what was written, or that in a wider dtype."""
    dtype, digest = told
    if tensor.dtype != dtype:
        if tensor.dtype not in _REAL or dtype not in _REAL:
            return False
        narrow = tensor.dense(dtype)
        same = np.array_equal(to_array(narrow.dense("float64")), to_array(tensor.dense("float64")))
        return bool(same) and digest_of(narrow) == digest
    return digest_of(tensor) == digest


def _groups(made: Sequence[Made]) -> list[list[int]]:
    """Numbers of tensors made that share sources, or are made from each other."""
    group = list(range(len(made)))

    def top(i: int) -> int:
        while group[i] != i:
            group[i] = group[group[i]]
            i = group[i]
        return i

    users: dict[str, int] = {}
    for i, entry in enumerate(made):
        for source in entry.sources:
            other = source if isinstance(source, int) else users.setdefault(source, i)
            group[top(i)] = top(other)
    found: dict[int, list[int]] = {}
    for i in range(len(made)):
        found.setdefault(top(i), []).append(i)
    return list(found.values())


class Remade:
    """The sources of all tensors made. `problems` says which cannot be derived, and why."""

    def __init__(self, match: Match, origin: Origin) -> None:
        self._match, self._origin, self._made = match, origin, origin.plan.made
        self._group_of: dict[str, list[int]] = {}
        self._solved: tuple[list[int], dict[str, _core.Tensor]] = ([], {})
        self.problems: list[str] = []
        for group in _groups(self._made):
            keys = {s for i in group for s in self._made[i].sources if isinstance(s, str)}
            self._group_of.update(dict.fromkeys(keys, group))
            self.problems += self._check(group)

    def __contains__(self, key: str) -> bool:
        return key in self._group_of

    def __getitem__(self, key: str) -> _core.Tensor:
        """A source tensor; the last group that was solved is remembered."""
        group = self._group_of[key]
        if self._solved[0] is not group:
            self._solved = ([], {})
            self._solved = (group, self._solve(group))
        found = self._solved[1].get(key)
        return self._origin.originals[key].load() if found is None else found

    def _check(self, group: list[int]) -> Iterator[str]:
        """What keeps a group from being solved; what is missing is told elsewhere."""
        entries = [self._made[i] for i in group]
        keys = {s for entry in entries for s in entry.sources if isinstance(s, str)}
        if not all(self._match.has(entry.recipe, entry.shape) for entry in entries):
            return
        if not all(key in self._origin.originals for key in keys):
            return
        wrong = [entry for entry in entries if not self._fits(entry)]
        if wrong:
            yield f"{self._name(wrong[0])}: its sources do not fit its formula {wrong[0].how}"
        elif any(entry.how in ("module", *_FALLIBLE) for entry in entries):
            try:
                self._solve(group)
            except Underivable as error:
                yield str(error)

    def _fits(self, entry: Made) -> bool:
        """Whether a formula takes its sources' shapes, and gives the shape that is recorded."""
        if entry.how == "module":
            return True
        shapes = [self._shape(source) for source in entry.sources]
        count, fit = FITS[entry.how]
        if len(shapes) != count or not fit(entry.dim, shapes):
            return False
        if entry.how in LIKE:
            return shapes[LIKE[entry.how]] == entry.shape
        return MERGES[entry.how][1](*shapes) == entry.shape

    def _shape(self, source: str | int) -> tuple[int, ...]:
        if isinstance(source, int):
            return self._made[source].shape
        return self._origin.originals[source].shape

    def _name(self, entry: Made) -> str:
        recipe = entry.recipe or ("t", entry.sources[0])
        return repr(recipe[1][0] if recipe[0] == "c" else recipe[1])

    def _stored(self, entry: Made) -> tuple[list[_core.Tensor], list[str]]:
        names = entry.recipe[1] if entry.recipe[0] == "c" else [entry.recipe[1]]
        return [self._match[name] for name in names], names

    def _changed(self, number: int) -> bool:
        entry = self._made[number]
        tensors, names = self._stored(entry)
        told = [self._origin.digest(name) for name in names]
        if all(told):
            return not all(_unchanged(t, d) for t, d in zip(tensors, told, strict=True) if d)
        if entry.how == "module":
            return True
        new, old = self._value(entry), self._forward(number, {})
        unit = {"float16": 2.0**-9, "bfloat16": 2.0**-6}.get(tensors[0].dtype, 2.0**-21)
        return not np.allclose(new, old, rtol=unit, atol=0, equal_nan=True)

    def _value(self, entry: Made) -> Array:
        """The value that MLX has now, in torch's layout."""
        tensors, _ = self._stored(entry)
        if entry.recipe[0] == "l":
            layout = parse(entry.recipe[2]).inverse
            tensors = [layout.view(tensors[0], entry.recipe[3])]
        whole = [to_array(tensor).astype(np.float64) for tensor in tensors]
        return (whole[0] if len(whole) == 1 else np.concatenate(whole)).reshape(entry.shape)

    def _forward(self, number: int, known: dict[str, Array]) -> Array:
        """What a tensor made is for sources that are known, or as they were."""
        entry = self._made[number]
        parts = [
            self._forward(s, known) if isinstance(s, int) else self._old(s, known)
            for s in entry.sources
        ]
        if entry.how in MERGES:
            return MERGES[entry.how][0](*parts)
        return FORMULAS[entry.how](entry.dim, *parts)

    def _old(self, key: str, known: dict[str, Array]) -> Array:
        if key in known:
            return known[key]
        return to_array(self._origin.originals[key].load()).astype(np.float64)

    def _solve(self, group: list[int]) -> dict[str, _core.Tensor]:
        """New sources by key; those that stay as they were are left out."""
        known: dict[str, Array] = {}
        asked: dict[int, New] = {}
        exact: dict[str, _core.Tensor] = {}
        for number in reversed(group):
            entry = self._made[number]
            if entry.recipe and self._changed(number):
                dtype = self._stored(entry)[0][0].dtype
                if entry.how == "module":
                    exact.update(self._invert(entry))
                    continue
                if entry.dtype not in _REAL or dtype not in _REAL:
                    raise Underivable(f"{self._name(entry)}: no formula is known for {dtype}")
                asked[number] = New(self._value(entry), dtype)
            if number in asked:
                self._apply(number, asked, known)
        dtypes = {key: self._origin.originals[key].dtype for key in known}
        return {**exact, **{k: from_array(v, dtypes[k]) for k, v in known.items()}}

    def _apply(self, number: int, asked: dict[int, New], known: dict[str, Array]) -> None:
        """One step back: a new value becomes new values of what it is made from."""
        entry, new = self._made[number], asked[number]
        if entry.how == "module":
            raise Underivable(f"{self._name(entry)}: {_NO_FORMULA}")
        old = []
        for source in entry.sources:
            if isinstance(source, str):
                dtype = self._origin.originals[source].dtype
                old.append(Old(self._old(source, known), dtype))
            elif source in asked:
                old.append(Old(asked[source].values, self._made[source].dtype))
            else:
                old.append(Old(self._forward(source, known), self._made[source].dtype))
        try:
            values = INVERSES[entry.how](entry.dim, new, old)
        except Underivable as error:
            raise Underivable(f"{self._name(entry)}: {error}") from error
        for source, value in zip(entry.sources, values, strict=True):
            if isinstance(source, str):
                known[source] = value
            else:
                asked[source] = New(value, new.dtype)

    def _invert(self, entry: Made) -> dict[str, _core.Tensor]:
        if self._origin.invert is None:
            raise Underivable(f"{self._name(entry)}: {_NO_FORMULA}")
        (tensor,), _ = self._stored(entry) if entry.recipe[0] != "c" else ((None,), None)
        if tensor is None:
            raise Underivable(f"{self._name(entry)}: {_NO_FORMULA}")
        if entry.recipe[0] == "l":
            layout = parse(entry.recipe[2]).inverse
            view = np.asarray(layout.view(tensor, entry.recipe[3]).dense())
            tensor = _core.from_buffer(view.reshape(entry.shape), tensor.dtype)
        return self._origin.invert(entry, tensor)


_FALLIBLE = ("spectral_norm", "unit_vector", "mask")
_NO_FORMULA = (
    "was trained, and only torch can say what its parametrization is computed from: pass "
    "the torch module itself (like=, in Python), or remove the parametrization "
    "(torch.nn.utils.parametrize.remove_parametrizations) and convert again before training"
)
