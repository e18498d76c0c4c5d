"""Whether a forward pass may give something else when it runs again: statistics, random draws."""

from __future__ import annotations

import re
import sys
from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import Names
from torch2mlx.porting.scopes.traversal import everything

_VARYING = re.compile(
    r"batch_?norm|instance_?norm|dropout|spectral_norm|rrelu|gumbel|rand|normal|bernoulli|"
    r"multinomial|poisson|distributions",
    re.IGNORECASE,
)
#: Methods of tensors and of distributions that draw.
_DRAWING = frozenset(
    ["bernoulli_", "cauchy_", "exponential_", "normal_", "random_", "rsample", "sample", "uniform_"]
)
#: Libraries that have no modules of torch in them.
_PLAIN = frozenset(["matplotlib", "numpy", "PIL", "scipy", "sklearn", "torch", "tqdm"])


def varies(module: cst.Module, names: Names) -> bool:
    """Whether a file has such passes, or takes modules from where nobody has looked."""
    roots = {full.partition(".")[0] for full in names.imports.values()} | set(names.stars)
    if roots - _PLAIN - sys.stdlib_module_names:
        return True
    return any(_varying(node, names) for node in everything(module))


def _varying(node: Any, names: Names) -> bool:
    if isinstance(node, cst.ImportFrom):
        return bool(node.relative)
    if not isinstance(node, cst.Call):
        return False
    if isinstance(node.func, cst.Attribute) and node.func.attr.value in _DRAWING:
        return True
    full = names.of(node.func)
    return full.startswith("torch.") and _VARYING.search(full) is not None
