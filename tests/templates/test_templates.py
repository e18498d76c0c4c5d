"""Templates compute what their torch counterparts compute."""

import pytest

from tests.support import close, need

need("torch", "mlx.core")

import mlx.core as mx
import torch
from torch import nn

from torch2mlx.errors import ConversionError
from torch2mlx.templates import MLP, ConvBlock, ConvStack, TransformerBlock


@pytest.mark.parametrize("layer", [nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.ELU, nn.LeakyReLU])
@pytest.mark.parametrize("bias", [True, False])
def test_mlp(layer, bias):
    model = nn.Sequential(
        nn.Linear(4, 6, bias=bias), layer(), nn.Dropout(0.2), nn.Linear(6, 5, bias=bias), layer(),
        nn.Dropout(0.2), nn.Linear(5, 3, bias=bias),
    ).eval()  # fmt: skip
    x = torch.randn(2, 7, 4)
    close(MLP.from_torch(model)(mx.array(x.numpy())), model(x).detach().numpy())


def test_mlp_residual():
    twin = MLP([4, 4, 3], residual=True).eval()
    x = mx.random.normal((2, 4))
    expected = twin.layers[1](x + mx.maximum(twin.layers[0](x), 0))
    close(twin(x), expected)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("bias", [True, False])
def test_transformer_block(norm_first, activation, bias):
    layer = nn.TransformerEncoderLayer(
        8, 2, 16, 0.1, activation, batch_first=True, norm_first=norm_first, bias=bias
    ).eval()
    x = torch.randn(3, 5, 8)
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    twin = TransformerBlock.from_torch(layer)
    with torch.no_grad():
        close(twin(mx.array(x.numpy())), layer(x).numpy())
        close(twin(mx.array(x.numpy()), "causal"), layer(x, mask).numpy())


@pytest.mark.parametrize(
    "norm",
    [
        None,
        lambda: nn.BatchNorm2d(8),
        lambda: nn.GroupNorm(2, 8),
        lambda: nn.InstanceNorm2d(8, affine=True),
    ],
)
@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"groups": 2, "bias": False}])
def test_conv_block(norm, options):
    layers = [nn.Conv2d(4, 8, 3, padding=1, **options)] + ([norm()] if norm else []) + [nn.ReLU()]
    block = nn.Sequential(*layers)
    block(torch.randn(4, 4, 9, 8))  # moves running statistics
    block.eval()
    x = torch.randn(2, 4, 9, 8)
    found = ConvBlock.from_torch(block)(mx.array(x.permute(0, 2, 3, 1).numpy()))
    close(found, block(x).detach().permute(0, 2, 3, 1).numpy())


def test_conv_stack():
    block = lambda i, o, s: nn.Sequential(nn.Conv2d(i, o, 3, s, 1), nn.BatchNorm2d(o), nn.SiLU())
    stack = nn.Sequential(block(3, 4, 1), block(4, 8, 2)).eval()
    x = torch.randn(2, 3, 8, 8)
    found = ConvStack.from_torch(stack)(mx.array(x.permute(0, 2, 3, 1).numpy()))
    close(found, stack(x).detach().permute(0, 2, 3, 1).numpy())
    assert ConvStack([3, 4, 8], downsample=True)(mx.zeros((1, 8, 8, 3))).shape == (1, 4, 4, 8)


@pytest.mark.parametrize(
    ("template", "model"),
    [
        (MLP, nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))),
        (MLP, nn.Sequential(*(m for a in (nn.ReLU(), nn.Tanh()) for m in (nn.Linear(2, 2), a)))),
        (MLP, nn.Sequential(nn.ReLU())),
        (ConvBlock, nn.Sequential(nn.ReLU())),
        (ConvBlock, nn.Sequential(nn.Conv2d(2, 2, 3, dilation=2))),
        (ConvBlock, nn.Sequential(nn.Conv2d(2, 2, 3), nn.Softmax(1))),
        (TransformerBlock, nn.Linear(2, 2)),
    ],
)  # fmt: skip
def test_other_models_are_refused(template, model):
    with pytest.raises(ConversionError):
        template.from_torch(model)
