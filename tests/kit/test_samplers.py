"""Places that samplers draw: of how many, how often, and without holding them all."""

import itertools

import numpy as np
import pytest

from tests.support import need

need("mlx.core")

import mlx.core as mx

from torch2mlx.kit.data import DataLoader, RandomSampler


@pytest.mark.parametrize(("count", "drawn"), [(3, 5), (3, 64), (10, 100), (10, None)])
def test_places_with_replacement_are_as_many_as_asked_for(count, drawn):
    mx.random.seed(0)
    sampler = RandomSampler(range(count), replacement=True, num_samples=drawn)
    places = list(sampler)
    assert len(places) == len(sampler) == (drawn or count)
    assert all(type(place) is int and 0 <= place < count for place in places)


def test_a_sampler_of_more_places_than_memory_holds_gives_the_first():
    """The loader that never ends, as scripts make it."""
    mx.random.seed(0)
    data = np.arange(4, dtype=np.float32)
    loader = DataLoader(data, 50, sampler=RandomSampler(data, True, int(1e10)))
    batches = [np.array(batch) for batch in itertools.islice(loader, 40)]
    assert {batch.shape for batch in batches} == {(50,)}
    shares = np.bincount(np.concatenate(batches).astype(int), minlength=4) / 2000
    np.testing.assert_allclose(shares, 0.25, atol=0.05)
