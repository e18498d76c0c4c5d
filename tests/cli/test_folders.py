"""Folders of transformers: all their weights, in their dtype, called as their tokenizers call."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support import need
from torch2mlx.errors import CheckpointError, StateDictMismatchError, TranslationError

torch, transformers, mx = need("torch", "transformers", "mlx.core")
need("safetensors")

from safetensors.torch import save_file

import torch2mlx
from torch2mlx.cli import main
from torch2mlx.export.capture import examples
from torch2mlx.export.capture.folders import Wishes
from torch2mlx.export.capture.sources import from_folder

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
AUDIO = {"conv_dim": (8, 8), "conv_stride": (5, 4), "conv_kernel": (10, 4)}
AUDIO |= {"num_feat_extract_layers": 2, "num_conv_pos_embeddings": 8}
AUDIO |= {"num_conv_pos_embedding_groups": 2}
VISION = {"image_size": 16, "patch_size": 8, **SMALL}
WORDS = "embeddings.word_embeddings.weight"


def model_of(name, **options):
    """A small model of a class, with weights that are drawn, and its config.json to be."""
    kind = getattr(transformers, name)
    torch.manual_seed(0)
    return kind(kind.config_class(**options)).eval()


@pytest.fixture
def bert():
    return model_of("BertModel", vocab_size=64, **SMALL)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def described(model, folder):
    """A folder with a model's config.json alone."""
    folder.mkdir(exist_ok=True)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    return folder


def bare(state):
    return {key: value.clone() for key, value in state.items()}


def in_shards(state, folder):
    """A pickled checkpoint in two files with their index."""
    names = list(state)
    parts = (names[:5], names[5:])
    files = [f"pytorch_model-{i:05d}-of-00002.bin" for i in (1, 2)]
    for file, part in zip(files, parts, strict=True):
        torch.save({key: state[key] for key in part}, folder / file)
    placed = {key: file for file, part in zip(files, parts, strict=True) for key in part}
    index = {"metadata": {}, "weight_map": placed}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


