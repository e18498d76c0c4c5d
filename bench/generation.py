"""Generating: folders of `language_model` beside mlx-lm's own classes on the same weights.

The processor's speed at a prompt and at tokens one by one, and the memory that MLX takes at most.
Families are those of which mlx-lm's classes load what transformers saves, and agree with torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import torch

from bench.measure import Goal, Rows, report
from torch2mlx import language_model

WIDE, DEEP, WORDS = 256, 8, 1000
SIZES = {"hidden_size": WIDE, "num_hidden_layers": DEEP, "num_attention_heads": 8}
SIZES |= {"vocab_size": WORDS, "max_position_embeddings": 4096, "pad_token_id": 0}
GATED = {**SIZES, "num_key_value_heads": 4, "intermediate_size": 2 * WIDE, "head_dim": 32}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "Llama": GATED,
    "Qwen3": GATED,
    "Gemma": GATED,
    "Phi3": GATED,
    "Olmo2": {key: value for key, value in GATED.items() if key != "head_dim"},
    "Mixtral": {**GATED, **EXPERTS},
}
#: Tokens of a prompt, and how many are made after it.
PROMPTS, MADE = (200, 2000), 32


def model_of(family: str) -> Any:
    """A model of torch with random weights."""
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**FAMILIES[family])
    return transformers.AutoModelForCausalLM.from_config(config).float().eval()


def loaded(model: Any, folder: Path) -> dict[str, Any]:
    """Our model and mlx-lm's, of the weights of torch's; mlx-lm's alone takes names and settings
    of before transformers 5."""
    from mlx_lm.utils import load_model

    ours, theirs = folder / "ours", folder / "theirs"
    language_model(model).save(ours)
    model.save_pretrained(theirs)
    config = json.loads((theirs / "config.json").read_text())
    config |= {key: value for key, value in config.get("rope_parameters", {}).items()}
    (theirs / "config.json").write_text(json.dumps(config))
    made = load_model(ours, trust_remote_code=True)[0], load_model(theirs)[0]
    return dict(zip(("torch2mlx", "mlx-lm"), made, strict=True))


def prompted(model: Any, prompt: mx.array) -> tuple[mx.array, list[Any]]:
    """The likeliest token after a prompt, and the caches."""
    from mlx_lm.models.cache import make_prompt_cache

    cache = make_prompt_cache(model)
    token = mx.argmax(model(prompt, cache=cache)[:, -1:], axis=-1)
    mx.eval(token)
    return token, cache


def decoding(model: Any, prompt: mx.array) -> Callable[[], None]:
    """Makes tokens one by one, after a prompt that has been taken in before."""
    token, cache = prompted(model, prompt)

    def run() -> None:
        now = token
        for _ in range(MADE):
            now = mx.argmax(model(now, cache=cache)[:, -1:], axis=-1)
            mx.eval(now)
        for held in cache:
            held.trim(MADE)

    return run


def memory(run: Callable[[], object]) -> int:
    """Bytes that MLX takes at most in a call, above those before it."""
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    run()
    return int(mx.get_peak_memory()) - before


def generating(folder: Path) -> Rows:
    """Prompts and tokens one by one, of 200 and of 2,000 tokens."""
    rows: Rows = []
    goals = (Goal(("mlx-lm",), 0.97),)
    for family in FAMILIES:
        models = loaded(model_of(family), folder / family)
        for length in PROMPTS:
            prompt = mx.random.randint(3, WORDS, (1, length))
            runs = {n: (lambda m=m, p=prompt: prompted(m, p)) for n, m in models.items()}
            rows += report(f"{family}, a prompt of {length}", runs, goals)
            most = {name: memory(run) for name, run in runs.items()}
            told = ", ".join(f"{name} {n / 1e6:.1f} MB" for name, n in most.items())
            print(f"  memory: {told}; {most['torch2mlx'] / most['mlx-lm']:.2f}")
            steps = {name: decoding(model, prompt) for name, model in models.items()}
            rows += report(f"{family}, {MADE} tokens after {length}", steps, goals)
    return rows
