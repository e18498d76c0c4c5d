"""Questions that a source leaves open, and the answers of whoever asked for the port.

A port that cannot tell what a name holds leaves the place as it is and asks. An answer is a type
for the name, as an annotation would have been.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from torch2mlx.common.options import option
from torch2mlx.errors import PortError
from torch2mlx.porting.types.kinds import NUMPY, TENSOR, Type

#: What a name may hold, by the word for it; "other": nothing that a port has to know.
KINDS: Mapping[str, Type] = {
    "tensor": TENSOR,
    "numpy": NUMPY,
    "module": Type("module"),
    "other": Type("object"),
}
#: Choices where a method is one of tensors and of arrays of numpy, and for `.to`.
ARRAYS = ("tensor", "numpy", "other")
MOVED = ("tensor", "module", "other")
#: Choices where something is called on the way to a loss.
CALLED = ("module", "other")


@dataclass(frozen=True)
class Question:
    """What a port has to know and the source does not tell.

    `id` names what is asked about, and stays the same in every port of the file: "f.x" is the name
    x in the function f, "Net.mask" an attribute of a class; in a folder the path of the file comes
    before it, "net.py:f.x". `choices` are the words that answer it.
    """

    id: str
    line: int
    text: str
    choices: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """The question as JSON has it."""
        return {**vars(self), "choices": list(self.choices)}

    def __str__(self) -> str:
        flag, (*most, last) = option("answers"), self.choices
        told = f"{flag}{{{self.id!r}: {most[0]!r}}}"
        if flag.startswith("-"):
            told = f"{flag} {self.id}={most[0]}"
        return f"{self.text} Choose {', '.join(most)} or {last}: {told}"


@dataclass(frozen=True)
class Seen:
    """A decision that rests on a run of the script: the question's id, its line, and what the name
    held."""

    id: str
    line: int
    kind: str

    def __str__(self) -> str:
        return f"{self.id} is taken for {self.kind}, which it was in the run"


def asked_once(questions: list[Question], made: Collection[str]) -> list[Question]:
    """Questions by the names that the source has: not by those of functions that were `made`."""
    found: dict[str, Question] = {}
    for question in questions:
        place, dot, name = question.id.rpartition(".")
        own = "/".join(part for part in place.split("/") if part not in made)
        plain = f"{own}{dot}{name}" if own else name
        text = question.text.replace(repr(place), repr(own)) if own else question.text
        found.setdefault(plain, replace(question, id=plain, text=text))
    return list(found.values())


def asked(name: str, place: str, method: str, line: int) -> Question:
    """What a name holds, on which `method` is called, or which is called itself where that is
    empty; `place`: its function or class, or ""."""
    identifier = f"{place}.{name}" if place else name
    what = f"{name!r} in {place!r}" if place else repr(name)
    choices: tuple[str, ...] = MOVED if method == "to" else ARRAYS
    text = f"What does {what} hold, on which .{method}() is called?"
    if not method:
        choices, text = CALLED, f"What does {what} hold, which is called on the way to a loss?"
    return Question(identifier, line, text, choices)


def types_of(answers: Mapping[str, str]) -> dict[str, Type]:
    """The types that answers give. Raises PortError for a word that is no choice."""
    for name, choice in answers.items():
        if choice not in KINDS:
            close = difflib.get_close_matches(str(choice), KINDS, 1)
            meant = f"; did you mean {close[0]}?" if close else ""
            known = ", ".join(KINDS)
            raise PortError(f"the answer {name}={choice} is none of {known}{meant}")
    return {name: KINDS[choice] for name, choice in answers.items()}


def check_answers(answers: Mapping[str, Type], heard: set[str], denied: Mapping[str, Type]) -> None:
    """Raises PortError for answers that no name of the source takes, or that it contradicts."""
    for name, kind in denied.items():
        raise PortError(
            f"the answer about {name} contradicts the source, by which it is of type {kind.kind}: "
            "leave the answer out"
        )
    lost = [name for name in answers if name not in heard]
    if lost:
        raise PortError(
            f"the answer about {lost[0]} is to no question: the source has no such name; ids of "
            "questions are in the result of a port without answers"
        )


def check_files(answers: Mapping[str, str], files: Collection[str]) -> None:
    """Raises PortError for an answer for a folder that is about none of its files."""
    for name in answers:
        if name.rpartition(":")[0] not in files:
            raise PortError(
                f"the answer about {name} is about no file of the folder: the id of a question "
                "begins with a path in it, as in net.py:f.x"
            )


def of_file(answers: Mapping[str, str], file: str) -> dict[str, str]:
    """Of the answers for a folder, those for one of its files, by their ids in it."""
    head = f"{file}:"
    return {name.removeprefix(head): c for name, c in answers.items() if name.startswith(head)}


def in_file(questions: tuple[Question, ...], file: str) -> tuple[Question, ...]:
    """Questions of a file as those of the folder that it is in."""
    return tuple(replace(q, id=f"{file}:{q.id}") for q in questions)
