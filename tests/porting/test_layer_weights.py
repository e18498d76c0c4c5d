"""Ported code that goes by torch's names and layouts of layers' weights, and by their options."""

import numpy as np
import pytest

from tests.porting.compare import both
from tests.support import need

need("torch", "mlx", "libcst")

import mlx.core as mx
import mlx.nn
import torch

import torch2mlx
from torch2mlx import kit

HEAD = """from collections import OrderedDict
import torch
import torch.nn as nn
import torch.nn.functional as F
X = torch.arange(48.0).view(2, 2, 3, 4) / 48
P = torch.arange(24.0).view(3, 2, 2, 2) / 24
S = torch.arange(24.0).view(2, 3, 4) / 24
"""
#: Code that puts in OUT what does not depend on random numbers.
CASES = {
    "read": """
        c = nn.Conv2d(2, 3, 2)
        nn.init.constant_(c.bias, 0.5)
        c.weight.data.copy_(P)
        OUT = [c(X), c.weight, c.weight[0], c.weight.sum((2, 3)), c.weight.transpose(0, 1),
               torch.tensor(list(c.weight.shape)), torch.tensor(c.weight.size(1)),
               F.conv2d(X, c.weight * 2, c.bias), c.weight.view(3, -1).norm(dim=1)]""",
    "copied, broadcast": """
        c = nn.Conv2d(2, 3, 2, bias=False)
        with torch.no_grad():
            c.weight.copy_(P[:, :1])
        OUT = [c(X), c.weight]""",
    "another array": """
        c = nn.Conv2d(2, 3, 2, bias=False)
        c.weight = nn.Parameter(torch.ones(5, 2, 1, 1))
        OUT = [c(X)]""",
    "data of another array": """
        c = nn.ConvTranspose2d(2, 3, 2, bias=False)
        c.weight.data = P.transpose(0, 1).contiguous()
        OUT = [c(X), c.weight]""",
    "parts": """
        c = nn.Conv2d(2, 3, 2, bias=False)
        c.weight.data.fill_(1.0)
        c.weight.data[0, 1] = 3.0
        c.weight.data[1] *= 2
        c.weight.data[2, :, 0].mul_(4).add_(1)
        c.weight.data[0, 0].zero_()
        with torch.no_grad():
            c.weight[1, 0] += P[0, 0]
        OUT = [c(X), c.weight]""",
    "scaled": """
        c = nn.Conv2d(2, 3, 2, bias=False)
        c.weight.data.copy_(P)
        c.weight.data *= 2
        c.weight.data.mul_(3).sub_(1)
        with torch.no_grad():
            c.weight /= c.weight.abs().amax((1, 2, 3), keepdim=True)
        OUT = [c(X), c.weight]""",
    "eyes and slopes": """
        c = nn.Conv1d(2, 2, 1, bias=False)
        c.weight = nn.Parameter(torch.eye(2)[:, :, None])
        b = nn.Bilinear(2, 3, 4, bias=False)
        b.weight = nn.Parameter(torch.arange(24.0).view(4, 2, 3))
        OUT = [c(S[:, :2]), b(S[0, :, :2], S[0, :, 1:])]""",
    "a recurrent layer": """
        r = nn.LSTM(4, 2, 2, batch_first=True, bidirectional=True)
        for name, p in r.named_parameters():
            if "weight" in name:
                nn.init.constant_(p, 0.25 if "reverse" in name else 0.125)
            else:
                p.data.fill_(0)
                n = p.size(0)
                p.data[n // 4 : n // 2].fill_(1.0)
                p.data[: n // 4] = p.data[n // 4 : n // 2] * 0.5
        r.bias_hh_l1_reverse.data[2:4].fill_(2.0)
        nn.init.ones_(r.weight_hh_l0)
        r.weight_ih_l1.data *= 0.5
        OUT = [r(S)[0], r.bias_ih_l0, torch.tensor(r.hidden_size * r.num_layers)]
        OUT += [torch.tensor(float(len(list(r.parameters()))))]""",
    "a cell by hand": """
        g = nn.GRUCell(4, 2)
        for p in g.parameters():
            p.data.fill_(0.5)
        x, h = S[0], torch.ones(3, 2)
        gi = F.linear(x, g.weight_ih, g.bias_ih)
        gh = F.linear(h, g.weight_hh, g.bias_hh)
        OUT = [g(x, h), gi + gh]""",
    "an attention": """
        a = nn.MultiheadAttention(4, 2, batch_first=True)
        nn.init.constant_(a.in_proj_weight, 0.25)
        a.in_proj_weight.data[:4] = torch.eye(4)
        nn.init.ones_(a.in_proj_bias)
        nn.init.eye_(a.out_proj.weight)
        q, k, v = a.in_proj_weight.chunk(3)
        OUT = [a(S, S, S)[0], q, v, a.in_proj_bias]""",
    "names": """
        m = nn.Sequential(OrderedDict([("conv", nn.Conv2d(2, 3, 1)), ("act", nn.ReLU())]))
        m.add_module("two", nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten()))
        for i, (n, p) in enumerate(m.named_parameters()):
            p.data.fill_(i + len(n))
        sizes = {n: p.numel() for n, p in m.named_parameters()}
        OUT = [m(X), torch.tensor(sizes["two.0.weight"]), m.conv(X), m.act(X), m[0].weight]
        OUT += [torch.tensor([len(n) for n, _ in m.named_modules()])]
        OUT += [torch.tensor([len(n) for n, _ in m.named_children()])]""",
    "a state dict": """
        m = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Conv2d(3, 2, 2))
        state = m.state_dict()
        for i, (key, value) in enumerate(state.items()):
            state[key] = torch.full_like(value, 1.0 + i)
        state["0.weight"] = state["0.weight"] * P
        m.load_state_dict(state)
        m.load_state_dict({k: v for k, v in state.items() if k.startswith("1.")}, strict=False)
        OUT = [m(X)] + [m.state_dict()[k] for k in sorted(state)]""",
    "parts of a network": """
        m = nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2))
        for p in m.parameters():
            p.data.fill_(0.1)
        features = nn.Sequential(*list(m.children())[:-1])
        head = nn.Linear(m[-1].in_features, m[-1].out_features + 1)
        nn.init.ones_(head.weight)
        nn.init.zeros_(head.bias)
        OUT = [features(X), head(features(X)), m[:2](X)]""",
    "options": """
        c, t = nn.Conv2d(4, 6, (3, 2), 2, 1, groups=2), nn.ConvTranspose1d(2, 3, 3)
        n, e = nn.BatchNorm2d(3), nn.Embedding(7, 3)
        d = nn.Dropout(0.25)
        n.momentum = 0.5
        n.eps = 0.1
        d.p = 0.0
        OUT = [torch.tensor(float(v)) for v in (
            c.kernel_size[0] * c.kernel_size[1] * c.out_channels, c.in_channels, c.stride[1],
            c.padding[0], c.groups, c.dilation[0], t.out_channels, t.kernel_size[0],
            n.num_features, n.eps, n.momentum, e.num_embeddings, e.embedding_dim, d.p)]
        OUT += [n(X.repeat(1, 2, 1, 1)[:, :3]), n.running_mean, d(X)]""",
    "by class": """
        m = nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(18, 2))
        def start(m):
            if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)):
                m.weight.data.fill_(1 / (m.kernel_size[0] * m.in_channels))
                m.weight.data[:, 0] = 0.5
            elif isinstance(m, nn.Linear) and m.in_features == 18:
                m.weight.data.fill_(1 / m.in_features)
            if hasattr(m, "bias") and m.bias is not None:
                m.bias.data.zero_()
        m.apply(start)
        OUT = [m(X)]""",
    "averages": """
        m, e = nn.Conv2d(2, 3, 2), nn.Conv2d(2, 3, 2)
        with torch.no_grad():
            m.weight.copy_(P)
            e.weight.copy_(P * 3)
            for p, q in zip(m.parameters(), e.parameters()):
                p.data.fill_(0.5) if p.dim() == 1 else None
                q.data.fill_(0.5) if q.dim() == 1 else None
            for p, q in zip(m.parameters(), e.parameters()):
                q.data.mul_(0.9).add_(p.data, alpha=0.1)
        OUT = [e(X), e.weight]""",
}


