"""The server that agents speak with: tools and resources over standard input and output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch2mlx.cli.agent_resources import RESOURCES
from torch2mlx.cli.agent_tools import TOOLS, schema
from torch2mlx.cli.envelope import INTERNAL, envelope, error_data

INSTRUCTIONS = (
    "torch2mlx turns PyTorch models and scripts into MLX. Analyze first, then convert weights, "
    "translate a model or port a script, then verify. Each answer is {ok, result, error}; an error "
    "says what to do. Where a result has questions, ask the person and pass the answer on. Claim "
    "that two models compute the same only where verify showed it. Paths are relative to {root}."
)
_HERE = str(Path(__file__).resolve().parents[2])
#: The current folder is nobody's module: what lies in it is not imported by mistake.
_WORKER = (
    "import sys; sys.path[:] = [p for p in sys.path if p] + sys.argv[1:]; "
    "from torch2mlx.cli.agent_worker import main; main()"
)
_LOG = 4000  # characters of what a call printed


def serve(roots: tuple[Path, ...], running: bool) -> None:
    """Serves until the client goes away. `running`: whether programs in the folders may run."""
    import anyio
    from mcp.server.stdio import stdio_server

    server = _server(roots, running)

    async def main() -> None:
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())

    anyio.run(main)


def _server(roots: tuple[Path, ...], running: bool) -> Any:
    import mcp_types as types
    from mcp.server.lowlevel import Server

    from torch2mlx import __version__

    async def list_tools(_: Any, __: Any) -> Any:
        return types.ListToolsResult(tools=[types.Tool(**_described(tool)) for tool in TOOLS])

    async def call_tool(_: Any, params: Any) -> Any:
        request = {"tool": params.name, "arguments": dict(params.arguments or {})}
        found, log = await _called({**request, "roots": [*map(str, roots)], "running": running})
        texts = [json.dumps(found, indent=1), *([f"standard error:\n{log}"] if log else [])]
        content: Any = [types.TextContent(type="text", text=text) for text in texts]
        return types.CallToolResult(
            content=content, structured_content=found, is_error=not found["ok"]
        )

    async def list_resources(_: Any, __: Any) -> Any:
        shown = [
            types.Resource(uri=r.uri, name=r.name, description=r.about, mime_type=r.kind)
            for r in RESOURCES
        ]
        return types.ListResourcesResult(resources=shown)

    async def read_resource(_: Any, params: Any) -> Any:
        return types.ReadResourceResult(contents=[_read(str(params.uri))])

    return Server(
        "torch2mlx",
        version=__version__,
        instructions=INSTRUCTIONS.replace("{root}", str(roots[0])),
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_read_resource=read_resource,
    )


def _described(tool: Any) -> dict[str, Any]:
    """A tool as the protocol has it."""
    verb = tool.verb
    return {
        "name": verb.name.replace("-", "_"),
        "description": f"{verb.summary[0].upper()}{verb.summary[1:]}. {tool.about}".strip(),
        "input_schema": schema(verb),
    }


def _read(uri: str) -> Any:
    import mcp_types as types
    from mcp.shared.exceptions import MCPError

    for resource in RESOURCES:
        if resource.uri == uri:
            text = resource.text()
            return types.TextResourceContents(uri=uri, mime_type=resource.kind, text=text)
    known = ", ".join(resource.uri for resource in RESOURCES)
    raise MCPError(types.INVALID_PARAMS, f"there is no resource {uri}; there are {known}")


async def _called(request: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The envelope of one call, from a process of its own, and the end of what that printed."""
    import anyio

    ran = await anyio.run_process(
        [sys.executable, "-c", _WORKER, _HERE],
        input=json.dumps(request).encode(),
        stderr=subprocess.PIPE,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    log = ran.stderr.decode("utf-8", "replace")[-_LOG:]
    try:
        return json.loads(ran.stdout), log
    except ValueError:
        message = f"the call's process ended with {ran.returncode} and no answer"
        return envelope(None, error_data(message, INTERNAL)), log
