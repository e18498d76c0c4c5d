"""The public TinyRecursiveModels source, ported without a hand's help, computes what it did."""

import numpy as np
import pytest

from tests.support import need
from tests.trm import public

need("torch", "mlx.core", "libcst", "einops", "pydantic")

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

import torch2mlx
from torch2mlx import kit

pytestmark = pytest.mark.skipif(
    public.source() is None,
    reason="the public TinyRecursiveModels source is not here: set TRM_SOURCE to a checkout",
)
KEYS = ("logits", "preds", "q_halt_logits", "q_continue_logits")
ENCODINGS = ({"pos_encodings": "rope"}, {"pos_encodings": "learned"}, {"mlp_t": True})


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The folder of the port, and what the port said of each file."""
    out = tmp_path_factory.mktemp("trm")
    found = torch2mlx.port_folder(public.source() / "models", out / "models")
    return out, {result.path.rpartition("/")[2]: result for result in found}


@pytest.fixture(scope="module")
def ported(results):
    return results[0]


def apart(found, expected):
    """The largest difference, over the largest value."""
    a, b = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return np.abs(a - b).max(initial=0) / max(np.abs(b).max(initial=0), 1e-12)


def forward(pair, steps, given):
    """Outputs of every step, in torch and in MLX: (loss, metrics, outputs, halted)."""
    theirs, ours = [], []
    batch = public.in_torch(given)
    carry = pair.torch.initial_carry(batch)
    for _ in range(steps):
        carry, loss, metrics, outputs, _ = pair.torch(return_keys=KEYS, carry=carry, batch=batch)
        theirs.append((loss.detach(), metrics, outputs, carry))
    batch = public.in_mlx(given)
    carry = pair.mlx.initial_carry(batch)
    for _ in range(steps):
        carry, loss, metrics, outputs, _ = pair.mlx(return_keys=KEYS, carry=carry, batch=batch)
        ours.append((loss, metrics, outputs, carry))
    return theirs, ours


def gradients(pair, given, carries=None):
    """(loss, gradients by name) of one step in both; local_weights too."""
    batch = public.in_torch(given)
    carry = pair.torch.initial_carry(batch) if carries is None else carries[0]
    _, loss, *_ = pair.torch(return_keys=(), carry=carry, batch=batch)
    loss.backward()
    named = dict(pair.torch.named_parameters()) | dict(pair.torch.named_buffers())
    theirs = {n: p.grad.numpy() for n, p in named.items() if p.grad is not None}
    batch = public.in_mlx(given)
    carry = pair.mlx.initial_carry(batch) if carries is None else carries[1]

    def loss_fn(model):
        return model(return_keys=(), carry=carry, batch=batch)[1]

    value, found = nn.value_and_grad(pair.mlx, loss_fn)(pair.mlx)
    return (loss.item(), theirs), (value.item(), dict(tree_flatten(found)))


def test_models_are_ported_whole(results):
    """Left are the optimizer, which MLX has another kind of, and several processes."""
    _, files = results
    for name, result in files.items():
        if name != "sparse_embedding.py":
            assert result.ok, (name, result.unsupported)
    reasons = [left.reason for left in files["sparse_embedding.py"].unsupported]
    about = ("optim", "requires_grad of an array", "torch.distributed.all_gather", ".grad: ")
    assert all(any(word in reason for word in about) for reason in reasons), reasons


@pytest.mark.parametrize("more", ENCODINGS, ids=lambda m: str(next(iter(m.values()))))
@pytest.mark.parametrize("variant", public.VARIANTS)
def test_names_and_what_is_trained(ported, variant, more):
    pair = public.pair(ported, variant, **more)
    names = set(pair.torch.state_dict())
    assert set(kit.files.state_dict(pair.mlx)) == names
    trained = {name for name, _ in pair.torch.named_parameters()}
    local = "model.inner.puzzle_emb.local_weights"
    found = lambda: {n for n, _ in tree_flatten(pair.mlx.trainable_parameters())}
    assert found() == trained | {local}
    kit.training.freeze(pair.mlx)
    kit.training.unfreeze(pair.mlx)
    assert found() == trained | {local}
    assert {n for n, _ in kit.training.named_parameters(pair.mlx)} == trained


@pytest.mark.parametrize("more", ENCODINGS, ids=lambda m: str(next(iter(m.values()))))
@pytest.mark.parametrize("variant", public.VARIANTS)
def test_forward(ported, variant, more):
    pair = public.pair(ported, variant, **more)
    pair.torch.eval(), pair.mlx.eval()
    theirs, ours = forward(pair, 4, public.batch())
    for step, (expected, found) in enumerate(zip(theirs, ours, strict=True)):
        tolerance = 1e-4 if step == 0 else 1e-2
        logits = expected[2]["logits"].numpy()
        np.testing.assert_allclose(found[2]["logits"], logits, atol=tolerance)
        top = np.sort(logits, -1)
        sure = top[..., -1] - top[..., -2] > 1e-2
        agree = np.array(found[2]["preds"]) == expected[2]["preds"].numpy()
        assert agree[sure].all()
        for name in ("q_halt_logits", "q_continue_logits"):
            if name in expected[2]:
                np.testing.assert_allclose(found[2][name], expected[2][name], atol=tolerance)


@pytest.mark.parametrize("variant", public.VARIANTS)
def test_loss_and_metrics(ported, variant):
    pair = public.pair(ported, variant)
    pair.torch.train(), pair.mlx.train()
    theirs, ours = forward(pair, 1, public.batch())
    (loss, metrics, *_), (value, found, *_) = theirs[0], ours[0]
    assert value.item() == pytest.approx(loss.item(), rel=5e-6)
    assert set(found) == set(metrics)
    for name, expected in metrics.items():
        if expected.dtype.is_floating_point:
            assert found[name].item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-4)
        else:
            assert found[name].item() == expected.item()


@pytest.mark.parametrize("more", ENCODINGS, ids=lambda m: str(next(iter(m.values()))))
@pytest.mark.parametrize("variant", public.VARIANTS)
def test_every_gradient(ported, variant, more):
    pair = public.pair(ported, variant, **more)
    pair.torch.train(), pair.mlx.train()
    (loss, expected), (value, found) = gradients(pair, public.batch())
    assert value == pytest.approx(loss, rel=5e-6)
    assert set(found) == set(expected)
    for name, gradient in expected.items():
        assert apart(found[name], gradient) <= 2e-4, name


@pytest.mark.parametrize("variant", ["trm", "trm_singlez", "trm_hier6", "hrm"])
def test_without_stop_gradient_the_gradients_are_wrong(ported, variant, monkeypatch):
    """The negative control: what the test above compares depends on no_grad being kept."""
    monkeypatch.setattr(mx, "stop_gradient", lambda x: x)
    pair = public.pair(ported, variant)
    pair.torch.train(), pair.mlx.train()
    (loss, expected), (value, found) = gradients(pair, public.batch())
    assert value == pytest.approx(loss, rel=5e-6)
    assert max(apart(found[name], gradient) for name, gradient in expected.items()) > 1
