"""The formats that `kontor flow import` knows."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from consensus.primitives.errors import InputError
from engine.records import Op
from testnet.flows import Flow
from testnet.importers import binance, bitstamp, itch, messages
from testnet.importers.base import BAD_RECORDING, Step, World, build_flow

ACCOUNTS = 64


@dataclass(frozen=True)
class Format:
    """One importer and what `--help` says about it."""

    read: Callable[[Path, Path | None], tuple[World, list[Step]]]
    help: str


FORMATS = {
    "bitstamp-l3": Format(bitstamp.read, "Bitstamp order-by-order CSV, with the trades CSV beside it"),
    "binance-l2": Format(binance.read, "Binance depth diffs and trades, '<ns> <json>' lines"),
    "itch50": Format(itch.read, "NASDAQ TotalView-ITCH 5.0, length-prefixed binary"),
    "matching-messages": Format(messages.read, "new/cancel/modify messages for one book, CSV"),
}


def import_flow(format_name: str, path: Path, trades: Path | None = None, accounts: int = ACCOUNTS) -> Flow:
    """Turn the recording at `path` (gzip or plain) into a flow of `accounts` accounts."""
    world, steps = FORMATS[format_name].read(path, trades)
    if not any(step.op == Op.NEW for step in steps):
        raise InputError(BAD_RECORDING, f"{path} holds no orders")
    return build_flow(world, steps, accounts)
