"""The command line: torch2mlx convert | revert | inspect | analyze | translate | verify | port.

Exit codes: 0 done, 1 refused or failed (one message on standard error), 2 wrong usage,
130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch2mlx import __version__, analyze, convert, inspect, revert, translate, verify
from torch2mlx.errors import PortError, Torch2MLXError, VerificationError
from torch2mlx.graph.sources import find
from torch2mlx.options import command_line
from torch2mlx.porter import port, port_folder, write
from torch2mlx.progress import progress_bar
from torch2mlx.read.paths import described
from torch2mlx.report.html import as_html
from torch2mlx.report.port import as_html as port_html
from torch2mlx.report.port import as_json as port_json
from torch2mlx.report.port import as_markdown
from torch2mlx.report.sarif import as_sarif
from torch2mlx.write.folder import check_folder
from torch2mlx.write.replacing import Guard, paths_of, settled
from torch2mlx.write.transaction import watched
from torch2mlx.write.tree import write_small

_FORCE = "replace what is in the way, even if torch2mlx did not write it; the source never"


def _pair(text: str) -> tuple[str, Any]:
    pattern, equals, value = text.partition("=")
    if not equals or not pattern or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not PATTERN=LAYER")
    try:
        return pattern, json.loads(value) if value.startswith("{") else value
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: the layer is no JSON: {error}") from None


def _convert(args: argparse.Namespace) -> Any:
    with progress_bar("converting", not args.quiet) as progress:
        return convert(
            args.source,
            args.out,
            rules=dict(args.rule) if args.rule else None,
            key=args.key,
            prefix=args.prefix,
            dtype=args.dtype,
            shard_size=args.shard_size,
            on_unmapped=args.on_unmapped,
            progress=progress,
            threads=args.threads,
            force=args.force,
            verify=not args.no_verify,
            expand=args.expand,
        )


def _revert(args: argparse.Namespace) -> Any:
    with progress_bar("reverting", not args.quiet) as progress:
        written = revert(args.source, args.out, like=args.like, progress=progress, force=args.force)
    return {"written": written}


def _inspect(args: argparse.Namespace) -> Any:
    return inspect(args.source, key=args.key)


def _analyze(args: argparse.Namespace) -> Any:
    report = analyze(args.source)
    guard = Guard(paths_of(args.source), args.force)
    if args.html:
        write_small(Path(args.html), as_html(report).encode(), guard, _has(b'content="torch2mlx"'))
    if args.sarif:
        text = json.dumps(as_sarif(report, __version__), indent=2) + "\n"
        write_small(Path(args.sarif), text.encode(), guard, _has(b'"name": "torch2mlx"'))
    return report


def _has(mark: bytes) -> Callable[[Path], bool]:
    """Whether a page or a report was written here: it names its writer."""
    return lambda path: mark in path.read_bytes()


def _translate(args: argparse.Namespace) -> Any:
    check_folder(settled(Path(args.out)), Guard(paths_of(args.source), args.force))
    model, given, named = find(args.source, args.stream)
    made = translate(
        model,
        given,
        named,
        dynamic=not args.fixed,
        io_layout=args.io_layout,
        standalone=args.standalone,
    )
    result = {"class": made.name, "lines": made.source.count("\n"), "dynamic": made.dynamic}
    if args.stream:
        with progress_bar("converting", not args.quiet) as progress:
            folder = made.save(args.out, weights=args.source, progress=progress, force=args.force)
        return {"written": str(folder), **result, "difference": "not compared: verify --stream"}
    folder = made.save(args.out, force=args.force)
    checked = verify(model, made, given, named)
    if not checked.ok:
        raise VerificationError(f"written to {folder}, but it computes something else:\n{checked}")
    return {"written": str(folder), **result, "difference": checked.difference}


def _verify(args: argparse.Namespace) -> Any:
    model, given, named = find(args.source, args.stream)
    weights = args.source if args.stream else None
    checked = verify(
        model,
        args.folder,
        given,
        named,
        args.tolerance,
        weights=weights,
        trust_remote_code=args.trust_remote_code,
    )
    if not checked.ok:
        raise VerificationError(str(checked))
    return {o.name or "output": f"{o.difference:.1e}" for o in checked.outputs}


def _port(args: argparse.Namespace) -> Any:
    source = Path(args.source)
    if source.is_dir():
        if not args.out and not args.check:
            raise PortError(f"{source}: is a folder; give -o OUT")
        with tempfile.TemporaryDirectory() as spare:
            out = args.out or Path(spare) / "out"
            results = port_folder(source, out, args.layout, args.data, force=args.force)
    else:
        results = [port(source, args.layout, args.data)]
        if args.out:
            write(results[0], Path(args.out), force=args.force)
    if args.diff:
        print("".join(result.diff() for result in results), end="")
    elif not args.out and not args.check and not args.report:
        print(results[0].source, end="")
    if args.report:
        print({"md": as_markdown, "json": port_json, "html": port_html}[args.report](results))
    left = [f"{r.path}:{u.line}: {u.reason}" for r in results for u in r.unsupported]
    if args.check and left:
        raise PortError("\n".join([f"{len(left)} places are left:", *left]))
    print("".join(f"{line}\n" for line in left), end="", file=sys.stderr)
    return None


def _port_command(add: Callable[..., Any]) -> None:
    sub = add("port", _port, "rewrite PyTorch source as MLX source")
    sub.add_argument("source", help="a .py or .ipynb file, or a folder of them")
    sub.add_argument("-o", "--out", help="where to write; a single file goes to the screen without")
    sub.add_argument("--diff", action="store_true", help="show what changes")
    sub.add_argument("--check", action="store_true", help="fail when something cannot be ported")
    sub.add_argument(
        "--layout",
        choices=("mlx", "torch"),
        default="mlx",
        help="of images between layers: (N, H, W, C), or (N, C, H, W) as before",
    )
    sub.add_argument(
        "--data",
        choices=("kit", "mlx-data"),
        default="kit",
        help="what a DataLoader with workers becomes: a plain loop, or threads of mlx-data",
    )
    sub.add_argument("--report", choices=("html", "md", "json"), help="print what changed and why")
    sub.add_argument("--force", action="store_true", help=_FORCE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("torch2mlx", description="PyTorch checkpoints become MLX's.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print the result as JSON")
    common.add_argument("--quiet", action="store_true", help="no progress bar")
    add = lambda name, run, text: _command(commands, common, name, run, text)  # noqa: E731

    _add_weights(add)
    _add_revert(add)
    sub = add("analyze", _analyze, "say what converting a model would meet")
    sub.add_argument("source", help="a folder with a config.json, or a checkpoint")
    sub.add_argument("--html", metavar="FILE", help="write a page with tree and treemap too")
    sub.add_argument("--sarif", metavar="FILE", help="write SARIF 2.1.0 for editors too")
    sub.add_argument("--force", action="store_true", help=_FORCE)

    _add_models(add)
    sub = add("inspect", _inspect, "list what a checkpoint holds")
    sub.add_argument("source", help="a checkpoint, of PyTorch or converted")
    sub.add_argument("--key", help="which state dict of a nested checkpoint")
    return parser


def _add_weights(add: Callable[..., argparse.ArgumentParser]) -> None:
    """The commands that need weights alone."""
    sub = add("convert", _convert, "write a PyTorch checkpoint as MLX stores it")
    sub.add_argument("source", help="a .safetensors, .pt, .pth, .bin, .ckpt file or a directory")
    sub.add_argument("out", help="a .safetensors file, or a directory for shards")
    sub.add_argument("--key", help="which state dict of a nested checkpoint")
    sub.add_argument(
        "--prefix",
        help="convert what stands under it, for example model., and take it off; the rest "
        "goes to the sidecar",
    )
    sub.add_argument(
        "--dtype",
        help="cast floating-point tensors: float32, float16, bfloat16, or float64, which mx.load "
        "does not read",
    )
    sub.add_argument("--shard-size", help="largest file of a directory, for example 5GB")
    sub.add_argument(
        "--rule",
        type=_pair,
        action="append",
        metavar="PATTERN=LAYER",
        help="layer type of modules, for example 'conv*=Conv2d'; or of a tensor: 'pos=identity'",
    )
    sub.add_argument(
        "--on-unmapped",
        choices=("warn", "error", "ignore"),
        default="warn",
        help="what to do where MLX lacks a layer (default: warn)",
    )
    sub.add_argument(
        "--threads", type=int, default=0, help="how many work at it (default: 0, all cores)"
    )
    sub.add_argument(
        "--no-verify", action="store_true", help="do not compare a .pt file's checksums"
    )
    sub.add_argument(
        "--expand", action="store_true", help="write out views that claim more than the file holds"
    )
    sub.add_argument("--force", action="store_true", help=_FORCE)


def _add_revert(add: Callable[..., argparse.ArgumentParser]) -> None:
    sub = add("revert", _revert, "rebuild the PyTorch state dict of a converted checkpoint")
    sub.add_argument("source", help="a converted file or directory, or weights trained in MLX")
    sub.add_argument("out", help="a .safetensors or .pt file")
    sub.add_argument(
        "--like",
        metavar="CONVERTED",
        help="the converted file or directory that training started from",
    )
    sub.add_argument("--force", action="store_true", help=_FORCE)


def _add_models(add: Callable[..., argparse.ArgumentParser]) -> None:
    """The commands that need the model itself, not only its weights."""
    model = "a folder with a config.json, or package.module:factory, which answers (model, args)"
    sub = add("translate", _translate, "write a model as MLX source, with its weights")
    sub.add_argument("source", help=model)
    sub.add_argument("out", help="a folder: model.py, weights.safetensors, config.json")
    sub.add_argument("--fixed", action="store_true", help="fix all shapes to the examples'")
    sub.add_argument("--standalone", action="store_true", help="the file needs MLX alone")
    sub.add_argument(
        "--io-layout",
        choices=("torch", "mlx"),
        default="torch",
        help="mlx: images come and go with channels last",
    )
    sub.add_argument(
        "--stream",
        action="store_true",
        help="for models larger than memory: source from shapes, weights tensor by tensor; "
        "compared by verify --stream",
    )
    sub.add_argument("--force", action="store_true", help=_FORCE)

    sub = add("verify", _verify, "compare a translated folder with the PyTorch model")
    sub.add_argument("source", help=model)
    sub.add_argument("folder", help="what translate wrote")
    sub.add_argument("--tolerance", type=float, help="largest difference, for all outputs")
    sub.add_argument(
        "--stream",
        action="store_true",
        help="for models larger than memory: weights are read when their module is called",
    )
    sub.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run the folder's model.py though your own translate did not write it",
    )
    _port_command(add)


def _command(
    commands: Any,
    common: argparse.ArgumentParser,
    name: str,
    run: Callable[[argparse.Namespace], Any],
    text: str,
) -> argparse.ArgumentParser:
    sub = commands.add_parser(name, help=text, description=text, parents=[common])
    sub.set_defaults(run=run)
    return sub


def _show(result: Any, as_json: bool) -> None:
    if result is None:
        return
    data = result if isinstance(result, dict) else result.to_dict()
    text = json.dumps(data, indent=2) if as_json else result
    if isinstance(text, dict):
        text = "\n".join(f"{name}: {value}" for name, value in text.items())
    print(text)


def _changed(paths: Sequence[Path]) -> str:
    """What an interrupted command has changed."""
    if not paths:
        return "nothing was changed"
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return f"{', '.join(map(str, paths[:3]))}{more} had been written completely"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    args = _parser().parse_args(argv)
    with command_line(), warnings.catch_warnings(), watched() as written:
        warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
        try:
            _show(args.run(args), args.json)
            sys.stdout.flush()
        except BrokenPipeError:  # who reads has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except Torch2MLXError as error:
            print(f"torch2mlx: {error}", file=sys.stderr)
            return 1
        except OSError as error:
            print(f"torch2mlx: {described(error)}", file=sys.stderr)
            return 1
        except ImportError as error:
            print(f"torch2mlx: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print(f"torch2mlx: interrupted; {_changed(written())}", file=sys.stderr)
            return 130
    return 0
