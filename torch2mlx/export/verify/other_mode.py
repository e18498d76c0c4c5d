"""The other mode: a branch of the model on `self.training` is taken as the model is translated, and
where it matters the file is for that mode alone."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch2mlx.errors import Torch2MLXError
from torch2mlx.export.verify.chance import alike_after
from torch2mlx.export.verify.comparing import agree
from torch2mlx.export.verify.judging import judge
from torch2mlx.export.verify.preserved import preserved, preserved_twin, seeded
from torch2mlx.export.verify.refusing import refusal
from torch2mlx.export.verify.running import Answer, Case, Pair

#: Both sides draw from this seed, so that the same file is written each time.
_SEED = 17
#: How many lines are told at most.
_TOLD = 3


def branches_on_mode(pair: Pair, case: Case) -> tuple[str, ...]:
    """Lines of the model that ask for `self.training`, where torch and MLX differ in the other
    mode; none where they answer alike there, or torch raises an error."""
    found = list(_asking(pair.model))
    if not found:
        return ()
    flipped = lambda: _flipped([module for module, _ in found])  # noqa: E731
    try:
        with seeded(_SEED):
            known = pair.torch(case, before=[case])  # what the first call leaves shows too
        with seeded(_SEED):
            other = pair.torch(case, flipped, [case])
    except Exception:  # whatever the model raises
        return ()
    if agree(known.parts, other.parts) or _by_chance(known, other):
        return ()
    if _alike_in_other(pair, case):
        return ()
    return tuple(dict.fromkeys(line for _, lines in found for line in lines))[:_TOLD]


def _by_chance(known: Answer, other: Answer) -> bool:
    """Whether the other mode draws random numbers for what else are the same outputs, as dropout
    by a function does: a file without it may be trained all the same."""
    shapes = [[(name, getattr(x, "shape", None)) for name, x in a.parts] for a in (known, other)]
    return other.drew > known.drew and shapes[0] == shapes[1]


def _alike_in_other(pair: Pair, case: Case) -> bool:
    """Whether both sides agree with all of their modules in the other mode, or cannot be told."""
    mode = not pair.model.training
    with seeded(_SEED), preserved(pair.model), preserved_twin(pair.module):
        pair.model.train(mode)
        pair.module.train(mode)
        try:
            answer = pair.torch(case)
        except Exception:  # whatever the model raises
            return True
        try:
            if any(o.verdict == "differs" for o in judge(pair, case, None, answer).outputs):
                return False
            return alike_after(pair, case, [case]) is not False
        except Torch2MLXError:  # other outputs
            return False
        except Exception as error:
            return refusal(pair.module, error) is not None


@contextmanager
def _flipped(modules: Sequence[Any]) -> Iterator[None]:
    for module in modules:
        module.training = not module.training
    yield


def _asking(model: Any) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Modules in the model's own mode whose code asks for it, with the lines."""
    for module in model.modules():
        kind: Any = type(module)
        lines = _lines(kind) if module.training == model.training else ()
        if lines:
            yield module, lines


@functools.lru_cache(maxsize=1024)
def _lines(kind: Any) -> tuple[str, ...]:
    """Where the methods of a class, and functions beside it in its file, ask for a mode."""
    own = [c for c in kind.__mro__ if c.__module__.partition(".")[0] not in ("torch", "builtins")]
    files = [vars(sys.modules[c.__module__]) for c in own if c.__module__ in sys.modules]
    held = [f for holder in (*map(vars, own), *files) for f in holder.values()]
    functions = [f for f in held if inspect.isfunction(f) and _near(f, own)]
    return tuple(line for function in functions for line in _asked(function))


def _near(function: Any, own: Sequence[Any]) -> bool:
    return any(function.__module__ == c.__module__ for c in own)


@functools.lru_cache(maxsize=4096)
def _asked(function: Any) -> tuple[str, ...]:
    try:
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, SyntaxError):
        return ()
    name = (inspect.getsourcefile(function) or "").rsplit("/", 1)[-1]
    given = {id(a) for n in ast.walk(tree) if isinstance(n, ast.Call) for a in _arguments(n)}
    return tuple(f"{name}:{first + n.lineno - 1}" for n in _reads(tree) if id(n) not in given)


def _reads(tree: ast.AST) -> list[ast.Attribute]:
    known = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    return [n for n in known if n.attr == "training" and isinstance(n.ctx, ast.Load)]


def _arguments(call: ast.Call) -> list[ast.expr]:
    """What operators that drop out or normalize are given as it is: these follow the mode."""
    return [*call.args, *(keyword.value for keyword in call.keywords)]
