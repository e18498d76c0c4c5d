"""Running statistics outside of a stock layer's one call: they move in training as torch's do, stay
in evaluation, and are found again by the next call."""

import copy

import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import torch2mlx
from tests.export.alike import (
    assert_alike,
    assert_loads_strictly,
    assert_outputs_alike,
    assert_state_alike,
)
from torch2mlx.export.ir.structures import to_mlx
from torch2mlx.export.lower.build_layer import build, converted_arrays
from torch2mlx.kit import tracking


class Acting2d(nn.BatchNorm2d):
    """A norm with its activation, which calls the function."""

    def forward(self, x):
        if self.training and self.track_running_stats:
            self.num_batches_tracked.add_(1)
        return F.leaky_relu(
            F.batch_norm(
                x,
                self.running_mean if not self.training or self.track_running_stats else None,
                self.running_var if not self.training or self.track_running_stats else None,
                self.weight,
                self.bias,
                self.training or not self.track_running_stats,
                self.momentum,
                self.eps,
            )
        )


class Calling1d(nn.BatchNorm1d):
    """A norm around torch's own."""

    def forward(self, x):
        return super().forward(x) * 2


class Averaging2d(nn.BatchNorm2d):
    """A norm that averages all batches alike, by its own hand."""

    def forward(self, x):
        factor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                factor = 1.0 / float(self.num_batches_tracked)
        stats = self.running_mean, self.running_var, self.weight, self.bias
        return F.batch_norm(x, *stats, self.training, factor, self.eps)


class OfItsOwn(nn.Module):
    """No norm by its class: buffers of its own, and the function."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(4))
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("var", torch.ones(4))

    def forward(self, x):
        y = F.batch_norm(x, self.mean, self.var, self.scale, None, training=self.training)
        return y + self.mean[:, None, None]


class Instances(nn.InstanceNorm2d):
    """The function for single samples."""

    def forward(self, x):
        own = self.training or not self.track_running_stats
        stats = self.running_mean, self.running_var, self.weight, self.bias
        return F.instance_norm(x, *stats, own, self.momentum, self.eps).tanh()


class Between(nn.Module):
    """A norm between two layers, once or more often."""

    def __init__(self, norm, times=1):
        super().__init__()
        self.first, self.norm, self.times = nn.Conv2d(3, 4, 1), norm, times
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        x = self.first(x)
        for _ in range(self.times):
            x = self.norm(x) + 1
        return self.last(x)


class Two(nn.Module):
    """One norm on two inputs."""

    def __init__(self, norm):
        super().__init__()
        self.norm, self.last = norm, nn.Conv2d(3, 2, 1)

    def forward(self, real, fake):
        return self.last(self.norm(real)) - self.last(self.norm(fake))


class Flat(nn.Module):
    """Norms of vectors and of sequences."""

    def __init__(self, vectors, sequences):
        super().__init__()
        self.vectors, self.sequences = vectors, sequences
        self.first, self.last = nn.Linear(6, 4), nn.Conv1d(4, 3, 1)

    def forward(self, x):
        return self.last(self.sequences(self.vectors(self.first(x))[:, :, None] * x[:, None]))


MODELS = {
    "a subclass": lambda: Between(Acting2d(4)),
    "a subclass around torch's": lambda: Flat(Calling1d(4), Calling1d(4, momentum=0.3)),
    "another momentum and eps": lambda: Between(Acting2d(4, momentum=0.4, eps=1e-2)),
    "without affine": lambda: Between(Acting2d(4, affine=False)),
    "without statistics": lambda: Between(Acting2d(4, track_running_stats=False)),
    "all batches alike": lambda: Between(Averaging2d(4, momentum=None)),
    "all batches alike, stock": lambda: Between(nn.BatchNorm2d(4, momentum=None)),
    "a subclass called three times": lambda: Between(Acting2d(4), 3),
    "a stock layer called three times": lambda: Between(nn.BatchNorm2d(4), 3),
    "buffers of a module of its own": lambda: Between(OfItsOwn()),
    "instances": lambda: Between(Instances(4, affine=True, track_running_stats=True)),
    "instances called twice": lambda: Between(Instances(4, track_running_stats=True), 2),
    "stock instances": lambda: Between(nn.InstanceNorm2d(4, track_running_stats=True), 2),
    "instances without momentum": lambda: Between(
        nn.InstanceNorm2d(4, momentum=None, track_running_stats=True)
    ),
}


def inputs_of(model, batch, size):
    """Example inputs, of a batch and a size."""
    return (torch.randn(batch, 6),) if isinstance(model, Flat) else (torch.randn(batch, 3, *size),)


@pytest.mark.parametrize("name", MODELS)
def test_statistics_after_three_steps_and_then_in_evaluation(name):
    torch.manual_seed(0)
    model = MODELS[name]().train()
    steps = [inputs_of(model, b, s) for b, s in ((4, (5, 5)), (6, (5, 5)), (3, (5, 5)))]
    torch_model = copy.deepcopy(model)
    made = assert_alike(model, *steps)
    module = made.module
    assert_state_alike_in_evaluation(torch_model, module, steps)


def assert_state_alike_in_evaluation(model, module, steps):
    """After the same steps both use what they kept."""
    for given in steps:
        model(*given)
    model.eval()
    module.eval()
    assert_outputs_alike(model, module, steps[0], 1e-4)
    before = {name: np.array(value) for name, value in converted_arrays(model).items()}
    assert_state_alike(model, module, 1e-4)
    assert all((np.array(v) == before[n]).all() for n, v in converted_arrays(model).items())


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, Acting2d, Averaging2d])
def test_one_norm_on_two_inputs_takes_them_in_order(norm):
    torch.manual_seed(0)
    model = Two(norm(3)).train()
    first, second = ((torch.randn(n, 3, 4, 4), torch.randn(n, 3, 4, 4) * 3 + 1) for n in (4, 5))
    made = assert_alike(model, first, second)
    assert_loads_strictly(model.eval(), made, first) if made.module.eval() else None


@pytest.mark.parametrize("name", ["a subclass", "buffers of a module of its own", "instances"])
def test_what_was_translated_in_evaluation_is_trained(name):
    torch.manual_seed(0)
    model = MODELS[name]()
    model.train()(*inputs_of(model, 4, (5, 5)))
    made = torch2mlx.translate(model.eval(), inputs_of(model, 4, (5, 5)))
    given = inputs_of(model, 5, (5, 5))
    assert_outputs_alike(model, made.module, given)
    model.train()
    made.module.train()
    assert_outputs_alike(copy.deepcopy(model), copy.deepcopy(made.module), given)
    for _ in range(2):
        model(*given)
        mx.eval(made.module(to_mlx(given[0])), made.module.parameters())
    assert_state_alike(model, made.module)


class Frozen(nn.BatchNorm2d):
    """A norm that always uses what it has kept."""

    def forward(self, x):
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)


@pytest.mark.parametrize("training", [True, False])
def test_a_frozen_norm_stays_so_in_either_mode(training):
    torch.manual_seed(0)
    model, x = Between(Frozen(4)).train(training), torch.randn(4, 3, 5, 5)
    made = torch2mlx.translate(model, (x,))
    for mode in (training, not training):
        made.module.train(mode)
        assert_outputs_alike(model.train(mode), made.module, (x,))
    assert_state_alike(model, made.module)


class Partly(nn.Module):
    """Layers with modes, each as a member, in a list and in a Sequential."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(4, 4), Calling1d(4)), Dropping()])
        self.tail = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4))

    def forward(self, x):
        x = self.norm(x)
        for block in self.blocks:
            x = block(x)
        return self.tail(x)


