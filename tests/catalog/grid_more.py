"""The grid, continued: losses, embeddings, recurrent and attention layers."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from tests.catalog.grid import Case, cases, product, randn

REDUCTIONS = ["mean", "sum", "none"]


def positive(*shape: int) -> np.ndarray:
    return np.random.uniform(0.05, 0.95, shape).astype(np.float32)


def signs(*shape: int) -> np.ndarray:
    return np.sign(np.random.randn(*shape)).astype(np.float32)


def classes(count: int, *shape: int) -> np.ndarray:
    return np.random.randint(0, count, shape)


def drawn(*shape: int) -> torch.Tensor:
    """Options of layers: the same in every run."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(len(shape)))


def losses() -> list[Case]:
    pair = lambda: [randn(4, 5), randn(4, 5)]
    weight, positive_weight = drawn(5) + 0.5, drawn(5) + 0.5
    found = [
        *cases("L1Loss", (), pair, product(reduction=REDUCTIONS)),
        *cases("MSELoss", (), pair, product(reduction=REDUCTIONS)),
        *cases("HuberLoss", (), pair, product(reduction=REDUCTIONS, delta=[1.0, 0.4])),
        *cases("SmoothL1Loss", (), pair, product(reduction=REDUCTIONS, beta=[1.0, 0.4, 0.0])),
        *cases(
            "SoftMarginLoss",
            (),
            lambda: [randn(4, 5), signs(4, 5)],
            product(reduction=REDUCTIONS),
            fixed=(1,),
        ),
        *cases(
            "BCELoss",
            (),
            lambda: [positive(4, 5), positive(4, 5)],
            product(reduction=REDUCTIONS, weight=[None, weight]),
        ),
        *cases(
            "BCEWithLogitsLoss",
            (),
            lambda: [randn(4, 5) * 3, positive(4, 5)],
            product(
                reduction=REDUCTIONS, weight=[None, weight], pos_weight=[None, positive_weight]
            ),
        ),
        *cases(
            "PoissonNLLLoss",
            (),
            lambda: [randn(4, 5), np.abs(randn(4, 5)) * 3],
            product(log_input=[True], full=[False, True], reduction=REDUCTIONS),
        ),
        *cases(
            "PoissonNLLLoss",
            (),
            lambda: [positive(4, 5), np.abs(randn(4, 5)) * 3],
            product(log_input=[False], full=[False, True], reduction=REDUCTIONS),
        ),
        *cases(
            "GaussianNLLLoss",
            (),
            lambda: [randn(4, 5), randn(4, 5), positive(4, 5)],
            product(full=[False, True], reduction=REDUCTIONS),
            halves=False,
        ),
        *cases(
            "HingeEmbeddingLoss",
            (),
            lambda: [randn(4, 5), signs(4, 5)],
            product(margin=[1.0, 0.3], reduction=REDUCTIONS),
        ),
        *cases(
            "MarginRankingLoss",
            (),
            lambda: [randn(6), randn(6), signs(6)],
            product(margin=[0.0, 0.5], reduction=REDUCTIONS),
        ),
        *cases(
            "CosineEmbeddingLoss",
            (),
            lambda: [randn(6, 4), randn(6, 4), signs(6)],
            product(margin=[0.0, 0.3], reduction=REDUCTIONS),
        ),
        *cases(
            "TripletMarginLoss",
            (),
            lambda: [randn(6, 4), randn(6, 4), randn(6, 4)],
            product(margin=[1.0], p=[1, 2, 3], swap=[False, True], reduction=REDUCTIONS),
        ),
        *cases(
            "TripletMarginWithDistanceLoss",
            (),
            lambda: [randn(6, 4), randn(6, 4), randn(6, 4)],
            product(margin=[0.7], swap=[False, True], reduction=REDUCTIONS),
        ),
        *cases(
            "MultiLabelSoftMarginLoss",
            (),
            lambda: [randn(4, 5), positive(4, 5).round()],
            product(weight=[None, weight], reduction=REDUCTIONS),
        ),
        *cases(
            "MultiLabelMarginLoss",
            (),
            lambda: [randn(2, 5), np.array([[1, 3, -1, 0, 2], [4, 0, 2, -1, 1]])],
            product(reduction=REDUCTIONS),
            halves=False,
        ),
        *cases(
            "MultiMarginLoss",
            (),
            lambda: [randn(4, 5), classes(5, 4)],
            product(p=[1, 2], margin=[1.0, 0.4], weight=[None, weight], reduction=REDUCTIONS),
            halves=False,
        ),
        *cases(
            "CosineSimilarity",
            (),
            lambda: [randn(4, 5, 3), randn(4, 5, 3)],
            product(dim=[1, -1, 0]),
        ),
        *cases(
            "PairwiseDistance",
            (),
            pair,
            product(p=[1.0, 2.0, 3.5, float("inf")], keepdim=[False, True]),
        ),
    ]
    for log_target in (False, True):
        target = (lambda: np.log(positive(4, 5))) if log_target else (lambda: positive(4, 5))
        found += cases(
            "KLDivLoss",
            (),
            lambda t=target: [randn(4, 5), t()],
            product(log_target=[log_target], reduction=[*REDUCTIONS, "batchmean"]),
        )
    return found + class_losses(weight)


