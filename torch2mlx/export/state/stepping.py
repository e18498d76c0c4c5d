"""A model whose forward takes its state as a list of tensors and answers the next one: what is
traced of a call in the middle of a sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import Parameter, Signature
from typing import Any, TypeVar

from torch2mlx.errors import TranslationError
from torch2mlx.export.state.trees import Path, leaves, numbers_of, tensors_of, with_parts

#: The argument of the traced forward that holds the state.
STATE = "state"
#: Tokens of a call that is traced: several, where a call takes any number; one else.
SEVERAL, ONE = 3, 1
Made = TypeVar("Made")


def any_number_or_one(proved: Callable[[int], Made]) -> Made:
    """What can be made of calls of any number of tokens; where there is none, or it is not right,
    of calls that take them one by one. `proved` makes it, told how many tokens are traced.

    Raises the first TranslationError where both raise one.
    """
    try:
        return proved(SEVERAL)
    except TranslationError as error:
        problem = error
    try:
        return proved(ONE)
    except TranslationError as error:
        raise problem from error


@dataclass(frozen=True)
class Step:
    """One call in the middle of a sequence.

    `inputs` are the tensors that come with every call, by argument; `fixed` arguments that are the
    same in all; `state` the objects that hold what the calls before left, by argument. `tensors`
    are the ways to what changes in them, `numbers` those to the counters. `written` tells whether
    the forward writes into the tensors that it is given. `answer` picks out of a forward's output
    what is no state, `following` the objects that hold the next state.
    """

    inputs: Mapping[str, Any]
    fixed: Mapping[str, Any]
    state: Mapping[str, Any]
    answer: Callable[[Any], Any]
    following: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]]
    tensors: tuple[Path, ...] = ()
    numbers: tuple[Path, ...] = ()
    written: frozenset[Path] = field(default_factory=frozenset)
    #: Holders of keys from which what is outside of a window is gone -> how many they hold.
    windows: Mapping[Path, int] = field(default_factory=dict)
    #: What the forward takes, from `inputs` and the objects that hold the state.
    placed: Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]] | None = None

    @property
    def values(self) -> list[Any]:
        """The tensors of the state; of a counter an empty one that is as long as it counts."""
        import torch

        held, counted = tensors_of(self.state), numbers_of(self.state)
        lengths = [torch.empty((counted[path], 0)) for path in self.numbers]
        return [*(held[path] for path in self.tensors), *lengths]

    def given(self, inputs: Mapping[str, Any], objects: Mapping[str, Any]) -> dict[str, Any]:
        """All arguments of the forward."""
        taken = inputs if self.placed is None else self.placed(inputs, objects)
        return {**taken, **self.fixed, **objects}

    def objects(self, leaves: list[Any]) -> Mapping[str, Any]:
        """The arguments that hold a state given as a list of tensors."""
        parts: dict[Path, Any] = {}
        for path, leaf in zip(self.tensors, leaves, strict=False):
            parts[path] = leaf.clone() if path in self.written else leaf
        for path, leaf in zip(self.numbers, leaves[len(self.tensors) :], strict=True):
            parts[path] = leaf.shape[0]
        return dict(with_parts(dict(self.state), parts))

    def next_leaves(self, output: Any, given: Mapping[str, Any]) -> list[Any]:
        """The state after a call as a list of tensors."""
        import torch

        after = self.following(output, given)
        held, counted = tensors_of(after), _counted(after)
        lengths = [torch.empty((counted[path], 0)) for path in self.numbers]
        return [*(held[path] for path in self.tensors), *lengths]


def _counted(value: Any) -> Mapping[Path, Any]:
    """Counters, which are symbolic while a model is traced."""
    import torch

    kinds = (int, torch.SymInt)
    return {path: leaf for path, leaf in leaves(value) if isinstance(leaf, kinds)}


def changing(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Any, Any]:
    """The ways to the tensors and to the integers that a call changed.

    Raises TranslationError where the two do not hold the same things.
    """
    import torch

    old, new = tensors_of(before), tensors_of(after)
    if old.keys() != new.keys():
        odd = sorted(map(shown, old.keys() ^ new.keys()))
        raise TranslationError(f"the state holds {odd[0]} after some calls only")
    tensors = tuple(
        path
        for path, tensor in old.items()
        if tensor.shape != new[path].shape or not torch.equal(tensor, new[path])
    )
    counted, later = numbers_of(before), numbers_of(after)
    return tensors, tuple(p for p, n in counted.items() if later.get(p, n) != n)


def shown(path: Path) -> str:
    """A way as text."""
    return ".".join(map(str, path))


@contextmanager
def stepping(model: Any, step: Step) -> Iterator[dict[str, Any]]:
    """While open, the model's forward takes `step.inputs` and a list `state`, and answers what
    it says and the next state. Gives the arguments to call it with."""
    forward, held = model.forward, dict(vars(model))

    def called(*args: Any, **given: Any) -> Any:
        given |= dict(zip((*step.inputs, STATE), args, strict=False))
        objects = step.objects(list(given.pop(STATE)))
        output = forward(**step.given(given, objects))
        return step.answer(output), step.next_leaves(output, objects)

    kind = Parameter.POSITIONAL_OR_KEYWORD
    names = [Parameter(name, kind) for name in (*step.inputs, STATE)]
    stepped: Any = called
    stepped.__signature__ = Signature(names)
    model.forward = stepped
    try:
        yield {**step.inputs, STATE: step.values}
    finally:
        del model.forward
        if "forward" in held:
            model.forward = held["forward"]
