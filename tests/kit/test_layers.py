"""Calls that the grid of layers does not make: masks, attention weights, packed sequences."""

import numpy as np
import pytest

from tests.support import close, need

need("torch", "mlx.core")

import mlx.core as mx
import mlx.nn as mlx_nn
import mlx.optimizers as optim
import torch
from mlx.utils import tree_flatten
from torch import nn

from torch2mlx import kit, registry

PADDING = torch.tensor([[0, 0, 0, 0, 1], [0] * 5, [0, 0, 1, 1, 1]]).bool()
ATTENTION = {
    "causal": {"attn_mask": torch.triu(torch.ones(4, 5), 2).bool()},
    "additive": {"attn_mask": torch.randn(4, 5)},
    "one for each head": {"attn_mask": torch.randn(6, 4, 5)},
    "padding": {
        "key_padding_mask": torch.tensor([[0, 0, 0, 0, 1], [0] * 5, [0, 0, 1, 1, 1]]).bool()
    },
    "both": {
        "attn_mask": torch.triu(torch.ones(4, 5), 2).bool(),
        "key_padding_mask": PADDING,
    },
    "no weights": {"need_weights": False},
    "weights of each head": {"average_attn_weights": False},
}


def given(options):
    return {k: mx.array(v.numpy()) if torch.is_tensor(v) else v for k, v in options.items()}


@pytest.mark.parametrize("name", ATTENTION)
@pytest.mark.parametrize("extra", [{}, {"add_bias_kv": True}, {"add_zero_attn": True}], ids=str)
def test_attention_masks_and_weights(name, extra):
    options = ATTENTION[name]
    layer = nn.MultiheadAttention(8, 2, **extra).eval()
    q, k, v = torch.randn(4, 3, 8), torch.randn(5, 3, 8), torch.randn(5, 3, 8)
    expected, weights = layer(q, k, v, **options)
    twin = registry.build(layer)
    found, found_weights = twin(*(mx.array(t.numpy()) for t in (q, k, v)), **given(options))
    close(found, expected.detach().numpy())
    assert (found_weights is None) == (weights is None)
    if weights is not None:
        close(found_weights, weights.detach().numpy())


def test_transformer_masks():
    model = nn.Transformer(8, 2, 1, 1, 16, 0.0, batch_first=True).train()
    src, tgt = torch.randn(2, 5, 8), torch.randn(2, 4, 8)
    masks = {
        "tgt_mask": torch.triu(torch.ones(4, 4), 1).bool(),
        "src_key_padding_mask": torch.tensor([[0, 0, 0, 0, 1], [0] * 5]).bool(),
        "memory_key_padding_mask": torch.tensor([[0, 0, 0, 0, 1], [0] * 5]).bool(),
    }
    expected = model(src, tgt, **masks).detach().numpy()
    found = registry.build(model)(mx.array(src.numpy()), mx.array(tgt.numpy()), **given(masks))
    close(found, expected)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_packed_sequences(kind, bidirectional, batch_first):
    layer = getattr(nn, kind)(4, 6, 2, batch_first=batch_first, bidirectional=bidirectional)
    x, lengths = torch.randn(3, 7, 4), torch.tensor([7, 4, 1])
    x = x if batch_first else x.transpose(0, 1).contiguous()
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=batch_first)
    output, state = layer(packed)
    expected, _ = nn.utils.rnn.pad_packed_sequence(output, batch_first=batch_first)
    found, last = registry.build(layer)(mx.array(x.numpy()), lengths=mx.array(lengths.numpy()))
    close(found, expected.detach().numpy())
    pairs = zip(last, state, strict=True) if kind == "LSTM" else [(last, state)]
    for ours, theirs in pairs:
        close(ours, theirs.detach().numpy())


def test_embedding_bag_with_offsets_and_weights():
    layer = nn.EmbeddingBag(9, 4, mode="sum", include_last_offset=True)
    indices, offsets = torch.tensor([1, 2, 4, 5, 4, 3]), torch.tensor([0, 2, 2, 6])
    weights = torch.rand(6)
    expected = layer(indices, offsets, weights).detach().numpy()
    twin = registry.build(layer)
    close(twin(*(mx.array(t.numpy()) for t in (indices, offsets, weights))), expected)


def test_bags_of_another_mode_or_without_beginnings_are_refused():
    weight, flat = mx.zeros((3, 2)), mx.array([0, 1])
    with pytest.raises(ValueError, match="mode='least': choose 'sum', 'mean' or 'max'"):
        kit.embedding.embedding_bag(flat, weight, mx.array([0]), mode="least")
    with pytest.raises(ValueError, match="flat indices need offsets"):
        kit.embedding.embedding_bag(flat, weight)


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align_corners", [False, True])
def test_grid_sample(mode, padding_mode, align_corners):
    from torch2mlx.kit import resample

    image = torch.randn(2, 3, 5, 6)
    theta = torch.tensor([[[1.2, 0.1, 0.3], [-0.2, 0.9, -0.4]]] * 2)
    grid = nn.functional.affine_grid(theta, (2, 3, 4, 7), align_corners=align_corners)
    options = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    expected = nn.functional.grid_sample(image, grid, **options).permute(0, 2, 3, 1)
    ours = resample.affine_grid(mx.array(theta.numpy()), (2, 4, 7, 3), align_corners)
    close(ours, grid.numpy())
    pic = mx.array(np.ascontiguousarray(image.permute(0, 2, 3, 1).numpy()))
    close(resample.grid_sample(pic, mx.array(grid.numpy()), **options), expected.numpy())


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(3, 2), (9, 11)])
@pytest.mark.parametrize("align_corners", [False, True])
def test_interpolate_with_antialias(mode, size, align_corners):
    from torch2mlx.kit import resample

    image = torch.randn(2, 3, 7, 6)
    options = {"mode": mode, "align_corners": align_corners, "antialias": True}
    expected = nn.functional.interpolate(image, size, **options).permute(0, 2, 3, 1).numpy()
    pic = mx.array(np.ascontiguousarray(image.permute(0, 2, 3, 1).numpy()))
    close(resample.interpolate(pic, size, **options), expected)


