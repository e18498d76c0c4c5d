"""The comparisons: weights to files, casts, key trees, loading."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.utils
import numpy as np
import safetensors.numpy
import safetensors.torch
import torch

from bench.casting import casts
from bench.generation import generating
from bench.many import many
from bench.measure import Goal, Rows, report
from bench.steps import steps
from bench.translation import growing, running, translating
from torch2mlx import _core, analyze, convert, flatten, load_converted, nest
from torch2mlx.analysis.records import flatten as flatten_modules

# the shapes of ResNet-50's convolutions, repeated to some 400 MB
SHAPES = (
    ((512, 512, 3, 3), 24),
    ((256, 256, 3, 3), 40),
    ((2048, 1024, 1, 1), 10),
    ((1024, 256, 1, 1), 20),
    ((64, 3, 7, 7), 2),
)
RULES = {"**": "Conv2d"}


def conv_weights() -> dict[str, np.ndarray]:
    """A conv-heavy float32 state dict."""
    random = np.random.default_rng(0)
    shapes = [shape for shape, count in SHAPES for _ in range(count)]
    return {
        f"layer.{i}.conv.weight": random.standard_normal(shape, dtype=np.float32)
        for i, shape in enumerate(shapes)
    }


def write_raw(path: Path, data: np.ndarray, sync: bool) -> None:
    """The same number of bytes, written as fast as write() takes them."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[: 1 << 26]) :]
    if sync:
        os.fsync(fd)
    os.close(fd)


def settled(folder: Path) -> Callable[[], None]:
    """Removes what was written and lets the disk come to rest."""

    def settle() -> None:
        for path in folder.iterdir():
            if path.name != "source.safetensors":
                path.unlink()
        os.sync()

    return settle


def synced(save: Callable[[], object], path: Path) -> Callable[[], None]:
    """A save, and the sync to disk that ours includes."""

    def run() -> None:
        save()
        with path.open("rb") as file:
            os.fsync(file.fileno())

    return run


def _moved(array: Any) -> Any:
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1))


def _mlx_save(path: Path, weights: dict[str, np.ndarray]) -> None:
    moved = {k: mx.contiguous(mx.array(v).transpose(0, 2, 3, 1)) for k, v in weights.items()}
    mx.save_safetensors(str(path), moved)


def memory_to_file(folder: Path) -> Rows:
    """A state dict in memory becomes a file."""
    weights = conv_weights()
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    total = sum(array.nbytes for array in weights.values())
    raw = np.concatenate([array.reshape(-1).view(np.uint8) for array in weights.values()])
    contenders: dict[str, Callable[[], object]] = {
        "torch2mlx": lambda: convert(weights, folder / "ours.safetensors", rules=RULES),
        "raw write, synced": lambda: write_raw(folder / "raw.bin", raw, True),
        "raw write, not synced": lambda: write_raw(folder / "raw.bin", raw, False),
    }
    saves: dict[str, Callable[[Path], object]] = {
        "numpy + safetensors": lambda path: safetensors.numpy.save_file(
            {k: _moved(v) for k, v in weights.items()}, path
        ),
        "torch + safetensors": lambda path: safetensors.torch.save_file(
            {k: v.permute(0, 2, 3, 1).contiguous() for k, v in tensors.items()}, path
        ),
        "mlx save": lambda path: _mlx_save(path, weights),
    }
    for name, save in saves.items():
        path = folder / f"{name.split()[0]}.safetensors"
        contenders[f"{name}, synced"] = synced(lambda s=save, p=path: s(p), path)
        contenders[f"{name}, not synced"] = lambda s=save, p=path: s(p)
    peers = tuple(f"{name}, synced" for name in saves)
    goals = (Goal(("raw write, synced",), 0.85), Goal(peers, 3.0))
    title = "memory -> file, conv-heavy float32 (ours is always synced to disk)"
    return report(title, contenders, goals, total, settle=settled(folder))


def _copy(source: Path, target: Path, sync: bool) -> None:
    shutil.copyfile(source, target)
    if sync:
        with target.open("rb") as file:
            os.fsync(file.fileno())


