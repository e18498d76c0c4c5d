"""`size_average=` and `reduce=` of losses, in scripts before 2019, as `reduction=`.

Formula: torch.nn._reduction.legacy_get_string.
"""

from __future__ import annotations

from typing import Any

import libcst as cst

_OLD = ("size_average", "reduce")
_LITERAL = {"True": True, "False": False, "None": True, "1": True, "0": False}


def with_reduction(call: cst.Call) -> cst.Call:
    """The call with `reduction=` for the older keywords; as it is where it has none of them."""
    given = {a.keyword.value: a for a in call.args if a.keyword and a.keyword.value in _OLD}
    if not given:
        return call
    sizes, whole = (given[name].value if name in given else cst.Name("True") for name in _OLD)
    made = _reduction(sizes, whole)
    if made is None:
        return call
    kept = [a for a in call.args if a not in given.values()]
    last = next(iter(given.values())).with_changes(keyword=cst.Name("reduction"), value=made)
    return call.with_changes(args=[*kept, last.with_changes(comma=call.args[-1].comma)])


def _reduction(sizes: Any, whole: Any) -> cst.BaseExpression | None:
    reduces = _LITERAL.get(getattr(whole, "value", ""))
    if reduces is None:
        return None
    if not reduces:
        return cst.SimpleString('"none"')
    averages = _LITERAL.get(getattr(sizes, "value", ""))
    if averages is not None:
        return cst.SimpleString('"mean"' if averages else '"sum"')
    return cst.IfExp(sizes, cst.SimpleString('"mean"'), cst.SimpleString('"sum"'))
