"""Driver: models whose state passes from call to call, as an argument and a result in torch, in a
cache in MLX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch2mlx.common.options import option
from torch2mlx.errors import TranslationError
from torch2mlx.export.capture.freedom import Way
from torch2mlx.export.capture.recording import traced_in_mode
from torch2mlx.export.ir.dead import without_dead
from torch2mlx.export.ir.nodes import Program
from torch2mlx.export.ir.width import Narrowing
from torch2mlx.export.lower.lower import lower
from torch2mlx.export.lower.parameters import Stored
from torch2mlx.export.passes import tidy
from torch2mlx.export.printing.emit import emit
from torch2mlx.export.state.arguments import step_with
from torch2mlx.export.state.conditions import of_inputs
from torch2mlx.export.state.kinds import Entry, entries_of, leaves_of, symbols_of
from torch2mlx.export.state.lifting import lifted
from torch2mlx.export.state.model_file import streaming_end
from torch2mlx.export.state.stepping import Step, stepping
from torch2mlx.export.state.streaming import streams_alike
from torch2mlx.export.state.windows import with_windows
from torch2mlx.export.structure.assemble import Assembly
from torch2mlx.export.verify.preserved import preserved

if TYPE_CHECKING:
    from torch2mlx.translator import Translation


@dataclass(frozen=True)
class Lowered:
    """A call of a model in MLX's functions, its state still an argument and a result of it, and
    the caches that the state can be kept in."""

    traced: Any
    stored: Stored
    program: Program
    entries: Sequence[Entry]


def lowered(model: Any, step: Step, language: bool = True) -> Lowered:
    """One call of a model. `language`: for mlx-lm, which finds constants among the weights and
    has caches that grow.

    Raises ExportError, UnsupportedOperatorError, and TranslationError for conditions of the
    state's lengths that no cache tells.
    """
    with stepping(model, step) as given, preserved(model):
        traced = traced_in_mode(model, (), given, Way("all"))
    stored = Stored(model, narrow=Narrowing(True).decide(traced), visible=language)
    program = tidy(lower(traced, stored), stored.constants)
    entries = entries_of(leaves_of(program, step.tensors + step.numbers), language)
    entries = with_windows(program, entries, step.windows)
    lengths = of_inputs(traced.lengths, symbols_of(entries))
    return Lowered(replace(traced, lengths=lengths), stored, program, entries)


def streamed(
    model: Any, args: Sequence[Any], kwargs: Mapping[str, Any], state: Sequence[str], check: bool
) -> Translation:
    """The translation of a model whose arguments `state` come back in what it answers.

    Raises TranslationError where they do not, and where MLX answers otherwise than torch.
    """
    from torch2mlx.translator import Translation

    step = step_with(model, args, kwargs, state)
    found = lowered(model, step, language=False)
    traced, stored = found.traced, found.stored
    program = without_dead(lifted(found.program, found.entries))
    stored.keep_used(program)
    assembly = Assembly(program, traced, stored, stored.tree)
    end, name = streaming_end(found.program, found.entries, assembly.root.name)
    kind = type(model)
    heading = f"{kind.__name__} in MLX, translated from {kind.__module__}."
    large = any(not stored.printed(constant) for constant in stored.constants)
    source = emit(assembly, program, heading, model.training, large, (end, name))
    known = (source, name, model.training, traced.dynamic, traced.notes)
    shapes = traced.lengths.shapes
    made = Translation(*known, shapes=shapes, _stored=stored, _modes=assembly.modes())
    if not check:
        return made
    streams_alike(model, made.module, step, found.entries, shapes)
    return made.noted((), compared="equal")


def refuse_with_state(**asked: bool) -> None:
    """Raises TranslationError for an option that a model with a state does not take."""
    for name, given in asked.items():
        if given:
            raise TranslationError(f"{option(name)} is not taken together with {option('state')}")
