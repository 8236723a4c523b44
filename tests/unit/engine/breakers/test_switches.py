"""Kill switches: who may trip, who may lift, and what they stop."""

import pytest

from engine.breakers.commands import (
    EVERY_ASSET,
    LiftBreaker,
    PauseWithdrawals,
    ResumeWithdrawals,
    SetBreaker,
    SetLiftDelay,
    TripBreaker,
)
from engine.breakers.switches import LIFT_DELAY_MS
from engine.breakers.triggers import raise_solvency_alarm
from engine.commands import (
    EXPIRY_NEVER,
    CallAuction,
    Deposit,
    GrantKey,
    ListMarket,
    SetMarketStatus,
    Withdraw,
)
from engine.layout import HaltReason, Scope
from engine.machine import Machine
from engine.markets.states import MarketStatus
from engine.records import EVERY_MARKET, Code, HaltLine, Kind, Side
from engine.timelock.plugin import CancelChange, SetTimelockDelay
from tests.helpers.reporting import ReportedVenue, command_codes, lines_of
from tests.helpers.venue import cancel, new, signer

OTHER = ListMarket("OTHER", 1, 0, 1, 1, 100, 100, 0, 0, 0)
HALTED, AUCTION, OPEN = MarketStatus.HALTED, MarketStatus.AUCTION, MarketStatus.OPEN


class Guarded(ReportedVenue):
    """Two markets, and a key that may guard and nothing else."""

    def __init__(self):
        super().__init__(reporters=1)
        self.guardian = signer("guardian")
        self.commands(OTHER, GrantKey(0, self.guardian.public_key, Scope.GUARD, EXPIRY_NEVER))
        assert command_codes(self.step()) == [0, 0]
        self.price(1000)

    def trip(self, market=0):
        """Trip as the guardian; return the trip's number."""
        self.commands(TripBreaker(market), by=self.guardian)
        journal = self.price(1000).journal
        line = journal[journal["kind"] == Kind.COMMAND][0]
        assert line["code"] == 0
        return int(line["detail"])

    def lift(self, market, trip):
        """Send the lift, and let its delay pass."""
        self.commands(LiftBreaker(market, trip))
        assert command_codes(self.step()) == [0]
        self.price(1000, passed_ms=LIFT_DELAY_MS)

    def statuses(self):
        """Of both markets."""
        return [self.market("status", market) for market in (0, 1)]


@pytest.fixture
def venue():
    return Guarded()


def test_a_guardian_stops_a_market_before_the_next_order_trades(venue):
    account = venue.first_trader
    venue.orders(venue.traders[0], account, [new(0, account, 1, Side.BUY, 1000, 5)])
    venue.step()
    venue.orders(venue.traders[0], account, [new(0, account, 2, Side.BUY, 1000, 5), cancel(0, account, 1)])
    venue.commands(TripBreaker(0), by=venue.guardian)
    result = venue.step()
    journal = result.journal
    assert journal["code"][journal["kind"] == Kind.RESULT].tolist() == [Code.MARKET_CLOSED, Code.OK]
    (line,) = lines_of(result, Kind.HALT, HaltLine.HALTED)
    assert (line["flags"], line["qty"]) == (HaltReason.SWITCHED_OFF, 0)
    assert venue.statuses() == [HALTED, OPEN]
    venue.price(1000, passed_ms=10**9)
    assert venue.statuses() == [HALTED, OPEN]


def test_a_guardian_can_do_nothing_else(venue):
    trip = venue.trip()
    venue.commands(
        LiftBreaker(0, trip),
        SetLiftDelay(60_000),
        SetBreaker(0, 0, 1, 1, 0, 0, 0, 0),
        ResumeWithdrawals(0, 1),
        SetMarketStatus(0, OPEN),
        OTHER._replace(name="X"),
        Deposit(1, 0, 1),
        by=venue.guardian,
    )
    assert command_codes(venue.step()) == [Code.NOT_AUTHORISED] * 7


