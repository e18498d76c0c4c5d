"""Whole files of a few lines: what is ported computes what torch computes."""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.porting.compare import executed, give_weights
from tests.support import need

need("torch", "mlx.core", "libcst")

import mlx.core as mx
import torch

import torch2mlx
from torch2mlx import kit


def test_what_one_process_and_one_device_answer():
    """Switches of CUDA, questions about processes, generators, pictures: what is left means the
    same."""
    source = (
        "import torch\nimport torch.backends.cudnn as cudnn\nimport torch.distributed as dist\n"
        "from torch.nn.parallel import data_parallel\nfrom torchvision.utils import make_grid\n"
        "from torch.utils.data import Dataset, DataLoader\n\ncudnn.benchmark = True\n"
        "if torch.cuda.is_available():\n    cudnn.deterministic = True\n"
        "g = torch.Generator().manual_seed(3)\n"
        "rank = dist.get_rank() if dist.is_initialized() else 7\n\n\n"
        "class Dataset(Dataset):\n    def __len__(self):\n        return 2\n\n"
        "    def __getitem__(self, i):\n        return torch.full((3,), float(i))\n\n\n"
        "def run(model, x):\n"
        "    out = data_parallel(model, x, range(2)) if x.is_cuda or x.is_xpu else model(x)\n"
        "    dist.all_reduce(out, op=dist.ReduceOp.SUM)\n"
        "    total = (\n        out.sum()\n        + x.sum()\n    ).to('cpu')\n"
        "    batch = next(iter(DataLoader(Dataset(), batch_size=2)))\n"
        "    return total, make_grid(out.view(4, 1, 2, 2), nrow=2), batch.sum()\n"
    )
    result = torch2mlx.port(source)
    assert result.ok, result.unsupported
    ported = executed(result.source, "alone")
    total, grid, held = ported.run(lambda x: x * 2, mx.ones((4, 4)))
    assert (ported.rank, total.item(), grid.shape, held.item()) == (7, 48.0, (3, 10, 10), 3.0)


@pytest.mark.parametrize(
    ("pattern", "lengths", "shape"),
    [
        ("d -> b 1 d", {"b": 4}, (3,)),
        ("1 1 d -> b 1 d", {"b": 3}, (1, 1, 5)),
        ("h w -> (h 2) (w k)", {"k": 3}, (2, 3)),
        ("b ... d -> (b r) ... d", {"r": 2}, (2, 3, 4)),
        ("... d -> ... r d", {"r": 5}, (2, 3, 4)),
        ("(a b) c -> a k b c", {"a": 2, "k": 3}, (6, 4)),
        ("-> b", {"b": 3}, ()),
        ("b n -> b h n 1", {"h": 2}, (2, 3)),
        ("b (h e) d -> b h (e k d)", {"e": 4, "k": 2}, (2, 8, 3)),
    ],
)
def test_einops_repeat(pattern, lengths, shape):
    einops = pytest.importorskip("einops")
    x = np.asarray(np.random.RandomState(0).rand(*shape), np.float32)
    expected = einops.repeat(x, pattern, **lengths)
    np.testing.assert_array_equal(kit.patterns.repeat(mx.array(x), pattern, **lengths), expected)


