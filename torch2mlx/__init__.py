"""torch2mlx: PyTorch models become MLX models, exactly."""

from importlib.metadata import PackageNotFoundError, version

from torch2mlx import errors, registry
from torch2mlx.analyzer import PortabilityReport, analyze
from torch2mlx.converter import convert, load_converted, revert
from torch2mlx.inspector import inspect
from torch2mlx.state_dict import flatten, nest
from torch2mlx.types import ConversionReport

try:
    __version__ = version("torch2mlx")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

__all__ = [
    "ConversionReport",
    "PortabilityReport",
    "__version__",
    "analyze",
    "convert",
    "errors",
    "flatten",
    "inspect",
    "load_converted",
    "nest",
    "registry",
    "revert",
]
