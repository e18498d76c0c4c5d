"""Drivers: `translate` makes a live MLX module and its source of a PyTorch model; `load` reads it
back."""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch2mlx.checkpoint.source import converted as loading
from torch2mlx.checkpoint.source.paths import checked
from torch2mlx.checkpoint.source.tensors import borrow
from torch2mlx.checkpoint.write.replacing import Guard, paths_of
from torch2mlx.checkpoint.write.transaction import truthful
from torch2mlx.checkpoint.write.translated import save_arrays, translated_folder
from torch2mlx.common import cards, trust
from torch2mlx.common.apple import places
from torch2mlx.common.optional import need
from torch2mlx.common.options import given as said
from torch2mlx.common.options import option
from torch2mlx.converter import convert
from torch2mlx.errors import LayoutWarning, TranslationError, UnsupportedOperatorError
from torch2mlx.export.capture.asked_kinds import untried
from torch2mlx.export.capture.attempts import attempted
from torch2mlx.export.capture.empty_weights import is_empty
from torch2mlx.export.capture.freedom import Way, without_own_gradients
from torch2mlx.export.capture.freedom import ways as ways_to_trace
from torch2mlx.export.capture.guards import Lengths
from torch2mlx.export.capture.recording import traced_in_mode
from torch2mlx.export.capture.sizes import named
from torch2mlx.export.ir.structures import to_mlx
from torch2mlx.export.ir.width import NARROWED, STAYS, Narrowing
from torch2mlx.export.lower.lower import lower
from torch2mlx.export.lower.modes import put_in_modes
from torch2mlx.export.lower.ops.registry import check_users
from torch2mlx.export.lower.parameters import Stored
from torch2mlx.export.passes import tidy
from torch2mlx.export.printing.emit import emit
from torch2mlx.export.printing.standalone import standalone as inlined
from torch2mlx.export.printing.undemanding import without_demands
from torch2mlx.export.state.reading import is_language, language_in
from torch2mlx.export.structure.assemble import Assembly
from torch2mlx.export.structure.io_layout import Ends, ends
from torch2mlx.export.verify.again import called_again
from torch2mlx.export.verify.check import answered, examined, unchecked
from torch2mlx.export.verify.entry import given, named_well, taking_any
from torch2mlx.export.verify.kinds import fixed_kinds
from torch2mlx.export.verify.other_mode import branches_on_mode
from torch2mlx.export.verify.other_sizes import right_at, right_at_another
from torch2mlx.export.verify.preserved import preserved, preserved_stream
from torch2mlx.export.verify.running import Case, Pair, plainly
from torch2mlx.export.verify.small import conditions_of_small, needless
from torch2mlx.export.verify.unrun import noted_changes, refuse_changing, refuse_spent, told
from torch2mlx.sized import refuse_sizes, sized
from torch2mlx.stateful import refuse_with_state, streamed
from torch2mlx.types import Progress

if TYPE_CHECKING:
    from mlx import nn

_WEIGHTS = ("weights.safetensors", "constants.safetensors", "model.safetensors")
_ARRAYS = ("weights", "constants")
_SERIAL = iter(range(1 << 62))
#: Writes a translation that checks these lengths.
_Writer = Callable[[Lengths], "Translation"]


