"""Finding the present validators for a node whose own state knows former ones only.

    config.toml, known-validators, network.toml ─▶ anybody ─proofs─▶ newest epoch, its members' addresses
                                                                     └─▶ `Membership` ─▶ links ─▶ their state

A node that is empty, or is to be healed, or was away for long, has links to whomever its state names. If
fewer than f+1 of them are there, it asks client ports, wherever it knows of one, for the chain of changes
since the newest epoch it knows. That chain proves itself, and the ledger proves where its last members
are, so a single node that still answers is enough, and need not be trusted.

Where validators are is written down as well, in `data/known-validators`: hints for such a day.
"""

from collections.abc import Callable
from pathlib import Path

import trio

from consensus.primitives.crypto import Ed25519Signer
from consensus.primitives.errors import ConfigError
from consensus.quorum import ReplicaSet
from node.client import NotConnected, open_client
from node.config import Config, Home
from node.keys import new_seed
from node.network import Network, parse_address
from node.telemetry import Log
from node.validators import Endpoint, Membership, Validators

FIRST_SECONDS = 2.0  # for links to come up by themselves
PAUSE_SECONDS_MAX = 60.0  # between two attempts; doubles from the first
SYNC_SECONDS = 10.0  # to hear of changes of validators
HINTS_MAX = 256
HINT_BYTES_MAX = 256


class Introduction:
    """Asks around while this node is alone."""

    def __init__(
        self,
        home: Home,
        config: Config,
        network: Network,
        membership: Membership,
        connected: Callable[[], list[int]],
        newest: Callable[[], ReplicaSet],
        log: Log,
    ) -> None:
        """`connected`: peers with a link; `newest`: the last validators that the protocol has proof of."""
        self._home = home
        self._own = config.node.id
        self._peers = config.peers.known
        self._network = network
        self._membership = membership
        self._connected = connected
        self._newest = newest
        self._log = log

    async def run(self) -> None:
        """Until cancelled."""
        pause_s = FIRST_SECONDS
        while True:
            await trio.sleep(pause_s)
            if self.is_alone():
                await self.ask()
                pause_s = min(PAUSE_SECONDS_MAX, 2 * pause_s)
            else:
                pause_s = FIRST_SECONDS

    def is_alone(self) -> bool:
        """Whether fewer than f+1 of those who validate, as far as we know, have a link with us."""
        newest = self._newest()
        others = [member for member in newest.ids if member != self._own]
        there = len(set(others) & set(self._connected()))
        return there < min(len(others), newest.weak_quorum)

    async def ask(self) -> None:
        """Once; what it learns goes to `Membership`."""
        hints = known_addresses(self._home, self._peers)
        key = Ed25519Signer(new_seed())  # questions are not signed
        async with open_client(self._network, key, trusted=self._newest().record, peers=hints) as client:
            client.timeout_s = SYNC_SECONDS
            try:
                await client.sync_epochs()
            except NotConnected as error:
                self._log.info("validators sought", found=client.epoch.number, why=str(error))
            places = {
                item.id: Endpoint(item.tls_certificate, item.peer_address, item.client_address)
                for item in client.reached
            }
            if self._membership.introduce(client.epoch, places):
                self._log.info("validators found", epoch=client.epoch.number, members=sorted(places))


def known_addresses(home: Home, given: tuple[str, ...]) -> list[str]:
    """Client addresses at which validators were, or are said to be. A file that is damaged has fewer."""
    try:
        with home.known_validators.open("rb") as file:
            lines = file.read(HINTS_MAX * HINT_BYTES_MAX).decode("ascii", "replace").splitlines()
    except OSError:
        lines = []
    return list(dict.fromkeys([*given, *filter(_is_address, lines)]))[:HINTS_MAX]


def note_addresses(path: Path, validators: Validators) -> None:
    """Write down where validators are. That it fails costs a hint, and nothing now."""
    text = "".join(f"{place.client}\n" for _, place in sorted(validators.endpoints.items()))
    partial = path.with_suffix(".partial")
    try:
        partial.write_text(text, "ascii")
        partial.replace(path)
    except (OSError, UnicodeError):
        return


def _is_address(text: str) -> bool:
    try:
        return parse_address(text, "known-validators").port > 0
    except ConfigError:
        return False
