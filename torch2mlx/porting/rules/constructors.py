"""Calls that make things: layers, optimizers, schedulers, datasets, distributions, files."""

from __future__ import annotations

from typing import Any

from torch2mlx.catalog.op_mapping import lookup_op
from torch2mlx.errors import Code
from torch2mlx.porting.rules.apply_layout import placed_layer
from torch2mlx.porting.rules.in_place_functions import WHY, changes_argument
from torch2mlx.porting.rules.place import Place
from torch2mlx.porting.rules.render import Argument
from torch2mlx.porting.rules.text import again, code, drop_keywords, expression, joined
from torch2mlx.porting.scopes.import_table import BY_NAME
from torch2mlx.porting.training.optimizers import held_in, takes_all
from torch2mlx.porting.types import layers

#: Options of a DataLoader whose workers are processes.
_OF_PROCESSES = ("pin_memory", "persistent_workers", "generator")
#: What is said of files.
_FILES = {
    "save": "safetensors with torch's nesting",
    "load": "what kit.files.save wrote, or torch.save: arrays and plain values",
}
#: How torch's own files are read.
_OF_PICKLES = ("map_location", "weights_only", "pickle_module")

#: What is said of torchvision's networks, which are many.
_NETWORKS = (
    "the network is not the kit's: `torch2mlx translate file.py:function folder` writes it as MLX "
    "source with its weights, from a function that answers (model, args); its class goes here"
)


def refused(at: Place, full: str, original: Any, updated: Any) -> Any:
    if changes_argument(full):
        at.refuse(original, WHY, full, Code.ARGUMENTS)
        return updated
    op = lookup_op(full)
    advice = op.note if op is not None and op.note else "no counterpart is known"
    if full.startswith("torchvision.models."):
        advice = _NETWORKS
    at.refuse(original, advice, full)
    return updated


