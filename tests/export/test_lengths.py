"""A length that the export fixed, or that it compared, is checked: other sizes give torch's numbers
or an error that names the length."""

import dataclasses
import warnings

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import torch
from torch import nn

import torch2mlx
from tests.export import planted
from torch2mlx.export.ir.builder import Builder
from torch2mlx.export.ir.nodes import Node
from torch2mlx.export.ir.structures import numpy_of, to_mlx
from torch2mlx.export.lower.ops.algebra import cov
from torch2mlx.export.verify.comparing import leaves_of


class Loop(nn.Module):
    """A loop over time."""

    def forward(self, x):
        state, found = x.new_zeros(x.shape[0], x.shape[2]), []
        for step in range(x.shape[1]):
            state = torch.tanh(state + x[:, step])
            found.append(state)
        return torch.stack(found, 1)


class Number(nn.Module):
    """A length read as a number."""

    def forward(self, x):
        return x.sum(1) / int(x.shape[1])


class Short(nn.Module):
    """A branch on a length, and one on a batch of one."""

    def forward(self, x):
        if x.shape[0] == 1:
            return x * 3
        return x + 1 if x.shape[1] <= 8 else x * 2


class Equal(nn.Module):
    """Two arguments of one length, one of twice that."""

    def forward(self, x, y, z):
        if z.shape[0] != 2 * x.shape[0]:
            return x * y
        return (x + y).reshape(-1, 2).sum() + z.sum()


class Pieces(nn.Module):
    """A list and a dict of arrays."""

    def forward(self, xs, named):
        return sum(xs) + sum(named.values())


def emitted(model, *args):
    return torch2mlx.translate(model.eval(), args)


def says(made, *args):
    """The error of a call."""
    with pytest.raises(ValueError) as caught:
        made.module(*to_mlx(args))
    return str(caught.value)


def agrees(made, model, *args):
    with torch.no_grad():
        expected = model(*args).numpy()
    np.testing.assert_allclose(np.array(made.module(*to_mlx(args))), expected, atol=1e-5)


def test_a_loop_over_a_length_names_it():
    made = emitted(Loop(), torch.randn(2, 5, 3))
    agrees(made, Loop(), torch.randn(4, 5, 3))
    said = says(made, torch.randn(2, 8, 3))
    assert "is (8, 3), translated for (5, 3)" in said or "x.shape[1] is 8, translated for 5" in said
    assert "test_lengths.py:" in said and "translate again" in said


def test_a_length_read_as_a_number_is_computed():
    made = emitted(Number(), torch.randn(3, 4))
    for shape in ((5, 4), (3, 6), (2, 1)):
        agrees(made, Number(), torch.randn(*shape))


def test_a_branch_on_a_length_is_checked_and_names_its_line():
    made = emitted(Short(), torch.randn(3, 4))
    agrees(made, Short(), torch.randn(2, 8))
    said = says(made, torch.randn(3, 9))
    assert said.startswith("x.shape[1] is 9, translated where x.shape[1] <= 8: change test_lengths")
    assert "x.shape[0] is 1, translated where x.shape[0] != 1" in says(made, torch.randn(1, 4))


class Counted(nn.Module):
    """A branch on a number of items that two free lengths make."""

    def __init__(self, least):
        super().__init__()
        self.least = least

    def forward(self, x):
        return x - x.mean() if x.numel() > self.least else x * 2


@pytest.mark.parametrize("least", [0, 1, 2])
def test_a_branch_on_several_lengths_is_checked_where_they_are_small(least):
    model = Counted(least)
    module = torch2mlx.translate(model, (torch.randn(3, 4),)).module
    for shape in [(1, 1), (1, 2), (2, 1), (1, 4), (5, 1), (4, 6)]:
        x = torch.randn(shape)
        if x.numel() > least:
            np.testing.assert_allclose(module(to_mlx(x)), model(x), atol=1e-6)
        else:
            with pytest.raises(ValueError, match=r"translated where .* > .*test_lengths\.py"):
                module(to_mlx(x))


