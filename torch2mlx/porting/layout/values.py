"""What the plan of a file's layout is made of: values, modules, and what to do at which node."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Value:
    """`kind`: "plain" (as in torch), "last" (channels last), "none", "list" or "tuple" (of `items`;
    a list has one for all). `rank`: its axes, 0 where not known. `origins`: arguments of the
    function that it is, but for functions of single items."""

    kind: str = "plain"
    items: tuple[Value, ...] = ()
    rank: int = 0
    origins: frozenset[str] = frozenset()

    @property
    def last(self) -> bool:
        """Whether it surely is an array with its channels last."""
        return self.kind == "last"

    @property
    def holds(self) -> bool:
        """Whether it is one, or holds one."""
        return self.last or any(item.holds for item in self.items)


PLAIN = Value()
NOTHING = Value("none")  # None


@dataclass(frozen=True)
class Member:
    """A module, as far as it is known. `kind`: "stock" (a layer of torch.nn), "own" (of a class of
    the file), "chain" (nn.Sequential), "list", "either", "none", "class" (of torch.nn or of the
    file, not called), "function", "other". `site` is the node that makes it."""

    kind: str
    name: str = ""
    site: Any = None
    items: tuple[Member, ...] = ()
    repeated: bool = False  # items of a list that a loop made
    node: Any = field(default=None, compare=False, hash=False)
    names: Any = field(default=None, compare=False, hash=False)

    @property
    def there(self) -> Member:
        """What it is where it is not None."""
        parts = [item for item in self.items if item.kind != "none"]
        return parts[0] if self.kind == "either" and len(parts) == 1 else self

    @property
    def makes(self) -> bool:
        """Whether it is a class or a function, which make modules."""
        if self.kind == "either":
            return all(item.makes or item.kind == "none" for item in self.items)
        return self.kind in ("class", "function")

    def walk(self) -> Iterator[Member]:
        """This one and all inside."""
        yield self
        for item in self.items:
            yield from item.walk()


OTHER, NONE = Member("other"), Member("none")


def joined(values: list[Value]) -> Value | None:
    """What a name is that is one of these; None when they have different layouts."""
    values = [v for v in values if v.kind != "none"] or values[:1]
    first = values[0]
    if any(v.kind != first.kind or len(v.items) != len(first.items) for v in values):
        return None
    items = [joined([v.items[i] for v in values]) for i in range(len(first.items))]
    if None in items:
        return None
    ranks = {v.rank for v in values}
    return Value(
        first.kind,
        tuple(i for i in items if i is not None),
        ranks.pop() if len(ranks) == 1 else 0,
        frozenset().union(*(v.origins for v in values)),
    )


def either(one: Member | None, other: Member) -> Member:
    """What a name is that is one or the other."""
    if one is None or one == other:
        return other
    parts = [m for part in (one, other) for m in (part.items if part.kind == "either" else (part,))]
    parts = list(dict.fromkeys(parts))
    return parts[0] if len(parts) == 1 else Member("either", items=tuple(parts))


@dataclass(frozen=True)
class Protocol:
    """How a class of the file is called: arguments that are channels last, what it answers, and
    whether it treats every item alike, so that any layout goes through."""

    last: frozenset[str] = frozenset()
    answer: Value = PLAIN
    alike: bool = False


#: How an expression is turned.
WAYS = {
    "last": "kit.to_last({})",
    "beside": "kit.broadcast_last({})",  # what is combined with an image
    "first": "kit.to_first({})",
    "each": "[kit.to_first(item) for item in {}]",
    "each of tuple": "tuple(kit.to_first(item) for item in {})",
}


@dataclass
class Plan:
    """What to do where, by node: constructors and functions that work channels last,
    expressions to turn, numbers of axes to change, calls to leave out; functions whose arguments
    are turned at their start, Sequentials that turn what they get."""

    sites: set[Any] = field(default_factory=set)
    wraps: dict[Any, str] = field(default_factory=dict)  # a key of WAYS
    ranks: dict[Any, int] = field(default_factory=dict)  # axes of what is turned, where known
    axes: dict[Any, int] = field(default_factory=dict)
    dropped: set[Any] = field(default_factory=set)
    spatial: set[Any] = field(default_factory=set)  # x.shape[2:]
    unpacked: set[Any] = field(default_factory=set)  # the names in `n, c, h, w = x.shape`
    heads: dict[Any, dict[str, int]] = field(default_factory=dict)  # arguments -> their axes
    chains: dict[Any, tuple[bool, bool]] = field(default_factory=dict)  # whether turned at the ends
    classes: dict[str, Protocol] = field(default_factory=dict)  # that take channels last


class Immovable(Exception):
    """A method that cannot be followed: its class keeps torch's layout."""


class Pending(Exception):
    """How a class is called is not known yet."""
