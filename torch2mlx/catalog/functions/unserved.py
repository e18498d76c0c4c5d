"""Functions under torch that translate lowers and no script is told another way to write."""

from __future__ import annotations

from torch2mlx.catalog.functions.entry import op

_INNER = "an inner function of torch: call the one of torch.nn.functional"
_CELLS = "weights come in a flat list: use torch.nn.LSTM, GRU or RNN, or their cells"

ENTRIES = (
    op("geqrf ormqr", note="use mx.linalg.qr"),
    op("igamma", note="no incomplete gamma function"),
    op(
        "linalg.ldl_factor linalg.ldl_factor_ex linalg.ldl_solve",
        note="no Bunch-Kaufman: cholesky, lu or solve",
    ),
    op("lobpcg", note="use mx.linalg.eigh"),
    op("promote_types result_type", note="of two arrays mx.result_type says it"),
    op("quantize_per_tensor", note="MLX quantises by groups: mx.quantize"),
    op("special", note="most of torch.special has no twin"),
    op("embedding_bag", note="offsets are counted anew for each call: use torch.nn.EmbeddingBag"),
    op("convolution native_dropout native_group_norm native_layer_norm", note=_INNER),
    op("lstm gru rnn_relu rnn_tanh lstm_cell gru_cell rnn_relu_cell rnn_tanh_cell", note=_CELLS),
    op(
        "resize resize_as",
        note="new items have no value: use reshape, or make the array anew",
    ),
    op("sym_constrain_range sym_constrain_range_for_size", note="a check of torch.export's"),
)
