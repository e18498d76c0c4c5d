"""Types of calls: of torch, of the file's own functions, classes and modules, of methods."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.porting.scopes.import_table import dotted
from torch2mlx.porting.types import attributes as members
from torch2mlx.porting.types import torch_calls as results
from torch2mlx.porting.types.expressions import Env, Expressions
from torch2mlx.porting.types.kinds import DTYPE, TENSOR, UNKNOWN, Type, join


class Calls(Expressions):
    """What a call gives, and what it tells of the arguments of what is called."""

    def _is_gradient(self, node: cst.Call) -> bool:
        """Whether a call is the `nn.value_and_grad(model, function)` that a step became, and not
        that of another library."""
        return dotted(node.func) == "_MLX_nn.value_and_grad"

    def _of_Call(self, node: Any, env: Env) -> Type:
        given = [self.infer(a.value, env) for a in node.args]
        full = self.full(node.func)
        if full:
            return results.called(full, node, given)
        if isinstance(node.func, cst.Call) and self._is_gradient(node.func):
            self.infer(node.func, env)
            made = self.infer(node.func.args[1].value, env)
            self._pass(made.name, node, given)
            return Type("tuple", (self.returns.get(made.name, UNKNOWN), UNKNOWN))
        if dotted(node.func).endswith(".training.gradients"):
            return Type("list", (TENSOR,))
        if (
            dotted(node.func) == "getattr"
            and node.args
            and self.names.of(node.args[0].value) == "torch"
        ):
            return DTYPE
        called = self.infer(node.func, env)
        own = self._of_own(node, called, given, env)
        if own is not None:
            return own
        if isinstance(node.func, cst.Attribute):
            self._grows(node.func, given, env)
            return members.method(self.of(node.func.value), node.func.attr.value, node, given)
        return members.builtin(dotted(node.func), given)

    def _of_own(self, node: Any, called: Type, given: list[Type], env: Env) -> Type | None:
        """Calls of the file's own functions, classes and modules, and of torch's layers."""
        if called.kind == "function":
            self._pass(called.name, node, given)
            return self.returns.get(called.name, UNKNOWN)
        if called.kind == "class":
            self._pass(f"{called.name}.__init__", node, given)
            before, self._class = self._class, called.name
            kind = self._self_kind()
            self._class = before
            return Type(kind, name=called.name)
        if called.kind == "module" and self.is_class(called.name):
            self._pass(f"{called.name}.forward", node, given)
            return self.returns.get(f"{called.name}.forward", UNKNOWN)
        if called.kind == "module":
            self._takes_tensors(node, env)
            return results.layer(called.name) if called.name else self._any_module()
        return called.items[0] if called.kind == "lambda" and called.items else None

    def _grows(self, func: cst.Attribute, given: list[Type], env: Env) -> None:
        """`names.append(x)` tells what a local list holds."""
        owner, name = self.of(func.value), dotted(func.value)
        if owner.kind == "list" and func.attr.value == "append" and len(given) == 1:
            held = owner.items[0] if owner.items else given[0]
            if name in env:
                env[name] = Type("list", (held,) if held == given[0] else ())

    def _takes_tensors(self, node: Any, env: Env) -> None:
        """Names that a module is called with are tensors, where nothing else is known."""
        for argument in node.args:
            if isinstance(argument.value, cst.Name) and self.of(argument.value).kind == "unknown":
                name = argument.value.value
                env[name] = TENSOR
                known = self.arguments.get(self._function, {})
                self.arguments.setdefault(self._function, known).setdefault(name, TENSOR)

    def _any_module(self) -> Type:
        """What a module of an unknown class gives: what all classes of the file do, if they
        agree."""
        known = [n for n in self.names.classes if self.is_module_class(n)]
        found = {self.returns.get(f"{name}.forward", UNKNOWN) for name in known}
        return found.pop() if len(found) == 1 else UNKNOWN

    def _pass(self, key: str, node: Any, given: list[Type]) -> None:
        """What a call tells of a function's arguments."""
        function = self.nodes.get(key) or self.names.functions.get(key) or self._method(key)
        if function is None:
            return
        names = [p.name.value for p in function.params.params]
        names = names[1:] if "." in key and names[:1] in (["self"], ["cls"]) else names
        known = self.arguments.setdefault(key, {})
        for i, (argument, kind) in enumerate(zip(node.args, given, strict=True)):
            name = argument.keyword.value if argument.keyword is not None else None
            if name is None and i < len(names) and not argument.star:
                name = names[i]
            if name is not None and kind.kind != "unknown":
                known[name] = join(known.get(name), kind)

    def _method(self, key: str) -> Any:
        owner, _, name = key.rpartition(".")
        body = self.names.classes[owner].body.body if owner in self.names.classes else ()
        return next(
            (n for n in body if isinstance(n, cst.FunctionDef) and n.name.value == name), None
        )
