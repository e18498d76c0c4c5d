"""Training compared: gradients of all parameters, and both models after one step along them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from torch2mlx.catalog.weights.merges import MERGES
from torch2mlx.checkpoint.source.converted import mlx_array
from torch2mlx.errors import VerificationError
from torch2mlx.export.ir.structures import copied, difference, numpy_of
from torch2mlx.export.verify.comparing import TOLERANCES as TOLERANCES_OF_OUTPUTS
from torch2mlx.export.verify.comparing import Compared, Verdict, compare, judged, off
from torch2mlx.export.verify.draws import Drawn, Unmatched, giving, noting
from torch2mlx.export.verify.noise import CHANGE, noisy
from torch2mlx.export.verify.outputs import Parts, arrays_among, kept, paired, parts_of, turned
from torch2mlx.export.verify.preserved import preserved, preserved_twin
from torch2mlx.export.verify.rounding import rounding
from torch2mlx.export.verify.running import Case, Pair, plainly
from torch2mlx.export.verify.weights import Planned

#: max|a - b| <= tolerance * max|a| of a gradient, by its dtype; a is at least a hundredth of the
#: model's largest.
TOLERANCES = {"float32": 1e-3, "float64": 1e-3, "float16": 5e-2, "bfloat16": 5e-2}
#: The largest change of a weight in the step.
STEP = 1e-2
TRIALS = 3


@dataclass(frozen=True)
class Trained:
    """One side's gradients, by the keys of its own tree, and its state after a step."""

    gradients: Mapping[str, Any]
    rate: float
    after: Parts
    state: Mapping[str, Any]


def trained(pair: Pair, case: Case, tolerance: float | None) -> tuple[Compared, ...]:
    """Gradients of all parameters for a fixed random weighting of the outputs; then the outputs
    and buffers after one step of gradient descent.

    Raises VerificationError for a model without parameters to train, and for a twin whose weights
    have other names than `convert` gives them.
    """
    theirs, drawn = _torch(pair, case)
    known = _Keys(pair.model, pair.module)
    theirs = known.laid(theirs)
    found: tuple[Compared, ...] = ()
    way, ways = 0, 1
    while way < ways:  # layouts of random numbers that fit equally
        own = drawn.again(way)
        try:
            ours = _mlx(pair, case, theirs, own)
        except Unmatched as why:
            reason = f"it depends on random numbers ({drawn.places}); {why}, which torch does not"
            nan = float("nan")
            return (Compared("gradients", nan, 0.0, "incomparable", reason, what="gradient"),)
        found = _compared(known, theirs, ours, tolerance)
        if all(o.verdict != "differs" for o in found):
            return found
        way, ways = way + 1, own.ways
    return _steady(pair, case, known, theirs, found)


def _compared(
    known: _Keys, theirs: Trained, ours: Trained, tolerance: float | None
) -> tuple[Compared, ...]:
    if not theirs.gradients.keys() & ours.state.keys():
        raise VerificationError(
            "gradients are compared by the keys that convert writes, and the MLX module has none "
            "of them"
        )
    gradients = _gradients(known, theirs.gradients, ours.gradients, tolerance)
    return (*gradients, *_stepped(known, theirs, ours, tolerance))


def _gradients(
    known: _Keys, wanted: Mapping[str, Any], got: Mapping[str, Any], tolerance: float | None
) -> tuple[Compared, ...]:
    largest = max(map(_most, wanted.values()))
    found = []
    for key, a in wanted.items():
        name, reason = f"gradient of {key}", known.folded.get(key, "")
        most = TOLERANCES.get(known.dtypes[key], 1e-3) if tolerance is None else tolerance
        if reason:
            found.append(
                Compared(name, float("nan"), most, "incomparable", reason, what="gradient")
            )
            continue
        gap = _gap(a, got.get(key), largest)
        verdict: Verdict = "equal" if gap <= most else "differs"
        found.append(Compared(name, gap, most, verdict, what="gradient"))
    return tuple(found)


