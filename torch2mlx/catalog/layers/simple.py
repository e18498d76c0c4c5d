"""Linear layers, embeddings, identity, containers."""

from __future__ import annotations

from typing import Any

from torch2mlx.catalog.layers.entry import Twin, layer, made_of, refused, taken
from torch2mlx.catalog.weights.visible import shown
from torch2mlx.errors import Code, Unsupported
from torch2mlx.types import ModuleRecord


def linear(module: Any) -> Twin | Unsupported:
    """mlx.nn.Linear, whose constructor divides by the number of inputs."""
    if module.in_features == 0:
        return refused(module, "mlx.nn.Linear has no layer of no inputs")
    sizes = taken(module, {"input_dims": "in_features", "output_dims": "out_features"})
    return Twin("mlx.nn.Linear", {**sizes, "bias": module.bias is not None})


def bilinear(module: Any) -> Twin | Unsupported:
    """mlx.nn.Bilinear, whose constructor divides by the number of inputs."""
    if module.in1_features == 0:
        return refused(module, "mlx.nn.Bilinear has no layer of no inputs")
    names = {
        "input1_dims": "in1_features",
        "input2_dims": "in2_features",
        "output_dims": "out_features",
    }
    return Twin("mlx.nn.Bilinear", {**taken(module, names), "bias": module.bias is not None})


def _unusual(module: Any) -> Unsupported | None:
    if module.max_norm is not None:
        return refused(module, "max_norm rewrites the weights in every forward pass")
    if module.scale_grad_by_freq:
        told = "scale_grad_by_freq changes gradients by counts that MLX does not keep"
        return refused(module, told, Code.NO_LOWERING)
    return None


def embedding(module: Any) -> Twin | Unsupported:
    """mlx.nn.Embedding; the kit's where the padding row gets no gradient."""
    sizes = taken(module, ("num_embeddings", "embedding_dim"))
    refused = _unusual(module)
    if refused:
        return refused
    if module.padding_idx is not None:
        arguments = {**sizes, "padding_idx": module.padding_idx}
        return Twin("torch2mlx.kit.Embedding", arguments)
    named = {"num_embeddings": module.num_embeddings, "dims": module.embedding_dim}
    return Twin("mlx.nn.Embedding", named)


def embedding_bag(module: Any) -> Twin | Unsupported:
    """The kit's."""
    names = ("num_embeddings", "embedding_dim", "mode", "include_last_offset", "padding_idx")
    return _unusual(module) or Twin("torch2mlx.kit.EmbeddingBag", taken(module, names))


def prelu(module: Any) -> Twin:
    """The kit's, with torch's gradient at zero; several slopes are one for each channel."""
    arguments = {"num_parameters": module.num_parameters}
    several = module.num_parameters > 1
    return Twin("torch2mlx.kit.PReLU", arguments, "channels_last" if several else "same")


def sequential(module: Any) -> Twin:
    """mlx.nn.Sequential of the twins."""
    return Twin("mlx.nn.Sequential", children={"*": list(module)})


def module_list(module: Any) -> Twin:
    """A list of the twins, or of arrays."""
    return Twin("builtins.list", children={"*list": list(module)})


def module_dict(module: Any) -> Twin:
    """A dict of the twins, or of arrays; those with numbers for keys are a list in it."""
    items = dict(module.items())
    modules = {key: item for key, item in items.items() if hasattr(item, "forward")}
    numbered = [item for key, item in modules.items() if key.isdigit()]
    others = [key for key in items if not (key in modules and key.isdigit())]
    names = shown(others, tuple(items))
    children = {names.get(key, key): items[key] for key in others}
    return Twin(
        "builtins.dict", children={**({"layers": numbered} if numbered else {}), **children}
    )


def adaptive_log_softmax(module: Any) -> Twin:
    """The kit's."""
    arguments = {
        **taken(module, ("in_features", "n_classes", "div_value", "head_bias")),
        "cutoffs": tuple(module.cutoffs[:-1]),
    }
    return Twin("torch2mlx.kit.AdaptiveLogSoftmaxWithLoss", arguments)


def sequential_children(record: ModuleRecord) -> dict[str, str]:
    """mlx.nn.Sequential keeps its modules in a list called layers."""
    if record.options.get("from_keys"):  # modules without tensors are not seen
        return {name: f"layers.{name}" for name in record.children}
    return {name: f"layers.{i}" for i, name in enumerate(record.children)}


layer(
    "Linear",
    linear,
    mlx="mlx.nn.{name}",
    tensors={"weight": "out in", "bias": "out"},
    source="nn",
    renamed={"in_features": "input_dims", "out_features": "output_dims"},
)
layer(
    "Bilinear",
    bilinear,
    mlx="mlx.nn.{name}",
    weights={"weight": "o a b -> o b a"},
    tensors={"weight": "out in1 in2", "bias": "out"},
    source="nn",
    renamed={
        "in1_features": "input1_dims",
        "in2_features": "input2_dims",
        "out_features": "output_dims",
    },
)
layer("Identity", made_of("mlx.nn.Identity"), mlx="mlx.nn.{name}", source="nn")
layer(
    "Embedding",
    embedding,
    mlx="mlx.nn.{name}",
    general="torch2mlx.kit.{name}",
    tensors={"weight": "count size"},
)
layer(
    "EmbeddingBag",
    embedding_bag,
    mlx="torch2mlx.kit.{name}",
    native="torch2mlx.kit.{name}",
    tensors={"weight": "count size"},
    source="kit",
)
layer(
    "PReLU",
    prelu,
    mlx="torch2mlx.kit.{name}",
    native="mlx.nn.{name}",
    tensors={"weight": "count"},
    images="flexible",
)
layer(
    "AdaptiveLogSoftmaxWithLoss",
    adaptive_log_softmax,
    mlx="torch2mlx.kit.{name}",
    native="torch2mlx.kit.{name}",
    source="kit",
)
layer(
    "Sequential",
    sequential,
    mlx="mlx.nn.{name}",
    children=sequential_children,
    container=True,
    source="nn",
)
layer("ModuleList", module_list, mlx="builtins.list", container=True, source="list")
layer("ModuleDict", module_dict, mlx="builtins.dict", container=True, source="kit.layers")
layer("ParameterList", module_list, mlx="builtins.list", tensors=None, source="list")
layer(
    "ParameterDict", module_dict, mlx="builtins.dict", tensors=None, source="kit.layers.ModuleDict"
)
layer(
    "transformers.pytorch_utils.Conv1D",
    mlx="mlx.nn.Linear",
    weights={"weight": "i o -> o i"},
    tensors={"weight": "in out", "bias": "out"},
)
