"""Two recordings side by side: which step, module and tensor of one is which of the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from torch2mlx.lockstep.matching import Match, Matching, canonical

Step = dict[str, Any]
Call = dict[str, Any]


@dataclass(frozen=True)
class Sides:
    """The recordings of both scripts, of torch with rounding put in, and their matching.

    `matches`: by the names of MLX's arrays, "root:name"; `modules`: paths of torch's modules by
    those of MLX, each with the number of its root.
    """

    torch: dict[str, Any]
    mlx: dict[str, Any]
    noisy: dict[str, Any]
    matches: Mapping[str, Match]
    modules: Mapping[tuple[int, str], tuple[int, str]]

    def torch_name(self, name: str) -> str:
        """ "root:name" as people read it: the variable that holds the model, then the name."""
        return _shown(self.torch, name)

    def mlx_name(self, name: str) -> str:
        """The same of MLX's side."""
        return _shown(self.mlx, name)

    def module_name(self, root: int, path: str) -> str:
        """A module of torch, as people read it, with its class."""
        held = self.torch["start"]["roots"][root]
        kind = held["modules"].get(path, {}).get("kind", "")
        several = len(self.torch["start"]["roots"]) > 1
        head = held["name"] if several or not path else ""
        return f"{'.'.join(p for p in (head, path) if p)} ({kind})"


def _shown(side: dict[str, Any], name: str) -> str:
    root, _, rest = name.partition(":")
    roots = side["start"]["roots"]
    return f"{roots[int(root)]['name']}.{rest}" if len(roots) > 1 else rest


def sides(torch: dict[str, Any], mlx: dict[str, Any], noisy: dict[str, Any]) -> Sides:
    """The recordings, matched."""
    candidates = Matching(torch["start"]["roots"]).candidates
    matches = {f"{root}:{name}": candidates[number][2] for root, name, number, _ in mlx["pairs"]}
    return Sides(torch, mlx, noisy, matches, dict(_modules(torch, mlx, matches)))


def _modules(
    torch: dict[str, Any], mlx: dict[str, Any], matches: Mapping[str, Match]
) -> Iterator[tuple[tuple[int, str], tuple[int, str]]]:
    root_of = dict(mlx["root_of"])
    owners = _owners(matches)
    for number, root in enumerate(mlx["start"]["roots"]):
        theirs = root_of.get(number)
        held = torch["start"]["roots"][theirs]["modules"] if theirs is not None else ()
        known = {canonical(path): path for path in held}
        for path in root["modules"]:
            if theirs is not None and canonical(path) in known:
                yield (number, path), (theirs, known[canonical(path)])
            elif (number, path) in owners:
                yield (number, path), owners[number, path]


def _owners(matches: Mapping[str, Match]) -> dict[tuple[int, str], tuple[int, str]]:
    """Modules of MLX that own just what one module of torch owns."""
    found: dict[tuple[int, str], set[tuple[int, str]]] = {}
    back: dict[tuple[int, str], set[tuple[int, str]]] = {}
    for name, match in matches.items():
        ours = _owner(name)
        for source in match.sources:
            found.setdefault(ours, set()).add(_owner(source))
            back.setdefault(_owner(source), set()).add(ours)
    return {
        ours: next(iter(theirs))
        for ours, theirs in found.items()
        if len(theirs) == 1 and len(back[next(iter(theirs))]) == 1
    }


def _owner(name: str) -> tuple[int, str]:
    root, _, rest = name.partition(":")
    return int(root), rest.rpartition(".")[0]


def tensors(held: list[list[Any]]) -> dict[str, np.ndarray]:
    """What a step's models hold, by "root:name"."""
    return {f"{root}:{name}": values for root, name, values, *_ in held if values is not None}


# --- steps


