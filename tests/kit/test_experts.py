"""Layers of experts: each row times the matrix of its expert, whole and in few bits."""

import re

import pytest

from tests.support import need

mx, nn = need("mlx.core", "mlx.nn")

import numpy as np

from tests.support import close
from torch2mlx.kit import sorting
from torch2mlx.kit.moe import ExpertLinear, QuantizedExpertLinear, for_layers, joined


def made(bias, turned, experts=3):
    """A layer with random weights, and its matrices (experts, in, out)."""
    mx.random.seed(1)
    layer = ExpertLinear(64, 96, experts, bias=bias, turned=turned)
    if bias:
        layer.bias = mx.random.normal((experts, 96))
    return layer, np.array(layer.weight if turned else layer.weight.swapaxes(-1, -2))


def rows(count, experts=3):
    """Rows, and the number of an expert for each, in no order."""
    rng = np.random.default_rng(count)
    return rng.normal(size=(count, 64)).astype(np.float32), rng.integers(0, experts, count)


def expected(x, chosen, matrices, layer):
    """What the rows give, one by one."""
    y = np.stack([row @ matrices[i] for row, i in zip(x, chosen, strict=True)])
    return y + np.array(layer.bias)[chosen] if "bias" in layer else y


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("count", [1, 7, 100])
def test_a_row_is_multiplied_with_the_matrix_of_its_expert(count, bias, turned):
    layer, matrices = made(bias, turned)
    x, chosen = rows(count)
    want = expected(x, chosen, matrices, layer)
    close(layer(mx.array(x), mx.array(chosen)), want, 1e-5)
    order = np.argsort(chosen)
    found = layer(mx.array(x[order]), mx.array(chosen[order]), ordered=True)
    close(found, want[order], 1e-5)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("mode", [{}, {"group_size": 32, "bits": 8}, {"mode": "mxfp4"}])
def test_a_quantized_layer_has_the_weights_that_it_stands_for(mode, turned):
    layer, _ = made(True, turned)
    few = layer.to_quantized(**mode)
    held = few.weight, few.scales, few.get("biases")
    told = {"group_size": few.group_size, "bits": few.bits, "mode": few.mode}
    matrices = np.array(mx.dequantize(*held, **told).swapaxes(-1, -2).astype(mx.float32))
    assert matrices.shape == (3, 64, 96) and not few.trainable_parameters()
    for count in (1, 40):
        x, chosen = rows(count)
        order = np.argsort(chosen)
        want = expected(x, chosen, matrices, layer)
        close(few(mx.array(x), mx.array(chosen)), want, 1e-4)
        found = few(mx.array(x[order]), mx.array(chosen[order]), ordered=True)
        close(found, want[order], 1e-4)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_a_quantized_layer_is_made_whole_as_it_was_saved(turned, bias):
    layer, _ = made(bias, turned)
    model, again = nn.Sequential(layer), nn.Sequential(made(bias, turned)[0])
    x, chosen = (mx.array(one) for one in rows(9))
    nn.quantize(model, 32, 8)
    few = dict(nn.utils.tree_flatten(model.parameters()))
    assert for_layers(again, few).keys() == few.keys()
    assert again.layers[0].weight.shape[-1] == 64
    close(again.layers[0](x, chosen), made(bias, turned)[0](x, chosen), 1e-6)
    nn.quantize(again, 32, 8)
    again.load_weights(list(few.items()))
    assert again.layers[0].fuse() is again.layers[0]
    whole = again.layers[0].fuse(dequantize=True)
    assert isinstance(whole, ExpertLinear) and whole.weight.shape == layer.weight.shape
    close(whole(x, chosen), model.layers[0](x, chosen), 1e-4)


def test_a_quantized_layer_stays_frozen_and_passes_gradients_on():
    few = made(False, False)[0].to_quantized(32, 8)
    few.unfreeze()
    assert not few.trainable_parameters()
    x, chosen = rows(5)
    matrices = mx.dequantize(few.weight, few.scales, few.biases, group_size=32, bits=8)
    found = mx.grad(lambda x: few(x, mx.array(chosen)).sum())(mx.array(x))
    close(found, np.array(matrices)[chosen].sum(axis=1), 1e-4)