def made_layer(at: Place, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
    name = full.rpartition(".")[2]
    kept = drop_keywords(given, layers.DROPPED)
    if name in ("Parameter", "Buffer"):
        if name == "Parameter":
            at.change(original, full, "arrays that a module holds are its parameters")
        return expression(given[0].text)
    if name in ("ModuleList", "ParameterList"):
        at.change(original, full, "a list of modules")
        text = given[0].text if given else "[]"
        return expression(text if text.startswith("[") else f"list({text})")
    if name in ("ModuleDict", "ParameterDict"):
        at.change(original, full, "a module whose members have keys")
        return again("kit.layers.ModuleDict", updated)
    placed = placed_layer(at, name, original, updated)
    if placed is not None:
        return placed
    spec = layers.known(name)
    if spec is None:
        at.refuse(original, layers.why_not(name), full)
        return updated
    target, note = spec.source, spec.note
    if name == "Sequential" and len(kept) == 1 and "OrderedDict" in kept[0].text:
        at.change(original, full, "layers in turn, which keep their names as attributes")
        return expression(f"kit.layers.Sequential({kept[0].text})")
    at.change(original, full, f"{target}" + (f": {note}" if note else ""))
    if spec.bare:
        return expression(f"{target}()")
    return again(target, updated, layers.DROPPED, spec.renamed)


def made_scheduler(at: Place, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
    name = full.rpartition(".")[2]
    if name not in layers.SCHEDULERS:
        at.refuse(original, "give the optimizer a schedule of mlx.optimizers", full)
        return updated
    at.change(original, full, "torch's schedule; it sets optimizer.learning_rate")
    return again(f"kit.schedulers.{name}", updated, ("verbose",))


def made_optimizer(at: Place, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
    name, made = full.rpartition(".")[2], code(updated.func)
    known = {**layers.OPTIMIZER_ARGUMENTS, BY_NAME.rpartition(".")[2]: ()}
    if name not in known:
        at.refuse(original, "unknown; Adam or SGD with a schedule come closest", full)
        return updated
    order = iter(known[name])
    named = [a for a in given[1:] if not a.star and a.keyword != "params"]
    if full == BY_NAME and not all(a.keyword for a in named):
        at.refuse(original, "what its second argument is differs by its name: write keywords", full)
        return updated
    made = made if full == BY_NAME else f"kit.optimizers.{name}"
    options = {a.keyword or next(order): a.text for a in named}
    for gone in ("foreach", "fused", "capturable", "differentiable"):
        options.pop(gone, None)
    stars = [a for a in given[1:] if a.star]
    why, check = "takes gradients, not parameters", "torch's formula and defaults"
    if takes_all(original.args[0].value, at.file.whole) and not stars:
        at.change(original, full, why, check)
        if full == BY_NAME:
            return expression(f"{made}({joined([Argument(*o) for o in options.items()])})")
        return expression(_optimizer_text(name, options, at.file.passes_by))
    modules = held_in(original.args[0].value, at.file.held)
    if name == "LBFGS":
        why = "it has no groups here: give it all parameters of its modules in one list"
        at.refuse(original, why, full)
        return updated
    if not modules:
        at.refuse(original, "parameters of a module that is not seen here", full)
        return updated
    at.grouped = True
    at.change(original, full, "parameters are told apart by their names", check)
    more = joined([*(Argument(key, value) for key, value in options.items()), *stars])
    owner = modules[0] if len(modules) == 1 else f"kit.training.Group({', '.join(modules)})"
    parts = [owner, made, given[0].text, *filter(None, [more])]
    return expression(f"kit.ParameterGroups({', '.join(parts)})")


def made_data(at: Place, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
    name = full.rpartition(".")[2]
    if name not in layers.DATA:
        return refused(at, full, original, updated)
    if name == "DataLoader" and at.file.loads_with == "mlx-data":
        at.change(original, full, "threads of mlx.data read ahead")
        return again("kit.streams.DataLoader", updated, _OF_PROCESSES)
    gone = ("num_workers", "prefetch_factor", *_OF_PROCESSES)
    at.change(original, full, "numpy and MLX arrays, one process")
    return again(f"kit.data.{name}", updated, gone)


def made_distribution(
    at: Place, full: str, given: list[Argument], original: Any, updated: Any
) -> Any:
    name = full.rpartition(".")[2]
    if name not in layers.DISTRIBUTIONS:
        return refused(at, full, original, updated)
    at.change(original, full, "torch's formulas", "other numbers are drawn from a seed")
    return again(f"kit.{layers.DISTRIBUTIONS[name]}.{name}", updated)


def made_vision(at: Place, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
    name = full.rpartition(".")[2]
    if name not in layers.VISION:
        return refused(at, full, original, updated)
    check = "reads local files only" if ".datasets." in full else ""
    at.change(original, full, "the same over numpy and MLX arrays", check)
    return again(f"kit.vision.{name}", updated, ("download",))


def made_board(at: Place, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
    name = full.rpartition(".")[2]
    if name not in layers.BOARD:
        return refused(at, full, original, updated)
    at.change(original, full, "torch's calls, written by tensorboardX, which it needs")
    return again(f"kit.tensorboard.{name}", updated)


def torch_file(at: Place, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
    name = full.rpartition(".")[2]
    if name not in ("save", "load"):
        return refused(at, full, original, updated)
    at.change(original, full, _FILES[name])
    return again(f"kit.files.{name}", updated, _OF_PICKLES)


def _optimizer_text(name: str, options: dict[str, str], counts: bool) -> str:
    """mlx.optimizers where its formula is torch's with these options, the kit elsewhere, and where
    it `counts` the steps of each parameter."""
    stock = None if counts else layers.OPTIMIZERS.get(name)
    if stock is not None and set(options) <= set(stock[1]):
        target, renamed, more = stock
        shown = {"lr": layers.RATES[name], **options}
        parts = [f"{renamed[key]}={value}" for key, value in shown.items()]
        return f"{target}({', '.join([*parts, more] if more else parts)})"
    parts = [f"{key}={value}" for key, value in options.items()]
    return f"kit.optimizers.{name}({', '.join(parts)})"
