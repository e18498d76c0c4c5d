"""Translating: what comes after torch.export, and how fast the emitted model runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import torch

from bench.measure import Goal, Rows, report
from torch2mlx import translate
from torch2mlx.graph.assemble import Assembly
from torch2mlx.graph.emit import emit
from torch2mlx.graph.lower import lower
from torch2mlx.graph.stored import Stored
from torch2mlx.graph.tidy import tidy
from torch2mlx.graph.trace import trace


def _llama(layers: int, width: int) -> tuple[torch.nn.Module, dict[str, object]]:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        vocab_size=1000,
    )
    ids = torch.randint(0, 1000, (2, 64))
    return LlamaForCausalLM(config).eval(), {"input_ids": ids, "use_cache": False}


def translating(folder: Path) -> Rows:
    """Lowering, tidying and printing a Llama of 12 layers, beside torch.export of it."""
    model, given = _llama(12, 64)
    traced = trace(model, (), given, True)

    def rest() -> None:
        stored = Stored(model)
        program = tidy(lower(traced, stored), stored.constants)
        emit(Assembly(program, traced, stored, stored.tree), program, "", False, False)

    contenders: dict[str, Callable[[], object]] = {
        "torch2mlx": rest,
        "torch.export": lambda: trace(model, (), given, True),
    }
    return report("lower + tidy + emit", contenders, (Goal(("torch.export",), 4.0),))


def running(folder: Path) -> Rows:
    """A forward of the emitted Llama beside mlx-lm's own, on the same weights."""
    try:
        from mlx_lm.models.llama import Model, ModelArgs
    except ImportError:
        print("forward: mlx-lm is not installed")
        return []
    model, given = _llama(4, 256)
    translation = translate(model, (), given)
    theirs = Model(
        ModelArgs(
            model_type="llama",
            hidden_size=256,
            num_hidden_layers=4,
            intermediate_size=512,
            num_attention_heads=8,
            num_key_value_heads=4,
            rms_norm_eps=1e-6,
            vocab_size=1000,
            rope_theta=10000.0,
            tie_word_embeddings=False,
        )
    )
    theirs.load_weights(list(translation.weights.items()), strict=True)
    ids, ours = mx.array(given["input_ids"].numpy()), translation.module
    contenders: dict[str, Callable[[], object]] = {
        "torch2mlx": lambda: mx.eval(ours(ids)["logits"]),
        "mlx-lm": lambda: mx.eval(theirs(ids)),
    }
    return report("forward of a Llama", contenders, (Goal(("mlx-lm",), 1.0),))
