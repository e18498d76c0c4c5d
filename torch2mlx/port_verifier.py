"""Driver: a script and what `port` made of it, run side by side: the last step of `port --verify`.

port -> the ported script among the ports of the files that it imports -> verify_training
"""

from __future__ import annotations

import ast
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch2mlx.errors import PortError
from torch2mlx.lockstep.result import TrainingVerification
from torch2mlx.porting.scopes.encoding import encoded
from torch2mlx.training_verifier import verify_training

PortResult = Any  # porter's, which uses this module
#: What makes a gradient in torch, as it stands in sources.
_GRADIENT = (".backward(", "autograd.grad(")


def verified(result: PortResult, options: Mapping[str, Any]) -> TrainingVerification:
    """Runs the script that `result` was made of, and the result; compares them step by step.

    Both scripts run, with this user's rights. The result runs among ports of the files of its
    project that it imports, in a folder of its own; `options` are keywords of `verify_training`.

    Raises PortError where there is no script to run, none of its files takes a gradient, or a
    training step was refused; VerificationError as `verify_training` does.
    """
    script = Path(result.path)
    files = _project(script)
    _check(result, script, files)
    with tempfile.TemporaryDirectory(prefix="torch2mlx-") as name:
        place = _beside(script, result.source, files, Path(name))
        found = verify_training(script, place, **options)
    ported = sorted(file.name for file in torch_files(script))
    if ported:
        among = f"compared among ports of {', '.join(ported)}: port the folder"
        found = replace(found, notes=(*found.notes, among))
    return found


def _check(result: PortResult, script: Path, files: list[Path]) -> None:
    """Raises PortError for what has no training step that can be followed."""
    if script.suffix != ".py" or not script.is_file():
        raise PortError(f"{script}: is run to verify its port, and is no .py file")
    if not any(word in _text(file) for file in (script, *files) for word in _GRADIENT):
        raise PortError(
            f"{script}: trains nothing: neither it nor a file that it imports calls backward(), so "
            "there is no step to verify; give the script that trains"
        )
    for left in result.unsupported:
        line = result.original.splitlines()[left.line - 1] if left.line else ""
        if any(word in line for word in (*_GRADIENT, ".step(")):
            raise PortError(f"{script}:{left.line}: the training step was not ported: {left}")


def torch_files(script: Path) -> list[Path]:
    """The files under a script's folder that it imports, at first or second hand, and that import
    torch; none of a notebook or of source without a file."""
    if script.suffix != ".py" or not script.is_file():
        return []
    return [file for file in _project(script) if _imports_torch(file)]


def _imports_torch(file: Path) -> bool:
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return False
    named = (name for node in ast.walk(tree) for _, name in _names(node, file, file.parent))
    return any(name.partition(".")[0] in ("torch", "torchvision") for name in named)


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


def _project(script: Path) -> list[Path]:
    """The files under a script's folder that it imports, and those that they import."""
    found: list[Path] = []
    waiting = [script]
    while waiting:
        for file in _imports(waiting.pop(), script.parent):
            if file not in found and file != script:
                found.append(file)
                waiting.append(file)
    return found


def _imports(file: Path, root: Path) -> Iterator[Path]:
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return
    for node in ast.walk(tree):
        for folder, name in _names(node, file, root):
            parts = name.split(".") if name else []
            for count in range(1, len(parts) + 1):
                place = folder.joinpath(*parts[:count])
                yield from filter(Path.is_file, (place / "__init__.py", place.with_suffix(".py")))


def _names(node: ast.AST, file: Path, root: Path) -> Iterator[tuple[Path, str]]:
    """Where each module of an import is searched, and its name."""
    if isinstance(node, ast.Import):
        yield from ((root, alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        folder = file.parents[node.level - 1] if node.level else root
        module = node.module or ""
        for alias in node.names:
            yield folder, f"{module}.{alias.name}".strip(".").removesuffix(".*")


def _beside(script: Path, source: str, files: list[Path], folder: Path) -> Path:
    """Writes a ported script and the ports of its project's files; all else there is linked."""
    from torch2mlx.porter import port

    root = script.parent
    texts = {file: port(file).source for file in files}
    for file, text in {**texts, script: source}.items():
        place = folder / file.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(encoded(text))
    _link(root, folder)
    return folder / script.name


def _link(root: Path, folder: Path) -> None:
    """Links what a folder has and another, which has some of it, has not."""
    for path in root.iterdir():
        place = folder / path.name
        if place.is_dir() and not place.is_symlink():
            _link(path, place)
        elif not place.exists() and path.name != "__pycache__":
            place.symlink_to(path.resolve())
