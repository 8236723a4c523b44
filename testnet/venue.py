"""Listing a world on a ledger: assets, markets, and funded accounts that the desks may trade for.

What was opened is remembered in `venue.json` beside the network, so that a network which starts again
goes on with the same accounts.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from consensus.primitives.errors import LedgerError
from engine.commands import COMMANDS_MAX, Deposit, ListMarket, OpenAccount, RegisterAsset
from engine.genesis import VENUE_ACCOUNT
from engine.records import Code
from node.client import Client
from node.keys import load_signer, new_seed, write_seed
from node.wire import Detail
from testnet.sources import Places, World

Report = Callable[[str], None]


class VenueError(LedgerError):
    """The ledger refused what the venue asked for."""


def desk_seeds(root: Path, desks: int) -> list[Path]:
    """Seeds of the desks' keys under `root`; made on first use, with mode 0600."""
    paths = [root / "desks" / f"desk{desk}.seed" for desk in range(desks)]
    for path in paths:
        if not path.exists():
            write_seed(path, new_seed())
    return paths


async def open_venue(client: Client, world: World, root: Path, desks: int, report: Report) -> Places:
    """List and fund `world` unless `root` remembers it; return the ledger's ids. `client` is the venue's."""
    memory = root / "venue.json"
    known = json.loads(memory.read_text()) if memory.exists() else {}
    shape = [len(world.funding), desks]
    entry = known.get(world.name)
    if entry is not None and entry["shape"] == shape:
        return Places(np.array(entry["markets"]), np.array(entry["accounts"]))
    report(f"listing {len(world.markets)} markets, funding {len(world.funding):,} accounts")
    assets = await _register_assets(client, world)
    markets = await _list_markets(client, world, assets)
    accounts = await _open_accounts(client, len(world.funding), desk_seeds(root, desks))
    deposits = [
        Deposit(account, asset, amount)
        for account, row in zip(accounts, world.funding.tolist(), strict=True)
        for asset, amount in zip(assets, row, strict=True)
        if amount
    ]
    await _run(client, deposits)
    known[world.name] = {"shape": shape, "markets": markets, "accounts": accounts}
    memory.write_text(json.dumps(known))
    return Places(np.array(markets), np.array(accounts))


async def _register_assets(client: Client, world: World) -> list[int]:
    """Ids of the world's assets; registers those that are missing."""
    listed = (await client.listing(refresh=True)).assets
    ids = {asset.name: asset.id for asset in listed}
    _check_alike("asset", {asset.name: asset for asset in listed}, world.assets, ("decimals",))
    missing = [asset for asset in world.assets if asset.name not in ids]
    new = await _run(client, [RegisterAsset(asset.name, asset.decimals, VENUE_ACCOUNT) for asset in missing])
    ids.update({asset.name: number for asset, number in zip(missing, new, strict=True)})
    return [ids[asset.name] for asset in world.assets]


async def _list_markets(client: Client, world: World, assets: Sequence[int]) -> list[int]:
    """Ids of the world's markets; lists those that are missing."""
    listed = (await client.listing(refresh=True)).markets
    ids = {market.name: market.id for market in listed}
    terms = ("base_per_lot", "quote_per_lot_tick", "price_max", "qty_max")
    _check_alike("market", {market.name: market for market in listed}, world.markets, terms)
    missing = [market for market in world.markets if market.name not in ids]
    listings = [
        ListMarket(
            market.name,
            assets[market.base],
            assets[market.quote],
            market.base_per_lot,
            market.quote_per_lot_tick,
            market.price_max,
            market.qty_max,
            market.notional_min,
            market.maker_fee_e6,
            market.taker_fee_e6,
        )
        for market in missing
    ]
    new = await _run(client, listings)
    ids.update({market.name: number for market, number in zip(missing, new, strict=True)})
    return [ids[market.name] for market in world.markets]


def _check_alike(what: str, listed: Mapping[str, Any], wanted: Sequence[Any], terms: Sequence[str]) -> None:
    """Raise `VenueError` if the ledger has something of the same name and other terms."""
    for item in wanted:
        for term in terms:
            found = getattr(listed.get(item.name, item), term)
            if found != getattr(item, term):
                raise VenueError(
                    f"the ledger's {what} {item.name} has {term} {found}, and this flow needs"
                    f" {getattr(item, term)}: run it on another network, with a new --dir"
                )


async def _open_accounts(client: Client, count: int, seeds: Sequence[Path]) -> list[int]:
    """Open accounts; account i has the key of desk i mod desks as its root."""
    keys = [load_signer(path).public_key for path in seeds]
    return await _run(client, [OpenAccount(keys[number % len(keys)]) for number in range(count)])


async def _run(client: Client, commands: Sequence[tuple[Any, ...]]) -> list[int]:
    """Run commands, many an envelope; return what each made (its journal line's `detail`)."""
    made: list[int] = []
    for first in range(0, len(commands), COMMANDS_MAX):
        batch = commands[first : first + COMMANDS_MAX]
        outcome = await client.commands(batch, Detail.RESULTS)
        lines = outcome.results
        if lines is None or (lines["code"] != Code.OK).any():
            codes = (
                [] if lines is None else sorted({Code(code).name for code in lines["code"].tolist() if code})
            )
            raise VenueError(f"the ledger refused {type(batch[0]).__name__}: {', '.join(codes)}")
        made += lines["detail"].tolist()
    return made