@dataclass(frozen=True)
class Translation:
    """A translated model: its `source`, the arrays it holds, and how it was made.

    `module` is the live MLX module, with weights; `save` writes a folder that runs without torch.
    """

    source: str
    name: str
    training: bool
    dynamic: bool
    notes: tuple[str, ...] = ()
    ends: Ends = field(default_factory=Ends)
    #: Whether this is what the model runs while gradients are recorded, and does otherwise without.
    graded: bool = False
    #: What came of comparing it with torch on the example inputs before it was given: a verdict of
    #: `verify`, never "differs"; "shapes" where the model has no values; "nothing".
    compared: Literal["equal", "unstable", "incomparable", "shapes", "nothing"] = "nothing"
    #: Of each argument, by the way to it, its lengths: numbers, or expressions of free ones.
    shapes: Mapping[tuple[Any, ...], tuple[Any, ...]] = field(default_factory=dict)
    #: What the emitted class is made with, and the classes in the file of those that are settings.
    arguments: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    _stored: Any = field(default=None, repr=False)
    _modes: tuple[tuple[str, bool], ...] = field(default=(), repr=False)

    def __repr__(self) -> str:
        return f"<Translation: {self.headline()}>"

    def headline(self) -> str:
        """One line: the class, its length, and what was compared."""
        return f"{self.name}, {self.source.count(chr(10))} lines, compared: {self.compared}"

    def _repr_html_(self) -> str:
        free = ", ".join(f"{name} {list(axes)}" for name, axes in self.free.items())
        return cards.card(
            self.headline(),
            {"axes of any length": free, "mode": "training" if self.training else "evaluation"},
            cards.lines("To know", self.notes),
            cards.source("Source", self.source),
        )

    @cached_property
    def module(self) -> nn.Module:
        """The live module. Takes the torch model's arguments by name, as MLX arrays."""
        return self.built()

    @property
    def free(self) -> dict[str, tuple[int, ...]]:
        """The axes that may have other lengths than in the example, by argument."""
        axes = {
            named(way): tuple(i for i, n in enumerate(lengths) if isinstance(n, str))
            for way, lengths in self.shapes.items()
        }
        return {name: free for name, free in axes.items() if free}

    @property
    def reads_values(self) -> bool:
        """Whether shapes depend on the values of arrays."""
        return bool(self._stored.real)

    def built(self, hollow: bool = False) -> nn.Module:
        """A module of its own, that nothing else holds, with the weights; `hollow`: with zeros
        that are never made, and without demands on values."""
        source = without_demands(self.source) if hollow else self.source
        made = run_file(source, f"translated_{next(_SERIAL)}")
        with preserved_stream():  # the first values of its weights are drawn, and replaced
            model = taking_any(getattr(made, self.name))(**self._given(made))
        weights = self._stored.zeros() if hollow else self.weights
        model.load_weights(list(weights.items()), strict=True)
        place_constants(model, self.constants)
        model.train(self.training)
        put_in_modes(model, self._modes)
        return model

    def _given(self, made: types.ModuleType) -> dict[str, Any]:
        """What the emitted class is made with."""
        kinds = {name: getattr(made, kind) for name, kind in self.settings.items()}
        return {n: kinds[n](**v) if n in kinds else v for n, v in self.arguments.items()}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What `module` answers to MLX arrays, torch tensors or numpy arrays: MLX arrays."""
        return self.module(*args, **kwargs)

    def noted(self, notes: Sequence[str], **known: Any) -> Translation:
        """The same, with more notes, and what else is known of it."""
        more = self.holding(replace(self, notes=(*self.notes, *notes), **known))
        more.__dict__.update({k: v for k, v in self.__dict__.items() if k == "module"})
        return more

    def holding(self, other: Translation) -> Translation:
        """Another translation of the same model, with the arrays that were made for this one."""
        other.__dict__.update({k: v for k, v in self.__dict__.items() if k in _ARRAYS})
        return other

    @cached_property
    def weights(self) -> dict[str, Any]:
        """Converted weights as MLX arrays, under the keys of the emitted tree."""
        plan = self._stored.plan
        made = {p.target: loading.mlx_array(p.load().dense()).reshape(p.shape) for p in plan.pieces}
        own = {key: to_mlx(value) for key, value in self._stored.leaves.items()}
        return {**{key: value for key, value in made.items() if key not in plan.ties}, **own}

    @cached_property
    def constants(self) -> dict[str, Any]:
        """Arrays that are no weights and too large to print, by path."""
        kept = {k: v for k, v in self._stored.constants.items() if not self._stored.printed(k)}
        return {k: loading.mlx_array(borrow(k, v).load().dense()) for k, v in kept.items()}

    def save(
        self,
        folder: str | Path,
        weights: Any = None,
        progress: Progress | bool | None = None,
        *,
        key: str | None = None,
        dtype: Any = None,
        force: bool = False,
    ) -> Path:
        """Writes model.py, weights.safetensors, constants.safetensors (if any) and config.json.

        `weights`: a checkpoint (any source of `convert`) to take the weights from, tensor by
        tensor, instead of the model's: for a model on the meta device, larger than memory. `key`
        picks a state dict in a nested checkpoint, `dtype` casts floating-point tensors: that of
        the model, where it is another than the checkpoint's.
        `progress` is called with (bytes done, bytes in all, tensor) while a checkpoint is read;
        True draws a bar. What `save` wrote before may be replaced by a new translation; `force`:
        anything else too, a model.py that was edited since, for example. Other files stay.

        Raises TranslationError for a folder named `mlx`: it would hide the real package;
        StateDictMismatchError when the checkpoint is not the model's. The folder then is what it
        was before.
        """
        place = Path(folder)
        if place.name in ("mlx", "torch", "numpy"):
            raise TranslationError(
                f"a folder named {place.name!r} would hide that package: rename it"
            )
        if weights is not None and self._stored.leaves:
            raise TranslationError(f"no checkpoint has {', '.join(self._stored.leaves)}")
        config: dict[str, Any] = {"class": self.name, "training": self.training}
        if self.graded:
            config["graded"] = True
        if self.arguments:
            config["arguments"] = self.arguments
        if self.ends != Ends():
            config["channels_last"] = asdict(self.ends)
        config["shapes"] = [[list(way), list(lengths)] for way, lengths in self.shapes.items()]
        guard, constants = Guard(paths_of(weights), force), self.constants
        with truthful():
            with translated_folder(place, self.source, config, bool(constants), guard) as new:
                target = new / "weights.safetensors"
                if weights is None:
                    save_arrays(target, self.weights, place)
                else:
                    converted(weights, target, self._stored, progress, key, dtype)
                if constants:
                    save_arrays(new / "constants.safetensors", constants, place)
            trust.remember(place)
        return place


def converted(
    weights: Any,
    target: Path,
    stored: Stored,
    progress: Progress | bool | None,
    key: str | None,
    dtype: Any,
) -> None:
    """The weights of a checkpoint; the source beside them turns what is flattened."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LayoutWarning)
        convert(
            weights,
            target,
            module=stored.model,
            key=key,
            dtype=dtype,
            on_unmapped="ignore",
            progress=progress,
            training=stored.kept,
        )


