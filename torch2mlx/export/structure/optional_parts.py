"""Instances of one torch class of which some lack a part: a child that is None, or a sum that an
option leaves out. They do what the others do where the part is skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch2mlx.export.ir.nodes import Symbol, learn
from torch2mlx.export.ir.outline import Outline, Step
from torch2mlx.export.ir.regions import Region
from torch2mlx.export.structure.classes import Construct, Instance
from torch2mlx.export.structure.constructors import identity

_CHOICE = ("builtin.choose", "<option>")


def evened(instances: Sequence[Instance]) -> list[Instance]:
    """Instances, those that lack parts made alike to those that have them, where nothing else is
    different; these come first."""
    kinds: dict[type, list[Instance]] = {}
    for one in instances:
        kinds.setdefault(type(one.module), []).append(one)
    places = {id(one): i for i, one in enumerate(instances)}
    groups = [group for kind in kinds.values() for group in _evened(kind)]
    groups.sort(key=lambda group: min(places[id(one)] for one in group))
    return [one for group in groups for one in group]


def _evened(instances: list[Instance]) -> list[list[Instance]]:
    by_shape: dict[Any, list[Instance]] = {}
    for one in sorted(instances, key=lambda one: (-_length(one), one.leaves_out())):
        by_shape.setdefault(one.signature(), []).append(one)
    whole: list[list[Instance]] = []
    for group in by_shape.values():
        for others in whole:
            if _joins(others, group):
                others += group
                break
        else:
            whole.append(group)
    return whole


def _length(instance: Instance) -> int:
    return sum(len(outline.steps) for _, _, outline in instance.methods)


def _joins(more: list[Instance], less: list[Instance]) -> bool:
    """Makes instances that lack parts alike to others; whether they are, then."""
    if [name for name, _, _ in (*more[0].methods, *less[0].methods)] != ["__call__"] * 2:
        return False
    if _tensors(more[0]) != _tensors(less[0]) or more[0].buffers != less[0].buffers:
        return False
    lacking = _lacking(more[0], less)
    if lacking is not None:
        for one in less:
            _give(one, more[0], lacking)
        return True
    option = _option(more, less)
    if option is not None:
        for one in more:
            _choose(one, option, True)
        for one in less:
            _choose(one, option, False, more[0])
        return True
    return False


def _tensors(instance: Instance) -> Any:
    return [(name, made.template()) for name, made in instance.tensors]


@dataclass(frozen=True)
class Lacking:
    """Children that are not called: name -> the step of the others that calls each."""

    steps: dict[str, int]


def _lacking(more: Instance, less: list[Instance]) -> Lacking | None:
    """Children that some instances lack, if without their calls the others do the same."""
    whole, part = more.methods[0][2], less[0].methods[0][2]
    called = {step.what for step in part.steps}
    names = [name for name, _ in more.children]
    held = [name for name, _ in less[0].children]
    steps = {}
    for k, step in enumerate(whole.steps):
        name = str(step.what).removeprefix("self.")
        if step.what == f"self.{name}" and name in names and step.what not in called:
            if name in held or len(step.reads) != 1 or step.results != 1:
                return None
            steps[name] = k
    rest = [name for name in names if name not in steps]
    if not steps or rest != held or skipping(whole, set(steps.values())).shape() != part.shape():
        return None
    return Lacking(steps)


def skipping(outline: Outline, skipped: set[int]) -> Outline:
    """An outline without some steps, each of which gives back the first thing that it reads."""
    order: dict[int, int] = {}
    instead: dict[int, Any] = {}
    steps: list[Step] = []

    def moved(ref: Any) -> Any:
        if ref[0] != "made":
            return ref
        return instead[ref[1]] if ref[1] in instead else ("made", order[ref[1]], ref[2])

    for k, step in enumerate(outline.steps):
        if k in skipped:
            instead[k] = moved(step.reads[0])
            continue
        order[k] = len(steps)
        steps.append(replace(step, reads=tuple(map(moved, step.reads))))
    return Outline(tuple(steps), tuple(map(moved, outline.outputs)), outline.inputs)


def _give(one: Instance, like: Instance, lacking: Lacking) -> None:
    """Makes an instance alike to another that has more children."""
    own, children = dict(one.children), []
    for name, _ in like.children:
        absent = own.get(name) or _absent(one.module, name)
        children.append((name, absent))
        if absent.parts == ["None"]:
            one.without.add(name)
    one.children[:] = children
    one.methods[0] = (*one.methods[0][:2], _numbered(one, like, set(lacking.steps.values())))


def _absent(module: Any, name: str) -> Construct:
    """What stands for a child that is not called: None, or a layer that changes nothing."""
    held = getattr(module, name, None)
    return Construct(["None"]) if held is None else identity()


def _numbered(one: Instance, like: Instance, skipped: set[int]) -> Outline:
    """The outline of another instance, with an instance's own numbers."""
    own = iter(one.methods[0][2].steps)
    whole = like.methods[0][2]
    steps = (
        step if k in skipped else replace(step, numbers=next(own).numbers)
        for k, step in enumerate(whole.steps)
    )
    return replace(whole, steps=tuple(steps))


