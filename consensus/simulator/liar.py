"""The mouth of a Byzantine replica.

It holds its own key only; it may sign anything with it, send different things to different peers,
repeat what it saw, and claim votes of others it cannot sign. What its core does to itself is its own
affair: an exception inside merely silences it.
"""

from dataclasses import dataclass, replace
from random import Random

from consensus.messages import (
    Attest,
    Commit,
    Complain,
    Message,
    NewView,
    Prepare,
    PrePrepare,
    ViewChange,
)
from consensus.primitives.crypto import Signer
from consensus.proofs import signing_digest
from consensus.quorum import ReplicaSet, epoch_of
from consensus.simulator.node import SimNode
from consensus.simulator.site import SendMessage


@dataclass(frozen=True)
class Identity:
    """Who lies, from where, and with what."""

    id: int
    address: int
    replicas: ReplicaSet
    signer: Signer
    rng: Random
    send: SendMessage


class Liar:
    """The outgoing side of a Byzantine replica: by default, it passes everything on unchanged."""

    def __init__(self, identity: Identity) -> None:
        self.id = identity.id
        self.replicas = identity.replicas
        self.rng = identity.rng
        self._identity = identity

    def send(self, source: int, to: int, message: Message) -> None:
        """The core wants `message` sent to `to`."""
        self.put(to, message)

    def heard(self, message: Message) -> None:
        """The core is about to receive `message`."""

    def put(self, to: int, message: Message) -> None:
        """Really send."""
        self._identity.send(self._identity.address, to, message)

    def sign(self, kind: str, view: int, seq: int, body: bytes) -> bytes:
        """Sign a vote with the replica's own key."""
        return self._identity.signer.sign(
            signing_digest(self.replicas.chain_id, epoch_of(view), kind, view, seq, body)
        )

    def resign(self, message: Message) -> Message:
        """Give a bent message a valid signature, if it is one that this replica signs."""
        match message:
            case PrePrepare(view, block, _) if self.replicas.primary(view) == self.id:
                return replace(message, signature=self.sign("pre-prepare", view, block.seq, block.digest))
            case Prepare(view, seq, name, replica, _) if replica == self.id:
                return replace(message, signature=self.sign("prepare", view, seq, name))
            case Commit(view, seq, name, replica, _) if replica == self.id:
                return replace(message, signature=self.sign("commit", view, seq, name))
            case Attest() if message.replica == self.id:
                kind = "checkpoint" if message.state else "attest"
                return replace(message, signature=self.sign(kind, 0, message.seq, message.result_digest))
            case Complain(view, replica, _) if replica == self.id:
                return replace(message, signature=self.sign("complain", view, 0, b""))
            case ViewChange() if message.replica == self.id:
                return replace(
                    message, signature=self.sign("view-change", message.view, 0, message.body_digest)
                )
            case NewView() if message.replica == self.id:
                return replace(message, signature=self.sign("new-view", message.view, 0, message.body_digest))
            case _:
                return message


class ByzantineNode(SimNode):
    """A node with a lying mouth. Its own mistakes only silence it."""

    liar: Liar

    def receive(self, sender: int, message: Message) -> None:
        self.liar.heard(message)
        super().receive(sender, message)

    def _run_turn(self, incarnation: int) -> None:
        try:
            super()._run_turn(incarnation)
        except Exception:
            self._note("byzantine_core_failed")
            self.crash()

    def _execute(self, incarnation: int) -> None:
        try:
            super()._execute(incarnation)
        except Exception:
            self._note("byzantine_core_failed")
            self.crash()
