"""Assertions for tests of models that have a twin in MLX; as pytest fixtures in plugin.py.

    from torch2mlx.testing import assert_translates

    def test_the_classifier_translates():
        assert_translates(Classifier().eval(), (torch.randn(2, 8),))

Importing this imports no framework, no numpy and no pytest: they are imported where they are used.
"""

from torch2mlx.testing.asserting import assert_converts, assert_translates, mlx_twin
from torch2mlx.testing.generating import assert_generates
from torch2mlx.testing.training import assert_same_training

__all__ = [
    "assert_converts",
    "assert_generates",
    "assert_same_training",
    "assert_translates",
    "mlx_twin",
]
