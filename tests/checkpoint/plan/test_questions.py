"""What a checkpoint without layer types is asked about, and that the answers offered work."""

import numpy as np
import pytest

from torch2mlx import analyze, convert, load_converted, revert
from torch2mlx.checkpoint.plan.questions import example
from torch2mlx.checkpoint.source.tensors import borrow
from torch2mlx.common.options import command_line
from torch2mlx.errors import MissingTypesError


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.safetensors"


def numbered(shapes):
    return {k: np.random.randn(*shape).astype(np.float32) for k, shape in shapes.items()}


BLOCK = {
    "wte.weight": (11, 4),
    "h.0.ln.weight": (4,),
    "h.0.ln.bias": (4,),
    "h.0.attn.weight": (4, 12),
    "h.0.attn.bias": (12,),
    "h.0.proj.weight": (4, 4),
    "h.0.proj.bias": (4,),
    "h.0.down.weight": (8, 4),
    "h.0.down.bias": (4,),
    "head.weight": (11, 4),
    "head.bias": (11,),
}
TRANSPOSED = ("h.0.attn.weight", "h.0.proj.weight", "h.0.down.weight")


def test_matrices_whose_bias_fits_the_second_dimension_are_a_question_and_square_ones_beside(out):
    with pytest.raises(MissingTypesError, match=r"h\.0\.attn\.weight is \[4, 12\]") as caught:
        convert(numbered(BLOCK), out)
    assert caught.value.tensors == TRANSPOSED
    assert '"Conv1D"' in str(caught.value) and '"Linear"' in str(caught.value)
    assert not out.exists()


def test_the_answers_are_carried_out(out):
    state = numbered(BLOCK)
    convert(state, out, rules={"h.*.attn": "Conv1D", "h.*.down": "Conv1D", "h.*.proj": "Linear"})
    found = load_converted(out, framework="numpy")
    for key, value in state.items():
        expected = value.T if key in ("h.0.attn.weight", "h.0.down.weight") else value
        np.testing.assert_array_equal(found[key], expected)
    back = revert(out, framework="numpy")
    assert list(back) == list(state)
    for key, value in state.items():
        np.testing.assert_array_equal(back[key], value)


def test_an_answer_for_some_leaves_the_others_a_question(out):
    with pytest.raises(MissingTypesError) as caught:
        convert(numbered(BLOCK), out, rules={"**.attn": "Conv1D", "**.down.weight": "i o -> o i"})
    assert caught.value.tensors == ("h.0.proj.weight",)


def test_who_says_that_the_sign_means_nothing_is_not_asked_about_squares(out):
    rules = {"h.*.attn.weight": "identity", "h.*.down.weight": "identity"}
    state = numbered(BLOCK)
    convert(state, out, rules=rules)
    found = load_converted(out, framework="numpy")
    np.testing.assert_array_equal(found["h.0.proj.weight"], state["h.0.proj.weight"])


@pytest.mark.parametrize(
    ("shapes", "asked"),
    [
        ({"a.weight": (4, 4), "a.bias": (4,)}, False),  # nothing says that there are others
        ({"a.weight": (3, 4), "a.bias": (3,)}, False),
        ({"a.weight": (3, 4), "a.bias": (5,)}, False),
        ({"a.weight": (3, 4)}, False),
        ({"a.weight": (3, 4), "b.bias": (4,)}, False),
        ({"a.weight": (3, 4), "a.bias": (4,)}, True),
        ({"weight": (3, 4), "bias": (4,)}, True),
        ({"a.kernel": (3, 4), "a.bias": (4,)}, True),
        ({"a.c_attn_weight": (3, 4), "a.c_attn_bias": (4,)}, True),
        ({"a.w1": (3, 4), "a.b1": (4,)}, True),
        ({"a.window": (3, 4), "a.bindow": (4,)}, False),
    ],
)
def test_what_is_a_question_and_what_is_copied_with_a_note(shapes, asked, out):
    if asked:
        with pytest.raises(MissingTypesError):
            convert(numbered(shapes), out)
    else:
        report = convert(numbered(shapes), out)
        assert any("types unknown" in note and "a.w" in note for note in report.notes)


def test_what_some_rules_leave_open_is_noted_too(out):
    report = convert(numbered({"a.weight": (3, 4), "b.weight": (3, 4)}), out, rules={"a": "Linear"})
    assert any("types unknown" in note and note.endswith("b.weight") for note in report.notes)
    done = convert(numbered({"a.weight": (3, 4)}), out, rules={"a": "Linear"})
    assert not done.notes


def test_a_checkpoint_is_analyzed_by_the_same_questions(tmp_path):
    (save,) = [pytest.importorskip("safetensors.numpy", reason="bare run").save_file]
    save(numbered(BLOCK), tmp_path / "x.safetensors")
    report = analyze(tmp_path / "x.safetensors")
    found = " ".join(f.what for f in report.findings if f.rule == "T2M012")
    assert all(key in found for key in TRANSPOSED) or report.findings[0].count == len(TRANSPOSED)


EXAMPLES = [
    ({"conv1.weight": (4, 3, 3, 3)}, {"conv*": "Conv2d"}),
    ({"net.conv1.weight": (4, 3, 3)}, {"**.conv*": "Conv1d"}),
    ({"net.0.weight": (4, 3, 3, 3, 3)}, {"net.*": "Conv3d"}),
    ({"0.weight": (4, 3, 3)}, {"*": "Conv1d"}),
    ({"enc.pos": (1, 3, 3)}, {"**.pos": "identity"}),
    ({"a.attn.in_proj_weight": (12, 4)}, {"**.attn": "MultiheadAttention"}),
    ({"rnn.weight_ih_l0": (9, 2), "rnn.weight_hh_l0": (9, 3)}, {"rnn": "GRU"}),
    ({"a.fc.weight": (3, 4), "a.fc.bias": (4,)}, {"**.fc": "Conv1D"}),
]


@pytest.mark.parametrize(("shapes", "expected"), EXAMPLES)
def test_the_rules_that_an_error_offers_match_and_convert(shapes, expected, out):
    state = numbered(shapes)
    tensors = {key: borrow(key, value) for key, value in state.items()}
    with pytest.raises(MissingTypesError) as caught:
        convert(state, out)
    offered = example(caught.value.tensors, tensors)
    assert offered == expected
    assert all(f'"{pattern}": "{layer}"' in str(caught.value) for pattern, layer in offered.items())
    convert(state, out, rules=offered)
    with command_line(), pytest.raises(MissingTypesError, match=r"--rule '?\S+=\w+'?, or put"):
        convert(state, out)
