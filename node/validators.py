"""Validators as of one state: who votes or will, how each is reached, and every key that ever voted.

The network file names the founders; everything since stands in the ledger. A founder that never moved
is reached as the file says. An address or certificate that this version cannot read makes its validator
unreachable for this node, and stops nothing else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from cryptography import x509

from consensus.primitives.errors import ConfigError
from consensus.proofs import Epoch
from engine.layout import NONE, ValidatorStatus
from engine.machine import Machine
from node.network import Address, Network, parse_address
from node.views import ValidatorView, view_validators


@dataclass(frozen=True)
class Endpoint:
    """How a validator is reached, and by what it is recognised."""

    certificate: bytes  # X.509, DER
    peer: Address
    client: Address


@dataclass(frozen=True)
class KeySpan:
    """A key that signs for a validator in epochs `first`..`last`; NONE: no end is known."""

    key: bytes
    first: int
    last: int


@dataclass(frozen=True)
class Validators:
    """What a node takes from the ledger about validators. `endpoints` are of those that vote, of those
    that will, and until the next checkpoint of those that just left."""

    height: int
    epoch: Epoch
    endpoints: Mapping[int, Endpoint]
    unreachable: Mapping[int, str]  # why, of those whose entry cannot be read
    spans: Mapping[int, tuple[KeySpan, ...]]

    def key_of(self, validator: int, epoch: int) -> bytes | None:
        """The key of `validator` in an epoch up to this one, or None: it did not vote then."""
        if epoch > self.epoch.number:
            return None
        for span in self.spans.get(validator, ()):
            if span.first <= epoch and (span.last == NONE or epoch <= span.last):
                return span.key
        return None


def read_validators(machine: Machine, network: Network) -> Validators:
    """The validators in a machine's state. The caller keeps blocks from being applied meanwhile."""
    endpoints: dict[int, Endpoint] = {}
    unreachable: dict[int, str] = {}
    spans: dict[int, tuple[KeySpan, ...]] = {}
    epoch, is_fresh = machine.epoch(), _is_fresh(machine)
    for row in view_validators(machine):
        spans[row.id] = tuple(
            KeySpan(item.key, item.first_epoch, NONE if item.last_epoch is None else item.last_epoch)
            for item in row.keys
        )
        just_left = is_fresh and row.last_epoch == epoch.number - 1
        if row.status != ValidatorStatus.REMOVED or just_left:
            try:
                endpoints[row.id] = _endpoint(row, network)
            except (ConfigError, ValueError) as error:
                unreachable[row.id] = str(error)
    return Validators(machine.height, epoch, endpoints, unreachable, spans)


def _is_fresh(machine: Machine) -> bool:
    """Until its epoch's first checkpoint. Whoever was removed has to hear from the others that it was."""
    return machine.height < machine.state.count["epoch_first"] + machine.genesis.checkpoint_interval - 1


def _endpoint(row: ValidatorView, network: Network) -> Endpoint:
    """Raises `ConfigError` or `ValueError` where an entry cannot be read."""
    if not row.certificate and row.id < len(network.validators):
        founder = network.validators[row.id]
        return Endpoint(founder.tls_certificate, founder.peer_address, founder.client_address)
    x509.load_der_x509_certificate(row.certificate)
    return Endpoint(row.certificate, parse_address(row.peer, "peer"), parse_address(row.client, "client"))


Mark = tuple[int, int, bool]


class Membership:
    """The newest validators that this node knows of. Whoever needs them looks here each time."""

    def __init__(self, machine: Machine, network: Network) -> None:
        self._network = network
        self._mark = _mark(machine)
        self._introduced: tuple[int, Mapping[int, Endpoint]] = (0, {})  # members of an epoch, and where
        self._told = self.current = read_validators(machine, network)  # by the state
        self.callbacks: list[Callable[[Validators], None]] = []

    def read(self, machine: Machine) -> tuple[Mark, Validators] | None:
        """In a worker thread, while no block is being applied: what is new, or None."""
        mark = _mark(machine)
        return None if mark == self._mark else (mark, read_validators(machine, self._network))

    def update(self, news: tuple[Mark, Validators] | None) -> None:
        """Take what `read` found, and tell everybody who asked for it."""
        if news is not None:
            self._mark, self._told = news
            self._tell()

    def introduce(self, epoch: Epoch, places: Mapping[int, Endpoint]) -> bool:
        """It is proved that these are reached there in an epoch that the state does not know yet; return
        whether that is news. Until the state knows it, they are peers like those it names."""
        is_older = epoch.number <= self._told.epoch.number or epoch.number < self._introduced[0]
        if is_older or self._introduced == (epoch.number, places):
            return False
        self._introduced = epoch.number, places
        self._tell()
        return True

    def _tell(self) -> None:
        number, places = self._introduced
        self.current = self._told
        if number > self._told.epoch.number:
            self.current = replace(self._told, endpoints={**self._told.endpoints, **places})
        for callback in self.callbacks:
            callback(self.current)


def _mark(machine: Machine) -> Mark:
    """Changes whenever members, keys or endpoints do: each change has a block and, later, an epoch."""
    state = machine.state
    return state.count["epoch"], state.change.columns["height"].item(0), _is_fresh(machine)