@dataclass(frozen=True)
class Option:
    """A sum that an attribute of the modules leaves out: its step, and which operand stays."""

    step: int
    stays: int


def _option(more: list[Instance], less: list[Instance]) -> Option | None:
    """The sum, if without it the instances do the same, and an attribute tells which they do."""
    whole, part = more[0].methods[0][2], less[0].methods[0][2]
    names = [name for name, _ in more[0].children]
    if len(whole.steps) != len(part.steps) + 1 or [n for n, _ in less[0].children] != names:
        return None
    if not any(_tells(more, less)):
        return None
    for k, step in enumerate(whole.steps):
        if step.what[0] == "operator.add" and len(step.reads) == 2:
            for stays in (0, 1):
                turned = replace(step, reads=(step.reads[stays],))
                steps = (*whole.steps[:k], turned, *whole.steps[k + 1 :])
                if skipping(replace(whole, steps=steps), {k}).shape() == part.shape():
                    return Option(k, stays)
    return None


def _tells(more: list[Instance], less: list[Instance]) -> Iterator[str]:
    """Attributes that are True in some modules and False in others."""
    for name in vars(more[0].module):
        yes = all(getattr(one.module, name, None) is True for one in more)
        if yes and all(getattr(one.module, name, None) is False for one in less):
            yield name


def _choose(one: Instance, option: Option, value: bool, like: Instance | None = None) -> None:
    """Adds a choice after the sum: it, or the operand that stays."""
    name, region, outline = one.methods[0]
    if like is not None:
        own = iter(outline.steps)
        whole = like.methods[0][2]
        at = option.step
        steps = []
        for k, step in enumerate(whole.steps):
            numbers = (value,) if k == at + 1 else () if k == at else next(own).numbers
            steps.append(replace(step, numbers=numbers))
        one.methods[0] = (name, region, replace(whole, steps=tuple(steps)))
        return
    at = option.step
    added = Step(_CHOICE, (("made", at, 0), outline.steps[at].reads[option.stays]), (value,))

    def moved(ref: Any) -> Any:
        if ref[0] != "made" or ref[1] < at:
            return ref
        return ("made", ref[1] + 1, ref[2])

    after = [replace(s, reads=tuple(map(moved, s.reads))) for s in outline.steps[at + 1 :]]
    outputs = tuple(map(moved, outline.outputs))
    whole_steps = (*outline.steps[: at + 1], added, *after)
    one.methods[0] = (name, region, Outline(whole_steps, outputs, outline.inputs))
    if len(region.items) == len(outline.steps):  # else the class is not written after this one
        _may_be(region, at, lambda made, item: (value, made, item.args[option.stays]))


def with_absent_children(
    region: Region, names: Sequence[str], called: Callable[[Any], str]
) -> None:
    """Writes, for children that are None in some instances, that their calls may be left out."""
    for name in names:
        for k, item in enumerate(region.items):
            reads = item.given if isinstance(item, Region) else list(item.args[1:2])
            if called(item) == f"self.{name}" and len(reads) == 1:
                nothing, given = Symbol(f"self.{name} is None"), reads[0]
                _may_be(region, k, lambda made, _, g=given, n=nothing: (n, g, made))
                break


def _may_be(region: Region, at: int, choice: Callable[..., tuple[Any, ...]]) -> None:
    """Makes the result of a statement one of two: `choice` has the arguments of the choice, from
    what the statement gives and the statement. Who reads the result reads the choice."""
    item = region.items[at]
    result = item.outputs[0] if isinstance(item, Region) else item
    made = replace(result)
    arguments = choice(made, made)
    if isinstance(item, Region):
        item.outputs = [made]
    else:
        region.items[at] = made
    learn(result, op="builtin.choose", args=arguments, kwargs={})
    region.items.insert(at + 1, result)