FORMS = {
    "pt": lambda state, folder: torch.save(state, folder / "model.pt"),
    "pth": lambda state, folder: torch.save(state, folder / "any.pth"),
    "old pt": lambda state, folder: torch.save(
        state, folder / "model.pt", _use_new_zipfile_serialization=False
    ),
    "ckpt": lambda state, folder: torch.save({"state_dict": state, "epoch": 3}, folder / "l.ckpt"),
    "bin beside others": lambda state, folder: (
        torch.save(state, folder / "pytorch_model.bin"),
        torch.save({"lr": 0.1}, folder / "training_args.bin"),
    ),
    "safetensors": lambda state, folder: save_file(bare(state), folder / "any.safetensors"),
    "bin in shards": in_shards,
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_of_every_form_are_read(form, bert, tmp_path):
    FORMS[form](bert.state_dict(), described(bert, tmp_path / "in"))
    loaded = from_folder(tmp_path / "in")[0]
    assert not loaded.training
    for key, value in bert.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


def test_weights_in_shards_of_safetensors_are_read(bert, tmp_path):
    bert.save_pretrained(tmp_path / "in", max_shard_size="4KB")
    assert len(list((tmp_path / "in").glob("*.safetensors"))) > 1
    loaded = from_folder(tmp_path / "in")[0]
    assert all(
        torch.equal(a, b) for a, b in zip(bert.parameters(), loaded.parameters(), strict=True)
    )


def test_a_part_of_a_nested_checkpoint_is_chosen(bert, tmp_path):
    folder = described(bert, tmp_path / "in")
    state = {f"net.{key}": value for key, value in bert.state_dict().items()}
    torch.save({"ema": state, "other": {"x": torch.ones(2)}}, folder / "l.ckpt")
    loaded = from_folder(folder, Wishes(key="ema", prefix="net."))[0]
    assert all(
        torch.equal(a, b) for a, b in zip(bert.parameters(), loaded.parameters(), strict=True)
    )
    with pytest.raises(StateDictMismatchError, match=r"missing: embeddings.+ and \d+ more; unexp"):
        from_folder(folder, Wishes(key="ema"))
    assert from_folder(folder, Wishes(key="ema", prefix="net"))  # the dot may be left out
    with pytest.raises(StateDictMismatchError, match=r"no key begins with 'nothing\.'; they begin"):
        from_folder(folder, Wishes(key="ema", prefix="nothing."))


def test_tied_weights_are_stored_once_and_buffers_of_old_files_are_no_weights(tmp_path):
    options = {"vocab_size": 64, "num_key_value_heads": 1, "tie_word_embeddings": True}
    llama = model_of("LlamaForCausalLM", **options, **SMALL)
    state = llama.state_dict()
    del state["lm_head.weight"]
    state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    torch.save(state, described(llama, tmp_path / "in") / "model.pt")
    loaded = from_folder(tmp_path / "in")[0]
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert torch.equal(loaded.lm_head.weight, llama.lm_head.weight)


MISFITS = {
    "missing": (lambda s: s.pop("pooler.dense.weight"), "missing: pooler.dense.weight"),
    "unexpected": (
        lambda s: s.update({"cls.bias": torch.ones(2)}),
        "unexpected: cls.bias; ignore_unexpected=True leaves these out, as from_pretrained does",
    ),
    "mismatched": (
        lambda s: s.update({WORDS: torch.ones(3, 16)}),
        f"of another shape: {WORDS} is (3, 16) and has to be (64, 16)",
    ),
}


@pytest.mark.parametrize("kind", MISFITS)
@pytest.mark.parametrize("form", ["pt", "safetensors"])
def test_weights_that_are_not_the_models_are_refused_by_name(form, kind, bert, tmp_path):
    change, told = MISFITS[kind]
    state = bert.state_dict()
    change(state)
    FORMS[form](state, described(bert, tmp_path / "in"))
    with pytest.raises(StateDictMismatchError) as caught:
        from_folder(tmp_path / "in")
    head = f"{tmp_path / 'in'}: the weights are not those of BertModel"
    assert str(caught.value) == f"{head}; {told}"
    if kind == "unexpected":
        assert from_folder(tmp_path / "in", Wishes(unused=True))


def test_a_folder_without_weights_is_refused(bert, tmp_path):
    with pytest.raises(CheckpointError, match="in: holds no checkpoint"):
        from_folder(described(bert, tmp_path / "in"))


def test_settings_of_an_adapter_beside_a_model_are_an_open_question(bert, tmp_path):
    bert.save_pretrained(tmp_path / "in")
    (tmp_path / "in" / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError) as caught:
        from_folder(tmp_path / "in")
    assert str(caught.value) == (
        f"{tmp_path / 'in'}: holds the settings of an adapter (adapter_config.json) beside a model "
        "(model.safetensors), and which is meant is not told; pass "
        f"{tmp_path / 'in' / 'model.safetensors'} for the model as it is"
    )
    (tmp_path / "in" / "model.safetensors").rename(tmp_path / "in" / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="is an adapter of PEFT, not a model"):
        from_folder(tmp_path / "in")


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_weights_keep_their_dtype(name, bert, tmp_path):
    bert.to(getattr(torch, name)).save_pretrained(tmp_path / "in")
    for wishes, expected in ((Wishes(), name), (Wishes(dtype="float32"), "float32")):
        loaded = from_folder(tmp_path / "in", wishes)[0]
        assert {str(p.dtype) for p in loaded.parameters()} == {f"torch.{expected}"}
    empty = from_folder(tmp_path / "in", Wishes(empty=True))[0]
    assert all(p.is_meta and p.dtype == getattr(torch, name) for p in empty.parameters())


def test_the_dtype_of_the_file_is_told_by_its_tensors_not_by_its_config(bert, tmp_path):
    folder = described(bert.bfloat16(), tmp_path / "in")
    torch.save(bert.float().state_dict(), folder / "model.pt")
    assert from_folder(folder)[0].dtype == torch.float32


@pytest.mark.parametrize(
    ("key", "dtype", "told"),
    [
        (
            WORDS,
            torch.bfloat16,
            r"several dtypes \(22 float32, 1 bfloat16\), the model gets float32",
        ),
        (None, torch.float64, "float64 becomes float32"),
    ],
)
def test_dtypes_that_change_are_told(key, dtype, told, bert, tmp_path):
    state = {
        name: value.to(dtype) if key in (None, name) else value
        for name, value in bert.state_dict().items()
    }
    torch.save(state, described(bert, tmp_path / "in") / "model.pt")
    with pytest.warns(UserWarning, match=told):
        assert from_folder(tmp_path / "in")[0].dtype == torch.float32


INPUTS = {
    "BertModel": ({"vocab_size": 64}, {"input_ids", "token_type_ids", "attention_mask"}),
    "RobertaModel": ({"vocab_size": 64}, {"input_ids", "attention_mask"}),
    "LlamaModel": (
        {"vocab_size": 64, "num_key_value_heads": 1},
        {"input_ids", "attention_mask"},
    ),
    "T5Model": (
        {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2},
        {"input_ids", "attention_mask", "decoder_input_ids"},
    ),
    "ViTModel": (VISION, {"pixel_values"}),
    "CLIPModel": (
        {
            "text_config": {"vocab_size": 64, "eos_token_id": 2, **SMALL},
            "vision_config": VISION,
            "projection_dim": 16,
        },
        {"input_ids", "attention_mask", "pixel_values"},
    ),
    "Wav2Vec2Model": ({"vocab_size": 32, **AUDIO}, {"input_values"}),
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_are_those_that_the_tokenizer_or_processor_gives(name, tmp_path):
    options, expected = INPUTS[name]
    model = model_of(name, **(options if "projection_dim" in options else {**SMALL, **options}))
    model.save_pretrained(tmp_path / "in")
    loaded, _, given = from_folder(tmp_path / "in")
    assert {key for key, value in given.items() if value is not False} == expected
    if "attention_mask" in expected:
        mask = given["attention_mask"]
        assert mask.shape == given["input_ids"].shape
        assert mask[0].all() and not mask[1, -3:].any() and mask[1, :-3].all()
    with torch.no_grad():
        loaded(**given)


def test_files_beside_the_weights_say_which_inputs_there_are(bert, tmp_path):
    bert.save_pretrained(tmp_path / "in")
    tokenizer = tmp_path / "in" / "tokenizer_config.json"
    names = lambda: set(from_folder(tmp_path / "in")[2]) - {"use_cache"}
    tokenizer.write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    assert names() == {"input_ids", "attention_mask"}
    tokenizer.write_text(json.dumps({"model_input_names": ["input_ids"]}))
    assert names() == {"input_ids"}
    for content in ("{", "[]", '{"tokenizer_class": "NoSuch", "model_input_names": [3]}'):
        tokenizer.write_text(content)
        assert names() == {"input_ids", "token_type_ids", "attention_mask"}


def test_an_extractor_that_is_told_to_gives_a_mask(tmp_path):
    model = model_of("Wav2Vec2Model", vocab_size=32, **AUDIO, **SMALL)
    model.save_pretrained(tmp_path / "in")
    kind = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "return_attention_mask": True}
    (tmp_path / "in" / "preprocessor_config.json").write_text(json.dumps(kind))
    given = from_folder(tmp_path / "in")[2]
    assert given["attention_mask"].shape == given["input_values"].shape


def test_inputs_are_named_with_shapes_and_flags(bert, tmp_path):
    bert.save_pretrained(tmp_path / "in")
    text = "input_ids=3x7,attention_mask,output_attentions=true"
    given = from_folder(tmp_path / "in", inputs=text)[2]
    assert list(given) == ["input_ids", "attention_mask", "output_attentions", "use_cache"]
    assert given["input_ids"].shape == given["attention_mask"].shape == (3, 7)
    assert given["output_attentions"] is True and given["use_cache"] is False
    given = from_folder(tmp_path / "in", inputs="inputs_embeds,use_cache=true")[2]
    assert given["inputs_embeds"].shape == (2, 9, 16) and given["use_cache"] is True


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("input_idz", "BertModel takes no 'input_idz'; did you mean input_ids?"),
        ("encoder_hidden_states", "give its shape too, as in encoder_hidden_states=2x16"),
        ("input_ids,", "'' is no input; write NAME, NAME=2x3x224x224, or NAME=true"),
        ("input_ids=2,3", "'3' takes no input"),
        ("input_ids=two", "'input_ids=two' is no input"),
    ],
)
def test_inputs_that_are_none_are_told(text, told, bert, tmp_path):
    bert.save_pretrained(tmp_path / "in")
    expected = told if told != "'3' takes no input" else "BertModel takes no '3'"
    with pytest.raises(TranslationError) as caught:
        from_folder(tmp_path / "in", inputs=text)
    assert expected in str(caught.value)


