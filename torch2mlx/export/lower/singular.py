"""Which calls must have a gradient that selects: those from which a call with a slope without bound
can be reached.

`relu(x).sqrt()` has the slope inf * 0 where x is below 0: torch selects there, and has 0; MLX
multiplies, and has NaN. In most networks no such call follows, and MLX's own functions do.

The same holds of a mask of -inf before a softmax, where a row that is masked whole is NaN, and
replaced by something else later on.
"""

from __future__ import annotations

from functools import partial
from typing import Any

#: Operators that block the gradient of some items.
KINKS = {"relu", "clamp", "clip", "clamp_min", "clamp_max", "hardtanh", "relu6", "threshold"}
KINKS |= {"where", "masked_fill", "leaky_relu", "maximum", "minimum"}
#: Operators whose slope is infinite somewhere in the range that their first argument may have.
_STEEP = {"sqrt", "rsqrt", "log", "log2", "log10", "log1p", "reciprocal", "asin", "acos", "atanh"}
_STEEP |= {"arcsin", "arccos", "arctanh", "acosh", "arccosh", "erfinv", "logit", "xlogy", "std"}
_STEEP |= {"special_xlogy", "special_logit", "binary_cross_entropy", "std_mean", "linalg_inv"}
_STEEP |= {"linalg_norm", "linalg_eigh", "linalg_svd", "linalg_det", "logdet", "special_entr"}
#: Operators whose results are never below 0, whatever they get; of those in _ABOVE never 0 either.
_NEVER_BELOW = {"square", "abs", "relu", "norm", "linalg_vector_norm", "sqrt", "var", "relu6"}
_NEVER_BELOW |= {"softmax", "_softmax", "std"}
_ABOVE = {"exp", "sigmoid", "softplus", "cosh"}
#: Operators that are not below 0 (or above it) where their first argument is not.
_KEEPING = {"sum", "mean", "max", "amax", "view", "reshape", "expand", "unsqueeze", "squeeze"}
_KEEPING |= {"clone", "alias", "transpose", "permute", "to", "contiguous", "detach", "slice"}
_KEEPING |= {"amin", "select", "flatten", "t", "index", "gather"}


#: Operators whose results and gradients are not finite where all items of a row are -inf.
_OF_ROWS = {"softmax", "_softmax", "log_softmax", "_log_softmax", "logsumexp"}
_OF_ROWS |= {"special_softmax", "special_log_softmax", "special_logsumexp"}
#: Operators whose results are -inf where an argument is.
_CARRYING = _KEEPING | {"add", "sub", "mul", "div", "dropout", "unflatten", "squeeze", "float"}
#: Operators that give another number for one that is not finite.
_REPLACING = {"nan_to_num", "masked_fill", "where", "index_put", "clamp", "clamp_min", "clip"}
_REPLACING |= {"maximum", "fmax"}


