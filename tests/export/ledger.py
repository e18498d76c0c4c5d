"""torch's own samples of its operators, run through translate: what passes, what is refused and
why.

    python -m tests.export.ledger OUT.json [SAMPLES] [NAME ...]

runs every operator of torch's OpInfo database in all dtypes of `DTYPES` that it has.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from tests.processes import Ended, side_by_side

#: dtype -> the largest difference allowed, over max(1, largest value); 0 is exact.
DTYPES = {
    "float32": 2e-5,
    "float16": 1e-2,
    "bfloat16": 2e-2,
    "int64": 0.0,
    "bool": 0.0,
    "complex64": 1e-4,
}


#: The same for outputs in dtypes that are no inputs here.
WIDE = {"float64": 1e-7}
#: Operators whose values torch leaves open: only shapes are compared.
UNDEFINED = {"empty", "empty_like", "empty_permuted", "empty_strided", "new_empty"}
UNDEFINED |= {"new_empty_strided"}
_TIES = "torch leaves open which of equal items comes first"
_COARSE = "half formats: coordinates are computed in float32 here, in the half format there"
#: Operators that may differ in some samples, and why.
OPEN = {name: _TIES for name in ("sort", "argsort", "topk", "kthvalue", "masked.median")}
OPEN["linalg.eigh"] = "the signs of eigenvectors are open"
OPEN["linalg.eig"] = "the order of eigenvalues, and the phases of their vectors, are open"
OPEN["linalg.eigvals"] = "the order of eigenvalues is open"
OPEN |= {"grid_sampler_2d": _COARSE, "nn.functional.grid_sample": _COARSE}


#: Operators whose gradients may differ in some samples, and why.
OPEN_GRADIENTS = {
    "linalg.norm": "powers below 1 have no slope at zero: infinite there, NaN here",
    "logcumsumexp": "MLX's own gradient loses digits",
    "masked.logaddexp": "of two minus infinities: torch says 0, MLX NaN",
    "nn.functional.layer_norm": "a single number has no variance: what is left is rounding",
}


@dataclass
class Entry:
    """What happened to one operator: samples that passed by dtype, reasons of those that did
    not."""

    name: str
    passed: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    expected: dict[str, str] = field(default_factory=dict)
    untraced: int = 0
    largest: float = 0.0
    gradients: int = 0  # samples whose gradients were compared
    steepest: float = 0.0  # the largest difference of those
    gradient_wrong: str = ""
    gradient_open: str = ""

    @property
    def status(self) -> str:
        """pass (all dtypes that were tried and lowered agree), wrong, refused or untraced."""
        if self.wrong:
            return "wrong"
        if self.passed:
            return "pass"
        return "refused" if self.refused else "untraced"


def operators() -> dict[str, list[Any]]:
    """OpInfo entries by the operator's base name."""
    from torch.testing._internal.common_methods_invocations import op_db

    found: dict[str, list[Any]] = {}
    for op in op_db:
        found.setdefault(op.name, []).append(op)
    return found


def samples(op: Any, dtype: str, count: int) -> Iterator[Any]:
    """The first samples of an operator in a dtype."""
    import torch

    torch.manual_seed(0)
    try:
        drawn = op.sample_inputs("cpu", getattr(torch, dtype), requires_grad=False)
        for _, sample in zip(range(count), drawn, strict=False):
            yield sample
    except Exception:  # a sample of torch that its own build cannot make
        return


