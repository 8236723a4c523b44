"""A realistic order flow from a seed: what a venue's clients would send, in arrays of `ORDER_OP`.

About half of the operations are cancels of orders that are still open (a few of orders that are gone), a
tenth take liquidity, and the rest join the book near a price that walks. Markets and accounts are
picked by a Zipf law. To know what is still open the generator keeps a small book of its own (FIFO,
no funds): it runs at millions of operations per second, so it never limits a load test.

The same shape and seed give the same operations, however they are cut into chunks.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from engine.compiled import inlined, kernel
from engine.records import ORDER_OP, TIF_SHIFT, Op, Side, TimeInForce

ACCOUNT_CHOICES = 1 << 16  # entries of the lookup tables that make a Zipf draw one load
SIZE_CHOICES = 1 << 12
ONE = 1 << 16  # probabilities are in 1/65536
DEAD_CANCELS = 256  # one cancel in so many names an order that is gone
IOC_DEPTH = 4  # takers' limits lie up to this many ticks minus one behind the best price
_MID_STEP = ONE // 100  # how often an operation moves its market's mid by one tick


@dataclass(frozen=True)
class FlowShape:
    """What a flow looks like. Shares are fractions of all operations; the rest joins the book."""

    markets: int = 8
    accounts: int = 1000
    resting: int = 4000  # orders open at once, over all markets; cancels keep it there
    depth: int = 125  # ticks on each side of the mid where orders rest, denser towards it
    price_max: int = 20_000
    cancel_share: float = 0.47
    take_share: float = 0.10
    take_size: float = 0.25  # lots of a taker over lots of a maker
    zipf: float = 1.0
    size_mean: float = 2.0  # mean and deviation of the logarithm of lots
    size_deviation: float = 1.0
    perpetual: bool = False  # markets are contracts: positions and margin in place of holds


SHAPES = {
    "demo": FlowShape(),
    "base": FlowShape(markets=1, resting=1900, cancel_share=0.40, take_share=0.08, take_size=2.0),
    "sym100": FlowShape(markets=100, resting=96_000, cancel_share=0.40, take_share=0.08, take_size=2.0),
    "deep": FlowShape(
        markets=1,
        resting=1_000_000,
        depth=20_000,
        price_max=100_000,
        cancel_share=0.40,
        take_share=0.08,
        take_size=2.0,
    ),
    "take": FlowShape(markets=1, resting=1900, cancel_share=0.12, take_share=0.36, take_size=2.0),
    "perp": FlowShape(
        markets=1, resting=1900, cancel_share=0.40, take_share=0.08, take_size=2.0, perpetual=True
    ),
}

_SLOT = np.dtype(
    [
        ("order_id", "<i8"),
        ("account", "<i4"),
        ("market", "<i4"),
        ("price", "<i4"),
        ("side", "<i4"),
        ("leaves", "<i8"),
        ("next", "<i4"),  # slot plus one; also links free slots
        ("prev", "<i4"),
        ("position", "<i4"),  # in `live`
    ]
)


class _Draws(NamedTuple):
    """Lookup tables, and the shares in 1/65536."""

    accounts: np.ndarray
    markets: np.ndarray
    sizes: np.ndarray
    cancel_share: int
    take_size: int  # in 1/65536
    take_share: int
    resting: int
    depth: int


class _Book(NamedTuple):
    """The generator's own book."""

    slots: np.ndarray
    heads: np.ndarray  # (markets, price_max + 1) slot plus one
    tails: np.ndarray
    best: np.ndarray  # (markets, 2) by side; bid 0 and ask price_max + 1 mean none
    mids: np.ndarray
    live: np.ndarray  # slots of open orders, unordered
    state: np.ndarray  # see _LIVE and the following


_LIVE, _NEXT_ID, _FREE, _USED, _GONE_ACCOUNT, _GONE_ID, _GONE_MARKET = range(7)


