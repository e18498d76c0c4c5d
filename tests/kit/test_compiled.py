"""`kit.compiled`: a step's program is used while what it was traced with holds, and not beyond."""

import numpy as np
import pytest

from tests.support import need

need("mlx.core")

import mlx.core as mx
import mlx.nn as nn

from torch2mlx import kit
from torch2mlx.kit import compiling


@pytest.fixture
def traces(monkeypatch):
    """How often a step was traced; programs are what they were traced from."""
    made = []

    def traced(function, inputs=None, outputs=None):
        made.append(function)
        return function

    monkeypatch.setattr(mx, "compile", traced)
    monkeypatch.setitem(compiling.WAIT, "cpu", 1)
    monkeypatch.setattr(compiling.shutil, "which", lambda name: name)
    return made


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.norm, self.drop = nn.Linear(3, 2), kit.BatchNorm(2), nn.Dropout(0.5)
        self.scale = 2.0

    def __call__(self, x):
        return self.drop(self.norm(self.fc(x))) * self.scale


def step_of(model, optimizer, *more):
    @kit.compiled(model, optimizer, *more)
    def step(x, factor=1.0):
        def loss_fn():
            y = model(x)
            return (y * y).mean() * factor, {"y": y}

        (loss, answer), grads = nn.value_and_grad(model, loss_fn)()
        optimizer.update(model, grads)
        return loss, answer, None

    return step


def made():
    model = Net()
    return model, kit.optimizers.Adam(lr=0.1), mx.random.normal((4, 3))


def test_the_same_program_runs_while_nothing_but_arrays_changes(traces):
    model, optimizer, x = made()
    step = step_of(model, optimizer)
    for i in range(5):
        optimizer.learning_rate = 0.1 / (i + 1)
        loss, answer, none = step(x + i)
        assert loss.shape == () and answer["y"].shape == (4, 2) and none is None
    assert len(traces) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda model, optimizer: model.eval(),
        lambda model, optimizer: model.fc.freeze(),
        lambda model, optimizer: setattr(model, "scale", 3.0),
        lambda model, optimizer: setattr(model, "fc", nn.Linear(3, 2)),
        lambda model, optimizer: setattr(optimizer, "betas", (0.5, 0.9)),
        lambda model, optimizer: setattr(optimizer, "state", dict(optimizer.state)),
    ],
)
def test_another_program_is_made_where_what_it_holds_has_changed(traces, change):
    model, optimizer, x = made()
    step = step_of(model, optimizer)
    step(x), step(x)
    change(model, optimizer)
    step(x), step(x)
    assert len(traces) == 2


def test_sizes_and_numbers_have_programs_of_their_own_up_to_a_limit(traces):
    model, optimizer, x = made()
    step = step_of(model, optimizer)
    for i in range(9):
        step(x, float(i))
    assert len(traces) == compiling.VARIANTS
    step(x[:2]), step(x, 1.0)
    assert len(traces) == compiling.VARIANTS


def test_a_step_that_is_defined_again_around_the_same_things_is_found_again(traces):
    model, optimizer, x = made()
    for _ in range(3):
        step_of(model, optimizer)(x)
    assert len(traces) == 1
    other, _, _ = made()
    step_of(other, optimizer)(x), step_of(other, optimizer)(x)
    assert len(traces) == 2


def test_a_copy_of_an_optimizer_has_no_programs(traces):
    model, optimizer, x = made()
    step_of(model, optimizer)(x)
    assert vars(kit.training.deepcopy(optimizer))["_compiled_steps"] == {}


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.calls = nn.Linear(3, 2), 0

    def __call__(self, x):
        self.calls += 1
        return self.fc(x) * self.calls


def test_what_each_call_changes_runs_as_it_is_written(traces):
    model, optimizer = Counting(), kit.optimizers.Adam(lr=0.1)
    step = step_of(model, optimizer)
    for _ in range(4):
        step(mx.ones((2, 3)))
    assert model.calls == 4


def test_modules_of_other_files_are_not_compiled(traces):
    _, optimizer, x = made()
    foreign = type("Foreign", (Net,), {"__module__": "elsewhere"})()
    step = step_of(foreign, optimizer)
    step(x), step(x), step(x)
    assert not traces


@pytest.mark.parametrize("given", [np.ones((4, 3), np.float32), object()])
def test_what_no_program_takes_runs_as_it_is_written(traces, given):
    model, optimizer, _ = made()

    @kit.compiled(model, optimizer)
    def step(value):
        return value

    assert all(step(given) is given for _ in range(3))
    assert not traces


def test_a_trace_that_fails_leaves_everything_as_it_was(traces, monkeypatch):
    model, optimizer, x = made()
    fails = []

    def traced(function, inputs=None, outputs=None):
        def run(*arrays):
            function(*arrays)
            model.fc.weight, model.extra = mx.zeros((7, 7)), mx.zeros(1)
            mx.random.seed(99)
            fails.append(True)
            raise ValueError("an array was read")

        return run

    monkeypatch.setattr(mx, "compile", traced)
    plain, other, _ = made()
    plain.update(model.parameters())
    mx.random.seed(3)
    step, expected = step_of(model, optimizer), []
    found = [step(x)[0].item() for _ in range(3)]
    mx.random.seed(3)
    monkeypatch.setitem(compiling.WAIT, "cpu", 100)
    again = step_of(plain, other)
    expected = [again(x)[0].item() for _ in range(3)]
    assert found == expected and len(fails) == 1
    assert model.norm._batches == 3 and "extra" not in model


def test_an_error_of_the_step_itself_is_raised(traces):
    model, optimizer, x = made()
    step = step_of(model, optimizer)
    step(x)
    with pytest.raises(ValueError, match=r"addmm|matmul"):
        step(mx.ones((4, 5)))


@pytest.mark.slow
def test_a_program_learns_what_the_step_does(monkeypatch):
    """With MLX's own compiler: dropout, statistics, frozen layers, rates and sizes that change."""
    curves = []
    for wait in (1000, 1):
        monkeypatch.setitem(compiling.WAIT, "cpu", wait)
        mx.random.seed(5)
        model, optimizer, x = made()
        schedule = kit.schedulers.StepLR(optimizer, 3, 0.5)
        step, losses = step_of(model, optimizer), []
        for i in range(12):
            if i == 8:
                kit.training.freeze(model, "fc.weight")
            losses.append(step(x[: 3 if i % 4 == 3 else 4])[0].item())
            schedule.step()
        assert model.norm._batches == 12 and bool(step._programs) == (wait == 1)
        after = mx.random.uniform(shape=(2,)).tolist()
        curves.append([*losses, *model.norm.running_var.tolist(), *after])
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-5)
