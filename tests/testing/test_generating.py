"""`assert_generates`: models with a decoder alone and with an encoder, padding, and how a failure
reads."""

import copy

import pytest

from tests.support import need

need("torch", "mlx", "transformers", "mlx_lm")

import torch
import transformers

from torch2mlx import language
from torch2mlx.testing import assert_generates

LLAMA = {
    **{"vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2},
    **{"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64},
}
T5 = {
    **{"vocab_size": 50, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2},
    **{"decoder_start_token_id": 0},
}
IDS = torch.tensor([[7, 8, 9, 10, 11, 12], [0, 0, 21, 22, 23, 24]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]])


def llama():
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)).eval()


def test_a_model_says_the_same_in_rows_with_padding_and_what_differs_is_told(monkeypatch):
    model = llama()
    made = assert_generates(model, {"input_ids": IDS, "attention_mask": MASK}, max_tokens=12)
    assert made.caches == ("KVCache", "KVCache")

    other = copy.deepcopy(model)
    with torch.no_grad():
        other.lm_head.weight.neg_()
    monkeypatch.setattr(language, "language_model", lambda model: made)
    with pytest.raises(AssertionError, match=r"part in row 0, at token 0 of 4: torch says \d+,"):
        assert_generates(other, IDS, max_tokens=4)


def test_a_model_with_an_encoder_says_the_same():
    torch.manual_seed(0)
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**T5)).eval()
    assert_generates(model, {"input_ids": IDS.flip(1), "attention_mask": MASK.flip(1)})


def test_a_refusal_is_a_failure_that_says_why():
    sizes = {**{"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}}
    config = transformers.BertConfig(vocab_size=50, num_attention_heads=2, **sizes)
    with pytest.raises(AssertionError, match="BertModel has no translation: "):
        assert_generates(transformers.BertModel(config).eval(), IDS)
