"""Weights of experts in files of language models: layers, which MLX quantizes, whose weights have
the checkpoint's names too."""

import dataclasses

import pytest

from tests.support import need

torch, mx, nn, transformers = need("torch", "mlx.core", "mlx.nn", "transformers")
need("mlx_lm")

import numpy as np
from mlx.utils import tree_flatten

import torch2mlx
from tests.support import close
from torch2mlx import kit
from torch2mlx.export.state.causal import some_tokens
from torch2mlx.export.state.generating import mlx_logits

SIZES = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZES |= {"num_key_value_heads": 1, "intermediate_size": 64, "max_position_embeddings": 64}
SIZES |= {"head_dim": 32, "num_local_experts": 4, "num_experts_per_tok": 2, "pad_token_id": 0}
#: What the layers of a kind are made with. GPT-OSS has its weights turned, and biases beside them;
#: Phi-MoE takes its experts one after another, without topk.
KINDS = {"Mixtral": "bias=False)", "GptOss": "bias=False, turned=True)", "Phimoe": "bias=False)"}


@pytest.fixture(scope="module", params=KINDS)
def both(request):
    """A model of torch, and its translation."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{request.param}Config")(**SIZES)
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    for p in model.parameters():
        p.data = torch.randn_like(p) * 0.2
    language = torch2mlx.language_model(model, check=False)
    assert language.source.count("kit.moe.ExpertLinear(") == 2
    assert language.source.count(f", 4, {KINDS[request.param]}") == 2
    assert language.source.count("kit.moe.ordered(") == 1 and "sorting.sort(" not in language.source
    return model, language


def fresh(language):
    """A module of its own."""
    return dataclasses.replace(language).module


def quantized(module):
    """Layers in few bits, by their paths."""
    held = (nn.QuantizedLinear, nn.QuantizedEmbedding, kit.moe.QuantizedExpertLinear)
    return {path: layer for path, layer in module.named_modules() if isinstance(layer, held)}


def whole(layer, like):
    """The weight that a layer in few bits stands for, as another layer holds it."""
    held = layer.weight, layer.scales, layer.biases
    weight = mx.dequantize(*held, group_size=layer.group_size, bits=layer.bits)
    return weight.swapaxes(-1, -2) if getattr(like, "turned", False) else weight


def test_quantized_experts_answer_as_their_dequantized_weights_do(both):
    model, language = both
    few, plain = fresh(language), fresh(language)
    nn.quantize(few, 32, 4)
    layers = quantized(few)
    experts = [path for path in layers if path.endswith(("gate_up_proj", "down_proj"))]
    linear = sum(type(m) in (torch.nn.Linear, torch.nn.Embedding) for m in model.modules())
    assert len(experts) == 2 and len(layers) == 2 + linear
    like = dict(plain.named_modules())
    given = [(f"{path}.weight", whole(layer, like[path])) for path, layer in layers.items()]
    plain.load_weights(given, strict=False)
    for batch, length in ((1, 9), (3, 40)):
        ids = mx.array(some_tokens(model, batch, length, seed=3).numpy())
        close(mlx_logits(few, ids, (length - 3, 1)), mlx_logits(plain, ids, (length - 3, 1)), 1e-4)
        assert not np.allclose(few(ids), fresh(language)(ids), atol=1e-3)


def test_experts_answer_as_torchs_and_have_its_gradients(both):
    model, language = both
    module = fresh(language)
    for batch, length in ((1, 7), (2, 40)):
        ids = some_tokens(model, batch, length, seed=4)
        with torch.no_grad():
            expected = model(ids).logits.numpy()
        close(mlx_logits(module, mx.array(ids.numpy()), (length - 2, 1)), expected, 1e-4)
    model.zero_grad()
    model(ids).logits.square().mean().backward()
    made = mx.array(ids.numpy())
    loss = nn.value_and_grad(module, lambda: mx.mean(mx.square(module(made))))
    found = dict(tree_flatten(loss()[1]))
    grown = {name: p.grad for name, p in model.named_parameters() if ".experts." in name}
    assert len(grown) in (2, 4)
    for name, grad in grown.items():
        key = name if name in found else f"{name}.weight"
        close(found[key], grad.numpy(), 1e-4)


def test_weights_of_experts_have_the_names_of_the_checkpoint_too(both, tmp_path):
    model, language = both
    language.save(tmp_path / "own")
    torch.save(model.state_dict(), tmp_path / "model.pt")
    language.save(tmp_path / "streamed", weights=tmp_path / "model.pt")
    ids = mx.array(some_tokens(model, 2, 8, seed=5).numpy())
    for name in ("own", "streamed"):
        module = torch2mlx.load(tmp_path / name)
        close(module(ids), language.module(ids), 0)
        state = torch2mlx.revert(tmp_path / name, like=model)
        assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


def test_trained_experts_go_back_to_torch(both):
    model, language = both
    module = fresh(language)
    module.update(nn.utils.tree_map(lambda p: p + 1, module.parameters()))
    state = torch2mlx.to_torch(module, like=model)
    for key, value in model.state_dict().items():
        close(state[key].numpy(), value.numpy() + 1, 1e-6)
