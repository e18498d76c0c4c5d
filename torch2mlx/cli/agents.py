"""The verbs for agents: mcp serves them tools, agent-files tells them how to work with these."""

from __future__ import annotations

import argparse
from pathlib import Path

from torch2mlx.cli.verb import Answer, Verb, listed, planned
from torch2mlx.common.optional import need
from torch2mlx.errors import NotGrantedError


def _describe_mcp(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--root",
        action="append",
        required=True,
        metavar="DIR",
        help="a folder that may be read and written, and nothing outside; paths are relative to "
        "the first; can be given several times",
    )
    sub.add_argument(
        "--allow-running",
        action="store_true",
        help="run programs in these folders: functions that make models, programs of translations "
        "that are not yours; they can do what you can",
    )


def _mcp(args: argparse.Namespace) -> Answer:
    need("mcp", "mcp")
    from torch2mlx.cli.agent_server import serve

    roots = tuple(Path(root) for root in args.root)
    for root in roots:
        if not root.is_dir():
            raise NotGrantedError(f"{root}: is no folder, so nothing in it can be granted")
    serve(tuple(root.resolve() for root in roots), args.allow_running)
    return Answer()


def _describe_files(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "out",
        nargs="?",
        default=".",
        help="the folder of an agent's configuration, such as .claude (default: the current one)",
    )


def _files(args: argparse.Namespace) -> Answer:
    from torch2mlx.checkpoint.write.replacing import Guard
    from torch2mlx.checkpoint.write.tree import check_tree, write_tree
    from torch2mlx.cli.agent_files import files

    out, contents = Path(args.out), files()
    guard = Guard((), args.force)
    (check_tree if args.dry_run else write_tree)(out, contents, guard)
    written = [str(out / path) for path in contents]
    if args.dry_run:
        return planned(written)
    return Answer({"written": written}, listed({"written": ", ".join(written)}))


MCP = Verb(
    "mcp",
    "serve the verbs to agents as tools of the Model Context Protocol, over stdin and stdout",
    _describe_mcp,
    _mcp,
    ("torch2mlx mcp --root project/", "torch2mlx mcp --root project/ --allow-running"),
)
AGENT_FILES = Verb(
    "agent-files",
    "write an agent's description and a skill that work through the tools of mcp",
    _describe_files,
    _files,
    ("torch2mlx agent-files .claude", "torch2mlx agent-files .claude --force"),
    writes=True,
)
