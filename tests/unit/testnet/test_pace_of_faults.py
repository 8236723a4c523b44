"""A run with faults has load before, during and after them."""

import argparse

import pytest

from testnet.cli import FAULT_MARGIN_SECONDS, _stretch


def _args(**changes: object) -> argparse.Namespace:
    values = {
        "orders": 100_000,
        "envelope": 1000,
        "flow": "synthetic",
        "kill_primary_at": 3.0,
        "restart_at": 6.0,
        "replace_validator_at": None,
    }
    return argparse.Namespace(**values | changes)


@pytest.mark.parametrize(("changes", "end"), [({}, 6.0), ({"restart_at": None}, 3.0)])
def test_orders_outlast_the_last_fault(changes, end):
    rate = _stretch(_args(**changes))
    assert rate is not None and 100 / rate == pytest.approx(end + FAULT_MARGIN_SECONDS)


@pytest.mark.parametrize("changes", [{"kill_primary_at": None}, {"orders": None}, {"flow": "recorded.flow"}])
def test_without_faults_or_a_bound_nothing_slows_the_load(changes):
    assert _stretch(_args(**changes)) is None
