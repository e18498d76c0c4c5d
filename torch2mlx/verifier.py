"""`verify`: both models on the same inputs, every output compared, and where they part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch2mlx.common import options
from torch2mlx.common.optional import need
from torch2mlx.errors import Torch2MLXError, VerificationError
from torch2mlx.export.capture.sizes import shapes_of
from torch2mlx.export.capture.streaming import Unread, values_from
from torch2mlx.export.ir.builder import common_dtype
from torch2mlx.export.state.reading import keeps_cache
from torch2mlx.export.structure.io_layout import Ends, ends_of, graded_of
from torch2mlx.export.verify.again import differs_again
from torch2mlx.export.verify.comparing import TOLERANCES, Compared, Verification
from torch2mlx.export.verify.entry import given, named_well
from torch2mlx.export.verify.faults import mlx_fault, short, torch_fault
from torch2mlx.export.verify.gradients import trained
from torch2mlx.export.verify.judging import Judgement, judge
from torch2mlx.export.verify.other_sizes import cases, judged_near
from torch2mlx.export.verify.running import Answer, Case, Pair
from torch2mlx.export.verify.walk import first_difference, layer_differences, read_at_calls
from torch2mlx.export.verify.weights import strangers
from torch2mlx.translator import Translation, load


@named_well("verify", VerificationError)
def verify(
    model: Any,
    translated: Any,
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    tolerance: float | None = None,
    *,
    sizes: Sequence[Mapping[str, Sequence[int | None]]] | None = None,
    gradients: bool = False,
    layers: bool = False,
    weights: Any = None,
    key: str | None = None,
    trust_remote_code: bool = False,
) -> Verification:
    """Runs a torch model and its MLX twin on the same inputs, on the CPU, and compares all outputs.

    `translated` is what `translate` gave, a module, or the folder of a saved one; inputs are given
    as to `translate`. Each side gets a copy of them of its own, and both models are left as they
    were. The difference of an output is max|a - b| / max(1, max|a|); allowed is 1e-4 for float32,
    1e-2 for half formats, none for integers, unless `tolerance` says otherwise. When one is off,
    the modules are walked to the first that differs. Dtypes have to be torch's, but for whole
    numbers of another width and for float64, complex128 and float8, which MLX's GPU has not;
    plain values (numbers, texts, None) have to be equal.

    Inputs of other sizes are made of the given ones and compared too, as far as lengths are free:
    shorter ones, then longer ones by repeating what is there. A size for which torch raises is
    noted, and another batch alone is tried; one that the file refuses is noted. `sizes`
    gives others, `[{"ids": (1, 7)}, ...]`, the shapes of arguments by name, None for a length that
    stays; `sizes=[]` none. Models whose weights stay on
    the disk are compared at one size.

    `gradients`: compared are also the gradients of all parameters, for a fixed random weighting of
    the outputs, and the outputs and buffers after one step of gradient descent along them, each
    model in the mode that it is in. A gradient's difference is max|a - b| / max|a|, a being at
    least a hundredth of the model's largest; allowed is 1e-3 for float32, 5e-2 for half formats.

    `layers`: compared is also the result of every module that both sides call, on the given
    inputs, for `Verification.layers`; both sides run once more for it.

    `weights`: the checkpoint of a model made under `empty_weights`, `translated` being the folder:
    each side then reads a module's weights when that module is called and forgets them again, so
    that models larger than memory are compared, in the dtype of the torch model's parameters.
    `key` picks a state dict in a nested checkpoint.

    `trust_remote_code`: whether a folder's model.py may run that this user's own `translate` did
    not write (see `load`).

    Raises VerificationError where the inputs are not the model's, or the structures of the outputs
    differ, StateDictMismatchError when the checkpoint is not the model's.
    """
    need("verify", "torch", "mlx")
    _ordered(model, translated, tolerance)
    model, args, kwargs = given("verify", model, args, kwargs)
    if gradients and weights is not None:
        name = options.option("weights")
        raise VerificationError(f"gradients need the weights in memory: leave out {name}")
    pair = _opened(model, translated, weights, key, trust_remote_code)
    outputs: list[Compared] = []
    notes: list[str] = []
    first = None
    walked: tuple[Compared, ...] = ()
    tried = [] if weights is not None and sizes is None else sizes
    ours = isinstance(translated, (str, Path, Translation))  # others may have any attribute
    shapes = shapes_of(translated) if ours else {}
    for case in cases(model, args, kwargs, shapes, tried):
        if case.label:
            case, found = judged_near(pair, case, tolerance, _against)
        else:
            found = _judged(pair, case, tolerance, shapes)
        off = any(output.verdict == "differs" for output in found.outputs)
        if first is None and Verification(found.outputs).apart:
            first = first_difference(pair, case, tolerance)
        compared = found.outputs
        if layers and not case.label:
            walked = layer_differences(pair, case, tolerance)
        if gradients and not case.label:
            compared += _trained(pair, case, tolerance)
        outputs += [replace(o, case=case.label) for o in compared]
        notes += found.notes
        if off and not case.label:
            break  # other sizes would differ too
    told = tuple(dict.fromkeys(notes))
    whole = Verification(tuple(outputs), first, notes=told, layers=walked)
    if whole.verdict != "differs":
        return whole
    return replace(whole, weights=strangers(pair.model, pair.module))


def _judged(pair: Pair, case: Case, tolerance: float | None, shapes: Any) -> Judgement:
    """One case. Raises VerificationError where a side raises, or a second call differs."""
    try:
        answer = pair.torch(case, watched=True)
    except Torch2MLXError:
        raise
    except Exception as error:
        raise VerificationError(torch_fault(pair.model, case, error)) from error
    found = _against(pair, case, tolerance, answer)
    off = any(output.verdict == "differs" for output in found.outputs)
    again = "" if off else differs_again(pair, case, answer, shapes)
    if again:
        raise VerificationError(again)
    return found


def _against(pair: Pair, case: Case, tolerance: float | None, answer: Answer) -> Judgement:
    """One case, torch's answer being there. Raises VerificationError where MLX's side raises."""
    try:
        return judge(pair, case, tolerance, answer)
    except Torch2MLXError:
        raise
    except Exception as error:
        raise VerificationError(mlx_fault(error)) from error


def _trained(pair: Pair, case: Case, tolerance: float | None) -> tuple[Compared, ...]:
    """Gradients and a step. Raises VerificationError where a side raises."""
    try:
        return trained(pair, case, tolerance)
    except Torch2MLXError:
        raise
    except Exception as error:
        raise VerificationError(f"in training {short(error)}") from error


def _ordered(model: Any, translated: Any, tolerance: Any) -> None:
    """Raises VerificationError where arguments stand in each other's place."""
    import torch

    if isinstance(model, Translation) or isinstance(translated, torch.nn.Module):
        raise VerificationError(
            "the torch model comes first, its translation second: write verify(model, t, inputs)"
        )
    if isinstance(translated, str) and "\n" in translated:
        raise VerificationError(
            "source text is no translation: write verify(model, t, inputs) with what translate gave"
        )
    held = isinstance(tolerance, (int, float)) and not isinstance(tolerance, bool)
    if tolerance is not None and not (held and tolerance >= 0):
        raise VerificationError(
            f"tolerance is a number, not {tolerance!r}: write tolerance=1e-3, or inputs that are "
            "several in one tuple"
        )


