"""The golden record: everything that the package says, as text, to compare two trees by.

    python -m tools.golden write FOLDER [--zoo] [SECTION ...]   one text file for each thing said
    python -m tools.golden compare BEFORE AFTER                 exit status 1 where they differ

A change that moves code is right when the two records are equal; one that changes what is emitted
shows here what it changed. Sections: models (translated source and notes), layers (what stands for
each torch layer), operators (rows of op_mapping), scripts and expressions (ported source and
report), reports (of the analyzer), help (of the command line), names (of the public modules).
`--zoo` adds the architectures of transformers, which takes about an hour.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from torch2mlx.errors import Torch2MLXError

ROOT = Path(__file__).resolve().parent.parent
#: Modules that users import by name, as the documents and emitted files do.
PUBLIC = (
    *("torch2mlx", "torch2mlx.analyzer", "torch2mlx.converter", "torch2mlx.errors"),
    *("torch2mlx.inspector", "torch2mlx.kit", "torch2mlx.op_mapping", "torch2mlx.optimizer_state"),
    *("torch2mlx.porter", "torch2mlx.registry", "torch2mlx.reverter", "torch2mlx.state_dict"),
    *("torch2mlx.templates", "torch2mlx.testing", "torch2mlx.translator", "torch2mlx.types"),
    *("torch2mlx.verifier", "torch2mlx.checkpoint.plan.planner", "torch2mlx._core"),
)
Said = Iterator[tuple[str, Callable[[], str]]]


def models() -> Said:
    """Small networks, the planted ones and the gallery's."""
    from tests.export import planted
    from tests.export.models import small_models
    from tools.make_gallery import MODELS

    for name, (model, args) in small_models().items():
        yield f"small.{name}", partial(_translated, model, args, {})
        yield f"small.{name}.training", partial(_trained, model, args)
    for name in planted.PLANTED:
        yield f"planted.{name}", partial(_planted, name)
    for name, make in MODELS.items():
        yield f"gallery.{name}", partial(_made, make)


def zoo() -> Said:
    """Architectures of transformers at toy size."""
    from tests.zoo.build import names, working

    def said(name: str) -> str:
        model, given = working(name)
        return _translated(model, (), given)

    for name in names():
        yield name, partial(said, name)


def layers() -> Said:
    """The twin of each layer of the grid, and the rows of the registry."""
    from tests.catalog.test_grid import FAMILIES
    from torch2mlx import registry

    for name in registry.registered_names():
        yield f"rule.{name}", partial(_shown, registry.lookup, name)
    for cases in FAMILIES.values():
        for case in cases:
            yield f"twin.{case.name}", partial(_twin, case)


def _twin(case: Any) -> str:
    from torch2mlx.catalog.layers import find_twin

    return repr(find_twin(case.make()))


def operators() -> Said:
    """Rows of op_mapping."""
    from torch2mlx.op_mapping import known_ops

    for row in known_ops():
        yield row.torch, partial(repr, row)


def scripts() -> Said:
    """Ported scripts."""
    for path in sorted((ROOT / "tests" / "porting" / "scripts").glob("*.py")):
        for layout in ("mlx", "torch"):
            yield f"{path.stem}.{layout}", partial(_ported, path.read_text(), layout)


def expressions() -> Said:
    """Ported expressions, each alone."""
    from tests.porting.expressions import expressions as lines
    from tests.porting.test_expressions import source

    for number, line in enumerate(lines()):
        yield f"{number:04d}", partial(_ported, source([line]), "mlx")


def reports() -> Said:
    """Reports of the analyzer."""
    from tests.analysis.models import CASES

    for name, (make, *_) in CASES.items():
        yield name, partial(_analyzed, make)


def help() -> Said:
    """Help of the command line and of its verbs."""
    from torch2mlx.cli.parser import VERBS, parser

    yield "torch2mlx", parser().format_help
    for verb in VERBS:
        yield verb.name, partial(_help, verb.name)


