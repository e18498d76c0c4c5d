"""The tools that agents get: verbs of the command line, their options as arguments by name."""

from __future__ import annotations

import argparse
import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch2mlx.cli import analyzing, models, porting, training, weights
from torch2mlx.cli.envelope import USAGE
from torch2mlx.cli.granted import Granted
from torch2mlx.cli.verb import Verb
from torch2mlx.errors import NotGrantedError, Torch2MLXError


class CallError(Torch2MLXError, ValueError):
    """A tool was called with arguments that it has not."""


CallError.code = USAGE


@dataclass(frozen=True)
class Tool:
    """A verb, and which of its arguments are paths.

    `makes`: its source may be a function that makes the model, which is a program. `whole`:
    folders that other libraries read too. `runs`: it runs what it reads, always; `runs_with`: where
    one of these arguments is given. `about`: what an agent has to know of it.
    """

    verb: Verb
    about: str
    reads: tuple[str, ...] = ("source",)
    writes: tuple[str, ...] = ("out",)
    whole: tuple[str, ...] = ()
    makes: bool = False
    runs: bool = False
    runs_with: tuple[str, ...] = ()


_MODEL = (
    "The source is a folder with a config.json and weights; or, where the server was started with "
    "--allow-running, file.py:function. "
)
#: A tool is a row. `verify` and `verify_training` alone show that two programs compute the same.
TOOLS: tuple[Tool, ...] = (
    Tool(
        analyzing.ANALYZE,
        "Nothing is converted. Blockers and warnings come with advice. " + _MODEL,
        writes=("html", "sarif"),
        makes=True,
    ),
    Tool(
        weights.CONVERT,
        "Weights alone: no program is written, and none is compared.",
        reads=("source", "base", "merge"),
    ),
    Tool(
        models.TRANSLATE,
        "Writes a folder that runs without torch. What `compared` says is what was compared on the "
        "example inputs, and no more. " + _MODEL,
        whole=("source",),
        makes=True,
    ),
    Tool(
        porting.PORT,
        "Without `out` the result has the source of the port. `unsupported` is left for a person; "
        "`questions` are what the source does not tell: ask, and pass `answer` in the next call, "
        "as ID=CHOICE. A port is not compared with torch, so it is not shown to compute the same; "
        "`run` runs the script for a few steps, whose names then answer questions; `verify` runs "
        "both scripts and compares. Both need a server that was started with --allow-running.",
        reads=("source", "script"),
        runs_with=("verify", "run"),
    ),
    Tool(
        models.VERIFY,
        "Runs both models on the same inputs and compares every output. Claim no more than its "
        "`verdict` and its notes say. " + _MODEL,
        reads=("source", "folder"),
        writes=(),
        whole=("source", "folder"),
        makes=True,
    ),
    Tool(
        training.VERIFY_TRAINING,
        "Runs a training script and its port in lock-step, where the server was started with "
        "--allow-running, and names the first cause where they part. What agrees does so for the "
        "steps that were run.",
        reads=("torch_script", "mlx_script"),
        writes=(),
        runs=True,
    ),
)
_BY_NAME = {tool.verb.name.replace("-", "_"): tool for tool in TOOLS}
#: Options of the terminal, and older spellings.
_NOT_FOR_AGENTS = ("help", "format", "quiet", "verbose", "named_out")


def names() -> tuple[str, ...]:
    """The tools, by name."""
    return tuple(_BY_NAME)


def tool(name: str) -> Tool:
    """The tool of a name. Raises CallError."""
    if name not in _BY_NAME:
        raise CallError(f"there is no tool {name!r}{_meant(name, _BY_NAME)}")
    return _BY_NAME[name]


def _actions(verb: Verb) -> Iterator[argparse.Action]:
    """The arguments of a verb that are for agents."""
    from torch2mlx.cli.parser import parser

    for action in parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            for own in action.choices[verb.name]._actions:
                if own.dest not in _NOT_FOR_AGENTS:
                    yield own