def test_a_model_without_known_inputs_asks_for_them(bert):
    bert.main_input_name = "something"
    with pytest.raises(
        TranslationError, match=r"known for 'something' of BertModel: name them wit"
    ):
        examples.usual(bert, [])


@pytest.mark.slow
def test_a_folder_is_translated_with_its_weights_and_its_mask(bert, here, capsys):
    torch.save(bert.state_dict(), described(bert, here / "in") / "model.pt")
    assert main(["translate", "in", "out"]) == 0
    assert "compared: agrees with torch" in capsys.readouterr().out
    arrays = mx.load("out/weights.safetensors")
    np.testing.assert_array_equal(np.array(arrays[WORDS]), bert.state_dict()[WORDS].numpy())
    twin = torch2mlx.load("out")
    ids = np.arange(10, 20).reshape(2, 5)
    types = np.zeros_like(ids)
    for mask in (np.ones_like(ids), np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]])):
        given = {"input_ids": ids, "token_type_ids": types, "attention_mask": mask}
        with torch.no_grad():
            expected = bert(**{k: torch.tensor(v) for k, v in given.items()}).last_hidden_state
        found = twin(**{k: mx.array(v) for k, v in given.items()}, use_cache=False)
        np.testing.assert_allclose(
            np.array(found["last_hidden_state"]), expected.numpy(), atol=1e-5
        )
    assert main(["verify", "in", "out"]) == 0
    state = {**bert.state_dict(), WORDS: torch.zeros(64, 16)}
    torch.save(state, "in/model.pt")
    assert main(["verify", "in", "out"]) == 1
    del state[WORDS]
    torch.save(state, "in/model.pt")
    for line in (["translate", "in", "new"], ["verify", "in", "out"]):
        capsys.readouterr()
        assert main(line) == 1
        assert capsys.readouterr().err == (
            f"torch2mlx: in: the weights are not those of BertModel; missing: {WORDS}\n"
        )
    assert not Path("new").exists()


