"""State dicts inside what people save."""

import numpy as np
import pytest

from torch2mlx import convert, load_converted
from torch2mlx.errors import AmbiguousCheckpointError, ConversionError

STATE = {"a.weight": np.ones((2, 3), np.float32), "a.bias": np.zeros(2, np.float32)}
OTHER = {"a.weight": np.full((2, 3), 7, np.float32), "a.bias": np.zeros(2, np.float32)}
OPTIMIZER = {"state": {0: {"exp_avg": np.ones(3)}}, "param_groups": [{"lr": 0.1}]}


def converted(source, path, **options):
    convert(source, path, **options)
    return load_converted(path, framework="numpy")


@pytest.mark.parametrize(
    "wrapped",
    [
        STATE,
        {"state_dict": STATE},
        {"model": STATE, "optimizer": OPTIMIZER, "epoch": 3},
        {"checkpoint": {"model": STATE}, "step": np.int64(7)},
        {"model": STATE, "rng_state": np.zeros(10, np.uint8), "scheduler": {"last_epoch": 1}},
    ],
)
def test_the_only_state_dict_is_found(wrapped, tmp_path):
    found = converted(wrapped, tmp_path / "x.safetensors")
    assert list(found) == list(STATE)


def test_several_are_listed_and_picked_by_key(tmp_path):
    wrapped = {"model": STATE, "ema": OTHER, "optimizer": OPTIMIZER}
    with pytest.raises(AmbiguousCheckpointError, match="key='model', key='ema'") as error:
        convert(wrapped, tmp_path / "x.safetensors")
    assert error.value.choices == ("model", "ema")
    found = converted(wrapped, tmp_path / "x.safetensors", key="ema")
    assert found["a.weight"][0, 0] == 7
    with pytest.raises(AmbiguousCheckpointError, match="'model', 'ema'"):
        convert(wrapped, tmp_path / "x.safetensors", key="nothing")


@pytest.mark.parametrize("empty", [{}, {"epoch": 3}, {"optimizer": OPTIMIZER}, {"a": {"b": {}}}])
def test_no_state_dict_is_an_error(empty, tmp_path):
    with pytest.raises(AmbiguousCheckpointError, match="no state dict"):
        convert(empty, tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("source", [None, 3, [1, 2], np.zeros(3)])
def test_what_is_no_source_is_refused(source, tmp_path):
    with pytest.raises(ConversionError, match=r"pass an nn\.Module"):
        convert(source, tmp_path / "x.safetensors")
