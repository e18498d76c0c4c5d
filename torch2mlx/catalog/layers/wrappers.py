"""Wrappers, which count as what they wrap, and classes that nothing can stand for, with reasons."""

from __future__ import annotations

from torch2mlx.catalog.layers.entry import layer, without

for _names, _inner in (
    ("torch.nn.parallel.data_parallel.DataParallel", "module"),
    ("torch.nn.parallel.distributed.DistributedDataParallel", "module"),
    ("torch.optim.swa_utils.AveragedModel", "module"),
    ("torch._dynamo.eval_frame.OptimizedModule", "_orig_mod"),
    (
        "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel",
        "_fsdp_wrapped_module",
    ),
    (
        "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.ActivationWrapper",
        "_checkpoint_wrapped_module",
    ),
):
    layer(_names, transparent=_inner, tensors=None)

without("Container", "an old name of Module")
for _kind in ("Conv", "ConvTranspose", "BatchNorm", "InstanceNorm"):
    without(
        f"Lazy{_kind}1d Lazy{_kind}2d Lazy{_kind}3d", "lazy layers: give the number of channels"
    )
without("LazyLinear", "lazy layers: give the number of inputs")
