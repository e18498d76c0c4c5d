"""Driver: `port` rewrites PyTorch source as MLX source, and says what changed and what did not."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch2mlx.checkpoint.write.replacing import Guard, paths_of
from torch2mlx.checkpoint.write.tree import (
    Content,
    Link,
    check_one,
    check_tree,
    write_small,
    write_tree,
)
from torch2mlx.common import cards
from torch2mlx.common.amounts import counted
from torch2mlx.common.optional import need
from torch2mlx.errors import PortError, Unsupported
from torch2mlx.lockstep.result import TrainingVerification
from torch2mlx.porting.questions import (
    Question,
    Seen,
    asked_once,
    check_answers,
    check_files,
    in_file,
    of_file,
    types_of,
)
from torch2mlx.porting.report import Change, Report
from torch2mlx.porting.scopes.encoding import decoded, encoded
from torch2mlx.porting.unported import left_whole, no_python


@dataclass(frozen=True)
class PortResult:
    """One ported file: its `source`, the `changes` that were made, with reasons, and what is
    `unsupported`: those lines keep their code under a comment. `torch`: whether it imports it.
    `questions`: what the source does not tell and the port has to know; `port` takes answers.
    `verified`: how training went beside the original, where that was asked for."""

    source: str
    changes: tuple[Change, ...]
    unsupported: tuple[Unsupported, ...]
    original: str = ""
    path: str = "<source>"
    torch: bool = True
    questions: tuple[Question, ...] = ()
    verified: TrainingVerification | None = None
    seen: tuple[Seen, ...] = ()  # decisions that rest on a run of the script
    failed: str = ""  # why a file of a folder was left as it is, whole

    @property
    def ok(self) -> bool:
        """Whether everything was ported."""
        return not self.unsupported

    @property
    def beside(self) -> tuple[str, ...]:
        """Files under its folder that it imports and that import torch: they need a port too."""
        from torch2mlx.port_verifier import torch_files

        return tuple(map(str, torch_files(Path(self.path))))

    def __repr__(self) -> str:
        return f"<PortResult: {self.headline()}>"

    def headline(self) -> str:
        """One line: what changed, what is left, what is asked."""
        return (
            f"{self.path}, {counted(len(self.changes), 'change')}, "
            f"{counted(len(self.unsupported), 'place')} left, "
            f"{counted(len(self.questions), 'question')}"
        )

    def _repr_html_(self) -> str:
        rows = [(c.line, c.what, c.why, c.check) for c in self.changes]
        return cards.card(
            self.headline(),
            {},
            cards.lines("Left for you", (f"line {u.line}: {u.reason}" for u in self.unsupported)),
            cards.lines("Questions", (f"line {q.line}: {q}" for q in self.questions)),
            cards.side_by_side("Source", self.original, self.source),
            cards.table("Changes", ("line", "what", "why", "to check"), rows),
        )

    @property
    def report(self) -> str:
        """What changed and what is left, as Markdown."""
        from torch2mlx.report.port import as_markdown

        return as_markdown([self])

    def diff(self) -> str:
        """A unified diff of the original and the ported source."""
        old, new = (text.splitlines(keepends=True) for text in (self.original, self.source))
        return "".join(difflib.unified_diff(old, new, self.path, f"{self.path} (MLX)"))


@dataclass(frozen=True)
class _Wishes:
    """How images lie between layers, and what loads data."""

    layout: str
    data: str
    answers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, known in (("layout", ("mlx", "torch")), ("data", ("kit", "mlx-data"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}: {known[0]!r} or {known[1]!r}")


def port(
    source: str | os.PathLike[str],
    layout: str = "mlx",
    data: str = "kit",
    answers: Mapping[str, str] = MappingProxyType({}),
    *,
    run: Sequence[str] | None = None,
    verify: bool | Mapping[str, Any] = False,
) -> PortResult:
    """Rewrites a PyTorch script, module or notebook as MLX source.

    `source`: Python source as text, or the path of a .py or .ipynb file. Comments, formatting and
    structure stay; a file that does not import torch comes back as it is. `layout`: with "mlx",
    images are (N, *spatial, C) between the layers of a network, which is called with (N, C,
    *spatial) as before; with "torch" they are that everywhere. `data`: with "kit", DataLoader is
    `kit.data`'s; with "mlx-data" its workers are threads of mlx.data (`kit.streams`). `answers`:
    to `questions` of an earlier port of this source, by their ids. `run`: arguments of the script,
    which runs in a copy of its folder for a few steps; what its names hold there answers questions,
    and `seen` says which. `verify`: True, or keywords of `verify_training`, runs the script and its
    port and compares their training: `verified`.

    Raises ValueError for other values of these; PortError for what is no Python (with line and
    column), for answers to what was not asked, for a script that trains nothing when it is to be
    verified, and when libcst is missing.
    """
    wishes = _Wishes(layout, data, answers)
    text, path = _read(source)
    made = (_notebook if path.endswith(".ipynb") else _source)(text, path, wishes)
    if run is not None:
        from torch2mlx.port_runner import with_run

        made = with_run(made, run, lambda told: port(source, layout, data, {**answers, **told}))
    if not isinstance(verify, Mapping) and not verify:
        return made
    from torch2mlx.port_verifier import verified

    return replace(made, verified=verified(made, verify if isinstance(verify, Mapping) else {}))


#: What is ported; other files are copied.
_SOURCES = (".py", ".pyw", ".ipynb")
#: Names of libraries that ported code imports: a folder of such a name would be found first.
_SHADOWING = ("mlx", "numpy", "torch2mlx", "torch", "transformers")


def port_folder(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    layout: str = "mlx",
    data: str = "kit",
    answers: Mapping[str, str] = MappingProxyType({}),
    *,
    force: bool = False,
    dry_run: bool = False,
) -> list[PortResult]:
    """Ports every .py and .ipynb file under a folder into another; other files are copied.

    Symbolic links that lead out of the folder are copied as links. A file that is there already
    and differs is replaced with `force` alone. `dry_run`: nothing is written. `answers`: as `port`
    takes them, with the file's path in the folder before the id, "net.py:f.x". A file that is no
    Python is copied; its result has `failed`, the error.

    Raises PortError when there is no file to port, when the target is the source, has
    the name of a library that ported code imports, or has a file that differs; nothing is written
    then.
    """
    return port_tree(source, out, layout, data, Replacing(force, dry_run), answers)[0]


@dataclass(frozen=True)
class Replacing:
    """How a folder is written: `force` replaces a file that differs, `dry_run` writes nothing."""

    force: bool = False
    dry_run: bool = False


def port_tree(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    layout: str,
    data: str,
    how: Replacing,
    answers: Mapping[str, str] = MappingProxyType({}),
) -> tuple[list[PortResult], list[Path]]:
    """What `port_folder` does and gives, with the files that the target then has."""
    root, target = Path(source), Path(out)
    if not root.is_dir():
        raise PortError(f"{root}: no such folder")
    if target.resolve() == root.resolve() or root.resolve() in target.resolve().parents:
        raise PortError(f"{target}: lies in the source; write somewhere else")
    if target.name in _SHADOWING:
        raise PortError(f"{target}: a package of this name hides the library; choose another name")
    files = _files(root)
    results = _all_ported(root, _sources(root, files), _Wishes(layout, data, answers))
    contents = {p.relative_to(root): _content(p, results.get(p), root) for p in files}
    keep = check_tree if how.dry_run else write_tree
    keep(target, contents, Guard(tuple(files), how.force))
    return list(results.values()), [target / path for path in contents]


def _files(root: Path) -> list[Path]:
    """The files under a folder that a port of it has too."""
    return sorted(p for p in root.rglob("*") if p.is_file() and "__pycache__" not in p.parts)


def ported(
    root: Path,
    layout: str = "mlx",
    data: str = "kit",
    answers: Mapping[str, str] = MappingProxyType({}),
) -> dict[Path, PortResult]:
    """The ports of all sources under a folder, by path. Raises PortError where there is none."""
    return _all_ported(root, sources_of(root), _Wishes(layout, data, answers))


def _all_ported(root: Path, sources: list[Path], wishes: _Wishes) -> dict[Path, PortResult]:
    results, files = {}, {path: path.relative_to(root).as_posix() for path in sources}
    check_files(wishes.answers, files.values())
    for path, file in files.items():
        asked = of_file(wishes.answers, file)
        try:
            made = port(path, wishes.layout, wishes.data, asked)
        except Exception as error:
            if asked:
                raise
            made = PortResult("", (), (left_whole(error),), "", str(path), failed=str(error))
        results[path] = replace(made, questions=in_file(made.questions, file))
    return results


def sources_of(root: Path) -> list[Path]:
    """The sources under a folder. Raises PortError where there is none."""
    return _sources(root, _files(root))


def _sources(root: Path, files: list[Path]) -> list[Path]:
    found = [path for path in files if path.suffix in _SOURCES]
    if not found:
        raise PortError(f"{root}: nothing to port: it holds no .py or .ipynb file")
    return found


def write(result: PortResult, place: Path, *, force: bool = False, dry_run: bool = False) -> None:
    """Writes a ported file, byte for byte what it says. `dry_run`: it is checked alone.

    Raises PortError when it would replace the source, or, without `force`, a file that differs.
    """
    guard = Guard(paths_of(Path(result.path)), force)
    if dry_run:
        check_one(place, encoded(result.source), guard)
    else:
        write_small(place, encoded(result.source), guard)


def _content(path: Path, result: PortResult | None, root: Path) -> Content:
    if result is not None and not result.failed:
        return encoded(result.source)
    if path.is_symlink() and root.resolve() not in path.resolve().parents:
        return Link(os.readlink(path))
    return path


def _notebook(text: str, path: str, wishes: _Wishes) -> PortResult:
    need("porting a notebook", "nbformat")
    import nbformat

    from torch2mlx.porting.scopes.notebook import joined, placed

    try:
        notebook = nbformat.reads(text, as_version=4)
    except Exception as error:  # nbformat raises what it likes
        reason = "it has not the structure of one"
        if isinstance(error, ValueError):
            reason = f"{str(error).strip().partition(chr(10))[0]:.100}"
        why = f"is no notebook: {reason}"
        raise PortError(f"{path}: {why}", why=why) from error
    made = _source(joined(notebook), path, wishes)
    if not made.changes and not made.unsupported:
        return PortResult(text, (), (), text, path, made.torch)
    placed(notebook, made.source)
    return replace(made, source=nbformat.writes(notebook), original=text)


def _source(text: str, path: str, wishes: _Wishes) -> PortResult:
    need("port", "libcst")
    import libcst as cst

    from torch2mlx.porting.scopes.import_table import imports_torch
    from torch2mlx.porting.scopes.traversal import uncollected
    from torch2mlx.porting.types.starred import with_stars

    try:
        with uncollected():
            module = cst.parse_module(text)
    except cst.ParserSyntaxError as problem:
        raise no_python(text, path, problem) from problem
    if "import *" in text:
        module = with_stars(module, path)
    if not imports_torch(module):
        check_answers(types_of(wishes.answers), set(), {})
        return PortResult(text, (), (), text, path, torch=False)
    with uncollected():
        return _ported(module, text, path, wishes)


def _read(source: str | os.PathLike[str]) -> tuple[str, str]:
    """(text, path) of a path or of source itself."""
    if isinstance(source, os.PathLike) or (
        "\n" not in source and source.endswith((".py", ".ipynb"))
    ):
        place = Path(source)
        if not place.is_file():
            raise PortError(f"{place}: no such file")
        if place.suffix not in _SOURCES:
            raise PortError(f"{place}: nothing to port: it is no .py or .ipynb file")
        return decoded(place), str(place)
    return source, "<source>"


def _ported(module: Any, text: str, path: str, wishes: _Wishes) -> PortResult:
    from torch2mlx.porting.compiling.finishing import no_python_made, on_no_gpu, with_steps_compiled
    from torch2mlx.porting.rules.imports import with_imports
    from torch2mlx.porting.rules.leftover import remaining
    from torch2mlx.porting.rules.plain_steps import with_plain_steps
    from torch2mlx.porting.scopes.import_table import collect
    from torch2mlx.porting.scopes.lines import line_map
    from torch2mlx.porting.scopes.own_names import given_back
    from torch2mlx.porting.scopes.passes import passed, printed
    from torch2mlx.porting.training.optimizers import trained_modules
    from torch2mlx.porting.training.steps_rewritten import Training
    from torch2mlx.porting.types.called_elsewhere import known_beside
    from torch2mlx.porting.types.infer import inferred

    module, own = _apart(module, text)
    first, report = collect(module), Report.of(module, text)
    plain = with_plain_steps(module, first, text, report)
    names = first if plain is module else collect(plain)
    told = _inferred(plain, names, known_beside(plain, path), wishes)
    plain, told = _with_torchs_weights(plain, told, text, report)
    training = Training(told.names, told, trained_modules(plain, told.names), report)
    stepped = passed(plain, training)
    between = stepped.code
    later = report.after(stepped, between)
    names = collect(stepped)
    types = inferred(stepped, names, told.foreign, told.answers)
    made = _by_rules((stepped, between), types, later, training.made, path, wishes)
    made, texts = given_back(made, own), dict[Any, str]()
    imported = with_imports(made, _named(printed(made, texts), own), own)
    final, steps = with_steps_compiled(text, _named(printed(imported, texts), own), training.made)
    lines = line_map(text, between)
    changes = [*report.changes, *(_moved(c, lines) for c in later.changes), *steps]
    left = report.all_refused(_moved(u, lines) for u in later.unsupported)
    left += remaining(first, imported, text, later)
    broken = no_python_made(text, final)
    left += [] if broken is None else [broken]
    changes += on_no_gpu(text, final) if broken is None else []
    open_ = [*report.questions, *(_moved(q, lines) for q in later.questions)]
    asked = _in_order(asked_once(open_, training.made))
    return PortResult(final, _in_order(changes), _in_order(left), text, path, questions=asked)


def _apart(module: Any, text: str) -> tuple[Any, Any]:
    """The file with a line for each statement and attributes for literal `getattr`, its own names
    that MLX's would hide set aside; and those names."""
    from torch2mlx.porting.rules.plain_assignments import MARKS, PlainAssignments
    from torch2mlx.porting.scopes.import_table import collect
    from torch2mlx.porting.scopes.literal_attributes import LiteralAttributes, needed
    from torch2mlx.porting.scopes.own_names import set_aside
    from torch2mlx.porting.scopes.passes import passed
    from torch2mlx.porting.scopes.same_branches import MARK, SameBranches
    from torch2mlx.porting.scopes.separate_lines import with_separate_lines

    module = with_separate_lines(module)
    if needed(text, module):
        module = passed(module, LiteralAttributes(collect(module)))
    if any(mark in text for mark in MARKS):
        module = passed(module, PlainAssignments())
    if MARK in text:
        module = passed(module, SameBranches())
    return set_aside(module, collect(module))


