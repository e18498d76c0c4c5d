"""The config.json beside a checkpoint: which architecture it names, and that model, built.

Nothing in it is trusted. Only classes of the installed transformers are made, on torch's meta
device, without a network: code, kernels and quantizers that a file asks for are left aside.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch2mlx.checkpoint.source.directory import read_json
from torch2mlx.common import options
from torch2mlx.common.optional import installed
from torch2mlx.errors import CheckpointError, ConversionError

#: Entries that make transformers import or download something; types do not depend on them.
_UNUSED = frozenset(
    {
        "attn_implementation",
        "_attn_implementation",
        "_attn_implementation_internal",
        "_attn_implementation_autoset",
        "experts_implementation",
        "_experts_implementation",
        "_experts_implementation_internal",
        "auto_map",
        "custom_pipelines",
        "quantization_config",
        "use_kernels",
        "use_pretrained_backbone",
        "_name_or_path",
        "_commit_hash",
    }
)
_COUNTS = ("layer", "depth", "block", "stage")
#: Modules that a model may have whose checkpoint is not there, and those for each tensor of one.
MOST_MODULES = 100_000
_MODULES_PER_TENSOR = 50
_SPARE = 1_000


@dataclass(frozen=True)
class Budget:
    """How large a model a config.json may describe: as large as its checkpoint makes plausible."""

    modules: int = MOST_MODULES
    layers: int = MOST_MODULES

    @classmethod
    def of(cls, tensors: int) -> Budget:
        """The budget of a checkpoint with so many tensors."""
        return cls(_SPARE + _MODULES_PER_TENSOR * tensors, _SPARE // 10 + 4 * tensors)


def find_config(files: tuple[str, ...]) -> Path | None:
    """The config.json in the folder of a checkpoint's files."""
    if not files:
        return None
    path = Path(files[0]).parent / "config.json"
    return path if path.is_file() else None


def read(config: Path) -> dict[str, Any]:
    """The entries of a config.json. Raises CheckpointError for anything but a JSON object."""
    content = read_json(config)
    if not isinstance(content, dict):
        raise CheckpointError(f"{config}: is no JSON object")
    return content


def architecture(config: Path, content: Mapping[str, Any]) -> str | None:
    """The one class name under `architectures`; None where there is none.

    Raises ConversionError for anything else: several, no list, no text.
    """
    names = content.get("architectures")
    if names is None or names == []:
        return None
    way_out = f"pass {options.option('module')} or {options.option('rules')}"
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConversionError(
            f'{config}: "architectures" is {str(names)[:80]!r}, not a list with the name of a '
            f'class, such as ["BertModel"]; {way_out}'
        )
    if len(names) > 1:
        shown = ", ".join(names)[:80]
        raise ConversionError(
            f'{config}: "architectures" names {len(names)} classes ({shown}), and which one the '
            f"checkpoint is of is not told; {way_out}"
        )
    name: str = names[0]
    return name


def can_build() -> bool:
    """Whether torch and transformers are installed; neither is imported."""
    return installed("torch") and installed("transformers")


def model_class(name: str) -> Any | None:
    """A model class of transformers by its name; None for everything else it exports."""
    import transformers

    if not name.isidentifier() or name.startswith("_"):
        return None
    try:
        cls = getattr(transformers, name, None)
    except Exception:  # it needs a library that is not installed
        return None
    if not isinstance(cls, type) or not issubclass(cls, transformers.PreTrainedModel):
        return None
    return cls if isinstance(getattr(cls, "config_class", None), type) else None


def build(config: Path, content: Mapping[str, Any], name: str, budget: Budget) -> Any | None:
    """The model that a config.json describes, on torch's meta device.

    None where torch or transformers is not installed, or has no such class. Raises CheckpointError
    when the configuration is refused by transformers, or describes more than the budget allows.
    """
    cls = model_class(name) if can_build() else None
    if cls is None:
        return None
    _check_counts(config, content, budget)
    import torch

    try:
        with offline(), _counting(config, budget.modules), torch.device("meta"):
            entries = cleaned(content)
            entries.pop("model_type", None)  # the class has its own
            parsed = cls.config_class.from_dict(entries)
            return cls._from_config(parsed, attn_implementation="eager")
    except CheckpointError:
        raise
    except Exception as error:  # transformers raises what it likes
        raise CheckpointError(f"{config}: transformers cannot build {name}: {error}") from error


