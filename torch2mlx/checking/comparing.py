"""Outputs of two models compared: how far apart, what is allowed, and what the answer is called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch2mlx.errors import VerificationError
from torch2mlx.structures import arrays_of, difference, numpy_of

#: max|a - b| <= tolerance * max(1, max|a|), by the dtype of torch's output.
TOLERANCES = {
    "float32": 1e-4,
    "float64": 1e-4,
    "float16": 1e-2,
    "bfloat16": 1e-2,
    "complex64": 1e-4,
}

#: What a comparison may end in. "unstable": torch's own answer changes as much when its inputs
#: change by rounding; "incomparable": the two sides draw random numbers each of their own.
Verdict = Literal["equal", "differs", "unstable", "incomparable"]
_WORST: tuple[Verdict, ...] = ("differs", "incomparable", "unstable", "equal")


@dataclass(frozen=True)
class Compared:
    """One output: where it is in the structure, the difference, and what is allowed.

    `verdict` is "equal", "differs", "unstable" or "incomparable", and `reason` says why it is one
    of the last two. `case` names the inputs where several were compared; `what` is compared: an
    "output", the "gradient" of a weight, or something after a "step" of training. `shape` and
    `dtype` are those of torch's.
    """

    name: str
    difference: float
    tolerance: float
    verdict: Verdict = "equal"
    reason: str = ""
    case: str = ""
    what: Literal["output", "gradient", "step"] = "output"
    shape: tuple[int, ...] = ()
    dtype: str = ""

    @property
    def ok(self) -> bool:
        """Whether it is within the tolerance; NaN is not, nor is what cannot be judged."""
        return self.verdict == "equal"

    def __str__(self) -> str:
        name = self.name or "output"
        told = f"{self.case}: {name}" if self.case else name
        line = f"{told}: {self.difference:.1e} (allowed {self.tolerance:.0e})"
        if self.verdict == "differs":
            return f"{line}  <- differs"
        return line if self.ok else f"{line}  <- {self.verdict}: {self.reason}"


@dataclass(frozen=True)
class Verification:
    """Every output compared. `first` is the path of the first module that gives something else;
    `weights` names weights that are not those of the model, where outputs differ."""

    outputs: tuple[Compared, ...]
    first: str | None = None
    weights: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether all outputs agree."""
        return all(output.ok for output in self.outputs)

    @property
    def verdict(self) -> Verdict:
        """The worst of the outputs': "differs", then "incomparable", "unstable", "equal"."""
        found = {output.verdict for output in self.outputs}
        return next((v for v in _WORST if v in found), "equal")

    @property
    def difference(self) -> float:
        """The largest difference; NaN where there is one."""
        found = [o.difference for o in self.outputs]
        return next((d for d in found if d != d), max(found, default=0.0))

    def __str__(self) -> str:
        return "\n".join([*(str(output) for output in self.outputs), *self.remarks()])

    def remarks(self) -> list[str]:
        """What there is to say besides the outputs, a line each."""
        lines = []
        if any(o.verdict == "differs" and o.what == "output" for o in self.outputs):
            lines.append(f"first module that differs: {self.first or 'the model itself'}")
        if self.weights:
            lines.append(_strangers(self.weights))
        return [*lines, *self.notes]


def _strangers(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (
        f"weights that are not the model's: {', '.join(names[:3])}{more}. A factory has to make "
        "the same model at each call: let it load a checkpoint, or call torch.manual_seed in it"
    )


def leaves_of(value: Any) -> list[tuple[str, Any]]:
    """Arrays of an output, by their place in it."""
    return list(arrays_of(value))


def compare(
    wanted: Sequence[tuple[str, Any]], got: Sequence[tuple[str, Any]], tolerance: float | None
) -> tuple[Compared, ...]:
    """torch's outputs and MLX's, in order.

    Raises VerificationError where their number or a shape differs.
    """
    if len(wanted) != len(got):
        raise VerificationError(f"torch gives {len(wanted)} outputs, MLX {len(got)}")
    return tuple(_one(n, a, b, tolerance) for (n, a), (_, b) in zip(wanted, got, strict=True))


def agree(a: Sequence[tuple[str, Any]], b: Sequence[tuple[str, Any]]) -> bool:
    """Whether two answers are equal within the usual tolerances."""
    try:
        return all(output.ok for output in compare(a, b, None))
    except VerificationError:
        return False


def _one(name: str, a: Any, b: Any, tolerance: float | None) -> Compared:
    if tuple(a.shape) != tuple(b.shape):
        raise VerificationError(
            f"{name or 'output'}: torch gives {tuple(a.shape)}, MLX {tuple(b.shape)}"
        )
    gap, most = difference(numpy_of(a), numpy_of(b)), allowed(a, tolerance)
    verdict: Verdict = "equal" if gap <= most else "differs"
    return Compared(name, gap, most, verdict, shape=tuple(a.shape), dtype=_dtype(a))


def allowed(a: Any, tolerance: float | None) -> float:
    """The tolerance of one output: by its dtype, unless one is given."""
    return TOLERANCES.get(_dtype(a), 0.0) if tolerance is None else tolerance


def _dtype(a: Any) -> str:
    return str(a.dtype).rsplit(".", 1)[-1]


def judged(
    outputs: Sequence[Compared], verdict: Verdict, reasons: dict[int, str]
) -> tuple[Compared, ...]:
    """The outputs, those with a reason under another verdict."""
    return tuple(
        replace(o, verdict=verdict, reason=reasons[i]) if i in reasons else o
        for i, o in enumerate(outputs)
    )


def off(outputs: Sequence[Compared]) -> Iterator[int]:
    """Places of the outputs that differ."""
    return (i for i, o in enumerate(outputs) if o.verdict == "differs")
