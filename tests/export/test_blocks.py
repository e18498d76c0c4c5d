"""Blocks that are alike in torch are one class of the file, called in one loop."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import torch
from torch import nn

import torch2mlx
from torch2mlx import verify
from torch2mlx.export.ir.structures import to_mlx


class Joined(nn.Module):
    """Two sequences as one, whose length is a sum that the first block computes."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, text: torch.Tensor, image: torch.Tensor) -> Any:
        x = self.fc(torch.cat([text, image], 1))
        x = x.reshape(x.shape[0], x.shape[1], 2, 2).flip(-1).reshape(x.shape[0], x.shape[1], -1)
        return x[:, : text.shape[1]] + text, x[:, text.shape[1] :] + image


class Pairs(nn.Module):
    """Blocks that hand on two values; the model gives back both."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Joined() for _ in range(3))

    def forward(self, text: torch.Tensor, image: torch.Tensor) -> Any:
        for block in self.blocks:
            text, image = block(text, image)
        return text, image


class Tokens(nn.Module):
    """Items of all sequences in one row, of which each stands there twice."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, 4)
        twice = rows.repeat_interleave(2, 0)
        order = torch.arange(twice.shape[0]).flip(0)
        return x + self.fc(twice[order]).reshape(rows.shape[0], 2, 4).sum(1).reshape(x.shape)


class Doubling(torch.autograd.Function):
    """With a gradient of its own."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return 3 * gradient


class Own(nn.Module):
    """A layer with it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Doubling.apply(self.fc(x))


class Last(Pairs):
    """Gives back the second value alone: the last block need not make the first."""

    def forward(self, text: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        return super().forward(text, image)[1]


class Masked(nn.Module):
    """A block that is told where to look."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return x + torch.tanh(self.fc(x)) * mask


class Windows(nn.Module):
    """Two masks in turn, and the input of the first block after the last one."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 4)
        self.blocks = nn.ModuleList(Masked() for _ in range(count))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        start = x = self.embed(x)
        places = torch.arange(x.shape[1])[:, None]
        masks = (places % 2 == 0).float(), (places > 1).float()
        for i, block in enumerate(self.blocks):
            x = block(x, masks[i % 2])
        return x - start


class Again(nn.Module):
    """One block called many times."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Masked()

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        for _ in range(5):
            x = self.block(x, mask)
        return x


class Turned(nn.Module):
    """A linear layer by hand, with the weight the other way round; widths are written in it."""

    def __init__(self, nf: int, nx: int, scale: float) -> None:
        super().__init__()
        self.nf, self.power = nf, scale
        self.weight = nn.Parameter(torch.randn(nx, nf))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = torch.mm(x.reshape(-1, self.weight.shape[0]), self.weight) * self.power
        return flat.reshape(*x.shape[:-1], self.nf)


class Widths(nn.Module):
    """Two of them."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = Turned(6, 4, 0.5), Turned(4, 6, 2.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(torch.relu(self.up(x)))


class Gated(nn.Module):
    """A block with a part that may be of any kind."""

    def __init__(self, mlp: nn.Module) -> None:
        super().__init__()
        self.mlp = mlp

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mlp(x)


class Parts(nn.Module):
    """Three blocks, the first of which holds something else."""

    def __init__(self) -> None:
        super().__init__()
        kinds = nn.Linear(4, 4), Turned(4, 4, 3.0), Turned(4, 4, 3.0)
        self.blocks = nn.ModuleList(map(Gated, kinds))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Handed(nn.Module):
    """Turns that read two values of the turn before, and a number of their own; or one of the turn
    before that."""

    def __init__(self, two: bool) -> None:
        super().__init__()
        self.two = two
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: torch.Tensor) -> Any:
        before = torch.zeros_like(x)
        for i, layer in enumerate(self.layers):
            made = torch.tanh(layer(x) + before * (i + 2))
            before, x = (made, x + before) if self.two else (x, made + x)
        return x, before


class Growing(nn.Module):
    """Takes all that was made before it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Linear(width, 2)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        return torch.relu(self.fc(torch.cat(features, 1)))


class Dense(nn.ModuleDict):
    """Layers with numbers in their names, each of which takes the results of all before it."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        for i in range(count):
            self[f"layer{i + 1}"] = Growing(width + 2 * i)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = [x]
        for layer in self.values():
            features.append(layer(features))
        return torch.cat(features, 1)


