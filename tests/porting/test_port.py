"""What a port keeps, reports and refuses; files, folders, notebooks, the command line."""

import json
from pathlib import Path

import pytest

from tests.support import need

need("libcst", "nbformat")

import nbformat

import torch2mlx
from torch2mlx.cli import main
from torch2mlx.errors import PortError
from torch2mlx.report.port import ADVICE

PLAIN = "# no torch here: \u00e4\r\nimport  os\r\n\r\nx = 1 ;y=2\r\nprint( os.name )".encode()
SCRIPT = """\
# A header that stays.
import torch  # the framework
from torch import nn


class Net(nn.Module):
    '''A docstring.'''

    def forward(self, x):
        # a comment
        return x.view(x.size(0), -1)  # another
"""


def test_a_file_without_torch_comes_back_byte_for_byte(tmp_path):
    path = tmp_path / "plain.py"
    path.write_bytes(PLAIN)
    assert main(["port", str(path), "-o", str(tmp_path / "out.py")]) == 0
    assert (tmp_path / "out.py").read_bytes() == path.read_bytes()
    assert torch2mlx.port(path).changes == ()


def test_comments_and_structure_stay():
    made = torch2mlx.port(SCRIPT).source
    assert made.startswith("# A header that stays.\nimport mlx.nn as nn\n")
    for kept in ("'''A docstring.'''", "        # a comment\n", "# another\n"):
        assert kept in made
    assert "return x.reshape(x.shape[0], -1)  # another" in made
    assert "def __call__(self, x):" in made


def test_a_syntax_error_has_its_place():
    with pytest.raises(PortError, match=r"<source>:3:\d+"):
        torch2mlx.port("import torch\n\nx = = 2\n")
    with pytest.raises(PortError, match=r"nothing\.py: no such file"):
        torch2mlx.port("nothing.py")


def test_what_may_be_no_tensor_is_left_alone_and_reported():
    text = "import torch\n\n\ndef f(thing):\n    return thing.transpose(0, 1)\n"
    result = torch2mlx.port(text)
    assert "thing.transpose(0, 1)" in result.source
    (left,) = result.unsupported
    assert left.line == 5
    assert "left alone" in left.reason


def test_names_are_resolved_before_they_are_rewritten():
    text = (
        "import torch as T\nfrom torch.nn import Linear as L, functional as G\n\n"
        "class cat:\n    pass\n\n"
        "def f(a: T.Tensor):\n    return T.cat([G.relu(a), L(2, 2)(a)]), cat()\n"
    )
    made = torch2mlx.port(text).source
    assert "mx.concatenate([nn.relu(a), nn.Linear(2, 2)(a)]), cat()" in made


def test_what_cannot_be_ported_is_marked_with_its_reason():
    text = (
        "import torch\n\n\ndef f(p):\n"
        "    optimizer = torch.optim.SparseAdam(p, lr=1)\n    return optimizer\n"
    )
    result = torch2mlx.port(text)
    assert not result.ok
    lines = result.source.splitlines()
    at = next(i for i, line in enumerate(lines) if "torch.optim.SparseAdam(p, lr=1)" in line)
    assert lines[at - 1].strip().startswith("# torch2mlx: not ported: torch.optim.SparseAdam")
    assert result.unsupported[0].line == 5


def test_a_backward_without_an_optimizer_is_refused():
    text = (
        "import torch\n\n\ndef f(model, x: torch.Tensor):\n    loss = model(x).sum()\n"
        "    loss.backward()\n    return loss\n"
    )
    result = torch2mlx.port(text)
    assert "value_and_grad" in result.unsupported[0].reason


def test_every_change_says_why():
    for change in torch2mlx.port(SCRIPT).changes:
        assert change.line > 0
        assert change.why


def test_one_step_one_eval():
    text = Path(__file__).with_name("scripts").joinpath("mnist_cnn.py").read_text()
    made = torch2mlx.port(text).source
    assert made.count("mx.eval(") == 1
    assert "loss, grads = nn.value_and_grad(model, loss_fn)()" in made
    assert "optimizer.update(model, grads)" in made
    assert "zero_grad" not in made


