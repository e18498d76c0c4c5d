"""What a port changed and why, what is to be checked, and what it left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch2mlx.errors import Code, Unsupported
from torch2mlx.porting.questions import Question, asked

#: The name of torch under which a backward pass is refused that is no statement of a step.
BACKWARD = "torch.Tensor.backward"


@dataclass(frozen=True)
class Change:
    """One rewrite: the line it was on, the name of what was rewritten, why, and what to check."""

    line: int
    what: str
    why: str
    check: str = ""


@dataclass
class Report:
    """Collects while a file is rewritten; `lines` has the lines of statements, by node."""

    lines: Mapping[Any, int] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    unsupported: list[Unsupported] = field(default_factory=list)
    reasons: dict[Any, list[str]] = field(default_factory=dict)  # by statement
    questions: list[Question] = field(default_factory=list)
    placed: dict[Any, int] = field(default_factory=dict)  # lines of statements put elsewhere
    _known: set[Any] = field(default_factory=set)
    _heads: dict[Any, tuple[str, ...]] = field(default_factory=dict)  # see lines_of

    @classmethod
    def of(cls, module: Any, text: str) -> Report:
        """The report of a file, a tree and its text."""
        made = cls()
        made.follow(module, text)
        return made

    def after(self, module: Any, text: str) -> Report:
        """The report of what the file became, a tree that shares statements with it."""
        made = Report(_heads=self._heads)
        made.follow(module, text)
        return made

    def follow(self, module: Any, text: str) -> None:
        """Notes are of the statements of another tree from now on; `text` is that of the first."""
        from torch2mlx.porting.scopes.lines import lines_of  # asks for libcst, as a report does not

        self.lines = lines_of(module, text, self._heads, self.placed)

    def line(self, node: Any) -> int:
        """The line of a statement; 0 when it is not from the source."""
        return int(self.lines.get(node, 0))

    def change(self, node: Any, what: str, why: str, check: str = "") -> None:
        """Notes a rewrite, once for each line and name."""
        made = Change(self.line(node), what, why, check)
        if made not in self._known:
            self._known.add(made)
            self.changes.append(made)

    def all_refused(self, later: Iterable[Unsupported]) -> list[Unsupported]:
        """What this pass and a later one refused; of a backward pass for which this one has a
        reason, that one is enough."""
        told = {left.line for left in self.unsupported}
        new = [left for left in later if left.where != BACKWARD or left.line not in told]
        return [*self.unsupported, *new]

    def ask(self, node: Any, name: str, place: str, method: str) -> None:
        """Notes a question, once: what a name of a function or class holds."""
        made = asked(name, place, method, self.line(node))
        if all(made.id != other.id for other in self.questions):
            self.questions.append(made)

    def refuse(
        self, node: Any, detail: str, name: str = "", code: Code = Code.NO_COUNTERPART
    ) -> Unsupported:
        """Notes a place that stays as it is; `name`: what of torch it is, by its full name."""
        made = Unsupported(code, name, detail, self.line(node))
        if made not in self._known:
            self._known.add(made)
            self.unsupported.append(made)
            self.reasons.setdefault(node, []).append(made.reason)
        return made
