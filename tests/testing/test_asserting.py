"""Assertions about twins, without pytest's fixtures: what passes, what fails and how it reads."""

import re
import subprocess
import sys

import pytest

from tests.support import need

need("torch", "mlx")

import mlx.core as mx
import numpy as np
import torch
from torch import nn

from torch2mlx.export.verify.comparing import Compared, Verification
from torch2mlx.testing import assert_converts, assert_translates, asserting, mlx_twin, tables


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        h = self.first(x)
        return {"hidden": h, "logits": self.second(h)}


class Wrong(nn.Module):
    """Answers otherwise from its second call on: its translation is the first call's."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return self.inner(x)


def test_what_translates_gives_the_translation():
    made = assert_translates(Two().eval(), (torch.randn(3, 4),))
    assert "class Two(nn.Module)" in made.source and made.name == "Two"
    assert_translates(Two().eval(), kwargs={"x": torch.randn(2, 4)})


def test_a_refusal_is_a_failure_that_says_why():
    class Branch(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(AssertionError, match="Branch has no translation: "):
        assert_translates(Branch(), (torch.randn(3),))


def test_a_difference_is_a_table_with_the_first_module(monkeypatch):
    """The translation is given other weights, so that one module differs."""
    from torch2mlx import translator

    def off(*args, translate=translator.translate, **kwargs):
        made = translate(*args, **kwargs)
        made.module.second.weight = made.module.second.weight + 1
        return made

    monkeypatch.setattr(translator, "translate", off)
    with pytest.raises(AssertionError) as raised:
        assert_translates(Two().eval(), (torch.randn(3, 4),))
    lines = str(raised.value).splitlines()
    assert lines[0] == "Two and its translation differ in 1 of 2 outputs:"
    assert lines[1].split() == ["output", "shape", "dtype", "difference", "allowed"]
    assert re.fullmatch(r"  hidden +\(3, 4\) +float32 +\d\.\de-\d\d +1\.0e-04", lines[2])
    assert re.fullmatch(r"  logits +\(3, 2\) .* +1\.0e-04 +<- differs", lines[3])
    assert lines[4] == "first module that differs: second"


def test_a_tolerance_is_that_of_every_output():
    with pytest.raises(AssertionError, match=r"allowed|0\.0e\+00"):
        assert_translates(
            nn.Sequential(nn.Linear(64, 64), nn.GELU()).eval(), (torch.randn(9, 64),), tolerance=0.0
        )
    with pytest.raises(AssertionError, match="cannot be compared with its translation: tolerance"):
        assert_translates(Two(), (torch.randn(3, 4),), tolerance="much")


def test_gradients_are_compared_where_they_are_asked_for(monkeypatch):
    from torch2mlx import verifier

    asked = []
    original = verifier.verify
    monkeypatch.setattr(
        verifier, "verify", lambda *a, **k: asked.append(original(*a, **k)) or asked[-1]
    )
    assert_translates(Two().eval(), (torch.randn(3, 4),), gradients=True)
    assert_translates(Two().eval(), (torch.randn(3, 4),))
    kinds = [{output.what for output in found.outputs} for found in asked]
    assert "gradient" in kinds[0] and kinds[1] == {"output"}
    (name,) = (o.name for o in asked[0].outputs if o.name.endswith("first.weight"))
    assert name == "gradient of first.weight"
    row = Compared(name, 1.0, 1e-4, "differs", what="gradient")
    table = tables.outputs_table("M", Verification((row,)))
    assert table.count("gradient of first.weight") == table.count("gradient of") == 1
    assert "first module" not in table  # the outputs agree


def test_the_table_names_inputs_where_there_are_several():
    rows = (
        Compared("y", 1.0, 1e-4, "differs", case="batch 3", shape=(3, 2), dtype="float32"),
        Compared("y", 0.0, 1e-4, case="batch 2", shape=(2, 2), dtype="float32"),
    )
    lines = tables.outputs_table("M", Verification(rows, "fc")).splitlines()
    assert lines[1].split() == ["inputs", "output", "shape", "dtype", "difference", "allowed"]
    assert lines[2].startswith("  batch 3") and lines[2].endswith("<- differs")


def test_the_twin_is_a_live_module():
    model, x = Two().eval(), torch.randn(3, 4)
    twin = mlx_twin(model, (x,))
    found = twin(mx.array(x.numpy()))["logits"]
    with torch.no_grad():
        np.testing.assert_allclose(np.array(found), model(x)["logits"].numpy(), atol=1e-6)


def test_weights_that_come_back_give_their_arrays(tmp_path):
    model = nn.Sequential(nn.Conv1d(2, 3, 5), nn.LSTM(3, 4))
    arrays = assert_converts(model, tmp_path / "w.safetensors")
    assert arrays["layers.0.weight"].shape == (3, 5, 2)


def test_weights_that_do_not_come_back_are_named(tmp_path, monkeypatch):
    from torch2mlx import reverter

    def changed(path, revert=reverter.revert):
        state = revert(path)
        state["weight"] = state["weight"] + 1
        state["more"] = state.pop("bias")
        return state

    monkeypatch.setattr(reverter, "revert", changed)
    with pytest.raises(AssertionError) as raised:
        assert_converts(nn.Linear(2, 3), tmp_path / "w.safetensors")
    assert [line.split() for line in str(raised.value).splitlines()[1:]] == [
        ["tensor", "shape", "dtype", "what", "came", "back"],
        ["weight", "(3,", "2)", "float32", "other", "values"],
        ["bias", "(3,)", "float32", "nothing"],
        ["more", "is", "not", "the", "model's"],
    ]


def test_the_assertions_are_in_the_module_that_documents_them():
    assert asserting.assert_translates is assert_translates


def test_importing_the_assertions_imports_no_framework():
    code = (
        "import sys, torch2mlx.testing\n"
        "print(sorted({'torch', 'mlx', 'numpy', 'pytest'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
