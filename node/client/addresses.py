"""Where validators are reached that the network file does not name, or no longer rightly.

The ledger says so in its table of validators. Any change of a row there begins an epoch, so a checkpoint that
names the newest epoch known, signed by a quorum, proves its members' addresses and certificates: whoever
hands it over need not be trusted, and one node suffices.
"""

import numpy as np
from cryptography import x509

from consensus.light import VALIDATORS, LightClient, Unproven, check_page
from consensus.primitives.errors import ConfigError
from consensus.primitives.trees import PAGE_SIZE
from consensus.proofs import Member
from engine.layout import VALIDATOR
from node.client.link import Link
from node.client.nodes import Nodes
from node.network import Validator, parse_address
from node.receipts import RECEIPTS
from node.services import ValidatorsAnswer

_PAGE_ROWS = PAGE_SIZE // VALIDATOR.itemsize


class Addresses:
    """Asks once an epoch, until one node has proved them."""

    def __init__(self, nodes: Nodes, light: LightClient) -> None:
        self._nodes = nodes
        self._light = light
        self._settled = nodes.network.replicas.epoch  # epoch whose members' addresses are known

    @property
    def is_settled(self) -> bool:
        """Whether nothing is to be asked."""
        return self._settled == self._light.epoch.number

    async def hear(self, link: Link) -> None:
        """Let one node prove where the members are, unless its snapshot is of another epoch. Raises
        `ProtocolError` for what is no proof."""
        if self.is_settled:
            return
        answer = RECEIPTS.from_fields(ValidatorsAnswer, await link.call("validators_proof", []))
        epoch = self._light.epoch
        if answer.cert.state.epoch != epoch.digest:
            return
        rows = self._read(answer)
        for member in epoch.members:
            found = _read_one(member, rows[member.id], self._nodes.network.validators)
            if found is not None:
                self._nodes.admit(found)
        self._settled = epoch.number

    def _read(self, answer: ValidatorsAnswer) -> dict[int, np.void]:
        """The rows of the newest epoch's members, by id."""
        members = [member.id for member in self._light.epoch.members]
        if len(answer.pages) > len(members):
            raise Unproven("oversized", f"{len(answer.pages)} pages tell of {len(members)} validators")
        self._light.verify_present(answer.cert)
        pages: dict[int, np.ndarray] = {}
        for proof in answer.pages:
            if (proof.name, proof.row_size) != (VALIDATORS, VALIDATOR.itemsize):
                raise Unproven("page", f"{proof.name} are no validators")
            pages[proof.page] = np.frombuffer(check_page(answer.cert, proof), dtype=VALIDATOR)
        for member in members:
            if member // _PAGE_ROWS not in pages:
                raise Unproven("page", f"no page tells of validator {member}")
        return {member: pages[member // _PAGE_ROWS][member % _PAGE_ROWS] for member in members}


def _read_one(member: Member, row: np.void, founders: tuple[Validator, ...]) -> Validator | None:
    """None: the ledger holds what this version cannot read, which is nobody's lie."""
    certificate = row["certificate"].tobytes()[: int(row["certificate_bytes"])]
    if not certificate and member.id < len(founders):
        return founders[member.id]
    try:
        x509.load_der_x509_certificate(certificate)
        peer, client = (
            parse_address(row[name].tobytes().rstrip(b"\0").decode("ascii"), name)
            for name in ("peer_address", "client_address")
        )
    except (ValueError, ConfigError):
        return None
    return Validator(member.id, member.key, certificate, peer, client)
