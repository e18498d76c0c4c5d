"""`translate` runs what it made: on its own example inputs, against torch's answer."""

from __future__ import annotations

import traceback
from typing import Any

from torch2mlx.common import options
from torch2mlx.errors import TranslationError, VerificationError
from torch2mlx.export.capture.empty_weights import is_empty
from torch2mlx.export.verify.comparing import Verification, agree, leaves_of
from torch2mlx.export.verify.faults import short, torch_fault
from torch2mlx.export.verify.judging import judge
from torch2mlx.export.verify.lazily import shapes_fit
from torch2mlx.export.verify.running import Answer, Case, Pair, torch_answer
from torch2mlx.export.verify.walk import first_difference


def answered(model: Any, case: Case, graded: bool = False) -> Answer | None:
    """torch's own answer on the example inputs; None for a model without values.

    Raises TranslationError, with the line of the model's source, where its forward raises.
    """
    if is_empty(model) or any(leaf.is_meta for _, leaf in leaves_of((case.args, case.kwargs))):
        return None
    try:
        return torch_answer(model, case, graded, watched=True)
    except Exception as error:
        raise TranslationError(torch_fault(model, case, error)) from error


def examined(
    made: Any, traced: Any, case: Case, answer: Answer | None
) -> tuple[str, tuple[str, ...]]:
    """Runs a translation on its example inputs: what came of it (see Translation.compared), and
    what there is to note.

    `answer` is torch's; without one shapes are compared. Raises TranslationError where the module
    cannot run, or answers otherwise.
    """
    try:
        if answer is None:
            return shapes_fit(made, traced, case)
        pair = Pair(traced.model, made.module, made.ends, made.graded)
        found = judge(pair, case, None, answer)
    except TranslationError as error:
        raise TranslationError(f"on the example inputs {error}; {_all_the_same()}") from None
    except VerificationError as error:
        told = f"on the example inputs {error}"
        if answer is None:
            raise TranslationError(f"{told}; {_all_the_same()}") from None
        raise TranslationError(f"{told}\n{_whose(traced, case, answer, pair)}") from None
    except Exception as error:
        raise TranslationError(_broken(made.source, error)) from error
    if found.fixed:
        raise TranslationError(found.fixed)
    table = Verification(found.outputs)
    if table.verdict != "differs":
        return table.verdict, (*found.notes, *(str(o) for o in found.outputs if not o.ok))
    table = Verification(found.outputs, first_difference(pair, case) if table.apart else None)
    raise TranslationError(
        f"on the example inputs MLX answers otherwise than torch:\n{table}\n"
        f"{_whose(traced, case, answer, pair)}"
    )


def _whose(traced: Any, case: Case, answer: Answer, pair: Pair) -> str:
    """Which step a difference comes from: the exported program is run too."""
    try:
        exported = torch_answer(traced.program.module(), case, pair.graded).parts
    except Exception as error:
        said = f"torch's exported program does not run either: {short(error)}"
        return f"{said}; {_all_the_same()}"
    if agree(exported, answer.parts):
        said = "torch's exported program answers as the model does: the fault is torch2mlx's"
    elif agree(exported, pair.mlx(case)):
        said = (
            "MLX answers as torch's exported program does: torch.export traces another program "
            "than the model runs"
        )
    else:
        said = "torch's exported program answers otherwise than both"
    return f"{said}; {_all_the_same()}"


def unchecked() -> str:
    """The note on a translation that was not run."""
    return f"the result was not run and compared: {options.given('check', False)}"


def _all_the_same() -> str:
    return f"{options.given('check', False)} returns the translation all the same"


def _broken(source: str, error: BaseException) -> str:
    """That the file cannot run, with its line."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "<translated_" in f.filename]
    number = error.lineno if isinstance(error, SyntaxError) else None
    number = frames[-1].lineno if frames else number
    lines = source.split("\n")
    where = f"line {number}, `{lines[number - 1].strip()}`: " if number else ""
    return (
        f"the file that was made cannot run, a fault of torch2mlx: {where}{short(error)}; "
        f"{_all_the_same()}"
    )
