"""Whatever call to the system fails, is interrupted or is the last: the old or the new, whole."""

import pytest

from tests.checkpoint.write.faults import CASES, KINDS, Case
from torch2mlx import _core


def stop_at_every_call(case, kind, folder):
    count = case.count(folder / "counted")
    assert count > 15
    for at in range(count):
        case.stop(folder / str(at), at, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.old}-{c.new}-{c.name}")
def test_a_conversion_is_stopped_at_every_call(case, kind, tmp_path):
    stop_at_every_call(case, kind, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_replaced_in_two_steps_where_names_cannot_be_exchanged(
    kind, tmp_path, monkeypatch
):
    monkeypatch.setattr(_core, "exchange", lambda a, b: False)
    stop_at_every_call(Case(0, 1, "folder"), kind, tmp_path)
