"""Votes as the node sees them: a verifier that remembers, and attestations gathered into proofs."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from consensus.certificates import Authority, attest_kind, list_signatures
from consensus.messages import Attest, Block, Message
from consensus.primitives.crypto import Verifier, digest
from consensus.primitives.errors import ProtocolError, SignatureError
from consensus.proofs import StateSummary
from engine.journal import BlockResult
from node.remembered import Remembered
from node.services import ProvenBlock

REMEMBERED_MAX = 16_384
UNPROVEN_MAX = 4096  # executed blocks that still lack attestations
UNPROVEN_BYTES_MAX = 64 << 20  # their journals; the oldest go unproven, but never the newest
AHEAD_MAX = 1024  # blocks above the last executed one whose attestations are kept


class RememberingVerifier:
    """Checks a signature once: certificates repeat votes that came before, and worker threads may
    have checked one already. Only valid signatures are remembered, the newest `REMEMBERED_MAX`."""

    def __init__(self, inner: Verifier) -> None:
        self._inner = inner
        self._valid = Remembered(REMEMBERED_MAX)
        self.checked = 0  # signatures computed, not remembered

    @property
    def size_bytes(self) -> int:
        """Memory taken."""
        return self._valid.size_bytes

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> None:
        """Raise `SignatureError` unless the signature is valid. Safe in any thread."""
        name = digest("kontor/remembered-signature", public_key, message, signature)
        if name in self._valid:
            return
        self.checked += 1
        self._inner.verify(public_key, message, signature)
        self._valid.add(name)


def check_ahead(authority: Authority, verifier: Verifier, messages: Iterable[Message]) -> None:
    """In a worker thread: check every signature inside `messages`, so that a verifier that remembers need
    not compute them in the loop. Bad ones are left for the protocol to refuse."""
    for message in messages:
        for place in list_signatures(authority, message):
            with suppress(SignatureError):
                verifier.verify(*place)


@dataclass
class _Waiting:
    """Attestations for one height; `ours` once we executed it."""

    ours: ProvenBlock | None = None
    state_digest: bytes = b""
    votes: dict[int, Attest] = field(default_factory=dict)


class ProofCollector:
    """Gathers f+1 equal attestations for each executed block and reports it once.

    Others may be faster than we are, so attestations of the next `AHEAD_MAX` blocks wait for our own
    result; one that differs from it is left to the protocol, which sees it too. Only the age of a block
    ends the wait for its proof: nothing that a peer sends takes its place.
    """

    def __init__(self, authority: Authority, on_proven: Callable[[ProvenBlock], None]) -> None:
        self._authority = authority
        self._on_proven = on_proven
        self._waiting: dict[int, _Waiting] = {}
        self._journals: dict[int, int] = {}  # bytes of our unproven results, in order of execution
        self._journal_bytes = 0
        self.proven = 0  # highest proven height
        self._executed = 0

    @property
    def size_bytes(self) -> int:
        """Journals that wait for attestations."""
        return self._journal_bytes

    def start_above(self, height: int) -> None:
        """Blocks up to `height` were executed before this process started, or by others."""
        self._executed = height
        for seq in [seq for seq in self._waiting if seq <= height]:
            self._forget(seq)

    def on_executed(self, block: Block, result: BlockResult, state: StateSummary | None) -> None:
        """We executed a block; `state` is None unless it is a checkpoint."""
        self._executed = block.seq
        self._forget(block.seq - UNPROVEN_MAX)
        self._make_room(block.seq, result.journal.nbytes)
        waiting = self._waiting.setdefault(block.seq, _Waiting())
        waiting.ours = ProvenBlock(block.seq, block.digest, result.previous_root, result, ())
        waiting.state_digest = state.digest if state else b""
        waiting.votes = {
            replica: attest for replica, attest in waiting.votes.items() if _is_equal(attest, waiting)
        }
        self._settle(block.seq, waiting)

    def on_attest(self, sender: int, attest: Attest) -> None:
        """An attestation of ours or of a peer; its signature is checked only if it is needed.

        Replicas speak for themselves: a forged one must not take the place of another's.
        """
        if attest.replica != sender:
            return
        if attest.seq not in self._waiting and attest.seq <= self._executed:
            return  # proven already, or from before our time
        if attest.seq > self._executed + AHEAD_MAX or not self._authority.has_known(attest.replica):
            return
        waiting = self._waiting.setdefault(attest.seq, _Waiting())
        if waiting.ours is not None and not _is_equal(attest, waiting):
            return
        waiting.votes.setdefault(attest.replica, attest)
        self._settle(attest.seq, waiting)

    def _settle(self, height: int, waiting: _Waiting) -> None:
        ours = waiting.ours
        if ours is None:
            return
        needed = self._authority.of_seq(height).weak_quorum
        if len(waiting.votes) < needed:
            return
        attests: list[Attest] = []
        for replica, attest in sorted(waiting.votes.items()):
            if self._is_signed(attest):
                attests.append(attest)
            else:
                del waiting.votes[replica]  # the true one may still come
        if len(attests) >= needed:
            self._forget(height)
            self.proven = max(self.proven, height)
            proof = tuple(attests[:needed])
            self._on_proven(ProvenBlock(height, ours.block_digest, ours.previous_root, ours.result, proof))

    def _make_room(self, height: int, journal_bytes: int) -> None:
        while self._journals and self._journal_bytes + journal_bytes > UNPROVEN_BYTES_MAX:
            self._forget(next(iter(self._journals)))
        self._journals[height] = journal_bytes
        self._journal_bytes += journal_bytes

    def _forget(self, height: int) -> None:
        self._waiting.pop(height, None)
        self._journal_bytes -= self._journals.pop(height, 0)

    def _is_signed(self, attest: Attest) -> bool:
        try:
            kind = attest_kind(attest.state)
            self._authority.check(attest.replica, kind, 0, attest.seq, attest.result_digest, attest.signature)
        except ProtocolError:
            return False
        return True


def _is_equal(attest: Attest, waiting: _Waiting) -> bool:
    """Whether an attestation names what we computed ourselves."""
    ours = waiting.ours
    return ours is not None and (
        (attest.block_digest, attest.journal_root, attest.state_digest)
        == (ours.block_digest, ours.result.journal_root, waiting.state_digest)
    )
