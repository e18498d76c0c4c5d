"""What a forward demands of values stands in the file: bad values raise the error that torch
raises."""

import sys

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import torch
from torch import nn

import torch2mlx
from tests.export.demanding import DEMANDS, Does, Dropped, either, otherwise
from torch2mlx.export.capture.code_positions import file_tree, path_to
from torch2mlx.export.capture.demands import error_of


@pytest.mark.parametrize("name", DEMANDS)
def test_bad_values_raise_what_torch_raises(name):
    function, kind, said = DEMANDS[name]
    model = Does(function).eval()
    made = torch2mlx.translate(model, (torch.rand(3, 4) + 0.5,))
    for shape in [(3, 4), (5, 2)]:
        x = torch.rand(shape) + 0.5
        np.testing.assert_allclose(np.array(made(x)), model(x), atol=1e-6)
        bad = x.clone()
        bad[-1, -1] = -1.0
        with pytest.raises((kind, RuntimeError) if "operator" in name else kind):
            model(bad)
        with pytest.raises(kind, match=said):
            made(bad)


class Block(nn.Module):
    """A convolution whose values are checked."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        y = self.conv(x)
        if not torch.isfinite(y).all():
            raise FloatingPointError("not finite")
        return torch.relu(y)


def test_a_demand_of_a_part_stands_in_its_class_and_moves_no_axes():
    model = nn.Sequential(*(Block() for _ in range(3))).eval()
    made = torch2mlx.translate(model, (torch.randn(2, 3, 6, 5),))
    assert made.source.count("if not mx.all(mx.isfinite(") == 1
    assert "mx.isfinite(c.transpose" not in made.source.replace("conv", "c")
    x = torch.randn(1, 3, 4, 7)
    np.testing.assert_allclose(np.array(made(x)), model(x).detach(), atol=1e-5)
    x[0, 0, 0, 0] = torch.inf
    with pytest.raises(FloatingPointError, match="not finite"):
        made(x)


def test_a_demand_is_written_as_one_would_write_it():
    function, *_ = DEMANDS["asserted"]
    made = torch2mlx.translate(Does(function).eval(), (torch.rand(3, 4) + 0.5,))
    assert '        assert mx.all(x > 0), "x must be positive"\n' in made.source
    function, *_ = DEMANDS["raised"]
    made = torch2mlx.translate(Does(function).eval(), (torch.rand(3, 4) + 0.5,))
    lines = made.source.split("\n")
    at = lines.index("        if mx.any(x <= 0):")
    assert lines[at + 1] == '            raise ValueError("negative in a batch of {len(x)}")'


@pytest.mark.parametrize("function", [either, otherwise])
def test_what_other_values_could_meet_too_is_no_demand(function):
    with pytest.raises(torch2mlx.errors.ExportError, match="branches on values"):
        torch2mlx.translate(Does(function).eval(), (torch.rand(3, 4) + 0.5,))


def test_a_model_without_values_is_translated_with_its_demands():
    with torch2mlx.empty_weights():
        model = nn.Sequential(nn.Linear(4, 4), Does(DEMANDS["asserted"][0])).eval()
    made = torch2mlx.translate(model, (torch.rand(3, 4),))
    assert made.compared == "shapes"
    assert "assert mx.all(" in made.source


def test_what_the_strict_tracer_drops_is_noted(monkeypatch):
    from torch2mlx import translator
    from torch2mlx.export.capture.freedom import Way

    monkeypatch.setattr(translator, "ways_to_trace", lambda *_: [Way("none", strict=True)])
    made = torch2mlx.translate(Dropped().eval(), (torch.rand(3, 4),))
    assert any(
        note.startswith("torch's strict tracer drops checks of values")
        and note.endswith("int(x.argmax()) < 1000")
        for note in made.notes
    )


def test_what_torch_found_out_itself_is_no_demand():
    assert error_of("Runtime assertion failed for expression u0 >= 0 on node 'ge'") is None
    assert error_of("assertion error") == ("AssertionError", "assertion error")


def test_source_that_is_not_there_tells_no_place():
    space = {"path_to": path_to, "sys": sys}
    assert eval(compile("path_to(sys._getframe())", "<made>", "eval"), space) == ()
    assert file_tree("/no/such/file.py") is None
