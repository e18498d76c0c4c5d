"""`with torch.no_grad()` in what a gradient is taken of: what it assigns keeps no gradient."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.errors import Code
from torch2mlx.porting.rules.context import State, code, expression
from torch2mlx.porting.scopes.def_use import loads, stores

UNWRAPPED = ("torch.no_grad", "torch.inference_mode", "torch.enable_grad", "torch.autocast")
UNWRAPPED += ("torch.set_grad_enabled", "torch.autograd.set_detect_anomaly")
UNWRAPPED += ("torch.autograd.profiler.record_function", "torch.cuda.device", "torch.device")
UNWRAPPED += ("torch.cuda.amp.autocast", "torch.nn.attention.sdpa_kernel")
UNWRAPPED += ("torch.serialization.safe_globals",)
UNWRAPPED += ("torch.distributed.elastic.multiprocessing.errors.record",)
UNWRAPPED += ("torch.backends.cuda.sdp_kernel", "torch.autograd.profiler.profile")
STOPPING = ("torch.no_grad", "torch.inference_mode")
#: Types of which nothing has a gradient.
_PLAIN = ("int", "bool", "str", "none", "size", "dtype", "device", "range", "numpy")


class Stopping(State):
    """Unwraps context managers of torch; inside of no_grad, assignments are detached."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._bodies: list[Any] = []  # functions that are being rewritten
        self._stopped: list[set[str]] = []  # names that leave each no_grad, outermost first

    def _names_of(self, node: cst.With) -> list[str]:
        return [self.manager(item.item) for item in node.items]

    def manager(self, node: Any) -> str:
        """The full name of a context manager or decorator."""
        return self.names.of(node.func if isinstance(node, cst.Call) else node)

    def visit_With(self, node: cst.With) -> None:
        names = self._names_of(node)
        if any(n in STOPPING for n in names) and self.differentiated():
            self._stopped.append(self._leaving(node))

    def _leaving(self, node: cst.With) -> set[str]:
        """Names that the function reads elsewhere than in a no_grad of its."""
        if not self._bodies:
            return set(stores(node))
        return _read_outside(self._bodies[-1].body, node)

    def leave_With(self, original_node: cst.With, updated_node: cst.With) -> Any:
        """no_grad, autocast and the like go."""
        names = self._names_of(original_node)
        if any(n in STOPPING for n in names) and self.differentiated():
            self._stopped.pop()
        if not all(name in UNWRAPPED for name in names):
            return updated_node
        self.change(original_node, ", ".join(names), "gradients are asked for, not recorded")
        body = list(updated_node.body.body)
        if body and hasattr(body[0], "leading_lines"):
            lines = [*original_node.leading_lines, *body[0].leading_lines]
            body[0] = body[0].with_changes(leading_lines=lines)
        return cst.FlattenSentinel(body)

    def differentiated(self) -> bool:
        """Whether the place is inside of what a gradient may be taken of."""
        return self.in_module() or bool(self.traced & set(self.functions))

    def stopped(self, target: Any, old: Any, value: Any) -> Any:
        """A value that is assigned: without its gradient where no_grad holds.

        `target` and `old` are of the source; what only the no_grad itself reads stays as it is.
        """
        return self.detached(old, value) if self.leaves_stopped(target) else value

    def leaves_stopped(self, target: Any) -> bool:
        """Whether what is assigned under no_grad is read where gradients are taken."""
        if not self._stopped or self.functions[-1:] == ["__init__"]:
            return False
        local = isinstance(target, cst.Name)
        return not local or any(target.value in names for names in self._stopped)

    def detached(self, old: Any, value: Any) -> Any:
        """A value without its gradient; as it is where it has none."""
        kind = self.type_of(old)
        if kind.kind in _PLAIN or kind.name == "bool" or isinstance(old, cst.Comparison):
            return value
        call = "mx.stop_gradient" if kind.tensor else "kit.training.detached"
        text = code(value)
        text = f"({text})" if isinstance(value, cst.Tuple) and not value.lpar else text
        if text.startswith((f"{call}(", "mx.stop_gradient(")) and isinstance(value, cst.Call):
            return value
        return expression(f"{call}({text})")

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        self.functions.append(node.name.value)
        self._bodies.append(node)

    def leave_Decorator(self, original_node: cst.Decorator, updated_node: cst.Decorator) -> Any:
        name = self.manager(original_node.decorator)
        if name in STOPPING and self.traced & set(self.functions[-1:]):
            why = "around what a gradient is taken of: detach its result"
            self.refuse(original_node, why, name, Code.ARGUMENTS)
        gone = name in UNWRAPPED or name.startswith(("torch.jit.", "torch.compile"))
        return cst.RemoveFromParent() if gone else updated_node


def _read_outside(body: Any, block: Any) -> set[str]:
    """Names that statements of a body read, but for those of one block in it."""
    found: set[str] = set()
    for statement in body.body:
        if statement is block:
            continue
        inner = getattr(statement, "body", None)
        if inner is None or not hasattr(inner, "body") or not _holds(statement, block):
            found |= loads(statement)
            continue
        found |= loads(statement.with_changes(body=cst.IndentedBlock([])))
        found |= _read_outside(inner, block)
        orelse = getattr(statement, "orelse", None)
        if orelse is not None and hasattr(orelse, "body"):
            found |= _read_outside(orelse.body, block)
    return found


def _holds(node: Any, wanted: Any) -> bool:
    return node is wanted or any(_holds(child, wanted) for child in node.children)
