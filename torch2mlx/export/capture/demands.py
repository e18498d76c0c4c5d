"""What a forward demands of values: `assert (x > 0).all()`, `if bad.any(): raise ValueError(...)`,
`torch._check(n < 5)`.

torch.export cannot branch on values. A branch that leads to an error on its other side is no
branch: the values are taken to be as the forward wants them, and the demand stays in the program
as an operator that the file has as a check.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch2mlx.export.capture.code_positions import called, path_to, source_of, statement_of
from torch2mlx.export.capture.kept_lengths import calling
from torch2mlx.export.capture.patched import replaced

#: Functions of torch that demand their first argument, and the error that each raises.
CHECKS = {
    "_check": "RuntimeError",
    "_check_tensor_all": "RuntimeError",
    "_check_value": "ValueError",
    "_check_index": "IndexError",
    "_check_type": "TypeError",
    "_check_not_implemented": "NotImplementedError",
    "_assert": "AssertionError",
}
#: Names of lengths and numbers that torch has no values for, as they are said.
_SYMBOL = re.compile(r"\b[su]\d+\b")
#: Characters of source that an error says.
_MOST = 80
#: Separates an error's name from what it says, in the operators of demands.
_MARK = "\x1f"
#: How torch begins what it says of conditions that it found out itself.
_OWN = "Runtime assertion failed for expression "
#: The namespace of the operator that demands a truth made of numbers.
NAMESPACE = "torch2mlx_demands"
#: Numbers that are tried for one that is read from an array.
_NUMBERS = (0, 1, -1, *range(2, 70), 100, 1000, 10**6)


@dataclass(frozen=True)
class Demand:
    """What an expression has to be, and the error that follows where it is not."""

    wanted: bool
    kind: str
    told: str
    leaf: ast.expr | ast.Pass  # `pass`: of no line of the model's

    @property
    def text(self) -> str:
        """The demand's error, as the message of an operator."""
        return f"{self.kind}{_MARK}{self.told}"


def error_of(message: str) -> tuple[str, str] | None:
    """The error's name, and what it says, of an operator that demands something; None of what
    torch found out itself."""
    kind, mark, told = message.partition(_MARK)
    if mark:
        return kind, told
    return None if message.startswith(_OWN) else ("AssertionError", message)


def demanded(frame: Any) -> Demand | None:
    """What is demanded of the truth that a frame asks for right now; None where it is no demand:
    where the other side of a branch does not end in an error, or other conditions decide too."""
    path = path_to(frame)
    at = statement_of(path)
    if at < 0:
        return None
    statement: Any = path[at]
    found = _of_statement(statement, path[at + 1 :], frame)
    if found is None:
        return None
    wanted, test, kind, told = found
    leaf = _leaf(test, path[at + 1 :], wanted)
    if leaf is None:
        return None
    return Demand(leaf[1], kind, _SYMBOL.sub("?", told) or _usual(leaf[0], frame), leaf[0])


def _usual(leaf: ast.AST, frame: Any) -> str:
    """The line of a demand and its source; of an argument of a helper, those of the call."""
    code = frame.f_code
    given = str(frame.f_globals.get("__name__", "")).partition(".")[0] == "torch"
    given |= isinstance(leaf, ast.Name) and leaf.id in code.co_varnames[: code.co_argcount]
    if given and frame.f_back is not None:
        frame, path = frame.f_back, path_to(frame.f_back)
        leaf = path[-1] if path else leaf
    text = source_of(leaf)
    text = text if len(text) <= _MOST else f"{text[:_MOST]} ..."
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}: {text}"


def _of_statement(statement: Any, inner: Any, frame: Any) -> Any:
    """(the truth that is demanded, the whole test, the error's name, what it says)."""
    if isinstance(statement, ast.Assert):
        return True, statement.test, "AssertionError", _said(statement.msg, frame)
    if isinstance(statement, ast.If) and inner[:1] in ((), (statement.test,)):
        for wanted, body in ((False, statement.body), (True, statement.orelse)):
            if body and isinstance(body[-1], ast.Raise):
                return (wanted, statement.test, *_raised(body[-1], frame))
    call = next((n for n in inner if isinstance(n, ast.Call) and called(n) in CHECKS), None)
    if call is None or not call.args:
        return None
    message = next((k.value for k in call.keywords if k.arg == "message"), None)
    message = call.args[1] if len(call.args) > 1 else message
    return True, call.args[0], CHECKS[called(call)], _said(message, frame)


