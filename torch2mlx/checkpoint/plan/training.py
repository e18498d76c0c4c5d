"""The form that tensors are trained in: as torch keeps them, where MLX's layers have fewer.

For evaluation two biases become their sum, and a weight that torch computes (weight norm, spectral
norm, any parametrization, pruning) is computed once. Training moves what torch holds: two biases
move a sum twice as far as one would, g and v move another way than their product, and a power
iteration goes on with every step.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from torch2mlx.types import Fold, ModuleRecord, ModuleTree

_KINDS = ("RNN", "LSTM", "GRU")
_RECURRENT = frozenset(f"torch.nn.{kind}{end}" for kind in _KINDS for end in ("", "Cell"))


def recurrent(record: ModuleRecord) -> bool:
    """Whether a module is a recurrent layer or cell of torch.nn."""
    return not _RECURRENT.isdisjoint(record.kinds)


def sources(record: ModuleRecord) -> frozenset[str]:
    """A module's own tensors of which MLX's layer has fewer."""
    if not record.folds and not recurrent(record):
        return frozenset()
    found = {name for fold in record.folds for name in fold.sources}
    if recurrent(record):
        found |= {name for name in record.tensors if name.startswith("bias_")}
    return frozenset(found)


def kept(tree: ModuleTree, chosen: Callable[[ModuleRecord], bool] = lambda _: True) -> ModuleTree:
    """A tree in which the chosen modules, all of them by default, keep such tensors."""
    records = {
        path: _kept(record) if chosen(record) and sources(record) else record
        for path, record in tree.records.items()
    }
    return replace(tree, records=records)


def chosen_by(training: bool | Collection[str]) -> Callable[[ModuleRecord], bool]:
    """Whether a module keeps them: all where `training` is True, else those of these paths."""
    if isinstance(training, bool):
        return lambda record: training
    return lambda record: record.path in training


def _kept(record: ModuleRecord) -> ModuleRecord:
    options = {**record.options, "both_biases": True} if recurrent(record) else record.options
    renamed = {name: _plain(name, fold) for fold in record.folds for name in fold.sources}
    return record._replace(folds=(), options=options, renamed=renamed)


def _plain(name: str, fold: Fold) -> str:
    """The name of a parametrization's tensor, as hooks have it: `weight_g`, `weight_orig`.

    `parametrizations.weight.0.scale`, a tensor of the first parametrization, is `weight_0_scale`:
    MLX has no parameters whose names start with an underscore, and takes numbers for places in
    lists.
    """
    rest = name.removeprefix(f"parametrizations.{fold.name}.")
    if rest == name:
        return name
    known = {"original": "orig"}
    if fold.how == "weight_norm":
        known = {"original0": "g", "original1": "v"}
    elif fold.how == "spectral_norm":
        known |= {"0._u": "u", "0._v": "v"}
    parts = (part.strip("_") for part in known.get(rest, rest).split("."))
    return "_".join((fold.name, *parts))


def trained(tree: ModuleTree, module: Any) -> frozenset[str]:
    """Paths of the modules of a live torch module that are being trained, and keep such tensors.

    A module is where it is in training mode, or within a module in training mode and not frozen.
    """
    found = set()
    for path, record in tree.records.items():
        names = sources(record)
        if not names:
            continue
        part = module.get_submodule(path)
        grown = any(p.requires_grad for n, p in part.named_parameters() if n in names)
        if part.training or (module.training and grown):
            found.add(path)
    return frozenset(found)