def test_tied_parameters_are_one():
    """Read, set, counted, trained and copied as one; its gradient is the sum of both."""
    import mlx.nn as nn
    from mlx.utils import tree_flatten

    from torch2mlx import kit

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3)
            kit.tying.tie(self, "second.weight", "first.weight")

        def __call__(self, x):
            return self.second(self.first(x))

    model = kit.training.deepcopy(Tied())
    assert [name for name, _ in tree_flatten(model.parameters())] == ["first.weight", "second.bias"]
    weight = mx.random.normal((3, 3))
    model.second.weight = weight  # through either name
    assert model.first.weight is weight and "weight" in model.second
    state = {**kit.files.state_dict(model), "second.weight": weight}
    kit.files.load_state_dict(model, state, strict=True)
    x = mx.random.normal((2, 3))
    _, gradients = nn.value_and_grad(model, lambda x: model(x).sum())(x)
    y = torch.from_numpy(np.array(x))
    both = torch.from_numpy(np.array(weight)).requires_grad_()
    (y @ both.T @ both.T).sum().backward()
    close(gradients["first"]["weight"], both.grad)


def test_members_of_a_module_dict_are_attributes_too():
    import mlx.nn as nn
    from mlx.utils import tree_flatten

    from torch2mlx import kit

    members = kit.layers.ModuleDict({"a": nn.Linear(2, 2), "b": [nn.ReLU()]})
    assert members.a is members["a"] and "b" in members
    assert [name for name, _ in tree_flatten(members.parameters())] == ["a.weight", "a.bias"]


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_a_transformers_first_matrices_are_drawn_as_torch_draws_them():
    sizes = (64, 4, 1, 1, 256)
    ours = dict(tree_flatten(kit.transformer.Transformer(*sizes).parameters()))
    theirs = torch.nn.Transformer(*sizes)
    for name, drawn in ours.items():
        if drawn.ndim < 2:
            continue
        part = name.replace("self_attention", "self_attn")
        part = part.replace("cross_attention", "multihead_attn")
        part = part.replace(".attention.", ".self_attn.")
        for projected in ("query_proj.weight", "key_proj.weight", "value_proj.weight"):
            part = part.replace(projected, "in_proj_weight")
        expected = theirs.get_parameter(part).detach()
        assert np.isclose(np.abs(np.array(drawn)).max(), expected.abs().max(), rtol=0.02), name
        assert np.isclose(np.array(drawn).std(), expected.std(), rtol=0.05), name


def test_a_padding_of_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"^padding is 'valid', 'same' or widths, not 'full'$"):
        kit.Conv1d(2, 2, 3, padding="full")
    assert kit.Conv1d(2, 2, 3, padding="valid")(mx.zeros((1, 5, 2))).shape == (1, 3, 2)


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4)])
def test_the_identity_of_other_than_two_axes_is_refused(shape):
    with pytest.raises(ValueError, match="values to unpack"):
        kit.init.eye(mx.zeros(shape))


@pytest.mark.parametrize("shape", [(3, 5), (6, 2)])
def test_a_gain_may_be_a_scalar_of_numpy(shape):
    drawn = kit.init.orthogonal(mx.zeros(shape), np.sqrt(2))
    square = np.array(drawn @ drawn.T if shape[0] < shape[1] else drawn.T @ drawn)
    np.testing.assert_allclose(square, 2 * np.eye(min(shape)), atol=1e-5)


@pytest.mark.parametrize("groups", [False, True])
def test_the_state_of_an_optimizer_is_saved_and_goes_on(groups, tmp_path):
    """`torch.save({"optimizer": optimizer.state_dict()})` where what it is of is not known."""

    def made():
        net = mlx_nn.Linear(2, 3)
        if not groups:
            return net, optim.AdamW(0.1)
        kinds = [optim.AdamW(0.1), optim.SGD(0.1, momentum=0.9)]
        return net, optim.MultiOptimizer(kinds, [lambda name, _: name == "weight"])

    net, optimizer = made()
    optimizer.update(net, {"weight": mx.ones((3, 2)), "bias": mx.ones((3,))})
    kit.files.save({"optimizer": kit.files.state_dict(optimizer)}, tmp_path / "kept.pt")
    _, other = made()
    kit.files.load_state_dict(other, kit.files.load(tmp_path / "kept.pt")["optimizer"])
    states = (tree_flatten(held.state) for held in (optimizer, other))
    for one, two in zip(*states, strict=True):
        assert one[0] == two[0] and mx.array_equal(one[1], two[1])


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_a_recurrent_layer_answers_the_same_after_flatten_parameters(kind):
    for width, rows in ((3, 2), (4, 5)):
        layer, x = getattr(kit.layers, kind)(width, 4), mx.random.normal((6, rows, width))
        before = layer(x)[0]
        layer.flatten_parameters()
        assert mx.array_equal(layer(x)[0], before)