def run_file(source: str, name: str, known: bool = False) -> types.ModuleType:
    """The module of a file that was made; `known`: where dataclasses look their module up."""
    module = types.ModuleType(name)
    if known:
        sys.modules[name] = module
    exec(compile(source, f"<{name}>", "exec", dont_inherit=True), module.__dict__)
    return module


def place_constants(model: Any, constants: Mapping[str, Any]) -> None:
    """Sets arrays by their path in the tree."""
    for path, value in constants.items():
        *owners, name = path.split(".")
        owner = model
        for part in owners:
            owner = owner[int(part)] if isinstance(owner, list) else owner[part]
        setattr(owner, name, value)


@named_well("translate", TranslationError)
def translate(
    model: Any,
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic: bool = True,
    dynamic_shapes: Any = None,
    check: bool = True,
    sizes: Sequence[Mapping[str, Sequence[int | None]]] | Literal[True] = (),
    io_layout: Literal["torch", "mlx"] = "torch",
    standalone: bool = False,
    state: Sequence[str] = (),
) -> Translation:
    """Writes a PyTorch model as MLX source, with its weights.

    `args` and `kwargs` are example inputs, as the model's forward takes them: a tuple, or a single
    tensor; or a dict by the forward's argument names, as a tokenizer gives it. Tensors may be
    torch's, numpy's or MLX's, in nested containers.

    Every length that torch.export can leave free may be another one later, and so may a batch of
    one; the file checks the others. `dynamic=False` fixes all shapes to those of the examples;
    `dynamic_shapes` says which axes are free, as for torch.export.export.

    `check`: both models are run on the examples and compared before this returns (see `verify` for
    what is allowed; a model on the meta device is compared in shapes alone); the torch model, its
    arguments and all random streams are left as they were. Another size is compared too, where
    lengths are free; `sizes` names more, as for `verify`. `io_layout="mlx"`: images, sounds and
    volumes come and go with channels last, (N, H, W, C), where the model has them so within;
    `ends` of the result says which. `standalone`: the file defines what it uses of torch2mlx.kit,
    and so needs nothing but MLX. `state` names arguments that are what the call before answered,
    a hidden state or the past of a stream: the module then takes a `cache` in their place, which
    its `make_cache` gives, answers the rest, and begins with zeros, or nothing where they grow.
    `sizes=True`: the emitted class takes what the torch class takes, in one file for all sizes;
    `model` then may be a class, or a functools.partial of one.

    Raises TranslationError where the model and the inputs do not fit, the forward raises, or MLX
    answers otherwise than torch; ExportError where torch.export cannot trace the model,
    UnsupportedOperatorError with all operators that have no translation, ValueError for another
    layout.
    """
    need("translate", "torch", "mlx")
    if io_layout not in ("torch", "mlx"):
        raise ValueError(f'io_layout is "torch" or "mlx", not {io_layout!r}')
    if sizes and not check:
        raise TranslationError(f"{option('sizes')} are compared: leave out {said('check', False)}")
    check_users()
    if sizes is True:
        options: Any = {"dynamic": dynamic, "io_layout": io_layout, "standalone": standalone}
        refuse_sizes(state=bool(state), dynamic_shapes=dynamic_shapes is not None)
        return sized(model, args, kwargs, lambda m, a, k: translate(m, a, k, **options))
    model, args, kwargs = given("translate", model, args, kwargs)
    case = Case(args, kwargs)
    if state:
        refuse_with_state(io_layout=io_layout == "mlx", standalone=standalone, sizes=bool(sizes))
        refuse_with_state(dynamic=not dynamic, dynamic_shapes=dynamic_shapes is not None)
        with preserved(model), plainly():
            return streamed(model, args, kwargs, state, check)
    with preserved(model), plainly():
        expected = answered(model, case) if check else None
        refuse_spent(expected.changed if expected else {})

        def make(way: Way) -> Translation:
            wishes = (way, io_layout == "mlx", standalone)
            width = Narrowing(expected is not None)
            try:
                return _tried(model, case, wishes, expected, check, width)
            except TranslationError:
                if not width.done:
                    raise
            made = _tried(model, case, wishes, expected, check, Narrowing(False))
            return made.noted((STAYS,))

        with preserved(model):  # it may be run, to be asked whether a batch of one is free
            ways = ways_to_trace(model, args, kwargs, dynamic, dynamic_shapes)
        made, notes = attempted(make, ways, model)
        if sizes:
            notes = (*notes, *_right_at(made, model, case, sizes))
    return made.noted(notes)