def test_two_optimizers_share_a_loss():
    text = """\
import torch
from torch import nn


def run(x: torch.Tensor):
    a, b = nn.Linear(2, 2), nn.Linear(2, 1)
    one = torch.optim.SGD(a.parameters(), lr=0.1)
    two = torch.optim.Adam(b.parameters())
    for _ in range(3):
        loss = b(a(x)).pow(2).mean()
        one.zero_grad()
        two.zero_grad()
        loss.backward()
        one.step()
        two.step()
    return loss
"""
    made = torch2mlx.port(text).source
    assert "nn.value_and_grad(kit.training.Group(a, b), loss_fn)()" in made
    assert '.update(a, grads["modules_"][0])' in made
    assert '.update(b, grads["modules_"][1])' in made


@pytest.fixture
def notebook(tmp_path):
    cells = [
        nbformat.v4.new_markdown_cell("# Training"),
        nbformat.v4.new_code_cell("%matplotlib inline\nimport torch\nimport torch.nn as nn"),
        nbformat.v4.new_code_cell("net = nn.Linear(2, 3)\nx = torch.ones(1, 2)"),
        nbformat.v4.new_code_cell("net(x).sum().item()"),
    ]
    path = tmp_path / "book.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_notebooks(notebook, tmp_path):
    assert main(["port", str(notebook), "-o", str(tmp_path / "out.ipynb")]) == 0
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    assert cells[0].source == "# Training"
    assert cells[1].source == "%matplotlib inline\nimport mlx.core as mx\nimport mlx.nn as nn"
    assert cells[2].source == "net = nn.Linear(2, 3)\nx = mx.ones((1, 2))"
    assert cells[3].source == "net(x).sum().item()"


def test_folders(tmp_path, capsys):
    source = tmp_path / "src"
    (source / "inner").mkdir(parents=True)
    (source / "net.py").write_text(SCRIPT)
    (source / "inner" / "data.txt").write_text("kept")
    assert main(["port", str(source), "-o", str(tmp_path / "out")]) == 0
    assert "mlx.nn" in (tmp_path / "out" / "net.py").read_text()
    assert (tmp_path / "out" / "inner" / "data.txt").read_text() == "kept"
    assert main(["port", str(source), "-o", str(source / "x")]) == 1
    assert "lies in the source" in capsys.readouterr().err


def test_a_bad_file_of_a_folder_is_named_and_the_others_are_written(tmp_path, capsys):
    source, out = tmp_path / "src", tmp_path / "out"
    source.mkdir()
    (source / "net.py").write_text(SCRIPT)
    bad = {"old.py": b"import torch\nprint 1\n", "odd.py": b"import torch\nx = '\xff'\n"}
    for name, raw in bad.items():
        (source / name).write_bytes(raw)
    assert main(["port", str(source), str(out)]) == 1
    told = capsys.readouterr().err
    assert f"{source}/old.py:2:1: Missing parentheses" in told
    assert f"{source}/odd.py:2: is no text in UTF-8" in told
    assert "import mlx.nn as nn" in (out / "net.py").read_text()
    assert {name: (out / name).read_bytes() for name in bad} == bad
    results = {Path(r.path).name: r for r in torch2mlx.port_folder(source, tmp_path / "again")}
    assert results["net.py"].ok and not results["net.py"].failed
    assert [(u.line, u.reason) for u in results["old.py"].unsupported] == [
        (2, "the file is left as it is: " + results["old.py"].failed.partition(":2:1: ")[2])
    ]


def test_a_fault_in_one_file_of_a_folder_is_named_too(tmp_path, monkeypatch):
    source = tmp_path / "src"
    source.mkdir()
    for name in ("a.py", "b.py"):
        (source / name).write_text(SCRIPT)
    whole = torch2mlx.porter.port
    faulty = {"a.py": TypeError("first\nsecond"), "b.py": None}

    def port(path, *rest):
        if faulty[path.name] is not None:
            raise faulty[path.name]
        return whole(path, *rest)

    monkeypatch.setattr(torch2mlx.porter, "port", port)
    first, second = torch2mlx.port_folder(source, tmp_path / "out")
    fault = "the file is left as it is: a fault of torch2mlx itself: TypeError: first"
    assert first.unsupported[0].reason == fault and second.ok
    faulty["b.py"] = MemoryError()
    with pytest.raises(MemoryError):
        torch2mlx.port_folder(source, tmp_path / "more")
    assert not (tmp_path / "more").exists()


