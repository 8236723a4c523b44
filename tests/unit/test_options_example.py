"""The example of docs/plugins.md: its rules, and its laws over random commands against a slow twin."""

import random
import sys
from pathlib import Path

import pytest

from consensus.primitives.errors import ConfigError
from engine.genesis import Genesis
from engine.machine import Machine
from engine.plugins import make_plugins
from engine.records import AMOUNT_MAX, Code, Kind, Side
from tests.helpers.trading_floor import balances_of
from tests.helpers.venue import START_MS, Venue, new

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "options"
OPTIONS = "kontor_options.plugin:OptionsPlugin"
HOUR = 3_600_000
BUY, SELL = Side.BUY, Side.SELL


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """As if the package were installed."""
    monkeypatch.syspath_prepend(EXAMPLE)
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "kontor_options"]:
        del sys.modules[name]


class OptionsVenue(Venue):
    """Accounts 1..4 deal in options; 5 and 6 trade the market, at whatever price it is to have."""

    def __init__(self) -> None:
        super().__init__(plugins=(OPTIONS,))
        self.keys = self.open_market(traders=6, funds=1_000_000)
        self.now = START_MS
        self._orders = 0

    def run(self, *commands, account: int = 0) -> list[int]:
        """Codes of commands by one account, or by the venue, in a block of their own."""
        self.commands(*commands, by=self.keys[account - 1] if account else self.admin, account=account)
        return self.at(self.now)

    def at(self, time_ms: int) -> list[int]:
        """A block at this time; the codes of its commands."""
        self.now = time_ms
        result = self.block(time_ms=time_ms)
        self.lines = result.journal[result.journal["kind"] == Kind.FOREIGN]
        machine = self.machine
        machine.check_conservation()
        assert machine.state_root() == machine.full_state_root()
        return result.journal[result.journal["kind"] == Kind.COMMAND]["code"].tolist()

    def trade_at(self, price: int) -> None:
        """Make this the last trade's price."""
        self._orders += 1
        self.orders(self.keys[4], 5, [new(0, 5, self._orders, SELL, price, 1)])
        self.orders(self.keys[5], 6, [new(0, 6, self._orders, BUY, price, 1)])

    def has(self, account: int) -> int:
        """Available quote units."""
        return balances_of(self.machine.state).get((account, 1), (0, 0))[0]


@pytest.fixture
def venue():
    """Series 0: a call from 100 to 120, for an hour."""
    from kontor_options.commands import ListOptions

    venue = OptionsVenue()
    assert venue.run(ListOptions(0, 100, 120, START_MS + HOUR)) == [Code.OK]
    return venue


@pytest.mark.parametrize(("price", "paid"), [(90, 0), (100, 0), (107, 7), (120, 20), (200, 20)])
def test_a_call_pays_what_the_price_is_above_the_strike_up_to_the_cap(venue, price, paid):
    from kontor_options.commands import OfferOptions, OptionsLine, TakeOptions

    assert venue.run(OfferOptions(0, 1, 10, 3), account=1) == [Code.OK]
    assert venue.has(1) == 1_000_000 - 200
    assert venue.run(TakeOptions(0, 2, 6), account=2) == [Code.OK]
    assert (venue.has(1), venue.has(2)) == (1_000_000 - 200 + 18, 1_000_000 - 18)
    venue.trade_at(price)
    venue.at(START_MS + HOUR)
    assert len(venue.lines) == 0  # no mark price yet, and the last trade's has to wait
    venue.at(START_MS + 2 * HOUR)
    assert venue.lines["op"].tolist() == [OptionsLine.PRICED, OptionsLine.PAID]
    assert (venue.lines["price"][0], venue.lines["qty"][1]) == (price, 6 * paid)
    assert (venue.has(1), venue.has(2)) == (1_000_018 - 6 * paid, 999_982 + 6 * paid)


def test_a_put_pays_what_the_price_is_below_the_strike(venue):
    from kontor_options.commands import ListOptions, OfferOptions, TakeOptions

    assert venue.run(ListOptions(0, 100, 90, START_MS + HOUR)) == [Code.OK]
    venue.run(OfferOptions(1, 1, 5, 0), account=1)
    venue.run(TakeOptions(0, 2, 5), account=2)
    venue.trade_at(94)
    venue.at(START_MS + 3 * HOUR)
    assert (venue.has(1), venue.has(2)) == (1_000_000 - 30, 1_000_030)


