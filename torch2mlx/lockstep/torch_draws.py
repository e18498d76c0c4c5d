"""Every random number that a torch script draws, seen where torch dispatches its operators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from torch2mlx.lockstep.scripts import line_of, makes_weights

Options = dict[str, Any]


def _normal(
    values: np.ndarray, mean: Any = 0.0, std: Any = 1.0, *_: Any
) -> tuple[np.ndarray, Options]:
    scale = np.asarray(_host(std), np.float32)
    return (values - _host(mean)) / np.where(scale == 0, 1, scale), {}


def _uniform(values: np.ndarray, low: float = 0.0, high: float = 1.0) -> tuple[np.ndarray, Options]:
    return (values - low) / ((high - low) or 1), {}


def _mask(values: np.ndarray, p: Any = 0.5, *_: Any) -> tuple[np.ndarray, Options]:
    return values != 0, {"p": float(p)} if isinstance(p, (int, float)) else {}


def _integers(values: np.ndarray, *bounds: Any) -> tuple[np.ndarray, Options]:
    numbers = [int(b) for b in bounds if isinstance(b, int)]
    low, high = ([0] * (2 - len(numbers)) + numbers)[:2] if numbers else (0, 0)
    return values, {"low": low, "high": high}


def _exponential(values: np.ndarray, rate: float = 1.0) -> tuple[np.ndarray, Options]:
    return values * rate, {}


def _plain(values: np.ndarray, *_: Any) -> tuple[np.ndarray, Options]:
    return values, {}


#: By the name of the operator: the kind of draw, how it is read, how many arguments come first
#: that say nothing of the distribution.
_READ: dict[str, tuple[str, Callable[..., tuple[np.ndarray, Options]], int]] = {
    "randn": ("normal", _plain, 0),
    "randn_like": ("normal", _plain, 0),
    "normal_": ("normal", _normal, 1),
    "normal": ("normal", _normal, 0),
    "rand": ("uniform", _plain, 0),
    "rand_like": ("uniform", _plain, 0),
    "uniform_": ("uniform", _uniform, 1),
    "bernoulli_": ("bernoulli", _mask, 1),
    "bernoulli": ("bernoulli", _mask, 1),
    "randint": ("integers", _integers, 0),
    "randint_like": ("integers", _integers, 1),
    "random_": ("integers", _integers, 1),
    "randperm": ("permutation", _plain, 0),
    "multinomial": ("categorical", _plain, 0),
    "exponential_": ("exponential", _exponential, 1),
}


def _host(value: Any) -> Any:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def watched(
    note: Callable[[dict[str, Any]], None],
    script: Path,
    module: Callable[[], str],
    see: Callable[[str, tuple[Any, ...]], None],
) -> Any:
    """A context in which `note` is called with each draw, and `see` before each operator of
    PyTorch's own with its name and arguments; `module` says which module runs."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            see(func._schema.name.removeprefix("aten::"), args)
            out = func(*args, **(kwargs or {}))
            if torch.Tag.nondeterministic_seeded in func.tags and isinstance(out, torch.Tensor):
                name = func._schema.name.removeprefix("aten::")
                draw = _read(name, out, args) if name in _READ else None
                if draw is not None:
                    first = isinstance(out, torch.nn.Parameter) or makes_weights(torch.nn.Module)
                    line = line_of(script.parent)
                    note({**draw, "weights": first, "line": line, "module": module()})
            return out

    return Watch()


def _read(name: str, out: Any, args: tuple[Any, ...]) -> dict[str, Any] | None:
    """A draw as kind, values and options; None for the seeds that loaders draw for themselves."""
    kind, reading, skipped = _READ[name]
    if name == "random_" and out.ndim == 0:
        return None
    values = out.detach().cpu()
    if values.dtype.is_floating_point:
        values = values.float()
    rest = args[skipped:] if name != "randint" else [a for a in args if isinstance(a, int)]
    base, options = reading(values.numpy(), *rest)
    return {"kind": kind, "values": np.array(base), "options": options}


def numpy_permutations(note: Callable[[dict[str, Any]], None]) -> None:
    """Has numpy's permutations, and its choices by weights, noted too; those count only where MLX
    asks for one."""
    drawn, mixed, chosen = np.random.permutation, np.random.shuffle, np.random.choice

    def told(values: np.ndarray, kind: str = "permutation") -> None:
        note(
            {
                "kind": kind,
                "values": values,
                "options": {},
                "weights": False,
                "soft": True,
                "line": "",
                "module": "",
            }
        )

    def permutation(x: Any) -> np.ndarray:
        count = int(x) if np.ndim(x) == 0 else len(x)
        order = drawn(count)
        told(order)
        return order if np.ndim(x) == 0 else np.asarray(x)[order]

    def shuffle(x: Any) -> None:
        order = np.arange(len(x))
        mixed(order)
        told(order)
        x[:] = np.asarray(x)[order] if isinstance(x, np.ndarray) else [x[i] for i in order]

    def choice(a: Any, size: Any = None, replace: bool = True, p: Any = None) -> Any:
        if p is None or np.ndim(a):
            return chosen(a, size, replace, p)
        places = chosen(a, size, replace, p)
        told(np.asarray(places), "categorical")
        return places

    np.random.permutation, np.random.shuffle = permutation, shuffle
    np.random.choice = choice
