"""What several processes cannot be in MLX is refused by name, at its line."""

import pytest

from tests.porting.compare import executed
from tests.support import need

need("mlx.core", "libcst")

import mlx.core as mx

import torch2mlx

HEAD = "import torch\nimport torch.distributed as dist\nimport torch.multiprocessing as mp\n"
HEAD += "from torch.nn.parallel import DistributedDataParallel as DDP\n\n\n"
REFUSED = {
    "g = dist.new_group([0, 1])": "knows no groups but that of all processes",
    "m = dist.init_device_mesh('cpu', (2, 2))": "knows no groups but that of all processes",
    "m = dist.device_mesh.DeviceMesh('cpu', [0])": "knows no groups but that of all processes",
    "n = dist.fsdp.FullyShardedDataParallel(x)": "FSDP: parameters are whole on every process",
    "n = dist.tensor.parallel.parallelize_module(x)": "tensor parallel: parameters are whole",
    "n = dist.pipelining.pipeline(x, (x,))": "pipeline parallel: parameters are whole",
    "o = dist.optim.ZeroRedundancyOptimizer(x)": "states that are split over processes",
    "r = dist.rpc.init_rpc('a')": "calls of functions in other processes",
    "w = dist.isend(x, 1)": "calls are made at once in MLX: write send and recv",
    "w = dist.irecv(x, 1)": "calls are made at once in MLX: write send and recv",
    "dist.all_to_all([x], [x])": "lists of tensors of different shapes: all_to_all_single",
    "dist.all_reduce(x, dist.ReduceOp.BAND)": "sums, averages, maxima, minima and products alone",
    "dist.all_reduce(x * 2)": "it writes to its argument: give that a name",
    "y = f(dist.all_reduce(x))": "it changes its argument: give that a name",
    "dist.all_gather(x, x)": "the list that it fills: make it in this function",
    "dist.all_gather(list(x.chunk(2)), x)": "the list that it fills: make it in this function",
    "p = mp.Process(target=f)": "torch.multiprocessing.spawn, or mlx.launch -n 4 script.py",
}


@pytest.mark.parametrize("statement", REFUSED)
def test_what_is_not_there_is_refused_by_name(statement):
    text = f"{HEAD}def f(x: torch.Tensor):\n    {statement}\n    return x\n"
    result = torch2mlx.port(text)
    found = [u for u in result.unsupported if REFUSED[statement] in u.reason]
    assert found, (result.unsupported, result.source)
    assert {u.line for u in found} == {text[: text.index(statement)].count("\n") + 1}


@pytest.mark.parametrize(
    ("made", "ok"),
    [
        ("[torch.zeros_like(x) for _ in range(2)]", True),
        ("[torch.empty(3).to(x.device) for _ in range(2)] if x.sum() > 0 else None", True),
        ("list(big.chunk(2))", False),
        ("[x for _ in range(2)]", False),
        ("[torch.zeros(3)] * 2", False),
    ],
)
def test_a_list_that_is_filled_is_of_tensors_that_nothing_else_has(made, ok):
    text = f"{HEAD}def f(x: torch.Tensor, big: torch.Tensor):\n    parts = {made}\n"
    text += "    dist.all_gather(parts, x)\n    return parts, big\n"
    assert torch2mlx.port(text).ok is ok


def test_a_view_that_is_written_to_is_refused_where_its_tensor_is_read():
    text = f"{HEAD}def f(y: torch.Tensor):\n    x = y * 2\n    row = x[0]\n"
    text += "    dist.all_reduce(row)\n"
    assert not torch2mlx.port(f"{text}    return x\n").ok
    assert torch2mlx.port(f"{text}    return row\n").ok


def test_a_script_of_several_runs_in_one_process():
    text = (
        f"{HEAD}class Net(torch.nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.fc = torch.nn.Linear(3, 2)\n\n"
        "    def forward(self, x):\n        return self.fc(x)\n\n\n"
        "def run(x):\n    dist.init_process_group('gloo')\n    net = Net()\n"
        "    ddp = DDP(net)\n    ours = isinstance(ddp, DDP)\n"
        "    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)\n"
        "    before = net.fc.bias.sum()\n"
        "    loss = ddp(x).sum()\n    loss.backward()\n    optimizer.step()\n"
        "    dist.all_reduce(loss, op=dist.ReduceOp.AVG)\n"
        "    work = dist.broadcast(loss, 0, async_op=True)\n    work.wait()\n"
        "    dist.destroy_process_group()\n"
        "    return loss, before - net.fc.bias.sum(), dist.is_initialized(), ours\n"
    )
    result = torch2mlx.port(text)
    assert result.ok, result.unsupported
    loss, moved, initialised, ours = executed(result.source, "of_one").run(mx.ones((4, 3)))
    assert loss.shape == () and not initialised and ours
    assert moved.item() == pytest.approx(0.8, abs=1e-5)


def test_the_report_names_what_stands_for_each():
    text = f"{HEAD}def f(net, x):\n    dist.all_reduce(x)\n    return DDP(net)\n"
    told = {c.what: c.why for c in torch2mlx.port(text).changes}
    assert told["torch.distributed.all_reduce"] == "over mx.distributed, at once"
    wrapped = told["torch.nn.parallel.DistributedDataParallel"]
    assert wrapped == "gradients are averaged where they are taken"
