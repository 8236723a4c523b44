"""`matching-messages`: new, cancel and modify messages for one book, as CSV.

Columns `seq,type,side,ioc,order_id,price_ticks,quantity`; type 0 new, 1 cancel, 2 modify. A modify
names the new price and the new open quantity, and the order goes to the back of the queue.
"""

from pathlib import Path

from consensus.primitives.errors import InputError
from engine.records import Op, Side, TimeInForce
from testnet.flows import FlowAsset, FlowMarket
from testnet.importers.base import BAD_RECORDING, Step, World, read_rows

HEADER = "seq,type,side,ioc,order_id,price_ticks,quantity"
OPS = {0: Op.NEW, 1: Op.CANCEL, 2: Op.REPLACE}
PRICE_MAX = 1 << 20
QTY_MAX = 1 << 32


def read(path: Path, trades: Path | None) -> tuple[World, list[Step]]:
    """Read the messages at `path`; there is no second file."""
    if trades is not None:
        raise InputError(BAD_RECORDING, "matching-messages has no trades file: leave out --trades")
    steps = [_step(row) for row in read_rows(path, HEADER)]
    world = World(
        name="matching-messages",
        source=f"matching messages, {path.name}",
        assets=(FlowAsset("BASE", 0), FlowAsset("QUOTE", 0)),
        markets=(FlowMarket("BASE-QUOTE", 0, 1, 1, 1, PRICE_MAX, QTY_MAX),),
    )
    return world, steps


def _step(row: list[str]) -> Step:
    try:
        _, kind, side, ioc, order_id, price, qty = (int(field) for field in row)
        op = OPS[kind]
        tif = TimeInForce.IOC if op == Op.NEW and ioc else TimeInForce.GTC
        return Step(op, order_id, side=Side(side), tif=tif, price=price, qty=qty)
    except (ValueError, KeyError) as error:
        raise InputError(BAD_RECORDING, f"not a message: {','.join(row)[:80]!r}") from error
