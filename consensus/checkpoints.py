"""Execution attestations, stable checkpoints, and noticing that our own state is wrong (§4.3 of the paper).

Every executed block is attested; at multiples of the checkpoint interval the attestation carries
the state root, and q equal ones make the checkpoint stable. A certificate proves itself, so the low
water mark follows the highest one known, from whomever it came (else those few who hold it would
refuse votes the others still need). `Stable`, on which a node prunes, waits until this replica has
executed that far itself.
"""

from collections.abc import Sequence
from contextlib import suppress

from consensus.certificates import CHECKPOINT, check_attest, check_checkpoint
from consensus.effects import Diverged, Executed, Stable
from consensus.log import Tally
from consensus.messages import Attest
from consensus.primitives.errors import ensure
from consensus.proofs import CheckpointCert, compute_result_digest
from consensus.signing import SignatureRefused
from consensus.state import ReplicaState

CERTIFICATES_MAX = 16  # a snapshot is taken of a checkpoint that became stable just now


class Checkpoints:
    """Results of blocks above the low water mark, ours and others'.

    own     our attestations by seq, above the low water mark, executed in this life or replayed
    unsaid  digests of results we came to and may not attest, since we once attested others
    heard   how far each other replica showed to be
    certificates   of the newest stable checkpoints, by seq
    """

    def __init__(self, state: ReplicaState) -> None:
        self.own: dict[int, Attest] = {}
        self.unsaid: dict[int, bytes] = {}
        self.latest: Attest | None = None
        self.heard = state.heard
        self._state = state
        self.certificates: dict[int, CheckpointCert] = {}
        self._tallies: dict[int, Tally] = {}
        self._announced = 0
        if state.votes.stable is not None:
            self.certificates[state.low] = state.votes.stable
        for attest in state.votes.checkpoints.values():
            if attest.seq <= state.executed:
                self._keep_own(attest)

    def restore(self, replayed: Sequence[Executed]) -> None:
        """After a restart: attest again what the node replayed, and what was attested of checkpoints."""
        stable = self._state.votes.stable
        for result in replayed:
            self._learn_boundary(result)
            if stable is not None and result.seq == stable.seq:
                self._compare_with_stable(stable, result)
            if self._may_attest(result.seq):
                self._attest(result)
        if self._state.is_silent:
            return
        for attest in [self.own[seq] for seq in sorted(self.own) if self._is_checkpoint(seq)]:
            # Signed again, so that the signer's record holds all that is sent.
            self._state.sign(CHECKPOINT, 0, attest.seq, attest.result_digest)
            self._state.broadcast(attest)
        if self.latest and not self._is_checkpoint(self.latest.seq):
            self._state.broadcast(self.latest)
        for seq in sorted([*self.own, *self.unsaid]):
            self._judge(seq)
        self._announce_stable()

    def on_executed(self, result: Executed) -> None:
        """A block ran here: say what came out."""
        state = self._state
        ensure(
            result.seq == state.executed + 1, f"block {result.seq} ran after {state.executed}, out of turn"
        )
        ensure(result.seq <= state.committed, f"block {result.seq} ran but is not committed")
        ensure(
            (result.state is not None) == self._is_checkpoint(result.seq),
            f"block {result.seq} came {'with' if result.state else 'without'} a state summary",
        )
        state.executed = result.seq
        self._learn_boundary(result)
        stable = state.votes.stable
        if stable is not None and result.seq == stable.seq:
            self._compare_with_stable(stable, result)
        if self._may_attest(result.seq):
            attest = self._attest(result)
            if attest is not None:
                state.broadcast(attest)
            self._judge(result.seq)
        self._announce_stable()

    def foresee(self, result: Executed) -> None:
        """Sign what `on_executed` is about to say of a result, for the signer to write down meanwhile.

        The signature is thrown away: only the step that it belongs to may send it.
        """
        state = self._state
        if self._may_attest(result.seq) and result.seq > max(state.executed, state.votes.attested):
            with suppress(SignatureRefused):  # the step is refused, too, and knows what that means
                state.sign_attest(result)

    def _learn_boundary(self, result: Executed) -> None:
        if result.state:
            self._state.learn_boundary(result.seq, result.state)
        else:
            self._state.learn_scheduled(result.seq, result.boundary)

    def _may_attest(self, seq: int) -> bool:
        state = self._state
        return seq > state.low and state.may_vote

    def install(self, cert: CheckpointCert) -> None:
        """The state at `cert` was fetched from others: what was computed here before counts no more."""
        self.own.clear()
        self.unsaid.clear()
        self.latest = None
        self.adopt(cert)
        self._announce_stable()

    def on_attest(self, m: Attest) -> None:
        """Another replica's result."""
        state = self._state
        if m.replica == state.id or (m.seq <= state.low and m.seq <= self.heard.get(m.replica, 0)):
            return
        tally = self._tallies.get(m.seq)
        if tally is not None and tally.digest_of(m.replica) == m.result_digest:
            return
        check_attest(state.authority, m)
        self.heard[m.replica] = max(self.heard.get(m.replica, 0), m.seq)
        if not state.low < m.seq <= state.low + state.config.window:
            return
        before = tally.message_of(m.replica) if tally else None
        if before is not None:
            state.blame_equivocation(m.replica, before, m)
            return
        self._tally(m)
        self._judge(m.seq)

    def on_checkpoint_cert(self, cert: CheckpointCert) -> None:
        """A stable checkpoint that proves itself."""
        if cert.seq > self._state.low:
            check_checkpoint(self._state.authority, cert)
            self.adopt(cert)

    def adopt(self, cert: CheckpointCert) -> None:
        """Raise the low water mark to a valid certificate's."""
        state = self._state
        if cert.seq <= state.low:
            return
        ours = self._result_of(cert.seq)
        if ours is not None and ours != cert.result_digest:
            our_state = self.own[cert.seq].state if cert.seq in self.own else None
            state.diverge(Diverged(cert.seq, ours, cert.result_digest, our_state, cert.state))
        state.votes.stabilise(cert)
        self.certificates[cert.seq] = cert
        if len(self.certificates) > CERTIFICATES_MAX:
            del self.certificates[min(self.certificates)]
        state.learn_boundary(cert.seq, cert.state)
        for vote in cert.votes:
            self.heard[vote.replica] = max(self.heard.get(vote.replica, 0), cert.seq)
        state.window_moved = True
        state.count("checkpoints")
        self.own = {seq: attest for seq, attest in self.own.items() if seq > cert.seq}
        self.unsaid = {seq: result for seq, result in self.unsaid.items() if seq > cert.seq}
        self._tallies = {seq: tally for seq, tally in self._tallies.items() if seq > cert.seq}
        self._announce_stable()

    def _attest(self, result: Executed) -> Attest | None:
        """Sign what came out; None where another result may have been signed before a damage, or a repair."""
        try:
            if result.seq > self._state.votes.attested:
                return self._keep_attest(self._state.sign_attest(result))
        except SignatureRefused:
            pass
        state_digest = result.state.digest if result.state else b""
        self.unsaid[result.seq] = compute_result_digest(
            result.block_digest, result.journal_root, state_digest
        )
        return None

    def _keep_attest(self, attest: Attest) -> Attest:
        if attest.state:
            self._state.votes.attest(attest)
        self._keep_own(attest)
        return attest

    def _result_of(self, seq: int) -> bytes | None:
        """What we came to at `seq`, said or not."""
        own = self.own.get(seq)
        return own.result_digest if own is not None else self.unsaid.get(seq)

    def _keep_own(self, attest: Attest) -> None:
        self.own[attest.seq] = attest
        if self.latest is None or attest.seq > self.latest.seq:
            self.latest = attest
        self._tally(attest)

    def _tally(self, m: Attest) -> None:
        tally = self._tallies.get(m.seq)
        if tally is None:
            tally = self._tallies[m.seq] = Tally()
        tally.add(m.replica, m.result_digest, m.signature, m)

    def _judge(self, seq: int) -> None:
        """Look whether others agree among themselves: against us, or enough for a stable checkpoint."""
        state, tally, ours = self._state, self._tallies.get(seq), self._result_of(seq)
        if tally is None:
            return
        if ours is not None:
            other = tally.find(state.replicas.weak_quorum, ours)
            if other is not None:
                theirs = tally.message_of(tally.votes(other, 1)[0].replica)
                our_state = self.own[seq].state if seq in self.own else None
                their_state = theirs.state if isinstance(theirs, Attest) else None
                state.diverge(Diverged(seq, ours, other, our_state, their_state))
        if self._is_checkpoint(seq):
            agreed = tally.find(state.replicas.quorum)
            if agreed is not None:
                self.adopt(self._certificate(tally, agreed))

    def _certificate(self, tally: Tally, agreed: bytes) -> CheckpointCert:
        votes = tally.votes(agreed, self._state.replicas.quorum)
        m = tally.message_of(votes[0].replica)
        if not isinstance(m, Attest) or m.state is None:
            raise TypeError("attestations are tallied as they came")
        return CheckpointCert(m.seq, m.block_digest, m.journal_root, m.state, votes)

    def _compare_with_stable(self, stable: CheckpointCert, result: Executed) -> None:
        summary = result.state.digest if result.state else b""
        ours = compute_result_digest(result.block_digest, result.journal_root, summary)
        if ours != stable.result_digest:
            self._state.diverge(Diverged(result.seq, ours, stable.result_digest, result.state, stable.state))

    def _announce_stable(self) -> None:
        state = self._state
        if self._announced < state.low <= state.executed and not state.is_silent:
            self._announced = state.low
            state.emit(Stable(state.low))

    def _is_checkpoint(self, seq: int) -> bool:
        return seq % self._state.config.checkpoint_interval == 0
