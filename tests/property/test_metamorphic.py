"""What must not matter does not: names, numbers, how an order is cut up, where blocks begin.

Each law compares two runs of the real kernels that differ in something which no rule may look at. No twin is
needed, so they hold for rules that nobody has written twice.
"""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from engine.invariants import check_all
from engine.machine import Machine
from engine.records import EVERY_MARKET, SIDE_MASK, CancelSides, Code, Kind, Op, SelfTrade, Term, TimeInForce
from tests.helpers.random_blocks import RandomBlocks
from tests.helpers.trading_floor import Floor, MarketTerms, make_ops, new

ACCOUNTS = 5  # account 0 is the venue's
PRICE_MAX = 80
MARKETS = (
    MarketTerms(price_max=PRICE_MAX),
    MarketTerms(base_asset=1, quote_asset=2, base_per_lot=7, quote_per_lot_tick=11, price_max=PRICE_MAX),
    MarketTerms(base_asset=2, quote_asset=0, notional_min=400, maker_fee_e6=0, price_max=PRICE_MAX),
)
FREE = tuple(replace(terms, maker_fee_e6=0, taker_fee_e6=0, notional_min=0) for terms in MARKETS)
SEEDS = range(25)
# Refusals after which an order may have traded or taken its own account's orders off.
_WITH_EFFECT = (
    Code.OK,
    Code.NO_LIQUIDITY,
    Code.SELF_TRADE,
    Code.FILL_LIMIT,
    Code.WORK_LIMIT,
    Code.OUTSIDE_BAND,
)
_TIFS = (0, 0, 0, 0, 1, 2, 3, 4)

Request = list[tuple]  # an operation, behind the TERMS that it may have


def make_requests(rng: random.Random, count: int, modes: tuple = tuple(SelfTrade)) -> list[Request]:
    """Random operations of all kinds around one price, some of them wrong."""
    made = []
    for _ in range(count):
        names = (
            rng.choice((0, 0, 1, 2, 2, 7)),
            rng.randrange(1, ACCOUNTS + (rng.random() < 0.05)),
            rng.randrange(9),
        )
        price, qty = rng.randrange(33, 48), rng.randrange(1, 20)
        op = rng.choice([Op.NEW] * 12 + [Op.CANCEL, Op.CANCEL, Op.REDUCE, Op.REPLACE, Op.REPLACE])
        flags = rng.randrange(2) | rng.choice(_TIFS) << 1 | rng.choice(modes) << 4
        if op == Op.REPLACE:
            flags &= SIDE_MASK
        if rng.random() < 0.03:
            made.append([(Op.CANCEL_ALL, 0, rng.choice((0, EVERY_MARKET)), names[1], 0, 0, rng.randrange(3))])
            continue
        terms = [(Op.TERMS, Term.DISPLAY, *names, 0, rng.randrange(1, 5))] if rng.random() < 0.15 else []
        if rng.random() < 0.05:
            price, qty = rng.choice((0, -1, PRICE_MAX + 1, 2**62)), rng.choice((0, 1, 2**62))
        made.append([*(terms if op == Op.NEW else []), (op, flags, *names, price, qty)])
    return made


def join(requests: list[Request]) -> list[tuple]:
    """The operations of these requests."""
    return [op for request in requests for op in request]


def split_up(rng: random.Random, requests: list[Request]) -> list[list[Request]]:
    """Cut into blocks at random."""
    blocks: list[list[Request]] = [[]]
    for request in requests:
        if rng.random() < 0.1:
            blocks.append([])
        blocks[-1].append(request)
    return [block for block in blocks if block]


class Run:
    """Some blocks on a floor of their own, and all that can be seen afterwards."""

    def __init__(self, blocks: list[list[tuple]], markets: tuple = MARKETS, funds: int = 10**6) -> None:
        self.floor = Floor(accounts=ACCOUNTS, markets=markets, funds=funds)
        self.results: list[list[dict]] = []
        self.events: list[dict] = []
        for ops in blocks:
            results, events = self.floor.execute(make_ops(*ops))
            names = results.dtype.names
            self.results.append([dict(zip(names, line, strict=True)) for line in results.tolist()])
            self.events += [dict(zip(names, line, strict=True)) for line in events.tolist()]
        check_all(self.floor.state)
        self.books = [self.floor.book(market) for market in range(len(markets))]
        self.balances = self.floor.balances()

    @property
    def lines(self) -> list[dict]:
        """Results of all blocks."""
        return [line for block in self.results for line in block]


