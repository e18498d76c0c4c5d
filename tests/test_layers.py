"""The structure of the project, asserted: who may import whom, how large things may grow."""

import ast
import builtins
import graphlib
import re
from pathlib import Path

import pytest

from tools.export import tracked

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "torch2mlx"
CSRC = ROOT / "csrc"

#: What each package may import beside the three that all may: errors, types and the C core.
#: The drivers (files at the top), the command line and `testing` may import everything.
EDGES = {
    "common": (),
    "catalog": (),
    "kit": ("common",),
    "checkpoint": ("catalog", "common"),
    "analysis": ("catalog", "checkpoint"),
    "export": ("catalog", "checkpoint", "common", "kit"),
    "porting": ("catalog", "common"),
    "lockstep": (),
    "report": ("common",),
    "templates": ("common", "export", "kit"),
}
FOR_ALL = {"errors", "types", "_core"}


def modules():
    """Python files of the package as dotted names; kit and templates are for MLX alone."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if not name.startswith(("kit", "templates")):
            yield name, path


def imported(path):
    """Modules of the package that a file imports when it runs, dotted, without its name."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch2mlx"):
            for alias in node.names:
                yield f"{node.module}.{alias.name}".removeprefix("torch2mlx.")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("torch2mlx."):
                    yield alias.name.removeprefix("torch2mlx.")


def folder(name):
    """The folder of a dotted name: a package and, where it has them, the part of it."""
    parts = [p for p in name.split(".") if p != "__init__"]
    while parts and not (PACKAGE.joinpath(*parts).is_dir()):
        parts.pop()
    return ".".join(parts[:2])


def test_packages_import_only_what_is_written_here():
    for path in sorted(PACKAGE.rglob("*.py")):
        package = path.relative_to(PACKAGE).parts[0]
        if package in EDGES:
            for other in {name.split(".")[0] for name in imported(path)} - FOR_ALL:
                assert other in (package, *EDGES[package]), f"{path}: imports {other}"


def test_no_folder_is_imported_by_what_it_imports():
    edges = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        here = folder(".".join(path.relative_to(PACKAGE).with_suffix("").parts))
        edges.setdefault(here, set()).update(folder(name) for name in imported(path))
    order = graphlib.TopologicalSorter({k: v - {k, ""} for k, v in edges.items() if k})
    assert list(order.static_order())


def test_torch_and_mlx_are_imported_only_inside_functions():
    for name, path in modules():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                roots = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                roots = {(node.module or "").split(".")[0]}
            else:
                continue
            assert not roots & {"torch", "mlx", "transformers", "ml_dtypes"}, name


def test_importing_the_package_imports_neither_framework():
    import subprocess
    import sys

    code = "import sys, torch2mlx; sys.exit(any(n in sys.modules for n in ('torch', 'mlx.core')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_core_knows_nothing_of_python():
    for path in (CSRC / "core").iterdir():
        assert "Python.h" not in path.read_text(), path.name
        assert "../bind" not in path.read_text(), path.name


@pytest.mark.parametrize("path", sorted(CSRC.rglob("*.[chd]*")), ids=lambda p: p.name)
def test_c_files_stay_small_and_explain_themselves(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 800
    if path.suffix in (".h", ".def"):
        assert "/*" in text[:600], "say what it is for"


@pytest.mark.parametrize(
    "path", sorted(p for d in ("torch2mlx", "examples", "bench") for p in (ROOT / d).rglob("*.py"))
)
def test_python_files_and_functions_stay_small(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 500, "more than one concept, most likely"
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "say what the file is for"
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            own = node.end_lineno - node.body[0].lineno + 1
            doc = ast.get_docstring(node)
            assert own - (len(doc.splitlines()) if doc else 0) <= 40, node.name


#: Lines of the package whose types are not checked. The number falls and does not rise: state a
#: type instead, and lower it with each that goes.
UNCHECKED = 22


def test_lines_without_a_checked_type_become_fewer():
    mark = re.compile(r"#\s*type:\s*ignore")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if mark.search(line)
    ]
    assert len(found) <= UNCHECKED, "\n".join(found)


def classes(folder):
    """Classes of a folder of the package: (file, name, names of the bases)."""
    for path in sorted((PACKAGE / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
                yield path.relative_to(PACKAGE).as_posix(), node.name, bases


def test_port_and_export_are_not_built_by_inheritance():
    """What a class of the project may inherit from is an error or a protocol of it."""
    bases = {name: found for _, name, found in classes(".")}

    def is_error(name):
        known = getattr(builtins, name, None)
        error = isinstance(known, type) and issubclass(known, BaseException)
        return error or any(is_error(base) for base in bases.get(name, ()) if base != name)

    for folder in ("porting", "export"):
        for path, name, found in classes(folder):
            for base in found:
                own = base in bases and not is_error(base) and "Protocol" not in bases[base]
                assert not own, f"{path}: {name} inherits from {base}: hold it, or write functions"


def test_globals_of_the_core_are_constant():
    """Nothing mutable outlives a call: file-scope objects are const, typedefs or tables."""
    declared = re.compile(r"^static (?!const|inline|int\b|void\b).*=\s*[{\d]", re.M)
    for path in (CSRC / "core").glob("*.c"):
        assert not declared.findall(path.read_text()), path.name


def test_the_repository_speaks_of_the_project_alone():
    names = tracked()
    if names is None:
        pytest.skip("not a git checkout")
    for name in names:
        path = ROOT / name
        if path.suffix in (".py", ".c", ".h", ".md", ".toml", ".sh", ".def", "", ".yml"):
            text = path.read_text(errors="replace")
            assert not re.search(r"(/wo" r"rk/|/ro" r"ot/|/ho" r"me/\w|issue #\d)", text), name