@pytest.mark.slow
def test_a_folder_in_half_precision_stays_so(here):
    model = model_of("RobertaModel", vocab_size=64, **SMALL).bfloat16()
    model.save_pretrained("in")
    assert main(["translate", "in", "out"]) == 0
    assert {v.dtype for v in mx.load("out/weights.safetensors").values()} == {mx.bfloat16}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("translate f.py:f out --dtype float16", "--dtype is for folders; f.py:f makes its model"),
        ("verify f.py:f out --inputs x", "--inputs is for folders"),
        ("translate f.py:f out --ignore-unexpected", "--ignore-unexpected is for folders"),
        ("translate in out --stream --prefix x", "--stream takes all of a folder's weights under"),
        ("verify in out --stream --ignore-unexpected", "leave out --prefix and --ignore-unexpect"),
        ("translate f.py:f out --key x", "--key is for folders; f.py:f makes its model"),
        ("translate in out --dtype bfloat61", "did you mean bfloat16?"),
    ],
)
def test_options_that_mean_nothing_there_are_refused(line, told, here, capsys):
    assert main(line.split()) == 1
    assert told in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_a_part_of_a_nested_checkpoint_is_streamed_in_another_dtype(dtype, bert, here, capsys):
    folder = described(bert, here / "in")
    torch.save({"lr": 0.1}, folder / "training_args.bin")
    torch.save({"ema": bert.state_dict(), "old": {WORDS: torch.zeros(1)}}, folder / "model.pt")
    (folder / "training_args.bin").unlink()
    more = ["--key", "ema", "--stream", *(["--dtype", dtype] if dtype else [])]
    assert main(["translate", "in", "out", *more]) == 0
    arrays = mx.load("out/weights.safetensors")
    assert {str(v.dtype) for v in arrays.values()} == {f"mlx.core.{dtype or 'float32'}"}
    expected = bert.state_dict()[WORDS].to(getattr(torch, dtype or "float32")).float()
    np.testing.assert_array_equal(np.array(arrays[WORDS].astype(mx.float32)), expected.numpy())
    assert main(["verify", "in", "out", *more]) == 0
    capsys.readouterr()
    assert main(["verify", "in", "out", *more, "--gradients"]) == 1
    assert "need the weights in memory: leave out --stream" in capsys.readouterr().err