def _right_at(made: Translation, model: Any, case: Case, sizes: Any) -> tuple[str, ...]:
    """What is noted of sizes to compare. Raises TranslationError where one differs."""
    if is_empty(model):
        raise TranslationError(f"{option('sizes')}: a model without values has none to compare")
    return right_at(Pair(model, made.module, made.ends, made.graded), case, made.shapes, sizes)


def _tried(
    model: Any, case: Case, wishes: Any, expected: Any, check: bool, width: Narrowing
) -> Translation:
    """The translation, run and compared where that is asked for."""
    way, last_ends, standalone = wishes
    with noted_changes(model, expected is None) as changed:
        write, traced = _made(model, case.args, case.kwargs, way, last_ends, standalone, width)
    refuse_spent(changed)
    if check:
        if expected is None:
            refuse_changing(model, case, way, changed)
        made = _proved(write, traced, case, expected).noted(told(changed))
    else:
        notes = (unchecked(), *told(changed), *untried(traced.asked))
        made = write(traced.lengths).noted(notes)
    return made.noted((NARROWED,)) if width.done else made


def _proved(write: _Writer, traced: Any, case: Case, expected: Any) -> Translation:
    """The translation that answers as torch does, with the checks of lengths that it needs."""
    if expected is None:
        made = write(traced.lengths)
        compared, notes = examined(made, traced, case, None)
        return made.noted((*notes, *untried(traced.asked)), compared=compared)
    small = conditions_of_small(traced.lengths)
    bold = write(traced.lengths.without(small))
    answer = answered(traced.model, case, True) if bold.graded else expected
    compared, notes = examined(bold, traced, case, answer)
    more = needless(bold, traced, case, bold.graded) if small else ()
    if len(more) < len(small):  # the file needs checks that it has not, and other lines
        bold = bold.holding(write(traced.lengths.without(more)))
    pair = Pair(traced.model, bold.module, bold.ends, bold.graded)
    kinds = fixed_kinds(pair, case, traced, bool(answer and answer.changed))
    modes = branches_on_mode(pair, case)
    if kinds or modes:
        lengths = replace(traced.lengths.without(more), kinds=kinds, modes=modes)
        lengths = replace(lengths, training=traced.model.training)
        bold = bold.holding(write(lengths))
        pair = replace(pair, module=bold.module)
    if answer is not None:
        notes = (*notes, *called_again(pair, case, answer, bold.shapes))
    right_at_another(pair, case.args, case.kwargs, bold.shapes)
    return bold.noted(notes, compared=compared)


