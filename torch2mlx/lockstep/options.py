"""Options of modules and optimizers that change what they compute, under torch's names."""

from __future__ import annotations

from typing import Any

#: Attributes of modules that are compared, and what else they may be called.
MODULE_OPTIONS: dict[str, tuple[str, ...]] = {
    "eps": ("eps", "_eps"),
    "momentum": ("momentum", "_momentum"),
    "p": ("p", "_p"),
    "negative_slope": ("negative_slope", "_negative_slope"),
    "alpha": ("alpha", "_alpha"),
    "num_heads": ("num_heads", "_num_heads"),
    "num_groups": ("num_groups", "_groups"),
    "stride": ("stride", "_stride"),
    "padding": ("padding", "_padding"),
    "dilation": ("dilation", "_dilation"),
    "groups": ("groups", "_groups"),
    "kernel_size": ("kernel_size", "_kernel_size"),
}
OPTIMIZER_OPTIONS = (
    *("lr", "betas", "eps", "weight_decay", "momentum", "dampening", "nesterov", "alpha", "rho"),
    *("amsgrad", "lr_decay", "centered", "maximize"),
)


def module_options(module: Any) -> dict[str, Any]:
    """What a module of either library holds of them, as plain values."""
    found: dict[str, Any] = {}
    held = vars(module)
    items = module if isinstance(module, dict) else {}
    for name, spelled in MODULE_OPTIONS.items():
        for word in spelled:
            value = held.get(word, items.get(word) if isinstance(items, dict) else None)
            if _plain(value):
                found[name] = list(value) if isinstance(value, (tuple, list)) else value
                break
    if "_p_1" in held:
        found["p"] = 1 - held["_p_1"]
    return found


def _plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return bool(value) and all(isinstance(item, (int, float)) for item in value)
    return isinstance(value, (bool, int, float))


def optimizer_options(optimizer: Any) -> dict[str, Any]:
    """What an optimizer of MLX holds of torch's options."""
    found: dict[str, Any] = {}
    for name in OPTIMIZER_OPTIONS:
        value = getattr(optimizer, name, None)
        if _plain(value):
            found[name] = list(value) if isinstance(value, (tuple, list)) else value
    if "decay" in vars(optimizer):
        found["weight_decay"] = optimizer.decay
    if isinstance(getattr(optimizer, "bias_correction", None), bool):
        found["bias_correction"] = optimizer.bias_correction
    return found


def same(one: Any, other: Any) -> bool:
    """Whether two plain values mean the same: (2, 2) and 2, 0.1 and what float32 makes of it."""
    several = [list(v) if isinstance(v, (list, tuple)) else [v] for v in (one, other)]
    if len(several[0]) != len(several[1]):
        longer, shorter = sorted(several, key=len, reverse=True)
        several = [longer, shorter * len(longer)] if len(shorter) == 1 else several
    if len(several[0]) != len(several[1]):
        return False
    pairs = zip(*several, strict=True)
    return all(
        abs(float(a) - float(b)) <= 1e-6 * max(abs(float(a)), abs(float(b))) for a, b in pairs
    )
