"""Calls by full name: torch's functions, layers, optimizers, schedulers, data, files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import libcst as cst

from torch2mlx.catalog.functions.table import caution, find_function, forms
from torch2mlx.catalog.processes import Shared, find_shared
from torch2mlx.porting.rules.constructors import (
    made_board,
    made_data,
    made_distribution,
    made_layer,
    made_optimizer,
    made_scheduler,
    made_vision,
    refused,
    torch_file,
)
from torch2mlx.porting.rules.empty_starts import JOINING, with_empty
from torch2mlx.porting.rules.in_place_functions import WHY
from torch2mlx.porting.rules.place import Place
from torch2mlx.porting.rules.reasons import reason
from torch2mlx.porting.rules.render import PLACEMENT, Argument, same, written
from torch2mlx.porting.rules.running_statistics import moved
from torch2mlx.porting.rules.text import again, code, drop_keywords, expression, joined
from torch2mlx.porting.scopes.import_table import TYPED, dotted
from torch2mlx.porting.types.kinds import NUMBERS, Type
from torch2mlx.porting.types.layers import NORMALIZED

_GONE: tuple[str, ...] = ("torch.cuda.", "torch.backends.", "torch.set_num_threads")
_GONE += ("torch.set_float32_matmul_precision", "torch.use_deterministic_algorithms")
_GONE += ("torch.serialization.add_safe_globals",)
_GONE += ("torch.multiprocessing.set_start_method", "torch.autograd.set_detect_anomaly")
_SEEDS = ("torch.manual_seed", "torch.cuda.manual_seed", "torch.random.manual_seed", "torch.seed")
_SELF: tuple[str, ...] = (
    "torch.nn.DataParallel",
    "torch.nn.parallel.DataParallel",
    "torch.jit.script",
)
_SELF += ("torch.compile", "torch.autograd.Variable")
#: Functions that the kit has two of: kit.functional's are those of torch's layout.
_INNER = ("pad", "group_norm")
_CALLED = ("torch.nn.parallel.data_parallel",)
#: Functions that take a dtype and a device.
_MADE: tuple[str, ...] = (
    "zeros",
    "ones",
    "empty",
    "full",
    "arange",
    "eye",
    "randn",
    "tensor",
    "as_tensor",
)
_MADE += ("randint", "full_like", "randn_like", "rand_like")
#: Functions that take data, in lists too.
_OF_DATA = ("tensor", "as_tensor", "Tensor", *TYPED)
_VECTORS = tuple(
    f"torch.nn.utils.{way}{name}"
    for name in ("parameters_to_vector", "vector_to_parameters")
    for way in ("", "convert_parameters.")
)
#: Moved to the gradients with the step they belong to.
_CLIPPING = ("torch.nn.utils.clip_grad_norm_", "torch.nn.utils.clip_grad_value_")
PACKED: tuple[str, ...] = (
    "pad_sequence",
    "pack_padded_sequence",
    "pad_packed_sequence",
    "pack_sequence",
)
PACKED += ("unpad_sequence", "PackedSequence")


def named_call(at: Place, full: str, original: cst.Call, updated: cst.Call) -> Any:
    """A call of something that is imported; None when it stays as it is."""
    given, shared = at.arguments(original, updated), find_shared(full)
    if shared is not None and full not in _GONE:
        return _of_processes_call(at, shared, original, updated)
    for prefixes, rule in _RULES:
        if any(full.startswith(p) if p.endswith(".") else full == p for p in prefixes):
            return rule(at, full, given, original, updated)
    if full.startswith(("torch.", "torchvision.")) and full != "torch.nn.Module":
        return refused(at, full, original, updated)
    return None


def _seed(at: Place, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
    at.change(original, full, "MLX draws other numbers from the same seed")
    return expression(f"mx.random.seed({joined(given[:1])})")


def _itself(at: Place, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
    at.change(original, full, "not needed: the object itself", "mx.compile for speed")
    if not given or given[0].star == "**":
        return updated
    return expression(f"{given[0].text}[0]" if given[0].star else given[0].text)


def _parallel(at: Place, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
    at.change(original, full, "called as it is: one device")
    return expression(f"{given[0].text}({given[1].text})")


def _checkpointed(at: Place, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
    plain = drop_keywords(given[1:], ("use_reentrant", "preserve_rng_state"))
    check = "mlx.nn.utils.checkpoint(module) saves the memory"
    at.change(original, full, "called as it is", check)
    return expression(f"{given[0].text}({joined(plain)})")


def _copied(at: Place, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
    at.change(original, full, "dtypes of MLX cannot be copied, where modules hold some")
    return expression(f"kit.training.deepcopy({joined(given[:1])})")


def _of_processes_call(at: Place, entry: Shared, original: Any, updated: Any) -> Any:
    """A call for several processes; those that write to an argument were rewritten before, but
    where they are no statements."""
    if not entry.mlx or entry.writes or entry.fills:
        at.refuse(original, entry.note if not entry.mlx else WHY, entry.name)
        return updated
    at.change(original, entry.name, entry.note or f"{entry.mlx} over mx.distributed")
    if not entry.mlx.startswith("kit."):
        return expression(entry.mlx)
    return again(entry.mlx, updated, entry.dropped)


def _pattern(at: Place, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
    name = full.rpartition(".")[2]
    if name not in ("repeat", "Rearrange", "Reduce"):
        return refused(at, full, original, updated)
    at.change(original, full, "einops over MLX's arrays")
    return again(f"kit.patterns.{name}", updated)


def _partial(at: Place, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
    """A function of torch with some arguments: those that place it in memory go."""
    about = at.file.names.of(original.args[0].value) if original.args else ""
    if not about.startswith("torch."):
        return None
    plain = given[0].text == code(original.args[0].value)
    made = _function_with(at, about, given[1:], original)
    if made is not None or plain:
        return made
    return again(code(updated.func), updated, PLACEMENT)


def _function_with(at: Place, about: str, given: list[Argument], original: Any) -> Any:
    """A function of torch with arguments by name: one of its first argument."""
    counted = [a for a in given if a.keyword not in PLACEMENT]
    if not counted or not all(a.keyword for a in given):
        return None
    text = written(forms(about), [Argument("", "x", kind="tensor"), *given], False)
    if text is None:
        return None
    at.change(original, f"partial({about})", "the same function in MLX")
    return expression(f"(lambda x: {text})")


def _einsum(at: Place, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
    """torch takes the tensors in a list too, MLX does not."""
    listed = original.args[1].value if len(given) == 2 and not given[1].star else None
    if given[1:] and at.type_of(listed).kind in ("list", "tuple"):
        spread = not isinstance(listed, (cst.List, cst.Tuple))
        text = given[1].text if spread else given[1].text[1:-1].strip().rstrip(",")
        given = [given[0], Argument("", text, "*" if spread else "", given[1].kind)]
    return _function(at, full, given, original, updated)


def _gone(at: Place, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
    at.change(original, full, "nothing to do: MLX has one memory and one device")
    return expression("None")


def _functional(at: Place, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
    name = full.rpartition(".")[2]
    if name == "dropout" and len(given) < 3 and not any(a.keyword == "training" for a in given):
        at.change(original, full, "torch's default is training=True: always active")
    given, why = moved(at, full, given, original)
    if why:
        return expression(f'kit.control.unported("{full}: {why}")')
    if original in at.file.plan.sites:
        at.change(original, full, "the same function in MLX, channels last")
        return again(f"kit.{'channels_last.' if name in _INNER else ''}{name}", updated)
    text = _written(at, full, given)
    if text is None:
        return refused(at, full, original, updated)
    at.change(original, full, reason(name, text))
    return expression(text)


def _written(at: Place, full: str, given: list[Argument]) -> str | None:
    """A call of a function of the catalogue in MLX; None where it has no way to be written."""
    entry = find_function(full)
    if entry is None:
        return None
    text = written(entry.forms, given, False)
    return same(entry, given) if text is None and entry.same else text


def _init(at: Place, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
    name = full.rpartition(".")[2].rstrip("_")
    at.change(original, full, "answers a new array")
    return again(f"kit.init.{name}", updated)


def _unknown(at: Place, full: str, given: Any, original: Any, updated: Any) -> Any:
    return refused(at, full, original, updated)


def _sequence(at: Place, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
    name = full.rpartition(".")[2]
    if name not in PACKED:
        return refused(at, full, original, updated)
    at.change(original, full, "padded arrays with their lengths")
    return again(f"kit.packed.{name}", updated)


def _made_with(at: Place, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
    """A tensor made with `**options`: device and dtype, of which the dtype counts."""
    text = written(forms(full), given[:-1], False)
    made = _with(text, f"**kit.tensors.options({given[-1].text})")
    if made is None:
        return refused(at, full, original, updated)
    at.change(original, full, "the same function in MLX", "of the options the dtype counts")
    return expression(made)


def _group(at: Place, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
    text = _written(at, full, given)
    if text is None:
        return refused(at, full, original, updated)
    stream = ", on the CPU stream" if text.endswith("stream=mx.cpu)") else ""
    at.change(original, full, reason(_bare(full), text) + stream)
    return expression(text)


def _function(at: Place, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
    name = full.removeprefix("torch.")
    given, why = moved(at, full, given, original)
    if why:
        return expression(f'kit.control.unported("{full}: {why}")')
    if name in _MADE and given and given[-1].star == "**":
        return _made_with(at, full, given, original, updated)
    second = given[1] if len(given) > 1 else None
    if name in ("max", "min") and second is not None and second.kind == "tensor":
        text: str | None = f"mx.{name}imum({given[0].text}, {second.text})"
    else:
        text = _written(at, full, given)
    if text is not None and name in _OF_DATA and given and not _is_plain(at, original):
        text = "kit.tensors.tensor" + text.removeprefix("mx.array")
    if text is None:
        return refused(at, full, original, updated)
    at.change(original, full, reason(_bare(full), text), caution(full))
    return expression(text)


def _is_plain(at: Place, call: cst.Call) -> bool:
    """Whether mx.array takes the data that a call is given first, whatever that holds."""
    return _reads_as_array(at.type_of(call.args[0].value))


def _reads_as_array(held: Type) -> bool:
    """Whether mx.array takes what is of a type: lists may hold no numbers or arrays of numpy."""
    if held.kind in ("list", "tuple"):
        return bool(held.items) and all(_fits_a_list(item) for item in held.items)
    return held.kind in ("tensor", "numpy", "size", *NUMBERS)


def _fits_a_list(held: Type) -> bool:
    return held.kind != "numpy" and _reads_as_array(held)


def _bare(full: str) -> str:
    """A function's name without the modules of torch that MLX has none like."""
    return full.removeprefix("torch.").removeprefix("nn.functional.")


