"""A replayable order flow, and the file that holds one.

A flow is a list of order operations together with everything they need to run on an empty ledger:
assets, markets, and accounts with their funds. Markets and accounts are numbered from 0 inside the
flow; whoever replays it maps them to the ledger's ids.

`fences` are positions in the list: an operation at or after a fence is sent only when everything
before it is committed (see `testnet.fences` for why that can be needed).

The file: 8 bytes magic, header length (u32), header (JSON), then one zlib stream of the operations
(32 bytes each), the fences (int64) and the funding table (accounts × assets, int64). The header
states every count, so a reader never inflates more than was announced, and a digest of the content.
"""

import itertools
import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from consensus.primitives.crypto import digest
from consensus.primitives.errors import ConfigError, InputError
from engine.records import AMOUNT_MAX, ORDER_OP

MAGIC = b"KONTORF1"
HEADER_SIZE_MAX = 1 << 20
CONTENT_SIZE_MAX = 4 << 30
BAD_FLOW = "BAD_FLOW"


@dataclass(frozen=True)
class FlowAsset:
    """An asset, as `register_asset` wants it."""

    name: str
    decimals: int


@dataclass(frozen=True)
class FlowMarket:
    """A market, as `list_market` wants it; `base` and `quote` are positions in the flow's assets."""

    name: str
    base: int
    quote: int
    base_per_lot: int
    quote_per_lot_tick: int
    price_max: int
    qty_max: int
    notional_min: int = 0
    maker_fee_e6: int = 0
    taker_fee_e6: int = 0


@dataclass(frozen=True)
class Flow:
    """Operations and the world they run in."""

    name: str
    source: str  # where it comes from, in words
    assets: tuple[FlowAsset, ...]
    markets: tuple[FlowMarket, ...]
    ops: np.ndarray  # ORDER_OP (n,); market and account are positions in this flow
    fences: np.ndarray  # int64, ascending, each in 1..n−1
    funding: np.ndarray  # int64 (accounts, assets), base units
    is_ordered: bool = False  # a replay must keep the order, one envelope after the other
    fills_expected: int | None = None  # by a replay that keeps the order

    def __post_init__(self) -> None:
        check_flow(self)

    @property
    def accounts(self) -> int:
        """How many accounts the flow uses."""
        return self.funding.shape[0]


def segments(flow: Flow, limit: int | None = None) -> Iterator[tuple[int, int]]:
    """The ranges between fences, in order, of the first `limit` operations."""
    end = len(flow.ops) if limit is None else min(limit, len(flow.ops))
    bounds = [0, *(int(fence) for fence in flow.fences if fence < end), end]
    for start, stop in itertools.pairwise(bounds):
        if start < stop:
            yield start, stop


def check_flow(flow: Flow) -> None:
    """Raise `InputError` unless every reference in the flow points at something it declares."""
    ops, fences, funding = flow.ops, flow.fences, flow.funding
    _require(ops.dtype == ORDER_OP and ops.ndim == 1, "operations are not an array of 32-byte records")
    _require(fences.dtype == np.int64 and fences.ndim == 1, "fences are not a list of int64")
    _require(funding.dtype == np.int64 and funding.ndim == 2, "funding is not an int64 table")
    _require(funding.shape[1] == len(flow.assets), "funding has another number of assets than the flow")
    _require(bool((funding >= 0).all()) and int(funding.max(initial=0)) <= AMOUNT_MAX, "funding is negative")
    for column, total in enumerate(_totals(funding)):
        _require(total <= AMOUNT_MAX, f"funding of {flow.assets[column].name} exceeds {AMOUNT_MAX} units")
    if len(ops):
        _require(int(ops["account"].max()) < flow.accounts, "an operation names an account without funding")
    if len(fences):
        ascending = bool((np.diff(fences) > 0).all())
        _require(ascending and fences[0] >= 1 and fences[-1] < len(ops), "fences are out of order or range")
    for market in flow.markets:
        _require(
            0 <= market.base < len(flow.assets) and 0 <= market.quote < len(flow.assets),
            f"market {market.name} names an asset the flow does not have",
        )


