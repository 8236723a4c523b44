"""Genesis refuses what could not be a ledger, and says what to change."""

import pytest

from consensus.primitives.errors import ConfigError
from consensus.proofs import MEMBERS_MAX, Epoch, Member
from engine.genesis import ADMIN_KEYS_MAX, Capacity, Genesis

CHAIN, KEY = b"c" * 32, b"k" * 32


@pytest.mark.parametrize(
    ("chain_id", "admin_keys", "message"),
    [
        (b"short", (KEY,), "chain_id"),
        (CHAIN, (), "admin keys"),
        (CHAIN, (KEY, KEY), "twice"),
        (CHAIN, (b"k" * 31,), "31 bytes"),
        (CHAIN, tuple(bytes([n]) * 32 for n in range(ADMIN_KEYS_MAX + 1)), "admin keys"),
    ],
)
def test_a_genesis_that_cannot_be_is_refused(chain_id, admin_keys, message):
    with pytest.raises(ConfigError, match=message):
        Genesis(chain_id, admin_keys)


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        ({"accounts": 0}, "capacity.accounts"),
        ({"orders": 2**31}, "capacity.orders"),
        ({"markets": 2**15}, "capacity.markets"),
        ({"assets": 2**16}, "capacity.assets"),
    ],
)
def test_a_capacity_that_cannot_be_is_refused_by_name(limits, name):
    with pytest.raises(ConfigError, match=name):
        Capacity(**limits)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epoch": Epoch(1, 1, (Member(0, KEY),))}, "starts in epoch 0"),
        ({"epoch": Epoch(0, 2, (Member(0, KEY),))}, "starts in epoch 0"),
        ({"epoch": Epoch(0, 1, (Member(1, KEY),))}, "starts in epoch 0"),
        ({"members_max": 0}, "at most 0"),
        ({"members_max": MEMBERS_MAX + 1}, "at most 65"),
        ({"checkpoint_interval": 9, "window": 8}, "interval 9"),
        ({"checkpoint_interval": 0}, "interval 0"),
    ],
)
def test_validators_that_cannot_begin_a_ledger_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        Genesis(CHAIN, (KEY,), **wrong)
