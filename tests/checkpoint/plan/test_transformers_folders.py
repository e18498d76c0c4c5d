"""Folders that transformers writes, converted with the table and without, beside its modules."""

import json
import socket

import numpy as np
import pytest

from tests.support import need
from tests.zoo import folders

need("torch", "mlx.core", "transformers", "safetensors")

import torch
import transformers
from safetensors.torch import load_file, save_file

from torch2mlx import convert, load_converted
from torch2mlx.checkpoint.plan import architectures
from torch2mlx.checkpoint.source import config_model
from torch2mlx.errors import (
    CheckpointError,
    MissingTypesError,
    StateDictMismatchError,
    TranslationError,
)
from torch2mlx.export.capture.folders import Wishes
from torch2mlx.export.capture.sources import from_folder

transformers.utils.logging.disable_progress_bar()

#: model type -> class; what is special in its file.
KINDS = {
    "vit": "ViTModel",  # renamed on the way into the file; raw tensors of three dimensions
    "dinov2": "Dinov2Model",
    "mixtral": "MixtralForCausalLM",  # experts, one matrix in the file for each
    "gpt_neox": "GPTNeoXForCausalLM",
    "gpt2": "GPT2LMHeadModel",  # matrices the other way
    "bert": "BertForMaskedLM",  # ties
    "llama": "LlamaForCausalLM",
    "mamba": "MambaForCausalLM",  # a convolution in one dimension
    "wav2vec2": "Wav2Vec2Model",  # weight_norm
    "whisper": "WhisperForConditionalGeneration",
    "siglip_vision_model": "SiglipVisionModel",  # MultiheadAttention
    "resnet": "ResNetModel",  # BatchNorm's counters
    "encodec": "EncodecModel",  # LSTM; convolutions both ways, which only the model tells
    "qwen2_vl": "Qwen2VLForConditionalGeneration",
}


def model_of(kind):
    return folders.model_of(getattr(transformers, KINDS[kind]), folders.configuration(kind))


@pytest.fixture
def without_table(monkeypatch):
    monkeypatch.setattr(architectures, "find", lambda name: None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_keeps_its_names_and_its_layers_are_known(kind, tmp_path):
    model = model_of(kind)
    model.save_pretrained(tmp_path / "torch")
    assert folders.problems(model, tmp_path / "torch") == []


@pytest.mark.parametrize("kind", ["vit", "mixtral", "gpt2", "wav2vec2", "qwen2_vl"])
def test_an_architecture_that_the_table_lacks_is_built(kind, tmp_path, without_table):
    model = model_of(kind)
    model.save_pretrained(tmp_path / "torch")
    assert folders.problems(model, tmp_path / "torch") == []


def test_a_model_inside_of_another_keeps_its_own_layers(tmp_path):
    """A decoder that the table was not made with: its matrices are the other way."""
    parts = [folders.configuration(kind) for kind in ("vit", "gpt2")]
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(*parts)
    model = transformers.VisionEncoderDecoderModel(config)
    model.save_pretrained(tmp_path / "torch")
    convert(tmp_path / "torch", tmp_path / "out.safetensors")
    found = load_converted(tmp_path / "out.safetensors", framework="numpy")
    weight = model.decoder.transformer.h[0].attn.c_proj.weight
    key = next(k for k in found if k.endswith("h.0.attn.c_proj.weight"))
    np.testing.assert_array_equal(found[key], weight.detach().T.numpy())


@pytest.fixture
def no_network(monkeypatch):
    calls = []

    def refused(*args, **kwargs):
        calls.append(args)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    return calls


HOSTILE = {
    "attn_implementation": "kernels-community/flash-attn3",
    "_attn_implementation": "kernels-community/flash-attn3",
    "auto_map": {"AutoModel": "somebody/else--model.Model", "AutoConfig": "model.Config"},
    "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    "use_kernels": True,
}


def test_what_a_config_asks_for_never_reaches_the_network(tmp_path, without_table, no_network):
    model_of("siglip_vision_model").save_pretrained(tmp_path / "torch")
    config = tmp_path / "torch" / "config.json"
    content = json.loads(config.read_text())
    inner = {name: {**v, **HOSTILE} if isinstance(v, dict) else v for name, v in content.items()}
    config.write_text(json.dumps({**inner, **HOSTILE}))
    (tmp_path / "torch" / "model.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    convert(tmp_path / "torch", tmp_path / "out.safetensors")
    assert not no_network
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 2000}, r"num_hidden_layers is 2000, which is more than"),
        ({"num_hidden_layers": 10**12}, r"num_hidden_layers is 1000000000000, which is more"),
        ({"layer_types": ["full_attention"] * 5000}, r"layer_types is 5000, which is more than"),
        (
            {"hidden_size": "large", "model_type": ["llama"]},
            r"transformers cannot build LlamaForCausalLM: ",
        ),
    ],
)
def test_a_config_cannot_describe_more_than_its_checkpoint(
    changes, message, tmp_path, without_table
):
    model_of("llama").save_pretrained(tmp_path / "torch")
    config = tmp_path / "torch" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))
    with pytest.raises(CheckpointError, match=rf"config\.json: {message}"):
        convert(tmp_path / "torch", tmp_path / "out.safetensors")


