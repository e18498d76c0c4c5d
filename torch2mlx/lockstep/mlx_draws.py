"""MLX's random functions, answered with what torch drew.

The place in the stream is kept in `mx.random.state` itself: who saves the state and seeds with it
again (to run a forward pass twice) gets the same numbers again.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np

from torch2mlx.lockstep.draws import Stream

_MARK = 0x746D0000


class Served:
    """The random functions of MLX and numpy, patched. `told()` says where a request comes from."""

    def __init__(self, stream: Stream, told: Callable[[], dict[str, Any]]) -> None:
        import mlx.core as mx

        self.mx: Any = mx
        self.stream, self.told = stream, told
        self.places: dict[int, Any] = {}
        self.own = {name: getattr(mx.random, name) for name in _NAMES}
        for name in _NAMES:
            setattr(mx.random, name, getattr(self, name))
        self._numpy()

    def _ask(self, kind: str, shape: Any, **options: Any) -> np.ndarray | None:
        self._placed()
        told = self.told()
        if told.pop("weights"):
            return None
        shape = tuple(int(n) for n in shape)
        values = self.stream.ask(kind, shape, options, told)
        self.places[len(self.places)] = self.stream.state()
        self.mx.random.seed((_MARK << 32) | (len(self.places) - 1))
        return values

    def _placed(self) -> None:
        """Goes to the place that the random state says, if it is one of the stream."""
        state: Any = self.mx.random.state
        words = [int(word) for word in np.array(state[0])]
        if words[0] == _MARK and words[1] in self.places:
            state = self.places[words[1]]
            if state != self.stream.state():
                self.stream.restore(state)

    def uniform(
        self, low: Any = 0, high: Any = 1, shape: Any = (), dtype: Any = None, **more: Any
    ) -> Any:
        """mx.random.uniform."""
        shape = shape or np.broadcast_shapes(np.shape(low), np.shape(high))
        values = self._ask("uniform", shape)
        dtype = dtype or self.mx.float32
        if values is None:
            return self.own["uniform"](low, high, shape, dtype, **more)
        return (self.mx.array(values) * (high - low) + low).astype(dtype)

    def normal(
        self, shape: Any = (), dtype: Any = None, loc: Any = None, scale: Any = None, **more: Any
    ) -> Any:
        """mx.random.normal."""
        values = self._ask("normal", shape)
        dtype = dtype or self.mx.float32
        if values is None:
            return self.own["normal"](shape, dtype, loc, scale, **more)
        drawn = self.mx.array(values)
        drawn = drawn if scale is None else drawn * scale
        return (drawn if loc is None else drawn + loc).astype(dtype)

    def bernoulli(self, p: Any = 0.5, shape: Any = None, **more: Any) -> Any:
        """mx.random.bernoulli."""
        shape = np.shape(p) if shape is None else shape
        options = {"p": float(p)} if isinstance(p, (int, float)) else {}
        values = self._ask("bernoulli", shape, **options)
        if values is None:
            return self.own["bernoulli"](p, shape, **more)
        return self.mx.array(values.astype(bool))

    def randint(self, low: Any, high: Any, shape: Any = (), dtype: Any = None, **more: Any) -> Any:
        """mx.random.randint."""
        bounds = {"low": low, "high": high} if isinstance(high, int) else {}
        values = self._ask("integers", shape, **bounds)
        dtype = dtype or self.mx.int32
        if values is None:
            return self.own["randint"](low, high, shape, dtype, **more)
        return self.mx.array(values).astype(dtype)

    def permutation(self, x: Any, axis: int = 0, **more: Any) -> Any:
        """mx.random.permutation."""
        count = x if isinstance(x, int) else x.shape[axis]
        values = self._ask("permutation", (count,))
        if values is None:
            return self.own["permutation"](x, axis, **more)
        order = self.mx.array(values).astype(self.mx.uint32)
        return order if isinstance(x, int) else self.mx.take(x, order, axis)

    def categorical(
        self, logits: Any, axis: int = -1, shape: Any = None, num_samples: Any = None, **more: Any
    ) -> Any:
        """mx.random.categorical."""
        rows = [n for i, n in enumerate(logits.shape) if i != axis % logits.ndim]
        wanted = (
            tuple(shape) if shape is not None else (*rows, *([num_samples] if num_samples else ()))
        )
        values = self._ask("categorical", wanted)
        if values is None:
            return self.own["categorical"](logits, axis, shape, num_samples, **more)
        return self.mx.array(values).astype(self.mx.uint32)

    def gumbel(self, shape: Any = (), dtype: Any = None, **more: Any) -> Any:
        """mx.random.gumbel."""
        values = self._ask("gumbel", shape)
        if values is None:
            return self.own["gumbel"](shape, dtype or self.mx.float32, **more)
        return self.mx.array(values.astype(np.float32))

    def _softly(self, kind: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """A draw that is not missed where torch has none."""
        with_soft = self.told
        self.told = lambda: {**with_soft(), "soft": True}
        try:
            return self._ask(kind, shape)
        finally:
            self.told = with_soft

    def _numpy(self) -> None:
        """numpy's permutations, its choices by weights, and Python's shuffle: torch's where it has
        one there."""
        drawn, mixed, chosen = np.random.permutation, random.shuffle, np.random.choice

        def order(count: int) -> np.ndarray | None:
            return self._softly("permutation", (count,))

        def choice(a: Any, size: Any = None, replace: bool = True, p: Any = None) -> Any:
            shape = () if size is None else tuple(np.atleast_1d(size))
            values = None if p is None or np.ndim(a) else self._softly("categorical", shape)
            return chosen(a, size, replace, p) if values is None else values.reshape(shape)[()]

        def permutation(x: Any) -> np.ndarray:
            values = order(int(x) if np.ndim(x) == 0 else len(x))
            if values is None:
                return drawn(x)
            return values if np.ndim(x) == 0 else np.asarray(x)[values]

        def shuffle(x: Any) -> None:
            values = order(len(x))
            if values is None:
                mixed(x) if isinstance(x, list) else np_mixed(x)
            else:
                x[:] = x[values] if isinstance(x, np.ndarray) else [x[i] for i in values]

        np_mixed = np.random.shuffle
        for module, name, function in (
            (np.random, "permutation", permutation),
            (np.random, "shuffle", shuffle),
            (np.random, "choice", choice),
            (random, "shuffle", shuffle),
        ):
            setattr(module, name, function)


_NAMES = ("uniform", "normal", "bernoulli", "randint", "permutation", "categorical", "gumbel")
