"""What is in the folder that mlx-lm reads: tensors, names, numbers. Needs no framework."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.support import need

(numpy,) = need("safetensors.numpy")

from tests.checkpoint.adapters import toys
from torch2mlx import convert
from torch2mlx.checkpoint.adapters import names


def written(folder):
    """(tensors, configuration) of an adapter of mlx-lm."""
    tensors = numpy.load_file(folder / "adapters.safetensors")
    return tensors, json.loads((folder / "adapter_config.json").read_text())


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_matrices_are_turned_and_nothing_is_computed(dtype, tmp_path):
    tensors = {
        key: value.astype(dtype)
        for name in toys.modules()
        for key, value in toys.matrices(name, dora=True).items()
    }
    report = convert(toys.peft_folder(tmp_path / "peft", tensors), tmp_path / "out")
    found, _ = written(tmp_path / "out")
    assert len(found) == len(tensors) == len(report.pieces)
    for name in toys.modules():
        for here, there in (("lora_a", "lora_A.weight"), ("lora_b", "lora_B.weight")):
            expected = tensors[f"base_model.model.{name}.{there}"].T
            np.testing.assert_array_equal(found[f"{name}.{here}"], expected, strict=True)
        expected = tensors[f"base_model.model.{name}.lora_magnitude_vector"]
        np.testing.assert_array_equal(found[f"{name}.m"], expected, strict=True)


def test_bfloat16_stays_bit_for_bit(tmp_path):
    torch, save = need("torch", "safetensors.torch")
    folder = toys.peft_folder(tmp_path / "peft")
    tensors = save.load_file(folder / "adapter_model.safetensors")
    tensors = {name: value.bfloat16() for name, value in tensors.items()}
    save.save_file(tensors, folder / "adapter_model.safetensors")
    convert(folder, tmp_path / "out")
    found = save.load_file(tmp_path / "out" / "adapters.safetensors")
    for name in toys.modules():
        expected = tensors[f"base_model.model.{name}.lora_A.weight"].T
        assert torch.equal(found[f"{name}.lora_a"], expected)


@pytest.mark.parametrize(
    ("changed", "scale"),
    [
        ({"lora_alpha": 3, "r": 2}, 1.5),
        ({"lora_alpha": 3, "r": 2, "use_rslora": True}, 3 / 2**0.5),
        ({"alpha_pattern": {"q_proj": 6, "v_proj": 6}}, 3.0),
        ({"alpha_pattern": {r"model\.layers\.\d+\.self_attn\.[qv]_proj": 5}}, 2.5),
        ({"alpha_pattern": {"^model.layers.0.self_attn.q_proj": 4}}, 2.0),
    ],
)
def test_one_scale_is_what_peft_computes(changed, scale, tmp_path):
    convert(toys.peft_folder(tmp_path / "peft", **changed), tmp_path / "out")
    assert written(tmp_path / "out")[1]["lora_parameters"]["scale"] == scale


def _named(*modules):
    return {key: value for name in modules for key, value in toys.matrices(name).items()}


#: Modules that are adapted, of how many layers, what mlx-lm is told.
KEYS = {
    "all layers": (toys.modules((0, 1)), 2, 2, ["self_attn.q_proj", "self_attn.v_proj"]),
    "the last": (toys.modules((2, 3)), 4, 2, ["self_attn.q_proj", "self_attn.v_proj"]),
    "the first": (toys.modules((0,)), 2, 1, toys.modules((0,))),
    "a gap": (toys.modules((0, 2)), 3, 2, sorted(toys.modules((0, 2)))),
    "not the same": (
        [*toys.modules((0,)), "model.layers.1.self_attn.q_proj"],
        2,
        2,
        sorted([*toys.modules((0,)), "model.layers.1.self_attn.q_proj"]),
    ),
    "the output too": (
        [*toys.modules((1,)), "lm_head"],
        2,
        1,
        ["self_attn.q_proj", "self_attn.v_proj", "lm_head"],
    ),
    "the output alone": (["lm_head"], 2, 0, ["lm_head"]),
    "two digits": (toys.modules((9, 10, 11)), 12, 3, ["self_attn.q_proj", "self_attn.v_proj"]),
}


@pytest.mark.parametrize("case", KEYS)
def test_keys_say_which_modules_are_adapted(case, tmp_path):
    modules, layers, number, keys = KEYS[case]
    folder = toys.peft_folder(tmp_path / "peft", _named(*modules))
    convert(folder, tmp_path / "out", base=toys.base_folder(tmp_path / "base", layers))
    _, told = written(tmp_path / "out")
    assert (told["num_layers"], told["lora_parameters"]["keys"]) == (number, keys)
    assert told["fine_tune_type"] == "lora"


def test_full_names_are_right_whatever_the_number_of_layers(tmp_path):
    report = convert(toys.peft_folder(tmp_path / "peft"), tmp_path / "out")
    assert written(tmp_path / "out")[1]["lora_parameters"]["keys"] == sorted(toys.modules())
    assert report.notes[0].startswith("the base model is not at hand: names are those on which ")


def test_the_base_that_the_configuration_names_is_looked_at(tmp_path):
    base = toys.base_folder(tmp_path / "base")
    folder = toys.peft_folder(tmp_path / "peft", base_model_name_or_path=str(base))
    convert(folder, tmp_path / "out")
    _, told = written(tmp_path / "out")
    assert told["lora_parameters"]["keys"] == ["self_attn.q_proj", "self_attn.v_proj"]
    assert told["model"] == str(base)


def test_experts_of_a_layer_are_one_tensor(tmp_path):
    stem = "model.layers.0.block_sparse_moe.experts"
    tensors = _named(*(f"{stem}.{i}.{name}" for i in range(3) for name in ("w1", "w2")))
    base = toys.base_folder(tmp_path / "base", 1, model_type="mixtral")
    convert(toys.peft_folder(tmp_path / "peft", tensors), tmp_path / "out", base=base)
    found, told = written(tmp_path / "out")
    for here, there in (("gate_proj", "w1"), ("down_proj", "w2")):
        for part, other in (("lora_a", "lora_A.weight"), ("lora_b", "lora_B.weight")):
            parts = [tensors[f"base_model.model.{stem}.{i}.{there}.{other}"] for i in range(3)]
            key = f"model.layers.0.block_sparse_moe.switch_mlp.{here}.{part}"
            np.testing.assert_array_equal(found[key], np.stack(parts), strict=True)
    keys = ["block_sparse_moe.switch_mlp.down_proj", "block_sparse_moe.switch_mlp.gate_proj"]
    assert told["lora_parameters"]["keys"] == keys


def test_a_dtype_that_is_asked_for_is_that_of_every_tensor(tmp_path):
    tensors = {k: v.astype(np.float64) for k, v in _named(*toys.modules()).items()}
    folder = toys.peft_folder(tmp_path / "peft", tensors)
    report = convert(folder, tmp_path / "out")
    assert {v.dtype for v in written(tmp_path / "out")[0].values()} == {np.dtype("float32")}
    assert "8 tensors are cast to float32" in report.notes
    convert(folder, tmp_path / "half", dtype="float16")
    assert {v.dtype for v in written(tmp_path / "half")[0].values()} == {np.dtype("float16")}


def test_a_dry_run_tells_the_files_and_writes_none(tmp_path):
    report = convert(toys.peft_folder(tmp_path / "peft"), tmp_path / "out", dry_run=True)
    assert report.files == (str(tmp_path / "out" / "adapters.safetensors"),)
    assert report.beside == (str(tmp_path / "out" / "adapter_config.json"),)
    assert not (tmp_path / "out").exists()


def test_nothing_but_numpy_is_imported(tmp_path):
    folder = toys.peft_folder(tmp_path / "peft")
    code = (
        "import sys, torch2mlx\n"
        f"torch2mlx.convert({str(folder)!r}, {str(tmp_path / 'out')!r})\n"
        "sys.exit(any(n in sys.modules for n in ('torch', 'peft', 'mlx.core', 'safetensors')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_folder_in_mlx_with_its_own_model_has_names_of_its_own(tmp_path):
    base = toys.base_folder(tmp_path / "base", model_type="mine", model_file="model.py")
    named = ("decoder.blocks.0.up", "decoder.blocks.1.up")
    weights = {f"{name}.weight": toys.drawn(8, 6) for name in named}
    toys.save(base / "model.safetensors", weights, {"format": "mlx"})
    convert(toys.peft_folder(tmp_path / "peft", _named(*named)), tmp_path / "out", base=base)
    found, told = written(tmp_path / "out")
    assert sorted(found) == sorted(f"{n}.{part}" for n in named for part in ("lora_a", "lora_b"))
    assert (told["num_layers"], told["lora_parameters"]["keys"]) == (2, ["up"])


def test_the_table_of_names_is_well_formed():
    rows = json.loads(names.TABLE.read_text())
    types = [name for row in rows for name in row["of"]]
    assert len(types) == len(set(types)) > 50
    for row in rows:
        assert row["of"] == sorted(row["of"])
        known = names.of_type(row["of"][0])
        for pattern, (target, kind) in known.modules.items():
            assert pattern.count("*") == target.count("*") + (kind == "experts")
            if kind != "experts":
                assert known.in_torch(target.replace("*", "3")).name == pattern.replace("*", "3")