def _help(verb: str) -> str:
    from torch2mlx.cli.parser import parser

    (commands,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return commands.choices[verb].format_help()


def names() -> Said:
    """Public names of the modules that users import."""
    for module in PUBLIC:
        yield module, partial(_public, module)


def _public(module: str) -> str:
    made = importlib.import_module(module)
    if hasattr(made, "__all__"):
        return "\n".join(sorted(made.__all__))
    found = (name for name in sorted(dir(made)) if not name.startswith("_"))
    # which modules are attributes of a package depends on what was imported before
    return "\n".join(name for name in found if not isinstance(vars(made).get(name), ModuleType))


def _trained(model: Any, args: Any) -> str:
    return _translated(model.train(), args, {})


def _planted(name: str) -> str:
    from tests.export import planted

    return _translated(planted.build(name), planted.given(name), {})


def _made(make: Callable[[], Any]) -> str:
    return _translated(*make())


def _analyzed(make: Callable[[], Any]) -> str:
    from torch2mlx import analyze

    return json.dumps(analyze(make()).to_dict(), indent=1, default=str)


def _shown(look: Callable[[str], Any], name: str) -> str:
    return repr(look(name))


def _translated(model: Any, args: Any, kwargs: Any) -> str:
    from torch2mlx import translate

    found = translate(model, args, kwargs)
    return "\n".join([found.source, *found.notes, json.dumps(sorted(map(str, found.weights)))])


def _ported(text: str, layout: str) -> str:
    from torch2mlx import port

    found = port(text, layout=layout)
    return f"{found.source}\n{found.report}"


SECTIONS: dict[str, Callable[[], Said]] = {
    made.__name__: made
    for made in (names, help, operators, layers, reports, expressions, scripts, models)
}


def write(folder: Path, sections: dict[str, Callable[[], Said]]) -> int:
    """Writes the record; a refusal is what is said, any other error too. Gives the number of
    files."""
    count = 0
    for section, made in sections.items():
        said = list(made())
        for place, (name, say) in enumerate(said, 1):
            if sys.stderr.isatty():
                print(f"\r{section} {place}/{len(said)}  ", end="", file=sys.stderr, flush=True)
            try:
                text = say()
            except Torch2MLXError as error:
                text = f"{type(error).__name__}: {error}"
            path = folder / section / f"{name.replace('/', '.')}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace(str(ROOT), ".") + "\n")
            count += 1
        print(f"{section}: {len(said)}", file=sys.stderr, flush=True)
    return count


def compare(before: Path, after: Path) -> int:
    """Prints what differs, and how much; gives the number of files that do."""
    texts = [
        {str(p.relative_to(f)): p.read_text() for p in f.rglob("*.txt")} for f in (before, after)
    ]
    differ = 0
    for name in sorted(texts[0].keys() | texts[1].keys()):
        old, new = (text.get(name, "").splitlines() for text in texts)
        if old != new:
            differ += 1
            print(*difflib.unified_diff(old, new, name, name, lineterm=""), sep="\n")
    print(f"{differ} of {len(texts[0].keys() | texts[1].keys())} differ")
    return differ


def main() -> int:
    """Runs what the command line asks for."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    verbs = options.add_subparsers(dest="verb", required=True)
    writing = verbs.add_parser("write")
    writing.add_argument("folder", type=Path)
    writing.add_argument("sections", nargs="*", metavar="SECTION")
    writing.add_argument("--zoo", action="store_true")
    comparing = verbs.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    given = options.parse_args()
    if given.verb == "compare":
        return min(compare(given.before, given.after), 1)
    known = {**SECTIONS, "zoo": zoo}
    unknown = [name for name in given.sections if name not in known]
    if unknown:
        writing.error(f"no section {', '.join(unknown)}: they are {', '.join(known)}")
    chosen = given.sections or [*SECTIONS, *["zoo"] * given.zoo]
    warnings.simplefilter("ignore")
    print(f"{write(given.folder, {name: known[name] for name in chosen})} files in {given.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
