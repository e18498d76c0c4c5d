"""Channels last: ported networks answer what torch's do, forwards and backwards."""

import re
from pathlib import Path

import numpy as np
import pytest

from tests.porting.compare import executed, give_weights
from tests.support import need

need("torch", "mlx.core", "libcst")

import mlx.core as mx
import mlx.nn as nn
import torch

import torch2mlx
from tests.porting import images
from torch2mlx import kit
from torch2mlx.export.ir.structures import to_mlx

SOURCE = Path(images.__file__).read_text()
#: Networks with layers for what is no image: a norm after a linear layer, wrapped or not.
KEPT = ("Sequence", "Norm", "Slopes", "Wrapped")


@pytest.fixture(scope="module")
def ported():
    results = {layout: torch2mlx.port(SOURCE, layout) for layout in ("mlx", "torch")}
    assert all(result.ok for result in results.values())
    return {k: (v, executed(v.source, f"images_{k}")) for k, v in results.items()}


def leaves(value):
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


def total(value, seed=0):
    """A number that depends on every place of every result."""
    draw = np.random.RandomState(seed)
    found = 0.0
    for leaf in leaves(value):
        if hasattr(leaf, "shape") and leaf.shape:
            weight = draw.rand(*leaf.shape).astype(np.float32)
            own = torch.from_numpy(weight) if isinstance(leaf, torch.Tensor) else mx.array(weight)
            found = found + (leaf * own).sum()
    return found


@pytest.mark.parametrize("name", images.CASES)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("layout", ["mlx", "torch"])
def test_networks_agree(name, training, layout, ported, tmp_path):
    torch.manual_seed(0)
    theirs = getattr(images, name)().train(training)
    ours = getattr(ported[layout][1], name)()
    give_weights(ours, theirs, tmp_path)
    ours.train(training)
    given = [torch.randn(*shape) for shape in images.CASES[name]]
    expected, found = leaves(theirs(*given)), leaves(ours(*map(to_mlx, given)))
    assert len(expected) == len(found)
    for one, other in zip(expected, found, strict=True):
        if isinstance(one, torch.Tensor):
            one, other = one.detach().numpy(), np.array(other)
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)
    images_ = [x.clone().requires_grad_() for x in given]
    total(theirs(*images_)).backward()
    slopes = mx.grad(lambda *xs: total(ours(*xs)), list(range(len(given))))(*map(to_mlx, given))
    for x, slope in zip(images_, leaves(slopes), strict=True):
        np.testing.assert_allclose(np.array(slope), x.grad.numpy(), rtol=1e-3, atol=1e-4)


def test_layers_are_channels_last(ported):
    classes = re.split(r"^class ", ported["mlx"][0].source, flags=re.M)[1:]
    turned = [c.partition("(")[0] for c in classes if "kit.channels_first." in c]
    assert set(turned) <= set(KEPT), turned


def test_a_layer_is_what_it_is_in_either_layout():
    """As weights are set by asking which layer a module is."""
    for name in ("Conv2d", "BatchNorm2d", "MaxPool2d", "Dropout2d", "GroupNorm", "InstanceNorm1d"):
        turned = getattr(kit.channels_first, name)
        assert issubclass(turned, getattr(kit, name)) and issubclass(turned, nn.Module)
    assert not issubclass(kit.BatchNorm2d, kit.BatchNorm1d)


def test_an_image_without_a_batch_is_an_error():
    """Which of its axes would be the channels is not known."""
    for layer in (kit.MaxPool2d(2), kit.InstanceNorm2d(3), kit.ZeroPad2d(1), kit.PixelShuffle(1)):
        with pytest.raises(ValueError, match="an axis for the batch"):
            layer(mx.ones((4, 4, 3)))
    with pytest.raises(ValueError, match="an axis for the batch"):
        kit.to_last(mx.ones((2, 3, 4)), 2)
    with pytest.raises(ValueError, match="more axes"):
        kit.broadcast_last(mx.ones((2, 1, 3, 4, 4)), 2)


def test_torchs_layout_on_request():
    source = torch2mlx.port(SOURCE, layout="torch").source
    assert "kit.channels_first.Conv2d" in source and "to_last" not in source
    with pytest.raises(ValueError, match="layout"):
        torch2mlx.port(SOURCE, layout="nhwc")


