"""Recorded market data becomes flows: small hand-made recordings of each format, and what is refused."""

import gzip
import json
import struct

import pytest

from consensus.primitives.errors import InputError
from engine.records import TIF_SHIFT, Op, Side, TimeInForce
from testnet.importers import bitstamp, messages
from testnet.importers.base import to_units
from testnet.importers.formats import FORMATS, import_flow

BITSTAMP_ROWS = """\
1,10,10,100.0,0.5,created,bid
2,10,10,101.0,0.5,created,ask
3,11,11,102.0,0.2,created,bid
3,11,11,102.0,0.2,deleted,bid
4,12,12,101.0,0.2,created,bid
2,12,12,101.0,0.3,changed,ask
4,12,12,101.0,0.0,deleted,bid
5,13,13,0.0,7.18e-06,created,ask
2,14,14,101.0,0.3,deleted,ask
6,15,15,999999999.0,1.0,created,bid
"""
BITSTAMP_TRADES = """\
1,12,12,101.0,0.2,4,2,buy
2,13,13,100.0,7.18e-06,1,5,sell
"""


def bitstamp_files(tmp_path, rows=BITSTAMP_ROWS):
    path = tmp_path / "x_orders.csv.gz"
    path.write_bytes(gzip.compress((bitstamp.ORDERS_HEADER + "\n" + rows).encode()))
    (tmp_path / "x_trades.csv").write_text(bitstamp.TRADES_HEADER + "\n" + BITSTAMP_TRADES)
    return path


def test_bitstamp_takers_take_and_all_others_are_post_only(tmp_path):
    flow = import_flow("bitstamp-l3", bitstamp_files(tmp_path))
    tifs = [(int(op["flags"]) >> TIF_SHIFT) & 7 for op in flow.ops if op["op"] == Op.NEW]
    post, gtc, market = TimeInForce.POST_ONLY, TimeInForce.GTC, TimeInForce.MARKET
    assert tifs == [post, post, post, gtc, market, post]
    assert flow.fills_expected == 2
    assert flow.ops["op"].tolist().count(Op.CANCEL) == 3
    assert flow.is_ordered


def test_bitstamp_market_orders_get_a_price_the_ledger_knows(tmp_path):
    flow = import_flow("bitstamp-l3", bitstamp_files(tmp_path))
    seller = flow.ops[6]
    assert (int(seller["price"]), int(seller["qty"])) == (1, 718)
    assert int(flow.ops[-1]["price"]) == 999_999_999  # no taker: refused by the ledger, as it should be


def test_bitstamp_makers_that_were_hit_are_fenced_before_their_cancel(tmp_path):
    flow = import_flow("bitstamp-l3", bitstamp_files(tmp_path))
    cancel_of_maker = 7  # operations: new ×3, cancel 3, new 4, cancel 4, new 5, cancel 2, new 6
    assert cancel_of_maker in flow.fences.tolist()


def test_bitstamp_without_trades_says_how_to_name_them(tmp_path):
    path = bitstamp_files(tmp_path)
    (tmp_path / "x_trades.csv").unlink()
    with pytest.raises(InputError, match="--trades"):
        import_flow("bitstamp-l3", path)


@pytest.mark.parametrize(
    "row",
    ["1,2,3\n", "1,1,1,ten,1.0,created,bid\n", "1,1,1,10.5,1.0,created,bid\n", "1,1,1,1,1,created,up\n"],
)
def test_a_bitstamp_row_that_cannot_be_is_refused(tmp_path, row):
    with pytest.raises(InputError, match="BAD_RECORDING"):
        import_flow("bitstamp-l3", bitstamp_files(tmp_path, row))


def frame(stream_data: dict) -> str:
    return "1 " + json.dumps({"stream": "s", "data": stream_data}) + "\n"


def diff(first: int, last: int, previous: int, bids=(), asks=()) -> str:
    data = {"e": "depthUpdate", "U": first, "u": last, "pu": previous, "b": list(bids), "a": list(asks)}
    return frame(data)


SNAPSHOT = '2 {"lastUpdateId":10,"bids":[["99.90","1.000"]],"asks":[["100.10","2.000"]]}\n'


def test_binance_levels_shrink_grow_and_trade(tmp_path):
    path = tmp_path / "capture"
    path.write_text(
        diff(1, 8, 0, bids=[["1.00", "5.000"]])  # in the snapshot already
        + SNAPSHOT
        + frame({"e": "trade", "p": "100.10", "q": "0.500", "m": False})
        + frame({"e": "bookTicker"})
        + diff(9, 12, 8, bids=[["99.90", "3.000"]], asks=[["100.10", "1.200"]])
        + diff(13, 14, 12, bids=[["99.90", "0.000"]])
    )
    flow = import_flow("binance-l2", path)
    ops = [(Op(int(op["op"])), int(op["price"]), int(op["qty"])) for op in flow.ops]
    assert ops == [
        (Op.NEW, 999, 1000),
        (Op.NEW, 1001, 2000),
        (Op.NEW, 1001, 500),
        (Op.REDUCE, 1001, 300),  # the trade took 500 of what the diff reports as 800 less
        (Op.REPLACE, 999, 3000),
        (Op.CANCEL, 999, 0),
    ]
    assert flow.fills_expected == 1


