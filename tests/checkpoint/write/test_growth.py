"""What converting many tensors costs grows as their number does, told by counting its steps."""

import sys
from collections.abc import Callable

import numpy as np
import pytest

from torch2mlx import convert

RULES = {"**.conv": "Conv2d"}


def state(blocks: int, dtype: type) -> dict[str, np.ndarray]:
    """Blocks of five tensors, one of which has other axes in MLX."""
    made = {}
    for i in range(blocks):
        head = f"layers.{i}."
        made[f"{head}conv.weight"] = np.full((2, 1, 1, 3), i, dtype)
        made[f"{head}conv.bias"] = np.full(2, i, dtype)
        made[f"{head}fc.weight"] = np.full((3, 2), i, dtype)
        made[f"{head}norm.running_mean"] = np.full(2, i, dtype)
        made[f"{head}scale"] = np.full((), i, dtype)
    return made


def steps(work: Callable[[], object]) -> int:
    """How many instructions of the interpreter something takes."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["out.safetensors", "out"])
def test_twice_the_tensors_take_twice_the_steps(dtype, name, tmp_path):
    taken = []
    for blocks in (20, 20, 40, 80):  # the first fills caches
        source, out = state(blocks, dtype), tmp_path / f"{len(taken)}" / name
        out.parent.mkdir()
        taken.append(steps(lambda source=source, out=out: convert(source, out, rules=RULES)))
    _, small, double, fourfold = taken
    assert small > 20 * 5 * 100
    assert fourfold - double == pytest.approx(2 * (double - small), rel=0.02)
