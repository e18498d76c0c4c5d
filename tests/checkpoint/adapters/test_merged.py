"""Adapters that are merged into their model: PEFT's own merge_and_unload says what comes out."""

import json

import numpy as np
import pytest

from tests.support import need

torch, peft = need("torch", "peft")
need("transformers", "mlx.core", "mlx_lm")

from tests.checkpoint.adapters import toys
from torch2mlx import convert, load_converted, revert

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's, on what it saves

CASES = {
    "patterns of ranks and scales": (
        toys.llama,
        {
            "target_modules": ["q_proj", "v_proj", "up_proj"],
            "rank_pattern": {"q_proj": 3, r"layers\.1\..*v_proj": 5},
            "alpha_pattern": {"up_proj": 3},
        },
    ),
    "modules to save": (
        toys.llama,
        {"target_modules": ["k_proj"], "modules_to_save": ["lm_head", "norm"]},
    ),
    "biases": (toys.gpt2, {"target_modules": ["c_attn", "c_proj"], "bias": "lora_only"}),
    "all biases": (toys.gpt2, {"target_modules": ["c_fc"], "bias": "all"}),
    "a bias of B": (toys.gpt2, {"target_modules": ["c_fc"], "lora_bias": True}),
    "dora": (toys.llama, {"target_modules": ["o_proj", "embed_tokens"], "use_dora": True}),
    "dora of Conv1D": (toys.gpt2, {"target_modules": ["c_proj"], "use_dora": True}),
    "what mlx-lm could say": (toys.llama, {"target_modules": ["q_proj"], "use_rslora": True}),
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """The base models, saved once."""
    found = {}
    for make in (toys.llama, toys.gpt2):
        found[make] = tmp_path_factory.mktemp(make.__name__) / "base"
        make().save_pretrained(found[make])
    return found


def same(found, expected, tolerance=1e-6):
    """Two state dicts of torch: same names and dtypes, numbers within the tolerance."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        far = (found[name].double() - tensor.double()).abs().max()
        assert far <= tolerance * max(1.0, tensor.double().abs().max()), name


@pytest.mark.parametrize("case", CASES)
def test_a_merged_model_is_that_of_peft(case, bases, tmp_path):
    make, options = CASES[case]
    adapted = toys.trained(make(), **options)
    adapted.save_pretrained(tmp_path / "peft")
    ids = toys.tokens()
    expected = toys.logits(adapted, ids)
    convert(tmp_path / "peft", tmp_path / "merged", merge=bases[make])
    found = toys.in_mlx_lm(tmp_path / "merged", ids)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    merged = adapted.merge_and_unload().state_dict()
    back = revert(tmp_path / "merged")
    assert merged.keys() - back.keys() <= {"lm_head.weight"}  # tied, and not in the file
    same(back, {name: merged[name] for name in back})


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_numbers_are_rounded_once_to_the_dtype_of_the_model(dtype, tmp_path):
    model = toys.llama().to(getattr(torch, dtype))
    model.save_pretrained(tmp_path / "base")
    folder = toys.peft_folder(
        tmp_path / "peft", toys.matrices("model.layers.0.self_attn.q_proj", 2, 32, 32)
    )
    convert(folder, tmp_path / "merged.safetensors", merge=tmp_path / "base", dtype="float64")
    found = load_converted(tmp_path / "merged.safetensors", framework="numpy")
    key = "model.layers.0.self_attn.q_proj.weight"
    a, b = (t for _, t in sorted(toys.matrices(key.removesuffix(".weight"), 2, 32, 32).items()))
    wide = np.float64 if dtype == "float64" else np.float32
    weight = model.state_dict()[key].to(getattr(torch, np.dtype(wide).name)).numpy()
    sums = weight + (b.astype(wide) @ a.astype(wide)) * wide(2)
    expected = torch.from_numpy(sums).to(getattr(torch, dtype)).double().numpy()
    np.testing.assert_array_equal(found[key], expected)


def test_a_convolution_is_merged_as_peft_merges_it(tmp_path):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 3)
            self.point = torch.nn.Conv2d(8, 5, 1)

        def forward(self, x):
            return self.point(self.conv(x).relu())

    for dora in (False, True):
        torch.manual_seed(0)
        net = Net()
        torch.save(net.state_dict(), tmp_path / "base.pt")
        settings = peft.LoraConfig(target_modules=["conv", "point"], r=2, use_dora=dora)
        adapted = peft.get_peft_model(net, settings)
        for name, value in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(value)
        adapted.save_pretrained(tmp_path / f"peft{dora}")
        convert(
            tmp_path / f"peft{dora}",
            tmp_path / "merged.safetensors",
            merge=tmp_path / "base.pt",
            module=Net(),
        )
        same(revert(tmp_path / "merged.safetensors"), adapted.merge_and_unload().state_dict())


def test_an_adapter_in_the_folder_of_its_model_is_merged_into_it(bases, tmp_path):
    toys.llama().save_pretrained(tmp_path / "both")
    toys.trained(toys.llama(), target_modules=["q_proj"]).save_pretrained(tmp_path / "both")
    convert(tmp_path / "both", tmp_path / "one", merge=tmp_path / "both")
    convert(
        tmp_path / "both" / "adapter_model.safetensors",
        tmp_path / "other",
        merge=bases[toys.llama],
    )
    files = {path.name for path in (tmp_path / "one").iterdir()}
    assert "config.json" in files and "adapter_config.json" not in files
    one, other = (load_converted(tmp_path / n, framework="numpy") for n in ("one", "other"))
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert json.loads((tmp_path / "one" / "config.json").read_text())["model_type"] == "llama"
