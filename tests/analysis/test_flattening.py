"""Feature maps that are flattened into a Linear are found by the shapes, and nothing else is."""

import warnings

import numpy as np
import pytest

from tests.support import close, need

need("torch", "mlx.core")

import mlx.core as mx
import mlx.nn
import torch
import torch.nn.functional as F
from torch import nn

from torch2mlx import analyze, convert, load_converted
from torch2mlx.analysis.flattening import flattened
from torch2mlx.errors import LayoutWarning


class Net(nn.Module):
    """Two convolutions and a head; the forwards below differ in how they flatten."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)
        self.bn, self.pool, self.drop = nn.BatchNorm2d(6), nn.MaxPool2d(2), nn.Dropout(0.1)
        self.fc1, self.fc2 = nn.Linear(6 * 8, 12), nn.Linear(12, 2)

    def maps(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        return self.drop(F.max_pool2d(self.bn(self.conv2(x)), (1, 2)))


class View(Net):
    def forward(self, x):
        x = self.maps(x)
        x = x.view(x.size(0), -1)
        return self.fc2(F.relu(self.fc1(x)))


class Reshape(Net):
    def forward(this, image):
        return this.fc1(this.maps(image).reshape((-1, 48)))


class Flat(Net):
    def forward(self, x):
        if self.training:
            x = x + 0
        x = torch.flatten(self.maps(x), 1)
        return self.fc2(self.fc1(self.drop(x)))


class Method(Net):
    def forward(self, x):
        return self.fc1((self.maps(x) * 2).flatten(start_dim=1))


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = Net()
        self.blocks = nn.ModuleList([nn.Conv2d(6, 6, 1) for _ in range(2)])
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(48, 3))

    def forward(self, x):
        x = self.stem.maps(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


class Joined(Net):
    def forward(self, x):
        x = self.maps(x)
        both = torch.cat([x[:, :3], x], dim=1) if x is None else torch.cat([self.bn(x), x], 1)
        return self.fc1(both.flatten(1))


def stack(*head):
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), *head)


FOUND = {
    "view": (View, "fc1", 6, 8),
    "reshape": (Reshape, "fc1", 6, 8),
    "flatten": (Flat, "fc1", 6, 8),
    "method": (Method, "fc1", 6, 8),
    "inner": (Inner, "head.2", 6, 8),
    "joined": (Joined, "fc1", 12, 4),
    "sequential": (lambda: stack(nn.Flatten(), nn.Linear(64, 2)), "3", 4, 16),
    "nested": (lambda: nn.Sequential(stack(), stack(nn.Flatten()), nn.Linear(64, 2)), "2", 4, 16),
    "normed": (lambda: stack(nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2)), "4", 4, 16),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose1d(2, 5, 3), nn.Flatten(), nn.Linear(30, 2)),
        "2",
        5,
        6,
    ),
    "volume": (
        lambda: nn.Sequential(nn.Conv3d(1, 2, 1), nn.Flatten(), nn.Linear(16, 2)),
        "2",
        2,
        8,
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_is_flattened_is_found_by_its_shapes(name, tmp_path):
    make, path, channels, positions = FOUND[name]
    with torch.device("meta"):
        (row,) = flattened(make())
    assert (row.path, row.channels, row.positions) == (path, channels, positions)
    model = make()
    with pytest.warns(LayoutWarning) as caught:
        report = convert(model, tmp_path / "out.safetensors", on_unmapped="ignore")
    (warning,) = caught
    assert warning.filename == __file__
    assert str(warning.message).startswith(f"{path} takes a flattened") and row.advice in str(
        warning.message
    )
    assert str(row) in report.notes
    (finding,) = [f for f in analyze(model).findings if f.rule == "T2M013"]
    assert finding.path == path and row.advice in finding.what and finding.severity == "warning"


def test_the_advice_is_right(tmp_path):
    model, x = View().eval(), torch.randn(2, 3, 8, 8)
    convert(model, tmp_path / "out.safetensors", on_unmapped="ignore")
    weights = load_converted(tmp_path / "out.safetensors")
    head = mlx.nn.Linear(48, 12)
    head.load_weights([("weight", weights["fc1.weight"]), ("bias", weights["fc1.bias"])])
    maps = mx.array(model.maps(x).detach().permute(0, 2, 3, 1).numpy())
    expected = model.fc1(model.maps(x).flatten(1)).detach().numpy()
    (row,) = flattened(model)
    advised = eval(row.advice, {"x": maps})
    close(np.array(head(advised)), expected)
    assert np.abs(np.array(head(maps.flatten(1))) - expected).max() > 0.01  # the trap


def test_advice_follows_the_number_of_dimensions():
    assert flattened(FOUND["transposed"][0]())[0].advice == "x.transpose(0, 2, 1).flatten(1)"
    assert flattened(FOUND["volume"][0]())[0].advice == "x.transpose(0, 4, 1, 2, 3).flatten(1)"


class Pooled(Net):
    def forward(self, x):
        x = F.adaptive_avg_pool2d(self.maps(x), 1).flatten(1)
        return self.head(x)

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 2)


class LastAlready(Net):
    def forward(self, x):
        return self.fc1(self.maps(x).permute(0, 2, 3, 1).flatten(1))


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 2, 2)
        self.up, self.down = nn.Linear(8, 32), nn.Linear(32, 8)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        return x + self.down(F.gelu(self.up(x)))


class TimeStep(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.time = nn.Conv2d(3, 4, 3), nn.Linear(16, 4)

    def forward(self, x, t):
        return self.conv(x) + self.time(t.view(-1, 16)).view(-1, 4, 1, 1)


class ByChannel(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.mix = nn.Conv2d(3, 4, 3), nn.Linear(16, 4)

    def forward(self, x):
        x = self.conv(x)
        return self.mix(x.view(x.size(0), 4, -1))


NOTHING = {
    "pooled to one position": Pooled,
    "channels last already": LastAlready,
    "tokens of an image": Tokens,
    "another input": TimeStep,
    "positions as features": ByChannel,
    "one channel": lambda: nn.Sequential(nn.Conv2d(3, 1, 3), nn.Flatten(), nn.Linear(36, 2)),
    "linears alone": lambda: nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4)),
    "channels do not divide": lambda: stack(nn.Flatten(), nn.Linear(63, 2)),
    "no flatten": lambda: stack(nn.Linear(64, 2)),
    "flatten from the second on": lambda: stack(nn.Flatten(2), nn.Linear(64, 2)),
}


@pytest.mark.parametrize("name", NOTHING)
def test_there_is_no_false_alarm(name, tmp_path):
    model = NOTHING[name]()
    assert flattened(model) == ()
    with warnings.catch_warnings():
        warnings.simplefilter("error", LayoutWarning)
        report = convert(model, tmp_path / "out.safetensors", on_unmapped="ignore")
    assert not any("flattened" in note for note in report.notes)
    assert not [f for f in analyze(model).findings if f.rule == "T2M013"]


def test_a_forward_without_source_is_followed_in_the_order_of_its_layers():
    names = {"nn": nn, "torch": torch}
    exec(
        "class Hidden(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.c, self.f = nn.Conv2d(3, 4, 1), nn.Linear(64, 2)\n"
        "    def forward(self, x):\n"
        "        return self.f(torch.flatten(self.c(x), 1))\n",
        names,
    )
    (row,) = flattened(names["Hidden"]())
    assert (row.path, row.positions) == ("f", 16)


def test_a_state_dict_with_its_module_is_told_too(tmp_path):
    with torch.device("meta"):
        blank = View()
    with pytest.warns(LayoutWarning, match="fc1 takes"):
        convert(View().state_dict(), tmp_path / "out.safetensors", module=blank)


def test_wrappers_are_looked_through(tmp_path):
    (row,) = flattened(nn.DataParallel(View()))
    assert row.path == "module.fc1"