def test_the_mark_price_counts_while_it_is_valid(venue):
    from kontor_options.commands import OfferOptions, TakeOptions

    from engine.layout import PriceStatus

    venue.run(OfferOptions(0, 1, 5, 0), account=1)
    venue.run(TakeOptions(0, 2, 5), account=2)
    markets = venue.machine.state.markets  # as the oracle would write them
    markets.columns["mark_price"][0], markets.columns["price_status"][0] = 111, PriceStatus.VALID
    markets.mark(0)
    from kontor_options.plugin import OptionsPlugin

    from engine.events import Events
    from engine.plugin import Context

    events = Events()
    OptionsPlugin(venue.genesis).on_block_end(venue.machine.state, Context(-1, START_MS + HOUR, 9, events))
    assert events.lines["price"].tolist()[0] == 111
    assert venue.has(2) == 1_000_000 + 5 * 11


def test_what_is_refused_changes_nothing(venue):
    from kontor_options.commands import ListOptions, OfferOptions, TakeOptions, WithdrawOffer

    venue.run(OfferOptions(0, 1, 10, 3), account=1)
    before = balances_of(venue.machine.state)
    later = START_MS + HOUR
    refused = [
        (0, ListOptions(7, 100, 120, later), Code.UNKNOWN_MARKET),
        (0, ListOptions(0, 100, 100, later), Code.PRICE_OUT_OF_RANGE),
        (0, ListOptions(0, 100, 10_001, later), Code.PRICE_OUT_OF_RANGE),
        (0, ListOptions(0, 100, 120, START_MS), Code.EXPIRED),
        (1, ListOptions(0, 100, 120, later), Code.NOT_AUTHORISED),
        (1, OfferOptions(1, 1, 1, 0), Code.UNKNOWN_MARKET),
        (1, OfferOptions(0, 2, 1, 0), Code.NOT_AUTHORISED),
        (1, OfferOptions(0, 99, 1, 0), Code.UNKNOWN_ACCOUNT),
        (1, OfferOptions(0, 1, 50_000, 0), Code.INSUFFICIENT_FUNDS),
        (1, OfferOptions(0, 1, AMOUNT_MAX, 0), Code.NOTIONAL_TOO_LARGE),
        (1, OfferOptions(0, 1, 2**40, 2**40), Code.NOTIONAL_TOO_LARGE),
        (1, OfferOptions(0, 1, 0, 0), Code.BAD_ARGUMENT),
        (2, WithdrawOffer(0), Code.NOT_AUTHORISED),
        (2, WithdrawOffer(1), Code.UNKNOWN_ORDER),
        (1, TakeOptions(0, 1, 1), Code.SELF_TRADE),
        (2, TakeOptions(0, 2, 11), Code.QTY_OUT_OF_RANGE),
        (2, TakeOptions(5, 2, 1), Code.UNKNOWN_ORDER),
        (2, TakeOptions(0, 3, 1), Code.NOT_AUTHORISED),
    ]
    for account, command, code in refused:
        assert venue.run(command, account=account) == [code], command
    assert balances_of(venue.machine.state) == before
    venue.at(START_MS + HOUR)
    assert venue.run(OfferOptions(0, 1, 1, 0), account=1) == [Code.EXPIRED]
    assert venue.run(TakeOptions(0, 2, 1), account=2) == [Code.EXPIRED]


def test_settlement_goes_on_in_the_next_block(venue, monkeypatch):
    from kontor_options import plugin
    from kontor_options.commands import OfferOptions, TakeOptions

    monkeypatch.setattr(plugin, "SETTLEMENTS_PER_BLOCK_MAX", 2)
    venue.run(OfferOptions(0, 1, 10, 0), account=1)
    venue.run(*[TakeOptions(0, 2, 1)] * 5, account=2)
    venue.trade_at(110)
    venue.at(venue.now)
    paid = []
    for hours in range(2, 6):
        venue.at(START_MS + hours * HOUR)
        paid.append(venue.has(2) - 1_000_000)
    assert paid == [10, 30, 50, 50]
    assert venue.has(1) == 1_000_000 - 50


