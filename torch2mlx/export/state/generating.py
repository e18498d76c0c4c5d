"""A language model with a cache against torch: prefilled in pieces, then token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from torch2mlx.errors import TranslationError
from torch2mlx.export.ir.structures import numpy_of, to_mlx
from torch2mlx.export.state.causal import some_tokens

#: The pieces of a prompt, and how many tokens follow one by one.
PIECES = (4, 5)
#: Tokens of padding before the shorter one of two sequences.
PADDING = 3
STEPS = 15
#: max|a - b| / max(1, max|a|) of logits in float32, and in narrower floats.
_TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}


def proved(model: Any, module: Any) -> None:
    """Compares the logits of both frameworks at every place of sequences drawn at random.

    Raises TranslationError with the first place at which they differ.
    """
    allowed = allowed_of(model)
    for batch in (1, 2):
        ids = some_tokens(model, batch, sum(PIECES) + STEPS, batch)
        try:
            found = differences(model, module, ids, PIECES)
        except Exception as error:  # whatever MLX raises where shapes are not torch's
            raise TranslationError(f"MLX's side raises in a batch of {batch}: {error}") from error
        worst = int(np.argmax(found))
        if not found[worst] <= allowed:
            raise TranslationError(
                f"MLX answers otherwise than torch in a batch of {batch} at token {worst}: the "
                f"logits differ by {found[worst]:.2g}, allowed {allowed:g}"
                f"{_own_difference(model, module, ids, allowed)}"
            )


def _own_difference(model: Any, module: Any, ids: Any, allowed: float) -> str:
    """Says so where torch itself has other logits in calls of one token than in one of them all:
    the model is two programs then, and no file that takes any number of tokens is both."""
    import torch

    stepped = torch_logits(model, ids, sum(PIECES))
    with torch.no_grad():
        whole = numpy_of(model(**{model.main_input_name: ids}).logits)
    if whole.shape != stepped.shape or (gap := apart(whole, stepped)) <= allowed:
        return ""
    said = (
        f"; torch's own differ by {gap:.2g} between one call of all tokens and calls of one with "
        "its cache: the model computes two things, of which a file can be one"
    )
    if apart(whole, mlx_logits(module, to_mlx(ids), PIECES)) <= allowed:
        said += "; check=False returns the file, whose logits are those of one call at any number"
    return said


def padding_left_out(model: Any, module: Any) -> bool:
    """Whether a sequence with padding before it, in a batch with a longer one, has the logits that
    it has alone in torch."""
    try:
        return max(padding_gaps(model, module)) <= allowed_of(model)
    except Exception:  # whatever MLX raises where lengths are arrays
        return False


def padding_gaps(model: Any, module: Any) -> list[float]:
    """How far the logits of sequences are apart from those that torch has of each alone: with
    padding from the first call on, and where what was begun alone goes on together."""
    whole = sum(PIECES)
    ids = some_tokens(model, 2, whole + STEPS, seed=3)
    rows, tokens, gaps = (ids[:1], ids[1:, PADDING:]), to_mlx(ids), []
    together = mlx_logits(module, tokens, PIECES, padded_cache(module, (0, PADDING)))
    later = mlx_logits(module, tokens[:, whole:], (1,), _merged(module, rows))
    for i, row in enumerate(rows):
        start = ids.shape[1] - row.shape[1]
        expected = torch_logits(model, row, whole - start)
        gaps.append(apart(expected, together[i : i + 1, start:]))
        gaps.append(apart(expected[:, whole - start :], later[i : i + 1]))
    return gaps


def padded_cache(module: Any, before: Sequence[int]) -> list[Any]:
    """New caches of a batch with so much padding before its sequences."""
    from mlx_lm.models.cache import ArraysCache, BatchKVCache

    return [
        ArraysCache(len(held.cache), list(before))
        if isinstance(held, ArraysCache)
        else BatchKVCache(list(before))
        for held in module.make_cache()
    ]


def _merged(module: Any, rows: Sequence[Any]) -> list[Any]:
    """The caches of sequences that were begun alone, as those of one batch."""
    own = []
    for row in rows:
        cache = module.make_cache()
        module(to_mlx(row[:, : row.shape[1] - STEPS]), cache=cache)
        own.append(cache)
    return [held[0].merge(list(held)) for held in zip(*own, strict=True)]


def allowed_of(model: Any) -> float:
    """How far logits may be apart in the dtype of a model."""
    kind = str(next(model.parameters()).dtype).rsplit(".", 1)[-1]
    return _TOLERANCE.get(kind, 1e-4)


def differences(model: Any, module: Any, ids: Any, pieces: Sequence[int]) -> list[float]:
    """How far the logits are apart at each place, by the largest of torch's: MLX's prefilled in
    these pieces and then token by token, torch's by its own cache."""
    expected = torch_logits(model, ids, sum(pieces))
    found = mlx_logits(module, to_mlx(ids), pieces)
    return [apart(expected[:, i], found[:, i]) for i in range(expected.shape[1])]


def apart(a: Any, b: Any) -> float:
    bad = ~np.isfinite(a)
    if (bad != ~np.isfinite(b)).any():
        return float("inf")
    gap = np.abs(np.where(bad, 0, a) - np.where(bad, 0, b)).max()
    return float(gap / max(1.0, np.abs(np.where(bad, 0, a)).max()))


def torch_logits(model: Any, ids: Any, prompt: int) -> Any:
    """torch's logits (B, L, V) of the prompt at once and then of each token, with its cache."""
    return np.concatenate(list(torch_calls(model, ids, (prompt,))), 1)


def torch_calls(model: Any, ids: Any, pieces: Sequence[int]) -> Iterator[Any]:
    """torch's logits (B, L, V) of each call: of the pieces, and then of each token."""
    import torch

    calls = TorchCalls(model)
    for piece in torch.split(ids, list(_sizes(ids.shape[1], pieces)), 1):
        yield calls(piece)


class TorchCalls:
    """Calls of a model of which each goes on from the one before, with torch's own cache."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._held: dict[str, Any] = {}

    def __call__(self, ids: Any) -> Any:
        """The logits (B, L, V) of the next tokens (B, L)."""
        import torch

        given = {self._model.main_input_name: ids, "use_cache": True, **self._held}
        with torch.no_grad():
            output = self._model(**given)
        kept = (key for key in output if key != "logits" and _taken(self._model, key))
        self._held = {key: output[key] for key in kept}
        return numpy_of(output["logits"])


def _taken(model: Any, name: str) -> bool:
    import inspect

    return name in inspect.signature(model.forward).parameters


def mlx_logits(module: Any, ids: Any, pieces: Sequence[int], cache: Any = None) -> Any:
    """MLX's logits (B, L, V) of the prompt in pieces and then of each token, with a new cache."""
    return np.concatenate(list(mlx_calls(module, ids, pieces, cache)), 1)


def mlx_calls(module: Any, ids: Any, pieces: Sequence[int], cache: Any = None) -> Iterator[Any]:
    """MLX's logits (B, L, V) of each call."""
    cache, at = cache or module.make_cache(), 0
    for size in _sizes(ids.shape[1], pieces):
        yield numpy_of(module(ids[:, at : at + size], cache=cache))
        at += size


def _sizes(length: int, pieces: Sequence[int]) -> Iterator[int]:
    yield from pieces
    yield from [1] * (length - sum(pieces))
