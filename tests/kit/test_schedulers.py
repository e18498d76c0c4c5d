"""Schedules beside torch: alone, after others changed the rate, two of one optimizer, by epochs."""

import warnings

import pytest

from tests.support import need

need("torch")
need("mlx")

import mlx.nn as nn
import torch

from torch2mlx import kit

SCHEDULES = {
    "StepLR": {"step_size": 2, "gamma": 0.5},
    "MultiStepLR": {"milestones": [1, 3, 3, 5], "gamma": 0.3},
    "ExponentialLR": {"gamma": 0.9},
    "CosineAnnealingLR": {"T_max": 3, "eta_min": 0.01},
    "CosineAnnealingWarmRestarts": {"T_0": 2, "T_mult": 2, "eta_min": 0.01},
    "LambdaLR": {"lr_lambda": lambda n: 1 / (1 + n)},
    "MultiplicativeLR": {"lr_lambda": lambda n: 0.9 + 0.01 * n},
    "LinearLR": {"start_factor": 0.2, "end_factor": 0.8, "total_iters": 4},
    "ConstantLR": {"factor": 0.25, "total_iters": 3},
    "PolynomialLR": {"total_iters": 6, "power": 2.0},
    "OneCycleLR": {"max_lr": 0.3, "total_steps": 12},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 3, "step_size_down": 2},
}
#: Those that count from the rate that is set.
CHAINED = [n for n in SCHEDULES if n not in ("OneCycleLR", "CyclicLR")]


@pytest.fixture(autouse=True)
def _quiet():
    """torch warns of steps before those of the optimizer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Both:
    """An optimizer with two groups in either library."""

    def __init__(self):
        self.theirs = torch.optim.SGD(
            [
                {"params": [torch.nn.Parameter(torch.ones(1))]},
                {"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.04},
            ],
            lr=0.1,
            momentum=0.9,
        )
        module = kit.training.Group(nn.Linear(2, 2), nn.Linear(2, 2))
        one, other = module.modules_
        self.ours = kit.ParameterGroups(
            module,
            kit.optimizers.SGD,
            [
                {"params": kit.training.parameters(one)},
                {"params": kit.training.parameters(other), "lr": 0.04},
            ],
            lr=0.1,
            momentum=0.9,
        )

    def schedules(self, name, **options):
        theirs = getattr(torch.optim.lr_scheduler, name)(self.theirs, **options)
        return theirs, getattr(kit.schedulers, name)(self.ours, **options)

    def groups(self):
        return self.theirs.param_groups, kit.training.param_groups(self.ours)

    def assert_alike(self, pair=None):
        theirs, ours = ([float(g["lr"]) for g in groups] for groups in self.groups())
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-8)
        if pair is not None:
            assert pair[1].get_last_lr() == pytest.approx(pair[0].get_last_lr(), rel=1e-5, abs=1e-8)

    def changed(self, by):
        for groups in self.groups():
            for group in groups:
                group["lr"] = float(group["lr"]) * by


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("by", [1.0, 0.8])
def test_alone_and_between_changes_by_hand(name, by):
    both = Both()
    pair = both.schedules(name, **SCHEDULES[name])
    both.assert_alike(pair)
    for _ in range(10):
        both.changed(by)
        for schedule in pair:
            schedule.step()
        both.assert_alike(pair)


@pytest.mark.parametrize("first", CHAINED)
@pytest.mark.parametrize("second", ["StepLR", "LinearLR", "CosineAnnealingLR"])
def test_two_schedules_of_one_optimizer(first, second):
    both = Both()
    pairs = [both.schedules(name, **SCHEDULES[name]) for name in (first, second)]
    for _ in range(6):
        for pair in pairs:
            for schedule in pair:
                schedule.step()
            both.assert_alike(pair)


@pytest.mark.parametrize("name", [n for n in CHAINED if n != "MultiplicativeLR"])
def test_steps_to_epochs_that_are_named(name):
    both = Both()
    pair = both.schedules(name, **SCHEDULES[name])
    for epoch in (0, 1, 2, 5, 3):
        for schedule in pair:
            schedule.step(epoch)
        both.assert_alike(pair)


@pytest.mark.parametrize("milestones", [[2, 5], [1, 4]])
def test_one_after_the_other(milestones):
    both, given = Both(), [("LinearLR", {}), ("StepLR", {"step_size": 2}), ("ExponentialLR", {})]
    given[2][1]["gamma"] = 0.5
    parts = [both.schedules(name, **options) for name, options in given]
    pair = (
        torch.optim.lr_scheduler.SequentialLR(both.theirs, [p[0] for p in parts], milestones),
        kit.schedulers.SequentialLR(both.ours, [p[1] for p in parts], milestones),
    )
    both.assert_alike(pair)
    for _ in range(9):
        for schedule in pair:
            schedule.step()
        both.assert_alike(pair)


def test_chained_schedules_and_their_states():
    both = Both()
    parts = [both.schedules(name, **SCHEDULES[name]) for name in ("ConstantLR", "ExponentialLR")]
    pair = (
        torch.optim.lr_scheduler.ChainedScheduler([p[0] for p in parts]),
        kit.schedulers.ChainedScheduler([p[1] for p in parts]),
    )
    for _ in range(5):
        for schedule in pair:
            schedule.step()
        both.assert_alike(pair)
    state = pair[1].state_dict()
    pair[1].step()
    pair[1].load_state_dict(state)
    both.assert_alike(pair)


@pytest.mark.parametrize("mode", ["triangular2", "exp_range"])
def test_the_modes_of_cycles(mode):
    both = Both()
    options = {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 2, "gamma": 0.9}
    pair = both.schedules("CyclicLR", mode=mode, **options)
    for _ in range(9):
        for schedule in pair:
            schedule.step()
        both.assert_alike(pair)
        assert both.ours.optimizers[0].momentum == pytest.approx(
            both.theirs.param_groups[0]["momentum"]
        )


def test_a_plateau_lowers_the_rate_that_is_set():
    both = Both()
    pair = both.schedules("ReduceLROnPlateau", patience=0, factor=0.5)
    for number in (1.0, 2.0, 3.0, 0.5, 0.6):
        both.changed(0.9)
        for schedule in pair:
            schedule.step(number)
        both.assert_alike()
