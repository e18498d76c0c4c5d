"""Every row names something that exists, in torch and in MLX."""

import importlib

import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import torch

from torch2mlx.catalog import op_mapping
from torch2mlx.op_mapping import known_ops, lookup_op, register_op


def resolve(name):
    """The object of a dotted name, by the longest importable prefix."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise ImportError(name)


@pytest.mark.parametrize("op", known_ops(), ids=lambda op: op.torch)
def test_both_names_exist(op):
    short = op.torch.rsplit(".", 1)[1]
    group = op.torch.rsplit(".", 1)[0]
    methods = (short, f"{short}_")  # some are methods in place alone
    assert hasattr(resolve(group), short) or any(hasattr(torch.Tensor, m) for m in methods)
    if op.status == "none":
        assert op.mlx == "" and op.note
    else:
        resolve(op.mlx)


def test_lookup_and_register(monkeypatch):
    monkeypatch.setattr(op_mapping, "_USER", {})
    assert lookup_op("torch.cat").mlx == "mlx.core.concatenate"
    assert lookup_op("torch.add_").mlx == "mlx.core.add"
    assert lookup_op("torch.nothing") is None
    register_op("mylib.op", "mlx.core.abs")
    assert lookup_op("mylib.op").status == "direct"
    with pytest.raises(ValueError, match="already"):
        register_op("mylib.op", "mlx.core.abs")


def test_every_function_of_torch_nn_functional_has_a_row():
    import inspect

    from torch.nn import functional

    helpers = {"assert_int_or_pair", "boolean_dispatch", "handle_torch_function"}
    for name, value in vars(functional).items():
        if name.startswith(("_", "has_torch_function")) or name in helpers or not name.islower():
            continue
        if callable(value) and not inspect.isclass(value):
            assert lookup_op(f"torch.nn.functional.{name}"), name


@pytest.mark.filterwarnings("ignore")  # torch deprecates some of the calls that are tried
@pytest.mark.parametrize("op", known_ops(), ids=lambda op: op.torch)
def test_rows_without_a_remark_compute_the_same(op):
    from tests.simple_ops import difference

    found = difference(op)
    assert found is None or found <= 1e-5


@pytest.mark.filterwarnings("ignore")
def test_most_rows_without_a_remark_are_run():
    from tests.simple_ops import difference

    assert sum(difference(op) is not None for op in known_ops()) > 100
