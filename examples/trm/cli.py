"""`python -m examples.trm build | train | evaluate | bench | demo`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from examples.trm import checkpoints
from examples.trm.build import build_arc, build_maze, build_sudoku
from examples.trm.config import Config, ConfigError, read
from examples.trm.data import DataError, PuzzleSet
from examples.trm.evaluation import evaluate
from examples.trm.run import train
from examples.trm.training import Trainer, make_model


def _build(options: argparse.Namespace) -> int:
    if options.kind == "arc":
        if options.tasks is None:
            raise ConfigError("build arc: --tasks FOLDER, with the JSON files of the tasks")
        told = build_arc(options.out, options.tasks)
    else:
        make = build_sudoku if options.kind == "sudoku" else build_maze
        sizes = {"side": options.side, "train": options.train, "test": options.test}
        told = make(options.out, **sizes, seed=options.seed)
    print(f"{options.out}: {told.total_puzzles} puzzles of {told.seq_len} cells to train on")
    return 0


def _config(options: argparse.Namespace) -> Config:
    config = read(options.config)
    if options.steps:
        config = replace(config, train=replace(config.train, steps=options.steps))
    return config


def _train(options: argparse.Namespace) -> int:
    results = train(options.data, options.out, _config(options), resume=options.resume)
    print(f"solved {100 * results['exact_accuracy']:.1f} % of the held-out puzzles")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    _, _, config = checkpoints.read(options.run)
    data = PuzzleSet(options.data, "test")
    trainer = Trainer(config, make_model(config, data.metadata))
    checkpoints.restore(trainer, options.run)
    for name, value in evaluate(trainer.averaged(), data, config.train.batch_size).items():
        print(f"{name:16} {value:.4f}")
    return 0


def _bench(options: argparse.Namespace) -> int:
    from examples.trm.bench import seconds

    found = seconds(options.data, _config(options))
    for name, value in found.items():
        print(f"{name:14} {1000 * value:7.1f} ms a step, {value / found['torch']:.2f} of torch's")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from examples.trm.pipeline import demo

    return demo(options.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.trm", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="make a puzzle set")
    build.add_argument("kind", choices=("sudoku", "maze", "arc"))
    build.add_argument("--out", type=Path, required=True)
    build.add_argument("--side", type=int, default=9)
    build.add_argument("--train", type=int, default=1000)
    build.add_argument("--test", type=int, default=200)
    build.add_argument("--tasks", type=Path, help="ARC: the folder of tasks")
    build.add_argument("--seed", type=int, default=0)
    build.set_defaults(run_=_build)
    run = commands.add_parser("train", help="train in a folder, or go on with --resume")
    run.add_argument("--data", type=Path, required=True)
    run.add_argument("--out", type=Path, required=True)
    run.add_argument("--config", type=Path)
    run.add_argument("--steps", type=int)
    run.add_argument("--resume", action="store_true")
    run.set_defaults(run_=_train)
    score = commands.add_parser("evaluate", help="the held-out puzzles, with a run's checkpoint")
    score.add_argument("--data", type=Path, required=True)
    score.add_argument("--run", type=Path, required=True)
    score.set_defaults(run_=_evaluate)
    speed = commands.add_parser("bench", help="seconds of a step, beside torch")
    speed.add_argument("--data", type=Path, required=True)
    speed.add_argument("--config", type=Path)
    speed.add_argument("--steps", type=int)
    speed.set_defaults(run_=_bench)
    demo = commands.add_parser("demo", help="all of it, with a page of curves")
    demo.add_argument("--out", type=Path, default=Path("trm-demo"))
    demo.set_defaults(run_=_demo)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; 2 with one line of explanation for folders and settings that are wrong."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run_(options))
    except (DataError, ConfigError) as problem:
        print(f"trm: {problem}", file=sys.stderr)
        return 2
