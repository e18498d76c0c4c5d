"""The parser of the command line: argparse alone, so that --help needs no library."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NoReturn

from torch2mlx.cli import (
    agents,
    analyzing,
    completing,
    doctor,
    generating,
    models,
    porting,
    schemas,
    training,
    weights,
)
from torch2mlx.cli.envelope import USAGE, enveloped, error_data
from torch2mlx.cli.verb import FORCE, Verb

VERBS: tuple[Verb, ...] = (
    weights.CONVERT,
    weights.INSPECT,
    weights.REVERT,
    analyzing.ANALYZE,
    models.TRANSLATE,
    models.VERIFY,
    generating.GENERATE,
    porting.PORT,
    training.VERIFY_TRAINING,
    doctor.DOCTOR,
    completing.COMPLETION,
    agents.MCP,
    agents.AGENT_FILES,
    schemas.SCHEMA,
)
EXIT_CODES = """\
exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 a fault of torch2mlx itself (-v shows
where), 130 interrupted, 141 what read the output went away"""
_ABOUT = "PyTorch models become MLX models: their weights, their code, the scripts around them."
_ALL_EXAMPLES = (
    "torch2mlx convert model.pth weights.safetensors --rule 'conv*=Conv2d'",
    "torch2mlx analyze folder/",
    "torch2mlx translate folder/ out/",
    "torch2mlx port train.py train_mlx.py",
    "torch2mlx doctor",
)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors say what was meant, in JSON where that was asked for."""

    #: The command line that is being read, for errors.
    line: Sequence[str] = ()

    def error(self, message: str) -> NoReturn:
        """Wrong usage: exit code 2."""
        message += _meant(message, self)
        if _wants_json(Parser.line):
            print(enveloped(None, error_data(message, USAGE)))
            raise SystemExit(2)
        super().error(message)


def _wants_json(line: Sequence[str]) -> bool:
    spelled = "--json" in line or "--format=json" in line
    return spelled or any(pair == ("--format", "json") for pair in pairwise(line))


def _meant(message: str, parser: argparse.ArgumentParser) -> str:
    """Advice for a word that is not quite right."""
    wrong = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
    if wrong:
        word, known = wrong[1], re.findall(r"[\w-]+", wrong[2])
    else:
        wrong = re.search(r"unrecognized arguments: .*?(--[\w-]+)", message)
        if not wrong:
            return ""
        word, known = wrong[1], sorted(_options(parser))
    close = difflib.get_close_matches(word, known, 1, 0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _options(parser: argparse.ArgumentParser) -> set[str]:
    """The options of a parser and of its verbs; of the one that was named, where one was."""
    found: set[str] = set()
    for action in parser._actions:
        found.update(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            named = [name for name in action.choices if name in Parser.line]
            for name in named or action.choices:
                found |= _options(action.choices[name])
    return found


class _Version(argparse.Action):
    """Prints the version, which is looked up only then."""

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        from torch2mlx import __version__

        print(__version__)
        raise SystemExit(0)


def _epilog(examples: Sequence[str]) -> str:
    return "\n".join(["examples:", *(f"  {line}" for line in examples), "", EXIT_CODES])


def parser() -> Parser:
    """All verbs, with the options that they share."""
    shape = argparse.RawDescriptionHelpFormatter
    made = Parser(
        "torch2mlx",
        description=_ABOUT,
        epilog=_epilog(_ALL_EXAMPLES),
        formatter_class=shape,
        allow_abbrev=False,
    )
    made.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = made.add_subparsers(dest="command", required=True)
    for verb in VERBS:
        sub = commands.add_parser(
            verb.name,
            help=verb.summary,
            description=f"{verb.summary[0].upper()}{verb.summary[1:]}.",
            epilog=_epilog(verb.examples),
            formatter_class=shape,
            allow_abbrev=False,
        )
        verb.describe(sub)
        _add_shared(sub, verb)
        sub.set_defaults(verb=verb, parser=made)
    return made


def _add_shared(sub: argparse.ArgumentParser, verb: Verb) -> None:
    if verb.writes:
        sub.add_argument("--force", action="store_true", help=FORCE)
        sub.add_argument(
            "--dry-run", action="store_true", help="say what would be written; write nothing"
        )
    sub.add_argument(
        "--format",
        choices=verb.formats,
        default="text",
        help="of the answer (default: text); json: {ok, result, error}, for errors too",
    )
    sub.add_argument(
        "--json", dest="format", action="store_const", const="json", help="as --format json"
    )
    quiet = "no progress bar" if verb.bar else argparse.SUPPRESS
    sub.add_argument("-q", "--quiet", action="store_true", help=quiet)
    sub.add_argument(
        "-v", "--verbose", action="store_true", help="say what is being done; errors with traceback"
    )


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of one command. Raises SystemExit for --help, --version and wrong usage."""
    Parser.line = argv
    return parser().parse_args(list(argv))