def test_lengths_that_have_to_be_equal_are_compared():
    made = emitted(Equal(), torch.randn(3, 4), torch.randn(3, 4), torch.randn(6))
    agrees(made, Equal(), torch.randn(5, 6), torch.randn(5, 6), torch.randn(10))
    x, z = torch.randn(5, 6), torch.randn(10)
    assert says(made, x, torch.randn(1, 6), z) == "y.shape is (1, 6), not (5, 6) as x.shape"
    assert says(made, x, x, torch.randn(4)).startswith("z.shape[0] is 4, not 10 as 2 * x.shape[0]")


def test_containers_hold_as_many_items_as_in_the_example():
    a = torch.randn(2, 3)
    made = emitted(Pieces(), [a, a], {"one": a})
    agrees(made, Pieces(), [a, a + 1], {"one": a})
    assert says(made, [a, a, a], {"one": a}).startswith("xs holds 3 items, translated with 2")
    assert says(made, [a, a], {"one": a, "two": a}).startswith("named holds 2 items")


def test_shapes_that_were_fixed_on_request_are_checked():
    made = torch2mlx.translate(Number().eval(), (torch.randn(3, 4),), dynamic=False)
    assert "all shapes are fixed" in says(made, torch.randn(2, 4))


def test_nothing_is_checked_where_nothing_is_fixed():
    made = emitted(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.randn(3, 4))
    assert "raise" not in made.source
    with pytest.raises(ValueError, match="addmm"):
        made.module(mx.zeros((3, 5)))


def test_channels_are_counted_where_they_are():
    conv = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    made = torch2mlx.translate(conv.eval(), (torch.randn(2, 3, 8, 6),), io_layout="mlx")
    assert "shape[3]" not in made.source
    assert made.module(mx.zeros((2, 8, 6, 3))).shape == (2, 4)


#: Planted models with lengths that stay fixed: loops over one, numbers read from one, layers and
#: operators of one size.
FIXED = {
    *("loop_over_time", "cell_over_time", "loop_backwards", "loop_over_the_batch", "pieces_of_two"),
    *("mean_by_number", "scaled_by_root", "logarithm", "full_of_a_length", "float_of_a_length"),
    *("branch_on_a_length", "branch_on_one", "branch_on_even", "branch_on_two_lengths"),
    *("one_step_or_many", "squeezed", "squeezed_batch", "chosen_by_a_list", "chunks"),
    *("reshaped_with_a_baked_batch", "reshaped_with_a_baked_length", "first_five"),
    *(
        "positions_of_one_length",
        "pooled_by_its_own_size",
        "padded_to_eight",
        "linspaced",
        "one_hot_places",
    ),
    *("stacked_pairs",),
}


@pytest.mark.parametrize("name", planted.PLANTED)
def test_no_size_of_a_planted_model_is_wrong_in_silence(name):
    model = planted.build(name)
    made = torch2mlx.translate(model, planted.given(name))
    for size in planted.sizes(name):
        args = planted.given(name, **size)
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the spread of one number
                wanted = [numpy_of(leaf) for _, leaf in leaves_of(model(*args))]
        except (RuntimeError, ValueError, IndexError, AssertionError, ZeroDivisionError):
            with pytest.raises((ValueError, RuntimeError, ZeroDivisionError)):
                mx.eval([leaf for _, leaf in leaves_of(made.module(*to_mlx(args)))])
            continue
        try:
            found = [numpy_of(leaf) for _, leaf in leaves_of(made.module(*to_mlx(args)))]
        except ValueError as error:
            assert name in FIXED and ".shape" in str(error), f"{size}: {error}"
            continue
        for a, b in zip(wanted, found, strict=True):
            np.testing.assert_allclose(b, a, atol=1e-4, err_msg=str(size), strict=True)


@dataclasses.dataclass
class Answer:
    """What a model may answer."""

    total: torch.Tensor
    parts: list


class Answering(nn.Module):
    """A plain dataclass as the answer."""

    def forward(self, x):
        return Answer(x.sum(1), [x, x + 1])