def _gap(a: Any, b: Any, largest: float) -> float:
    """How far apart two gradients are, against the larger of their own size and a hundredth of
    the model's; 1 for one that is missing or 0 where torch's is not."""
    own, finite = _most(a), bool(np.isfinite(a).all())
    if b is None or (finite and not np.any(b)):
        return 1.0 if own > 1e-8 * largest or not finite else 0.0
    if a.shape != b.shape:
        return float("inf")
    scale = max(own, largest / 100, 1e-30)
    return difference(a / scale, np.asarray(b, np.float64) / scale)


def _most(a: Any) -> float:
    """The largest size of a gradient's numbers, but for NaN and infinity."""
    return float(np.abs(a[np.isfinite(a)]).max(initial=0))


class _Keys:
    """Which weights of the MLX tree the parameters of a torch model are."""

    def __init__(self, model: Any, module: Any) -> None:
        self._planned = Planned(model, module)
        self._plan = self._planned.plan()
        self._first = {p.target: p.sources[0] for p in self._plan.pieces if len(set(p.sources)) > 1}
        self.dtypes = {p.target: p.dtype for p in self._plan.pieces}
        made = {s for m in self._plan.made if m.how not in MERGES for s in m.sources}
        summed = {s for m in self._plan.made if m.how in MERGES for s in m.sources}
        #: Targets that are computed from parameters of torch: target -> why they are not compared.
        self.folded = {
            p.target: f"it is computed from {', '.join(p.sources)}, which torch trains"
            for p in self._plan.pieces
            if made & set(p.sources)
        }
        #: Targets that are the sum of two parameters, which both move in torch.
        self.summed = [p.target for p in self._plan.pieces if summed & set(p.sources)]

    def laid(self, theirs: Trained) -> Trained:
        """torch's side under the keys and in the layouts of MLX."""
        gradients, state = self.placed(theirs.gradients), self.placed(theirs.state)
        return replace(theirs, gradients=gradients, state=state)

    def placed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values by torch's keys, as numpy arrays under the keys and in the layouts of MLX."""
        found = {}
        for piece in self._planned.plan(values).pieces:
            if not values.keys() & set(piece.sources):
                continue
            summed = piece.target in self.summed and piece.target in self._first
            if summed and self._first[piece.target] in values:
                found[piece.target] = numpy_of(values[self._first[piece.target]])
            elif piece.target in self.folded:
                found[piece.target] = np.zeros(piece.shape)
            else:
                found[piece.target] = numpy_of(mlx_array(piece.load().dense())).reshape(piece.shape)
        return found


def _weighting(shape: Sequence[int], place: int) -> Any:
    return np.random.RandomState(place).standard_normal(tuple(shape)).astype(np.float32)


def _torch(pair: Pair, case: Case, rate: float | None = None) -> tuple[Trained, Drawn]:
    """Gradients and a step in torch, of a length that suits them if none is given; the model is
    left as it was."""
    import torch

    with preserved(pair.model), plainly(), torch.enable_grad(), pair.filled(), noting() as drawn:
        answer = arrays_among(_called(pair.model, case))
        parts = [
            (part.float() * torch.from_numpy(_weighting(part.shape, i))).sum()
            for i, leaf in enumerate(answer)
            if leaf.requires_grad
            for part in ((leaf.real, leaf.imag) if leaf.is_complex() else (leaf,))
        ]
        named = {k: p for k, p in pair.model.named_parameters() if p.requires_grad}
        if not parts or not named:
            raise VerificationError("no output depends on a parameter that is trained")
        found = torch.autograd.grad(sum(parts), list(named.values()), allow_unused=True)
        gradients = {
            key: torch.zeros_like(p) if g is None else g.detach().clone()
            for (key, p), g in zip(named.items(), found, strict=True)
        }
        rate = _rate(gradients.values()) if rate is None else rate
        for key, parameter in named.items():
            parameter.data = parameter.data - rate * gradients[key]
        after = kept(_called(pair.model, case))
        state = {key: b.detach().clone() for key, b in pair.model.named_buffers()}
    return Trained(gradients, rate, after, state), drawn


