"""Running over a file for its types: where the run is, and which rule a node has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import libcst as cst

from torch2mlx.porting.scopes.traversal import children
from torch2mlx.porting.types.kinds import UNKNOWN, Type
from torch2mlx.porting.types.known import Env, Types


@dataclass
class Walk:
    """What is known of the file, and where the run is: in which class and function."""

    known: Types
    owner: str = ""
    function: str = ""
    used: dict[cst.CSTNode, Env] = field(default_factory=dict)  # by functions
    bound: dict[cst.CSTNode, frozenset[str]] = field(default_factory=dict)  # by functions


Rule = TypeVar("Rule", bound=Callable[..., Type])
_RULES: dict[type[cst.CSTNode], Callable[[Walk, Any, Env], Type]] = {}


def types(*kinds: type[cst.CSTNode]) -> Callable[[Rule], Rule]:
    """Registers a function as the one that types these kinds of expressions."""

    def registered(rule: Rule) -> Rule:
        assert not _RULES.keys() & set(kinds), f"{rule.__name__}: another rule has {kinds}"
        _RULES.update(dict.fromkeys(kinds, rule))
        return rule

    return registered


def infer(walk: Walk, node: Any, env: Env) -> Type:
    """The type of an expression, remembered; its parts are inferred too."""
    rule = _RULES.get(type(node))
    if rule is not None:
        found = rule(walk, node, env)
    else:
        found = UNKNOWN
        for child in children(node):
            infer(walk, child, env)
    walk.known.types[node] = found
    return found


def self_kind(walk: Walk) -> str:
    """The kind of an object of the class that the run is in."""
    if walk.known.is_module_class(walk.owner):
        return "module"
    data = ("torch.utils.data.Dataset", "torch.utils.data.IterableDataset")
    return "dataset" if walk.known.derives(walk.owner, data) else "object"