def out_of(source):
    scope = {}
    exec(source, scope)
    return scope["OUT"]


def dedented(text):
    return "\n".join(line[8:] for line in text.splitlines())


@pytest.mark.parametrize("layout", ["torch", "mlx"])
@pytest.mark.parametrize("case", CASES)
def test_values_agree(case, layout):
    source = f"{HEAD}{dedented(CASES[case])}\n"
    result = torch2mlx.port(source, layout=layout)
    assert not result.unsupported, result.source
    theirs, ours = out_of(source), out_of(result.source)
    assert len(theirs) == len(ours)
    for one, other in zip(theirs, ours, strict=True):
        expected = one.detach().numpy()
        assert tuple(other.shape) == expected.shape
        assert np.allclose(np.array(other), expected, atol=1e-5)


MASKED = """
import torch
import torch.nn as nn
import torch.nn.functional as F


class MaskedConv2d(nn.Conv2d):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        _, _, height, width = self.weight.size()
        mask = torch.ones_like(self.weight)
        mask[:, :, height // 2, width // 2 :] = 0
        mask[:, :, height // 2 + 1 :] = 0
        self.register_buffer("mask", mask)

    def forward(self, x):
        self.weight.data *= self.mask
        return super().forward(x)


class Standardised(nn.Conv2d):
    def forward(self, x):
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, w, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Bounded(nn.Conv2d):
    def forward(self, x):
        with torch.no_grad():
            self.weight.div_(self.weight.abs().amax((1, 2, 3), keepdim=True))
            self.weight.copy_(self.weight * 2)
        return super().forward(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = MaskedConv2d(2, 4, 3, padding=1)
        self.two = Standardised(4, 3, (3, 2), padding=1)
        self.three = Bounded(3, 2, 2)

    def forward(self, x):
        return self.three(self.two(torch.relu(self.one(x))))
"""


