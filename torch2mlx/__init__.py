"""torch2mlx: PyTorch models become MLX models, exactly."""

from importlib.metadata import PackageNotFoundError, version

from torch2mlx import errors, registry
from torch2mlx.analyzer import PortabilityReport, analyze
from torch2mlx.converter import convert, load_converted
from torch2mlx.graph.empty import empty_weights
from torch2mlx.graph.ops.registry import lowers
from torch2mlx.inspector import inspect
from torch2mlx.optimizer_state import convert_optimizer_state, revert_optimizer_state
from torch2mlx.porter import PortResult, port, port_folder
from torch2mlx.reverter import revert, to_torch
from torch2mlx.state_dict import flatten, nest
from torch2mlx.translator import Translation, load, translate
from torch2mlx.types import ConversionReport
from torch2mlx.verifier import Verification, verify

try:
    __version__ = version("torch2mlx")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

__all__ = [
    "ConversionReport",
    "PortResult",
    "PortabilityReport",
    "Translation",
    "Verification",
    "__version__",
    "analyze",
    "convert",
    "convert_optimizer_state",
    "empty_weights",
    "errors",
    "flatten",
    "inspect",
    "load",
    "load_converted",
    "lowers",
    "nest",
    "port",
    "port_folder",
    "registry",
    "revert",
    "revert_optimizer_state",
    "to_torch",
    "translate",
    "verify",
]