def _raised(statement: ast.Raise, frame: Any) -> tuple[str, str]:
    """The name of the builtin error that is raised, ValueError for others, and what it says."""
    error: Any = statement.exc
    call = error if isinstance(error, ast.Call) else None
    name = getattr(call.func if call else error, "id", "")
    known = getattr(builtins, name, None)
    plain = isinstance(known, type) and issubclass(known, Exception)
    return name if plain else "ValueError", _said(call.args[0], frame) if call and call.args else ""


def _said(message: Any, frame: Any) -> str:
    """What an error says, as far as the source tells it: braces hold what would be computed."""
    if isinstance(message, ast.Lambda):
        message = message.body
    if isinstance(message, ast.Constant):
        return str(message.value)
    if isinstance(message, ast.JoinedStr):
        return source_of(message)[2:-1]
    if isinstance(message, ast.Name):
        known = frame.f_locals.get(message.id)
        return known if isinstance(known, str) else ""
    return ""


def _leaf(test: ast.expr, inner: Any, wanted: bool) -> tuple[ast.expr, bool] | None:
    """The part of a test whose truth is asked for, and what it has to be; None where other parts
    could make the test true or false as well."""
    node: Any = test
    while node is not inner[-1] if inner else True:
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            node, wanted = node.operand, not wanted
        elif isinstance(node, ast.BoolOp):
            part = next((each for each in node.values if each in inner), None)
            every = isinstance(node.op, ast.And) == wanted
            if part is None or not (every or part is node.values[-1]):
                return None
            node = part
        else:
            break
    if inner and (node is inner[-1] or node in inner):
        return node, wanted
    plain = not inner and not isinstance(test, (ast.BoolOp, ast.UnaryOp))  # columns unknown
    return (test, wanted) if plain else None


@contextmanager
def demands_kept() -> Iterator[None]:
    """While open, demands on values that are being traced become operators of the program."""
    import torch

    _define()
    with ExitStack() as stack:
        for owner in (torch.Tensor, torch.SymBool):
            stack.enter_context(replaced(owner, "__bool__", _truth(owner.__bool__)))
        for name, kind in (("__int__", int), ("__float__", float)):
            original = getattr(torch.Tensor, name)
            stack.enter_context(replaced(torch.Tensor, name, _number(original, kind)))
        for name in CHECKS.keys() - {"_assert"}:
            stack.enter_context(replaced(torch, name, _check(getattr(torch, name), name)))
        yield


def _truth(original: Any) -> Callable[[Any], bool]:
    def truth(value: Any) -> bool:
        if not is_open(value):
            return bool(original(value))
        frame = sys._getframe(1)
        found = demanded(frame)
        if found is None or not _direct(found.leaf, frame):
            return bool(original(value))
        _demand(value, found)
        return found.wanted

    return truth


def _direct(leaf: ast.AST, frame: Any) -> bool:
    """Whether what is asked for its truth is the part of the test itself, or `bool()` of it."""
    path = path_to(frame)
    if not path or isinstance(path[-1], ast.stmt) or path[-1] is leaf:
        return True
    return isinstance(leaf, ast.Call) and called(leaf) == "bool" and path[-1] in leaf.args


def _number(original: Any, kind: type) -> Callable[[Any], Any]:
    """`int(x)` and `float(x)` within a demand: the demand is made of the number that the array
    holds, and a number that meets it stands in for that while the rest is traced."""

    def number(value: Any) -> Any:
        frame = calling(sys._getframe(1))
        found = demanded(frame) if is_open(value) else None
        links = _links(found) if found else ()
        tries = map(kind, _NUMBERS)
        tried = next((n for n in tries if found and links and _meets(n, links, found, frame)), None)
        if tried is None or found is None:
            return original(value)
        for link in links:
            _demand(_evaluated(link, frame, _read), found)
        return tried

    return number


def _links(demand: Demand) -> tuple[ast.expr, ...]:
    """The comparisons of `a < b < c`; none of what cannot be computed a second time."""
    leaf = demand.leaf
    if isinstance(leaf, ast.Pass) or any(isinstance(n, ast.NamedExpr) for n in ast.walk(leaf)):
        return ()
    if not isinstance(leaf, ast.Compare) or len(leaf.ops) == 1:
        return (leaf,)
    sides = [leaf.left, *leaf.comparators]
    made = zip(sides, leaf.ops, sides[1:], strict=False)
    return tuple(ast.Compare(a, [op], [b]) for a, op, b in made) if demand.wanted else ()


