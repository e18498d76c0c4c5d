"""Adapters that mlx-lm trained, in PEFT: loaded strictly, the logits are mlx-lm's."""

import json
import warnings

import numpy as np
import pytest

from tests.support import need

torch, peft = need("torch", "peft")
need("transformers", "mlx.core", "mlx_lm")

from tests.checkpoint.adapters import toys
from torch2mlx import convert, revert

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's, on what it saves


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


def settings(*folders):
    """The configurations in some folders."""
    return [json.loads((folder / "adapter_config.json").read_text()) for folder in folders]


def loaded(make, folder):
    """A base model with an adapter of PEFT, every tensor of which had its place."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        adapted = peft.PeftModel.from_pretrained(make(), folder)
    assert not [str(w.message) for w in told if "adapter" in str(w.message).lower()]
    held = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
    given = peft.utils.load_peft_weights(str(folder), device="cpu")
    assert held.keys() == given.keys()
    assert all(torch.equal(held[name], given[name]) for name in held)
    return adapted.eval()


CASES = {
    "all linear layers": (toys.llama, {}),
    "keys, the last two layers": (
        toys.llama,
        {"num_layers": 2, "lora_parameters": {"keys": ["self_attn.q_proj", "mlp.up_proj"]}},
    ),
    "the output and the embedding": (
        toys.llama,
        {"lora_parameters": {"keys": ["lm_head", "model.embed_tokens"], "rank": 3, "scale": 0.1}},
    ),
    "dora": (toys.llama, {"fine_tune_type": "dora", "num_layers": 1}),
    "Conv1D": (toys.gpt2, {}),
    "dora of Conv1D": (toys.gpt2, {"fine_tune_type": "dora"}),
}


@pytest.mark.parametrize("case", CASES)
def test_an_adapter_of_mlx_lm_computes_the_same_in_peft(case, folders, tmp_path):
    make, options = CASES[case]
    here = folders[make]
    answer = toys.trained_in_mlx(here / "mlx", tmp_path / "mlx", **options)
    revert(tmp_path / "mlx", tmp_path / "peft", base=here / "base")
    adapted = loaded(make, tmp_path / "peft")
    for ids in (toys.tokens(2, 9), toys.tokens(1, 17, 5)):
        expected = answer(ids)
        found = toys.logits(adapted, ids)
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
        plain = toys.logits(make().eval(), ids)
        assert np.abs(plain - expected).max() > 1e-2 * np.abs(expected).max()


@pytest.mark.parametrize("dora", [False, True])
def test_what_peft_saved_comes_back_bit_for_bit(dora, tmp_path):
    options = {"target_modules": ["q_proj", "up_proj"], "use_dora": dora, "use_rslora": True}
    adapted = toys.trained(toys.llama(), 1, r=3, lora_alpha=7, **options)
    adapted.save_pretrained(tmp_path / "peft")
    convert(tmp_path / "peft", tmp_path / "mlx")
    revert(tmp_path / "mlx", tmp_path / "again")
    before, after = (peft.utils.load_peft_weights(str(tmp_path / n)) for n in ("peft", "again"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    told = settings(tmp_path / "peft", tmp_path / "again")
    assert told[0] == told[1]
    found = revert(tmp_path / "mlx")
    assert all(torch.equal(before[name], found[name]) for name in before)
    assert toys.logits(loaded(toys.llama, tmp_path / "again"), toys.tokens()).shape == (2, 9, 97)


def test_what_mlx_lm_saved_comes_back_bit_for_bit(folders, tmp_path):
    options = {"num_layers": 2, "lora_parameters": {"keys": ["self_attn.q_proj"], "scale": 0.3}}
    base = folders[toys.llama] / "base"
    toys.trained_in_mlx(folders[toys.llama] / "mlx", tmp_path / "mlx", 2, **options)
    revert(tmp_path / "mlx", tmp_path / "peft", base=base)
    convert(tmp_path / "peft", tmp_path / "again", base=base)
    (mx,) = need("mlx.core")
    before, after = (mx.load(str(tmp_path / n / "adapters.safetensors")) for n in ("mlx", "again"))
    assert before.keys() == after.keys()
    assert all(mx.array_equal(before[name], after[name]) for name in before)
    told = settings(tmp_path / "mlx", tmp_path / "again")
    for name in ("num_layers", "lora_parameters", "fine_tune_type"):
        assert told[0][name] == told[1][name]


def test_what_was_trained_on_in_mlx_comes_back_with_its_settings(folders, tmp_path):
    adapted = toys.trained(toys.llama(), target_modules=["q_proj"])
    adapted.save_pretrained(tmp_path / "peft")
    here = folders[toys.llama]
    convert(tmp_path / "peft", tmp_path / "mlx", base=here / "base")
    (mx,) = need("mlx.core")
    file = str(tmp_path / "mlx" / "adapters.safetensors")
    mx.save_safetensors(file, {k: v * 1.5 for k, v in mx.load(file).items()})
    revert(tmp_path / "mlx", tmp_path / "back", base=here / "base")
    told = settings(tmp_path / "peft", tmp_path / "back")
    assert told[0] == told[1]
    expected = toys.in_mlx_lm(here / "mlx", toys.tokens(), tmp_path / "mlx")
    found = toys.logits(loaded(toys.llama, tmp_path / "back"), toys.tokens())
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
