"""The public models through translate: one call of each variant, dataclasses in and out."""

import numpy as np
import pytest

from tests.support import need
from tests.trm import public

need("torch", "mlx.core", "einops", "pydantic")

import mlx.core as mx
import mlx.nn as nn
import torch
from mlx.utils import tree_flatten

import torch2mlx
from torch2mlx.export.ir.structures import to_mlx

pytestmark = [
    pytest.mark.skipif(
        public.source() is None,
        reason="the public TinyRecursiveModels source is not here: set TRM_SOURCE to a checkout",
    ),
    pytest.mark.filterwarnings("ignore"),  # torch.export's own
]


def head_of(variant, **more):
    """A model with its loss, and what it is called with."""
    found = public.imported(public.source(), variant)
    torch.manual_seed(0)
    model = found.whole({**public.TINY, **more})
    head = found.losses.ACTLossHead(model, "stablemax_cross_entropy")
    batch = public.in_torch(public.batch())
    carry = head.initial_carry(batch)
    for kind in (type(carry), type(carry.inner_carry)):
        torch.export.register_dataclass(kind)
    return head, {"return_keys": ["logits", "preds"], "carry": carry, "batch": batch}


@pytest.mark.parametrize("variant", public.VARIANTS)
def test_every_variant(variant):
    head, given = head_of(variant)
    with torch.no_grad():
        head.model.inner.puzzle_emb.weights.normal_()
        head.model.inner.q_head.weight.normal_(0, 0.5)
    head.eval()
    translation = torch2mlx.translate(head, (), given, dynamic=False)
    result = torch2mlx.verify(head, translation, (), given)
    assert result.ok, str(result)
    names = " ".join(output.name for output in result.outputs)
    assert "inner_carry.z_" in names and "logits" in names and "lm_loss" in names
    # a second call, from the carry that the first gave, which is a dict there
    with torch.no_grad():
        carry = head(**given)[0]
        expected = head(**{**given, "carry": carry})[3]["logits"]
    batch = to_mlx(given["batch"])
    first = translation.module(carry=to_mlx(given["carry"]), batch=batch)[0]
    found = translation.module(carry=first, batch=batch)[3]["logits"]
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("variant", public.VARIANTS)
def test_training(variant):
    """Gradients of a step, that of the rows taken from the sparse table among them, and what the
    table keeps for its optimizer. Nothing is explored, so that no number is drawn that matters."""
    head, given = head_of(variant, halt_exploration_prob=0.0)
    with torch.no_grad():
        head.model.inner.puzzle_emb.weights.normal_()
        head.model.inner.q_head.weight.normal_(0, 0.5)
    head.train()
    translation = torch2mlx.translate(head, (), given, dynamic=False)
    loss = head(**given)[1]
    loss.backward()
    table = head.model.inner.puzzle_emb
    expected = {name: p.grad for name, p in head.named_parameters() if p.grad is not None}
    expected["model.inner.puzzle_emb.local_weights"] = table.local_weights.grad
    module, arrays = translation.module, {k: to_mlx(v) for k, v in given.items()}
    with mx.stream(mx.cpu):
        step = nn.value_and_grad(module, lambda: module(**arrays)[1])
        found, tree = step()
    np.testing.assert_allclose(found.item(), loss.item(), rtol=1e-5)
    gradients = dict(tree_flatten(tree))
    for name, gradient in expected.items():
        largest = gradient.abs().max().item()
        gap = np.abs(np.array(gradients[name]) - gradient.numpy()).max()
        assert gap <= 2e-4 * max(largest, 1e-3), (name, gap, largest)
    np.testing.assert_array_equal(module.model.inner.puzzle_emb._local_ids, table.local_ids)
    local = table.local_weights.detach()
    np.testing.assert_array_equal(module.model.inner.puzzle_emb.local_weights, local)
