"""What torch does not know of lengths: how far a length is from a multiple of another, and that
what was found equal to a number is that number from then on.

Images are padded to multiples of a window by `(w - h % w) % w`. To torch that is a remainder of a
remainder, and the padded length no multiple of w: every reshape into windows asks anew, of ever
longer expressions, and leaves a guard. Here the padding is `w * ceil(h / w) - h`, and what it is
added to a multiple. Likewise torch replaces a symbol that was found to be 7, but neither
`min(h, w)` nor `h // 32`: these stay in everything that is computed of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch2mlx.export.capture.patched import replaced


@dataclass
class Algebra:
    """What was found to be a number, while one model was traced."""

    environment: Any = None
    numbers: dict[Any, Any] = field(default_factory=dict)
    #: the questions that said so, and those of them that what was traced afterwards rests on
    asked: dict[Any, Any] = field(default_factory=dict)
    used: set[Any] = field(default_factory=set)

    def found(self, environment: Any, expression: Any) -> None:
        """What has to hold, if it says of a function of lengths which number it is."""
        import sympy

        if environment is not self.environment:
            self.environment, self.numbers, self.asked = environment, {}, {}
        if not isinstance(expression, sympy.Eq):
            return
        known = _told(*expression.args)
        if known is None:
            return
        self.numbers[known[0]] = known[1]
        self.asked[known[0]] = expression
        environment._replacements_version_counter += 1
        environment._update_version_counter()

    def put_in(self, environment: Any, expression: Any) -> Any:
        """An expression with the numbers that are known."""
        if environment is not self.environment or not self.numbers:
            return expression
        used = [known for known in self.numbers if expression.has(known)]
        if not used:
            return expression
        self.used |= {self.asked[known] for known in used}
        return expression.xreplace(self.numbers)


def _told(one: Any, other: Any) -> tuple[Any, Any] | None:
    """A function of lengths and what it is, simpler, if two expressions are equal."""
    import sympy

    if other.is_Integer and one.is_Pow and one.exp.is_Integer and one.base.is_nonnegative:
        root, exact = sympy.integer_nthroot(int(other), int(one.exp))
        return _told(one.base, sympy.Integer(root)) if exact and one.exp > 1 else None
    pairs = sorted([(one, other), (other, one)], key=lambda pair: -pair[0].count_ops())
    for function, value in pairs:
        applied = isinstance(function, sympy.core.function.Application)
        if applied and function.free_symbols and not value.has(function):
            return function, value
    return None


def without_padding(expression: Any) -> Any:
    """`(w - h % w) % w` and `-h % w` as `w * ((h + w - 1) // w) - h`, and `w - h % w` as
    `w * (h // w + 1) - h`: h plus that is seen to be a multiple of w. `h + h % 2`, made even, is
    `2 * ((h + 1) // 2)`. Anything else is as it was."""
    from torch.utils._sympy.functions import FloorDiv, Mod, PythonMod

    remainders = (Mod, PythonMod)
    if isinstance(expression, remainders):
        given, width = expression.args
        length = _lacked(given, width)
        if length is None and (-given).is_nonnegative:
            length = -given
        if length is not None and width.is_nonnegative:
            return width * FloorDiv(length + width - 1, width) - length
    elif expression.is_Add:
        for part in expression.args:
            rest = -part
            if isinstance(rest, remainders) and rest.args[1] == expression - part:
                length, width = rest.args
                return width * FloorDiv(length, width) + width - length
            if isinstance(part, remainders) and part.args == (expression - part, 2):
                return 2 * FloorDiv(part.args[0] + 1, 2)
    return expression


def _lacked(given: Any, width: Any) -> Any:
    """The length h of `w - h % w`, in either form; None of anything else."""
    from torch.utils._sympy.functions import FloorDiv, Mod, PythonMod

    rest = width - given
    if isinstance(rest, (Mod, PythonMod)) and rest.args[1] == width:
        return rest.args[0]
    for length, other, quotient in _multiples_less(given - width):
        if other == width and FloorDiv(length, width) == quotient:
            return length
    return None


def _multiples_less(expression: Any) -> Iterator[tuple[Any, Any, Any]]:
    """(length, width, quotient) of each way to write something as `width * quotient - length`."""
    from torch.utils._sympy.functions import FloorDiv

    for quotient in expression.atoms(FloorDiv):
        width = quotient.args[1]
        length = width * quotient - expression
        if not length.has(quotient):
            yield length, width, quotient


def certain(condition: Any) -> bool:
    """Whether a condition says that padding is not negative, which it never is."""
    import sympy
    from torch.utils._sympy.functions import FloorDiv

    if not isinstance(condition, (sympy.GreaterThan, sympy.LessThan)):
        return False
    return any(
        width.is_nonnegative and FloorDiv(length + width - 1, width) == quotient
        for length, width, quotient in _multiples_less(condition.gts - condition.lts)
    )


@contextmanager
def simplified() -> Iterator[Algebra]:
    """While open, torch computes lengths so."""
    from torch.fx.experimental.sym_node import SymNode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    algebra = Algebra()
    original: Any = ShapeEnv.replace

    def replace(self: Any, expression: Any) -> Any:
        return algebra.put_in(self, original(self, expression))

    with ExitStack() as stack:
        stack.enter_context(replaced(ShapeEnv, "replace", replace))
        for name in ("mod", "sub", "add"):
            computed = _computing(getattr(SymNode, name))
            stack.enter_context(replaced(SymNode, name, computed))
        yield algebra


def _computing(compute: Any) -> Any:
    def computing(one: Any, other: Any) -> Any:
        made = compute(one, other)
        expression = getattr(made, "_expr", None)
        if getattr(expression, "free_symbols", None):
            made._expr = without_padding(expression)
        return made

    return computing
