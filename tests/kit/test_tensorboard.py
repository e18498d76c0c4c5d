"""What reaches tensorboardX's writer, and what is said without it."""

import sys
import types

import numpy as np
import pytest

from tests.support import need

need("mlx.core")

import mlx.core as mx

from torch2mlx.errors import MissingLibraryError
from torch2mlx.kit.tensorboard import SummaryWriter


class Kept:
    """Stands for tensorboardX's writer."""

    def __init__(self, *args, **kwargs):
        self.made, self.calls, self.logdir = (args, kwargs), [], "runs/x"

    def __getattr__(self, name):
        return lambda *args, **kwargs: self.calls.append((name, args, kwargs))


@pytest.fixture
def writer(monkeypatch):
    library = types.ModuleType("tensorboardX")
    library.SummaryWriter = Kept
    monkeypatch.setitem(sys.modules, "tensorboardX", library)
    return SummaryWriter("runs/x", flush_secs=3)


def test_arrays_are_handed_over_as_numpys(writer):
    writer.add_scalar("loss", mx.array(2.5), 7)
    writer.add_scalars("all", {"a": mx.array(1, mx.int64), "b": 0.5}, global_step=mx.array(3))
    writer.add_histogram("h", [mx.array([1.5], mx.bfloat16), mx.array([True])])
    (_, (_, loss, step), _), (_, (_, both), more), (_, (_, listed), _) = writer._writer.calls
    assert [name for name, *_ in writer._writer.calls] == [
        "add_scalar",
        "add_scalars",
        "add_histogram",
    ]
    assert (loss, loss.shape, step) == (2.5, (), 7)
    assert both == {"a": 1, "b": 0.5} and both["a"].dtype == np.int64
    assert more == {"global_step": 3}
    assert [(type(x), x.dtype, x.tolist()) for x in listed] == [
        (np.ndarray, np.float32, [1.5]),
        (np.ndarray, np.bool_, [True]),
    ]


def test_the_rest_is_the_writers_own(writer):
    assert writer._writer.made == (("runs/x",), {"flush_secs": 3})
    assert writer.logdir == "runs/x"
    with writer as same:
        assert same is writer
    assert writer._writer.calls == [("close", (), {})]
    with pytest.raises(AttributeError, match="SummaryWriter has no 'add_graph'"):
        writer.add_graph(None)


def test_the_library_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(MissingLibraryError, match="SummaryWriter needs tensorboardX: pip install"):
        SummaryWriter()
