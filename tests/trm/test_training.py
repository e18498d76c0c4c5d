"""Optimizers, averaging, halting and whole runs of the public source, beside ours."""

import math
import sys
import types

import numpy as np
import pytest

from tests.support import need
from tests.trm import public

need("torch", "mlx.core", "libcst", "einops", "pydantic")

import mlx.core as mx
import mlx.nn as nn
import torch
from mlx.utils import tree_flatten, tree_map, tree_unflatten

import torch2mlx
from torch2mlx import kit
from torch2mlx.kit.sign_optimizers import AdamATan2, sign_sgd_rows

pytestmark = pytest.mark.skipif(
    public.source() is None,
    reason="the public TinyRecursiveModels source is not here: set TRM_SOURCE to a checkout",
)
LOCAL = "model.inner.puzzle_emb.local_weights"


@pytest.fixture(scope="module")
def ported(tmp_path_factory):
    out = tmp_path_factory.mktemp("trm")
    torch2mlx.port_folder(public.source() / "models", out / "models")
    return out


class TorchATan2(torch.optim.Optimizer):
    """The formula of the adam-atan2 package, whose only build is for CUDA."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-2):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            (b1, b2), lr = group["betas"], group["lr"]
            for p in (p for p in group["params"] if p.grad is not None):
                state = self.state[p]
                if not state:
                    state.update(t=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
                state["t"] += 1
                state["m"].lerp_(p.grad, 1 - b1)
                state["v"].lerp_(p.grad.square(), 1 - b2)
                p.mul_(1 - lr * group["weight_decay"])
                below = state["v"].sqrt() / math.sqrt(1 - b2 ** state["t"])
                p.sub_(lr / (1 - b1 ** state["t"]) * torch.atan2(state["m"], below))


def test_adam_atan2_alone():
    draw = np.random.default_rng(0)
    start = draw.standard_normal((6, 5)).astype(np.float32)
    theirs = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = TorchATan2([theirs], 1e-2, (0.9, 0.95), 0.1)
    ours, weights = AdamATan2(1e-2, (0.9, 0.95), 0.1), {"w": mx.array(start)}
    for _ in range(20):
        gradient = draw.standard_normal((6, 5)).astype(np.float32)
        gradient[0] = 0  # atan2(0, 0) is 0
        theirs.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
        weights = ours.apply_gradients({"w": mx.array(gradient)}, weights)
    np.testing.assert_allclose(weights["w"], theirs.detach(), atol=1e-6)


def test_sign_sgd_of_rows_that_stand_several_times(ported):
    """Ours, the public function, and its port: exactly the same table."""
    theirs = public.imported(public.source(), "trm").sparse_embedding
    ours = public.imported(ported, "trm").sparse_embedding
    draw = np.random.default_rng(0)
    table = draw.standard_normal((7, 4)).astype(np.float32)
    ids = np.array([3, 1, 3, 3, 0, 1], np.int32)
    gradient = draw.integers(-2, 3, (6, 4)).astype(np.float32)  # sums of zero among them
    expected = torch.from_numpy(table.copy())
    options = {"lr": 0.125, "weight_decay": 0.5, "world_size": 1}
    theirs._sparse_emb_signsgd_dist(
        torch.from_numpy(gradient), torch.from_numpy(ids), expected, **options
    )
    found = mx.array(table)
    ours._sparse_emb_signsgd_dist(mx.array(gradient), mx.array(ids), found, **options)
    np.testing.assert_array_equal(found, expected)
    made = sign_sgd_rows(mx.array(table), mx.array(ids), mx.array(gradient), 0.125, 0.5)
    np.testing.assert_array_equal(made, expected)


def test_averages_and_what_they_leave_out(ported):
    pair = public.pair(ported, "trm")
    theirs, ours = pair.theirs.ema.EMAHelper(0.9), pair.ours.ema.EMAHelper(0.9)
    theirs.register(pair.torch), ours.register(pair.mlx)
    assert set(ours.shadow) == set(theirs.shadow)
    assert not any("puzzle_emb" in name or name.endswith("_init") for name in ours.shadow)
    with torch.no_grad():
        for parameter in pair.torch.parameters():
            parameter.mul_(1.5)
    pair.mlx.update(
        tree_unflatten([(n, 1.5 * p) for n, p in kit.training.named_parameters(pair.mlx)])
    )
    for _ in range(3):
        theirs.update(pair.torch), ours.update(pair.mlx)
    copied, expected = ours.ema_copy(pair.mlx), dict(theirs.ema_copy(pair.torch).state_dict())
    for name, value in kit.files.state_dict(copied).items():
        np.testing.assert_allclose(value, expected[name].numpy(), atol=1e-6, err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_checkpoints_come_back_bit_for_bit(ported, tmp_path, dtype):
    pair = public.pair(ported, "trm", forward_dtype=dtype)
    torch.save({f"_orig_mod.{k}": v for k, v in pair.torch.state_dict().items()}, tmp_path / "c")
    given = torch.load(tmp_path / "c", weights_only=True)
    plain = {name.removeprefix("_orig_mod."): value for name, value in given.items()}
    torch2mlx.convert(plain, tmp_path / "c.safetensors", on_unmapped="ignore")
    kit.files.load_state_dict(
        pair.mlx, torch2mlx.load_converted(tmp_path / "c.safetensors"), strict=True
    )
    found = kit.files.state_dict(pair.mlx)
    for name, value in pair.torch.state_dict().items():
        exact = public.array(value)
        assert found[name].dtype == exact.dtype
        assert mx.array_equal(found[name], exact).item(), name


@pytest.mark.parametrize("variant", public.VARIANTS)
def test_who_halts_and_when(ported, variant, monkeypatch):
    """Staggered halts with the same draws: steps, flags and refreshed puzzles are exact."""
    pair = public.pair(ported, variant, halt_exploration_prob=0.5, halt_max_steps=3)
    pair.torch.train(), pair.mlx.train()
    public.Draws(monkeypatch)
    theirs = pair.torch.initial_carry(public.in_torch(public.batch()))
    ours = pair.mlx.initial_carry(public.in_mlx(public.batch()))
    seen = []
    for step in range(6):
        given = public.batch(step)
        theirs, *_ = pair.torch(return_keys=(), carry=theirs, batch=public.in_torch(given))
        ours, *_ = pair.mlx(return_keys=(), carry=ours, batch=public.in_mlx(given))
        np.testing.assert_array_equal(ours.halted, theirs.halted)
        np.testing.assert_array_equal(ours.steps, theirs.steps)
        for name, value in theirs.current_data.items():
            np.testing.assert_array_equal(ours.current_data[name], value)
        seen.append(tuple(theirs.halted.tolist()))
    assert len(set(seen)) > 1


@pytest.mark.parametrize("variant", ["trm", "hrm"])
def test_cycles_without_gradient_count_forward_only(ported, variant):
    """More cycles change what comes out, and the gradient stays that of torch."""
    losses = []
    for cycles in (2, 3):
        pair = public.pair(ported, variant, H_cycles=cycles)
        pair.torch.train(), pair.mlx.train()
        batch = public.in_torch(public.batch())
        _, loss, *_ = pair.torch(return_keys=(), carry=pair.torch.initial_carry(batch), batch=batch)
        loss.backward()
        given = public.in_mlx(public.batch())
        carry = pair.mlx.initial_carry(given)
        loss_fn = lambda m, c=carry, b=given: m(return_keys=(), carry=c, batch=b)[1]
        _, gradients = nn.value_and_grad(pair.mlx, loss_fn)(pair.mlx)
        found = dict(tree_flatten(gradients))
        for name, parameter in pair.torch.named_parameters():
            gap = np.abs(np.array(found[name]) - parameter.grad.numpy()).max()
            assert gap <= 2e-4 * np.abs(parameter.grad.numpy()).max(), name
        losses.append(loss.item())
    assert abs(losses[0] - losses[1]) > 1e-4


def test_defects_of_the_source_are_kept(ported):
    """Where the public code fails, its port fails too: nothing is mended in silence."""
    for found in (public.imported(public.source(), "trm"), public.imported(ported, "trm")):
        options = {**public.TINY, "no_ACT_continue": False}
        head = found.losses.ACTLossHead(found.whole(options), "softmax_cross_entropy").eval()
        in_torch = isinstance(head, torch.nn.Module)
        batch = (public.in_torch if in_torch else public.in_mlx)(public.batch())
        with pytest.raises(TypeError, match="valid_mask"):
            head(return_keys=(), carry=head.initial_carry(batch), batch=batch)
        head = found.losses.ACTLossHead(found.whole(options), "stablemax_cross_entropy").train()
        with pytest.raises(ValueError, match="unpack"):
            head(return_keys=(), carry=head.initial_carry(batch), batch=batch)


def errors(values, truth):
    """Root mean square of the difference, over that of the truth."""
    gap = np.asarray(values, np.float64) - truth
    return float(np.sqrt((gap**2).mean() / (truth**2).mean()))


@pytest.mark.parametrize("variant", public.VARIANTS)
def test_bfloat16_is_as_near_to_float32_as_torch(ported, variant):
    """Element by element halves of recursions cannot agree; their errors can be of one size."""
    ours, theirs = [], []
    for seed in range(4):
        given = public.batch(seed)
        made = {}
        for dtype in ("float32", "bfloat16"):
            pair = public.pair(ported, variant, seed, random=False, forward_dtype=dtype)
            pair.torch.eval(), pair.mlx.eval()
            batch = public.in_torch(given)
            with torch.no_grad():
                outputs = pair.torch(
                    return_keys=("logits",), carry=pair.torch.initial_carry(batch), batch=batch
                )[3]
            made["torch", dtype] = outputs["logits"].float().numpy()
            batch = public.in_mlx(given)
            outputs = pair.mlx(
                return_keys=("logits",), carry=pair.mlx.initial_carry(batch), batch=batch
            )[3]
            made["mlx", dtype] = np.array(outputs["logits"].astype(mx.float32))
        truth = made["torch", "float32"]
        theirs.append(errors(made["torch", "bfloat16"], truth))
        ours.append(errors(made["mlx", "bfloat16"], truth))
    assert np.mean(ours) <= 2 * np.mean(theirs)


def trainer_of_the_source():
    """pretrain.py with the CPU for CUDA and stand-ins for what it logs with."""

    class Anything(types.ModuleType):
        def __getattr__(self, name):
            return lambda *a, **k: lambda f: f

    names = ("wandb", "coolname", "hydra", "omegaconf", "argdantic", "tqdm", "yaml")
    before = dict(sys.modules)
    try:
        for name in names:
            sys.modules[name] = Anything(name)
        sys.modules["omegaconf"].DictConfig = dict
        sys.modules["adam_atan2"] = types.ModuleType("adam_atan2")
        sys.modules["adam_atan2"].AdamATan2 = TorchATan2
        sys.path.insert(0, str(public.source()))
        text = (public.source() / "pretrain.py").read_text()
        text = text.replace('"cuda"', '"cpu"').replace(".cuda()", "")
        module = types.ModuleType("public_pretrain")
        sys.modules["public_pretrain"] = module
        exec(compile(text, "pretrain.py", "exec"), module.__dict__)
        return module
    finally:
        sys.path.remove(str(public.source()))
        for name in set(sys.modules) - set(before) - {"public_pretrain"}:
            if name.split(".")[0] in (*names, "adam_atan2", "models", "utils", "dataset"):
                del sys.modules[name]
        for name in names:
            if name in before:
                sys.modules[name] = before[name]


@pytest.mark.parametrize(
    ("kind", "variant"), [*(("sudoku", v) for v in public.VARIANTS), ("maze", "trm")]
)
def test_whole_runs_log_the_same_numbers(ported, tmp_path, kind, variant):
    """The public train_batch and evaluate, and ours, on sets made here: 12 steps, then a test."""
    from examples.trm.build import build_maze, build_sudoku
    from examples.trm.data import PuzzleSet

    make = build_sudoku if kind == "sudoku" else build_maze
    side = 4 if kind == "sudoku" else 7
    told = make(tmp_path, side=side, train=48, test=12)
    shown, held = PuzzleSet(tmp_path, "train"), PuzzleSet(tmp_path, "test")
    sizes = {"seq_len": told.seq_len, "vocab_size": told.vocab_size, "batch_size": 8}
    pair = public.pair(ported, variant, random=False, num_puzzle_identifiers=1, **sizes)
    pretrain = trainer_of_the_source()
    config = types.SimpleNamespace(
        lr_warmup_steps=3, lr_min_ratio=0.1, eval_save_outputs=[], checkpoint_path=None
    )
    state = pretrain.TrainState(
        model=pair.torch,
        optimizers=[
            pair.theirs.sparse_embedding.CastedSparseEmbeddingSignSGD_Distributed(
                pair.torch.model.puzzle_emb.buffers(), lr=0, weight_decay=0.1, world_size=1
            ),
            TorchATan2(pair.torch.parameters(), 0, (0.9, 0.95), 0.1),
        ],
        optimizer_lrs=[1e-2, 1e-3],
        carry=None,
        step=0,
        total_steps=12,
    )
    ours = Ours(
        pair.mlx,
        lambda base, step: pretrain.cosine_schedule_with_warmup_lr_lambda(
            step, base_lr=base, num_warmup_steps=3, num_training_steps=12, min_ratio=0.1
        ),
    )
    pair.torch.train(), pair.mlx.train()
    batches = [b for epoch in (1, 2) for b in shown.training(8, 0, epoch)][:12]
    assert len(batches) == 12
    for batch in batches:
        expected = pretrain.train_batch(config, state, public.in_torch(batch), 8, 0, 1)
        found = ours.step(public.in_mlx(batch), 8)
        for name, value in expected.items():
            if name != "train/lr":
                assert found[name.removeprefix("train/")] == pytest.approx(float(value), abs=1e-4)
    pair.torch.eval(), pair.mlx.eval()
    loader = [("all", public.in_torch(batch), size) for batch, size in held.testing(8)]
    told = types.SimpleNamespace(sets=["all"])
    expected = pretrain.evaluate(config, state, loader, told, [], 0, 1, None)["all"]
    found = ours.evaluated([public.in_mlx(batch) for batch, _ in held.testing(8)])
    for name, value in expected.items():
        assert found[name] == pytest.approx(float(value), abs=1e-4), name


class Ours:
    """The same steps on the ported model, with the optimizers of the kit."""

    def __init__(self, head, schedule):
        self.head, self.schedule, self.count, self.carry = head, schedule, 0, None
        self.optimizer = AdamATan2(0.0, (0.9, 0.95), 0.1)

    def step(self, batch, size):
        self.count += 1
        carry = self.carry or self.head.initial_carry(batch)

        def loss_fn(head):
            after, loss, metrics, *_ = head(return_keys=(), carry=carry, batch=batch)
            return loss / size, after, metrics

        (_, self.carry, metrics), gradients = nn.value_and_grad(self.head, loss_fn)(self.head)
        flat = dict(tree_flatten(gradients))
        table = self.head.model.puzzle_emb
        table.weights = sign_sgd_rows(
            table.weights, table.local_ids, flat.pop(LOCAL), self.schedule(1e-2, self.count), 0.1
        )
        self.optimizer.learning_rate = self.schedule(1e-3, self.count)
        self.optimizer.update(self.head, tree_unflatten(list(flat.items())))
        mx.eval(self.head.parameters(), self.optimizer.state)
        count = max(metrics["count"].item(), 1)
        return {
            n: v.item() / (size if n.endswith("loss") else count) for n, v in metrics.items()
        } | {"count": metrics["count"].item() / count}

    def evaluated(self, batches):
        total = None
        for batch in batches:
            carry, done = self.head.initial_carry(batch), False
            while not done:
                carry, _, metrics, _, done = self.head(return_keys=(), carry=carry, batch=batch)
            total = metrics if total is None else tree_map(lambda a, b: a + b, total, metrics)
        count = total.pop("count").item()
        return {name: value.item() / count for name, value in total.items()}


def test_the_pair_is_independent(ported):
    """A deep copy of the ported model does not share arrays that are written in place."""
    pair = public.pair(ported, "trm")
    other = kit.training.deepcopy(pair.mlx)
    before = np.array(pair.mlx.model.puzzle_emb.weights)
    other.model.puzzle_emb.weights[mx.array([0])] = mx.zeros((1, 32))
    np.testing.assert_array_equal(pair.mlx.model.puzzle_emb.weights, before)
