"""A rule given by hand is held against the rank and shape of what it matches."""

import re

import numpy as np
import pytest

from torch2mlx import convert, load_converted, registry
from torch2mlx.errors import ConversionError


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.safetensors"


def zeros(**shapes):
    return {f"m.{name}": np.zeros(shape, np.float32) for name, shape in shapes.items()}


CONV = {"weight": (4, 2, 3, 3), "bias": (4,)}
LINEAR = {"weight": (6, 2), "bias": (6,)}
GRU = {"weight_ih_l0": (9, 2), "weight_hh_l0": (9, 3), "bias_ih_l0": (9,), "bias_hh_l0": (9,)}
ATTENTION = {"in_proj_weight": (12, 4), "in_proj_bias": (12,)}
NORM = {"weight": (4,), "bias": (4,), "running_mean": (4,), "running_var": (4,)}

MISFITS = [
    ("Linear", CONV, "weight is [4, 2, 3, 3], Linear has (out, in)"),
    ("Conv2d", LINEAR, "weight is [6, 2], Conv2d has (out, in, height, width)"),
    ("Conv1d", CONV, "weight is [4, 2, 3, 3], Conv1d has (out, in, kernel)"),
    ("Conv3d", CONV, "weight is [4, 2, 3, 3], Conv3d has (out, in, depth, height, width)"),
    ("Conv2d", {**CONV, "bias": (2,)}, "bias is [2], Conv2d has (out)"),
    ({"type": "Conv2d", "groups": 3}, CONV, "weight is [4, 2, 3, 3], which 3 groups do not"),
    ({"type": "Conv2d", "groups": 0}, CONV, "groups=0"),
    ("Linear", {"weight": (2, 6), "bias": (6,)}, "bias is [6], Linear has (out)"),
    ("Conv1D", LINEAR, "bias is [6], transformers.pytorch_utils.Conv1D has (out)"),
    ("Linear", {"weight": (6,)}, "weight is [6], Linear has (out, in)"),
    ("ConvTranspose2d", CONV, "bias is [4], ConvTranspose2d has (groups*out)"),
    ({"type": "ConvTranspose2d", "groups": 3}, {"weight": CONV["weight"]}, "3 groups do not"),
    ({"type": "ConvTranspose2d", "group": 2}, CONV, "has no 'group'"),
    ("BatchNorm2d", LINEAR, "weight is [6, 2], BatchNorm2d has (channels)"),
    ("BatchNorm1d", {**NORM, "running_var": (3,)}, "running_var is [3]"),
    ("BatchNorm2d", {**NORM, "num_batches_tracked": (1,)}, "BatchNorm2d has (no dimensions)"),
    ("GroupNorm", CONV, "weight is [4, 2, 3, 3], GroupNorm has (channels)"),
    ("GroupNorm", NORM, "running_mean [4] is no tensor of GroupNorm"),
    ("LayerNorm", {"weight": (4, 3), "bias": (4,)}, "bias is [4], LayerNorm has (...)"),
    ("RMSNorm", {"weight": (4,), "bias": (4,)}, "bias [4] is no tensor of RMSNorm"),
    ("Embedding", LINEAR, "bias [6] is no tensor of Embedding"),
    ("Embedding", {"weight": (4, 3, 2)}, "weight is [4, 3, 2], Embedding has (count, size)"),
    ("PReLU", {"weight": (4, 2)}, "PReLU has (count)"),
    ("Bilinear", LINEAR, "Bilinear has (out, in1, in2)"),
    ("LSTM", GRU, "weight_hh_l0 is [9, 3]|weight_ih_l0 is [9, 2]"),
    ("LSTM", CONV, "is no tensor of LSTM"),
    ("GRU", {**GRU, "bias_hh_l0": (3,)}, "bias_hh_l0 is [3]"),
    ("RNN", GRU, "weight_hh_l0 is [9, 3]"),
    ("MultiheadAttention", {**ATTENTION, "in_proj_weight": (8, 4)}, "(3*embed, embed)"),
    ("MultiheadAttention", {**ATTENTION, "out_proj.weight": (4, 8)}, "out_proj.weight is [4, 8]"),
    ("MultiheadAttention", CONV, "is no tensor of MultiheadAttention"),
    ("ReLU", CONV, "weight [4, 2, 3, 3] is no tensor of ReLU"),
    ("Sequential", CONV, "weight [4, 2, 3, 3] is no tensor of Sequential"),
    ("TransformerEncoderLayer", CONV, "is no tensor of TransformerEncoderLayer"),
    ("L1Loss", CONV, "is no tensor of L1Loss"),
    ("Conv2d", {**CONV, "table": (2, 3, 4)}, "table [2, 3, 4] is no tensor of Conv2d"),
    ("Conv2d", {"weight_g": (4, 1), "weight_v": (4, 2)}, "weight is [4, 2], Conv2d has"),
    ("Linear", {"inner.weight": (2, 2)}, "'m' has no tensors of its own, Linear has"),
    ("a b c -> c a b", {"weight": (6, 2)}, "2 dimensions where a b c -> c a b takes 3"),
    ("a b c -> c a", {"weight": (6, 2, 2)}, "same letters"),
]


