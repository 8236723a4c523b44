"""Random but valid-looking blocks for a small venue: orders, cancels, commands, and some garbage.

Everything comes from one seed, so that the same run can be made in another process.
"""

import random
from typing import Any

from engine.breakers.commands import (
    LiftBreaker,
    PauseWithdrawals,
    ResumeWithdrawals,
    SetBreaker,
    SetLiftDelay,
    SetOutflowLimit,
    SetPeg,
    TripBreaker,
)
from engine.commands import (
    EXPIRY_NEVER,
    AddValidator,
    CallAuction,
    CancelAllAfter,
    Deposit,
    GrantKey,
    ListMarket,
    MoveValidator,
    OpenAccount,
    RegisterAsset,
    RemoveValidator,
    ReplaceValidator,
    RevokeKey,
    RotateValidatorKey,
    ScheduleAuctions,
    SetAccountGroup,
    SetAccountLimits,
    SetCollar,
    SetExclusionRule,
    SetFees,
    SetMarketStatus,
    Transfer,
    Wedge,
    Withdraw,
)
from engine.envelope import HEADER_SIZE, decode
from engine.fees.commands import (
    ChooseFeeAsset,
    SetFeeAsset,
    SetFeeRates,
    SetFeeTier,
    SetMarketSchedule,
    SetReferralShare,
    SetReferrer,
)
from engine.journal import BlockResult
from engine.markets.states import MarketStatus
from engine.oracle.commands import (
    AddFeed,
    AddReporter,
    RemoveReporter,
    ReportPrice,
    SetFeed,
    SetFeedReporter,
    SetIndex,
    SetIndexFeed,
)
from engine.perpetuals.commands import (
    AddCollateral,
    AttestScore,
    ListPerpetual,
    RegisterCollateral,
    RegisterScorer,
    RemoveCollateral,
    SetDefaultAddon,
    SetFunding,
    SetIsolation,
    SetMarginMode,
    SetMarginTier,
    SetPositionLimits,
)
from engine.records import EVERY_MARKET, REDUCE_ONLY, Op
from engine.settlement.commands import (
    AllowSettlementAgent,
    CancelObligation,
    SetSettlementAgent,
    SetSettlementCycle,
    SubmitObligation,
)
from engine.timelock.plugin import CancelChange, SetTimelockDelay
from tests.helpers.venue import START_MS, Venue, contradiction, new, signer, validator_key

OPEN, CLOSED, DELISTED = MarketStatus.OPEN, MarketStatus.CLOSED, MarketStatus.DELISTED
ACCOUNTS = 6
MARKETS = 3  # spot
CONTRACTS = 2  # behind them
ASSETS = 3
FEEDS = 3
STEADY = 2  # the feed of contracts: nobody lies there, so that something is traded
REPORTERS = 4  # the first accounts, each for every feed


