"""Weights as the hub stores them, one matrix for each expert, become those of a model as
`from_pretrained` loads them."""

import json
import re

import numpy as np
import pytest

from tests.support import need

torch, transformers = need("torch", "transformers")
need("safetensors")

from safetensors.torch import load_file, save_file

import torch2mlx
from torch2mlx.errors import KeyCollisionError, StateDictMismatchError

SIZES = {"hidden_size": 24, "intermediate_size": 36, "num_hidden_layers": 2, "vocab_size": 40}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
OTHER = {"hidden_size": 32, "intermediate_size": 20, "num_hidden_layers": 3, "vocab_size": 53}
OTHER |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 80}
LOCAL = {"num_local_experts": 12, "num_experts_per_tok": 2}
EXPERTS = {"num_experts": 12, "num_experts_per_tok": 2}
LATENT = {"n_routed_experts": 12, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1}
LATENT |= {"first_k_dense_replace": 1, "q_lora_rank": 8, "kv_lora_rank": 8, "v_head_dim": 6}
LATENT |= {"qk_rope_head_dim": 4, "qk_nope_head_dim": 6, "moe_intermediate_size": 12}
#: Classes of configurations, what they have beside the sizes, and a name that the hub has.
FAMILIES = {
    "MixtralConfig": (LOCAL, "model.layers.0.block_sparse_moe.experts.11.w1.weight"),
    "PhimoeConfig": (LOCAL, "model.layers.1.block_sparse_moe.gate.weight"),
    "Qwen2MoeConfig": (
        {**EXPERTS, "moe_intermediate_size": 12, "shared_expert_intermediate_size": 16},
        "model.layers.0.mlp.experts.3.gate_proj.weight",
    ),
    "Qwen3MoeConfig": (
        {**EXPERTS, "moe_intermediate_size": 12, "head_dim": 8},
        "model.layers.1.mlp.experts.10.down_proj.weight",
    ),
    "OlmoeConfig": (EXPERTS, "model.layers.1.mlp.experts.2.up_proj.weight"),
    "GraniteMoeConfig": (LOCAL, "model.layers.0.block_sparse_moe.input_linear.weight"),
    "DeepseekV3Config": (LATENT, "model.layers.1.mlp.experts.9.gate_proj.weight"),
    "GptOssConfig": ({**LOCAL, "head_dim": 8}, "model.layers.0.mlp.experts.gate_up_proj"),
}


def config_of(kind, sizes=SIZES):
    given = {**sizes, **FAMILIES[kind][0]}
    if kind == "DeepseekV3Config":
        given["num_key_value_heads"] = given["num_attention_heads"]
    return getattr(transformers, kind)(**given)


def model_of(config, dtype=torch.float32):
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).to(dtype).eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape))
    return model


def shapes_of(config):
    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(config)


def held(path):
    """The arrays that were written, by their names, as torch's tensors."""
    return load_file(str(path))


@pytest.mark.parametrize("sizes", [SIZES, OTHER])
@pytest.mark.parametrize("kind", FAMILIES)
def test_stored_weights_become_those_of_the_model(kind, sizes, tmp_path):
    model = model_of(config_of(kind, sizes))
    model.save_pretrained(tmp_path / "stored", max_shard_size="20KB")
    index = json.loads((tmp_path / "stored" / "model.safetensors.index.json").read_text())
    assert FAMILIES[kind][1] in index["weight_map"]
    written = tmp_path / "made.safetensors"
    torch2mlx.convert(tmp_path / "stored", written, module=shapes_of(model.config))
    made, expected = held(written), model.state_dict()
    assert made.keys() == expected.keys()
    assert all(torch.equal(made[name], expected[name]) for name in expected)


@pytest.fixture
def stored(tmp_path):
    """A Mixtral, its weights as the hub has them, and what converting such weights gives."""
    model = model_of(config_of("MixtralConfig"))
    model.save_pretrained(tmp_path / "stored")
    tensors = load_file(str(tmp_path / "stored" / "model.safetensors"))

    def converted(weights, module=model, **options):
        save_file(weights, str(tmp_path / "given.safetensors"))
        written = tmp_path / "made.safetensors"
        given = tmp_path / "given.safetensors"
        report = torch2mlx.convert(given, written, module=module, force=True, **options)
        return held(written), report

    return model, tensors, converted


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_dtype_of_the_file_is_kept(stored, dtype):
    _, tensors, converted = stored
    made, _ = converted({name: tensor.to(dtype) for name, tensor in tensors.items()})
    name = "model.layers.1.mlp.experts.gate_up_proj"
    parts = (tensors[f"model.layers.1.block_sparse_moe.experts.5.w{i}.weight"] for i in (1, 3))
    assert made[name].dtype == dtype
    assert torch.equal(made[name][5], torch.cat([part.to(dtype) for part in parts]))


