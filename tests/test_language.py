"""Causal language models with a cache, to mlx-lm's contract: their logits are torch's, prefilled in
pieces and then token by token, and mlx-lm loads and runs the folder."""

import json
import re
import shutil

import numpy as np
import pytest

from tests.support import close, need

torch, mx, transformers, mlx_lm = need("torch", "mlx.core", "transformers", "mlx_lm")

import torch2mlx
from torch2mlx.cli import main
from torch2mlx.cli.schemas import schemas
from torch2mlx.errors import TranslationError, WriteError
from torch2mlx.export.state.causal import some_tokens
from torch2mlx.export.state.generating import differences, mlx_logits, padded_cache, proved

pytestmark = pytest.mark.slow

SIZES = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GROUPED = {**SIZES, "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 48}
STATES = {key: SIZES[key] for key in ("vocab_size", "hidden_size", "num_hidden_layers")}
STATES |= {"state_size": 4, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}

KINDS = {
    "bloom": ("BloomConfig", {**SIZES, "n_head": 4, "n_layer": 2}, "KVCache"),
    "persimmon": ("PersimmonConfig", {**SIZES, "intermediate_size": 48}, "KVCache"),
    "gemma2": ("Gemma2Config", {**GROUPED, "sliding_window": 6}, "KVCache"),
    "roberta": ("RobertaConfig", {**SIZES, "intermediate_size": 48, "is_decoder": True}, "KVCache"),
    "mamba": ("MambaConfig", STATES, "ArraysCache"),
}


#: States that do not grow: alone, where tokens come one by one, and beside keys and values.
HYBRIDS = {
    "lfm2": (
        "Lfm2Config",
        {**GROUPED, "layer_types": ["conv", "full_attention"], "num_hidden_layers": 2},
        "ArraysCache, KVCache",
    ),
}
STATEFUL = ("mamba", "lfm2")


def model_of(kind):
    torch.manual_seed(0)
    name, sizes, _ = {**KINDS, **HYBRIDS}[kind]
    config = getattr(transformers, name)(**sizes)
    return transformers.AutoModelForCausalLM.from_config(config).float().eval()


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


@pytest.mark.parametrize("kind", KINDS)
def test_the_blocks_are_one_loop_over_the_list_of_caches(made, kind):
    assert len(re.findall(r"for \w+, \w+.* in zip\(\s*self\.\w+, cache", made(kind)[1].source)) == 1


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("pieces", [(4, 5), (1, 1, 7), (9,)])
@pytest.mark.parametrize("kind", KINDS)
def test_cached_logits_are_those_of_torch_at_every_place(made, kind, pieces, batch):
    model, language = made(kind)
    ids = some_tokens(model, batch, 30, seed=5)
    assert max(differences(model, language.module, ids, pieces)) <= 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_each_block_keeps_its_state_in_one_of_the_caches_of_mlx_lm(made, kind):
    language = made(kind)[1]
    names = [type(held).__name__ for held in language.module.make_cache()]
    assert names == list(language.caches) == [KINDS[kind][2]] * 2
    assert len(language.module.layers) == 2


def test_a_call_without_a_cache_begins_anew(made):
    model, language = made("bloom")
    ids = some_tokens(model, 2, 8)
    with torch.no_grad():
        expected = model(ids).logits.numpy()
    for _ in range(2):
        found = np.array(language.module(mx.array(ids.numpy())))
        assert np.abs(found - expected).max() <= 1e-4 * max(1, np.abs(expected).max())


def test_a_trimmed_cache_goes_on_from_where_it_was_cut(made):
    model, language = made("bloom")
    ids = mx.array(some_tokens(model, 1, 12).numpy())
    cache = language.module.make_cache()
    whole = language.module(ids, cache=cache)
    for held in cache:
        held.trim(5)
    again = language.module(ids[:, 7:], cache=cache)
    assert mx.abs(again - whole[:, 7:]).max().item() <= 1e-5


@pytest.mark.parametrize("several", [False, True])
def test_past_its_table_of_positions_a_model_raises_an_error_as_torchs_does(several):
    from mlx_lm.models.cache import BatchKVCache

    sizes = {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 26}
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes)).eval()
    module = torch2mlx.language_model(model).module
    ids = some_tokens(model, 2, 27)
    with pytest.raises(IndexError):
        model(ids)
    tokens = mx.array(ids.numpy())
    cache = [BatchKVCache([0, 0]) for _ in range(2)] if several else module.make_cache()
    with torch.no_grad():
        expected = model(ids[:, :26]).logits.numpy()
    close(np.array(module(tokens[:, :26], cache=cache)), expected, 1e-4)
    for given in ({"cache": cache}, {}):
        with pytest.raises(ValueError, match="transformer") as error:
            module(tokens[:, 26:] if given else tokens, **given)
        said = "input_ids.shape[1] + length_of(cache[0]) is 27: transformer.wpe.weight ends at 26"
        assert str(error.value) == said


