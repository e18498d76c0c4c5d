"""mlx-lm's own commands on folders of models that it has no classes for: what each writes or says
agrees with torch, or with what the command before it left."""

import contextlib
import http.client
import json
import sys
import threading

import numpy as np
import pytest

from tests.support import close, need

torch, mx, transformers, mlx_lm = need("torch", "mlx.core", "transformers", "mlx_lm")

from mlx.utils import tree_flatten

import torch2mlx
from torch2mlx.cli import main as cli
from torch2mlx.export.state.causal import some_tokens
from torch2mlx.export.state.generating import mlx_logits

convert, fuse, generate, lora, server = need(
    "mlx_lm.convert", "mlx_lm.fuse", "mlx_lm.generate", "mlx_lm.lora", "mlx_lm.server"
)

pytestmark = pytest.mark.slow

WORDS = 96
IDS = {"bos_token_id": 1, "eos_token_id": 2}
WIDE = {"vocab_size": WORDS, "hidden_size": 64, **IDS, "pad_token_id": 0}
#: A bias of distances, positions from a table, rotary positions with heads in groups.
KINDS = {
    "bloom": ("BloomConfig", {**WIDE, "n_layer": 2, "n_head": 2}),
    "opt": (
        "OPTConfig",
        {
            **WIDE,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "ffn_dim": 96,
            "word_embed_proj_dim": 64,
            "max_position_embeddings": 64,
        },
    ),
    "arcee": (
        "ArceeConfig",
        {
            **WIDE,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "intermediate_size": 96,
        },
    ),
}
#: Its attention drops out weights where it is trained, so it stays written out.
XGLM = {"d_model": 64, "ffn_dim": 96, "num_layers": 2, "attention_heads": 2, **IDS}
PROMPT = "w5 w6 w7 w8"


