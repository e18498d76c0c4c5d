"""Folders that transformers writes, converted, beside the modules that they were written from.

`python -m tests.zoo.folders` goes through the architectures of archs.txt, base model and head, and
prints what is wrong; the tests of the weights take a few.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.zoo.build import shrink

#: Parts that the sizes of tests/zoo/build.py leave large.
_SMALLER: dict[str, dict[str, Any]] = {
    "encodec": {"num_filters": 4, "hidden_size": 16, "codebook_dim": 16, "codebook_size": 16},
    "resnet": {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "embedding_size": 8},
    "wav2vec2": {"conv_dim": [8] * 7, "num_conv_pos_embeddings": 8},
}
_HEADS = (
    *("CAUSAL_LM", "MASKED_LM", "IMAGE_CLASSIFICATION", "SEQ_TO_SEQ_CAUSAL_LM", "CTC"),
    *("OBJECT_DETECTION", "AUDIO_CLASSIFICATION"),
)
_MOST_PARAMETERS = 4e7


def configuration(kind: str) -> Any:
    """A small configuration of a model type."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config = shrink(CONFIG_MAPPING[kind]())
    for name, value in _SMALLER.get(kind, {}).items():
        setattr(config, name, value)
    return config


def model_of(cls: Any, config: Any) -> Any:
    """A model whose tensors all differ: no two are tied but by the model itself."""
    import torch

    torch.manual_seed(0)
    model = cls._from_config(config).float().eval()
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data = 1 + torch.randn_like(tensor) / 10
    return model


def _holders(model: Any) -> dict[Any, list[tuple[Any, bool]]]:
    """(layer, whether by a parametrization) that hold a tensor, by its shape and bytes."""
    held: dict[Any, list[tuple[Any, bool]]] = {}
    for path, module in model.named_modules():
        above, inner, _ = f".{path}".partition(".parametrizations.")
        layer = model.get_submodule(above[1:]) if inner else module
        for own in (*module._parameters.values(), *module._buffers.values()):
            if own is not None:
                held.setdefault(_identity(own), []).append((layer, bool(inner)))
    return held


def _identity(tensor: Any) -> tuple[tuple[int, ...], bytes]:
    return tuple(tensor.shape), tensor.detach().cpu().numpy().tobytes()


def expected(model: Any, file: dict[str, Any]) -> dict[str, Any]:
    """Names and values that MLX should have, from torch's own classes.

    A name with a dot at its end and None: a layer whose tensors are not compared here.
    """
    held = _holders(model)
    wanted: dict[str, Any] = {}
    for key, tensor in file.items():
        found = held.get(_identity(tensor), [])
        wanted.update(
            _expected(key, tensor, [layer for layer, _ in found], any(p for _, p in found))
        )
    return wanted


def _expected(key: str, tensor: Any, layers: list[Any], part: bool) -> Iterator[tuple[str, Any]]:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    path, _, name = key.rpartition(".")
    is_a = lambda *kinds: bool(layers) and all(isinstance(m, kinds) for m in layers)
    patches = not layers and tensor.ndim == 5  # of a Linear, which is a Conv3d in the file
    if part:
        key = (key.partition(".parametrizations.")[0] if "parametri" in key else path) + ".weight"
        tensor = layers[0].weight.detach()
    if is_a(nn.LSTM, nn.GRU, nn.RNN):
        yield f"{path}.", None
    elif is_a(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d) and tensor.ndim > 2:
        yield key, _transposed(tensor, layers[0].groups)
    elif patches or (is_a(nn.Conv1d, nn.Conv2d, nn.Conv3d) and tensor.ndim > 2):
        yield key, tensor.movedim(1, -1)
    elif is_a(Conv1D) and tensor.ndim == 2:
        yield key, tensor.T
    elif is_a(nn.LayerNorm) and tensor.ndim > 1:
        yield key, tensor.reshape(-1)
    elif is_a(nn.MultiheadAttention) and name.startswith("in_proj"):
        for one, value in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
            yield f"{path}.{one}_proj.{name[8:]}", value
    elif name != "num_batches_tracked":
        yield key, tensor


def _transposed(tensor: Any, groups: int) -> Any:
    inputs, outputs, *kernel = tensor.shape
    apart = tensor.reshape(groups, inputs // groups, outputs, *kernel).movedim(1, -1)
    return apart.reshape(groups * outputs, *kernel, inputs // groups)


def problems(model: Any, folder: Path) -> list[str]:
    """What is wrong with the folder of a saved model, converted and turned back.

    Raises what `convert` raises.
    """
    import torch
    from safetensors.torch import load_file

    from torch2mlx import convert, load_converted, revert

    file = load_file(folder / "model.safetensors")
    out = folder.with_name("out.safetensors")
    convert(folder, out, on_unmapped="error")
    found = load_converted(out, framework="numpy", ties=False)
    wanted = expected(model, file)
    skipped = tuple(name for name, value in wanted.items() if value is None)
    rest = {name for name in found if not (skipped and name.startswith(skipped))}
    wrong = [f"name {n}" for n in rest ^ {n for n, v in wanted.items() if v is not None}]
    for name in rest & wanted.keys():
        value = wanted[name].numpy()
        if found[name].shape != value.shape or not np.allclose(found[name], value, 1e-6):
            wrong.append(f"value {name}")
    back = revert(out)
    same = back.keys() == file.keys() and all(torch.equal(back[k], file[k]) for k in file)
    return wrong if same else [*wrong, "does not turn back"]


def _classes(config: Any) -> Iterator[Any]:
    """The base model of a configuration, and one with a head."""
    from transformers.models.auto import modeling_auto as auto

    heads = [getattr(auto, f"MODEL_FOR_{name}_MAPPING") for name in _HEADS]
    for mappings in ([auto.MODEL_MAPPING], heads):
        named = next((m[type(config)] for m in mappings if type(config) in m), None)
        if named is not None:
            yield named[0] if isinstance(named, (tuple, list)) else named


def _saved(kinds: list[str], folder: Path) -> Iterator[Any]:
    """Models of these types that can be made and saved, and are small enough."""
    import torch

    for kind in kinds:
        try:
            for cls in _classes(configuration(kind)):
                with torch.device("meta"):
                    blank = cls._from_config(configuration(kind))
                if sum(p.numel() for p in blank.parameters()) < _MOST_PARAMETERS:
                    model = model_of(cls, configuration(kind))
                    shutil.rmtree(folder, ignore_errors=True)
                    model.save_pretrained(folder)
                    yield model
        except Exception as error:  # the sizes do not suit this one
            print(f"{kind}: not made: {error}"[:150], file=sys.stderr)


def main(kinds: list[str]) -> int:
    """Goes through model types; prints how many folders are right, refused and wrong."""
    import transformers

    from torch2mlx.errors import Torch2MLXError

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    counts = {"right": 0, "refused": 0, "wrong": 0}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "torch"
        for model in _saved(kinds, folder):
            try:
                wrong = problems(model, folder)
                counts["wrong" if wrong else "right"] += 1
            except Torch2MLXError as error:
                wrong = [str(error)]
                counts["refused"] += 1
            if wrong:
                print(f"{type(model).__name__}: {'; '.join(wrong[:3])}"[:300], file=sys.stderr)
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    return int(counts["wrong"] > 0)


if __name__ == "__main__":
    listed = (Path(__file__).parent / "archs.txt").read_text().split()
    sys.exit(main(sys.argv[1:] or listed))