def _rate(gradients: Iterable[Any]) -> float:
    largest = max((float(g.abs().max()) for g in gradients if g.numel()), default=0.0)
    return STEP / largest if 0 < largest < float("inf") else 0.0


def _called(model: Any, case: Case) -> Parts:
    args, kwargs = copied((tuple(case.args), dict(case.kwargs)))
    return parts_of(model(*args, **kwargs))


def _mlx(pair: Pair, case: Case, theirs: Trained, drawn: Drawn) -> Trained:
    """The same in MLX, which is given torch's draws; outputs in torch's order."""
    import mlx.core as mx
    import mlx.nn as nn
    from mlx.utils import tree_flatten, tree_map

    def answer() -> Parts:
        given, named = pair.ends.given(pair.model, *copied((tuple(case.args), dict(case.kwargs))))
        parts = turned(parts_of(pair.module(*given, **named)), pair.ends)
        return [(name, ours) for name, _, ours in paired(theirs.after, parts)]

    def loss(module: Any) -> Any:
        parts = [
            (part.astype(mx.float32) * mx.array(_weighting(part.shape, i))).sum()
            for i, leaf in enumerate(arrays_among(answer()))
            if mx.issubdtype(leaf.dtype, mx.inexact)
            for part in ((mx.real(leaf), mx.imag(leaf)) if leaf.dtype == mx.complex64 else (leaf,))
        ]
        return sum(parts)

    with mx.stream(mx.cpu), preserved_twin(pair.module), giving(drawn):
        _, gradients = nn.value_and_grad(pair.module, loss)(pair.module)
        moved = tree_map(
            lambda p, g: p - theirs.rate * g, pair.module.trainable_parameters(), gradients
        )
        pair.module.update(moved)
        after = answer()
        state = dict(tree_flatten(pair.module.parameters()))
        flat = dict(tree_flatten(gradients))
        mx.eval(list(flat.values()), arrays_among(after), list(state.values()))
        return Trained({k: numpy_of(g) for k, g in flat.items()}, theirs.rate, after, state)


def _steady(
    pair: Pair, case: Case, known: _Keys, theirs: Trained, found: tuple[Compared, ...]
) -> tuple[Compared, ...]:
    """Those that torch changes as much when inputs and sums are rounded otherwise are unstable."""
    moved = dict.fromkeys(off(found), 0.0)
    for trial in range(TRIALS):
        with rounding(trial):
            again = known.laid(_torch(pair, noisy(case, trial), theirs.rate)[0])
        gaps = [
            *_gradients(known, theirs.gradients, again.gradients, 0.0),
            *_stepped(known, theirs, again, 0.0),
        ]
        for i in moved:
            moved[i] = max(moved[i], gaps[i].difference)
    reasons = {
        i: f"torch changes it by {m:.1e} {CHANGE}"
        for i, m in moved.items()
        if m >= found[i].difference / 2
    }
    return judged(found, "unstable", reasons)


def _stepped(
    known: _Keys, theirs: Trained, ours: Trained, tolerance: float | None
) -> tuple[Compared, ...]:
    """Outputs and buffers after the step."""
    if known.summed or known.folded:
        names = ", ".join([*known.summed, *known.folded][:3])
        reason = (
            f"{names} is one array here and the sum or product of several in torch, which all move"
        )
        return (Compared("after a step", float("nan"), 0.0, "incomparable", reason, what="step"),)
    outputs = compare(theirs.after, ours.after, tolerance)
    named = [replace(o, name=f"{o.name or 'output'} after a step", what="step") for o in outputs]
    for key, a in theirs.state.items():
        if key in ours.state:
            b = ours.state[key]
            gap = difference(a, b if isinstance(b, np.ndarray) else numpy_of(b))
            most = TOLERANCES_OF_OUTPUTS.get(known.dtypes[key], 0.0)
            most = most if tolerance is None else tolerance
            verdict: Verdict = "equal" if gap <= most else "differs"
            named.append(Compared(f"{key} after a step", gap, most, verdict, what="step"))
    return tuple(named)