class SyntheticFlow:
    """An endless flow of one shape. `take(n)` gives the next n operations."""

    def __init__(
        self,
        shape: FlowShape,
        seed: int,
        accounts: np.ndarray | None = None,
        markets: np.ndarray | None = None,
        first_order_id: int = 1,
    ) -> None:
        """`accounts` and `markets` are the ids to use, by falling activity; 1.. and 0.. unless given."""
        self.shape = replace(shape, accounts=len(accounts) if accounts is not None else shape.accounts)
        if markets is not None:
            self.shape = replace(self.shape, markets=len(markets))
        shape = self.shape
        rng = np.random.Generator(np.random.PCG64(seed))
        self._account_ids = np.arange(1, shape.accounts + 1) if accounts is None else np.asarray(accounts)
        self._market_ids = np.arange(shape.markets) if markets is None else np.asarray(markets)
        sizes = np.exp(rng.normal(shape.size_mean, shape.size_deviation, SIZE_CHOICES))
        self._draws = _Draws(
            accounts=_zipf_choices(rng, shape.accounts, 0.5 * shape.zipf),
            markets=_zipf_choices(rng, shape.markets, shape.zipf),
            sizes=np.clip(sizes, 1, 1000).astype(np.int64),
            cancel_share=int(ONE * shape.cancel_share),
            take_size=int(ONE * shape.take_size),
            take_share=int(ONE * shape.take_share),
            resting=shape.resting,
            depth=shape.depth,
        )
        self._book = _new_book(shape, first_order_id)
        self._random = np.array([rng.integers(1, 2**63)], dtype=np.uint64)

    def take(self, count: int) -> np.ndarray:
        """The next `count` operations, ORDER_OP."""
        ops = np.zeros(count, dtype=ORDER_OP)
        _generate(self._draws, self._book, self._random, ops, False)
        return self._named(ops)

    def fill_book(self) -> np.ndarray:
        """Operations that join the book until the shape's number of orders rests; none of them trades."""
        missing = self.shape.resting - int(self._book.state[_LIVE])
        ops = np.zeros(max(0, missing), dtype=ORDER_OP)
        _generate(self._draws, self._book, self._random, ops, True)
        return self._named(ops)

    @property
    def open_orders(self) -> int:
        """Orders open in the generator's own book."""
        return int(self._book.state[_LIVE])

    def _named(self, ops: np.ndarray) -> np.ndarray:
        ops["account"] = self._account_ids[ops["account"]]
        ops["market"] = self._market_ids[ops["market"]]
        return ops


def _zipf_choices(rng: np.random.Generator, count: int, exponent: float) -> np.ndarray:
    weights = 1.0 / np.arange(1, count + 1) ** exponent
    draws = rng.choice(count, size=ACCOUNT_CHOICES, p=weights / weights.sum())
    draws[: min(count, ACCOUNT_CHOICES)] = np.arange(min(count, ACCOUNT_CHOICES))  # nobody is left out
    return draws.astype(np.int32)


