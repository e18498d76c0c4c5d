"""Expressions and statements of a file in MLX: what its calls, names and classes become."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import libcst as cst

from torch2mlx.catalog.functions.table import find_function
from torch2mlx.catalog.processes import find_shared
from torch2mlx.errors import Code
from torch2mlx.porting.rules.context import again, bare, code, expression
from torch2mlx.porting.rules.format_strings import requoted
from torch2mlx.porting.rules.functions import PACKED
from torch2mlx.porting.rules.no_grad import UNWRAPPED
from torch2mlx.porting.rules.numpy_operands import of_comparison, of_operation
from torch2mlx.porting.rules.optional_attributes import asking, compared_with_none
from torch2mlx.porting.rules.reduction import with_reduction
from torch2mlx.porting.rules.render import term
from torch2mlx.porting.rules.statements import Statements
from torch2mlx.porting.scopes.import_table import TYPED, dotted
from torch2mlx.porting.scopes.traversal import everything
from torch2mlx.porting.training.steps_rewritten import KIT
from torch2mlx.porting.types import layers
from torch2mlx.porting.types.kinds import ELSEWHERE, UNKNOWN
from torch2mlx.porting.types.usage import made_elsewhere

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
_CONSTANTS = {
    "__version__": '"2.13.0"',
    "pi": "mx.pi",
    "inf": "mx.inf",
    "nan": "mx.nan",
    "e": "mx.e",
    "newaxis": "None",
}
_CLASSES = {
    "torch.Tensor": "mx.array",
    **{f"torch.{n}": f"kit.typed.{n.replace('Double', 'Float')}" for n in TYPED},
    **{"torch.dtype": "mx.Dtype", "torch.device": "mx.Device", "torch.Size": "tuple"},
    **{f"torch.optim.{n}": "optim.Optimizer" for n in ("Optimizer", "optimizer.Optimizer")},
    "torch.optim.optimizer.ParamsT": "object",
    "torch.nn.ModuleDict": "kit.layers.ModuleDict",
    "torch.autograd.Function": "kit.control.Function",
    "torch.nn.DataParallel": "()",
}
_LAYOUT = {cst.SimpleWhitespace, cst.TrailingWhitespace, cst.EmptyLine, cst.Comma, cst.Newline}
_LAYOUT |= {cst.ParenthesizedWhitespace, cst.LeftParen, cst.RightParen, cst.AssignEqual, cst.Dot}
_STATEMENTS = (cst.SimpleStatementLine, cst.If, cst.For, cst.While, cst.With, cst.Try)
_STATEMENTS += (cst.FunctionDef, cst.ClassDef)


_FIRST_RATE = (".param_groups[0]['lr']", '.param_groups[0]["lr"]')


#: Questions that are answered with no, always.
_NEVER = ("torch.jit.is_scripting", "torch.jit.is_tracing", "torch.is_autocast_enabled")
_NEVER += ("torch.compiler.is_compiling", "torch.onnx.is_in_onnx_export")
#: Names under torch. as values: dtypes, constants, functions that take the same arguments.
_VALUES = {name: f"mx.{mlx}" for name, mlx in _DTYPES.items()} | _CONSTANTS
_VALUES |= {n: f"mx.{n}" for n in ("zeros", "ones", "full", "eye", "zeros_like", "ones_like")}
_VALUES |= {
    "arange": "kit.tensors.arange",
    "randn": "mx.random.normal",
    "tensor": "kit.tensors.tensor",
}
#: Where functions and classes that keep their names are.
_NAMED: tuple[tuple[str, str, Collection[str]], ...] = (
    ("torch.optim.", "kit.optimizers", layers.OPTIMIZER_ARGUMENTS),
    ("torch.utils.data.", "kit.data", layers.DATA),
    ("torch.nn.utils.rnn.", "kit.packed", PACKED),
    ("torch.utils.tensorboard.", "kit.tensorboard", layers.BOARD),
)
#: A filter of torchvision, which the kit takes by its name.
_FILTER = "torchvision.transforms.InterpolationMode."
_OPTIMIZER = ("torch.optim.Optimizer", "torch.optim.optimizer.Optimizer")


class Rewriter(Statements):
    """Rewrites one file."""

    def on_visit(self, node: cst.CSTNode) -> bool:
        kind = type(node)
        if kind in _LAYOUT:
            return False
        if kind in _STATEMENTS:
            self.current = node
        elif kind is cst.Attribute:
            self._fields.add(node.attr)  # type: ignore[attr-defined]
        elif kind is cst.AssignTarget or kind is cst.AugAssign:
            target = node.target  # type: ignore[attr-defined]
            while isinstance(target, cst.Subscript):  # x.data[0] = y changes x
                target = target.value
            self._targets.add(target)
        elif kind is cst.Arg or kind is cst.Param:
            self._fields.add(getattr(node, "keyword", None) or getattr(node, "name", None))
        return super().on_visit(node)

    def on_visit_attribute(self, node: cst.CSTNode, attribute: str) -> None:
        """Nothing is asked about single fields: this is called for every one of them."""

    def on_leave_attribute(self, original_node: cst.CSTNode, attribute: str) -> None:
        """Nothing, as before."""

    def on_leave(self, original_node: Any, updated_node: Any) -> Any:
        try:
            made = super().on_leave(original_node, updated_node)
        except (AttributeError, IndexError, ValueError, cst.ParserSyntaxError) as problem:
            self.refuse(original_node, f"a form that is not known here ({problem})")
            made = updated_node
        if isinstance(original_node, cst.BaseExpression):
            made = self.turned(original_node, updated_node, made)
        reasons = self.trouble.pop(original_node, None)
        if reasons and isinstance(made, _STATEMENTS):
            lines = [_comment(f"torch2mlx: not ported: {reason}") for reason in reasons]
            made = made.with_changes(leading_lines=[*made.leading_lines, *lines])
        return made

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._fields: set[cst.CSTNode] = set()  # names that are fields or keywords
        self._targets: set[cst.CSTNode] = set()  # places that are assigned
        self._annotates = False  # whether the place is in an annotation

    # names and attributes

    def visit_Annotation(self, node: cst.Annotation) -> None:
        self._annotates = True

    def leave_Annotation(
        self, original_node: cst.Annotation, updated_node: cst.Annotation
    ) -> cst.Annotation:
        self._annotates = False
        return updated_node

    def visit_Import(self, node: cst.Import) -> bool:
        return False

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
        return False

    def visit_Module(self, node: cst.Module) -> None:
        self._elsewhere = made_elsewhere(node, self.names)
        self._held_types = set(_held(node))

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> Any:
        if original_node in self._fields:
            return updated_node
        full = self.names.of(original_node)
        if not full.startswith("torch") or full.count(".") == 0:
            return updated_node
        return self._value(full, original_node) or updated_node

    def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> Any:
        full = self.names.of(original_node)
        if full:
            return self._value(full, original_node) or updated_node
        name, owner = original_node.attr.value, self.type_of(original_node.value)
        asked = name == "requires_grad" and not self._is_target(original_node)
        if asked and owner.kind in ("tensor", "unknown"):
            return self.is_trainable(original_node, updated_node)
        if name == "param_groups" and owner.kind in ("optimizer", "unknown"):
            return expression(f"kit.training.param_groups({code(updated_node.value)})")
        certain = name == "grad" or name in ELSEWHERE
        if not owner.tensor and not (certain and owner.kind == "unknown"):
            return updated_node
        if name == "grad":
            self.refuse(original_node, ".grad: gradients are what nn.value_and_grad answers")
            return updated_node
        receiver = code(updated_node.value)
        known = {
            "data": f"mx.stop_gradient({receiver})",
            "device": "mx.default_device()",
            **dict.fromkeys(ELSEWHERE, "False"),
            "mT": f"{term(receiver)}.swapaxes(-1, -2)",
            "real": f"mx.real({receiver})",
            "imag": f"mx.imag({receiver})",
        }
        if name == "data" and original_node in self._targets:
            return updated_node.value
        return expression(known[name]) if name in known else updated_node

    def _class(self, full: str, original: Any) -> str:
        """The class that stands for one of torch's, in an annotation or a value."""
        if self._annotates and full.endswith("Tensor"):
            return "mx.array"
        held = full == "torch.Tensor" and original in self._held_types
        return "kit.typed.Tensor" if held else _CLASSES[full]

    def _value(self, full: str, original: Any) -> Any:
        """What a full name stands for when it is not called."""
        short = full.rpartition(".")[2]
        placed = self.class_value(full, original) or _of_processes(full)
        if placed is not None:
            return expression(placed)
        if full in _CLASSES:
            return expression(self._class(full, original))
        for prefix, target, known in _NAMED:
            if full.startswith(prefix) and short in known:
                return expression(f"{target}.{short}")
        if full.startswith(_FILTER):
            return expression(f'"{short.lower()}"')
        if full.startswith("torch.nn.functional."):
            return self._function_value(full)
        layer = layers.known(short) if full == f"torch.nn.{short}" else None
        if layer is not None:
            return expression(layer.source)
        if full.count(".") == 1 and full.startswith("torch."):
            if short in _VALUES:
                return expression(_VALUES[short])
            return self._function_value(full)
        return None

    def _function_value(self, full: str) -> Any:
        """A function as a value: the head of the form that takes one argument."""
        entry = find_function(full)
        for form in entry.forms if entry is not None else ():
            head, bracket, rest = form.text.partition("({input}")
            if not head.replace(".", "").isidentifier():
                continue
            if (bracket and rest.replace("«", "").startswith((")", ", ", "»."))) or rest == ")":
                return expression(head)
        return expression(entry.same) if entry is not None and entry.same else None

    # calls

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> Any:
        full = self.names.of(original_node.func)
        if full:
            return self._call_of_import(full, original_node, updated_node)
        if isinstance(original_node.func, cst.Name) and original_node.args:
            asked = self._asked(original_node.func.value, original_node, updated_node)
            if asked is not None:
                return asked
        return self._own_call(original_node, updated_node)

    def _call_of_import(self, full: str, original: cst.Call, updated: cst.Call) -> Any:
        if full in _NEVER:
            return expression("False")
        if full in UNWRAPPED and full != "torch.device":
            return expression("kit.training.context()")  # where it is no `with` of its own
        if full.startswith("torch.nn."):  # both have their arguments in the same order
            original, updated = with_reduction(original), with_reduction(updated)
        kind = full.removeprefix("torch.")
        if kind in (*TYPED, "Tensor") and not _is_listed(original):
            target = "kit.typed.FloatTensor" if kind == "Tensor" else _CLASSES[full]
            return again(target, self._sized(original, updated))
        made = self.named_call(full, original, updated)
        return updated if made is None else made

    def _sized(self, original: cst.Call, updated: cst.Call) -> cst.Call:
        """`FloatTensor(x.shape)` with the sizes one by one: in torch these are no data, as a tuple
        is, which shapes are in MLX."""
        if len(original.args) != 1 or original.args[0].star:
            return updated
        value, given = original.args[0].value, updated.args[0]
        inner = value.func if isinstance(value, cst.Call) else value
        owner = self.type_of(inner.value) if isinstance(inner, cst.Attribute) else UNKNOWN
        if self.type_of(value).kind == "size" and owner.tensor:
            return updated.with_changes(args=[given.with_changes(star="*")])
        if isinstance(value, cst.Tuple):
            return updated.with_changes(args=[cst.Arg(cst.List(given.value.elements))])
        if owner.kind == "numpy" or self._is_elsewhere(value):
            return updated.with_changes(args=[cst.Arg(expression(f"list({code(given.value)})"))])
        return updated

    def _is_elsewhere(self, node: Any) -> bool:
        """Whether an expression is a field of a field of what another library made."""
        depth = 0
        while isinstance(node, cst.Attribute):
            node, depth = node.value, depth + 1
        return depth > 1 and isinstance(node, cst.Name) and node.value in self._elsewhere

    def _asked(self, name: str, original: cst.Call, updated: cst.Call) -> Any:
        """Python's own functions, of what is torch's or a tensor; None for others."""
        about = self.names.of(original.args[0].value)
        if name == "hasattr" and about.startswith("torch"):
            return expression("True")
        if name == "getattr" and about == "torch":
            return self._dtype_by_name(original, updated)
        if name == "getattr" and about.startswith("torch."):
            why = "what this is is only known when it runs: choose among its values by name"
            self.refuse(original, why, f"getattr({about}, ...)", Code.UNCLEAR)
            return updated
        if name == "range" and any(self.type_of(a.value).tensor for a in original.args):
            args = [
                a.with_changes(value=as_int(a.value)) if self.type_of(old.value).tensor else a
                for old, a in zip(original.args, updated.args, strict=True)
            ]
            return updated.with_changes(args=args)
        return None

    def _own_call(self, original: cst.Call, updated: cst.Call) -> Any:
        """A call of what is not imported."""
        if dotted(original.func).startswith(f"{KIT}."):
            return updated  # which a pass before this one wrote
        trainable = self.trainable_filter(original, updated)
        if trainable is not None:
            return trainable
        changing = self.of_layer(original, updated)
        if changing is not None:
            return changing
        if isinstance(original.func, cst.Attribute):
            made = self._parent(original, updated)
            return self.method_call(original, updated) if made is None else made
        if dotted(original.func) in self.names.functions:
            return asking(original, updated)
        return self._length(original, updated) if _is_length(original) else updated

    def _parent(self, original: cst.Call, updated: cst.Call) -> cst.Call | None:
        """`super().__init__(...)` of a layer's subclass, with what its class in MLX takes."""
        if code(original.func) != "super().__init__" or not self.classes:
            return None
        bases = self.names.classes[self.classes[-1]].bases
        full = self.names.of(bases[0].value) if bases else ""
        known = full.startswith("torch.nn.") and layers.known(full.rpartition(".")[2]) is not None
        if not known or not original.args or any(a.star for a in original.args):
            return None
        # torch's layers take both last, by place too
        while original.args and dotted(original.args[-1].value) in ("device", "dtype"):
            original = original.with_changes(args=original.args[:-1])
            updated = updated.with_changes(args=updated.args[:-1])
        made = self.named_call(full, original, updated)
        base = self._value(full, bases[0].value)
        if not isinstance(made, cst.Call) or code(made.func) != code(base):
            why = "a subclass of a layer that MLX makes otherwise: hold the layer instead"
            self.refuse(original, why, full)
            return updated
        return made.with_changes(func=updated.func)

    def _dtype_by_name(self, original: cst.Call, updated: cst.Call) -> Any:
        """`getattr(torch, name)`: a dtype; other things of torch are an error there."""
        self.change(original, "getattr(torch, ...)", "the dtype of that name", "dtypes only")
        return expression(f"kit.tensors.dtype({code(updated.args[1].value)})")

    def _length(self, original: cst.Call, updated: cst.Call) -> Any:
        if self.type_of(original.args[0].value).name == "torch.nn.Sequential":
            return expression(f"len({code(updated.args[0].value)}.layers)")
        return updated

    def leave_Subscript(self, original_node: cst.Subscript, updated_node: cst.Subscript) -> Any:
        owner = self.type_of(original_node.value)
        updated_node = self._places(original_node, updated_node)
        if owner.name == "torch.nn.Sequential":
            value = expression(f"{code(updated_node.value)}.layers")
            made = updated_node.with_changes(value=value)
            some = isinstance(original_node.slice[0].slice, cst.Slice)
            return expression(f"nn.Sequential(*{code(made)})") if some else made
        if code(original_node).endswith(_FIRST_RATE) and not self.grouped:
            options = updated_node.value.value.args[0].value  # of kit.training.param_groups
            return expression(f"{code(options)}.learning_rate")
        if owner.tensor and len(original_node.slice) == 1:
            place = original_node.slice[0].slice
            mask = isinstance(place, cst.Index) and self.type_of(place.value).name == "bool"
            if mask and not self._is_target(original_node.value):
                index = code(updated_node.slice[0].slice.value)
                self.change(original_node, "a mask as an index", "its length is read on the host")
                return expression(f"kit.indexing.masked_rows({code(updated_node.value)}, {index})")
        return updated_node

    def _places(self, original: cst.Subscript, updated: cst.Subscript) -> cst.Subscript:
        """Places that MLX takes no part of: a `range` or an array of numpy in a tensor, bounds that
        are tensors."""
        parts = [
            new.with_changes(slice=self._place(old.slice, new.slice, original.value))
            for old, new in zip(original.slice, updated.slice, strict=True)
        ]
        return updated.with_changes(slice=parts)

    def _place(self, old: Any, new: Any, owner: Any) -> Any:
        if isinstance(old, cst.Slice):
            bounds = {
                name: as_int(getattr(new, name))
                for name in ("lower", "upper", "step")
                if getattr(old, name) is not None and self.type_of(getattr(old, name)).tensor
            }
            return new.with_changes(**bounds)
        held, kind = self.type_of(owner).kind, self.type_of(old.value).kind
        text = code(new.value)
        if held == "tensor" and kind == "numpy":
            return cst.Index(expression(f"mx.array({text})"))
        if held not in ("tensor", "unknown") or kind != "range":
            return new
        literal = text.startswith("range(")
        made = f"mx.arange{text[5:]}" if literal else f"mx.array(list({text}))"
        return cst.Index(expression(made))

    def leave_FormattedString(
        self, original_node: cst.FormattedString, updated_node: cst.FormattedString
    ) -> cst.FormattedString:
        return requoted(updated_node)

    def leave_BinaryOperation(self, original_node: Any, updated_node: Any) -> Any:
        return of_operation(original_node, updated_node, self.type_of)

    def leave_Comparison(self, original_node: Any, updated_node: cst.Comparison) -> Any:
        left = original_node.left
        updated_node = of_comparison(original_node, updated_node, self.type_of)
        owner = self.type_of(left.value) if isinstance(left, cst.Attribute) else UNKNOWN
        return compared_with_none(original_node, updated_node, owner)

    def leave_Arg(self, original_node: cst.Arg, updated_node: cst.Arg) -> cst.Arg:
        return updated_node.with_changes(value=bare(updated_node.value, original_node.value))

    def visit_ClassDef(self, node: cst.ClassDef) -> None:
        self.classes.append(node.name.value)

    def leave_ClassDef(self, original_node: cst.ClassDef, updated_node: cst.ClassDef) -> Any:
        self.classes.pop()
        self.placed_class(original_node)
        if any(self.names.of(b.value) in _OPTIMIZER for b in original_node.bases):
            self.current = original_node
            self.refuse(original_node, "your own optimizer: subclass mlx.optimizers.Optimizer")
            base = cst.Arg(expression("kit.optimizers.Unported"))  # defined, and no more
            return updated_node.with_changes(bases=[base])
        return updated_node

    def leave_FunctionDef(self, original_node: cst.FunctionDef, updated_node: Any) -> Any:
        name = self.functions.pop()
        self._bodies.pop()
        updated_node = self.headed(original_node, updated_node)
        if name == "forward" and self.in_module() and not self.functions:
            self.change(original_node, "forward", "MLX's modules are called")
            return updated_node.with_changes(name=cst.Name("__call__"))
        return updated_node


