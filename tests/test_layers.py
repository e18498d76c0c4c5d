"""The structure of the project, asserted: who may import whom, how large things may grow."""

import ast
import re
from pathlib import Path

import pytest

from tools.export import tracked

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "torch2mlx"
CSRC = ROOT / "csrc"

TWINS = ("activation", "attention", "conv", "dropout", "loss", "norm", "pooling", "recurrent")
TWINS += ("shape", "simple")

OPS = (
    "complexes",
    "control",
    "convolution",
    "creation",
    "indexing",
    "identity",
    "in_place",
)
OPS += ("joining", "linear", "losses", "norms", "random", "shapes", "sorting")
TIDY = ("causal", "dead", "fast", "gradients", "layout", "moves", "noops", "rotary", "sink")

#: Each layer may import from itself and from those after it.
LAYERS = (
    ("__main__",),
    ("cli.__init__",),
    ("cli.entry",),
    ("cli.running",),
    ("cli.parser",),
    ("cli.analyzing", "cli.completing", "cli.doctor", "cli.models", "cli.porting", "cli.weights"),
    ("cli.envelope", "cli.printing", "cli.sizing", "cli.verb"),
    ("__init__",),
    ("registry",),
    ("report.html", "report.sarif", "report.__init__"),
    ("testing.plugin",),
    ("testing.__init__",),
    ("testing.asserting",),
    ("testing.tables",),
    ("verifier",),
    ("translator", "porter", "optimizer_state"),
    ("checking.check", "checking.small", "checking.other_sizes", "checking.again"),
    ("checking.refusing",),
    ("checking.walk", "checking.judging", "checking.gradients", "checking.lazily"),
    ("checking.chance", "checking.weights"),
    ("checking.noise", "checking.faults"),
    ("checking.running",),
    ("checking.comparing",),
    ("checking.outputs", "checking.preserved", "checking.entry", "checking.__init__"),
    ("checking.attributes",),
    ("checking.draws",),
    ("checking.watching",),
    ("optimizer_slots",),
    ("converter", "inspector", "progress", "analyzer", "reverter"),
    ("report.port",),
    (
        "source.scalers",
        "source.closures",
        "source.derivatives",
        "source.rewrite",
        "source.training",
        "source.imports",
        "source.traced",
        "source.notebook",
        "source.__init__",
    ),
    ("source.absent",),
    ("source.statements", "source.steps", "source.lines", "source.siblings"),
    ("source.functions", "source.methods", "source.buffers", "source.stopping"),
    ("source.layout.planning", "source.layout.__init__"),
    ("source.freezing", "source.constructors"),
    ("source.layout.forwards", "source.layout.makers", "source.layout.looking"),
    ("source.loops", "source.placing"),
    ("source.layout.calls", "source.layout.running"),
    ("source.state", "source.optimizers", "source.layout.functions"),
    ("source.layout.expressions",),
    ("source.layout.reading",),
    ("source.layout.building", "source.layout.calling"),
    ("source.layout.tables",),
    (
        "source.report",
        "source.write",
        "source.manual",
        "source.order",
        "source.layers",
        "source.infer",
        "source.layout.values",
    ),
    ("source.scan",),
    ("source.scope",),
    ("source.calling",),
    ("source.expressions",),
    ("source.members", "source.evidence"),
    ("source.results",),
    ("source.names", "source.kinds"),
    ("source.walk", "source.encoding"),
    ("attempts",),
    ("graph.emit",),
    ("graph.assemble", "graph.wrap"),
    ("graph.checks",),
    ("graph.sure",),
    ("graph.lower", "graph.tidy.__init__"),
    ("graph.lowering", "graph.sources", "graph.updates"),
    ("graph.factories", "graph.folders", "graph.examples", "graph.processors"),
    ("graph.tidy.ends",),
    tuple(f"graph.tidy.{n}" for n in TIDY),
    ("graph.tidy.rewrite", "graph.tidy.shapes_only", "graph.higher_order", "graph.program"),
    ("graph.custom", "graph.statistics"),
    ("graph.functions",),
    ("graph.autocast",),
    ("graph.__init__",),
    ("graph.ops.__init__", "graph.paths", "graph.loops"),
    ("graph.stocked",),
    ("graph.classes",),
    ("graph.methods",),
    ("graph.turns", "graph.naming", "graph.modes", "graph.singular"),
    ("graph.regions", "graph.render"),
    ("graph.ops.packed",),
    ("graph.ops.attention", "graph.ops.algebra", "graph.ops.recurrent"),
    ("graph.ops.comparing", "graph.ops.magnitudes", "graph.ops.resizing"),
    ("graph.ops.elementwise", "graph.ops.reductions", "graph.ops.activations", "graph.ops.pooling"),
    tuple(f"graph.ops.{n}" for n in OPS),
    ("graph.ops.functions",),
    ("graph.ops.registry",),
    ("graph.iteration", "graph.trainable"),
    ("graph.layers", "graph.stored"),
    ("graph.tree", "graph.storage", "graph.names", "graph.packed"),
    ("graph.streaming",),
    ("graph.recording",),
    ("graph.trace", "graph.builder"),
    ("graph.calls", "graph.cumulative", "graph.assigned", "graph.flags", "graph.neutral"),
    ("graph.freedom", "graph.packing", "graph.scanned"),
    (
        "graph.empty",
        "graph.loose",
        "graph.ends",
        "graph.standalone",
        "graph.vmapped",
        "graph.schemas",
    ),
    ("graph.guards", "graph.failures", "graph.explicit_masks", "graph.sizes", "graph.unvalidated"),
    ("graph.structured",),
    ("graph.conditions", "graph.keywords"),
    ("graph.places", "graph.applied", "graph.lines"),
    ("graph.width",),
    ("graph.ir",),
    ("graph.measured",),
    ("graph.arguments",),
    ("builder", "structures"),
    ("analysis.records",),
    ("analysis.facts",),
    ("analysis.flow",),
    ("analysis.evaluation",),
    ("analysis.calling", "analysis.parameters", "analysis.calls"),
    ("analysis.flattening",),
    ("analysis.functions", "analysis.values", "analysis.__init__", "analysis.files"),
    ("write.reverted",),
    ("weights.undo", "weights.forms"),
    ("weights.remade", "weights.first_version"),
    ("weights.trained",),
    ("loading",),
    ("write.output",),
    ("weights.configured",),
    ("weights.by_model",),
    ("checkpoint", "weight_converter", "state_dict", "read.config_model"),
    ("write.translated",),
    ("write.pair", "write.folder", "write.companions", "write.tree"),
    ("write.replacing",),
    ("write.safetensors_file", "write.transaction", "write.marker", "weights.typing"),
    ("weights.training",),
    ("weights.prefixes", "write.lock"),
    ("weights.by_table", "weights.moves"),
    ("weights.questions",),
    ("write.schema",),
    ("read.arrays",),
    ("read.entries",),
    ("read.directory", "read.nested", "read.module_tree", "weights.user_rules", "weights.owners"),
    ("read.files", "read.holdings", "read.foreign", "read.paths", "weights.expected"),
    ("read.tensors", "read.checksums", "read.expanded", "read.arguments"),
    ("twins.__init__",),
    (*(f"twins.{n}" for n in TWINS),),
    ("twins.twin",),
    ("weights.catalog",),
    ("weights.table", "op_mapping", "weights.architectures"),
    ("ops.functional_ops", "ops.more_ops", "ops.tensor_ops", "ops.__init__", "ops.forms"),
    ("ops.form_groups", "ops.functional_forms"),
    ("weights.inverses",),
    ("weights.recurrent", "weights.folds"),
    ("weights.actions", "weights.merges", "weights.layout", "weights.portable"),
    ("weights.visible",),
    ("trust",),
    ("needs_mlx",),
    ("read.resolve",),
    ("types", "apple", "optional", "options", "names", "collecting"),
    ("amounts",),
    ("errors",),
    ("read.__init__", "weights.__init__", "write.__init__", "_core", "kit"),
)
RANK = {name: i for i, names in enumerate(LAYERS) for name in names}


def modules():
    """Python files of the package as dotted names; kit and templates are for MLX alone."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if not name.startswith(("kit", "templates")):
            yield name, path


def imported(path):
    """Modules of the package that a file imports, dotted, without the package's name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch2mlx"):
            base = node.module.removeprefix("torch2mlx").lstrip(".")
            for alias in node.names:
                full = f"{base}.{alias.name}".lstrip(".")
                package = f"{base}.__init__" if base else "__init__"
                yield full if full in RANK else package if package in RANK else base
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("torch2mlx"):
                    yield alias.name.removeprefix("torch2mlx").lstrip(".") or "__init__"


@pytest.mark.parametrize(("name", "path"), list(modules()))
def test_imports_go_one_way(name, path):
    assert name in RANK, f"{name}: give it a place in LAYERS"
    for other in imported(path):
        assert RANK[other] > RANK[name] or other == name, f"{name} imports {other}"


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
