"""The id of a node that was no founder: found by its consensus key, once, among what the network says.

`kontor init --join FILE --as-validator` makes a home without an id, since the ledger gives ids out. At
its start such a node asks validators' client ports until the ledger has its key, and keeps the
id beside its data: what is written is claimed for good, and a wrong id would fail every later start. So
the id is that of a proved epoch, or what f+1 tell alike of whom a quorum just said that they validate.
"""

from collections.abc import Callable
from contextlib import suppress

import trio

from consensus.primitives.crypto import Ed25519Signer
from consensus.primitives.errors import ConfigError, LedgerError, StorageError
from node.client import Client, NotConnected, open_client
from node.config import Config, Home
from node.introduction import known_addresses
from node.keys import load_certificate, new_seed
from node.network import Network

ASK_SECONDS = 1.0
SYNC_SECONDS = 3.0  # to hear of changes of validators; all nodes are asked at once
TELL_EVERY = 30  # rounds of questions between two reports that nothing changed


def own_id(home: Home, config: Config) -> int:
    """The id of a home that has one, whoever gave it. Raises `ConfigError` before the ledger did."""
    if not config.node.joins:
        return config.node.id
    known = read_id(home)
    if known is None:
        raise ConfigError(f"{home.root} has no id yet: the ledger gives it, when an admin adds its entry")
    return known


async def find_id(
    home: Home,
    network: Network,
    public_key: bytes,
    report: Callable[[str], None],
    known: tuple[str, ...] = (),
) -> int:
    """The id under which the ledger knows `public_key`; waits until it does. `known` are client addresses
    beside those of the founders. Raises `ConfigError`."""
    found = read_id(home)
    if found is not None:
        return found
    rounds = 0
    hints = known_addresses(home, known)
    async with open_client(network, Ed25519Signer(new_seed()), peers=hints) as client:
        client.timeout_s = SYNC_SECONDS
        while True:
            place, why = await _ask(client, public_key)
            if place is not None:
                _check_certificate(home, *place)
                _write(home, place[0])
                return place[0]
            if rounds % TELL_EVERY == 0:
                report(f"waiting to be added: {why}")
            rounds += 1
            await trio.sleep(ASK_SECONDS)


async def _ask(client: Client, public_key: bytes) -> tuple[tuple[int, bytes] | None, str]:
    """Our id and certificate (empty: not known) in the ledger; None: not known yet, and why."""
    why = ""
    try:
        await client.sync_epochs()
    except NotConnected as error:
        why = (
            f"who validates now is not known ({error}); if the founders have left, write the client"
            " address of a node that is there into config.toml, as 'known' under [peers]"
        )
    for member in client.epoch.members:
        if member.key == public_key:  # proved, whoever told
            places = {item.id: item.tls_certificate for item in client.reached}
            return (member.id, places.get(member.id, b"")), ""
    if why:  # those whom we take for present may be long gone, and f+1 of their keys stolen
        return None, why
    return await _ask_rows(client, public_key)


async def _ask_rows(client: Client, public_key: bytes) -> tuple[tuple[int, bytes] | None, str]:
    """The same before our first epoch, when only rows tell of us: f+1 validators must tell alike."""
    told: dict[int, tuple[int, bytes]] = {}

    async def ask(node: int) -> None:
        with suppress(LedgerError):
            for row in await client.validators(node):
                if any(span.key == public_key for span in row.keys):
                    told[node] = row.id, row.certificate
                    return  # one node, one word

    async with trio.open_nursery() as nursery:
        for node in client.nodes:
            nursery.start_soon(ask, node)
    words = list(told.values())
    for word in words:
        if words.count(word) >= client.weak_quorum:
            return word, ""
    return None, (
        f"an admin runs `kontor validator add --entry FILE` ({len(words)} of {client.weak_quorum} validators"
        " know this node's key)"
    )


def _check_certificate(home: Home, validator: int, certificate: bytes) -> None:
    if certificate and load_certificate(home.tls_certificate) != certificate:
        raise ConfigError(
            f"{home.tls_certificate} is not the certificate that the ledger has for validator {validator}:"
            " put it back, or have an admin run `kontor validator move`"
        )


def read_id(home: Home) -> int | None:
    """The id that the ledger gave to this home; None: none yet. Raises `StorageError`."""
    try:
        return int(home.validator_id.read_text("ascii"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StorageError(f"{home.validator_id} cannot be read: remove it, it is asked for again") from error


def _write(home: Home, validator: int) -> None:
    home.data.mkdir(parents=True, exist_ok=True)
    home.validator_id.write_text(f"{validator}\n", "ascii")
