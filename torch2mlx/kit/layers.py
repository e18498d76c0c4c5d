"""torch.nn's layers and losses with torch's constructors, where mlx.nn has other arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from torch2mlx.kit import activations, ctc, distance, dropout, losses, recurrent, transformer
from torch2mlx.kit.functional import embedding


class Embedding(nn.Module):
    """torch.nn.Embedding: starts as torch does, normal with deviation 1. weight: (V, D)."""

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, **_: Any
    ) -> None:
        super().__init__()
        self.weight = mx.random.normal((num_embeddings, embedding_dim))
        self._padding = padding_idx
        if padding_idx is not None:
            self.weight[padding_idx] = 0.0

    def __call__(self, indices: mx.array) -> mx.array:
        return embedding(indices, self.weight, self._padding)


class _Trained:
    """A recurrent layer with both of torch's biases, which training moves apart."""

    def __init__(self, *args: Any, **options: Any) -> None:
        layer: Any = super()  # of the class that this is mixed into
        layer.__init__(*args, both_biases=True, **options)


class RNN(_Trained, recurrent.RNN):
    """torch.nn.RNN."""


class LSTM(_Trained, recurrent.LSTM):
    """torch.nn.LSTM."""


class GRU(_Trained, recurrent.GRU):
    """torch.nn.GRU."""


class RNNCell(_Trained, recurrent.RNNCell):
    """torch.nn.RNNCell."""


class LSTMCell(_Trained, recurrent.LSTMCell):
    """torch.nn.LSTMCell."""


class GRUCell(_Trained, recurrent.GRUCell):
    """torch.nn.GRUCell."""


class ModuleDict(nn.Module):
    """torch.nn.ModuleDict and ParameterDict: members by key, and as attributes."""

    def __init__(self, members: Any = ()) -> None:
        super().__init__()
        for name, member in dict(members).items():
            self[name] = member


class Sequential(nn.Sequential):
    """torch.nn.Sequential of a dict: layers in turn, which are attributes by their keys too."""

    def __init__(self, layers: Mapping[str, Any] | None = None) -> None:
        named = dict(layers or {})
        self.__dict__["_layer_names"] = list(named)
        super().__init__(*named.values())

    def __getattr__(self, key: str) -> Any:
        names = self.__dict__["_layer_names"]
        return self.layers[names.index(key)] if key in names else super().__getattr__(key)

    def __setattr__(self, key: str, value: Any) -> None:
        if key in self.__dict__["_layer_names"]:
            self.layers[self.__dict__["_layer_names"].index(key)] = value
        else:
            super().__setattr__(key, value)


