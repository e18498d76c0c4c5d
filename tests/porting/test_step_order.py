"""Forward passes that stand before another optimizer's step: they run before it, or are refused."""

import pytest

from tests.support import need

need("libcst")

import torch2mlx

TEXT = """
import torch
import torch.nn as nn

a, b = nn.Linear(3, 1), nn.Linear(3, 1)
first = torch.optim.SGD(a.parameters(), lr=0.5)
second = torch.optim.SGD(b.parameters(), lr=0.5)
for x, y in [(torch.rand(5, 3), torch.rand(5, 1)) for _ in range(4)]:
    {}
    first.zero_grad()
    one.backward()
    first.step()
    {}
    second.zero_grad()
    two.backward()
    second.step()
"""
ONE = "one = ((a(x) - y) ** 2).mean()"


@pytest.mark.parametrize(
    "before, behind",
    [
        (f"{ONE}; v = b(x); q = a(x + v); two = (v * (v - q).detach()).mean()", "pass"),
        (f"v = b(x); q = a(x + v).detach(); {ONE}; two = (v * q).mean()", "pass"),
        (f"{ONE}; v = b(x); q = a(x + v)", "two = (v * q.detach()).mean()"),
    ],
)
def test_a_pass_that_would_run_behind_a_step_of_its_weights_is_refused(before, behind):
    ported = torch2mlx.port(TEXT.format(before.replace("; ", "\n    "), behind))
    assert any("before another optimizer's step" in u.reason for u in ported.unsupported)


@pytest.mark.parametrize(
    "before, behind",
    [
        (f"{ONE}; v = b(x); q = a(x); two = (v * (v - q).detach()).mean()", "pass"),
        (f"{ONE}; two = (b(x) * 2).mean()", "pass"),
        (ONE, "v = b(x); q = a(x + v); two = (v * q).mean()"),
    ],
)
def test_a_pass_that_stays_on_its_side_of_the_step_is_not(before, behind):
    lines = [part.replace("; ", "\n    ") for part in (before, behind)]
    ported = torch2mlx.port(TEXT.format(*lines))
    assert ported.ok, ported.unsupported
