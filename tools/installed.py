"""Run by tools/wheel.sh with the Python of an environment that torch2mlx was installed into.

Imports every module of the package and runs every verb of the command line once, on small data,
in the current folder, which is empty. `--bare`: nothing but numpy is there.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType

#: What a module may fail to import for where only numpy is installed.
OPTIONAL = {"jinja2", "libcst", "mcp", "ml_dtypes", "mlx", "nbformat", "pytest", "torch"}
FACTORY = """
import torch

def small():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten())
    return model.eval(), (torch.randn(2, 3, 8, 8),)
"""
TRAINED = """
import torch

x, model = torch.ones(4, 3), torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(2):
    optimizer.zero_grad()
    model(x).pow(2).mean().backward()
    optimizer.step()
"""
TRAINED_IN_MLX = """
import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

x, model, optimizer = mx.ones((4, 3)), nn.Linear(3, 1), optim.SGD(0.1)
for _ in range(2):
    loss, grads = nn.value_and_grad(model, lambda: mx.square(model(x)).mean())()
    optimizer.update(model, grads)
"""
SCRIPT = "import torch\n\nx = torch.zeros(3)\nprint(x.sum().item())\n"
CONV = ("--rule", "conv=Conv2d")
#: Verb -> command lines, in the order in which they need each other's files.
FULL = {
    "convert": [
        ("given.safetensors", "converted.safetensors", *CONV),
        ("given.pt", "from_pt.safetensors", *CONV),
    ],
    "inspect": [("converted.safetensors",), ("given.pt", "--json")],
    "revert": [("converted.safetensors", "back.safetensors"), ("from_pt.safetensors", "back.pt")],
    "analyze": [
        ("given.safetensors", "--html", "page.html", "--sarif", "found.sarif", "--fail-on", "none")
    ],
    "translate": [("factory:small", "translated")],
    "verify": [("factory:small", "translated")],
    "generate": [],  # mlx-lm is not there
    "port": [("script.py", "ported.py"), ("script.py", "--format", "html")],
    "verify-training": [("train.py", "train_mlx.py", "--steps", "2")],
    "doctor": [(), ("--format", "json")],
    "completion": [("bash",), ("zsh",), ("fish",)],
    "mcp": [("--root", ".")],
    "agent-files": [("agents",)],
    "schema": [()],
}
BARE = {
    "convert": FULL["convert"][:1],
    "inspect": FULL["inspect"][:1],
    "revert": FULL["revert"][:1],
    "analyze": [("given.safetensors", "--sarif", "found.sarif", "--fail-on", "none")],
    "doctor": FULL["doctor"],
    "agent-files": FULL["agent-files"],
    "schema": FULL["schema"],
}
#: Where numpy is alone: what needs more says so.
LACKING = {
    "revert": [("converted.safetensors", "back.pt")],
    "analyze": FULL["analyze"],
    "translate": FULL["translate"],
    "verify": FULL["verify"],
    "generate": [("translated", "hello")],
    "port": FULL["port"],
    "verify-training": FULL["verify-training"],
    "completion": FULL["completion"],
    "mcp": FULL["mcp"],
}


def inside(module: ModuleType) -> None:
    """Asserts that a module comes from this environment."""
    where = Path(str(module.__file__)).resolve()
    assert Path(sys.prefix).resolve() in where.parents, f"{module.__name__} comes from {where}"


def import_all(bare: bool) -> int:
    """Imports every module; the number of them. Raises what an import raises."""
    import torch2mlx
    from torch2mlx.errors import MissingLibraryError

    inside(torch2mlx)
    count = 0
    for found in pkgutil.walk_packages(torch2mlx.__path__, "torch2mlx.", onerror=lambda _: None):
        if found.name == "torch2mlx.__main__":
            continue
        try:
            inside(importlib.import_module(found.name))
        except ImportError as error:
            told = isinstance(error, MissingLibraryError)
            if not bare or not (told or (error.name or "").partition(".")[0] in OPTIONAL):
                raise
        count += 1
    return count


def write_sources(bare: bool) -> None:
    """The files that the verbs read; safetensors bytes are put together by hand."""
    shape, words = (4, 3, 2, 2), list(range(48))
    entry = {"dtype": "F32", "shape": shape, "data_offsets": (0, 4 * len(words))}
    header = json.dumps({"conv.weight": entry}).encode()
    data = struct.pack(f"<{len(words)}f", *words)
    Path("given.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)
    Path("factory.py").write_text("small = lambda: (None, ())\n" if bare else FACTORY)
    Path("script.py").write_text(SCRIPT)
    Path("train.py").write_text(TRAINED)
    Path("train_mlx.py").write_text(TRAINED_IN_MLX)
    if not bare:
        import torch

        torch.save({"conv.weight": torch.arange(48.0).reshape(shape)}, "given.pt")


def refused(*command: str) -> None:
    """Runs a command that lacks a library: one line, with the command that brings it."""
    ran = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    shown = f"{' '.join(command)}: exit {ran.returncode}\n{ran.stderr}"
    assert ran.returncode == 1 and ran.stderr.count("\n") == 1, shown
    assert "pip install 'torch2mlx[" in ran.stderr, shown


def run(*command: str) -> str:
    """Standard output of a command that has to succeed."""
    ran = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if ran.returncode:
        raise SystemExit(f"installed: {' '.join(command)}: exit {ran.returncode}\n{ran.stderr}")
    return ran.stdout


def run_verbs(bare: bool) -> int:
    """Runs the command lines; their number."""
    command = str(Path(sys.executable).parent / "torch2mlx")
    verbs = set(re.search(r"\{([a-z,-]+)\}", run(command, "--help"))[1].split(","))
    assert verbs == set(FULL), f"tools/installed.py runs {sorted(FULL)}, there are {sorted(verbs)}"
    lines = [(verb, *line) for verb, rows in (BARE if bare else FULL).items() for line in rows]
    for line in lines:
        run(command, *line)
    lacking = [(verb, *line) for verb, rows in LACKING.items() for line in rows] if bare else []
    for line in lacking:
        refused(command, *line)
    assert "torch2mlx" in run(sys.executable, "-m", "torch2mlx", "--help")
    return len(lines) + len(lacking)


def check_results(bare: bool) -> None:
    """What came back is what was given; the port speaks MLX."""
    size = 4 * 48
    given, back = (Path(f"{name}.safetensors").read_bytes()[-size:] for name in ("given", "back"))
    assert given == back, "revert gave other bytes"
    if not bare:
        import torch

        one, two = torch.load("given.pt"), torch.load("back.pt")
        assert torch.equal(one["conv.weight"], two["conv.weight"])
        assert "mx.zeros" in Path("ported.py").read_text()
        assert Path("translated", "model.py").exists()


def main() -> None:
    """All of it; raises at what fails first."""
    bare = "--bare" in sys.argv
    write_sources(bare)
    count = import_all(bare)
    lines = run_verbs(bare)
    check_results(bare)
    print(f"installed: {count} modules imported, {lines} commands ran, in {Path(sys.prefix).name}")


if __name__ == "__main__":
    main()
