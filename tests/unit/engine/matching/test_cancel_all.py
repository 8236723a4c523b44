"""CANCEL_ALL looks at so many orders at a time, and reaches every order when it is repeated."""

from engine.invariants import check_all
from engine.matching.orders import CANCELS_PER_OPERATION_MAX as LIMIT
from engine.records import EVERY_MARKET, Code, Op, Side
from tests.helpers.trading_floor import Floor, MarketTerms, make_ops, new

ENVELOPE = 4096  # operations in one envelope


def floor_with(*counts: int) -> Floor:
    """Account 1 offers counts[m] single lots on market m, the last market's newest."""
    floor = Floor(markets=tuple(MarketTerms() for _ in counts))
    ids = iter(range(sum(counts)))
    orders = [new(1, next(ids), Side.SELL, 100, 1, market=m) for m, n in enumerate(counts) for _ in range(n)]
    floor.execute(make_ops(*orders))
    return floor


def cancel_all(market: int) -> tuple:
    """CANCEL_ALL by account 1 as a tuple."""
    return (Op.CANCEL_ALL, 0, market, 1, 0, 0, 0)


def outcomes(floor: Floor, *ops: tuple) -> list[tuple[int, int]]:
    """(code, orders cancelled) of each operation of one block."""
    results, _ = floor.execute(make_ops(*ops))
    check_all(floor.state)
    return [(int(line["code"]), int(line["qty"])) for line in results]


def test_as_many_as_the_limit_leave_at_once():
    assert outcomes(floor_with(LIMIT), cancel_all(EVERY_MARKET)) == [(Code.OK, LIMIT)]


def test_one_more_than_the_limit_is_left_for_the_next():
    floor = floor_with(LIMIT + 1)
    assert outcomes(floor, cancel_all(EVERY_MARKET)) == [(Code.WORK_LIMIT, LIMIT)]
    assert len(floor.book(0)) == 1
    assert outcomes(floor, cancel_all(EVERY_MARKET)) == [(Code.OK, 1)]


def test_repeating_reaches_orders_behind_those_of_another_market():
    floor = floor_with(5, 2 * LIMIT + 7)
    asked = [outcomes(floor, cancel_all(0)) for _ in range(3)]
    assert asked == [[(Code.WORK_LIMIT, 0)], [(Code.WORK_LIMIT, 0)], [(Code.WORK_LIMIT, 5)]]
    assert (len(floor.book(0)), len(floor.book(1))) == (0, 2 * LIMIT + 7)
    assert outcomes(floor, *[cancel_all(1)] * 3) == [
        (Code.WORK_LIMIT, LIMIT),
        (Code.WORK_LIMIT, LIMIT),
        (Code.OK, 7),
    ]


def test_orders_passed_over_keep_their_sequence():
    floor = floor_with(1, LIMIT)
    outcomes(floor, cancel_all(0))  # market 0's order comes first now
    _, events = floor.execute(make_ops(cancel_all(EVERY_MARKET), cancel_all(EVERY_MARKET)))
    assert events["client_order_id"].tolist() == [0, *range(LIMIT, 0, -1)]


def test_an_envelope_of_cancels_that_match_nothing_is_bounded_work():
    """Without the limit each walks all the account's orders, twice: 4 · 10^8 steps."""
    floor = Floor(markets=(MarketTerms(), MarketTerms()))
    for start in range(0, 48_000, 4_000):
        floor.execute(make_ops(*[new(1, start + i, Side.SELL, 100, 1) for i in range(4_000)]))
    block = make_ops(*[cancel_all(1)] * ENVELOPE)
    floor.execute(block[:1])
    results, events = floor.execute(block)
    assert (set(results["code"].tolist()), len(events)) == ({int(Code.WORK_LIMIT)}, 0)
    check_all(floor.state)
