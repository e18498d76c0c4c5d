"""Memory: a window, whatever the model weighs."""

import json
import os
import shutil
import subprocess
import sys
import textwrap

import pytest

from tests.support import alone, need

need("torch", "safetensors")

SHARD = 256 << 20  # bytes
MEASURED = textwrap.dedent(
    """
    import sys, threading, time
    from torch2mlx import convert

    def private():
        fields = {}
        with open("/proc/self/smaps_rollup") as file:
            for line in file.read().splitlines()[1:]:
                name, value, _ = line.split()
                fields[name] = int(value)
        return fields["Private_Dirty:"]

    peak, done = 0, False

    def watch():
        global peak
        while not done:
            peak = max(peak, private())
            time.sleep(0.005)

    before = private()
    thread = threading.Thread(target=watch)
    thread.start()
    options = {"rules": {"**": "Conv2d"}}
    if len(sys.argv) > 3:
        options["dtype"] = sys.argv[3]
    convert(sys.argv[1], sys.argv[2], **options)
    done = True
    thread.join()
    print(peak, before)
    """
)


def peak_mib(source, out, *arguments):
    found = subprocess.run(
        [sys.executable, "-c", MEASURED, str(source), str(out), *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return int(found.stdout.split()[0]) / 1024


@pytest.fixture
def disk(tmp_path, tmp_path_factory):
    """A folder with room for large files, which do not stay."""
    with alone(tmp_path_factory, "disk"):
        free = shutil.disk_usage(tmp_path).free
        if free < 8 << 30:
            pytest.skip(f"needs 8 GB of disk, there are {free >> 30}")
        yield tmp_path
        shutil.rmtree(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="needs Linux's /proc")
@pytest.mark.parametrize(("kind", "gigabytes"), [("sharded", 3), ("pt", 1)])
def test_gigabytes_take_less_than_300_mib(kind, gigabytes, disk):
    import numpy as np
    import torch
    from safetensors.numpy import save_file

    block = np.resize(np.arange(SHARD // 4, dtype=np.float32), (512, 14563, 3, 3))
    parts = gigabytes * (1 << 30) // block.nbytes
    source = disk / "source"
    if kind == "sharded":
        source.mkdir()
        weight_map = {}
        for i in range(1, parts + 1):
            name = f"model-{i:05d}-of-{parts:05d}.safetensors"
            save_file({f"layer{i}.weight": block}, source / name)
            weight_map[f"layer{i}.weight"] = name
        index = {"weight_map": weight_map}
        (source / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        source = disk / "source.pt"
        shared = torch.from_numpy(block)
        torch.save({f"layer{i}.weight": shared + 0 for i in range(parts)}, source)
    assert peak_mib(source, disk / "out") < 300
    if kind == "pt":
        assert peak_mib(source, disk / "half", "float16") < 300
