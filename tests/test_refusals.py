"""Refusals have codes: what the package decides, it decides by them and never by a message."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import need
from torch2mlx.errors import Code, MissingLibraryError, Unsupported, UnsupportedOperatorError

ROOT = Path(__file__).parent.parent
PLACES = sorted([*ROOT.glob("torch2mlx/**/*.py"), *ROOT.glob("tools/*.py")])
#: Names of what is written for people: of variables, of attributes, of keys.
WORDS = frozenset(
    [
        *("message", "reason", "reasons", "detail", "note", "notes", "advice", "finding"),
        *("findings", "why", "problem", "problems", "error", "told", "said", "remark", "refusal"),
    ]
)
SEARCHES = ("startswith", "endswith", "find", "rfind", "index", "count")
PATTERNS = ("search", "match", "fullmatch", "findall", "finditer")
#: Decisions on messages of other libraries, which give them in no other form.
ALLOWED = {
    ("torch2mlx/cli/parser.py", "_meant"): "argparse names a wrong word in its message alone",
    ("torch2mlx/export/capture/demands.py", "error_of"): "torch's assertions in a graph are texts",
    ("torch2mlx/export/capture/failures.py", "untraceable"): "torch.export has no codes",
    ("torch2mlx/export/capture/recording.py", "_recorded"): "autograd refuses writes by text alone",
}


def _name(node):
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def _of_a_message(node, caught):
    """Whether an expression has the text of an exception in it, or something that is called so."""
    parts = [
        part
        for part in ast.walk(node)
        if not (isinstance(part, ast.Call) and _name(part.func) in ("isinstance", "type"))
    ]
    return any(_name(part) in WORDS | caught for part in parts)


def _is_text(node):
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _compares(node, caught):
    sides = [node.left, *node.comparators]
    for operator, left, right in zip(node.ops, sides, sides[1:], strict=False):
        if isinstance(operator, (ast.In, ast.NotIn)) and _is_text(left):
            yield _of_a_message(right, caught)
        elif isinstance(operator, (ast.Eq, ast.NotEq)) and (_is_text(left) or _is_text(right)):
            texts = [side for side in (left, right) if not _is_text(side)]
            yield any(_of_a_message(side, caught) for side in texts)


def _calls(node, caught):
    if not isinstance(node.func, ast.Attribute):
        return
    if node.func.attr in SEARCHES:
        yield _of_a_message(node.func.value, caught)
    elif node.func.attr in PATTERNS:
        yield any(_of_a_message(argument, caught) for argument in node.args)


def decisions(tree):
    """(function, line) of each place that looks into a message."""
    for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)):
        caught = {n.name for n in ast.walk(function) if isinstance(n, ast.ExceptHandler) and n.name}
        for node in ast.walk(function):
            kinds = {ast.Compare: _compares, ast.Call: _calls}
            look = kinds.get(type(node))
            if look is not None and any(look(node, caught)):
                yield function.name, node.lineno


def test_no_decision_reads_a_message():
    found = {
        (str(path.relative_to(ROOT)), function): line
        for path in PLACES
        for function, line in decisions(ast.parse(path.read_text()))
    }
    # severities of findings are words of a fixed set, and no messages
    found = {k: v for k, v in found.items() if k[0] != "torch2mlx/analyzer.py"}
    assert found.keys() == ALLOWED.keys(), found


@pytest.mark.parametrize(
    "body",
    [
        "try:\n  g()\n except E as e:\n  if 'no lowering' in str(e): return",
        "try:\n  g()\n except E as e:\n  if e.args[0] == 'x': return",
        "if found.reason.startswith('shapes differ'): return",
        "if any('channels' in n for n in [op.note]) or 'channels' not in op.note: return",
        "return re.search('pip install .*', message)",
    ],
)
def test_a_decision_on_a_message_is_seen(body):
    assert list(decisions(ast.parse(f"def f():\n {body}\n")))


@pytest.mark.parametrize(
    "body",
    [
        "try:\n  g()\n except E as e:\n  if e.code is Code.SHAPE: return",
        "return [u for u in report.unsupported if u.code is Code.UNCLEAR]",
        "return name in reasons",
    ],
)
def test_a_decision_on_a_code_is_none_on_a_message(body):
    assert not list(decisions(ast.parse(f"def f():\n {body}\n")))


def test_every_code_is_documented_and_every_documented_code_is_there():
    page = (ROOT / "docs/command-line.md").read_text().split("Its codes stay too:")[1]
    assert re.findall(r"^\| `([\w-]+)` \|", page, re.M) == [str(code) for code in Code]


def test_a_refusal_reads_as_its_place_and_its_detail():
    one = Unsupported(Code.SHAPE, "aten::x in model", "MLX gives shape (2,) where torch gives (3,)")
    assert str(one) == one.reason == f"aten::x in model: {one.detail}"
    assert str(Unsupported(Code.ERROR, "", "nothing to say of where")) == "nothing to say of where"
    error = UnsupportedOperatorError((one,))
    assert error.findings == (str(one),) and error.unsupported == (one,)
    assert str(error) == f"1 calls cannot be translated:\n  {one}"


def test_a_folder_called_mlx_without_the_core_is_no_mlx(tmp_path):
    """mlx-data has one too, and pip leaves one behind."""
    (tmp_path / "mlx" / "data").mkdir(parents=True)
    code = "from torch2mlx.common.optional import installed; import mlx; print(installed('mlx'))"
    environment = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parent.parent}"}
    found = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "False\n"


def test_a_missing_library_says_how_it_is_installed():
    from torch2mlx.cli.envelope import error_data
    from torch2mlx.common.optional import need as needed

    with pytest.raises(MissingLibraryError) as caught:
        needed("x", "no_such_library")
    assert caught.value.command == "pip install no_such_library"
    data = error_data(str(caught.value), "missing-library", caught.value)
    assert data["what_to_do"] == "pip install no_such_library"


def test_the_envelope_lists_operators_by_their_codes():
    from torch2mlx.cli.envelope import error_data

    one = Unsupported(Code.NO_LOWERING, "aten::x in model (m.py:3)", "no lowering")
    error = UnsupportedOperatorError((one,))
    listed = error_data(str(error), error.code, error)["unsupported"]
    assert listed == [
        {"code": "no-lowering", "where": "aten::x in model (m.py:3)", "detail": "no lowering"}
    ]
    assert "unsupported" not in error_data("m.py: is gone", "system", OSError())


def test_what_translate_refuses_has_a_code():
    need("torch", "mlx.core")
    import torch

    from torch2mlx import translate

    class Airy(torch.nn.Module):
        def forward(self, x):
            return torch.special.airy_ai(x) + torch.linalg.qr(x, mode="r")[1].sum()

    with pytest.raises(UnsupportedOperatorError) as caught:
        translate(Airy(), (torch.ones(3, 3),))
    assert {(u.code, u.where.split(" ")[0]) for u in caught.value.unsupported} == {
        (Code.NO_LOWERING, "aten.special_airy_ai.default"),
        (Code.ARGUMENTS, "aten.linalg_qr.default"),
    }


def test_a_layer_with_a_forward_of_its_own_is_known_by_its_code():
    need("torch", "mlx.core")
    import torch

    from torch2mlx import analyze
    from torch2mlx.catalog.layers import find_twin

    class Mine(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) + 1

    own = find_twin(Mine(2, 3))
    assert own == Unsupported(Code.OWN_FORWARD, "Mine", "has a forward of its own")
    bag = find_twin(torch.nn.Embedding(4, 3, max_norm=1.0))
    assert bag.code is Code.ARGUMENTS and bag.where == "Embedding"
    (node,) = (n for n in analyze(torch.nn.Sequential(Mine(2, 3))).nodes if n.path == "0")
    assert node.status == "mapped"


SCRIPT = """import torch


