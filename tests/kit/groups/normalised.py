"""A batch in unequal parts through a batch norm over all processes: what comes out, the gradients
and the running statistics, as JSON on rank 0."""

import json
import sys
from itertools import chain

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from torch2mlx import kit

D = kit.distributed


def main(path):
    D.init_process_group("gloo")
    rank, size = D.get_rank(), D.get_world_size()
    held = np.load(path)
    parts = [held["x"][a:b] for a, b in zip(held["ends"], held["ends"][1:], strict=False)]
    slope = [held["slope"][a:b] for a, b in zip(held["ends"], held["ends"][1:], strict=False)]
    x, wanted = mx.array(parts[rank]), mx.array(slope[rank])
    model = D.convert_sync_batchnorm(nn.Sequential(kit.BatchNorm2d(x.shape[-1])))
    norm = model.layers[0]
    norm.weight, norm.bias = mx.array(held["weight"]), mx.array(held["bias"])

    def loss(module, x):
        return (module(x) * wanted).sum()

    value, grads = mx.value_and_grad(lambda p, x: (model.update(p), loss(model, x))[1], (0, 1))(
        model.trainable_parameters(), x
    )
    weight = D.all_reduce(grads[0]["layers"][0]["weight"])
    found = [None] * size
    D.all_gather_object(found, np.array(grads[1]).tolist())
    again = [None] * size
    D.all_gather_object(again, np.array(model(x)).tolist())
    told = {"gradient": [*chain(*found)], "out": [*chain(*again)], "weight": weight.tolist()}
    told |= {"mean": norm.running_mean.tolist(), "var": norm.running_var.tolist()}
    told["loss"] = D.all_reduce(value).item()
    if rank == 0:
        print(json.dumps(told))
    D.destroy_process_group()


main(sys.argv[1])
