"""Breakers on recorded crises: LUNA's fall of 10 May 2022, and USDC off its peg in March 2023.

The recordings go to the oracle as one reporter's prices, a minute each, with blocks between. Sources: see the
README beside the data.
"""

import csv
import gzip
from collections.abc import Iterator

from engine.breakers.commands import SetBreaker, SetPeg
from engine.commands import ListMarket
from engine.layout import AssetAlarm
from engine.oracle.commands import AddFeed, SetFeedReporter, SetIndex, SetIndexFeed
from engine.records import HaltLine, Kind
from tests.helpers.recordings import recording
from tests.helpers.reporting import ReportedVenue, command_codes, lines_of

MINUTE_MS = 60_000
STEP_MS = 15_000  # between blocks, four a minute
QUIET_MS = 6 * 3_600_000
RULES = SetBreaker(0, 1, 50_000, 150_000, 15_000, QUIET_MS, 60_000, 0)
MAY_10_MS, MARCH_1_MS, MARCH_10_MS = 1_652_140_800_000, 1_677_628_800_000, 1_678_406_400_000


def rows(name: str) -> Iterator[dict[str, str]]:
    with gzip.open(recording(f"risk/{name}"), "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


class Replay(ReportedVenue):
    """A venue whose one reporter reads prices off a recording."""

    def __init__(self, start_ms: int) -> None:
        feed = AddFeed("BTC/USD", 0, MINUTE_MS, 5 * MINUTE_MS, 1_000_000, 1_000_000)
        super().__init__(reporters=1, feed=feed, price_max=200_000, start_ms=start_ms)
        self.halts: list[dict[str, int]] = []
        self.lost: list[int] = []

    def minute(self, time_ms: int, prices: dict[int, int], blocks: int = 1) -> None:
        """Report `prices` by feed at `time_ms`, and let some blocks pass in that minute."""
        for feed, price in prices.items():
            self.report(0, price, epoch=time_ms // MINUTE_MS, feed=feed)
        for number in range(blocks):
            result = self.at(time_ms + number * STEP_MS)
            self.halts += lines_of(result, Kind.HALT, HaltLine.HALTED)
            self.lost += [self.now_ms for _ in lines_of(result, Kind.HALT, HaltLine.PEG_LOST)]


def test_the_fall_of_luna_halts_a_market_a_few_times_not_dozens():
    """Halts by 5, 15, 60 and 240 minutes; flat five-minute halts would have been dozens."""
    first = MAY_10_MS - 3_600_000
    replay = Replay(first - MINUTE_MS)
    replay.commands(RULES)
    for row in rows("luna_usdt_1m_2022-05.csv.gz"):
        time_ms = int(row["ts"]) * 1000
        if time_ms >= first:
            replay.minute(time_ms, {0: int(row["c_e8"]) // 100_000}, blocks=4)
    assert 1 <= len(replay.halts) <= 15


def test_usdc_loses_its_peg_hours_before_its_low_and_calm_days_trip_nothing():
    replay = Replay(MARCH_1_MS - MINUTE_MS)
    replay.commands(
        RULES,
        AddFeed("USDC/USD", 0, MINUTE_MS, 60 * MINUTE_MS, 1_000_000, 1_000_000),
        SetFeedReporter(1, 0, 1),
        ListMarket("USDC/USD", 1, 0, 1, 1, 200_000, 1_000_000, 0, 0, 0),
        SetIndexFeed(1, 1, 1),
        SetIndex(1, 1),
        RULES._replace(market=1),
        SetPeg(1, 1, 100_000, 10_000, 100_000),
    )
    assert set(command_codes(replay.at(MARCH_1_MS - 1))) == {0}
    low = (10**9, 0)
    for row in rows("usdc_depeg_1m.csv.gz"):
        time_ms = int(row["ts"]) * 1000
        prices = {0: row["p_coinbase_btcusd"], 1: row["p_kraken_usdcusd"]}
        scale = {0: 100, 1: 1}
        known = {feed: int(price) // scale[feed] for feed, price in prices.items() if price}
        replay.minute(time_ms, known)
        if 1 in known:
            low = min(low, (known[1], time_ms))
        if time_ms < MARCH_10_MS:
            assert not replay.halts and not replay.lost
    (lost,) = replay.lost
    assert lost <= low[1] - 4 * 3_600_000
    assert replay.machine.state.assets.columns["alarms"].item(1) == AssetAlarm.DEPEGGED
