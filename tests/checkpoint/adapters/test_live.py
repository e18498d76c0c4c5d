"""A model of PEFT that lives in memory: its adapter, the model with it merged, or one error."""

import json

import numpy as np
import pytest

from tests.support import need

torch, peft = need("torch", "peft")
need("transformers", "mlx.core", "mlx_lm")

from tests.checkpoint.adapters import toys
from torch2mlx import convert, revert
from torch2mlx.errors import ConversionError

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's, on what it saves


@pytest.mark.parametrize("make", [toys.llama, toys.gpt2])
def test_a_live_adapter_is_the_one_that_peft_saves(make, tmp_path):
    targets = ["q_proj", "up_proj"] if make is toys.llama else ["c_attn", "c_proj"]
    adapted = toys.trained(make(), target_modules=targets, use_dora=True)
    adapted.save_pretrained(tmp_path / "peft")
    make().save_pretrained(tmp_path / "base")
    convert(tmp_path / "peft", tmp_path / "saved", base=tmp_path / "base")
    convert(adapted, tmp_path / "live")
    mine, saved = (tmp_path / n / "adapters.safetensors" for n in ("live", "saved"))
    (mx,) = need("mlx.core")
    found, expected = mx.load(str(mine)), mx.load(str(saved))
    assert found.keys() == expected.keys()
    assert all(mx.array_equal(found[name], expected[name]) for name in expected)
    told = [
        json.loads((tmp_path / n / "adapter_config.json").read_text()) for n in ("live", "saved")
    ]
    for name in ("num_layers", "lora_parameters", "fine_tune_type"):
        assert told[0][name] == told[1][name]
    convert(tmp_path / "base", tmp_path / "mlx")
    expected = toys.logits(adapted, toys.tokens())
    found = toys.in_mlx_lm(tmp_path / "mlx", toys.tokens(), tmp_path / "live")
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_the_scale_is_that_of_the_live_layers(tmp_path):
    adapted = toys.trained(toys.llama(), target_modules=["q_proj"])
    for module in adapted.modules():
        if hasattr(module, "set_scale"):
            module.set_scale("default", 0.5)
    convert(adapted, tmp_path / "mlx")
    told = json.loads((tmp_path / "mlx" / "adapter_config.json").read_text())
    assert told["lora_parameters"]["scale"] == 1.25
    revert(tmp_path / "mlx", tmp_path / "back")
    told = json.loads((tmp_path / "back" / "adapter_config.json").read_text())
    assert told["lora_alpha"] == 5


MERGED = {
    "lora": (toys.llama, {"target_modules": ["q_proj", "embed_tokens"]}),
    "patterns and modules to save": (
        toys.llama,
        {
            "target_modules": ["q_proj", "v_proj"],
            "rank_pattern": {"v_proj": 2},
            "modules_to_save": ["norm", "lm_head"],
        },
    ),
    "Conv1D with biases": (toys.gpt2, {"target_modules": ["c_attn"], "bias": "lora_only"}),
}


@pytest.mark.parametrize("case", MERGED)
def test_a_live_model_is_merged_as_peft_merges_it(case, tmp_path):
    make, options = MERGED[case]
    adapted = toys.trained(make(), **options)
    before = {name: tensor.clone() for name, tensor in adapted.state_dict().items()}
    convert(adapted, tmp_path / "merged.safetensors", merge=True)
    after = adapted.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    back, expected = revert(tmp_path / "merged.safetensors"), adapted.merge_and_unload()
    assert list(back) == list(expected.state_dict())
    for name, tensor in expected.state_dict().items():
        assert (back[name] - tensor).abs().max() <= 1e-6 * max(1.0, tensor.abs().max())
    expected.load_state_dict(back)


def _two(model):
    model.add_adapter("other", peft.LoraConfig(r=2, target_modules=["q_proj"]))
    model.base_model.set_adapter(["default", "other"])
    return model


def _merged(model):
    model.merge_adapter()
    return model


def _off(model):
    model.base_model.disable_adapter_layers()
    return model


class _Holder(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.net = model.get_base_model()


#: What is done to a model first, and what is said of it then.
REFUSED = {
    "two adapters": (
        _two,
        "PeftModelForCausalLM has 2 active adapters (default, other): choose one with set_adapter",
    ),
    "merged": (
        _merged,
        "PeftModelForCausalLM has its adapter merged into the weights: unmerge_adapter() takes it "
        "out, and merge_and_unload() leaves a model without layers of PEFT",
    ),
    "disabled": (
        _off,
        "PeftModelForCausalLM has its adapter disabled: enable_adapter_layers() first",
    ),
    "within another module": (
        _Holder,
        "_Holder has layers of PEFT in it (net.model.layers.0.self_attn.q_proj): pass the "
        "PeftModel itself, or merge the adapter first (merge_and_unload)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_model_that_is_not_one_adapter_is_refused(case, tmp_path):
    change, told = REFUSED[case]
    model = change(toys.trained(toys.llama(), 1, target_modules=["q_proj"]))
    for merge in (None, True):
        with pytest.raises(ConversionError) as caught:
            convert(model, tmp_path / "out", merge=merge)
        assert str(caught.value) == told
    assert not (tmp_path / "out").exists()


def test_another_kind_and_what_mlx_lm_cannot_say_are_refused(tmp_path):
    config = peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[])
    with pytest.raises(ConversionError, match="is an adapter of kind IA3; LoRA and DoRA can be"):
        convert(peft.get_peft_model(toys.llama(), config), tmp_path / "out")
    model = toys.trained(toys.llama(), 1, target_modules=["q_proj"], modules_to_save=["lm_head"])
    with pytest.raises(ConversionError) as caught:
        convert(model, tmp_path / "out")
    assert str(caught.value).startswith(
        "PeftModelForCausalLM: mlx-lm's adapters cannot say what this one does: it holds whole "
        "tensors of the model: lm_head.weight. merge=True writes the model with it merged"
    )
    with pytest.raises(ConversionError, match=r"^merge= takes True here, not "):
        convert(model, tmp_path / "out", merge=tmp_path)


def test_a_vocabulary_that_was_resized_is_no_part_of_an_adapter(tmp_path):
    toys.llama().save_pretrained(tmp_path / "base")
    model = toys.trained(toys.llama(vocab_size=101), 1, target_modules=["q_proj"])
    with pytest.raises(ConversionError) as caught:
        convert(model, tmp_path / "out", base=tmp_path / "base")
    assert str(caught.value) == (
        f"PeftModelForCausalLM: has a vocabulary of 101, and {tmp_path / 'base'} one of 97: the "
        "embedding was resized, which is no part of an adapter; merge=True writes the model with "
        "it merged"
    )


def test_a_merged_model_is_one_like_any_other(tmp_path):
    model = toys.trained(toys.llama(), 1, target_modules=["q_proj"]).merge_and_unload()
    convert(model, tmp_path / "out.safetensors")
    assert revert(tmp_path / "out.safetensors").keys() == model.state_dict().keys()