def _made(
    model: Any,
    args: Any,
    kwargs: Any,
    way: Way,
    last_ends: bool,
    standalone: bool,
    width: Narrowing,
) -> tuple[_Writer, Any]:
    """What writes the translation with some checks of lengths, and what it was traced as."""
    traced, stored, lowered = _lowered(model, tuple(args), dict(kwargs), way, width)
    program = tidy(lowered, stored.constants, last_ends=last_ends)
    stored.keep_used(program)
    assembly = Assembly(program, traced, stored, stored.tree)
    kind = type(model)
    turned = ends(program)
    heading = f"{kind.__name__} in MLX, translated from {kind.__module__}.\n\n{turned}".rstrip()
    large = any(not stored.printed(name) for name in stored.constants)

    def write(lengths: Lengths) -> Translation:
        assembly.lengths = lengths
        source = emit(assembly, program, heading, model.training, large)
        source = inlined(source) if standalone else source
        notes = (*traced.notes, *map(str, places(source)))
        known = (source, assembly.root.name, model.training, traced.dynamic, notes, turned)
        made = {"graded": traced.graded, "shapes": lengths.shapes}
        return Translation(*known, **made, _stored=stored, _modes=assembly.modes())

    return write, traced


def _lowered(
    model: Any, args: Any, kwargs: Any, way: Way, width: Narrowing
) -> tuple[Any, Any, Any]:
    """The lowered program. An autograd.Function that cannot be kept is replaced by its forward,
    with a note, in a model that is not being trained."""
    with preserved(model):  # what a forward assigns while it is traced has no values
        traced = traced_in_mode(model, args, kwargs, way)
    stored = Stored(model, narrow=width.decide(traced))
    try:
        return traced, stored, lower(traced, stored)
    except UnsupportedOperatorError:
        if not traced.functions or model.training:
            raise
    kinds = sorted({f.kind.__name__ for f in traced.functions.values()})
    note = f"gradients of {', '.join(kinds)} are those of its forward, not of its own backward"
    with preserved(model):
        traced = traced_in_mode(model, args, kwargs, without_own_gradients(way))
    stored = Stored(model, narrow=width.done)
    traced = replace(traced, notes=(*traced.notes, note))
    return traced, stored, lower(traced, stored)


def load(folder: str | Path, *, trust_remote_code: bool = False) -> nn.Module:
    """The module that `Translation.save` wrote, with its weights. Needs MLX, not torch.

    This runs the folder's model.py. What this user's own `translate` wrote is known and runs; any
    other program, and one that was edited since, only with `trust_remote_code=True`: read it
    first. Raises UntrustedCodeError otherwise, TranslationError for a folder without one.
    """
    place = checked(folder, "folder", TranslationError)
    path = place / trust.PROGRAM
    if not path.is_file():
        raise TranslationError(f"{place}: no model.py; is this a folder that translate wrote?")
    source = trust.program(place, trust_remote_code)
    need("loading a translation", "mlx", *["mlx_lm"] * (b"\nfrom mlx_lm" in source))
    module = types.ModuleType(f"translated_{next(_SERIAL)}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        # the bytes that were looked at, not a cached compilation that lies beside them
        exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
    except SyntaxError as error:
        raise TranslationError(f"{path}: line {error.lineno}: {error.msg}") from error
    if is_language(module):
        return language_in(place, module)
    if not hasattr(module, "load"):
        raise TranslationError(f"{path}: has no function load, so translate did not write it")
    lacking = [n for n in _WEIGHTS if n.encode() in source and not (place / n).is_file()]
    if lacking:
        raise TranslationError(f"{place}: {lacking[0]} is missing, which model.py reads")
    model = module.load(str(place))
    taking_any(type(model))
    return model
