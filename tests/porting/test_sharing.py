"""Tensors that have several names, changed in place: all of them see it in MLX too, or the line
is refused."""

import numpy as np
import pytest

from tests.porting.compare import executed
from tests.support import need

need("torch", "mlx.core", "libcst")

import mlx.core as mx
import torch

import torch2mlx
from torch2mlx.errors import Code

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n\n\n"
#: Bodies of functions of x, a matrix; what they return and what x is then are compared.
RIGHT = """\
x.add_(1); return x.sum()
x.clamp_(-0.5, 0.5)
k = x; x.mul_(2); return k + x
k = x.add_(1); return k + x
y = x.add_(1).mul_(3); return x, y
y = x * 2; k = y.neg_(); return k + y
y = x * 2; return y.exp_().add_(1), y
y = torch.relu_(x); return x + y
return x + torch.relu_(x)
x = F.relu(x, inplace=True); return x
k = x; x = torch.sigmoid_(x); return k * x
y = x.add_(1) if x.ndim == 2 else x; return x + y
return [torch.exp_(v) for v in (x, x * 2)]
xs = [x, x * 2]; [v.neg_() for v in xs]; return xs[0] + xs[1]
h = x * 0; kept = []; [(h.add_(i), kept.append(h)) for i in range(3)]; return torch.stack(kept)
d = {"a": x}; d["a"].mul_(3); return d["a"] + x
pair = (x, x + 1); pair[0].sub_(1); return pair[0] * pair[1]
y = x.clone(); y.add_(1); return x + y
y = x[0].clone(); y.mul_(4); return x[1] + y
y = x * 1; a, b = y.chunk(2, dim=1); a.sigmoid_(); b.tanh_(); return a + b
y = (x * 2).view(-1); y.add_(1); return y
y = x * 2; y[0].add_(5); return y
f = lambda t: t.mul_(2); return f(x) + x
y = x * 2; y = y.t(); y.neg_(); return y
x.copy_(x * 3); return x
xs = [x, x * 2]; [None for _ in xs]; for a, b in zip(xs, [x * 3, x]):;  a.lerp_(b, 0.5); return xs
xs = [x, x * 2]; for i, a in enumerate(xs):;  a.sub_(i + 1); return xs
xs = [x, x * 2]; for a in reversed(list(xs)):;  a.neg_(); return x + xs[1]
y = x + 1; y.copy_(x[0]); return y
a = b = x * 1; a.add_(1); return a + b
a, b = x, x * 2; a.add_(1); return x + b
h = x * 2; keep = [h for _ in range(2)]; h.mul_(3); return keep[0] + keep[1]
h = x * 2; keep = dict(h=h); h.mul_(3); return keep["h"]
h = x * 2; g = lambda: h; h.mul_(3); return g()
torch.add(x, 1, out=x); return x
y = x * 1; z = torch.mul(x, 2, out=y); return y + z
x.masked_fill_(x > 0, 7.0); return x
x.data += 1; return x
x.data.add_(1); return x
x[0], x[1] = x[1].clone(), x[0].clone(); return x
y = (x * 2).numpy(); y.fill(3); return torch.from_numpy(y) + x
x[0][1] = 5.0; x.data[1] = 2.0; return x
V = lambda *args, **more: torch.autograd.Variable(*args, **more); return V(x) + 1
x[0][1] += 5; x[1][0] *= 3; x[-1][1:] = 4.0; return x
for i in range(2):;  x[i][1 - i] = i; return x
x[0:2][1] = 7.0; x.data[1][0] -= 2; x[0][1].fill_(3); x[0][:1].add_(1); return x
x[torch.tensor(1)][0] = 5.0; x[torch.tensor([0, 1])][0] = 7.0; return x
x[1][x[1] > 0] = 0.5; x[x > 9][:1] = 3.0; return x
rows = [x, x * 2]; rows[1][0][1] = 6.0; rows[0][0] = 1.0; return rows
def g(v, i):;  v[i][0] -= 4;  v[i][1] = 2;  return v; return g(x, 1), g([[1, 2], [3, 4]], 1)
y = x if x.ndim == 2 else x * 2; y.add_(1); return x
y = nn.Identity()(x); y.add_(1); return x
y = F.dropout(x, 0.5, False); y.add_(1); return x
y = x * 2; y.unsqueeze_(0); return y
y = x * 2; y.t_(); y.mul_(2); return y
y = x; del x; y.add_(1); return y
y = x.float(); y = y + 1; return x + y
for i in range(3):;  x.add_(1);  if i: v = x[1];  else: v = x[0] * 2;  x = x + v; return x
for i in range(3):;  x[0] = i;  if i: v, k = x.max(0);  else: v = x[1];  x = x + v; return x
"""
REFUSED = """\
x.view(-1).add_(1); return x
k = x.view(-1).add_(1); return k + x.view(-1)
m = x.detach().clamp_(0, 1); return m + x
q = x[0]; q.add_(5); return x
q = x[0]; q += 5; return x
q = x[:, 0]; q[0] = 5.0; return x
a = x[:, 0]; b = x[:, 1]; x[:, 0] = b; x[:, 1] = a; return x
a = x[:, 0]; x.add_(1); return a
a = x.t(); x += 1; return a
a, b = x.chunk(2, dim=1); a.sigmoid_(); return x
y = x * 2; v = y.view(-1); v.neg_(); return y
return x[0].add_(1) + x[0]
m = x > 0; x[m].add_(1); return x
y = x.view(-1); z = F.elu_(y); return z + x.view(-1)
y = x.unsqueeze_(0); return x.sum(0) + y.sum(0)
y = x; y.t_(); return x
y = x[0]; z = y; z.add_(1); return x
y = x.view(-1); z = y[0:2]; z.zero_(); return x
rows = list(x); rows[0].add_(1); return x
rows = [r for r in x]; rows[0].add_(1); return x
rows = x.unbind(0); rows[0].add_(1); return x
x[0], x[1] = x[1], x[0]; return x
y = x.float(); y.add_(1); return x
y = x.to(torch.float32); y.add_(1); return x
n = x.detach().numpy(); n += 1; return x
y = torch.as_tensor(x); y.add_(1); return x
v = x[0]; for i in range(2):;  if i == 0: x.add_(1);  else: y = v + 1; return y
if x.ndim == 2:;  v = x[0];  x.add_(1); else: v = x[1]; return v
x.view(-1)[0] = 5.0; return x
x.t()[0] += 1; return x
x.unsqueeze(0)[0, 1] = 2.0; return x
x.detach().numpy()[0] = 0; return x
x[0].numpy()[:] += 1; return x
x.cpu().numpy().fill(0); return x
n = x.numpy(); n.sort(); return x
x[0][1], k = 5.0, 2; return x
"""


