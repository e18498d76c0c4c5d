"""What users give as a model and its inputs, in the form that torch.export takes; or one sentence
that says what to write."""

from __future__ import annotations

import difflib
import functools
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import numpy as np

from torch2mlx.common import options
from torch2mlx.errors import TranslationError, VerificationError
from torch2mlx.export.ir.structures import holds_foreign, numpy_of, rebuilt, to_mlx

_Verb = TypeVar("_Verb", bound=Callable[..., Any])
_ERRORS = {"translate": TranslationError, "verify": VerificationError}
_TOKENIZED = ("BatchEncoding", "BatchFeature")
_MODEL = {"translate": "model", "verify": "model, t"}


def given(verb: str, model: Any, args: Any, kwargs: Any) -> tuple[Any, tuple[Any, ...], Any]:
    """(model, args, kwargs) for a call of `translate` or `verify`: a module, a tuple, a dict.

    A single tensor stands for (tensor,), a mapping by the forward's argument names for kwargs;
    arrays of numpy and MLX become tensors. Raises the verb's own error, one sentence with what to
    write, where the model is none or the inputs are not those of its forward.
    """
    call = _Call(verb, _ERRORS[verb])
    module = call.model(model)
    args, kwargs = call.inputs(module, args, kwargs)
    try:
        args, kwargs = _tensors(args), _tensors(kwargs)
    except TypeError as problem:
        call.refuse(str(problem))
    call.bind(module, args, kwargs)
    return module, args, kwargs


def named_well(verb: str, error: type[Exception]) -> Callable[[_Verb], _Verb]:
    """Of a verb: a keyword argument that it does not have is told with what to write."""

    def decorate(function: _Verb) -> _Verb:
        known = list(inspect.signature(function).parameters)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            strange = next((name for name in kwargs if name not in known), None)
            if strange is None:
                return function(*args, **kwargs)
            near = difflib.get_close_matches(strange, known, 1)
            hint = (
                f"did you mean {near[0]}=?"
                if near
                else (
                    "inputs by name go in a dict: write "
                    f"{verb}({_MODEL[verb]}, {{{strange!r}: ...}})"
                )
            )
            raise error(f"{verb} has no option {strange!r}; {hint}")

        return cast(_Verb, call)

    return decorate


def taking_any(kind: Any) -> Any:
    """The class of an emitted model, whose calls take torch tensors and numpy arrays too.

    A cache stays the object that it is, since the model writes to it.
    """
    original = kind.__call__
    names = list(inspect.signature(original).parameters)[1:]
    held = {"cache"} if hasattr(kind, "make_cache") else set()

    def taken(name: str, value: Any) -> Any:
        return value if name in held else to_mlx(value)

    @functools.wraps(original)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if holds_foreign(args) or holds_foreign(kwargs):
            named = [*names, *[""] * len(args)]
            args = tuple(map(taken, named, args))
            kwargs = {name: taken(name, value) for name, value in kwargs.items()}
        return original(self, *args, **kwargs)

    kind.__call__ = call
    return kind