def test_a_model_is_not_built_beyond_its_budget(tmp_path):
    """Counts that no name tells are found while the model is made."""
    config = tmp_path / "config.json"
    content = {"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 3}
    budget = config_model.Budget(modules=20)
    with pytest.raises(CheckpointError, match=r"config\.json: .*more than 20 modules, which"):
        config_model.build(config, content, "LlamaForCausalLM", budget)
    assert config_model.build(config, content, "LlamaForCausalLM", config_model.Budget())


def test_a_checkpoint_of_other_shapes_is_refused(tmp_path, without_table):
    model_of("llama").save_pretrained(tmp_path / "torch")
    config = tmp_path / "torch" / "config.json"
    content = {**json.loads(config.read_text()), "intermediate_size": 48}
    config.write_text(json.dumps(content))
    with pytest.raises(StateDictMismatchError, match=r"config\.json do not fit: shapes differ"):
        convert(tmp_path / "torch", tmp_path / "out.safetensors")


@pytest.mark.parametrize(
    "name", ["BertTokenizer", "os", "__class__", "PreTrainedModel", "NoSuchModel", "a b", ""]
)
def test_a_name_of_no_model_class_is_refused(name, tmp_path):
    model_of("llama").save_pretrained(tmp_path / "torch")
    config = tmp_path / "torch" / "config.json"
    config.write_text(json.dumps({"architectures": [name]}))
    with pytest.raises(MissingTypesError, match="no model class of that name"):
        convert(tmp_path / "torch", tmp_path / "out.safetensors")


def test_names_of_older_files_are_found_by_the_model(tmp_path):
    """gamma and beta, and no prefix of the base model, as BERT's first files."""
    model = model_of("bert")
    model.save_pretrained(tmp_path / "torch")
    path = tmp_path / "torch" / "model.safetensors"
    old = {
        key.removeprefix("bert.").replace("Norm.weight", "Norm.gamma"): value
        for key, value in load_file(path).items()
    }
    save_file(old, path, {"format": "pt"})
    convert(tmp_path / "torch", tmp_path / "out.safetensors")
    found = load_converted(tmp_path / "out.safetensors", framework="numpy", ties=False)
    assert found.keys() == old.keys()
    for key, value in old.items():
        np.testing.assert_array_equal(found[key], value.numpy())


def test_a_live_model_warns_of_nothing_that_arrives_whole(tmp_path):
    report = convert(model_of("llama"), tmp_path / "out.safetensors", on_unmapped="error")
    assert report.coverage.unmapped == ()


def test_nothing_is_built_where_the_table_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(config_model, "build", None)
    model_of("vit").save_pretrained(tmp_path / "torch")
    convert(tmp_path / "torch", tmp_path / "out.safetensors")


def test_a_folder_to_translate_never_reaches_the_network_either(tmp_path, no_network):
    model = model_of("llama")
    model.save_pretrained(tmp_path / "torch")
    config = tmp_path / "torch" / "config.json"
    content = {**json.loads(config.read_text()), **HOSTILE}
    config.write_text(json.dumps(content))
    with pytest.raises(TranslationError, match="weights are quantized"):
        from_folder(tmp_path / "torch")
    del content["quantization_config"]
    config.write_text(json.dumps(content))
    loaded, _, inputs = from_folder(tmp_path / "torch")
    assert not no_network
    assert loaded(**inputs).logits.shape[-1] == model.config.vocab_size


@pytest.mark.parametrize("name", ["BertTokenizer", "NoSuchModel"])
def test_a_folder_to_translate_of_no_model_class_is_made_by_its_type_or_refused(name, tmp_path):
    model_of("llama").save_pretrained(tmp_path / "torch")
    config = tmp_path / "torch" / "config.json"
    content = {**json.loads(config.read_text()), "architectures": [name]}
    config.write_text(json.dumps(content))
    with pytest.raises(
        StateDictMismatchError, match=r"not those of LlamaModel; unexpected: lm_head"
    ):
        from_folder(tmp_path / "torch")
    loaded = from_folder(tmp_path / "torch", Wishes(unused=True))[0]
    assert type(loaded).__name__ == "LlamaModel"
    config.write_text(json.dumps({**content, "model_type": "nothing of the kind"}))
    with pytest.raises(TranslationError, match=r"config\.json: names no model of the installed"):
        from_folder(tmp_path / "torch")


def test_names_that_the_architecture_does_not_have_stay_open(tmp_path):
    """Matrices under a prefix of another's, a layer that was added: nobody knows their layout."""
    model_of("gpt2").save_pretrained(tmp_path / "torch")
    path = tmp_path / "torch" / "model.safetensors"
    state = load_file(path)
    added = {"extra.weight": np.ones((8, 8, 3), np.float32), "extra.bias": np.ones(8, np.float32)}
    for changed, open_key in (
        ({f"net.{key}": value for key, value in state.items()}, "c_attn.weight"),
        ({**state, **{k: torch.tensor(v) for k, v in added.items()}}, "extra.weight"),
    ):
        save_file(changed, path, {"format": "pt"})
        with pytest.raises(MissingTypesError, match="has no place for them") as caught:
            convert(tmp_path / "torch", tmp_path / "out")
        assert open_key in str(caught.value) and not (tmp_path / "out").exists()
    convert(tmp_path / "torch", tmp_path / "out", rules={"extra": "Conv1d"})
    found = load_converted(tmp_path / "out", framework="numpy")
    np.testing.assert_array_equal(found["extra.weight"], added["extra.weight"].transpose(0, 2, 1))
    save_file({f"net.{key}": value for key, value in state.items()}, path, {"format": "pt"})
    convert(tmp_path / "torch", tmp_path / "out2", prefix="net.")
    assert load_converted(tmp_path / "out2", framework="numpy").keys() == found.keys() - {
        "extra.weight",
        "extra.bias",
    }