def _inferred(module: Any, names: Any, beside: Any, wishes: _Wishes) -> Any:
    """The types of a file, by what was answered too. Raises PortError for answers amiss."""
    from torch2mlx.porting.types.infer import inferred

    answers = types_of(wishes.answers)
    found = inferred(module, names, beside, answers)
    check_answers(answers, found.heard, found.denied)
    return found


def _with_torchs_weights(module: Any, types: Any, text: str, report: Report) -> tuple[Any, Any]:
    """A file that reads and sets weights and options of layers as torch has them; its types."""
    from torch2mlx.porting.rules.layer_weights import LayerWeights, needed
    from torch2mlx.porting.scopes.import_table import collect
    from torch2mlx.porting.scopes.passes import passed
    from torch2mlx.porting.training.changed_views import with_views_refused
    from torch2mlx.porting.training.detached import with_detached
    from torch2mlx.porting.training.given_parameters import with_ties
    from torch2mlx.porting.training.held_written import with_weights_read
    from torch2mlx.porting.types.infer import inferred

    cut = (with_detached,) if ".detach_(" in text else ()
    for written in (*cut, with_views_refused, with_ties):
        made = written(module, types, report)
        if made is not module:
            report.follow(made, text)
            module, types = made, inferred(made, collect(made), types.foreign, types.answers)
    read, types = with_weights_read(module, types, report)
    if read is not module:
        report.follow(read, text)
    module = read
    if not needed(module):
        return module, types
    made = passed(module, LayerWeights(types, report))
    if made is module:
        return module, types
    report.follow(made, text)
    return made, inferred(made, collect(made), types.foreign, types.answers)