class SlowDesk:
    """The same rules in plain integers: what each account owns of the quote asset."""

    def __init__(self, funds: int) -> None:
        self.money = dict.fromkeys(range(1, 5), funds)
        self.series: list[tuple[int, int, int]] = []  # strike, cap, expiry
        self.offers: dict[int, list[int]] = {}  # row -> [series, writer, lots, premium]
        self.positions: list[tuple[int, int, int, int]] = []  # series, writer, holder, lots
        self.done: set[int] = set()

    def width(self, series: int) -> int:
        return abs(self.series[series][1] - self.series[series][0])

    def settle(self, now: int, price: int) -> None:
        """Every series whose grace is over."""
        for number, (strike, cap, expiry) in enumerate(self.series):
            if number in self.done or now < expiry + HOUR:
                continue
            self.done.add(number)
            up = 1 if cap > strike else -1
            paid = min(max(up * (price - strike), 0), abs(cap - strike))
            for row in [row for row, offer in self.offers.items() if offer[0] == number]:
                _, writer, lots, _ = self.offers.pop(row)
                self.money[writer] += lots * self.width(number)
            for series, writer, holder, lots in self.positions:
                if series == number:
                    self.money[holder] += lots * paid
                    self.money[writer] += lots * (self.width(number) - paid)


@pytest.mark.parametrize("seed", range(8))
def test_random_commands_agree_with_a_slow_twin_and_obey_the_laws_of_the_machine(seed):
    from kontor_options.commands import ListOptions, OfferOptions, TakeOptions, WithdrawOffer

    rng, venue, slow = random.Random(seed), OptionsVenue(), SlowDesk(1_000_000)
    copy, price = None, 0
    for step in range(40):
        now = venue.now + rng.randrange(1, HOUR // 2)
        venue.at(now)  # settles what is due by then, at the price before
        slow.settle(now, price)
        choice, account = rng.random(), rng.randrange(1, 5)
        if choice < 0.15 or not slow.series:
            strike = rng.randrange(50, 150)
            cap, expiry = strike + rng.choice((-20, -1, 5, 30)), now + rng.randrange(1, 3 * HOUR)
            assert venue.run(ListOptions(0, strike, cap, expiry)) == [Code.OK]
            slow.series.append((strike, cap, expiry))
        elif choice < 0.45:
            series = rng.randrange(len(slow.series))
            lots, premium = rng.choice((1, 50, 9000)), rng.randrange(40)
            [code] = venue.run(OfferOptions(series, account, lots, premium), account=account)
            cost = lots * slow.width(series)
            expired = slow.series[series][2] <= now
            assert (code == Code.OK) == (not expired and cost <= slow.money[account])
            if code == Code.OK:
                slow.money[account] -= cost
                state = venue.machine.state
                rows = state.table("options_offers")
                taken = [
                    row
                    for row in range(state.used(rows))
                    if rows.columns["lots"][row] and row not in slow.offers
                ]
                slow.offers[taken[0]] = [series, account, lots, premium]
        elif slow.offers:
            row = rng.choice(sorted(slow.offers))
            series, writer, left, premium = slow.offers[row]
            if choice < 0.6:
                assert venue.run(WithdrawOffer(row), account=writer) == [Code.OK]
                slow.money[writer] += left * slow.width(series)
                del slow.offers[row]
            else:
                lots = rng.randrange(1, left + 2)
                [code] = venue.run(TakeOptions(row, account, lots), account=account)
                fits = lots <= left and lots * premium <= slow.money[account] and account != writer
                assert (code == Code.OK) == (fits and slow.series[series][2] > now)
                if code == Code.OK:
                    slow.money[account] -= lots * premium
                    slow.money[writer] += lots * premium
                    slow.positions.append((series, writer, account, lots))
                    slow.offers[row][2] -= lots
                    if lots == left:
                        del slow.offers[row]
        assert {account: venue.has(account) for account in range(1, 5)} == slow.money
        price = rng.randrange(40, 160)
        venue.trade_at(price)
        venue.at(now)
        machine = venue.machine
        if step % 10 == 5:
            copy = Machine.restore(venue.genesis, machine.snapshot(), machine.state_root())
        elif copy is not None:
            for applied in venue.applied[copy.height :]:
                copy.apply(*applied)
            assert copy.state_root() == machine.state_root()
    replayed = Machine(venue.genesis)
    for applied in venue.applied:
        replayed.apply(*applied)
    assert replayed.state_root() == venue.machine.state_root()
    assert slow.done


def test_a_node_without_the_package_names_it(monkeypatch):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(EXAMPLE)])
    with pytest.raises(ConfigError, match="kontor_options"):
        make_plugins(Genesis(bytes(32), (bytes(32),), plugins=(OPTIONS,)))
