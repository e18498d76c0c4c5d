"""Which module owns which tensor, and what MLX will call it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from torch2mlx import _core
from torch2mlx.catalog.layers.entry import LayerSpec
from torch2mlx.catalog.layers.lookup import child_names, lookup
from torch2mlx.common.key_errors import naming_keys
from torch2mlx.types import Coverage, ModuleRecord

_PLAIN = "torch.nn.Module"  # itself: a namespace, no layer


#: (number of the module, its MLX prefix, {name in the module: key}).
_Row = tuple[int, str, dict[str, str]]


class Owner(NamedTuple):
    """A module with the tensors that a checkpoint has of it.

    `prefix` is its MLX path with a trailing dot (or empty), `keys` its tensors: name in the
    module -> key in the checkpoint.
    """

    record: ModuleRecord
    spec: LayerSpec | None
    prefix: str
    keys: Mapping[str, str]


def _lacking(record: ModuleRecord) -> bool:
    """Whether a module that is not mapped is a layer of torch's own, which MLX then lacks."""
    return record.kinds[0].startswith("torch.nn.") and record.kinds[0] != _PLAIN


class Resolver:
    """Finds owners in a tree of records; wrappers (DataParallel, ...) count as what they wrap."""

    def __init__(self, records: Mapping[str, ModuleRecord]) -> None:
        self._records = records
        specs: dict[tuple[str, ...], LayerSpec | None] = {}
        for record in records.values():
            if record.kinds not in specs:
                specs[record.kinds] = lookup(record.kinds)
        self._specs = {path: specs[record.kinds] for path, record in records.items()}
        self._in_order, self._specs_in_order = list(records.values()), list(self._specs.values())

    def _inner(self, path: str) -> str | None:
        """The name of the module that the wrapper at `path` wraps."""
        spec = self._specs[path]
        name = spec.transparent if spec else None
        return name if name and name in self._records[path].children else None

    def _wrappers(self) -> Iterator[tuple[int, str, tuple[str, ...]]]:
        """(number, name of what it wraps, own tensors) of each wrapper."""
        for i, (path, record) in enumerate(self._records.items()):
            spec = self._specs[path]
            inner = self._inner(path) if spec is not None and spec.transparent else None
            if inner is not None:
                yield i, inner, record.tensors

    def _renames(self) -> Iterator[tuple[int, dict[str, str]]]:
        """(number, names of children that change) of each module that has such."""
        for i, (path, record) in enumerate(self._records.items()):
            names = child_names(self._specs[path], record) if record.children else {}
            if names:
                yield i, dict(names)

    def rows(self, keys: Iterable[str]) -> list[_Row]:
        """All owners, in the order of their first key.

        A wrapper's component may be in a key (`module.`) or not, as state_dict hooks decide.
        Raises ConversionError for a module path that is too deep.
        """
        wrappers, renames = list(self._wrappers()), list(self._renames())
        with naming_keys():
            return _core.owners(list(self._records), wrappers, renames, list(keys))

    def owner(self, row: _Row) -> Owner:
        """The owner that a row of `rows` stands for."""
        number, prefix, keys = row
        return Owner(self._in_order[number], self._specs_in_order[number], prefix, keys)

    def owners(self, keys: Iterable[str]) -> list[Owner]:
        """The owners of `rows`."""
        return list(map(self.owner, self.rows(keys)))

    def modules(self) -> Iterator[tuple[ModuleRecord, LayerSpec | None, bool]]:
        """Each module with its spec, and whether it may be a wrapper, by the numbers of `rows`."""
        for record, spec in zip(self._in_order, self._specs_in_order, strict=True):
            yield record, spec, spec is not None and spec.transparent is not None

    def is_wrapper(self, path: str) -> bool:
        """Whether a module only wraps another one."""
        return self._inner(path) is not None

    def coverage(self) -> Coverage:
        """Counts layers, and those of which something cannot be carried over.

        Layers are registered classes, classes of torch.nn, and modules without sub-modules that
        own tensors: of a class that is not registered these are copied, so nothing is lost. What
        is inside a registered layer counts with it. The root is a layer only if registered.
        """
        total, unmapped, inside = 0, [], set()
        for path, record in self._records.items():
            spec = self._specs[path]
            apart = spec is not None and bool(spec.container or spec.transparent)
            mapped = spec is not None and bool(spec.native)
            if path and path.rpartition(".")[0] in inside:
                inside.add(path)
            elif mapped and not apart:
                inside.add(path)
                total += 1
            elif not apart and path and _lacking(record):
                total += 1
                unmapped.append(record.kinds[0].rpartition(".")[2])
            elif not apart and path and record.tensors and not record.children:
                total += 1
        return Coverage(total, total - len(unmapped), tuple(sorted(set(unmapped))))
