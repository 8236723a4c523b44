"""One market's breaker: its band, its limit state, its halts, and its way back.

    NORMAL      the price is inside the band, or nobody knows it
    LIMIT       it is at the band's end or beyond: a halt follows, unless it comes back within limit_ms
    HALTED      nothing trades, until time is over, or for ever where a switch was thrown
    REOPENING   released: an auction is called, and will open the market; then NORMAL

Halts grow longer, DURATIONS_MS, until `quiet_ms` passed without one. The price that counts is the consensus
price, never our own trades, so nobody halts a market by trading on it. A halt stops trading and nothing
else: orders can be cancelled, funds deposited, margin topped up.
"""

from engine.breakers.bands import (
    compute_band,
    compute_band_ppm,
    compute_half_width,
    compute_reference,
    compute_sigma_ppm,
)
from engine.breakers.tables import SAMPLES_MAX, BreakerState
from engine.layout import HaltReason, PriceStatus
from engine.markets.states import MarketStatus
from engine.oracle.ladder import PriceAction, price_allows
from engine.plugin import Context
from engine.records import HaltLine, Kind, PriceLine
from engine.state import State

MINUTE_MS = 60_000
DURATIONS_MS = (5 * MINUTE_MS, 15 * MINUTE_MS, 60 * MINUTE_MS, 240 * MINUTE_MS)
LIQUIDATION_MS = 5 * MINUTE_MS
NEVER_MS = 2**62
HALTABLE = (MarketStatus.OPEN, MarketStatus.PRE_OPEN, MarketStatus.AUCTION)
BY_SWITCH = (HaltReason.SWITCHED_OFF, HaltReason.ALL_SWITCHED_OFF, HaltReason.SOLVENCY)
MEASURED = (PriceStatus.VALID, PriceStatus.VOLATILE)  # a price that says where the world is, or is heading
_ON_ITS_WAY = (MarketStatus.HALTED, MarketStatus.AUCTION, MarketStatus.UNCROSSING)