def _with(text: str | None, more: str) -> str | None:
    """A call with one more argument."""
    return f"{text[:-1]}, {more})" if text is not None and text.endswith(")") else None


def _normalized(at: Place, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
    """Weight norm and spectral norm, in both of torch's forms, and what removes them."""
    if any(a.keyword == "leave_parametrized" for a in given) or (
        len(given) > 2 and "remove" in full
    ):
        return refused(at, full, original, updated)
    at.change(original, full, "the layer itself, whose weight is computed from other parameters")
    return again(f"kit.normalized.{NORMALIZED[full]}", updated)


def _vector(at: Place, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
    """Parameters as one vector, and back into a module."""
    name = full.rpartition(".")[2]
    if name == "vector_to_parameters":
        held: Any = updated.args[1].value if len(updated.args) == 2 else None
        if dotted(getattr(held, "func", None)) != "kit.training.parameters":
            at.refuse(original, "arrays are values: give it a module's `parameters()`", full)
            return updated
        args = [updated.args[0], *held.args]
        at.change(original, full, "a module's parameters, in torch's order and layouts")
        return cst.Call(expression(f"kit.vectors.{name}"), args)
    at.change(original, full, "in torch's order and layouts")
    return again(f"kit.vectors.{name}", updated)


def _joined(at: Place, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
    made = _function(at, full, given, original, updated)
    return with_empty(made) if at.file.empties else made


#: Rules by full name, or by its start where that ends with a dot; the first that fits is taken.
_RULES: tuple[tuple[tuple[str, ...], Callable[..., Any]], ...] = (
    (_SEEDS, _seed),
    (_SELF, _itself),
    (_CALLED, _parallel),
    (("torch.device",), lambda *_: expression("mx.default_device()")),
    (("torch.einsum",), _einsum),
    (("torch.cuda.is_available",), lambda *_: expression("False")),
    (("torch.cuda.current_accelerator",), lambda *_: expression("mx.default_device()")),
    (("torch.cuda.device_count", "torch.cuda.current_device"), lambda *_: expression("0")),
    (("torch.backends.mps.is_available",), lambda *_: expression("False")),
    (("torch.is_grad_enabled",), lambda *_: expression("True")),
    (_GONE, _gone),
    (("torch.nn.functional.",), _functional),
    (("torch.nn.init.",), _init),
    (("torch.nn.utils.rnn.",), _sequence),
    (_CLIPPING, lambda at, full, given, original, updated: updated),
    (tuple(NORMALIZED), _normalized),
    (_VECTORS, _vector),
    (("torch.nn.utils.", "torch.nn.parallel."), _unknown),
    (("torch.nn.",), made_layer),
    (("torch.optim.lr_scheduler.",), made_scheduler),
    (("torch.optim.",), made_optimizer),
    (("torch.utils.data.",), made_data),
    (("torch.distributions.",), made_distribution),
    (("torch.utils.tensorboard.",), made_board),
    (("torch.Generator",), lambda *_: expression("kit.training.Generator()")),
    (("torch.save", "torch.load"), torch_file),
    (("torchvision.transforms.", "torchvision.datasets."), made_vision),
    (("torchvision.utils.",), made_vision),
    (("torch.linalg.", "torch.fft."), _group),
    (("copy.deepcopy",), _copied),
    (("einops.repeat", "einops.layers.torch."), _pattern),
    (("functools.partial",), _partial),
    (("torch.utils.checkpoint.checkpoint",), _checkpointed),
    (("torch.amp.GradScaler",), lambda *_: expression("None")),
    (JOINING, _joined),
    (("torch.",), _function),
)