@pytest.mark.slow
def test_standard_files_are_streamed_and_not_what_training_left_beside_them(bert, here):
    folder = described(bert, here / "in")
    torch.save(bert.state_dict(), folder / "pytorch_model.bin")
    torch.save({"lr": 0.1}, folder / "training_args.bin")
    assert main(["translate", "in", "out", "--stream"]) == 0
    found = mx.load("out/weights.safetensors")[WORDS]
    np.testing.assert_array_equal(np.array(found), bert.state_dict()[WORDS].numpy())


@pytest.fixture
def llava():
    vision = transformers.CLIPVisionConfig(**VISION)
    text = transformers.LlamaConfig(vocab_size=64, num_key_value_heads=1, **SMALL)
    return model_of("LlavaModel", vision_config=vision, text_config=text, image_token_id=5)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_inputs_of_another_kind_that_are_left_out_are_told_with_the_option(llava, here, capsys):
    llava.save_pretrained("in")
    capsys.readouterr()
    assert main(["translate", "in", "out"]) == 0
    captured = capsys.readouterr()
    assert captured.err == (
        "warning: the example inputs are input_ids, attention_mask; the model also takes "
        "pixel_values, and is read as it is without: --inputs "
        "input_ids,attention_mask,pixel_values gives them too\n"
    )
    assert "free: input_ids=_x_, attention_mask=_x_\n" in captured.out
    with pytest.warns(UserWarning, match=r"inputs='input_ids,attention_mask,pixel_values' gives"):
        from_folder(here / "in")


@pytest.mark.slow
def test_text_has_a_token_for_each_part_of_its_picture(llava, here, capsys):
    llava.save_pretrained("in")
    capsys.readouterr()
    names = "input_ids,attention_mask,pixel_values"
    assert main(["translate", "in", "out", "--inputs", names]) == 0
    assert capsys.readouterr().err == ""
    twin = torch2mlx.load("out")
    for place, count in ((1, 2), (4, 2)):
        ids = torch.full((count, 13), 9)
        ids[:, place : place + 4] = 5
        pixels = torch.randn(count, 3, 16, 16)
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}
        with torch.no_grad():
            expected = llava(**given, use_cache=False).last_hidden_state
        found = twin(**given)["last_hidden_state"]
        np.testing.assert_allclose(np.array(found), expected.numpy(), atol=1e-5)