def name_of(node: Any) -> str:
    """The name of an operator without its namespace, and without the mark of writing in place."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not str(schema.name).startswith("aten::"):
        return ""
    return str(schema.name).removeprefix("aten::").rstrip("_")


def selecting(module: Any) -> set[Any]:
    """The calls of KINKS, in a program and the graphs inside it, that a steep call can follow, or
    a softmax of a row of which nothing is left."""
    found: set[Any] = set()
    for part in module.modules():
        graph = getattr(part, "graph", None)
        nodes = list(getattr(graph, "nodes", ()))
        if any(_steep(node) for node in nodes):
            found |= _before(nodes)
        if any(name_of(node) in _OF_ROWS for node in nodes):
            found |= _of_rows(nodes)
    return found


def _of_rows(nodes: list[Any]) -> set[Any]:
    """Masks of -inf that a softmax reads, of whose results some are replaced later."""
    roots: dict[Any, Any] = {}
    masks: dict[Any, set[Any]] = {}  # of a tensor: what has put -inf there
    lost: dict[Any, set[Any]] = {}  # of a tensor: what has made whole rows of it NaN
    found: set[Any] = set()
    for node in nodes:
        root, name = _root(node, roots), name_of(node)
        roots[node] = root
        read = {roots[x] for x in node.all_input_nodes}
        masked = set().union(*(masks.get(x, ()) for x in read))
        gone = set().union(*(lost.get(x, ()) for x in read))
        masking = name in ("masked_fill", "where") and any(map(_endless, node.args[1:]))
        if name in _REPLACING and not masking:
            found |= gone
        if name in _OF_ROWS:
            gone |= masked
        if masking:
            masked = masked | {node}
        elif name not in _CARRYING:
            masked = set()
        masks[root] = masks.get(root, set()) | masked
        lost[root] = lost.get(root, set()) | gone
    return found


def _endless(value: Any) -> bool:
    """Whether a value may be -inf in every item: a number, what is filled with it, a constant."""
    if not hasattr(value, "users"):
        return bool(value == float("-inf"))
    if name_of(value) in ("full", "full_like", "new_full", "scalar_tensor"):
        return any(x == float("-inf") for x in value.args if not hasattr(x, "users"))
    if name_of(value) in ("lift_fresh_copy", "detach", "to", "alias", "clone"):
        return _endless(value.args[0])
    held = getattr(value.meta.get("val"), "ndim", None)
    return value.op in ("placeholder", "get_attr") and held == 0


def _before(nodes: list[Any]) -> set[Any]:
    roots: dict[Any, Any] = {}
    for node in nodes:
        roots[node] = _root(node, roots)
    hot: set[Any] = set()  # tensors that a steep call depends on, by the one that owns the memory
    found = set()
    for node in reversed(nodes):
        reached = roots[node] in hot
        if reached and name_of(node) in KINKS:
            found.add(node)
        if reached:
            hot.update(roots[read] for read in node.all_input_nodes)
        hot.update(roots[read] for read in _steep(node))
    return found


def _root(node: Any, roots: dict[Any, Any]) -> Any:
    """The tensor whose memory a result may show."""
    schema = getattr(node.target, "_schema", None)
    shown = any(r.alias_info is not None for r in getattr(schema, "returns", ()))
    first = node.args[0] if node.args else None
    return roots.get(first, node) if shown and hasattr(first, "users") else node


def _steep(node: Any) -> list[Any]:
    """The arguments of a call in which its slope has no bound."""
    name = name_of(node)
    arguments = [a for a in node.args if hasattr(a, "users")]
    if not name or not _differentiable(node):
        return []
    if name in _STEEP and arguments and not _above(node.args[0]):
        return arguments
    if name in ("div", "divide", "true_divide") and len(node.args) > 1:
        below = node.args[1]
        return [below] if hasattr(below, "users") and not _above(below) else []
    if name in ("pow", "float_power") and len(node.args) > 1:
        exponent = node.args[1]
        smooth = isinstance(exponent, (int, float)) and exponent >= 1
        return [] if smooth or _above(node.args[0]) else arguments
    return []


def _differentiable(node: Any) -> bool:
    value = node.meta.get("val")
    value = value[0] if isinstance(value, (tuple, list)) and value else value
    dtype = getattr(value, "dtype", None)
    return dtype is not None and (dtype.is_floating_point or dtype.is_complex)


def _above(value: Any, zero: bool = False, depth: int = 20) -> bool:
    """Whether a value is above 0 whatever comes in; with `zero`, not below it."""
    if isinstance(value, (int, float)):
        return value >= 0 if zero else value > 0
    if not hasattr(value, "users") or not depth:
        return False
    name, args = name_of(value), value.args
    if name in _ABOVE or (zero and name in _NEVER_BELOW):
        return True
    again = partial(_above, depth=depth - 1)
    if name == "min":  # of one array, or of two
        return all(again(x, zero) for x in args if hasattr(x, "users"))
    if name in _KEEPING or name in ("sqrt", "abs", "square"):
        return again(args[0], zero)
    if name == "add":
        x, y = args[:2]
        return (again(x, True) and again(y, zero)) or (again(y, True) and again(x, zero))
    if name in ("mul", "div"):
        even = bool(zero and name == "mul" and args[0] is args[1])
        return even or (again(args[0], zero) and again(args[1], zero))
    if name == "pow":
        return bool(zero and args[1] == 2) or again(args[0], zero)
    if name in ("clamp", "clamp_min", "clip", "maximum"):
        low = args[1] if len(args) > 1 else value.kwargs.get("min")
        return low is not None and again(low, zero)
    return zero and name == "full" and again(args[1], True)