class Norm(nn.Module):
    """As models of language write it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Activation(nn.Module):
    """A function as a module."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.silu(x)


class Plain(nn.Module):
    """Both of them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.act = Norm(4), Activation()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.norm(x))


class Residual(nn.Module):
    """A block that widens its input only where it has to."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.fc = nn.Linear(width, out)
        self.widen = nn.Linear(width, out, bias=False) if out != width else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = x if self.widen is None else self.widen(x)
        return torch.tanh(self.fc(x)) + kept


class Acting(nn.Module):
    """A block whose activation may be none, and whose sum an option leaves out."""

    def __init__(self, act: bool, skip: bool) -> None:
        super().__init__()
        self.fc, self.skip = nn.Linear(4, 4), skip
        self.act = nn.Tanh() if act else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.act(self.fc(x))
        return x + out if self.skip else out


class Chain(nn.Module):
    """Modules one after the other."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Images(nn.Module):
    """A block whose first layer turns the image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv(x))


class Stack(nn.Module):
    """Blocks of one kind, one after the other."""

    def __init__(self, kind: Any, count: int = 3) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(kind() for _ in range(count))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def made(net: nn.Module, *shapes: tuple[tuple[int, ...], ...]) -> str:
    """The source for the first shapes; values at all of them, and gradients, are torch's."""
    torch.manual_seed(0)
    net.eval()
    cases = [tuple(map(torch.randn, one)) for one in shapes]
    translation = torch2mlx.translate(net, cases[0])
    for args in cases:
        found = verify(net, translation, args, gradients=True)
        assert found.ok, found
    return translation.source


def classes(source: str) -> list[str]:
    return re.findall(r"^class (\w+)", source, re.MULTILINE)


def test_a_sum_of_lengths_is_computed_by_each_block_for_itself() -> None:
    source = made(Pairs(), ((2, 5, 4), (2, 7, 4)), ((3, 2, 4), (3, 4, 4)))
    assert classes(source) == ["Joined", "Pairs"]
    assert "for block in self.blocks:\n            text, image = block(text, image)" in source


def test_a_product_of_lengths_is_read_from_an_array_that_has_it() -> None:
    source = made(Stack(Tokens), ((2, 5, 4),), ((3, 4, 4),))
    assert classes(source) == ["Tokens", "Stack"]
    assert "x = block(x)" in source


def test_functions_that_do_the_same_stand_in_the_file_once() -> None:
    source = made(Stack(Own), ((2, 4),), ((3, 4),))
    assert len(re.findall(r"^def \w+_forward", source, re.MULTILINE)) == 1
    assert len(re.findall(r"^def \w+_backward", source, re.MULTILINE)) == 1
    assert classes(source) == ["Own", "Stack"]


def test_a_last_block_that_gives_back_less_is_called_as_the_others() -> None:
    source = made(Last(), ((2, 5, 4), (2, 7, 4)), ((3, 2, 4), (3, 4, 4)))
    assert classes(source) == ["Joined", "Last"]
    assert "text, image = block(text, image)\n        return image" in source


@pytest.mark.parametrize("count", [4, 5])
def test_values_that_differ_from_block_to_block_stand_in_a_list(count: int) -> None:
    source = made(Windows(count), ((2, 5, 4),), ((3, 7, 4),))
    assert classes(source) == ["Masked", "Windows"]
    assert re.search(r"for block, mask in zip\(self\.blocks, \[.*\]( \* 2)?\):", source)
    assert ("* 2" in source) is (count == 4)


def test_a_module_that_is_called_many_times_is_called_in_a_loop() -> None:
    source = made(Again(), ((2, 5, 4), (5, 1)), ((3, 6, 4), (6, 1)))
    assert "for _ in range(5):\n            x = self.block(x, mask)" in source
    assert source.count("self.block(") == 1


def test_numbers_of_a_forward_are_attributes_named_as_in_torch() -> None:
    source = made(Widths(), ((2, 3, 4),), ((5, 7, 4),))
    assert classes(source) == ["Turned", "Widths"]
    assert "self.up = Turned(" in source
    assert "self.power" in source
    assert "self.nf" in source


