"""Adapters that are damaged, or that mlx-lm's format cannot say: one error each, before writing."""

import json
import os

import numpy as np
import pytest

from tests.support import need

need("safetensors")

from tests.checkpoint.adapters import toys
from torch2mlx import convert
from torch2mlx.errors import (
    AlreadyConvertedError,
    AmbiguousCheckpointError,
    CheckpointError,
    ConversionError,
    WriteError,
)

Q = "base_model.model.model.layers.0.self_attn.q_proj."
WAY_OUT = (
    ". merge='BASE' writes the model with it merged, BASE being the folder of the PyTorch model"
)

#: What a configuration says wrongly, and what is said of it.
DAMAGED = {
    "no r": ({"without": ("r",)}, "has no 'r', which is a whole number of at least 1"),
    "r of zero": ({"r": 0}, "'r' is 0, not a whole number of at least 1"),
    "negative r": ({"r": -2}, "'r' is -2, not a whole number of at least 1"),
    "r as text": ({"r": "8"}, "'r' is '8', not a whole number of at least 1"),
    "r as yes": ({"r": True}, "'r' is True, not a whole number of at least 1"),
    "a huge r": ({"r": 2**40}, "'r' is 1099511627776, not a whole number of at least 1"),
    "no alpha": ({"without": ("lora_alpha",)}, "has no 'lora_alpha', which is a number"),
    "alpha of nothing": ({"lora_alpha": None}, "'lora_alpha' is None, not a number"),
    "endless alpha": ({"lora_alpha": float("inf")}, "'lora_alpha' is inf, not a number"),
    "dropout": ({"lora_dropout": 1.5}, "'lora_dropout' is 1.5, not a number from 0 to below 1"),
    "bias": ({"bias": "some"}, '\'bias\' is \'some\', not "none", "all" or "lora_only"'),
    "flag": ({"use_dora": "yes"}, "'use_dora' is 'yes', not true or false"),
    "targets": (
        {"target_modules": [1]},
        "'target_modules' is [1], not a list of names or a pattern",
    ),
    "target": ({"target_modules": {"a": 1}}, "'target_modules' is {'a': 1}, not a list of names"),
    "saved": ({"modules_to_save": "head"}, "'modules_to_save' is 'head', not a list of names"),
    "ranks": ({"rank_pattern": ["q"]}, "'rank_pattern' is ['q'], not an object of patterns"),
    "a rank": ({"rank_pattern": {"q": 0}}, "'rank_pattern' has 0 for 'q', not a whole number of"),
    "an alpha": ({"alpha_pattern": {"q": "1"}}, "'alpha_pattern' has '1' for 'q', not a number"),
    "no pattern": ({"alpha_pattern": {"(": 1}}, "the pattern '(' is no regular expression: "),
    "slow pattern": (
        {"alpha_pattern": {"(a+)+b": 1}},
        "the pattern '(a+)+b' is no name, and is not",
    ),
    "no type": ({"without": ("peft_type",)}, "names no peft_type, as an adapter of PEFT does"),
    "type as number": ({"peft_type": 3}, "names no peft_type, as an adapter of PEFT does"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_configuration_is_told_by_its_entry(case, tmp_path):
    changed, told = DAMAGED[case]
    folder = toys.peft_folder(tmp_path / "peft", **changed)
    with pytest.raises(CheckpointError) as caught:
        convert(folder, tmp_path / "out")
    assert str(caught.value).startswith(f"{folder / 'adapter_config.json'}: {told}")
    assert os.listdir(tmp_path) == ["peft"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[1]", "is no JSON object"),
        ("{", "not valid JSON: "),
        ("[" * 100_000, "nested too deeply"),
        (" " * 16_000_001, "larger than 16 MB"),
    ],
    ids=["list", "cut", "deep", "large"],
)
def test_a_configuration_that_is_none_is_told(text, told, tmp_path):
    folder = toys.peft_folder(tmp_path / "peft")
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(CheckpointError) as caught:
        convert(folder, tmp_path / "out")
    assert str(caught.value).startswith(f"{folder / 'adapter_config.json'}: {told}")


@pytest.mark.parametrize("kind", ["IA3", "PREFIX_TUNING", "VERA", "LOHA", "SOMETHING_NEW"])
def test_another_kind_of_adapter_is_refused_by_its_name(kind, tmp_path):
    folder = toys.peft_folder(tmp_path / "peft", peft_type=kind)
    with pytest.raises(ConversionError) as caught:
        convert(folder, tmp_path / "out")
    head = f"{folder / 'adapter_config.json'}: is an adapter of kind {kind}; LoRA and DoRA can be "
    assert str(caught.value).startswith(head)


def test_adapted_parameters_are_refused_by_their_names(tmp_path):
    stem = "model.layers.0.mlp.experts"
    tensors = toys.matrices(stem, 8) | toys.matrices(f"{stem}.base_layer", 8)
    folder = toys.peft_folder(tmp_path / "peft", tensors, target_parameters=["mlp.experts.up"])
    for given in ({}, {"merge": toys.base_folder(tmp_path / "base")}):
        with pytest.raises(ConversionError) as caught:
            convert(folder, tmp_path / "out", **given)
        assert str(caught.value) == (
            f"{folder / 'adapter_model.safetensors'}: adapts parameters that are no layer's "
            "weight, such as stacked experts (target_parameters: mlp.experts.up): merge it with "
            "PEFT (merge_and_unload), and convert the model"
        )


def _with(**tensors):
    """The tensors of the usual adapter, some replaced, added or (None) left out."""
    found = {k: v for name in toys.modules() for k, v in toys.matrices(name).items()}
    found |= {f"{Q}{name.replace('__', '.')}": value for name, value in tensors.items()}
    return {name: value for name, value in found.items() if value is not None}


#: Tensors that do not fit, and what is said of them.
TENSORS = {
    "rank of A": (
        _with(lora_A__weight=toys.drawn(3, 6)),
        f"'{Q}lora_A.weight' is of rank 3, and CONFIG says 2",
    ),
    "rank of B": (
        _with(lora_B__weight=toys.drawn(8, 3)),
        f"'{Q}lora_B.weight' is of rank 3, and CONFIG says 2",
    ),
    "vector": (_with(lora_A__weight=toys.drawn(6)), f"'{Q}lora_A.weight' is (6,), not a matrix"),
    "no B": (
        _with(lora_B__weight=None),
        f"has '{Q}lora_A.weight' without the lora_B of this module",
    ),
    "no A": (
        _with(lora_A__weight=None),
        f"has '{Q}lora_B.weight' without the lora_A of this module",
    ),
    "whole numbers": (
        _with(lora_A__weight=np.ones((2, 6), np.int32)),
        f"'{Q}lora_A.weight' is int32, not of floating point",
    ),
    "magnitude": (
        _with(lora_magnitude_vector=toys.drawn(7)),
        f"'{Q}lora_magnitude_vector' is (7,), not one number for each of 8 rows",
    ),
    "names of a live model": (
        _with(lora_A__default__weight=toys.drawn(2, 6)),
        f"'{Q}lora_A.default.weight' is no tensor of LoRA that is known here (lora_A): save the "
        "adapter with PEFT's save_pretrained",
    ),
    "no prefix": (
        {"model.layers.0.q.lora_A.weight": toys.drawn(2, 6)},
        "'model.layers.0.q.lora_A.weight' does not begin with 'base_model.model.', as the names of "
        "PEFT do",
    ),
    "nothing": (
        {"base_model.model.lm_head.weight": toys.drawn(2, 6)},
        "holds no tensors of LoRA, such as lora_A.weight",
    ),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_do_not_fit_are_told_by_their_names(case, tmp_path):
    tensors, told = TENSORS[case]
    folder = toys.peft_folder(tmp_path / "peft", tensors)
    with pytest.raises(CheckpointError) as caught:
        convert(folder, tmp_path / "out")
    told = told.replace("CONFIG", str(folder / "adapter_config.json"))
    assert str(caught.value) == f"{folder / 'adapter_model.safetensors'}: {told}"


def test_weights_that_are_not_there_are_told(tmp_path):
    folder = toys.peft_folder(tmp_path / "peft")
    (folder / "adapter_model.safetensors").write_bytes(
        b"version https://git-lfs.github.com/spec/v1"
    )
    with pytest.raises(CheckpointError, match="is a pointer of git-lfs"):
        convert(folder, tmp_path / "out")
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="is an adapter of PEFT, not a model"):
        convert(folder, tmp_path / "out")


HEAD = {"base_model.model.lm_head.weight": toys.drawn(5, 6)}
EMBEDDING = {
    "base_model.model.model.embed_tokens.lora_embedding_A": toys.drawn(2, 9),
    "base_model.model.model.embed_tokens.lora_embedding_B": toys.drawn(6, 2),
}
#: What mlx-lm's format cannot say: entries, tensors beside the usual, the reason.
UNSAID = {
    "biases": ({"bias": "all"}, {}, "biases were trained (bias='all')"),
    "modules to save": (
        {"modules_to_save": ["lm_head"]},
        HEAD,
        "it holds whole tensors of the model: lm_head.weight",
    ),
    "modules to save, not there": (
        {"modules_to_save": ["lm_head"]},
        {},
        "modules_to_save is set: lm_head",
    ),
    "scales": ({"alpha_pattern": {"q_proj": 8}}, {}, "modules differ in scale: 2.0, 4.0"),
    "ranks": (
        {"rank_pattern": {"k_proj": 4}, "alpha_pattern": {".*k_proj": 8}},
        toys.matrices("model.layers.0.self_attn.k_proj", 4),
        "modules differ in rank: 2, 4",
    ),
    "a bias of B": (
        {"lora_bias": True},
        {f"{Q}lora_B.bias": toys.drawn(8)},
        "lora_B has a bias: model.layers.0.self_attn.q_proj",
    ),
    "some magnitudes": (
        {"use_dora": True},
        {f"{Q}lora_magnitude_vector": toys.drawn(8)},
        "some modules have a magnitude (DoRA), and some have none",
    ),
    "pissa": (
        {"init_lora_weights": "pissa_niter_4"},
        {},
        "init_lora_weights='pissa_niter_4' changes the base weights too",
    ),
    "replicated layers": (
        {"layer_replication": [[0, 2]]},
        {},
        "layer_replication is set, which may change what LoRA computes",
    ),
    "an entry of tomorrow": (
        {"use_something": True},
        {},
        "use_something is set, which may change what LoRA computes",
    ),
    "several": (
        {"bias": "all", "alpha_pattern": {"q_proj": 8}},
        {},
        "biases were trained (bias='all'); modules differ in scale: 2.0, 4.0",
    ),
}


@pytest.mark.parametrize("case", UNSAID)
def test_what_mlx_lm_cannot_say_is_refused_with_the_way_out(case, tmp_path):
    changed, more, told = UNSAID[case]
    folder = toys.peft_folder(tmp_path / "peft", {**_with(), **more}, **changed)
    with pytest.raises(ConversionError) as caught:
        convert(folder, tmp_path / "out", base=toys.base_folder(tmp_path / "base"))
    head = (
        f"{folder / 'adapter_model.safetensors'}: mlx-lm's adapters cannot say what this one does"
    )
    assert str(caught.value) == f"{head}: {told}{WAY_OUT}"
    assert sorted(os.listdir(tmp_path)) == ["base", "peft"]


#: What does not fit the base model: tensors, entries of its config.json, what is said.
MISFITS = {
    "too many layers": (
        _with() | toys.matrices("model.layers.2.self_attn.q_proj"),
        {},
        "the adapter has layer 2, and the base model has 2 layers: it is not the model that this "
        "adapter was trained on",
    ),
    "unknown modules": (
        toys.matrices("model.layers.0.mlp.experts"),
        {},
        f"FILE: mlx-lm's llama has no module of its own for model.layers.0.mlp.experts{WAY_OUT}",
    ),
    "unknown type": (
        _with(),
        {"model_type": "nothing"},
        "FILE: BASE is of type nothing, for which mlx-lm's names are not known: pass the folder of "
        "the model in MLX, or merge='BASE'",
    ),
    "tied embedding": (
        EMBEDDING,
        {"tie_word_embeddings": True},
        "FILE: model.embed_tokens is adapted, and in BASE the output layer is tied to it: mlx-lm "
        "would change both, PEFT changes the embedding alone",
    ),
    "tied output": (
        toys.matrices("lm_head"),
        {"tie_word_embeddings": True},
        "FILE: lm_head is adapted, and in BASE it is tied to the embedding: mlx-lm has no module "
        "of its own for it",
    ),
    "dora of an embedding": (
        {**EMBEDDING, "base_model.model.model.embed_tokens.lora_magnitude_vector": toys.drawn(6)},
        {},
        "FILE: mlx-lm's adapters cannot say what this one does: DoRA weighs the columns of an "
        f"embedding in PEFT, the rows in mlx-lm: model.embed_tokens{WAY_OUT}",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_an_adapter_of_another_model_is_refused(case, tmp_path):
    tensors, changed, told = MISFITS[case]
    folder = toys.peft_folder(tmp_path / "peft", tensors)
    base = toys.base_folder(tmp_path / "base", **changed)
    with pytest.raises(ConversionError) as caught:
        convert(folder, tmp_path / "out", base=base)
    told = told.replace("FILE", str(folder / "adapter_model.safetensors"))
    if WAY_OUT not in told:
        told = told.replace("in BASE", f"in {base}").replace(": BASE", f": {base}")
        told = told.replace("or merge='BASE'", f"or merge={str(base)!r}")
    assert str(caught.value) == told


def test_sizes_are_those_of_the_base_models_weights(tmp_path):
    folder, base = toys.peft_folder(tmp_path / "peft"), toys.base_folder(tmp_path / "base")
    weights = {f"{name}.weight": toys.drawn(8, 7) for name in toys.modules()}
    toys.save(base / "model.safetensors", weights)
    with pytest.raises(ConversionError) as caught:
        convert(folder, tmp_path / "out", base=base)
    assert str(caught.value) == (
        f"{folder / 'adapter_model.safetensors'}: the update of model.layers.0.self_attn.q_proj is "
        f"(8, 6), and its weight in {base} is (8, 7)"
    )


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        (
            toys.matrices("model.layers.0.mlp.gate"),
            "its modules are in ernie4_5_moe, laguna, mellum and 5 more, which mlx-lm names "
            "differently",
        ),
        (
            toys.matrices("my.own.layer"),
            "no model type of mlx-lm has all of its modules: my.own.layer",
        ),
        (
            EMBEDDING,
            "model.embed_tokens is adapted, and whether the output layer is tied to it is not "
            "known",
        ),
        (
            {**_with(), **HEAD},
            "it holds whole tensors of the model: lm_head.weight, which may be as they were",
        ),
    ],
    ids=["names of several", "names of none", "an embedding", "whole tensors"],
)
def test_the_base_is_asked_for_where_names_do_not_tell(tensors, told, tmp_path):
    folder = toys.peft_folder(tmp_path / "peft", tensors)
    with pytest.raises(ConversionError) as caught:
        convert(folder, tmp_path / "out")
    assert str(caught.value) == (
        f"{folder / 'adapter_model.safetensors'}: {told}: pass base= the folder of the base model"
    )


def test_a_folder_with_a_model_and_an_adapter_asks_which(tmp_path):
    folder = toys.peft_folder(tmp_path / "peft")
    toys.save(folder / "model.safetensors", {"a.weight": toys.drawn(2, 3)})
    with pytest.raises(AmbiguousCheckpointError) as caught:
        convert(folder, tmp_path / "out")
    assert str(caught.value) == (
        f"{folder}: holds a model (model.safetensors) and an adapter of PEFT "
        f"(adapter_model.safetensors): pass one of these files, or merge={str(folder)!r} for the "
        "model with the adapter merged"
    )
    convert(folder / "adapter_model.safetensors", tmp_path / "adapter")
    assert sorted(os.listdir(tmp_path / "adapter")) == [
        "adapter_config.json",
        "adapters.safetensors",
    ]
    convert(folder / "model.safetensors", tmp_path / "model.safetensors", rules={})


def test_options_that_are_about_a_model_are_refused(tmp_path):
    folder = toys.peft_folder(tmp_path / "peft")
    for name, value in {"rules": {"a": "Linear"}, "shard_size": "1GB", "training": True}.items():
        with pytest.raises(ConversionError) as caught:
            convert(folder, tmp_path / "out", **{name: value})
        told = f"{name}= is about the weights of a model, and the source is an adapter"
        assert str(caught.value) == told
    with pytest.raises(ConversionError, match=r"mlx-lm's adapters are folders: write out$"):
        convert(folder, tmp_path / "out.safetensors")
    with pytest.raises(CheckpointError, match=r"is no folder of a model: it has no config.json$"):
        convert(folder, tmp_path / "out", base=folder)


def test_what_is_there_is_replaced_only_where_it_is_ours_and_as_it_was(tmp_path):
    folder, out = toys.peft_folder(tmp_path / "peft"), tmp_path / "out"
    convert(folder, out)
    (out / "notes.txt").write_text("mine")
    convert(folder, out)
    assert (out / "notes.txt").read_text() == "mine"
    told = json.loads((out / "adapter_config.json").read_text())
    (out / "adapter_config.json").write_text(json.dumps({**told, "num_layers": 7}))
    with pytest.raises(WriteError, match=r"adapter_config.json: not written by torch2mlx"):
        convert(folder, out)
    convert(folder, out, force=True)
    toys.save(out / "adapters.safetensors", {"a": toys.drawn(2)})
    with pytest.raises(WriteError, match=r"adapters.safetensors: not written by torch2mlx"):
        convert(folder, out)
    with pytest.raises(WriteError, match="is the source"):
        convert(folder, folder, force=True)


def test_an_adapter_of_mlx_lm_is_converted_already(tmp_path):
    convert(toys.peft_folder(tmp_path / "peft"), tmp_path / "out")
    with pytest.raises(AlreadyConvertedError) as caught:
        convert(tmp_path / "out", tmp_path / "again")
    assert str(caught.value) == (
        f"{tmp_path / 'out'}: is an adapter of mlx-lm already; torch2mlx.revert writes it for PEFT"
    )
