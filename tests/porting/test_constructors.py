"""Layers of torch.nn as scripts make them: arguments by place, and by the names that torch has."""

import inspect

import numpy as np
import pytest

from tests.porting.compare import executed, give_weights
from tests.support import need

need("torch", "mlx.core", "libcst")

import mlx.core as mx
import torch

import torch2mlx
from tests.catalog.test_grid import FAMILIES

SOURCE = """\
import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.{name}({arguments})
        self.two = nn.Linear(in_features=2, out_features=2)

    def forward(self, {inputs}):
        return self.one({inputs})
"""
#: Cases of a class, spread over its options.
_EACH = 3
#: torch takes these by place alone.
_PLACED = ("RNN", "LSTM", "GRU")


def written(case):
    """(class, places, options) of a case whose arguments can be written out; None of others."""
    cells, defaults = case.make.__closure__ or (), case.make.__defaults__ or ({},)
    known = dict(zip(case.make.__code__.co_freevars, (c.cell_contents for c in cells), strict=True))
    if "made" not in known or not isinstance(defaults[0], dict):
        return None
    values = [*known["args"], *defaults[0].values()]
    plain = (int, float, bool, str, tuple, type(None))
    if not all(isinstance(v, plain) and "inf" not in repr(v) for v in values):
        return None
    if known["made"] is torch.nn.Dropout and defaults[0].get("p") == 1.0:
        return None  # an error in mlx.nn
    return known["made"], known["args"], defaults[0]


def chosen():
    by_class: dict = {}
    for family in FAMILIES.values():
        for case in family:
            found = written(case)
            if found is not None and case.call.__name__ == "<lambda>":
                by_class.setdefault(found[0].__name__, []).append((case, *found))
    for name, cases in sorted(by_class.items()):
        step = max(1, len(cases) // _EACH)
        for number, case in enumerate(cases[::step][:_EACH]):
            yield pytest.param(*case, bool(number % 2), id=f"{name}-{number}")


def leaves(value):
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


@pytest.mark.filterwarnings("ignore:reduction", "ignore:enable_nested_tensor")
@pytest.mark.parametrize(("case", "made", "places", "options", "by_place"), list(chosen()))
def test_layers_answer_what_torchs_do(case, made, places, options, by_place, tmp_path):
    names = list(inspect.signature(made.__init__).parameters)[1:]
    given = [repr(a) for a in places]
    if not by_place and made.__name__ not in _PLACED:
        given = [f"{name}={text}" for name, text in zip(names, given, strict=False)]
    arguments = ", ".join([*given, *(f"{k}={v!r}" for k, v in options.items())])
    np.random.seed(0)
    arrays = [np.asarray(x) for x in case.inputs()]
    inputs = ", ".join("abcdef"[: len(arrays)])
    source = SOURCE.format(name=made.__name__, arguments=arguments, inputs=inputs)
    result = torch2mlx.port(source)
    assert result.ok, result.unsupported
    torch.manual_seed(0)
    theirs: dict = {"__name__": "theirs"}
    exec(source, theirs)
    net, ours = theirs["Net"]().eval(), executed(result.source, "layer").Net()
    give_weights(ours, net, tmp_path)
    ours.eval()
    with torch.no_grad():
        expected = leaves(net(*(torch.from_numpy(x.copy()) for x in arrays)))
    found = leaves(ours(*map(mx.array, arrays)))
    assert len(expected) == len(found)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(np.array(other), one.numpy(), rtol=2e-4, atol=2e-5)
