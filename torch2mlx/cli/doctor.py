"""The verb doctor: what is installed, what it runs on, and which verbs work here."""

from __future__ import annotations

import argparse
import importlib
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from torch2mlx.cli.printing import table
from torch2mlx.cli.verb import Answer, Verb
from torch2mlx.common.optional import command, installed

PACKAGES = (
    "torch2mlx",
    "numpy",
    "torch",
    "mlx",
    "transformers",
    "safetensors",
    "ml_dtypes",
    "libcst",
    "nbformat",
    "rich",
    "shtab",
    "jinja2",
    "mcp",
)
EXTRAS = {
    "torch": ("torch",),
    "mlx": ("mlx",),
    "lm": ("mlx_lm",),
    "port": ("libcst", "nbformat"),
    "cli": ("rich", "shtab"),
    "pages": ("jinja2",),
    "mcp": ("mcp",),
}
#: What a verb, or a use of one, needs beside numpy.
NEEDS = {
    "convert": (),
    "inspect": (),
    "revert OUT.safetensors": (),
    "revert OUT.pt": ("torch",),
    "analyze": (),
    "analyze FOLDER, layer by layer": ("torch", "transformers"),
    "translate": ("torch", "mlx"),
    "translate FOLDER": ("torch", "mlx", "transformers"),
    "generate": ("mlx", "mlx_lm"),
    "verify": ("torch", "mlx"),
    "verify-training": ("torch", "mlx"),
    "port": ("libcst",),
    "port NOTEBOOK": ("libcst", "nbformat"),
    "completion": ("shtab",),
    "mcp": ("mcp",),
    "agent-files": (),
    "schema": (),
    "--format html": ("jinja2",),
}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _mlx() -> str:
    import mlx.core as mx

    metal = "with Metal" if mx.metal.is_available() else "no Metal"
    return f"{mx.default_device()}, {metal}"


def _torch() -> str:
    import torch

    cuda = f"CUDA {torch.version.cuda}" if torch.cuda.is_available() else "no CUDA"
    return f"cpu, {cuda}, {'MPS' if torch.backends.mps.is_available() else 'no MPS'}"


def _device(name: str) -> str | None:
    """What a framework runs on; why not, where it cannot be imported."""
    if not installed(name):
        return None
    try:
        return {"mlx": _mlx, "torch": _torch}[name]()
    except Exception as error:  # a broken installation raises what it likes
        return f"cannot be imported: {error}"


def _core() -> str:
    try:
        importlib.import_module("torch2mlx._core")
    except ImportError as error:
        return str(error)
    return "built"


def _lacking(names: tuple[str, ...]) -> list[str]:
    """What to type to get what is missing of these: one line, or none."""
    lacking = [name for name in names if not installed(name)]
    return [command(*lacking)] if lacking else []


def _examined() -> dict[str, Any]:
    return {
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "core": _core(),
        "packages": {name: _version(name) for name in PACKAGES},
        "devices": {name: _device(name) for name in ("mlx", "torch")},
        "extras": {extra: not _lacking(names) for extra, names in EXTRAS.items()},
        "verbs": {verb: _lacking(names) for verb, names in NEEDS.items()},
    }


def _told(found: dict[str, Any]) -> str:
    about = [(name, found[name]) for name in ("python", "system", "core")]
    about += [(name, told or "not installed") for name, told in found["packages"].items()]
    about += [(f"{name} runs on", told) for name, told in found["devices"].items() if told]
    about += [(f"extra {name}", "yes" if all_ else "no") for name, all_ in found["extras"].items()]
    verbs = [
        (verb, "works" if not lacking else f"needs {' and '.join(lacking)}")
        for verb, lacking in found["verbs"].items()
    ]
    return "\n\n".join([table(("what", "here"), about), table(("verb", "here"), verbs)])


def _doctor(args: argparse.Namespace) -> Answer:
    found = _examined()
    return Answer(found, _told(found))


DOCTOR = Verb(
    "doctor",
    "say what is installed, what it runs on, and which verbs work here",
    lambda sub: None,
    _doctor,
    ("torch2mlx doctor", "torch2mlx doctor --format json"),
    alone=True,
)
