"""Which module owns which tensor, and what MLX will call it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch2mlx.types import Coverage, ModuleRecord
from torch2mlx.weights.catalog import LayerSpec, child_names, lookup

_PLAIN = "torch.nn.Module"  # itself: a namespace, no layer


@dataclass(frozen=True, slots=True)
class Owner:
    """A module with the tensors that a checkpoint has of it.

    `prefix` is its MLX path with a trailing dot (or empty), `keys` its tensors: name in the
    module -> key in the checkpoint.
    """

    record: ModuleRecord
    spec: LayerSpec | None
    prefix: str
    keys: Mapping[str, str]


def _is_layer(record: ModuleRecord) -> bool:
    """Whether a module of unknown class counts as a layer: torch.nn's, or one without children."""
    name = record.kinds[0]
    return name != _PLAIN and (not record.children or name.startswith("torch.nn."))


class Resolver:
    """Finds owners in a tree of records; wrappers (DataParallel, ...) count as what they wrap."""

    def __init__(self, records: Mapping[str, ModuleRecord]) -> None:
        self._records = records
        self._specs = {path: lookup(record.kinds) for path, record in records.items()}
        self._prefixes: dict[str, str] = {"": ""}

    def _child(self, path: str, name: str) -> str:
        return f"{path}.{name}" if path else name

    def _inner(self, path: str) -> str | None:
        """The name of the module that the wrapper at `path` wraps."""
        spec = self._specs[path]
        name = spec.transparent if spec else None
        return name if name in self._records[path].children else None

    def locate(self, key: str) -> tuple[str, str]:
        """(path of the owner, name of the tensor in it) of a state dict's key.

        A wrapper's component may be in the key (`module.`) or not, as state_dict hooks decide.
        """
        parts = key.split(".")
        path, at = "", 0
        while True:
            record, inner = self._records[path], self._inner(path)
            if inner is not None and parts[at] != inner and parts[at] in record.tensors:
                break
            if inner is not None:
                at += parts[at] == inner and at < len(parts) - 1
                path = self._child(path, inner)
            elif at < len(parts) - 1 and parts[at] in record.children:
                path = self._child(path, parts[at])
                at += 1
            else:
                break
        return path, ".".join(parts[at:])

    def prefix(self, path: str) -> str:
        """The MLX path of a module, with a trailing dot."""
        if path not in self._prefixes:
            parent, _, name = path.rpartition(".")
            base, spec = self.prefix(parent), self._specs[parent]
            if self._inner(parent) == name:
                self._prefixes[path] = base
            else:
                names = child_names(spec, self._records[parent])
                self._prefixes[path] = f"{base}{names.get(name, name)}."
        return self._prefixes[path]

    def owners(self, keys: Iterable[str]) -> list[Owner]:
        """All owners, in the order of their first key."""
        grouped: dict[str, dict[str, str]] = {}
        for key in keys:
            path, name = self.locate(key)
            grouped.setdefault(path, {})[name] = key
        return [
            Owner(self._records[path], self._specs[path], self.prefix(path), names)
            for path, names in grouped.items()
        ]

    def is_wrapper(self, path: str) -> bool:
        """Whether a module only wraps another one."""
        return self._inner(path) is not None

    def coverage(self) -> Coverage:
        """Counts layers: registered ones, and modules without sub-modules.

        What is inside a registered layer counts with it. The root is a layer only if registered.
        """
        total, unmapped, inside = 0, [], set()
        for path, record in self._records.items():
            spec = self._specs[path]
            if path and path.rpartition(".")[0] in inside:
                inside.add(path)
            elif spec is not None and not spec.container and not spec.transparent:
                inside.add(path)
                total += 1
            elif spec is None and path and _is_layer(record):
                total += 1
                unmapped.append(record.kinds[0].rpartition(".")[2])
        return Coverage(total, total - len(unmapped), tuple(sorted(set(unmapped))))
