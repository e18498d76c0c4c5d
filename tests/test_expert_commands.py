"""mlx-lm's commands on the folder of a model with layers of experts, of which it knows none: its
adapters train what they know, and what is fused and quantized loads."""

import json

import numpy as np
import pytest

from tests.support import close, need

torch, mx, transformers, mlx_lm = need("torch", "mlx.core", "transformers", "mlx_lm")

from tests.test_language_commands import WIDE, Folders, loaded, logits, run

convert, fuse, lora = need("mlx_lm.convert", "mlx_lm.fuse", "mlx_lm.lora")

pytestmark = pytest.mark.slow

SIZES = {**WIDE, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES |= {"num_key_value_heads": 2, "max_position_embeddings": 64}
SIZES |= {"num_local_experts": 4, "num_experts_per_tok": 2}
#: Matrices as they are, and turned, with biases.
KINDS = {
    "mixtral": ("MixtralConfig", SIZES),
    "gpt_oss": ("GptOssConfig", {**SIZES, "head_dim": 32, "sliding_window": 8}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The translated folder of each, as it is and with weights of 8 bits."""
    place = tmp_path_factory.mktemp("experts")
    made = Folders(place, KINDS)

    def of(kind, bits, monkeypatch):
        folder = made(kind)[1]
        if bits is None:
            return folder
        out = place / f"{kind}-{bits}"
        if not out.exists():
            asked = ["--hf-path", folder, "--mlx-path", out, "--trust-remote-code"]
            run(convert, monkeypatch, *asked, "-q", "--q-bits", bits, "--q-group-size", 32)
        return out

    return of


def trained(folder, place, monkeypatch, *more):
    """Options for an adapter of the folder that was trained for 10 steps."""
    rows = [{"text": " ".join(f"w{3 + (i + j) % 80}" for j in range(40))} for i in range(8)]
    for name in ("train", "valid"):
        (place / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = ["--model", folder, "--trust-remote-code", "--adapter-path", place / "adapter"]
    steps = ["--iters", 10, "--batch-size", 2, "--val-batches", 1, "--learning-rate", 0.01]
    run(lora, monkeypatch, *asked, "--train", "--data", place, *steps, "--num-layers", 2, *more)
    return asked


@pytest.mark.parametrize("bits", [None, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_trained_and_fused(folders, kind, bits, monkeypatch, tmp_path):
    folder, adapter = folders(kind, bits, monkeypatch), tmp_path / "adapter"
    asked = trained(folder, tmp_path, monkeypatch)
    names = mx.load(str(adapter / "adapters.safetensors"))
    assert {name.split(".")[4] for name in names} == {f"{one}_proj" for one in "qkvo"}
    adapted, plain = logits(loaded(folder, adapter_path=str(adapter))), logits(loaded(folder))
    assert np.abs(adapted - plain).max() > 0.1
    run(fuse, monkeypatch, *asked, "--save-path", tmp_path / "fused")
    allowed = 1e-5 if bits is None else 0.03  # what was fused is rounded again
    close(logits(loaded(tmp_path / "fused")), adapted, allowed)


@pytest.mark.parametrize("kind", KINDS)
def test_experts_in_few_bits_answer_nearly_the_same_and_are_made_whole_again(
    folders, kind, monkeypatch, tmp_path
):
    folder, few = folders(kind, None, monkeypatch), folders(kind, 8, monkeypatch)
    held = mx.load(str(few / "model.safetensors"))
    assert sum(name.endswith("experts.down_proj.scales") for name in held) == 2
    close(logits(loaded(few)), logits(loaded(folder)), 0.03)
    asked = trained(few, tmp_path, monkeypatch)
    out = tmp_path / "whole"
    run(fuse, monkeypatch, *asked, "--save-path", out, "--dequantize")
    assert not any(name.endswith(".scales") for name in mx.load(str(out / "model.safetensors")))
    adapted = logits(loaded(few, adapter_path=str(tmp_path / "adapter")))
    close(logits(loaded(out)), adapted, 1e-4)
