"""Modules that others wrote, each translated and compared: `python -m tests.zoo.strangers FOLDER`.

    python -m tests.zoo.strangers FOLDER [--files N] [--seed S] [--first 0-7] [--out FILE]

FOLDER (or the environment variable T2M_STRANGERS) is a checkout of jansel/pytorch-jit-paritybench,
which is fetched apart and of which nothing is kept here: 2,000 files of modules from as many
repositories, with the arguments to make and to call them. `--first` takes the files whose SHA-256
of the name begins with one of those digits. Every file runs in a process of its own, in which a
package that is missing is a mock. The table says how many modules torch itself runs, how many of
those torch.export takes, and of these how many translate right, are refused by name, are wrong or
end in another error. Exit status 1 when one is wrong or ends in another error.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import resource
import signal
import sys
import types
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

from tests.processes import Ended, side_by_side

SECONDS_OF_A_MODULE, SECONDS_OF_A_FILE, MEMORY = 60, 300, 12 << 30
RIGHT, REFUSED, WRONG, BROKEN = "right", "refused", "wrong", "another error"
UNEXPORTED, UNRUN, SLOW, UNSTABLE = "not exported", "not run by torch", "too slow", "incomparable"


class TooLong(BaseException):
    """The time of a module is up; no handler of ordinary errors takes it for one."""


class _Mocked(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds every package that is not installed, as a mock."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> Any:
        module = MagicMock(name=spec.name)
        module.__path__, module.__all__ = [], []
        self.made.append(spec.name)
        return module

    def exec_module(self, module: Any) -> None:
        """There is nothing to run."""


class _Config(dict):  # type: ignore[type-arg]
    """A dict whose items are attributes too."""

    __getattr__ = dict.__getitem__


def _mock_layer(inputs: Any = None, outputs: Any = None, *_: Any, **options: Any) -> Any:
    from torch import nn

    return nn.Linear(inputs, outputs, **options) if inputs and outputs else nn.ReLU()


def _patch_functional() -> None:
    """Some files take torch.functional for torch.nn.functional, or the other way round."""
    import torch

    one, other = vars(torch.functional), vars(torch.nn.functional)
    for name in [*one, *other]:
        if name[0].islower():
            one.setdefault(name, other.get(name))
            other.setdefault(name, one.get(name))


def _imported(path: Path) -> Any:
    """The module of a file. What it imports and is missing here is a mock while it is read."""
    import torch

    helpers = types.ModuleType("_paritybench_helpers")
    vars(helpers).update(
        _mock_config=_Config,
        _mock_layer=_mock_layer,
        patch_functional=_patch_functional,
        _fails_compile=lambda: lambda method: method,
        _paritybench_base=object,
    )
    sys.modules[helpers.__name__] = helpers
    finder = _Mocked()
    sys.meta_path.append(finder)
    try:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    finally:
        sys.meta_path.remove(finder)
        for name in finder.made:
            sys.modules.pop(name, None)
    torch.manual_seed(0)
    return module


def _verdict(kind: Any, make: Any, call: Any) -> tuple[str, str]:
    """What becomes of one module, and why."""
    import torch

    from torch2mlx import errors, translate, verify

    try:
        torch.manual_seed(0)
        args, kwargs = make()
        model = kind(*args, **kwargs).eval()
        args, kwargs = call()
        torch.manual_seed(0)
        with torch.no_grad():
            model(*args, **kwargs)
    except Exception as problem:
        return UNRUN, type(problem).__name__
    try:
        made = translate(model, tuple(args), kwargs)
        checked = verify(model, made, tuple(args), kwargs)
    except errors.ExportError as problem:
        return UNEXPORTED, str(problem)
    except errors.Torch2MLXError as problem:
        return REFUSED, str(problem)
    except Exception as problem:
        return BROKEN, f"{type(problem).__name__}: {problem}"
    verdicts = {"equal": RIGHT, "differs": WRONG}
    return verdicts.get(checked.verdict, UNSTABLE), "" if checked.ok else str(checked)


def _late(*_: Any) -> None:
    raise TooLong


def _work(path: Path, out: Any) -> None:
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    sink = os.open(os.devnull, os.O_WRONLY)  # the files of strangers print
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGPROF, _late)
    try:
        cases = _imported(path).TESTCASES
    except BaseException:
        cases = []
    for kind, make, call, *_ in cases:
        if not isinstance(kind, type):  # the class of a package that is a mock here
            continue
        signal.setitimer(signal.ITIMER_PROF, SECONDS_OF_A_MODULE)
        try:
            verdict = _verdict(kind, make, call)
        except TooLong:
            verdict = SLOW, ""
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        out.send((path.stem, kind.__name__, *verdict))


def chosen(folder: Path, files: int, seed: int, first: str) -> list[Path]:
    """The files to run: a random choice of those whose hashes begin with one of the digits."""
    low, _, high = first.partition("-")
    found = [
        path
        for path in sorted((folder / "generated").glob("test_*.py"))
        if low <= hashlib.sha256(path.name.encode()).hexdigest()[0] <= (high or low)
    ]
    return sorted(random.Random(seed).sample(found, min(files, len(found))))


def results(paths: Sequence[Path], beside: int) -> Iterator[tuple[str, str, str, str]]:
    """Rows (file, module, verdict, reason) in the order they come."""
    import torch.export
    import transformers.modeling_utils

    import torch2mlx.translator
    import torch2mlx.verifier

    assert torch.export and transformers.modeling_utils  # imported before processes are forked
    assert torch2mlx.translator and torch2mlx.verifier
    for path, found in side_by_side(paths, _work, SECONDS_OF_A_FILE, beside):
        if not isinstance(found, Ended):
            yield found
        elif found.late:
            yield path.stem, "", SLOW, ""
        elif found.code:
            yield path.stem, "", BROKEN, f"the process ended with {found.code}"


def main() -> int:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", default=os.environ.get("T2M_STRANGERS"))
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", default="0-7")
    parser.add_argument("--beside", type=int, default=2, help="processes side by side")
    parser.add_argument("--out", help="write every row as JSON lines")
    options = parser.parse_args()
    if not options.folder:
        parser.error("name a checkout of jansel/pytorch-jit-paritybench, or set T2M_STRANGERS")
    paths = chosen(Path(options.folder), options.files, options.seed, options.first)
    counts: Counter[str] = Counter()
    with open(options.out or os.devnull, "w") as kept:
        for row in results(paths, options.beside):
            counts[row[2]] += 1
            print(json.dumps(row), file=kept, flush=True)
            if row[2] not in (RIGHT, UNRUN, UNEXPORTED):
                print(*row[:3], " ".join(row[3].split())[:200], file=sys.stderr, flush=True)
    taken = sum(counts[v] for v in (RIGHT, REFUSED, WRONG, BROKEN))
    share = f"{counts[RIGHT] / taken:.1%}" if taken else "none"
    told = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    print(f"strangers: {len(paths)} files: {told}; right of those that torch.export takes: {share}")
    return 1 if counts[WRONG] or counts[BROKEN] else 0


if __name__ == "__main__":
    sys.exit(main())
