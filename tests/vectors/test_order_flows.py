"""Five recorded order flows and hand-made edge cases, with the exact reports of a correct FIFO book.

Source: flash1-dev/matching-engine-benchmark (MIT), its generator with seed 23; reports agreed by
three independent engines. Every message is a block of its own, because the order inside a block
would move cancels first. One buying and one selling account, so nobody trades with itself.
"""

import csv
import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.invariants import check_all
from engine.records import Code, Op, Side, TimeInForce
from tests.helpers.trading_floor import Floor, MarketTerms, flags_of, make_ops

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
FLOWS = {
    "static": ("ea0bf9f2012aa6e97a137ba7b4c67732cd5d190de2402774db6fa755403cc158", 13),
    "normal": ("1cfc7321d0e43ebdd7e1dcc25508a59632b8942c43fbc9951b538e16618a404e", 292),
    "swing-25": ("f94af888a34a1f6b160b42950c05e87891ef69a2a061431fea3bd0971b88f854", 360),
    "swing-40": ("36dd2dab13842863ec09ebb48bf2cc61fd9dd4ab7f796e61f4682fe5d5d21d86", 372),
    "flash-crash": ("146ed7780ff996b63535965c96babb03537940c0f3ea4f967f4ea55a983feda0", 404),
}
NEW, CANCEL, MODIFY = range(3)
ACK, TRADE, CANCEL_ACK, MODIFY_ACK, CANCEL_REJECT, MODIFY_REJECT = range(6)
TERMS = MarketTerms(price_max=200_000, qty_max=1 << 40, base_per_lot=1, quote_per_lot_tick=1)


class Translator:
    """Messages in, report lines out, through the real kernel."""

    def __init__(self) -> None:
        self.floor = Floor(accounts=3, markets=(TERMS,), funds=10**15)
        self.side_of: dict[int, int] = {}

    def reports(
        self, seq: int, kind: int, side: int, ioc: int, order: int, price: int, qty: int
    ) -> list[tuple]:
        """Execute one message; return its reports, stable-sorted by kind."""
        if kind == NEW:
            self.side_of[order] = side
        side = self.side_of.get(order, side)
        tif = TimeInForce.IOC if ioc else TimeInForce.GTC
        op = {NEW: Op.NEW, CANCEL: Op.CANCEL, MODIFY: Op.REPLACE}[kind]
        flags = flags_of(Side(side), tif if kind == NEW else TimeInForce.GTC)
        results, events = self.floor.execute(make_ops((op, flags, 0, 1 + side, order, price, qty)))
        lines = [
            (TRADE, seq, int(e["price"]), int(e["qty"]), int(e["counter_order_id"]), order) for e in events
        ]
        lines.extend(self._answers(seq, kind, side, bool(ioc), order, price, qty, results[0]))
        return sorted(lines, key=lambda line: line[0])

    @staticmethod
    def _answers(seq, kind, side, ioc, order, price, qty, result) -> Iterator[tuple]:
        accepted = result["code"] in (Code.OK, Code.NO_LIQUIDITY)
        if kind == NEW:
            assert accepted, result
            yield ACK, seq, side, order, price, qty
            if ioc and result["qty"] < qty:
                yield CANCEL_ACK, seq, side, order, price
        elif kind == CANCEL:
            yield (
                (CANCEL_ACK, seq, side, order, int(result["price"]))
                if accepted
                else (CANCEL_REJECT, seq, order)
            )
        elif accepted:
            yield MODIFY_ACK, seq, side, order, price, qty
        else:
            yield MODIFY_REJECT, seq, order


@pytest.mark.parametrize("flow", FLOWS)
def test_flow_gives_the_exact_report_stream(flow):
    path = DATA / f"flow_{flow}_messages.csv.gz"
    if not path.exists():
        pytest.skip(f"{path} is absent: the recorded flows are not part of the project")
    digest, trades = FLOWS[flow]
    translator, lines = Translator(), []
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            names = ("seq", "type", "side", "ioc", "order_id", "price_ticks", "quantity")
            lines.extend(translator.reports(*(int(row[name]) for name in names)))
    text = "\n".join(",".join(map(str, line)) for line in lines)
    assert sum(line[0] == TRADE for line in lines) == trades
    expected = gzip.decompress((DATA / f"flow_{flow}_reports.txt.gz").read_bytes()).decode()
    assert text == expected
    assert hashlib.sha256(text.encode()).hexdigest() == digest
    check_all(translator.floor.state)


def _edge_cases() -> list:
    path = DATA / "edge_cases.jsonl"
    if not path.exists():
        return [pytest.param(None, marks=pytest.mark.skip(f"{path} is absent: not part of the project"))]
    cases = [json.loads(line) for line in path.read_text().splitlines()]
    return [pytest.param(case, id=case["case"]) for case in cases]


@pytest.mark.parametrize("case", _edge_cases())
def test_edge_case_gives_the_agreed_reports(case):
    kinds = {"new": NEW, "cancel": CANCEL, "modify": MODIFY}
    translator, lines = Translator(), []
    for seq, (kind, side, ioc, qty, order, price) in enumerate(case["messages"]):
        lines.extend(translator.reports(seq, kinds[kind], side, ioc, order, price, qty))
    assert [list(line) for line in lines] == case["reports"]
    check_all(translator.floor.state)
