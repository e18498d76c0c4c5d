"""What rules are told: what is known of the file, which they never change, and where they are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, TypeVar

import libcst as cst

from torch2mlx.errors import Code
from torch2mlx.porting.layout.values import Plan
from torch2mlx.porting.report import Report
from torch2mlx.porting.rules.render import Argument
from torch2mlx.porting.rules.text import code
from torch2mlx.porting.scopes.import_table import Names
from torch2mlx.porting.scopes.traversal import walk
from torch2mlx.porting.types.kinds import Type
from torch2mlx.porting.types.known import Types
from torch2mlx.porting.types.sharing import Sharing
from torch2mlx.porting.types.torch_calls import is_of_tensors

#: Kinds of what has none of a tensor's methods: where one is called, it is a tensor here, whatever
#: it is on another way through the file.
NO_METHODS = ("unknown", "none", "tuple", "list")


@dataclass(frozen=True, eq=False)
class Context:
    """What is known of a file before its rules run; only the report changes, which takes notes."""

    names: Names
    types: Types
    report: Report
    sharing: Sharing  # of tensors, between names
    plan: Plan  # of the layout; an empty one keeps torch's
    loads_with: str  # what a DataLoader becomes: "kit" or "mlx-data"
    traced: AbstractSet[str]  # functions that a gradient may be taken of
    freezes: bool  # whether anything in the file stops a gradient at all
    buffers: Collection[str]  # names of all buffers that have no gradient
    hidden: Collection[str]  # names of buffers that are not saved
    trained_names: Collection[str]  # of what is an nn.Parameter somewhere
    whole: Mapping[str, bool]  # names that hold all parameters of some modules
    held: Mapping[str, list[str]]  # names -> modules whose parameters they hold
    in_place_layers: Collection[tuple[str, str]]  # (class, name within it)
    elsewhere: Collection[str]  # names of what other libraries made
    held_types: Collection[cst.CSTNode]  # values that names are given, which may be types
    empties: bool  # whether it makes tensors without items
    passes_by: bool  # whether a training step may leave parameters out


@dataclass
class Loop:
    """A loop over the parameters of a module: names of both, its statements and conditions in
    order, and whether it sets one."""

    parameter: str
    name: str
    module: str
    body: tuple[cst.CSTNode, ...]
    sets: bool = False


@dataclass
class Level:
    """A `for`: the loops over parameters that it is (several by zip), names that it gives."""

    loops: list[Loop] = field(default_factory=list)
    given: set[str] = field(default_factory=set)  # of arrays of a list, which cannot be set
    zipped: bool = False


@dataclass(eq=False)
class Place:
    """Where in its file a rule is, and what rules noted on the way there."""

    file: Context
    rewrite: Callable[[Any], Any]  # a part of the source by all rules, for what is read apart
    current: Any = None  # the statement that is being rewritten
    classes: list[str] = field(default_factory=list)  # that are being rewritten, outermost first
    functions: list[str] = field(default_factory=list)
    bodies: list[cst.FunctionDef] = field(default_factory=list)  # of the functions
    levels: list[Level] = field(default_factory=list)  # loops
    no_grads: list[set[str]] = field(default_factory=list)  # names that leave each no_grad
    comprehensions: int = 0
    annotates: bool = False  # whether the place is in an annotation
    grouped: bool = False  # whether an optimizer of several groups was written
    fields: set[cst.CSTNode] = field(default_factory=set)  # names that are fields or keywords
    targets: set[cst.CSTNode] = field(default_factory=set)  # places that are assigned
    makers: set[cst.CSTNode] = field(default_factory=set)  # calls whose answer is called
    within: set[cst.CSTNode] = field(default_factory=set)  # calls in place with another one on them
    again: dict[cst.CSTNode, Any] = field(default_factory=dict)  # calls in place -> rewritten
    filtered: set[cst.CSTNode] = field(default_factory=set)  # tests that are dropped
    lists: dict[str, frozenset[str]] = field(default_factory=dict)  # of classes: no parts of them
    trouble: dict[cst.CSTNode, list[str]] = field(default_factory=dict)  # reasons by statement

    def type_of(self, node: Any) -> Type:
        """The type of an expression of the source."""
        return self.file.types.of(node)

    def text(self, node: Any) -> str:
        """A part of the source as it is written in MLX: `model.layers[0]` for `model[0]`."""
        places = any(isinstance(part, cst.Subscript) for part in walk(node))
        return code(self.rewrite(node)) if places else code(node)

    def in_module(self) -> bool:
        """Whether the place is in a class that is an nn.Module."""
        return bool(self.classes) and self.file.types.is_module_class(self.classes[-1])

    def is_tensor(self, node: Any, method: str = "") -> bool:
        """Whether an expression surely is a tensor, also by a method that only tensors have."""
        kind = self.type_of(node)
        if kind.tensor or self.file.names.shared(node):
            return kind.tensor
        return kind.kind in NO_METHODS and is_of_tensors(method)

    def change(self, node: Any, what: str, why: str, check: str = "") -> None:
        """Notes a rewrite."""
        self.file.report.change(self.current or node, what, why, check)

    def refuse(
        self, node: Any, detail: str, name: str = "", code: Code = Code.NO_COUNTERPART
    ) -> None:
        """Notes what stays, beside its statement; `name`: what of torch it is, by its full name."""
        made = self.file.report.refuse(self.current or node, detail, name, code)
        if self.current is not None:
            self.trouble.setdefault(self.current, []).append(made.reason)

    def ask(self, call: cst.Call, method: str) -> None:
        """Asks what the name holds that a method is called on, where it is a name."""
        owner = call.func.value  # type: ignore[attr-defined]
        place = self.file.types.unknown.get(owner)
        if place is not None:
            name = owner.attr.value if isinstance(owner, cst.Attribute) else owner.value
            self.file.report.ask(self.current or call, name, place, method)

    def arguments(self, original: cst.Call, updated: cst.Call) -> list[Argument]:
        """Arguments of a call: keyword, text in MLX, star and kind."""
        made = []
        for old, new in zip(original.args, updated.args, strict=True):
            keyword = old.keyword.value if old.keyword is not None else ""
            kind = self.type_of(old.value).kind
            made.append(Argument(keyword, code(new.value), old.star, kind))
        return made


Rule = TypeVar("Rule", bound=Callable[..., Any])
#: What notes something before the parts of a node are rewritten; False leaves them as they are.
ENTERING: dict[type[cst.CSTNode], tuple[Callable[[Place, Any], bool | None], ...]] = {}
#: What a node becomes: of the node of the source and of the one whose parts are rewritten.
LEAVING: dict[type[cst.CSTNode], Callable[[Place, Any, Any], Any]] = {}


def entering(*kinds: type[cst.CSTNode]) -> Callable[[Rule], Rule]:
    """Registers a function to be called before the parts of these kinds of nodes are rewritten."""

    def registered(rule: Rule) -> Rule:
        for kind in kinds:
            ENTERING[kind] = (*ENTERING.get(kind, ()), rule)
        return rule

    return registered


def leaving(*kinds: type[cst.CSTNode]) -> Callable[[Rule], Rule]:
    """Registers the function that rewrites these kinds of nodes."""

    def registered(rule: Rule) -> Rule:
        assert not LEAVING.keys() & set(kinds), f"{rule.__name__}: another rule has {kinds}"
        LEAVING.update(dict.fromkeys(kinds, rule))
        return rule

    return registered