def test_the_command_line(tmp_path, capsys):
    path = tmp_path / "net.py"
    path.write_text(SCRIPT)
    assert main(["port", str(path)]) == 0
    assert "def __call__" in capsys.readouterr().out
    assert main(["port", str(path), "--diff"]) == 0
    assert "-import torch" in capsys.readouterr().out
    assert main(["port", str(path), "--check"]) == 0
    path.write_text("import torch\nx = torch.optim.SparseAdam([])\n")
    assert main(["port", str(path), "--check"]) == 1
    assert "net.py:2: torch.optim.SparseAdam" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["md", "html", "json"])
def test_reports(kind, tmp_path, capsys):
    path = tmp_path / "net.py"
    path.write_text(SCRIPT)
    assert main(["port", str(path), "--report", kind]) == 0
    told = capsys.readouterr().out
    assert "forward" in told
    if kind == "json":
        assert json.loads(told)["result"]["files"][0]["changes"]


def test_a_report_says_of_recurrent_layers_what_a_port_emits():
    source = "from torch import nn\nlayer = nn.LSTM(3, 4)\n"
    assert "layer = kit.layers.LSTM(3, 4)" in torch2mlx.port(source).source
    (told,) = [line for line in ADVICE if line.startswith("A recurrent layer")]
    assert told.startswith("A recurrent layer (`kit.layers.LSTM`) has both of torch's biases,")
    docs = (Path(__file__).parents[2] / "docs/port.md").read_text()
    assert told in " ".join(docs.split())


VISION = """\
import torch
from torchvision import datasets, transforms


def loader(root, **kwargs):
    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
    )
    dataset = datasets.MNIST(root, train=True, download=True, transform=transform)
    return torch.utils.data.DataLoader(dataset, batch_size=2, **kwargs)
"""


BOARD = """\
import torch
import torch.utils.tensorboard as board
from torch.utils.tensorboard import SummaryWriter


def log(writer: SummaryWriter, x: torch.Tensor):
    writer.add_scalar("mean", x.mean(), 1)


with board.SummaryWriter("runs") as writer:
    log(writer, torch.ones(3))
"""


def test_a_summary_writer_stays_one():
    result = torch2mlx.port(BOARD)
    assert result.ok, result.unsupported
    assert "def log(writer: kit.tensorboard.SummaryWriter, x: mx.array):" in result.source
    assert 'with kit.tensorboard.SummaryWriter("runs") as writer:' in result.source
    left = torch2mlx.port("from torch.utils import tensorboard\ntensorboard.FileWriter(1)\n")
    assert [u.where for u in left.unsupported] == ["torch.utils.tensorboard.FileWriter"]


FILES_OF_NN = """\
import torch
from torch.nn.modules.module import Module
from torch.nn.modules.linear import Linear as Dense


class Net(Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.modules.linear.Linear(3, 2)
        self.out = Dense(2, 1)

    def forward(self, x):
        return self.out(torch.nn.modules.activation.ReLU()(self.fc(x)))


known = [Net, torch.nn.modules.linear.NonDynamicallyQuantizableLinear]
torch.serialization.add_safe_globals(known)
with torch.serialization.safe_globals(known):
    state = torch.load("m.pt")
"""


def test_files_of_torch_nn_are_named_and_what_a_pickle_may_hold_is_not_asked():
    result = torch2mlx.port(FILES_OF_NN)
    assert result.ok, result.unsupported
    for line in (
        "class Net(nn.Module):",
        "self.fc = nn.Linear(3, 2)",
        "self.out = nn.Linear(2, 1)",
        "known = [Net, nn.Linear]",
        '\nstate = kit.files.load("m.pt")',
    ):
        assert line in result.source


