"""The verbs that need the model itself, not only its weights: translate, verify."""

from __future__ import annotations

import argparse
import math
from collections import Counter
from pathlib import Path
from typing import Any

from torch2mlx.cli import sizing
from torch2mlx.cli.progress import progress_bar, step
from torch2mlx.cli.verb import Answer, Verb, listed, planned
from torch2mlx.common.amounts import counted
from torch2mlx.common.optional import need
from torch2mlx.common.options import option
from torch2mlx.errors import TranslationError
from torch2mlx.pages import page

_MODEL = (
    "a folder with a config.json and weights, or file.py:function or package.module:function, "
    "which answers (model, args)"
)


def _describe_model(sub: argparse.ArgumentParser) -> None:
    """What makes the model; beside `source`, options for folders."""
    sub.add_argument(
        "--inputs",
        metavar="NAMES",
        help="example inputs of a folder's model, by name, with shapes where the usual ones do not "
        "do: input_ids,attention_mask or pixel_values=2x3x224x224 (default: those that its "
        "tokenizer or processor gives)",
    )
    sub.add_argument(
        "--sizes", metavar="SIZES", type=sizing.asked, action="append", help=sizing.HELP
    )
    sub.add_argument("--dtype", help="of a folder's weights (default: the file's)")
    sub.add_argument("--key", help="which state dict of a folder's nested checkpoint")
    sub.add_argument("--prefix", default="", help="which weights of a folder's checkpoint")
    sub.add_argument(
        "--ignore-unexpected",
        action="store_true",
        help="leave out weights of a folder that the model does not take",
    )


def _describe_translate(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("source", help=_MODEL)
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
        "--no-check", action="store_true", help="do not run the result and compare it with torch"
    )
    sub.add_argument(
        "--cache",
        action="store_true",
        help="of a folder's causal language model: it keeps keys, values and states in a cache, "
        "and the folder is one that mlx_lm.generate and its like take with --trust-remote-code; of "
        "an encoder-decoder model: it encodes once, and generate runs the folder",
    )
    sub.add_argument(
        "--all-sizes",
        action="store_true",
        help="one file for models of all sizes: numbers in it become expressions of what the model "
        "is made with, found at other sizes (takes a few times as long)",
    )
    sub.add_argument(
        "--stream",
        action="store_true",
        help="for models larger than memory: source from shapes, weights tensor by tensor; "
        "compared by verify --stream",
    )
    _describe_model(sub)


def _found(args: argparse.Namespace) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    from torch2mlx.converter import dtype_name
    from torch2mlx.export.capture.folders import Wishes
    from torch2mlx.export.capture.sources import find

    need(args.command, "torch", "mlx")
    if args.stream and (args.prefix or args.ignore_unexpected):
        raise TranslationError(
            "--stream takes all of a folder's weights under their own names: leave out --prefix "
            "and --ignore-unexpected"
        )
    step(args, f"making the model of {args.source}")
    dtype = dtype_name(args.dtype)
    wishes = Wishes(args.stream, dtype, args.key, args.prefix, args.ignore_unexpected)
    model, given, named = find(args.source, wishes, args.inputs)
    shown = ", ".join(named) or counted(len(given), "argument")
    step(args, f"example inputs: {shown}")
    return model, given, named


def _guard(args: argparse.Namespace) -> Any:
    from torch2mlx.checkpoint.write.replacing import Guard, paths_of
    from torch2mlx.export.capture.sources import paths

    return Guard(paths_of(*paths(args.source)), args.force)


def _translate(args: argparse.Namespace) -> Answer:
    from torch2mlx.checkpoint.write.folder import check_folder
    from torch2mlx.checkpoint.write.replacing import settled
    from torch2mlx.translator import translate

    if args.all_sizes and args.sizes:
        raise TranslationError("--sizes is not taken together with --all-sizes")
    check_folder(settled(Path(args.out)), _guard(args))
    args.stream = args.stream or (args.all_sizes and _large(args))
    if args.cache:
        return _language(args)
    model, given, named = _found(args)
    step(args, f"translating {type(model).__name__}")
    made = translate(
        model,
        given,
        named,
        dynamic=not args.fixed,
        check=not args.no_check,
        sizes=args.all_sizes or sizing.settled(args.sizes, model, given, named),
        io_layout=args.io_layout,
        standalone=args.standalone,
    )
    result = {
        "class": made.name,
        "lines": made.source.count("\n"),
        "dynamic": made.dynamic,
        "free": _free(made),
        "compared": _compared(args, made),
    }
    return _saved(args, made, result, model)


