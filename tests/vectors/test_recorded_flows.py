"""Recorded order flow through the real matching kernel, cut into blocks at random.

Sources: Bitstamp BTC/USD order-by-order feed of 2026-05-02 (PyPI package ob-analytics) with
the trades of the same half hour; and the recorded flows of flash1-dev/matching-engine-benchmark.
"""

import csv
import random
from collections import Counter

import numpy as np
import pytest

from engine.records import Kind
from testnet.flows import Flow, segments
from testnet.importers import bitstamp
from testnet.importers.formats import import_flow
from tests.helpers.recordings import BITSTAMP, recording
from tests.helpers.trading_floor import Floor, MarketTerms

FLOW_TRADES = {"static": 13, "normal": 292, "swing-25": 360, "swing-40": 372, "flash-crash": 404}
BLOCK_MAX = 4096


def replay(flow: Flow, seed: int) -> np.ndarray:
    """Fills of `flow`, run in blocks that end at every fence and at random places between."""
    rng = random.Random(seed)
    market = flow.markets[0]
    names = ("base_per_lot", "quote_per_lot_tick", "price_max", "qty_max")
    terms = MarketTerms(maker_fee_e6=0, taker_fee_e6=0, **{name: getattr(market, name) for name in names})
    floor = Floor(accounts=flow.accounts + 1, markets=(terms,), funds=0)
    for account, row in enumerate(flow.funding.tolist(), 1):
        for asset, amount in enumerate(row):
            floor.deposit(account, asset, amount)
    ops = flow.ops.copy()
    ops["account"] += 1  # account 0 is the venue's
    fills = []
    for start, stop in segments(flow):
        while start < stop:
            end = min(stop, start + rng.randrange(1, BLOCK_MAX))
            _, events = floor.execute(ops[start:end])
            fills.append(events[events["kind"] == Kind.FILL].copy())
            start = end
    return np.concatenate(fills)


def test_the_recorded_half_hour_fills_as_its_rule_says():
    """258 fills, of which 221 equal a printed trade in taker, maker, price and amount."""
    path = recording(BITSTAMP)
    flow = import_flow("bitstamp-l3", path)
    fills = replay(flow, seed=1)
    assert len(fills) == flow.fills_expected == 258
    printed = Counter(printed_trades(path.with_name(BITSTAMP.replace("_orders.csv.gz", "_trades.csv"))))
    names = order_names(path)
    columns = [fills[name].tolist() for name in ("client_order_id", "counter_order_id", "price", "qty")]
    ours = Counter(
        (names[taker - 1], names[maker - 1], price, qty)
        for taker, maker, price, qty in zip(*columns, strict=True)
    )
    assert sum((ours & printed).values()) == 221


@pytest.mark.parametrize("name", sorted(FLOW_TRADES))
def test_message_flows_trade_as_often_as_three_engines_agree(name):
    flow = import_flow("matching-messages", recording(f"flow_{name}_messages.csv.gz"))
    assert len(replay(flow, seed=2)) == flow.fills_expected == FLOW_TRADES[name]


def printed_trades(path):
    """(taker, maker, price, lots) of every printed trade."""
    with path.open() as file:
        for row in csv.DictReader(file):
            buy, sell = int(row["buy_order_id"]), int(row["sell_order_id"])
            taker, maker = (buy, sell) if row["side"] == "buy" else (sell, buy)
            yield taker, maker, int(float(row["price"])), round(float(row["amount"]) * 10**8)


def order_names(path):
    """The feed's order ids in the order in which the flow numbers them."""
    _, steps = bitstamp.read(path, None)
    return list(dict.fromkeys(step.key for step in steps))
