"""All that a model answers is compared: arrays with their dtypes, plain values, what is missing."""

import dataclasses
from collections import namedtuple

import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import mlx.nn
import torch
from torch import nn

import torch2mlx
from torch2mlx.errors import TranslationError, VerificationError
from torch2mlx.export.verify.other_sizes import right_at_another
from torch2mlx.export.verify.running import Pair

X = torch.arange(6.0).reshape(2, 3) / 3


@dataclasses.dataclass
class Both:
    a: object
    b: object = 3


Named = namedtuple("Named", "a b")


def of_torch(function):
    class Model(nn.Module):
        def forward(self, x):
            return function(x)

    return Model()


def of_mlx(function):
    class Twin(mlx.nn.Module):
        def __call__(self, x):
            return function(x)

    return Twin()


def compared(theirs, ours):
    return torch2mlx.verify(of_torch(theirs), of_mlx(ours), (X,))


@pytest.mark.parametrize(
    ("theirs", "ours", "told"),
    [
        (lambda x: x, lambda x: x.astype(mx.float16), "torch gives float32, MLX float16"),
        (lambda x: x.half(), lambda x: x, "torch gives float16, MLX float32"),
        (lambda x: x.half(), lambda x: x.astype(mx.bfloat16), "torch gives float16, MLX bfloat16"),
        (lambda x: x > 0, lambda x: (x > 0).astype(mx.int32), "torch gives bool, MLX int32"),
        (lambda x: x.long(), lambda x: mx.floor(x), "torch gives int64, MLX float32"),
    ],
)
def test_a_dtype_that_is_not_torchs_is_a_difference(theirs, ours, told):
    found = compared(theirs, ours)
    assert found.verdict == "differs" and found.first is None
    (output,) = found.outputs
    assert output.unlike == told and str(output).endswith(f"<- differs: {told}")
    assert str(found).count("\n") == 0  # no module differs in its numbers


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (lambda x: x.argmax(-1), lambda x: mx.argmax(x, -1)),
        (lambda x: x.long(), lambda x: x.astype(mx.int32)),
        (lambda x: x.double(), lambda x: x),
        (lambda x: x.to(torch.complex128), lambda x: x.astype(mx.complex64)),
    ],
)
def test_dtypes_that_mlx_has_no_other_choice_for_are_none(theirs, ours):
    assert compared(theirs, ours).ok


def test_whole_numbers_are_compared_exactly_in_any_width():
    found = compared(lambda x: x.long() + 2**31, lambda x: x.astype(mx.int32) + 5)
    assert found.verdict == "differs" and found.outputs[0].unlike == ""


@pytest.mark.parametrize(
    ("theirs", "ours", "told"),
    [
        (3, 4, "torch gives 3, MLX 4"),
        (3, 3.0, "torch gives 3, MLX 3.0"),
        (1, True, "torch gives 1, MLX True"),
        ("mean", "sum", "torch gives 'mean', MLX 'sum'"),
        (None, 0, "torch gives None, MLX 0"),
        ([], None, "torch gives nothing in a container, MLX None"),
    ],
)
def test_plain_values_are_compared_by_place(theirs, ours, told):
    found = compared(lambda x: {"y": x, "n": [theirs]}, lambda x: {"y": x, "n": [ours]})
    assert [o.verdict for o in found.outputs] == ["equal", "differs"]
    assert str(found.outputs[1]) == f"n[0]  <- differs: {told}"
    assert compared(lambda x: (x, [theirs]), lambda x: (x, [theirs])).ok


def test_numbers_with_a_point_have_a_tolerance():
    assert compared(lambda x: (x, 1.0, float("nan")), lambda x: (x, 1.00001, float("nan"))).ok
    found = compared(lambda x: (x, 1.0), lambda x: (x, 1.5))
    assert [o.difference for o in found.outputs] == [0, 0.5] and found.verdict == "differs"


def test_an_array_and_a_plain_value_are_no_equals():
    found = compared(lambda x: (x, x.shape[0]), lambda x: (x, mx.array(x.shape[0])))
    assert found.outputs[1].unlike == "torch gives 2, MLX an array of int32"


def test_an_object_of_an_unknown_class_is_incomparable():
    found = compared(lambda x: (x, object()), lambda x: (x, object()))
    assert [o.verdict for o in found.outputs] == ["equal", "incomparable"]
    assert found.outputs[1].reason == "an object of object is neither an array nor a plain value"


