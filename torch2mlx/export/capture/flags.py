"""What a forward asks of torch's global state while it is traced: its answers stay in the program.

Functions and attributes that tell of gradients, autocast, default dtypes and backends are replaced
for the time of a trace by ones that note who asked. torch's own questions do not count.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch2mlx.export.capture.patched import read_through

#: Functions whose answers depend on whether gradients are recorded.
_GRADIENTS = ("is_grad_enabled", "is_inference_mode_enabled")
#: Others, by where torch has them.
_OTHERS = {
    "": (
        *("is_autocast_enabled", "is_autocast_cpu_enabled", "get_autocast_dtype"),
        *("get_autocast_cpu_dtype", "get_autocast_gpu_dtype", "is_autocast_cache_enabled"),
        *("get_default_dtype", "get_default_device", "get_float32_matmul_precision"),
        *("are_deterministic_algorithms_enabled", "get_num_threads"),
    ),
    "cuda": ("is_available", "device_count", "is_bf16_supported"),
    "mps": ("is_available", "device_count"),
    "backends.mps": ("is_available", "is_built"),
    "backends.cudnn": ("is_available",),
    "backends.mkldnn": ("is_available",),
    "backends.cuda": (
        *("flash_sdp_enabled", "mem_efficient_sdp_enabled", "math_sdp_enabled"),
        "cudnn_sdp_enabled",
    ),
    "backends.mha": ("get_fastpath_enabled",),
}
#: Attributes of backends.
_FLAGS = {
    "backends.cudnn": ("enabled", "benchmark", "deterministic", "allow_tf32"),
    "backends.mkldnn": ("enabled",),
}


#: See `_homes`.
Homes = tuple[dict[Any, list[tuple[Any, str]]], list[Any]]


@dataclass
class Asked:
    """What was asked: the places of questions about gradients, and other answers by question."""

    gradients: dict[str, None] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)

    def notes(self) -> tuple[str, ...]:
        """A sentence for each answer that the program holds for good."""
        return tuple(
            f"the forward asks {question}: translated for {answer}"
            for question, answer in self.others.items()
        )


@contextmanager
def watched_flags(model: Any) -> Iterator[Asked]:
    """While open, what the model's code asks is noted."""
    import torch

    asked, homes = Asked(), _homes(model)
    with ExitStack() as stack:
        for name in _GRADIENTS:
            stack.enter_context(_function(homes, torch, name, _gradients(asked)))
        for where, names in _OTHERS.items():
            module: Any = _at(torch, where)
            full = f"torch.{where}".rstrip(".")
            for name in names:
                if hasattr(module, name):
                    note = _other(asked, f"{full}.{name}()")
                    stack.enter_context(_function(homes, module, name, note))
        for where, names in _FLAGS.items():
            for name in names:
                note = _other(asked, f"torch.{where}.{name}")
                holder = _at(torch, where)
                stack.enter_context(_attribute(type(holder), name, note, getattr(holder, name)))
        for name in ("requires_grad", "grad_fn", "is_leaf"):
            stack.enter_context(_attribute(torch.Tensor, name, _of_result(asked, name)))
        yield asked


def _homes(model: Any) -> Homes:
    """Where functions of torch may be known: by the function, names in the model's own files; and
    all other files that are not torch's, for its own name there."""
    kinds = {cls for part in model.modules() for cls in type(part).__mro__}
    own = {cls.__module__ for cls in kinds if cls.__module__.partition(".")[0] != "torch"}
    spaces = {name: getattr(module, "__dict__", {}) for name, module in list(sys.modules.items())}
    found: dict[Any, list[tuple[Any, str]]] = {}
    for home in own & spaces.keys():
        for key, value in spaces[home].items():
            if callable(value):
                found.setdefault(id(value), []).append((spaces[home], key))
    others = [held for name, held in spaces.items() if name.partition(".")[0] != "torch"]
    return found, others


def _at(torch: Any, where: str) -> Any:
    found = torch
    for part in filter(None, where.split(".")):
        found = getattr(found, part)
    return found


def _gradients(asked: Asked) -> Callable[..., None]:
    return lambda place, *_: asked.gradients.setdefault(place)


def _other(asked: Asked, question: str) -> Callable[..., None]:
    def note(place: str, answer: Any, _: Any) -> None:
        asked.others.setdefault(f"{question} ({place})", str(answer))

    return note


def _of_result(asked: Asked, name: str) -> Callable[..., None]:
    """Of a tensor's attributes only those of results of operators depend on the mode."""

    def note(place: str, answer: Any, tensor: Any) -> None:
        result = {"requires_grad": answer is True, "grad_fn": answer is not None}
        if result.get(name, answer is False) and _computed(tensor):
            asked.gradients.setdefault(place)

    return note


def _computed(tensor: Any) -> bool:
    import torch

    read: Any = torch._C.TensorBase.grad_fn
    return read.__get__(tensor) is not None


def _asking(frame: Any) -> str:
    """ "file.py:12" of code that is not torch's, of the frame that asks; "" otherwise."""
    name = str(frame.f_globals.get("__name__", ""))
    if name.partition(".")[0] in ("torch", "torch2mlx", "functorch"):
        return ""
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


@contextmanager
def _function(homes: Homes, module: Any, name: str, note: Any) -> Iterator[None]:
    """A function of a module, under every name that other files have for it."""
    import torch

    original = getattr(module, name)

    @functools.wraps(original)
    def asking(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_dynamo_compiling():
            return original(*args, **kwargs)
        answer = original(*args, **kwargs)
        place = _asking(sys._getframe(1))
        if place:
            note(place, answer, None)
        return answer

    places = [(vars(module), name), *homes[0].get(id(original), ())]
    places += [(held, name) for held in homes[1] if held.get(name) is original]
    for held, key in places:
        held[key] = asking
    try:
        yield
    finally:
        for held, key in places:
            held[key] = original


def _attribute(owner: Any, name: str, note: Any, outside: Any = None) -> Any:
    """An attribute of a class, read through a property that notes who reads it; `outside`: what
    it is before the trace."""

    def read(held: Any, original: Any, frame: Any) -> Any:
        place = _asking(frame)
        answer = original()
        if place:  # torch.export changes some flags for itself
            answer = answer if outside is None else outside
            note(place, answer, held)
        return answer

    return read_through(owner, name, read)
