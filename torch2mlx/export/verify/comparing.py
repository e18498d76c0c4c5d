"""Outputs of two models compared: how far apart, what is allowed, and what the answer is called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch2mlx.common import cards
from torch2mlx.common.amounts import counted, listed
from torch2mlx.errors import VerificationError
from torch2mlx.export.ir.structures import arrays_of, difference, numpy_of
from torch2mlx.export.verify.outputs import Parts, is_array, paired, values_of

#: max|a - b| <= tolerance * max(1, max|a|), by the dtype of torch's output.
TOLERANCES = {
    "float32": 1e-4,
    "float64": 1e-4,
    "float16": 1e-2,
    "bfloat16": 1e-2,
    "complex64": 1e-4,
}

#: Dtypes that stand for one another, by torch's: MLX has float64 on its CPU device alone, no
#: complex128 and no float8, and its own functions answer whole numbers in 32 bits, whose values are
#: compared exactly in any width. All others have to be torch's.
_STAND_FOR = {
    "float64": ("float32",),
    "complex128": ("complex64",),
    "float8_e4m3fn": ("float16", "bfloat16", "float32"),
    "float8_e5m2": ("float16", "bfloat16", "float32"),
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
    "output", the "gradient" of a weight, something after a "step" of training, or the result of a
    "layer". `shape` and
    `dtype` are those of torch's. Where the two differ in what no number says, a dtype or a plain
    value, `wanted` is torch's and `found` MLX's.
    """

    name: str
    difference: float
    tolerance: float
    verdict: Verdict = "equal"
    reason: str = ""
    case: str = ""
    what: Literal["output", "gradient", "step", "layer"] = "output"
    shape: tuple[int, ...] = ()
    dtype: str = ""
    wanted: str = ""
    found: str = ""

    @property
    def unlike(self) -> str:
        """What differs besides numbers; empty where nothing does."""
        return f"torch gives {self.wanted}, MLX {self.found}" if self.found else ""

    @property
    def why(self) -> str:
        """The verdict with its reason, for a line of a table; empty where it is "equal"."""
        if self.ok:
            return ""
        reason = self.reason or self.unlike
        return f"<- {self.verdict}: {reason}" if reason else f"<- {self.verdict}"

    @property
    def ok(self) -> bool:
        """Whether it is within the tolerance; NaN is not, nor is what cannot be judged."""
        return self.verdict == "equal"

    def __str__(self) -> str:
        name = self.name or "output"
        told = f"{self.case}: {name}" if self.case else name
        line = f"{told}: {self.difference:.1e} (allowed {self.tolerance:.0e})"
        line = told if self.found and self.difference != self.difference else line
        return line if self.ok else f"{line}  {self.why}"


@dataclass(frozen=True)
class Verification:
    """Every output compared. `first` is the path of the first module that gives something else;
    `weights` names weights that are not those of the model, where outputs differ. `layers` has the
    worst result of each module where that was asked for; the verdict is that of the outputs."""

    outputs: tuple[Compared, ...]
    first: str | None = None
    weights: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    layers: tuple[Compared, ...] = ()

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

    @property
    def apart(self) -> bool:
        """Whether numbers of an output differ, so that a first module does."""
        return any(
            o.verdict == "differs" and o.what == "output" and not o.found for o in self.outputs
        )

    def __repr__(self) -> str:
        return f"<Verification: {self.headline()}>"

    def headline(self) -> str:
        """One line: the verdict, of how many outputs, and the largest difference."""
        return (
            f"{self.verdict}, {counted(len(self.outputs), 'comparison')}, largest difference "
            f"{self.difference:.1e}"
        )

    def _repr_html_(self) -> str:
        heads = ("what", "name", "inputs", "difference", "allowed", "verdict")
        rows = [
            (o.what, o.name, o.case, f"{o.difference:.1e}", f"{o.tolerance:.0e}", o.why or "equal")
            for o in self.outputs
        ]
        return cards.card(
            self.headline(),
            {},
            cards.lines("To know", self.remarks()),
            cards.table("Comparisons", heads, rows),
        )

    def __str__(self) -> str:
        return "\n".join([*(str(output) for output in self.outputs), *self.remarks()])

    def remarks(self) -> list[str]:
        """What there is to say besides the outputs, a line each."""
        lines = []
        if self.apart:
            lines.append(f"first module that differs: {self.first or 'the model itself'}")
        if self.weights:
            lines.append(_strangers(self.weights))
        return [*lines, *self.notes]