def test_all_names_are_the_models_on_the_way_back(stored, tmp_path):
    model, tensors, converted = stored
    _, report = converted(tensors)
    assert any("72 tensors became" in note and "revert" in note for note in report.notes)
    torch2mlx.revert(tmp_path / "made.safetensors", tmp_path / "back.safetensors")
    back = load_file(str(tmp_path / "back.safetensors"))
    assert not model.load_state_dict(back, strict=True).missing_keys


def test_a_model_without_its_head_takes_what_is_stored_with_one(stored):
    model, tensors, converted = stored
    made, report = converted(tensors, module=model.model)
    assert made.keys() == model.model.state_dict().keys()
    assert torch.equal(made["layers.0.mlp.experts.down_proj"], made_of(tensors, 0, "w2"))
    assert report.dropped.keys() == {"lm_head.weight"}


def test_a_model_with_a_head_that_is_tied_takes_what_is_stored_without_one(stored):
    config = config_of("MixtralConfig")
    config.tie_word_embeddings = True
    _, tensors, converted = stored
    inner = {k.removeprefix("model."): t for k, t in tensors.items() if k != "lm_head.weight"}
    made, _ = converted(inner, module=shapes_of(config))
    assert torch.equal(made["model.layers.0.mlp.experts.down_proj"], made_of(tensors, 0, "w2"))


def test_a_prefix_alone_is_taken_off_as_of_other_models(tmp_path):
    sizes = {k: v for k, v in SIZES.items() if k != "num_key_value_heads"}
    model = model_of(transformers.LlamaConfig(**sizes))
    torch.save(model.state_dict(), tmp_path / "whole.pt")
    written = tmp_path / "made.safetensors"
    report = torch2mlx.convert(tmp_path / "whole.pt", written, module=model.model)
    assert held(written).keys() == model.model.state_dict().keys()
    assert report.dropped.keys() == {"lm_head.weight"}
    back = torch2mlx.revert(written)
    assert all(torch.equal(back[name], t) for name, t in model.state_dict().items())


def test_a_part_of_a_file_takes_its_prefix_off(stored):
    _, tensors, converted = stored
    more = {"step": torch.zeros(2), **{f"net.{name}": t for name, t in tensors.items()}}
    made, report = converted(more, prefix="net")
    assert torch.equal(made["model.layers.1.mlp.experts.down_proj"], made_of(tensors, 1, "w2"))
    assert "step" in report.dropped


def made_of(tensors, layer, name):
    key = f"model.layers.{layer}.block_sparse_moe.experts.{{}}.{name}.weight"
    return torch.stack([tensors[key.format(i)] for i in range(12)])


def test_weights_that_are_the_models_already_stay_as_they_are(stored):
    model, _, converted = stored
    made, report = converted({k: v.clone() for k, v in model.state_dict().items()})
    assert made.keys() == model.state_dict().keys()
    assert not any("became" in note for note in report.notes)


GAP = (
    "of '.experts.*.w1.weight', which become 'model.layers.0.mlp.experts.gate_up_proj', those of "
    "4 are missing"
)


@pytest.mark.parametrize("names", [("w1",), ("w1", "w2", "w3")])
def test_an_expert_that_is_missing_among_others_is_refused(stored, names):
    _, tensors, converted = stored
    for name in names:
        del tensors[f"model.layers.0.block_sparse_moe.experts.4.{name}.weight"]
    with pytest.raises(StateDictMismatchError, match=re.escape(GAP)):
        converted(tensors)


def test_an_expert_that_is_missing_at_the_end_is_refused(stored):
    _, tensors, converted = stored
    for name in ("w1", "w2", "w3"):
        del tensors[f"model.layers.0.block_sparse_moe.experts.11.{name}.weight"]
    with pytest.raises(StateDictMismatchError, match=r"gate_up_proj is \[11, 72, 24\], the module"):
        converted(tensors)


