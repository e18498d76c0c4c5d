"""One command, run: its answer printed, whatever goes wrong as one message and an exit code."""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from torch2mlx.cli.envelope import INTERNAL, code_of, envelope, enveloped, error_data
from torch2mlx.cli.parser import parsed
from torch2mlx.cli.printing import complain
from torch2mlx.cli.progress import wipe
from torch2mlx.cli.verb import Answer
from torch2mlx.common.amounts import listed
from torch2mlx.common.optional import need
from torch2mlx.common.options import command_line
from torch2mlx.errors import Torch2MLXError

DONE, FAILED, FAULT, INTERRUPTED, CLOSED = 0, 1, 3, 130, 141
TRACEBACK = "TORCH2MLX_TRACEBACK"


def run(argv: Sequence[str]) -> int:
    """Runs one command line; returns the exit code."""
    args = parsed(argv)
    with _told_apart(args), command_line():
        try:
            return _run(args)
        except BrokenPipeError:  # who reads has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return CLOSED


def _run(args: argparse.Namespace) -> int:
    written: Callable[[], list[Path]] = list
    with ExitStack() as stack:
        try:
            if not args.verb.alone:
                written = stack.enter_context(_watched())
            if args.format == "html":
                need("--format html", "jinja2")
            _show(args, args.verb.run(args))
            sys.stdout.flush()
            return DONE
        except BrokenPipeError:
            raise
        except _Failed as failed:
            return _refuse(args, failed.error, failed.answer.data)
        except KeyboardInterrupt as error:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the next would cut the words short
            return _refuse(args, error, None, f"interrupted; {_changed(written())}")
        except Exception as error:
            return _refuse(args, error)


def answered(argv: Sequence[str]) -> dict[str, Any]:
    """The envelope of one command that is run in this process, for whoever runs it for a program.

    What a command prints beside its answer is printed as ever; nothing is raised but SystemExit
    for --help and KeyboardInterrupt.
    """
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            args = parsed([*argv[:1], "--format=json", *argv[1:]])
    except SystemExit:
        found: dict[str, Any] = json.loads(said.getvalue())
        return found
    with _told_apart(args), command_line():
        try:
            answer = args.verb.run(args)
        except Exception as error:
            return envelope(None, error_data(_message(error), code_of(error), error))
    failure = answer.failure
    if failure is None:
        return envelope(answer.data)
    return envelope(answer.data, error_data(str(failure), code_of(failure), failure))


class _Failed(Exception):
    """There is an answer, and it means failure."""

    def __init__(self, answer: Answer, error: Torch2MLXError) -> None:
        super().__init__(str(error))
        self.answer, self.error = answer, error


def _watched() -> Any:
    """A context that tells which files were written; this imports the core."""
    from torch2mlx.checkpoint.write.transaction import watched

    return watched()


def _show(args: argparse.Namespace, answer: Answer) -> None:
    wipe()
    if args.format == "json":
        if answer.failure is None:
            print(enveloped(answer.data))
    else:
        text = answer.forms[args.format]() if args.format in answer.forms else answer.text
        if text:
            print(text.removesuffix("\n"))
    if answer.failure is not None:
        raise _Failed(answer, answer.failure)


def _refuse(
    args: argparse.Namespace, error: BaseException, data: Any = None, text: str = ""
) -> int:
    """Says what went wrong; returns the exit code."""
    code, message = code_of(error), text or _message(error)
    if code == INTERNAL:
        how = "" if _with_traceback(args) else f"; -v, or {TRACEBACK}=1, shows where"
        message = f"a fault of torch2mlx itself: {message}{how}"
    wipe()
    if _with_traceback(args) and not isinstance(error, KeyboardInterrupt):
        traceback.print_exception(error)
    if args.format == "json":
        print(enveloped(data, error_data(message, code, error)))
        sys.stdout.flush()
    else:
        complain(message)
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return FAULT if code == INTERNAL else FAILED


def _with_traceback(args: argparse.Namespace) -> bool:
    return bool(args.verbose or os.environ.get(TRACEBACK))


def _message(error: BaseException) -> str:
    if isinstance(error, Torch2MLXError):
        return str(error)
    if isinstance(error, OSError):
        from torch2mlx.checkpoint.source.paths import described

        return described(error)
    if isinstance(error, ImportError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"there is not enough memory{f': {error}' if str(error) else ''}"
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}".removesuffix(": ")


def _changed(paths: Sequence[Path]) -> str:
    """What an interrupted command has changed."""
    if not paths:
        return "nothing was changed"
    return f"{listed(paths, 3)} had been written completely"


@contextmanager
def _told_apart(args: argparse.Namespace) -> Iterator[None]:
    """Warnings are one line each; libraries keep their logs to themselves, but for -v."""
    level = logging.root.manager.disable

    def shown(message: Warning | str, *_: Any, **__: Any) -> None:
        wipe()
        complain(str(message), "warning")

    with warnings.catch_warnings():
        warnings.showwarning = shown
        if not args.verbose:
            logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(level)
