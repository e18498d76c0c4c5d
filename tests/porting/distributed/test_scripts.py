"""Scripts of several processes: ported as they are, the same numbers as torch's over gloo."""

import pytest

from tests.porting.distributed.run import PROCESSES, TOLERANCE, compared, names
from tests.support import need

need("torch", "mlx.core", "libcst")

#: Which run here, for few steps; `./dev full distributed` runs all of them for 50.
SHORT, STEPS = ("no_sync", "telling"), 3


@pytest.mark.filterwarnings("ignore::torch2mlx.errors.LayoutWarning")
def test_four_processes_train_as_torchs_do(tmp_path):
    for count, largest in compared(SHORT, STEPS, tmp_path).values():
        assert count >= PROCESSES * STEPS
        assert largest <= TOLERANCE


def test_there_are_ten_scripts():
    assert len(names()) >= 10
    assert set(SHORT) <= set(names())
