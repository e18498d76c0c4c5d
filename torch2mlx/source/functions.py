"""Calls by full name: torch's functions, layers, optimizers, schedulers, data, files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import libcst as cst

from torch2mlx.op_mapping import lookup_op
from torch2mlx.ops.forms import CHANNELS_FIRST, PLACEMENT, forms
from torch2mlx.source import layers
from torch2mlx.source.optimizers import held_in, takes_all
from torch2mlx.source.state import State, drop_keywords, expression, joined
from torch2mlx.source.write import Argument, written

#: Functions of mx.linalg that run on the CPU stream only.
_CPU = ("inv", "svd", "qr", "eigh", "eigvalsh", "cholesky", "pinv", "solve", "eig", "lu", "cross")
_RENAMED = {"dim": "axis", "keepdim": "keepdims", "input": "a"}
_GONE = ("torch.cuda.", "torch.backends.", "torch.mps.", "torch.set_num_threads", "torch.xpu.")
_SEEDS = ("torch.manual_seed", "torch.cuda.manual_seed", "torch.random.manual_seed", "torch.seed")
_SELF = ("torch.nn.DataParallel", "torch.nn.parallel.DataParallel", "torch.jit.script")
_SELF += ("torch.nn.parallel.DistributedDataParallel", "torch.compile", "torch.autograd.Variable")
_SELF += ("torch.nn.SyncBatchNorm.convert_sync_batchnorm",)
#: Moved to the gradients with the step they belong to.
_CLIPPING = ("torch.nn.utils.clip_grad_norm_", "torch.nn.utils.clip_grad_value_")
_PACKED = ("pad_sequence", "pack_padded_sequence", "pad_packed_sequence", "pack_sequence")
_PACKED += ("unpad_sequence", "PackedSequence")
#: What mlx.nn's activations take no argument for: torch's `inplace` is dropped.
_BARE = ("ReLU", "ReLU6", "SiLU", "Sigmoid", "Tanh", "SELU")


class Functions(State):
    """Rewrites calls whose function is known by its full name."""

    #: Names that hold all parameters of some modules, and the modules whose parameters names hold.
    whole: Mapping[str, bool] = MappingProxyType({})
    held: Mapping[str, list[str]] = MappingProxyType({})
    grouped = False  # whether an optimizer of several groups was written

    def named_call(self, full: str, original: cst.Call, updated: cst.Call) -> Any:
        """A call of something that is imported; None when it stays as it is."""
        given = self.arguments(original, updated)
        for prefixes, rule in self._rules():
            if any(full.startswith(p) if p.endswith(".") else full == p for p in prefixes):
                return rule(full, given, original, updated)
        if full.startswith(("torch.", "torchvision.")) and full != "torch.nn.Module":
            return self._unknown(full, original, updated)
        return None

    def _rules(self) -> list[tuple[tuple[str, ...], Callable[..., Any]]]:
        return [
            (_SEEDS, self._seed),
            (_SELF, self._itself),
            (("torch.device",), lambda *_: expression("mx.default_device()")),
            (("torch.cuda.is_available",), lambda *_: expression("False")),
            (("torch.backends.mps.is_available",), lambda *_: expression("False")),
            (("torch.is_grad_enabled",), lambda *_: expression("True")),
            (_GONE, self._gone),
            (("torch.nn.functional.",), self._functional),
            (("torch.nn.init.",), self._init),
            (("torch.nn.utils.rnn.",), self._sequence),
            (_CLIPPING, lambda full, given, original, updated: updated),
            (("torch.nn.utils.", "torch.nn.parallel."), self._unknown_call),
            (("torch.nn.",), self._layer),
            (("torch.optim.lr_scheduler.",), self._scheduler),
            (("torch.optim.",), self._optimizer),
            (("torch.utils.data.",), self._data),
            (("torch.distributions.",), self._distribution),
            (("torch.save", "torch.load"), self._file),
            (("torchvision.transforms.", "torchvision.datasets."), self._vision),
            (("torch.linalg.", "torch.fft."), self._group),
            (("copy.deepcopy",), self._copied),
            (("torch.utils.checkpoint.checkpoint",), self._checkpointed),
            (("torch.amp.GradScaler",), lambda *_: expression("None")),
            (("torch.",), self._function),
        ]

    def _unknown(self, full: str, original: Any, updated: Any) -> Any:
        op = lookup_op(full)
        advice = op.note if op is not None and op.note else "no counterpart is known"
        self.refuse(original, f"{full}: {advice}")
        return updated

    def _seed(self, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
        self.change(original, full, "MLX draws other numbers from the same seed")
        return expression(f"mx.random.seed({joined(given[:1])})")

    def _itself(self, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
        self.change(original, full, "not needed: the object itself", "mx.compile for speed")
        return expression(given[0].text) if given else updated

    def _checkpointed(self, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
        plain = drop_keywords(given[1:], ("use_reentrant", "preserve_rng_state"))
        check = "mlx.nn.utils.checkpoint(module) saves the memory"
        self.change(original, full, "called as it is", check)
        return expression(f"{given[0].text}({joined(plain)})")

    def _copied(self, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
        self.change(original, full, "dtypes of MLX cannot be copied, where modules hold some")
        return expression(f"kit.training.deepcopy({joined(given[:1])})")

    def _gone(self, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
        self.change(original, full, "nothing to do: MLX has one memory and one device")
        return expression("None")

    def _functional(self, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
        name = full.rpartition(".")[2]
        if name == "dropout" and len(given) < 3 and not any(a.keyword == "training" for a in given):
            self.change(original, full, "torch's default is training=True: always active")
        kept = drop_keywords(given, PLACEMENT)
        text = written(forms("torch.nn.functional", name), given, False)
        if text is None and name in CHANNELS_FIRST:
            text = f"kit.channels_first.{name}({joined(kept)})"
        if text is None and name.startswith("dropout") and name[-1] == "d":
            text = f"kit.channels_first.channel_dropout({joined(kept)})"
        if text is None:
            text = written(forms("torch", name), given, False)
        op = lookup_op(full)
        if text is None and op is not None and op.status == "kit" and "channels" not in op.note:
            if "activations" in op.mlx:
                kept = [
                    replace(a, keyword="axis" if a.keyword == "dim" else a.keyword) for a in kept
                ]
            text = f"{op.mlx.removeprefix('torch2mlx.')}({joined(kept)})"
        if text is None:
            return self._unknown(full, original, updated)
        self.change(original, full, "the same function in MLX")
        return expression(text)

    def _init(self, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
        name = full.rpartition(".")[2].rstrip("_")
        self.change(original, full, "answers a new array")
        return expression(f"kit.init.{name}({joined(given)})")

    def _unknown_call(self, full: str, given: Any, original: Any, updated: Any) -> Any:
        return self._unknown(full, original, updated)

    def _sequence(self, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
        name = full.rpartition(".")[2]
        if name not in _PACKED:
            return self._unknown(full, original, updated)
        self.change(original, full, "padded arrays with their lengths")
        return expression(f"kit.packed.{name}({joined(given)})")

    def _layer(self, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
        name = full.rpartition(".")[2]
        kept = drop_keywords(given, layers.DROPPED)
        if name in ("Parameter", "Buffer"):
            if name == "Parameter":
                self.change(original, full, "arrays that a module holds are its parameters")
            return expression(given[0].text)
        if name in ("ModuleList", "ParameterList"):
            self.change(original, full, "a list of modules")
            text = given[0].text if given else "[]"
            return expression(text if text.startswith("[") else f"list({text})")
        if name in ("ModuleDict", "ParameterDict"):
            self.change(original, full, "a module whose members have keys")
            return expression(f"kit.layers.ModuleDict({joined(given)})")
        if name not in layers.LAYERS:
            self.refuse(original, f"{full}: {layers.REFUSED.get(name, 'no counterpart is known')}")
            return updated
        target, note = layers.LAYERS[name]
        if name in _BARE:
            kept = []
        if name == "Sequential" and len(kept) == 1 and "OrderedDict" in kept[0].text:
            kept = [Argument("", f"{kept[0].text}.values()", "*")]
            note = "layers lose their names: keys are layers.0, layers.1, ..."
        self.change(original, full, f"{target}" + (f": {note}" if note else ""))
        return expression(f"{target}({joined(kept)})")

    def _scheduler(self, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
        name = full.rpartition(".")[2]
        if name not in layers.SCHEDULERS:
            self.refuse(original, f"{full}: give the optimizer a schedule of mlx.optimizers")
            return updated
        self.change(original, full, "torch's schedule; it sets optimizer.learning_rate")
        return expression(f"kit.schedulers.{name}({joined(drop_keywords(given, ('verbose',)))})")

    def _optimizer(self, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
        name = full.rpartition(".")[2]
        if name not in layers.OPTIMIZER_ARGUMENTS:
            why = "unknown"
            if name == "LBFGS":
                why = "needs a closure; MLX's optimizers take gradients"
            self.refuse(original, f"{full}: {why}; Adam or SGD with a schedule come closest")
            return updated
        order = iter(layers.OPTIMIZER_ARGUMENTS[name])
        named = [a for a in given[1:] if not a.star and a.keyword != "params"]
        options = {a.keyword or next(order): a.text for a in named}
        for gone in ("foreach", "fused", "capturable", "differentiable"):
            options.pop(gone, None)
        stars = [a for a in given[1:] if a.star]
        why, check = "takes gradients, not parameters", "torch's formula and defaults"
        if takes_all(original.args[0].value, self.whole) and not stars:
            self.change(original, full, why, check)
            return expression(_optimizer_text(name, options))
        modules = held_in(original.args[0].value, self.held)
        if not modules:
            self.refuse(original, f"{full}: parameters of a module that is not seen here")
            return updated
        self.grouped = True
        self.change(original, full, "parameters are told apart by their names", check)
        more = joined([*(Argument(key, value) for key, value in options.items()), *stars])
        owner = modules[0] if len(modules) == 1 else f"kit.training.Group({', '.join(modules)})"
        parts = [owner, f"kit.optimizers.{name}", given[0].text, *filter(None, [more])]
        return expression(f"kit.ParameterGroups({', '.join(parts)})")

    def _data(self, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
        name = full.rpartition(".")[2]
        if name not in layers.DATA:
            return self._unknown(full, original, updated)
        gone = ("num_workers", "pin_memory", "persistent_workers", "prefetch_factor", "generator")
        self.change(original, full, "numpy and MLX arrays, one process")
        return expression(f"kit.data.{name}({joined(drop_keywords(given, gone))})")

    def _distribution(self, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
        name = full.rpartition(".")[2]
        if name not in layers.DISTRIBUTIONS:
            return self._unknown(full, original, updated)
        self.change(original, full, "torch's formulas", "other numbers are drawn from a seed")
        return expression(f"kit.distributions.{name}({joined(given)})")

    def _vision(self, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
        name = full.rpartition(".")[2]
        if name not in layers.VISION:
            return self._unknown(full, original, updated)
        check = "reads local files only" if ".datasets." in full else ""
        self.change(original, full, "the same over numpy and MLX arrays", check)
        return expression(f"kit.vision.{name}({joined(drop_keywords(given, ('download',)))})")

    def _file(self, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
        name = full.rpartition(".")[2]
        if name not in ("save", "load"):
            return self._unknown(full, original, updated)
        kept = drop_keywords(given, ("map_location", "weights_only", "pickle_module"))
        check = "torch's own files: torch2mlx.convert" if name == "load" else ""
        self.change(original, full, "safetensors with torch's nesting", check)
        return expression(f"kit.files.{name}({joined(kept)})")

    def _group(self, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
        group, name = full.split(".")[1:]
        op = lookup_op(full)
        if op is None or op.status != "direct" or not op.mlx.endswith(name):
            if name == "vector_norm":
                return expression(f"kit.tensors.norm({_renamed(given)})")
            return self._unknown(full, original, updated)
        stream = ", stream=mx.cpu" if group == "linalg" and name in _CPU else ""
        self.change(original, full, "the same in MLX" + (", on the CPU stream" if stream else ""))
        return expression(f"mx.{group}.{name}({_renamed(given)}{stream})")

    def _function(self, full: str, given: list[Argument], original: Any, updated: Any) -> Any:
        name = full.removeprefix("torch.")
        second = given[1] if len(given) > 1 else None
        if name in ("max", "min") and second is not None and second.kind == "tensor":
            text: str | None = f"mx.{name}imum({given[0].text}, {second.text})"
        elif given and given[0].kind == "range" and "ensor" in name:
            listed = Argument(given[0].keyword, f"list({given[0].text})")
            text = written(forms("torch", name), [listed, *given[1:]], False)
        elif name == "where" and len(given) == 1:
            text = None
        else:
            text = written(forms("torch", name), given, False)
        if text is None:
            return self._unknown(full, original, updated)
        self.change(original, full, "the same function in MLX")
        return expression(text)


def _renamed(given: list[Argument]) -> str:
    kept = drop_keywords(given, PLACEMENT)
    return joined([Argument(_RENAMED.get(a.keyword, a.keyword), a.text, a.star) for a in kept])


def _optimizer_text(name: str, options: dict[str, str]) -> str:
    """mlx.optimizers where its formula is torch's with these options, the kit elsewhere."""
    stock = layers.OPTIMIZERS.get(name)
    if stock is not None and set(options) <= set(stock[1]):
        target, renamed, more = stock
        shown = {"lr": layers.RATES[name], **options}
        parts = [f"{renamed[key]}={value}" for key, value in shown.items()]
        return f"{target}({', '.join([*parts, more] if more else parts)})"
    parts = [f"{key}={value}" for key, value in options.items()]
    return f"kit.optimizers.{name}({', '.join(parts)})"
