import gc
import os
import re
import sys

import pytest

try:
    import hypothesis
except ImportError:  # a bare run
    pass
else:
    # the same examples every time, and no clock: a slow machine is no failure
    hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
    hypothesis.settings.load_profile("steady")


def pytest_collection_modifyitems(items):
    """Processes that share the tests know them by name, in which no address can be."""
    for item in items:
        if re.search(r" at 0x[0-9a-f]", item.name):
            raise pytest.UsageError(f"{item.nodeid[:200]}: give its parameters ids")


def pytest_collection_finish():
    """What tests and libraries are made of stays: the collector need not walk it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(scope="session", autouse=True)
def state_of_its_own(tmp_path_factory):
    """What tests write is noted in a folder of theirs, not in the user's."""
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
    yield
    del os.environ["XDG_STATE_HOME"]
    if before is not None:
        os.environ["XDG_STATE_HOME"] = before


@pytest.fixture(autouse=True)
def seeded():
    """Every test draws the same numbers, alone or in any order."""
    import numpy as np

    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
    if "mlx.core" in sys.modules:
        sys.modules["mlx.core"].random.seed(0)
