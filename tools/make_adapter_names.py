"""`python -m tools.make_adapter_names`: writes which module of transformers is which of mlx-lm.

Builds the causal language model of every type that both have, small, and hands its weights to
mlx-lm's `sanitize` with a number of its own in each place. A module of transformers is a module of
mlx-lm where all of its weight's numbers are found again, in the same order or in rows and columns
exchanged; what `sanitize` cuts, interleaves or computes is no module that an adapter could follow.
"""

from __future__ import annotations

import copy
import importlib
import json
import os
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from tools import architectures_seen as models
from torch2mlx.checkpoint.adapters.names import TABLE
from torch2mlx.checkpoint.plan.architectures import starred
from torch2mlx.checkpoint.write.companions import older_names

#: Entries that mlx-lm asks for and transformers leaves out, where any value gives the same names.
_FILLED = {
    **{"n_ctx": 128, "rope_theta": 10000.0, "rope_scaling": None, "rotary_emb_base": 10000.0},
    **{"head_dim": 8, "n_inner": 64, "mlp_bias": False, "qk_norm": True, "post_norm": False},
    **{"block_dim": 32, "num_experts": 4, "kv_channels": 8},
}
#: A model type's sizes are those that tell its weights apart: no two of them alike.
_APART = {"intermediate_size": 72, "moe_intermediate_size": 40, "vocab_size": 136}
_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")


def _configuration(cls: Any) -> Any:
    config = models.configurations(cls)["small"]()
    config.tie_word_embeddings = False
    for name, size in _APART.items():
        if isinstance(getattr(config, name, None), int):
            setattr(config, name, size)
    return config


def _twin(config: Any) -> Any:
    """mlx-lm's model of a configuration."""
    from mlx_lm import utils

    content = config.to_dict()
    content = {**_FILLED, **{k: v for k, v in content.items() if v is not None}}
    content = {**content, **older_names(config.to_dict())}
    kind = utils.MODEL_REMAPPING.get(config.model_type, config.model_type)
    module = importlib.import_module(f"mlx_lm.models.{kind}")
    return module.Model(module.ModelArgs.from_dict(content))


def _numbered(model: Any) -> dict[str, np.ndarray]:
    """An array for each name that a file of this model has; no number comes twice."""
    found, first = {}, 1
    state = model.state_dict()
    for name, (keys, operations, _) in models.saved(model).items():
        shape = tuple(state[keys[0]].shape)
        if operations:  # one of several that transformers keeps in one
            shape = _part(shape, len(keys), operations)
        found[name] = np.arange(first, first + int(np.prod(shape)), dtype=np.int32).reshape(shape)
        first += found[name].size
    return found


def _part(shape: tuple[int, ...], keys: int, operations: tuple[str, ...]) -> tuple[int, ...]:
    """The shape of an expert's matrix, from that of all experts."""
    if len(shape) == 3 and keys == 1:
        rows = shape[1] // 2 if "Concatenate" in operations or "Chunk" in operations else shape[1]
        return rows, shape[2]
    raise ValueError(f"{operations} of {shape}")


def _layers(twin: Any) -> str:
    """The list that mlx-lm counts layers in, when it is all of one list; else ""."""
    by_module = {id(module): name for name, module in twin.named_modules()}
    found = [by_module.get(id(layer), "") for layer in twin.layers]
    stem = found[0].rpartition(".")[0] if found else ""
    return stem if found == [f"{stem}.{i}" for i in range(len(found))] else ""


def _kind(twin: Any) -> dict[str, str]:
    import mlx.nn as nn
    from mlx_lm.models.switch_layers import SwitchLinear

    kinds = {nn.Linear: "linear", nn.Embedding: "embedding", SwitchLinear: "experts"}
    return {name: kinds.get(type(m), "other") for name, m in twin.named_modules()}


