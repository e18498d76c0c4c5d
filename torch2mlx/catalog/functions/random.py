"""Arrays of random numbers: other numbers than torch's from the same seed."""

from __future__ import annotations

from torch2mlx.catalog.functions.entry import op

_STREAM = "another stream of random numbers"

ENTRIES = (
    op(
        "rand",
        "*size dtype | mx.random.uniform(shape={(size)})«.astype({dtype})»",
        note=_STREAM,
        made=True,
    ),
    op(
        "randn",
        "*size dtype | mx.random.normal({(size)}«, dtype={dtype}»)",
        note=_STREAM,
        made=True,
    ),
    op(
        "rand_like",
        "input dtype | mx.random.uniform(shape={input!}.shape, dtype={dtype|input.dtype})",
        note=_STREAM,
        layout="elementwise",
    ),
    op(
        "randn_like",
        "input dtype | mx.random.normal({input!}.shape, dtype={dtype|input.dtype})",
        note=_STREAM,
        layout="elementwise",
    ),
    op(
        "randint_like",
        "input low high dtype | kit.tensors.randint({low}, {high}, {input!}.shape, "
        "dtype={dtype|input.dtype})",
        "input high dtype | kit.tensors.randint({high}, {input!}.shape, dtype={dtype|input.dtype})",
    ),
    op(
        "randint",
        "*bounds dtype | kit.tensors.randint({*bounds}«, dtype={dtype}»)",
        "low high size dtype | kit.tensors.randint({low}, {high}, {size}«, dtype={dtype}»)",
        "high size dtype | kit.tensors.randint({high}, {size}«, dtype={dtype}»)",
        mlx="random.randint",
        note=_STREAM,
        made=True,
    ),
    op("randperm", "n dtype | mx.random.permutation({n})", note=_STREAM, made=True),
    op(
        ".bernoulli",
        "input p | mx.random.bernoulli({p|input}).astype({input!}.dtype)",
        note=_STREAM,
    ),
    op(
        "normal",
        "mean std size | kit.tensors.normal({mean}«, {std}»«, {size}»)",
        mlx="random.normal",
        note=_STREAM,
        made=True,
    ),
    op(
        ".multinomial",
        "input num_samples replacement | kit.tensors.multinomial({input}, {num_samples}«, "
        "{replacement}»)",
        mlx="random.categorical",
        note="takes logits; with replacement only",
    ),
    op("manual_seed", "seed | mx.random.seed({seed})", returns="unknown", made=True),
    op(
        "nn.functional.gumbel_softmax",
        "logits tau hard eps dim | kit.functional.gumbel_softmax({logits}«, tau={tau}»«, "
        "hard={hard}»«, axis={dim}»)",
        mlx="random.gumbel",
        note="softmax of logits + gumbel noise",
    ),
)