class RandomBlocks:
    """A venue and a source of blocks for it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.venue = Venue()
        self.keys = [signer(f"random {number}") for number in range(ACCOUNTS + 2)]
        self.sent: list[bytes] = []
        self._found()

    def block(self) -> BlockResult:
        """Apply one more random block."""
        rng, venue = self.random, self.venue
        for _ in range(rng.randrange(5)):
            account = rng.randrange(1, ACCOUNTS + 1)
            key = self.keys[account if rng.random() < 0.9 else rng.randrange(len(self.keys))]
            if rng.random() < 0.7:
                orders = [op for _ in range(rng.randrange(1, 40)) for op in self._request(account)]
                envelope = venue.orders(key, account, orders)
            else:
                by = venue.admin if rng.random() < 0.5 else key
                envelope = venue.commands(
                    *[self._command(account) for _ in range(rng.randrange(1, 6))],
                    by=by,
                    account=0 if by is venue.admin else account,
                )
            self.sent.append(envelope)
            if rng.random() < 0.1:
                # Signature or payload: a batch with other padding would be nobody's vote.
                at = rng.randrange(96, HEADER_SIZE + len(decode(envelope).payload))
                venue.pending.append(envelope[:at] + bytes([envelope[at] ^ 1]) + envelope[at + 1 :])
        for reporter in range(REPORTERS):
            if rng.random() < 0.7:
                reports = [self._report(reporter) for _ in range(rng.randrange(1, 4))]
                reports.append(ReportPrice(reporter, STEADY, self._epoch(), rng.randrange(28, 32), 1))
                self.sent.append(venue.commands(*reports, by=self.keys[reporter + 1], account=reporter + 1))
        if rng.random() < 0.2:
            replica = rng.randrange(6)
            by = validator_key(replica if rng.random() < 0.8 else 9)
            venue.pending.append(contradiction(replica, by, rng.randrange(2), rng.randrange(1, 4)))
        if self.sent and rng.random() < 0.3:
            venue.pending.append(rng.choice(self.sent))
        return venue.block(time_ms=START_MS + 1000 * venue.machine.height + rng.randrange(-500, 500))

    def _found(self) -> None:
        self.venue.commands(
            *[OpenAccount(key.public_key) for key in self.keys[1 : ACCOUNTS + 1]],
            *[RegisterAsset(f"A{number}", 2, number % 2) for number in range(ASSETS)],
            *[ListMarket(f"M{n}", n, (n + 1) % ASSETS, 3, 7, 60, 50, 20, 1000, 2500) for n in range(MARKETS)],
            *[self._contract(number) for number in range(CONTRACTS)],
            *[Deposit(a, asset, 30_000) for a in range(1, ACCOUNTS + 1) for asset in range(ASSETS)],
            *[AddFeed(f"F{n}", 0, 1000, 3000 + 3000 * n, 200_000, 300_000) for n in range(FEEDS)],
            *[AddReporter(reporter + 1) for reporter in range(REPORTERS)],
            *[SetFeedReporter(f, r, 1) for f in range(FEEDS) for r in range(REPORTERS)],
            *[SetIndexFeed(market, market % 2, 1) for market in range(MARKETS)],
            *[SetIndex(market, 1) for market in range(MARKETS - 1)],
            *[SetIndexFeed(MARKETS + number, STEADY, 1) for number in range(CONTRACTS)],
            *[SetIndex(MARKETS + number, 1) for number in range(CONTRACTS)],
            RegisterCollateral(0, 0, 100_000, 5000),
            RegisterScorer(self.keys[1].public_key, 1),
            SetBreaker(0, 1, 50_000, 150_000, 5000, 10_000, 1000, 10_000),
            SetPeg(0, 0, 30, 100_000, 100_000),
            SetOutflowLimit(1, 20_000, 10**7, 500_000),
        )
        self.sent += self.venue.pending
        assert self.venue.block().counts.rejected == 0

    def _contract(self, number: int) -> ListPerpetual:
        """Two of one underlying, one of them with a short funding interval."""
        margin = (200_000, 100_000, 50_000 * number, 200_000)
        limits = (300, 500, 5000 + 60_000 * number, 10_000)
        return ListPerpetual(f"P{number}", 0, 1, 7, 7, 60, 50, 20, 1000, 2500, *margin, *limits, 1, 500_000)

    def _request(self, account: int) -> list[tuple[int, ...]]:
        """An order operation, now and then behind terms."""
        order = self._order(account)
        if self.random.random() < 0.9:
            return [order]
        if self.random.random() < 0.4:
            return [
                (Op.TERMS, 3, *order[2:5], self.random.randrange(20, 40), self.random.randrange(3)),
                order,
            ]
        kind, until = self.random.choice((1, 2, 2, self.random.randrange(12))), self.random.randrange(20_000)
        expiry_ms = START_MS + 1000 * self.venue.machine.height + until
        return [(Op.TERMS, kind, *order[2:5], expiry_ms, self.random.randrange(1, 12)), order]

    def _order(self, account: int) -> tuple[int, ...]:
        rng = self.random
        market = rng.randrange(MARKETS + CONTRACTS)
        kind = rng.random()
        order_id = rng.randrange(30)
        if kind < 0.6:
            side = rng.randrange(2)
            price, qty, tif = rng.randrange(20, 40), rng.randrange(1, 30), rng.randrange(5)
            op, flags, *rest = new(market, account, order_id, side, price, qty, tif, rng.randrange(4))
            return (op, flags | (REDUCE_ONLY if rng.random() < 0.1 else 0), *rest)
        if kind < 0.8:
            return (Op.CANCEL, 0, market, account, order_id, 0, 0)
        if kind < 0.86:
            return (Op.REDUCE, 0, market, account, order_id, 0, rng.randrange(0, 20))
        if kind < 0.92:
            return (
                Op.REPLACE,
                rng.randrange(64),
                market,
                account,
                order_id,
                rng.randrange(0, 62),
                rng.randrange(30),
            )
        if kind < 0.95:
            return (Op.CANCEL_ALL, 0, rng.choice((market, EVERY_MARKET)), account, 0, 0, 0)
        return (
            rng.randrange(8),
            rng.randrange(256),
            rng.randrange(2 * MARKETS),
            rng.randrange(2 * ACCOUNTS),
            rng.randrange(-5, 5),
            rng.randrange(-(2**62), 2**62),
            rng.randrange(-(2**62), 2**62),
        )

    def _command(self, account: int) -> tuple[Any, ...]:
        rng = self.random
        key = self.keys[rng.randrange(len(self.keys))].public_key
        expiry = rng.choice((EXPIRY_NEVER, START_MS + 1000 * self.venue.machine.height + rng.randrange(5000)))
        amount = rng.choice((rng.randrange(1, 20_000), 2**61))
        market, period = rng.randrange(MARKETS + 1), 1000 * rng.randrange(0, 20)
        now = START_MS + 1000 * self.venue.machine.height
        asset = rng.randrange(ASSETS + 1)
        choices: list[tuple[Any, ...]] = [
            OpenAccount(key),
            GrantKey(account, key, rng.randrange(0, 9), expiry),
            RevokeKey(account, key),
            Deposit(account, asset, amount),
            Withdraw(account, asset, amount),
            Transfer(account, rng.randrange(ACCOUNTS + 2), asset, amount),
            SetFees(rng.randrange(MARKETS + 1), rng.randrange(5000), rng.randrange(5000)),
            SetMarketStatus(market, 1 if rng.random() < 0.7 else rng.randrange(DELISTED)),
            CancelAllAfter(account, rng.choice((0, rng.randrange(1, 9000)))),
            SetAccountLimits(account, rng.choice((65_536, rng.randrange(20))), rng.choice((0, 0, 8))),
            SetAccountGroup(account, rng.randrange(ACCOUNTS + 2)),
            SetCollar(market, rng.choice((0, 500, 10_000))),
            CallAuction(market, now + rng.randrange(8000), rng.choice((OPEN, OPEN, CLOSED))),
            ScheduleAuctions(market, period, rng.randrange(1 + period), 2000),
            RegisterAsset(f"N{rng.randrange(50)}", 0, account),
            ListMarket(f"N{rng.randrange(50)}", 0, asset, 1, 1, rng.randrange(1, 5000), 10, 0, 0, 0),
        ]
        if rng.random() < 0.2:
            return self._membership()
        if rng.random() < 0.2:
            return self._prices(account)
        if rng.random() < 0.2:
            return self._fees(account)
        if rng.random() < 0.2:
            return self._settlement(account)
        if rng.random() < 0.2:
            return self._margin(account)
        return self._switches() if rng.random() < 0.1 else rng.choice(choices)

    def _report(self, reporter: int) -> ReportPrice:
        rng = self.random
        epoch = self._epoch() - rng.randrange(2)
        value = rng.choice((28, 29, 30, 31, rng.randrange(-5, 200)))
        return ReportPrice(reporter, rng.randrange(STEADY), epoch, value, rng.randrange(4))

    def _epoch(self) -> int:
        return START_MS // 1000 + self.venue.machine.height

    def _prices(self, account: int) -> tuple[Any, ...]:
        """Rules of prices, and of changing them."""
        rng = self.random
        feed, reporter = rng.randrange(FEEDS + 1), rng.randrange(REPORTERS + 1)
        market = rng.randrange(MARKETS + 1)
        choices: list[tuple[Any, ...]] = [
            AddReporter(account),
            AddFeed(f"N{rng.randrange(9)}", rng.randrange(19), 1000, rng.randrange(900, 5000), 1, 1),
            SetFeed(feed, rng.randrange(900, 5000), rng.randrange(1, 500_000), rng.randrange(1, 500_000)),
            SetFeedReporter(feed, reporter, rng.randrange(2)),
            SetIndex(market, rng.randrange(3)),
            SetIndexFeed(market, feed, rng.randrange(3)),
            RemoveReporter(rng.randrange(40)),
            SetTimelockDelay(rng.choice((0, 0, 2000, 5000))),
            CancelChange(rng.randrange(1, 9)),
        ]
        return rng.choice(choices)

    def _switches(self) -> tuple[Any, ...]:
        """Breakers, and the rules of breakers."""
        rng = self.random
        market, asset = rng.choice((0, 1, 2, 3, EVERY_MARKET)), rng.choice((0, 1, 2, 9, EVERY_MARKET))
        number = rng.randrange(1, 5)
        choices: list[tuple[Any, ...]] = [
            SetBreaker(rng.randrange(4), rng.randrange(2), 50_000, 150_000, 3000, 9000, 1000, 10_000),
            TripBreaker(market),
            *[LiftBreaker(market, number), LiftBreaker(EVERY_MARKET, number)] * 2,
            SetLiftDelay(60_000),
            SetPeg(rng.randrange(4), rng.randrange(3), rng.randrange(40), 100_000, 100_000),
            SetOutflowLimit(rng.randrange(4), rng.randrange(20_000), rng.randrange(10**6), 10**6),
            PauseWithdrawals(asset),
            *[ResumeWithdrawals(asset, number)] * 2,
        ]
        return rng.choice(choices)

    def _fees(self, account: int) -> tuple[Any, ...]:
        """Schedules of fees, and what accounts choose of them."""
        rng = self.random
        schedule, tier, market = rng.randrange(3), rng.randrange(3), rng.randrange(MARKETS + 1)
        choices: list[tuple[Any, ...]] = [
            SetFeeRates(schedule, tier, rng.randrange(-500, 2000), rng.randrange(100, 2000)),
            SetFeeTier(tier, rng.randrange(4000)),
            SetMarketSchedule(market, schedule, rng.randrange(1, 50)),
            SetMarketSchedule(market, schedule, rng.randrange(1, 50)),
            SetFeeAsset(rng.randrange(2), market, rng.randrange(300_000)),
            SetReferralShare(rng.randrange(500_000)),
            ChooseFeeAsset(account, rng.randrange(3)),
            SetReferrer(account, rng.randrange(ACCOUNTS + 2)),
        ]
        return rng.choice(choices)

    def _settlement(self, account: int) -> tuple[Any, ...]:
        """Agents, obligations, cycles."""
        rng = self.random
        submit = SubmitObligation(
            rng.randrange(2),
            rng.randrange(1, 30),
            rng.choice((account, rng.randrange(ACCOUNTS + 2))),
            rng.randrange(ACCOUNTS + 2),
            rng.randrange(ASSETS + 1),
            rng.randrange(1, 30_000),
        )
        choices: list[tuple[Any, ...]] = [
            SetSettlementAgent(rng.choice((0, account)), int(rng.random() < 0.9)),
            SetSettlementCycle(rng.choice((0, 3000, 5000))),
            AllowSettlementAgent(account, rng.randrange(2), int(rng.random() < 0.9)),
            *[submit] * 4,
            CancelObligation(account, rng.randrange(1, 12)),
        ]
        return rng.choice(choices)

    def _margin(self, account: int) -> tuple[Any, ...]:
        """Modes, isolated positions, scores, and the terms of contracts."""
        rng = self.random
        market, amount, bps = (
            rng.randrange(MARKETS - 1, MARKETS + 3),
            rng.randrange(1, 3000),
            rng.randrange(5001),
        )
        choices: list[tuple[Any, ...]] = [
            SetMarginMode(account, rng.randrange(2)),
            SetIsolation(account, market, rng.randrange(2)),
            AddCollateral(account, market, amount),
            RemoveCollateral(account, market, amount),
            AttestScore(rng.randrange(ACCOUNTS + 2), bps, self.venue.machine.height + amount, bytes(32)),
            RegisterScorer(self.keys[account].public_key, rng.randrange(2)),
            SetDefaultAddon(bps),
            SetFunding(market, 1000 + amount, bps),
            SetMarginTier(market, rng.randrange(3), rng.randrange(20_000), 100_000 + 100 * bps, 50 * bps),
            SetPositionLimits(market, amount, 3 * amount, 10 * bps, 10 * bps + 1),
            RegisterCollateral(rng.randrange(3), market - 1, 100 * bps, amount),
            self._contract(rng.randrange(9))._replace(quote_asset=rng.randrange(ASSETS)),
        ]
        return rng.choice(choices)

    def _membership(self) -> tuple[Any, ...]:
        rng = self.random
        key = validator_key(rng.randrange(100)).public_key
        endpoint = (b"certificate %d" % rng.randrange(9), f"h:{rng.randrange(20)}", f"h:{rng.randrange(20)}")
        validator = rng.randrange(8)
        choices: list[tuple[Any, ...]] = [
            AddValidator(key, *endpoint),
            RemoveValidator(validator),
            ReplaceValidator(validator, key, *endpoint),
            RotateValidatorKey(validator, key),
            MoveValidator(validator, *endpoint),
            Wedge(0),
            SetExclusionRule(rng.randrange(2)),
        ]
        return rng.choice(choices)
