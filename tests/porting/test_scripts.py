"""Whole scripts: ported as they are, run in MLX from torch's first weights, the same numbers."""

import re

import numpy as np
import pytest

from tests.porting.compare import available, curves, names
from tests.support import need

need("torch", "mlx.core", "libcst", "sklearn")


SLOW = {"attention_pool", "ctc_speech", "fashion_mnist", "gpt", "packed_lstm", "resnet"}
SLOW |= {"rnn_classifier", "time_series", "trainer", "unet", "vit"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in names()]
)
def test_losses_agree(name, tmp_path):
    if not available(name):
        pytest.skip("needs Debian's data sets: apt-get install dataset-fashion-mnist")
    expected, found, result = curves(name, tmp_path)
    assert result.ok, result.unsupported
    assert not re.search(r"\btorch\b(?!2mlx)", re.sub(r'("""|#).*', "", result.source))
    assert len(expected) >= 25
    np.testing.assert_allclose(found, expected, rtol=1e-3)