def test_a_plain_dataclass_is_an_answer_and_stays_unknown_to_torch():
    model, x = Answering().eval(), torch.randn(3, 4)
    made = torch2mlx.translate(model, (x,))
    assert sorted(made.module(to_mlx(x))) == ["parts", "total"]
    assert torch2mlx.verify(model, made, (x,)).ok
    assert Answer not in torch.utils._pytree.SUPPORTED_NODES


def test_a_batch_of_one_becomes_free():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(96, 2)).eval()
    made = torch2mlx.translate(model, (torch.randn(1, 3, 6, 8),))
    assert made.free["input"][0] == 0
    assert torch2mlx.verify(model, made, (torch.randn(5, 3, 6, 8),)).ok


class Each(nn.Module):
    """Goes over the batch item by item; `kind` is what is asked of each result."""

    def __init__(self, kind=None):
        super().__init__()
        self.linear, self.kind = nn.Linear(4, 4), kind

    def forward(self, x):
        rows = torch.stack([self.linear(x[i]) for i in range(x.shape[0])])
        return rows if self.kind is None else self.kind(rows)


def test_a_batch_of_one_that_the_program_fixes_is_traced_as_it_is():
    model, x = Each().eval(), torch.randn(1, 5, 4)
    made = torch2mlx.translate(model, x)
    assert any("a batch of one, traced as two, is fixed at two" in note for note in made.notes)
    for length in (5, 3):
        y = torch.randn(1, length, 4)
        np.testing.assert_allclose(made(y), model(y).detach(), 1e-5, 1e-5)
    assert "x.shape[0] is 2, translated for 1" in says(made, torch.randn(2, 5, 4))


def test_what_no_way_of_tracing_takes_is_refused_for_its_own_reason():
    with pytest.raises(torch2mlx.errors.TranslationError) as refused:
        torch2mlx.translate(Each(torch.special.airy_ai).eval(), torch.randn(1, 5, 4))
    assert "special_airy_ai" in str(refused.value) and "two" not in str(refused.value)


def test_verify_compares_other_sizes_and_says_where_torch_has_none():
    model = planted.build("asserted")
    made = torch2mlx.translate(model, planted.given("asserted"))
    found = torch2mlx.verify(model, made, planted.given("asserted"))
    assert found.ok and [o.case for o in found.outputs] == [
        "",
        "at x0 (1, 3, 2)",
        "at x0 (4, 6, 4)",
    ]
    assert any(
        "at x0 (4, 12, 8): not compared, torch raises AssertionError" in n for n in found.notes
    )
    chosen = torch2mlx.verify(model, made, planted.given("asserted"), sizes=[{"x0": (2, 5, None)}])
    assert [o.case for o in chosen.outputs] == ["", "at x0 (2, 5, 4)"]
    with pytest.raises(torch2mlx.errors.VerificationError, match="'y' is no argument"):
        torch2mlx.verify(model, made, planted.given("asserted"), sizes=[{"y": (2,)}])


class Chosen(torch.nn.Module):
    def forward(self, x, keys=()):
        return {key: x * i for i, key in enumerate(keys, 2)}


def test_a_list_of_plain_values_may_be_left_out_of_a_call():
    made = torch2mlx.translate(Chosen(), (torch.ones(2, 3), ["a", "b"]))
    found = made.module(torch.ones(4, 3))
    assert {key: float(value[3, 2]) for key, value in found.items()} == {"a": 2.0, "b": 3.0}


class Inverse(torch.nn.Module):
    def forward(self, x):
        return torch.linalg.pinv(x)


def test_an_inverse_drops_what_is_small_for_its_own_size():
    """Of 4096 rows values below 4.9e-4 of the largest are taken for 0, of four below 4.8e-7."""
    made = emitted(Inverse(), torch.randn(4, 3))
    x = torch.zeros(4096, 3)
    x[0, 0], x[1, 1], x[2, 2] = 1, 1e-4, 1e-1
    agrees(made, Inverse(), x)