def _by_rules(
    file: tuple[Any, str], types: Any, report: Report, steps: set[str], path: str, wishes: _Wishes
) -> Any:
    """A file, of which tree and text are given, in MLX; `steps`: functions of training steps."""
    from torch2mlx.porting.rules.known import context
    from torch2mlx.porting.rules.rewrite import Rewriter
    from torch2mlx.porting.types.project import shown_to

    (module, text), names = file, types.names
    shown = shown_to(path, names.classes) if wishes.layout == "mlx" else None
    known = context(module, text, types, report, steps, shown, wishes.data)
    return module.visit(Rewriter(known))


def _in_order(items: list[Any]) -> tuple[Any, ...]:
    return tuple(sorted(items, key=lambda item: item.line))


def _named(text: str, own: frozenset[str] = frozenset()) -> str:
    """A text with the names that stand for MLX's modules while torch's are still imported; `own`:
    those that the file has of its own."""
    from torch2mlx.porting.scopes.own_names import OTHER
    from torch2mlx.porting.training.steps_rewritten import NAMES

    for other, name in NAMES.items():
        text = text.replace(other, OTHER[name] if name in own else name)
    return text


def _moved(item: Any, lines: dict[int, int]) -> Any:
    return replace(item, line=lines.get(item.line, item.line))
