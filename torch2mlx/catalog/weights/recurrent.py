"""Weight rules of RNN, LSTM, GRU and their cells.

Torch keeps `weight_ih_l{k}{suffix}`; MLX's layers are one layer in one direction: `Wx`, `Wh`,
`bias` (RNN: `Wxh`, `Whh`, `bias`; GRU: `Wx`, `Wh`, `b`, `bhn`). What they cannot hold goes to the
classes of `torch2mlx.kit`, which are lists of such layers: `layers.{k}.` and, bidirectional,
`layers.{k}.forward.` / `layers.{k}.backward.`; a projection is `Wr`. A layer that is being trained
(`checkpoint/plan/training.py`) keeps both biases, `bias_ih` and `bias_hh`, as the kit's with
`both_biases`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch2mlx.catalog.weights.actions import Merge, Move, On, RuleFunction, Shapes
from torch2mlx.types import ModuleRecord

_NAME = re.compile(r"(weight|bias)_(ih|hh|hr)(?:_l(\d+)(_reverse)?)?")
_INPUT_HIDDEN = {"rnn": ("Wxh", "Whh"), "lstm": ("Wx", "Wh"), "gru": ("Wx", "Wh")}


def _prefixes(shapes: Shapes) -> dict[str, str]:
    """Suffix of torch names ("_l0_reverse") -> prefix of MLX names ("layers.0.backward.")."""
    found = [m for m in map(_NAME.fullmatch, shapes) if m]
    suffixes = {m[0].split(m[2], 1)[1]: (m[3], m[4]) for m in found}
    both = any(reverse for _, reverse in suffixes.values())
    stacked = both or len(suffixes) > 1 or any(m[2] == "hr" for m in found)
    if not stacked:
        return dict.fromkeys(suffixes, "")
    side = {"_reverse": "backward.", None: "forward." if both else ""}
    return {s: f"layers.{layer}.{side[reverse]}" for s, (layer, reverse) in suffixes.items()}


def _biases(family: str, suffix: str, prefix: str, both: bool) -> Iterator[On | Merge]:
    pair = (f"bias_ih{suffix}", f"bias_hh{suffix}")
    if both:
        yield On(pair[0], Move(to=f"{prefix}bias_ih"))
        yield On(pair[1], Move(to=f"{prefix}bias_hh"))
    elif family == "gru":
        yield Merge(pair, f"{prefix}b", "gru_gates")
        yield Merge(pair[1:], f"{prefix}bhn", "gru_new_gate")
    else:
        yield Merge(pair, f"{prefix}bias", "add")


def rule(family: str) -> RuleFunction:
    """The rule of "rnn", "lstm" or "gru", layers and cells alike."""

    def actions(record: ModuleRecord, shapes: Shapes) -> Iterator[On | Merge]:
        input_name, hidden_name = _INPUT_HIDDEN[family]
        both = bool(record.options.get("both_biases"))
        for suffix, prefix in _prefixes(shapes).items():
            names = {"weight_ih": input_name, "weight_hh": hidden_name, "weight_hr": "Wr"}
            for name, target in names.items():
                if f"{name}{suffix}" in shapes:
                    yield On(f"{name}{suffix}", Move(to=prefix + target))
            if f"bias_ih{suffix}" in shapes:
                yield from _biases(family, suffix, prefix, both)

    return actions