def file_to_file(folder: Path) -> Rows:
    """A file becomes a file: transposed, and as it is."""
    weights = conv_weights()
    source = folder / "source.safetensors"
    safetensors.numpy.save_file(weights, source)
    total = source.stat().st_size
    out = folder / "ours.safetensors"
    identity = {"**.weight": "identity"}
    rows: Rows = []
    for title, rules in (("convolutions transposed", RULES), ("copied as they are", identity)):
        contenders: dict[str, Callable[[], object]] = {
            "torch2mlx": lambda rules=rules: convert(source, out, rules=rules),
            "cp, synced": lambda: _copy(source, folder / "copy.bin", True),
            "cp, not synced": lambda: _copy(source, folder / "copy.bin", False),
        }
        goals = (Goal(("cp, synced",), 0.8),)
        rows += report(f"file -> file, {title}", contenders, goals, total, settle=settled(folder))
    return rows


def key_trees(folder: Path, blocks: int = 100, rounds: int = 5) -> Rows:
    """Dotted keys to a tree and back, a thousand for each block."""
    parts = ("attn.q", "attn.k", "attn.v", "mlp.up", "mlp.down")
    names = [
        f"block{b}.layers.{i}.{p}.weight" for b in range(blocks) for i in range(200) for p in parts
    ]
    flat = dict.fromkeys(names, 0)
    pairs = list(flat.items())
    tree = mlx.utils.tree_unflatten(pairs)
    assert nest(flat) == tree and list(flatten(tree).items()) == pairs
    nesting: dict[str, Callable[[], object]] = {
        "torch2mlx": lambda: nest(flat),
        "mlx.utils": lambda: mlx.utils.tree_unflatten(pairs),
    }
    flattening: dict[str, Callable[[], object]] = {
        "torch2mlx": lambda: flatten(tree),
        "mlx.utils": lambda: dict(mlx.utils.tree_flatten(tree)),
    }
    return [
        *report(f"nest {len(flat):,} keys", nesting, (Goal(("mlx.utils",), 20.0),), 0, rounds),
        *report(f"flatten {len(flat):,} keys", flattening, (Goal(("mlx.utils",), 5.0),), 0, rounds),
    ]


def loading(folder: Path) -> Rows:
    """Opening a converted gigabyte, and a converted megabyte of as many tensors."""
    paths = []
    for name, rows in (("large", 1 << 20), ("small", 1 << 10)):
        state = {f"w{i}": np.zeros((rows, 32), np.float32) for i in range(8)}
        paths.append(folder / f"{name}.safetensors")
        convert(state, paths[-1])
    contenders: dict[str, Callable[[], object]] = {
        "torch2mlx": lambda: load_converted(paths[0], framework="numpy"),
        "the same of a thousandth the size": lambda: load_converted(paths[1], framework="numpy"),
        "safetensors.numpy": lambda: safetensors.numpy.load_file(paths[0]),
    }
    goals = (Goal(("the same of a thousandth the size",), 0.5),)
    return report("load_converted of 1 GB, as numpy views", contenders, goals)


class _Block(torch.nn.Module):
    """Five modules of one layer of a Transformer, so to say."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = torch.nn.Linear(2, 2), torch.nn.ReLU()
        self.c, self.d = torch.nn.LayerNorm(2), torch.nn.Dropout()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.d(self.b(self.a(self.c(x))))


def analyzing(folder: Path) -> Rows:
    """10,000 modules: the whole analysis, and the part that runs in C."""
    with torch.device("meta"):
        model = torch.nn.Sequential(*(_Block() for _ in range(2000)))
    tree = flatten_modules(model)
    contenders: dict[str, Callable[[], object]] = {
        "torch2mlx": lambda: analyze(model),
        "rules in C": lambda: _core.analyze(tree.modules, tree.facts, len(tree.classes)),
        "model.state_dict(), for scale": lambda: model.state_dict(),
    }
    return report("analyze 10,000 modules", contenders, ())


CASES = (
    memory_to_file,
    file_to_file,
    casts,
    key_trees,
    loading,
    analyzing,
    many,
    translating,
    growing,
    running,
    steps,
    generating,
)
