"""What is known of a file before its rules run."""

from __future__ import annotations

import libcst as cst

from torch2mlx.porting.layout.planning import planned
from torch2mlx.porting.layout.values import Plan
from torch2mlx.porting.report import Report
from torch2mlx.porting.rules.buffers import all_buffers, parameter_names
from torch2mlx.porting.rules.empty_starts import starts_empty
from torch2mlx.porting.rules.names import held_values
from torch2mlx.porting.rules.place import Context
from torch2mlx.porting.rules.requires_grad import freezing
from torch2mlx.porting.rules.shared_tensors import in_place_layers
from torch2mlx.porting.training.differentiated import traced
from torch2mlx.porting.training.optimizers import held_parameters, whole_names
from torch2mlx.porting.types.known import Types
from torch2mlx.porting.types.sharing import Sharing
from torch2mlx.porting.types.usage import made_elsewhere


def context(
    module: cst.Module,
    text: str,
    types: Types,
    report: Report,
    steps: set[str],
    shown: set[str] | None,
    loads_with: str,
) -> Context:
    """What rules are told of a file, a tree and its text. `steps`: functions that training steps
    became; `shown`: classes that other files use, None where everything keeps torch's layout."""
    names = types.names
    buffers, hidden = all_buffers(module, names)
    switches = "nplace" in text or "(True)" in text
    return Context(
        names=names,
        types=types,
        report=report,
        sharing=Sharing(module, names, types.of),
        plan=Plan() if shown is None else planned(module, names, types, shown),
        loads_with=loads_with,
        traced=traced(module, steps),
        freezes=freezing(module, text),
        buffers=buffers,
        hidden=hidden,
        trained_names=parameter_names(module, names),
        whole=whole_names(module),
        held=held_parameters(module),
        in_place_layers=in_place_layers(module, names) if switches else (),
        elsewhere=made_elsewhere(module, names),
        held_types=frozenset(held_values(module)),
        empties=starts_empty(module, names),
        passes_by="reached.value_and_grad(" in text,
    )
