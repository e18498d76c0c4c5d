"""Expressions and statements of a file in MLX: what its calls, names and classes become."""

from __future__ import annotations

from typing import Any

import libcst as cst

from torch2mlx.ops.forms import forms
from torch2mlx.source import layers
from torch2mlx.source.functions import Functions
from torch2mlx.source.methods import Methods
from torch2mlx.source.names import dotted
from torch2mlx.source.scan import stores
from torch2mlx.source.state import bare, code, expression
from torch2mlx.source.write import term

_DTYPES = {
    **{n: n for n in ("float32", "float16", "bfloat16", "float64", "int8", "int16", "int32")},
    **{n: n for n in ("int64", "uint8", "uint16", "uint32", "uint64", "complex64")},
    **{
        "float": "float32",
        "double": "float64",
        "half": "float16",
        "long": "int64",
        "bool": "bool_",
    },
    **{"int": "int32", "short": "int16", "complex128": "complex64"},
}
_CONSTANTS = {"pi": "mx.pi", "inf": "mx.inf", "nan": "mx.nan", "e": "mx.e", "newaxis": "None"}
_CLASSES = {
    **{f"torch.{n}": "mx.array" for n in ("Tensor", "FloatTensor", "LongTensor", "BoolTensor")},
    **{"torch.dtype": "mx.Dtype", "torch.device": "mx.Device", "torch.Size": "tuple"},
    "torch.optim.Optimizer": "optim.Optimizer",
}
_UNWRAPPED = ("torch.no_grad", "torch.inference_mode", "torch.enable_grad", "torch.autocast")
_UNWRAPPED += (
    "torch.set_grad_enabled",
    "torch.autograd.set_detect_anomaly",
    "torch.cuda.amp.autocast",
)
_UNWRAPPED += ("torch.autograd.profiler.record_function", "torch.cuda.device", "torch.device")
_STOPPING = ("torch.no_grad", "torch.inference_mode")
_LAYOUT = {cst.SimpleWhitespace, cst.TrailingWhitespace, cst.EmptyLine, cst.Comma, cst.Newline}
_LAYOUT |= {cst.ParenthesizedWhitespace, cst.LeftParen, cst.RightParen, cst.AssignEqual, cst.Dot}
_STATEMENTS = (cst.SimpleStatementLine, cst.If, cst.For, cst.While, cst.With, cst.Try)
_STATEMENTS += (cst.FunctionDef, cst.ClassDef)


