"""What a converted folder says of its model: all of the source's, and what mlx-lm reads."""

import json

import numpy as np
import pytest

from torch2mlx import convert, revert
from torch2mlx.checkpoint.source.paths import checked
from torch2mlx.checkpoint.write.companions import companions

WEIGHTS = {"model.norm.weight": np.ones(4, np.float32)}


def converted(tmp_path, text):
    """(what the copied config.json is, the report) of a folder with this config.json."""
    source = tmp_path / "source"
    source.mkdir()
    convert(WEIGHTS, tmp_path / "made.safetensors")
    revert(tmp_path / "made.safetensors", source / "model.safetensors")
    (source / "config.json").write_text(text)
    report = convert(source, tmp_path / "out", on_unmapped="ignore")
    return (tmp_path / "out" / "config.json").read_text(), report


ROPE = {"rope_type": "default", "rope_theta": 500000.0}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0}


@pytest.mark.parametrize(
    ("config", "added"),
    [
        ({"model_type": "gpt2", "n_positions": 64}, {"n_ctx": 64}),
        ({"model_type": "llama", "rope_parameters": ROPE}, {"rope_theta": 500000.0}),
        (
            {"model_type": "llama", "rope_parameters": LLAMA3},
            {
                "rope_theta": 5e5,
                "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0},
            },
        ),
        (
            {"model_type": "gpt_neox", "rope_parameters": {**ROPE, "partial_rotary_factor": 0.25}},
            {
                "rope_theta": 500000.0,
                "partial_rotary_factor": 0.25,
                "rotary_emb_base": 500000.0,
                "rotary_pct": 0.25,
            },
        ),
    ],
    ids=lambda value: value.get("model_type"),
)
def test_entries_that_transformers_renamed_stand_under_mlx_lms_names_too(config, added, tmp_path):
    text, report = converted(tmp_path, json.dumps(config))
    assert json.loads(text) == {**config, **added}
    assert f"config.json: {', '.join(added)} added" in "\n".join(report.notes)


def test_a_dry_run_reports_the_files_that_the_run_does(tmp_path):
    converted(tmp_path, "{}")
    out = tmp_path / "new"
    planned = convert(tmp_path / "source", out, on_unmapped="ignore", dry_run=True)
    made = convert(tmp_path / "source", out, on_unmapped="ignore")
    assert planned.files == made.files == (str(out / "model.safetensors"),)
    beside = ("model.safetensors.index.json", "config.json")
    assert planned.beside == made.beside == tuple(str(out / name) for name in beside)


def test_a_configuration_within_one_gets_them_too(tmp_path):
    config = {"model_type": "mllama", "text_config": {"rope_parameters": ROPE, "hidden_size": 4}}
    text, report = converted(tmp_path, json.dumps(config))
    inner = {**config["text_config"], "rope_theta": 500000.0}
    assert json.loads(text) == {**config, "text_config": inner}
    assert any("text_config.rope_theta added" in note for note in report.notes)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "gpt2", "n_positions": 64, "n_ctx": 32},
        {"model_type": "bert", "n_positions": 64},
        {"model_type": "llama", "rope_parameters": ROPE, "rope_theta": 10000.0},
        {"model_type": "gemma3", "rope_parameters": {"full_attention": ROPE}},
        {"model_type": "llama", "rope_parameters": {"rope_theta": "much"}},
        {"model_type": "llama", "rope_parameters": [1]},
        {"text_config": [1]},
    ],
    ids=str,
)
def test_what_lacks_nothing_is_copied_byte_for_byte(config, tmp_path):
    text = json.dumps(config, indent=7)
    copy, report = converted(tmp_path, text)
    assert copy == text
    assert not any("added" in note for note in report.notes)


@pytest.mark.parametrize("text", ["[1, 2]", '{"a": 1', ""], ids=repr)
def test_a_file_that_is_no_configuration_is_copied_as_it_is(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    assert companions(checked(tmp_path, "source")) == ([tmp_path / "config.json"], [])