@pytest.mark.parametrize("size", [(2, 2, 5, 6), (1, 2, 4, 3)])
def test_subclasses_of_convolutions_learn_alike(size):
    theirs, ours = {}, {}
    exec(MASKED, theirs)
    result = torch2mlx.port(MASKED)
    assert result.ok, result.source
    exec(result.source, ours)
    torch.manual_seed(0)
    net, twin = theirs["Net"](), ours["Net"]()
    state = {k: mx.array(v.numpy()) for k, v in net.state_dict().items()}
    kit.files.load_state_dict(twin, state)
    x = np.random.default_rng(0).normal(size=size).astype(np.float32)
    there = net(torch.tensor(x))
    here = twin(mx.array(x))
    assert np.allclose(np.array(here), there.detach().numpy(), atol=1e-5)
    there.square().mean().backward()

    def loss(x):
        return twin(x).square().mean()

    found = mlx.nn.value_and_grad(twin, loss)(mx.array(x))[1]
    for name, p in net.named_parameters():
        gradient = kit.training.gradient(found, name, twin)
        assert np.allclose(np.array(gradient), p.grad.numpy(), atol=1e-5), name


def test_first_weights_are_drawn_with_torchs_fans():
    source = """
import torch
import torch.nn as nn

convs = [nn.Conv2d(3, 64, (5, 3)), nn.ConvTranspose2d(3, 64, (5, 3)), nn.Conv1d(4, 99, 7)]
for c in convs:
    nn.init.{name}(c.weight)
net = nn.Sequential(nn.Conv2d(3, 64, (5, 3)))
for p in net.parameters():
    if p.dim() > 1:
        nn.init.{name}(p)
OUT = [*(c.weight for c in convs), net[0].weight]
"""
    for name in ("xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_"):
        text = source.replace("{name}", name)
        result = torch2mlx.port(text)
        assert result.ok, result.source
        for one, other in zip(out_of(text), out_of(result.source), strict=True):
            assert one.shape == other.shape
            assert np.std(np.array(other)) == pytest.approx(one.std().item(), rel=0.15), name


