"""A name is an import only where Python says so: scopes, and names that the port imports."""

import pytest

from tests.support import need

need("libcst")

import torch2mlx

HEAD = "import torch\nimport torch.nn.functional as F\n"
OTHER = "return F.softmax(x, dim=1)"


def ported(source):
    return torch2mlx.port(HEAD + source)


LOCAL = {
    "parameter": f"def f(F, x):\n    {OTHER}\n",
    "local": f"def f(x):\n    F = Tool()\n    {OTHER}\n",
    "closure": f"def f(F):\n    def g(x):\n        {OTHER}\n    return g\n",
    "keyword only": f"def f(x, *, F):\n    {OTHER}\n",
    "starred": f"def f(x, *F):\n    {OTHER}\n",
    "for": f"def f(x):\n    for F in x:\n        {OTHER}\n",
    "unpacked": f"def f(x):\n    (a, [F, *b]) = x\n    {OTHER}\n",
    "with": f"def f(x):\n    with open(x) as F:\n        {OTHER}\n",
    "except": f"def f(x):\n    try:\n        x()\n    except E as F:\n        {OTHER}\n",
    "walrus": f"def f(x):\n    if (F := x):\n        {OTHER}\n",
    "walrus in a comprehension": f"def f(x):\n    [F := y for y in x]\n    {OTHER}\n",
    "import": f"def f(x):\n    import tools as F\n    {OTHER}\n",
    "del": f"def f(x):\n    F = x\n    {OTHER}\n    del F\n",
    "match": f"def f(x):\n    match x:\n        case [F, y]:\n            {OTHER}\n",
    "function": f"def f(x):\n    def F(y):\n        return y\n    {OTHER}\n",
    "nonlocal": "def f(x):\n    F = 1\n    def g():\n        nonlocal F\n        F = x\n"
    f"        {OTHER}\n",
    "class": "class A:\n    F = Tool()\n    y = [F.softmax(x, dim=1)]\n",
    "rebound": "F = Tool()\ny = F.softmax(x, dim=1)\n",
}


@pytest.mark.parametrize("name", LOCAL)
def test_a_name_that_is_bound_nearer_is_left_alone(name):
    made = ported(LOCAL[name])
    assert made.ok, made.unsupported
    assert "F.softmax(x, dim=1)" in made.source
    assert "import torch" not in made.source


IMPORTED = {
    "after a comprehension": "def f(x, ts):\n    [F for F in ts]\n    return F.relu(x)\n",
    "the first iterable": "def f(x):\n    return [F for F in F.relu(x)]\n",
    "beside a lambda": "g = lambda F: F\ny = F.relu(x)\n",
    "a default": "def f(y, F=F.relu(x)):\n    return y\n",
    "a method": "class A:\n    def F(self, x):\n        return F.relu(x)\n",
    "a class attribute": "class A:\n    F = 3\n    def f(self, x):\n        return F.relu(x)\n",
    "before in a class": "class A:\n    y = F.relu(x)\n    F = 3\n",
    "before it is rebound": "y = F.relu(x)\nF = None\n",
    "of another function": "def g():\n    F = 3\ndef f(x):\n    return F.relu(x)\n",
    "an attribute": "def f(x, tools):\n    tools.F = 3\n    return F.relu(x)\n",
    "a keyword": "def f(x):\n    g(F=3)\n    return F.relu(x)\n",
    "of two imports": "try:\n    import torch.nn.functional as F\nexcept ImportError:\n"
    "    F = None\ndef f(x):\n    return F.relu(x)\n",
}


@pytest.mark.parametrize("name", IMPORTED)
def test_an_import_is_one_beside_other_scopes_that_bind_its_name(name):
    made = ported(IMPORTED[name])
    assert made.ok, made.unsupported
    assert "nn.relu(x)" in made.source


UNCLEAR = {
    "global": "def g():\n    global F\n    F = 3\ndef f(x):\n    return F.relu(x)\n",
    "perhaps rebound": "if x:\n    F = Tool()\ny = F.relu(x)\n",
    "rebound later": "def f(x):\n    return F.relu(x)\nF = Tool()\n",
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_a_name_that_may_be_either_is_refused(name):
    reason = "F is torch.nn.functional or something else here: give one of them another name"
    assert reason in [u.reason for u in ported(UNCLEAR[name]).unsupported]


def test_names_under_which_the_port_imports_stay_the_files_own():
    made = ported(
        "from torch.optim import SGD\n"
        "def f(model, nn, x):\n"
        "    optim = SGD(model.parameters(), lr=0.1)\n"
        "    mx = torch.max(F.relu(nn.step(x)))\n"
        "    return optim, mx\n"
        "y = f(m, x=1, nn=2)\n"
    )
    assert made.ok, made.unsupported
    assert "import mlx.nn as mlx_nn\n" in made.source
    assert "optim = mlx_optim.SGD(" in made.source
    assert "mx = mlx_core.max(mlx_nn.relu(nn.step(x)))" in made.source
    assert "y = f(m, x=1, nn=2)" in made.source


def test_a_star_of_torch_is_refused():
    (found,) = ported("from torch.nn.functional import *\ny = relu(x)\n").unsupported
    assert (found.line, found.reason.partition(":")[0]) == (
        3,
        "from torch.nn.functional import *",
    )


def test_files_of_environments_and_hidden_folders_show_nothing(tmp_path):
    from torch2mlx.porting.types.project import shown_to

    own = tmp_path / "net.py"
    own.write_text("class Net: ...\n")
    for folder in (".tox", "env/lib", "node_modules"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.py").write_text("from net import Net\n")
    (tmp_path / "env" / "pyvenv.cfg").touch()
    assert shown_to(str(own), ["Net"]) == set()
    (tmp_path / "train.py").write_text("from net import Net\n")
    assert shown_to(str(own), ["Net"]) == {"Net"}


def test_a_folder_of_too_many_files_shows_everything(tmp_path, monkeypatch):
    from torch2mlx.porting.types import project

    monkeypatch.setattr(project, "_MOST", 3)
    own = tmp_path / "net.py"
    for i in range(4):
        (tmp_path / f"a{i}.py").touch()
    own.write_text("class Net: ...\n")
    assert project.shown_to(str(own), ["Net"]) == {"Net"}


def test_a_parameter_that_hides_another_import_may_be_a_tensor():
    """`import data` beside `def f(data)`: what is done with the parameter tells what it is; of the
    import itself nothing is told."""
    made = torch2mlx.port(
        "import torch\nimport data\n\n\ndef f(data, n):\n    rows = data.size(0) // n\n"
        "    return data.narrow(0, 0, rows).view(n, -1)\n\n\nread = data.size(0)\n"
    )
    assert made.ok
    assert "rows = data.shape[0] // n" in made.source
    assert "kit.tensors.narrow(data, 0, 0, rows).reshape(n, -1)" in made.source
    assert "read = data.size(0)" in made.source
