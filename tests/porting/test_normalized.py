"""Weight norm and spectral norm in ported scripts: names, values and gradients over ten steps."""

import numpy as np
import pytest

from tests.porting.compare import executed
from tests.support import need

need("torch", "mlx.core", "libcst")

import mlx.core as mx
import mlx.nn as nn

import torch2mlx
from torch2mlx import kit

PROGRAM = """
import copy
{imports}
import torch
import torch.nn as nn


def numbers(shape, start):
    count = 1
    for size in shape:
        count = count * size
    return torch.sin(torch.arange(count).float() * 1.3 + start).reshape(shape)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = {wrap}(nn.Conv2d(2, {size}, 3, padding=1){more})
        self.up = {wrap}(nn.ConvTranspose2d({size}, 4, 2, stride=2, groups={groups}){more})
        self.body = nn.Sequential(nn.Flatten(), {wrap}(nn.Linear(4 * 64, 5){more}), nn.Tanh())
        self.last = {wrap}(nn.Linear(5, 1, bias=False){more})

    def forward(self, x):
        return self.last(self.body(self.up(torch.relu(self.conv(x)))))


model = Net()
state = model.state_dict()
for i, key in enumerate(sorted(state)):
    state[key] = numbers(state[key].shape, i) + 0.1
model.load_state_dict(state)
twin = {twin}
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
out = []
for step in range(10):
    x = numbers(({batch}, 2, 4, 4), step)
    loss = (model(x) - x.mean()).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    out.append(loss.item())
model.eval()
with torch.no_grad():
    x = numbers(({batch}, 2, 4, 4), 20)
    out += [model(x).sum().item(), model(x).sum().item(), twin.eval()(x).sum().item()]
    out += [v.abs().sum().item() for k, v in sorted(model.state_dict().items())]
keys = list(model.state_dict())
names = [n for n, p in model.named_parameters()]
{last}
"""
UTILS = "from torch.nn.utils import weight_norm, spectral_norm, remove_weight_norm"
FORMS = "from torch.nn.utils import parametrizations"
REMOVED = """
for layer in (model.conv, model.up, model.last):
    remove_weight_norm(layer)
names += sorted(n for n, p in model.named_parameters())
out.append(model(x).sum().item())
out.append(model.up.weight.sum().item())
"""
CASES = {
    "weight norm": (UTILS, "weight_norm", "", REMOVED),
    "weight norm of another axis": (UTILS, "weight_norm", ", dim=1", ""),
    "weight norm of the whole": (UTILS, "weight_norm", ', "weight", None', ""),
    "spectral norm": ("import torch.nn.utils as U", "U.spectral_norm", "", ""),
    "spectral norm, options": (UTILS, "spectral_norm", ", n_power_iterations=3, eps=1e-6", ""),
    "parametrized weight norm": (FORMS, "parametrizations.weight_norm", "", ""),
    "parametrized spectral norm": (FORMS, "parametrizations.spectral_norm", "", ""),
}


def _both(case, size, batch, groups, layout):
    imports, wrap, more, last = CASES[case]
    # torch cannot copy layers with hooks of its weight norm
    twin = "model" if wrap == "weight_norm" else "copy.deepcopy(model)"
    parts = {"twin": twin, "imports": imports, "wrap": wrap, "more": more, "last": last}
    text = PROGRAM.format(**parts, size=size, batch=batch, groups=groups)
    ported = torch2mlx.port(text, layout)
    assert ported.ok, ported.unsupported
    theirs = {}
    exec(compile(text, "<torch>", "exec"), theirs)
    return theirs, executed(ported.source, "normalized")


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("case", CASES)
def test_ten_steps_agree_with_torch(case):
    for size, batch, groups, layout in ((4, 3, 1, "mlx"), (2, 2, 2, "torch")):
        theirs, ours = _both(case, size, batch, groups, layout)
        assert ours.names == theirs["names"]
        assert ours.keys == theirs["keys"]
        np.testing.assert_allclose(ours.out, theirs["out"], rtol=2e-4, atol=2e-5)


