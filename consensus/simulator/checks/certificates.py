"""Certificates and signatures, counted independently of the code that makes and checks them."""

from collections.abc import Sequence

from consensus.messages import CommitCert, PreparedCert
from consensus.primitives.crypto import Verifier
from consensus.primitives.errors import SignatureError
from consensus.proofs import CheckpointCert, Vote, signing_digest
from consensus.simulator.checks.states import States
from consensus.simulator.checks.violations import fail
from consensus.simulator.node import SimNode


class Certificates:
    """Each has a quorum of genuine votes of its epoch's validators."""

    def __init__(self, states: States, verifier: Verifier) -> None:
        self._states = states
        self._verifier = verifier
        self._prepared: dict[tuple[int, int], bytes] = {}
        self._genuine: dict[int, object] = {}

    def check_commit(self, node: SimNode, cert: CommitCert) -> None:
        """A quorum committed this block in one view."""
        if self._is_known(cert):
            return
        block = cert.block
        self._check_votes(node, cert.commits, 0, "commit", cert.view, block.seq, block.digest)

    def check_checkpoint(self, node: SimNode, cert: CheckpointCert | None) -> None:
        """A quorum came to this result."""
        if cert is None or self._is_known(cert):
            return
        self._check_votes(node, cert.votes, 0, "checkpoint", 0, cert.seq, cert.result_digest)

    def check_prepared(self, node: SimNode, cert: PreparedCert) -> None:
        """A primary proposed this block, and enough backups prepared it."""
        if self._is_known(cert):
            return
        view, block = cert.proposal.view, cert.proposal.block
        primary = self._states.voters(node, "prepare", view, block.seq).primary(view)
        self.verify(node, primary, cert.proposal.signature, "pre-prepare", view, block.seq, block.digest)
        backups = tuple(vote for vote in cert.prepares if vote.replica != primary)
        self._check_votes(node, backups, 1, "prepare", view, block.seq, block.digest)
        self.check_rivals(node, view, block.seq, block.digest)

    def check_rivals(self, node: SimNode, view: int, seq: int, name: bytes) -> None:
        """No two blocks are prepared at one place in one view."""
        if self._prepared.setdefault((view, seq), name) != name:
            fail(node, f"two blocks are prepared at (view {view}, seq {seq})")

    def _check_votes(
        self, node: SimNode, votes: Sequence[Vote], fewer: int, kind: str, view: int, seq: int, body: bytes
    ) -> None:
        """A quorum's votes, or `fewer` of them."""
        n = self._states.voters(node, kind, view, seq).n
        quorum = -(-(n + (n - 1) // 3 + 1) // 2)  # ⌈(n+f+1)/2⌉, counted on its own
        if len({vote.replica for vote in votes}) < quorum - fewer:
            fail(node, f"{kind} certificate at (view {view}, seq {seq}) has too few votes")
        for vote in votes:
            self.verify(node, vote.replica, vote.signature, kind, view, seq, body)

    def verify(
        self, node: SimNode, signer: int, signature: bytes, kind: str, view: int, seq: int, body: bytes
    ) -> None:
        """A validator of that place signed just this."""
        voters = self._states.voters(node, kind, view, seq)
        message = signing_digest(voters.chain_id, voters.epoch, kind, view, seq, body)
        if signer not in voters:
            fail(node, f"has a {kind} at (view {view}, seq {seq}) by {signer}, no validator there")
        try:
            self._verifier.verify(voters.keys[signer], message, signature)
        except SignatureError:
            fail(node, f"sends a {kind} of {signer} at (view {view}, seq {seq}) that {signer} never signed")

    def _is_known(self, cert: object) -> bool:
        """Whether this very object passed before; keeps it alive, so that its identity stays its own."""
        if self._genuine.get(id(cert)) is cert:
            return True
        self._genuine[id(cert)] = cert
        return False
