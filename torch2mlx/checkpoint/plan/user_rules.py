"""Layer types that a caller gives by hand: `rules={"conv*": "Conv2d", "pos": "identity"}`.

A pattern is matched against module paths and tensor keys; `*` and `?` stop at dots, `**` does
not. The last matching pattern wins. What a pattern can say:

    "Conv2d", torch.nn.Conv2d, {"type": "ConvTranspose2d", "groups": 2}     a module is this layer
    "identity", "drop", "a b c -> c a b"                                    a tensor
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from torch2mlx import _core
from torch2mlx.catalog.layers.entry import class_name
from torch2mlx.catalog.layers.lookup import by_short_name, lookup, registered_names
from torch2mlx.catalog.weights.actions import Drop, Move
from torch2mlx.catalog.weights.layout import parse
from torch2mlx.checkpoint.plan.expected import check
from torch2mlx.common import options
from torch2mlx.common.key_errors import naming_keys
from torch2mlx.errors import ConversionError
from torch2mlx.types import ModuleRecord, TensorSource

_GLOB = {"**": ".*", "*": "[^.]*", "?": "[^.]"}
UNTYPED = "(type unknown)"
_UNTYPED_KINDS = (UNTYPED,)
_UNTYPED_OPTIONS = MappingProxyType({"from_keys": True})
# the one layer with a layout that hangs on an option: a misspelt one must not go by
_TRANSPOSED = "torch.nn.ConvTranspose"
_CONV_OPTIONS = {"in_channels", "out_channels", "kernel_size", "stride", "padding", "bias"} | {
    *("output_padding", "groups", "dilation", "padding_mode")
}


def _pattern(text: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*|\?)", text)
    return re.compile("".join(_GLOB.get(part, re.escape(part)) for part in parts))


def _tensor_action(value: Any, pattern: str) -> Move | Drop | None:
    if value == "identity":
        return Move()
    if value == "drop":
        return Drop("asked for in rules")
    if isinstance(value, str) and "->" in value:
        try:
            parse(value)
        except ValueError as error:
            raise ConversionError(f"{options.rule(pattern)}: {error}") from error
        return Move(layout=value)
    return None


def _layer(value: Any, pattern: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    """(class names, options) that a rule gives a module."""
    own: dict[str, Any] = {}
    if isinstance(value, Mapping):
        own = {name: option for name, option in value.items() if name != "type"}
        if "type" not in value:
            raise ConversionError(
                f'{options.rule(pattern)}: {dict(value)!r:.60} names no layer: give its "type"'
            )
        value = value["type"]
    if isinstance(value, type) and lookup(value) is not None:
        return tuple(class_name(cls) for cls in value.__mro__ if cls is not object), own
    spec = (lookup(value) or by_short_name(value)) if isinstance(value, str) else None
    if spec is None:
        raise ConversionError(
            f"{options.rule(pattern)}: {value!r} is no registered layer, and not 'identity', "
            f"'drop' or a layout{_meant(value)}; {options.known_layers()}"
        )
    unknown = [n for n in own if spec.torch.startswith(_TRANSPOSED) and n not in _CONV_OPTIONS]
    if unknown:
        raise ConversionError(f"{options.rule(pattern)}: {spec.torch} has no {unknown[0]!r}")
    return (spec.torch,), own


def _meant(value: Any) -> str:
    """Advice for the name of a layer that is not quite right."""
    known = {name.removeprefix("torch.nn."): None for name in registered_names()}
    lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(str(value).rpartition(".")[2].lower(), lower, 1, 0.8)
    return f"; did you mean {lower[close[0]]!r}?" if close else ""


def untyped_records(keys: Iterable[str]) -> dict[str, ModuleRecord]:
    """A tree as the keys of a state dict show it, with no layer type known.

    Raises ConversionError for a key that is nested too deeply.
    """
    with naming_keys():
        rows = _core.shown_modules(list(keys))
    return {
        path: ModuleRecord(path, _UNTYPED_KINDS, _UNTYPED_OPTIONS, children, tensors)
        for path, children, tensors in rows
    }


def apply_rules(
    rules: Mapping[str, Any],
    records: Mapping[str, ModuleRecord],
    tensors: Mapping[str, TensorSource],
) -> tuple[dict[str, ModuleRecord], dict[str, Move | Drop]]:
    """Records with the types that rules give, and actions for single tensors.

    Raises ConversionError for a rule that means nothing, matches nothing, or gives a module a
    type whose tensors look different.
    """
    typed, actions = dict(records), {}
    by: dict[str, str] = {}  # path -> the pattern that gave it its type
    for text, value in _checked(rules).items():
        pattern, action = _pattern(text), _tensor_action(value, text)
        if action is not None:
            hits = [key for key in tensors if pattern.fullmatch(key)]
            actions.update(dict.fromkeys(hits, action))
        else:
            kinds, own = _layer(value, text)
            hits = [path for path in typed if pattern.fullmatch(path)]
            for path in hits:
                record = typed[path]
                merged = {**record.options, **own}
                typed[path] = record._replace(kinds=kinds, options=merged)
            by.update(dict.fromkeys(hits, text))
        if not hits:
            raise ConversionError(_no_match(text, list(records), list(tensors), action is None))
    check(typed, by, tensors, actions)
    return typed, actions


def _checked(rules: Any) -> Mapping[str, Any]:
    if not isinstance(rules, Mapping) or not all(isinstance(text, str) for text in rules):
        raise ConversionError(
            f"{options.option('rules')} takes a mapping of patterns to layers, such as "
            f"{options.rules({'**.conv*': 'Conv2d'})}, not {str(rules)[:80]}"
        )
    return rules


def _no_match(text: str, paths: list[str], keys: list[str], layer: bool) -> str:
    """What a rule that matches nothing could have said: `*` stops at dots, layers own tensors."""
    plain, deep = _pattern(text), _pattern(f"**.{text}")
    meant, others = (paths, keys) if layer else (keys, paths)
    inner = next((name for name in meant if deep.fullmatch(name)), None)
    other = next((name for name in others if plain.fullmatch(name)), None)
    advice = ""
    if inner:
        advice = f"; '**.{text}' would match {inner}: * stops at dots"
    elif other and layer:
        advice = f"; {other} is a tensor, and a layer is a rule for the module that owns it"
    elif other:
        advice = f"; {other} is a module, and this is a rule for one of its tensors"
    return f"{options.rule(text)} matches nothing in the checkpoint{advice}"