class Rewriter(Functions, Methods):
    """Rewrites one file."""

    def on_visit(self, node: cst.CSTNode) -> bool:
        kind = type(node)
        if kind in _LAYOUT:
            return False
        if kind in _STATEMENTS:
            self.current = node
        elif kind is cst.Attribute:
            self._fields.add(id(node.attr))  # type: ignore[attr-defined]
        elif kind is cst.Arg or kind is cst.Param:
            self._fields.add(id(getattr(node, "keyword", None) or getattr(node, "name", None)))
        return super().on_visit(node)

    def on_visit_attribute(self, node: cst.CSTNode, attribute: str) -> None:
        """Nothing is asked about single fields: this is called for every one of them."""

    def on_leave_attribute(self, original_node: cst.CSTNode, attribute: str) -> None:
        """Nothing, as before."""

    def on_leave(self, original_node: Any, updated_node: Any) -> Any:
        made = super().on_leave(original_node, updated_node)
        reasons = self.trouble.pop(id(original_node), None)
        if reasons and isinstance(made, _STATEMENTS):
            lines = [_comment(f"torch2mlx: not ported: {reason}") for reason in reasons]
            made = made.with_changes(leading_lines=[*made.leading_lines, *lines])
        return made

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._fields: set[int] = set()  # names that are fields or keywords
        self._again: dict[int, Any] = {}  # calls in place, with their arguments rewritten

    # names and attributes

    def visit_Import(self, node: cst.Import) -> bool:
        return False

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
        return False

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> Any:
        if id(original_node) in self._fields:
            return updated_node
        full = self.names.imports.get(original_node.value, "")
        if not full.startswith("torch") or full.count(".") == 0:
            return updated_node
        return self._value(full, original_node) or updated_node

    def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> Any:
        full = self.names.of(original_node)
        if full:
            return self._value(full, original_node) or updated_node
        name, owner = original_node.attr.value, self.type_of(original_node.value)
        if not owner.tensor:
            return updated_node
        receiver = code(updated_node.value)
        known = {
            "data": f"mx.stop_gradient({receiver})",
            "device": "mx.default_device()",
            "is_cuda": "False",
            "requires_grad": "True",
            "mT": f"{term(receiver)}.swapaxes(-1, -2)",
            "real": f"mx.real({receiver})",
            "imag": f"mx.imag({receiver})",
        }
        if name == "data" and self._is_target(original_node):
            return updated_node.value
        return expression(known[name]) if name in known else updated_node

    def _is_target(self, node: Any) -> bool:
        return code(node) in stores(self.current) if self.current is not None else False

    def _value(self, full: str, node: Any) -> Any:
        """What a full name stands for when it is not called."""
        short = full.rpartition(".")[2]
        if full in _CLASSES:
            return expression(_CLASSES[full])
        if full.startswith("torch.utils.data.") and short in layers.DATA:
            return expression(f"kit.data.{short}")
        if full.startswith("torch.nn.functional."):
            return self._function_value(
                forms("torch.nn.functional", short) or forms("torch", short)
            )
        if full.startswith("torch.nn.") and full.count(".") == 2 and short in layers.LAYERS:
            return expression(layers.LAYERS[short][0])
        if full.count(".") == 1 and full.startswith("torch."):
            if short in _DTYPES:
                return expression(f"mx.{_DTYPES[short]}")
            if short in _CONSTANTS:
                return expression(_CONSTANTS[short])
            return self._function_value(forms("torch", short))
        return None

    def _function_value(self, rows: Any) -> Any:
        """A function as a value: the head of the row that takes one argument."""
        for form in rows:
            head, bracket, rest = form.text.partition("({input}")
            if (bracket and rest.replace("«", "").startswith((")", ", ", "»."))) or rest == ")":
                return expression(head)
        return None

    # calls

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> Any:
        full = self.names.of(original_node.func)
        if full in _UNWRAPPED and full != "torch.device":
            return updated_node
        if full:
            made = self.named_call(full, original_node, updated_node)
            return updated_node if made is None else made
        if self._is_own_name(original_node, "len"):
            return self._length(original_node, updated_node)
        if isinstance(original_node.func, cst.Attribute):
            return self.method_call(original_node, updated_node)
        return updated_node

    def _is_own_name(self, node: cst.Call, name: str) -> bool:
        return isinstance(node.func, cst.Name) and node.func.value == name and len(node.args) == 1

    def _length(self, original: cst.Call, updated: cst.Call) -> Any:
        if self.type_of(original.args[0].value).name == "torch.nn.Sequential":
            return expression(f"len({code(updated.args[0].value)}.layers)")
        return updated

    def leave_Subscript(self, original_node: cst.Subscript, updated_node: cst.Subscript) -> Any:
        owner = self.type_of(original_node.value)
        if owner.name == "torch.nn.Sequential":
            value = expression(f"{code(updated_node.value)}.layers")
            return updated_node.with_changes(value=value)
        if code(original_node.value).endswith(".param_groups[0]"):
            text = code(updated_node)
            return expression(
                text.replace(".param_groups[0]['lr']", ".learning_rate").replace(
                    '.param_groups[0]["lr"]', ".learning_rate"
                )
            )
        if owner.tensor and len(original_node.slice) == 1:
            place = original_node.slice[0].slice
            mask = isinstance(place, cst.Index) and self.type_of(place.value).name == "bool"
            if mask and not self._is_target(original_node.value):
                index = code(updated_node.slice[0].slice.value)
                self.change(original_node, "a mask as an index", "its length is read on the host")
                return expression(f"kit.indexing.masked_rows({code(updated_node.value)}, {index})")
        return updated_node

    def leave_Arg(self, original_node: cst.Arg, updated_node: cst.Arg) -> cst.Arg:
        return updated_node.with_changes(value=bare(updated_node.value, original_node.value))

    def leave_Assign(self, original_node: cst.Assign, updated_node: cst.Assign) -> Any:
        value = bare(updated_node.value, original_node.value)
        targets = original_node.targets
        if len(targets) == 1 and isinstance(targets[0].target, cst.Attribute):
            last, owner = targets[0].target.attr.value, self.type_of(targets[0].target.value)
            if last == "requires_grad" and (owner.tensor or owner.kind == "unknown"):
                self.change(original_node, "requires_grad", "gradients are asked for by mx.grad")
                return cst.RemoveFromParent()
            if dotted(targets[0].target).startswith("torch."):
                return cst.RemoveFromParent()
        if len(targets) == 1 and code(updated_node.targets[0].target) == code(value):
            return cst.RemoveFromParent()
        return updated_node.with_changes(value=value)

    def leave_AugAssign(self, original_node: Any, updated_node: Any) -> Any:
        return updated_node.with_changes(value=bare(updated_node.value, original_node.value))

    def leave_Return(self, original_node: cst.Return, updated_node: cst.Return) -> Any:
        if updated_node.value is None:
            return updated_node
        return updated_node.with_changes(value=bare(updated_node.value, original_node.value))

    def leave_Expr(self, original_node: cst.Expr, updated_node: cst.Expr) -> Any:
        """A call alone on its line: an assignment where it was in place, nothing where it is idle."""
        before = original_node.value
        if not isinstance(before, cst.Call):
            return updated_node
        made = self._statement(before, updated_node.value)
        if made is not None:
            return made
        after = updated_node.value
        idle = isinstance(after, (cst.Name, cst.Attribute)) or (
            isinstance(after, cst.Call) and code(after.func).endswith("set_dtype") and False
        )
        return cst.RemoveFromParent() if idle else updated_node

    def _statement(self, before: cst.Call, after: Any) -> Any:
        full = self.names.of(before.func)
        if full.startswith("torch.nn.init.") and before.args and isinstance(after, cst.Call):
            return self._initialised(full, before, after)
        if isinstance(after, cst.Call) and isinstance(before.func, cst.Attribute):
            name = before.func.attr.value
            if name == "register_buffer":
                return self._buffer(before, after)
            if name == "register_parameter" and len(after.args) == 2:
                key = _literal(before.args[0].value)
                return _small(f"{code(before.func.value)}.{key} = {code(after.args[1].value)}")
            if name == "load_state_dict" and self.type_of(before.func.value).kind == "optimizer":
                return _small(f"{code(before.func.value)}.state = {code(after.args[0].value)}")
        text = self._in_place_text(before)
        return None if text is None else _small(text)

    def _in_place_text(self, before: cst.Call) -> str | None:
        if not isinstance(before.func, cst.Attribute):
            return None
        rewritten = self._again.get(id(before))
        return None if rewritten is None else self.in_place(before, rewritten)

    def visit_Expr(self, node: cst.Expr) -> None:
        """Arguments of a call in place are rewritten apart: the call itself is to stay."""
        call = node.value
        if isinstance(call, cst.Call) and isinstance(call.func, cst.Attribute):
            name = call.func.attr.value
            if name.endswith("_") and self.is_tensor(call.func.value, name):
                args = [a.with_changes(value=a.value.visit(self)) for a in call.args]
                func = call.func.with_changes(value=call.func.value.visit(self))
                self._again[id(call)] = call.with_changes(args=args, func=func)

    def _initialised(self, full: str, before: cst.Call, after: cst.Call) -> Any:
        name = full.rpartition(".")[2].rstrip("_")
        known = [
            "uniform",
            "normal",
            "trunc_normal",
            "constant",
            "zeros",
            "ones",
            "eye",
            "xavier_uniform",
            "xavier_normal",
            "kaiming_uniform",
            "kaiming_normal",
            "orthogonal",
        ]
        target = before.args[0].value
        while isinstance(target, cst.Attribute) and target.attr.value == "data":
            target = target.value
        if name not in known or not isinstance(target, cst.Attribute):
            self.refuse(before, f"{full}: set the array on its module: module.weight = ...")
            return None
        rest = [code(a.with_changes(comma=cst.MaybeSentinel.DEFAULT)) for a in after.args[1:]]
        place = code(target)
        self.change(before, full, "arrays are values: the module gets a new one")
        return _small(f"{place} = kit.init.{name}({', '.join([place, *rest])})")

    def _buffer(self, before: cst.Call, after: cst.Call) -> Any:
        key, owner = _literal(before.args[0].value), code(before.func.value)  # type: ignore
        if not key or len(after.args) < 2:
            self.refuse(before, "register_buffer with a name that is no literal")
            return None
        self.change(before, "register_buffer", "an array that is frozen: MLX would train it")
        value = code(bare(after.args[1].value, before.args[1].value))
        if value == "None":
            return _small(f"{owner}.{key} = None")
        return cst.FlattenSentinel(
            [
                _small(f"{owner}.{key} = {value}"),
                _small(f'{owner}.freeze(keys=["{key}"], recurse=False)'),
            ]
        )

    # statements

    def leave_SimpleStatementLine(self, original_node: Any, updated_node: Any) -> Any:
        if updated_node.body or not original_node.body:
            return updated_node
        return cst.RemoveFromParent()

    def leave_For(self, original_node: cst.For, updated_node: cst.For) -> Any:
        """`for p in model.parameters(): p.requires_grad = False` is a freeze; modules of a
        Sequential are its layers."""
        kind = self.type_of(original_node.iter)
        if kind.name == "torch.nn.Sequential":
            layers_of = expression(f"{code(updated_node.iter)}.layers")
            return updated_node.with_changes(iter=layers_of)
        body = original_node.body.body
        call = original_node.iter
        if len(body) == 1 and isinstance(call, cst.Call) and isinstance(call.func, cst.Attribute):
            text = code(body[0]).strip()
            target = code(original_node.target)
            if call.func.attr.value == "parameters" and text.startswith(
                f"{target}.requires_grad ="
            ):
                verb = "freeze" if text.endswith("False") else "unfreeze"
                self.change(original_node, "requires_grad", f"{verb}() of the module")
                return cst.parse_statement(f"{code(call.func.value)}.{verb}()\n")
            if code(call).endswith("param_groups") and "lr" in text:
                return updated_node
        if code(original_node.iter).endswith(".param_groups") and len(body) == 1:
            value = code(updated_node.body.body[0]).strip()
            if '["lr"] =' in value or "['lr'] =" in value:
                owner = code(original_node.iter).removesuffix(".param_groups")
                rate = value.partition("=")[2].strip()
                self.change(original_node, "param_groups", "one learning rate")
                return cst.parse_statement(f"{owner}.learning_rate = {rate}\n")
        return updated_node

    def leave_With(self, original_node: cst.With, updated_node: cst.With) -> Any:
        """no_grad, autocast and the like go; in a module what no_grad held keeps no gradient."""
        names = [self._manager(item.item) for item in original_node.items]
        if not all(name in _UNWRAPPED for name in names):
            return updated_node
        self.change(original_node, ", ".join(names), "gradients are asked for, not recorded")
        body = list(updated_node.body.body)
        if any(name in _STOPPING for name in names) and self._differentiated():
            written = [n for s in original_node.body.body for n in stores(s)]
            body += [
                _line(f"{n} = mx.stop_gradient({n})")
                for n in dict.fromkeys(written)
                if "." not in n
            ]
        if body and hasattr(body[0], "leading_lines"):
            lines = [*original_node.leading_lines, *body[0].leading_lines]
            body[0] = body[0].with_changes(leading_lines=lines)
        return cst.FlattenSentinel(body)

    def _differentiated(self) -> bool:
        """Whether the place is inside of what a gradient may be taken of."""
        return self.in_module() and self.functions[-1:] != ["generate"]

    def _manager(self, node: Any) -> str:
        return self.names.of(node.func if isinstance(node, cst.Call) else node)

    def leave_Decorator(self, original_node: cst.Decorator, updated_node: cst.Decorator) -> Any:
        node = original_node.decorator
        name = self.names.of(node.func if isinstance(node, cst.Call) else node)
        gone = name in _UNWRAPPED or name.startswith(("torch.jit.", "torch.compile"))
        return cst.RemoveFromParent() if gone else updated_node

    # classes

    def visit_ClassDef(self, node: cst.ClassDef) -> None:
        self.classes.append(node.name.value)
        for base in node.bases:
            if self.names.of(base.value) == "torch.autograd.Function":
                self.refuse(
                    node,
                    "autograd.Function: decorate a function with mx.custom_function "
                    "and give its gradient with .vjp",
                )

    def leave_ClassDef(self, original_node: cst.ClassDef, updated_node: cst.ClassDef) -> Any:
        self.classes.pop()
        return updated_node

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        self.functions.append(node.name.value)

    def leave_FunctionDef(self, original_node: cst.FunctionDef, updated_node: Any) -> Any:
        name = self.functions.pop()
        if name == "forward" and self.in_module() and not self.functions:
            self.change(original_node, "forward", "MLX's modules are called")
            return updated_node.with_changes(name=cst.Name("__call__"))
        return updated_node


def _literal(node: Any) -> str:
    return str(node.evaluated_value) if isinstance(node, cst.SimpleString) else ""


def _small(text: str) -> Any:
    """A small statement, for the place of another."""
    return cst.parse_statement(text.rstrip("\n") + "\n").body[0]  # type: ignore[union-attr]


def _line(text: str) -> Any:
    return cst.parse_statement(text + "\n")


def _comment(text: str) -> cst.EmptyLine:
    return cst.EmptyLine(comment=cst.Comment(f"# {text}"))
