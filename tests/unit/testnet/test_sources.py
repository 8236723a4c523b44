"""Sources: deterministic, cut into chunks without losing anything, accounts split between desks."""

import numpy as np
import pytest

from testnet.sources import Places, SyntheticSource
from testnet.synthetic import FlowShape

SHAPE = FlowShape(markets=3, accounts=40, resting=60)
PLACES = Places(np.array([4, 5, 6]), np.arange(100, 140))


def collect(source: SyntheticSource, size: int) -> list[np.ndarray]:
    chunks = [list(source.chunks(PLACES, desk, size)) for desk in range(source.desks)]
    assert all(len(chunk) <= size for desk in chunks for chunk in desk)
    return [np.concatenate(desk) for desk in chunks if desk]


def test_the_same_seed_gives_the_same_flow_however_it_is_cut():
    one = collect(SyntheticSource(2, 7, 500, SHAPE), 100)
    other = collect(SyntheticSource(2, 7, 500, SHAPE), 33)
    assert all((a == b).all() for a, b in zip(one, other, strict=True))
    different = collect(SyntheticSource(2, 8, 500, SHAPE), 100)
    assert not (one[0] == different[0]).all()


@pytest.mark.parametrize("limit", [1, 10, 59, 60, 61, 1000, 1001])
def test_the_limit_is_met_exactly(limit):
    assert sum(map(len, collect(SyntheticSource(3, 1, limit, SHAPE), 64))) == limit


def test_each_desk_trades_for_its_own_accounts_only():
    first, second = collect(SyntheticSource(2, 1, 2000, SHAPE), 100)
    assert set(first["account"].tolist()) <= set(range(100, 140, 2))
    assert set(second["account"].tolist()) <= set(range(101, 140, 2))
    assert set(first["market"].tolist()) == {4, 5, 6}


def test_an_endless_source_goes_on():
    chunks = SyntheticSource(1, 1, None, SHAPE).chunks(PLACES, 0, 50)
    assert sum(len(next(chunks)) for _ in range(40)) > 1000


def test_order_ids_start_where_they_are_told():
    (ops,) = collect(SyntheticSource(1, 1, 200, SHAPE, first_order_id=10**12), 100)
    assert int(ops["client_order_id"].min()) >= 10**12


def test_the_world_can_be_listed_and_funded():
    world = SyntheticSource(2, 1, 10, SHAPE).world
    assert len(world.markets) == 3 and world.funding.shape == (40, 4)
    assert len({asset.name for asset in world.assets}) == 4
    assert int(world.funding.sum(axis=0).max()) < 2**62
