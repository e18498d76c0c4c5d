"""Folders as transformers writes them: types from config.json, by the table or the built model."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.checkpoint.source.test_directory import save
from tests.support import need
from torch2mlx import analyze, convert, load_converted
from torch2mlx.checkpoint.plan import architectures, configured
from torch2mlx.checkpoint.source import config_model
from torch2mlx.errors import CheckpointError, ConversionError, MissingTypesError

GPT2 = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}


def rising(*shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def gpt2_tensors(prefix=""):
    layer = f"{prefix}h.0."
    return {
        f"{prefix}wte.weight": rising(7, 4),
        f"{prefix}wpe.weight": rising(5, 4),
        f"{layer}ln_1.weight": rising(4),
        f"{layer}attn.c_attn.weight": rising(4, 12),  # (in, out), as transformers' Conv1D
        f"{layer}attn.c_attn.bias": rising(12),
        f"{layer}attn.c_proj.weight": rising(4, 4),
        f"{layer}attn.c_proj.bias": rising(4),
        f"{prefix}ln_f.weight": rising(4),
    }


@pytest.fixture
def folder(tmp_path):
    def make(config, tensors, name="model"):
        path = tmp_path / name
        path.mkdir()
        save(path / "model.safetensors", tensors)
        (path / "config.json").write_text(json.dumps(config))
        return path

    return make


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.safetensors"


@pytest.fixture
def nothing_to_build(monkeypatch):
    """As where torch and transformers are not installed."""
    monkeypatch.setattr(config_model, "installed", lambda name: False)
    monkeypatch.setattr(configured, "installed", lambda name: False)


def shapes(path):
    return {k: v.shape for k, v in load_converted(path, framework="numpy", ties=False).items()}


# --- the table -------------------------------------------------------------------------------


def test_the_table_is_well_formed():
    rows = json.loads(architectures.TABLE.read_text())
    names = [name for row in rows for name in row["of"]]
    assert len(names) == len(set(names)) > 1000
    known = {*architectures.TOKENS, architectures.PLAIN, architectures.RAW, architectures.OPEN}
    for row in rows:
        assert row["of"] == sorted(row["of"])
        assert row.get("kinds", {}).keys() <= known
        assert architectures.PLAIN not in row.get("kinds", {}) or row["whole"]
    assert architectures.TABLE.stat().st_size < 600_000


def test_an_architecture_is_found_by_its_whole_name_only():
    assert architectures.find("GPT2LMHeadModel").name == "GPT2LMHeadModel"
    for name in ("GPT2LMHead", "", "of", 'Model","', "__class__", "gpt2.GPT2Model"):
        assert architectures.find(name) is None


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_the_table_tells_matrices_that_are_stored_the_other_way(folder, out, prefix):
    tensors = gpt2_tensors(prefix)
    convert(folder(GPT2, tensors), out)
    found = load_converted(out, framework="numpy", ties=False)
    assert found.keys() == tensors.keys()
    for key, value in tensors.items():
        turned = key.endswith(("c_attn.weight", "c_proj.weight"))
        np.testing.assert_array_equal(found[key], value.T if turned else value, strict=True)


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_a_folder_has_names_that_mlx_lm_does_not_turn_again(folder, tmp_path, prefix):
    """Its class for this type turns `h.0.attn.c_attn.weight`, and takes `model.h...` as it is."""
    tensors = gpt2_tensors(prefix)
    convert(folder(GPT2, tensors), tmp_path / "mlx")
    found = load_converted(tmp_path / "mlx", framework="numpy", ties=False)
    assert found.keys() == {f"model.{key.removeprefix(prefix)}" for key in tensors}
    np.testing.assert_array_equal(
        found["model.h.0.attn.c_attn.weight"], tensors[f"{prefix}h.0.attn.c_attn.weight"].T
    )


def test_tied_tensors_that_a_file_leaves_out_are_aliases(folder, tmp_path):
    source = folder(GPT2, gpt2_tensors("transformer."))
    report = convert(source, tmp_path / "a.safetensors")
    assert report.ties == {"lm_head.weight": "transformer.wte.weight"}
    report = convert(source, tmp_path / "mlx")
    assert report.ties == {"lm_head.weight": "model.wte.weight"}
    untied = folder({**GPT2, "tie_word_embeddings": False}, gpt2_tensors("transformer."), "untied")
    assert not convert(untied, tmp_path / "b.safetensors").ties


def test_no_framework_is_imported_where_the_table_answers(folder, tmp_path):
    source = folder(GPT2, gpt2_tensors())
    code = (
        "import sys, torch2mlx\n"
        f"torch2mlx.convert({str(source)!r}, {str(tmp_path / 'mlx')!r})\n"
        "sys.exit(any(n in sys.modules for n in ('torch', 'transformers', 'mlx.core')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_transformers_does_not_load_goes_to_the_sidecar(folder, out):
    tensors = {**gpt2_tensors(), "h.0.attn.bias": np.ones((1, 1, 5, 5), np.float32)}
    report = convert(folder(GPT2, tensors), out)
    assert report.dropped == {"h.0.attn.bias": "transformers does not load it"}


def test_the_layers_of_a_file_are_known_whatever_their_number(folder, out):
    """A configuration with 2,000 layers costs nothing: no model is built."""
    tensors = {f"h.{i}.attn.c_proj.weight": rising(2, 3) for i in range(2000)}
    convert(folder({**GPT2, "n_layer": 2000}, tensors), out)
    assert set(shapes(out).values()) == {(3, 2)}


def test_rules_overrule_the_table_and_answer_what_it_leaves_open(folder, out, nothing_to_build):
    tensors = {**gpt2_tensors(), "extra.weight": rising(2, 3, 4)}
    source = folder(GPT2, tensors)
    with pytest.raises(MissingTypesError, match=r"no such tensors in .*table: extra\.weight"):
        convert(source, out)
    convert(source, out, rules={"extra": "Conv1d", "h.*.attn.c_proj.weight": "identity"})
    found = load_converted(out, framework="numpy")
    assert found["extra.weight"].shape == (2, 4, 3)
    np.testing.assert_array_equal(found["h.0.attn.c_proj.weight"], rising(4, 4))
    np.testing.assert_array_equal(found["h.0.attn.c_attn.weight"], rising(4, 12).T)


def test_what_the_table_was_not_made_with_is_not_answered_by_it(folder, out, nothing_to_build):
    """A decoder of another kind may keep its matrices the other way."""
    config = {
        "architectures": ["VisionEncoderDecoderModel"],
        "decoder": {"model_type": "gpt2"},
        "encoder": {"model_type": "vit"},
    }
    with pytest.raises(MissingTypesError, match=r"(decoder|is not among)"):
        convert(folder(config, {"decoder.h.0.attn.c_proj.weight": rising(4, 4)}), out)
    assert not out.exists()


def test_an_unknown_architecture_is_refused_where_it_cannot_be_built(folder, out, nothing_to_build):
    source = folder({"architectures": ["SomebodysModel"]}, {"a.weight": rising(2, 3)})
    with pytest.raises(MissingTypesError) as error:
        convert(source, out)
    assert str(error.value) == (
        f"{source}: config.json does not tell the layer types: SomebodysModel is not among the "
        "architectures that torch2mlx knows; torch and transformers, which could build it, are "
        "not installed (pip install torch transformers). Pass module= (a model on torch's meta "
        "device is enough), or rules= for what is open"
    )
    convert(source, out, rules={"a": "Linear"})
    assert shapes(out) == {"a.weight": (2, 3)}


ODD = {
    "text": ("BertModel", "'BertModel', not a list"),
    "number": (7, "'7', not a list"),
    "null in it": ([None], r"'\[None\]', not a list"),
    "object in it": ([{}], r"'\[{}\]', not a list"),
    "several": (["BertModel", "ViTModel"], r"names 2 classes \(BertModel, ViTModel\)"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_architectures_have_one_message(folder, out, name):
    value, message = ODD[name]
    source = folder({"architectures": value}, {"a.weight": rising(2, 3)})
    with pytest.raises(ConversionError, match=rf'config\.json: "architectures" .*{message}'):
        convert(source, out)
    convert(source, out, rules={"a": "Linear"})  # the way out that it names


@pytest.mark.parametrize("value", [None, [], "absent"])
def test_a_config_without_an_architecture_tells_nothing(folder, out, value):
    config = {} if value == "absent" else {"architectures": value}
    source = folder(config, {"a.weight": rising(2, 3, 4)})
    with pytest.raises(MissingTypesError, match=r"config\.json is there, but names no arch"):
        convert(source, out)


@pytest.mark.parametrize("text", ["[1]", "7", "{", "null"])
def test_a_config_that_is_no_object_is_one_error(folder, out, text):
    source = folder({}, {"a.weight": rising(2, 3)})
    (source / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json: (is no JSON object|not valid JSON)"):
        convert(source, out)


def test_a_quantized_checkpoint_is_copied_and_noted(folder, out):
    config = {
        "architectures": ["LlamaForCausalLM"],
        "quantization_config": {"quant_method": "gptq"},
    }
    key = "model.layers.0.mlp.up_proj.qweight"
    report = convert(folder(config, {key: np.ones((2, 3), np.int32)}), out)
    assert any("quantized (gptq)" in note for note in report.notes)


@pytest.mark.parametrize("prefix", ["", "transformer."])
@pytest.mark.parametrize("target", ["a.safetensors", "mlx"])
def test_a_model_type_is_enough_where_all_its_classes_agree(folder, tmp_path, prefix, target):
    tensors, where = gpt2_tensors(prefix), tmp_path / target
    report = convert(folder({"model_type": "gpt2"}, tensors), where)
    named = convert(folder(GPT2, tensors, "named"), where, force=True)
    assert [(p.target, p.rule) for p in report.pieces] == [(p.target, p.rule) for p in named.pieces]
    assert not report.ties  # which some of the classes have
    assert any("layer types are those of gpt2, on which GPT2" in note for note in report.notes)


@pytest.mark.parametrize("kind", ["gpt2_of_mine", "bert", 7, None, ["gpt2"]])
def test_a_model_type_that_does_not_tell_is_asked_about(folder, out, kind):
    with pytest.raises(MissingTypesError, match=r"config\.json is there, but names no arch"):
        convert(folder({"model_type": kind}, gpt2_tensors()), out)


def test_classes_of_a_type_that_do_not_agree_are_asked_about(folder, out, monkeypatch):
    other = architectures.find("GPT2Model")
    layer = "~h.*.attn.c_proj"
    kinds = {key: said for key, said in other.kinds.items() if key != layer}
    kinds |= {f"{layer}.{name}": frozenset({"P"}) for name in ("weight", "bias")}
    names = {"GPT2Model": replace(other, kinds=kinds), "GPT2LMHeadModel": other}
    monkeypatch.setattr(architectures, "of_type", lambda kind: tuple(names))
    monkeypatch.setattr(architectures, "find", names.get)
    with pytest.raises(MissingTypesError):
        convert(folder({"model_type": "gpt2"}, gpt2_tensors()), out)


def test_a_model_type_has_the_classes_that_transformers_gives_it():
    need("transformers")
    from transformers.models.auto import modeling_auto

    of_type: dict[str, set[str]] = {}
    for name, mapping in vars(modeling_auto).items():
        if name.endswith("_MAPPING_NAMES"):
            for kind, classes in mapping.items():
                found = classes if isinstance(classes, tuple) else (classes,)
                of_type.setdefault(kind, set()).update(found)
    types: dict[str, list[str]] = {}
    for kind, classes in of_type.items():
        for name in classes:
            types.setdefault(name, []).append(kind)
    wrong = {
        (kind, name)
        for kind in of_type
        for name in architectures.of_type(kind)
        # "gemma3_text" is within a "gemma3"
        if name in types and not any(other.startswith(kind) for other in types[name])
    }
    told = [kind for kind in of_type if architectures.of_type(kind)]
    assert not wrong and len(told) > len(of_type) / 2


@pytest.mark.parametrize("config", [GPT2, {"model_type": "gpt2"}], ids=["architecture", "type"])
def test_analyze_asks_nothing_that_the_table_answers(folder, config, nothing_to_build):
    tensors = gpt2_tensors()
    bare = analyze(folder({}, tensors, "bare"))
    assert [finding.rule for finding in bare.blockers] == ["T2M012"] * len(bare.blockers) != []
    told = analyze(folder(config, tensors))
    assert not told.blockers and told.coverage is None
    assert told.parameters == bare.parameters
