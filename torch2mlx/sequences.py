"""Driver: `generate` lets an encoder-decoder model answer what it is given."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch2mlx.checkpoint.write.language import GENERATION
from torch2mlx.common.optional import need
from torch2mlx.encoder_decoder import EncoderDecoder
from torch2mlx.errors import TranslationError
from torch2mlx.export.ir.structures import to_mlx
from torch2mlx.export.state.answering import begun
from torch2mlx.export.state.choosing import chosen
from torch2mlx.export.state.encoded import MASK
from torch2mlx.export.state.settings import Settings, settings_of
from torch2mlx.translator import load


def generate(
    model: Any,
    inputs: Any,
    *,
    attention_mask: Any = None,
    max_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    eos: int | Sequence[int] | None = None,
    start: Sequence[int] | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
) -> Any:
    """The tokens (B, L) that an encoder-decoder model answers, those of its start before them and
    padding after the shorter ones, as transformers' `generate` gives them.

    `model` is what `language_model` made, the folder that it wrote, or what `load` read of it.
    `inputs` are what the encoder takes, (B, S) tokens or features, or a dict of them as a tokenizer
    gives it; `attention_mask` (B, S) has zeros for padding (default: where the padding token is).
    `max_tokens` is how many follow the start. `temperature` 0 takes the likeliest token each time;
    above, tokens are drawn, from the `top_k` likeliest (0: all) and from those whose probabilities
    add up to `top_p`; `seed`: the same draws again. `eos` are the tokens that end a sequence,
    `start` the decoder's first. What is left out is as generation_config.json says, in which
    `settings` take the place of others.

    Raises TranslationError for settings that are not followed here, such as beams and penalties;
    for what the model's own file refuses, as past its table of positions; UntrustedCodeError as
    `load` does.
    """
    need("generate", "mlx")
    module, said = _found(model, trust_remote_code)
    told = settings_of(
        {**said, **(settings or {})},
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        eos=eos,
        start=start,
    )
    given = _given(module, inputs, attention_mask, {**said, **(settings or {})}, told)
    try:
        return _answered(module, given, told, seed)
    except ValueError as error:  # what the model's file refuses
        raise TranslationError(str(error)) from error


def _found(model: Any, trusted: bool) -> tuple[Any, Mapping[str, Any]]:
    """The module, and what its folder says of how it generates."""
    if isinstance(model, EncoderDecoder):
        return model.module, model.generation
    module = load(model, trust_remote_code=trusted) if isinstance(model, (str, Path)) else model
    if not hasattr(module, "encode") or not hasattr(module, "make_cache"):
        raise TranslationError(
            f"{type(module).__name__} is no encoder-decoder model with a cache: language_model and "
            "translate --cache make one"
        )
    program = getattr(sys.modules.get(type(module).__module__), "__file__", None)
    path = Path(program).parent / GENERATION if program else None
    if path is None or not path.is_file():
        return module, {}
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TranslationError(f"{path}: {error}") from error
    return module, said


def takes_tokens(module: Any) -> bool:
    """Whether an encoder takes token ids."""
    return next(iter(inspect.signature(module.encode).parameters)) == "input_ids"


def _given(
    module: Any, inputs: Any, mask: Any, said: Mapping[str, Any], told: Settings
) -> dict[str, Any]:
    """What the encoder takes, by name, with a mask where it takes one."""
    import mlx.core as mx

    names = list(inspect.signature(module.encode).parameters)
    given = dict(inputs) if isinstance(inputs, Mapping) else {names[0]: inputs}
    given |= {} if mask is None else {MASK: mask}
    arrays = {name: _array(value) for name, value in given.items()}
    needed = {*names, *inspect.signature(module.__call__).parameters}
    if MASK in needed and MASK not in arrays and names[0] in arrays:
        main, pad = arrays[names[0]], said.get("pad_token_id")
        whole = mx.ones(main.shape[:2], dtype=mx.int64)
        padded = pad is not None and pad not in told.ends and main.ndim == 2
        arrays[MASK] = (main != pad).astype(mx.int64) if padded else whole
    lacking = [name for name in names if name not in arrays]
    if lacking:
        raise TranslationError(f"inputs: {lacking[0]} is missing, which the encoder takes")
    return arrays


def _array(value: Any) -> Any:
    import numpy as np

    return to_mlx(np.asarray(value) if isinstance(value, (list, tuple)) else value)


def _answered(module: Any, given: Mapping[str, Any], told: Settings, seed: int | None) -> Any:
    """The tokens, made one after the other until all sequences have ended."""
    import mlx.core as mx

    cache, rest = begun(module, given)
    batch = next(iter(given.values())).shape[0]
    tokens = [mx.full((batch, 1), token, dtype=mx.int64) for token in told.start]
    for token in tokens[:-1]:
        module(token, cache=cache, **rest)
    key = None if told.temperature == 0 else _key(seed)
    ended = mx.zeros((batch,), dtype=mx.bool_)
    for count in range(told.most):
        logits = module(tokens[-1], cache=cache, **rest)[:, -1]
        draw = None
        if key is not None:
            key, draw = mx.random.split(key)
        token = mx.where(ended, told.pad, chosen(told, logits, count, draw)).astype(mx.int64)
        tokens.append(token[:, None])
        ended = mx.any(mx.stack([ended, *(token == end for end in told.ends)]), axis=0)
        if mx.all(ended).item():
            break
    return mx.concatenate(tokens, axis=1)


def _key(seed: int | None) -> Any:
    """A key of random numbers; without a seed the next one of MLX's own stream."""
    import mlx.core as mx

    if seed is not None:
        return mx.random.key(seed)
    return mx.random.randint(0, 2**31 - 1, (2,)).astype(mx.uint32)
