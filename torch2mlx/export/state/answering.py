"""A translated encoder-decoder model against torch: the decoder in pieces, then token by token."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from torch2mlx.errors import TranslationError
from torch2mlx.export.ir.structures import numpy_of, to_mlx
from torch2mlx.export.state.causal import some_tokens
from torch2mlx.export.state.encoded import TOKENS, some_inputs
from torch2mlx.export.state.generating import allowed_of, apart

#: Batches and lengths of what is encoded, and the pieces that the decoder is given first.
_CASES = ((1, 5), (3, 9))
_PIECES, _STEPS = (4, 3), 6


def answers_alike(model: Any, module: Any, tokens: int) -> None:
    """Compares the logits of both frameworks at every place of sequences drawn at random, of
    which torch takes all tokens at once. `tokens`: the file takes one in a call, or any number.

    Raises TranslationError with the first place at which they differ.
    """
    pieces = _PIECES if tokens > 1 else (1,) * sum(_PIECES)
    allowed = allowed_of(model)
    for batch, length in _CASES:
        try:
            found = differences(model, module, some_inputs(model, batch, length), pieces)
        except ValueError as error:  # what the file refuses
            raise TranslationError(f"MLX's side raises in a batch of {batch}: {error}") from error
        worst = int(np.argmax(found))
        if not found[worst] <= allowed:
            raise TranslationError(
                f"MLX answers otherwise than torch in a batch of {batch} at token {worst}: the "
                f"logits differ by {found[worst]:.2g}, allowed {allowed:g}"
            )


def differences(
    model: Any, module: Any, inputs: Mapping[str, Any], pieces: Sequence[int]
) -> list[float]:
    """How far the logits are apart at each place, by the largest of torch's: torch's of all tokens
    at once, MLX's in these pieces and then token by token."""
    import torch

    batch = next(iter(inputs.values())).shape[0]
    ids = some_tokens(model, batch, sum(pieces) + _STEPS, batch)
    with torch.no_grad():
        expected = numpy_of(model(**inputs, **{TOKENS: ids}).logits)
    given = {name: to_mlx(value) for name, value in inputs.items()}
    found = np.concatenate(list(_calls(module, given, to_mlx(ids), pieces)), 1)
    return [apart(expected[:, i], found[:, i]) for i in range(expected.shape[1])]


def _calls(module: Any, given: Mapping[str, Any], ids: Any, pieces: Sequence[int]) -> Iterator[Any]:
    """MLX's logits (B, L, V) of each call."""
    cache, rest = begun(module, given)
    at = 0
    for size in (*pieces, *[1] * _STEPS):
        yield numpy_of(module(ids[:, at : at + size], cache=cache, **rest))
        at += size


def begun(module: Any, given: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    """Caches for what is given, which is encoded, and what of it the decoder takes too."""
    output = module.encode(**taken(module.encode, given))
    cache = module.make_cache(output, **taken(module.make_cache, given))
    return cache, taken(module.__call__, given)


def taken(method: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Of some arguments those that a method has."""
    names = inspect.signature(method).parameters
    return {name: value for name, value in given.items() if name in names}