def class_losses(weight: torch.Tensor) -> list[Case]:
    found = []
    options = {"weight": [None, weight], "ignore_index": [-100, 2], "reduction": REDUCTIONS}
    for extra in ((), (3,), (3, 2)):
        data = lambda e=extra: [randn(4, 5, *e), classes(5, 4, *e)]
        found += cases("CrossEntropyLoss", (), data, product(**options, label_smoothing=[0.0, 0.2]))
        found += cases("NLLLoss", (), data, product(**options))
    soft = lambda: [randn(4, 5, 3), positive(4, 5, 3)]
    found += cases(
        "CrossEntropyLoss",
        (),
        soft,
        product(weight=[None, weight], reduction=REDUCTIONS, label_smoothing=[0.0, 0.2]),
    )
    found += cases(
        "CrossEntropyLoss", (), lambda: [randn(5), np.array(2)], product(reduction=["mean"])
    )
    log_probs = lambda: torch.randn(12, 4, 6).log_softmax(-1).numpy()
    padded = lambda: [
        log_probs(),
        np.random.randint(1, 6, (4, 5)),
        np.array([12, 10, 12, 3]),
        np.array([5, 4, 1, 2]),
    ]
    joined = lambda: [
        log_probs(),
        np.random.randint(1, 6, (9,)),
        np.array([12, 12, 12, 12]),
        np.array([3, 4, 0, 2]),
    ]
    for data in (padded, joined):
        found += cases(
            "CTCLoss",
            (),
            data,
            product(reduction=REDUCTIONS, zero_infinity=[False, True]),
            halves=False,
        )
    return found


def linears() -> list[Case]:
    index = lambda: [classes(7, 3, 4)]
    return [
        *cases(
            "LinearCrossEntropyLoss",
            (5, 7),
            lambda: [randn(6, 5), classes(7, 6)],
            product(
                bias=[True, False],
                weight=[None, drawn(7)],
                ignore_index=[None, 2],
                label_smoothing=[0.0, 0.1],
            ),
            halves=False,
        ),
        *cases("Linear", (5, 7), lambda: [randn(2, 3, 5)], product(bias=[True, False])),
        *cases(
            "Bilinear", (4, 5, 3), lambda: [randn(2, 4), randn(2, 5)], product(bias=[True, False])
        ),
        *cases("Embedding", (7, 4), index, product(padding_idx=[None, 2])),
        *cases(
            "EmbeddingBag",
            (7, 4),
            index,
            product(mode=["sum", "mean", "max"], padding_idx=[None, 2]),
        ),
        *cases(
            "EmbeddingBag",
            (7, 4),
            lambda: [classes(7, 9), np.array([0, 2, 2, 6])],
            product(mode=["sum", "mean", "max"]),
        ),
        *cases(
            "AdaptiveLogSoftmaxWithLoss",
            (8, 10, [3, 6]),
            lambda: [randn(12, 8), np.arange(12) % 10],
            product(div_value=[2.0, 1.5], head_bias=[True, False]),
            halves=False,
        ),
    ]


