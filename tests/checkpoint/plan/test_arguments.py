"""A wrong argument of a verb is one error that names it, before anything is read or written."""

import numpy as np
import pytest

from torch2mlx import convert, inspect, load_converted, revert
from torch2mlx.errors import CheckpointError, ConversionError

STATE = {"a.weight": np.ones((2, 2), np.float32)}
SEVERAL = {"a": STATE, "b": STATE}
WRONG = [3, 2.5, b"x", [], {}, (), object(), True, np.float32(1), float("nan"), ["a"], {"a": 1}]


@pytest.mark.parametrize("value", WRONG, ids=lambda v: repr(v)[:20])
def test_a_key_is_a_text(value, tmp_path):
    with pytest.raises(ConversionError, match=r"^key= takes a text, not "):
        convert(SEVERAL, tmp_path / "o.safetensors", key=value)
    with pytest.raises(ConversionError, match=r"^key= takes a text, not "):
        inspect(SEVERAL, key=value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [v for v in WRONG if v is not True], ids=lambda v: repr(v)[:20])
def test_progress_is_a_function_or_true(value, tmp_path):
    done = convert(STATE, tmp_path / "o.safetensors")
    before = (tmp_path / "o.safetensors").read_bytes()
    with pytest.raises(ConversionError, match=r"^progress= takes a function, not "):
        convert(STATE, tmp_path / "o.safetensors", progress=value)
    with pytest.raises(ConversionError, match=r"^progress= takes a function, not "):
        revert(tmp_path / "o.safetensors", tmp_path / "back.safetensors", progress=value)
    assert [path.name for path in tmp_path.iterdir()] == ["o.safetensors"]
    assert (tmp_path / "o.safetensors").read_bytes() == before and done.files


@pytest.mark.parametrize("value", [-1, 1025, 2.0, True, None, "2", [], 10**30, float("nan")])
def test_threads_are_a_number(value, tmp_path):
    with pytest.raises(ConversionError, match=r"^threads=.*: 0 takes all cores, and 1024 are"):
        convert(STATE, tmp_path / "o.safetensors", threads=value)


@pytest.mark.parametrize("threads", [0, 1, 1024])
def test_any_number_of_threads_writes_the_same(threads, tmp_path):
    convert(STATE, tmp_path / "o.safetensors", threads=threads)
    found = load_converted(tmp_path / "o.safetensors", framework="numpy")
    np.testing.assert_array_equal(found["a.weight"], STATE["a.weight"])


@pytest.mark.parametrize("value", ["", "bogus", "Warn", None, 1, ["warn"]])
def test_what_is_done_about_unmapped_layers_is_one_of_three_words(value, tmp_path):
    with pytest.raises(ConversionError, match=r"^on_unmapped= is one of warn, error, ignore, not"):
        convert(STATE, tmp_path / "o.safetensors", on_unmapped=value)


def test_trained_weights_of_a_name_that_is_too_long_are_refused(tmp_path):
    convert(STATE, tmp_path / "o.safetensors")
    with pytest.raises(CheckpointError, match="the name is longer than the file system takes"):
        revert("x" * 5000, like=tmp_path / "o.safetensors")
