"""The classifier has a twin in MLX, and both compute the same."""

import mlx.core as mx
import numpy as np
import pytest
import torch
from torch import nn


def test_the_classifier_translates(assert_translates, model, images):
    made = assert_translates(model, (images,))
    assert "class Classifier(nn.Module)" in made.source


@pytest.mark.parametrize("batch", [1, 9])
def test_the_twin_takes_other_batches(mlx_twin, model, images, batch):
    twin = mlx_twin(model, (images,))
    other = torch.randn(batch, 1, 8, 8)
    with torch.no_grad():
        wanted = model(other).numpy()
    found = np.array(twin(mx.array(other.numpy())))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_the_weights_convert_and_come_back(assert_converts, model):
    arrays = assert_converts(model)
    assert arrays["stem.weight"].shape == (8, 3, 3, 1)  # channels last


def test_a_model_that_changes_its_answer_is_caught(assert_translates, images):
    class Branch(nn.Module):
        def forward(self, x):
            return x if x.mean() > 0 else -x

    with pytest.raises(AssertionError, match="Branch has no translation"):
        assert_translates(Branch(), (images,))
