"""The verb generate: text from a language model's folder."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from torch2mlx.cli.progress import step
from torch2mlx.cli.verb import Answer, Verb

#: Bits that mlx-lm quantizes a cache to.
_BITS = (2, 3, 4, 6, 8)


def _count(text: str) -> int:
    try:
        found = int(text)
    except ValueError:
        found = 0
    if found < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of tokens, such as 100")
    return found


def _share(most: float, example: str) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = -1.0
        if not 0 <= found <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no {example}")
        return found

    return read


def _setting(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    try:
        found = json.loads(value)
    except ValueError:
        found, sign = None, ""
    if not sign or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=VALUE, such as num_beams=1")
    return name, found


def _describe(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("folder", help="what translate --cache wrote, or another that mlx-lm loads")
    sub.add_argument("prompt", help="the text to go on from, or to answer by a model that encodes")
    sub.add_argument(
        "--max-tokens", type=_count, default=100, metavar="N", help="at most so many (default: 100)"
    )
    sub.add_argument(
        "--temperature",
        type=_share(100.0, "temperature, such as 0.7"),
        default=0.0,
        metavar="T",
        help="0: the likeliest token each time (default); above: drawn at random",
    )
    sub.add_argument(
        "--top-p",
        type=_share(1.0, "share of probability, such as 0.9"),
        default=0.0,
        metavar="P",
        help="draw from the likeliest tokens whose probabilities add up to P",
    )
    sub.add_argument("--seed", type=int, help="of the draws: the same text again")
    sub.add_argument(
        "--kv-bits", type=int, choices=_BITS, help="quantize the cache of keys and values"
    )
    sub.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        dest="settings",
        metavar="NAME=VALUE",
        help="in place of what generation_config.json says, for a model that encodes: num_beams=1",
    )
    sub.add_argument("--plain", action="store_true", help="leave out the tokenizer's chat template")
    sub.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run the folder's model.py though your own translate did not write it",
    )


def _generate(args: argparse.Namespace) -> Answer:
    from torch2mlx.generator import Sampling, generated

    step(args, f"loading {args.folder}")
    made = generated(
        args.folder,
        args.prompt,
        tokens=args.max_tokens,
        sampling=Sampling(args.temperature, args.top_p, args.seed, dict(args.settings)),
        kv_bits=args.kv_bits,
        plain=args.plain,
        trust_remote_code=args.trust_remote_code,
    )
    return Answer(asdict(made), made.text)


GENERATE = Verb(
    "generate",
    "let a language model go on from a prompt",
    _describe,
    _generate,
    (
        'torch2mlx generate out/ "Once upon a time"',
        'torch2mlx generate out/ "Once upon a time" --temperature 0.7 --seed 1 --max-tokens 50',
    ),
)