def _sanitized(model: Any, twin: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(numbered arrays by their names in a file, mlx-lm's weights made of them).

    Files have the names of the whole model, or those of the base model without its prefix.
    """
    import mlx.core as mx
    from mlx.utils import tree_flatten

    wanted = {name for name, _ in tree_flatten(twin.parameters())}
    best: tuple[int, dict[str, np.ndarray], dict[str, Any]] = (-1, {}, {})
    numbered = _numbered(model)
    for prefix in ("", f"{model.base_model_prefix}."):
        given = {name.removeprefix(prefix): mx.array(a) for name, a in numbered.items()}
        made = twin.sanitize(given) if hasattr(twin, "sanitize") else given
        known = len(wanted & made.keys())
        if known > best[0]:
            best = known, numbered, made
    return best[1:]


def _matched(model: Any, twin: Any) -> Iterator[tuple[str, str, str]]:
    """(module of transformers, module of mlx-lm, how) of each that is one."""
    arrays, weights = _sanitized(model, twin)
    saved = models.saved(model).items()
    live = {name: keys[0] for name, (keys, operations, _) in saved if not operations}
    kinds = _kind(twin)
    owner = {int(value.flat[0]): name for name, value in arrays.items() if value.size}
    for key, value in weights.items():
        target, _, leaf = key.rpartition(".")
        kind, value = kinds.get(target, "other"), np.array(value)
        if leaf != "weight" or kind == "other" or value.dtype != np.int32:
            continue
        if kind == "experts":
            yield from _of_experts(target, value, arrays, owner)
            continue
        name = owner.get(int(value.flat[0]), "")
        turned = "Conv1D" in _class(model, live.get(name, ""))
        found = arrays[name].T if name and turned else arrays.get(name)
        if name in live and found is not None and np.array_equal(found, value):
            yield live[name].rpartition(".")[0], target, "turned" if turned else kind


def _class(model: Any, key: str) -> str:
    return type(model.get_submodule(key.rpartition(".")[0])).__name__ if key else ""


def _of_experts(
    target: str, value: np.ndarray, arrays: dict[str, np.ndarray], owner: dict[int, str]
) -> Iterator[tuple[str, str, str]]:
    """Experts that a file has apart and mlx-lm as one."""
    for number, part in enumerate(value):
        name = owner.get(int(part.flat[0]), "")
        module = name.rpartition(".")[0]
        if not name or not np.array_equal(arrays[name], part):
            return
        if str(number) not in module.split("."):
            return
        yield module, target, "experts"


def look(name: str, cls: Any) -> tuple[str, dict[str, Any]]:
    """(model type, row of the table) of a class. Raises whatever either library raises."""
    config = _configuration(cls)
    with models.limited(60):
        model = models.build(cls, copy.deepcopy(config))
        twin = _twin(config)
        found: dict[str, dict[str, str]] = defaultdict(dict)
        for source, target, how in _matched(model, twin):
            found[how][starred(source)] = starred(target)
    count = next((n for n in _COUNTS if n in config.to_dict()), "")
    count = config.attribute_map.get(count, count)
    row: dict[str, Any] = {"layers": _layers(twin), "count": count}
    same = sorted(k for how in ("linear",) for k, v in found[how].items() if k == v)
    other = {k: v for k, v in sorted(found["linear"].items()) if k != v}
    row |= {"same": same, "other": other}
    for how in ("turned", "embedding", "experts"):
        row[how] = dict(sorted(found[how].items()))
    return config.model_type, {name: value for name, value in row.items() if value}


def main(only: list[str]) -> int:
    """Writes the table, or prints the rows of some types; an exit code."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.simplefilter("ignore")
    import transformers
    from mlx_lm import utils
    from transformers.models.auto import modeling_auto as auto

    transformers.logging.set_verbosity_error()
    rows: dict[str, list[str]] = defaultdict(list)
    for kind, name in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        if only and kind not in only:
            continue
        there = utils.MODEL_REMAPPING.get(kind, kind)
        if importlib.util.find_spec(f"mlx_lm.models.{there}") is None:
            continue
        try:
            _, row = look(name, getattr(transformers, name))
            rows[json.dumps(row, separators=(",", ":"))[1:]].append(kind)
        except (Exception, SystemExit) as error:
            print(f"{kind}: {type(error).__name__}: {error}"[:200], file=sys.stderr)
    lines = [f'{{"of":{json.dumps(sorted(n))},{rest}' for rest, n in rows.items()]
    if only:
        print("\n".join(lines))
    else:
        TABLE.write_text("[\n" + ",\n".join(sorted(lines)) + "\n]\n")
        print(f"{sum(map(len, rows.values()))} types in {len(rows)} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
