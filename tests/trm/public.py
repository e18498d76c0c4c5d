"""The public TinyRecursiveModels source beside its port: found, ported, imported, paired.

The repository holds no copy of it: it is taken from TRM_SOURCE, or from shared/trm_source beside
the repository.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent.parent
VARIANTS = ("trm", "trm_singlez", "trm_hier6", "hrm", "transformers_baseline")
#: Small enough for a test, large enough for every path.
TINY = {
    **{"batch_size": 4, "seq_len": 16, "vocab_size": 11, "num_puzzle_identifiers": 5},
    **{"hidden_size": 32, "num_heads": 4, "expansion": 4, "pos_encodings": "rope"},
    **{"puzzle_emb_ndim": 32, "puzzle_emb_len": 2, "H_cycles": 2, "L_cycles": 2},
    **{"H_layers": 1, "L_layers": 2, "halt_max_steps": 4, "halt_exploration_prob": 0.0},
    "forward_dtype": "float32",
}


def source() -> Path | None:
    """Where the public source is; None when it is nowhere."""
    named = os.environ.get("TRM_SOURCE")
    found = Path(named) if named else ROOT.parent / "shared" / "trm_source"
    return found if (found / "models").is_dir() else None


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """`models` is that of one folder; what was imported of it is forgotten afterwards."""
    names = lambda: [n for n in sys.modules if n.split(".")[0] == "models"]
    for name in names():
        del sys.modules[name]
    sys.path.insert(0, str(root))
    try:
        yield
    finally:
        sys.path.remove(str(root))
        for name in names():
            del sys.modules[name]


def imported(root: Path, variant: str) -> SimpleNamespace:
    """The modules of a folder that has `models`, and the class of the whole model."""
    with _alone(root):
        modules = {
            name: importlib.import_module(f"models.{name}")
            for name in ("losses", "sparse_embedding", "ema", "common", "layers")
        }
        model = importlib.import_module(f"models.recursive_reasoning.{variant}")
    return SimpleNamespace(**modules, model=model, whole=_whole(model))


def _whole(module: ModuleType) -> Any:
    """The one class that makes a carry."""
    made = [v for v in vars(module).values() if isinstance(v, type) and "initial_carry" in vars(v)]
    (only,) = made
    return only


@dataclass
class Pair:
    """A model with its loss in both frameworks, with the same weights."""

    torch: Any
    mlx: Any
    ours: SimpleNamespace
    theirs: SimpleNamespace


def pair(ported: Path, variant: str, seed: int = 0, random: bool = True, **more: Any) -> Pair:
    """Both, from the torch model's weights; `random` draws what starts as zero or constant."""
    import mlx.core as mx
    import torch

    from torch2mlx import kit

    given = source()
    assert given is not None
    theirs, ours = imported(given, variant), imported(ported, variant)
    options = {**TINY, **more}
    torch.manual_seed(seed)
    model = theirs.losses.ACTLossHead(theirs.whole(options), "stablemax_cross_entropy")
    if random:
        with torch.no_grad():
            model.model.inner.puzzle_emb.weights.normal_()
            model.model.inner.q_head.weight.normal_(0, 0.5)
            model.model.inner.q_head.bias.fill_(-0.2)
    twin = ours.losses.ACTLossHead(ours.whole(options), "stablemax_cross_entropy")
    state = {name: array(value) for name, value in model.state_dict().items()}
    kit.files.load_state_dict(twin, state, strict=True)
    mx.eval(twin.parameters())
    return Pair(model, twin, ours, theirs)


def array(value: Any) -> Any:
    """A torch tensor as an MLX array, bit for bit."""
    from torch2mlx.export.ir.structures import to_mlx

    return to_mlx(value.detach())


def batch(seed: int = 0, **more: Any) -> dict[str, np.ndarray]:
    """Inputs, labels with some left out, and ids with one twice."""
    options, draw = {**TINY, **more}, np.random.default_rng(seed)
    shape = (options["batch_size"], options["seq_len"])
    labels = draw.integers(1, options["vocab_size"], shape).astype(np.int32)
    labels[:, :3] = -100
    ids = draw.integers(0, options["num_puzzle_identifiers"], shape[0]).astype(np.int32)
    ids[1] = ids[0]
    inputs = draw.integers(1, options["vocab_size"], shape).astype(np.int32)
    return {"inputs": inputs, "labels": labels, "puzzle_identifiers": ids}


def in_torch(given: dict[str, np.ndarray]) -> dict[str, Any]:
    """A batch as tensors."""
    import torch

    return {name: torch.from_numpy(value.copy()) for name, value in given.items()}


def in_mlx(given: dict[str, np.ndarray]) -> dict[str, Any]:
    """A batch as arrays."""
    import mlx.core as mx

    return {name: mx.array(value) for name, value in given.items()}


class Draws:
    """The same random numbers for both frameworks, in the order in which they are asked for."""

    def __init__(self, monkeypatch: Any, seed: int = 0) -> None:
        import mlx.core as mx
        import torch

        from torch2mlx import kit

        self._torch, self._mlx = (np.random.default_rng(seed) for _ in range(2))
        put = monkeypatch.setattr
        put(torch, "rand_like", lambda x: torch.from_numpy(self._uniform(self._torch, x.shape)))
        put(torch, "randint_like", self._integers_of_torch)
        put(mx.random, "uniform", lambda shape, dtype: mx.array(self._uniform(self._mlx, shape)))
        put(kit.tensors, "randint", self._integers_of_mlx)

    def _uniform(self, draw: Any, shape: Any) -> np.ndarray:
        return draw.random(tuple(shape)).astype(np.float32)

    def _integers_of_torch(self, x: Any, low: int, high: int) -> Any:
        import torch

        return torch.from_numpy(self._torch.integers(low, high, tuple(x.shape)).astype(np.int32))

    def _integers_of_mlx(self, low: int, high: int, shape: Any, dtype: Any) -> Any:
        import mlx.core as mx

        return mx.array(self._mlx.integers(low, high, tuple(shape)).astype(np.int32))