class Flatten(nn.Module):
    """torch.nn.Flatten: all axes but the first."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self._start, self._end = start_dim, end_dim

    def __call__(self, x: mx.array) -> mx.array:
        return mx.flatten(x, self._start, self._end)


class Unflatten(nn.Module):
    """torch.nn.Unflatten: one axis becomes several."""

    def __init__(self, dim: int, unflattened_size: Any) -> None:
        super().__init__()
        self._dim, self._size = dim, tuple(unflattened_size)

    def __call__(self, x: mx.array) -> mx.array:
        return mx.unflatten(x, self._dim, self._size)


class _Options(nn.Module):
    """A function and the options of its constructor, by place or by name."""

    _function: Any
    _names: tuple[str, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        given = {**dict(zip(self._names, args, strict=False)), **kwargs}
        self._given = {("axis" if k == "dim" else k): v for k, v in given.items()}
        if self._given.get("weight") is not None:
            self._given["weight"] = mx.array(self._given["weight"])


class _Plain(_Options):
    """A layer that acts alike in training and after it."""

    def __call__(self, *inputs: mx.array) -> mx.array:
        return type(self)._function(*inputs, **self._given)


class _Random(_Options):
    """A layer that acts in training only."""

    def __call__(self, x: mx.array) -> mx.array:
        return type(self)._function(x, training=self.training, **self._given)


def _layer(name: str, function: Any, names: str = "", base: type = _Plain) -> Any:
    body = {"_function": staticmethod(function), "_names": tuple(names.split())}
    text = f"torch.nn.{name}, with torch's arguments."
    return type(name, (base,), {**body, "__doc__": text, "__module__": __name__})


_OLD = "size_average reduce reduction"
_TABLE: tuple[tuple[Any, ...], ...] = (
    ("Softmax", activations.softmax, "dim"),
    ("LogSoftmax", activations.log_softmax, "dim"),
    ("Softmin", activations.softmin, "dim"),
    ("GELU", activations.gelu, "approximate"),
    ("ReLU6", activations.relu6),
    ("SELU", activations.selu),
    ("Mish", activations.mish),
    ("LogSigmoid", activations.logsigmoid),
    ("Softsign", activations.softsign),
    ("LeakyReLU", activations.leaky_relu, "negative_slope"),
    ("ELU", activations.elu, "alpha"),
    ("CELU", activations.celu, "alpha"),
    ("Hardtanh", activations.hardtanh, "min_val max_val"),
    ("Hardswish", activations.hardswish),
    ("Hardsigmoid", activations.hardsigmoid),
    ("GLU", activations.glu, "dim"),
    ("Softplus", activations.softplus, "beta threshold"),
    ("Softshrink", activations.softshrink, "lambd"),
    ("Hardshrink", activations.hardshrink, "lambd"),
    ("Tanhshrink", activations.tanhshrink),
    ("Threshold", activations.threshold, "threshold value"),
    ("RReLU", activations.rrelu, "lower upper", _Random),
    ("AlphaDropout", dropout.alpha_dropout, "p", _Random),
    ("FeatureAlphaDropout", dropout.feature_alpha_dropout, "p", _Random),
    ("PairwiseDistance", distance.pairwise_distance, "p eps keepdim"),
    (
        "CrossEntropyLoss",
        losses.cross_entropy,
        "weight size_average ignore_index reduce reduction label_smoothing",
    ),
    ("NLLLoss", losses.nll_loss, "weight size_average ignore_index reduce reduction"),
    ("NLLLoss2d", losses.nll_loss, "weight size_average ignore_index reduce reduction"),
    ("TripletMarginWithDistanceLoss", losses.triplet_margin_with_distance_loss),
    ("MSELoss", losses.mse_loss, _OLD),
    ("L1Loss", losses.l1_loss, _OLD),
    ("SmoothL1Loss", losses.smooth_l1_loss, f"{_OLD} beta"),
    ("HuberLoss", losses.huber_loss, "reduction delta"),
    ("BCELoss", losses.binary_cross_entropy, f"weight {_OLD}"),
    ("BCEWithLogitsLoss", losses.binary_cross_entropy_with_logits, f"weight {_OLD} pos_weight"),
    ("KLDivLoss", losses.kl_div, f"{_OLD} log_target"),
    ("PoissonNLLLoss", losses.poisson_nll_loss, "log_input full size_average eps reduce reduction"),
    ("GaussianNLLLoss", losses.gaussian_nll_loss),
    ("HingeEmbeddingLoss", losses.hinge_embedding_loss, f"margin {_OLD}"),
    ("SoftMarginLoss", losses.soft_margin_loss, _OLD),
    ("MarginRankingLoss", losses.margin_ranking_loss, f"margin {_OLD}"),
    ("CosineEmbeddingLoss", losses.cosine_embedding_loss, f"margin {_OLD}"),
    ("TripletMarginLoss", losses.triplet_margin_loss, f"margin p eps swap {_OLD}"),
    ("MultiMarginLoss", losses.multi_margin_loss, f"p margin weight {_OLD}"),
    ("MultiLabelMarginLoss", losses.multilabel_margin_loss, _OLD),
    ("MultiLabelSoftMarginLoss", losses.multilabel_soft_margin_loss, f"weight {_OLD}"),
    ("CTCLoss", ctc.ctc_loss, "blank reduction zero_infinity"),
)
#: Layers by name.
LAYERS = {row[0]: _layer(*row) for row in _TABLE}
globals().update(LAYERS)


class CosineSimilarity(nn.Module):
    """torch.nn.CosineSimilarity."""

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self._dim, self._eps = dim, eps

    def __call__(self, a: mx.array, b: mx.array) -> mx.array:
        return distance.cosine_similarity(a, b, self._dim, self._eps)


def _copies(layer: nn.Module, count: int) -> list[nn.Module]:
    return [_copied(layer) for _ in range(count)]


def _copied(value: Any) -> Any:
    """A module with everything in it, arrays of its own too; functions stay."""
    if isinstance(value, mx.array):
        return mx.array(value)
    if isinstance(value, nn.Module):
        made = type(value).__new__(type(value))
        nn.Module.__init__(made)
        vars(made).update({k: v for k, v in vars(value).items() if k != "_torch_views"})
        for key, item in value.items():
            made[key] = _copied(item)
        return made
    if isinstance(value, (list, tuple)):
        return type(value)(_copied(item) for item in value)
    return {k: _copied(v) for k, v in value.items()} if isinstance(value, dict) else value


class TransformerEncoder(transformer.TransformerEncoder):
    """torch.nn.TransformerEncoder: copies of a layer."""

    def __init__(
        self, encoder_layer: nn.Module, num_layers: int, norm: nn.Module | None = None
    ) -> None:
        super().__init__(_copies(encoder_layer, num_layers), norm)

    def __call__(
        self,
        src: mx.array,
        mask: mx.array | None = None,
        src_key_padding_mask: mx.array | None = None,
        is_causal: bool | None = None,
    ) -> mx.array:
        """The layers in turn, then the norm."""
        if is_causal and mask is None:
            raise ValueError("a causal attention needs its mask: give mask too")
        return super().__call__(src, mask, src_key_padding_mask, is_causal)


class TransformerDecoder(transformer.TransformerDecoder):
    """torch.nn.TransformerDecoder: copies of a layer."""

    def __init__(
        self, decoder_layer: nn.Module, num_layers: int, norm: nn.Module | None = None
    ) -> None:
        super().__init__(_copies(decoder_layer, num_layers), norm)


__all__ = [
    *("CosineSimilarity", "Embedding", "Flatten", "Sequential", "TransformerDecoder"),
    *("TransformerEncoder", "Unflatten", *(row[0] for row in _TABLE)),
]
