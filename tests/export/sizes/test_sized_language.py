"""The file of a language model for all sizes, under mlx-lm's contract."""

import json
import sys
import types

import pytest

from tests.support import close, need

torch, mx, transformers, _ = need("torch", "mlx.core", "transformers", "mlx_lm")

import torch2mlx
from torch2mlx.cli import main

OWN = {
    "hidden_size": 24,
    "intermediate_size": 36,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 40,
}
OTHER = {
    "hidden_size": 30,
    "intermediate_size": 44,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "head_dim": 10,
    "vocab_size": 53,
    "rms_norm_eps": 1e-5,
}


def llama(**sizes):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(max_position_embeddings=64, **sizes)
    return transformers.LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder that the command line makes of a model, with a file for all sizes, and weights
    that nothing loads before they are written."""
    place = tmp_path_factory.mktemp("sized")
    llama(**OWN).save_pretrained(place / "torch")
    line = ["translate", str(place / "torch"), str(place / "out"), "--cache", "--all-sizes"]
    assert main([*line, "--stream"]) == 0
    return place / "out"


def test_the_file_loads_the_weights_of_another_size_and_agrees_with_its_cache(written):
    made = sys.modules["sized_llama"] = types.ModuleType("sized_llama")
    source = (written / "model.py").read_text()
    exec(compile(source, "<sized_llama>", "exec", dont_inherit=True), made.__dict__)
    other = llama(**OTHER)
    config = json.loads(other.config.to_json_string(use_diff=False))
    model = made.Model(made.ModelArgs.from_dict(config))
    weights = {k: mx.array(v.detach().numpy()) for k, v in other.state_dict().items()}
    model.load_weights(list(weights.items()), strict=True)
    ids = torch.randint(0, 53, (2, 11))
    cache = model.make_cache()
    pieces = [model(mx.array(ids[:, a:b].numpy()), cache) for a, b in ((0, 4), (4, 9), (9, 11))]
    close(mx.concatenate(pieces, axis=1), other(ids).logits.detach(), 1e-4)


def test_the_folder_reads_its_own_sizes_from_its_configuration(written):
    ids = torch.randint(0, 40, (2, 9))
    close(torch2mlx.load(written)(mx.array(ids.numpy())), llama(**OWN)(ids).logits.detach(), 1e-4)


def test_the_source_is_compiled_without_the_options_of_what_loads_it(written):
    from torch2mlx.language import LanguageModel

    model = torch2mlx.load(written)
    assert type(model).__init__.__globals__["ModelArgs"].__annotations__["model_type"] is str
    held = types.SimpleNamespace(weights={}, constants={})
    source = "import mlx.nn as nn\n\nclass ModelArgs:\n    width: int\n    from_dict = dict\n\n"
    source += "class Model(nn.Module):\n    def __init__(self, args):\n        super().__init__()\n"
    made = LanguageModel(source, {}, (), _made=held).module
    assert type(made).__init__.__globals__["ModelArgs"].__annotations__["width"] is int


def test_sizes_of_inputs_are_no_sizes_of_models(written, capsys):
    line = ["translate", str(written), "o", "--all-sizes", "--sizes", "input_ids=2x7"]
    assert main(line) == 1
    assert "--sizes is not taken together with --all-sizes" in capsys.readouterr().err