def recurrent() -> list[Case]:
    found = []
    for kind in ("RNN", "LSTM", "GRU"):
        grid = list(
            product(
                num_layers=[1, 2],
                bias=[True, False],
                bidirectional=[False, True],
                batch_first=[False, True],
            )
        )
        if kind == "RNN":
            grid += list(product(nonlinearity=["relu"], num_layers=[1, 2]))
        if kind == "LSTM":
            grid += list(product(proj_size=[3], num_layers=[1, 2], bidirectional=[False, True]))
        found += cases(kind, (4, 6), lambda: [randn(5, 3, 4)], grid, halves=False)
        found += cases(
            kind, (4, 6), lambda: [randn(5, 4)], product(num_layers=[1, 2]), halves=False
        )
        options = product(
            bias=[True, False], **({"nonlinearity": ["tanh", "relu"]} if kind == "RNN" else {})
        )
        found += cases(f"{kind}Cell", (4, 6), lambda: [randn(3, 4)], options, halves=False)
        found += cases(f"{kind}Cell", (4, 6), lambda: [randn(4)], ({},), halves=False)
    state = lambda: [randn(5, 3, 4), randn(4, 3, 6)]
    return found + cases(
        "GRU", (4, 6), state, product(num_layers=[2], bidirectional=[True]), halves=False
    )


def attention() -> list[Case]:
    found = []
    three = lambda: [randn(4, 3, 8), randn(5, 3, 8), randn(5, 3, 8)]
    found += cases(
        "MultiheadAttention",
        (8, 2),
        three,
        product(bias=[True, False], add_bias_kv=[False, True], add_zero_attn=[False, True]),
        halves=False,
    )
    found += cases(
        "MultiheadAttention",
        (8, 2),
        lambda: [randn(4, 3, 8), randn(5, 3, 6), randn(5, 3, 7)],
        [{"kdim": 6, "vdim": 7}],
        halves=False,
    )
    found += cases(
        "MultiheadAttention",
        (8, 2),
        lambda: [randn(3, 4, 8)] * 3,
        [{"batch_first": True}],
        halves=False,
    )
    found += cases(
        "MultiheadAttention",
        (8, 2),
        lambda: [randn(4, 8), randn(5, 8), randn(5, 8)],
        ({},),
        halves=False,
    )
    sizes = {"dim_feedforward": 16, "dropout": 0.0}
    grid = list(
        product(
            norm_first=[False, True],
            activation=["relu", "gelu"],
            batch_first=[False, True],
            bias=[True, False],
        )
    )
    for options in grid:
        merged = {**sizes, **options}
        found += cases(
            "TransformerEncoderLayer",
            (8, 2),
            lambda: [randn(4, 3, 8)],
            [merged],
            modes=("train",),
            halves=False,
        )
        found += cases(
            "TransformerDecoderLayer",
            (8, 2),
            lambda: [randn(4, 3, 8), randn(4, 3, 8)],
            [merged],
            modes=("train",),
            halves=False,
        )
    layer = lambda: nn.TransformerEncoderLayer(8, 2, batch_first=True, **sizes)
    decoder = lambda: nn.TransformerDecoderLayer(8, 2, batch_first=True, **sizes)
    for norm in (False, True):
        last = lambda n=norm: nn.LayerNorm(8) if n else None
        found.append(
            Case(
                f"TransformerEncoder(norm={norm})",
                lambda m=last: nn.TransformerEncoder(layer(), 2, m(), enable_nested_tensor=False),
                lambda: [randn(2, 4, 8)],
                ("train",),
                halves=False,
            )
        )
        found.append(
            Case(
                f"TransformerDecoder(norm={norm})",
                lambda m=last: nn.TransformerDecoder(decoder(), 2, m()),
                lambda: [randn(2, 4, 8), randn(2, 5, 8)],
                ("train",),
                halves=False,
            )
        )
    found += cases(
        "Transformer",
        (8, 2, 1, 2),
        lambda: [randn(4, 3, 8), randn(5, 3, 8)],
        [sizes],
        modes=("train",),
        halves=False,
    )
    return found
