"""T5Model in MLX, translated from transformers.models.t5.modeling_t5."""

import mlx.core as mx
import mlx.nn as nn
from torch2mlx import kit


class Embedding(nn.Module):

    def __call__(self, weight, input):
        return weight[input]


class T5Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(32, 32, bias=False)
        self.k = nn.Linear(32, 32, bias=False)
        self.v = nn.Linear(32, 32, bias=False)
        self.o = nn.Linear(32, 32, bias=False)
        self.relative_attention_bias = nn.Embedding(32, 4)

    def __call__(self, hidden_states, mask):
        B, L = hidden_states.shape[:2]
        query_states = self.q(hidden_states).reshape(B, L, -1, 8).transpose(0, 2, 1, 3)
        key_states = self.k(hidden_states).reshape(B, L, -1, 8).transpose(0, 2, 1, 3)
        value_states = self.v(hidden_states).reshape(B, L, -1, 8).transpose(0, 2, 1, 3)
        position_bias = mx.arange(L, dtype=mx.int64)[None] - mx.arange(L, dtype=mx.int64)[:, None]
        position_bias_2 = (position_bias > 0).astype(mx.int64) * 16
        position_bias = mx.abs(position_bias)
        position_bias_3 = mx.log(position_bias.astype(mx.float32) / 8) / 2.772588722239781 * 8
        position_bias_3 = mx.minimum(
            position_bias_3.astype(mx.int64) + 8, mx.full((L, L), 15, mx.int64)
        )
        position_bias = position_bias_2 + mx.where(
            position_bias < 8, position_bias, position_bias_3
        )
        position_bias = self.relative_attention_bias(position_bias).transpose(2, 0, 1)[None]
        attn_output = kit.attention.scaled_dot_product_attention(
            query_states,
            key_states,
            value_states,
            scale=1.0,
            mask=mx.where(mask, position_bias, mx.finfo(mx.float32).min),
        ).transpose(0, 2, 1, 3).reshape(B, L, -1)
        o = self.o(attn_output)
        return position_bias, o


class T5DenseActDense(nn.Module):
    def __init__(self):
        super().__init__()
        self.wi = nn.Linear(32, 64, bias=False)
        self.wo = nn.Linear(64, 32, bias=False)
        self.dropout = nn.Dropout(p=0.1)
        self.act = nn.ReLU()

    def __call__(self, hidden_states):
        return self.wo(self.dropout(self.act(self.wi(hidden_states))))