def f(x):
    y = torch.linalg.ldl_factor_ex(x)
    return y, torch.linalg.ldl_factor


def g(x):
    return x.frobnicate(torch.frob.nicate)
"""


def test_what_port_leaves_has_a_name_a_code_and_a_line():
    need("libcst")
    from torch2mlx import port
    from torch2mlx.report.port import as_data

    made = port(SCRIPT)
    left = {u.where: (u.code, u.line) for u in made.unsupported}
    assert left["torch.linalg.ldl_factor_ex"] == (Code.NO_COUNTERPART, 5)
    # its name is part of the other's, which does not tell of it
    assert left["torch.linalg.ldl_factor"] == (Code.NO_COUNTERPART, 6)
    assert left["torch.frob.nicate"] == (Code.NO_COUNTERPART, 10)
    shown = as_data([made])["files"][0]["unsupported"]
    assert {"line", "reason", "code", "where"} == set(shown[0])
    assert shown[0]["reason"].startswith("torch.linalg.ldl_factor_ex: ")


@pytest.mark.parametrize("name", ["native_channel_shuffle", "fractional_max_pool2d_with_indices"])
def test_a_function_of_the_kit_that_takes_channels_last_is_not_called_on_torchs_layout(name):
    need("libcst")
    from torch2mlx import port

    made = port(f"import torch.nn.functional as F\n\n\ndef f(x):\n    return F.{name}(x, 2)\n")
    assert "kit." not in made.source
    assert [u.where for u in made.unsupported] == [f"torch.nn.functional.{name}"]