def test_einops_layers_and_unpacked_maps():
    pytest.importorskip("einops")
    source = (
        "import torch\nfrom torch import nn\nfrom einops import rearrange, repeat\n"
        "from einops.layers.torch import Rearrange, Reduce\n\n\n"
        "class Attention(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.cut = Rearrange('b c (h p) w -> b (h w) (p c)', p=2)\n"
        "        self.pool = Reduce('b n d -> b d', 'mean')\n\n"
        "    def forward(self, img):\n"
        "        qkv = self.cut(img).chunk(3, dim=-1)\n"
        "        q, k, v = map(lambda t: rearrange(t, 'b n (h d) -> b h n d', h=2), qkv)\n"
        "        dots = torch.matmul(q, k.transpose(-1, -2))\n"
        "        out = rearrange(dots.softmax(dim=-1) @ v, 'b h n d -> b n (h d)')\n"
        "        kept = rearrange(out, 'b n d -> (b n) d')\n"
        "        mask = rearrange(out.sum(dim=-1) > out.sum(dim=-1).mean(), 'b n -> (b n)')\n"
        "        some = kept[mask].sum(dim=0)\n"
        "        return self.pool(out) + repeat(out[0, 0] + some, 'd -> b d', b=out.shape[0])\n"
    )
    result = torch2mlx.port(source)
    assert result.ok, result.unsupported
    assert "einops.layers" not in result.source
    theirs = {}
    exec(compile(source, "<torch>", "exec"), theirs)
    img = np.random.RandomState(0).rand(2, 6, 4, 3).astype(np.float32)
    expected = theirs["Attention"]()(torch.from_numpy(img))
    found = executed(result.source, "attention").Attention()(mx.array(img))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_arguments_by_name_and_forwards_by_name():
    """Layers whose arguments have other names in MLX, a parent's forward, parts of functions."""
    source = (
        "from functools import partial\nimport torch\nimport torch.nn as nn\n\n\n"
        "class Base(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.one = nn.Linear(in_features=3, out_features=4, bias=False)\n"
        "        self.two = nn.Bilinear(in1_features=4, in2_features=4, out_features=2)\n\n"
        "    def forward(self, x):\n        y = self.one(x)\n        return self.two(y, y)\n\n\n"
        "class Net(Base):\n    def forward(self, x):\n"
        "        a, b = super().forward(x), super(Net, self).forward(x)\n"
        "        c, d = Base.forward(self, x), self.one.forward(x)\n"
        "        join = partial(torch.cat, dim=-1)\n"
        "        total = partial(torch.sum, dim=1, keepdim=True)\n"
        "        both = map(join, ((a, b), (c, d)))\n"
        "        return [*both, total(d)]\n"
    )
    result = torch2mlx.port(source)
    assert result.ok, result.unsupported
    theirs: dict = {"__name__": "theirs"}
    exec(source, theirs)
    torch.manual_seed(0)
    net, ours = theirs["Net"](), executed(result.source, "named").Net()
    ours.one.weight = mx.array(net.one.weight.detach().numpy())
    ours.two.weight = mx.array(net.two.weight.detach().numpy())
    ours.two.bias = mx.array(net.two.bias.detach().numpy())
    x = torch.randn(5, 3)
    for one, other in zip(net(x), ours(mx.array(x.numpy())), strict=True):
        np.testing.assert_allclose(np.array(other), one.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_forward_hooks():
    """They see, and may change, what goes in and comes out, until they are removed."""
    source = (
        "import torch\nimport torch.nn as nn\n\n\nclass Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())\n"
        "        self.seen = []\n        self.body[0].register_forward_hook(self.note)\n"
        "        self.handle = self.body.register_forward_hook(lambda m, a, y: y * 2)\n\n"
        "    def note(self, module, args, output):\n"
        "        self.seen.append((args[0].shape, output.mean(dim=1)))\n\n"
        "    def forward(self, x):\n        return self.body(x)\n\n\n"
        "def run(net: Net, x):\n"
        "    before = net.register_forward_pre_hook(lambda m, args: (args[0] + 1,))\n"
        "    doubled = net(x)\n    net.handle.remove()\n    before.remove()\n"
        "    return doubled, net(x), net.seen[0][1], net.seen[1][1], net.seen[0][0]\n"
    )
    result = torch2mlx.port(source)
    assert result.ok, result.unsupported
    theirs: dict = {"__name__": "theirs"}
    exec(source, theirs)
    torch.manual_seed(0)
    made = executed(result.source, "hooked")
    net, ours = theirs["Net"](), made.Net()
    layer = ours.body.layers[0]
    layer.weight = mx.array(net.body[0].weight.detach().permute(0, 2, 3, 1).numpy())
    layer.bias = mx.array(net.body[0].bias.detach().numpy())
    assert isinstance(layer, kit.Conv2d) and sorted(layer.parameters()) == ["bias", "weight"]
    x = torch.randn(2, 3, 4, 5)
    expected, found = theirs["run"](net, x), made.run(ours, mx.array(x.numpy()))
    assert tuple(expected[-1]) == tuple(found[-1])
    for one, other in zip(expected[:-1], found[:-1], strict=True):
        np.testing.assert_allclose(np.array(other), one.detach().numpy(), rtol=1e-5, atol=1e-6)


LOADING = """\
import torch
from torch.utils.data import DataLoader, Dataset


class Squares(Dataset):
    def __len__(self):
        return 23

    def __getitem__(self, i):
        if i == 22 and self.fails:
            raise ValueError("item 22")
        return torch.arange(4.0) * i + 1, {"at": i % 3}

    fails = False


def run(fails=False, seen=None):
    data = Squares()
    data.fails = fails
    loader = DataLoader(data, batch_size=4, num_workers=3, pin_memory=True, prefetch_factor=2)
    total = []
    for x, told in loader:
        total.append((x.sum().item(), told["at"].sum().item()))
        if len(total) == seen:
            break
    return total
"""


def test_workers_are_threads_of_mlx_data():
    """The same batches in the same order; what fails in a thread is told; a loop may end early."""
    pytest.importorskip("mlx.data", reason="mlx-data has no wheel for this Python")
    result = torch2mlx.port(LOADING, data="mlx-data")
    assert result.ok and "kit.streams.DataLoader(data, batch_size=4, num_workers=3" in result.source
    ours, plain = (
        executed(result.source, "streams"),
        executed(torch2mlx.port(LOADING).source, "kit"),
    )
    theirs: dict = {"__name__": "theirs"}
    exec(LOADING, theirs)
    data = theirs["Squares"]()
    batches = [[data[i] for i in range(k, min(k + 4, 23))] for k in range(0, 23, 4)]
    expected = [(sum(x.sum().item() for x, _ in b), sum(t["at"] for _, t in b)) for b in batches]
    assert ours.run() == plain.run() == expected
    assert ours.run(seen=2) == expected[:2]
    with pytest.raises(ValueError, match="item 22"):
        ours.run(fails=True)
    with pytest.raises(ValueError, match="data="):
        torch2mlx.port(LOADING, data="tf.data")


def test_places_and_methods_of_what_numpy_and_unknown_objects_give():
    """Arrays of numpy as places of tensors, and tensors known by a method that only they have,
    in functions and outside of them."""
    lines = (
        "order = np.arange(n)[::-1].copy()\n"
        "clipped = box.values.clamp(-1, 1)\n"
        "scaled = clipped / box.step\n"
        "low, high = scaled.floor(), scaled.ceil()\n"
        "taken = clipped[order[1:]] + low[order[:-1], 0:1]\n"
        "high[order[:2]] = 7.0\n"
    )
    inner = "".join(f"    {line}\n" for line in lines.splitlines())
    source = (
        "import numpy as np\nimport torch\n\nn = box.values.shape[0]\n"
        f"{lines}\n\ndef f(box, n):\n{inner}    return taken, high\n"
    )
    result = torch2mlx.port(source)
    assert result.ok, result.unsupported
    assert not any(".floor()" in line for line in result.source.splitlines())
    for rows, columns in ((3, 2), (5, 4)):
        values = torch.randn(rows, columns)
        theirs = {"box": SimpleNamespace(values=values, step=0.5)}
        exec(compile(source, "<torch>", "exec"), theirs)
        ours = {"box": SimpleNamespace(values=mx.array(values.numpy()), step=0.5)}
        exec(compile(result.source, "<mlx>", "exec"), ours)
        expected = [theirs["taken"], theirs["high"], *theirs["f"](theirs["box"], rows)]
        found = [ours["taken"], ours["high"], *ours["f"](ours["box"], rows)]
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_allclose(np.array(other), one.numpy(), rtol=1e-5, atol=1e-6)


def test_a_layer_by_a_name_that_an_if_tells(tmp_path):
    """The arguments are ported for each class that it may be; names that nothing tells, or that
    change, are refused."""
    source = (
        "import torch\nimport torch.nn as nn\n\n\nclass Net(nn.Module):\n"
        "    def __init__(self, kind):\n        super().__init__()\n"
        "        if kind in ['LSTM', 'GRU']:\n"
        "            self.body = getattr(nn, kind)(3, 4, batch_first=True)\n"
        "        else:\n"
        "            self.body = nn.RNN(3, 4, nonlinearity=kind, batch_first=True)\n\n"
        "    def forward(self, x):\n        return self.body(x)[0]\n"
    )
    result = torch2mlx.port(source)
    assert result.ok, result.unsupported
    theirs: dict = {}
    exec(source, theirs)
    for kind, batch in (("LSTM", 2), ("GRU", 3), ("relu", 1)):
        net, ours = theirs["Net"](kind), executed(result.source, f"told_{kind}").Net(kind)
        give_weights(ours, net, tmp_path)
        x = torch.randn(batch, 5, 3)
        np.testing.assert_allclose(ours(mx.array(x.numpy())), net(x).detach().numpy(), atol=1e-5)
    for other in ("if kind:", "if kind in names:"):
        assert not torch2mlx.port(source.replace("if kind in ['LSTM', 'GRU']:", other)).ok
    changed = source.replace(
        "            self.body = getattr",
        "            kind = kind.upper()\n            self.body = getattr",
    )
    assert not torch2mlx.port(changed).ok


def test_flip_tells_that_its_owner_is_a_tensor():
    source = "import torch\nflipped = box.digits.flip(1)\n"
    result = torch2mlx.port(source)
    digits = torch.arange(6).reshape(2, 3)
    theirs, ours = ({"box": SimpleNamespace(digits=d)} for d in (digits, mx.array(digits.numpy())))
    exec(source, theirs)
    exec(result.source, ours)
    np.testing.assert_array_equal(np.array(ours["flipped"]), theirs["flipped"].numpy())