def _large(args: argparse.Namespace) -> bool:
    """Whether a folder's weights are too large to be made for a file that other sizes show."""
    folder = Path(args.source)
    if not folder.is_dir() or args.prefix or args.ignore_unexpected:
        return False
    held = (path.stat().st_size for path in folder.iterdir() if path.suffix in _WEIGHTS)
    return sum(held) > _STREAMED


#: Folders with more bytes of weights are streamed where all sizes are wanted.
_STREAMED, _WEIGHTS = 2**30, (".safetensors", ".bin", ".pt", ".pth")
#: Options of translate that a language model with a cache does not take.
_NOT_CACHED = ("inputs", "sizes", "fixed", "standalone")


def _language(args: argparse.Namespace) -> Answer:
    """A folder's language model with its cache, for mlx-lm, or with an encoder, for generate."""
    from torch2mlx.checkpoint.write.language import check_language
    from torch2mlx.converter import dtype_name
    from torch2mlx.export.capture.folders import Wishes, model_in
    from torch2mlx.language import language_model

    need(args.command, "torch", "mlx", "transformers")
    odd = [name for name in _NOT_CACHED if getattr(args, name)]
    odd += ["stream"] * (args.stream and not args.all_sizes)
    odd += ["io_layout"] if args.io_layout != "torch" else []
    if odd:
        raise TranslationError(f"{option(odd[0])} is not taken together with {option('cache')}")
    folder = Path(args.source)
    if not folder.is_dir():
        raise TranslationError(f"{option('cache')}: {args.source} is no folder of a model")
    step(args, f"making the model of {args.source}")
    dtype = dtype_name(args.dtype)
    model = model_in(
        folder, Wishes(args.stream, dtype, args.key, args.prefix, args.ignore_unexpected)
    )
    step(args, f"translating {type(model).__name__}")
    made = language_model(model, check=not args.no_check, sizes=args.all_sizes)
    result = {
        "class": type(model).__name__,
        "lines": made.source.count("\n"),
        "caches": ", ".join(f"{n} {kind}" for kind, n in Counter(made.caches).items()),
        "compared": "no" if args.no_check else _CACHED[args.stream],
    }
    if args.dry_run:
        files = check_language(Path(args.out), folder, _guard(args), made.texts)
        return planned([str(file) for file in files], result)
    step(args, f"writing {args.out}")
    return _answered(made, *_language_written(args, made, folder, result), model)


#: What a language model was compared in, with values and with shapes alone.
_CACHED = (
    "agrees with torch, prefilled in pieces",
    "agrees with torch at other sizes, prefilled in pieces",
)


