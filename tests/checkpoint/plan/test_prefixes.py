"""Prefixes and wrappers before a module's keys: found, told, chosen, and nothing lost."""

import numpy as np
import pytest

from tests.support import assert_same_state, need

need("torch", "mlx.core")

import torch
from torch import nn

from torch2mlx import convert, load_converted, revert
from torch2mlx.cli import main
from torch2mlx.errors import (
    AmbiguousCheckpointError,
    ConversionError,
    MissingTypesError,
    StateDictMismatchError,
)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.safetensors"


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Linear(5, 2)))


def under(prefix, state):
    return {prefix + key: value for key, value in state.items()}


EXTRA = {
    "model.": {"criterion.weight": torch.ones(2)},
    "net.": {},
    "module.": {"n_averaged": torch.tensor(3)},
    "ema_model.": {"step": torch.tensor(1), "initted": torch.tensor(True)},
    "_orig_mod.": {"loss.table": torch.ones(2, 3, 4)},
    "model._orig_mod.": {"criterion.weight": torch.ones(2)},
    "student.backbone.": {"student.head.weight": torch.ones(2, 3), "teacher.x": torch.ones(1)},
    "a.module.b.": {"a.n_averaged": torch.tensor(3)},
}


@pytest.mark.parametrize("prefix", EXTRA)
def test_the_one_prefix_under_which_all_is_there_is_taken_and_told(prefix, out):
    state = {**under(prefix, net().state_dict()), **EXTRA[prefix]}
    report = convert(state, out, module=net())
    plain = out.with_name("plain.safetensors")
    convert(net(), plain)
    found, expected = load_converted(out), load_converted(plain)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(np.array(found[name]), np.array(value))
    assert prefix in report.notes[0]
    used = {source for piece in report.pieces for source in piece.sources}
    assert used | set(report.dropped) == set(state)
    for key in EXTRA[prefix]:
        assert "outside of the prefix" in report.dropped[key] and key in report.notes[0]
    assert_same_state(revert(out), state)


def wrapped(key):
    """A key as a model has it whose first and third layers were compiled one by one."""
    return key.replace("0.", "0._orig_mod.", 1).replace("2.", "2._checkpoint_wrapped_module.", 1)


@pytest.mark.parametrize("prefix", ["", "model.", "_orig_mod.model.module."])
def test_what_wrappers_put_within_keys_is_taken_out(prefix, out):
    state = {prefix + wrapped(key): value for key, value in net().state_dict().items()}
    state = {**state, "outer.weight": torch.ones(2)} if "model" in prefix else state
    convert(state, out, module=net())
    assert "layers.2.layers.0.weight" in load_converted(out)
    assert_same_state(revert(out), state)


def test_a_module_in_wrappers_takes_the_state_of_the_inner_one(out):
    averaged = torch.optim.swa_utils.AveragedModel(net())
    convert(averaged.state_dict(), out, module=averaged)
    convert(net().state_dict(), out, module=nn.DataParallel(net()))
    assert "layers.0.weight" in load_converted(out)


def twice():
    return {**under("net.", net().state_dict()), **under("net_ema.", net().state_dict())}


def test_several_prefixes_are_a_question(out):
    with pytest.raises(AmbiguousCheckpointError, match=r"prefix='net\.' or prefix='net_ema\.'"):
        convert(twice(), out, module=net())
    with pytest.raises(AmbiguousCheckpointError) as caught:
        convert(twice(), out, module=net())
    assert caught.value.choices == ("net.", "net_ema.")
    assert not out.exists()


def test_copies_that_differ_in_wrappers_only_are_several_prefixes_too(out):
    state = net().state_dict()
    both = {**under("net.", state), **under("ema.module.", state), "ema.n_averaged": torch.ones(())}
    with pytest.raises(AmbiguousCheckpointError) as caught:
        convert(both, out, module=net())
    assert set(caught.value.choices) == {"net.", "ema.module."}


@pytest.mark.parametrize("prefix", ["net_ema.", "net_ema"])
def test_prefix_chooses(prefix, out):
    state = twice()
    state["net_ema.0.bias"] = torch.full((4,), 7.0)
    report = convert(state, out, module=net(), prefix=prefix)
    assert np.array(load_converted(out)["layers.0.bias"]).tolist() == [7.0] * 4
    assert "net.0.bias" in report.dropped
    assert_same_state(revert(out), state)


