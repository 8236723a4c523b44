"""The id of a node that was no founder: found by its consensus key, once, among what the network says.

`kontor init --join FILE --as-validator` makes a home without an id, since the ledger gives ids out. At
its start such a node asks validators' client ports until the ledger has its key, and keeps the
id beside its data once f+1 of them tell it alike: what is written is claimed for good, and a wrong id
would fail every later start.
"""

from collections.abc import Callable
from contextlib import suppress

import trio

from consensus.primitives.crypto import Ed25519Signer
from consensus.primitives.errors import ConfigError, InputError, LedgerError, StorageError
from node.client import Client, open_client
from node.config import Config, Home
from node.keys import load_certificate, new_seed
from node.network import Network
from node.views import ValidatorView

ASK_SECONDS = 1.0
SYNC_SECONDS = 10.0  # to hear of changes of validators
TELL_EVERY = 30  # rounds of questions between two reports that nothing changed


def own_id(home: Home, config: Config) -> int:
    """The id of a home that has one, whoever gave it. Raises `ConfigError` before the ledger did."""
    if not config.node.joins:
        return config.node.id
    known = _read(home)
    if known is None:
        raise ConfigError(f"{home.root} has no id yet: the ledger gives it, when an admin adds its entry")
    return known


async def find_id(home: Home, network: Network, public_key: bytes, report: Callable[[str], None]) -> int:
    """The id under which the ledger knows `public_key`; waits until it does. Raises `ConfigError`."""
    known = _read(home)
    if known is not None:
        return known
    rounds = 0
    async with open_client(network, Ed25519Signer(new_seed())) as client:
        client.timeout_s = SYNC_SECONDS
        while True:
            row = await _ask(client, public_key)
            if row is not None:
                _check_certificate(home, row)
                _write(home, row.id)
                return row.id
            if rounds % TELL_EVERY == 0:
                report("waiting to be added: an admin runs `kontor validator add --entry FILE`")
            rounds += 1
            await trio.sleep(ASK_SECONDS)


async def _ask(client: Client, public_key: bytes) -> ValidatorView | None:
    """Our row, as f+1 present validators tell it; None: not that many do yet."""
    told: list[tuple[int, bytes]] = []
    with suppress(LedgerError):  # unless we hear of a change, who was asked before is asked again
        await client.sync_epochs()
    for node in client.nodes:
        try:
            rows = await client.validators(node)
        except (LedgerError, InputError):
            continue
        for row in rows:
            if any(span.key == public_key for span in row.keys):
                told.append((row.id, row.certificate))
                if told.count(told[-1]) >= client.weak_quorum:
                    return row
                break  # one node, one word
    return None


def _check_certificate(home: Home, row: ValidatorView) -> None:
    if row.certificate and load_certificate(home.tls_certificate) != row.certificate:
        raise ConfigError(
            f"{home.tls_certificate} is not the certificate that the ledger has for validator {row.id}:"
            " put it back, or have an admin run `kontor validator move`"
        )


def _read(home: Home) -> int | None:
    try:
        return int(home.validator_id.read_text("ascii"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StorageError(f"{home.validator_id} cannot be read: remove it, it is asked for again") from error


def _write(home: Home, validator: int) -> None:
    home.data.mkdir(parents=True, exist_ok=True)
    home.validator_id.write_text(f"{validator}\n", "ascii")