@pytest.mark.parametrize(("layer", "shapes", "message"), MISFITS)
def test_a_rule_that_its_tensors_cannot_obey_is_refused_by_name(layer, shapes, message, out):
    pattern = "m.weight" if isinstance(layer, str) and "->" in layer else "m"
    with pytest.raises(ConversionError) as caught:
        convert(zeros(**shapes), out, rules={pattern: layer})
    assert any(part in str(caught.value) for part in message.split("|")), caught.value
    assert pattern in str(caught.value)
    assert not out.exists()


FITS = [
    ("Linear", LINEAR),
    ("Linear", {"weight": (6, 2)}),
    ("Conv2d", CONV),
    ({"type": "Conv2d", "groups": 2}, CONV),
    ({"type": "ConvTranspose2d", "groups": 2}, CONV),
    ("BatchNorm2d", {**NORM, "num_batches_tracked": ()}),
    ("BatchNorm2d", {"running_mean": (4,), "running_var": (4,)}),
    ("GroupNorm", {"weight": (4,), "bias": (4,)}),
    ("LayerNorm", {"weight": (4, 3), "bias": (4, 3)}),
    ("Embedding", {"weight": (4, 3)}),
    ("GRU", GRU),
    ("GRUCell", {name.removesuffix("_l0"): shape for name, shape in GRU.items()}),
    ("LSTM", {"weight_ih_l0": (12, 4), "weight_hh_l0": (12, 2), "weight_hr_l0": (2, 3)}),
    ("MultiheadAttention", {**ATTENTION, "out_proj.weight": (4, 4), "out_proj.bias": (4,)}),
    ("MultiheadAttention", {"q_proj_weight": (4, 4), "k_proj_weight": (4, 5)}),
    ("Conv1D", {"weight": (2, 6), "bias": (6,)}),
    ("ParameterList", {"0": (2, 3, 4), "1": (2,)}),
    ("CrossEntropyLoss", {"weight": (4,)}),
]


@pytest.mark.parametrize(("layer", "shapes"), FITS)
def test_a_rule_that_fits_is_taken(layer, shapes, out):
    report = convert(zeros(**shapes), out, rules={"m": layer})
    used = {source for piece in report.pieces for source in piece.sources}
    assert used | set(report.dropped) == {f"m.{name}" for name in shapes}


def test_a_pattern_may_meet_modules_without_tensors_too(out):
    convert(zeros(**{"a.weight": (4, 2, 3)}), out, rules={"**": "Conv1d"})
    assert load_converted(out, framework="numpy")["m.a.weight"].shape == (4, 3, 2)


def test_a_tensor_with_a_rule_of_its_own_is_not_held_against_its_layers(out):
    state = zeros(**CONV, table=(2, 3, 4))
    convert(state, out, rules={"m": "Conv2d", "m.table": "a b c -> c b a"})
    found = load_converted(out, framework="numpy")
    assert found["m.weight"].shape == (4, 3, 3, 2) and found["m.table"].shape == (4, 3, 2)


def test_a_registered_layer_is_held_against_its_own_rule(out):
    registry.register("lab.Kernel", weights={"kernel": "o i k -> o k i"})
    try:
        with pytest.raises(ConversionError, match=r"'m\.kernel'.*2 dimensions"):
            convert(zeros(kernel=(4, 2)), out, rules={"m": "lab.Kernel"})
        with pytest.raises(ConversionError, match=r"none of its tensors.*weight.*kernel"):
            convert(zeros(weight=(4, 2, 3)), out, rules={"m": "lab.Kernel"})
        convert(zeros(kernel=(4, 2, 3), gain=(4,)), out, rules={"m": "lab.Kernel"})
        assert load_converted(out, framework="numpy")["m.kernel"].shape == (4, 3, 2)
    finally:
        registry.unregister("lab.Kernel")


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (["m"], "rules= takes a mapping"),
        ({3: "Conv2d"}, "rules= takes a mapping"),
        ({"m": int}, "no registered layer"),
        ({"m": "conv2d"}, "did you mean 'Conv2d'?"),
        ({"m": "LayerNrom"}, "did you mean 'LayerNorm'?"),
        ({"inn*": "Linear"}, "'**.inn*' would match m.inner: * stops at dots"),
        ({"m": "a b -> b a"}, "m is a module, and this is a rule for one of its tensors"),
        ({"m.weight": "Conv2d"}, "m.weight is a tensor, and a layer is a rule for the module"),
        ({"nothing": "Conv2d"}, "rules['nothing'] matches nothing in the checkpoint"),
    ],
)
def test_a_rule_that_means_nothing_says_what_was_meant(rules, message, out):
    with pytest.raises(ConversionError, match=re.escape(message)):
        convert(zeros(**CONV, **{"inner.weight": (2, 2)}), out, rules=rules)
