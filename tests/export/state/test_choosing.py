"""How the next token of an encoder-decoder model is chosen: as transformers does, or refused."""

import numpy as np
import pytest

from tests.support import need

torch, mx, transformers = need("torch", "mlx.core", "transformers")

import torch2mlx
from torch2mlx.errors import TranslationError
from torch2mlx.export.state.choosing import allowed, chosen, likely
from torch2mlx.export.state.settings import settings_of

SAID = {"decoder_start_token_id": 3, "eos_token_id": [7, 9], "pad_token_id": 1}


def logits_of(batch, words=24, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(batch, words, generator=draw)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("top_p", [1.0, 0.8, 0.3])
@pytest.mark.parametrize("top_k", [0, 5, 50])
@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_what_is_drawn_from_is_what_transformers_draws_from(temperature, top_k, top_p, batch):
    from transformers.generation import logits_process as theirs

    logits = expected = logits_of(batch, seed=batch)
    warpers = [theirs.TemperatureLogitsWarper(temperature)] if temperature != 1 else []
    warpers += [theirs.TopKLogitsWarper(top_k)] if top_k else []
    warpers += [theirs.TopPLogitsWarper(top_p)] if top_p < 1 else []
    for warper in warpers:
        expected = warper(None, expected)
    told = settings_of(SAID, temperature=temperature, top_k=top_k, top_p=top_p)
    found = np.array(likely(told, mx.array(logits.numpy())))
    assert np.array_equal(np.isinf(found), np.isinf(expected.numpy()))
    assert np.allclose(np.exp(found), expected.exp().numpy(), atol=1e-5)


FORMS = [
    {"forced_bos_token_id": 5, "begin_suppress_tokens": [2, 4]},
    {"forced_eos_token_id": 7, "max_new_tokens": 4},
    {"forced_eos_token_id": [7, 9], "max_length": 5, "suppress_tokens": [0, 8]},
    {"begin_suppress_tokens": [2, 4], "min_length": 3},
    {"min_new_tokens": 2},
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: next(iter(form)))
@pytest.mark.parametrize("batch", [1, 3])
def test_tokens_are_forced_and_barred_where_transformers_does_so(form, batch):
    from transformers import GenerationConfig
    from transformers.generation.utils import GenerationMixin

    told = settings_of({**SAID, **form})
    config = GenerationConfig(**{**SAID, **form})
    config._eos_token_tensor = torch.tensor(SAID["eos_token_id"])
    config.max_length = 1 + told.most
    holder = type("Holder", (GenerationMixin,), {})()
    holder.config = transformers.T5Config()
    processors = holder._get_logits_processor(config, input_ids_seq_length=1)
    for count in range(told.most if told.most < 9 else 4):
        logits = logits_of(batch, seed=count)
        expected = processors(torch.full((batch, 1 + count), 3), logits.clone()).numpy()
        found = np.array(allowed(told, mx.array(logits.numpy()), count))
        assert np.array_equal(np.isinf(found), np.isinf(expected)), count
        assert np.array_equal(found.argmax(-1), expected.argmax(-1)), count


def test_a_key_gives_the_same_draws_again_and_another_one_others():
    told = settings_of(SAID, temperature=2.0, top_k=0)
    logits = mx.array(logits_of(40).numpy())
    one, again, other = (chosen(told, logits, 0, mx.random.key(n)).tolist() for n in (1, 1, 2))
    assert one == again != other


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            {"num_beams": 4},
            "generation_config: num_beams=4 is not followed here, one token is chosen after the "
            "other: leave it out by settings={'num_beams': 1}",
        ),
        (
            {"repetition_penalty": 1.3},
            "generation_config: repetition_penalty=1.3 is not followed here, one token is chosen "
            "after the other: leave it out by settings={'repetition_penalty': 1}",
        ),
        (
            {"force_words_ids": [[4]]},
            "generation_config: force_words_ids=[[4]] is not followed here, one token is chosen "
            "after the other: leave it out by settings={'force_words_ids': None}",
        ),
        (
            {"new_in_some_version": 2},
            "generation_config: new_in_some_version=2 is not known here: leave it out by "
            "settings={'new_in_some_version': None}",
        ),
        (
            {"lang_to_id": {"<|en|>": 5}},
            "the decoder's first tokens say the language and the task, which is not found out "
            "here: give start=, [3, ...] with the tokens of lang_to_id, task_to_id and "
            "no_timestamps_token_id of generation_config.json",
        ),
        ({"max_length": 1}, "max_tokens=0: at least one token is made"),
        ({"temperature": -1.0, "do_sample": True}, "temperature=-1.0 is out of range"),
    ],
)
def test_what_is_not_followed_is_refused_by_name(said, words):
    with pytest.raises(TranslationError) as error:
        settings_of({**SAID, **said})
    assert str(error.value) == words


def test_the_first_tokens_are_those_that_a_configuration_forces():
    forced = {"forced_decoder_ids": [[1, 50], [2, 60]]}
    assert settings_of({**SAID, **forced}).start == (3, 50, 60)
    assert settings_of({**SAID, "no_timestamps_token_id": 11}).start == (3, 11)
    assert settings_of({**SAID, **forced}, start=[4]).start == (4,)
    with pytest.raises(TranslationError, match="has no decoder_start_token_id"):
        settings_of({"eos_token_id": 2})


def test_what_has_no_encoder_is_refused():
    from mlx import nn

    with pytest.raises(TranslationError) as error:
        torch2mlx.generate(nn.Linear(2, 2), [[1]])
    assert str(error.value) == (
        "Linear is no encoder-decoder model with a cache: language_model and translate --cache "
        "make one"
    )