def test_a_computed_weight_cannot_be_set_and_its_vectors_are_not_trained():
    layer = kit.normalized.parametrized_spectral_norm(nn.Linear(3, 2))
    with pytest.raises(ValueError, match="weight is computed from weight_orig and weight_v: set"):
        layer.weight = mx.zeros((2, 3))
    with pytest.raises(ValueError, match="weight of this Linear is computed already"):
        kit.normalized.weight_norm(layer)
    with pytest.raises(ValueError, match="Linear has no one array nothing that could be computed"):
        kit.normalized.weight_norm(nn.Linear(3, 2), "nothing")
    with pytest.raises(ValueError, match="weight of this Linear is not computed from others"):
        kit.normalized.remove(nn.Linear(3, 2))
    layer.unfreeze()
    assert set(layer.trainable_parameters()) == {"weight_orig", "bias"}


def test_what_is_removed_of_a_layer_leaves_its_class_and_weight():
    layer = nn.Linear(3, 2)
    weight = np.array(layer.weight)
    kit.normalized.weight_norm(layer)
    np.testing.assert_allclose(np.array(layer.weight), weight, rtol=1e-5, atol=1e-7)
    assert set(layer.parameters()) == {"weight_g", "weight_v", "bias"}
    kit.normalized.remove(layer)
    assert type(layer) is nn.Linear
    np.testing.assert_allclose(np.array(layer["weight"]), weight, rtol=1e-5, atol=1e-7)


def test_other_parametrizations_are_refused_by_name():
    for call in (
        "parametrizations.orthogonal(nn.Linear(3, 2))",
        "parametrize.remove_parametrizations(model, 'weight', leave_parametrized=False)",
    ):
        text = "import torch.nn as nn\nfrom torch.nn.utils import parametrizations, parametrize\n"
        text += f"x = {call}\n"
        ported = torch2mlx.port(text)
        assert [u.where for u in ported.unsupported] == ["torch.nn.utils." + call.partition("(")[0]]


SET = """
import torch
import torch.nn as nn
from torch.nn.utils import {wrap}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = {wrap}(nn.Conv1d(2, 3, 2))
        self.conv.weight.data.normal_(0, 0.01)

    def forward(self, x):
        return self.conv(x).sum()


def init(m):
    if m.__class__.__name__.find("Conv") != -1:
        m.weight.data.fill_(0.25)


net = Net()
net.conv.weight_{part}.data.copy_(torch.arange({size}).reshape(net.conv.weight_{part}.shape) + 1.0)
net.conv.bias.data.fill_(0.5)
net.eval()
x = torch.arange(12.0).reshape(2, 2, 3)
before = net(x).item()
net.apply(init)
held = net.conv.weight.sum().item()
after = net(x).item()
then = net.conv.weight.sum().item()
"""


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("wrap", "part", "size"), [("weight_norm", "g", 3), ("weight_norm", "v", 12)]
)
def test_a_weight_that_a_hook_computes_is_what_it_is_set_to_until_the_next_call(wrap, part, size):
    text = SET.format(wrap=wrap, part=part, size=size)
    made = torch2mlx.port(text)
    assert not made.unsupported
    theirs = {"__name__": "in_torch"}
    exec(text, theirs)
    ours = executed(made.source, "set_weight")
    for name in ("weight_g", "weight_v"):
        kit.weights.put(ours.net.conv, name, mx.array(getattr(theirs["net"].conv, name).detach()))
    assert ours.held == pytest.approx(theirs["held"])
    assert ours.after == pytest.approx(ours.before)
    assert theirs["after"] == pytest.approx(theirs["before"])
    assert ours.net(mx.array(theirs["x"].numpy())).item() == pytest.approx(
        theirs["after"], rel=1e-4
    )
    assert ours.net.conv.weight.sum().item() == pytest.approx(theirs["then"], rel=1e-4)
