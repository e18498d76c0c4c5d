"""The verb port: PyTorch source becomes MLX source."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from torch2mlx.cli import verifying
from torch2mlx.cli.progress import step, wipe
from torch2mlx.cli.verb import Answer, Verb, planned
from torch2mlx.common.amounts import counted
from torch2mlx.errors import PortError, Torch2MLXError

_REPORTS = ("html", "md", "json")


def _describe(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("source", help="a .py or .ipynb file, or a folder of them")
    sub.add_argument(
        "out", nargs="?", help="where to write; a single file goes to the screen without, or with -"
    )
    # as it was spelled, and still may be
    sub.add_argument("-o", "--out", dest="named_out", metavar="OUT", help=argparse.SUPPRESS)
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
    sub.add_argument(
        "--answer",
        type=_answer_pair,
        action="append",
        metavar="ID=CHOICE",
        help="to a question of an earlier port: f.x=tensor says what x holds in the function f",
    )
    sub.add_argument(
        "--run",
        metavar="TEXT",
        help="run a copy of the script's folder for a few steps, with these arguments and your "
        "rights, and let what its names hold answer the questions",
    )
    verifying.describe(sub)
    sub.add_argument("--report", dest="format", choices=_REPORTS, help=argparse.SUPPRESS)


def _answer_pair(text: str) -> tuple[str, str]:
    name, equals, choice = text.rpartition("=")
    if not equals or not name or not choice:
        raise argparse.ArgumentTypeError(f"{text!r} is not ID=CHOICE, such as f.x=tensor")
    return name, choice


def _port(args: argparse.Namespace) -> Answer:
    source, out = Path(args.source), _out(args)
    verifying.check(args)
    if args.run is not None and args.dry_run:
        raise PortError("--run: runs the script, which --dry-run does not; give one of them")
    step(args, f"porting {source}")
    results, files = (_folder if source.is_dir() else _file)(args, source, out)
    if args.dry_run:
        left = sum(len(result.unsupported) for result in results)
        return planned([str(file) for file in files], {"places left as they are": left})
    if args.verify:
        step(args, "running the script and its port")
    results = verifying.verified(args, results)
    return _answer(args, results, files)


def _out(args: argparse.Namespace) -> Path | None:
    if args.out and args.named_out:
        raise PortError(f"{args.named_out}: where to write is {args.out} already; give one")
    out = args.out or args.named_out
    return Path(out) if out and out != "-" else None


def _file(args: argparse.Namespace, source: Path, out: Path | None) -> tuple[list[Any], list[Path]]:
    from torch2mlx.porter import port, write

    run = None if args.run is None else shlex.split(args.run)
    result = port(source, args.layout, args.data, dict(args.answer or ()), run=run)
    if out is None:
        return [result], []
    write(result, out, force=args.force, dry_run=args.dry_run)
    return [result], [out]


def _folder(
    args: argparse.Namespace, source: Path, out: Path | None
) -> tuple[list[Any], list[Path]]:
    from torch2mlx.porter import Replacing, port_tree, ported, sources_of

    if args.run is not None:
        raise PortError(f"--run: runs one script, and {source} is a folder; give the script")
    if out is not None:
        how = Replacing(args.force, args.dry_run)
        return port_tree(source, out, args.layout, args.data, how, dict(args.answer or ()))
    if not args.check:
        sources_of(source)
        raise PortError(f"{source}: is a folder; say where to write: torch2mlx port FOLDER OUT")
    answers = dict(args.answer or ())
    return list(ported(source, args.layout, args.data, answers).values()), []


def _answer(args: argparse.Namespace, results: list[Any], written: list[Path]) -> Answer:
    """What is shown: the difference, the source where it was not written, or a report of it."""
    from torch2mlx.pages import page
    from torch2mlx.report.port import as_data, as_markdown

    left = [f"{r.path}:{u.line}: {u.reason}" for r in results for u in _told(r, args.check)]
    wipe()
    text, shown = _written(results, written), not written
    failure: Torch2MLXError | None = None
    if args.diff:
        text = "".join(result.diff() for result in results)
    elif shown and not args.check:
        text = results[0].source
    ran = next((result.verified for result in results if result.verified), None)
    if ran is not None:
        text, failure = "\n".join([*([text] if text else []), ran.table()]), verifying.failure(ran)
    failed = [result.failed for result in results if result.failed]
    if failed:
        failure = PortError("\n".join(failed))
    if args.check and left:
        failure = PortError("\n".join([f"{len(left)} places are left:", *left]))
    elif args.format != "json":
        notes = [f"{r.path}: does not import torch: left as it is" for r in results if not r.torch]
        notes += [note for r in results for note in _beside(r, Path(args.source).is_dir())]
        open_ = [f"{r.path}:{q.line}: question: {q}" for r in results for q in r.questions]
        seen = [f"{r.path}:{s.line}: seen: {s}" for r in results for s in r.seen]
        print(
            "".join(f"{line}\n" for line in (*left, *open_, *seen, *notes)), end="", file=sys.stderr
        )
    forms = {"html": lambda: page(results), "md": lambda: as_markdown(results)}
    data = {**as_data(results), "written": [str(path) for path in written]}
    if shown and not args.check:
        data["files"][0]["source"] = results[0].source
    return Answer(data, text, forms, failure)


def _written(results: list[Any], written: list[Path]) -> str:
    """Where the port is, and how much of it is left; "" of what was not written."""
    left = sum(len(result.unsupported) for result in results)
    told = f", {counted(left, 'place')} left as torch's" if left else ""
    return "\n".join(f"written: {path}" for path in written) + told


def _beside(result: Any, ported: bool) -> list[str]:
    """Files that a script imports and that are still torch's."""
    return [
        f"{result.path}: imports {file}, which imports torch and is not ported with it: port the "
        f"folder, torch2mlx port {Path(result.path).parent} OUT"
        for file in (() if ported else result.beside)
    ]


def _told(result: Any, check: bool) -> Any:
    """What is left of a file; not of one that failed whole, which is the error."""
    return () if result.failed and not check else result.unsupported


PORT = Verb(
    "port",
    "rewrite PyTorch source as MLX source",
    _describe,
    _port,
    (
        "torch2mlx port train.py train_mlx.py",
        "torch2mlx port src/ src_mlx/ --format md",
        "torch2mlx port notebook.ipynb --diff",
        "torch2mlx port src/ --check",
        "torch2mlx port train.py train_mlx.py --answer f.x=tensor",
        "torch2mlx port train.py train_mlx.py --run '--epochs 1 --batch-size 8'",
        "torch2mlx port train.py train_mlx.py --verify --steps 20 --args=--quick",
        "torch2mlx port src/ src_mlx/ --verify --script train.py",
    ),
    formats=("text", "json", "html", "md"),
    writes=True,
)
