"""The file of a language model for all sizes, under mlx-lm's contract."""

import json
import sys
import types

from tests.support import close, need

torch, mx, transformers, _ = need("torch", "mlx.core", "transformers", "mlx_lm")

import torch2mlx


def llama(**sizes):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(max_position_embeddings=64, **sizes)
    return transformers.LlamaForCausalLM(config).eval()


def test_the_file_loads_the_weights_of_another_size_and_agrees_with_its_cache():
    own = llama(
        hidden_size=24, intermediate_size=36, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, vocab_size=40,
    )  # fmt: skip
    source = torch2mlx.language_model(own, sizes=True).source
    made = sys.modules["sized_llama"] = types.ModuleType("sized_llama")
    exec(compile(source, "<sized_llama>", "exec", dont_inherit=True), made.__dict__)
    other = llama(
        hidden_size=30, intermediate_size=44, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=3, head_dim=10, vocab_size=53, rms_norm_eps=1e-5,
    )  # fmt: skip
    config = json.loads(other.config.to_json_string(use_diff=False))
    model = made.Model(made.ModelArgs.from_dict(config))
    weights = {k: mx.array(v.detach().numpy()) for k, v in other.state_dict().items()}
    model.load_weights(list(weights.items()), strict=True)
    ids = torch.randint(0, 53, (2, 11))
    cache = model.make_cache()
    pieces = [model(mx.array(ids[:, a:b].numpy()), cache) for a, b in ((0, 4), (4, 9), (9, 11))]
    close(mx.concatenate(pieces, axis=1), other(ids).logits.detach(), 1e-4)