def test_filters_of_torchvision_have_names():
    head = "from torchvision import transforms\n"
    made = "t = transforms.Resize(3, transforms.InterpolationMode.BICUBIC)\n"
    assert 'kit.vision.Resize(3, "bicubic")' in torch2mlx.port(head + made).source


def test_torchvision_basics():
    result = torch2mlx.port(VISION)
    assert result.ok
    assert "torchvision" not in result.source
    assert "kit.vision.MNIST(root, train=True, transform=transform)" in result.source
    left = torch2mlx.port("from torchvision import models\nm = models.resnet18()\n").unsupported
    assert "torchvision.models.resnet18" in left[0].reason


SCALED = """\
import torch
from torch import nn


def fit(model: nn.Module, loader, optimizer, scaler=None):
    criterion = nn.CrossEntropyLoss()
    for images, labels in loader:
        optimizer.zero_grad()
        with torch.autocast("cuda"):
            outputs = model(images)
            loss = criterion(outputs, labels)
        if scaler is not None:  # mixed precision
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        else:
            loss.backward()
            optimizer.step()
"""


def test_of_branches_for_a_scaler_the_plain_one_stays():
    result = torch2mlx.port(SCALED)
    assert result.ok, result.unsupported
    assert "loss, grads = nn.value_and_grad(model, loss_fn)()" in result.source
    assert "scaler.scale" not in result.source


PIECES = """\
import torch
from torch import nn

{}
"""


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("nn.utils.parametrizations.orthogonal(head)", "parametrizations.orthogonal"),
        ("torch.compiler.reset()", "torch.compiler.reset"),
        ("w = torch.zeros(3)\nw.requires_grad = False", "requires_grad of an array"),
        ("o = torch.optim.Adam(p for p in somewhere())", "a module that is not seen here"),
        ("def f(model, x):\n    return x + x.grad.sign()", ".grad: gradients"),
        ("def f(model):\n    model.fc.register_full_backward_hook(print)", "MLX has no such hooks"),
        (
            "def f(m):\n    for p in sorted(m.parameters(), key=len):\n        p.mul_(2)",
            "changed in place",
        ),
        ("class Mine(torch.optim.Optimizer):\n    pass", "your own optimizer"),
        ("a.weight = b.weight", "a parameter under two names"),
    ],
)
def test_what_would_change_a_result_is_refused(line, reason):
    result = torch2mlx.port(PIECES.format(line))
    assert any(reason in left.reason for left in result.unsupported), result.source


def test_buffers_stay_frozen_when_parameters_are_trained_again():
    import mlx.core as mx
    import mlx.nn as mlx_nn

    from torch2mlx import kit

    class Scaled(mlx_nn.Module):
        def __init__(self):
            super().__init__()
            self.rows = [mx.ones(2), mx.ones(3)]
            self.norm = mlx_nn.BatchNorm(2)
            self.table = mx.zeros(2)
            self.freeze(keys=["table"], recurse=False)

    model = Scaled()
    names = [name for name, _ in kit.training.named_parameters(model)]
    assert names == ["rows.0", "rows.1", "norm.weight", "norm.bias"]
    kit.training.freeze(model)
    assert not dict(mlx_nn.utils.tree_flatten(model.trainable_parameters()))
    assert len(kit.training.named_parameters(model)) == 4
    assert not list(kit.training.parameters(model, trainable=True))
    kit.training.unfreeze(model, "rows.1")
    assert kit.training.is_trainable(model, "rows.1")
    assert not kit.training.is_trainable(model, "rows.0")
    kit.training.unfreeze(model)
    trained = [name for name, _ in mlx_nn.utils.tree_flatten(model.trainable_parameters())]
    assert sorted(trained) == sorted(names)


def test_groups_refuse_arrays_of_another_model():
    import mlx.nn as mlx_nn

    from torch2mlx import kit

    model, other = mlx_nn.Linear(2, 2), mlx_nn.Linear(2, 2)
    with pytest.raises(ValueError, match="group 0"):
        kit.ParameterGroups(model, kit.optimizers.SGD, list(kit.training.parameters(other)))
    groups = kit.ParameterGroups(model, kit.optimizers.SGD, list(kit.training.parameters(model)))
    with pytest.raises(ValueError, match="lacks parameters"):
        groups.update(other, other.trainable_parameters())