#: The same of a network whose layers are known by its class, by a function's argument, by a name.
NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, padding=1)
        self.convs = nn.ModuleList([nn.Conv2d(6, 6, 3, padding=1) for _ in range(2)])
        self.head = nn.Sequential(nn.Conv2d(6, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5))
        self.rnn = nn.GRU(5, 3, batch_first=True)

    def forward(self, x):
        x = F.relu(self.conv(x))
        for c in self.convs:
            x = c(x)
        return self.rnn(self.head(x)[:, None])[0]


def fill(m):
    with torch.no_grad():
        for i, (n, p) in enumerate(m.named_parameters()):
            p.copy_(torch.arange(float(p.numel())).view(p.shape) / p.numel() - 0.3 + 0.01 * i)
    return m


model = fill(Net())
"""
OF_NETWORKS = {
    "another name": """
        w = model.conv.weight
        w.data.fill_(0.25)
        v = model.convs[0].weight
        v.data[:, 0] = 0.5
        with torch.no_grad():
            v += 0.125
        OUT = [model(X), model.conv.weight, model.convs[0].weight]""",
    "in a dict": """
        params = dict(model.named_parameters())
        params["conv.weight"].data.fill_(0.25)
        own = model.state_dict()
        for name in ("convs.0.weight", "rnn.weight_ih_l0"):
            own[name].copy_(torch.ones_like(own[name]) / 8)
        OUT = [model(X), model.conv.weight]""",
    "a list": """
        ps = list(model.parameters())
        OUT = [ps[0], ps[4], ps[-1], torch.tensor(len(ps))]""",
    "an argument": """
        def reset(layer):
            count, inputs = layer.weight[0].numel(), layer.weight.size(1)
            layer.weight.data.fill_(1.0 / count)
            return inputs
        n = reset(model.conv)
        OUT = [model(X), torch.tensor(n)]""",
    "by its type": """
        for m in model.modules():
            if type(m) == nn.Conv2d:
                m.weight.data[:, 0] = 1.0 / m.kernel_size[0]
        OUT = [model(X)]""",
    "by its name": """
        for i in range(2):
            for kind in ("weight_ih", "bias_hh"):
                getattr(model.rnn, f"{kind}_l0").data.fill_(0.5)
        front = model.get_submodule("convs.1")
        OUT = [model(X), front.weight, model.get_parameter("conv.weight")]""",
    "other layers": """
        old = model.head[3]
        new = nn.Linear(old.in_features, old.out_features + 2)
        new.weight.data.zero_()
        new.bias.data.zero_()
        new.weight.data[: old.out_features] = old.weight.data
        new.bias.data[: old.out_features].copy_(old.bias.data)
        flat = nn.Linear(18, 6)
        flat.weight.data = model.conv.weight.data.view(6, -1)
        flat.bias.data = model.conv.bias.data.clone()
        OUT = [new(torch.ones(2, 48)), flat(torch.ones(1, 18))]""",
    "an average": """
        kept = copy.deepcopy(model)
        state = kept.state_dict()
        for key, value in model.state_dict().items():
            if value.dtype.is_floating_point and value.dim() > 0:
                state[key] = state[key] * 0.9 + (value + 1) * 0.1
        kept.load_state_dict(state)
        OUT = [kept(X), kept.conv.weight]""",
    "an encoder": """
        e = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True), 2)
        fill(e)
        e.layers[1].linear1.weight.data.fill_(0.1)
        e.layers[0].norm1.weight.data.mul_(2)
        OUT = [e.eval()(S), e.layers[0].self_attn.in_proj_weight]
        OUT += [torch.tensor(len(list(e.parameters())))]""",
}


@pytest.mark.parametrize("case", OF_NETWORKS)
def test_values_of_networks_agree(case):
    source = f"import copy\n{HEAD}{NET}{dedented(OF_NETWORKS[case])}\n"
    result = torch2mlx.port(source)
    assert not result.unsupported, result.source
    theirs, ours = out_of(source), out_of(result.source)
    for one, other in zip(theirs, ours, strict=True):
        assert np.allclose(np.array(other), one.detach().numpy(), atol=1e-4), result.source


def test_a_weight_that_was_set_since_it_was_read_is_not_written_to():
    layer = kit.Conv2d(2, 3, 5)
    view = kit.weights.get(layer, "weight")
    view[0] = 1.0
    assert np.array_equal(np.array(layer.weight[0]), np.ones((5, 5, 2)))
    layer.weight = layer.weight * 2
    with pytest.raises(RuntimeError, match="read it again"):
        view[0] = 3.0


def test_parts_of_weights_are_not_set_where_gradients_are_taken():
    source = f"""{HEAD}
