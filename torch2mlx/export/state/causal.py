"""The state of a causal language model of transformers: the cache that its forward takes and
answers, found by calling it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch2mlx.errors import TranslationError
from torch2mlx.export.state.placing import PADDING, Form, Placing, first_place
from torch2mlx.export.state.stepping import Step, changing
from torch2mlx.export.state.trees import Path, tensors_of, with_parts
from torch2mlx.export.verify.preserved import preserved

#: Lengths of the example: sequences, tokens before, tokens of the call.
BATCH, PAST = 2, 6
_SEED = 20


def step_of(model: Any, form: Form) -> Step:
    """A call of a causal language model with some tokens behind some others.

    Raises TranslationError for a model that answers no logits, and for one that keeps no state in
    what it answers.
    """
    import torch

    tokens, name = form.tokens, model.main_input_name
    ids = some_tokens(model, BATCH, PAST + tokens)
    with torch.no_grad(), preserved(model):
        first = called(model, {name: ids[:, :PAST], "use_cache": True}, PAST)
        argument = _argument(model, first)
        state = _filled(model, name, ids[:, :PAST], argument, first[argument])
        inputs, placed = {name: ids[:, PAST:]}, None
        if form.told:
            _refuse_uncounted(argument, state)
            inputs[PADDING] = torch.zeros(BATCH, dtype=torch.int64)
            placed = Placing(name, argument, form.told, first_place(model, form.marked))
        answer = lambda output: output["logits"]  # noqa: E731
        following = lambda output, _: {argument: output[argument]}  # noqa: E731
        step = Step(
            inputs, {"use_cache": True}, {argument: state}, answer, following, placed=placed
        )
        windows = windows_of(argument, first[argument])
        return replace(_probed(model, step, tokens), windows=windows)


def _refuse_uncounted(argument: str, state: Any) -> None:
    """Raises TranslationError for a state that does not tell how many tokens it is of."""
    try:
        state.get_seq_length()
    except (AttributeError, ValueError) as error:
        raise TranslationError(f"{argument} does not tell how many tokens it holds") from error


def some_tokens(model: Any, batch: int, length: int, seed: int = _SEED) -> Any:
    """Tokens drawn at random, (batch, length) int64."""
    import torch

    config = model.config.get_text_config(decoder=True)
    words = int(config.vocab_size)
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(min(3, words - 1), min(words, 30000), (batch, length), generator=draw)


def called(model: Any, given: Mapping[str, Any], length: int) -> Mapping[str, Any]:
    """What a forward answers, as a mapping. Raises TranslationError with what it raised."""
    try:
        output = model(**given)
    except Exception as error:  # as many kinds as transformers has models
        told = f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
        raise TranslationError(
            f"the model fails on {length} tokens with a cache: {told}"
        ) from error
    if not isinstance(output, Mapping) or "logits" not in output:
        raise TranslationError(f"{type(model).__name__} answers no logits: it is no language model")
    return output


def _argument(model: Any, output: Mapping[str, Any]) -> str:
    """The argument that takes what the model answers as its state."""
    taken = inspect.signature(model.forward).parameters
    found = [name for name in output if name in taken and tensors_of(output[name])]
    if len(found) != 1:
        raise TranslationError(
            f"{type(model).__name__} answers no state that its forward takes back, so it "
            "generates without a cache only: translate it without one"
        )
    return found[0]


def _filled(model: Any, name: str, ids: Any, argument: str, held: Any) -> Any:
    """The state after some tokens, with every window as wide as the past is long.

    A mask bars what is outside of a window, so keys may stay that are never seen again; which of
    them a cache throws away depends on counters.
    """
    whole = without_windows(held)
    if whole is held:
        return held
    given = {name: ids, argument: whole, "use_cache": True}
    return called(model, given, PAST)[argument]


def without_windows(held: Any) -> Any:
    """An empty cache of transformers like one that is given, whose layers keep all; anything else,
    and a cache without windows, as it is."""
    layers = getattr(held, "layers", None)
    if not isinstance(layers, list) or not any(map(_windowed, layers)):
        return held
    import transformers

    cache = transformers.DynamicCache()
    cache.layers = [_whole(layer) if _windowed(layer) else _empty(layer) for layer in layers]
    cache.layer_class_to_replicate = None
    return cache


def windows_of(argument: str, held: Any) -> dict[Path, int]:
    """The windows of a cache's layers, by the ways to these."""
    layers = getattr(held, "layers", None)
    if not isinstance(layers, list):
        return {}
    return {
        (argument, "layers", i): layer.sliding_window
        for i, layer in enumerate(layers)
        if _windowed(layer)
    }


def _windowed(layer: Any) -> bool:
    """Whether a layer is one of transformers' own that keep what a window shows."""
    from transformers import cache_utils

    kinds = (
        cache_utils.DynamicSlidingWindowLayer,
        cache_utils.LinearAttentionAndSlidingWindowAttentionLayer,
    )
    return type(layer) in kinds


def _whole(layer: Any) -> Any:
    """A layer without a window, of the class that is the same but for it."""
    from transformers import cache_utils

    states = getattr(layer, "number_of_states", None)
    if states is not None:
        return cache_utils.LinearAttentionAndFullAttentionLayer(number_of_states=states)
    return cache_utils.DynamicLayer()


def _empty(layer: Any) -> Any:
    """A layer of the same class with nothing in it."""
    made = copy.copy(layer)
    made.reset()
    return made


def _probed(model: Any, step: Step, tokens: int) -> Step:
    """The step with what a call changes, found by making it."""
    held = tensors_of(step.state)
    copies = dict(with_parts(dict(step.state), {p: t.clone() for p, t in held.items()}))
    versions = {p: (t, t._version) for p, t in tensors_of(copies).items()}
    before = dict(with_parts(dict(copies), {}))  # holders of its own with the same tensors
    output = called(model, step.given(step.inputs, before), tokens)
    written = frozenset(p for p, (t, version) in versions.items() if t._version != version)
    after = step.following(output, before)
    tensors, numbers = changing(step.state, after)
    if not tensors:
        raise TranslationError(f"{type(model).__name__}: no part of its state changes in a call")
    return replace(step, tensors=tensors, numbers=numbers, written=written)