def _strangers(names: Sequence[str]) -> str:
    return (
        f"weights that are not the model's: {listed(names, 3)}. A factory has to make "
        "the same model at each call: let it load a checkpoint, or call torch.manual_seed in it"
    )


def leaves_of(value: Any) -> list[tuple[str, Any]]:
    """Arrays of an output, by their place in it."""
    return list(arrays_of(value))


def compare(wanted: Parts, got: Parts, tolerance: float | None) -> tuple[Compared, ...]:
    """torch's outputs and MLX's, by their names.

    Raises VerificationError where one side has outputs that the other has not, and where shapes
    differ, with all their names.
    """
    pairs = paired(wanted, got)
    shapes = [
        f"{name or 'output'}: torch gives {tuple(a.shape)}, MLX {tuple(b.shape)}"
        for name, a, b in pairs
        if is_array(a) and is_array(b) and tuple(a.shape) != tuple(b.shape)
    ]
    if shapes:
        raise VerificationError("; ".join(shapes[:5]))
    return tuple(_one(*pair, tolerance) for pair in pairs)


def agree(a: Parts, b: Parts) -> bool:
    """Whether two answers are equal within the usual tolerances."""
    try:
        return all(output.ok for output in compare(a, b, None))
    except VerificationError:
        return False


def _one(name: str, a: Any, b: Any, tolerance: float | None) -> Compared:
    if not is_array(a) or not is_array(b):
        return _plain(name, a, b, tolerance)
    gap, most = difference(numpy_of(a), numpy_of(b)), allowed(a, tolerance)
    wanted, found = next(unlike_dtypes(a, b), ("", ""))
    verdict: Verdict = "equal" if gap <= most and not found else "differs"
    shape, dtype = tuple(a.shape), _dtype(a)
    return Compared(name, gap, most, verdict, shape=shape, dtype=dtype, wanted=wanted, found=found)


def unlike_dtypes(a: Any, b: Any) -> Iterator[tuple[str, str]]:
    """The dtypes of torch's array and MLX's, where MLX's is none that stands for torch's."""
    theirs, ours = _dtype(a), _dtype(b)
    whole = all(dtype.startswith(("int", "uint")) for dtype in (ours, theirs))
    if not whole and ours != theirs and ours not in _STAND_FOR.get(theirs, ()):
        yield theirs, ours


def _plain(name: str, a: Any, b: Any, tolerance: float | None) -> Compared:
    """Where one side or both give a plain value: of the same type, and equal; numbers with a point
    within the tolerance of float32."""
    kind = "" if is_array(a) else type(a).__name__
    if type(a) is type(b) and isinstance(a, (float, complex)):
        most = TOLERANCES["float32"] if tolerance is None else tolerance
        gap = difference(values_of(a), values_of(b))
        return Compared(name, gap, most, "equal" if gap <= most else "differs", dtype=kind)
    if not is_array(a) and not is_array(b) and type(a) is type(b) and equal(a, b):
        return Compared(name, 0.0, 0.0, dtype=kind)
    nan = float("nan")
    if _opaque(a) and _opaque(b):
        reason = f"{said(a)} is neither an array nor a plain value"
        return Compared(name, nan, 0.0, "incomparable", reason, dtype=kind)
    return Compared(name, nan, 0.0, "differs", dtype=kind, wanted=said(a), found=said(b))


def _opaque(value: Any) -> bool:
    """Whether a part is an object of a class that nothing here knows."""
    plain = value is None or isinstance(value, (bool, int, float, complex, str, bytes, tuple))
    return not plain and not is_array(value)


def equal(a: Any, b: Any) -> bool:
    """Whether two plain values are equal; not where they do not say."""
    try:
        return bool(a == b)
    except Exception:  # whatever a class of somebody's raises
        return False


def said(value: Any) -> str:
    if is_array(value):
        return f"an array of {_dtype(value)}"
    if value is None or isinstance(value, (bool, int, float, complex, str)):
        return repr(value)[:60]
    return "nothing in a container" if value == () else f"an object of {type(value).__name__}"


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
    """Places of the outputs that differ in their numbers."""
    return (i for i, o in enumerate(outputs) if o.verdict == "differs" and not o.found)
