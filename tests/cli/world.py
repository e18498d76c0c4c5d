"""A folder with everything that the bad command lines of `bad_inputs` speak of."""

import json
import os
import shutil
import struct
import warnings
from pathlib import Path

import numpy as np

from torch2mlx import convert, revert
from torch2mlx.common.optional import installed

CONV = {"net.conv1.weight": np.ones((4, 3, 2, 2), np.float32), "net.fc.bias": np.ones(2, "f4")}
LSTM = {
    "weight_ih_l0": np.ones((8, 3), np.float32),
    "weight_hh_l0": np.ones((8, 2), np.float32),
    "bias_ih_l0": np.ones(8, np.float32),
    "bias_hh_l0": np.ones(8, np.float32),
}
NETS = """\
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(3, 2)

    def forward(self, x, y=None):
        return self.fc(x)


class Raising(torch.nn.Module):
    def forward(self, x):
        raise KeyError("mine")


class Unlowered(torch.nn.Module):
    def forward(self, x):
        return torch.geqrf(x)[0]


class Branching(torch.nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def ok():
    torch.manual_seed(0)
    return Net().eval(), (torch.ones(2, 3),)


def other():
    torch.manual_seed(1)
    return Net().eval(), (torch.ones(2, 3),)


def alone():
    return Net()


def five():
    return 5, (torch.ones(2, 3),)


def kind():
    return Net, (torch.ones(2, 3),)


def state():
    return Net().state_dict(), (torch.ones(2, 3),)


def takes(n):
    return n


def nothing():
    pass


def boom():
    raise RuntimeError("mine")


def quits():
    raise SystemExit(3)


def kwargs_list():
    return Net().eval(), (torch.ones(2, 3),), [1]


def wrong_shape():
    return Net().eval(), (torch.ones(2, 4),)


def too_many():
    return Net().eval(), (torch.ones(2, 3),) * 3


def too_few():
    return Net().eval(), ()


def strange_name():
    return Net().eval(), (torch.ones(2, 3),), {"yy": torch.ones(1)}


def lists():
    return Net().eval(), ([[1.0, 2.0, 3.0]],)


def text():
    return Net().eval(), ("text",)


def meta():
    with torch.device("meta"):
        return Net().eval(), (torch.ones(2, 3),)


def lazy():
    return torch.nn.LazyLinear(2), (torch.ones(2, 3),)


def script():
    return torch.jit.script(Net().eval()), (torch.ones(2, 3),)


def raising():
    return Raising(), (torch.ones(2, 3),)


def unlowered():
    return Unlowered(), (torch.ones(3, 3),)


def branching():
    return Branching(), (torch.ones(3, 3),)


three = 3
"""
BERT = {"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 8, "hidden_size": 4}
BERT |= {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 4}
BERT |= {"max_position_embeddings": 8}


def build(folder: Path) -> None:
    """Fills an empty folder, which is the current one."""
    _weights()
    _broken()
    _folders()
    _sources()
    if installed("torch"):
        _of_torch()
    if installed("torch") and installed("mlx"):
        _translated()


def _weights() -> None:
    convert(CONV, "mlx.safetensors", rules={"net.conv1": "Conv2d", "net.fc": "Linear"})
    revert("mlx.safetensors", "conv.safetensors")
    convert(LSTM, "lstm.safetensors", rules={"": {"type": "LSTM", "input_size": 3}})
    convert(LSTM, "lost.safetensors", rules={"": {"type": "LSTM", "input_size": 3}})
    os.unlink("lost.torch.safetensors")
    np.savez("arrays.npz", x=np.ones(2))
    np.save("array.npy", np.ones(2))
    np.savez("strange.npz", **{"net.conv1.weight": np.ones((5, 2, 2, 3), "f4")})
    np.savez("more.npz", **{"net.conv1.weight": np.ones((4, 2, 2, 3), "f4"), "z": np.ones(1)})


def _safetensors(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def _broken() -> None:
    whole, marked = Path("conv.safetensors").read_bytes(), Path("mlx.safetensors").read_bytes()
    random = np.random.default_rng(0).bytes(300)
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    files = {
        "empty.safetensors": b"",
        "half.safetensors": whole[:-40],
        "short.safetensors": whole[:30],
        "random.safetensors": random,
        "text.safetensors": b"these are no weights at all",
        "json.safetensors": _safetensors(b"{oops}  "),
        "list.safetensors": _safetensors(b"[1, 2]  "),
        "overlap.safetensors": _safetensors(
            json.dumps({"a": entry, "b": entry}).encode(), b"1" * 8
        ),
        "dtype.safetensors": _safetensors(
            json.dumps({"a": {**entry, "dtype": "F9"}}).encode(), b"1" * 8
        ),
        "cut.safetensors": marked[:-40],
        "damaged.safetensors": marked.replace(b'"version\\":', b'"versiom\\":', 1),
        "empty.pth": b"",
        "random.pth": random,
        "text.pth": b"these are no weights at all",
        "zip.pth": b"PK\x03\x04" + random,
        "weights.gguf": b"GGUF" + random,
        "model.onnx": b"\x08\x07" + random,
        "model.h5": b"\x89HDF\r\n\x1a\n" + random,
        "x.txt": b"text",
        "mine.safetensors": b"mine",
        "mine.html": b"mine",
        "mine.py": b"mine",
    }
    for name, raw in files.items():
        Path(name).write_bytes(raw)


def _folders() -> None:
    whole = Path("conv.safetensors").read_bytes()
    for name in (
        "hollow",
        "texts",
        "sharded",
        "badindex",
        "badconfig",
        "unknown",
        "adapter",
        "twice",
    ):
        Path(name).mkdir()
    Path("texts/x.txt").write_text("text")
    index = {"weight_map": {"net.conv1.weight": "a.safetensors", "x": "b.safetensors"}}
    Path("sharded/model.safetensors.index.json").write_text(json.dumps(index))
    Path("sharded/a.safetensors").write_bytes(whole)
    Path("badindex/model.safetensors.index.json").write_text("{")
    for name in ("badconfig", "unknown", "adapter", "twice"):
        Path(name, "model.safetensors").write_bytes(whole)
    Path("badconfig/config.json").write_text("{")
    Path("unknown/config.json").write_text(json.dumps({"model_type": "no-such", "auto_map": {}}))
    Path("adapter/adapter_config.json").write_text("{}")
    Path("twice/other.safetensors").write_bytes(whole)
    Path("mine").mkdir()
    Path("mine/model.safetensors").write_text("mine")
    Path("mine/model.py").write_text("mine")
    Path("mine/x.py").write_text("mine")
    for name, more in (("bert", {}), ("quantized", {"quantization_config": {"bits": 4}})):
        Path(name).mkdir()
        Path(name, "config.json").write_text(json.dumps({**BERT, **more}))
        Path(name, "model.safetensors").write_bytes(whole)
    Path("weightless").mkdir()
    Path("weightless/config.json").write_text(json.dumps(BERT))


def _sources() -> None:
    Path("nets.py").write_text(NETS)
    files = {
        "syntax.py": b"def f(:\n",
        "imports.py": b"import not_there_either\n\n\ndef f():\n    pass\n",
        "binary.py": b"\xff\xfe\x00\x01",
        "latin.py": b"\n# caf\xe9\n",
        "nul.py": b"import torch\nx = '\0'\n",
        "coding.py": b"# coding: klingon\n",
        "two.py": b'print "x"\n',
        "tabs.py": b"if 1:\n\tx = 1\n        y = 2\n",
        "broken.ipynb": b"{oops",
        "list.ipynb": b"[1]",
        "kind.ipynb": b'{"cells": 5}',
        "x.py": b"import torch\nx = torch.ones(3)\n",
        "left.py": b"import torch\nx = torch.optim.SparseAdam([])\n",
        "plain.py": b"import os\n",
    }
    for name, raw in files.items():
        Path(name).write_bytes(raw)
    for name in ("scripts", "faulty"):
        Path(name).mkdir()
        Path(name, "x.py").write_bytes(files["x.py"])
    Path("faulty/bad.py").write_bytes(files["syntax.py"])


def _of_torch() -> None:
    import torch

    flat = {"a.weight": torch.ones(2)}
    torch.save(flat, "flat.pt")
    torch.save({"ema": flat, "raw": {"b.weight": torch.ones(2)}}, "nested.pt")
    torch.save({"lr": 0.1, "name": "x"}, "settings.pt")
    torch.save(torch.nn.Linear(2, 2), "whole.pt")
    torch.save({"x": torch.ones(2).to_sparse()}, "sparse.pt")
    torch.save({"x": torch.ones(2, dtype=torch.complex128)}, "complex.pt")
    torch.save({1: torch.ones(2), "1": torch.ones(2)}, "numbers.pt")
    torch.save({"a": torch.ones(2), "a.b": torch.ones(2)}, "collision.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that it will drop these
        torch.save({"x": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}, "qint.pt")
    torch.save(torch.ones(2), "single.pt")
    Path("half.pth").write_bytes(Path("flat.pt").read_bytes()[:-200])
    raw = bytearray(Path("flat.pt").read_bytes())
    place = raw.index(torch.ones(2).numpy().tobytes())
    raw[place] ^= 1
    Path("flipped.pt").write_bytes(raw)


def _translated() -> None:
    from torch2mlx.cli import main

    for name in ("t", "unweighted"):
        assert main(["translate", "nets.py:ok", name, "-q"]) == 0
    os.unlink("unweighted/weights.safetensors")
    for name, text in (("edited", "def load(:\n"), ("bare", "x = 1\n"), ("stolen", "import os\n")):
        shutil.copytree("t", name)
        Path(name, "model.py").write_text(text)