def test_a_gap_in_binance_updates_is_refused(tmp_path):
    path = tmp_path / "capture"
    path.write_text(SNAPSHOT + diff(15, 16, 14))
    with pytest.raises(InputError, match=r"11\.\.14 are missing"):
        import_flow("binance-l2", path)


def itch(kind: bytes, body: bytes, size: int) -> bytes:
    message = kind + struct.pack(">HH6s", 1, 0, bytes(6)) + body
    message = message.ljust(size, b" ")
    return len(message).to_bytes(2, "big") + message


def test_itch_orders_execute_reduce_replace_and_go(tmp_path):
    path = tmp_path / "capture"
    path.write_bytes(
        itch(b"R", b"ALC     ", 39)
        + itch(b"A", struct.pack(">QcI8sI", 7, b"B", 100, b"ALC     ", 1_000_200), 36)
        + itch(b"F", struct.pack(">QcI8sI4s", 8, b"S", 50, b"ALC     ", 1_000_600, b"ABCD"), 40)
        + itch(b"E", struct.pack(">QIQ", 8, 20, 1), 31)
        + itch(b"X", struct.pack(">QI", 7, 30), 23)
        + itch(b"U", struct.pack(">QQII", 7, 9, 60, 1_000_400), 35)
        + itch(b"D", struct.pack(">Q", 8), 19)
        + itch(b"D", struct.pack(">Q", 12345), 19)
        + itch(b"P", bytes(33), 44)
    )
    flow = import_flow("itch50", path)
    ops = [
        (Op(int(op["op"])), Side(int(op["flags"]) & 1), int(op["price"]), int(op["qty"])) for op in flow.ops
    ]
    assert flow.markets[0].quote_per_lot_tick == 200  # the tick divides all prices
    assert ops == [
        (Op.NEW, Side.BUY, 5001, 100),
        (Op.NEW, Side.SELL, 5003, 50),
        (Op.NEW, Side.BUY, 5003, 20),
        (Op.REDUCE, Side.BUY, 5001, 30),
        (Op.CANCEL, Side.BUY, 5001, 0),
        (Op.NEW, Side.BUY, 5002, 60),
        (Op.CANCEL, Side.SELL, 5003, 0),
    ]
    assert flow.fills_expected == 1


@pytest.mark.parametrize("data", [b"\x00\x0cS", b"\x00\x05S" + bytes(40), b"\x00\x0c?" + bytes(40)])
def test_itch_that_ends_early_or_makes_no_sense_is_refused(tmp_path, data):
    path = tmp_path / "capture"
    path.write_bytes(data)
    with pytest.raises(InputError, match="BAD_RECORDING"):
        import_flow("itch50", path)


def test_messages_replace_goes_to_the_back(tmp_path):
    path = tmp_path / "m.csv"
    rows = ["0,0,1,0,1,100,5", "1,0,1,0,2,100,5", "2,2,1,0,1,100,5", "3,0,0,1,3,100,5", "4,1,1,0,1,100,5"]
    path.write_text("\n".join([messages.HEADER, *rows]))
    flow = import_flow("matching-messages", path)
    assert flow.ops["op"].tolist() == [Op.NEW, Op.NEW, Op.REPLACE, Op.NEW, Op.CANCEL]
    assert flow.fills_expected == 1
    assert flow.fences.tolist() == [4]  # a cancel of what was replaced in the same segment


@pytest.mark.parametrize("row", ["a,b,c,d,e,f,g", "0,9,0,0,1,1,1", "0,0,5,0,1,1,1", "1,2,3"])
def test_a_message_that_cannot_be_is_refused(tmp_path, row):
    path = tmp_path / "m.csv"
    path.write_text(messages.HEADER + "\n" + row)
    with pytest.raises(InputError, match="BAD_RECORDING"):
        import_flow("matching-messages", path)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format_refuses_what_is_missing_empty_or_damaged(tmp_path, name):
    trades = tmp_path / "trades.csv" if name == "bitstamp-l3" else None
    if trades:
        trades.write_text(bitstamp.TRADES_HEADER + "\n")
    damaged = tmp_path / "damaged.gz"
    damaged.write_bytes(gzip.compress(b"x" * 10_000)[:-9])
    for path in (tmp_path / "absent", damaged):
        with pytest.raises(InputError, match="BAD_RECORDING"):
            import_flow(name, path, trades)


def test_decimal_strings_become_whole_units_exactly():
    assert to_units("1.53453667", 8) == 153453667
    assert to_units("7.18e-06", 8) == 718
    assert to_units("78318.0", 0) == 78318
    for text in ("1.5", "-1", "nan", "inf", "1e400", "", "x"):
        with pytest.raises(InputError):
            to_units(text, 0)


@pytest.mark.parametrize("format_name", ["binance-l2", "itch50", "matching-messages"])
def test_a_recording_without_orders_is_refused(tmp_path, format_name):
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(InputError, match="empty holds no orders"):
        import_flow(format_name, tmp_path / "empty")
