"""Plain-MLX layers for what mlx.nn lacks, equal to torch.nn's in value and parameter layout.

They take torch's constructor arguments; spatial data is channels-last, as everywhere in MLX.
"""

from torch2mlx.kit import (
    activations,
    algebra,
    control,
    conv,
    ctc,
    distance,
    dropout,
    indexing,
    losses,
    moe,
    norm,
    padding,
    pooling,
    resample,
    sequences,
    shuffle,
    signal,
    sorting,
)
from torch2mlx.kit.activations import PReLU
from torch2mlx.kit.adaptive_softmax import AdaptiveLogSoftmaxWithLoss
from torch2mlx.kit.attention import MultiheadAttention
from torch2mlx.kit.conv import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
)
from torch2mlx.kit.embedding import Embedding, EmbeddingBag
from torch2mlx.kit.function import Function
from torch2mlx.kit.linear_loss import LinearCrossEntropyLoss
from torch2mlx.kit.norm import BatchNorm, InstanceNorm, LayerNorm, RMSNorm
from torch2mlx.kit.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from torch2mlx.kit.transformer import (
    Transformer,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "AdaptiveLogSoftmaxWithLoss",
    "BatchNorm",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Embedding",
    "EmbeddingBag",
    "Function",
    "GRUCell",
    "InstanceNorm",
    "LSTMCell",
    "LayerNorm",
    "LinearCrossEntropyLoss",
    "MultiheadAttention",
    "PReLU",
    "RMSNorm",
    "RNNCell",
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "activations",
    "algebra",
    "control",
    "conv",
    "ctc",
    "distance",
    "dropout",
    "indexing",
    "losses",
    "moe",
    "norm",
    "padding",
    "pooling",
    "resample",
    "sequences",
    "shuffle",
    "signal",
    "sorting",
]