def test_models_are_quantized_with_their_experts():
    model = nn.Sequential(made(True, False)[0], nn.Linear(64, 64))
    weights = {"layers.0": mx.zeros((3, 96, 64)), "layers.0.bias": mx.zeros((3, 96))}
    assert [*for_layers(model, weights)] == ["layers.0.weight", "layers.0.bias"]
    nn.quantize(model, 32, 4)
    assert isinstance(model.layers[0], QuantizedExpertLinear)
    assert [*for_layers(model, weights)] == [*weights]
    named = {path for path, _ in model.layers[0].named_modules()}
    assert named == {""} and set(model.layers[0]) >= {"weight", "scales", "biases", "bias"}


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_halves_stay_halves(dtype):
    layer, matrices = made(False, False)
    layer.set_dtype(dtype)
    x, chosen = rows(9)
    found = layer(mx.array(x).astype(dtype), mx.array(chosen))
    assert found.dtype == dtype
    close(found.astype(mx.float32), expected(x, chosen, matrices, layer), 0.05)
    few = layer.to_quantized(32, 8)(mx.array(x).astype(dtype), mx.array(chosen))
    assert few.dtype == dtype


@pytest.mark.parametrize("count, k", [(4, 2), (8, 2), (6, 1), (64, 8), (5, 5)])
@pytest.mark.parametrize("rows", [(3,), (2, 7)])
def test_the_likeliest_are_what_torchs_topk_picks(count, k, rows):
    (torch,) = need("torch")
    generator = torch.Generator().manual_seed(count)
    logits = torch.randn(*rows, count, generator=generator)
    logits[0] = 0.5  # a row of equals
    logits[-1, ..., 0] = float("nan")
    given = logits[:-1].clone().requires_grad_()
    values, places = torch.softmax(given, -1).topk(k)
    x = mx.softmax(mx.array(logits.numpy()), axis=-1)
    found = sorting.likeliest(x, k)
    close(found.values[:-1], values.detach().numpy(), 1e-6)
    assert np.array_equal(np.array(found.indices[:-1]), places.numpy())
    assert np.isnan(np.array(found.values[-1])).all()
    assert np.array_equal(np.array(found.indices), np.array(sorting.topk(x, k).indices))
    scales = mx.arange(1, k + 1)
    (values * torch.arange(1, k + 1)).sum().backward()
    slope = mx.grad(lambda g: (sorting.likeliest(mx.softmax(g, axis=-1), k)[0] * scales).sum())
    close(slope(mx.array(given.detach().numpy())), given.grad.numpy(), 1e-6)


NAMES = {".moe.": ".mlp."}, {".experts.up": [".experts.*.a.weight", ".experts.*.b.weight"]}


def apart(experts, names=("a", "b")):
    """Matrices of experts, with the names of a checkpoint, and something else."""
    mx.random.seed(2)
    made = {
        f"layers.{layer}.moe.experts.{i}.{name}.weight": mx.random.normal((3, 5))
        for layer in (0, 10)
        for i in range(experts)
        for name in names
    }
    return {**made, "layers.0.moe.gate.weight": mx.zeros((2,)), "head.weight": mx.ones((2,))}


@pytest.mark.parametrize("experts", [1, 3, 12])
def test_matrices_of_experts_are_stacked_and_joined_once(experts):
    given = apart(experts)
    made = joined(given, *NAMES)
    arrays = [f"layers.{layer}.mlp.experts.up" for layer in (0, 10)]
    assert made.keys() == {*arrays, "layers.0.mlp.gate.weight", "head.weight"}
    for i in range(experts):
        parts = (given[f"layers.10.moe.experts.{i}.{name}.weight"] for name in "ab")
        assert mx.array_equal(made[arrays[1]][i], mx.concatenate(list(parts)))
    again = joined(made, *NAMES)
    assert again.keys() == made.keys() and all(again[key] is made[key] for key in made)


@pytest.mark.parametrize("lost", [["0.a"], ["1.b"], ["1.a", "1.b"]])
def test_missing_matrices_of_experts_are_told(lost):
    given = apart(3)
    for name in lost:
        del given[f"layers.10.moe.experts.{name}.weight"]
    number, part = lost[0].split(".")
    told = f"layers.10.mlp.experts.up: matrices of experts are missing: .experts.*.{part}.weight"
    with pytest.raises(ValueError, match=re.escape(f"{told} {number}")):
        joined(given, *NAMES)
