"""Options in messages, as the caller writes them: `rules=` in Python, `--rule` in a terminal.

Messages name options through these functions only, so that advice can be followed as it stands.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

#: Options whose flag is not spelled `--name`; None: the command line has none.
_FLAGS: dict[str, str | None] = {
    "rules": "--rule",
    "verify": "--no-verify",
    "check": "--no-check",
    "dynamic": "--fixed",
    "module": None,
    "strict": None,
    "answers": "--answer",
    "framework": None,
    "weights": "--stream",
    "replace": None,
    "settings": "--set",
    "start": None,
}
_terminal: ContextVar[bool] = ContextVar("terminal", default=False)


@contextmanager
def command_line() -> Iterator[None]:
    """Within it, messages speak of flags."""
    token = _terminal.set(True)
    try:
        yield
    finally:
        _terminal.reset(token)


def option(name: str) -> str:
    """An option's name: `key=` or `--key`; what has no flag is named as Python's."""
    if not _terminal.get():
        return f"{name}="
    flag = _FLAGS.get(name, f"--{name.replace('_', '-')}")
    return flag or f"{name}= in Python"


def given(name: str, value: Any) -> str:
    """An option with its value: `key='model'` or `--key model`, `force=True` or `--force`."""
    if not _terminal.get() or _FLAGS.get(name, name) is None:
        return f"{name}={value!r}{' in Python' if _terminal.get() else ''}"
    return option(name) if isinstance(value, bool) else f"{option(name)} {shlex.quote(str(value))}"


def call(verb: str, arguments: str, model: str = "model") -> str:
    """A call to write: `write translate(model, x)`, or what a function has to answer for it.

    `model` is how the arguments begin: `model, t` for verify.
    """
    if not _terminal.get():
        return f"write {verb}({arguments})"
    return f"let the function answer ({arguments.replace(model, 'model', 1)})"


def among_inputs(name: str, value: Any) -> str:
    """An input with its value: `use_cache=False`, or `use_cache=false` in `--inputs`."""
    if not _terminal.get():
        return f"{name}={value!r} among the inputs"
    return f"{name}={str(value).lower()} in --inputs, or {name!r}: {value!r} among a function's"


def streamed() -> str:
    """How weights come from a checkpoint: `translation.save(folder, weights=path)`, `--stream`."""
    if not _terminal.get():
        return "give the checkpoint: translation.save(folder, weights=path)"
    return "give the checkpoint's folder with --stream, or let the function load the weights"


def known_layers() -> str:
    """Where the layers are listed that rules can name."""
    if not _terminal.get():
        return "torch2mlx.registry.registered_names() lists them"
    return "docs/weights.md lists them, and torch2mlx.registry.registered_names() in Python"


def rules(entries: Mapping[str, str]) -> str:
    """Rules to give: `rules={"conv": "Conv2d"}` or `--rule conv=Conv2d`."""
    if not _terminal.get():
        inner = ", ".join(f'"{pattern}": "{value}"' for pattern, value in entries.items())
        return f"rules={{{inner}}}"
    return " ".join(f"--rule {shlex.quote(f'{k}={v}')}" for k, v in entries.items())


def rule(pattern: str) -> str:
    """One rule that was given: `rules['conv*']` or `--rule 'conv*=...'`."""
    return f"--rule {shlex.quote(f'{pattern}=...')}" if _terminal.get() else f"rules[{pattern!r}]"


def setting(name: str, value: Any) -> str:
    """One of `settings` with its value: `settings={'a': 1}` or `--set a=1`."""
    if not _terminal.get():
        return f"settings={{{name!r}: {value!r}}}"
    return f"{option('settings')} {name}={json.dumps(value)}"