class Dropping(nn.Module):
    """The function for dropping, by the module's own mode."""

    def forward(self, x):
        return F.dropout(x, 0.5, self.training)


def test_modules_kept_in_evaluation_within_a_model_that_is_trained(tmp_path):
    torch.manual_seed(0)
    model, x = Partly().train(), torch.randn(5, 4)
    for part in (model.norm, model.blocks[0][1], model.blocks[1], model.tail):
        part.eval()
    model.tail[2].train()
    made = torch2mlx.translate(model, (x,))
    folder = made.save(tmp_path / "partly")
    loaded = torch2mlx.load(folder)
    for module in (made.module, loaded):
        modes = {name: part.training for name, part in module.named_modules()}
        assert not modes["norm"] and modes["blocks.0.layers.0"]
        assert not modes["blocks.0.layers.1"] and not modes["blocks.1"]
        assert not modes["tail.layers.1"] and modes["tail.layers.2"]
    assert_alike(model, (x,), (torch.randn(3, 4),))


def test_an_average_over_all_batches_goes_on_where_it_was():
    torch.manual_seed(0)
    layer = nn.BatchNorm1d(3, momentum=None).train()
    for _ in range(4):
        layer(torch.randn(5, 3))
    twin, x = build(layer), torch.randn(5, 3)
    layer(x)
    twin(to_mlx(x))
    np.testing.assert_allclose(twin.running_mean, layer.running_mean, rtol=1e-5)
    model = nn.Sequential(Averaging2d(3, momentum=None)).train()
    for _ in range(2):
        model(torch.randn(4, 3, 2, 2))
    assert_alike(model, (torch.randn(4, 3, 2, 2),), (torch.randn(5, 3, 2, 2),))


def test_one_value_per_channel_is_an_error_in_training_as_in_torch():
    mean, var = mx.zeros((4,)), mx.ones((4,))
    with pytest.raises(ValueError, match="batch norm in training needs more than one value"):
        tracking.batch_norm(mx.zeros((1, 4)), mean, var)
    with pytest.raises(ValueError, match="instance norm needs more than one value per channel"):
        tracking.instance_norm(mx.zeros((3, 1, 4)), mean, var)
    assert tracking.batch_norm(mx.zeros((1, 4)), mean, var, training=False)[1] is mean
