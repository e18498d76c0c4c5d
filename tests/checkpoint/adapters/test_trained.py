"""Adapters that PEFT trained, in mlx-lm: the logits are PEFT's."""

import json

import numpy as np
import pytest

from tests.support import need

need("torch", "transformers", "peft", "mlx.core", "mlx_lm")

from tests.checkpoint.adapters import toys
from torch2mlx import convert

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's, on what it saves

CASES = {
    "lora": (toys.llama, {"target_modules": ["q_proj", "v_proj", "down_proj"]}),
    "rslora of the last layers": (
        toys.llama,
        {"target_modules": ["q_proj"], "layers_to_transform": [1, 2], "use_rslora": True},
    ),
    "dora, also of the output": (
        toys.llama,
        {"target_modules": ["v_proj", "lm_head"], "layers_to_transform": [0], "use_dora": True},
    ),
    "embedding": (toys.llama, {"target_modules": ["q_proj", "embed_tokens"]}),
    "lora of Conv1D": (toys.gpt2, {"target_modules": ["c_attn", "c_proj"]}),
    "dora of Conv1D": (toys.gpt2, {"target_modules": ["c_attn"], "use_dora": True}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The base models, of torch and converted, each saved once."""
    found = {}
    for make in (toys.llama, toys.gpt2):
        here = tmp_path_factory.mktemp(make.__name__)
        make().save_pretrained(here / "base")
        convert(here / "base", here / "mlx")
        found[make] = here
    return found


@pytest.mark.parametrize("case", CASES)
def test_an_adapter_of_peft_computes_the_same_in_mlx_lm(case, folders, tmp_path):
    make, options = CASES[case]
    adapted = toys.trained(make(), **options)
    adapted.save_pretrained(tmp_path / "peft")
    here = folders[make]
    convert(tmp_path / "peft", tmp_path / "mlx", base=here / "base")
    for ids in (toys.tokens(2, 9), toys.tokens(1, 17, 5)):
        expected = toys.logits(adapted, ids)
        found = toys.in_mlx_lm(here / "mlx", ids, tmp_path / "mlx")
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
        plain = toys.in_mlx_lm(here / "mlx", ids)
        assert np.abs(plain - expected).max() > 1e-3 * np.abs(expected).max()


def test_a_converted_base_does_as_well_as_that_of_torch(folders, tmp_path):
    toys.trained(toys.gpt2(), target_modules=["c_attn"]).save_pretrained(tmp_path / "peft")
    for name in ("base", "mlx"):
        convert(tmp_path / "peft", tmp_path / f"with_{name}", base=folders[toys.gpt2] / name)
    one, other = (tmp_path / f"with_{name}" for name in ("base", "mlx"))
    for name in ("adapters.safetensors", "adapter_config.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_the_adapter_in_a_pickle_is_that_of_a_safetensors_file(folders, tmp_path):
    adapted = toys.trained(toys.llama(), target_modules=["q_proj"])
    adapted.save_pretrained(tmp_path / "a")
    adapted.save_pretrained(tmp_path / "b", safe_serialization=False)
    assert (tmp_path / "b" / "adapter_model.bin").is_file()
    for name in ("a", "b"):
        convert(tmp_path / name, tmp_path / f"mlx_{name}")
    for name in ("adapters.safetensors", "adapter_config.json"):
        assert (tmp_path / "mlx_a" / name).read_bytes() == (tmp_path / "mlx_b" / name).read_bytes()


def test_keys_are_those_of_a_layer_where_the_base_is_known(folders, tmp_path):
    options = {"target_modules": ["q_proj"], "layers_to_transform": [1, 2]}
    toys.trained(toys.llama(), **options).save_pretrained(tmp_path / "peft")
    convert(tmp_path / "peft", tmp_path / "mlx", base=folders[toys.llama] / "base")
    told = json.loads((tmp_path / "mlx" / "adapter_config.json").read_text())
    assert told["num_layers"] == 2
    assert told["lora_parameters"] == {
        "rank": 4,
        "scale": 2.5,
        "dropout": 0.0,
        "keys": ["self_attn.q_proj"],
    }
