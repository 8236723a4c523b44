"""`bitstamp-l3`: Bitstamp's order-by-order feed, rows and trades as CSV files.

The feed shows what became of orders, not what they were. Rule: an order may take only if the trades
name it as a taker; every other order is post-only. Takers at the feed's marks for "any price" (0 and
999,999,999) are market orders. `changed` rows report trades, which a replay makes by itself.
"""

from pathlib import Path

from consensus.primitives.errors import InputError
from engine.records import Op, Side, TimeInForce
from testnet.flows import FlowAsset, FlowMarket
from testnet.importers.base import BAD_RECORDING, Step, World, read_rows, to_units

ORDERS_HEADER = "id,timestamp,exchange_timestamp,price,volume,action,direction"
TRADES_HEADER = "trade_id,timestamp,exchange_timestamp,price,amount,buy_order_id,sell_order_id,side"
QTY_DECIMALS = 8
PRICE_MAX = 200_000  # dollars; asks up to 483,980,000 occur, and the ledger refuses them
QTY_MAX = 10**14  # a million coins
SELL_ANY_PRICE = 0
BUY_ANY_PRICE = 999_999_999
SIDES = {"bid": Side.BUY, "ask": Side.SELL}


def read(path: Path, trades: Path | None) -> tuple[World, list[Step]]:
    """Read the orders at `path`; the trades lie at `trades`, or beside it with `_trades` for `_orders`."""
    takers = _read_takers(trades or _guess_trades(path))
    steps = []
    for key, _, _, price, volume, action, direction in read_rows(path, ORDERS_HEADER):
        if direction not in SIDES:
            raise InputError(BAD_RECORDING, f"direction {direction!r} is neither bid nor ask")
        if action == "created":
            terms = (SIDES[direction], to_units(price, 0), to_units(volume, QTY_DECIMALS))
            steps.append(_new(int(key), *terms, is_taker=key in takers))
        elif action == "deleted":
            steps.append(Step(Op.CANCEL, int(key)))
    return _world(path), steps


def _new(key: int, side: Side, price: int, qty: int, is_taker: bool) -> Step:
    tif = TimeInForce.GTC if is_taker else TimeInForce.POST_ONLY
    if is_taker and price in (SELL_ANY_PRICE, BUY_ANY_PRICE):
        tif = TimeInForce.MARKET
        price = 1 if side == Side.SELL else PRICE_MAX
    return Step(Op.NEW, key, side=side, tif=tif, price=price, qty=qty)


def _read_takers(path: Path) -> set[str]:
    takers = set()
    for row in read_rows(path, TRADES_HEADER):
        buy, sell, side = row[5:]
        takers.add(buy if side == "buy" else sell)
    return takers


def _guess_trades(path: Path) -> Path:
    stem = path.name.removesuffix(".gz")
    for name in (stem.replace("_orders", "_trades"), stem.replace("_orders", "_trades") + ".gz"):
        if name not in (stem, path.name) and (path.parent / name).exists():
            return path.parent / name
    raise InputError(BAD_RECORDING, f"no trades lie beside {path}: name them with --trades FILE")


def _world(path: Path) -> World:
    return World(
        name="bitstamp-l3",
        source=f"Bitstamp orders and trades, {path.name}",
        assets=(FlowAsset("BTC", 8), FlowAsset("USD", 8)),
        # One lot is 1e-8 BTC and one tick 1 USD, so a lot at one tick is worth 1e-8 USD.
        markets=(FlowMarket("BTC-USD", 0, 1, 1, 1, PRICE_MAX, QTY_MAX),),
    )
