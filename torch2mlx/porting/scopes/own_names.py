"""Names of a file that the ported one imports something under: its own stay what they are.

`optim = Adam(...)` would become `optim = optim.Adam(...)`. While a file is rewritten its own names
are set aside; in the end they are back, and the import that was added has another name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import Names
from torch2mlx.porting.scopes.passes import passed
from torch2mlx.porting.scopes.scope_table import ScopeTable, bound_otherwise
from torch2mlx.porting.scopes.traversal import of_kinds

#: Names under which a port imports -> their other names, where a file has its own of that name.
OTHER = {"mx": "mlx_core", "nn": "mlx_nn", "optim": "mlx_optim", "kit": "mlx_kit"}
_ASIDE = "_MLX_own_"
#: The kit in what passes write, while the names of a file are not MLX's yet.
KIT = "_MLX_kit"
#: What takes the function that a training step was written as, and is called at once: MLX's own,
#: and the kit's for parameters that may have no gradient.
DIFFERENTIATED = ("_MLX_nn.value_and_grad", f"{KIT}.reached.value_and_grad")


class Renamed(cst.CSTTransformer):
    """Gives names new ones; `kept` are nodes that stay."""

    def __init__(self, new: Mapping[str, str], kept: set[cst.CSTNode]) -> None:
        super().__init__()
        self._new, self._kept = new, kept

    def visit_Import(self, node: cst.Import) -> bool:
        return False

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
        return bool(node.relative) or node.module is None

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> cst.Name:
        new = self._new.get(original_node.value)
        if new is None or original_node in self._kept:
            return updated_node
        return updated_node.with_changes(value=new)


def set_aside(module: cst.Module, names: Names) -> tuple[cst.Module, frozenset[str]]:
    """The file with its own names out of the way, and which those are."""
    taken = bound_otherwise(module, OTHER)
    if not taken:
        return module, taken
    scopes = ScopeTable(module, taken, lambda full: full)
    kept = {node for node, full in scopes.found.items() if full}
    kept |= {n.attr for n in of_kinds(module, cst.Attribute)}
    return passed(module, Renamed({n: _ASIDE + n for n in taken}, kept)), taken


def given_back(module: Any, taken: frozenset[str]) -> Any:
    """The ported file with its own names; those of imports are other ones."""
    if not taken:
        return module
    kept: set[cst.CSTNode]
    kept = {n.attr for n in of_kinds(module, cst.Attribute)}
    new = {n: OTHER[n] for n in taken}
    return passed(module, Renamed(new | {_ASIDE + n: n for n in taken}, kept))