def test_a_child_of_another_kind_is_an_argument() -> None:
    source = made(Parts(), ((2, 4),), ((5, 4),))
    assert classes(source) == ["Turned", "Gated", "Parts"]
    assert "def __init__(self, mlp):" in source
    assert "for block in self.blocks:" in source


@pytest.mark.parametrize("two", [True, False])
def test_values_of_two_turns_do_not_get_mixed_up(two: bool) -> None:
    source = made(Handed(two), ((2, 4),), ((5, 4),))
    assert ("for layer, " in source) is two


@pytest.mark.parametrize("count", [3, 6])
def test_a_list_that_grows_stays_a_list(count: int) -> None:
    source = made(Dense(4, count), ((2, 4),), ((5, 4),))
    assert classes(source) == ["Growing", "Dense"]
    assert "mx.concatenate(features, axis=1)" in source
    loop = 'for i in range(1, 7):\n            features.append(self[f"layer{i}"](features))'
    assert (loop in source) is (count == 6)


def test_norms_and_activations_of_the_models_own_are_layers_of_mlx() -> None:
    source = made(Plain(), ((2, 4),), ((5, 4),))
    assert classes(source) == ["Plain"]
    assert "self.norm = nn.RMSNorm(4, eps=1e-06)" in source
    assert "self.act = nn.SiLU()" in source


def test_a_child_that_is_none_in_some_blocks_is_an_argument_that_may_be_left_out() -> None:
    net = Chain(Residual(4, 6), Residual(6, 6), Residual(6, 4))
    source = made(net, ((2, 4),), ((5, 4),))
    assert classes(source) == ["Residual", "Chain"]
    assert "widen=None):" in source
    assert "x if self.widen is None else self.widen(x)" in source
    assert "Residual(6, 6)," in source


def test_an_activation_that_is_none_in_some_blocks_is_an_identity() -> None:
    net = Chain(Acting(True, True), Acting(False, True), Acting(True, True))
    source = made(net, ((2, 4),), ((5, 4),))
    assert classes(source) == ["Acting", "Chain"]
    assert source.count("nn.Identity()") == 1
    assert "self.act(" in source


def test_a_sum_that_an_option_leaves_out_is_an_attribute_of_its_name() -> None:
    net = Chain(Acting(True, False), Acting(True, True), Acting(True, False))
    source = made(net, ((2, 4),), ((5, 4),))
    assert classes(source) == ["Acting", "Chain"]
    assert "if self.skip else" in source
    assert "self.blocks = [Acting(False), Acting(True), Acting(False)]" in source


def test_images_are_turned_by_the_model_and_not_by_its_first_block() -> None:
    source = made(Chain(Images(3), Images(4)), ((2, 3, 8, 8),), ((3, 3, 6, 10),))
    assert classes(source) == ["Images", "Chain"]
    assert "for block in self.blocks:" in source


def test_layers_that_are_alike_in_a_row_are_counted() -> None:
    net = nn.Sequential(nn.Linear(3, 4), *(nn.Linear(4, 4) for _ in range(3)))
    source = made(net, ((2, 3),), ((5, 3),))
    assert "*[nn.Linear(4, 4) for _ in range(3)]" in source


@pytest.mark.parametrize("length", [3, 6])
def test_weights_load_under_the_names_of_torch(length: int) -> None:
    net = Stack(Tokens, length)
    translation = torch2mlx.translate(net.eval(), (torch.randn(2, 5, 4),))
    assert set(translation.weights) == set(net.state_dict())


