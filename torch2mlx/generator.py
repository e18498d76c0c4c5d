"""Driver: text from a language model's folder, by mlx-lm."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch2mlx.common import trust
from torch2mlx.common.optional import need
from torch2mlx.errors import TranslationError


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen: the likeliest at `temperature` 0, else drawn at random, from the
    likeliest whose probabilities add up to `top_p` (0: from all). `seed`: the same draws again."""

    temperature: float = 0.0
    top_p: float = 0.0
    seed: int | None = None


@dataclass(frozen=True)
class Generated:
    """What followed a prompt, and how many tokens each side had."""

    text: str
    prompt_tokens: int
    tokens: int


def generated(
    folder: str | Path,
    prompt: str,
    *,
    tokens: int = 100,
    sampling: Sampling = Sampling(),
    kv_bits: int | None = None,
    plain: bool = False,
    trust_remote_code: bool = False,
) -> Generated:
    """What a language model says after a prompt: at most `tokens` tokens.

    The prompt goes through the tokenizer's chat template, where there is one, unless `plain`.
    `kv_bits`: keys and values in the cache are quantized to so many. Raises TranslationError for a
    folder that mlx-lm does not load, and where the model itself refuses, as past its table of
    positions; UntrustedCodeError for a model.py that the user's own translate did not write.
    """
    need("generate", "mlx", "mlx_lm")
    place = Path(folder)
    model, tokenizer = _loaded(place, trust_remote_code)
    import mlx.core as mx
    from mlx_lm.sample_utils import make_sampler

    if sampling.seed is not None:
        mx.random.seed(sampling.seed)
    ids = _ids(tokenizer, prompt, plain)
    if not ids:
        raise TranslationError("the prompt has no tokens: give some text")
    draw = make_sampler(temp=sampling.temperature, top_p=sampling.top_p)
    return _answered(place, model, tokenizer, ids, tokens, sampler=draw, kv_bits=kv_bits)


def _answered(
    place: Path, model: Any, tokenizer: Any, ids: list[int], tokens: int, **given: Any
) -> Generated:
    import mlx_lm

    text, count = "", 0
    try:
        for part in mlx_lm.stream_generate(model, tokenizer, ids, max_tokens=tokens, **given):
            text, count = text + part.text, part.generation_tokens
    except ValueError as error:  # what the model's file refuses
        raise TranslationError(f"{place}: {error}") from error
    return Generated(text, len(ids), count)


def _ids(tokenizer: Any, prompt: str, plain: bool) -> list[int]:
    if plain or tokenizer.chat_template is None:
        return list(tokenizer.encode(prompt))
    said = [{"role": "user", "content": prompt}]
    return list(tokenizer.apply_chat_template(said, add_generation_prompt=True, return_dict=False))


def _loaded(place: Path, trusted: bool) -> tuple[Any, Any]:
    """The model and the tokenizer of a folder, never of a repository elsewhere."""
    import mlx_lm

    try:
        config = json.loads((place / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TranslationError(
            f"{place}: no config.json; is this a folder that translate --cache wrote?"
        ) from None
    except ValueError as error:
        raise TranslationError(f"{place / 'config.json'}: {error}") from error
    own = isinstance(config, dict) and "model_file" in config
    if own:
        trust.program(place, trusted)
    try:
        return mlx_lm.load(str(place), trust_remote_code=own)[:2]
    except Exception as error:  # whatever mlx-lm and tokenizers raise for a folder that lacks parts
        told = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise TranslationError(f"{place}: mlx-lm does not load it: {told}") from error