def renamed(line: dict, account: Callable[[int], int], market: Callable[[int], int]) -> dict:
    """A journal line with other names in it."""
    names = {"account": account(line["account"]), "counter_account": account(line["counter_account"])}
    return line | names | {"market": market(line["market"])}


@pytest.mark.parametrize("seed", SEEDS)
def test_renaming_accounts_renames_results_and_nothing_else(seed):
    rng = random.Random(seed)
    blocks = [join(block) for block in split_up(rng, make_requests(rng, 200))]
    names = [0, *rng.sample(range(1, ACCOUNTS), ACCOUNTS - 1), *range(ACCOUNTS, 99)]
    one = Run(blocks)
    other = Run([[(*op[:3], names[op[3]], *op[4:]) for op in ops] for ops in blocks])
    for field in ("lines", "events"):
        expected = [renamed(line, names.__getitem__, int) for line in getattr(one, field)]
        assert getattr(other, field) == expected
    assert other.balances == {(names[a], asset): row for (a, asset), row in one.balances.items()}
    assert other.books == [[(*o[:2], names[o[2]], *o[3:]) for o in book] for book in one.books]


@pytest.mark.parametrize("seed", SEEDS)
def test_renumbering_markets_renumbers_results_and_nothing_else(seed):
    rng = random.Random(seed)
    blocks = [join(block) for block in split_up(rng, make_requests(rng, 200))]
    order = rng.sample(range(len(MARKETS)), len(MARKETS))  # the market at each place of the other run
    place = {
        market: order.index(market) if market < len(MARKETS) else market
        for market in (*range(9), EVERY_MARKET)
    }
    one = Run(blocks)
    moved = [[(*op[:2], place[op[2]], *op[3:]) for op in ops] for ops in blocks]
    other = Run(moved, tuple(MARKETS[market] for market in order))
    for field in ("lines", "events"):
        expected = [renamed(line, int, place.__getitem__) for line in getattr(one, field)]
        assert getattr(other, field) == expected
    assert other.balances == one.balances
    assert [other.books[place[market]] for market in range(len(MARKETS))] == one.books


@pytest.mark.parametrize("seed", SEEDS)
def test_operations_that_are_refused_might_as_well_not_have_been_sent(seed):
    rng = random.Random(seed)
    blocks = split_up(rng, make_requests(rng, 200))
    one = Run([join(block) for block in blocks], funds=20_000)
    kept = []
    for block, results in zip(blocks, one.results, strict=True):
        lines = iter(results)
        codes = [[next(lines)["code"] for _ in request][-1] for request in block]
        kept.append([request for request, code in zip(block, codes, strict=True) if code in _WITH_EFFECT])
    assert 0 < sum(map(len, kept)) < 200
    other = Run([join(block) for block in kept], funds=20_000)
    assert [line for line in other.lines if line["code"] not in _WITH_EFFECT] == []
    assert (other.events, other.books, other.balances) == (one.events, one.books, one.balances)


