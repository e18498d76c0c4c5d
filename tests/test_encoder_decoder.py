"""Encoder-decoder models that encode once and have a cache: their logits are torch's, and so are
the tokens that they answer."""

import json

import numpy as np
import pytest

from tests.support import need

torch, mx, transformers = need("torch", "mlx.core", "transformers")

import torch2mlx
from torch2mlx.cli import main
from torch2mlx.errors import TranslationError
from torch2mlx.export.state.answering import differences
from torch2mlx.export.state.encoded import some_inputs

pytestmark = pytest.mark.slow

BARTS = {"vocab_size": 96, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2}
BARTS |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24}
BARTS |= {"decoder_ffn_dim": 24, "max_position_embeddings": 48, "eos_token_id": 90, "init_std": 0.3}
T5S = {"vocab_size": 96, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
MARIANS = {**BARTS, "pad_token_id": 95, "decoder_start_token_id": 95, "forced_eos_token_id": 90}
WHISPERS = {key: value for key, value in BARTS.items() if key != "max_position_embeddings"}
WHISPERS |= {"num_mel_bins": 8, "max_source_positions": 10, "max_target_positions": 48}
WHISPERS |= {"pad_token_id": 90, "bos_token_id": 90, "decoder_start_token_id": 91}
SPEECHES = {key: WHISPERS[key] for key in BARTS if key in WHISPERS}
SPEECHES |= {"max_source_positions": 64, "max_target_positions": 48, "encoder_layers": 1}
GROUPS = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 24, "initializer_range": 0.3}
GROUPS |= {"encoder_num_hidden_layers": 1, "decoder_num_hidden_layers": 2}
GROUPS |= {"encoder_num_attention_heads": 2, "decoder_num_attention_heads": 2}

KINDS = {
    "t5": ("T5", "T5ForConditionalGeneration", {**T5S, "decoder_start_token_id": 0}),
    "bart": ("Bart", "BartForConditionalGeneration", {**BARTS, "forced_bos_token_id": 5}),
    "bigbird": (  # whose attention is written out
        "BigBirdPegasus",
        "BigBirdPegasusForConditionalGeneration",
        {**BARTS, "attention_type": "original_full"},
    ),
    "marian": ("Marian", "MarianMTModel", MARIANS),
    "whisper": ("Whisper", "WhisperForConditionalGeneration", WHISPERS),
}


def model_of(kind):
    torch.manual_seed(0)
    prefix, name, sizes = KINDS[kind]
    config = getattr(transformers, f"{prefix}Config")(**sizes)
    return getattr(transformers, name)(config).float().eval()


@pytest.fixture(scope="module")
def made():
    """Each model with its translation, made once."""
    known = {}

    def of(kind):
        if kind not in known:
            model = model_of(kind)
            known[kind] = model, torch2mlx.language_model(model)
        return known[kind]

    return of


def answered(model, inputs, count):
    """torch's tokens, and by how much the likeliest one leads at each place."""
    said = {"do_sample": False, "num_beams": 1, "max_new_tokens": count}
    with torch.no_grad():
        found = model.generate(**inputs, **said, return_dict_in_generate=True)["sequences"]
        logits = model(**inputs, decoder_input_ids=found[:, :-1]).logits
    best = logits.topk(2, -1).values
    return found.numpy(), (best[..., 0] - best[..., 1]).numpy()


@pytest.mark.parametrize(("batch", "length"), [(1, 6), (3, 11), (3, 5)])
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_tokens_are_those_of_torch(made, kind, batch, length):
    model, translated = made(kind)
    inputs = some_inputs(model, batch, length, seed=length)
    expected, lead = answered(model, inputs, 32)
    found = np.array(torch2mlx.generate(translated, inputs, max_tokens=32, temperature=0))
    close = np.flatnonzero((lead < 1e-3).any(0))
    until = 1 + (close[0] if len(close) else expected.shape[1])
    assert until > 8
    assert found[:, :until].tolist() == expected[:, :until].tolist()


SPEECH = {
    "Moonshine": GROUPS,
    "Speech2Text": {**SPEECHES, "input_feat_per_channel": 8, "conv_channels": 12},
}


@pytest.mark.parametrize("kind", SPEECH)
def test_what_is_heard_may_have_any_length(kind):
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SPEECH[kind])
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(config).eval()
    module = torch2mlx.language_model(model).module
    for batch, length in ((1, 4), (3, 13)):
        inputs = some_inputs(model, batch, length)
        assert max(differences(model, module, inputs, (2, 3))) <= 1e-4


@pytest.mark.parametrize("pieces", [(1,) * 5, (6,), (2, 3)])
@pytest.mark.parametrize(("batch", "length"), [(1, 4), (3, 12)])
@pytest.mark.parametrize("kind", KINDS)
def test_cached_logits_are_those_of_torch_without_a_cache(made, kind, pieces, batch, length):
    model, translated = made(kind)
    inputs = some_inputs(model, batch, length, seed=batch)
    assert max(differences(model, translated.module, inputs, pieces)) <= 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_the_cross_attention_makes_keys_and_values_in_one_place(made, kind):
    source = made(kind)[1].source
    assert "cache[0] = " in source and "cache[1] = " in source
    assert "transformers" not in source.partition('"""\n')[2]


def test_past_its_table_of_positions_a_model_raises_an_error(made):
    translated = made("bart")[1]
    with pytest.raises(TranslationError) as error:
        torch2mlx.generate(translated, mx.array([[5, 6, 7]]), max_tokens=60, eos=[])
    assert str(error.value) == (
        "decoder_input_ids.shape[1] + length_of(cache[0]) is 49: "
        "model.decoder.embed_positions.weight ends at 48"
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of the kind that transformers saves, with a tokenizer of words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    place = tmp_path_factory.mktemp("saved") / "model"
    model_of("marian").save_pretrained(place)
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(96)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    kind = transformers.PreTrainedTokenizerFast
    kind(tokenizer_object=words, unk_token="w0", pad_token="w95").save_pretrained(place)
    return place


def test_the_commands_answer_as_torch_does(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["translate", str(folder), str(out), "--cache", "--no-check"]) == 0
    assert "2 Cache" in capsys.readouterr().out
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
    inputs = {"input_ids": torch.tensor([[5, 9, 7]]), "attention_mask": torch.ones(1, 3).long()}
    expected, lead = answered(model, inputs, 12)
    assert lead.min() > 1e-3
    line = ["generate", str(out), "w5 w9 w7", "--max-tokens", "12"]
    assert main(line) == 0
    assert capsys.readouterr().out.split() == [f"w{i}" for i in expected[0].tolist() if i != 95]
    loaded = torch2mlx.load(out)
    found = torch2mlx.generate(loaded, {k: v.numpy() for k, v in inputs.items()}, max_tokens=12)
    assert found.tolist() == expected.tolist()
    said = json.loads((out / "generation_config.json").read_text())
    (out / "generation_config.json").write_text(json.dumps({**said, "num_beams": 4}))
    assert main(line) == 1
    told = "num_beams=4 is not followed here, one token is chosen after the other: leave it out by"
    assert f"{told} --set num_beams=1" in capsys.readouterr().err
    assert main([*line, "--set", "num_beams=1"]) == 0
    assert main([*line, "--plain"]) == 1
    assert "--plain is not for models with an encoder" in capsys.readouterr().err
