"""Small good checkpoints of every kind, each a folder of files, for the mutation test."""

from __future__ import annotations

import argparse
import json
import shutil
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fuzz.seeds import legacy, tensor_pickle
from tests.checkpoint.source.builders import entry, pickled, safetensors, small_safetensors
from torch2mlx import convert

_ARRAY_RULES = {"conv": "Conv2d", "body.0": "Conv1d"}
_MODEL_RULES = {
    **_ARRAY_RULES,
    "norm": "BatchNorm2d",
    "rnn": "LSTM",
    "attention": "MultiheadAttention",
    "head": "Linear",
}


class Seed(NamedTuple):
    """Files of one checkpoint by name, the one that is opened ("": the folder), layer types."""

    name: str
    files: dict[str, bytes]
    opened: str
    rules: dict[str, str]


def _arrays() -> dict[str, Any]:
    draw = np.random.default_rng(0)
    return {
        "conv.weight": draw.standard_normal((2, 3, 2, 2)).astype(np.float32),
        "conv.bias": draw.standard_normal(2).astype(np.float16),
        "body.0.weight": draw.standard_normal((2, 2, 3)),
        "fc.weight": draw.standard_normal((3, 2)).astype(np.float32),
        "steps": np.array(7),
    }


def _model() -> Any:
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Module()
    model.conv = nn.Conv2d(3, 2, 2)
    model.norm = nn.BatchNorm2d(2)
    model.body = nn.ModuleList([nn.Conv1d(2, 2, 3)])
    model.rnn = nn.LSTM(2, 2)
    model.attention = nn.MultiheadAttention(2, 1)
    model.fc = nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
    model.head = nn.Linear(2, 3)
    model.head.weight = nn.Parameter(torch.ones(3, 2).double())
    model.tied = model.head
    return model


def _read(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def _plain() -> Iterator[Seed]:
    header = {"__metadata__": None, "w": entry("F32", (1, 2), 0, 8), "n": entry("I64", (), 8, 16)}
    foreign = {"w": entry("BF16", (2,), 0, 4), "s": entry("F8_E8M0", (2,), 4, 6)}
    yield Seed(
        "safetensors", {"a.safetensors": small_safetensors()}, "a.safetensors", {"*": "identity"}
    )
    yield Seed(
        "by mlx",
        {"a.safetensors": safetensors(header, bytes(16))},
        "a.safetensors",
        {"*": "identity"},
    )
    yield Seed(
        "foreign",
        {"a.safetensors": safetensors(foreign, bytes(6))},
        "a.safetensors",
        {"*": "identity"},
    )
    yield Seed("zip by hand", {"a.pt": pickled(tensor_pickle())}, "a.pt", {"*": "identity"})
    yield Seed("legacy by hand", {"a.pt": legacy()}, "a.pt", {"*": "identity"})


def _converted(work: Path) -> Iterator[Seed]:
    convert(_arrays(), work / "plain.safetensors", rules=_ARRAY_RULES)
    convert(_model(), work / "model.safetensors", on_unmapped="ignore")
    files = _read(work)
    for name in ("plain", "model"):
        own = {key: data for key, data in files.items() if key.startswith(name)}
        yield Seed(f"converted {name}", own, f"{name}.safetensors", {})
    convert(_model(), work / "shards", shard_size="200B", on_unmapped="ignore")
    yield Seed("converted shards", _read(work / "shards"), "", {})


def _folders(_: Path) -> Iterator[Seed]:
    from safetensors.numpy import save

    arrays = _arrays()
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    halves = [dict(list(arrays.items())[:3]), dict(list(arrays.items())[3:])]
    files = {name: save(half, {"format": "pt"}) for name, half in zip(names, halves, strict=True)}
    weights = {key: name for name, half in zip(names, halves, strict=True) for key in half}
    index = {"metadata": {"total_size": sum(a.nbytes for a in arrays.values())}}
    text = json.dumps({**index, "weight_map": weights}).encode()
    yield Seed(
        "folder with an index", {**files, "model.safetensors.index.json": text}, "", _ARRAY_RULES
    )
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4}
    config |= {"num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4}
    llama = {
        "model.embed_tokens.weight": np.ones((8, 4), np.float32),
        "model.norm.weight": np.ones(4),
    }
    told = {"config.json": json.dumps(config).encode(), "model.safetensors": save(llama)}
    yield Seed("folder with a config", told, "", {})
    yield Seed("file beside a config", told, "model.safetensors", {})


def _saved(work: Path) -> Iterator[Seed]:
    import torch

    state = _model().state_dict()
    shared = torch.arange(12.0)
    whole = {
        "epoch": 3,
        "state_dict": state,
        "args": argparse.Namespace(lr=0.1, betas=(0.9, 0.99)),
        "optimizer": {"state": {0: {"step": 1}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    }
    views = OrderedDict(a=shared[2:8].view(2, 3).t(), b=shared[::2], c=shared[:0], d=shared[3])
    odd = {
        "array": np.arange(4, dtype=np.float32),
        "list": [torch.ones(2), torch.zeros(2, 2)],
        "deep": {"er": {"w": torch.ones((), dtype=torch.bfloat16)}, 1: "x"},
        "optimizer": {"state": {0: torch.eye(2).to_sparse()}, "param_groups": []},
        "lazy": torch.ones(2, dtype=torch.complex64).conj(),
        "swapped": np.ones((2, 2), ">f4"),
        "path": Path("opaque"),
        "none": None,
        "big": 2**70,
        "set": {1, 2},
    }
    rules = {name: _MODEL_RULES for name in ("state", "whole")}
    rules |= {name: {"*": "identity"} for name in ("views", "odd")}
    objects = {"state": state, "whole": whole, "views": views, "odd": odd}
    for name, value in objects.items():
        for protocol in (2, 4):
            path = work / f"{name}{protocol}.pt"
            torch.save(value, path, pickle_protocol=protocol)
            yield Seed(
                f"torch {name} {protocol}", {path.name: path.read_bytes()}, path.name, rules[name]
            )
        path = work / f"{name}.legacy.pt"
        torch.save(value, path, _use_new_zipfile_serialization=False)
        yield Seed(f"torch {name} legacy", {path.name: path.read_bytes()}, path.name, rules[name])
    parts = {"pytorch_model.bin": (work / "state2.pt").read_bytes()}
    yield Seed("folder of a bin", parts, "", _MODEL_RULES)


def seeds(work: Path) -> list[Seed]:
    """All seeds; `work` is an empty folder that is filled and left empty."""
    made = list(_plain())
    for kind in (_converted, _folders, _saved):
        place = work / kind.__name__
        place.mkdir()
        made += kind(place)
        shutil.rmtree(place)
    return made