class Aside(nn.Module):
    """A block with a result for the next one and two beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> Any:
        y = torch.tanh(self.a(x))
        z = self.b(y).sigmoid()
        return y, z, self.c(z) + x


class Keeps(nn.Module):
    """Blocks of which some results beside the first are read."""

    def __init__(self, kept: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Aside() for _ in range(3))
        self.kept = kept

    def forward(self, x: torch.Tensor) -> Any:
        found = []
        for i, layer in enumerate(self.layers):
            x, *rest = layer(x)
            found += [rest[place] for at, place in self.kept if at == i]
        return x, *found


READ = [((0, 0),), ((1, 0),), ((2, 1),), ((0, 1), (2, 1)), ((1, 0), (1, 1)), ((0, 0), (2, 1))]


@pytest.mark.parametrize("kept", READ)
def test_results_that_some_blocks_alone_are_asked_for(kept: Any) -> None:
    model = Keeps(kept)
    module = torch2mlx.translate(model, (torch.randn(2, 4),)).module
    for batch in (1, 3):
        x = torch.randn(batch, 4)
        for found, expected in zip(module(to_mlx(x)), model(x), strict=True):
            np.testing.assert_allclose(found, expected.detach(), rtol=1e-5, atol=1e-6)


def test_a_block_that_is_called_twice_and_asked_for_more_the_second_time() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Aside()

        def forward(self, x: torch.Tensor) -> Any:
            x, _, _ = self.block(x)
            return self.block(x)

    model = Twice()
    made = torch2mlx.translate(model, (torch.randn(2, 4),))
    x = torch.randn(3, 4)
    for found, expected in zip(made.module(to_mlx(x)), model(x), strict=True):
        np.testing.assert_allclose(found, expected.detach(), rtol=1e-5, atol=1e-6)
    assert made.source.count("def __call__") == 2


class Maybe(nn.Module):
    """A block that gives what it had before its last part too, which the last one has not."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = None if last else nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> Any:
        y = torch.tanh(self.a(x))
        return y, y if self.b is None else self.b(y)


class Stages(nn.Module):
    """Stages of which the last one lacks a part, and is asked for less."""

    def __init__(self, read: tuple[int, ...]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(Maybe(i == 3) for i in range(4))
        self.read = read

    def forward(self, x: torch.Tensor) -> Any:
        found = []
        for i, stage in enumerate(self.stages):
            before, x = stage(x)
            found += [before] if i in self.read else []
        return (x, *found)


@pytest.mark.parametrize("read", [(0, 1, 2, 3), (0, 1, 2), (0,), (3,), ()])
def test_a_last_stage_that_lacks_a_part_and_is_asked_for_less(read: tuple[int, ...]) -> None:
    model = Stages(read)
    module = torch2mlx.translate(model, (torch.randn(2, 4),)).module
    for batch in (1, 3):
        x = torch.randn(batch, 4)
        for found, expected in zip(module(to_mlx(x)), model(x), strict=True):
            np.testing.assert_allclose(found, expected.detach(), rtol=1e-5, atol=1e-6)


class Several(nn.Module):
    """A block whose last result goes to the next one, the others to nobody but a reader after."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> Any:
        y = nn.functional.layer_norm(x, (4,))
        z = self.fc(y)
        return y, z, x + torch.sigmoid(z)


class Readers(nn.Module):
    """Blocks of which all results of the last one are read, and one of each where `kept` says."""

    def __init__(self, kept: int | None) -> None:
        super().__init__()
        self.blocks, self.kept = nn.ModuleList(Several() for _ in range(3)), kept

    def forward(self, x: torch.Tensor) -> Any:
        found = []
        for block in self.blocks:
            y, z, x = block(x)
            found += [] if self.kept is None else [(y, z)[self.kept]]
        return (x, z, y, *found)


@pytest.mark.parametrize("kept", [None, 0, 1])
def test_what_is_read_after_a_loop_has_no_name_that_its_turns_hand_on(kept: int | None) -> None:
    model = Readers(kept)
    made = torch2mlx.translate(model, (torch.randn(2, 3, 4),))
    assert not made.notes
    assert kept is not None or "for block in self.blocks" in made.source
    for size in ((1, 5, 4), (3, 3, 4)):
        x = torch.randn(size)
        for found, expected in zip(made.module(to_mlx(x)), model(x), strict=True):
            np.testing.assert_allclose(found, expected.detach(), rtol=1e-5, atol=1e-6)


def test_what_a_loop_within_a_loop_makes_is_read_after_both() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            rows = (nn.ModuleList(Several() for _ in range(3)) for _ in range(3))
            self.rows = nn.ModuleList(rows)

        def forward(self, x: torch.Tensor) -> Any:
            for row in self.rows:
                for block in row:
                    y, z, x = block(x)
            return x, y, z

    model = Nested()
    made = torch2mlx.translate(model, (torch.randn(2, 3, 4),))
    x = torch.randn(3, 5, 4)
    for found, expected in zip(made.module(to_mlx(x)), model(x), strict=True):
        np.testing.assert_allclose(found, expected.detach(), rtol=1e-5, atol=1e-5)
