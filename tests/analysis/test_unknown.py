"""A file whose layers have no types is unknown, and no check takes it for fine."""

import json

import pytest

from tests.support import need

need("torch", "safetensors", "jinja2")

import torch
from safetensors.torch import save_file
from torch import nn

from tests.analysis.models import Branch
from torch2mlx import analyze
from torch2mlx.pages import page


@pytest.fixture
def vectors(tmp_path):
    """A file whose tensors have no layout that could matter: not one finding."""
    save_file({"a.weight": torch.ones(4), "b": torch.ones(3)}, tmp_path / "x.safetensors")
    return analyze(tmp_path / "x.safetensors")


def test_no_coverage_is_claimed_for_it(vectors):
    assert (
        vectors.coverage is None and json.loads(json.dumps(vectors.to_dict()))["coverage"] is None
    )
    assert "coverage unknown" in str(vectors) and "100" not in vectors.headline()
    assert "<dd>unknown</dd>" in page(vectors) and "100" not in vectors.covered()


def test_checks_fail_for_it_unless_nothing_is_asked(vectors):
    for least in (None, "blocker", "warning"):
        assert "types of its layers are not known" in vectors.failure(least)
    assert vectors.failure("none") is None


def test_checks_fail_for_what_they_are_told_to():
    branch, missing, plain = (
        analyze(m) for m in (Branch(), nn.Sequential(nn.LazyLinear(3)), nn.Linear(2, 2))
    )
    assert branch.failure() is branch.failure("blocker") is None
    assert branch.failure("warning").startswith("Branch: 1 blockers or warnings, first T2M104 ")
    assert missing.failure("blocker") == (
        "Sequential: 1 blockers, first T2M004 0"  # the module's path
    )
    assert plain.failure("warning") is None and plain.coverage == 1.0
    with pytest.raises(ValueError, match="least is blocker, warning or none, not 'error'"):
        plain.failure("error")


def test_a_model_without_layers_says_so():
    class Scaled(nn.Module):
        def forward(self, x):
            return x * 2

    assert analyze(Scaled()).headline().startswith("Scaled: no layers, 0 blockers")
