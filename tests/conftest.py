import sys

import pytest


@pytest.fixture(autouse=True)
def seeded():
    """Every test draws the same numbers, alone or in any order."""
    import numpy as np

    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
    if "mlx.core" in sys.modules:
        sys.modules["mlx.core"].random.seed(0)
