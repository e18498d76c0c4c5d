"""Whether an expression leads back to the weights of modules: torch's graph, read off names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.def_use import Scanner
from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.scopes.traversal import walk
from torch2mlx.porting.types.known import Types

#: What an attribute may be that was computed in some earlier call, or gathers such values.
_KEPT = ("list", "dict", "tuple", "tensor")


class Reach:
    """Answers for the nodes of one file.

    A module's own attributes that are neither weights nor modules (a list of log-probabilities)
    lead nowhere: what they hold was computed in the call that put it there.
    """

    def __init__(self, inference: Types, scan: Scanner) -> None:
        self._types, self._scan = inference, scan
        self._weights: dict[str, set[str]] = {}  # class -> attributes that are parameters

    def reaches(
        self, node: Any, names: set[str], depth: int = 3, made: frozenset[str] = frozenset()
    ) -> bool:
        """Whether a node uses the weights of modules of these names, itself or in functions of the
        file that it calls. `made`: names that have what was just computed with them."""
        loads = self._scan.loads(node) & names
        if loads & made or (loads and not self._all_kept(node, loads)):
            return True
        if not depth:
            return False
        shared = {n for n in names if n.startswith("self.")} | (names & set(self._types.globals))
        called = (self._types.of(call.func) for call in self._scan.calls(node))
        bodies = (self._types.nodes.get(kind.name) for kind in called if kind.kind == "function")
        return bool(shared) and any(
            body is not None and self.reaches(body.body, shared, depth - 1) for body in bodies
        )

    def kept(self, node: Any, names: set[str]) -> set[str]:
        """Attributes of modules of these names that hold what an earlier call computed."""
        return {dotted(part) for part in self._uses(node, names) if self._is_kept(part)}

    def _all_kept(self, node: Any, names: set[str] | frozenset[str]) -> bool:
        return all(self._is_kept(part) for part in self._uses(node, set(names)))

    def _uses(self, node: Any, names: set[str]) -> Iterator[Any]:
        """Each use of a name: an attribute of it where one is taken, else the name."""
        inner: set[cst.CSTNode] = set()
        for part in walk(node):
            if isinstance(part, cst.Attribute) and dotted(part.value) in names:
                inner.add(part.value)
                if dotted(part) not in names:
                    yield part
            elif part not in inner and dotted(part) in names:
                yield part

    def _is_kept(self, part: Any) -> bool:
        if not isinstance(part, cst.Attribute):
            return False
        owner = self._types.of(part.value)
        held = self._types.attributes.get(owner.name, {}).get(part.attr.value)
        if owner.kind not in ("module", "object") or held is None or held.kind not in _KEPT:
            return False
        modules = any(item.kind in ("module", "modules") for item in held.items)
        return not modules and part.attr.value not in self._parameters(owner.name)

    def _parameters(self, kind: str) -> set[str]:
        """Attributes of a class of the file that are given an nn.Parameter."""
        if kind not in self._weights:
            self._weights[kind] = set(self._given_parameters(kind))
        return self._weights[kind]

    def _given_parameters(self, kind: str) -> Iterator[str]:
        for body in (b for key, b in self._types.nodes.items() if key.startswith(f"{kind}.")):
            for part in walk(body):
                if not isinstance(part, (cst.Assign, cst.AnnAssign)) or part.value is None:
                    continue
                made = any(
                    self._types.names.of(inner.func).startswith("torch.nn.")
                    for inner in walk(part.value)
                    if isinstance(inner, cst.Call)
                )
                targets = part.targets if isinstance(part, cst.Assign) else [part]
                for target in targets:
                    place = target.target
                    if made and isinstance(place, cst.Attribute):
                        yield place.attr.value
