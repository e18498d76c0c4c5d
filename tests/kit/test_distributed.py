"""Several processes: torch's order of a sampler, one batch norm for all, how processes are told."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.groups import ROOT, printed, started
from tests.support import close, need

need("torch", "mlx.core")

import mlx.core as mx
import mlx.nn as nn
import torch
from torch.utils.data.distributed import DistributedSampler

from torch2mlx import kit
from torch2mlx.kit import processes

GROUPS = Path(__file__).parent / "groups"
D = kit.distributed


@pytest.mark.parametrize("count", [1, 3, 10, 257])
@pytest.mark.parametrize("options", [{}, {"shuffle": False}, {"drop_last": True, "seed": 12}])
def test_a_sampler_has_torchs_places_in_torchs_order(count, options):
    if options.get("drop_last") and count == 1:
        pytest.skip("torch gives a negative number of places there")
    data = list(range(count))
    for replicas in (1, 2, 4, 7):
        for rank in range(replicas):
            theirs = DistributedSampler(data, replicas, rank, **options)
            ours = D.DistributedSampler(data, replicas, rank, **options)
            assert len(ours) == len(theirs)
            for epoch in (0, 1, 2**33):
                theirs.set_epoch(epoch)
                ours.set_epoch(epoch)
                assert list(ours) == list(theirs)


def test_a_sampler_refuses_a_rank_that_is_none():
    with pytest.raises(ValueError, match=r"^rank 2 of 2 processes$"):
        D.DistributedSampler([1, 2], 2, 2)


def test_one_process_alone_is_answered_as_torch_answers_a_group_of_one(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    x, parts = mx.array([1.0, 2.0]), [mx.zeros(2)]
    assert (D.get_rank(), D.get_world_size(), D.is_initialized()) == (0, 1, False)
    D.init_process_group("nccl")
    assert D.is_initialized()
    D.all_gather(parts, x)
    held, told = [None], ["it"]
    D.all_gather_object(held, {"a": 1})
    D.broadcast_object_list(told)
    D.barrier().wait()
    assert (parts[0].tolist(), held, told) == ([1.0, 2.0], [{"a": 1}], ["it"])
    for op in D.ReduceOp:
        assert D.all_reduce(x, op).tolist() == [1.0, 2.0]
    for write in (D.all_reduce, lambda t: D.broadcast(t, 0), lambda t: D.reduce(t, 0)):
        slope = mx.grad(lambda w, write=write: (write(w * w * 2) * 3).sum())(mx.ones(3))
        assert slope.tolist() == [12.0] * 3  # torch's autograd goes on as if nothing was written
    assert D.scatter(mx.zeros(2), [x]).tolist() == [1.0, 2.0]
    model = D.DistributedDataParallel(nn.Linear(2, 3))
    assert model(x).tolist() == model.module(x).tolist()
    with pytest.raises(RuntimeError, match=r"^the process group is there already"):
        D.init_process_group()
    with pytest.raises(ValueError, match=r"^rank 0: a process does not send to itself$"):
        D.send(x, 0)
    D.destroy_process_group()


def test_what_cannot_be_is_an_error_by_name(monkeypatch):
    with pytest.raises(ValueError, match=r"^nprocs=0: say how many processes; MLX counts no CUDA"):
        D.spawn(print, nprocs=0)
    with pytest.raises(ValueError, match=r"^group=: MLX's ring knows the group of all processes"):
        D.get_rank(object())
    with pytest.raises(ValueError, match=r"^init_method='file:///x': only env:// and tcp://"):
        D.init_process_group(init_method="file:///x")
    with pytest.raises(
        RuntimeError, match=r"^4 processes that meet at 10.0.0.7: start it with mlx"
    ):
        D.init_process_group(init_method="tcp://10.0.0.7:99", world_size=4, rank=1)
    with pytest.raises(TypeError, match=r"bool: cast it to a number first$"):
        D.all_reduce(mx.array([True]))
    with pytest.raises(TypeError, match=r"^the average of mlx.core.int32: cast it to a float"):
        D.all_reduce(mx.array([1]), D.ReduceOp.AVG)
    monkeypatch.setenv("WORLD_SIZE", "4")  # started as one of four, and not joined
    with pytest.raises(RuntimeError, match=r"^the process group is not there yet"):
        D.get_world_size()
    model = nn.Sequential(nn.BatchNorm(3))
    with pytest.raises(ValueError, match=r"^mlx.nn.BatchNorm has no statistics over processes"):
        D.convert_sync_batchnorm(model)


def test_a_batch_norm_over_processes_is_one_over_the_whole_batch(tmp_path):
    draw = np.random.RandomState(0)
    x = draw.randn(13, 4, 2, 3).astype(np.float32) * 2 + 1
    slope, weight, bias = draw.randn(13, 4, 2, 3), draw.rand(3) + 0.5, draw.randn(3)
    held = {"x": x, "slope": slope, "weight": weight, "bias": bias}
    held = {k: v.astype(np.float32) for k, v in held.items()}
    np.savez(tmp_path / "held.npz", **held, ends=np.array([0, 5, 6, 9, 13]))
    script = GROUPS / "normalised.py"
    found = json.loads(printed(started("mlx", 4, script, [str(tmp_path / "held.npz")]), 60))
    norm = torch.nn.BatchNorm2d(3)
    norm.weight.data, norm.bias.data = torch.tensor(held["weight"]), torch.tensor(held["bias"])
    first = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    out = norm(first)
    loss = (out * torch.tensor(held["slope"].transpose(0, 3, 1, 2))).sum()
    loss.backward()
    close(np.array(found["loss"]), np.array(loss.item()))
    close(np.array(found["gradient"]), first.grad.numpy().transpose(0, 2, 3, 1))
    close(np.array(found["weight"]), norm.weight.grad.numpy())
    norm(first)  # the script's second call moves the statistics again
    close(np.array(found["out"]), out.detach().numpy().transpose(0, 2, 3, 1))
    close(np.array(found["mean"]), norm.running_mean.numpy())
    close(np.array(found["var"]), norm.running_var.numpy())


SUM = """
import os
import mlx.core as mx
from torch2mlx import kit
D = kit.distributed
D.init_process_group()
total = D.all_reduce(mx.array(D.get_rank() + 1)).item()
told = " ".join(os.environ[name] for name in ("LOCAL_RANK", "WORLD_SIZE"))
open(f"{D.get_rank()}.txt", "w").write(f"{total} {told}")
"""


def test_mlx_launch_is_told_under_torchruns_names(tmp_path):
    (tmp_path / "sum.py").write_text(SUM)
    launch = Path(sys.executable).with_name("mlx.launch")
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [str(launch), "-n", "2", "--python", sys.executable, "--env", f"PYTHONPATH={path}"]
    subprocess.run(
        [*command, "--starting-port", str(processes._free(1)[0]), "sum.py"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert [(tmp_path / f"{r}.txt").read_text() for r in (0, 1)] == ["3 0 2", "3 1 2"]


def test_torchruns_names_make_a_ring_of_one_machine(tmp_path):
    (tmp_path / "sum.py").write_text(SUM)
    port = processes._free(1)[0]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    shared["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    started_ = [
        subprocess.Popen(
            [sys.executable, "sum.py"],
            cwd=tmp_path,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in (0, 1)
    ]
    assert [process.wait(60) for process in started_] == [0, 0]
    assert [(tmp_path / f"{r}.txt").read_text() for r in (0, 1)] == ["3 0 2", "3 1 2"]
