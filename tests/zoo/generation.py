"""Causal language models of transformers at toy size under mlx-lm's contract, against torch.

`python -m tests.zoo.generation [TYPE...]` makes each (without names, all of archs.txt that are
causal language models), translates it with its cache, and compares the logits of both frameworks:
a prompt of 9 tokens, in MLX in pieces of 4 and 5, then 64 tokens one by one. It prints a line for
each, `ok` with the largest difference, `differs`, `refused` or `unbuilt` with the reason, `silent`
where MLX answers and torch raises an error, and a count. Tables of positions are shorter than the
sequences first, and where a side raises an error at their end, longer in a second try.
"""

from __future__ import annotations

import signal
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tests.zoo.build import names, shrink, small_arguments
from tests.zoo.layer_kinds import arguments_of_layers, with_each_kind

BATCH, PROMPT, STEPS, PIECES = 2, 9, 64, (4, 5)
ALLOWED = 1e-4
#: Ways to make a configuration small: those of `shrink`, by its fields; as many heads for keys as
#: for queries; by the arguments of its class, two layers of each kind.
BY_ARGUMENTS, EQUAL_HEADS = 3, 0
LEVELS = (1, EQUAL_HEADS, BY_ARGUMENTS, 2)
#: How configurations call the length of what is looked up by position.
TABLES = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
TABLES += ("max_sequence_length", "max_target_positions", "original_max_position_embeddings")
#: How long they are: shorter than the sequences, and longer.
FEW_POSITIONS, POSITIONS = 40, 128
#: Larger models are not built.
MOST_PARAMETERS = 5e8
#: Seconds of the processor for one type.
LIMIT = 240


def causal_types() -> list[str]:
    """The types of archs.txt that transformers has a causal language model for."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as known

    return [name for name in names() if name in known]


def built(kind: str, positions: int = POSITIONS) -> Any:
    """A model of a type that answers to tokens with a cache, for so many `positions`. Raises
    RuntimeError with what transformers raised."""
    import torch
    from transformers import AutoModelForCausalLM

    said = []
    for level in LEVELS:
        try:
            config = configuration(kind, level, positions)
            refuse_large(config)
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(config).float().eval()
            with torch.no_grad():
                model(input_ids=torch.arange(3, 12)[None])
            return model
        except Exception as problem:  # as many kinds as transformers has models
            said.append(f"{type(problem).__name__}: {problem}"[:160])
    raise RuntimeError(" | ".join(dict.fromkeys(said)))


def refuse_large(config: Any) -> None:
    """Raises RuntimeError for a model that does not fit in little memory."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    count = sum(p.numel() for p in model.parameters())
    if count > MOST_PARAMETERS:
        raise RuntimeError(f"{count} parameters")


def configuration(kind: str, level: int, positions: int) -> Any:
    """A small configuration of a type. Raises what transformers raises."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config = CONFIG_MAPPING[kind]()
    if level == BY_ARGUMENTS:
        layers = arguments_of_layers(config, 2)
        config = CONFIG_MAPPING[kind](**{**small_arguments(config), **layers})
    else:
        config = with_each_kind(config, lambda made: shrink(made, level or 1))
        if level == EQUAL_HEADS:
            config.num_key_value_heads = config.num_attention_heads
    for part in (config, config.get_text_config(decoder=True)):
        if hasattr(part, "is_decoder"):
            part.is_decoder = True
        for name in TABLES:
            if isinstance(getattr(part, name, None), int) and getattr(part, name) > positions:
                setattr(part, name, positions)
    return config


def line_of(kind: str) -> tuple[str, str]:
    """What came of a type: a word, and the rest of its line."""
    word, told = with_positions(kind, FEW_POSITIONS)
    if word != "ok" or "ends at" not in told:
        return word, told
    more, without_end = with_positions(kind, POSITIONS)
    return more, f"{without_end}; {told}"


def with_positions(kind: str, positions: int) -> tuple[str, str]:
    """The same for a model whose tables, if it has some, are so long."""
    from torch2mlx.errors import Torch2MLXError
    from torch2mlx.language import language_model

    try:
        model = built(kind, positions)
    except RuntimeError as problem:
        return "unbuilt", str(problem)
    try:
        made = language_model(model)
    except Torch2MLXError as problem:
        return "refused", " ".join(str(problem).split())[:300]
    kept = ", ".join(f"{n} {name}" for name, n in Counter(made.caches).items())
    word, told = compared(model, made.module)
    notes = "".join(f", {note}" for note in made.notes)
    return word, f"{told} {kept}{notes}"


def compared(model: Any, module: Any) -> tuple[str, str]:
    """How the logits compare at each token, and where each side has raised an error: past the end
    of a table, where MLX's has to raise too."""
    from torch2mlx.export.ir.structures import to_mlx
    from torch2mlx.export.state.causal import some_tokens
    from torch2mlx.export.state.generating import apart, mlx_calls, torch_calls

    ids = some_tokens(model, BATCH, PROMPT + STEPS)
    expected, torchs = answered(torch_calls(model, ids, (PROMPT,)))
    found, mlxs = answered(mlx_calls(module, to_mlx(ids), PIECES))
    both = min(expected.shape[1], found.shape[1])
    worst = max(apart(expected[:, i], found[:, i]) for i in range(both))
    ends = f", MLX ends at {both}: {mlxs}" if mlxs else ""
    ends += f", torch at {expected.shape[1]}: {torchs}" if torchs else ""
    silent = found.shape[1] > expected.shape[1]
    word = "silent" if silent else "ok" if worst <= ALLOWED else "differs"
    return word, f"{worst:.1e}{ends}"


def answered(calls: Iterator[Any]) -> tuple[Any, str]:
    """The logits (B, L, V) of the calls before one raised an error, and what it said."""
    import numpy as np

    parts = []
    try:
        parts.extend(calls)
    except Exception as problem:  # as many kinds as transformers has models
        return np.concatenate(parts, 1), f"{type(problem).__name__}: {problem}"[:120]
    return np.concatenate(parts, 1), ""


def lines(kinds: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """A line for each type; one that takes too long, or fails otherwise, is `failed`."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"longer than {LIMIT} s")

    signal.signal(signal.SIGPROF, late)
    for kind in kinds:
        signal.setitimer(signal.ITIMER_PROF, LIMIT)
        try:
            word, told = line_of(kind)
        except Exception as problem:  # a bug: it has to be told apart from a refusal
            word, told = "failed", f"{type(problem).__name__}: {problem}"[:300]
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        yield word, kind, told


def main() -> int:
    """Prints the lines; fails where one differs, is silent or fails."""
    warnings.simplefilter("ignore")
    count: Counter[str] = Counter()
    for word, kind, told in lines(sys.argv[1:] or causal_types()):
        count[word] += 1
        print(f"{word:8} {kind:24} {told}", flush=True)
    print(", ".join(f"{n} {word}" for word, n in count.most_common()))
    return 1 if count["differs"] or count["silent"] or count["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
