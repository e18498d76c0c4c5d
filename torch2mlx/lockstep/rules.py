"""Which rule explains an update that is not torch's: the usual mistakes, tried one by one.

Each candidate is run over the gradients that MLX's own optimizer got, from the same first weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Options = dict[str, Any]
Rule = Callable[[Sequence[np.ndarray], Sequence[np.ndarray], Options], np.ndarray]


def adam(
    gradients: Sequence[np.ndarray],
    weights: Sequence[np.ndarray],
    options: Options,
    *,
    first: bool = True,
    second: bool = True,
    swapped: bool = False,
    inside: bool = False,
    decay: str = "",
) -> np.ndarray:
    """The last update of Adam: minus the learning rate times its direction."""
    b1, b2 = options.get("betas", (0.9, 0.999))
    lr, eps, weight_decay = options["lr"], options.get("eps", 1e-8), options.get("weight_decay", 0)
    m, v = np.zeros_like(gradients[0]), np.zeros_like(gradients[0])
    for gradient, weight in zip(gradients, weights, strict=True):
        g = gradient + weight_decay * weight if decay == "l2" else gradient
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
    t = len(gradients)
    c1, c2 = (1 - b2**t, 1 - b1**t) if swapped else (1 - b1**t, 1 - b2**t)
    m, v = m / c1 if first else m, v / c2 if second else v
    step = m / (np.sqrt(v + eps) if inside else np.sqrt(v) + eps)
    shrunk = weight_decay * weights[-1] if decay == "decoupled" else 0
    unscaled = weight_decay * weights[-1] / lr if decay == "decoupled, without the rate" else 0
    return np.asarray(-lr * (step + shrunk + unscaled))


def sgd(
    gradients: Sequence[np.ndarray],
    weights: Sequence[np.ndarray],
    options: Options,
    *,
    momentum: bool = True,
    nesterov: bool = False,
    damped: bool = False,
    dampening: bool = True,
    decay: str = "",
) -> np.ndarray:
    """The last update of gradient descent with momentum."""
    lr, weight_decay = options["lr"], options.get("weight_decay", 0)
    rate, damping = options.get("momentum", 0.0), options.get("dampening", 0.0)
    buffer: Any = None
    for gradient, weight in zip(gradients, weights, strict=True):
        g = gradient + weight_decay * weight if decay == "l2" else gradient
        kept = 1 - (rate if damped else damping if dampening else 0)
        first = kept if damped else 1
        buffer = first * g if buffer is None else rate * buffer + kept * g
    step = g + rate * buffer if nesterov else buffer if momentum and rate else g
    shrunk = weight_decay * weights[-1] if decay == "decoupled" else 0
    return np.asarray(-lr * (step + shrunk))


#: For each family: what went wrong, and the rule that it makes.
_MISTAKES: dict[str, tuple[tuple[str, Rule, Options], ...]] = {
    "adam": (
        ("both bias corrections are missing", adam, {"first": False, "second": False}),
        ("the bias correction of the first moment is missing", adam, {"first": False}),
        ("the bias correction of the second moment is missing", adam, {"second": False}),
        ("the bias corrections of the two moments are swapped", adam, {"swapped": True}),
        ("eps is inside the square root", adam, {"inside": True}),
    ),
    "sgd": (
        ("momentum is missing", sgd, {"momentum": False}),
        ("Nesterov's momentum is taken", sgd, {"nesterov": True}),
        ("Nesterov's momentum is missing", sgd, {}),
        ("the gradient is damped by 1 - momentum", sgd, {"damped": True}),
        ("dampening is missing", sgd, {"dampening": False}),
    ),
}
_DECAYS = {
    "": "weight decay is missing",
    "l2": "weight decay is added to the gradient",
    "decoupled": "weight decay shrinks the weights apart from the gradient",
    "decoupled, without the rate": "weight decay is not scaled by the learning rate",
}
_FAMILY = {"Adam": ("adam", "l2"), "AdamW": ("adam", "decoupled"), "SGD": ("sgd", "l2")}


def explained(
    kind: str,
    options: Options,
    gradients: Sequence[np.ndarray],
    weights: Sequence[np.ndarray],
    update: np.ndarray,
) -> str:
    """Which mistake gives an update that torch's optimizer of a kind would not; "" where none."""
    if kind not in _FAMILY:
        return ""
    family, decay = _FAMILY[kind]
    plain = adam if family == "adam" else sgd
    given = [np.asarray(g, np.float64) for g in gradients]
    held = [np.asarray(w, np.float64) for w in weights]
    base = {"nesterov": bool(options.get("nesterov"))} if family == "sgd" else {}
    tried: list[tuple[str, Rule, Options]] = []
    if options.get("weight_decay"):
        others = (d for d in _DECAYS if d != decay and (family == "adam" or "," not in d))
        tried += [(_DECAYS[d], plain, {**base, "decay": d}) for d in others]
    tried += [
        (said, rule, {**base, **more, "decay": decay}) for said, rule, more in _MISTAKES[family]
    ]
    with np.errstate(all="ignore"):
        right = _distance(plain(given, held, options, **base, decay=decay), update)
        found = [
            (_distance(rule(given, held, options, **more), update), said)
            for said, rule, more in tried
        ]
    best = min(found, default=(1.0, ""))
    return best[1] if best[0] < 1e-2 and best[0] < right / 4 else ""


def ratio(expected: np.ndarray, found: np.ndarray) -> float | None:
    """The factor by which an array is another one, where it is one."""
    a, b = (np.asarray(v, np.float64).reshape(-1) for v in (expected, found))
    below = float(a @ a)
    if not below or a.size != b.size:
        return None
    factor = float(a @ b) / below
    return factor if _distance(factor * a, b) < 1e-3 and factor else None


def _distance(expected: np.ndarray, found: np.ndarray) -> float:
    a, b = (np.asarray(v, np.float64).reshape(-1) for v in (expected, found))
    below = float(np.linalg.norm(b))
    return float(np.linalg.norm(a - b)) / below if below else float("inf")
