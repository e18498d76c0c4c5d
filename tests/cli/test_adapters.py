"""Adapters on the command line: to mlx-lm, back, merged, and what is said with flags."""

import json

import numpy as np
import pytest

from tests.support import need

(numpy,) = need("safetensors.numpy")

from tests.checkpoint.adapters import toys
from torch2mlx.cli import main

Q = "model.layers.0.self_attn.q_proj"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with an adapter and its model in it."""
    monkeypatch.chdir(tmp_path)
    toys.peft_folder(tmp_path / "lora", toys.matrices(Q))
    base = toys.base_folder(tmp_path / "base", 1, architectures=["LlamaForCausalLM"])
    toys.save(base / "model.safetensors", {f"{Q}.weight": toys.drawn(8, 6)})
    return tmp_path


def test_an_adapter_goes_to_mlx_lm_and_back(here, capsys):
    assert main(["convert", "lora", "mlx", "--base", "base"]) == 0
    assert "2 tensors" in capsys.readouterr().out
    told = json.loads((here / "mlx" / "adapter_config.json").read_text())
    assert told["lora_parameters"]["keys"] == ["self_attn.q_proj"]
    assert main(["revert", "mlx", "back", "--base", "base"]) == 0
    assert capsys.readouterr().out.strip().endswith("back")
    before = numpy.load_file(here / "lora" / "adapter_model.safetensors")
    after = numpy.load_file(here / "back" / "adapter_model.safetensors")
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_model_is_written_with_an_adapter_merged(here, capsys):
    assert main(["convert", "lora", "merged", "--merge", "base", "--dry-run"]) == 0
    assert not (here / "merged").exists()
    assert main(["convert", "lora", "merged", "--merge", "base"]) == 0
    assert "is merged into 1 weight" in capsys.readouterr().out
    assert (here / "merged" / "config.json").is_file()


def test_messages_name_the_flags(here, capsys):
    toys.peft_folder(here / "several", alpha_pattern={"q_proj": 9})
    for line, told in {
        ("convert", "several", "o"): "--merge BASE writes the model with it merged, BASE being the",
        ("convert", "base", "o", "--base", "base"): "--base takes the model that an adapter is for",
        ("convert", "lora", "o", "--rule", "a=Linear"): "--rule is about the weights of a model",
        ("revert", "base", "o", "--base", "base"): "--base is the model that an adapter is for",
    }.items():
        assert main(list(line)) == 1
        assert told in capsys.readouterr().err
    assert not (here / "o").exists()
