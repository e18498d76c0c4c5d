"""Layer types that a caller gives by hand: `rules={"conv*": "Conv2d", "pos": "identity"}`.

A pattern is matched against module paths and tensor keys; `*` and `?` stop at dots, `**` does
not. The last matching pattern wins. What a pattern can say:

    "Conv2d", torch.nn.Conv2d, {"type": "ConvTranspose2d", "groups": 2}     a module is this layer
    "identity", "drop", "a b c -> c a b"                                    a tensor
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch2mlx.errors import ConversionError
from torch2mlx.types import ModuleRecord
from torch2mlx.weights.actions import Drop, Move
from torch2mlx.weights.catalog import class_name, lookup

_GLOB = {"**": ".*", "*": "[^.]*", "?": "[^.]"}
UNTYPED = "(type unknown)"


def _pattern(text: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*|\?)", text)
    return re.compile("".join(_GLOB.get(part, re.escape(part)) for part in parts))


def _tensor_action(value: Any) -> Move | Drop | None:
    if value == "identity":
        return Move()
    if value == "drop":
        return Drop("asked for in rules")
    if isinstance(value, str) and "->" in value:
        return Move(layout=value)
    return None


def _layer(value: Any, pattern: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    """(class names, options) that a rule gives a module."""
    options: dict[str, Any] = {}
    if isinstance(value, Mapping):
        options = {name: option for name, option in value.items() if name != "type"}
        value = value.get("type")
    if isinstance(value, type):
        return tuple(class_name(cls) for cls in value.__mro__ if cls is not object), options
    spec = lookup(value) if isinstance(value, str) else None
    if spec is None:
        raise ConversionError(
            f"rules[{pattern!r}]: {value!r} is no registered layer, and not 'identity', 'drop' or "
            "a layout; see torch2mlx.registry.registered_names()"
        )
    return (spec.torch,), options


def untyped_records(keys: Iterable[str]) -> dict[str, ModuleRecord]:
    """A tree as the keys of a state dict show it, with no layer type known."""
    children: dict[str, dict[str, None]] = {"": {}}
    tensors: dict[str, list[str]] = {}
    for key in keys:
        parts = key.split(".")
        # what parametrize and weight_norm keep belongs to the module that holds it
        depth = parts.index("parametrizations") if "parametrizations" in parts else len(parts) - 1
        for i in range(depth):
            children.setdefault(".".join(parts[:i]), {})[parts[i]] = None
        path = ".".join(parts[:depth])
        children.setdefault(path, {})
        tensors.setdefault(path, []).append(".".join(parts[depth:]))
    return {
        path: ModuleRecord(
            path, (UNTYPED,), {"from_keys": True}, tuple(names), tuple(tensors.get(path, ()))
        )
        for path, names in children.items()
    }


def apply_rules(
    rules: Mapping[str, Any], records: Mapping[str, ModuleRecord], keys: Iterable[str]
) -> tuple[dict[str, ModuleRecord], dict[str, Move | Drop]]:
    """Records with the types that rules give, and actions for single tensors.

    Raises ConversionError for a rule that means nothing or matches nothing.
    """
    typed, actions, keys = dict(records), {}, list(keys)
    for text, value in rules.items():
        pattern, action = _pattern(text), _tensor_action(value)
        if action is not None:
            hits = [key for key in keys if pattern.fullmatch(key)]
            actions.update(dict.fromkeys(hits, action))
        else:
            kinds, options = _layer(value, text)
            hits = [path for path in typed if pattern.fullmatch(path)]
            for path in hits:
                merged = {**typed[path].options, **options}
                typed[path] = replace(typed[path], kinds=kinds, options=merged)
        if not hits:
            raise ConversionError(f"rules[{text!r}] matches nothing in the checkpoint")
    return typed, actions
