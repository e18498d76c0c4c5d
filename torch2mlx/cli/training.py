"""The verb verify-training: a torch script and an MLX script, run in lock-step and compared."""

from __future__ import annotations

import argparse
import shlex

from torch2mlx.cli.progress import step
from torch2mlx.cli.verb import Answer, Verb
from torch2mlx.errors import VerificationError


def _describe(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("torch_script", help="the script that trains with PyTorch; it is run")
    sub.add_argument("mlx_script", help="its port to MLX, by whomever; it is run")
    sub.add_argument("--steps", type=int, default=5, help="optimizer updates (default: 5)")
    sub.add_argument("--args", default="", metavar="TEXT", help="arguments of both scripts")
    sub.add_argument("--mlx-args", metavar="TEXT", help="those of the MLX script, if it has others")
    sub.add_argument(
        "--timeout", type=float, default=300.0, metavar="S", help="seconds per run (default: 300)"
    )


def _verify(args: argparse.Namespace) -> Answer:
    from torch2mlx.pages import page
    from torch2mlx.training_verifier import verify_training

    step(args, f"running {args.torch_script} and {args.mlx_script}")
    found = verify_training(
        args.torch_script,
        args.mlx_script,
        steps=args.steps,
        args=shlex.split(args.args),
        mlx_args=None if args.mlx_args is None else shlex.split(args.mlx_args),
        timeout=args.timeout,
    )
    failure = None if found.ok else VerificationError(f"the two scripts part: {found.first}")
    scripts = (args.torch_script, args.mlx_script)
    forms = {"html": lambda: page(found, scripts=scripts)}
    return Answer(found.to_dict(), str(found), forms, failure)


VERIFY_TRAINING = Verb(
    "verify-training",
    "run a PyTorch training script and its MLX port in lock-step, and name where they part",
    _describe,
    _verify,
    (
        "torch2mlx verify-training train.py train_mlx.py",
        "torch2mlx verify-training train.py train_mlx.py --steps 20 --args=--quick",
        "torch2mlx verify-training train.py train_mlx.py --format html > page.html",
    ),
    formats=("text", "json", "html"),
)
