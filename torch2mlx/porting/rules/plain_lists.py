"""Lists that a module keeps things in: `self.data = []`, `self.data.append((state, reward))`.

torch sees nothing in them. MLX takes the lists of a module for parts of it, looks for parameters
there, and would train them; so what such a name is given is hidden.
"""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import Names, dotted
from torch2mlx.porting.scopes.traversal import calls, walk

_MADE = ("list", "dict", "set", "collections.deque", "collections.defaultdict", "deque")
_ADDING = ("append", "extend", "insert", "appendleft")


def plain_lists(node: cst.ClassDef, names: Names) -> frozenset[str]:
    """Attributes of a class that hold new lists and dicts alone, with no module in them."""
    found: dict[str, bool] = {}
    for part in walk(node):
        for target in part.targets if isinstance(part, cst.Assign) else ():
            name = dotted(target.target)
            if name.startswith("self."):
                found[name[5:]] = found.get(name[5:], True) and _is_new(part.value, names)
    for call in calls(node):
        owner, _, method = dotted(call.func).rpartition(".")
        if method in _ADDING and owner[5:] in found:
            found[owner[5:]] &= not any(_may_be_module(a.value, names) for a in call.args)
        elif method in ("add_module", "register_module"):
            return frozenset()
    return frozenset(name for name, plain in found.items() if plain)


def _is_new(value: Any, names: Names) -> bool:
    """Whether an expression is a new list or dict without anything in it."""
    if isinstance(value, (cst.List, cst.Dict)):
        return not value.elements
    made = isinstance(value, cst.Call) and (names.of(value.func) or dotted(value.func)) in _MADE
    return made and not any(a.keyword is None for a in value.args)


def _may_be_module(value: Any, names: Names) -> bool:
    """Whether something that is added may be a module, or made of some."""
    made = [names.of(c.func) or dotted(c.func) for c in calls(value)]
    return any(m.startswith("torch.nn.") or m.rpartition(".")[2][:1].isupper() for m in made)
