"""What checkpoints of the hub call otherwise than a model does, and hold for each expert apart: for
`sanitize` of the file, which makes one of the other."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch2mlx.checkpoint.source.as_loaded import table_of
from torch2mlx.export.ir.render import literal

#: Patterns that are names, but for "*", a number.
_PLAIN = re.compile(r"[\w.*-]+")


@dataclass(frozen=True)
class StoredNames:
    """`renamed`: parts of names, and what the model has for them; `stacks`: what one array for all
    experts is called, and what the matrices are called that it is stacked from, and joined."""

    renamed: Mapping[str, str] = field(default_factory=dict)
    stacks: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.renamed or self.stacks)

    def name(self, key: str) -> str:
        """The name that the model has for one of a checkpoint."""
        from torch2mlx.kit.moe import model_name

        return model_name(key, self.renamed, self.stacks)[0]

    def statements(self) -> str:
        """The lines that bring weights to the model's names."""
        renamed = ", ".join(f"{literal(a)}: {literal(b)}" for a, b in self.renamed.items())
        lines = ["weights = kit.moe.joined(", "    weights,", f"    {{{renamed}}},"]
        lines += ["    {"] if self.stacks else ["    {},"]
        for whole, parts in self.stacks.items():
            lines.append(f"        {literal(whole)}: [{', '.join(map(literal, parts))}],")
        lines += ["    },"] if self.stacks else []
        return "".join(f"        {line}\n" for line in (*lines, ")"))


def stored_names(model: Any) -> StoredNames:
    """What the checkpoints of a model are told by, as far as it can be said in names: nothing where
    transformers has no table, or one that is more than that."""
    table = table_of(model)
    if table is None:
        return StoredNames()
    from transformers import core_model_loading as loading

    state = {name: tensor.to("meta") for name, tensor in model.state_dict().items()}
    try:
        stored = loading.revert_weight_conversion(model, dict(state))
    except Exception:  # transformers and torch raise what they like
        return StoredNames()
    known = {}
    for key in stored:
        given = key, *table, model.base_model_prefix, state
        known[key] = loading.rename_source_key(*given)[0]
    used = [_said(step) for part in table for step in part if step.was_used()]
    said = [one for one in used if one is not None]
    made = StoredNames(
        {old: new for one in said for old, new in one.renamed.items()},
        {whole: parts for one in said for whole, parts in one.stacks.items()},
    )
    known |= {name: name for name in state}
    right = all(made.name(key) == name for key, name in known.items())
    return made if len(said) == len(used) and right else StoredNames()


def _said(step: Any) -> StoredNames | None:
    """An entry of the table in names; None where it is more than that."""
    from transformers import core_model_loading as loading

    sources, targets = (
        [_name(p) for p in ps] for ps in (step.source_patterns, step.target_patterns)
    )
    if not all((*sources, *targets)) or len(targets) != 1:
        return None
    if type(step) is loading.WeightRenaming:
        plain = len(sources) == 1 and "*" not in sources[0]
        return StoredNames({sources[0]: targets[0]}) if plain else None
    if type(step) is not loading.WeightConverter:
        return None
    done = [(type(one).__name__, getattr(one, "dim", None)) for one in step.operations]
    whole = [("MergeModulelist", 0), ("Concatenate", 1)]
    numbered = all(source.count("*") == 1 for source in sources)
    known = done == whole or (done == whole[:1] and len(sources) == 1)
    return StoredNames({}, {targets[0]: tuple(sources)}) if numbered and known else None


def _name(pattern: str) -> str:
    """A pattern as a part of a name; nothing where it is none."""
    plain = pattern.replace("\\.", ".")
    return plain if _PLAIN.fullmatch(plain) else ""