def run(name: str, ops: list[Any], count: int) -> Entry:
    """One operator, all its variants and dtypes."""
    import torch

    entry = Entry(name)
    for op in ops:
        for dtype in DTYPES:
            if getattr(torch, dtype) not in op.supported_dtypes("cpu"):
                continue
            most = count if dtype == "float32" else max(count // 3, 1)
            for sample in list(samples(op, dtype, most)):
                _sample(entry, op, dtype, sample)
    return entry


def _sample(entry: Entry, op: Any, dtype: str, sample: Any) -> None:
    import torch

    from torch2mlx.errors import ExportError, UnsupportedOperatorError
    from torch2mlx.translator import translate

    model, args = wrapped(op, sample)
    try:
        torch.manual_seed(1)
        expected = model(*args)
    except Exception:  # torch has no kernel for this sample
        return
    try:
        translation = translate(model, args, dynamic=False, check=False)
    except ExportError:
        entry.untraced += 1
        return
    except UnsupportedOperatorError as refusal:
        reason = refusal.findings[0].split(": ", 1)[-1][:160]
        entry.refused[reason] = entry.refused.get(reason, 0) + 1
        return
    except Exception as problem:
        entry.wrong.setdefault(dtype, f"translate: {type(problem).__name__}: {problem}"[:200])
        return
    agrees = _compare(entry, dtype, translation, args, expected)
    if agrees and dtype == "float32" and op.supports_autograd:
        compare_gradients(entry, translation, model, args)


def _compare(entry: Entry, dtype: str, translation: Any, args: Any, expected: Any) -> bool:
    """Notes whether outputs agree; True where they do and values are fixed."""
    from torch2mlx.export.ir.structures import arrays_of, difference, numpy_of, to_mlx

    drawn = entry.name in UNDEFINED or "random" in translation.source
    drawn |= any(word in translation.source for word in ("dropout(", "rrelu("))
    gaps = []
    try:
        found = translation.module(*(to_mlx(a) for a in args))
        for (_, a), (_, b) in zip(arrays_of(expected), arrays_of(found), strict=True):
            kind, (a, b) = str(a.dtype).rsplit(".", 1)[-1], (numpy_of(a), numpy_of(b))
            if a.shape != b.shape:
                raise ValueError(f"shape {b.shape}, torch's is {a.shape}")
            allowed = max({**DTYPES, **WIDE}.get(kind, 0.0), DTYPES[dtype])
            gaps.append((0.0 if drawn else difference(a, b), allowed))
    except Exception as problem:
        entry.wrong.setdefault(dtype, f"run: {type(problem).__name__}: {problem}"[:200])
        return False
    if all(gap <= allowed for gap, allowed in gaps):
        entry.passed[dtype] = entry.passed.get(dtype, 0) + 1
        if dtype == "float32":
            entry.largest = max([entry.largest, *(gap for gap, _ in gaps)])
        return not drawn
    if entry.name in OPEN:
        entry.expected[dtype] = OPEN[entry.name]
    else:
        entry.wrong.setdefault(dtype, f"differs by {max(gap for gap, _ in gaps):.1e}")
    return False


def compare_gradients(entry: Entry, translation: Any, model: Any, args: Any) -> None:
    """Gradients of sum(output * number) in all inputs of floats."""
    import mlx.core as mx
    import torch

    from torch2mlx.export.ir.structures import arrays_of, difference, numpy_of, to_mlx

    smooth = lambda value: value.is_floating_point()
    leaf = [a.detach().clone().requires_grad_() if smooth(a) else a for a in args]
    places = [i for i, a in enumerate(args) if smooth(a)]
    if not all(a.numel() for a in args):  # no gradient to compare, and MLX may crash on it
        return
    try:
        outputs = [o for _, o in arrays_of(model(*leaf))]
        kept = [i for i, o in enumerate(outputs) if smooth(o) and o.requires_grad]
        torch.manual_seed(2)
        scales = [torch.randn(outputs[i].shape).to(outputs[i].dtype) for i in kept]
        sum((outputs[i] * w).sum() for i, w in zip(kept, scales, strict=True)).backward()
    except Exception:  # torch has no gradient for this sample
        return

    def loss(*values: Any) -> Any:
        given = [to_mlx(a) for a in args]
        for place, value in zip(places, values, strict=True):
            given[place] = value
        made = [o for _, o in arrays_of(translation.module(*given))]
        pairs = zip(kept, scales, strict=True)
        return sum((made[i] * to_mlx(w)).astype(mx.float32).sum() for i, w in pairs)

    try:
        inputs = [to_mlx(args[i]) for i in places]
        found = mx.grad(loss, argnums=list(range(len(places))))(*inputs)
        found = found if len(places) > 1 else (found,)  # one is given alone
        mx.eval(found)
    except Exception as problem:
        entry.gradient_open = str(problem).strip().splitlines()[-1][:120]
        return
    entry.gradients += 1
    for place, gradient in zip(places, found, strict=True):
        given = leaf[place].grad
        zero = given is None or given._is_zerotensor()
        reference = torch.zeros_like(args[place]) if zero else given
        gap = difference(numpy_of(reference), numpy_of(gradient))
        if gap <= 1e-4:
            entry.steepest = max(entry.steepest, gap)
        elif entry.name in OPEN_GRADIENTS:
            entry.gradient_open = OPEN_GRADIENTS[entry.name]
        else:
            entry.gradient_wrong = f"input {place} differs by {gap:.1e}"


def wrapped(op: Any, sample: Any) -> tuple[Any, tuple[Any, ...]]:
    """A module that calls an operator on the sample's tensors, other arguments fixed."""
    import torch
    from torch.utils import _pytree as pytree

    leaves, spec = pytree.tree_flatten((sample.input, sample.args, sample.kwargs))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]

    class Calls(torch.nn.Module):
        def forward(self, *tensors: Any) -> Any:
            given = list(leaves)
            for place, tensor in zip(places, tensors, strict=True):
                given[place] = tensor
            first, args, kwargs = pytree.tree_unflatten(given, spec)
            return op(first, *args, **kwargs)

    return Calls().eval(), tuple(leaves[i] for i in places)


def _work(count: int, name: str, out: Any) -> None:
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    out.send(asdict(run(name, operators()[name], count)))


def run_all(names: Sequence[str], count: int, seconds: float = 60.0) -> Iterator[dict[str, Any]]:
    """Entries of operators, each in a process of its own; one that hangs is untraced."""
    import torch.export  # imported once, before processes are forked

    assert torch.export
    operators()
    work, answered = partial(_work, count), set()
    for name, found in side_by_side(names, work, seconds):
        if not isinstance(found, Ended):
            answered.add(name)
            yield found
        elif name not in answered:
            yield asdict(Entry(name, untraced=1))


def main(out: str, count: int, names: list[str]) -> None:
    """Runs operators and writes what happened."""
    chosen = names or sorted(operators())
    found = []
    for entry in run_all(chosen, count):
        found.append(entry)
        print(
            f"\r{len(found)}/{len(chosen)} {entry['name']:40}", end="", file=sys.stderr, flush=True
        )
    with open(out, "w") as file:
        json.dump(sorted(found, key=lambda e: e["name"]), file, indent=1)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 6, sys.argv[3:])
