"""The verbs that need weights alone: convert, inspect, revert."""

from __future__ import annotations

import argparse
import json
from typing import Any

from torch2mlx.cli.progress import progress_bar
from torch2mlx.cli.verb import Answer, Verb, listed, planned


def _pair(text: str) -> tuple[str, Any]:
    pattern, equals, value = text.partition("=")
    if not equals or not pattern or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not PATTERN=LAYER")
    try:
        return pattern, json.loads(value) if value.startswith("{") else value
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: the layer is no JSON: {error}") from None


def _threads(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of threads: 0 is all cores")
    return int(text)


def _describe_convert(sub: argparse.ArgumentParser) -> None:
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
        "--threads", type=_threads, default=0, help="how many work at it (default: 0, all cores)"
    )
    sub.add_argument(
        "--no-verify", action="store_true", help="do not compare a .pt file's checksums"
    )
    sub.add_argument(
        "--expand", action="store_true", help="write out views that claim more than the file holds"
    )
    told = "keep what torch trains: both biases of recurrent layers, g and v of weight norms"
    sub.add_argument("--training", action="store_true", help=told)
    _describe_adapters(sub)


def _describe_adapters(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--base", help="of an adapter of PEFT: the folder of the model it is for")
    told = "write this model, with the adapter that is the source merged into it"
    sub.add_argument("--merge", metavar="MODEL", help=told)


def _convert(args: argparse.Namespace) -> Answer:
    from torch2mlx.converter import convert

    with progress_bar("converting", not args.quiet and not args.dry_run) as progress:
        report = convert(
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
            training=args.training,
            dry_run=args.dry_run,
            base=args.base,
            merge=args.merge,
        )
    if args.dry_run:
        files = [*report.files, *report.beside, *([report.sidecar] if report.sidecar else [])]
        return planned(files, {"bytes": report.bytes_written, "tensors": len(report.pieces)})
    return Answer(report.to_dict(), str(report))


def _describe_inspect(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("source", help="a checkpoint, of PyTorch or converted")
    sub.add_argument("--key", help="which state dict of a nested checkpoint")


def _inspect(args: argparse.Namespace) -> Answer:
    from torch2mlx.inspector import inspect

    found = inspect(args.source, key=args.key)
    return Answer(found.to_dict(), str(found))


def _describe_revert(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("source", help="a converted file or directory, or weights trained in MLX")
    sub.add_argument("out", help="a .safetensors or .pt file; a folder for an adapter")
    sub.add_argument(
        "--like",
        metavar="CONVERTED",
        help="the converted file or directory that training started from",
    )
    sub.add_argument("--base", help="of an adapter of mlx-lm: the folder of the model it is for")


def _revert(args: argparse.Namespace) -> Answer:
    from torch2mlx.reverter import revert

    with progress_bar("reverting", not args.quiet and not args.dry_run) as progress:
        written = revert(
            args.source,
            args.out,
            like=args.like,
            progress=progress,
            force=args.force,
            dry_run=args.dry_run,
            base=args.base,
        )
    if args.dry_run:
        return planned([written])
    return Answer({"written": written}, listed({"written": written}))


CONVERT = Verb(
    "convert",
    "write a PyTorch checkpoint as MLX stores it",
    _describe_convert,
    _convert,
    (
        "torch2mlx convert model.pth weights.safetensors --rule 'conv*=Conv2d'",
        "torch2mlx convert folder/ out/ --dtype bfloat16 --shard-size 5GB",
        "torch2mlx convert run.ckpt out.safetensors --key state_dict --dry-run",
        "torch2mlx convert my-lora/ my-lora-mlx/ --base llama/",
        "torch2mlx convert my-lora/ merged/ --merge llama/",
    ),
    writes=True,
    bar=True,
)
INSPECT = Verb(
    "inspect",
    "list what a checkpoint holds",
    _describe_inspect,
    _inspect,
    ("torch2mlx inspect weights.safetensors", "torch2mlx inspect model.pt --format json"),
)
REVERT = Verb(
    "revert",
    "rebuild the PyTorch state dict of a converted checkpoint",
    _describe_revert,
    _revert,
    (
        "torch2mlx revert weights.safetensors model.pt",
        "torch2mlx revert trained.safetensors model.pt --like weights.safetensors",
        "torch2mlx revert adapters/ for-peft/ --base llama/",
    ),
    writes=True,
    bar=True,
)
