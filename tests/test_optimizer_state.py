"""Training goes on in the other framework where it stopped in the first."""

import numpy as np
import pytest

from tests.support import close, need

need("torch", "mlx.core", "mlx.nn", "mlx.optimizers")

import mlx.core as mx
import mlx.nn
import mlx.optimizers
import torch
from mlx.utils import tree_map
from torch import nn

import torch2mlx
from torch2mlx import kit
from torch2mlx.errors import ConversionError

KINDS = {
    "adam": (
        lambda p: torch.optim.Adam(p, lr=1e-2),
        lambda: mlx.optimizers.Adam(1e-2, bias_correction=True),
    ),
    "adamw": (
        lambda p: torch.optim.AdamW(p, lr=1e-2, amsgrad=True),
        lambda: kit.optimizers.AdamW(1e-2, amsgrad=True),
    ),
    "sgd": (
        lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9),
        lambda: mlx.optimizers.SGD(1e-2, momentum=0.9),
    ),
    "rmsprop": (lambda p: torch.optim.RMSprop(p, lr=1e-3), lambda: kit.optimizers.RMSprop(1e-3)),
    "rmsprop, all states": (
        lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.9, centered=True),
        lambda: kit.optimizers.RMSprop(1e-3, momentum=0.9, centered=True),
    ),
    "sgd, damped": (
        lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, dampening=0.5),
        lambda: kit.optimizers.SGD(1e-2, momentum=0.9, dampening=0.5),
    ),
    "nadam": (lambda p: torch.optim.NAdam(p), lambda: kit.optimizers.NAdam()),
    "radam": (lambda p: torch.optim.RAdam(p), lambda: kit.optimizers.RAdam()),
    "adamax": (lambda p: torch.optim.Adamax(p), lambda: kit.optimizers.Adamax()),
    "adagrad": (lambda p: torch.optim.Adagrad(p), lambda: kit.optimizers.Adagrad()),
    "adadelta": (lambda p: torch.optim.Adadelta(p), lambda: kit.optimizers.Adadelta()),
    "capturable": (
        lambda p: torch.optim.Adam(p, lr=torch.tensor(1e-2)),
        lambda: kit.optimizers.Adam(1e-2),
    ),
}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv1d(2, 4, 3), nn.Linear(4, 1)

    def forward(self, x):
        return self.head(torch.relu(self.conv(x)).mean(2))


