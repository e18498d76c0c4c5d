"""Layers whose weight is computed from other parameters: torch's weight norm and spectral norm.

The parameters have the names and layouts that `convert(training=True)` writes: `weight_g` and
`weight_v`, or `weight_orig` with the vectors `weight_u` and `weight_v`. The layer itself, whose
class gets another one before it, reads what is computed of them under the name of the weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from torch2mlx.kit import conv, weights

_EPS = 1e-12


@dataclass(frozen=True)
class _WeightNorm:
    """g * v / |v|, the norm over all axes but `dim`; over all of them where that is None."""

    key: str
    dim: int | None
    sources = ("g", "v")

    def start(self, weight: mx.array) -> tuple[mx.array, ...]:
        return _length(weight, self.dim), weight

    def value(self, g: mx.array, v: mx.array) -> mx.array:
        return v * (g / _length(v, self.dim))


@dataclass(frozen=True)
class _SpectralNorm:
    """The weight over its largest singular value, which a power iteration finds."""

    key: str
    dim: int
    iterations: int
    eps: float
    first: int  # iterations before the first call
    u_first: bool  # which of the vectors a step of the iteration sets first
    sources = ("orig", "u", "v")

    def start(self, weight: mx.array) -> tuple[mx.array, ...]:
        rows, columns = self._matrix(weight).shape
        u, v = (_unit(mx.random.normal((size,)), self.eps) for size in (rows, columns))
        return weight, *self.iterated(weight, u, v, self.first)

    def iterated(self, weight: mx.array, u: mx.array, v: mx.array, count: int) -> list[mx.array]:
        """The vectors after some steps; nothing of them has a gradient."""
        matrix = mx.stop_gradient(self._matrix(weight))
        for _ in range(count):
            if self.u_first:
                u = _unit(matrix @ v, self.eps)
                v = _unit(matrix.T @ u, self.eps)
            else:
                v = _unit(matrix.T @ u, self.eps)
                u = _unit(matrix @ v, self.eps)
        return [mx.stop_gradient(u), mx.stop_gradient(v)]

    def value(self, weight: mx.array, u: mx.array, v: mx.array) -> mx.array:
        return weight / (mx.stop_gradient(u) @ (self._matrix(weight) @ mx.stop_gradient(v)))

    def _matrix(self, weight: mx.array) -> mx.array:
        moved = mx.moveaxis(weight, self.dim, 0)
        return moved.reshape(moved.shape[0], -1)


def _length(v: mx.array, dim: int | None) -> mx.array:
    axes = None if dim is None else [a for a in range(v.ndim) if a != dim % v.ndim]
    return mx.sqrt(mx.square(v).sum(axis=axes, keepdims=dim is not None))


def _unit(x: mx.array, eps: float) -> mx.array:
    return x / mx.maximum(mx.sqrt(mx.square(x).sum()), eps)


class _Normalized(nn.Module):
    """Mixed into the class of a layer with such weights; `_rules` has them by MLX's key."""

    _rules: dict[str, Any]

    def _rule(self, key: Any) -> Any:
        return self.__dict__.get("_rules", {}).get(key)  # copies are filled before they have it

    def _computed(self, rule: Any) -> mx.array:
        parts = [dict.__getitem__(self, f"{rule.key}_{name}") for name in rule.sources]
        form = weights.forms(self).get(rule.key)
        value = rule.value(*parts)
        return value if form is None or form.part is None else form.part(value)[0]

    def _read(self, rule: Any) -> mx.array:
        shown = self.__dict__.get("_shown", {}).get(rule.key)
        return self._computed(rule) if shown is None else shown

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.__dict__.get("_shown", {}).clear()
        for rule in self._rules.values() if self.training else ():
            if isinstance(rule, _SpectralNorm):
                weight, u, v = (self[f"{rule.key}_{name}"] for name in rule.sources)
                u, v = rule.iterated(weight, u, v, rule.iterations)
                self[f"{rule.key}_u"], self[f"{rule.key}_v"] = u, v
        layer: Any = super()
        return layer.__call__(*args, **kwargs)

    def __getitem__(self, key: Any) -> Any:
        rule = self._rule(key)
        return super().__getitem__(key) if rule is None else self._read(rule)

    def __getattr__(self, key: str) -> Any:
        rule = self._rule(key)
        return super().__getattr__(key) if rule is None else self._read(rule)

    def __contains__(self, key: Any) -> bool:
        return self._rule(key) is not None or super().__contains__(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        if self._rule(key) is None:
            super().__setitem__(key, value)
        else:
            self._show(self._rule(key), value)

    def __setattr__(self, key: str, value: Any) -> None:
        if self._rule(key) is None:
            super().__setattr__(key, value)
        else:
            self._show(self._rule(key), value)

    def _show(self, rule: Any, value: Any) -> None:
        """A computed weight is set. torch's hooks compute it before each call: it is what it was
        set to until then. Its parametrizations change what it is computed from instead: that is a
        ValueError."""
        if f"{rule.key}_{rule.sources[0]}" in self.__dict__["_torch_names"]:
            names = " and ".join(f"{rule.key}_{name}" for name in rule.sources if name not in "u")
            raise ValueError(f"{rule.key} is computed from {names}: set these")
        self.__dict__.setdefault("_shown", {})[rule.key] = value

    def unfreeze(self, *args: Any, **kwargs: Any) -> nn.Module:
        """The vectors of power iterations are never trained."""
        super().unfreeze(*args, **kwargs)
        return self.freeze(keys=_vectors(self), recurse=False)


def _vectors(layer: nn.Module) -> list[str]:
    rules = [r for r in layer.__dict__["_rules"].values() if isinstance(r, _SpectralNorm)]
    return [f"{rule.key}_{name}" for rule in rules for name in ("u", "v")]


def weight_norm(module: Any, name: str = "weight", dim: int | None = 0) -> Any:
    """torch.nn.utils.weight_norm: the layer, whose weight is a length times a direction."""
    return _normalized(module, name, _weight(module, name, dim), {})


def parametrized_weight_norm(module: Any, name: str = "weight", dim: int | None = 0) -> Any:
    """The same of torch.nn.utils.parametrizations, which names the parameters otherwise."""
    names = {"g": "original0", "v": "original1"}
    return _normalized(module, name, _weight(module, name, dim), names)


def spectral_norm(
    module: Any,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = _EPS,
    dim: int | None = None,
) -> Any:
    """torch.nn.utils.spectral_norm: the layer, whose weight has the largest singular value 1."""
    rule = _spectral(module, name, n_power_iterations, eps, dim, 0)
    return _normalized(module, name, rule, {})


def parametrized_spectral_norm(
    module: Any,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = _EPS,
    dim: int | None = None,
) -> Any:
    """The same of torch.nn.utils.parametrizations, which names the tensors otherwise, starts with
    fifteen iterations and sets the first vector first."""
    rule = _spectral(module, name, n_power_iterations, eps, dim, 15)
    return _normalized(module, name, rule, {"orig": "original", "u": "0._u", "v": "0._v"})


def _weight(module: Any, name: str, dim: int | None) -> _WeightNorm:
    return _WeightNorm(_key(module, name), None if dim == -1 else dim)


def _spectral(
    module: Any, name: str, count: int, eps: float, dim: int | None, first: int
) -> _SpectralNorm:
    key = _key(module, name)
    if weights.get(module, name).ndim < 2:
        raise ValueError(f"spectral_norm of {name}, which is a vector")
    if dim is None:
        dim = 1 if isinstance(module, conv.TRANSPOSED) else 0
    return _SpectralNorm(key, dim, count, eps, first, first > 0)


def _key(module: Any, name: str) -> str:
    """MLX's key of a tensor of a layer. Raises ValueError where it is several arrays, or none."""
    form = weights.forms(module).get(name)
    keys = (name,) if form is None else form.keys
    if len(keys) != 1 or keys[0] != name or name not in module:
        raise ValueError(f"{type(module).__name__} has no one array {name} that could be computed")
    if isinstance(module, _Normalized) and module._rule(name) is not None:
        raise ValueError(f"{name} of this {type(module).__name__} is computed already")
    return name


def _normalized(module: Any, name: str, rule: Any, names: dict[str, str]) -> Any:
    value = mx.array(weights.get(module, name))
    if not isinstance(module, _Normalized):
        kind = type(module)
        object.__setattr__(module, "_rules", {})
        module.__class__ = type(kind.__name__, (_Normalized, kind), {"__doc__": kind.__doc__})
    for part, start in zip(rule.sources, rule.start(value), strict=True):
        module[f"{rule.key}_{part}"] = start
    dict.pop(module, rule.key)
    module.__dict__["_rules"][rule.key] = rule
    torch = module.__dict__.setdefault("_torch_names", {})
    torch.update({f"{name}_{p}": f"parametrizations.{name}.{n}" for p, n in names.items()})
    module.freeze(keys=_vectors(module), recurse=False)
    return module


def remove(module: Any, name: str = "weight") -> Any:
    """torch's remove_weight_norm and its like: the layer with the weight as it is computed now.

    Raises ValueError where the layer has no such weight.
    """
    rule = module._rule(name) if isinstance(module, _Normalized) else None
    if rule is None:
        raise ValueError(f"{name} of this {type(module).__name__} is not computed from others")
    value = module._computed(rule)
    for part in rule.sources:
        key = f"{rule.key}_{part}"
        dict.pop(module, key)
        module._no_grad.discard(key)
        module.__dict__["_torch_names"].pop(key, None)
    del module.__dict__["_rules"][rule.key]
    kind = type(module)
    if not module.__dict__["_rules"] and kind.__bases__[0] is _Normalized:
        module.__class__ = kind.__bases__[1]
    module[name] = value
    return module
