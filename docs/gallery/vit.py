"""ViTModel in MLX, translated from transformers.models.vit.modeling_vit."""

import mlx.core as mx
import mlx.nn as nn


class ViTPatchEmbeddings(nn.Module):
    def __init__(self):
        super().__init__()
        self.projection = nn.Conv2d(3, 32, (8, 8), stride=(8, 8))

    def __call__(self, pixel_values):
        return self.projection(pixel_values).transpose(0, 3, 1, 2).flatten(2, -1).transpose(0, 2, 1)


class ViTAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = nn.Linear(32, 32)
        self.k_proj = nn.Linear(32, 32)
        self.v_proj = nn.Linear(32, 32)
        self.o_proj = nn.Linear(32, 32)

    def __call__(self, hidden_states):
        B = hidden_states.shape[0]
        query_states = self.q_proj(hidden_states).reshape(B, 17, -1, 8).transpose(0, 2, 1, 3)
        key_states = self.k_proj(hidden_states).reshape(B, 17, -1, 8).transpose(0, 2, 1, 3)
        value_states = self.v_proj(hidden_states).reshape(B, 17, -1, 8).transpose(0, 2, 1, 3)
        attn_output = mx.fast.scaled_dot_product_attention(
            query_states, key_states, value_states, scale=0.3535533905932738
        ).transpose(0, 2, 1, 3).reshape(B, 17, -1)
        return self.o_proj(attn_output)


class ViTMLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.activation_fn = nn.GELU()
        self.fc1 = nn.Linear(32, 64)
        self.fc2 = nn.Linear(64, 32)

    def __call__(self, hidden_states):
        return self.fc2(self.activation_fn(self.fc1(hidden_states)))


class ViTPooler(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(32, 768)
        self.activation = nn.Tanh()

    def __call__(self, hidden_states):
        return self.activation(self.dense(hidden_states[:, 0]))


class ViTEmbeddings(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch_embeddings = ViTPatchEmbeddings()
        self.dropout = nn.Dropout(p=0.0)
        self.cls_token = mx.zeros((1, 1, 32))
        self.position_embeddings = mx.zeros((1, 17, 32))

    def __call__(self, pixel_values):
        embeddings = mx.concatenate(
            [
                mx.broadcast_to(self.cls_token, (pixel_values.shape[0], 1, 32)),
                self.patch_embeddings(pixel_values),
            ],
            axis=1,
        )
        return self.dropout(embeddings + self.position_embeddings)


class ViTLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = ViTAttention()
        self.layernorm_before = nn.LayerNorm(32, eps=1e-12)
        self.layernorm_after = nn.LayerNorm(32, eps=1e-12)
        self.mlp = ViTMLP()
        self.dropout = nn.Dropout(p=0.0)

    def __call__(self, hidden_states):
        hidden_states = self.dropout(
            self.attention(self.layernorm_before(hidden_states))
        ) + hidden_states
        return self.dropout(self.mlp(self.layernorm_after(hidden_states))) + hidden_states


class ViTModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embeddings = ViTEmbeddings()
        self.layers = [ViTLayer() for _ in range(2)]
        self.layernorm = nn.LayerNorm(32, eps=1e-12)
        self.pooler = ViTPooler()

    def __call__(self, pixel_values):
        if pixel_values.dtype not in (mx.float32, mx.float16, mx.bfloat16):
            raise ValueError(
                f"pixel_values.dtype is {pixel_values.dtype}, translated for float32: "
                "change modeling_vit.py:369 or translate again for it"
            )
        if pixel_values.shape[2:] != (32, 32):
            raise ValueError(
                f"pixel_values.shape[2:] is {pixel_values.shape[2:]}, translated for (32, 32): "
                "change modeling_vit.py:152 or translate again for it"
            )
        hidden_states = self.embeddings(pixel_values.transpose(0, 2, 3, 1))
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        layernorm = self.layernorm(hidden_states)
        pooler = self.pooler(layernorm)
        return {"last_hidden_state": layernorm, "pooler_output": pooler}


def load(folder):
    """The model with the weights in a folder."""
    model = ViTModel()
    model.load_weights(f"{folder}/weights.safetensors")
    model.train(False)
    return model