def test_prefix_chooses_without_a_module_too(out):
    state = twice()
    with pytest.raises(MissingTypesError) as caught:
        convert(state, out, prefix="net.")
    assert caught.value.tensors == ("0.weight",)
    convert(state, out, prefix="net.", rules={"0": "Conv2d"})
    found = load_converted(out)
    assert found["0.weight"].shape == (4, 3, 3, 3) and "net_ema.0.weight" not in found
    assert_same_state(revert(out), state)


def test_a_prefix_that_is_not_there_says_which_are(out):
    with pytest.raises(StateDictMismatchError, match=r"'nett'; they begin with net\., net_ema\."):
        convert(twice(), out, prefix="nett")
    with pytest.raises(StateDictMismatchError, match="no key has a prefix"):
        convert({"w": torch.ones(2)}, out, prefix="net.")
    with pytest.raises(ConversionError, match="pass the part itself"):
        convert(net(), out, prefix="0.")


def test_a_prefix_is_taken_only_where_shapes_fit(out):
    state = under("model.", net().state_dict())
    state["model.0.bias"] = torch.ones(5)
    with pytest.raises(StateDictMismatchError, match=r"prefix 'model\.' 9 of 9|prefix='model\.'"):
        convert(state, out, module=net())
    with pytest.raises(StateDictMismatchError, match=r"0\.bias is \[5\]"):
        convert(state, out, module=net(), prefix="model.")


def test_what_the_prefix_has_beyond_the_module_is_no_fit(out):
    state = {**under("model.", net().state_dict()), "model.head.weight": torch.ones(2)}
    with pytest.raises(StateDictMismatchError, match=r"missing.*under the prefix 'model\.'"):
        convert(state, out, module=net())
    with pytest.raises(StateDictMismatchError, match=r"unexpected: head\.weight"):
        convert(state, out, module=net(), prefix="model.")
    convert(state, out, module=net(), prefix="model.", strict=False)
    assert "head.weight" in load_converted(out)


def test_keys_that_fit_as_they_are_have_no_prefix_taken(out):
    state = {**net().state_dict(), **under("ema.", net().state_dict())}
    with pytest.raises(StateDictMismatchError, match=r"unexpected: ema\.0\.weight"):
        convert(state, out, module=net())
    wrapper = nn.ModuleDict({"model": net()})
    report = convert(wrapper.state_dict(), out, module=wrapper)
    assert not report.notes and "model.layers.0.weight" in load_converted(out)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight


def test_tied_tensors_that_the_file_left_out_are_not_missed_under_a_prefix(out):
    state = {"model.embed.weight": torch.randn(5, 3), "criterion.weight": torch.ones(2)}
    convert(state, out, module=Tied())
    assert load_converted(out).keys() == {"embed.weight", "head.weight"}
    assert_same_state(revert(out), state)


def test_the_command_line_takes_and_names_prefix(tmp_path, out, capsys):
    path = tmp_path / "two.pt"
    torch.save({"state_dict": twice()}, path)
    base = ["convert", str(path), str(out), "--rule", "0=Conv2d"]
    assert main([*base, "--prefix", "net_ema."]) == 0
    assert "the prefix 'net_ema.' was taken off 9 keys" in capsys.readouterr().out
    assert main([*base, "--prefix", "model."]) == 1
    assert "they begin with net., net_ema." in capsys.readouterr().err


def test_many_prefixes_are_looked_through_in_linear_time(out):
    weight = torch.ones(2, 2)
    state = {f"layers.{i}.weight": weight for i in range(4_000)}
    with pytest.raises(AmbiguousCheckpointError, match=r"4000 in all"):
        convert(state, out, module=nn.Linear(2, 2, bias=False))


def test_wrappers_within_keys_are_told_and_an_empty_prefix_is_not(out):
    state = {key.replace("2.0", "2._orig_mod.0"): v for key, v in net().state_dict().items()}
    report = convert(state, out, module=net())
    assert "'2.0.weight' is '2._orig_mod.0.weight'" in report.notes[0]
    assert convert(net().state_dict(), out, module=net(), prefix="", force=True).notes == ()