class T5Attention2(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(32, 32, bias=False)
        self.k = nn.Linear(32, 32, bias=False)
        self.v = nn.Linear(32, 32, bias=False)
        self.o = nn.Linear(32, 32, bias=False)

    def __call__(self, hidden_states, mask, position_bias):
        B, L = hidden_states.shape[:2]
        query_states = self.q(hidden_states).reshape(B, L, -1, 8).transpose(0, 2, 1, 3)
        key_states = self.k(hidden_states).reshape(B, L, -1, 8).transpose(0, 2, 1, 3)
        value_states = self.v(hidden_states).reshape(B, L, -1, 8).transpose(0, 2, 1, 3)
        attn_output = kit.attention.scaled_dot_product_attention(
            query_states,
            key_states,
            value_states,
            scale=1.0,
            mask=mx.where(mask, position_bias, mx.finfo(mx.float32).min),
        ).transpose(0, 2, 1, 3).reshape(B, L, -1)
        return self.o(attn_output)


class T5Attention3(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(32, 32, bias=False)
        self.k = nn.Linear(32, 32, bias=False)
        self.v = nn.Linear(32, 32, bias=False)
        self.o = nn.Linear(32, 32, bias=False)
        self.relative_attention_bias = nn.Embedding(32, 4)

    def __call__(self, hidden_states, mask):
        B, L = hidden_states.shape[:2]
        query_states = self.q(hidden_states).reshape(B, L, -1, 8).transpose(0, 2, 1, 3)
        key_states = self.k(hidden_states).reshape(B, L, -1, 8).transpose(0, 2, 1, 3)
        value_states = self.v(hidden_states).reshape(B, L, -1, 8).transpose(0, 2, 1, 3)
        position_bias = mx.arange(L, dtype=mx.int64)[None] - mx.arange(L, dtype=mx.int64)[:, None]
        position_bias = -mx.minimum(position_bias, mx.zeros_like(position_bias))
        position_bias_2 = mx.log(position_bias.astype(mx.float32) / 16) / 2.0794415416798357 * 16
        position_bias_2 = mx.minimum(
            position_bias_2.astype(mx.int64) + 16, mx.full((L, L), 31, mx.int64)
        )
        position_bias = self.relative_attention_bias(
            mx.where(position_bias < 16, position_bias, position_bias_2)
        ).transpose(2, 0, 1)[None]
        attn_output = kit.attention.scaled_dot_product_attention(
            query_states,
            key_states,
            value_states,
            scale=1.0,
            mask=mx.where(mask, position_bias, mx.finfo(mx.float32).min),
        ).transpose(0, 2, 1, 3).reshape(B, L, -1)
        o = self.o(attn_output)
        return position_bias, o


class T5Attention4(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(32, 32, bias=False)
        self.k = nn.Linear(32, 32, bias=False)
        self.v = nn.Linear(32, 32, bias=False)
        self.o = nn.Linear(32, 32, bias=False)

    def __call__(self, hidden_states, key_value_states):
        B = hidden_states.shape[0]
        query_states = self.q(hidden_states).reshape(
            B, hidden_states.shape[1], -1, 8
        ).transpose(0, 2, 1, 3)
        key_states = self.k(key_value_states).reshape(
            B, key_value_states.shape[1], -1, 8
        ).transpose(0, 2, 1, 3)
        value_states = self.v(key_value_states).reshape(
            B, key_value_states.shape[1], -1, 8
        ).transpose(0, 2, 1, 3)
        attn_output = mx.fast.scaled_dot_product_attention(
            query_states, key_states, value_states, scale=1.0
        ).transpose(0, 2, 1, 3).reshape(B, hidden_states.shape[1], -1)
        return self.o(attn_output)


class T5LayerSelfAttention(nn.Module):
    def __init__(self, SelfAttention):
        super().__init__()
        self.SelfAttention = SelfAttention
        self.layer_norm = nn.RMSNorm(32, eps=1e-06)
        self.dropout = nn.Dropout(p=0.1)

    def __call__(self, hidden_states, attention_mask):
        position_bias, SelfAttention = self.SelfAttention(
            self.layer_norm(hidden_states), attention_mask
        )
        attention_output = hidden_states + self.dropout(SelfAttention)
        return position_bias, attention_output


class T5LayerFF(nn.Module):
    def __init__(self):
        super().__init__()
        self.DenseReluDense = T5DenseActDense()
        self.layer_norm = nn.RMSNorm(32, eps=1e-06)
        self.dropout = nn.Dropout(p=0.1)

    def __call__(self, hidden_states):
        return hidden_states + self.dropout(self.DenseReluDense(self.layer_norm(hidden_states)))


class T5LayerSelfAttention2(nn.Module):
    def __init__(self):
        super().__init__()
        self.SelfAttention = T5Attention2()
        self.layer_norm = nn.RMSNorm(32, eps=1e-06)
        self.dropout = nn.Dropout(p=0.1)

    def __call__(self, hidden_states, attention_mask, position_bias):
        return hidden_states + self.dropout(
            self.SelfAttention(self.layer_norm(hidden_states), attention_mask, position_bias)
        )


class T5LayerCrossAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.EncDecAttention = T5Attention4()
        self.layer_norm = nn.RMSNorm(32, eps=1e-06)
        self.dropout = nn.Dropout(p=0.1)

    def __call__(self, hidden_states, key_value_states):
        return hidden_states + self.dropout(
            self.EncDecAttention(self.layer_norm(hidden_states), key_value_states)
        )


class T5Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = [T5LayerSelfAttention(T5Attention()), T5LayerFF()]

    def __call__(self, hidden_states, attention_mask):
        position_bias, attention_output = self.layer[0](hidden_states, attention_mask)
        hidden_states = self.layer[1](attention_output)
        return position_bias, hidden_states


class T5Block2(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = [T5LayerSelfAttention2(), T5LayerFF()]

    def __call__(self, hidden_states, attention_mask, position_bias):
        return self.layer[1](self.layer[0](hidden_states, attention_mask, position_bias))


class T5Block3(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = [T5LayerSelfAttention(T5Attention3()), T5LayerCrossAttention(), T5LayerFF()]

    def __call__(self, hidden_states, attention_mask, encoder_hidden_states):
        position_bias, attention_output = self.layer[0](hidden_states, attention_mask)
        hidden_states = self.layer[2](self.layer[1](attention_output, encoder_hidden_states))
        return position_bias, hidden_states


class T5Block4(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = [T5LayerSelfAttention2(), T5LayerCrossAttention(), T5LayerFF()]

    def __call__(self, hidden_states, attention_mask, position_bias, encoder_hidden_states):
        return self.layer[2](
            self.layer[1](
                self.layer[0](hidden_states, attention_mask, position_bias), encoder_hidden_states
            )
        )


class T5Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = Embedding()
        self.block = [T5Block(), T5Block2()]
        self.final_layer_norm = nn.RMSNorm(32, eps=1e-06)
        self.dropout = nn.Dropout(p=0.1)

    def __call__(self, input_ids, weight):
        L = input_ids.shape[1]
        attention_mask = mx.arange(L, dtype=mx.int64)[None, None, :, None] >= 0
        attention_mask = mx.broadcast_to(attention_mask, (input_ids.shape[0], 1, L, L))
        position_bias, hidden_states = self.block[0](
            self.dropout(self.embed_tokens(weight, input_ids)), attention_mask
        )
        return self.dropout(
            self.final_layer_norm(self.block[1](hidden_states, attention_mask, position_bias))
        )


class T5Stack2(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = Embedding()
        self.block = [T5Block3(), T5Block4()]
        self.final_layer_norm = nn.RMSNorm(32, eps=1e-06)
        self.dropout = nn.Dropout(p=0.1)

    def __call__(self, input_ids, weight, encoder_hidden_states):
        L = input_ids.shape[1]
        attention_mask = (
            mx.arange(L, dtype=mx.int64)[None, None, None]
            <= mx.arange(L, dtype=mx.int64)[None, None, :, None]
        )
        attention_mask = mx.broadcast_to(attention_mask, (input_ids.shape[0], 1, L, L))
        position_bias, hidden_states = self.block[0](
            self.dropout(self.embed_tokens(weight, input_ids)),
            attention_mask,
            encoder_hidden_states,
        )
        return self.dropout(
            self.final_layer_norm(
                self.block[1](hidden_states, attention_mask, position_bias, encoder_hidden_states)
            )
        )


class T5Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared = nn.Embedding(128, 32)
        self.encoder = T5Stack()
        self.decoder = T5Stack2()

    def __call__(self, input_ids, decoder_input_ids, use_cache=False):
        if use_cache is not False:
            raise ValueError("translated with use_cache=False")
        if decoder_input_ids.shape[0] != input_ids.shape[0]:
            raise ValueError(
                f"decoder_input_ids.shape[0] is {decoder_input_ids.shape[0]}, not {input_ids.shape[0]} as input_ids.shape[0]"  # noqa: E501
            )
        encoder = self.encoder(input_ids, self.shared.weight)
        decoder = self.decoder(decoder_input_ids, self.shared.weight, encoder)
        return {"last_hidden_state": decoder, "encoder_last_hidden_state": encoder}


def load(folder):
    """The model with the weights in a folder."""
    model = T5Model()
    model.load_weights(f"{folder}/weights.safetensors")
    model.train(False)
    return model