def _of_processes(full: str) -> str | None:
    """What stands for a name for several processes that is not called."""
    shared = find_shared(full)
    plain = shared is not None and shared.mlx and not shared.writes and not shared.fills
    return shared.mlx if shared is not None and plain else None


def _held(module: cst.Module) -> Iterator[Any]:
    """What names are given, the branches of `a if c else b` too."""
    waiting = [node.value for node in everything(module) if isinstance(node, cst.Assign)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, cst.IfExp):
            waiting += [value.body, value.orelse]
        elif isinstance(value, (cst.Name, cst.Attribute)):
            yield value


def as_int(node: Any) -> cst.BaseExpression:
    """A tensor of one element as the number that Python's own places take."""
    return cst.Call(cst.Name("int"), [cst.Arg(node)])


def _is_listed(node: cst.Call) -> bool:
    """Whether a call is given one list, as it is written: data, not sizes."""
    return len(node.args) == 1 and isinstance(node.args[0].value, (cst.List, cst.ListComp))


def _is_length(node: cst.Call) -> bool:
    return isinstance(node.func, cst.Name) and node.func.value == "len" and len(node.args) == 1


def _comment(text: str) -> cst.EmptyLine:
    return cst.EmptyLine(comment=cst.Comment(f"# {' '.join(text.split())}"))
