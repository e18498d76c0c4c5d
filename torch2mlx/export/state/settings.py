"""What a generation_config.json of transformers says of the tokens that follow: what is followed,
what changes nothing, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch2mlx.common.options import option, setting
from torch2mlx.errors import TranslationError

#: Settings that would give other tokens, and the values at which they do nothing.
_REFUSED: dict[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "num_return_sequences": (1,),
    "diversity_penalty": (0,),
    "penalty_alpha": (0,),
    "repetition_penalty": (1,),
    "encoder_repetition_penalty": (1,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "exponential_decay_length_penalty": (),
    "bad_words_ids": (),
    "sequence_bias": (),
    "force_words_ids": (),
    "constraints": (),
    "guidance_scale": (1,),
    "watermarking_config": (),
    "stop_strings": (),
    "max_time": (),
    "min_p": (0,),
    "top_h": (),
    "typical_p": (1,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "dola_layers": (),
    "token_healing": (False,),
    "return_timestamps": (False,),
}
#: Settings of beams, of speed, of what is answered beside the tokens, and of other tasks.
_NOTHING = frozenset(
    {
        *("use_cache", "cache_implementation", "cache_config", "max_cache_len", "early_stopping"),
        *("length_penalty", "output_attentions", "output_hidden_states", "output_scores"),
        *("output_logits", "return_dict_in_generate", "renormalize_logits"),
        *("remove_invalid_values", "is_assistant", "num_assistant_tokens", "low_memory"),
        *("num_assistant_tokens_schedule", "assistant_confidence_threshold", "use_mtp"),
        *("prompt_lookup_num_tokens", "max_matching_ngram_size", "assistant_early_exit"),
        *("assistant_lookbehind", "target_lookbehind", "assistant_ensemble_weight"),
        *("speculation_type", "compile_config", "disable_compile", "prefill_chunk_size"),
        *("continuous_batching_config", "transformers_version", "_from_model_config"),
        *("alignment_heads", "max_initial_timestamp_index", "prev_sot_token_id"),
        "median_filter_width",
    }
)
#: Settings that are followed.
_FOLLOWED = frozenset(
    {
        *("max_length", "max_new_tokens", "min_length", "min_new_tokens", "do_sample"),
        *("temperature", "top_k", "top_p", "pad_token_id", "bos_token_id", "eos_token_id"),
        *("decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id"),
        *("suppress_tokens", "begin_suppress_tokens", "forced_decoder_ids", "is_multilingual"),
        *("lang_to_id", "task_to_id", "no_timestamps_token_id"),
    }
)
#: Tokens in all, where nothing says how many; of how many is drawn, where none is said.
_MOST, _TOP_K = 100, 50


@dataclass(frozen=True)
class Settings:
    """How tokens are chosen. `start` are the decoder's first; `most` how many follow them."""

    start: tuple[int, ...]
    most: int
    ends: tuple[int, ...]
    pad: int
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    #: What the first and the last token that follows is, where that is not to be chosen.
    first: int | None = None
    last: tuple[int, ...] = ()
    #: Tokens that are never chosen, and those that are not chosen first.
    never: tuple[int, ...] = ()
    not_first: tuple[int, ...] = ()
    #: How many tokens there are at least, in all and after the start, before one that ends.
    least: int = 0
    least_new: int = 0