def test_nobody_but_guardians_trips(venue):
    for key, account in ((venue.traders[0], venue.first_trader), (venue.reporters[0], 1)):
        venue.commands(
            TripBreaker(0), TripBreaker(EVERY_MARKET), PauseWithdrawals(0), by=key, account=account
        )
    assert command_codes(venue.step()) == [Code.NOT_AUTHORISED] * 6


def test_the_venue_lifts_after_a_delay_and_an_auction_opens(venue):
    trip = venue.trip()
    venue.commands(LiftBreaker(0, trip))
    venue.step()
    venue.price(1000, passed_ms=LIFT_DELAY_MS - 1000)
    assert venue.statuses() == [HALTED, OPEN]
    venue.price(1000)
    assert venue.statuses() == [AUCTION, OPEN]
    venue.price(1000, passed_ms=120_000)
    assert venue.statuses() == [OPEN, OPEN]


def test_the_venue_cannot_open_around_a_switch(venue):
    venue.trip()
    venue.commands(SetMarketStatus(0, OPEN), CallAuction(0, venue.now_ms + 10_000, OPEN))
    venue.commands(SetBreaker(0, 0, 1, 1, 0, 0, 0, 0))
    assert command_codes(venue.step()) == [Code.HALTED, Code.HALTED, 0]
    assert venue.statuses() == [HALTED, OPEN]


def test_a_lift_is_for_one_trip_and_cannot_be_sent_ahead(venue):
    trip = venue.trip()
    for number in (trip - 1 or 99, trip + 1):
        venue.commands(LiftBreaker(0, number))
    venue.commands(LiftBreaker(0, trip), LiftBreaker(0, trip))
    codes = command_codes(venue.step())
    assert codes == [Code.NOTHING_TO_DO, Code.NOTHING_TO_DO, 0, 0]
    result = venue.price(1000, passed_ms=LIFT_DELAY_MS)
    lines = result.journal[result.journal["kind"] == Kind.APPLIED]
    assert lines["code"].tolist() == [0, Code.NOTHING_TO_DO]
    again = venue.trip()
    assert again == trip + 1
    venue.commands(LiftBreaker(0, trip))
    assert command_codes(venue.step()) == [Code.NOTHING_TO_DO]


def test_a_guardian_cancels_a_lift(venue):
    trip = venue.trip()
    venue.commands(LiftBreaker(0, trip))
    venue.step()
    venue.commands(CancelChange(1), by=venue.guardian)
    venue.step()
    venue.price(1000, passed_ms=LIFT_DELAY_MS)
    assert venue.statuses() == [HALTED, OPEN]


def test_lifting_waits_for_its_own_delay_however_long_rules_wait(venue):
    venue.commands(SetLiftDelay(60_000), SetTimelockDelay(86_400_000))
    venue.step()
    trip = venue.trip()
    venue.commands(LiftBreaker(0, trip))
    venue.step()
    venue.price(1000, passed_ms=60_000)
    assert venue.statuses() == [AUCTION, OPEN]


def test_a_tripped_market_is_not_tripped_again(venue):
    venue.trip()
    venue.trip(EVERY_MARKET)
    for market in (0, 1, EVERY_MARKET, 9):
        venue.commands(TripBreaker(market), by=venue.guardian)
    codes = command_codes(venue.step())
    assert codes == [Code.NOTHING_TO_DO, 0, Code.NOTHING_TO_DO, Code.UNKNOWN_MARKET]


def test_one_switch_stops_every_market_and_new_ones_too(venue):
    trip = venue.trip(EVERY_MARKET)
    assert venue.statuses() == [HALTED, HALTED]
    venue.commands(OTHER._replace(name="NEW"))
    venue.step()
    assert venue.market("status", 2) == HALTED
    venue.commands(SetMarketStatus(2, OPEN))
    assert command_codes(venue.step()) == [Code.HALTED]
    venue.lift(EVERY_MARKET, trip)
    assert [venue.market("status", market) for market in range(3)] == [AUCTION] * 3


def test_a_market_with_a_switch_of_its_own_stays_off_when_all_are_lifted(venue):
    own = venue.trip(0)
    every = venue.trip(EVERY_MARKET)
    venue.lift(EVERY_MARKET, every)
    assert venue.statuses() == [HALTED, AUCTION]
    venue.lift(0, own)
    assert venue.market("status") == AUCTION


