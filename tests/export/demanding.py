"""Forwards that demand something of values.

PYTEST_DONT_REWRITE: pytest would put other statements in the place of the assertions.
"""

import torch
from torch import nn

DEMANDS = {}


def demanding(kind, said):
    """Registers a forward that demands positive numbers below 100, and the error that follows."""

    def register(function):
        DEMANDS[function.__name__] = (function, kind, said)
        return function

    return register


class Does(nn.Module):
    """A forward that is a function, after a layer's call."""

    def __init__(self, function):
        super().__init__()
        self.does, self.checked = function, True

    def forward(self, x):
        return self.does(self, x)


def positive(values, told):
    """A helper of the file."""
    if not values:
        raise ValueError(told)


@demanding(AssertionError, "x must be positive")
def asserted(self, x):
    assert (x > 0).all(), "x must be positive"
    return x.log()


@demanding(AssertionError, r"demanding\.py:\d+: int\(x\.min\(\) \* 10\) > 0")
def of_a_number(self, x):
    assert int(x.min() * 10) > 0
    return x.log()


@demanding(AssertionError, r"float\(x\.min\(\)\)")
def in_a_row(self, x):
    assert 0.0 < float(x.min()) <= float(x.max()) < 100.0
    return x.log()


@demanding(AssertionError, "both")
def of_two(self, x):
    assert torch.isfinite(x).all() and not (x <= 0).any(), "both"
    return x.log()


@demanding(AssertionError, "where it is checked")
def of_a_switch(self, x):
    assert not self.checked or x.min().item() > 0, "where it is checked"
    return x.log()


@demanding(ValueError, "negative in a batch of {len")
def raised(self, x):
    if (x <= 0).any():
        raise ValueError(f"negative in a batch of {len(x)}")
    return x.log()


@demanding(FloatingPointError, "late")
def raised_otherwise(self, x):
    if x.min() > 0:
        y = x.log()
    else:
        raise FloatingPointError("late")
    return y


@demanding(ValueError, "by a helper")
def helped(self, x):
    positive((x > 0).all(), "by a helper")
    return x.log()


@demanding(RuntimeError, "checked by torch")
def checked(self, x):
    torch._check(bool((x > 0).all()), lambda: "checked by torch")
    return x.log()


@demanding(RuntimeError, r"demanding\.py:\d+: least > 0")
def checked_number(self, x):
    least = x.min().item()
    torch._check(least > 0)
    return x.log()


@demanding(RuntimeError, "every one")
def checked_each(self, x):
    torch._check_tensor_all(x > 0, lambda: "every one")
    return x.log()


@demanding(ValueError, "a value")
def checked_value(self, x):
    torch._check_value(x.min().item() > 0, lambda: "a value")
    return x.log()


@demanding(AssertionError, "the function")
def asserted_by_torch(self, x):
    torch._assert((x > 0).all(), "the function")
    return x.log()


@demanding(AssertionError, "the operator")
def asserted_by_operator(self, x):
    torch._assert_async((x > 0).all(), "the operator")
    return x.log()


def either(self, x):
    assert (x > 0).all() or (x < 0).all()
    return x * 2


def otherwise(self, x):
    if (x > 0).all():
        return x * 2
    return x * 3


class Dropped(nn.Module):
    """What the strict tracer alone takes: it drops the assertion."""

    def forward(self, x):
        assert int(x.argmax()) < 1000
        return x * 2
