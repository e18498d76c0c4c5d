"""Which layer owns which tensor in the checkpoints of transformers, as a table.

`architectures.json` is made by `python -m tools.make_architectures` from the models themselves. A
row, on a line of its own, is what several architectures share:

    {"of": [class names], "prefix": "bert", "kinds": {"C2": ["~embeddings.*.projection"], ...},
     "whole": false, "sub": {"text_config": ["llama"]}, "tie": [true, [["lm_head.weight", ...]]],
     "drop": [regular expressions], "mlx": "model"}

Patterns are names as `save_pretrained` writes them, and the modules' own: `*` is a number, `~` the
base model, whose prefix a file may have or not. `kinds` has modules by what their weights need
(`TOKENS`), and single tensors that stay as they are: of three and more dimensions (`=`), or any
(`P`) where `whole` says that each tensor of the architecture is listed. `?` are those that are
one thing or another, as the configuration decides. `sub` are the configurations within the
configuration that this was seen with, `tie` the default of tie_word_embeddings and which tensors
are left out of a file because another has their bytes, `drop` what transformers does not load,
`mlx` the name under which mlx-lm takes the base model's tensors in MLX's layout, where it would
turn tensors of the names in the file itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

PLAIN, RAW, OPEN = "P", "=", "?"
#: What the weights of a module need, by the layer whose rule they follow.
TOKENS: dict[str, str] = {
    **{f"C{n}": f"torch.nn.Conv{n}d" for n in (1, 2, 3)},
    **{f"T{n}": f"torch.nn.ConvTranspose{n}d" for n in (1, 2, 3)},
    "B": "torch.nn.BatchNorm1d",
    "K": "torch.nn.Bilinear",
    "N": "torch.nn.LayerNorm",
    "X": "transformers.pytorch_utils.Conv1D",
    "M": "torch.nn.MultiheadAttention",
    "R": "torch.nn.RNN",
    "L": "torch.nn.LSTM",
    "G": "torch.nn.GRU",
}
TABLE = Path(__file__).with_name("architectures.json")


@dataclass(frozen=True)
class Architecture:
    """What the table says of one model class of transformers; fields as in a row of it."""

    name: str
    prefix: str
    whole: bool
    kinds: Mapping[str, frozenset[str]]  # pattern -> tokens, or RAW, PLAIN, OPEN
    sub: Mapping[str, tuple[str, ...]]
    tied: bool
    ties: tuple[tuple[str, str], ...]
    drop: tuple[str, ...]
    mlx: str

    def base(self, name: str) -> str:
        """A name without the prefix of the base model."""
        head = f"{self.prefix}."
        return name[len(head) :] if self.prefix and name.startswith(head) else name

    def tokens(self, name: str) -> frozenset[str]:
        """What the table says of a module or tensor."""
        pattern = starred(name)
        found = self.kinds.get(pattern)
        return found if found is not None else self.kinds.get(f"~{self.base(pattern)}", frozenset())

    def is_base(self, name: str) -> bool:
        """Whether a module or tensor belongs to the base model."""
        pattern = starred(name)
        return pattern not in self.kinds and f"~{self.base(pattern)}" in self.kinds


def starred(name: str) -> str:
    """A dotted name with `*` for each number in it."""
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def find(name: str) -> Architecture | None:
    """What is known of an architecture, a class name of transformers."""
    return _find(name) if re.fullmatch(r"[A-Za-z]\w*", name) else None


@lru_cache(maxsize=8)
def _find(name: str) -> Architecture | None:
    quoted = f'"{name}"'
    for line in TABLE.read_text().split("\n"):  # reading all as JSON would take ten times as long
        if quoted in line and name in (row := json.loads(line.rstrip(",")))["of"]:
            return _read(name, row)
    return None


def _read(name: str, row: Mapping[str, Any]) -> Architecture:
    kinds: dict[str, frozenset[str]] = {}
    for token, patterns in row.get("kinds", {}).items():
        for pattern in patterns:
            kinds[pattern] = kinds.get(pattern, frozenset()) | {token}
    tied, ties = row.get("tie", (False, ()))
    return Architecture(
        name,
        row.get("prefix", ""),
        row.get("whole", False),
        kinds,
        {path: tuple(types) for path, types in row.get("sub", {}).items()},
        tied,
        tuple((absent, present) for absent, present in ties),
        tuple(row.get("drop", ())),
        row.get("mlx", ""),
    )


def names() -> Iterator[str]:
    """All architectures in the table."""
    for row in json.loads(TABLE.read_text()):
        yield from row["of"]


_STEM = re.compile(r"(\w+?)(LMHeadModel|DoubleHeadsModel|Model|For[A-Z]\w*)")


def of_type(model_type: str) -> tuple[str, ...]:
    """The architectures in the table that are of a model type, by how transformers names both.

    "gpt_neox" is the type of GPTNeoXModel and GPTNeoXForCausalLM, not of GPTNeoXJapaneseModel.
    """
    return _by_stem().get(_letters(model_type), ())


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@lru_cache(maxsize=1)
def _by_stem() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name in names():
        match = _STEM.fullmatch(name)
        if match:
            stem = _letters(match[1])
            found[stem] = (*found.get(stem, ()), name)
    return found