@pytest.mark.parametrize("rank", (1, 2))
def test_covariances_count_their_own_items(rank):
    """torch.export does not trace aten::cov: its lowering is run on nodes."""
    x = Node("input", ("x",), {}, mx.zeros((2, 4)[2 - rank :]), ("a", "b")[2 - rank :])
    b = Builder()
    found = cov(b, x)
    divided = next(node for node in b.nodes if node.op == "operator.truediv")
    assert isinstance(divided.args[1], Node) and divided.args[1].value == 3
    assert not b.baked and found.shape == (2, 2)[: 2 * (rank - 1)]


class Diagonal(torch.nn.Module):
    def __init__(self, spread):
        super().__init__()
        self.spread = spread

    def forward(self, x):
        kept = x[x > 0]
        return torch.diag_embed(kept[:, None] * x[:1] if self.spread else kept).sum()


def test_lengths_beside_one_that_the_data_decides_are_checked():
    made = emitted(Diagonal(True), torch.randn(4, 3))
    agrees(made, Diagonal(True), torch.randn(7, 3))
    assert "x.shape[1] is 5" in says(made, torch.randn(4, 5))


def test_a_length_that_the_data_decides_is_never_a_number():
    with pytest.raises(torch2mlx.errors.TranslationError, match="the data decides would be a"):
        emitted(Diagonal(False), torch.randn(4, 3))


class Squeezed(nn.Module):
    """Rows that a mask picks, with some axes squeezed away."""

    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, x, keep):
        return torch.squeeze(x[keep], *self.axes)


@pytest.mark.parametrize("axes", [(), (0,), ((0, 1),)])
def test_an_axis_whose_length_the_data_decides_is_not_squeezed(axes):
    with pytest.raises(
        torch2mlx.errors.TranslationError, match="squeezes an axis whose length the data decides"
    ):
        torch2mlx.translate(Squeezed(*axes), (torch.randn(3, 1, 4), torch.tensor([True] * 3)))


def test_an_axis_beside_one_that_the_data_decides_is_squeezed():
    x, model = torch.randn(3, 1, 4), Squeezed(1)
    module = torch2mlx.translate(model, (x, torch.tensor([True, False, True]))).module
    for keep in ([True] * 3, [False, True, False]):
        keep = torch.tensor(keep)
        np.testing.assert_array_equal(module(to_mlx(x), to_mlx(keep)), model(x, keep))


class AskedOfOneOfTwo(torch.nn.Module):
    """A branch on the length of one of two inputs that have it in common; it changes nothing."""

    def forward(self, x, mask):
        several = mask.shape[1] > 1 and x.ndim == 3
        scores = x * mask[:, :, None]
        return (scores if several else scores + 0).softmax(1)


def test_a_branch_that_changes_nothing_at_one_is_no_check_where_two_inputs_share_the_length():
    made = torch2mlx.translate(AskedOfOneOfTwo(), (torch.randn(2, 5, 4), torch.ones(2, 5)))
    for length in (1, 7):
        args = torch.randn(2, length, 4), torch.ones(2, length)
        assert torch2mlx.verify(AskedOfOneOfTwo(), made, args).ok


class Patches(nn.Module):
    """A map of one place, whose places are then a number of the program."""

    def __init__(self, pooled):
        super().__init__()
        self.conv, self.pooled = nn.Conv2d(3, 4, 3, stride=8, padding=1), pooled

    def forward(self, x):
        x = self.conv(x)
        if self.pooled:
            return x.mean((2, 3))
        b, c, h, w = x.shape
        return x.permute(0, 2, 3, 1).reshape(b, h * w, c).softmax(1)


@pytest.mark.parametrize("pooled", (False, True))
def test_a_quotient_of_a_length_that_is_one_is_checked_where_it_matters(pooled):
    model = Patches(pooled).eval()
    made = torch2mlx.translate(model, torch.randn(2, 3, 8, 8))
    for size in (8, 5, 16, 20):
        x = torch.randn(3, 3, size, size)
        expected = model(x).detach().numpy()
        try:
            found = np.array(made.module(mx.array(x.numpy())))
        except ValueError as error:
            assert not pooled and size > 8 and "translated where" in str(error)
        else:
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