class Twin(mlx.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = mlx.nn.Conv1d(2, 4, 3), mlx.nn.Linear(4, 1)

    def __call__(self, x):
        return self.head(mx.maximum(self.conv(x.swapaxes(1, 2)), 0).mean(1))


def steps_in_torch(model, optimizer, x, count):
    losses = []
    for _ in range(count):
        optimizer.zero_grad()
        loss = (model(x) - 1).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def steps_in_mlx(model, optimizer, x, count):
    losses = []
    for _ in range(count):
        loss = lambda: mx.mean(mx.square(model(x) - 1))
        value, gradients = mlx.nn.value_and_grad(model, loss)()
        optimizer.update(model, gradients)
        losses.append(value.item())
    return losses


@pytest.mark.parametrize("kind", KINDS)
def test_both_ways(kind, tmp_path):
    torch.manual_seed(0)
    theirs, ours = KINDS[kind]
    model, x = Net(), torch.randn(8, 2, 9)
    optimizer = theirs(model.parameters())
    steps_in_torch(model, optimizer, x, 7)
    twin, other = Twin(), ours()
    torch2mlx.convert(model, tmp_path / "net.safetensors")
    twin.load_weights(str(tmp_path / "net.safetensors"))
    other.init(twin.trainable_parameters())
    other.state = torch2mlx.convert_optimizer_state(optimizer, model)
    found = steps_in_mlx(twin, other, mx.array(x.numpy()), 6)
    np.testing.assert_allclose(found, steps_in_torch(model, optimizer, x, 6), rtol=1e-4)

    back = Net()
    back.load_state_dict(model.state_dict())
    again = theirs(back.parameters())
    again.load_state_dict(torch2mlx.revert_optimizer_state(other.state, model, again))
    found = steps_in_torch(back, again, x, 6)
    np.testing.assert_allclose(found, steps_in_torch(model, optimizer, x, 6), rtol=1e-3)


def stepped(module, groups, count=3, late=(), kind=torch.optim.AdamW):
    """An optimizer after some steps; parameters in `late` took the last one alone."""
    optimizer = kind(groups)
    for step in range(count):
        for parameter in late:
            parameter.requires_grad = step == count - 1
        optimizer.zero_grad()
        sum((p * (p + 1)).sum() for p in module.parameters() if p.requires_grad).backward()
        optimizer.step()
    return optimizer


def gradients_of(twin):
    """The gradients that `stepped` gives."""
    return tree_map(lambda p: 2 * p + 1, twin.trainable_parameters())


def mlx_twin(module):
    twin = mlx.nn.Linear(3, 2)
    twin.update({name: mx.array(p.detach().numpy()) for name, p in module.named_parameters()})
    return twin


def assert_goes_on(module, optimizer, twin, other):
    """Three more steps in both frameworks end at the same parameters."""
    for _ in range(3):
        optimizer.zero_grad()
        sum((p * (p + 1)).sum() for p in module.parameters()).backward()
        optimizer.step()
        other.update(twin, gradients_of(twin))
    for name, parameter in module.named_parameters():
        close(twin[name], parameter.detach())


def same_states(found, expected, tolerance=1e-7):
    assert found["state"].keys() == expected["state"].keys()
    for number, held in expected["state"].items():
        assert found["state"][number].keys() == held.keys()
        for slot, value in held.items():
            close(found["state"][number][slot], value, tolerance)
    rates = [[float(g["lr"]) for g in s["param_groups"]] for s in (found, expected)]
    np.testing.assert_allclose(rates[0], rates[1], rtol=1e-7)


def test_a_step_of_its_own_for_each_parameter():
    module = nn.Linear(3, 2)
    optimizer = stepped(module, module.parameters(), 5, late=[module.bias])
    with pytest.raises(ConversionError, match=r"weight: 5, bias: 1.*kit\.optimizers"):
        torch2mlx.convert_optimizer_state(optimizer, module)
    twin, other = mlx_twin(module), kit.optimizers.AdamW(1e-3)
    with pytest.raises(ConversionError, match="steps of their own"):
        torch2mlx.convert_optimizer_state(optimizer, module, optimizer=mlx.optimizers.AdamW(1e-3))
    other.state = torch2mlx.convert_optimizer_state(optimizer, module, optimizer=other)
    again = torch.optim.AdamW(module.parameters())
    same_states(
        torch2mlx.revert_optimizer_state(other.state, module, again), optimizer.state_dict()
    )
    assert_goes_on(module, optimizer, twin, other)
    found = torch2mlx.revert_optimizer_state(other.state, module, again)
    same_states(found, optimizer.state_dict(), 1e-5)


def test_groups_with_options_of_their_own():
    module = nn.Linear(3, 2)
    groups = lambda m: [
        {"params": [m.bias], "lr": 1e-1},
        {"params": [m.weight], "betas": (0.5, 0.9)},
    ]
    optimizer = stepped(module, groups(module))
    with pytest.raises(
        ConversionError, match=r"groups 0 and 1 differ in betas, lr.*ParameterGroups"
    ):
        torch2mlx.convert_optimizer_state(optimizer, module)
    with pytest.raises(ConversionError, match="2 groups does not say which parameter is which"):
        torch2mlx.convert_optimizer_state(optimizer.state_dict(), module)
    twin = mlx_twin(module)
    other = kit.ParameterGroups(twin, kit.optimizers.AdamW, groups(twin), lr=1e-3)
    other.state = torch2mlx.convert_optimizer_state(optimizer, module, optimizer=other)
    same_states(
        torch2mlx.revert_optimizer_state(other.state, module, optimizer), optimizer.state_dict()
    )
    with pytest.raises(ConversionError, match="learning rates"):
        torch2mlx.revert_optimizer_state(other.state[0], module, optimizer)
    assert_goes_on(module, optimizer, twin, other)


def test_groups_of_a_multi_optimizer():
    module = nn.Linear(3, 2)
    optimizer = stepped(
        module, [{"params": [module.bias], "lr": 1e-1}, {"params": [module.weight]}]
    )
    parts = [kit.optimizers.AdamW(1e-1), kit.optimizers.AdamW(1e-3)]
    other = mlx.optimizers.MultiOptimizer(parts, [lambda name, _: name == "bias"])
    twin = mlx_twin(module)
    other.state = torch2mlx.convert_optimizer_state(optimizer, module, optimizer=other)
    same_states(
        torch2mlx.revert_optimizer_state(other.state, module, optimizer), optimizer.state_dict()
    )
    assert_goes_on(module, optimizer, twin, other)
    turned = mlx.optimizers.MultiOptimizer(parts, [lambda name, _: name == "weight"])
    with pytest.raises(
        ConversionError, match=r"weight is in group 1 of torch's .* group 0 of MLX's"
    ):
        torch2mlx.convert_optimizer_state(optimizer, module, optimizer=turned)


def test_amsgrad_in_one_group_only():
    module = nn.Linear(3, 2)
    groups = lambda m: [{"params": [m.bias], "amsgrad": True}, {"params": [m.weight]}]
    optimizer = stepped(module, groups(module))
    with pytest.raises(ConversionError, match="differ in amsgrad"):
        torch2mlx.convert_optimizer_state(optimizer, module)
    twin = mlx_twin(module)
    other = kit.ParameterGroups(twin, kit.optimizers.AdamW, groups(twin), lr=1e-3)
    other.state = torch2mlx.convert_optimizer_state(optimizer, module, optimizer=other)
    assert_goes_on(module, optimizer, twin, other)
    found = torch2mlx.revert_optimizer_state(other.state, module, optimizer)
    same_states(found, optimizer.state_dict(), 1e-5)


def test_the_order_of_the_parameters_is_the_optimizers():
    module = nn.Linear(2, 2)
    optimizer = stepped(module, [module.bias, module.weight])
    named = stepped(module, [("bias", module.bias), ("weight", module.weight)])
    for source in (optimizer, named, named.state_dict()):
        state = torch2mlx.convert_optimizer_state(source, module)
        assert state["weight"]["m"].shape == (2, 2) and state["bias"]["m"].shape == (2,)
        back = torch2mlx.revert_optimizer_state(state, module, named)
        assert back["state"][0]["exp_avg"].shape == (2,)
    with pytest.raises(
        ConversionError, match=r"weight: its state 'exp_avg' is \[2\], not \[2, 2\]"
    ):
        torch2mlx.convert_optimizer_state(optimizer.state_dict(), module)


def test_frozen_and_unused_parameters():
    module = nn.Linear(3, 2)
    module.bias.requires_grad = False
    optimizer = stepped(module, [p for p in module.parameters() if p.requires_grad])
    for source in (optimizer, optimizer.state_dict()):
        state = torch2mlx.convert_optimizer_state(source, module)
        assert set(state) == {"weight", "step", "learning_rate"}
    same_states(torch2mlx.revert_optimizer_state(state, module, optimizer), optimizer.state_dict())
    module.bias.requires_grad = True
    with pytest.raises(ConversionError, match="lacks bias"):
        torch2mlx.convert_optimizer_state(optimizer, module)
    whole = torch.optim.AdamW(module.parameters())
    module.weight.grad = torch.ones(2, 3)
    whole.step()  # the bias has no gradient, so no state
    with pytest.raises(ConversionError, match="weight: 1, bias: 0"):
        torch2mlx.convert_optimizer_state(whole, module)
    other = kit.optimizers.AdamW(1e-3)
    other.state = torch2mlx.convert_optimizer_state(whole, module, optimizer=other)
    assert_goes_on(module, whole, mlx_twin(module), other)


def test_tied_parameters_have_one_state():
    module = nn.Module()
    module.embed, module.head = nn.Embedding(4, 3), nn.Linear(3, 4, bias=False)
    module.head.weight = module.embed.weight
    optimizer = stepped(module, module.parameters())
    state = torch2mlx.convert_optimizer_state(optimizer, module)
    assert set(state) == {"embed", "step", "learning_rate"}
    same_states(torch2mlx.revert_optimizer_state(state, module, optimizer), optimizer.state_dict())


def edited(change):
    module = nn.Linear(3, 2)
    state = stepped(module, module.parameters()).state_dict()
    change(state["state"][0])
    return state, module


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s.update(shampoo=torch.ones(2, 3)), "weight: its state 'shampoo' has no place"),
        (lambda s: s.update(exp_avg=torch.ones(9)), r"'exp_avg' is \[9\], not \[2, 3\]"),
        (lambda s: s.update(exp_avg=1.0), r"'exp_avg' is \[\], not \[2, 3\]"),
        (lambda s: s.pop("exp_avg_sq"), "differs from other parameters' in exp_avg_sq"),
        (lambda s: s.update(step=torch.ones(2)), "weight: its step is no number"),
        (lambda s: s.update(exp_avg=torch.ones(2, 3).int()), "'exp_avg' is of torch.int32, the"),
        (lambda s: s.update(exp_avg=torch.ones(2, 3) + 1j), "'exp_avg' is of torch.complex64"),
        (lambda s: s.update(step=1.5), "weight: its step is 1.5"),
        (lambda s: s.update(step=float("nan")), "weight: its step is nan"),
    ],
)
def test_states_that_do_not_fit_are_refused_by_name(change, reason):
    with pytest.raises(ConversionError, match=reason):
        torch2mlx.convert_optimizer_state(*edited(change))