PADDED = ("persimmon", "bloom", "gemma2", "roberta")


def alone(model, rows):
    """torch's logits of sequences of several lengths, each by itself."""
    with torch.no_grad():
        return [model(row[None]).logits.numpy()[0] for row in rows]


@pytest.mark.parametrize("pieces", [(4, 5), (2, 1, 6)])
@pytest.mark.parametrize("kind", (*PADDED, *STATEFUL))
def test_padding_before_a_sequence_changes_nothing(made, kind, pieces):
    model, language = made(kind)
    padding, ids = (0, 4, 1), some_tokens(model, 3, 20, seed=6)
    cache = padded_cache(language.module, padding)
    found = mlx_logits(language.module, mx.array(ids.numpy()), pieces, cache)
    rows = [ids[row, start:] for row, start in enumerate(padding)]
    for expected, logits, start in zip(alone(model, rows), found, padding, strict=True):
        close(logits[start:], expected, 1e-4)


@pytest.mark.parametrize("pieces", [(9,), (3, 1, 5)])
@pytest.mark.parametrize("kind", (*PADDED, *STATEFUL))
def test_sequences_that_join_and_leave_a_batch_go_on_as_alone(made, kind, pieces):
    """As mlx-lm's server treats them: prompts of several lengths with padding behind them, a batch
    that another one is added to, and one whose longest sequence is done."""
    model, language = made(kind)
    lengths, rows = (9, 4, 7), list(some_tokens(model, 3, 20, seed=7))
    rows = [row[: n + 8] for row, n in zip(rows, lengths, strict=True)]
    expected = alone(model, rows)
    first = padded_cache(language.module, (0, 0))
    for held in first:
        held.prepare(lengths=[9, 4], right_padding=[0, 5])
    prompt = torch.zeros(2, 9, dtype=torch.int64)
    prompt[0], prompt[1, :4] = rows[0][:9], rows[1][:4]
    found = mlx_logits(language.module, mx.array(prompt.numpy()), pieces, first)
    close(found[0], expected[0][:9], 1e-4)
    close(found[1, :4], expected[1][:4], 1e-4)
    other = language.module.make_cache()
    language.module(mx.array(rows[2][None, :7].numpy()), cache=other)
    for held, more in zip(first, other, strict=True):
        held.finalize()
        held.extend(more.merge([more]))
    kept = [0, 1, 2]
    for step in range(8):
        if step == 4:
            kept = [1, 2]
            for held in first:
                held.filter(mx.array(kept))
        tokens = mx.array([[int(rows[i][lengths[i] + step])] for i in kept])
        logits = np.array(language.module(tokens, cache=first))
        for place, i in enumerate(kept):
            close(logits[place, 0], expected[i][lengths[i] + step], 1e-4)


def test_a_refusal_says_where_torchs_own_step_of_one_token_is_another_program(made):
    model, translated = made("persimmon")

    class Stepped(type(model)):
        """Its logits are larger in calls of one token."""

        def forward(self, input_ids, **options):
            answer = super().forward(input_ids=input_ids, **options)
            if input_ids.shape[1] == 1:
                answer.logits = answer.logits * 1.5
            return answer

    stepped = Stepped(model.config).eval()
    stepped.load_state_dict(model.state_dict())
    with pytest.raises(TranslationError, match=r"torch's own differ by .*; check=False returns"):
        proved(stepped, translated.module)
    with pytest.raises(TranslationError, match=r"allowed 0\.0001$"):
        proved(model, made("bloom")[1].module)


