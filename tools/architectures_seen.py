"""What the models of transformers look like: the kind of every tensor that they save.

Each architecture is built on torch's meta device, its tensors renamed as `save_pretrained` renames
them, and each saved name followed back to the module that owns it.
"""

from __future__ import annotations

import ast
import importlib
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from tests.zoo.build import shrink
from torch2mlx.catalog.layers.lookup import lookup
from torch2mlx.checkpoint.plan.architectures import OPEN, PLAIN, RAW, TOKENS
from torch2mlx.checkpoint.plan.owners import Resolver
from torch2mlx.checkpoint.source.module_tree import describe
from torch2mlx.types import ModuleRecord, ModuleTree

_TOKEN = {layer: token for token, layer in TOKENS.items()}
_REGISTERED_ALIKE = {
    **{
        f"torch.nn.{kind}Norm{n}d": "torch.nn.BatchNorm1d"
        for kind in ("Batch", "Instance")
        for n in (1, 2, 3)
    },
    "torch.nn.SyncBatchNorm": "torch.nn.BatchNorm1d",
    "torch.nn.modules.batchnorm._NormBase": "torch.nn.BatchNorm1d",
    "torch.nn.RMSNorm": "torch.nn.LayerNorm",
    **{f"torch.nn.{name}Cell": f"torch.nn.{name}" for name in ("RNN", "LSTM", "GRU")},
}
_FOLDS = ("weight_norm", "spectral_norm")
_OPERATIONS_OF_CONVOLUTIONS = ("Conv3dToLinear", "LinearToConv3d")
_CUTTING = {"Chunk", "Concatenate", "Split"}  # along the first dimension, where a rule leaves it
#: Sizes that some configurations leave open.
_FILLED = {"vocab_size": 128, "head_dim": 8, "prediction_length": 8, "num_time_features": 1}
_NO_SWITCHES = ("_", "use_cache", "return_", "output_", "tie_", "is_")
#: Token -> (dimensions of its weight, name in source) of layers that could be mistaken.
_WEIGHTS = {
    **{f"C{n}": (n + 2, f"Conv{n}d") for n in (1, 2, 3)},
    **{f"T{n}": (n + 2, f"ConvTranspose{n}d") for n in (1, 2, 3)},
    "X": (2, "Conv1D"),
    "P": (2, "Linear"),
}


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raises TimeoutError in what takes longer."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"{seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def classes() -> dict[str, type]:
    """Every model class that transformers exports and that has a configuration, by name."""
    import transformers

    found = {}
    for name in sorted(n for n in dir(transformers) if n[:1].isupper()):
        if name.endswith("PreTrainedModel"):
            continue
        try:
            value = getattr(transformers, name)
        except Exception:  # needs a library that is not installed
            continue
        is_model = isinstance(value, type) and issubclass(value, transformers.PreTrainedModel)
        if is_model and isinstance(value.config_class, type):
            found[name] = value
    return found


def configurations(cls: Any) -> dict[str, Callable[[], Any]]:
    """Ways to configure a class: small with tied embeddings, as it comes with few layers, and
    small with every switch turned."""
    make = cls.config_class
    return {
        "small": lambda: _filled(shrink(_tied(make()))),
        "default": lambda: _filled(shrink(_tied(make()), 2)),
        "whole": lambda: _filled(_tied(make())),
        "turned": lambda: _turned(_filled(shrink(make()))),
    }


def _turned(config: Any) -> Any:
    for name in [n for n, value in vars(config).items() if isinstance(value, bool)]:
        if not name.startswith(_NO_SWITCHES):
            setattr(config, name, not getattr(config, name))
    return config


def _tied(config: Any) -> Any:
    config.tie_word_embeddings = True
    return config


def _filled(config: Any) -> Any:
    for name, value in _FILLED.items():
        if getattr(config, name, value) is None:
            setattr(config, name, value)
    return config


def build(cls: Any, config: Any, seconds: int = 25) -> Any:
    """A model on torch's meta device. Raises what transformers raises, and TimeoutError."""
    import torch

    with limited(seconds), torch.device("meta"):
        return cls._from_config(config, attn_implementation="eager")


@cache
def _classes_of(module: str) -> dict[str, ast.ClassDef]:
    """The classes in a module's source."""
    tree = ast.parse(Path(sys.modules[module].__file__ or "").read_text())
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


@cache
def _assigned(cls: type) -> dict[str, frozenset[str]]:
    """Names of layers in what a class's methods assign to each attribute of self."""
    found: dict[str, set[str]] = {}
    for base in cls.__mro__:
        ours = base.__module__.startswith("transformers.")
        tree = _classes_of(base.__module__).get(base.__name__) if ours else None
        for node in ast.walk(tree) if tree else ():
            targets = node.targets if isinstance(node, ast.Assign) else ()
            for target in targets:
                if isinstance(target, ast.Attribute):
                    inner = (getattr(n, "attr", getattr(n, "id", "")) for n in ast.walk(node.value))
                    found.setdefault(target.attr, set()).update(inner)
    return {name: frozenset(values) for name, values in found.items()}


def _undecided(model: Any, path: str, token: str) -> bool:
    """Whether the class that makes this layer could also have made a layer of another kind."""
    if token == PLAIN or token not in _WEIGHTS or not path:
        return False
    parts = path.split(".")
    while parts[-1].isdigit() and len(parts) > 1:
        parts.pop()
    parent = model.get_submodule(".".join(parts[:-1]))
    named = _assigned(type(parent)).get(parts[-1], frozenset())
    rank = _WEIGHTS[token][0]
    return any(t != token and r == rank and name in named for t, (r, name) in _WEIGHTS.items())


def _kind(record: ModuleRecord, shapes: dict[str, tuple[int, ...]]) -> str:
    """The token of a module: what its weights need."""
    spec = lookup(record.kinds)
    if any(fold.how not in _FOLDS for fold in record.folds):
        return OPEN
    if spec is None or not spec.weights:
        return OPEN if record.folds and spec is None else PLAIN
    name = _REGISTERED_ALIKE.get(spec.torch, spec.torch)
    if name == "torch.nn.LayerNorm" and all(len(shape) < 2 for shape in shapes.values()):
        return PLAIN
    return _TOKEN.get(name, OPEN)


def _grouped(token: str, record: ModuleRecord, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether a transposed convolution has groups that no bias tells."""
    return token[0] == "T" and record.options.get("groups") != 1 and "bias" not in shapes


def tokens(model: Any, tree: ModuleTree) -> dict[str, tuple[str, int]]:
    """Of each tensor of the state dict: the token of its module, and its rank."""
    found = {}
    for owner in Resolver(tree.records).owners(tree.shapes):
        shapes = {name: tree.shapes[key] for name, key in owner.keys.items()}
        kind = _kind(owner.record, shapes)
        if _grouped(kind, owner.record, shapes) or _undecided(model, owner.record.path, kind):
            kind = OPEN
        for name, key in owner.keys.items():
            found[key] = (
                RAW if kind == PLAIN and len(shapes[name]) >= 3 else kind,
                len(shapes[name]),
            )
    return found


def saved(model: Any) -> dict[str, tuple[tuple[str, ...], tuple[str, ...], int]]:
    """Names that `save_pretrained` writes -> (keys they are made of, operations, rank)."""
    from transformers import conversion_mapping as mapping
    from transformers import core_model_loading as loading

    state = model.state_dict()
    found = mapping.get_model_conversion_mapping(model, add_legacy=False)
    found = [c for c in found if not isinstance(c, loading.PrefixChange)]
    reverse = [conversion.reverse_transform() for conversion in found[::-1]]
    renamings = [c for c in reverse if isinstance(c, loading.WeightRenaming)]
    converters = [c for c in reverse if isinstance(c, loading.WeightConverter)]
    by_pattern = {k: converter for converter in converters for k in converter.source_patterns}
    jobs: dict[str, Any] = {}
    members: dict[str, list[str]] = {}
    for key in sorted(state, key=loading.dot_natural_key):
        renamed, pattern = loading.apply_converters(key, converters)
        if pattern is not None:
            job = jobs.setdefault(renamed, deepcopy(by_pattern[pattern]))
        else:
            renamed = loading.apply_renamings(key, renamings)
            job = jobs.setdefault(renamed, loading.WeightRenaming(key, renamed))
            pattern = key
        members.setdefault(renamed, []).append(key)
        job.add_tensor(renamed, key, pattern, state[key])
    out = {}
    for first, job in jobs.items():
        operations = tuple(type(op).__name__ for op in getattr(job, "operations", ()))
        is_converter = isinstance(job, loading.WeightConverter)
        for name, value in job.convert(first, model=model, config=model.config).items():
            value = value[0] if isinstance(value, list) else value
            name = loading.apply_renamings(name, renamings) if is_converter else name
            out[name] = (tuple(members[first]), operations, value.ndim)
    return out


def _converted(kinds: set[str], operations: tuple[str, ...], rank: int) -> str:
    """The token of a tensor that transformers computes when it saves."""
    if any(name in _OPERATIONS_OF_CONVOLUTIONS for name in operations):
        return {5: "C3", 2: PLAIN}.get(rank, OPEN)
    if kinds <= {PLAIN, RAW} and not (rank == 2 and "Transpose" in operations):
        return RAW if rank >= 3 else PLAIN
    alike = len(kinds) == 1 and set(operations) <= _CUTTING
    return kinds.pop() if alike and kinds <= {"C1", "C2", "C3"} else OPEN


def seen(model: Any) -> tuple[dict[str, tuple[str, int]], dict[str, str]]:
    """(each name that a tensor may have in a file -> (token, rank), tied names -> the first)."""
    tree = describe(model)
    own, found, renamed = tokens(model, tree), {}, {}
    for name, (keys, operations, rank) in saved(model).items():
        kinds = {own[key][0] for key in keys}
        found[name] = (_converted(kinds, operations, rank), rank) if operations else own[keys[0]]
        if not operations:
            renamed[keys[0]] = name
    for key, what in own.items():
        found[key] = what if found.get(key, what) == what else (OPEN, what[1])
    return found, {renamed.get(k, k): renamed.get(first, first) for k, first in tree.ties.items()}


def submodels(config: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, model type) of the configurations within one."""
    from transformers import PreTrainedConfig

    for name, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            here = f"{path}.{name}" if path else name
            yield here, value.model_type
            yield from submodels(value, here)


def mlx_name(model: Any, prefix: str, kinds: dict[str, tuple[str, int]]) -> str:
    """The name under which mlx-lm's class of this type takes the base model in MLX's layout.

    "" where the file's own names do, or mlx-lm has no such class. Raises ImportError without
    mlx-lm.
    """
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm import models

    try:
        module = importlib.import_module(f"{models.__name__}.{model.config.model_type}")
    except ModuleNotFoundError:
        return ""
    settings = {"n_ctx": 128, **model.config.to_dict()}
    expected = {
        name: value.shape
        for name, value in tree_flatten(
            module.Model(module.ModelArgs.from_dict(settings)).parameters()
        )
    }
    base = model.base_model.state_dict()
    for name in (prefix, "model", ""):
        twin = module.Model(module.ModelArgs.from_dict(settings))
        arrays = {}
        for key, value in base.items():
            turned = kinds.get(f"{prefix}.{key}", kinds.get(key, (PLAIN, 0)))[0] == "X"
            shape = value.shape[::-1] if turned else value.shape
            arrays[f"{name}.{key}" if name else key] = mx.zeros(tuple(shape))
        found = {key: array.shape for key, array in twin.sanitize(arrays).items()}
        if found == expected:
            return "" if name == prefix else name
    return ""
