"""The collector held back: what is made meanwhile is not walked, and it goes on as before."""

import gc
import weakref

import pytest

from torch2mlx.common.collecting import paused, paused_for

MANY = 60_000


@pytest.fixture(autouse=True)
def clean():
    frozen = gc.get_freeze_count()  # what the other tests are made of
    gc.unfreeze()
    gc.collect()
    yield
    gc.enable()
    gc.unfreeze()
    if frozen:
        gc.freeze()


def collections():
    return [part["collections"] for part in gc.get_stats()]


def test_nothing_is_collected_while_much_is_made_nor_right_after():
    with paused():
        before = collections()
        made = [[i] for i in range(MANY)]
        assert collections() == before
    young = {id(o) for o in gc.get_objects(generation=0)}
    assert not young & set(map(id, made))
    assert gc.isenabled() and not gc.get_freeze_count()


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    with paused():
        made = [[i] for i in range(MANY)]
    assert not gc.isenabled() and len(made) == MANY


def test_what_a_program_froze_stays_frozen():
    gc.freeze()
    frozen = gc.get_freeze_count()
    with paused():
        made = [[i] for i in range(MANY)]
    # some of what is frozen may be freed meanwhile, as other objects are
    assert frozen - MANY // 100 <= gc.get_freeze_count() <= frozen and len(made) == MANY


def test_an_exception_lets_the_collector_go_on():
    with pytest.raises(ValueError), paused():
        raise ValueError
    assert gc.isenabled()


class Ring:
    """Holds itself, so that only the collector frees it."""


def test_garbage_of_many_rounds_is_collected_in_the_end():
    alive = set()

    def ring(i):
        one = Ring()
        one.own = one
        alive.add(i)
        weakref.finalize(one, alive.discard, i)

    for i in range(60):
        ring(i)
        with paused():
            made = [[i] for i in range(MANY)]
        del made
    assert len(alive) < 60


@pytest.mark.parametrize(("tensors", "collects"), [(MANY, False), (7, True)])
def test_the_collector_waits_for_work_on_very_many_tensors_alone(tensors, collects):
    with paused_for(tensors):
        assert gc.isenabled() is collects
    assert gc.isenabled()
