"""torch.nn's Transformer layers, on mlx.nn's parameter names (attention, ln1, linear1, ...)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map_with_path

from torch2mlx.kit import init
from torch2mlx.kit.attention import MultiheadAttention

Activation = Callable[[mx.array], mx.array]
_NAMED = {"relu": nn.relu, "gelu": nn.gelu}


class _Layer(nn.Module):
    """What both kinds share: torch's arguments, attentions, norms, the feed-forward part."""

    _attentions: tuple[str, ...]
    #: Parts by torch's names.
    _parts: ClassVar[dict[str, str]]

    def __getattr__(self, key: str) -> Any:
        return super().__getattr__(type(self)._parts.get(key, key))

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        for name in self._attentions:
            self[name] = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first)
        self.linear1 = nn.Linear(d_model, dim_feedforward, bias=bias)
        self.linear2 = nn.Linear(dim_feedforward, d_model, bias=bias)
        for i in range(len(self._attentions) + 1):
            self[f"ln{i + 1}"] = nn.LayerNorm(d_model, eps=layer_norm_eps, bias=bias)
        self._activation = _NAMED[activation] if isinstance(activation, str) else activation
        self._norm_first, self._rate = norm_first, dropout

    def _drop(self, x: mx.array) -> mx.array:
        return nn.Dropout(self._rate)(x) if self._rate and self.training else x

    def _feed(self, x: mx.array) -> mx.array:
        return self._drop(self.linear2(self._drop(self._activation(self.linear1(x)))))

    def _residual(self, x: mx.array, norm: nn.Module, block: Activation) -> mx.array:
        return x + block(norm(x)) if self._norm_first else norm(x + block(x))


class TransformerEncoderLayer(_Layer):
    """torch.nn.TransformerEncoderLayer. src: (L, N, E), or (N, L, E) with `batch_first`."""

    _attentions = ("attention",)
    _parts: ClassVar = {"self_attn": "attention", "norm1": "ln1", "norm2": "ln2"}

    def __call__(
        self,
        src: mx.array,
        src_mask: mx.array | None = None,
        src_key_padding_mask: mx.array | None = None,
        is_causal: bool = False,
    ) -> mx.array:
        src_mask = _causal(src_mask, is_causal, src_key_padding_mask)
        attend = lambda x: self._drop(  # noqa: E731
            self.attention(x, x, x, src_key_padding_mask, False, src_mask)[0]
        )
        return self._residual(self._residual(src, self.ln1, attend), self.ln2, self._feed)


