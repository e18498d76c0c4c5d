"""Checkpoints of very many small tensors: what each tensor costs, and whether that stays the same.

The bytes are few, so what is measured is the work on keys, shapes and rules. It is compared with
writing the same state dict as it is by safetensors.torch, and with itself at an eighth the size.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from bench.measure import Rows, seconds
from torch2mlx import convert

SIZES = (25_000, 50_000, 100_000, 200_000)
SHARDS = 4
RULES = {"**.conv": "Conv2d"}
PEER = "safetensors.torch.save_file"
#: Times safetensors' speed, and the share of the smallest size's speed that the largest keeps.
PACE, KEPT = 0.15, 0.8


class _Block(nn.Module):
    """Eight tensors, one of which has other axes in MLX."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 1), nn.LayerNorm(2)
        self.fc, self.up = nn.Linear(2, 2), nn.Linear(2, 2, bias=False)
        self.scale = nn.Parameter(torch.ones(2))


def _module(count: int) -> nn.Module:
    return nn.ModuleDict({"layers": nn.ModuleList(_Block() for _ in range(count // 8))})


def _folder(state: dict[str, torch.Tensor], folder: Path) -> Path:
    """The state dict as a folder of shards with an index."""
    folder.mkdir()
    items, places = list(state.items()), {}
    for i in range(SHARDS):
        name, part = f"model-{i + 1:05d}-of-{SHARDS:05d}.safetensors", dict(items[i::SHARDS])
        safetensors.torch.save_file(part, folder / name)
        places |= dict.fromkeys(part, name)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def _measured(count: int, folder: Path) -> dict[str, float]:
    """Seconds by what the tensors come from, and of safetensors."""
    folder.mkdir()
    module = _module(count)
    state = module.state_dict()
    file, shards = folder / "source.safetensors", _folder(state, folder / "source")
    safetensors.torch.save_file(state, file)
    sources: dict[str, tuple[Any, dict[str, Any]]] = {
        "dict": (state, {"rules": RULES}),
        "module": (module, {}),
        "file": (file, {"rules": RULES}),
        "folder": (shards, {"rules": RULES}),
        "float64": ({key: value.double() for key, value in state.items()}, {"rules": RULES}),
    }
    contenders: dict[str, Callable[[], object]] = {
        name: lambda name=name, source=source, options=options: convert(
            source, folder / (name if name == "folder" else f"{name}.safetensors"), **options
        )
        for name, (source, options) in sources.items()
    }
    contenders[PEER] = lambda: safetensors.torch.save_file(state, folder / "peer.safetensors")
    return seconds(contenders, 1 if count > SIZES[0] else 3, lambda: None)


def many(folder: Path) -> Rows:
    """25,000 to 200,000 tensors, from a dict, a module, a file, a folder and in float64."""
    print("\nmany tensors: seconds, and microseconds for each")
    found = {count: _measured(count, folder / str(count)) for count in SIZES}
    first, last = SIZES[0], SIZES[-1]
    rows: Rows = []
    for name in found[first]:
        taken = (f"{found[n][name]:8.2f} ({1e6 * found[n][name] / n:5.1f})" for n in SIZES)
        kept = found[first][name] / first * last / found[last][name]
        print(f"  {name:28} {' '.join(taken)}   keeps {kept:.2f} of its speed")
        if name != PEER:
            pace = found[last][PEER] / found[last][name]
            row = {"case": f"{last:,} tensors, {name}"}
            rows.append({**row, "peer": PEER, "ratio": pace, "goal": PACE})
            rows.append({**row, "peer": f"{first:,} tensors", "ratio": kept, "goal": KEPT})
    return rows
