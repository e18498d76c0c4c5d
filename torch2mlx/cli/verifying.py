"""`port --verify`: the script that was ported and its port, run and compared at the end."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch2mlx.errors import PortError, VerificationError

#: Options that say how to verify.
_HOW = ("script", "steps", "args", "timeout")


def describe(sub: argparse.ArgumentParser) -> None:
    """Adds the options of `port` that verify what it made."""
    group = sub.add_argument_group(
        "running both", "--verify runs the script and its port, with your rights"
    )
    group.add_argument(
        "--verify",
        action="store_true",
        help="run the script and its port at the end, and compare each step of their training",
    )
    group.add_argument("--script", metavar="FILE", help="the script to run, of a folder")
    group.add_argument("--steps", type=int, help="optimizer updates to compare (default: 5)")
    group.add_argument("--args", metavar="TEXT", help="arguments of the script")
    group.add_argument("--timeout", type=float, metavar="S", help="seconds per run (default: 300)")


def check(args: argparse.Namespace) -> None:
    """Raises PortError for options that do not go together."""
    given = next((name for name in _HOW if getattr(args, name) is not None), None)
    if given and not args.verify:
        raise PortError(f"--{given}: says how to verify; give --verify too, which runs the script")
    if args.verify and args.dry_run:
        raise PortError("--verify: runs the script, which --dry-run does not; give one of them")
    if args.verify and Path(args.source).is_dir():
        _check_script(args)
    elif args.script:
        raise PortError(f"--script: names a file of a folder, and {args.source} is none")


def _check_script(args: argparse.Namespace) -> None:
    if not args.script:
        raise PortError(f"{args.source}: is a folder; say what to run: --script FILE")
    script, folder = _script(args), Path(args.source).resolve()
    if not script.is_file() or folder not in script.parents or script.suffix != ".py":
        raise PortError(f"--script {args.script}: is no .py file in {args.source}")


def _script(args: argparse.Namespace) -> Path:
    """The script that is run, whole."""
    return Path(args.source, *([args.script] if args.script else [])).resolve()


def verified(args: argparse.Namespace, results: list[Any]) -> list[Any]:
    """The results, the one of the script that was to be run with how its training compares."""
    if not args.verify:
        return results
    from torch2mlx.port_verifier import verified as compared

    options: dict[str, Any] = {"args": shlex.split(args.args or "")}
    options |= {k: getattr(args, k) for k in ("steps", "timeout") if getattr(args, k) is not None}
    script = _script(args)
    run = (Path(result.path).resolve() == script for result in results)
    return [
        replace(result, verified=compared(result, options)) if runs else result
        for result, runs in zip(results, run, strict=True)
    ]


def failure(ran: Any) -> VerificationError | None:
    """Why the exit code is 1, where the two part."""
    return None if ran.ok else VerificationError(f"the port trains otherwise: {ran.first}")
