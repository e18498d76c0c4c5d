"""One call of a tool, in a process of its own: a request on standard input, an envelope back.

A process for each call means that a program which was edited since is read anew, that nothing which
a call prints mixes with the protocol, and that a crash ends the call and not the server.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from torch2mlx.cli.agent_tools import line_of
from torch2mlx.cli.envelope import code_of, envelope, error_data
from torch2mlx.cli.granted import Granted
from torch2mlx.cli.running import answered
from torch2mlx.errors import Torch2MLXError


def main() -> None:
    """Answers the request `{tool, arguments, roots, running}` that is on standard input."""
    request = json.load(sys.stdin)
    wire = os.dup(1)
    os.dup2(2, 1)  # what programs print is no part of the answer
    scratch = tempfile.mkdtemp(prefix="torch2mlx-")
    os.environ["TMPDIR"] = tempfile.tempdir = scratch
    try:
        found = _called(request)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    with os.fdopen(wire, "w", encoding="utf-8") as out:
        json.dump(found, out, default=str)


def _called(request: dict[str, Any]) -> dict[str, Any]:
    granted = Granted(tuple(map(Path, request["roots"])), request["running"])
    os.chdir(granted.roots[0])
    try:
        line = line_of(request["tool"], request["arguments"], granted)
    except Torch2MLXError as error:
        return envelope(None, error_data(str(error), code_of(error), error))
    granted.enforce()
    return answered(line)