def test_classes_that_another_file_names_keep_torchs_order(tmp_path):
    blocks = "import torch.nn as nn\n\n\nclass Block(nn.Module):\n"
    blocks += "    def __init__(self):\n        super().__init__()\n"
    blocks += "        self.conv = nn.Conv2d(3, 3, 3)\n\n"
    blocks += "    def forward(self, x):\n        return self.conv(x)\n\n\n"
    blocks += "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    blocks += "        self.block = Block()\n\n    def forward(self, x):\n"
    blocks += "        return self.block(x)\n"
    (tmp_path / "blocks.py").write_text(blocks)
    alone = torch2mlx.port(tmp_path / "blocks.py")
    assert "return self.conv(x)" in alone.source
    told = [change for change in alone.changes if change.what == "Block.forward"]
    assert told and "channels last: x" in told[0].why
    (tmp_path / "use.py").write_text("from blocks import Block\n")
    assert "return kit.to_first(self.conv(x))" in torch2mlx.port(tmp_path / "blocks.py").source


CONV = "self.one = nn.Conv2d(3, 3, 1)"
#: What a constructor does, and what forward returns.
HARD = (
    ("self.one = nn.PReLU(3)", "self.one(x) + self.one(x[:, :, 0, 0])[:, :, None, None]"),
    (f"{CONV}; self.by = torch.linspace(1, 2, 3).view(3, 1, 1)", "self.one(x) * self.by"),
    (f"{CONV}; self.by = torch.linspace(1, 2, 6)", "self.one(x) * self.by - 1 / self.by"),
    (
        f"{CONV}; self.by = torch.linspace(1, 2, 24).view(4, 6)",
        "self.by + self.one(x) * self.by.sum()",
    ),
    (
        f"{CONV}; self.by = 0.5; self.low = torch.linspace(1, 2, 18).view(1, 3, 1, 6)",
        "self.one(x - self.low) * self.by > self.low",
    ),
    ("self.one = nn.Softmax2d()", "self.one(x)"),
    ("self.one = nn.FeatureAlphaDropout(0.5).eval(); self.eval()", "self.one(x)"),
    (CONV, "F.prelu(self.one(x), x.new_tensor([0.1, 0.2, 0.3]))"),
    ("self.one = nn.Identity()", "F.prelu(x, x.new_tensor([0.1, 0.2, 0.3]))"),
    (CONV, "F.instance_norm(self.one(x), weight=x[0, :, 0, 0])"),
    (CONV, "F.batch_norm(self.one(x), None, None, x[0, :, 0, 0], x[0, :, 0, 1], training=True)"),
    (CONV, "F.batch_norm(x, x[0, :, 0, 0], x[0, :, 0, 1].abs(), eps=0.1) + self.one(x)"),
    (CONV, "F.upsample(self.one(x), scale_factor=2, mode='nearest')"),
    (
        CONV,
        "F.grid_sample(self.one(x), F.affine_grid(x[:, 0, :2, :3], x.size(), align_corners=False), align_corners=False)",
    ),
    (CONV, "F.normalize(self.one(x), dim=1)"),
    (CONV, "F.layer_norm(self.one(x), (4, 6))"),
    (CONV, "F.cosine_similarity(self.one(x), x)"),
    (CONV, "F.unfold(self.one(x), 2)"),
    (CONV, "getattr(self, 'one')(x)"),
    (
        "self.one = nn.Sequential(nn.Conv2d(3, 3, 1)); self.one[0] = nn.Conv2d(3, 3, 1)",
        "self.one(x)",
    ),
    ("self.one = nn.ModuleList([nn.Conv2d(3, 3, 1)]); self.rest(self.one)", "self.one[0](x)"),
    ("setattr(self, 'one', nn.Conv2d(3, 3, 1))", "self.one(x)"),
    ("self.add_module('on' + 'e', nn.Conv2d(3, 3, 1))", "self.one(x)"),
    (
        f"{CONV}; self.size = self.one(torch.zeros(1, 3, 2, 5)).shape",
        "self.one(x)[:, :, : self.size[2]]",
    ),
    ("self.one = [nn.Conv2d(3, 3, 1)][0]", "apply(self.one, x)"),
    ("self.one = make(nn.Conv2d)", "self.one(x)"),
    (CONV, "self.one(x).mul_(2)[:, 0]"),
    (CONV, "set_first(self.one(x))"),
    (f"{CONV}; self.low = torch.zeros(3, 1, 1)", "self.one(x).clamp(min=self.low)"),
    ("self.one = nn.Conv2d(4, 3, 1)", "self.one(x.transpose(1, 2))"),
    ("self.one = nn.Conv2d(6, 3, 1)", "self.one(x.permute(0, 3, 1, 2))"),
    ("self.one = nn.Conv1d(4, 3, 1)", "self.one(x[:, 0].transpose(1, 2).transpose(2, 1))"),
    ("self.one = nn.Conv1d(6, 3, 1)", "self.one(x[:, 0].transpose(1, 2)).transpose(-1, 1)"),
    (CONV, "torch.cat([self.one(x), x.permute(0, 1, 2, 3)], 1).permute(0, 2, 3, 1)"),
    (CONV, "[self.one(x), x.permute(0, 3, 1, 2)]"),
    (CONV, "self.one(x).transpose(1, 2)"),
    (CONV, "self.one(x).permute(0, 2, 3, 1)[..., 0]"),
    ("self.one = nn.GroupNorm(1, 3); nn.init.normal_(self.one.weight)", "self.one(x)"),
    ("self.one = nn.PReLU(3); nn.init.normal_(self.one.weight)", "self.one(x)"),
    (
        "self.one = nn.Sequential(nn.PReLU(3), nn.ReLU()); self.three = nn.Conv2d(3, 3, 1)",
        "self.one(x)",
    ),
    (
        "self.one = nn.ChannelShuffle(3); self.three = nn.Conv2d(3, 3, 1)",
        "self.one(x) if self.two is None else self.three(self.one(x))",
    ),
    (CONV, "[self.one(i) for i in x.split(1)]"),
    (CONV, "(lambda t: self.one(t))(x)"),
    (CONV, "{'y': self.one(x)}['y']"),
    (CONV, "torch.stack([self.one(x), x]).sum(0)"),
    (CONV, "self.one(x).std((2, 3), True, True)"),
    (CONV, "self.one(x) @ x.transpose(2, 3)"),
    ("self.one = nn.MaxPool2d(2, return_indices=True)", "self.one(x)[0]"),
    ("self.one = nn.Sequential(nn.Flatten(2), nn.Conv1d(3, 3, 1))", "self.one(x)"),
)


