"""WhisperModel in MLX, translated from transformers.models.whisper.modeling_whisper."""

import mlx.core as mx
import mlx.nn as nn
from torch2mlx import kit


class WhisperAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.k_proj = nn.Linear(32, 32, bias=False)
        self.v_proj = nn.Linear(32, 32)
        self.q_proj = nn.Linear(32, 32)
        self.out_proj = nn.Linear(32, 32)

    def __call__(self, hidden_states):
        B = hidden_states.shape[0]
        query_states = (
            self.q_proj(hidden_states) * 0.25
        ).reshape(B, 1500, -1, 16).transpose(0, 2, 1, 3)
        key_states = self.k_proj(hidden_states).reshape(B, -1, 2, 16).transpose(0, 2, 1, 3)
        value_states = self.v_proj(hidden_states).reshape(B, -1, 2, 16).transpose(0, 2, 1, 3)
        attn_output = mx.fast.scaled_dot_product_attention(
            query_states, key_states, value_states, scale=1.0
        ).transpose(0, 2, 1, 3).reshape(B, 1500, -1)
        return self.out_proj(attn_output)


class WhisperPositionalEmbedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = mx.zeros((448, 32))

    def __call__(self, position_ids):
        return self.weight[position_ids]


class WhisperAttention2(nn.Module):
    def __init__(self):
        super().__init__()
        self.k_proj = nn.Linear(32, 32, bias=False)
        self.v_proj = nn.Linear(32, 32)
        self.q_proj = nn.Linear(32, 32)
        self.out_proj = nn.Linear(32, 32)

    def __call__(self, hidden_states, attention_mask):
        B = hidden_states.shape[0]
        query_states = (
            self.q_proj(hidden_states) * 0.3535533905932738
        ).reshape(B, hidden_states.shape[1], -1, 8).transpose(0, 2, 1, 3)
        key_states = self.k_proj(hidden_states).reshape(B, -1, 4, 8).transpose(0, 2, 1, 3)
        value_states = self.v_proj(hidden_states).reshape(B, -1, 4, 8).transpose(0, 2, 1, 3)
        attn_output = kit.attention.scaled_dot_product_attention(
            query_states, key_states, value_states, scale=1.0, mask=attention_mask
        ).transpose(0, 2, 1, 3).reshape(B, hidden_states.shape[1], -1)
        return self.out_proj(attn_output)


class WhisperAttention3(nn.Module):
    def __init__(self):
        super().__init__()
        self.k_proj = nn.Linear(32, 32, bias=False)
        self.v_proj = nn.Linear(32, 32)
        self.q_proj = nn.Linear(32, 32)
        self.out_proj = nn.Linear(32, 32)

    def __call__(self, hidden_states, key_value_states):
        B = hidden_states.shape[0]
        query_states = (
            self.q_proj(hidden_states) * 0.3535533905932738
        ).reshape(B, hidden_states.shape[1], -1, 8).transpose(0, 2, 1, 3)
        key_states = self.k_proj(key_value_states).reshape(B, -1, 4, 8).transpose(0, 2, 1, 3)
        value_states = self.v_proj(key_value_states).reshape(B, -1, 4, 8).transpose(0, 2, 1, 3)
        attn_output = mx.fast.scaled_dot_product_attention(
            query_states, key_states, value_states, scale=1.0
        ).transpose(0, 2, 1, 3).reshape(B, hidden_states.shape[1], -1)
        return self.out_proj(attn_output)


class WhisperEncoderLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.self_attn = WhisperAttention()
        self.self_attn_layer_norm = nn.LayerNorm(32)
        self.activation_fn = nn.GELU()
        self.fc1 = nn.Linear(32, 64)
        self.fc2 = nn.Linear(64, 32)
        self.final_layer_norm = nn.LayerNorm(32)

    def __call__(self, hidden_states):
        hidden_states = hidden_states + self.self_attn(self.self_attn_layer_norm(hidden_states))
        return hidden_states + self.fc2(
            self.activation_fn(self.fc1(self.final_layer_norm(hidden_states)))
        )


class WhisperDecoderLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.self_attn = WhisperAttention2()
        self.activation_fn = nn.GELU()
        self.self_attn_layer_norm = nn.LayerNorm(32)
        self.encoder_attn = WhisperAttention3()
        self.encoder_attn_layer_norm = nn.LayerNorm(32)
        self.fc1 = nn.Linear(32, 64)
        self.fc2 = nn.Linear(64, 32)
        self.final_layer_norm = nn.LayerNorm(32)

    def __call__(self, hidden_states, attention_mask, encoder_hidden_states):
        hidden_states = hidden_states + self.self_attn(
            self.self_attn_layer_norm(hidden_states), attention_mask
        )
        hidden_states = hidden_states + self.encoder_attn(
            self.encoder_attn_layer_norm(hidden_states), encoder_hidden_states
        )
        return hidden_states + self.fc2(
            self.activation_fn(self.fc1(self.final_layer_norm(hidden_states)))
        )


class WhisperEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv1d(80, 32, 3, padding=1)
        self.conv2 = nn.Conv1d(32, 32, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(1500, 32).freeze()
        self.layers = [WhisperEncoderLayer() for _ in range(2)]
        self.layer_norm = nn.LayerNorm(32)

    def __call__(self, input_features):
        inputs_embeds = nn.gelu(self.conv2(nn.gelu(self.conv1(input_features))))
        hidden_states = inputs_embeds + self.embed_positions(mx.arange(1500, dtype=mx.int64))
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        return self.layer_norm(hidden_states)


class WhisperDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = kit.Embedding(128, 32, 0)
        self.embed_positions = WhisperPositionalEmbedding()
        self.layers = [WhisperDecoderLayer() for _ in range(2)]
        self.layer_norm = nn.LayerNorm(32)

    def __call__(self, input_ids, encoder_hidden_states):
        L = input_ids.shape[1]
        x = mx.arange(L, dtype=mx.int64)[None].reshape(1, L)
        position_ids = mx.broadcast_to(
            x[None], (input_ids.shape[0], x.shape[0], x.shape[1])
        ).flatten(0, 1)
        hidden_states = self.embed_tokens(input_ids) + self.embed_positions(position_ids)
        joined = mx.concatenate([position_ids[:, :1] - 1, position_ids], axis=-1)
        causal_mask = joined[:, 1:] - joined[:, :-1]
        causal_mask = mx.cumsum((causal_mask != 1).astype(mx.int64), axis=-1)
        causal_mask_2 = mx.arange(input_ids.shape[0], dtype=mx.int64)[:, None, None, None]
        causal_mask_3 = mx.arange(L, dtype=mx.int64)[None, None, :, None]
        causal_mask_4 = mx.arange(L, dtype=mx.int64)[None, None, None]
        causal_mask_5 = position_ids[causal_mask_2, causal_mask_4] <= position_ids[
            causal_mask_2, causal_mask_3
        ]
        causal_mask = causal_mask[causal_mask_2, causal_mask_3] == causal_mask[
            causal_mask_2, causal_mask_4
        ]
        causal_mask = causal_mask_5 & causal_mask
        for layer in self.layers:
            hidden_states = layer(hidden_states, causal_mask, encoder_hidden_states)
        return self.layer_norm(hidden_states)


class WhisperModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = WhisperEncoder()
        self.decoder = WhisperDecoder()

    def __call__(self, input_features, decoder_input_ids, use_cache=False):
        if use_cache is not False:
            raise ValueError("translated with use_cache=False")
        if input_features.shape[2] != 3000:
            raise ValueError(
                f"input_features.shape[2] is {input_features.shape[2]}, translated for 3000: "
                "change modeling_whisper.py:612 or translate again for it"
            )
        if decoder_input_ids.shape[0] != input_features.shape[0]:
            raise ValueError(
                f"decoder_input_ids.shape[0] is {decoder_input_ids.shape[0]}, not {input_features.shape[0]} as input_features.shape[0]"  # noqa: E501
            )
        if decoder_input_ids.shape[1] > 448:
            raise ValueError(
                f"decoder_input_ids.shape[1] is {decoder_input_ids.shape[1]}: "
                "decoder.embed_positions.weight ends at 448"
            )
        encoder = self.encoder(input_features.transpose(0, 2, 1))
        decoder = self.decoder(decoder_input_ids, encoder)
        return {"last_hidden_state": decoder, "encoder_last_hidden_state": encoder}


def load(folder):
    """The model with the weights in a folder."""
    model = WhisperModel()
    model.load_weights(f"{folder}/weights.safetensors")
    model.train(False)
    return model