@pytest.mark.parametrize("seed", SEEDS)
def test_operations_that_are_sure_to_be_refused_change_nothing_wherever_they_stand(seed):
    rng = random.Random(seed)
    blocks = split_up(rng, make_requests(rng, 200))
    noise = [
        (Op.NEW, 0, 9, 1, 5, 40, 5),
        (Op.NEW, 5 << 1, 0, 1, 5, 40, 5),
        (Op.NEW, 0, 0, ACCOUNTS, 5, 40, 5),
        (Op.NEW, 0, 0, 1, 5, 0, 5),
        (Op.NEW, 1, 0, 2, 5, 40, 0),
        (Op.CANCEL, 0, 0, 1, 1_000, 0, 0),
        (Op.REDUCE, 0, 1, 1, 1_000, 0, 5),
        (Op.REPLACE, 0, 0, 1, 1_000, 40, 5),
        (Op.CANCEL_ALL, 0, 9, 1, 0, 0, 0),
        (Op.TERMS, Term.DISPLAY, 0, 1, 1_000, 0, 1),
        (0, 0, 0, 1, 1, 40, 5),
        (200, 255, 0, 1, 1, 40, 5),
    ]
    noisy = [[part for request in block for part in ([rng.choice(noise)], request)] for block in blocks]
    one, other = Run([join(block) for block in blocks]), Run([join(block) for block in noisy])
    for block, results in zip(noisy, other.results, strict=True):
        at = 0
        for number, request in enumerate(block):
            assert number % 2 or results[at]["code"] != Code.OK
            at += len(request)
    assert (other.events, other.books, other.balances) == (one.events, one.books, one.balances)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_order_in_two_parts_trades_as_the_whole_would(seed):
    """Lots, prices and parties are equal; the two parts count as one. CANCEL_BOTH takes one order of its own
    account off for each part, so nobody uses it here."""
    rng = random.Random(seed)
    modes = (SelfTrade.CANCEL_TAKER, SelfTrade.CANCEL_MAKER, SelfTrade.DECREMENT)
    before, after = (make_requests(rng, 80, modes) for _ in range(2))
    account, whole, part, qty = rng.randrange(1, ACCOUNTS), 500, 501, rng.randrange(2, 40)
    tif = rng.choice((TimeInForce.GTC, TimeInForce.GTC, TimeInForce.IOC, TimeInForce.POST_ONLY))
    side, price, mode, first = (
        rng.randrange(2),
        rng.randrange(33, 48),
        rng.choice(modes),
        rng.randrange(1, qty),
    )
    orders = [
        new(account, number, side, price, lots, tif, mode)
        for number, lots in ((whole, first), (part, qty - first))
    ]
    one = Run([join(before), [new(account, whole, side, price, qty, tif, mode), *join(after)]], FREE)
    other = Run([join(before), [*orders, *join(after)]], FREE)
    assert _trades(other, part, whole) == _trades(one, part, whole)
    assert other.balances == one.balances
    assert [_depth(book) for book in other.books] == [_depth(book) for book in one.books]
    assert [line["code"] for line in other.lines][-len(join(after)) :] == [
        line["code"] for line in one.lines
    ][-len(join(after)) :]


def _trades(run: Run, part: int, whole: int) -> list[tuple]:
    """Who traded with whom, in order; what one pair does at one price without a break is one trade."""
    trades: list[tuple] = []
    for line in run.events:
        if line["kind"] != Kind.FILL:
            continue
        ids = [
            whole if line[name] == part else line[name] for name in ("client_order_id", "counter_order_id")
        ]
        key = (line["market"], line["side"], line["account"], line["counter_account"], *ids, line["price"])
        lots = line["qty"]
        if trades and trades[-1][0] == key:
            lots += trades.pop()[1]
        trades.append((key, lots))
    return trades


def _depth(book: list[tuple]) -> dict[tuple[int, int], int]:
    """Open lots by side and price."""
    lots: dict[tuple[int, int], int] = {}
    for side, price, _, _, leaves, _, hidden in book:
        lots[side, price] = lots.get((side, price), 0) + leaves + hidden
    return lots


@pytest.mark.parametrize("seed", SEEDS)
def test_splitting_costs_at_most_one_unit_of_fees_a_side_for_each_trade_more(seed):
    rng = random.Random(seed)
    makers = [[new(1, n, 1, rng.randrange(40, 44), rng.randrange(1, 15))] for n in range(12)]
    qty = rng.randrange(2, 60)
    first = rng.randrange(1, qty)
    one = Run([join(makers), [new(2, 1, 0, 44, qty)]])
    other = Run([join(makers), [new(2, 1, 0, 44, first), new(2, 2, 0, 44, qty - first)]])
    more = len(other.events) - len(one.events)
    for field in ("fee", "detail"):
        fees = [sum(line[field] for line in run.events) for run in (one, other)]
        assert 0 <= fees[1] - fees[0] <= more <= 1