def _ported(body):
    lines = "\n    ".join(body.split("; "))
    text = f"{HEAD}def f(x: torch.Tensor):\n    {lines}\n"
    return text, torch2mlx.port(text)


def _flat(value):
    if value is None:
        return []
    if isinstance(value, (tuple, list)):
        return [part for item in value for part in _flat(item)]
    return [value.numpy() if isinstance(value, torch.Tensor) else np.array(value)]


@pytest.mark.parametrize("body", RIGHT.splitlines())
def test_all_names_of_a_tensor_see_what_changes_it(body):
    text, ported = _ported(body)
    assert ported.ok, ported.unsupported
    theirs = {}
    exec(compile(text, "<torch>", "exec"), theirs)
    for shape in ((2, 4), (3, 2)):
        x = torch.randn(*shape)
        given, other = mx.array(x.numpy()), x.clone()
        ours = _flat([executed(ported.source, "sharing").f(given), given])
        expected = _flat([theirs["f"](other), other])
        for one, two in zip(ours, expected, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("body", REFUSED.splitlines())
def test_views_that_are_read_later_are_refused_by_name(body):
    _, ported = _ported(body)
    assert ported.unsupported
    assert {left.code for left in ported.unsupported} == {Code.UNCLEAR}
    assert any(
        word in left.detail
        for left in ported.unsupported
        for word in (
            *("is a view of", "through a view", "a part of a tensor", "copies"),
            *("another shape under other names", "read and written at once", "among other"),
        )
    )


@pytest.mark.parametrize(
    "line, code",
    [
        ("y.geometric_(0.5)", Code.ARGUMENTS),
        ("torch.max(x, 0, out=(y, y))", Code.NO_COUNTERPART),
    ],
)
def test_what_cannot_be_written_to_a_tensor_is_refused_by_name(line, code):
    text, ported = _ported(f"y = x * 1; {line}; return y")
    (left,) = ported.unsupported
    assert left.code == code and text.splitlines()[left.line - 1].strip() == line


def test_plain_assignments_stay_where_nothing_shares_the_tensor():
    _, ported = _ported("y = x * 2; y.add_(1); y = y.mul_(3); return y")
    assert "y = y + 1\n" in ported.source and "[...]" not in ported.source
    assert "kit" not in ported.source


BLOCK = f"""{HEAD}
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        out = self.relu(self.linear(x))
        out = self.linear(out)
        out += x
        out = self.relu(out)
        y = self.relu(x)
        return out + y + x
"""


def test_layers_in_place_change_what_is_read_later():
    ported = torch2mlx.port(BLOCK)
    assert ported.ok
    assert "out = self.relu(out)" in ported.source
    theirs = {}
    exec(compile(BLOCK, "<torch>", "exec"), theirs)
    model = theirs["Block"]()
    ours = executed(ported.source, "block").Block()
    ours.linear.update(
        {n: mx.array(p.detach().numpy()) for n, p in model.linear.named_parameters()}
    )
    for batch in (1, 3):
        x = torch.randn(batch, 4)
        result = ours(mx.array(x.numpy()))
        expected = model(x.clone()).detach().numpy()
        np.testing.assert_allclose(np.array(result), expected, rtol=1e-5, atol=1e-6)


def test_a_sequential_that_begins_with_one_is_refused():
    text = BLOCK.replace("nn.ReLU(inplace=True)", "nn.Sequential(nn.ReLU(True), nn.Linear(4, 4))")
    (left,) = torch2mlx.port(text).unsupported
    assert left.where == "self.relu" and "first layer changes `x` in place" in left.detail


def test_gradients_pass_through_what_was_changed():
    text, ported = _ported("y = x * 2; k = y; y.mul_(x); k.add_(1); return (k * y).sum()")
    assert ported.ok
    theirs = {}
    exec(compile(text, "<torch>", "exec"), theirs)
    x = torch.randn(2, 3, requires_grad=True)
    theirs["f"](x).backward()
    ours = mx.grad(executed(ported.source, "gradients").f)(mx.array(x.detach().numpy()))
    np.testing.assert_allclose(np.array(ours), x.grad.numpy(), rtol=1e-5, atol=1e-6)
