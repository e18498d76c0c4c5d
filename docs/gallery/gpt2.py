"""GPT2Model in MLX, translated from transformers.models.gpt2.modeling_gpt2."""

import mlx.core as mx
import mlx.nn as nn


class Conv1D(nn.Module):
    def __init__(self, nf, nx):
        super().__init__()
        self.nx = nx
        self.nf = nf
        self.weight = mx.zeros((nf, nx))
        self.bias = mx.zeros((nf,))

    def __call__(self, x):
        x_2 = mx.addmm(self.bias, x.reshape(-1, self.nx), self.weight.transpose(1, 0))
        return x_2.reshape(x.shape[0], x.shape[1], self.nf)


class NewGELUActivation(nn.Module):

    def __call__(self, input):
        x = mx.tanh((input + input**3.0 * 0.044715) * 0.7978845608028654) + 1.0
        return input * 0.5 * x


class GPT2Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_attn = Conv1D(96, 32)
        self.c_proj = Conv1D(32, 32)
        self.resid_dropout = nn.Dropout(p=0.1)

    def __call__(self, hidden_states):
        B, L = hidden_states.shape[:2]
        part_0, part_1, part_2 = mx.split(self.c_attn(hidden_states), 3, axis=2)
        output = mx.fast.scaled_dot_product_attention(
            part_0.reshape(B, L, -1, 8).transpose(0, 2, 1, 3),
            part_1.reshape(B, L, -1, 8).transpose(0, 2, 1, 3),
            part_2.reshape(B, L, -1, 8).transpose(0, 2, 1, 3),
            scale=0.3535533905932738,
            mask="causal",
        )
        return self.resid_dropout(self.c_proj(output.transpose(0, 2, 1, 3).reshape(B, L, -1)))


class GPT2MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_fc = Conv1D(128, 32)
        self.c_proj = Conv1D(32, 128)
        self.act = NewGELUActivation()
        self.dropout = nn.Dropout(p=0.1)

    def __call__(self, hidden_states):
        return self.dropout(self.c_proj(self.act(self.c_fc(hidden_states))))


class GPT2Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1 = nn.LayerNorm(32)
        self.attn = GPT2Attention()
        self.ln_2 = nn.LayerNorm(32)
        self.mlp = GPT2MLP()

    def __call__(self, hidden_states):
        hidden_states = self.attn(self.ln_1(hidden_states)) + hidden_states
        return hidden_states + self.mlp(self.ln_2(hidden_states))


class GPT2Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(128, 32)
        self.wpe = nn.Embedding(128, 32)
        self.drop = nn.Dropout(p=0.1)
        self.h = [GPT2Block() for _ in range(2)]
        self.ln_f = nn.LayerNorm(32)

    def __call__(self, input_ids, use_cache=False):
        if use_cache is not False:
            raise ValueError("translated with use_cache=False")
        if input_ids.shape[1] > 128:
            raise ValueError(f"input_ids.shape[1] is {input_ids.shape[1]}: wpe.weight ends at 128")
        position_ids = mx.arange(input_ids.shape[1], dtype=mx.int64)[None]
        hidden_states = self.wte(input_ids) + self.wpe(position_ids)
        hidden_states = self.drop(hidden_states)
        for block in self.h:
            hidden_states = block(hidden_states)
        hidden_states = self.ln_f(hidden_states)
        return {"last_hidden_state": hidden_states}


def load(folder):
    """The model with the weights in a folder."""
    model = GPT2Model()
    model.load_weights(f"{folder}/weights.safetensors")
    model.train(False)
    return model