def test_plain_lists_of_modules_are_not_trained_as_in_torch():
    source = """\
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.held = nn.ModuleList([nn.Linear(2, 2)])
        self.plain = [nn.Linear(2, 2) for _ in range(2)]
"""
    result = torch2mlx.port(PIECES.format(source))
    assert result.ok
    assert 'kit.training.hide(self, "plain", [nn.Linear(2, 2) for _ in range(2)])' in result.source
    assert "self.held = [nn.Linear(2, 2)]" in result.source


def test_names_from_files_beside_are_known(tmp_path):
    (tmp_path / "parts.py").write_text(
        "import torch\nfrom dataclasses import dataclass\n\n@dataclass\nclass State:\n"
        "    h: torch.Tensor\n    data: dict[str, torch.Tensor]\n\n"
        "def normed(x: torch.Tensor):\n    return x / x.norm()\n"
    )
    (tmp_path / "main.py").write_text(
        "import torch\nfrom parts import State, normed\n\ndef f(s: State, key):\n"
        "    a = s.h.view(2, -1)\n    b = s.data[key].to(torch.float16)\n"
        "    return normed(a).transpose(0, 1), b\n"
    )
    result = torch2mlx.port(tmp_path / "main.py")
    assert result.ok, result.unsupported
    for text in ("s.h.reshape(2, -1)", "s.data[key].astype(mx.float16)", ".swapaxes(0, 1)"):
        assert text in result.source


DATA = """\
import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(3, 3)
        self.register_buffer("mean", torch.ones(3))
        self.one.weight.data[:, 0] = 1.0
        self.one.weight.data[:, 2] *= 0
        self.one.bias.data += 1 - self.one.bias.data

    def forward(self, x):
        if torch.jit.is_scripting():
            return x
        self.mean.copy_(
            x.detach().mean(0) * 0.5
            + self.mean * 2
        )
        return self.one(x).clamp(min=torch.finfo(x.dtype).min)
"""


def test_data_is_written_through():
    """`.data` as a target is the array itself, also under an index; values may span lines."""
    import mlx.core as mx

    result = torch2mlx.port(DATA)
    assert result.ok, result.unsupported
    names = {}
    exec(compile(result.source, "<data>", "exec"), names)
    net = names["Net"]()
    assert net.one.weight[:, 0].tolist() == [1.0] * 3
    assert net.one.weight[:, 2].tolist() == [0.0] * 3
    assert mx.allclose(net.one.bias, mx.ones(3)).item()
    net(mx.full((2, 3), 4.0))
    assert net.mean.tolist() == [4.0] * 3


def test_a_reason_of_several_lines_is_one_comment():
    """Whatever a rewriting stumbles over is told in a comment that Python takes."""
    import ast

    result = torch2mlx.port("import torch\n\nx = torch.fft.fht(\n    1,\n    2,\n)\n")
    assert not result.ok
    ast.parse(result.source)


def test_calls_keep_their_lines_and_comments():
    source = (
        "import torch.nn as nn\n\nnet = nn.Sequential(\n    nn.Linear(3, 4, device=None),  # in\n"
        "    nn.ReLU(inplace=True),\n    # out\n    nn.Linear(4, 2),\n)\n"
    )
    made = torch2mlx.port(source).source
    assert made.endswith(
        "net = nn.Sequential(\n    nn.Linear(3, 4),  # in\n    nn.ReLU(),\n    # out\n"
        "    nn.Linear(4, 2),\n)\n"
    )


def test_optimizers_out_of_a_list_are_refused():
    """Each has parameters of its own, which a list does not tell."""
    source = (
        "import torch\n\n\ndef step(model, optimizers, x):\n    loss = model(x).mean()\n"
        "    loss.backward()\n    for optimizer in optimizers:\n        optimizer.step()\n"
        "        optimizer.zero_grad()\n    return loss.item()\n"
    )
    result = torch2mlx.port(source)
    assert any("one optimizer after another" in u.reason for u in result.unsupported)
