"""Where validators are reached that the network file does not name, or no longer rightly.

The ledger says so, and a view is one node's word: only what f+1 present validators tell alike is
believed, and only of those whom a proved epoch names, under the key that it names. Otherwise one liar
could pass for several nodes.
"""

from typing import Any

from cryptography import x509

from consensus.light import LightClient
from consensus.primitives.errors import ConfigError, ProtocolError
from node.client.link import Link
from node.client.nodes import Nodes
from node.network import Validator, parse_address
from node.views import VIEWS, ValidatorView

ROWS_MAX = 4096  # validators that one node may tell of


class Addresses:
    """Asks once an epoch, until enough have answered."""

    def __init__(self, nodes: Nodes, light: LightClient) -> None:
        self._nodes = nodes
        self._light = light
        self._settled = nodes.network.replicas.epoch  # epoch whose members' addresses are known
        self._told_in = self._settled
        self._told: dict[int, dict[int, Validator]] = {}  # by whom: of whom

    @property
    def is_settled(self) -> bool:
        """Whether nothing is to be asked."""
        return self._settled == self._light.epoch.number

    async def hear(self, link: Link) -> None:
        """Let one node tell. Raises `ProtocolError` for what is no list of validators."""
        epoch = self._light.epoch
        members = {member.id: member.key for member in epoch.members}
        if self.is_settled or link.node_id not in members:
            return
        if self._told_in != epoch.number:
            self._told_in = epoch.number
            self._told.clear()
        if link.node_id not in self._told:
            raw = await link.call("validators", [])
            if self._told_in == self._light.epoch.number == epoch.number:
                self._told[link.node_id] = self._read(raw, members)
        self._settle(list(members))

    def _settle(self, members: list[int]) -> None:
        """Take what f+1 tell alike."""
        agreed = 0
        for member in members:
            told = [rows[member] for rows in self._told.values() if member in rows]
            best = max(told, key=told.count, default=None)
            if best is not None and told.count(best) >= self._light.replicas.weak_quorum:
                self._nodes.admit(best)
                agreed += 1
        if agreed == len(members):
            self._settled = self._told_in
            self._told.clear()

    def _read(self, raw: Any, members: dict[int, bytes]) -> dict[int, Validator]:
        if type(raw) is not list or len(raw) > ROWS_MAX:
            raise ProtocolError(f"validators are a list of at most {ROWS_MAX}")
        rows = [VIEWS.from_fields(ValidatorView, fields) for fields in raw]
        found: dict[int, Validator] = {}
        for row in rows:
            key = members.get(row.id)
            if key is not None and any(span.key == key for span in row.keys):
                found[row.id] = self._read_one(row, key)
        return found

    def _read_one(self, row: ValidatorView, key: bytes) -> Validator:
        founders = self._nodes.network.validators
        if not row.certificate and row.id < len(founders):
            return founders[row.id]
        try:
            x509.load_der_x509_certificate(row.certificate)
            peer, client = parse_address(row.peer, "peer"), parse_address(row.client, "client")
        except (ValueError, ConfigError) as error:
            raise ProtocolError(f"validator {row.id} cannot be reached as told: {error}") from error
        return Validator(row.id, key, row.certificate, peer, client)
