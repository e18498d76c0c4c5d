"""Numbers that a forward makes of lengths, which stay lengths: the file is for all of them."""

import builtins
import importlib.util
import math
import sys
from math import isqrt, sqrt

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx")

import mlx.core as mx
import torch
from torch import linspace
from torch.nn import functional
from torch.nn.functional import interpolate, max_pool2d

from tests.export.forwards import Forward
from torch2mlx import translate, verify
from torch2mlx.export.capture import kept_lengths
from torch2mlx.export.ir.structures import to_mlx


def thirds(x):
    size = int(x.shape[1] / 3)
    return torch.stack([x[:, i * size : (i + 1) * size].sum(1) for i in range(3)], 1)


def padded(x):
    whole = int(math.ceil(x.shape[1] / 8.0) * 8)
    return functional.pad(x, (0, whole - x.shape[1]))


def divided(x):
    rows, rest = divmod(x.shape[1], 5)
    return torch.cat([x[:, :rows], x[:, : rest + 1]], 1)


def kept_part(x):
    scores, _ = x.topk(max(int(x.size(1) * 0.3), 1), dim=1)
    return scores


def scaled(x):
    return x / math.sqrt(x.size(-1)) + float(x.shape[1]) / sqrt(x.shape[1])


def halves(x):
    low, high = map(int, (x.shape[1] * 0.25, x.shape[1] * 0.75))
    return x[:, low:high]


