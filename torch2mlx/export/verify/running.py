"""Each side's answer: on its own copy of the inputs, in torch's eager way, on MLX's CPU device."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from torch2mlx.export.capture.neutral import neutral
from torch2mlx.export.ir.structures import copied
from torch2mlx.export.structure.io_layout import Ends
from torch2mlx.export.verify.attributes import Attributes
from torch2mlx.export.verify.empty_sums import sums_that_end
from torch2mlx.export.verify.outputs import Parts, arrays_among, kept, parts_of, turned
from torch2mlx.export.verify.preserved import Streams, preserved, preserved_twin, seeded

#: What earlier calls draw from, so that it is not what the last one draws.
EARLIER_SEED = 29


@dataclass(frozen=True)
class Case:
    """Inputs that both sides get; `label` names them where there are several. `less` is the case
    to look at where torch raises for this one."""

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    label: str = ""
    less: Case | None = None


@dataclass(frozen=True)
class Answer:
    """torch's outputs, and the names of the random streams that they were drawn from."""

    parts: Parts
    drew: frozenset[str] = frozenset()
    #: What the forward changed, with the new values; empty where it was not watched.
    changed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """A torch model and its MLX twin, and how each is run.

    `ends`: which ends of the twin have channels last. `graded`: torch runs with gradients switched
    on. `filled` makes the context in which torch's parameters have values, `reading` the one in
    which the twin's have: for models that stay on the disk.
    """

    model: Any
    module: Any
    ends: Ends
    graded: bool = False
    filled: Callable[[], Any] = nullcontext
    reading: Callable[[], Any] = nullcontext

    def torch(
        self,
        case: Case,
        around: Callable[[], Any] = nullcontext,
        before: Sequence[Case] = (),
        watched: bool = False,
    ) -> Answer:
        """torch's answer, after calls with other inputs; `around` makes a context for all calls,
        and `watched` notes what the forward changes. Whatever the earlier ones draw, the last draws
        as it would without them."""
        return torch_answer(self.model, case, self.graded, self.filled, around, before, watched)

    def mlx(
        self, case: Case, around: Callable[[], Any] = nullcontext, before: Sequence[Case] = ()
    ) -> Parts:
        """MLX's answer, in torch's layout; the module is left as it was."""
        import mlx.core as mx

        with mx.stream(mx.cpu), preserved_twin(self.module), self.reading():
            calls = [self.ends.given(self.model, *own_inputs(one)) for one in (*before, case)]
            with around(), sums_that_end():
                for args, kwargs in calls:
                    found = self.module(*args, **kwargs)
            parts = turned(parts_of(found), self.ends)
            mx.eval(arrays_among(parts))
        return parts


@contextmanager
def plainly() -> Iterator[None]:
    """torch without the fused encoder layer, which answers 0 at padded places: no export has it;
    and without the autocast or the inference mode that the caller may be in."""
    import torch

    was = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with neutral():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was)


def torch_answer(
    model: Any,
    case: Case,
    graded: bool = False,
    filled: Callable[[], Any] = nullcontext,
    around: Callable[[], Any] = nullcontext,
    before: Sequence[Case] = (),
    watched: bool = False,
) -> Answer:
    """What a torch model answers after calls with other inputs; it is left as it was (see Pair for
    the contexts). What the forward changes takes a walk over all that its code reaches: `watched`
    asks for it."""
    import torch

    with preserved(model), plainly(), torch.set_grad_enabled(graded), filled():
        *calls, (args, kwargs) = [own_inputs(one) for one in (*before, case)]
        with around():
            with seeded(EARLIER_SEED):
                for earlier in calls:
                    model(*earlier[0], **earlier[1])
            streams, attributes = Streams(model), Attributes(model) if watched else None
            answer = model(*args, **kwargs)
            drew, changed = streams.moved(), attributes.changed() if attributes else {}
        return Answer(kept(parts_of(answer)), drew, changed)


def raised(model: Any, cases: Sequence[Case], graded: bool = False) -> list[Exception | None]:
    """What a torch model raises at each of several calls, None where it answers; it is left as it
    was at the end."""
    import torch

    errors: list[Exception | None] = []
    with preserved(model), plainly(), torch.set_grad_enabled(graded), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in cases:
            args, kwargs = own_inputs(case)
            try:
                model(*args, **kwargs)
                errors.append(None)
            except Exception as error:  # whatever the model raises
                errors.append(error)
    return errors


def own_inputs(case: Case) -> tuple[Any, Any]:
    """Copies of the arguments, which a call may write to."""
    args, kwargs = copied((tuple(case.args), dict(case.kwargs)))
    return args, kwargs