def _entries(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of everything in a configuration, in the configurations in it too."""
    waiting: list[tuple[str, Mapping[str, Any]]] = [("", content)]
    while waiting:
        path, entries = waiting.pop()
        for name, value in entries.items():
            here = f"{path}.{name}" if path else name
            yield here, value
            if isinstance(value, dict):
                waiting.append((here, value))


def submodels(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(path, model_type) of the configurations within one."""
    for path, value in _entries(content):
        if isinstance(value, dict) and "model_type" in value:
            yield path, value["model_type"]


def _check_counts(config: Path, content: Mapping[str, Any], budget: Budget) -> None:
    for path, value in _entries(content):
        named = any(word in path.rpartition(".")[2] for word in _COUNTS)
        whole = isinstance(value, int) and not isinstance(value, bool)
        counts = [value] if whole and named else [len(value)] if isinstance(value, list) else []
        numbers = value if isinstance(value, list) and named else []
        counts += [n for n in numbers if isinstance(n, int)]
        most = max(counts, default=0)
        if most > budget.layers:
            raise CheckpointError(
                f"{config}: {path} is {most}, which is more than the checkpoint can hold"
            )


def cleaned(content: Any) -> Any:
    """A configuration without what would import or download something."""
    if isinstance(content, dict) and content.keys() == {"__float__"}:  # infinity is no JSON
        return float(content["__float__"])
    if isinstance(content, dict):
        return {name: cleaned(v) for name, v in content.items() if name not in _UNUSED}
    return [cleaned(value) for value in content] if isinstance(content, list) else content


@contextmanager
def offline() -> Iterator[None]:
    """Within it, huggingface_hub answers every request with an error."""
    from huggingface_hub import constants

    name, before = "HF_HUB_OFFLINE", (os.environ.get("HF_HUB_OFFLINE"), constants.HF_HUB_OFFLINE)
    os.environ[name], constants.HF_HUB_OFFLINE = "1", True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before[1]
        if before[0] is None:
            del os.environ[name]
        else:
            os.environ[name] = before[0]


@contextmanager
def _counting(config: Path, most: int) -> Iterator[None]:
    """Within it, a model with more modules is not built to its end."""
    from torch.nn.modules.module import register_module_module_registration_hook

    count = 0

    def counted(*_: Any) -> None:
        nonlocal count
        count += 1
        if count > most:
            raise CheckpointError(
                f"{config}: describes a model of more than {most} modules, which is more than the "
                "checkpoint can hold"
            )

    handle = register_module_module_registration_hook(counted)
    try:
        yield
    finally:
        handle.remove()


def module_keys(model: Any, keys: Iterator[str] | list[str]) -> dict[str, tuple[str, Any]]:
    """Where transformers loads each key of a checkpoint: (key in the model, its conversion).

    The conversion is None where the tensor is only renamed. Versions of transformers that rename
    nothing on the way are told apart by the prefix of the base model alone.
    """
    state, prefix = model.state_dict(keep_vars=True), f"{model.base_model_prefix}."
    try:
        from transformers import conversion_mapping as mapping
        from transformers import core_model_loading as loading

        steps = mapping.get_model_conversion_mapping(model)
    except (ImportError, AttributeError):
        return {key: (prefixed(key, prefix, state), None) for key in keys}
    renamings = [step for step in steps if isinstance(step, loading.WeightRenaming)]
    converters = [step for step in steps if isinstance(step, loading.WeightConverter)]
    sources = {pattern: step for step in converters for pattern in step.source_patterns}
    found = {}
    for key in sorted(keys, key=loading.dot_natural_key):
        renamed, pattern = loading.rename_source_key(key, renamings, converters)
        if key in state and pattern is None:
            renamed = key
        found[key] = (prefixed(renamed, prefix, state), sources.get(pattern))
    return found


def prefixed(key: str, prefix: str, state: Mapping[str, Any]) -> str:
    """A key as the model has it: with or without the prefix of its base model."""
    bare = key.removeprefix(prefix)
    return next((name for name in (key, bare, prefix + key) if name in state), key)
