"""Steps as people write them in few lines: several statements on one, behind a colon, comments at
their ends; and backward passes that are no statements, which are refused."""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx", "libcst")

import torch2mlx
from tests.porting.test_steps import HEAD, batches, both
from torch2mlx.errors import Code
from torch2mlx.porting.report import BACKWARD

#: A function `run(xs)` of a list of (4, 3) arrays, which gives a list of numbers.
RUNS = {
    "a step on one line": """
def run(xs):
    out = []
    for x in xs:
        loss = model(x).pow(2).mean()
        opt.zero_grad(); loss.backward(); opt.step()
        out.append(loss.item())
    return out
""",
    "loss and backward on one line, the update behind a condition": """
def run(xs):
    out = []; i = 0; j = 1
    for i, x in enumerate(xs):
        loss = model(x).pow(2).mean() / 2; loss.backward()
        if i % 2: opt.step(); opt.zero_grad()
        out.append(loss.item())
    return out
""",
    "a loop whose body is on its line": """
def run(xs):
    out = []
    for x in xs: opt.zero_grad(); loss = model(x).abs().mean(); loss.backward(); opt.step()
    out.append(loss.item())
    return out
""",
    "single statements behind conditions": """
def run(xs):
    out = []
    for i, x in enumerate(xs):
        loss = model(x).abs().mean()
        loss.backward()
        if i % 2 == 1: opt.step()
        if i % 2 == 1: opt.zero_grad()
        out.append(loss.item())
    return out
""",
}


@pytest.mark.parametrize("name", RUNS)
def test_a_step_on_few_lines_learns_what_it_does_in_torch(name, tmp_path):
    theirs, ours, _ = both(HEAD + RUNS[name], tmp_path)
    xs, ys = batches()
    assert np.allclose(theirs.run(xs), ours.run(ys), atol=1e-5)
    weight = theirs.model.weight.detach().numpy()
    assert np.allclose(weight, np.array(ours.model.weight), atol=1e-5)


def test_lines_of_plain_names_stay_together_and_changes_have_the_lines_of_the_source():
    source = "import torch\na = 1; b = 2\nx = torch.ones(3); y = torch.zeros(2)\nz = torch.eye(2)\n"
    made = torch2mlx.port(source)
    assert "a = 1; b = 2\n" in made.source
    assert {c.what: c.line for c in made.changes} == {
        **{"torch.ones": 3, "torch.zeros": 3, "torch.eye": 4}
    }


def test_comments_at_the_ends_of_lines_stay_beside_what_they_speak_of():
    step = "loss = model(torch.ones(2, 3)).sum()\nopt.zero_grad()\nloss.backward()  # its slope\n"
    made = torch2mlx.port(HEAD + step + "opt.step()  # downhill\n").source.splitlines()
    (slope,) = (line for line in made if line.endswith("# its slope"))
    (down,) = (line for line in made if line.endswith("# downhill"))
    assert "value_and_grad(" in slope and down.startswith("opt.update(")


LEFT = {
    "lambda": "back = lambda l: l.backward()\n",
    "comprehension": "[l.backward() for l in (model(torch.ones(2, 3)).sum(),)]\n",
    "tuple": "def go(l, o):\n    o.zero_grad(), l.backward(), o.step()\n",
    "condition": "loss = model(torch.ones(2, 3)).sum()\nloss.backward() if True else None\n",
}


@pytest.mark.parametrize("name", LEFT)
def test_a_backward_pass_that_stays_is_refused_by_name(name):
    made = torch2mlx.port(HEAD + LEFT[name])
    assert [(u.code, u.where) for u in made.unsupported] == [(Code.NO_COUNTERPART, BACKWARD)]


def test_a_backward_that_a_class_of_the_file_has_is_its_own():
    source = "import torch\nclass Layer:\n    def backward(self, slope):\n        return slope\n"
    source += "def run(layers):\n    return [layer.backward(1.0) for layer in layers]\n"
    assert torch2mlx.port(source).ok


def test_a_step_that_was_refused_has_one_reason():
    made = torch2mlx.port("import torch\ndef f(x):\n    loss = x.sum()\n    loss.backward()\n")
    assert len(made.unsupported) == 1
