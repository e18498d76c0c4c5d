"""Driver: text from a language model's folder, by mlx-lm, or by `sequences` where it encodes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch2mlx.common import trust
from torch2mlx.common.optional import need
from torch2mlx.common.options import option
from torch2mlx.errors import TranslationError


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen: the likeliest at `temperature` 0, else drawn at random, from the
    likeliest whose probabilities add up to `top_p` (0: from all). `seed`: the same draws again.
    `settings`: what takes the place of generation_config.json's, for a model with an encoder."""

    temperature: float = 0.0
    top_p: float = 0.0
    seed: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


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
    place = Path(folder)
    if encodes(place):
        _refuse_encoding(kv_bits=kv_bits is not None, plain=plain)
        return _encoded(place, prompt, tokens, sampling, trust_remote_code)
    if sampling.settings:
        raise TranslationError(f"{option('settings')} is for models with an encoder")
    need("generate", "mlx", "mlx_lm")
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


def encodes(place: Path) -> bool:
    """Whether a folder's model has an encoder beside its decoder."""
    try:
        config = json.loads((place / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and bool(config.get("is_encoder_decoder"))


def _refuse_encoding(**asked: bool) -> None:
    """Raises TranslationError for an option that a model with an encoder does not take."""
    for name, given in asked.items():
        if given:
            raise TranslationError(f"{option(name)} is not for models with an encoder")


def _encoded(place: Path, prompt: str, tokens: int, sampling: Sampling, trusted: bool) -> Generated:
    """What a model with an encoder answers to a text."""
    from torch2mlx.sequences import generate, takes_tokens
    from torch2mlx.translator import load

    need("generate", "mlx", "transformers")
    model = load(place, trust_remote_code=trusted)
    if not takes_tokens(model):
        raise TranslationError(
            f"{place}: its encoder takes no text: give torch2mlx.generate in Python its features"
        )
    tokenizer = _tokenizer(place)
    ids = tokenizer(prompt)["input_ids"]
    if not ids:
        raise TranslationError("the prompt has no tokens: give some text")
    found = generate(
        model,
        [ids],
        attention_mask=[[1] * len(ids)],
        max_tokens=tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p or 1.0,
        seed=sampling.seed,
        settings=sampling.settings,
    )[0].tolist()
    text = tokenizer.decode(found, skip_special_tokens=True)
    return Generated(text, len(ids), len(found) - 1)


def _tokenizer(place: Path) -> Any:
    """The tokenizer of a folder, never of a repository elsewhere."""
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(str(place), local_files_only=True)
    except Exception as error:  # whatever tokenizers raise for a folder that lacks parts
        told = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise TranslationError(f"{place}: it has no tokenizer: {told}") from error


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
