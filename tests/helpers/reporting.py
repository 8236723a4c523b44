"""A venue whose prices come from reporters: accounts, feeds, and reports in one line."""

from collections.abc import Sequence

from engine.commands import Deposit, ListMarket, OpenAccount, RegisterAsset
from engine.journal import BlockResult
from engine.layout import PriceStatus
from engine.oracle.commands import (
    AddFeed,
    AddReporter,
    ReportPrice,
    SetFeedReporter,
    SetIndex,
    SetIndexFeed,
)
from engine.oracle.tables import IndexMethod
from engine.records import Kind
from tests.helpers.venue import START_MS, Venue, signer

EPOCH_MS = 1000
FIRST_REPORTER_ACCOUNT = 1


class ReportedVenue(Venue):
    """Accounts 1..reporters are reporters 0..; traders follow. Market 0 is asset 0 against asset 1, its index
    is feed 0, and one tick is one unit of that feed's value."""

    def __init__(
        self,
        reporters: int = 4,
        traders: int = 2,
        feed: AddFeed | None = None,
        funds: int = 10**12,
        price_max: int = 100_000,
        start_ms: int = START_MS,
    ) -> None:
        super().__init__()
        self.now_ms = start_ms
        self.reporters = [signer(f"reporter {number}") for number in range(reporters)]
        self.traders = [signer(f"trader {number}") for number in range(traders)]
        self.first_trader = reporters + 1
        everybody = self.reporters + self.traders
        self.commands(
            RegisterAsset("BTC", 0, 0),
            RegisterAsset("USD", 0, 0),
            ListMarket("BTC/USD", 0, 1, 1, 1, price_max, 1_000_000, 0, 0, 0),
            *[OpenAccount(key.public_key) for key in everybody],
            *[
                Deposit(self.first_trader + number, asset, funds)
                for number in range(traders)
                for asset in (0, 1)
            ],
            *[AddReporter(FIRST_REPORTER_ACCOUNT + number) for number in range(reporters)],
            feed or AddFeed("BTC/USD", 0, EPOCH_MS, 10 * EPOCH_MS, 100_000, 1_000_000),
            *[SetFeedReporter(0, number, 1) for number in range(reporters)],
            SetIndexFeed(0, 0, 1),
            SetIndex(0, IndexMethod.MEDIAN),
        )
        assert self.at(start_ms).counts.rejected == 0

    def at(self, time_ms: int) -> BlockResult:
        """Apply what is queued at this ledger time."""
        self.now_ms = time_ms
        return self.block(time_ms=time_ms)

    def step(self, passed_ms: int = EPOCH_MS) -> BlockResult:
        """Apply what is queued, so much later than the block before."""
        return self.at(self.now_ms + passed_ms)

    def report(
        self, reporter: int, value: int, confidence: int = 0, epoch: int | None = None, feed: int = 0
    ) -> None:
        """Queue a report, for the epoch of the next `step()` if no other is named."""
        if epoch is None:
            epoch = (self.now_ms + EPOCH_MS) // EPOCH_MS
        self.commands(
            ReportPrice(reporter, feed, epoch, value, confidence),
            by=self.reporters[reporter],
            account=FIRST_REPORTER_ACCOUNT + reporter,
        )

    def price(
        self, values: int | Sequence[int], confidence: int = 0, passed_ms: int = EPOCH_MS
    ) -> BlockResult:
        """One block in which every reporter says so, or each what stands in its place."""
        if isinstance(values, int):
            values = [values] * len(self.reporters)
        for reporter, value in enumerate(values):
            self.report(reporter, value, confidence, (self.now_ms + passed_ms) // EPOCH_MS)
        return self.step(passed_ms)

    def feed(self, name: str, row: int = 0) -> int:
        """A column of a feed."""
        return int(self.machine.state.table("feeds").columns[name][row])

    def market(self, name: str, row: int = 0) -> int:
        """A column of a market."""
        return int(self.machine.state.markets.columns[name][row])

    @property
    def status(self) -> PriceStatus:
        """Of market 0's price."""
        return PriceStatus(self.market("price_status"))


def command_codes(result: BlockResult) -> list[int]:
    """Codes of a block's commands, in order."""
    journal = result.journal
    codes: list[int] = journal["code"][journal["kind"] == Kind.COMMAND].tolist()
    return codes


def lines_of(result: BlockResult, kind: Kind, op: int) -> list[dict[str, int]]:
    """A block's lines of one kind and op, as dictionaries."""
    chosen = result.journal[(result.journal["kind"] == kind) & (result.journal["op"] == op)]
    return [dict(zip(chosen.dtype.names, line.tolist(), strict=True)) for line in chosen]