class _Call:
    """A call of a verb: its name, the error it raises, and the checks in order."""

    def __init__(self, verb: str, error: type[Exception]) -> None:
        self.verb, self.error = verb, error

    def refuse(self, what: str, write: str = "") -> NoReturn:
        advice = options.call(self.verb, write, _MODEL[self.verb])
        raise self.error(f"{what}: {advice}" if write else what)

    def model(self, model: Any) -> Any:
        """The module, out of what wraps it for compiling or for several devices."""
        import torch

        if isinstance(model, torch.nn.Module):
            return self._module(model)
        rest = _MODEL[self.verb].removeprefix("model")
        if isinstance(model, type):
            made = f"{model.__name__}(...){rest}, inputs"
            self.refuse(f"{model.__name__} is a class, not a model", made)
        if isinstance(model, (str, Path)):
            self._path(model, rest)
        if _of_mlx(model):
            self.refuse(f"{type(model).__name__} is a module of MLX, not of torch")
        if isinstance(model, Mapping):
            self.refuse(
                "a dict of tensors has weights and no forward: build the model, call "
                f"model.load_state_dict(...), and write {self.verb}(model{rest}, inputs)"
            )
        if isinstance(model, (list, tuple)):
            self.refuse("model and inputs are arguments of their own", f"model{rest}, inputs")
        self._others(model, rest)

    def _module(self, model: Any) -> Any:
        import torch

        wrappers = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
        while True:
            if isinstance(model, wrappers):
                model = model.module
            elif isinstance(getattr(model, "_orig_mod", None), torch.nn.Module):
                model = model._orig_mod
            else:
                break
        if isinstance(model, torch.jit.ScriptModule):
            self.refuse(
                f"a TorchScript module has no Python to read: {self.verb} takes the nn.Module that "
                "it was made of"
            )
        parts = [n for n, m in model.named_modules() if isinstance(m, torch.jit.ScriptModule)]
        if parts:
            self.refuse(
                f"{parts[0]} is a TorchScript module, which has no Python to read: put the "
                "nn.Module that it was made of in its place"
            )
        lazy = [n for n, p in model.named_parameters() if torch.nn.parameter.is_lazy(p)]
        if lazy:
            self.refuse(
                f"{lazy[0]} has no shape yet, as its layer is lazy: call the model once on the "
                "inputs, then write it again"
            )
        return _with_forward(model)

    def _path(self, path: Any, rest: str) -> NoReturn:
        place = Path(path)
        if (place / "config.json").is_file():
            self.refuse(
                f"{place} is a folder, not a model: load it, for example with "
                f"transformers.AutoModel.from_pretrained({str(path)!r}), or use the command line, "
                f"torch2mlx {self.verb} {path} OUT"
            )
        self.refuse(
            f"{str(path)!r} is a path or a name, not a model: build the model, load its weights, "
            f"and write {self.verb}(model{rest}, inputs)"
        )

    def _others(self, model: Any, rest: str) -> NoReturn:
        import torch

        if isinstance(model, torch.Tensor):
            self.refuse("a tensor stands where the model goes", f"model{rest}, tensor")
        if inspect.ismethod(model) and isinstance(model.__self__, torch.nn.Module):
            name = f"{type(model.__self__).__name__}.{model.__name__}"
            self.refuse(f"{name} is a method: give the model, whose forward is read")
        held = getattr(model, "model", None)
        if isinstance(held, torch.nn.Module):
            name = type(model).__name__
            self.refuse(f"{name} holds a model and is none", f"{name.lower()}.model{rest}, inputs")
        if callable(model):
            name = getattr(model, "__name__", type(model).__name__)
            self.refuse(
                f"{name} is a function, not a model: call it in the forward of an nn.Module"
            )
        self.refuse(f"{_kind(model)} is no model: the first argument is a torch.nn.Module")

    def inputs(self, model: Any, args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and named inputs."""
        if kwargs is not None and not isinstance(kwargs, Mapping):
            fix = f"{_MODEL[self.verb]}, (a, b)"
            self.refuse("kwargs is a dict of inputs by name; several inputs go in one tuple", fix)
        named = dict(kwargs or {})
        wrong = [key for key in named if not isinstance(key, str)]
        if wrong:
            self.refuse(f"kwargs has the key {wrong[0]!r}, and inputs are named by str")
        if isinstance(args, Mapping) and not named and _fits(model, args):
            if type(args).__name__ in _TOKENIZED and not _any_array(args):
                self.refuse("the tokenizer gave lists: call it with return_tensors='pt'")
            return (), dict(args)
        if args is None or (isinstance(args, (list, tuple)) and not hasattr(args, "_fields")):
            return tuple(args or ()), named
        if isinstance(args, Mapping) and not named and not _takes_one(model):
            return (), dict(args)  # names that do not fit are told by `bind`
        self._single(args)
        return (args,), named

    def _single(self, value: Any) -> None:
        import torch

        write = f"{_MODEL[self.verb]}, ..."
        if isinstance(value, torch.nn.Module):
            self.refuse("a module stands where the inputs go", f"{_MODEL[self.verb]}, inputs")
        if isinstance(value, (str, Path)):
            self.refuse(
                f"the input is text, {str(value)[:40]!r}: give the tensors made of it", write
            )
        if isinstance(value, (torch.utils.data.DataLoader, torch.utils.data.Dataset)):
            name = type(value).__name__
            self.refuse(f"a {name} is no input: give the inputs of one batch", write)
        if isinstance(value, (set, frozenset, Iterator)) or inspect.isgenerator(value):
            self.refuse(f"{_kind(value)} has no order: give inputs as a tuple", write)

    def bind(self, model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Holds the inputs against the forward's signature."""
        signature = _signature(model)
        if signature is None:
            return
        try:
            signature.bind(*args, **kwargs)
        except TypeError:
            self.refuse(_misfit(self.verb, model, signature, args, kwargs))
        module = _first_module((args, kwargs))
        if module is not None:
            self.refuse(
                f"a module, {type(module).__name__}, is among the inputs, and its weights are none "
                f"of the model's: write a module that holds both and calls {type(model).__name__} "
                "with it"
            )
        if not _any_tensor((args, kwargs)) and _any_list((args, kwargs)):
            self.refuse(
                "the inputs are lists of numbers, and no tensor is among them",
                f"{_MODEL[self.verb]}, torch.tensor([...])",
            )


def _with_forward(model: Any) -> Any:
    """The model; where its class defines how it is called, and no forward, that is its forward."""
    import torch

    kind, base = type(model), torch.nn.Module
    without = kind.forward is base.forward and "forward" not in vars(model)
    if without and kind.__call__ is not base.__call__:
        model.forward = types.MethodType(kind.__call__, model)
    return model


def _of_mlx(model: Any) -> bool:
    import mlx.nn

    return isinstance(model, mlx.nn.Module)


def _kind(value: Any) -> str:
    return "None" if value is None else f"an object of {type(value).__name__}"


def _signature(model: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(model.forward)
    except (TypeError, ValueError):
        return None


def _fits(model: Any, named: Mapping[Any, Any]) -> bool:
    """Whether a mapping's keys are the forward's arguments, all that it needs."""
    signature = _signature(model)
    if signature is None or not all(isinstance(key, str) for key in named):
        return False
    try:
        signature.bind(**named)
    except TypeError:
        return False
    named_ones = set(signature.parameters) & set(named)
    return bool(named_ones) or not _takes_one(model)


def _takes_one(model: Any) -> bool:
    """Whether the forward can be called with a single positional argument."""
    signature = _signature(model)
    if signature is None:
        return True
    try:
        signature.bind(None)
    except TypeError:
        return False
    return True


def _misfit(verb: str, model: Any, signature: Any, args: Any, kwargs: Any) -> str:
    """In what way inputs do not fit a forward."""
    parameters = signature.parameters
    places = [
        p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    starred = any(p.kind == p.VAR_POSITIONAL for p in parameters.values())
    shown = f"{type(model).__name__}.forward{signature}"
    open_ = any(p.kind == p.VAR_KEYWORD for p in parameters.values())
    strange = [] if open_ else [name for name in kwargs if name not in parameters]
    if strange:
        near = difflib.get_close_matches(strange[0], list(parameters), 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"{shown} takes no input {strange[0]!r}{hint}"
    if len(args) > len(places) and not starred:
        few = ", ".join(p.name for p in places) or "nothing"
        return f"{shown} takes {few}, and {len(args)} inputs were given"
    twice = [p.name for p in places[: len(args)] if p.name in kwargs]
    if twice:
        return f"{shown}: {twice[0]!r} is given twice, by place and by name"
    needed = [
        p.name
        for i, p in enumerate(places)
        if i >= len(args) and p.name not in kwargs and p.default is p.empty
    ]
    needed += [
        p.name
        for p in parameters.values()
        if p.kind == p.KEYWORD_ONLY and p.default is p.empty and p.name not in kwargs
    ]
    inputs = ", ".join([p.name for p in places if p.default is p.empty]) or "..."
    several = f"({inputs})" if "," in inputs else f"({inputs},)"
    advice = options.call(verb, f"{_MODEL[verb]}, {several}", _MODEL[verb])
    return f"{shown} needs {', '.join(map(repr, needed))} too: {advice}"


def _any_tensor(value: Any) -> bool:
    import torch
    from torch.utils import _pytree as pytree

    return any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(value))


def _first_module(value: Any) -> Any:
    """A module of torch among the inputs, or None."""
    import torch
    from torch.utils import _pytree as pytree

    leaves = pytree.tree_leaves(value)
    return next((leaf for leaf in leaves if isinstance(leaf, torch.nn.Module)), None)


def _any_array(values: Mapping[str, Any]) -> bool:
    return any(hasattr(value, "dtype") for value in values.values())


def _any_list(value: Any) -> bool:
    """Whether there are numbers in a list."""
    if isinstance(value, Mapping):
        return any(map(_any_list, value.values()))
    if isinstance(value, tuple):
        return any(map(_any_list, value))
    return isinstance(value, list) and bool(value)


def _tensors(value: Any) -> Any:
    """Arrays of numpy and MLX as torch tensors with memory of their own; the rest as it is."""
    import torch

    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return _from_numpy(value)
    if type(value).__module__.startswith("mlx.core") and hasattr(value, "dtype"):
        made = _from_numpy(numpy_of(value))
        half = str(value.dtype).endswith("bfloat16")
        return made.to(torch.bfloat16) if half else made
    return rebuilt(value, _tensors)


def _from_numpy(value: Any) -> Any:
    import torch

    if value.dtype.name == "bfloat16":
        return torch.from_numpy(value.view(np.uint16).copy()).view(torch.bfloat16)
    if value.dtype.kind not in "biufc":
        raise TypeError(f"an input is a numpy array of {value.dtype}: give numbers")
    return torch.from_numpy(np.array(value, value.dtype.newbyteorder("=")))
