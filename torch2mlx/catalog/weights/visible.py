"""Names that a module of MLX cannot show: it hides what starts with an underscore from its
parameters, and reads numbers as places in lists."""

from __future__ import annotations

from collections.abc import Collection, Iterable


def shown(names: Iterable[str], taken: Collection[str]) -> dict[str, str]:
    """Names that change, old to new: `_scale` becomes `scale`, `0` becomes `item_0`.

    `taken` are all names of the module, the old ones among them: where one has the new name
    already, it gets an underscore at its end.
    """
    found: dict[str, str] = {}
    for name in names:
        bare = name.lstrip("_")
        if bare == name and not name.isdigit():
            continue
        wanted = f"item_{bare}".rstrip("_") if not bare or bare.isdigit() else bare
        while wanted in taken or wanted in found.values():
            wanted += "_"
        found[name] = wanted
    return found
