"""The order loop as a resumable call, and the limit on what one order may meet."""

import numpy as np
import pytest

from engine.invariants import check_all
from engine.matching.admit import FILLS_PER_ORDER_MAX
from engine.matching.kernels import PROGRESS_LENGTH, Progress, execute_orders
from engine.records import JOURNAL, Code, Op, Side, TimeInForce
from engine.tables.table import kernel_view
from tests.helpers.trading_floor import Floor, MarketTerms, make_ops, new

MAKERS = 2 * FILLS_PER_ORDER_MAX + 500
TERMS = MarketTerms(qty_max=1 << 20)


def crowded_floor() -> Floor:
    """Account 1 offers one lot at a time, MAKERS times, at 100."""
    floor = Floor(markets=(TERMS,))
    floor.execute(make_ops(*[new(1, i, Side.SELL, 100, 1) for i in range(MAKERS)]))
    return floor


@pytest.mark.parametrize("tif", [TimeInForce.GTC, TimeInForce.IOC])
def test_an_order_stops_after_the_most_makers_it_may_meet(tif):
    floor = crowded_floor()
    (result,), events = floor.execute(make_ops(new(2, 1, Side.BUY, 100, MAKERS, tif)))
    assert (result["code"], result["qty"], result["detail"]) == (Code.FILL_LIMIT, FILLS_PER_ORDER_MAX, 0)
    assert len(events) == FILLS_PER_ORDER_MAX
    check_all(floor.state)


def test_fok_counts_by_the_same_limit():
    floor = crowded_floor()
    ops = [new(2, 1, Side.BUY, 100, FILLS_PER_ORDER_MAX + 1, TimeInForce.FOK)]
    ops.append(new(2, 1, Side.BUY, 100, FILLS_PER_ORDER_MAX, TimeInForce.FOK))
    results, _ = floor.execute(make_ops(*ops))
    assert results["code"].tolist() == [Code.NOT_FILLABLE, Code.OK]


def test_the_event_array_grows_in_the_middle_of_a_block():
    floor = crowded_floor()
    ops = [new(2, i, Side.BUY, 100, 1000, TimeInForce.IOC) for i in range(2)]
    ops += [(Op.CANCEL_ALL, 0, 0, 1, 0, 0, 0)] * 3
    ops.append(new(1, 5, Side.SELL, 100, 3000))
    ops += [new(2, 10 + i, Side.BUY, 100, 1) for i in range(3000)]
    results, events = floor.execute(make_ops(*ops))
    assert results["qty"][2:5].sum() == MAKERS  # resting orders left before the buyers came
    assert len(events) == MAKERS + 3000
    check_all(floor.state)


def test_stopping_for_room_gives_what_one_call_gives():
    """The same block with room for everything, and with an event array that grows step by step."""
    ops = make_ops(
        *[new(2 + i % 2, i, Side.BUY, 100, 40, TimeInForce.IOC) for i in range(60)],
        (Op.CANCEL_ALL, 0, 0, 1, 0, 0, 0),
    )
    floors = []
    for step in (1 << 14, 7):
        floor = Floor(markets=(TERMS,))
        floor.execute(make_ops(*[new(1, i, Side.SELL, 100, 1) for i in range(MAKERS)]))
        block = np.concatenate([make_ops(*[new(3, i, Side.SELL, 100, 1) for i in range(900, 1900)]), ops])
        floors.append((floor, *_run_with_room(floor, block, step)))
    (first, results, events), (second, same_results, same_events) = floors
    assert results.tobytes() == same_results.tobytes()
    assert events.tobytes() == same_events.tobytes()
    assert [t.pages.tobytes() for t in first.state.tables] == [t.pages.tobytes() for t in second.state.tables]


def _run_with_room(floor: Floor, ops: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    floor.state.reserve_for_orders(len(ops))
    codes, results = np.zeros(len(ops), np.uint8), np.zeros(len(ops), JOURNAL)
    events, progress = np.zeros(step, JOURNAL), np.zeros(PROGRESS_LENGTH, np.int64)
    arrays = (kernel_view(ops), codes, kernel_view(results))
    while not execute_orders(floor.state.core(), *arrays, kernel_view(events), progress):
        room = int(progress[Progress.EVENTS] + progress[Progress.EVENTS_NEEDED])
        events = np.concatenate([events, np.zeros(max(step, room - len(events)), JOURNAL)])
    return results, events[: progress[Progress.EVENTS]]
