"""torch2mlx: PyTorch models, weights and training scripts become MLX's, and both are compared.

A public name is imported when it is first asked for, so that `torch2mlx --help` waits for nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch2mlx import errors, registry
    from torch2mlx.analyzer import PortabilityReport, analyze
    from torch2mlx.converter import convert, load_converted
    from torch2mlx.encoder_decoder import EncoderDecoder
    from torch2mlx.export.capture.empty_weights import empty_weights
    from torch2mlx.export.lower.ops.registry import lowers
    from torch2mlx.inspector import inspect
    from torch2mlx.language import LanguageModel, language_model
    from torch2mlx.optimizer_state import convert_optimizer_state, revert_optimizer_state
    from torch2mlx.pages import page
    from torch2mlx.porter import PortResult, port, port_folder
    from torch2mlx.reverter import revert, to_torch
    from torch2mlx.sequences import generate
    from torch2mlx.state_dict import flatten, nest
    from torch2mlx.training_verifier import TrainingVerification, verify_training
    from torch2mlx.translator import Translation, load, translate
    from torch2mlx.types import ConversionReport
    from torch2mlx.verifier import Verification, verify

    __version__: str

#: The module of each public name; modules that are public themselves need no entry.
_HOMES = {
    "ConversionReport": "types",
    "EncoderDecoder": "encoder_decoder",
    "LanguageModel": "language",
    "PortResult": "porter",
    "PortabilityReport": "analyzer",
    "TrainingVerification": "training_verifier",
    "Translation": "translator",
    "Verification": "verifier",
    "analyze": "analyzer",
    "convert": "converter",
    "convert_optimizer_state": "optimizer_state",
    "empty_weights": "export.capture.empty_weights",
    "flatten": "state_dict",
    "generate": "sequences",
    "inspect": "inspector",
    "language_model": "language",
    "load": "translator",
    "load_converted": "converter",
    "lowers": "export.lower.ops.registry",
    "nest": "state_dict",
    "page": "pages",
    "port": "porter",
    "port_folder": "porter",
    "revert": "reverter",
    "revert_optimizer_state": "optimizer_state",
    "to_torch": "reverter",
    "translate": "translator",
    "verify": "verifier",
    "verify_training": "training_verifier",
}

__all__ = [
    "ConversionReport",
    "EncoderDecoder",
    "LanguageModel",
    "PortResult",
    "PortabilityReport",
    "TrainingVerification",
    "Translation",
    "Verification",
    "__version__",
    "analyze",
    "convert",
    "convert_optimizer_state",
    "empty_weights",
    "errors",
    "flatten",
    "generate",
    "inspect",
    "language_model",
    "load",
    "load_converted",
    "lowers",
    "nest",
    "page",
    "port",
    "port_folder",
    "registry",
    "revert",
    "revert_optimizer_state",
    "to_torch",
    "translate",
    "verify",
    "verify_training",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    else:
        value = _submodule(name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("torch2mlx")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0+unknown"


def _submodule(name: str) -> Any:
    """A module of the package, imported. Raises AttributeError where there is none."""
    full = f"{__name__}.{name}"
    try:
        return import_module(full)
    except ModuleNotFoundError as error:
        if error.name != full:
            raise
    if name == "_core":
        raise ImportError("torch2mlx._core is not built: run `pip install .` in the source tree")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