def tokenizer():
    """One of words, w0 to w95."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(WORDS)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    kind = transformers.PreTrainedTokenizerFast
    return kind(tokenizer_object=words, unk_token="w0", eos_token="w2")


class Folders:
    """Models as transformers saves them, and what translate makes of them, each made once."""

    def __init__(self, place, kinds=KINDS):
        self._place, self._kinds, self._models = place, kinds, {}

    def __call__(self, kind):
        """The model, and the translated folder."""
        if kind not in self._models:
            torch.manual_seed(0)
            name, sizes = self._kinds[kind]
            config = getattr(transformers, name)(**sizes)
            model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
            saved = self._place / f"{kind}-torch"
            model.save_pretrained(saved)
            tokenizer().save_pretrained(saved)
            line = ["translate", str(saved), str(self._place / kind), "--cache", "--no-check"]
            assert cli(line) == 0
            self._models[kind] = model
        return self._models[kind], self._place / kind


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    return Folders(tmp_path_factory.mktemp("commands"))


def run(command, monkeypatch, *line):
    """A command of mlx-lm in this process."""
    monkeypatch.setattr(sys, "argv", [command.__name__, *map(str, line)])
    command.main()


def loaded(folder, **more):
    return mlx_lm.load(str(folder), trust_remote_code=True, **more)[0]


def logits(model, count=2, length=11):
    """Those of a call without a cache, (B, L, V)."""
    draw = np.random.default_rng(3)
    return np.array(model(mx.array(draw.integers(3, WORDS, (count, length)))))


def torchs_words(model, tokens):
    with torch.no_grad():
        ids = model.generate(torch.tensor([[5, 6, 7, 8]]), max_new_tokens=tokens, do_sample=False)
    return [f"w{i}" for i in ids[0, 4:].tolist() if i != 2]


@pytest.mark.parametrize("kind", KINDS)
def test_load_and_generate_give_what_torch_does(made, kind, monkeypatch, capsys):
    torchs, folder = made(kind)
    model = loaded(folder)
    ids = some_tokens(torchs, 2, 20, seed=4)
    with torch.no_grad():
        expected = torchs(ids).logits.numpy()
    close(mlx_logits(model, mx.array(ids.numpy()), (4, 5)), expected, 1e-4)
    with pytest.raises(torch2mlx.errors.VerificationError, match="a language model with a cache"):
        torch2mlx.verify(torchs, folder, ids, trust_remote_code=True)
    asked = ["--model", folder, "--trust-remote-code", "--prompt", PROMPT, "--max-tokens", 12]
    capsys.readouterr()
    run(generate, monkeypatch, *asked, "--verbose", "False")
    assert capsys.readouterr().out.split() == torchs_words(torchs, 12)


def caches(model, bits):
    """New caches that hold keys and values in so many bits."""
    return [held.to_quantized(group_size=32, bits=bits) for held in model.make_cache()]


@pytest.mark.parametrize("kind", KINDS)
def test_quantized_keys_and_values_change_logits_little(made, kind, monkeypatch, capsys):
    torchs, folder = made(kind)
    model = loaded(folder)
    ids = mx.array(some_tokens(torchs, 1, 24, seed=5).numpy())
    plain = mlx_logits(model, ids, (4, 5))
    close(mlx_logits(model, ids, (4, 5), caches(model, 8)), plain, 0.02)
    asked = ["--model", folder, "--trust-remote-code", "--prompt", PROMPT, "--max-tokens", 6]
    more = ["--kv-bits", 8, "--kv-group-size", 32, "--quantized-kv-start", 0]
    capsys.readouterr()
    run(generate, monkeypatch, *asked, *more, "--verbose", "False")
    assert len(capsys.readouterr().out.split()) == 6


def test_attention_that_is_written_out_refuses_quantized_keys_by_name():
    sizes = {"vocab_size": WORDS, "max_position_embeddings": 64, "pad_token_id": 0, **XGLM}
    torch.manual_seed(0)
    model = transformers.XGLMForCausalLM(transformers.XGLMConfig(**sizes)).eval()
    module = torch2mlx.language_model(model, check=False).module
    ids = some_tokens(model, 1, 6)
    with torch.no_grad():
        close(module(mx.array(ids.numpy())), model(ids).logits.numpy(), 1e-4)
    with pytest.raises(ValueError, match="kv-bits") as error:
        module(mx.array(ids.numpy()), cache=caches(module, 8))
    said = "the attention of this file is written out and takes no quantized keys and values: "
    assert str(error.value) == f"{said}leave --kv-bits out"


@pytest.mark.parametrize("kind", KINDS)
def test_a_converted_folder_loads_quantized_with_logits_near_the_others(
    made, kind, monkeypatch, tmp_path
):
    folder, out = made(kind)[1], tmp_path / "q"
    asked = ["--hf-path", folder, "--mlx-path", out, "--trust-remote-code"]
    run(convert, monkeypatch, *asked, "-q", "--q-bits", 8, "--q-group-size", 32)
    model = loaded(out)
    names = [name for name, _ in tree_flatten(model.parameters()) if name.endswith(".scales")]
    assert len(names) >= 9
    close(logits(model), logits(loaded(folder)), 0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_were_sanitized_stay_as_they_are(made, kind, monkeypatch, tmp_path):
    folder, out = made(kind)[1], tmp_path / "again"
    asked = ["--hf-path", folder, "--trust-remote-code", "--dtype", "float32"]
    run(convert, monkeypatch, *asked, "--mlx-path", out)
    one, other = (mx.load(str(place / "model.safetensors")) for place in (folder, out))
    assert one.keys() == other.keys()
    assert all(mx.array_equal(one[name], other[name]).item() for name in one)
    assert np.array_equal(logits(loaded(out)), logits(loaded(folder)))


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_trained_and_fused(made, kind, monkeypatch, tmp_path):
    folder, adapter, out = made(kind)[1], tmp_path / "adapter", tmp_path / "fused"
    rows = [
        json.dumps({"text": " ".join(f"w{3 + (i + j) % 80}" for j in range(8))}) for i in range(8)
    ]
    for name in ("train", "valid"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    asked = ["--model", folder, "--trust-remote-code", "--adapter-path", adapter]
    steps = ["--iters", 10, "--batch-size", 2, "--val-batches", 1, "--learning-rate", 0.01]
    run(lora, monkeypatch, *asked, "--train", "--data", tmp_path, *steps, "--num-layers", 2)
    adapted, plain = logits(loaded(folder, adapter_path=str(adapter))), logits(loaded(folder))
    assert np.abs(adapted - plain).max() > 0.1
    run(fuse, monkeypatch, *asked, "--save-path", out)
    close(logits(loaded(out)), adapted, 1e-5)


@contextlib.contextmanager
def serving(monkeypatch, *line):
    """While open, mlx_lm.server runs in a thread; gives its port. It ends as at an interrupt."""
    kind, started, ready = server.ThreadingHTTPServer, [], threading.Event()
    serve = kind.serve_forever

    def until_interrupted(self):
        started.append(self)
        ready.set()
        serve(self, 0.05)
        raise KeyboardInterrupt

    monkeypatch.setattr(kind, "serve_forever", until_interrupted)
    thread = threading.Thread(target=run, args=(server, monkeypatch, *line, "--port", 0))
    thread.start()
    try:
        assert ready.wait(60)
        yield started[0].server_port
    finally:
        started[0].shutdown()
        thread.join()
        started[0].server_close()


@pytest.mark.filterwarnings("ignore:mlx_lm.server is not recommended:UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_the_server_answers_a_request_as_torch_does(made, kind, monkeypatch):
    torchs, folder = made(kind)
    body = json.dumps({"prompt": PROMPT, "max_tokens": 8, "temperature": 0})
    asked = ["--model", folder, "--trust-remote-code", "--log-level", "ERROR"]
    with serving(monkeypatch, *asked) as port:
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        link.request("POST", "/v1/completions", body)
        answer = json.loads(link.getresponse().read())
        link.close()
    assert answer["choices"][0]["text"].split() == torchs_words(torchs, 8)
