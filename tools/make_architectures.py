"""`python -m tools.make_architectures`: writes the table of transformers' layers.

Builds every model class that transformers exports, on torch's meta device and without a network:
as its configuration comes, small, and with all of its switches turned. What the builds disagree
on is left open. With names of classes it prints what these give, and writes nothing; with
`--check` it compares what can be built here with the table. Backbones of timm are in the table
where timm is installed.
"""

from __future__ import annotations

import gc
import json
import os
import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from tools import architectures_seen as models
from torch2mlx.checkpoint.plan.architectures import OPEN, PLAIN, RAW, TABLE, starred
from torch2mlx.checkpoint.plan.user_rules import untyped_records

_BY_TENSOR = {PLAIN, RAW, OPEN}


def _owner(key: str) -> str:
    """The path of the module that owns a tensor of a checkpoint."""
    return next(path for path, record in untyped_records([key]).items() if record.tensors)


class Seen:
    """All that the builds of one architecture showed."""

    def __init__(self, name: str, cls: Any) -> None:
        self.name, self.prefix = name, cls.base_model_prefix
        self.drop = sorted(getattr(cls, "_keys_to_ignore_on_load_unexpected", None) or ())
        self.tied = bool(getattr(cls.config_class(), "tie_word_embeddings", False))
        self.kinds: dict[tuple[str, int], set[str]] = defaultdict(set)
        self.keys: set[str] = set()
        self.sub: dict[str, set[str]] = defaultdict(set)
        self.ties: dict[str, str] = {}
        self.is_base = False
        self.mlx = ""

    def add(self, model: Any) -> None:
        found, ties = models.seen(model)
        base = getattr(model, "base_model", model)
        self.is_base = base is model
        for key, (token, rank) in found.items():
            self.kinds[self.short(key), rank].add(token)
        self.keys |= found.keys()
        for path, kind in models.submodels(model.config):
            self.sub[path].add(kind)
        if any(token == "X" for token, _ in found.values()) and not self.mlx:
            self.mlx = models.mlx_name(model, self.prefix, found)
        plain = {k: v for k, v in ties.items() if "*" not in starred(k + v)}
        self.ties.update({self.short(k): self.short(v) for k, v in plain.items()})

    def short(self, key: str) -> str:
        """A key as a pattern: `~` for the base model, `*` for numbers."""
        pattern, head = starred(key), f"{self.prefix}."
        if self.prefix and pattern.startswith(head):
            return f"~{pattern[len(head) :]}"
        return f"~{pattern}" if self.is_base else pattern

    def row(self) -> dict[str, Any]:
        """The line of the table, without its name."""
        whole = any("X" in tokens for tokens in self.kinds.values())
        kinds: dict[str, set[str]] = defaultdict(set)
        for (pattern, rank), tokens in self.kinds.items():
            token = _agreed(tokens, pattern, rank)
            if token == PLAIN and not whole:
                continue
            if (token == RAW and rank < 3) or token == "":
                continue
            kinds[token].add(pattern if token in _BY_TENSOR else _owner(pattern))
        drop = [d for d in self.drop if whole or not any(re.search(d, k) for k in self.keys)]
        row = {
            "prefix": self.prefix,
            "whole": whole,
            "kinds": {token: sorted(patterns) for token, patterns in sorted(kinds.items())},
            "sub": {path: sorted(types) for path, types in sorted(self.sub.items())},
            "tie": [self.tied, sorted(self.ties.items())] if self.ties else None,
            "drop": drop,
            "mlx": self.mlx,
        }
        return {name: value for name, value in row.items() if value}


def _agreed(tokens: set[str], pattern: str, rank: int) -> str:
    """One token for what was seen of a tensor; "" where nothing needs to be said."""
    if len(tokens) == 1:
        return next(iter(tokens))
    name = pattern.rpartition(".")[2]
    if rank < 2 and name != "num_batches_tracked":
        return ""  # a vector is copied, whatever owns it
    return OPEN


def look(name: str, cls: Any, thorough: bool) -> Seen | None:
    """What an architecture's builds show; None when none succeeds.

    Not `thorough`: one build, small, or as it comes where that is none.
    """
    result, built, problem = None, [], ""
    for what, make in models.configurations(cls).items():
        wanted = (thorough and what != "whole") or not built
        if not wanted or (what == "turned" and not built):
            continue
        try:
            result = result or Seen(name, cls)
            with models.limited(60):
                result.add(models.build(cls, make()))
            built.append(what)
        except Exception as error:  # whatever a model raises on a configuration of its own
            problem = problem or f"{what}: {type(error).__name__}: {error}"
    if not built:
        print(f"{name}: {problem}"[:200], file=sys.stderr)
    return result if built else None


def lines(found: Iterable[Seen]) -> list[str]:
    """The table: architectures that share all share a line."""
    shared: dict[str, list[str]] = defaultdict(list)
    for seen in found:
        shared[json.dumps(seen.row(), separators=(",", ":"))[1:]].append(seen.name)
    rows = [(sorted(names), rest) for rest, names in shared.items()]
    return [
        f'{{"of":{json.dumps(names, separators=(",", ":"))}{"," if rest != "}" else ""}{rest}'
        for names, rest in sorted(rows)
    ]


def _thorough(classes: Mapping[str, Any]) -> set[str]:
    """One class of each configuration, the base model where there is one."""
    chosen: dict[str, str] = {}
    for name, cls in classes.items():
        config = cls.config_class.__name__
        if config not in chosen or name.endswith("Model"):
            chosen[config] = name
    return set(chosen.values())


def main(only: list[str], check: bool) -> int:
    """Writes the table or compares it, or prints the rows of some architectures; an exit code."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.simplefilter("ignore")
    import transformers

    transformers.logging.set_verbosity_error()
    classes = models.classes()
    thorough = _thorough(classes)
    gc.freeze()  # the modules of transformers: looking through them takes most of the time
    if only:
        found = [look(name, classes[name], True) for name in only]
        print("\n".join(lines(seen for seen in found if seen)))
        return 0
    found = []
    for i, (name, cls) in enumerate(classes.items()):
        found.append(look(name, cls, name in thorough))
        if i % 25 == 0:
            print(f"{i} of {len(classes)}: {name}", file=sys.stderr, flush=True)
    rows = lines(seen for seen in found if seen)
    counts = f"{sum(map(bool, found))} of {len(found)} architectures in {len(rows)} rows"
    if not check:
        TABLE.write_text("[\n" + ",\n".join(rows) + "\n]\n")
        print(counts)
        return 0
    kept = _by_name(json.loads(TABLE.read_text()))
    other = [n for n, row in _by_name(map(json.loads, rows)).items() if kept.get(n) != row]
    print(f"{counts}; not as in the table: {', '.join(other) or 'none'}")
    return int(bool(other))


def _by_name(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {name: {**row, "of": name} for row in rows for name in row["of"]}


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(main([name for name in given if name != "--check"], "--check" in given))