class Own(nn.Conv2d):
    def forward(self, x):
        self.weight.data[:, :, 0] = 0
        return super().forward(x)
"""
    (told,) = torch2mlx.port(source).unsupported
    assert "a part of a weight" in told.reason
    assert told.line == source.splitlines().index("        self.weight.data[:, :, 0] = 0") + 1


def test_reports_say_the_lines_of_steps_where_weights_are_read():
    source = """import torch
import torch.nn as nn

net = nn.Linear(3, 2)
print(net.weight.shape, net.in_features)
opt = torch.optim.SGD(net.parameters(), lr=0.1)


def first(x):
    loss = net(x).sum()
    loss.backward()


def second(x):
    loss = net(x).square().sum()
    loss.backward()


for x in torch.randn(4, 2, 3):
    opt.zero_grad()
    loss = net(x).mean()
    loss.backward()
    opt.step()
"""
    ported = torch2mlx.port(source)
    assert [one.line for one in ported.unsupported] == [11, 16]
    assert {change.what: change.line for change in ported.changes if change.line > 19} == {
        **{"zero_grad": 20, ".mean": 21, "backward": 22, "step": 23},
    }
    assert all(change.line > 0 for change in ported.changes)


DELETED = """
import torch
import torch.nn as nn

made = []
for layer in (nn.Conv2d(2, SIZE, 3), nn.Linear(2, SIZE)):
    shape = layer.weight.shape
    values = torch.sin(torch.arange(layer.weight.numel()).float()).reshape(shape)
    del layer.weight; layer.weight = nn.Parameter(values)
    nn.init.zeros_(layer.bias)
    made.append(layer)
conv, x = made[0], torch.cos(torch.arange(150.0)).reshape(3, 2, 5, 5)
del conv.weight
conv.weight = nn.Parameter(torch.sin(torch.arange(SIZE * 18.0)).reshape(SIZE, 2, 3, 3))
opt = torch.optim.SGD(conv.parameters(), lr=0.01)
out = []
for i in range(3):
    opt.zero_grad()
    loss = conv(x).pow(2).mean()
    loss.backward()
    opt.step()
    out.append(loss.item())
out += made[1](torch.ones(1, 2)).flatten().tolist()
"""


@pytest.mark.parametrize("size", [3, 4])
def test_weights_that_are_deleted_are_set_anew(size):
    text = DELETED.replace("SIZE", str(size))
    ours, theirs = both(text, "deleted")
    np.testing.assert_allclose(ours.out, theirs["out"], rtol=1e-4, atol=1e-5)


def test_weights_of_other_names_that_are_deleted_are_refused_by_name():
    text = "import torch.nn as nn\nlstm = nn.LSTM(2, 3)\ndel lstm.weight_hh_l0; print(1)\n"
    assert ["del of weight_hh_l0" in u.reason for u in torch2mlx.port(text).unsupported] == [True]
