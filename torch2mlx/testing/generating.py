"""`assert_generates`: what a test of a translated language model asserts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch2mlx.encoder_decoder import EncoderDecoder
    from torch2mlx.language import LanguageModel

#: Where torch's likeliest token is so close to its next, in logits, rounding may choose the other.
MARGIN = 1e-3


def assert_generates(
    model: Any, inputs: Any, *, max_tokens: int = 32
) -> LanguageModel | EncoderDecoder:
    """Asserts that a language model of transformers translates, and says in MLX what it says in
    torch: greedily, with the caches of both.

    `inputs` are what the model's own `generate` takes: tokens (B, L), features of an encoder, or a
    dict of them with an `attention_mask`, as a tokenizer gives it. The rows are generated one by
    one, without their padding. `max_tokens` follow the prompt. A row is compared up to the first
    token at which torch's own two likeliest are within 1e-3 of each other in their logits, if MLX
    takes the other one there.

    Returns what `language_model` makes. Raises AssertionError with the row, the place and both
    tokens where the two part, or with the reason why there is no translation; MissingLibraryError
    where torch, mlx, transformers or, for a decoder alone, mlx-lm is not installed.
    """
    from torch2mlx.common.optional import need
    from torch2mlx.errors import TranslationError
    from torch2mlx.language import language_model

    need("assert_generates", "torch", "mlx", "transformers")
    name = type(model).__name__
    try:
        made = language_model(model)
        for row, given in enumerate(_rows(model, inputs)):
            start, expected, margins = _in_torch(model, given, max_tokens)
            found = _in_mlx(made, model, given, max_tokens)
            told = _parted(expected, found[start:], margins)
            if told:
                raise AssertionError(f"{name} and its translation part in row {row}, {told}")
    except TranslationError as error:
        raise AssertionError(f"{name} has no translation: {error}") from error
    return made


def _rows(model: Any, inputs: Any) -> Iterator[dict[str, Any]]:
    """The inputs of each row, without its padding."""
    import torch

    given = dict(inputs) if hasattr(inputs, "items") else {model.main_input_name: inputs}
    given = {name: torch.as_tensor(value) for name, value in given.items()}
    mask = given.pop("attention_mask", None)
    for row in range(len(given[model.main_input_name])):
        kept = ... if mask is None else mask[row].bool()
        yield {
            name: value[row : row + 1] if mask is None else value[row][kept][None]
            for name, value in given.items()
        }


def _in_torch(model: Any, given: dict[str, Any], tokens: int) -> tuple[int, list[int], list[float]]:
    """The number of tokens before, those that follow, and how far torch's likeliest was above its
    next at each."""
    import torch

    greedy = {"do_sample": False, "num_beams": 1, "max_new_tokens": tokens, "output_logits": True}
    with torch.no_grad():
        answer = model.generate(**given, **greedy, return_dict_in_generate=True)
    margins = [(top[0] - top[1]).item() for top in (x[0].topk(2).values for x in answer.logits)]
    said = answer.sequences[0].tolist()
    return len(said) - len(margins), said[-len(margins) :], margins


def _in_mlx(made: Any, model: Any, given: dict[str, Any], tokens: int) -> list[int]:
    """The tokens before and those that follow in MLX."""
    from torch2mlx.export.ir.structures import numpy_of, to_mlx

    arrays = {name: to_mlx(value) for name, value in given.items()}
    if model.config.is_encoder_decoder:
        from torch2mlx.sequences import generate

        answer = generate(made, arrays, max_tokens=tokens, temperature=0.0)
        return [int(token) for token in numpy_of(answer)[0]]
    ids, cache = arrays.pop(model.main_input_name), made.module.make_cache()
    said = [int(token) for token in numpy_of(ids)[0]]
    ends = model.generation_config.eos_token_id
    stops = set(ends if isinstance(ends, list) else [ends])
    for _ in range(tokens):
        said.append(int(made.module(ids, cache=cache)[0, -1].argmax().item()))
        if said[-1] in stops:
            break
        ids = to_mlx(given[model.main_input_name].new_tensor([[said[-1]]]))
    return said


def _parted(expected: list[int], found: list[int], margins: list[float]) -> str:
    """Where the two part, in words."""
    for at, (a, margin) in enumerate(zip(expected, margins, strict=True)):
        b = found[at] if at < len(found) else None
        if a != b and margin > MARGIN:
            return (
                f"at token {at} of {len(expected)}: torch says {a}, MLX {b}; torch's likeliest "
                f"is {margin:.2g} above its next"
            )
        if a != b:
            break
    return ""
