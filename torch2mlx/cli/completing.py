"""The verb completion: a script that completes command lines in a shell."""

from __future__ import annotations

import argparse

from torch2mlx.cli.verb import Answer, Verb
from torch2mlx.common.optional import need

_SHELLS = ("bash", "zsh", "fish")
_PATHS = ("source", "out", "folder", "html", "sarif", "like", "named_out")


def _describe(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("shell", choices=_SHELLS, help="for which shell")


def _complete(args: argparse.Namespace) -> Answer:
    need("completion", "shtab")
    import shtab

    for action in _actions(args.parser):
        if action.dest in _PATHS and not action.choices:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    script = shtab.complete(args.parser, shell=args.shell)
    return Answer({"shell": args.shell, "script": script}, script)


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Those of a parser and of its verbs."""
    found = list(parser._actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += [inner for sub in action.choices.values() for inner in _actions(sub)]
    return found


COMPLETION = Verb(
    "completion",
    "print a script that completes command lines in bash, zsh or fish",
    _describe,
    _complete,
    (
        'eval "$(torch2mlx completion bash)"',
        "torch2mlx completion zsh > ~/.zfunc/_torch2mlx",
        "torch2mlx completion fish > ~/.config/fish/completions/torch2mlx.fish",
    ),
    alone=True,
)