def test_experts_that_do_not_fit_together_are_refused_by_name(stored):
    _, tensors, converted = stored
    tensors["model.layers.0.block_sparse_moe.experts.4.w1.weight"] = torch.zeros(5, 24)
    told = "transformers cannot make 'model.layers.0.mlp.experts.gate_up_proj' from"
    with pytest.raises(StateDictMismatchError, match=told):
        converted(tensors)


def test_two_tensors_that_would_be_one_are_refused_by_name(stored):
    _, tensors, converted = stored
    tensors["model.layers.0.mlp.gate.weight"] = torch.zeros(12, 24)
    told = "'model.layers.0.block_sparse_moe.gate.weight' and 'model.layers.0.mlp.gate.weight'"
    with pytest.raises(KeyCollisionError, match=f"{told} as 'model.layers.0.mlp.gate.weight'"):
        converted(tensors)


def with_operation(monkeypatch, stored_as, operation):
    """The table of transformers with one entry, for the head."""
    from transformers import conversion_mapping
    from transformers.core_model_loading import WeightConverter

    def table(model, *args, **options):
        return [WeightConverter(stored_as, "lm_head.weight", [operation])]

    monkeypatch.setattr(conversion_mapping, "get_model_conversion_mapping", table)


def test_an_operation_that_may_change_numbers_is_refused_by_name(stored, monkeypatch):
    from transformers.core_model_loading import ConversionOps

    class Doubled(ConversionOps):
        def convert(self, input_dict, source_patterns, target_patterns, **options):
            return {target_patterns[0]: 2 * next(iter(input_dict.values()))[0]}

    model, _, converted = stored
    with_operation(monkeypatch, "lm_head.half", Doubled())
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights["lm_head.half"] = weights.pop("lm_head.weight")
    told = "makes 'lm_head.weight' from lm_head.half by Doubled, which is not known here"
    with pytest.raises(StateDictMismatchError, match=told):
        converted(weights)


def test_one_tensor_is_cut_into_several(stored, monkeypatch):
    from transformers import conversion_mapping
    from transformers.core_model_loading import Chunk, Transpose, WeightConverter

    def table(model, *args, **options):
        cut = [f"self_attn.{name}_proj.weight" for name in "kv"]
        turned = WeightConverter("lm_head.turned", "lm_head.weight", [Transpose(0, 1)])
        return [WeightConverter("self_attn.kv.weight", cut, [Chunk(dim=0)]), turned]

    monkeypatch.setattr(conversion_mapping, "get_model_conversion_mapping", table)
    model, _, converted = stored
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for layer in range(2):
        name = f"model.layers.{layer}.self_attn"
        cut = [weights.pop(f"{name}.{one}_proj.weight") for one in "kv"]
        weights[f"{name}.kv.weight"] = torch.cat(cut)
    weights["lm_head.turned"] = weights.pop("lm_head.weight").T.contiguous()
    made, _ = converted(weights)
    expected = model.state_dict()
    assert made.keys() == expected.keys()
    assert all(torch.equal(made[name], expected[name]) for name in expected)


def test_what_the_models_class_does_not_load_is_left_out_with_a_note(tmp_path):
    model = model_of(config_of("DeepseekV3Config"))
    model._keys_to_ignore_on_load_unexpected = [r"model\.layers\.2\."]
    model.save_pretrained(tmp_path / "stored")
    tensors = load_file(str(tmp_path / "stored" / "model.safetensors"))
    for name, tensor in list(tensors.items()):
        if name.startswith("model.layers.1."):
            tensors[name.replace(".1.", ".2.", 1)] = tensor.clone()
    save_file(tensors, str(tmp_path / "more.safetensors"))
    written = tmp_path / "made.safetensors"
    report = torch2mlx.convert(tmp_path / "more.safetensors", written, module=model)
    assert held(written).keys() == model.state_dict().keys()
    assert any("transformers does not load model.layers.2." in note for note in report.notes)


def test_a_file_of_torch_save_is_read_too(stored, tmp_path):
    model, tensors, _ = stored
    tensors = {k: t.t().contiguous().t() if t.ndim == 2 else t for k, t in tensors.items()}
    torch.save(tensors, tmp_path / "given.pt")
    torch2mlx.convert(tmp_path / "given.pt", tmp_path / "made.safetensors", module=model)
    made = held(tmp_path / "made.safetensors")
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(made[name].numpy(), tensor.numpy())
