"""What the files of one project tell each other: ported together, they compute what torch does."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx")
import torch

import torch2mlx
from tests.porting.compare import assert_trains_alike, executed, give_weights

SCORES = """
import torch


def places(output, labels):
    return output.max(1)[1], labels.sum(0)


class Meter:
    def __init__(self, weights):
        self.weights = weights

    def tops(self):
        return self.weights.max(1)[1]
"""
MAIN = """
import torch
import scores as kept
from scores import Meter


def run(values, labels):
    values, labels = torch.tensor(values), torch.tensor(labels)
    places, counts = kept.places(values, labels)
    return places.tolist(), counts.tolist(), Meter(weights=values).tops().tolist()
"""


@pytest.mark.parametrize("shape", [(3, 4), (5, 2)])
def test_arguments_are_what_calls_in_other_files_give(shape, tmp_path, monkeypatch):
    (tmp_path / "torchs").mkdir()
    (tmp_path / "torchs" / "scores.py").write_text(SCORES)
    (tmp_path / "torchs" / "main.py").write_text(MAIN)
    made = torch2mlx.port(tmp_path / "torchs" / "scores.py")
    assert not made.unsupported
    found = []
    torch2mlx.port_folder(tmp_path / "torchs", tmp_path / "ours")
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    labels = np.arange(shape[0] * 2).reshape(shape[0], 2)
    for folder in ("torchs", "ours"):
        monkeypatch.syspath_prepend(str(tmp_path / folder))
        for name in ("main", "scores"):
            sys.modules.pop(name, None)
        found.append(importlib.import_module("main").run(values, labels))
    for name in ("main", "scores"):
        sys.modules.pop(name, None)
    assert found[0] == found[1]


def test_calls_that_differ_leave_a_question(tmp_path):
    (tmp_path / "scores.py").write_text(SCORES)
    (tmp_path / "main.py").write_text(MAIN)
    (tmp_path / "other.py").write_text(
        "import numpy as np\nimport scores\nscores.places(np.ones((2, 2)), np.ones((2, 2)))\n"
    )
    made = torch2mlx.port(tmp_path / "scores.py")
    assert "places.output" in [q.id for q in made.questions]


GIVEN = """
import torch
import torch.nn.functional as F


def loss_of(x, y, model):
    return F.mse_loss(model(x), y)


def fit(model, xs, optimizer):
    losses = []
    model.train()
    for x in xs:
        x = torch.tensor(x)
        optimizer.zero_grad()
        loss = loss_of(x, x[:, :1], model)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
"""


@pytest.mark.parametrize("batch", [2, 5])
def test_a_model_that_two_functions_are_given_is_trained(batch, tmp_path):
    import mlx.nn as nn
    import mlx.optimizers

    made = torch2mlx.port(GIVEN)
    assert not made.unsupported
    theirs: dict = {}
    exec(GIVEN, theirs)
    model, twin = torch.nn.Linear(4, 1), nn.Linear(4, 1)
    give_weights(twin, model, tmp_path)
    xs = np.random.default_rng(1).standard_normal((4, batch, 4)).astype(np.float32)
    wanted = theirs["fit"](model, xs, torch.optim.SGD(model.parameters(), lr=0.1))
    ours = executed(made.source, "given")
    found = ours.fit(twin, xs, mlx.optimizers.SGD(learning_rate=0.1))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    np.testing.assert_allclose(np.array(twin.weight), model.weight.detach().numpy(), rtol=1e-5)


def test_a_model_that_only_a_function_calls_is_asked_about():
    text = GIVEN.replace("    model.train()\n", "")
    made = torch2mlx.port(text)
    assert [q.id for q in made.questions] == ["fit.model"]
    assert not torch2mlx.port(text, answers={"fit.model": "module"}).unsupported


TABS = """
import torch
import torch.nn as nn
import torch.nn.functional as F


class Critic:
	def __init__(self, net, head):
		self.net, self.head = net, head
		self.opt = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.1)

	def train(self, x):
		# a comment above the step
		target = x.sum(1, keepdim=True)
		loss = F.mse_loss(
	self.head(self.net(x)), target)

		# the step
		self.opt.zero_grad()
		loss.backward()
		self.opt.step()


net, head = nn.Linear(4, 3), nn.Linear(3, 1)
critic = Critic(net, head)


def train(xs):
	opt = torch.optim.SGD(net.parameters(), lr=0.1)
	for x in xs:
		critic.train(torch.tensor(x))
	for x in xs:
		opt.zero_grad()
		loss = net(torch.tensor(x)).pow(2).sum()
		loss.backward()
		opt.step()
"""


def test_a_file_that_is_indented_by_tabs_trains_as_torchs(tmp_path):
    assert_trains_alike(TABS, "tabs", tmp_path)


ELSEWHERE = """
import torch


def loss_of(x, model):
    return (model(x) - x[:, :1]).pow(2).mean()
"""


@pytest.mark.parametrize("batch", [2, 5])
def test_a_model_that_a_function_of_another_file_calls_is_trained(batch, tmp_path, monkeypatch):
    import mlx.nn as nn
    import mlx.optimizers

    text = GIVEN.replace(GIVEN[GIVEN.index("def loss_of") : GIVEN.index("def fit")], "")
    text = text.replace("import torch\n", "import torch\nfrom losses import loss_of\n", 1)
    text = text.replace("loss_of(x, x[:, :1], model)", "loss_of(x, model)")
    (tmp_path / "torchs").mkdir()
    (tmp_path / "torchs" / "losses.py").write_text(ELSEWHERE)
    (tmp_path / "torchs" / "fit.py").write_text(text)
    torch2mlx.port_folder(tmp_path / "torchs", tmp_path / "ours")
    model, twin = torch.nn.Linear(4, 1), nn.Linear(4, 1)
    give_weights(twin, model, tmp_path)
    xs = np.random.default_rng(1).standard_normal((4, batch, 4)).astype(np.float32)
    found = []
    torchs = torch.optim.SGD(model.parameters(), lr=0.1)
    ours = mlx.optimizers.SGD(learning_rate=0.1)
    for folder, net, opt in (("torchs", model, torchs), ("ours", twin, ours)):
        monkeypatch.syspath_prepend(str(tmp_path / folder))
        for name in ("fit", "losses"):
            sys.modules.pop(name, None)
        found.append(importlib.import_module("fit").fit(net, xs, opt))
    for name in ("fit", "losses"):
        sys.modules.pop(name, None)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
    np.testing.assert_allclose(np.array(twin.weight), model.weight.detach().numpy(), rtol=1e-5)
