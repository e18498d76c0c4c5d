"""The model's module tree as the emitted file will have it: paths, attributes, stock layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import accumulate
from typing import Any

from torch2mlx.catalog.layers import Twin, find_twin
from torch2mlx.catalog.layers.lookup import child_names, lookup
from torch2mlx.catalog.layers.recurrent import with_both_biases
from torch2mlx.checkpoint.source.module_tree import describe
from torch2mlx.export.capture.calls import canonical_paths


class Tree:
    """Modules by torch path, with the names that `convert` gives them."""

    def __init__(
        self,
        model: Any,
        ties: Mapping[str, str],
        kept: Collection[str] = frozenset(),
    ) -> None:
        self.model = model
        named = model.named_modules(remove_duplicate=False)
        self.modules: dict[str, Any] = {p: module for p, module in named if not computing(p)}
        self._canonical = canonical_paths(model)
        described = describe(model)
        self._records = described.records
        self.shared = described.ties  # keys of tensors -> the key that had them first
        self._ties, self._kept = ties, kept
        above = (accumulate(path.split("."), "{}.{}".format) for path in kept)
        self._above_kept = {path for paths in above for path in paths}
        self._owners: dict[str, str] = {"": ""}

    def owner(self, path: str) -> str:
        """A module's path in the emitted tree: children of a Sequential are under `layers`."""
        path = self.canonical(path)
        if path not in self._owners:
            parent, _, name = path.rpartition(".")
            renamed = self.renames(parent).get(name, name)
            parts = (self.owner(parent), renamed)
            self._owners[path] = ".".join(part for part in parts if part)
        return self._owners[path]

    def renames(self, path: str) -> Mapping[str, str]:
        """New names of a module's children."""
        module, record = self.modules.get(path), self._records.get(path)
        spec = lookup(type(module)) if module is not None else None
        return {} if record is None else child_names(spec, record)

    def children(self, path: str) -> dict[str, str]:
        """Direct sub-modules: name in the emitted tree -> torch path, each module once.

        In a list, what is elsewhere keeps its place before an item that is here (see `elsewhere`).
        """
        prefix, renames = f"{path}." if path else "", self.renames(path)
        found: dict[str, str] = {}
        held: dict[str, str] = {}
        for name, child in self.modules[path]._modules.items():
            new, at = renames.get(name, name), f"{prefix}{name}"
            if child is None or computing(name):
                continue
            if self.elsewhere(at):
                held.update({new: at} if new.rpartition(".")[2].isdigit() else {})
            else:
                found.update(**held, **{new: at})
                held = {}
        return found

    def elsewhere(self, path: str) -> bool:
        """Whether a module has its place under another path."""
        return self.canonical(path) != path

    def canonical(self, path: str) -> str:
        """The first path of the module at a path; a module without tensors is made anew at each."""
        return self._canonical.get(path, path)

    def kind(self, path: str) -> str:
        """The container that a module is: "list", "dict", "sequential", "parameters", or "".

        "numbered" is a module of its own whose children are in a list called layers.
        """
        from torch import nn

        module = self.modules[path]
        if isinstance(module, nn.ModuleList):
            return "numbered" if any(self.renames(path).values()) else "list"
        if isinstance(module, nn.ModuleDict) and not _holds_tensors(module):
            return "numbered" if any(n.isdigit() for n in module._modules) else "dict"
        if isinstance(module, nn.ParameterList):
            return "parameters"
        if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            return "sequential"
        listed = any(new.startswith("layers.") for new in self.renames(path).values())
        return "numbered" if listed else ""

    def stock(self, path: str) -> Twin | None:
        """The twin of a layer that the file declares as it is; None where weights are tied."""
        found = find_twin(self.modules[path])
        if not isinstance(found, Twin) or found.path.startswith("builtins."):
            return None
        if "*" in found.children or "*list" in found.children:
            return None
        owner = self.owner(path)
        if any(_under(key, owner) for key in self._ties) or self._altered(path):
            return None
        return self._keeping(found, path)

    def _altered(self, path: str) -> bool:
        """Whether somebody gave a layer tensors that its class has not, or took some away."""
        module, record = self.modules[path], self._records[path]
        computed = {name for fold in record.folds for name in (fold.name, *fold.sources)}
        held = {name for name, value in vars(module).items() if _is_tensor(value)}
        spec = lookup(type(module))
        row = spec.tensors if spec is not None else None
        own = set((row({*record.tensors, *held}) if callable(row) else row) or ())
        return bool((held - computed) & own or set(record.tensors) - computed - own)

    def _keeping(self, found: Twin, path: str) -> Twin | None:
        """The twin with torch's own tensors, where modules keep these; None where it has none."""
        if path not in self._above_kept:
            return found
        alone = path in self._kept and not self._records[path].folds
        return with_both_biases(found) if alone else None


def _holds_tensors(module: Any) -> bool:
    return any(t is not None for t in (*module._parameters.values(), *module._buffers.values()))


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def computing(path: str) -> bool:
    """Whether a module computes a weight: torch keeps it beside the layer's own children."""
    return "parametrizations" in path.split(".")


def _under(key: str, owner: str) -> bool:
    return not owner or key == owner or key.startswith(f"{owner}.")
