"""What modules need and answer: channels last, torch's layout, or any."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch2mlx.porting.layout.tables import FLEXIBLE, RIGID, axes_of
from torch2mlx.porting.layout.values import PLAIN, Member, Pending, Protocol, Value
from torch2mlx.porting.types.layers import ITEMWISE

_OPEN = ("Flatten", "Unflatten")


class Calling:
    """Decisions so far: `demoted` layers keep torch's layout; classes that are `outer` are called
    from where it is not seen; `protocols` says how the others are called."""

    def __init__(self, members: Mapping[str, Mapping[str, Member]], outer: Iterable[str]) -> None:
        self.members = members
        self.outer = set(outer)
        self.demoted: set[Any] = set()
        self.outer_chains: set[Any] = set()
        self.opened: set[Any] = set()  # Flatten and Unflatten that turn
        self.protocols: dict[str, Protocol] = {}
        self.private: set[str] = set()  # methods that their own class alone calls: "Net._grow"
        self.parameters: dict[str, list[str]] = {}  # of forwards by class, and of those

    def need(self, member: Member) -> str:
        """The layout of a module's argument: "last", "plain" or "any"."""
        if member.kind == "none":
            return "any"
        if member.kind == "stock":
            return self._stock_need(member)
        if member.kind == "own":
            return self._own_need(member)
        if member.kind == "chain":
            return "plain" if member.site in self.outer_chains else self.start(member)
        if member.kind == "either":
            needs = {self.need(m) for m in member.items} - {"any"}
            if len(needs) > 1:
                self.demote(member)
                return "plain"
            return needs.pop() if needs else "any"
        return "plain"

    def _stock_need(self, member: Member) -> str:
        if member.name in ITEMWISE:
            return "any"
        if member.site in self.demoted or member.name in _OPEN:
            return "plain"
        return "last" if member.name in RIGID else "any"

    def _own_need(self, member: Member) -> str:
        held = self.members.get(member.name, {}).get("")
        if held is not None:
            return "plain" if member.name in self.outer else self.start(held)
        if member.name in self.outer:
            return "plain"
        protocol = self.protocol(member.name)
        if protocol.alike:
            return "any"
        names = self.parameters.get(member.name) or [""]
        return "last" if names[0] in protocol.last else "plain"

    def protocol(self, name: str) -> Protocol:
        """How a class is called that is not outer. Raises Pending when that is not known yet."""
        if name not in self.protocols:
            raise Pending(name)
        return self.protocols[name]

    def gives(self, member: Member, given: Value) -> Value:
        """What a module answers to an argument that has the layout it needs."""
        if member.kind == "stock":
            return self._stock_gives(member, given)
        if member.kind == "own":
            held = self.members.get(member.name, {}).get("")
            if held is not None:
                return PLAIN if member.name in self.outer else self.gives(held, given)
            if member.name in self.outer:
                return PLAIN
            protocol = self.protocol(member.name)
            return given if protocol.alike else protocol.answer
        if member.kind == "chain":
            if member.site in self.outer_chains:
                return PLAIN
            end = self.flow(member, given.kind)
            rank = given.rank if end == given.kind else 0
            return Value("last", rank=rank or self._rank(member)) if end == "last" else PLAIN
        if member.kind == "either":
            found = {self.gives(m, given) for m in member.items}
            return found.pop() if len(found) == 1 else self._common(member, found)
        return given if member.kind == "none" else PLAIN

    def _common(self, member: Member, found: set[Value]) -> Value:
        kinds = {value.kind for value in found}
        if len(kinds) == 1:
            return Value(kinds.pop(), rank=max(value.rank for value in found))
        self.demote(member)
        return PLAIN

    def _stock_gives(self, member: Member, given: Value) -> Value:
        if member.name in ITEMWISE:
            return given
        if member.site in self.demoted or member.name in _OPEN:
            return PLAIN
        if member.name in FLEXIBLE and not given.last:
            self.demoted.add(member.site)
            return PLAIN
        axes = axes_of(member.name)
        return Value("last", rank=axes + 2 if axes else given.rank)

    def _rank(self, chain: Member) -> int:
        ranks = {axes_of(m.name) + 2 for m in chain.walk() if m.name in RIGID and axes_of(m.name)}
        return ranks.pop() if len(ranks) == 1 else 0

    def start(self, chain: Member) -> str:
        """What a Sequential needs; "any" when it treats every item alike."""
        begins = "any"
        for item in chain.items:
            need = self.need(item)
            if need != "any":
                begins = need
                break
        if begins == "any":
            return "any"
        return begins if self.flow(chain, begins) else self.fail(chain)

    def fail(self, chain: Member) -> str:
        """A Sequential whose layers do not fit together keeps torch's layout."""
        self.demote(chain)
        return "plain"

    def flow(self, chain: Member, state: str) -> str:
        """The layout that a Sequential answers; "" when its layers do not fit together."""
        for place, item in enumerate(chain.items):
            before = state
            if item.kind == "stock" and item.name in _OPEN:
                state = self._opened(item, state, chain.items[place + 1 :])
            else:
                need = self.need(item)
                if need not in ("any", state):
                    return ""
                state = self.gives(item, Value(state)).kind
            if not state or (item.repeated and state != before):
                return ""
        return state if state in ("last", "plain") else ""

    def _opened(self, item: Member, state: str, later: tuple[Member, ...]) -> str:
        """Flatten and Unflatten, which may turn what they get or give."""
        flat, wanted = item.name == "Flatten", "plain"
        if not flat and state == "plain":
            needs = (self.need(m) for m in later)
            wanted = next((n for n in needs if n != "any"), "plain")
        turns = state == "last" if flat else wanted == "last"
        if turns and item.site not in self.demoted:
            self.opened.add(item.site)
            return "plain" if flat else "last"
        if state == "last":
            return ""
        self.demoted.add(item.site)
        return "plain"

    def demote(self, member: Member) -> None:
        """Gives a module torch's layout, and all that is in it."""
        for part in member.walk():
            if part.site:
                self.demoted.add(part.site)
            if part.kind == "own" and part.name not in self.outer:
                self.outer.add(part.name)
                held = self.members.get(part.name, {}).get("")
                if held is not None:
                    self.demote(held)
