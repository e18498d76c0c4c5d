"""The other mode: a branch of the model on `self.training` is taken as the model is translated, and
where it matters the file is for that mode alone."""

from __future__ import annotations

import ast
import functools
import inspect
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
from torch2mlx.export.verify.running import Case, Pair

#: Both sides draw from this seed, so that the same file is written each time.
_SEED = 17


def branches_on_mode(pair: Pair, case: Case) -> tuple[str, ...]:
    """Lines of the model that branch on `self.training`, where torch and MLX differ in the other
    mode; none where they answer alike there, or torch raises an error."""
    found = list(_asking(pair.model))
    if not found:
        return ()
    flipped = lambda: _flipped([module for module, _ in found])  # noqa: E731
    try:
        with seeded(_SEED):
            known = pair.torch(case, before=[case]).parts  # what the first leaves shows too
        with seeded(_SEED):
            other = pair.torch(case, flipped, [case]).parts
    except Exception:  # whatever the model raises
        return ()
    if agree(known, other) or _alike_in_other(pair, case):
        return ()
    return tuple(dict.fromkeys(line for _, lines in found for line in lines))


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
    """Modules in the model's own mode whose class branches on it, with the lines."""
    for module in model.modules():
        kind: Any = type(module)
        lines = _lines(kind) if module.training == model.training else ()
        if lines:
            yield module, lines


@functools.lru_cache(maxsize=1024)
def _lines(kind: Any) -> tuple[str, ...]:
    own = [c for c in kind.__mro__ if c.__module__.partition(".")[0] not in ("torch", "builtins")]
    functions = [f for c in own for f in vars(c).values() if inspect.isfunction(f)]
    return tuple(line for function in functions for line in _branches(function))


def _branches(function: Any) -> Iterator[str]:
    try:
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, SyntaxError):
        return
    name = inspect.getsourcefile(function) or ""
    for node in ast.walk(tree):
        if isinstance(node, (ast.If, ast.While, ast.IfExp)) and _decides(node):
            yield f"{name.rsplit('/', 1)[-1]}:{first + node.lineno - 1}"


def _decides(node: Any) -> bool:
    """Whether a branch is on the mode, and not the choice of a number: how much is dropped out."""
    if isinstance(node, ast.IfExp) and any(
        isinstance(arm, ast.Constant) for arm in (node.body, node.orelse)
    ):
        return False
    asked = (n for n in ast.walk(node.test) if isinstance(n, ast.Attribute))
    return any(n.attr == "training" and ast.unparse(n.value) == "self" for n in asked)
