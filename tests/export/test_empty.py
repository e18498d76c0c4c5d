"""Models without values: source from shapes alone, weights streamed from a checkpoint."""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn", "safetensors")

import mlx.core as mx
import torch
from safetensors.torch import save_file
from torch import nn

import torch2mlx
from torch2mlx.errors import (
    StateDictMismatchError,
    TranslationError,
    UnsupportedTensorError,
    VerificationError,
)
from torch2mlx.export.capture.streaming import Unread
from torch2mlx.export.ir.structures import arrays_of, numpy_of, to_mlx


class Net(nn.Module):
    """A tied table, a convolution, merged biases, and a buffer that no checkpoint has."""

    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(20, 8), nn.Linear(8, 20, bias=False)
        self.head.weight = self.words.weight
        self.conv, self.norm = nn.Conv1d(8, 8, 3, padding=1), nn.BatchNorm1d(8)
        self.memory = nn.GRU(8, 8, batch_first=True)
        self.register_buffer("scale", torch.linspace(0.5, 2, 8), persistent=False)

    def forward(self, ids):
        x = self.words(ids) * self.scale
        x = self.norm(self.conv(x.transpose(1, 2))).transpose(1, 2)
        return {"logits": self.head(self.memory(x)[0]), "states": x}


@pytest.fixture
def nets():
    torch.manual_seed(0)
    real = Net().eval()
    with torch2mlx.empty_weights():
        empty = Net().eval()
    return real, empty, torch.randint(0, 20, (2, 7))


def checkpoint(model, path):
    kept = {k: v for k, v in model.state_dict().items() if k != "head.weight"}
    save_file(kept, path)
    return path


def test_parameters_have_no_values_and_buffers_do(nets):
    _, empty, _ = nets
    assert all(p.is_meta for p in empty.parameters())
    assert empty.scale[0] == 0.5
    assert empty.head.weight is empty.words.weight
    assert not nn.Linear(2, 2).weight.is_meta


def test_source_is_that_of_the_model_with_values(nets):
    real, empty, ids = nets
    assert torch2mlx.translate(empty, (ids,)).source == torch2mlx.translate(real, (ids,)).source
    assert all(p.is_meta for p in empty.parameters())


def test_weights_come_from_the_checkpoint(nets, tmp_path):
    real, empty, ids = nets
    made = torch2mlx.translate(empty, (ids.to("meta"),))
    seen = []
    folder = made.save(
        tmp_path / "net",
        weights=checkpoint(real, tmp_path / "net.safetensors"),
        progress=lambda *step: seen.append(step),
    )
    with torch.no_grad():
        expected = dict(arrays_of(real(ids)))
    for name, found in arrays_of(torch2mlx.load(folder)(to_mlx(ids))):
        np.testing.assert_allclose(numpy_of(found), expected[name].numpy(), atol=1e-5)
    assert seen


def test_without_a_checkpoint_nothing_is_made_up(nets, tmp_path):
    _, empty, ids = nets
    made = torch2mlx.translate(empty, (ids,))
    with pytest.raises(UnsupportedTensorError, match="weights=path"):
        made.save(tmp_path / "net")
    with pytest.raises(StateDictMismatchError):
        save_file({"other": torch.zeros(3)}, tmp_path / "other.safetensors")
        made.save(tmp_path / "net", weights=tmp_path / "other.safetensors")


def test_buffers_that_only_the_model_knows_need_values(nets):
    with torch.device("meta"):
        model = Net().eval()
    with pytest.raises(TranslationError, match=r"'scale'.*empty_weights"):
        torch2mlx.translate(model, (nets[2],))


@pytest.fixture
def streamed(nets, tmp_path):
    """A model without values, its inputs, its checkpoint, and the folder made of them."""
    real, empty, ids = nets
    path = checkpoint(real, tmp_path / "net.safetensors")
    return empty, ids, path, torch2mlx.translate(empty, (ids,)).save(tmp_path / "net", path)


def test_models_are_compared_while_their_weights_stay_on_the_disk(streamed):
    empty, ids, path, folder = streamed
    checked = torch2mlx.verify(empty, folder, (ids,), weights=path)
    assert checked.ok and checked.difference < 1e-5
    assert [o.name for o in checked.outputs] == ["logits", "states"]
    assert all(p.is_meta for p in empty.parameters())


def test_a_fault_in_the_files_is_found_by_its_module(streamed):
    empty, ids, path, folder = streamed
    weights = mx.load(str(folder / "weights.safetensors"))
    weights["conv.weight"] = mx.contiguous(weights["conv.weight"][::-1])
    mx.save_safetensors(str(folder / "weights.safetensors"), weights)
    checked = torch2mlx.verify(empty, folder, (ids,), weights=path)
    assert not checked.ok and checked.first == "conv"


def test_weights_are_read_one_module_at_a_time(streamed):
    """No array of the module has been read after the call, and one file is open."""
    folder = streamed[3]
    module = torch2mlx.load(folder)
    unread = Unread(module, folder)
    conv = module.conv
    unread.take(conv)
    mx.eval(conv.weight)
    kept = conv.weight
    unread.drop(conv)
    assert conv.weight is not kept and mx.array_equal(conv.weight, kept).item()


def test_half_precision_checkpoints_are_compared_in_the_models_dtype(nets, tmp_path):
    real, empty, ids = nets
    path = checkpoint(real.bfloat16(), tmp_path / "net.safetensors")
    folder = torch2mlx.translate(empty, (ids,)).save(tmp_path / "net", path)
    logits, states = torch2mlx.verify(empty, folder, (ids,), weights=path).outputs
    assert states.difference < 1e-5
    assert logits.difference < 1e-3  # the GRU's two biases are one in MLX, rounded as the file is


def test_streams_say_what_they_lack(streamed, tmp_path):
    empty, ids, path, folder = streamed
    save_file({"words.weight": torch.zeros(20, 8)}, tmp_path / "part.safetensors")
    with pytest.raises(StateDictMismatchError, match=r"no 'conv\.weight'"):
        torch2mlx.verify(empty, folder, (ids,), weights=tmp_path / "part.safetensors")
    save_file({"words.weight": torch.zeros(20, 9)}, tmp_path / "other.safetensors")
    with pytest.raises(StateDictMismatchError, match=r"\(20, 9\).*\(20, 8\)"):
        torch2mlx.verify(empty, folder, (ids,), weights=tmp_path / "other.safetensors")
    with pytest.raises(VerificationError, match="give its folder"):
        torch2mlx.verify(empty, torch2mlx.load(folder), (ids,), weights=path)