def test_a_model_that_padding_would_move_refuses_it():
    from mlx_lm.models.cache import BatchKVCache

    sizes = {"vocab_size": 96, "d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4}
    torch.manual_seed(0)
    model = transformers.BartForCausalLM(
        transformers.BartConfig(**sizes, decoder_ffn_dim=48)
    ).eval()
    module = torch2mlx.language_model(model).module
    tokens = mx.array([[5, 5, 5], [5, 6, 7]])
    found = module(tokens, cache=[BatchKVCache([0, 0]) for _ in range(2)])
    assert mx.array_equal(found, module(tokens))
    with pytest.raises(ValueError, match="padding") as error:
        module(tokens, cache=[BatchKVCache([2, 0]) for _ in range(2)])
    assert str(error.value) == "this file takes no batches of sequences with padding"


@pytest.mark.parametrize("pieces", [(4, 5), (1, 7)])
def test_keys_that_torchs_cache_alone_drops_are_dropped_past_any_length_that_was_compared(pieces):
    from mlx_lm.models.cache import BatchRotatingKVCache

    torch.manual_seed(0)
    sizes = {**GROUPED, "sliding_window": 30, "initializer_range": 0.2}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes)).eval()
    language = torch2mlx.language_model(model)
    assert language.caches == ("RotatingKVCache",) * 2
    ids = some_tokens(model, 2, 45)
    assert max(differences(model, language.module, ids, pieces)) <= 1e-4
    cache = [BatchRotatingKVCache(30, [0, 0]) for _ in range(2)]
    several = mlx_logits(language.module, mx.array(ids.numpy()), pieces, cache)
    close(several, mlx_logits(language.module, mx.array(ids.numpy()), pieces), 1e-5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of the kind that transformers saves, with a tokenizer of words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    place = tmp_path_factory.mktemp("saved") / "model"
    model_of("bloom").save_pretrained(place)
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(96)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    kind = transformers.PreTrainedTokenizerFast
    kind(tokenizer_object=words, unk_token="w0", eos_token="w2").save_pretrained(place)
    return place


def test_mlx_lm_generates_from_the_folder_what_torch_does(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["translate", str(folder), str(out), "--cache"]) == 0
    assert "2 KVCache" in capsys.readouterr().out
    model, tokenizer = mlx_lm.load(str(out), trust_remote_code=True)
    torches = transformers.AutoModelForCausalLM.from_pretrained(folder)
    prompt = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        expected = torches.generate(prompt, max_new_tokens=12, do_sample=False)[0, 4:]
    text = mlx_lm.generate(model, tokenizer, prompt="w5 w6 w7 w8", max_tokens=12)
    assert text.split() == [f"w{i}" for i in expected.tolist() if i != 2]


@pytest.fixture(scope="module")
def written(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("written") / "out"
    assert main(["translate", str(folder), str(out), "--cache", "--no-check"]) == 0
    return out


def test_the_verb_generate_goes_on_as_torch_does(folder, written, capsys):
    torches = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        ids = torches.generate(torch.tensor([[9, 6, 7]]), max_new_tokens=8, do_sample=False)
    expected = [f"w{i}" for i in ids[0, 3:].tolist() if i != 2]
    capsys.readouterr()
    line = ["generate", str(written), "w9 w6 w7", "--max-tokens", "8"]
    assert main(line) == 0
    assert capsys.readouterr().out.split() == expected
    assert main([*line, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["result"]
    assert found["text"].split() == expected and found["prompt_tokens"] == 3
    (jsonschema,) = need("jsonschema")
    jsonschema.validate(found, schemas()["results"]["generate"])


def test_draws_with_a_seed_are_the_same_again(written, capsys):
    line = ["generate", str(written), "w9 w6", "--max-tokens", "12", "--temperature", "5"]
    said = []
    for seed in ("1", "1", "2"):
        assert main([*line, "--seed", seed, "--top-p", "0.99"]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]


def test_the_verb_generate_refuses_by_name_what_it_does_not_run(written, tmp_path, capsys):
    assert main(["generate", str(written), ""]) == 1
    assert "the prompt has no tokens: give some text" in capsys.readouterr().err
    changed = shutil.copytree(written, tmp_path / "changed")
    (changed / "model.py").write_text((written / "model.py").read_text() + "\n# changed\n")
    assert main(["generate", str(changed), "w5"]) == 1
    assert "is a program that your own translate did not write" in capsys.readouterr().err
    assert main(["generate", str(changed), "w5", "--trust-remote-code", "--max-tokens", "2"]) == 0
    capsys.readouterr()
    (changed / "model.safetensors").unlink()
    assert main(["generate", str(changed), "w5", "--trust-remote-code"]) == 1
    assert "changed: mlx-lm does not load it: " in capsys.readouterr().err


def test_a_saved_folder_is_loaded_and_written_again(made, tmp_path):
    language = made("mamba")[1]
    out = language.save(tmp_path / "out")
    assert json.loads((out / "config.json").read_text())["model_file"] == "model.py"
    ids = mx.array([[5, 6, 7]])
    assert mx.array_equal(torch2mlx.load(out)(ids), language.module(ids))
    language.save(out)
    (out / "model.py").write_text("# mine\n")
    with pytest.raises(WriteError, match=r"model\.py: not written by torch2mlx"):
        language.save(out)


def test_what_is_no_language_model_is_refused():
    config = transformers.BertConfig(**GROUPED)
    with pytest.raises(TranslationError) as error:
        torch2mlx.language_model(transformers.BertModel(config).eval())
    assert str(error.value) == "BertModel answers no logits: it is no language model"


def test_options_of_other_translations_are_refused(folder, tmp_path, capsys):
    assert main(["translate", str(folder), str(tmp_path / "o"), "--cache", "--fixed"]) == 1
    assert "--fixed is not taken together with --cache" in capsys.readouterr().err