def _language_written(
    args: argparse.Namespace, made: Any, folder: Path, result: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """What there is to say of a language model's folder, which is written."""
    from torch2mlx.export.capture.folders import weights_of

    streamed: dict[str, Any] = {}
    with progress_bar("converting", args.stream and not args.quiet) as progress:
        if args.stream:
            streamed = {"weights": weights_of(folder), "progress": progress}
            streamed |= {"key": args.key, "dtype": args.dtype}
        out = made.save(args.out, tokenizer=folder, force=args.force, **streamed)
    data = {"written": str(out), **result}
    return data, "\n".join([listed(data), *(f"note: {note}" for note in made.notes)])


def _answered(made: Any, data: dict[str, Any], text: str, model: Any) -> Answer:
    forms = {"html": lambda: page(made, model=model)}
    return Answer({**data, "notes": list(made.notes)}, text, forms)


def _free(made: Any) -> str:
    """The lengths that may be others, as --sizes takes them."""
    from torch2mlx.export.capture.sizes import named

    return sizing.spelled(made.free, {named(way): dims for way, dims in made.shapes.items()})


#: What a translation was compared in, by its `compared`.
_COMPARED = {
    "equal": "agrees with torch on the example inputs",
    "unstable": "agrees with torch on the example inputs except in unstable outputs, which torch "
    "itself changes as much when its inputs and sums change in their last place",
    "incomparable": "not in full: outputs that depend on random numbers could not be compared",
    "shapes": "shapes",
    "nothing": "no",
}


def _compared(args: argparse.Namespace, made: Any) -> str:
    """What the translation was compared in."""
    if args.stream and made.compared == "shapes":
        return "shapes; verify --stream compares values"
    return _COMPARED[made.compared]


def _saved(args: argparse.Namespace, made: Any, result: dict[str, Any], model: Any) -> Answer:
    """The answer, after the folder was written, unless only that is asked what would be."""
    from torch2mlx.checkpoint.write.translated import check_translated
    from torch2mlx.export.capture.folders import weights_of

    if args.dry_run:
        files = check_translated(Path(args.out), bool(made.constants), _guard(args))
        return planned([str(file) for file in files], result)
    weights = weights_of(Path(args.source)) if args.stream else None
    step(args, f"writing {args.out}")
    with progress_bar("converting", args.stream and not args.quiet) as progress:
        folder = made.save(
            args.out,
            weights=weights,
            progress=progress,
            key=args.key,
            dtype=args.dtype,
            force=args.force,
        )
    data = {"written": str(folder), **result}
    told = {name: value for name, value in data.items() if name != "dynamic"}  # `free` says it
    text = "\n".join([listed(told), *(f"note: {note}" for note in made.notes)])
    return _answered(made, data, text, model)


def _tolerance(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no tolerance, such as 1e-4")
    return found


def _describe_verify(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("source", help=_MODEL)
    sub.add_argument("folder", help="what translate wrote")
    sub.add_argument("--tolerance", type=_tolerance, help="largest difference, for all outputs")
    sub.add_argument(
        "--gradients",
        action="store_true",
        help="compare gradients of all parameters too, and one training step",
    )
    sub.add_argument(
        "--layers",
        action="store_true",
        help="compare the result of every layer too (--format html does)",
    )
    sub.add_argument(
        "--stream",
        action="store_true",
        help="for models larger than memory: weights are read when their module is called",
    )
    _describe_model(sub)
    sub.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run the folder's model.py though your own translate did not write it",
    )


def _verify(args: argparse.Namespace) -> Answer:
    from torch2mlx.errors import VerificationError
    from torch2mlx.export.capture.folders import weights_of
    from torch2mlx.verifier import verify

    model, given, named = _found(args)
    step(args, f"comparing it with {args.folder}")
    checked = verify(
        model,
        args.folder,
        given,
        named,
        args.tolerance,
        sizes=sizing.settled(args.sizes, model, given, named) if args.sizes else None,
        gradients=args.gradients,
        layers=args.layers or args.format == "html",
        weights=weights_of(Path(args.source)) if args.stream else None,
        key=args.key if args.stream else None,
        trust_remote_code=args.trust_remote_code,
    )
    data = {
        "verdict": checked.verdict,
        "outputs": [_row(output) for output in checked.outputs],
        "first": checked.first,
        "weights": list(checked.weights),
        "notes": list(checked.notes),
        "layers": [_row(layer) for layer in checked.layers],
    }
    failure = None if checked.ok else VerificationError(str(checked))
    forms = {"html": lambda: page(checked, model=model)}
    return Answer(data, str(checked) if checked.ok else "", forms, failure)


def _row(output: Any) -> dict[str, Any]:
    """One comparison as JSON has it, which knows no NaN."""
    gap = output.difference
    return {**vars(output), "difference": gap if math.isfinite(gap) else None}


TRANSLATE = Verb(
    "translate",
    "write a model as MLX source, with its weights",
    _describe_translate,
    _translate,
    (
        "torch2mlx translate folder/ out/",
        "torch2mlx translate nets.py:resnet out/ --io-layout mlx",
        "torch2mlx translate package.module:make out/ --dry-run",
        "torch2mlx translate nets.py:resnet out/ --format html > page.html",
    ),
    formats=("text", "json", "html"),
    writes=True,
    bar=True,
)
VERIFY = Verb(
    "verify",
    "compare a translated folder with the PyTorch model",
    _describe_verify,
    _verify,
    (
        "torch2mlx verify folder/ out/",
        "torch2mlx verify nets.py:resnet out/ --tolerance 1e-5",
        "torch2mlx verify nets.py:resnet out/ --format html > page.html",
    ),
    formats=("text", "json", "html"),
)