def settings_of(
    said: Mapping[str, Any],
    *,
    max_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    eos: int | Sequence[int] | None = None,
    start: Sequence[int] | None = None,
) -> Settings:
    """What a configuration says, and what is asked in its place.

    Raises TranslationError for what it says that is not followed here.
    """
    known = {name: value for name, value in said.items() if value is not None}
    refuse(known)
    first = _start(known) if start is None else tuple(map(int, start))
    if not first:
        raise TranslationError(f"{option('start')} needs a token: give the decoder's first one")
    most = max_tokens if max_tokens is not None else _most(known, len(first))
    if most < 1:
        raise TranslationError(f"max_tokens={most}: at least one token is made")
    ends = _tokens(known.get("eos_token_id") if eos is None else eos)
    given = temperature if temperature is not None else _temperature(known)
    alone = len(first) == 1  # transformers forces a first token after the start alone
    forced = known.get("forced_bos_token_id") if alone else None
    made = Settings(
        first,
        most,
        ends,
        int(known.get("pad_token_id", ends[0] if ends else 0)),
        float(given),
        int(known.get("top_k", _TOP_K) if top_k is None else top_k),
        float(known.get("top_p", 1.0) if top_p is None else top_p) or 1.0,
        forced,
        _tokens(known.get("forced_eos_token_id")),
        _tokens(known.get("suppress_tokens")),
        _tokens(known.get("begin_suppress_tokens")),
        int(known.get("min_length", 0)),
        int(known.get("min_new_tokens", 0)),
    )
    _check(made)
    return made


def _check(made: Settings) -> None:
    for name, value, right in (
        ("temperature", made.temperature, made.temperature >= 0),
        ("top_k", made.top_k, made.top_k >= 0),
        ("top_p", made.top_p, 0 < made.top_p <= 1),
    ):
        if not right:
            raise TranslationError(f"{name}={value!r} is out of range")


def refuse(known: Mapping[str, Any]) -> None:
    """Raises TranslationError for a setting under which transformers takes other tokens."""
    for name, value in known.items():
        if name in _FOLLOWED or name in _NOTHING:
            continue
        if name not in _REFUSED:
            raise TranslationError(
                f"generation_config: {name}={value!r} is not known here: leave it out by "
                f"{setting(name, None)}"
            )
        if value not in _REFUSED[name]:
            plain = _REFUSED[name][0] if _REFUSED[name] else None
            raise TranslationError(
                f"generation_config: {name}={value!r} is not followed here, one token is chosen "
                f"after the other: leave it out by {setting(name, plain)}"
            )


def _temperature(known: Mapping[str, Any]) -> float:
    return float(known.get("temperature", 1.0)) if known.get("do_sample") else 0.0


def _most(known: Mapping[str, Any], start: int) -> int:
    if "max_new_tokens" in known:
        return int(known["max_new_tokens"])
    return int(known["max_length"]) - start if "max_length" in known else _MOST


def _tokens(value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    return (int(value),) if isinstance(value, int) else tuple(map(int, value))


def _start(known: Mapping[str, Any]) -> tuple[int, ...]:
    """The decoder's first tokens: what starts a sequence, and those that follow it in any case."""
    first = known.get("decoder_start_token_id", known.get("bos_token_id"))
    if first is None:
        raise TranslationError(
            f"generation_config has no decoder_start_token_id: give {option('start')}, the "
            "decoder's first tokens"
        )
    tokens = _tokens(first)
    if len(tokens) > 1:
        raise TranslationError(
            "generation_config: decoder_start_token_id has one token for each sequence: give "
            f"{option('start')}, the same for all"
        )
    forced = known.get("forced_decoder_ids")
    if forced:
        pairs = sorted((int(place), token) for place, token in forced)
        whole = [place for place, _ in pairs] == list(range(1, len(pairs) + 1))
        if not whole or any(token is None for _, token in pairs):
            _languages(known)
        return (*tokens, *(int(token) for _, token in pairs))
    if known.get("lang_to_id") or known.get("is_multilingual"):
        _languages(known)
    silent = known.get("no_timestamps_token_id")
    return tokens if silent is None else (*tokens, int(silent))


def _languages(known: Mapping[str, Any]) -> None:
    """Raises TranslationError for a model that would be asked for the language."""
    start = known.get("decoder_start_token_id")
    raise TranslationError(
        "the decoder's first tokens say the language and the task, which is not found out here: "
        f"give {option('start')}, [{start}, ...] with the tokens of lang_to_id, task_to_id and "
        "no_timestamps_token_id of generation_config.json"
    )


__all__ = ["Settings", "refuse", "settings_of"]
