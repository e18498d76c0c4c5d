"""Merges that would not be what PEFT computes: one error each, before anything is written."""

import json
import os

import numpy as np
import pytest

from tests.support import need

need("safetensors")

from tests.checkpoint.adapters import toys
from torch2mlx import convert, load_converted
from torch2mlx.errors import AlreadyConvertedError, CheckpointError, ConversionError

Q = "model.layers.0.self_attn.q_proj"
EMBEDDING = {
    "base_model.model.model.embed_tokens.lora_embedding_A": toys.drawn(2, 9),
    "base_model.model.model.embed_tokens.lora_embedding_B": toys.drawn(6, 2),
}


TIED = "and embedding and output layer are one tensor in this model: PEFT changes one use of it"


def model(folder, tensors, **changed):
    """A model's folder with some weights."""
    base = toys.base_folder(folder, architectures=["LlamaForCausalLM"], **changed)
    toys.save(base / "model.safetensors", tensors)
    return base


#: Tensors of the adapter, its entries, weights of the model, entries of its config.json, the error.
REFUSED = {
    "pissa": (
        toys.matrices(Q),
        {"init_lora_weights": "pissa"},
        {f"{Q}.weight": toys.drawn(8, 6)},
        {},
        "its configuration says init_lora_weights='pissa', of which PEFT alone knows what it means",
    ),
    "no such module": (
        toys.matrices(Q),
        {},
        {"model.norm.weight": toys.drawn(6)},
        {},
        f"{Q} is adapted, and the model has no {Q}.weight",
    ),
    "no such module, tied": (
        toys.matrices("lm_head"),
        {},
        {"model.norm.weight": toys.drawn(6)},
        {"tie_word_embeddings": True},
        "lm_head is adapted, and the model has no lm_head.weight (it may be tied to another)",
    ),
    "sizes": (
        toys.matrices(Q),
        {},
        {f"{Q}.weight": toys.drawn(8, 7)},
        {},
        f"the update of {Q} is (8, 6), and {Q}.weight is (8, 7)",
    ),
    "packed": (
        toys.matrices(Q),
        {},
        {f"{Q}.weight": np.ones((8, 6), np.uint8)},
        {},
        f"{Q}.weight is uint8, not of floating point: load the model with transformers, and save "
        "it dequantized",
    ),
    "tied embedding": (
        EMBEDDING,
        {},
        {"model.embed_tokens.weight": toys.drawn(9, 6)},
        {"tie_word_embeddings": True},
        f"model.embed_tokens.weight is adapted, {TIED}",
    ),
    "tied output that is in the file": (
        toys.matrices("lm_head"),
        {},
        {"model.embed_tokens.weight": toys.drawn(8, 6), "lm_head.weight": toys.drawn(8, 6)},
        {"tie_word_embeddings": True},
        f"lm_head.weight is adapted, {TIED}",
    ),
    "tied output that was trained": (
        {**toys.matrices(Q), "base_model.model.lm_head.weight": toys.drawn(9, 6)},
        {"modules_to_save": ["lm_head"]},
        {f"{Q}.weight": toys.drawn(8, 6), "lm_head.weight": toys.drawn(9, 6) + 1},
        {"tie_word_embeddings": True},
        f"lm_head.weight was trained, {TIED}",
    ),
    "resized vocabulary": (
        {**toys.matrices(Q), "base_model.model.lm_head.weight": toys.drawn(10, 6)},
        {"modules_to_save": ["lm_head"]},
        {f"{Q}.weight": toys.drawn(8, 6), "lm_head.weight": toys.drawn(9, 6)},
        {},
        "lm_head.weight is (10, 6) in the adapter and (9, 6) in the model: save the model with "
        "PEFT (merge_and_unload) where its vocabulary was resized",
    ),
    "no bias": (
        {**toys.matrices(Q), f"base_model.model.{Q}.lora_B.bias": toys.drawn(8)},
        {"lora_bias": True},
        {f"{Q}.weight": toys.drawn(8, 6)},
        {},
        f"{Q} is adapted, and the model has no {Q}.bias",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_merge_that_would_not_be_pefts_is_refused(case, tmp_path):
    tensors, entries, weights, changed, told = REFUSED[case]
    folder = toys.peft_folder(tmp_path / "peft", tensors, **entries)
    base = model(tmp_path / "base", weights, **changed)
    with pytest.raises(ConversionError) as caught:
        convert(folder, tmp_path / "out", merge=base)
    file = folder / "adapter_model.safetensors"
    assert str(caught.value) == f"{file}: cannot be merged into {base}: {told}"
    assert sorted(os.listdir(tmp_path)) == ["base", "peft"]


def test_another_kind_of_adapter_is_not_merged_either(tmp_path):
    folder = toys.peft_folder(tmp_path / "peft", peft_type="IA3")
    base = model(tmp_path / "base", {f"{Q}.weight": toys.drawn(8, 6)})
    with pytest.raises(ConversionError, match="is an adapter of kind IA3; LoRA and DoRA can be"):
        convert(folder, tmp_path / "out", merge=base)


def test_what_merge_takes_is_a_model_of_pytorch(tmp_path):
    folder = toys.peft_folder(tmp_path / "peft", toys.matrices(Q))
    base = model(tmp_path / "base", {f"{Q}.weight": toys.drawn(8, 6)})
    with pytest.raises(ConversionError) as caught:
        convert(base, tmp_path / "out", merge=base)
    with pytest.raises(ConversionError, match=r"^base= takes the model that an adapter is for, "):
        convert(base, tmp_path / "out", base=base)
    with pytest.raises(ConversionError, match=r"base= an adapter for the one that is given"):
        convert(folder, tmp_path / "out", base=base, merge=base)
    assert str(caught.value) == (
        "merge= takes the model that an adapter is for, and the source is no adapter of PEFT"
    )
    with pytest.raises(ConversionError, match=r"^merge= takes the folder of a model, not 3$"):
        convert(folder, tmp_path / "out", merge=3)
    with pytest.raises(CheckpointError, match="does not exist"):
        convert(folder, tmp_path / "out", merge=tmp_path / "nothing")
    convert(base, tmp_path / "mlx")
    with pytest.raises(AlreadyConvertedError):
        convert(folder, tmp_path / "out", merge=tmp_path / "mlx")


@pytest.mark.parametrize("prefix", ["", "transformer."])
@pytest.mark.parametrize("columns", [6, 8])
def test_a_matrix_of_conv1d_is_told_by_its_class_where_it_is_square(prefix, columns, tmp_path):
    name = "transformer.h.0.attn.c_proj"
    folder = toys.peft_folder(tmp_path / "peft", toys.matrices(name, 2, 8, columns))
    weight = toys.drawn(columns, 8)
    base = toys.base_folder(tmp_path / "base", architectures=["GPT2LMHeadModel"])
    key = f"{prefix}h.0.attn.c_proj.weight"
    toys.save(base / "model.safetensors", {key: weight})
    convert(folder, tmp_path / "out.safetensors", merge=base)
    a, b = (t for _, t in sorted(toys.matrices(name, 2, 8, columns).items()))
    expected = weight.T + np.float32(2) * (b @ a)  # as MLX stores it, (out, in)
    found = load_converted(tmp_path / "out.safetensors", framework="numpy", ties=False)
    np.testing.assert_array_equal(found[key], expected)


def test_the_report_says_what_was_merged(tmp_path):
    folder = toys.peft_folder(tmp_path / "peft", toys.matrices(Q))
    base = model(tmp_path / "base", {f"{Q}.weight": toys.drawn(8, 6)})
    report = convert(folder, tmp_path / "out", merge=base, dry_run=True)
    assert not (tmp_path / "out").exists()
    assert report.notes[0] == f"{folder / 'adapter_model.safetensors'} is merged into 1 weight"
    convert(folder, tmp_path / "out", merge=base)
    told = json.loads((tmp_path / "out" / "config.json").read_text())
    assert told["architectures"] == ["LlamaForCausalLM"]
