"""What a replica's parts share: its configuration, its marks, and how they emit, sign and blame."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from consensus.certificates import COMMIT, COMPLAIN, PREPARE, Authority, attest_kind, refusal_code
from consensus.durable import Divergence, VoteLog
from consensus.effects import Blame, Broadcast, Diverged, Effect, EpochStarted, Executed, Send
from consensus.messages import Attest, Commit, Complain, Message, Prepare, PreparedCert, PrePrepare
from consensus.primitives.crypto import Verifier
from consensus.primitives.errors import ConfigError, InvariantViolation, ProtocolError, ensure
from consensus.proofs import CheckpointCert, EpochProof, StateSummary
from consensus.quorum import ReplicaSet
from consensus.signing import SignatureRefused, VoteSigner


@dataclass(frozen=True)
class ReplicaConfig:
    """Limits and times. Every replica of a chain needs the same `window` and `checkpoint_interval`.

    window                   blocks that may be voted on above the stable checkpoint (L)
    checkpoint_interval      blocks between checkpoints (K); L >= 2K, or ordering waits for checkpoints
    block_orders_max/_bytes_max   what a fresh block may hold, unless it lists a single batch
    in_flight_max            blocks a primary proposes beyond the last one it delivered
    unexecuted_max           blocks a primary proposes beyond the last one it executed
    lag_max                  blocks a primary proposes beyond the last one that a quorum said it executed
    request_timeout_us       pending work and no progress for so long: complain about the primary
    patience_us              one batch pending for so long, whatever else progresses: complain
    view_timeout_us          wait for a new view once n−f view changes are held
    timeout_doublings_max    each view that brought nothing doubles all three, so often at most
    status_us/_max_us        first and longest pause between status messages while something is stuck
    fetch_us                 wait for a payload under way before it is fetched; a retry waits tenfold
    clock_tolerance_ms       how far a fresh block's time may be from this replica's clock
    batches_max              micro-batches of one origin held and not yet delivered
    stash_max                messages kept a peer for a later view or window
    catch_up_blocks          committed blocks fetched at once
    transfer_gap             blocks behind from which on the state is fetched instead of the blocks
    transfer_timeout_us      a peer that serves nothing of the state for so long is passed over
    transfer_chunks          chunks of the state asked of one peer and not here yet
    resume_after             the last height at which the chain was wedged and may go on; 0: none
    """

    window: int = 128
    checkpoint_interval: int = 32
    block_orders_max: int = 65_536
    block_bytes_max: int = 4 << 20
    in_flight_max: int = 4
    unexecuted_max: int = 16
    lag_max: int = 48
    request_timeout_us: int = 400_000
    patience_us: int = 5_000_000
    view_timeout_us: int = 500_000
    timeout_doublings_max: int = 6
    status_us: int = 200_000
    status_max_us: int = 4_000_000
    fetch_us: int = 20_000
    clock_tolerance_ms: int = 5_000
    batches_max: int = 65_536
    stash_max: int = 1024
    catch_up_blocks: int = 64
    transfer_gap: int = 2048
    transfer_timeout_us: int = 3_000_000
    transfer_chunks: int = 8
    resume_after: int = 0

    def __post_init__(self) -> None:
        if self.resume_after < 0:
            raise ConfigError(f"resume_after is {self.resume_after}; it is a height, or 0")
        fields = [name for name in self.__dataclass_fields__ if name != "resume_after"]
        low = [name for name in fields if getattr(self, name) < 1]
        if low:
            raise ConfigError(f"{low[0]} is {getattr(self, low[0])}; it must be at least 1")
        if self.window < 2 * self.checkpoint_interval:
            raise ConfigError(
                f"window {self.window} must be at least twice checkpoint_interval {self.checkpoint_interval}"
            )


class ReplicaState:
    """Marks and tools shared by the parts of one replica.

    replicas    the validators of the current epoch
    boundary    last block of this epoch, or block at which the chain stops; 0: none is in sight
    committed   highest seq handed to execution; all below are, too
    executed    highest seq whose result is known
    votes       everything durable: view, low water mark, votes (see `durable`)
    diverged    this replica's state differs from what f+1 others attest: it votes no more
    resigned    a view in which its signer let it propose no more; -1: none
    ingesting   it fetches its state from others, and neither votes nor delivers meanwhile
    target      the checkpoint whose state is being fetched; 0: none is
    installed   the checkpoint whose state was fetched last
    oldest      the first block that others can be served
    snapshot    the checkpoint whose state others can be served
    """

    def __init__(
        self,
        replica_id: int,
        genesis: ReplicaSet,
        signers: Sequence[VoteSigner],
        verifier: Verifier,
        config: ReplicaConfig,
        durable: Mapping[bytes, bytes],
    ) -> None:
        self.id = replica_id
        self.config = config
        self.now_us = 0
        self.committed = 0
        self.executed = 0
        self.progress_us = 0
        self.heard: dict[int, int] = {}  # the highest block that each other replica showed to have executed
        self.resigned = -1
        self.target = 0
        self.installed = 0
        self.oldest = 1
        self.snapshot: CheckpointCert | None = None
        self.window_moved = False
        self.boundary = 0
        self.counters: dict[str, int] = {}
        self.votes = VoteLog(self.emit, durable)
        self.diverged = self.votes.diverged is not None
        self.ingesting = self.votes.heals
        self.authority = Authority(genesis, verifier, config.window, config.checkpoint_interval)
        for proof in self.votes.epochs.values():
            self.authority.advance(ReplicaSet(genesis.chain_id, proof.epoch))
        self.replicas = self.authority.replicas
        self._signers = {signer.public_key: signer for signer in signers}
        self._effects: list[Effect] = []
        self._last_us: dict[tuple[str, int], int] = {}
        self._told_seq = 0
        if self.is_member and self._signer is None:
            raise ConfigError(
                f"no consensus key here is that of validator {replica_id} in epoch {self.replicas.epoch}:"
                f" {self.replicas.keys[replica_id].hex()}"
            )
        if self.votes.stable is not None:
            self.learn_boundary(self.votes.stable.seq, self.votes.stable.state)

    @property
    def view(self) -> int:
        """The view this replica is in, or is changing to."""
        return self.votes.view

    @property
    def active(self) -> bool:
        """Whether it votes in that view."""
        return self.votes.active

    @property
    def low(self) -> int:
        """Low water mark h; votes are for h < seq <= h + window."""
        return self.votes.low

    @property
    def is_silent(self) -> bool:
        """Whether it must not take part: its state is wrong, or not there yet."""
        return self.diverged or self.ingesting

    @property
    def quorum_height(self) -> int:
        """The highest block that q replicas, this one included, are known to have executed."""
        others = [self.heard.get(replica, 0) for replica in self.replicas.ids if replica != self.id]
        heights = sorted([self.executed, *others], reverse=True)
        return max(heights[self.replicas.quorum - 1], self.low)

    @property
    def is_held_back(self) -> bool:
        """Whether a primary waits, or just waited, for a quorum to execute what is committed: then it is
        not the one who is slow (`lag_max`). Liars alone cannot make it so, they are fewer than lag here."""
        return self.committed - self.quorum_height >= self.config.lag_max - self.config.in_flight_max

    @property
    def reach(self) -> int:
        """The block above which blocks are of use: where it stands, or will once its state is fetched."""
        return max(self.committed, self.target)

    @property
    def shown(self) -> int:
        """Where it tells others that it stands; one that is to be healed needs an older state, too."""
        return self.target if self.votes.heals else self.reach

    @property
    def primary(self) -> int:
        """The replica that proposes in this view."""
        return self.replicas.primary(self.votes.view)

    @property
    def is_primary(self) -> bool:
        return self.replicas.primary(self.votes.view) == self.id

    @property
    def leads(self) -> bool:
        """Whether proposals are this replica's to make, and it can make them."""
        view = self.votes.view
        return self.replicas.primary(view) == self.id and self.resigned != view

    # Epochs

    @property
    def is_member(self) -> bool:
        """Whether this replica is a validator now. If not, it follows and signs nothing."""
        return self.id in self.replicas

    def add_signer(self, signer: VoteSigner) -> None:
        """One more key of this replica."""
        self._signers[signer.public_key] = signer

    @property
    def _signer(self) -> VoteSigner | None:
        return self._signers.get(self.replicas.keys.get(self.id, b""))

    @property
    def may_vote(self) -> bool:
        """Whether this replica's word counts now, and it has one to give."""
        return not self.diverged and not self.ingesting and self._signer is not None

    @property
    def ceiling(self) -> int:
        """The highest block that may be voted on: inside the window, and not above the boundary.

        Whoever may vote above a boundary holds a stable checkpoint that tells of it: a change is
        scheduled a whole window ahead.
        """
        ceiling = self.low + self.config.window
        return min(ceiling, self.boundary) if self.boundary else ceiling

    @property
    def is_changing(self) -> bool:
        """Whether a boundary has yet to be reached, or what follows it to be learnt."""
        stable = self.votes.stable
        awaits_epoch = stable is not None and stable.state.epoch != self.replicas.record.digest
        is_due = self.low < self.boundary and self.is_hastened(min(self.committed + 1, self.boundary))
        return is_due or awaits_epoch

    @property
    def is_wedged(self) -> bool:
        """Whether the chain stands at a block that only an operator's `resume_after` leads beyond."""
        return 0 < self.boundary == self.low and not self.is_changing

    def is_hastened(self, seq: int) -> bool:
        """Whether the block at `seq` may be empty, since it leads to a boundary.

        A change of validators is never further ahead than this; a wedge may be, and then waits for the
        chain to come near by itself.
        """
        return seq <= self.boundary < seq + self.config.window + self.config.checkpoint_interval

    def learn_boundary(self, seq: int, summary: StateSummary) -> None:
        """What the state at checkpoint `seq` says of this epoch's end, by our own result or a certificate.

        A boundary that is reached with the validators unchanged is a wedge: nothing follows it until the
        operator names it, or a later one, in `resume_after`.
        """
        if seq < max(self._told_seq, self.replicas.record.first_seq - 1):
            return
        boundary = summary.boundary
        if summary.epoch != self.replicas.record.digest:
            boundary = seq
        elif (
            boundary < max(seq, self.replicas.record.first_seq) or boundary == seq <= self.config.resume_after
        ):
            boundary = 0
        self._set_boundary(seq, boundary)

    def learn_scheduled(self, seq: int, boundary: int) -> None:
        """What our own state says after block `seq`, before a checkpoint says it to others."""
        if seq > self._told_seq and boundary > seq:
            self._set_boundary(seq, boundary)

    def _set_boundary(self, seq: int, boundary: int) -> None:
        self._told_seq = seq
        if boundary != self.boundary:
            self.boundary = boundary
            self.authority.end_at(boundary)
            self.window_moved = True

    def start_epoch(self, proof: EpochProof) -> None:
        """The boundary is stable and the next epoch known: from now on that one counts."""
        self.votes.start_epoch(proof)
        self.replicas = ReplicaSet(self.replicas.chain_id, proof.epoch)
        self.authority.advance(self.replicas)
        self.boundary, self._told_seq = 0, proof.cert.seq
        self.window_moved = True
        self.count("epochs")
        self.emit(EpochStarted(proof.epoch))

    # Effects

    def emit(self, effect: Effect) -> None:
        """Add an effect to this step's."""
        self._effects.append(effect)

    def take_effects(self) -> list[Effect]:
        """Return this step's effects and start the next."""
        effects, self._effects = self._effects, []
        return effects

    def broadcast(self, message: Message) -> None:
        """Send to every other replica."""
        self._effects.append(Broadcast(message))

    def send(self, to: int, message: Message) -> None:
        """Send to one replica."""
        self._effects.append(Send(to, message))

    def count(self, name: str, amount: int = 1) -> None:
        """Note that an interesting path was taken."""
        self.counters[name] = self.counters.get(name, 0) + amount

    def blame(self, replica: int, error: ProtocolError) -> None:
        """Report who sent something that breaks a rule."""
        self.emit(Blame(replica, refusal_code(error)))
        self.count("refused")

    def blame_equivocation(self, replica: int, first: Message, second: Message) -> None:
        """Report two signed messages of one replica that contradict each other."""
        self.emit(Blame(replica, "equivocation", (first, second)))
        self.count("equivocations")

    def may(self, action: str, replica: int, interval_us: int) -> bool:
        """Whether `action` towards `replica` is due again; if so, the next is `interval_us` away."""
        last = self._last_us.get((action, replica))
        if last is not None and last <= self.now_us < last + interval_us:
            return False
        self._last_us[action, replica] = self.now_us
        return True

    # Signatures: nothing is signed that the vote log does not hold

    def sign(self, kind: str, view: int, seq: int, body: bytes) -> bytes:
        """Sign as this replica. Raises `InvariantViolation` if the signer knows better."""
        try:
            return self.ask_signer(kind, view, seq, body)
        except SignatureRefused as error:
            raise InvariantViolation(
                f"{error}; what is on this disk is older than what was signed"
            ) from error

    def ask_signer(self, kind: str, view: int, seq: int, body: bytes) -> bytes:
        """Sign what the signer may rightly refuse. Raises `SignatureRefused`: then withhold it.

        The signer's record may be ahead of the vote log by one turn that a crash cut off. What that turn
        decided alone may come out otherwise now: which proposal came first, what to propose. Damage that
        state transfer healed may lead to another result.
        """
        signer = self._signer
        ensure(not self.diverged, "a diverged replica signs nothing")
        ensure(not self.ingesting, "a replica that fetches its state signs nothing")
        if signer is None:
            raise InvariantViolation(f"{self.id} is no validator of epoch {self.replicas.epoch}")
        message = self.authority.message(kind, view, seq, body)
        try:
            return signer.sign_vote(kind, self.replicas.epoch, view, seq, body, message)
        except SignatureRefused:
            self.count("refused_signatures")
            raise

    def sign_prepare(self, proposal: PrePrepare) -> Prepare:
        """This replica's vote for an accepted proposal. Raises `SignatureRefused`."""
        view, seq, digest = proposal.view, proposal.block.seq, proposal.block.digest
        ensure(
            seq <= self.ceiling, f"prepare of block {seq}: {self.ceiling} is the last that may be voted on"
        )
        accepted = self.votes.accepted.get(seq)
        is_accepted = accepted is not None and accepted.view == view and accepted.block.digest == digest
        ensure(is_accepted, f"prepare of block {seq} before it was accepted")
        return Prepare(view, seq, digest, self.id, self.ask_signer(PREPARE, view, seq, digest))

    def sign_commit(self, cert: PreparedCert) -> Commit:
        """This replica's vote for a block whose prepared certificate it holds."""
        view, seq, digest = cert.proposal.view, cert.proposal.block.seq, cert.proposal.block.digest
        ensure(
            self.active and view == self.view, f"commit of block {seq} in view {view}: left or not entered"
        )
        ensure(self.votes.prepared.get(seq) == cert, f"commit of block {seq} before its certificate was kept")
        return Commit(view, seq, digest, self.id, self.sign(COMMIT, view, seq, digest))

    def sign_attest(self, result: Executed) -> Attest:
        """This replica's word for a result above the low water mark. Raises `SignatureRefused`."""
        ensure(result.seq > self.low, f"no attestation of block {result.seq}: {self.low} is stable")
        ensure(
            result.seq > self.votes.attested,
            f"no attestation of block {result.seq}: another may have been attested before it was healed",
        )
        unsigned = Attest(result.seq, result.block_digest, result.journal_root, result.state, self.id, b"")
        signature = self.ask_signer(attest_kind(result.state), 0, result.seq, unsigned.result_digest)
        return replace(unsigned, signature=signature)

    def sign_complain(self) -> Complain:
        """This replica's wish to leave the current view."""
        return Complain(self.view, self.id, self.sign(COMPLAIN, self.view, 0, b""))

    def diverge(self, found: Diverged) -> None:
        """f+1 others came to another result: one of them is honest, so this state is wrong."""
        if not self.diverged:
            self.diverged = True
            self.count("diverged")
            self.votes.diverge(Divergence(found.seq, found.ours, found.theirs, self.executed))
            self.emit(found)
