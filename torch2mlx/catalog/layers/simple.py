"""Linear layers, embeddings, identity, containers."""

from __future__ import annotations

from typing import Any

from torch2mlx.catalog.layers.twin import Twin, refused, taken, twin
from torch2mlx.catalog.weights.visible import shown
from torch2mlx.errors import Unsupported


@twin("Linear")
def linear(module: Any) -> Twin | Unsupported:
    """mlx.nn.Linear, whose constructor divides by the number of inputs."""
    if module.in_features == 0:
        return refused(module, "mlx.nn.Linear has no layer of no inputs")
    sizes = taken(module, {"input_dims": "in_features", "output_dims": "out_features"})
    return Twin("mlx.nn.Linear", {**sizes, "bias": module.bias is not None})


@twin("Bilinear")
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


@twin("Identity")
def identity(module: Any) -> Twin:
    """mlx.nn.Identity."""
    return Twin("mlx.nn.Identity")


def _unusual(module: Any) -> Unsupported | None:
    if module.max_norm is not None:
        return refused(module, "max_norm rewrites the weights in every forward pass")
    if module.scale_grad_by_freq:
        return refused(
            module, "scale_grad_by_freq changes gradients by counts that MLX does not keep"
        )
    return None


@twin("Embedding")
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


@twin("EmbeddingBag")
def embedding_bag(module: Any) -> Twin | Unsupported:
    """The kit's."""
    names = ("num_embeddings", "embedding_dim", "mode", "include_last_offset", "padding_idx")
    return _unusual(module) or Twin("torch2mlx.kit.EmbeddingBag", taken(module, names))


@twin("PReLU")
def prelu(module: Any) -> Twin:
    """The kit's, with torch's gradient at zero; several slopes are one for each channel."""
    arguments = {"num_parameters": module.num_parameters}
    several = module.num_parameters > 1
    return Twin("torch2mlx.kit.PReLU", arguments, "channels_last" if several else "same")


@twin("Sequential")
def sequential(module: Any) -> Twin:
    """mlx.nn.Sequential of the twins."""
    return Twin("mlx.nn.Sequential", children={"*": list(module)})


@twin("ModuleList", "ParameterList")
def module_list(module: Any) -> Twin:
    """A list of the twins, or of arrays."""
    return Twin("builtins.list", children={"*list": list(module)})


@twin("ModuleDict", "ParameterDict")
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


@twin("AdaptiveLogSoftmaxWithLoss")
def adaptive_log_softmax(module: Any) -> Twin:
    """The kit's."""
    arguments = {
        **taken(module, ("in_features", "n_classes", "div_value", "head_bias")),
        "cutoffs": tuple(module.cutoffs[:-1]),
    }
    return Twin("torch2mlx.kit.AdaptiveLogSoftmaxWithLoss", arguments)
