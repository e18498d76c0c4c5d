"""Runs a script in torch, ports it, and runs the ported one from the same weights in MLX."""

from __future__ import annotations

import importlib.util
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

SCRIPTS = Path(__file__).parent / "scripts"


def names() -> list[str]:
    """All scripts."""
    return sorted(path.stem for path in SCRIPTS.glob("*.py"))


def available(name: str) -> bool:
    """Whether the folder that a script reads is there."""
    text = (SCRIPTS / f"{name}.py").read_text()
    told = re.search(r'^REQUIRES = "(.*)"$', text, re.M)
    return told is None or Path(told[1]).is_dir()


def loaded(name: str) -> Any:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(f"script_{name}", SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


def executed(source: str, name: str) -> Any:
    """Ported source as a module."""
    module = types.ModuleType(f"ported_{name}")
    sys.modules[module.__name__] = module
    exec(compile(source, f"<{name} in MLX>", "exec"), module.__dict__)
    return module


def both(text: str, name: str) -> tuple[Any, dict[str, Any]]:
    """The port of a script of torch as a module, of which nothing may be refused, and what the
    script itself has."""
    import torch2mlx

    theirs: dict[str, Any] = {"__name__": "in_torch"}
    exec(text, theirs)
    result = torch2mlx.port(text)
    assert not result.unsupported
    return executed(result.source, name), theirs


def assert_trains_alike(text: str, name: str, folder: Path) -> None:
    """Compares the weights of the modules `net` and `head` of a script and its port after
    `train(xs)`, xs (updates, batch, 4), at two batches from the same weights."""
    ours, theirs = both(text, name)
    for module in ("net", "head"):
        give_weights(getattr(ours, module), theirs[module], folder)
    draws = np.random.default_rng(0)
    for updates, batch in ((3, 2), (2, 5)):
        xs = draws.standard_normal((updates, batch, 4)).astype(np.float32)
        ours.train(xs)
        theirs["train"](xs)
    for module in ("net", "head"):
        for key, expected in theirs[module].named_parameters():
            got = np.array(getattr(ours, module)[key])
            np.testing.assert_allclose(got, expected.detach().numpy(), rtol=1e-5, atol=1e-6)


def several(value: Any) -> tuple[Any, ...]:
    """What `build` gives, as a tuple."""
    return value if isinstance(value, tuple) else (value,)


def give_weights(model: Any, torch_model: Any, folder: Path) -> None:
    """The converted weights of a torch model, loaded strictly."""
    import torch2mlx
    from torch2mlx import kit

    path = folder / "weights.safetensors"
    torch2mlx.convert(torch_model, path, on_unmapped="ignore")
    kit.files.load_state_dict(model, torch2mlx.load_converted(path), strict=True)


def curves(name: str, folder: Path) -> tuple[list[float], list[float], Any]:
    """Numbers from torch, from the ported script, and the port itself."""
    import torch

    import torch2mlx

    torch.manual_seed(0)
    np.random.seed(0)
    theirs = loaded(name)
    models = several(theirs.build())
    result = torch2mlx.port(SCRIPTS / f"{name}.py")
    ours = executed(result.source, name)
    made = several(ours.build())
    for mine, model in zip(made, models, strict=True):
        give_weights(mine, model, folder)
    expected = theirs.run(*models)
    return expected, ours.run(*made), result
