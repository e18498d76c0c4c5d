"""Language models with caches in MLX's own calls: rotary embeddings, causal masks, rows of experts.
`language_model` compares logits with torch's, in pieces and token by token, before it returns."""

import pytest

from tests.support import need

torch, mx, transformers = need("torch", "mlx.core", "transformers")
need("mlx_lm")

import torch2mlx
from tests.support import close
from torch2mlx.export.state.causal import some_tokens
from torch2mlx.export.state.generating import mlx_logits

SIZES = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 256}
FEW = {"original_max_position_embeddings": 32, "rope_theta": 10000.0}
ROPES = {
    "default": {"rope_type": "default", "rope_theta": 5000.0},
    "linear": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0},
    "llama3": {
        **{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
        **FEW,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, **FEW},
}


def made(kind, **more):
    """A model of torch with random weights, and its translation."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **more})
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    return model, torch2mlx.language_model(model)


@pytest.mark.parametrize("rope", ROPES)
def test_rotary_embeddings_go_on_behind_a_cache(rope):
    model, language = made("Llama", rope_parameters=ROPES[rope])
    assert language.source.count("mx.fast.rope(") == 2
    assert "mx.cos" not in language.source and 'mask="causal"' in language.source
    assert language.source.count("mx.array(") == (rope in ("llama3", "yarn"))
    ids = some_tokens(model, 3, 150, seed=4)  # beyond the lengths that the ropes were made for
    found = mlx_logits(language.module, mx.array(ids.numpy()), (1, 100, 3))
    with torch.no_grad():
        close(found, model(ids).logits.numpy(), 1e-4)


def test_a_window_is_no_causal_mask():
    model, language = made("Mistral", sliding_window=5)
    assert "mx.fast.rope(" in language.source and "causal_mask" in language.source
    ids = some_tokens(model, 2, 30, seed=5)
    found = mlx_logits(language.module, mx.array(ids.numpy()), (7, 1, 12))
    with torch.no_grad():
        close(found, model(ids).logits.numpy(), 1e-4)


@pytest.mark.parametrize("experts", [(4, 2), (6, 1)])
def test_rows_of_experts_are_not_counted(experts):
    count, chosen = experts
    model, language = made("Mixtral", num_local_experts=count, num_experts_per_tok=chosen)
    assert language.source.count("ordered=True") == 2
    assert language.source.count("kit.moe.ordered(") == 1
    assert language.source.count("kit.sorting.likeliest(") == 1
    assert "histc" not in language.source and "kit.indexing" not in language.source
    ids = some_tokens(model, 2, 40, seed=6)
    found = mlx_logits(language.module, mx.array(ids.numpy()), (9, 1))
    with torch.no_grad():
        close(found, model(ids).logits.numpy(), 1e-4)
