"""Prints the file: imports, classes bottom-up, and a function that loads the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from torch2mlx.export.ir.name_allocator import hides
from torch2mlx.export.ir.nodes import Program
from torch2mlx.export.printing.wrap import wrapped
from torch2mlx.export.structure.assemble import Assembly
from torch2mlx.export.structure.classes import ClassText, Construct
from torch2mlx.export.structure.methods import Method

LOAD = '''
def load(folder):
    """The model with the weights in a folder."""
    model = {name}()
    model.load_weights(f"{{folder}}/weights.safetensors")
{constants}    model.train({training})
{modes}    return model
'''
CONSTANTS = """    for path, value in mx.load(f"{folder}/constants.safetensors").items():
        *owners, name = path.split(".")
        owner = model
        for part in owners:
            owner = owner[int(part)] if isinstance(owner, list) else owner[part]
        setattr(owner, name, value)
"""
UNFREEZE = """
    def unfreeze(self, *args, **kwargs):
        super().unfreeze(*args, **kwargs)
        self.freeze(keys=[{names}], recurse=False)
"""


def emit(
    assembly: Assembly,
    program: Program,
    heading: str,
    training: bool,
    stored: bool,
    end: tuple[str, str] = ("", ""),
) -> str:
    """The source of the file; `end` has more of it, and the class there that is loaded."""
    load = LOAD.format(
        name=end[1] or assembly.root.name,
        training=training,
        constants=CONSTANTS if stored else "",
        modes="".join(f"{line}\n" for line in _modes(assembly)),
    )
    return written(assembly, heading, f"{end[0]}\n{load}" if end[0] else load)


def written(assembly: Assembly, heading: str, end: str, more: Sequence[str] = ()) -> str:
    """The source of a file with other lines at its end, and what it imports for them."""
    classes = [_function(name, body) for name, body in assembly.functions]
    classes += [_class(text, assembly) for text in assembly.table.order]
    classes.append(end.strip("\n") + "\n")
    return _file(classes, heading, more)


def _file(classes: Sequence[str], heading: str, more: Sequence[str]) -> str:
    """The source of a file with these classes and functions, and what it imports."""
    body = "\n\n".join(classes)
    body = body.replace("\n\n\n\n", "\n\n\n")
    standard = ["import math"] if "math." in body else []
    standard += [line for line in more if line.startswith("from dataclasses")]
    imports = ["\n".join(standard) + "\n"] if standard else []
    imports += ["import mlx.core as mx"] if "mx." in body else []
    imports.append("import mlx.nn as nn")
    if "kit." in body:
        imports.append("from torch2mlx import kit")
    imports += [line for line in more if line not in standard]
    heading += "\n" if "\n" in heading else ""
    return f'"""{heading}"""\n\n' + "\n".join(imports) + "\n\n\n" + body


def parted(
    assembly: Assembly,
    own: ClassText,
    heading: str,
    ends: tuple[str, str],
    checks: Mapping[str, Sequence[str]],
    more: str,
) -> str:
    """The source of a file whose model is of the class `own` and not of the root's: with lines
    before its classes and after them, checks at the head of the model's methods, by their names,
    and a method more."""
    classes = [ends[0].strip("\n") + "\n"]
    classes += [_function(name, body) for name, body in assembly.functions]
    for text in assembly.table.order:
        if text is own:
            classes.append(_class(text, assembly, checks).rstrip("\n") + "\n" + more)
        elif text is not assembly.root:
            classes.append(_class(text, assembly))
    return _file([*classes, ends[1].strip("\n") + "\n"], heading, ())


def _modes(assembly: Assembly) -> list[str]:
    """Statements that put modules in another mode than the model's."""
    lines: list[str] = []
    for mode, group in groupby(assembly.modes(), lambda one: one[1]):
        names = [assembly.member(path).replace("self", "model", 1) for path, _ in group]
        call = "train()" if mode else "eval()"
        if len(names) == 1:
            lines += wrapped(f"{names[0]}.{call}", 4)
        else:
            lines += wrapped(f"for module in ({', '.join(names)}):", 4)
            lines.append(f"        module.{call}")
    return lines


def _class(
    text: ClassText, assembly: Assembly, checks: Mapping[str, Sequence[str]] | None = None
) -> str:
    instance = text.instances[0]
    lines = [f"class {text.name}(nn.Module):"]
    lines += _init(text, assembly)
    for name, method in text.methods:
        if checks and checks.get(name):
            method = replace(method, lines=(*checks[name], *method.lines))
        lines += ["", *_method(name, method, assembly, text is assembly.root)]
    source = "\n".join(lines) + "\n"
    if instance.buffers:
        names = ", ".join(f'"{name}"' for name in instance.buffers)
        source = source.rstrip("\n") + "\n" + UNFREEZE.format(names=names)
    return source


def _function(name: str, body: Method) -> str:
    lines = wrapped(f"def {name}({', '.join(body.arguments)}):", 0)
    for line in (*body.lines, f"return {body.result}"):
        lines += wrapped(line, 4)
    return "\n".join(lines) + "\n"


def _init(text: ClassText, assembly: Assembly) -> list[str]:
    instance = text.instances[0]
    numbers = dict.fromkeys(text.attribute_parameters().values())
    if not instance.attributes and not numbers:
        return [] if instance.methods else ["    pass"]
    arguments = "".join(f", {name}" for name in text.arguments())
    lines = [*wrapped(f"def __init__(self{arguments}):", 4), "        super().__init__()"]
    lines += [f"        self.{name} = {name}" for name in numbers]
    at = 0
    for name, made in instance.attributes:
        value = made.text(text.holes_named(), at)
        at += len(made.holes())
        lines += wrapped(f"{assembly.attribute(name)} = {value}", 8)
    if instance.buffers:
        names = ", ".join(f'"{name}"' for name in instance.buffers)
        lines += wrapped(f"self.freeze(keys=[{names}], recurse=False)", 8)
    return lines


def _method(name: str, method: Method, assembly: Assembly, root: bool) -> list[str]:
    arguments = list(method.arguments)
    checks: list[str] = []
    if root:
        arguments, checks = assembly.root_arguments(method)
    if any(hides(text.partition("=")[0]) for text in arguments):
        return _handed_on(arguments, checks, method, assembly.given())
    signature = f"def {name}(self{''.join(f', {a}' for a in arguments)}):"
    return _statements(signature, [*checks, *method.lines], method.result)


def _statements(signature: str, lines: Sequence[str], result: str) -> list[str]:
    """A method of a class."""
    found = wrapped(signature, 4)
    for line in lines:
        found += wrapped(line, 8)
    if result:
        found += wrapped(f"return {result}", 8)
    return found if len(found) > 1 else [*found, "        pass"]


def _handed_on(
    arguments: list[str], checks: list[str], method: Method, given: Sequence[str]
) -> list[str]:
    """`__call__` with the model's own names of arguments, where one of them hides a module of MLX,
    a builtin or self; the statements stand in a method that has other names for these."""
    names = {text.partition("=")[0] for text in arguments}
    own = next(name for name in ("self", "module", "this") if name not in names)
    outer = f"def __call__({', '.join([own, *arguments])}):"
    inner = f"def forward(self{''.join(f', {name}' for name in method.arguments)}):"
    answer = f"{own}.forward({', '.join(given)})"
    return [
        *_statements(outer, checks, answer),
        "",
        *_statements(inner, method.lines, method.result),
    ]


__all__ = ["Construct", "emit"]