class Breaker:
    """One market's turn in one block."""

    def __init__(self, state: State, context: Context, market: int) -> None:
        self._state = state
        self._context = context
        self._market = market
        self._table = state.table("breakers")
        missing = market + 1 - state.used(self._table)
        if missing > 0:
            state.add_rows(self._table, missing)

    def get(self, field: str) -> int:
        """A column of the breaker."""
        return int(self._table.columns[field][self._market])

    def set(self, field: str, value: int) -> None:
        """Write a column of the breaker."""
        self._table.columns[field][self._market] = value
        self._table.mark(self._market)

    def of_market(self, field: str) -> int:
        """A column of the market."""
        return int(self._state.markets.columns[field][self._market])

    def set_market(self, field: str, value: int) -> None:
        """Write a column of the market."""
        self._state.markets.columns[field][self._market] = value
        self._state.markets.mark(self._market)

    # -- the band -----------------------------------------------------------------------------

    def sample(self) -> None:
        """Take the price at a minute's end into the ring, and draw the band anew."""
        place = (self.get("newest") + 1) % SAMPLES_MAX
        samples = min(self.get("samples") + 1, SAMPLES_MAX)
        ring = self._table.columns["prices"][self._market]
        ring[place] = self.of_market("index_price")
        self.set("newest", place)
        self.set("samples", samples)
        self.set("minute", self._context.time_ms // MINUTE_MS)
        prices = [int(ring[(place - back) % SAMPLES_MAX]) for back in range(samples - 1, -1, -1)]
        reference = compute_reference(prices)
        sigma_ppm = compute_sigma_ppm(prices)
        self._draw_band(reference, compute_band_ppm(sigma_ppm, self.get("floor_ppm"), self.get("cap_ppm")))

    def _draw_band(self, reference: int, band_ppm: int) -> None:
        low, high = compute_band(reference, band_ppm, self.of_market("price_max"))
        self.set("reference", reference)
        self.set("band_ppm", band_ppm)
        if (low, high) == (self.of_market("band_low"), self.of_market("band_high")):
            return
        self.set_market("band_low", low)
        self.set_market("band_high", high)
        self._context.events.add(
            Kind.PRICE,
            op=PriceLine.BAND,
            market=self._market,
            price=low,
            qty=high,
            detail=reference,
            fee=band_ppm,
        )

    def forget(self) -> None:
        """There is no band, and no history, any more."""
        for field in ("samples", "newest", "reference", "band_ppm", "minute", "pressure"):
            self.set(field, 0)
        self.set_market("band_low", 0)
        self.set_market("band_high", 0)
        if self.get("state") == BreakerState.LIMIT:
            self._change(BreakerState.NORMAL)

    # -- halts --------------------------------------------------------------------------------

    def turn(self) -> None:
        """At the end of a block: whatever is due."""
        self._count_liquidations()
        match self.get("state"):
            case BreakerState.NORMAL | BreakerState.LIMIT:
                self._watch()
            case BreakerState.HALTED:
                self._end_halt()
            case BreakerState.REOPENING:
                self._wait_for_opening()
        is_quiet = self._context.time_ms - self.get("released_ms") >= self.get("quiet_ms")
        if self.get("level") and is_quiet and self.get("state") in (BreakerState.NORMAL, BreakerState.LIMIT):
            self.set("level", 0)

    def _watch(self) -> None:
        """Does the price leave the band, for too long, or is there none to trade at?"""
        status, now = self.of_market("price_status"), self._context.time_ms
        if not price_allows(status, PriceAction.TRADE.value):  # also where there are no rules for a band
            self.halt(HaltReason.NO_PRICE)
            return
        if not self.get("is_on") or status not in MEASURED or self.get("reference") == 0:
            return  # nothing new is known: band and limit state stay as they are
        price, limit = self.of_market("index_price"), self.get("state") == BreakerState.LIMIT
        reference = self.get("reference")
        is_outside = abs(price - reference) >= compute_half_width(reference, self.get("band_ppm"))
        if is_outside and not limit:
            self.set("limit_since_ms", now)
            self._change(BreakerState.LIMIT)
            self._tell(HaltLine.LIMIT_BEGINS, price=price, detail=reference)
        elif limit and not is_outside:
            self._change(BreakerState.NORMAL)
            self._tell(HaltLine.LIMIT_ENDS, price=price, detail=reference)
        if is_outside and now - self.get("limit_since_ms") >= self.get("limit_ms"):
            self.halt(HaltReason.PRICE_MOVED)

    def _count_liquidations(self) -> None:
        """A leaky bucket of what clearing liquidated, in quote units; at its limit the market halts."""
        added, most, now = self.of_market("liquidated"), self.get("liquidation_max"), self._context.time_ms
        if added:
            self.set_market("liquidated", 0)
        if most == 0 or not self.get("is_on"):
            return
        passed = min(now - self.get("pressure_ms"), LIQUIDATION_MS)
        pressure = max(self.get("pressure") - most * passed // LIQUIDATION_MS, 0) + added
        self.set("pressure_ms", now)
        self.set("pressure", min(pressure, most))
        if pressure > most and self.get("state") in (BreakerState.NORMAL, BreakerState.LIMIT):
            self.halt(HaltReason.LIQUIDATIONS)

    def halt(self, reason: HaltReason) -> None:
        """Stop for as long as the level says; the next halt is longer."""
        level = self.get("level")
        self.set("halt_end_ms", self._context.time_ms + DURATIONS_MS[level])
        self.set("level", min(level + 1, len(DURATIONS_MS) - 1))
        self.set_market("reopen_ms", self.get("halt_end_ms"))
        self._stop(reason, self.get("halt_end_ms"), level)

    def switch_off(self, reason: HaltReason) -> None:
        """Stop until somebody lifts it. What already stopped for a while waits for both."""
        if self.get("state") != BreakerState.HALTED:
            self.set("halt_end_ms", 0)
        self.set_market("reopen_ms", 0)
        self._stop(reason, 0, self.get("level"))

    def lift(self) -> None:
        """A switch is lifted: the market reopens like after any halt, as soon as there is a price."""
        self.set("halt_end_ms", max(self.get("halt_end_ms"), self._context.time_ms))
        self.set_market("halt_reason", HaltReason.LIFTED)
        self._change(BreakerState.HALTED)  # a market that was listed since has no other state yet

    def _stop(self, reason: HaltReason, until_ms: int, level: int) -> None:
        self.set_market("halt_reason", reason)
        self._change(BreakerState.HALTED)
        if self.of_market("status") in HALTABLE:
            self.set_market("status", MarketStatus.HALTED)
        self._tell(HaltLine.HALTED, price=self.get("reference"), qty=until_ms, detail=level)

    def enforce(self) -> None:
        """A market that somebody opened, or an auction that ended, while a breaker holds it."""
        if self.of_market("status") in HALTABLE:
            self.set_market("status", MarketStatus.HALTED)
            self.set_market("reopen_ms", 0)
            if self.get("state") != BreakerState.HALTED:
                self._change(BreakerState.HALTED)

    def _end_halt(self) -> None:
        """Time is over, and there is a price to check an auction against: let the call begin."""
        if self.of_market("halt_reason") in BY_SWITCH or self._context.time_ms < self.get("halt_end_ms"):
            return
        if not price_allows(self.of_market("price_status"), PriceAction.AUCTION.value):
            self.set_market("reopen_ms", 0)  # it was announced, but cannot be
            return
        self.set_market("halt_reason", HaltReason.NONE)
        self.set("released_ms", self._context.time_ms)
        if self.of_market("status") == MarketStatus.HALTED:
            self.set_market("reopen_ms", self._context.time_ms)
        self.set_market("grace_until_ms", NEVER_MS)
        self._change(BreakerState.REOPENING)
        self._tell(HaltLine.REOPENING, price=self.get("reference"), detail=self.get("level"))

    def _wait_for_opening(self) -> None:
        """Grace begins when the market trades again, or does not because the venue closed it."""
        if self.of_market("status") not in _ON_ITS_WAY:
            self.set_market("grace_until_ms", self._context.time_ms + self.get("grace_ms"))
            self._change(BreakerState.NORMAL)

    def _change(self, state: BreakerState) -> None:
        self.set("state", state)

    def _tell(self, what: HaltLine, **fields: int) -> None:
        reason = self.of_market("halt_reason")
        self._context.events.add(Kind.HALT, op=what, market=self._market, flags=reason, **fields)
