"""Optimizers whose steps follow signs: AdamATan2, and sign-SGD for the rows of a table."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from torch2mlx.kit.optimizers import Adam


class AdamATan2(Adam):
    """Adam with atan2(m, sqrt(v)) for m / (sqrt(v) + eps): it has no epsilon, and does not change
    when gradients are scaled. Weight decay shrinks the parameter itself.

    Formula: the adam-atan2 package of imoneoi, 0.0.3 (Everett and others, 2024): the correction
    of the first moment scales the step, that of the second is inside.
    """

    def __init__(
        self,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(lr, betas, 0.0, 0.0)
        self.decay = weight_decay

    def _step(self, gradient: Any, parameter: Any, state: dict, lr: Any) -> mx.array:
        b1, b2 = self.betas
        t = state["t"].astype(mx.float32)
        state["m"] = state["m"] + (1 - b1) * (gradient - state["m"])
        state["v"] = state["v"] + (1 - b2) * (mx.square(gradient) - state["v"])
        second = mx.sqrt(state["v"]) / mx.sqrt(1 - mx.power(b2, t))
        step = lr / (1 - mx.power(b1, t)) * mx.arctan2(state["m"], second.astype(gradient.dtype))
        return parameter * (1 - lr * self.decay) - step.astype(parameter.dtype)


def sign_sgd_rows(
    table: mx.array, ids: mx.array, gradient: mx.array, lr: Any, weight_decay: float = 0.0
) -> mx.array:
    """A table (rows, D) whose rows `ids` (B,) took a step against the signs of `gradient` (B, D).

    Gradients of a row that stands in `ids` several times are added first, so all writes to it are
    equal; its decay is applied once. Shapes are fixed: the whole can be compiled.
    """
    same = (ids[:, None] == ids[None]).astype(gradient.dtype)
    rows = table[ids] * (1 - lr * weight_decay) - lr * mx.sign(same @ gradient)
    made = mx.array(table)
    made[ids] = rows.astype(table.dtype)
    return made
