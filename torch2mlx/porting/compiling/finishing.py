"""What is done with the text of a port: its steps are compiled, and it is checked."""

from __future__ import annotations

import warnings

from torch2mlx.common.apple import RULE, places
from torch2mlx.errors import Code, Unsupported
from torch2mlx.porting.compiling.writing import with_compiled_steps
from torch2mlx.porting.report import Change
from torch2mlx.porting.scopes.lines import line_map


def no_python_made(text: str, final: str) -> Unsupported | None:
    """What Python says of a port that it does not take, although it takes the original."""
    error = _refusal(final)
    if error is None or _refusal(text) is not None:
        return None
    line, words = error.lineno or 0, error.msg
    why = f"line {line} of the port is no Python ({words}): write what stands here by hand"
    return Unsupported(Code.ERROR, "", why, line_map(text, final).get(line, 0))


def with_steps_compiled(text: str, final: str, made: set[str]) -> tuple[str, list[Change]]:
    """The port with its training steps compiled where they may be, and what is said of each."""
    if not made or _refusal(final) is not None:
        return final, []
    written, told = with_compiled_steps(final, made)
    lines = line_map(text, final) if told else {}
    return written, [step.change(lines.get(step.line, 0)) for step in told]


def _refusal(text: str) -> SyntaxError | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of strings with odd escapes, as the original has them
        try:
            compile(text, "<port>", "exec", dont_inherit=True)
        except SyntaxError as error:
            return error
    return None


def on_no_gpu(text: str, final: str) -> list[Change]:
    """What of a port no Apple GPU runs, by the lines that it comes from."""
    found = places(final)
    lines = line_map(text, final) if found else {}
    return [
        Change(lines.get(p.line, 0), p.what, f"{RULE}: line {p.line} of the port", p.advice)
        for p in found
    ]
