"""Adapters of mlx-lm that are damaged, or that PEFT cannot hold; and the folders of the others."""

import json
import os

import numpy as np
import pytest

from tests.support import need

(numpy,) = need("safetensors.numpy")

from tests.checkpoint.adapters import toys
from torch2mlx import convert, revert
from torch2mlx.errors import CheckpointError, RevertError, WriteError

Q = "model.layers.0.self_attn.q_proj"


def mlx_folder(folder, tensors=None, **changed):
    """A folder as mlx-lm saves adapters."""
    folder.mkdir(exist_ok=True)
    parameters = {"rank": 2, "scale": 3.0, "dropout": 0.1, "keys": ["self_attn.q_proj"]}
    content = {"fine_tune_type": "lora", "num_layers": 1, "lora_parameters": parameters, **changed}
    (folder / "adapter_config.json").write_text(json.dumps(content))
    toys.save(folder / "adapters.safetensors", pair(Q) if tensors is None else tensors, {})
    return folder


def pair(module, rank=2, rows=8, columns=6):
    """The tensors of one linear layer (rows, columns)."""
    return {
        f"{module}.lora_a": toys.drawn(columns, rank),
        f"{module}.lora_b": toys.drawn(rank, rows),
    }


#: What a configuration says wrongly, and what is said of it.
DAMAGED = {
    "no parameters": (
        {"lora_parameters": None},
        "has no 'lora_parameters', as an adapter of mlx-lm does, but fine_tune_type, num_layers, "
        "lora_parameters",
    ),
    "rank": (
        {"lora_parameters": {"rank": -1, "scale": 1.0}},
        "'rank' is -1, not a whole number of at least 1",
    ),
    "no rank": (
        {"lora_parameters": {"scale": 1.0}},
        "'rank' is None, not a whole number of at least 1",
    ),
    "no scale": ({"lora_parameters": {"rank": 2}}, "'scale' is None, not a number"),
    "dropout": (
        {"lora_parameters": {"rank": 2, "scale": 1, "dropout": "no"}},
        "'dropout' is 'no', not a number",
    ),
    "kind": ({"fine_tune_type": "ia3"}, "'fine_tune_type' is 'ia3', not lora, dora or full"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_configuration_is_told_by_its_entry(case, tmp_path):
    changed, told = DAMAGED[case]
    folder = mlx_folder(tmp_path / "mlx", **changed)
    with pytest.raises(CheckpointError) as caught:
        revert(folder, tmp_path / "out")
    assert str(caught.value) == f"{folder / 'adapter_config.json'}: {told}"
    assert os.listdir(tmp_path) == ["mlx"]


def test_whole_layers_are_no_adapter(tmp_path):
    folder = mlx_folder(tmp_path / "mlx", fine_tune_type="full", lora_parameters=None)
    with pytest.raises(RevertError) as caught:
        revert(folder, tmp_path / "out")
    assert str(caught.value) == (
        f"{folder / 'adapter_config.json'}: fine_tune_type is 'full': whole layers were trained, "
        "which is no adapter; mlx_lm.fuse writes the model"
    )


#: Tensors that do not fit, and what is said of them.
TENSORS = {
    "another name": (
        {**pair(Q), "model.norm.weight": toys.drawn(3)},
        "'model.norm.weight' is no tensor of an adapter of mlx-lm",
    ),
    "no b": (
        {f"{Q}.lora_a": toys.drawn(6, 2)},
        f"has '{Q}.lora_a' without the lora_b of this module",
    ),
    "no a": (
        {f"{Q}.lora_b": toys.drawn(2, 6)},
        f"has '{Q}.lora_b' without the lora_a of this module",
    ),
    "rank": (
        {**pair(Q), f"{Q}.lora_b": toys.drawn(3, 8)},
        f"'{Q}.lora_b' is of rank 3, and CONFIG says 2",
    ),
    "rank of experts": (
        {f"{Q}.lora_a": toys.drawn(4, 3, 6), f"{Q}.lora_b": toys.drawn(4, 8, 2)},
        f"'{Q}.lora_a' is of rank 3, and CONFIG says 2",
    ),
    "vector": (
        {**pair(Q), f"{Q}.lora_a": toys.drawn(6)},
        f"'{Q}' has lora_a (6,) and lora_b (2, 8), no two matrices",
    ),
    "magnitude": (
        {**pair(Q), f"{Q}.m": toys.drawn(6)},
        f"'{Q}.m' is (6,), not one number for each of 8 rows",
    ),
    "magnitude of lora": (
        {**pair(Q), f"{Q}.m": toys.drawn(8)},
        f"'{Q}' has a magnitude (m), and CONFIG says lora",
    ),
    "whole numbers": (
        {**pair(Q), f"{Q}.lora_a": np.ones((6, 2), np.int32)},
        f"'{Q}.lora_a' is int32, not of floating point",
    ),
    "nothing": ({}, "holds no tensors"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_do_not_fit_are_told_by_their_names(case, tmp_path):
    tensors, told = TENSORS[case]
    folder = mlx_folder(tmp_path / "mlx", tensors)
    with pytest.raises(CheckpointError) as caught:
        revert(folder, tmp_path / "out")
    told = told.replace("CONFIG", str(folder / "adapter_config.json"))
    assert str(caught.value) == f"{folder / 'adapters.safetensors'}: {told}"


TIED = {"tie_word_embeddings": True}
#: What PEFT cannot hold, or whose names are not known: tensors, the base, what is said.
REFUSED = {
    "names of none": (
        pair("my.layer"),
        None,
        "no model type has all of its modules: my.layer: pass base= the folder of the base model",
    ),
    "names of another": (
        pair("model.layers.0.mlp.gate"),
        {},
        "the llama of transformers has no module of its own for model.layers.0.mlp.gate",
    ),
    "an embedding": (
        pair("model.embed_tokens"),
        None,
        "model.embed_tokens is adapted, and whether the output layer is tied to it is not known: "
        "pass base= the folder of the base model",
    ),
    "a tied embedding": (
        pair("model.embed_tokens"),
        TIED,
        "model.embed_tokens is adapted, and in BASE the output layer is tied to it: mlx-lm changed "
        "both, PEFT would change the embedding alone; mlx_lm.fuse writes the model",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_peft_cannot_hold_is_refused(case, tmp_path):
    tensors, changed, told = REFUSED[case]
    folder = mlx_folder(tmp_path / "mlx", tensors)
    base = None if changed is None else toys.base_folder(tmp_path / "base", **changed)
    with pytest.raises(RevertError) as caught:
        revert(folder, tmp_path / "out", base=base)
    told = told.replace("BASE", str(base))
    assert str(caught.value) == f"{folder / 'adapters.safetensors'}: {told}"
    assert not (tmp_path / "out").exists()


def test_dora_of_an_embedding_is_refused(tmp_path):
    tensors = {**pair("model.embed_tokens"), "model.embed_tokens.m": toys.drawn(8)}
    folder = mlx_folder(tmp_path / "mlx", tensors, fine_tune_type="dora")
    with pytest.raises(
        RevertError, match=r"DoRA weighs the rows in mlx-lm and the columns in PEFT"
    ):
        revert(folder, tmp_path / "out", base=toys.base_folder(tmp_path / "base"))


def test_options_that_mean_nothing_here_are_refused(tmp_path):
    folder = mlx_folder(tmp_path / "mlx")
    with pytest.raises(RevertError, match=r"^like= says what weights were converted from; of an "):
        revert(folder, tmp_path / "out", like=folder)
    with pytest.raises(RevertError, match=r"adapters of PEFT are folders: write out$"):
        revert(folder, tmp_path / "out.safetensors")
    with pytest.raises(RevertError, match=r"^base= is the model that an adapter is for, and the "):
        revert(tmp_path / "nothing", base=folder)


def test_peft_gets_the_names_and_numbers_of_its_own(tmp_path):
    folder = mlx_folder(tmp_path / "mlx")
    assert revert(folder, tmp_path / "out") == str(tmp_path / "out")
    found = numpy.load_file(tmp_path / "out" / "adapter_model.safetensors")
    head, own = f"base_model.model.{Q}", pair(Q)
    assert found.keys() == {f"{head}.lora_A.weight", f"{head}.lora_B.weight"}
    np.testing.assert_array_equal(found[f"{head}.lora_A.weight"], own[f"{Q}.lora_a"].T, strict=True)
    np.testing.assert_array_equal(found[f"{head}.lora_B.weight"], own[f"{Q}.lora_b"].T, strict=True)
    told = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (told["r"], told["lora_alpha"], told["lora_dropout"]) == (2, 6, 0.1)
    assert told["target_modules"] == [Q]
    again = revert(folder, framework="numpy")
    assert all(np.array_equal(found[name], again[name]) for name in found)


def test_a_file_that_training_saved_on_its_way_is_a_source_too(tmp_path):
    folder = mlx_folder(tmp_path / "mlx")
    (folder / "adapters.safetensors").rename(folder / "0000100_adapters.safetensors")
    revert(folder / "0000100_adapters.safetensors", tmp_path / "out")
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()


def test_experts_come_apart_again(tmp_path):
    stem = "model.layers.0.block_sparse_moe"
    names = [f"{stem}.experts.{i}.{name}" for i in range(3) for name in ("w1", "w2")]
    tensors = {key: value for name in names for key, value in toys.matrices(name).items()}
    base = toys.base_folder(tmp_path / "base", 1, model_type="mixtral")
    convert(toys.peft_folder(tmp_path / "peft", tensors), tmp_path / "mlx", base=base)
    revert(tmp_path / "mlx", tmp_path / "back", base=base)
    found = numpy.load_file(tmp_path / "back" / "adapter_model.safetensors")
    assert found.keys() == tensors.keys()
    assert all(np.array_equal(found[name], tensors[name]) for name in tensors)


def test_what_is_there_is_replaced_only_where_it_is_ours(tmp_path):
    folder, out = mlx_folder(tmp_path / "mlx"), tmp_path / "out"
    revert(folder, out)
    revert(folder, out)
    (out / "adapter_config.json").write_text("{}")
    with pytest.raises(WriteError, match=r"adapter_config.json: not written by torch2mlx"):
        revert(folder, out)
    revert(folder, out, force=True)
    (out / "adapter_model.bin").write_bytes(b"mine")
    with pytest.raises(WriteError, match=r"adapter_model.bin: not written by torch2mlx"):
        revert(folder, out)
    with pytest.raises(WriteError, match="is the source"):
        revert(folder, folder, force=True)


def test_alpha_gives_the_scale_back_where_a_number_does(tmp_path):
    from torch2mlx.checkpoint.adapters.to_peft import alpha_of

    for rank in (1, 2, 8, 16):
        for scale in (20.0, 0.1, 2 / 3, 1e-3, 7.0):
            assert alpha_of(scale, rank) / rank == scale
    assert alpha_of(2.5, 4) == 10 and isinstance(alpha_of(2.5, 4), int)