@pytest.mark.filterwarnings("ignore:.*upsample")
@pytest.mark.parametrize(("setting", "calling"), HARD)
def test_what_is_hard_to_follow(setting, calling, tmp_path):
    """Right, whatever layout it gets."""
    source = (
        "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n\n\ndef apply(f, x):\n    return f(x)\n\n\n"
        "def make(kind):\n    return {'a': kind}['a'](3, 3, 1)\n\n\n"
        "def set_first(x: torch.Tensor):\n    x[:, 0] = 1.0\n    return x\n\n\n"
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        f"        self.two = nn.Linear(2, 2)\n        {setting}\n\n    def rest(self, layers):\n"
        "        layers.append(nn.Conv2d(3, 3, 1))\n\n"
        f"    def forward(self, x):\n        return {calling}\n"
    )
    torch.manual_seed(0)
    theirs, given = {"__name__": "theirs"}, torch.randn(2, 3, 4, 6)
    exec(source, theirs)
    net = theirs["Net"]()
    result = torch2mlx.port(source)
    assert result.ok, result.unsupported
    ours = executed(result.source, "hard").Net()
    give_weights(ours, net, tmp_path)
    expected, found = leaves(net(given.clone())), leaves(ours(to_mlx(given)))
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(np.array(other), one.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_parts_of_a_call_may_go_to_attributes():
    text = (
        "import torch.nn as nn\n\n\nclass Pair(nn.Module):\n"
        "    def __init__(self, made):\n        super().__init__()\n"
        "        self.first, self.second = made()\n        self.conv = nn.Conv2d(3, 4, 1)\n\n"
        "    def forward(self, x):\n        self.kept, self.other = x.chunk(2)\n"
        "        return self.conv(x)\n"
    )
    assert torch2mlx.port(text).ok
