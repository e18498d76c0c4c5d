"""Driver: `page` shows a result as one HTML file, which loads nothing and works anywhere."""

from __future__ import annotations

import inspect
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch2mlx.common.optional import need
from torch2mlx.errors import Torch2MLXError, Unsupported


def page(result: Any, *, model: Any = None, scripts: Sequence[str | os.PathLike[str]] = ()) -> str:
    """The page of what `analyze`, `translate`, `language_model`, `port`, `verify` or
    `verify_training` gave, or of a list of ports.

    `model`: the torch model that was translated or verified, whose classes then stand beside
    MLX's. `scripts`: the paths of the two scripts that `verify_training` ran.

    Raises MissingLibraryError where jinja2 is not installed, TypeError for another object.
    """
    need("page", "jinja2")
    from torch2mlx.analyzer import PortabilityReport
    from torch2mlx.language import LanguageModel
    from torch2mlx.training_verifier import TrainingVerification
    from torch2mlx.translator import Translation
    from torch2mlx.verifier import Verification

    if isinstance(result, PortabilityReport):
        from torch2mlx.report.analysis_page import analysis_page

        return analysis_page(result)
    if isinstance(result, (Translation, LanguageModel)):
        from torch2mlx.report.translation_page import translation_page

        return translation_page(result, _named(result, model), _origin(result, model))
    if isinstance(result, Verification):
        from torch2mlx.report.verification_page import verification_page

        return verification_page(result, "The model" if model is None else type(model).__name__)
    if isinstance(result, TrainingVerification):
        return _training(result, scripts)
    return _ports(result)


def _ports(result: Any) -> str:
    from torch2mlx.porter import PortResult
    from torch2mlx.report.port import ADVICE
    from torch2mlx.report.port_page import port_page

    results = result if isinstance(result, (list, tuple)) else [result]
    if not results or not all(isinstance(one, PortResult) for one in results):
        raise TypeError(f"there is no page of {type(result).__name__}: pass what a verb gave")
    return port_page(results, ADVICE)


def _training(result: Any, scripts: Sequence[str | os.PathLike[str]]) -> str:
    from torch2mlx.report.training_page import training_page

    paths = [Path(script) for script in scripts]
    sources = [path.read_text(encoding="utf-8", errors="replace") for path in paths]
    name = " and ".join(path.name for path in paths) or "Two training scripts"
    return training_page(result, name, sources)


def _named(made: Any, model: Any) -> str:
    return str(getattr(made, "name", "The model") if model is None else type(model).__name__)


def _origin(made: Any, model: Any) -> Any:
    from torch2mlx.report.translation_page import Origin

    stored = getattr(made, "_stored", None)
    pieces = () if stored is None else stored.plan.pieces
    if model is None:
        return Origin({}, (), {}, pieces)
    from torch2mlx.analysis.records import flatten

    return Origin(class_sources(model), flatten(model).nodes, _twins(model), pieces)


def class_sources(model: Any) -> dict[str, str]:
    """The source of each class of a model that is not torch's own, by its name."""
    found: dict[str, str] = {}
    for module in model.modules():
        cls = type(module)
        if cls.__module__.partition(".")[0] != "torch" and cls.__name__ not in found:
            try:
                found[cls.__name__] = textwrap.dedent(inspect.getsource(cls))
            except (OSError, TypeError):
                continue  # typed into a prompt, or made while running
    return found


def _twins(model: Any) -> dict[str, str]:
    """What stands for each of torch's own layers in MLX, by the layer's path."""
    from torch2mlx.catalog.layers import find_twin

    found = {}
    for path, module in model.named_modules():
        if type(module).__module__.startswith("torch."):
            try:
                twin = find_twin(module)
            except Torch2MLXError:
                continue
            if twin is not None and not isinstance(twin, Unsupported):
                found[path] = f"becomes `{twin.path.removeprefix('builtins.')}`"
    return found