def without(key):
    return lambda s: {k: v for k, v in s.items() if k != key}


def regrouped(**options):
    return lambda s: {**s, "param_groups": [{**s["param_groups"][0], **options}]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: None, "a NoneType is no torch optimizer"),
        (lambda s: [s], "a list is no torch optimizer"),
        (without("state"), "no state dict of one, which has 'state' and 'param_groups'"),
        (without("param_groups"), "no state dict of one"),
        (lambda s: {**s, "param_groups": []}, "is no list of groups"),
        (lambda s: {**s, "param_groups": None}, "is no list of groups"),
        (lambda s: {**s, "param_groups": [{"params": [0, 1]}]}, "with 'params' and 'lr'"),
        (regrouped(lr="fast"), "with 'params' and 'lr'"),
        (regrouped(lr=float("nan")), "with 'params' and 'lr'"),
        (regrouped(lr=torch.ones(2)), "with 'params' and 'lr'"),
        (regrouped(params=[[0], 1]), "with 'params' and 'lr'"),
        (regrouped(params=[0, 0]), "lists a parameter twice"),
        (lambda s: {**s, "state": 3}, "does not hold a dict for each parameter"),
        (lambda s: {**s, "state": {0: 3}}, "does not hold a dict for each parameter"),
        (lambda s: {**s, "state": {**s["state"], 7: {}}}, "of parameter 7, which none of its"),
    ],
)
def test_what_is_no_state_dict_of_an_optimizer_is_refused(change, reason):
    state, module = edited(lambda s: None)
    with pytest.raises(ConversionError, match=reason):
        torch2mlx.convert_optimizer_state(change(state), module)