def listed(x):
    rows, most = list(map(int, x.shape)), max(map(int, x.shape))
    parts, rest = divmod(float(x.shape[1]), 2.5)
    return x.repeat(1, 2)[:, : most // 2] * rows[1] + parts * rest


def typed(x):
    size = int(x.shape[1] / 2)
    return x[:, :size] if isinstance(size, int) and not isinstance(size, float) else x


def line(x):
    return x * torch.linspace(-1, 1, x.shape[1]) + torch.linspace(0.5, x.shape[1] - 0.5, x.shape[1])


def aliased(x):
    side = isqrt(x.shape[1]) + int(math.pow(x.shape[1], 0.5))
    return x * linspace(0, 1, x.shape[1]) + torch.ones(side).sum()


def of_numpy(x):
    parts, root = np.ceil(x.shape[1] / 3).astype(int), np.sqrt(x.shape[1]).astype(np.int64)
    return x[:, :parts].sum() + x[:, :root], torch.arange(3) * np.floor(x.shape[1] / 3)


FORMS = [thirds, padded, divided, kept_part, scaled, halves, listed, typed, line, aliased, of_numpy]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_a_number_made_of_a_length_leaves_it_free(form):
    model = Forward(form)
    args = (torch.randn(2, 36, generator=torch.Generator().manual_seed(0)),)
    made = translate(model, args)
    sizes = [{"x": (1, 17)}, {"x": (3, 36)}, {"x": (4, 61)}]
    found = verify(model, made, args, sizes=sizes)
    assert found.ok and len({output.case for output in found.outputs}) == 4, found
    assert not hasattr(sys.modules[__name__], "int") and math.sqrt is sqrt
    assert math.sqrt.__module__ == "math" and isqrt is math.isqrt and linspace is torch.linspace


def test_squares_are_free_as_far_as_torch_takes_them():
    model = Forward(lambda x: x.view(x.shape[0], int(math.sqrt(x.shape[1])), -1).sum(2))
    args = (torch.randn(2, 36),)
    made = translate(model, args)
    found = verify(model, made, args, sizes=[{"x": (3, 49)}, {"x": (1, 100)}])
    assert found.ok and len(found.outputs) == 3
    with pytest.raises(ValueError, match=r"shape"):
        made.module(mx.zeros((2, 37)))


def test_positions_of_a_square_of_patches_are_free():
    """A table of positions for 4 x 4 patches, for as many as there are beside one for the class."""

    class Patches(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Parameter(torch.randn(1, 17, 8))

        def forward(self, x):
            side = int(math.sqrt(x.shape[1] - 1))
            grid = self.table[:, 1:].reshape(1, 4, 4, 8).permute(0, 3, 1, 2)
            grid = functional.interpolate(grid, size=(side, side), mode="bilinear")
            grid = grid.permute(0, 2, 3, 1).view(1, -1, 8)
            x = x + torch.cat([self.table[:, :1], grid], 1)
            height = width = int((x.shape[1] - 1) ** 0.5)
            return x[:, 1:].transpose(1, 2).reshape(x.shape[0], 8, height, width).flip(-1)

    torch.manual_seed(0)
    model, args = Patches(), (torch.randn(2, 17, 8),)
    made = translate(model, args)
    sizes = [{"x": (3, 26, 8)}, {"x": (1, 10, 8)}]
    found = verify(model, made, args, sizes=sizes, gradients=True)
    assert found.ok and {0, 1} <= set(made.free["x"]), found


class Pooled(torch.nn.Module):
    """Convolutions whose results are pooled over whole images, by both functions."""

    def __init__(self):
        super().__init__()
        self.conv, self.text = torch.nn.Conv2d(3, 5, 3), torch.nn.Conv1d(4, 6, 2)
        self.fc = torch.nn.Linear(16, 2)

    def forward(self, image, words):
        image, words = torch.relu(self.conv(image)), torch.tanh(self.text(words))
        mean = functional.avg_pool2d(image, image.size()[2:]).flatten(1)
        most = functional.max_pool2d(image, image.shape[2:], stride=image.shape[2:]).flatten(1)
        found = functional.max_pool1d(words, words.size(2)).squeeze(2)
        rows = functional.avg_pool2d(image, (1, image.shape[3])).sum(2).flatten(1)
        columns = max_pool2d(image, (image.shape[2], 1)).amin(3).flatten(1)
        rows = rows + max_pool2d(image, (1, image.shape[3])).mean(2).flatten(1)
        return self.fc(torch.cat([mean + columns, most + rows, found], 1))


def test_pooling_over_a_whole_image_leaves_its_size_free():
    torch.manual_seed(0)
    model = Pooled()
    args = (torch.randn(2, 3, 8, 9), torch.randn(2, 4, 7))
    made = translate(model, args)
    sizes = [{"image": (3, 3, 5, 12), "words": (3, 4, 3)}, {"image": (1, 3, 20, 4)}]
    found = verify(model, made, args, sizes=sizes[:1], gradients=True)
    assert found.ok, found
    assert ".transpose(" not in made.source.partition("def load")[0].replace(
        "image.transpose(0, 2, 3, 1)", ""
    ).replace("words.transpose(0, 2, 1)", ""), made.source


def test_a_number_of_an_array_is_still_a_demand():
    def form(x):
        if int(x.max()) > 100:
            raise ValueError("too large")
        return x[:, : int(x.shape[1] * 0.5)]

    model, args = Forward(form), (torch.arange(12.0).reshape(2, 6),)
    made = translate(model, args)
    assert verify(model, made, args, sizes=[{"x": (3, 9)}]).ok
    with pytest.raises(ValueError, match="too large"):
        made.module(mx.full((2, 6), 200.0))


def test_a_file_that_uses_the_class_otherwise_is_left_alone(tmp_path):
    path = tmp_path / "uses.py"
    path.write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        n = int(x.shape[1] / 2)\n"
        "        return x[:, :n].to(int)\n"
    )
    spec = importlib.util.spec_from_file_location("uses", path)
    uses = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(uses)
    model, args = uses.Net(), (torch.randn(2, 8) * 5,)
    made = translate(model, args)
    found = verify(model, made, args, sizes=[{"x": (3, 8)}, {"x": (2, 6)}])
    assert found.ok and any("refused" in note for note in found.notes)
    assert not hasattr(uses, "int")


def test_where_torch_takes_no_other_length_another_batch_is_compared():
    class Positions(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Parameter(torch.randn(8, 4))

        def forward(self, x):
            return (x.unflatten(1, (-1, 4)) + self.table).sum(1)

    torch.manual_seed(0)
    model, args = Positions(), (torch.randn(2, 32),)
    found = verify(model, translate(model, args), args)
    cases = {output.case for output in found.outputs}
    assert found.ok and cases == {"", "at x (1, 32)", "at x (3, 32)"}, found


def test_the_exchanged_classes_are_else_those_of_python():
    whole = kept_lengths._class("int")
    assert whole("12") == 12 and whole("ff", 16) == 255 and whole(2.9) == 2
    assert isinstance(3, whole) and isinstance(True, whole) and not isinstance(3.0, whole)
    assert issubclass(bool, whole) and {builtins.int: 1}[whole] == 1
    assert whole.from_bytes(b"\x01\x00", "little") == 1
    assert isinstance(np.float64(2), kept_lengths._class("float"))
    assert np.array([1.5]).astype(whole).dtype == np.zeros(1, whole).dtype == np.dtype("int64")
    with pytest.raises(TypeError):
        torch.zeros(1, dtype=whole)


def test_the_device_of_a_context_holds_for_what_a_model_was_traced_with():
    form = Forward(lambda x: x * torch.linspace(0, 1, x.shape[1]))
    assert translate(form, (torch.randn(2, 5),)).free == {"x": (0, 1)}
    with torch.device("meta"):
        assert torch.linspace(0, 1, 4).is_meta


class Longest(torch.nn.Module):
    """Keeps the largest half that it has met: what later, shorter inputs are cut to."""

    def __init__(self):
        super().__init__()
        self.most = 0

    def forward(self, x):
        self.most = max(self.most, int(x.shape[1] / 2))
        return x[:, : self.most]


class Noted(torch.nn.Module):
    """Keeps a length that nothing reads in a later call."""

    def forward(self, x):
        self.half = int(x.shape[1] / 2)
        return x[:, : self.half]


def test_a_length_that_a_later_call_reads_is_not_free():
    args = (torch.randn(2, 8),)
    made = translate(Longest(), args)
    assert made.module(to_mlx(args[0])).shape == (2, 4)
    for length in (4, 16):
        with pytest.raises(ValueError, match=r"x\.shape\[1\] is"):
            made.module(mx.zeros((2, length)))
    noted = translate(Noted(), args)
    assert noted.free == {"x": (0, 1)}
    assert verify(Noted(), noted, args, sizes=[{"x": (3, 11)}]).ok


class Embedding(torch.nn.Module):
    """Answers with what it was given to and with how much that is, in numbers made of lengths."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer
        self.scale = torch.nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return self.answer(x * self.scale, x)


class Inside(torch.nn.Module):
    def __init__(self, answer, outer):
        super().__init__()
        self.inner, self.outer = Embedding(answer), outer

    def forward(self, x):
        return self.outer(*self.inner(x))


@pytest.mark.parametrize(
    "answer",
    [
        lambda y, x: (y, x.shape[1] // 2),
        lambda y, x: (y, y.shape[1] // 2),
        lambda y, x: (y[:, 1:], x.shape[0] + y[:, 1:].shape[1]),
    ],
)
@pytest.mark.parametrize(
    "outer",
    [
        lambda y, n: (y, n),
        lambda y, n: (y[:, :n], {"n": n}),
        lambda y, n: (y, n + 1, n),
    ],
)
def test_a_model_answers_with_the_numbers_that_its_modules_make_of_lengths(answer, outer):
    model, args = Inside(answer, outer), (torch.randn(2, 12),)
    made = translate(model, args)
    assert verify(model, made, args, sizes=[{"x": (3, 9)}, {"x": (1, 20)}], gradients=True).ok


class Grown(torch.nn.Module):
    """Images that are made smaller and grow again to lengths that a norm has computed first."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = torch.nn.Conv2d(6, 6, 1), torch.nn.GroupNorm(3, 6)
        self.smaller = torch.nn.AvgPool2d(3, 2, 1)

    def forward(self, x):
        whole = self.norm(self.first(x))
        half = self.norm(self.smaller(whole))
        grown = interpolate(self.smaller(half), size=half.shape[2:]) + half
        return interpolate(grown, size=whole.shape[2:]) + whole


def test_a_length_that_a_layer_computes_is_read_behind_it():
    torch.manual_seed(0)
    model, args = Grown(), (torch.randn(2, 6, 5, 7),)
    made = translate(model, args)
    assert not made.notes
    assert verify(model, made, args, sizes=[{"x": (3, 6, 8, 4)}], gradients=True).ok
