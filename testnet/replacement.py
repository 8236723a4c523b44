"""One validator takes another's place while clients trade: as an operator does it, and how long it took."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import trio

from consensus.primitives.errors import LedgerError
from engine.commands import ReplaceValidator
from node.client import Client, open_client
from node.config import Home
from node.network import Address
from node.setup import create_joiner
from testnet.launcher import Launcher, pick_ports
from testnet.load import Tally
from testnet.session import for_load

Report = Callable[[str], None]
CHANGE_SECONDS = 120.0  # from the command until the newcomer votes
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Replaced:
    """What came of it."""

    old: int
    new: int
    epoch: int  # the first one with the newcomer
    boundary: int  # the last block without it
    seconds: float  # from the command to the new epoch
    seconds_to_vote: float  # from the command until the newcomer votes
    longest_wait_ms: float  # for an answer, of all that came from the command until then

    def to_json(self) -> dict[str, Any]:
        """The documented fields."""
        return asdict(self)


async def replace_validator(launcher: Launcher, old: int, tally: Tally, report: Report) -> Replaced:
    """Make and start a new node, put it in `old`'s place, and stop `old` once the new one votes.

    Raises `LedgerError` if that takes longer than `CHANGE_SECONDS`.
    """
    homes, port = launcher.homes, pick_ports(launcher.count + 1)
    home = Home(homes.root / f"node{launcher.count}")
    peer, client_address = Address("127.0.0.1", port), Address("127.0.0.1", port + 100)
    entry = create_joiner(home, homes.network, peer, client_address, for_load)
    number = launcher.adopt(home)
    await launcher.start(number)
    async with open_client(homes.network, homes.admin_seed) as admin:
        started, answers = time.monotonic(), len(tally.latencies_s)
        command = ReplaceValidator(
            old, entry.consensus_key, entry.tls_certificate, str(peer), str(client_address)
        )
        line = await admin.command(command)
        epoch, boundary, new = int(line["qty"]), int(line["detail"]), int(line["counter_account"])
        if new != number:
            raise LedgerError(f"the ledger gave id {new} to the home of node {number}")
        report(f"validator {new} replaces {old} after block {boundary:,}")
        with trio.move_on_after(CHANGE_SECONDS) as waiting:
            await _wait_for_epoch(admin, epoch)
            seconds = time.monotonic() - started
            report(f"epoch {epoch} after {seconds:.1f} s")
            await _wait_for_vote(launcher, new, epoch)
    if waiting.cancelled_caught:
        raise LedgerError(f"validator {new} does not vote after {CHANGE_SECONDS:.0f} s: see {home.log}")
    to_vote = time.monotonic() - started
    report(f"validator {new} votes after {to_vote:.1f} s; stopping {old}")
    await launcher.stop(old)
    longest = max(tally.latencies_s[answers:], default=0.0)
    return Replaced(old, new, epoch, boundary, round(seconds, 3), round(to_vote, 3), round(1000 * longest, 1))


async def _wait_for_epoch(admin: Client, epoch: int) -> None:
    while (await admin.membership()).epoch < epoch:
        await trio.sleep(POLL_SECONDS)


async def _wait_for_vote(launcher: Launcher, node: int, epoch: int) -> None:
    """Until the node says itself that it is in the epoch and votes."""
    while True:
        launcher.check_alive([node])
        await launcher.follow()
        status = (await launcher.statuses([node]))[node]
        if status and status.epoch >= epoch and status.votes and status.executed == status.committed:
            return
        await trio.sleep(POLL_SECONDS)