def test_a_market_lifted_while_all_are_off_stays_off_with_them(venue):
    own = venue.trip(0)
    every = venue.trip(EVERY_MARKET)
    venue.lift(0, own)
    assert venue.statuses() == [HALTED, HALTED]
    venue.lift(EVERY_MARKET, every)
    assert venue.statuses() == [AUCTION, AUCTION]


def test_what_was_closed_is_not_opened_by_a_lift(venue):
    venue.commands(SetMarketStatus(0, MarketStatus.CLOSED))
    venue.step()
    trip = venue.trip()
    venue.commands(SetMarketStatus(0, OPEN))
    assert command_codes(venue.step()) == [Code.HALTED]
    venue.lift(0, trip)
    venue.price(1000)
    assert venue.market("status") == MarketStatus.CLOSED
    venue.commands(SetMarketStatus(0, OPEN))
    assert command_codes(venue.step()) == [0]


def test_an_auction_is_stopped_and_called_again(venue):
    venue.commands(CallAuction(0, venue.now_ms + 100_000, OPEN))
    venue.price(1000)
    trip = venue.trip()
    assert venue.market("status") == HALTED
    venue.price(1000, passed_ms=200_000)
    assert venue.market("status") == HALTED
    venue.lift(0, trip)
    assert venue.market("status") == AUCTION


def test_a_solvency_alarm_stops_all_trading_and_all_withdrawals(venue):
    raise_solvency_alarm(venue.machine.state)
    venue.step()
    assert venue.statuses() == [HALTED, HALTED]
    assert venue.market("halt_reason") == HaltReason.SOLVENCY
    venue.commands(Withdraw(venue.first_trader, 0, 1), Deposit(venue.first_trader, 0, 1))
    assert command_codes(venue.step()) == [Code.WITHDRAWALS_PAUSED, 0]
    venue.lift(EVERY_MARKET, 1)
    assert venue.statuses() == [AUCTION, AUCTION]
    venue.price(1000, passed_ms=120_000)
    assert venue.statuses() == [OPEN, OPEN]


def test_paused_withdrawals_resume_after_the_delay_if_no_later_pause_came(venue):
    venue.commands(PauseWithdrawals(0), PauseWithdrawals(9), by=venue.guardian)
    assert command_codes(venue.step()) == [0, Code.UNKNOWN_ASSET]
    venue.commands(Withdraw(venue.first_trader, 0, 1), Withdraw(venue.first_trader, 1, 1))
    venue.commands(ResumeWithdrawals(0, 2), ResumeWithdrawals(9, 1), ResumeWithdrawals(0, 1))
    codes = command_codes(venue.step())
    assert codes == [Code.WITHDRAWALS_PAUSED, 0, Code.NOTHING_TO_DO, Code.UNKNOWN_ASSET, 0]
    venue.commands(PauseWithdrawals(EVERY_ASSET), by=venue.guardian)
    venue.step(LIFT_DELAY_MS)
    venue.commands(Withdraw(venue.first_trader, 0, 1), ResumeWithdrawals(EVERY_ASSET, 2))
    assert command_codes(venue.step()) == [Code.WITHDRAWALS_PAUSED, 0]
    venue.step(LIFT_DELAY_MS)
    venue.commands(Withdraw(venue.first_trader, 0, 1), Withdraw(venue.first_trader, 1, 1))
    assert command_codes(venue.step()) == [0, 0]


def test_switches_survive_a_restore(venue):
    trip = venue.trip(EVERY_MARKET)
    machine = venue.machine
    venue.machine = Machine.restore(venue.genesis, machine.snapshot(), machine.state_root())
    venue.lift(EVERY_MARKET, trip)
    assert venue.statuses() == [AUCTION, AUCTION]
    venue.machine.check_conservation()


def test_the_lift_delay_is_never_short(venue):
    venue.commands(SetLiftDelay(59_999))
    assert command_codes(venue.step()) == [Code.BAD_ARGUMENT]
