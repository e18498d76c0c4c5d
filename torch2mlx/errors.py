"""Every exception torch2mlx raises on purpose, all of which derive from `Torch2MLXError`; and
`Unsupported`, which every verb returns or raises for what it has no MLX form for."""

from __future__ import annotations

import itertools
import os
import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

#: Lines of a message that a notebook shows.
_SHOWN = 8


class Code(str, Enum):
    """The kind of a refusal, for programs: values stay, while the words of a message may change.

    docs/command-line.md lists them.
    """

    #: translate has no lowering for the operator
    NO_LOWERING = "no-lowering"
    #: the layer, function or name has no counterpart in MLX
    NO_COUNTERPART = "no-counterpart"
    #: it has one, but for these arguments, dtypes or shapes
    ARGUMENTS = "arguments"
    #: a subclass of a known layer has a forward of its own
    OWN_FORWARD = "own-forward"
    #: MLX gives a result of another shape than torch
    SHAPE = "shape"
    #: it would be computed from the result of something that was refused
    DEPENDENT = "dependent"
    #: writing it raised an error, which `detail` repeats
    ERROR = "error"
    #: a name is torch's or something else, and the source does not tell which
    UNCLEAR = "unclear"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Unsupported:
    """One thing that has no form in MLX.

    `where` names it (an operator with its module and line, a layer's class, a name of torch; empty
    where there is no name), `detail` says why and what to do instead, and `line` is the line of
    a ported source, 0 where there is none. As text it is "where: detail".
    """

    code: Code
    where: str
    detail: str
    line: int = 0

    @property
    def reason(self) -> str:
        """What a person reads: "where: detail"."""
        return f"{self.where}: {self.detail}" if self.where else self.detail

    def __str__(self) -> str:
        return self.reason


class Torch2MLXError(Exception):
    """Base of all errors of the project.

    `code` names the kind for programs, and stays: the name of the class in lower case, as in
    "missing-types" for MissingTypesError. docs/command-line.md lists them.
    """

    code = "error"

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the user's own line and the message, ten lines at most."""
        own = [f for f in traceback.extract_tb(self.__traceback__) if "IPython" not in f.filename]
        inside = os.path.dirname(os.path.abspath(__file__))
        calls = list(itertools.takewhile(lambda f: not f.filename.startswith(inside), own))
        place = [f"line {f.lineno}: {f.line}" for f in calls[-1:]]
        told = f"{type(self).__name__}: {self}".splitlines()
        more = len(told) - _SHOWN
        if more > 0:
            told = [*told[:_SHOWN], f"... {more} more lines are in str() of the exception"]
        return [*place, *told]

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        words = cls.__name__.removesuffix("Error")
        cls.code = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", words).lower()


class LayoutWarning(UserWarning):
    """A network in which code written by hand for MLX goes wrong without an error."""


class MissingLibraryError(Torch2MLXError, ImportError):
    """A library that is not installed is needed: `command` installs it."""

    def __init__(self, message: str, command: str = "") -> None:
        super().__init__(message)
        self.command = command


class CheckpointError(Torch2MLXError, ValueError):
    """A file cannot be read: says which file, at which byte, and why."""


class NotConvertedError(CheckpointError):
    """A file was expected to be written by `convert`, and was not."""


class AmbiguousCheckpointError(Torch2MLXError, ValueError):
    """A file holds no state dict, or several, or a module fits under several prefixes.

    `choices` are values for `key=`, or for `prefix=`.
    """

    def __init__(self, message: str, choices: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.choices = choices


class ConversionError(Torch2MLXError, ValueError):
    """A source cannot be converted as asked; nothing was written."""


class OutOfRangeError(ConversionError):
    """Tensors hold finite numbers that the dtype they are written in cannot; `tensors` are their
    names in what was to be written."""

    def __init__(self, dtypes: Mapping[str, str]) -> None:
        name, dtype = next(iter(dtypes.items()))
        more = f" (and {len(dtypes) - 1} more)" if len(dtypes) > 1 else ""
        super().__init__(f"tensor {name!r}{more} holds numbers that {dtype} cannot")
        self.tensors = dict(dtypes)


class AlreadyConvertedError(ConversionError):
    """The source is in MLX layout already."""


class MissingTypesError(ConversionError):
    """Layer types are needed to convert and were not given; `tensors` names them."""

    def __init__(self, message: str, tensors: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.tensors = tensors


class KeyCollisionError(ConversionError):
    """Two tensors would end up under one key, or one key is a prefix of another."""


class UnsupportedTensorError(ConversionError):
    """A tensor is of a kind that has no exact MLX form."""


class StateDictMismatchError(ConversionError):
    """A state dict and the module given for it do not fit."""


class UnmappedLayersError(ConversionError):
    """Layers without an MLX counterpart, and `on_unmapped="error"`."""


class RevertError(Torch2MLXError, ValueError):
    """A converted file cannot be turned back."""


class PortError(Torch2MLXError):
    """A source that cannot be ported: it is no Python, or a file is missing.

    `line` and `why` are those of what is wrong in a file; 0 and the message where it is not that.
    """

    def __init__(self, message: str, line: int = 0, why: str = "") -> None:
        super().__init__(message)
        self.line, self.why = line, why or message


class TranslationError(Torch2MLXError, ValueError):
    """A model cannot be translated; nothing was written."""

    #: whether tracing the model in another way can make no difference
    settled: bool = False


class UntrustedCodeError(TranslationError):
    """A folder's program would be run that this user did not write, and nobody vouched for it."""


class NotGrantedError(Torch2MLXError, PermissionError):
    """An agent asked for a file outside the folders that it was granted, or to run a program."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.strerror = message

    def __str__(self) -> str:
        return str(self.args[0])


class ExportError(TranslationError):
    """torch.export cannot trace the model: says what each way of tracing said."""


class UnsupportedOperatorError(TranslationError):
    """Operators that have no translation, all of them: `unsupported` has each with its code, and
    `findings` a line for each."""

    def __init__(self, unsupported: tuple[Unsupported, ...]) -> None:
        self.unsupported = unsupported
        lines = self.findings
        shown = "\n  ".join(lines[:50])
        more = f"\n  and {len(lines) - 50} more" if len(lines) > 50 else ""
        super().__init__(f"{len(lines)} calls cannot be translated:\n  {shown}{more}")

    @property
    def findings(self) -> tuple[str, ...]:
        """A line for each operator: what it is and where, and why it has no translation."""
        return tuple(map(str, self.unsupported))


class WriteError(ConversionError, RevertError, TranslationError, PortError, RuntimeError):
    """A target cannot be written, or something that is not ours would be replaced by it; nothing
    was changed. Every verb that writes raises it, as an error of its own kind."""


class VerificationError(Torch2MLXError, ValueError):
    """Outputs of two models cannot be compared: their structures or shapes differ."""
