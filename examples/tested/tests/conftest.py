"""The model and the inputs that all tests share."""

import pytest
import torch
from digits import Classifier


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Classifier().eval()


@pytest.fixture
def images():
    return torch.randn(4, 1, 8, 8)
