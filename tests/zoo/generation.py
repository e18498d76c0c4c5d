"""Causal language models of transformers at toy size under mlx-lm's contract, against torch.

`python -m tests.zoo.generation [TYPE...]` makes each (without names, all of archs.txt that are
causal language models), translates it with its cache, and compares the logits of both frameworks:
a prompt of 9 tokens, in MLX in pieces of 4 and 5, then 64 tokens one by one. It prints a line for
each, `ok` with the largest difference, `differs`, `refused` or `unbuilt` with the reason, and a
count.
"""

from __future__ import annotations

import signal
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tests.zoo.build import names, shrink

BATCH, PROMPT, STEPS, PIECES = 2, 9, 64, (4, 5)
ALLOWED = 1e-4
#: Seconds of the processor for one type.
LIMIT = 150


def causal_types() -> list[str]:
    """The types of archs.txt that transformers has a causal language model for."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as known

    return [name for name in names() if name in known]


def built(kind: str) -> Any:
    """A model of a type that answers to tokens with a cache. Raises RuntimeError with what
    transformers raised."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    said = []
    for level in (1, 2):
        try:
            torch.manual_seed(0)
            config = shrink(CONFIG_MAPPING[kind](), level)
            if hasattr(config, "is_decoder"):
                config.is_decoder = True
            model = AutoModelForCausalLM.from_config(config).float().eval()
            with torch.no_grad():
                model(input_ids=torch.arange(3, 12)[None])
            return model
        except Exception as problem:  # as many kinds as transformers has models
            said.append(f"{type(problem).__name__}: {problem}"[:160])
    raise RuntimeError(" | ".join(said))


def line_of(kind: str) -> tuple[str, str]:
    """What came of a type: a word, and the rest of its line."""
    from torch2mlx.errors import Torch2MLXError
    from torch2mlx.export.state.causal import some_tokens
    from torch2mlx.export.state.generating import differences
    from torch2mlx.language import language_model

    try:
        model = built(kind)
    except RuntimeError as problem:
        return "unbuilt", str(problem)
    try:
        made = language_model(model)
        ids = some_tokens(model, BATCH, PROMPT + STEPS)
        worst = max(differences(model, made.module, ids, PIECES))
    except Torch2MLXError as problem:
        return "refused", " ".join(str(problem).split())[:300]
    kept = ", ".join(f"{n} {name}" for name, n in Counter(made.caches).items())
    return ("ok" if worst <= ALLOWED else "differs"), f"{worst:.1e} {kept}"


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
    """Prints the lines; fails where one differs or fails."""
    warnings.simplefilter("ignore")
    count: Counter[str] = Counter()
    for word, kind, told in lines(sys.argv[1:] or causal_types()):
        count[word] += 1
        print(f"{word:8} {kind:24} {told}", flush=True)
    print(", ".join(f"{n} {word}" for word, n in count.most_common()))
    return 1 if count["differs"] or count["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
