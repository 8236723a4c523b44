"""From an importer's steps to a flow: fences, accounts, funds, expected fills."""

import gzip
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from consensus.primitives.errors import InputError
from engine.records import AMOUNT_MAX, ORDER_OP, TIF_SHIFT, Op, Side, TimeInForce
from testnet.accounts import assign_accounts
from testnet.book_model import BookModel
from testnet.fences import FencePlanner
from testnet.flows import Flow, FlowAsset, FlowMarket

BAD_RECORDING = "BAD_RECORDING"
INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Step:
    """One operation of a recording. `key` names the order within the recording, across all markets."""

    op: Op
    key: int
    market: int = 0
    side: Side = Side.BUY
    tif: TimeInForce = TimeInForce.GTC
    price: int = 0  # ticks
    qty: int = 0  # lots


@dataclass(frozen=True)
class World:
    """Where a recording's steps take place."""

    name: str
    source: str
    assets: tuple[FlowAsset, ...]
    markets: tuple[FlowMarket, ...]


def build_flow(world: World, steps: list[Step], accounts: int) -> Flow:
    """Run `steps` through plain books and write down what a replay needs."""
    trace = _Trace(world)
    for position, step in enumerate(steps):
        trace.run(position, step)
    owners = assign_accounts([step.key for step in steps], trace.trades, accounts)
    ops = np.zeros(len(steps), ORDER_OP)
    for name, values in _columns(steps, owners).items():
        ops[name] = values
    return Flow(
        name=world.name,
        source=world.source,
        assets=world.assets,
        markets=world.markets,
        ops=ops,
        fences=np.array(trace.planner.fences, np.int64),
        funding=compute_funding(world, steps, owners, accounts),
        is_ordered=True,
        fills_expected=len(trace.trades),
    )


class _Trace:
    """What the steps do when run strictly in order."""

    def __init__(self, world: World) -> None:
        self._books = [BookModel(market.price_max, market.qty_max) for market in world.markets]
        self.planner = FencePlanner()
        self.trades: list[tuple[int, int]] = []

    def run(self, position: int, step: Step) -> None:
        book = self._books[step.market]
        resting = book.orders.get(step.key)
        removes = resting is not None and (step.op == Op.CANCEL or step.qty >= resting.leaves)
        self.planner.before(position, step.op, step.key, book, removes)
        outcome = book.apply(step.op, step.key, step.side, step.tif, step.price, step.qty)
        self.planner.after(position, step.op, step.key, step.side, step.price, outcome)
        self.trades += [(step.key, maker) for maker, _, _ in outcome.fills]


def compute_funding(world: World, steps: list[Step], owners: dict[int, int], accounts: int) -> np.ndarray:
    """What each account must own so that no order is ever refused for funds; int64 (accounts, assets).

    An upper bound of what can be held or spent at once: every order counts from its placement to its
    cancel in full, and trades give nothing back.
    """
    needed = [[0] * len(world.assets) for _ in range(accounts)]
    peak = [[0] * len(world.assets) for _ in range(accounts)]
    held: dict[int, tuple[int, int]] = {}  # key: asset, amount
    for step in steps:
        account = owners[step.key]
        if step.op == Op.CANCEL and step.key in held:
            asset, amount = held.pop(step.key)
            needed[account][asset] -= amount
        elif step.op in (Op.NEW, Op.REPLACE):
            asset, amount = _reserve(world.markets[step.market], step)
            needed[account][asset] += amount
            peak[account][asset] = max(peak[account][asset], needed[account][asset])
            if step.tif in (TimeInForce.GTC, TimeInForce.POST_ONLY):
                held[step.key] = (asset, amount + held.get(step.key, (asset, 0))[1])
    for column, asset_row in enumerate(zip(*peak, strict=True)):
        if sum(asset_row) > AMOUNT_MAX:
            raise InputError(
                BAD_RECORDING,
                f"the orders need {sum(asset_row)} units of {world.assets[column].name},"
                f" and a ledger holds at most {AMOUNT_MAX}: choose fewer decimals",
            )
    return np.array(peak, np.int64).reshape(accounts, len(world.assets))


def _reserve(market: FlowMarket, step: Step) -> tuple[int, int]:
    """Asset and amount that an order holds; nothing if its terms are out of bounds anyway."""
    is_valid = 0 < step.price <= market.price_max and 0 < step.qty <= market.qty_max
    if step.side == Side.SELL:
        return market.base, step.qty * market.base_per_lot if is_valid else 0
    return market.quote, step.price * step.qty * market.quote_per_lot_tick if is_valid else 0


def _columns(steps: list[Step], owners: dict[int, int]) -> dict[str, list[int]]:
    numbers: dict[int, int] = {}  # recordings use ids that need not fit
    for step in steps:
        numbers.setdefault(step.key, len(numbers) + 1)
    return {
        "op": [step.op for step in steps],
        "flags": [step.side | (step.tif << TIF_SHIFT) for step in steps],
        "market": [step.market for step in steps],
        "account": [owners[step.key] for step in steps],
        "client_order_id": [numbers[step.key] for step in steps],
        "price": [step.price for step in steps],
        "qty": [step.qty for step in steps],
    }


def to_units(text: str, decimals: int) -> int:
    """A decimal string (7.18e-06 is one) as a whole number of 10^−decimals; refuses what does not fit."""
    try:
        scaled = Decimal(text).scaleb(decimals)
        units = int(scaled)
    except (InvalidOperation, OverflowError, ValueError) as error:
        raise InputError(BAD_RECORDING, f"{text[:40]!r} is not a number") from error
    if units != scaled or not 0 <= units <= INT64_MAX:
        raise InputError(
            BAD_RECORDING, f"{text[:40]!r} is negative, too large, or finer than {decimals} decimals"
        )
    return units


@contextmanager
def open_recording(path: Path) -> Iterator[BinaryIO]:
    """Open a recording, unpacking gzip. Damage met while reading becomes an `InputError` as well."""
    try:
        with path.open("rb") as raw:
            is_packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if not is_packed:
                yield raw
                return
            with gzip.open(raw) as unpacked:
                yield cast(BinaryIO, unpacked)
    except FileNotFoundError as error:
        raise InputError(BAD_RECORDING, f"{path} does not exist") from error
    except (OSError, EOFError) as error:
        raise InputError(BAD_RECORDING, f"{path} cannot be read: {error}") from error


def read_rows(path: Path, header: str) -> Iterable[list[str]]:
    """The rows of a CSV file that must start with exactly `header`; no quoting is known."""
    width = header.count(",") + 1
    with open_recording(path) as file:
        for number, raw in enumerate(file, 1):
            line = raw.decode("ascii", "replace").strip()
            if number == 1:
                if line != header:
                    raise InputError(BAD_RECORDING, f"{path} starts with {line[:80]!r}, not with {header!r}")
                continue
            row = line.split(",")
            if len(row) != width:
                raise InputError(
                    BAD_RECORDING, f"{path}, line {number}: {len(row)} fields instead of {width}"
                )
            yield row