def _opened(model: Any, translated: Any, weights: Any, key: str | None, trusted: bool) -> Pair:
    """The two sides; those of a model that is to stay on the disk read as they are called."""
    import mlx.nn

    if isinstance(translated, (str, Path)):
        folder = Path(translated)
        module, ends = load(folder, trust_remote_code=trusted), ends_of(folder)
        if keeps_cache(module):
            raise VerificationError(
                f"{folder}: holds a language model with a cache, whose calls are not torch's; what "
                "writes it compares it: torch2mlx translate --cache, language_model in Python"
            )
        if weights is None:
            return Pair(model, module, ends, graded_of(folder))
        unread = Unread(module, folder, common_dtype(model))
        return Pair(
            model,
            module,
            ends,
            filled=lambda: values_from(model, weights, key),
            reading=lambda: read_at_calls(module, unread),
        )
    if weights is not None:
        raise VerificationError("weights are streamed from a saved translation: give its folder")
    if isinstance(translated, Translation):
        return Pair(model, translated.module, translated.ends, translated.graded)
    if not isinstance(translated, mlx.nn.Module):
        kind = "None" if translated is None else f"an object of {type(translated).__name__}"
        raise VerificationError(
            f"{kind} is no translation: the second argument is what translate gave, an MLX module, "
            "or a folder: write verify(model, t, inputs)"
        )
    return Pair(model, translated, Ends())


__all__ = ["TOLERANCES", "Compared", "Verification", "verify"]
