"""What a module keeps: lists of anything, and parameters under a second name."""

import numpy as np
import pytest

from tests.porting.test_steps import batches, both
from tests.support import need

need("torch", "mlx", "libcst")

import torch2mlx

LISTS = """
import collections
import numpy as np
import torch
import torch.nn as nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.data = []
        self.seen = collections.deque(maxlen=9)
        self.layers = []
        for i in range(2):
            self.layers.append(nn.Linear(3, 3))
        self.layers = nn.ModuleList(self.layers)
        self.opt = torch.optim.Adam(self.parameters(), lr=0.01)

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x

    def put(self, row, reward):
        self.data.append((row, reward))
        self.seen.append(row)

    def batch(self):
        rows, rewards = [], []
        for row, reward in self.data:
            rows.append(row)
            rewards.append([reward])
        self.data = []
        return torch.tensor(np.array(rows)), torch.tensor(rewards, dtype=torch.float)

    def learn(self):
        rows, rewards = self.batch()
        loss = (self(rows).sum(1, keepdim=True) - rewards).pow(2).mean()
        self.opt.zero_grad()
        loss.backward()
        self.opt.step()
        return loss.item()

torch.manual_seed(0)
model = Net()

def run(xs):
    out = []
    for x in xs:
        for row in np.array(x.tolist(), dtype=np.float32):
            model.put(row, np.float32(row.sum()))
        out.append(model.learn())
    return out
"""


def test_a_list_of_anything_is_no_part_of_a_module(tmp_path):
    theirs, ours, _ = both(LISTS, tmp_path)
    xs, ys = batches()
    assert np.allclose(theirs.run(xs), ours.run(ys), atol=1e-5)
    for one, other in zip(theirs.model.layers, ours.model.layers, strict=True):
        assert np.allclose(one.weight.detach().numpy(), np.array(other.weight), atol=1e-5)
    assert ours.model.data == []
    assert len(ours.model.seen) == 9


TIED = """
import torch
import torch.nn as nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        held = self.embed.weight
        count, width = held.size()
        self.out = nn.Linear(width, count, bias=False)
        self.out.weight = held

    def forward(self, x):
        return self.out(torch.tanh(x @ self.embed.weight.T) @ self.embed.weight)

torch.manual_seed(0)
model = Net()
opt = torch.optim.Adam(model.parameters(), lr=0.01)

def run(xs):
    out = []
    for x in xs:
        loss = model(x).pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        out.append(loss.item())
    return out
"""


def test_a_parameter_that_a_name_gives_to_a_second_module_is_one(tmp_path):
    theirs, ours, _ = both(TIED, tmp_path)
    xs, ys = batches()
    assert np.allclose(theirs.run(xs), ours.run(ys), atol=1e-5)
    weight = theirs.model.embed.weight.detach().numpy()
    assert np.allclose(weight, np.array(ours.model.embed.weight), atol=1e-5)


@pytest.mark.parametrize(
    "line",
    [
        "head.weight = emb.weight",
        "other.fc.weight = emb.weight",
        "w = emb.weight\nhead.weight = w",
    ],
)
def test_ties_of_separate_modules_are_refused_and_do_not_run(line):
    source = (
        "import torch.nn as nn\nemb, head = nn.Embedding(5, 3), nn.Linear(3, 5)\n"
        "other = nn.Module()\nother.fc = nn.Linear(3, 5)\n" + line + "\n"
    )
    result = torch2mlx.port(source)
    assert any("a parameter under two names" in u.reason for u in result.unsupported)
    with pytest.raises(NotImplementedError, match="weight: a parameter under two names"):
        exec(result.source, {"__name__": "ported"})


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_a_parameter_that_came_as_an_argument_may_be_another_s(name):
    source = (
        "import torch.nn as nn\n\nclass Net(nn.Module):\n    def __init__(self, given):\n"
        f"        super().__init__()\n        self.out = nn.Linear(3, 3)\n"
        f"        self.out.{name} = given\n"
    )
    left = torch2mlx.port(source).unsupported
    assert any("a parameter under two names" in u.reason for u in left)
    assert torch2mlx.port(source.replace("= given", "= nn.Parameter(given)")).ok
