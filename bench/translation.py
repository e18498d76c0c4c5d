"""Translating: what comes after torch.export, and how fast the emitted model runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import torch

from bench.measure import Goal, Rows, report
from bench.resnets import HandResNet50, ResNet50
from torch2mlx import translate
from torch2mlx.export.capture.freedom import Way
from torch2mlx.export.capture.trace import trace
from torch2mlx.export.lower.lower import lower
from torch2mlx.export.lower.parameters import Stored
from torch2mlx.export.passes import tidy
from torch2mlx.export.printing.emit import emit
from torch2mlx.export.structure.assemble import Assembly

PAGE = 4096
WAY = Way("all")


def llama(layers: int, width: int) -> tuple[torch.nn.Module, dict[str, object]]:
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


def after_export(model: torch.nn.Module, given: dict[str, object]) -> Callable[[], str]:
    """Lowering, tidying and printing what torch.export made."""
    traced = trace(model, (), given, WAY)

    def rest() -> str:
        stored = Stored(model)
        program = tidy(lower(traced, stored), stored.constants)
        assembly = Assembly(program, traced, stored, stored.tree)
        return emit(assembly, program, "", False, False)

    return rest


def translating(folder: Path) -> Rows:
    """Lowering, tidying and printing a Llama of 12 layers, beside torch.export of it."""
    model, given = llama(12, 64)
    contenders: dict[str, Callable[[], object]] = {
        "torch2mlx": after_export(model, given),
        "torch.export": lambda: trace(model, (), given, WAY),
    }
    return report("lower + tidy + emit", contenders, (Goal(("torch.export",), 4.0),))


def growing(folder: Path) -> Rows:
    """The same with 100 layers, beside four times what 25 take: it should grow with the layers."""
    few, many = (after_export(*llama(layers, 64)) for layers in (25, 100))
    contenders: dict[str, Callable[[], object]] = {
        "torch2mlx": many,
        "25 layers, 4 times": lambda: [few() for _ in range(4)],
    }
    goal = Goal(("25 layers, 4 times",), 0.8)
    return report("lower + tidy + emit of 100 layers", contenders, (goal,))


def running(folder: Path) -> Rows:
    """Forwards of the emitted Llama and ResNet-50 beside models written by hand."""
    return [*_llamas(), *_resnets()]


def _llamas() -> Rows:
    """The emitted Llama beside mlx-lm's own, on the same weights."""
    try:
        from mlx_lm.models.llama import Model, ModelArgs
    except ImportError:
        print("forward: mlx-lm is not installed")
        return []
    model, given = llama(4, 256)
    translation = translate(model, (), given, check=False)
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
    return _forwards("a Llama", "mlx-lm", lambda: ours(ids)["logits"], lambda: theirs(ids))


def _resnets() -> Rows:
    """The emitted ResNet-50 beside one written by hand, channels last, on the same weights."""
    torch.manual_seed(0)
    images = torch.randn(1, 3, 128, 128)
    translation = translate(ResNet50().eval(), (images,), io_layout="mlx", check=False)
    theirs = HandResNet50()
    theirs.load_weights(list(translation.weights.items()), strict=True)
    theirs.eval()
    x, ours = mx.array(images.permute(0, 2, 3, 1).numpy()), translation.module
    return _forwards("a ResNet-50", "by hand", lambda: ours(x), lambda: theirs(x))


def _forwards(
    what: str, peer: str, ours: Callable[[], mx.array], theirs: Callable[[], mx.array]
) -> Rows:
    """Seconds and peak bytes of two forwards that give the same numbers."""
    far = mx.max(mx.abs(ours() - theirs())).item()
    if far > 1e-4:
        raise AssertionError(f"{what}: the outputs are {far:.1e} apart")
    contenders: dict[str, Callable[[], object]] = {
        "torch2mlx": lambda: mx.eval(ours()),
        peer: lambda: mx.eval(theirs()),
    }
    rows = report(f"forward of {what}", contenders, (Goal((peer,), 1.0),), rounds=9)
    peaks = {name: peak(run) for name, run in contenders.items()}
    ratio = peaks[peer] / peaks["torch2mlx"]
    title = f"peak memory of {what}"
    print(f"\n{title}")
    for name, value in peaks.items():
        print(f"  {name:34} {value / 2**20:9.3f} MiB")
    print(f"  -> {ratio:6.3f} x {peer} (goal 1.0 x: {'reached' if ratio >= 1 else 'MISSED'})")
    return [*rows, {"case": title, "peer": peer, "ratio": ratio, "goal": 1.0}]


def peak(run: Callable[[], object]) -> int:
    """Bytes that MLX held at once while something ran, in whole pages."""
    mx.clear_cache()
    mx.reset_peak_memory()
    run()
    return int(mx.get_peak_memory()) // PAGE * PAGE