def write_flow(path: Path, flow: Flow) -> None:
    """Write `flow` to `path`, whole or not at all. Raises `ConfigError` where that cannot be."""
    content = flow.ops.tobytes() + flow.fences.tobytes() + flow.funding.tobytes()
    header = {
        "name": flow.name,
        "source": flow.source,
        "assets": [asdict(asset) for asset in flow.assets],
        "markets": [asdict(market) for market in flow.markets],
        "ops": len(flow.ops),
        "fences": len(flow.fences),
        "accounts": flow.accounts,
        "is_ordered": flow.is_ordered,
        "fills_expected": flow.fills_expected,
        "digest": digest("kontor.flow", content).hex(),
    }
    text = json.dumps(header, sort_keys=True).encode()
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(MAGIC + len(text).to_bytes(4, "little") + text + zlib.compress(content, 6))
        partial.replace(path)
    except FileNotFoundError as error:
        raise ConfigError(f"{path} cannot be written: there is no folder {path.parent}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def read_flow(path: Path) -> Flow:
    """Read the flow at `path`. Raises `InputError` if it is not one, whole and undamaged."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(BAD_FLOW, f"{path} cannot be read: {error.strerror}") from error
    try:
        return _parse(data)
    except InputError as error:
        raise InputError(
            BAD_FLOW, f"{path}: {error.message}; make it again with `kontor flow import`"
        ) from error


def _parse(data: bytes) -> Flow:
    _require(data[:8] == MAGIC, "this is not a Kontor flow")
    size = int.from_bytes(data[8:12], "little")
    _require(0 < size <= min(HEADER_SIZE_MAX, len(data) - 12), "the header is cut off")
    try:
        header = json.loads(data[12 : 12 + size])
    except ValueError:
        raise InputError(BAD_FLOW, "the header is damaged") from None
    assets = tuple(_record(FlowAsset, raw) for raw in _list(header, "assets"))
    markets = tuple(_record(FlowMarket, raw) for raw in _list(header, "markets"))
    ops, fences, accounts = (_count(header, name) for name in ("ops", "fences", "accounts"))
    sizes = [ops * ORDER_OP.itemsize, fences * 8, accounts * len(assets) * 8]
    content = _inflate(data[12 + size :], sum(sizes))
    _require(digest("kontor.flow", content).hex() == header.get("digest"), "the content is damaged")
    expected = header.get("fills_expected")
    _require(expected is None or type(expected) is int, "fills_expected is not a number")
    return Flow(
        name=str(header.get("name", "")),
        source=str(header.get("source", "")),
        assets=assets,
        markets=markets,
        ops=np.frombuffer(content, ORDER_OP, ops),
        fences=np.frombuffer(content, np.int64, fences, sizes[0]),
        funding=np.frombuffer(content, np.int64, accounts * len(assets), sizes[0] + sizes[1]).reshape(
            accounts, len(assets)
        ),
        is_ordered=header.get("is_ordered") is True,
        fills_expected=expected,
    )


def _inflate(data: bytes, size: int) -> bytes:
    _require(
        size <= CONTENT_SIZE_MAX, f"the header announces {size} bytes; at most {CONTENT_SIZE_MAX} are read"
    )
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(data, size + 1)
    except zlib.error:
        raise InputError(BAD_FLOW, "the content is damaged") from None
    _require(len(content) == size and inflater.eof, "the content has another length than announced")
    return content


def _record(cls: Any, raw: Any) -> Any:
    kinds = {item.name: item.type for item in fields(cls)}
    _require(
        type(raw) is dict and raw.keys() == kinds.keys(), f"a {cls.__name__} has other fields than known"
    )
    _require(
        all(type(raw[name]) is kind for name, kind in kinds.items()), f"a {cls.__name__} has a wrong type"
    )
    return cls(**raw)


def _list(header: Any, name: str) -> list[Any]:
    value = header.get(name) if type(header) is dict else None
    if type(value) is not list:
        raise InputError(BAD_FLOW, f"the header has no list '{name}'")
    return value


def _count(header: dict[str, Any], name: str) -> int:
    value = header.get(name)
    if type(value) is not int or not 0 <= value < 1 << 32:
        raise InputError(BAD_FLOW, f"the header has no count '{name}'")
    return value


def _totals(funding: np.ndarray) -> list[int]:
    return [sum(column.tolist()) for column in funding.T]  # Python integers: int64 sums could wrap


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(BAD_FLOW, message)
