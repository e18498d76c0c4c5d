"""BertModel in MLX, translated from transformers.models.bert.modeling_bert."""

import mlx.core as mx
import mlx.nn as nn
from torch2mlx import kit


class BertEmbeddings(nn.Module):
    def __init__(self):
        super().__init__()
        self.word_embeddings = kit.Embedding(30522, 384, 0)
        self.position_embeddings = nn.Embedding(512, 384)
        self.token_type_embeddings = nn.Embedding(2, 384)
        self.LayerNorm = nn.LayerNorm(384, eps=1e-12)
        self.dropout = nn.Dropout(p=0.1)
        self._position_ids = mx.zeros((1, 512), dtype=mx.int64)
        self._token_type_ids = mx.zeros((1, 512), dtype=mx.int64)

    def __call__(self, input_ids):
        position_ids = self._position_ids[:, :input_ids.shape[1]]
        token_type_ids = mx.broadcast_to(
            mx.take_along_axis(self._token_type_ids, position_ids, axis=1),
            (input_ids.shape[0], input_ids.shape[1]),
        )
        embeddings = self.word_embeddings(input_ids) + self.token_type_embeddings(token_type_ids)
        return self.dropout(self.LayerNorm(embeddings + self.position_embeddings(position_ids)))


class BertSelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query = nn.Linear(384, 384)
        self.key = nn.Linear(384, 384)
        self.value = nn.Linear(384, 384)

    def __call__(self, hidden_states, attention_mask):
        B, L = hidden_states.shape[:2]
        query_layer = self.query(hidden_states).reshape(B, L, -1, 32).transpose(0, 2, 1, 3)
        key_layer = self.key(hidden_states).reshape(B, L, -1, 32).transpose(0, 2, 1, 3)
        value_layer = self.value(hidden_states).reshape(B, L, -1, 32).transpose(0, 2, 1, 3)
        return kit.attention.scaled_dot_product_attention(
            query_layer, key_layer, value_layer, scale=0.1767766952966369, mask=attention_mask
        ).transpose(0, 2, 1, 3).reshape(B, L, -1)


class BertSelfOutput(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(384, 384)
        self.LayerNorm = nn.LayerNorm(384, eps=1e-12)
        self.dropout = nn.Dropout(p=0.1)

    def __call__(self, hidden_states, input_tensor):
        hidden_states = self.dropout(self.dense(hidden_states)) + input_tensor
        return self.LayerNorm(hidden_states)


class BertIntermediate(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(384, 1536)
        self.intermediate_act_fn = nn.GELU()

    def __call__(self, hidden_states):
        return self.intermediate_act_fn(self.dense(hidden_states))


class BertOutput(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(1536, 384)
        self.LayerNorm = nn.LayerNorm(384, eps=1e-12)
        self.dropout = nn.Dropout(p=0.1)

    def __call__(self, hidden_states, input_tensor):
        hidden_states = self.dropout(self.dense(hidden_states)) + input_tensor
        return self.LayerNorm(hidden_states)


class BertPooler(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(384, 384)
        self.activation = nn.Tanh()

    def __call__(self, hidden_states):
        return self.activation(self.dense(hidden_states[:, 0]))


class BertAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.self = BertSelfAttention()
        self.output = BertSelfOutput()

    def __call__(self, hidden_states, attention_mask):
        return self.output(self.self(hidden_states, attention_mask), hidden_states)


class BertLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = BertAttention()
        self.intermediate = BertIntermediate()
        self.output = BertOutput()

    def __call__(self, hidden_states, attention_mask):
        attention = self.attention(hidden_states, attention_mask)
        return self.output(self.intermediate(attention), attention)


class BertEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = [BertLayer() for _ in range(6)]

    def __call__(self, hidden_states, attention_mask):
        for block in self.layer:
            hidden_states = block(hidden_states, attention_mask)
        return hidden_states


class BertModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embeddings = BertEmbeddings()
        self.encoder = BertEncoder()
        self.pooler = BertPooler()

    def __call__(self, input_ids, attention_mask):
        if attention_mask.ndim != 2:
            raise ValueError(
                f"attention_mask.ndim is {attention_mask.ndim}, translated for 2: "
                "change masking_utils.py:818 or translate again for it"
            )
        if attention_mask.shape[1] != input_ids.shape[1]:
            raise ValueError(
                f"attention_mask.shape[1] is {attention_mask.shape[1]}, not {input_ids.shape[1]} as input_ids.shape[1]"  # noqa: E501
            )
        if input_ids.shape[1] > 512:
            raise ValueError(
                f"input_ids.shape[1] is {input_ids.shape[1]}, "
                "translated where input_ids.shape[1] <= 512: "
                "change modeling_bert.py:85 or translate again for it"
            )
        x = attention_mask.astype(mx.bool_)[
            mx.arange(input_ids.shape[0], dtype=mx.int64)[:, None, None, None],
            mx.arange(input_ids.shape[1], dtype=mx.int64)[None, None, None],
        ]
        encoder = self.encoder(
            self.embeddings(input_ids),
            (mx.arange(input_ids.shape[1], dtype=mx.int64)[None, None, :, None] >= 0) & x,
        )
        pooler = self.pooler(encoder)
        return {"last_hidden_state": encoder, "pooler_output": pooler}


def load(folder):
    """The model with the weights in a folder."""
    model = BertModel()
    model.load_weights(f"{folder}/weights.safetensors")
    for path, value in mx.load(f"{folder}/constants.safetensors").items():
        *owners, name = path.split(".")
        owner = model
        for part in owners:
            owner = owner[int(part)] if isinstance(owner, list) else owner[part]
        setattr(owner, name, value)
    model.train(False)
    return model