def schema(verb: Verb) -> dict[str, Any]:
    """The JSON schema of a verb's arguments."""
    properties, required = {}, []
    for action in _actions(verb):
        properties[action.dest] = {**_type(action), "description": _about(action)}
        if action.required:
            required.append(action.dest)
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _type(action: argparse.Action) -> dict[str, Any]:
    if isinstance(action, argparse._StoreTrueAction):
        return {"type": "boolean"}
    one: dict[str, Any] = {"type": "string"}
    if action.choices:
        one["enum"] = list(action.choices)
    elif action.type is not None and not isinstance(action, argparse._AppendAction):
        one["type"] = ["string", "number"]
    return {"type": "array", "items": one} if isinstance(action, argparse._AppendAction) else one


def _about(action: argparse.Action) -> str:
    form = f" ({action.metavar})" if isinstance(action.metavar, str) else ""
    return f"{action.help or action.dest}{form}"


def line_of(name: str, given: Mapping[str, Any], granted: Granted) -> list[str]:
    """The command line of a call.

    Raises CallError for arguments that the tool has not, NotGrantedError for paths outside what was
    granted, and for programs where none may run.
    """
    asked = tool(name)
    known = {action.dest: action for action in _actions(asked.verb)}
    for key in given:
        if key not in known:
            raise CallError(f"{name} takes no argument {key!r}{_meant(key, known)}")
    _check(asked, given, granted)
    options, positionals = [], []
    for key, action in known.items():
        for text in _texts(action, given.get(key)):
            if not action.option_strings:
                positionals.append(text)
            elif isinstance(action, argparse._StoreTrueAction):
                options.append(action.option_strings[-1])
            else:
                options.append(f"{action.option_strings[-1]}={text}")
    return [asked.verb.name, *options, "--", *positionals]


def _texts(action: argparse.Action, value: Any) -> list[str]:
    """What is written for an argument: a text for each time that it is given."""
    if value is None or value is False:
        return []
    if isinstance(action, argparse._AppendAction):
        return [str(one) for one in (value if isinstance(value, list) else [value])]
    if isinstance(value, (list, dict)):
        raise CallError(f"{action.dest} is one value, not {value!r}")
    return [str(value)]


def _check(asked: Tool, given: Mapping[str, Any], granted: Granted) -> None:
    from torch2mlx.export.capture.factories import file_of

    for key in (*asked.reads, *asked.writes):
        if given.get(key) is not None:
            granted.check(file_of(str(given[key])) if key == "source" else str(given[key]))
    if not granted.running:
        _refuse_programs(asked, given)
    for key in asked.whole:
        if os.path.isdir(str(given.get(key, ""))):
            granted.check_whole(str(given[key]))


def _refuse_programs(asked: Tool, given: Mapping[str, Any]) -> None:
    """Raises NotGrantedError for a call that runs what somebody wrote."""
    running = [name for name in asked.runs_with if given.get(name) not in (None, False)]
    if asked.runs or running:
        option = f" with {running[0]}" if running else ""
        what = "the script" if running == ["run"] else "both scripts"
        raise NotGrantedError(
            f"{asked.verb.name}{option} runs {what}, and running programs was not granted; "
            "start torch2mlx mcp with --allow-running"
        )
    source = str(given.get("source", ""))
    made = asked.makes and (source.endswith(".py") or not os.path.exists(source))
    if made and (source.endswith(".py") or ":" in source):
        raise NotGrantedError(
            f"{source}: is a program, and running programs was not granted; start torch2mlx mcp "
            "with --allow-running, or give a folder with a config.json"
        )
    if given.get("trust_remote_code"):
        raise NotGrantedError(
            "trust_remote_code runs a program that your own translate did not write, and running "
            "programs was not granted; start torch2mlx mcp with --allow-running"
        )


def _meant(word: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"
