"""The id of a node that was no founder: found by its consensus key, once, among what the network says.

`kontor init --join FILE --as-validator` makes a home without an id, since the ledger gives ids out. At
its start such a node asks the founders' client ports until the ledger has its key, and keeps
the id beside its data. A lie about it costs time only: the node signs nothing unless the epochs
that it verifies by itself name its key under that id.
"""

from collections.abc import Callable

import trio

from consensus.primitives.crypto import Ed25519Signer
from consensus.primitives.errors import ConfigError, InputError, LedgerError, StorageError
from node.client import open_client
from node.config import Config, Home
from node.keys import load_certificate, new_seed
from node.network import Network
from node.views import ValidatorView

ASK_SECONDS = 1.0
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
        client.timeout_s = ASK_SECONDS
        while True:
            try:
                for row in await client.validators():
                    if any(span.key == public_key for span in row.keys):
                        _check_certificate(home, row)
                        _write(home, row.id)
                        return row.id
            except ConfigError:
                raise
            except (LedgerError, InputError):
                pass  # asked again below, of others, too
            if rounds % TELL_EVERY == 0:
                report("waiting to be added: an admin runs `kontor validator add --entry FILE`")
            rounds += 1
            await trio.sleep(ASK_SECONDS)


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
