"""The call of an encoder-decoder model of transformers that is traced: inputs are encoded, keys and
values of the cross-attention are made of that, and the decoder goes on behind some tokens."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch2mlx.errors import TranslationError
from torch2mlx.export.state.causal import BATCH, PAST, called, some_tokens
from torch2mlx.export.state.stepping import Step, changing
from torch2mlx.export.state.trees import Path, with_parts
from torch2mlx.export.verify.preserved import preserved

#: The names that transformers gives to what a decoder takes and what an encoder is told.
TOKENS, MASK = "decoder_input_ids", "attention_mask"
#: Its cache of both attentions: the parts of it.
_OWN, _CROSS = "self_attention_cache", "cross_attention_cache"
#: Length of encoded inputs that are tokens, and how many frames or samples are one such.
_LENGTH, _FRAMES, _SAMPLES = 7, 6, 700
_SEED = 21


def whole(model: Any) -> Any:
    """A module that holds the model and calls it: its one child is where the model's calls are."""
    import torch

    made: Any = type("Whole", (torch.nn.Module,), {"forward": lambda self, **x: self.model(**x)})()
    made.model = model
    return made.eval()


def step_of(model: Any, tokens: int) -> Step:
    """A call of an encoder-decoder model with `tokens` tokens of the decoder behind some others. It
    answers the logits, what is encoded, and keys and values of each block's cross-attention.

    Raises TranslationError for a model whose cache does not have both attentions.
    """
    import torch

    inputs = some_inputs(model, BATCH)
    ids = some_tokens(model, BATCH, PAST + tokens)
    with torch.no_grad(), preserved(model):
        first = called(model, {**inputs, TOKENS: ids[:, :PAST], "use_cache": True}, PAST)
        argument = _argument(model, first)
        state = begun(first[argument])
        given = {**inputs, TOKENS: ids[:, PAST:]}
        held = {argument: getattr(state, _OWN)}
        following = lambda output, _: {argument: output[argument]}  # noqa: E731
        step = Step(given, {"use_cache": True}, {argument: state}, _answer(argument), following)
        output = called(model, {**given, **step.fixed, argument: with_parts(state, {})}, tokens)
        tensors, numbers = changing(held, {argument: getattr(output[argument], _OWN)})
    if not tensors:
        raise TranslationError(f"{type(model).__name__}: no part of its state changes in a call")
    return replace(step, tensors=_inner(tensors), numbers=_inner(numbers))


def _inner(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """Ways to parts of the cache of the decoder's own attention, from both caches on."""
    return tuple((path[0], _OWN, *path[1:]) for path in paths)


def some_inputs(model: Any, batch: int, length: int = _LENGTH, seed: int = _SEED) -> dict[str, Any]:
    """What an encoder takes: tokens or features, and a mask whose sequences have other lengths."""
    import torch

    name = model.main_input_name
    draw = torch.Generator().manual_seed(seed)
    if name == "input_ids":
        main = some_tokens(model, batch, length, seed)
    else:
        main = torch.randn(_features(model, batch, length), generator=draw)
    return {name: main, **({MASK: padding(batch, length)} if name == "input_ids" else {})}


def padding(batch: int, length: int) -> Any:
    """A mask (batch, length) int64: each sequence is shorter than the one before it."""
    import torch

    ends = [max(1, length - 2 * row) for row in range(batch)]
    return torch.tensor([[int(i < end) for i in range(length)] for end in ends])


def _features(model: Any, batch: int, length: int) -> tuple[int, ...]:
    """The shape of features: as many places as there are, frames of some width, or samples. Raises
    TranslationError where a configuration does not tell it."""
    held, name = model.config, model.main_input_name
    bins, places = getattr(held, "num_mel_bins", None), getattr(held, "max_source_positions", None)
    wide = getattr(held, "input_feat_per_channel", None)
    if name == "input_features" and wide is not None:
        return (batch, _FRAMES * length, wide * getattr(held, "input_channels", 1))
    if name == "input_features" and bins is not None and places is not None:
        return (batch, bins, 2 * places)
    if name == "input_values":
        return (batch, _SAMPLES * length)
    raise TranslationError(
        f"{type(model).__name__}: its encoder takes {name}, of which its configuration does not "
        "tell the shape: translate it without a cache"
    )


def _argument(model: Any, output: Mapping[str, Any]) -> str:
    """The argument that takes the cache of both attentions that the model answers."""
    taken = inspect.signature(model.forward).parameters
    for name, value in output.items():
        if name in taken and hasattr(value, _OWN) and hasattr(value, _CROSS):
            return name
    raise TranslationError(
        f"{type(model).__name__} answers no cache of its decoder's own attention and of that to "
        "what is encoded: translate it without one"
    )


def begun(held: Any) -> Any:
    """The same past of the decoder's own attention, before any cross-attention."""
    import transformers

    made = copy.copy(held)
    setattr(made, _CROSS, transformers.DynamicCache())
    made.is_updated = dict.fromkeys(held.is_updated, False)
    return made


def _answer(argument: str) -> Any:
    def answer(output: Any) -> Any:
        layers = getattr(output[argument], _CROSS).layers
        pairs = [part for layer in layers for part in (layer.keys, layer.values)]
        return output["logits"], output["encoder_last_hidden_state"], *pairs

    return answer