def aligned(both: Sides) -> list[tuple[list[int], list[int]]]:
    """Steps that train the same tensors: several of one side where they share one of the other.

    Where the two train different tensors the row ends, with what comes next on each side.
    """
    theirs = [set(step["gradients"]) for step in both.torch["steps"]]
    ours = [
        {source for name in step["gradients"] for source in _sources(both, name)}
        for step in both.mlx["steps"]
    ]
    rows, i, j = [], 0, 0
    while i < len(theirs) and j < len(ours):
        left, right = [i], [j]
        have, got = set(theirs[i]), set(ours[j])
        i, j = i + 1, j + 1
        while j < len(ours) and _more(ours[j], got, have):
            got |= ours[j]
            right.append(j)
            j += 1
        while i < len(theirs) and _more(theirs[i], have, got):
            have |= theirs[i]
            left.append(i)
            i += 1
        rows.append((left, right))
    return rows


def _more(new: set[str], have: set[str], other: set[str]) -> bool:
    """Whether another step trains what the other side trained already, and nothing twice."""
    return bool(new & other) and not new & have and not other <= have


def _sources(both: Sides, name: str) -> tuple[str, ...]:
    match = both.matches.get(name)
    return match.sources if match else ()


def merged(steps: list[Step], numbers: list[int]) -> Step:
    """Several steps as one."""
    chosen = [steps[n] for n in numbers]
    if len(chosen) == 1:
        return chosen[0]
    whole = dict(chosen[-1])
    for key in ("gradients", "slots", "raw", "resumed"):
        whole[key] = {name: v for step in chosen for name, v in step.get(key, {}).items()}
    for key in ("calls", "losses"):
        whole[key] = [item for step in chosen for item in step[key]]
    kinks = [step["kinks"] for step in chosen if "kinks" in step]
    whole["kinks"] = [max(shares) for shares in zip(*kinks, strict=True)]
    whole["backwards"] = sum(step["backwards"] for step in chosen)
    whole["first_draw"] = chosen[0]["first_draw"]
    options = {name: v for step in chosen for name, v in step["optimizer"]["options"].items()}
    whole["optimizer"] = {**chosen[-1]["optimizer"], "options": options}
    return whole


# --- calls of modules


def paired(
    both: Sides, torch: list[Call], mlx: list[Call], same: Any
) -> list[tuple[int, Call, Call]]:
    """Calls of the same module, in the order in which torch's ended, with torch's place.

    MLX may run a forward pass again (to differentiate what torch kept the graph of), or what needs
    no gradient before what does: calls of a module that agree belong together, in order, and of as
    many as torch's the others do as they come.
    """
    ours: dict[tuple[int, str], list[Call]] = {}
    for call in mlx:
        place = both.modules.get((call["root"], call["path"]))
        if place is not None:
            ours.setdefault(place, []).append(call)
    theirs: dict[tuple[int, str], list[int]] = {}
    for number, call in enumerate(torch):
        theirs.setdefault((call["root"], call["path"]), []).append(number)
    found: dict[int, Call] = {}
    for place, numbers in theirs.items():
        calls = ours.get(place, [])
        together = _in_order(torch, numbers, calls, same)
        if len(calls) == len(numbers):
            left = [number for number in numbers if number not in together]
            taken = {id(call) for call in together.values()}
            others = [call for call in calls if id(call) not in taken]
            together.update(zip(left, others, strict=True))
        found.update(together)
    return [(number, torch[number], found[number]) for number in sorted(found)]


def _in_order(
    torch: list[Call], numbers: list[int], calls: list[Call], same: Any
) -> dict[int, Call]:
    found: dict[int, Call] = {}
    place, used = 0, set[int]()
    for rank, number in enumerate(numbers):
        order = (*range(place, len(calls)), *range(place))
        later = [k for k in order if k not in used and same(number, torch[number], calls[k])]
        if later:
            found[number], place = calls[later[0]], later[0] + 1
            used.add(later[0])
        elif rank < len(calls) and len(numbers) < len(calls):
            found[number] = calls[rank]
    return found
