"""Modules of the model's own that compute what a layer of mlx.nn computes: the file declares that
layer in their place."""

from __future__ import annotations

from torch2mlx.export.ir.outline import Outline
from torch2mlx.export.structure.classes import Construct, Instance, Option
from torch2mlx.export.structure.constructors import is_told

#: What a forward calls on its one argument -> the layer.
_ACTIVATIONS = {
    **{"nn.relu": "nn.ReLU()", "nn.relu6": "nn.ReLU6()", "nn.silu": "nn.SiLU()"},
    **{"nn.gelu": "nn.GELU()", "nn.gelu_approx": 'nn.GELU(approx="tanh")'},
    **{"mx.sigmoid": "nn.Sigmoid()", "mx.tanh": "nn.Tanh()", "nn.mish": "nn.Mish()"},
}
_EPS = 1e-5


def stock_layer(instance: Instance) -> Construct | None:
    """The constructor of the layer; None for a module that does something else, or more."""
    if [name for name, _, _ in instance.methods] != ["__call__"] or instance.children:
        return None
    outline = instance.methods[0][2]
    if len(outline.steps) != 1 or outline.outputs != (("made", 0, 0),) or outline.inputs != 1:
        return None
    if instance.tensors:
        return _rms_norm(instance, outline)
    step = outline.steps[0]
    name = _ACTIVATIONS.get(step.what[0])
    return Construct([name]) if name and step.reads == (("in", 0),) and not step.numbers else None


def _rms_norm(instance: Instance, outline: Outline) -> Construct | None:
    """`mx.fast.rms_norm(x, self.weight, eps)`, as mlx.nn.RMSNorm computes it."""
    step, ((name, weight), *others) = outline.steps[0], instance.tensors
    sizes = weight.holes()
    if step.what[0] != "mx.fast.rms_norm" or others or name != "weight" or len(sizes) != 1:
        return None
    if step.reads != (("in", 0), ("own", "self.weight")) or len(step.numbers) != 1:
        return None
    if "dtype" in weight.text() or instance.buffers:
        return None
    (eps,) = step.numbers
    made = Construct(["nn.RMSNorm(", ("dims", sizes[0][1])])
    return made.add(Option("eps", eps, eps != _EPS or is_told(eps)), ")")