@pytest.mark.parametrize(
    ("theirs", "ours", "told"),
    [
        (lambda x: (x, None), lambda x: (x,), "2 outputs, MLX 1 output: MLX does not give [1]"),
        (
            lambda x: {"a": x},
            lambda x: {"a": x, "b": x},
            "1 output, MLX 2 outputs: torch does not give b",
        ),
        (
            lambda x: {"a": x, "b": x},
            lambda x: {"a": x, "c": x},
            "MLX does not give b; torch does not give c",
        ),
        (lambda x: (x,), lambda x: x, "torch does not give the answer itself as one value"),
        (lambda x: [x, [x, 2]], lambda x: [x, x, 2], "does not give [1][0], [1][1]; torch does"),
        (
            lambda x: {"a": x, "b": x},
            lambda x: {"a": x.T, "b": x[0]},
            "a: torch gives (2, 3), MLX (3, 2); b: ",
        ),
    ],
)
def test_missing_extra_and_misshapen_outputs_are_an_error_with_their_names(theirs, ours, told):
    with pytest.raises(VerificationError) as said:
        compared(theirs, ours)
    assert told in str(said.value)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (lambda x: {"a": x, "b": 2 * x}, lambda x: {"b": 2 * x, "a": x}),
        (lambda x: Both(x), lambda x: {"a": x, "b": 3}),
        (lambda x: Both(x), lambda x: (x, 3)),
        (lambda x: Named(x, 1), lambda x: {"a": x, "b": 1}),
        (lambda x: {"y": x}, lambda x: x),
        (lambda x: [x, ()], lambda x: (x, [])),
    ],
)
def test_outputs_are_found_by_name_or_by_place(theirs, ours):
    assert compared(theirs, ours).ok


class Mixed(nn.Module):
    """Answers in every form that torch.export takes."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 4)

    def forward(self, x):
        more = [x.half(), (x.shape[0], x.shape[0] / 2, 2.5), [], None]
        return {"y": self.fc(x), "name": "mixed", "more": more, "two": Both(x > 0, x.shape)}


@pytest.mark.parametrize("size", [(2, 3), (5, 3)])
def test_translations_answer_plain_values_as_torch_does_at_every_size(size):
    torch.manual_seed(0)
    x = torch.randn(*size)
    model = Mixed().eval()
    made = torch2mlx.translate(model, (x,))
    found = torch2mlx.verify(model, made, (x,))
    names = [o.name for o in found.outputs if not o.case]
    assert found.ok and made.compared == "equal"
    assert names[:3] == ["y", "name", "more[0]"] and "two.b[1]" in names
    assert {o.case for o in found.outputs} > {""}


def renamed(parts):
    return [(name, "other" if name == "name" else part) for name, part in parts]


def halved(parts):
    return [(name, part.astype(mx.float16) if name == "y" else part) for name, part in parts]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (renamed, "name  <- differs: torch gives 'mixed', MLX 'other'"),
        (halved, "<- differs: torch gives float32, MLX float16"),
        (lambda parts: parts[1:], "MLX does not give y"),
    ],
)
def test_translate_refuses_what_is_not_torchs_in_more_than_numbers(change, told, monkeypatch):
    original = Pair.mlx
    monkeypatch.setattr(Pair, "mlx", lambda self, *given: change(original(self, *given)))
    with pytest.raises(TranslationError) as said:
        torch2mlx.translate(Mixed().eval(), (X,))
    assert told in str(said.value) and str(said.value).startswith("on the example inputs")


def test_another_size_is_compared_in_plain_values_too():
    class Counts(nn.Module):
        def forward(self, x):
            return x + 1, x.shape[0]

    made = torch2mlx.translate(Counts(), (X,))
    fixed = of_mlx(lambda x: (x + 1, 2))
    pair = Pair(Counts(), fixed, made.ends)
    with pytest.raises(TranslationError, match=r"^at x \(1, 2\) .*torch gives 1, MLX 2$"):
        right_at_another(pair, (X,), {}, made.shapes)


def test_a_model_without_values_is_compared_in_plain_values_and_dtypes():
    with torch.device("meta"):
        model = Mixed().eval()
    made = torch2mlx.translate(model, (torch.zeros(2, 3, device="meta"),))
    assert made.compared == "shapes"
