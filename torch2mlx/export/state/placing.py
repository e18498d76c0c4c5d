"""Where the tokens of a call stand in sequences that padding is before: the arguments of torch's
forward that say so, computed from how much padding there is."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch2mlx.export.state.stepping import SEVERAL
from torch2mlx.export.verify.preserved import preserved

#: The argument of the traced forward that tells how many tokens of padding each sequence has.
PADDING = "padding"
#: What torch's forward takes instead: each token's place, and which tokens are none of padding.
POSITIONS, MASK = "position_ids", "attention_mask"


@dataclass(frozen=True)
class Form:
    """How a file is written: for how many `tokens` in a call; what of torch's arguments is
    computed from the padding, `told`; whether places are counted from behind that which stands for
    padding, `marked`; whether it takes padding."""

    tokens: int = SEVERAL
    told: tuple[str, ...] = ()
    marked: bool = False
    padded: bool = False


def forms_of(model: Any, tokens: int) -> Iterator[Form]:
    """The forms in which a file can take padding, that which costs least first: tokens that come
    one by one are those of the state alone."""
    taken = inspect.signature(model.forward).parameters
    marked = _marked(model) if POSITIONS in taken else None
    places = () if marked is None else (POSITIONS,)
    yield Form(tokens, places, bool(marked), padded=True)
    if MASK in taken:
        yield Form(tokens, (*places, MASK), bool(marked), padded=True)


def first_place(model: Any, marked: bool) -> int:
    """The number of the first place of a sequence."""
    marks = (getattr(module, "padding_idx", None) for module in model.modules())
    return next((mark + 1 for mark in marks if isinstance(mark, int)), 0) if marked else 0


def _marked(model: Any) -> bool | None:
    """Whether a model counts places from behind that which stands for padding; None where neither
    that nor counting from 0 is what it does without being told."""
    import torch

    ids = torch.arange(3, 9)[None]
    try:
        with torch.no_grad(), preserved(model):
            expected = model(ids).logits
            for marked in (False, True):
                places = torch.arange(ids.shape[1])[None] + first_place(model, marked)
                found = model(ids, **{POSITIONS: places}).logits
                if torch.allclose(found, expected, rtol=1e-4, atol=1e-5):
                    return marked
    except Exception:  # as many kinds as transformers has models: what it raises is told later
        return None
    return None


@dataclass(frozen=True)
class Placing:
    """The arguments of a call, from those of the traced forward; `main` holds the tokens, `held`
    the cache."""

    main: str
    held: str
    told: tuple[str, ...]
    first: int

    def __call__(self, given: Mapping[str, Any], objects: Mapping[str, Any]) -> dict[str, Any]:
        import torch

        rest = {name: value for name, value in given.items() if name != PADDING}
        if PADDING not in given:
            return rest
        padding = given[PADDING].clamp(min=0)[:, None]
        past, length = objects[self.held].get_seq_length(), given[self.main].shape[1]
        if POSITIONS in self.told:
            rest[POSITIONS] = (torch.arange(length) + past + self.first)[None] - padding
        if MASK in self.told:
            rest[MASK] = (torch.arange(past + length)[None] >= padding).long()
        return rest


__all__ = ["MASK", "PADDING", "POSITIONS", "Form", "Placing", "first_place", "forms_of"]
