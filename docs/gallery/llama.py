"""LlamaModel in MLX, translated from transformers.models.llama.modeling_llama."""

import mlx.core as mx
import mlx.nn as nn


class LlamaAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = nn.Linear(32, 32, bias=False)
        self.k_proj = nn.Linear(32, 16, bias=False)
        self.v_proj = nn.Linear(32, 16, bias=False)
        self.o_proj = nn.Linear(32, 32, bias=False)

    def __call__(self, hidden_states):
        B, L = hidden_states.shape[:2]
        query_states = self.q_proj(hidden_states).reshape(B, L, -1, 8).transpose(0, 2, 1, 3)
        key_states = self.k_proj(hidden_states).reshape(B, L, -1, 8).transpose(0, 2, 1, 3)
        value_states = self.v_proj(hidden_states).reshape(B, L, -1, 8).transpose(0, 2, 1, 3)
        attn_output = mx.fast.scaled_dot_product_attention(
            mx.fast.rope(query_states, 8, base=10000.0, traditional=False, scale=1.0, offset=0),
            mx.fast.rope(key_states, 8, base=10000.0, traditional=False, scale=1.0, offset=0),
            value_states,
            scale=0.3535533905932738,
            mask="causal",
        ).transpose(0, 2, 1, 3).reshape(B, L, -1)
        return self.o_proj(attn_output)


class LlamaMLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_proj = nn.Linear(32, 64, bias=False)
        self.up_proj = nn.Linear(32, 64, bias=False)
        self.down_proj = nn.Linear(64, 32, bias=False)
        self.act_fn = nn.SiLU()

    def __call__(self, x):
        down_proj = self.act_fn(self.gate_proj(x)) * self.up_proj(x)
        return self.down_proj(down_proj)


class LlamaDecoderLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.self_attn = LlamaAttention()
        self.mlp = LlamaMLP()
        self.input_layernorm = nn.RMSNorm(32, eps=1e-06)
        self.post_attention_layernorm = nn.RMSNorm(32, eps=1e-06)

    def __call__(self, hidden_states):
        hidden_states = hidden_states + self.self_attn(self.input_layernorm(hidden_states))
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))


class LlamaModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(128, 32)
        self.layers = [LlamaDecoderLayer() for _ in range(2)]
        self.norm = nn.RMSNorm(32, eps=1e-06)

    def __call__(self, input_ids, use_cache=False):
        if use_cache is not False:
            raise ValueError("translated with use_cache=False")
        hidden_states = self.embed_tokens(input_ids)
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        norm = self.norm(hidden_states)
        return {"last_hidden_state": norm}


def load(folder):
    """The model with the weights in a folder."""
    model = LlamaModel()
    model.load_weights(f"{folder}/weights.safetensors")
    model.train(False)
    return model