class TransformerDecoderLayer(_Layer):
    """torch.nn.TransformerDecoderLayer. tgt: (T, N, E), memory: (S, N, E), or batch first."""

    _attentions = ("self_attention", "cross_attention")
    _parts: ClassVar = {
        **{"self_attn": "self_attention", "multihead_attn": "cross_attention"},
        **{"norm1": "ln1", "norm2": "ln2", "norm3": "ln3"},
    }

    def __call__(
        self,
        tgt: mx.array,
        memory: mx.array,
        tgt_mask: mx.array | None = None,
        memory_mask: mx.array | None = None,
        tgt_key_padding_mask: mx.array | None = None,
        memory_key_padding_mask: mx.array | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> mx.array:
        tgt_mask = _causal(tgt_mask, tgt_is_causal, tgt_key_padding_mask)
        memory_mask = _causal(memory_mask, memory_is_causal, memory_key_padding_mask)
        own = lambda x: self._drop(  # noqa: E731
            self.self_attention(x, x, x, tgt_key_padding_mask, False, tgt_mask)[0]
        )
        cross = lambda x: self._drop(  # noqa: E731
            self.cross_attention(x, memory, memory, memory_key_padding_mask, False, memory_mask)[0]
        )
        x = self._residual(tgt, self.ln1, own)
        return self._residual(self._residual(x, self.ln2, cross), self.ln3, self._feed)


def _causal(mask: mx.array | None, said: bool, padding: mx.array | None) -> mx.array | None:
    """The mask that torch attends with where it is said to be causal: a causal one, whatever was
    given, unless there is padding too, with which the given one is joined."""
    if not said or mask is None or padding is not None:
        return mask
    return mx.triu(mx.ones(mask.shape[-2:], dtype=mx.bool_), 1)


class _Stack(nn.Module):
    def __init__(self, layers: Sequence[nn.Module], norm: nn.Module | None) -> None:
        super().__init__()
        self.layers = layers
        if norm is not None:
            self.ln = norm

    def _through(self, x: mx.array, *args: Any, **masks: Any) -> mx.array:
        """The layers in turn, then the norm; layers of the user's may take no masks."""
        given = {name: mask for name, mask in masks.items() if mask is not None}
        for layer in self.layers:
            x = layer(x, *args, **given)
        return self.ln(x) if "ln" in self else x


class TransformerEncoder(_Stack):
    """torch.nn.TransformerEncoder over given layers; `norm` is optional, as in torch. `is_causal`
    says that the mask is causal: without padding, torch attends causally then."""

    def __call__(
        self,
        src: mx.array,
        mask: mx.array | None = None,
        src_key_padding_mask: mx.array | None = None,
        is_causal: bool | None = None,
    ) -> mx.array:
        return self._through(
            src,
            src_mask=mask,
            src_key_padding_mask=src_key_padding_mask,
            is_causal=is_causal or None,
        )


class TransformerDecoder(_Stack):
    """torch.nn.TransformerDecoder over given layers; `norm` is optional, as in torch."""

    def __call__(
        self,
        tgt: mx.array,
        memory: mx.array,
        tgt_mask: mx.array | None = None,
        memory_mask: mx.array | None = None,
        tgt_key_padding_mask: mx.array | None = None,
        memory_key_padding_mask: mx.array | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> mx.array:
        return self._through(
            tgt,
            memory,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=tgt_is_causal or None,
            memory_is_causal=memory_is_causal or None,
        )


class EncoderDecoder(nn.Module):
    """A Transformer of a given encoder and decoder. src (S, N, E), tgt (T, N, E) -> (T, N, E)."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def __call__(
        self,
        src: mx.array,
        tgt: mx.array,
        src_mask: mx.array | None = None,
        tgt_mask: mx.array | None = None,
        memory_mask: mx.array | None = None,
        src_key_padding_mask: mx.array | None = None,
        tgt_key_padding_mask: mx.array | None = None,
        memory_key_padding_mask: mx.array | None = None,
    ) -> mx.array:
        memory = self.encoder(src, src_mask, src_key_padding_mask)
        padding = (tgt_key_padding_mask, memory_key_padding_mask)
        return self.decoder(tgt, memory, tgt_mask, memory_mask, *padding)


class Transformer(EncoderDecoder):
    """torch.nn.Transformer: src (S, N, E), tgt (T, N, E) -> (T, N, E), or batch first."""

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
    ) -> None:
        sizes = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps)
        options = (*sizes, batch_first, norm_first, bias)
        norm = lambda: nn.LayerNorm(d_model, eps=layer_norm_eps, bias=bias)  # noqa: E731
        encoder = [TransformerEncoderLayer(*options) for _ in range(num_encoder_layers)]
        decoder = [TransformerDecoderLayer(*options) for _ in range(num_decoder_layers)]
        super().__init__(TransformerEncoder(encoder, norm()), TransformerDecoder(decoder, norm()))
        self.update(tree_map_with_path(_drawn, self.parameters()))


#: What torch holds in one matrix, by whose size it is drawn: attention does so itself.
_PROJECTED = ("query_proj.weight", "key_proj.weight", "value_proj.weight")


def _drawn(name: str, x: mx.array) -> mx.array:
    """First weights as torch.nn.Transformer draws them: all matrices are Glorot's."""
    return x if x.ndim < 2 or name.endswith(_PROJECTED) else init.xavier_uniform(x)