def test_a_module_is_needed_for_the_names():
    state, _ = edited(lambda s: None)
    with pytest.raises(ConversionError, match="takes the torch module that is trained, not None"):
        torch2mlx.convert_optimizer_state(state, None)


def test_numbers_and_names_of_parameters_are_followed():
    state, module = edited(lambda s: None)
    expected = torch2mlx.convert_optimizer_state(state, module)
    held = state["state"]
    swapped = {**regrouped(params=[1, 0])(state), "state": {1: held[0], 0: held[1]}}
    by_name = {"bias": held[1], "weight": held[0]}
    named = {**regrouped(params=["bias", "weight"])(state), "state": by_name}
    for other in (swapped, named):
        made = torch2mlx.convert_optimizer_state(other, module)
        for name in ("weight", "bias"):
            for slot in ("m", "v"):
                assert np.array_equal(made[name][slot], expected[name][slot])


@pytest.mark.parametrize("step", [5, 5.0, torch.tensor(5), torch.tensor(5.0), np.float32(5)])
def test_steps_of_every_kind(step):
    state, module = edited(lambda s: None)
    for held in state["state"].values():
        held["step"] = step
    assert torch2mlx.convert_optimizer_state(state, module)["step"].item() == 5


def test_what_torch_has_no_place_for_is_refused():
    module = nn.Linear(3, 2)
    optimizer = stepped(module, module.parameters())
    twin, other = mlx_twin(module), kit.optimizers.AdamW(1e-3, amsgrad=True)
    other.update(twin, gradients_of(twin))
    with pytest.raises(ConversionError, match="its state 'largest' has no place"):
        torch2mlx.revert_optimizer_state(other.state, module, optimizer)
    plain = mlx.optimizers.AdamW(1e-3)
    plain.update(twin, gradients_of(twin))
    wanting = torch.optim.AdamW(module.parameters(), amsgrad=True)
    with pytest.raises(ConversionError, match="no 'largest', torch's max_exp_avg_sq"):
        torch2mlx.revert_optimizer_state(plain.state, module, wanting)
    plain.state["weight"]["m"] = mx.ones((3, 2))
    with pytest.raises(ConversionError, match=r"'weight' is \[3, 2\], not \[2, 3\]"):
        torch2mlx.revert_optimizer_state(plain.state, module, optimizer)
    with pytest.raises(ConversionError, match="no parameters of the module: other"):
        torch2mlx.revert_optimizer_state(
            {**plain.state, "other": {"m": mx.ones(1)}}, module, optimizer
        )