def _new_book(shape: FlowShape, first_order_id: int) -> _Book:
    slots = shape.resting + 1024
    best = np.zeros((shape.markets, 2), dtype=np.int64)
    best[:, Side.SELL] = shape.price_max + 1
    state = np.zeros(8, dtype=np.int64)
    state[_NEXT_ID] = state[_GONE_ID] = first_order_id
    return _Book(
        slots=np.zeros(slots, dtype=_SLOT),
        heads=np.zeros((shape.markets, shape.price_max + 1), dtype=np.int32),
        tails=np.zeros((shape.markets, shape.price_max + 1), dtype=np.int32),
        best=best,
        mids=np.full(shape.markets, shape.price_max // 2, dtype=np.int64),
        live=np.zeros(slots, dtype=np.int32),
        state=state,
    )


@kernel
def _generate(draws: _Draws, book: _Book, random: np.ndarray, ops: np.ndarray, only_adds: bool) -> None:
    """Write the next operations into `ops`, keeping `book` as a venue would."""
    state = book.state
    for i in range(ops.shape[0]):
        op = ops[i]
        bits = _draw(random)
        market = np.int64(draws.markets[bits & 0xFFFF])
        _walk(draws, book, market, bits >> 16 & 0xFFFF)
        kind = bits >> 32 & 0xFFFF
        op.account = draws.accounts[_draw(random) & 0xFFFF]
        op.market = market
        op.op = Op.NEW
        side = bits >> 48 & 1
        full = state[_LIVE] >= draws.resting
        if not only_adds and kind < draws.take_share and _has_best(book, market, 1 - side):
            _write_taker(draws, book, random, op, market, side)
        elif (
            not only_adds
            and (full or kind < draws.take_share + draws.cancel_share)
            and state[_LIVE] > (draws.resting * 15 // 16)
        ):
            _write_cancel(book, random, op)
        else:
            _write_passive(draws, book, random, op, market, side)


@inlined
def _draw(random: np.ndarray) -> int:
    """63 random bits: xorshift64 (Marsaglia 2003), top bits."""
    x = random[0]
    x ^= x << np.uint64(13)
    x ^= x >> np.uint64(7)
    x ^= x << np.uint64(17)
    random[0] = x
    return int(np.int64(x >> np.uint64(1)))


@inlined
def _walk(draws: _Draws, book: _Book, market: int, chance: int) -> None:
    """Move the mid by one tick now and then, away from the ends of the price range."""
    price_max = book.heads.shape[1] - 1
    margin = min(draws.depth + IOC_DEPTH + 1, price_max // 2)
    if chance < _MID_STEP:
        step = 1 if chance & 1 else -1
        book.mids[market] = min(max(book.mids[market] + step, margin), price_max - margin)


@inlined
def _has_best(book: _Book, market: int, side: int) -> bool:
    best = book.best[market, side]
    return best != 0 if side == Side.BUY else best < book.heads.shape[1]


@inlined
def _write_passive(
    draws: _Draws, book: _Book, random: np.ndarray, op: np.record, market: int, side: int
) -> None:
    """An order that joins the book: denser towards the mid, never through the other side's best."""
    bits = _draw(random)
    u = bits & 0xFFFF
    distance = 1 + (draws.depth * ((u * u) >> 16) >> 16)
    if side == Side.BUY:
        price = min(book.mids[market] - distance, book.best[market, Side.SELL] - 1)
    else:
        price = max(book.mids[market] + distance, book.best[market, Side.BUY] + 1)
    op.price = min(max(price, 1), book.heads.shape[1] - 1)
    op.qty = draws.sizes[bits >> 20 & 0xFFF]
    op.client_order_id = book.state[_NEXT_ID]
    book.state[_NEXT_ID] += 1
    op["flags"] = side
    if not (book.best[market, Side.BUY] >= op.price if side else book.best[market, Side.SELL] <= op.price):
        _rest(book, op, market, side)


@inlined
def _write_taker(
    draws: _Draws, book: _Book, random: np.ndarray, op: np.record, market: int, side: int
) -> None:
    """An IOC order that crosses the best price by a few ticks."""
    bits = _draw(random)
    reach = bits & 0xFFFF
    reach %= IOC_DEPTH
    if side == Side.BUY:
        price = min(book.best[market, Side.SELL] + reach, book.heads.shape[1] - 1)
    else:
        price = max(book.best[market, Side.BUY] - reach, 1)
    op.price = price
    op.qty = 1 + (draws.sizes[bits >> 20 & 0xFFF] * draws.take_size >> 16)
    op.client_order_id = book.state[_NEXT_ID]
    book.state[_NEXT_ID] += 1
    op["flags"] = side | TimeInForce.IOC.value << TIF_SHIFT
    _trade(book, market, side, price, op.qty)


@inlined
def _write_cancel(book: _Book, random: np.ndarray, op: np.record) -> None:
    """Cancel one open order, each equally likely; now and then one that is gone."""
    bits = _draw(random)
    op.op = Op.CANCEL
    if bits >> 40 & 0xFF == 0:
        op.account = book.state[_GONE_ACCOUNT]
        op.market = book.state[_GONE_MARKET]
        op.client_order_id = book.state[_GONE_ID]
        return
    slot = book.live[(bits & 0xFFFFFFFF) % book.state[_LIVE]]
    order = book.slots[slot]
    op.account, op.market, op.client_order_id = order.account, order.market, order.order_id
    _remove(book, slot)


@inlined
def _trade(book: _Book, market: int, side: int, price: int, qty: int) -> None:
    """Take what an IOC order takes."""
    other = 1 - side
    while qty > 0 and _has_best(book, market, other):
        best = book.best[market, other]
        if best > price if side == Side.BUY else best < price:
            break
        slot = book.heads[market, best] - 1
        order = book.slots[slot]
        if order.leaves > qty:
            order.leaves -= qty
            break
        qty -= order.leaves
        _remove(book, slot)


@inlined
def _rest(book: _Book, op: np.record, market: int, side: int) -> None:
    """Append an order to its level, unless the generator's book is full."""
    state = book.state
    slot = state[_FREE] - 1
    if slot >= 0:
        state[_FREE] = book.slots[slot].next
    elif state[_USED] < book.slots.shape[0]:
        slot = state[_USED]
        state[_USED] += 1
    else:
        return
    order = book.slots[slot]
    order.order_id, order.account, order.market = op.client_order_id, op.account, market
    order.price, order.side, order.leaves = op.price, side, op.qty
    order.position = state[_LIVE]
    book.live[state[_LIVE]] = slot
    state[_LIVE] += 1
    tail = book.tails[market, order.price]
    order.prev, order.next = tail, 0
    if tail:
        book.slots[tail - 1].next = slot + 1
    else:
        book.heads[market, order.price] = slot + 1
        best = book.best[market, side]
        book.best[market, side] = max(best, order.price) if side == Side.BUY else min(best, order.price)
    book.tails[market, order.price] = slot + 1


@inlined
def _remove(book: _Book, slot: int) -> None:
    """Take an order out of its level and the live list, and remember it as the last one gone."""
    state = book.state
    order = book.slots[slot]
    market, price = order.market, order.price
    state[_GONE_ACCOUNT], state[_GONE_ID], state[_GONE_MARKET] = order.account, order.order_id, market
    before, after = order.prev, order.next
    if before:
        book.slots[before - 1].next = after
    else:
        book.heads[market, price] = after
    if after:
        book.slots[after - 1].prev = before
    else:
        book.tails[market, price] = before
    state[_LIVE] -= 1
    last = book.live[state[_LIVE]]
    book.live[order.position] = last
    book.slots[last].position = order.position
    order.next = state[_FREE]
    state[_FREE] = slot + 1
    if not before and not after and book.best[market, order.side] == price:
        _find_best(book, market, order.side, price)


@inlined
def _find_best(book: _Book, market: int, side: int, price: int) -> None:
    """Scan from an emptied best level to the next occupied one; levels are dense near the mid."""
    heads = book.heads[market]
    if side == Side.BUY:
        while price > 0 and heads[price] == 0:
            price -= 1
    else:
        while price < heads.shape[0] and heads[price] == 0:
            price += 1
    book.best[market, side] = price