def _meets(number: Any, links: Any, demand: Demand, frame: Any) -> bool:
    """Whether a demand is met where arrays hold this number."""
    try:
        return all(
            bool(_evaluated(link, frame, lambda *_: number)) == demand.wanted for link in links
        )
    except Exception:  # whatever the expression raises for it
        return False


def _read(value: Any, kind: type) -> Any:
    import torch

    number = value.item()
    whole = kind is int and isinstance(number, torch.SymFloat)
    return torch.sym_int(number) if whole else number


def _evaluated(leaf: ast.expr, frame: Any, read: Callable[[Any, type], Any]) -> Any:
    """A part of a test with numbers that arrays hold read in another way."""
    import torch

    def as_number(kind: Any) -> Callable[..., Any]:
        def made(value: Any, *more: Any) -> Any:
            return read(value, kind) if isinstance(value, torch.Tensor) else kind(value, *more)

        return made

    own = {kind.__name__: as_number(kind) for kind in (int, float)}
    expression: Any = ast.fix_missing_locations(ast.Expression(leaf))
    code = compile(expression, "<demand>", "eval")
    return eval(code, {**frame.f_globals, **frame.f_locals, **own})


def _check(original: Any, name: str) -> Callable[..., Any]:
    """One of torch's checks: of values it stays in the program."""

    def check(condition: Any, message: Any = None) -> Any:
        if is_open(condition):
            told = str(message()) if callable(message) else ""
            text = told or _asked(sys._getframe(1))
            value = condition.all() if name == "_check_tensor_all" else condition
            _add(value, f"{CHECKS[name]}{_MARK}{_SYMBOL.sub('?', text)}")
        return original(condition, message)

    return check


def _asked(frame: Any) -> str:
    """What a check asks, of a call that gives no message."""
    path = path_to(frame)
    given = path[-1].args if path and isinstance(path[-1], ast.Call) else []
    return _usual(given[0], frame) if given else ""


def is_open(value: Any) -> bool:
    """Whether a tensor, or a truth made of numbers in tensors, has no value while it is traced."""
    import torch
    from torch._subclasses.functional_tensor import FunctionalTensor
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

    if torch.compiler.is_dynamo_compiling():
        return False
    if isinstance(value, torch.SymBool):
        return bool(free_unbacked_symbols(value))
    if isinstance(value, FunctionalTensor):
        value = torch._from_functional_tensor(value.elem)
    return isinstance(value, torch._subclasses.FakeTensor) and value.constant is None


def demand_of(value: Any, wanted: Any, kind: str, told: str) -> None:
    """Keeps in the program that a truth, or a number in a tensor, is what it was found to be."""
    import torch

    if isinstance(value, torch.SymBool) or value.dtype == torch.bool:
        _demand(value, Demand(bool(wanted), kind, told, ast.Pass()))
    else:
        _add(value == wanted, f"{kind}{_MARK}{told}")


def _demand(value: Any, demand: Demand) -> None:
    """Keeps a demand in the program, and tells the tracer of it."""
    import torch

    if isinstance(value, bool):
        return
    if not demand.wanted:
        value = torch.sym_not(value) if isinstance(value, torch.SymBool) else value.logical_not()
    _add(value, demand.text)
    if isinstance(value, torch.SymBool):
        torch.fx.experimental.symbolic_shapes.expect_true(value)


def _add(value: Any, text: str) -> None:
    import torch

    if isinstance(value, torch.SymBool):
        getattr(torch.ops, NAMESPACE).holds(value, text)
    else:
        torch.ops.aten._assert_async.msg(value, text)


@cache
def _define() -> Any:
    """The operator that demands a truth made of numbers: torch.export takes its own out."""
    import torch

    library = torch.library.Library(NAMESPACE, "DEF")
    library.define("holds(Scalar condition, str told) -> ()")
    library.impl("holds", lambda condition, told: None, "CompositeExplicitAutograd")
    torch.fx.node.has_side_effect(getattr(torch.ops, NAMESPACE).holds.default)
    return library