def test_states_that_cannot_be_one_are_refused():
    model = nn.GRU(2, 3)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(4, 1, 2))[0].sum().backward()
    optimizer.step()
    with pytest.raises(ConversionError, match="bias_ih_l0"):
        torch2mlx.convert_optimizer_state(optimizer, model)
    part = torch.optim.Adam([model.weight_ih_l0])
    with pytest.raises(ConversionError, match="the module"):
        torch2mlx.convert_optimizer_state(part, model)


def test_both_biases_of_a_layer_that_is_trained_keep_their_states():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), nn.GRU(2, 3))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(4, 1, 2))[0].sum().backward()
    optimizer.step()
    state = torch2mlx.convert_optimizer_state(optimizer, model, training=True)
    for ours, theirs in (("bias_hh", "bias_hh_l0"), ("Wh", "weight_hh_l0")):
        moment = optimizer.state[getattr(model[1], theirs)]["exp_avg"]
        np.testing.assert_array_equal(state["layers"][1][ours]["m"], moment)
    scale = model[0].parametrizations.weight.original0
    np.testing.assert_array_equal(
        state["layers"][0]["weight_g"]["v"], optimizer.state[scale]["exp_avg_sq"]
    )
    back = torch2mlx.revert_optimizer_state(state, model, optimizer)["state"]
    for number, held in optimizer.state_dict()["state"].items():
        for slot, value in held.items():
            assert torch.equal(back[number][slot], value)


def test_what_is_no_state_of_an_mlx_optimizer_is_refused():
    model = nn.Linear(3, 2)
    optimizer, empty = torch.optim.Adam(model.parameters()), mlx.optimizers.Adam(1e-3).state
    for state in (mlx.optimizers.Adam(1e-3), {}, 3, [empty, {}]):
        with pytest.raises(ConversionError, match=r"is no state of an MLX optimizer.*\.state"):
            torch2mlx.revert_optimizer_state(state, model, optimizer)
    with pytest.raises(ConversionError, match="like= takes the torch optimizer, not dict"):
        torch2mlx.revert_optimizer_state(empty, model, optimizer.state_dict())