@pytest.mark.parametrize("seed", SEEDS)
def test_where_a_block_begins_does_not_matter_while_nobody_leaves(seed):
    rng = random.Random(seed)
    requests = [r for r in make_requests(rng, 200) if r[0][0] in (Op.NEW, Op.REPLACE, Op.TERMS)]
    one = Run([join(requests)])
    other = Run([join(block) for block in split_up(rng, requests)])
    assert (other.lines, other.events) == (one.lines, one.events)
    assert (other.books, other.balances) == (one.books, one.balances)


@pytest.mark.parametrize("seed", SEEDS)
def test_whoever_leaves_early_may_stand_anywhere_in_the_block(seed):
    """The first cancel or reduction of each order that rests, brought to the front, changes no outcome."""
    rng = random.Random(seed)
    before, block = join(make_requests(rng, 120)), make_requests(rng, 150)
    block = [request for request in block if request[-1][0] != Op.CANCEL_ALL]  # which leaves early itself
    rests = {(market, o[2], o[3]) for market, book in enumerate(Run([before]).books) for o in book}
    front, rest = [], []
    for request in block:
        names = request[-1][2:5]
        early = request[-1][0] in (Op.CANCEL, Op.REDUCE) and names in rests
        rests -= {names} if early else set()
        (front if early else rest).append(request)
    one, other = Run([before, join(block)]), Run([before, join(front + rest)])
    codes = [
        [(tuple(op), line["code"], line["qty"]) for op, line in zip(ops, run.results[1], strict=True)]
        for ops, run in ((join(block), one), (join(front + rest), other))
    ]
    assert sorted(codes[1]) == sorted(codes[0])
    assert (other.events, other.books, other.balances) == (one.events, one.books, one.balances)


@pytest.mark.parametrize("seed", SEEDS)
def test_buying_and_selling_are_mirror_images(seed):
    """With other sides, and prices counted from the other end, the same orders meet for the same lots."""
    rng = random.Random(seed)
    blocks = [join(block) for block in split_up(rng, make_requests(rng, 200))]
    one = Run(blocks, FREE, funds=10**12)
    other = Run([[_mirrored(op) for op in ops] for ops in blocks], FREE, funds=10**12)
    for field in ("code", "qty", "detail", "account", "client_order_id"):
        assert [line[field] for line in other.lines] == [line[field] for line in one.lines]
    expected = [
        line | {"price": PRICE_MAX + 1 - line["price"], "side": 1 - line["side"]} for line in one.events
    ]
    assert other.events == expected


def _mirrored(op: tuple) -> tuple:
    kind, flags, market, account, order, price, qty = op
    if kind == Op.CANCEL_ALL:
        return (
            kind,
            flags,
            market,
            account,
            order,
            price,
            (CancelSides.BOTH, CancelSides.ASKS, CancelSides.BIDS)[qty],
        )
    if kind in (Op.NEW, Op.REPLACE):
        return (kind, flags ^ SIDE_MASK, market, account, order, PRICE_MAX + 1 - price, qty)
    return op


@pytest.mark.parametrize("seed", range(300, 304))
def test_the_secret_of_a_nodes_lookups_changes_no_byte(seed):
    blocks = RandomBlocks(seed)
    for _ in range(12):
        blocks.block()
    expected = blocks.venue.machine
    for index_seed in (1, 2**62 - 1):
        machine = Machine(blocks.venue.genesis, index_seed=index_seed)
        for applied in blocks.venue.applied:
            machine.apply(*applied)
        assert machine.journal_root == expected.journal_root
        assert machine.state_root() == expected.state_root()


def test_the_laws_can_see_a_difference():
    """A run whose orders come in another order is not the same."""
    orders = [new(1, 1, 1, 40, 5), new(2, 1, 1, 40, 5), new(3, 1, 0, 40, 5)]
    one, other = Run([orders]), Run([[orders[1], orders[0], orders[2]]])
    assert one.events != other.events and one.books != other.books
