"""Fetching a state instead of the blocks that led to it: for a replica that is empty, far behind, or wrong.

The target is a stable checkpoint: its certificate proves what the state must be, so one honest peer
suffices, and it matters not which. A manifest, checked against the certificate, names every chunk by
digest; chunks come from all peers that serve the target, and each is checked on its own. Whoever
sends a wrong one is not asked again. When peers let go of the target, a newer one takes its place,
and chunks that are equal in both need not come again. A target of fewer than f+1 servers, who may all
lie, gives way to one of f+1. A server is too slow if it brings less than a request in a time-out.

Meanwhile the replica signs nothing and delivers nothing. It keeps commit certificates of blocks above
the target, so that it can go on by blocks once the state is there.
"""

from dataclasses import dataclass
from itertools import islice

from consensus.batches import Batches
from consensus.catch_up import Peer
from consensus.certificates import check_checkpoint
from consensus.checkpoints import Checkpoints
from consensus.effects import (
    Blame,
    CheckManifest,
    ChunkRefused,
    ChunkStaged,
    ForgetBatches,
    InstallState,
    ManifestChecked,
    ManifestRefused,
    SendChunks,
    SendManifest,
    SetTimer,
    SnapshotTaken,
    StageChunk,
    StateInstalled,
    SwapState,
)
from consensus.messages import Chunk, FetchChunks, FetchManifest, Manifest
from consensus.ordering import Ordering
from consensus.primitives.errors import ensure
from consensus.proofs import CheckpointCert
from consensus.state import ReplicaState
from consensus.transfer_target import Server, Target

TRANSFER = "transfer"

CHUNKS_PER_REQUEST = 4
OFFERS_MAX = 8  # certificates of checkpoints whose state somebody may serve
CHUNKS_MAX = 1 << 24
TICKS = 4  # looks at the clock within one time-out


@dataclass(frozen=True)
class Progress:
    """How far a transfer is. `chunks` is 0 until the manifest is here; `seq` until there is a target."""

    seq: int
    chunks: int
    staged: int


class StateTransfer:
    """Both sides: the replica that fetches a state, and the one that serves it."""

    def __init__(
        self,
        state: ReplicaState,
        batches: Batches,
        ordering: Ordering,
        checkpoints: Checkpoints,
        peers: dict[int, Peer],
    ) -> None:
        self._state = state
        self._batches = batches
        self._ordering = ordering
        self._checkpoints = checkpoints
        self._peers = peers
        self._offers: dict[int, CheckpointCert] = {}
        self._banned: dict[int, None] = {}
        self._target: Target | None = None
        self._next_server = state.id
        self._ticking = False

    @property
    def progress(self) -> Progress | None:
        """How far the transfer is; None if there is none."""
        target = self._target
        if not self._state.ingesting:
            return None
        if target is None:
            return Progress(0, 0, 0)
        return Progress(target.seq, target.chunks, target.staged)

    def expects(self, sender: int, m: Manifest | Chunk) -> bool:
        """Whether this replica asked `sender` for that: anything else need not even be looked at."""
        target = self._target
        if target is None or m.seq != target.seq:
            return False
        if isinstance(m, Manifest):
            return target.manifest_from == sender and not target.manifest_checking
        server = target.servers.get(sender)
        return server is not None and (m.index in server.asked or m.index in server.owed)

    # Serving

    def on_snapshot_taken(self, event: SnapshotTaken) -> None:
        """The node can serve a newer state."""
        self._state.snapshot = event.cert

    def offer(self, peer: int, committed: int) -> None:
        """A peer shows where it stands: if our snapshot lies above, prove it."""
        snapshot = self._state.snapshot
        if snapshot is not None and committed < snapshot.seq:
            self._state.send(peer, snapshot)

    def on_fetch_manifest(self, sender: int, m: FetchManifest) -> None:
        """Serve the description of a state; the node says so if it does not hold it."""
        if self._state.may("manifest", sender, self._state.config.status_us):
            self._state.emit(SendManifest(sender, m.seq))

    def on_fetch_chunks(self, sender: int, m: FetchChunks) -> None:
        """Serve chunks; the node bounds how fast."""
        self._state.emit(SendChunks(sender, m.seq, m.indexes))

    # Starting

    def note(self, cert: CheckpointCert) -> None:
        """Somebody shows a stable checkpoint: its state may be worth fetching.

        To be healed, an older one will do, if every block above it is stored here.
        """
        state = self._state
        is_useful = cert.seq > state.committed or (state.votes.heals and cert.seq >= state.oldest - 1)
        if not is_useful or cert.seq in self._offers:
            return
        if cert != state.votes.stable:
            check_checkpoint(state.authority, cert)
        self._offers[cert.seq] = cert
        while len(self._offers) > OFFERS_MAX:
            offered = [peer.state for peer in self._peers.values()]
            useless = [seq for seq in self._offers if seq not in offered]
            del self._offers[min(useless or self._offers)]

    def consider(self) -> None:
        """After news from peers: begin if blocks will not do; aim at what they serve, or ask one more."""
        state = self._state
        if state.diverged:
            return
        if self._target is not None:
            self._add_servers(self._target)
        elif state.ingesting:
            self._choose(self._floor())
            if self._target is None and not state.votes.heals and not self._is_due():
                self._stop()
        elif self._peers and self._is_due():
            gap = 0 if self._are_blocks_gone() else state.config.transfer_gap // 2
            self._choose(state.committed + gap)

    def _floor(self) -> int:
        """Only to be healed does a replica take a state that is no newer than its own."""
        return 0 if self._state.votes.heals else self._state.committed

    def _stop(self) -> None:
        """Nobody serves a newer state, and blocks will do: our own is sound, so go on with it."""
        self._state.ingesting = False
        self._banned.clear()
        self._state.count("transfers_stopped")

    def _add_servers(self, target: Target) -> None:
        for peer, seen in self._peers.items():
            if seen.state == target.seq and peer not in target.servers and peer not in self._banned:
                target.servers[peer] = Server(since_us=self._state.now_us)

    def _is_due(self) -> bool:
        """Whether f+1 others are far ahead, or can no longer hand us the next block."""
        far = self._state.committed + self._state.config.transfer_gap
        ahead = [peer for peer in self._validators() if peer.committed > far]
        return len(ahead) >= self._state.replicas.weak_quorum or self._are_blocks_gone()

    def _validators(self) -> list[Peer]:
        """Those peers of whom f at most lie."""
        keys = self._state.replicas.keys
        return [peer for replica, peer in self._peers.items() if replica in keys]

    def _are_blocks_gone(self) -> bool:
        needed = self._state.committed + 1
        gone = [peer for peer in self._validators() if peer.oldest > needed]
        return len(gone) >= self._state.replicas.weak_quorum

    def _choose(self, above: int) -> None:
        """Aim at the newest certified checkpoint above `above` that f+1 peers serve, else at the newest."""
        found = self._find_offered(above)
        if found:
            seq = max(self._served_by_many(found) or found)
            self._aim(self._offers[seq], found[seq])

    def _find_offered(self, above: int) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for peer, seen in self._peers.items():
            if seen.state in self._offers and seen.state > above and peer not in self._banned:
                found.setdefault(seen.state, []).append(peer)
        return found

    def _served_by_many(self, found: dict[int, list[int]]) -> list[int]:
        """Those states that f+1 serve: not all of them lie, or are slow on purpose."""
        return [seq for seq, peers in found.items() if len(peers) >= self._state.replicas.weak_quorum]

    def _move_to_many(self, target: Target) -> bool:
        """Whether the transfer moved from a target of few servers to one of many."""
        if len(target.servers) >= self._state.replicas.weak_quorum:
            return False
        found = self._find_offered(self._floor())
        found.pop(target.seq, None)
        many = self._served_by_many(found)
        if many:
            self._aim(self._offers[max(many)], found[max(many)])
        return bool(many)

    def _aim(self, cert: CheckpointCert, peers: list[int]) -> None:
        state = self._state
        if not state.ingesting:
            state.ingesting = True
            state.count("transfers")
        state.target = cert.seq
        state.count("transfer_targets")
        self._ordering.drop_certified(cert.seq)
        self._target = Target(cert, {peer: Server(since_us=state.now_us) for peer in peers})
        self.settle()

    # The tick

    def start(self) -> None:
        """After a restart: a replica that is to be healed waits for offers."""
        if self._state.ingesting:
            self._state.count("transfers")
            self._tick()

    def _tick(self) -> None:
        if not self._ticking:
            self._ticking = True
            self._state.emit(SetTimer(TRANSFER, max(1, self._state.config.transfer_timeout_us // TICKS)))

    def on_timer(self) -> None:
        """Pass over peers that were asked and brought next to nothing for a whole time-out."""
        self._ticking = False
        target, now_us, timeout = self._target, self._state.now_us, self._state.config.transfer_timeout_us
        if target is None:
            self.consider()
            return
        asked = None if target.manifest_checking else target.manifest_from
        if asked is not None and now_us - target.manifest_us >= timeout:
            self._rest(target, asked)
            target.manifest_from = None
        for peer, server in target.servers.items():
            if server.asked and now_us - server.since_us >= timeout:
                self._rest(target, peer)

    def _rest(self, target: Target, peer: int) -> None:
        """Silence is no crime: what it was asked for is asked of others, and it is asked again later."""
        server, config = target.servers[peer], self._state.config
        target.take_back(server)
        server.brought = 0
        server.rests_until_us = self._state.now_us + TICKS * config.transfer_timeout_us
        self._state.count("transfer_silences")

    # Requests

    def settle(self) -> None:
        """After every step of a transfer: ask for what is missing, install what is complete."""
        self._tick()
        if self._target is None:
            self.consider()
        target = self._target
        if target is None or target.installing or self._state.diverged:
            return
        if not target.servers or self._is_deserted(target):
            self._give_up_target()
        elif target.chunks > 0 and target.staged == target.chunks:
            target.installing = True
            self._state.emit(InstallState(target.cert))
        elif self._move_to_many(target):
            return
        elif target.chunks == 0:
            self._ask_manifest(target)
        else:
            self._ask_chunks(target)

    def _is_deserted(self, target: Target) -> bool:
        """Whether all who serve it are silent, and others offer another state: the silent may be dead."""
        now_us = self._state.now_us
        if any(server.rests_until_us <= now_us for server in target.servers.values()):
            return False
        return any(
            seen.state in self._offers and peer not in target.servers and peer not in self._banned
            for peer, seen in self._peers.items()
        )

    def _give_up_target(self) -> None:
        """Nobody serves it any more: aim at what is offered now; what is staged and equal stays."""
        self._target = None
        self._state.count("transfer_targets_lost")
        if all(peer in self._banned for peer in self._peers):
            # More liars than can be: something is wrong here instead. Ask everybody anew.
            self._banned.clear()
        self._offers.pop(self._state.target, None)
        self._state.target = 0
        self.consider()

    def _ask_manifest(self, target: Target) -> None:
        if target.manifest_from is not None:
            return
        peers = target.awake(self._state.now_us)
        peer = next((peer for peer in peers if peer > self._next_server), peers[0])
        self._next_server = target.manifest_from = peer
        target.manifest_us = self._state.now_us
        self._state.send(peer, FetchManifest(target.seq))

    def _ask_chunks(self, target: Target) -> None:
        """Keep a few chunks on the way from each peer; at the end, do not wait for the slowest."""
        for peer in target.awake(self._state.now_us):
            server = target.servers[peer]
            while target.missing and self._has_room(server):
                self._ask(target, peer, list(islice(target.missing, CHUNKS_PER_REQUEST)))
            if not target.missing and not server.asked:
                late_us = self._state.now_us - self._state.config.transfer_timeout_us // TICKS
                self._ask(target, peer, target.find_late(server, late_us)[:CHUNKS_PER_REQUEST])

    def _has_room(self, server: Server) -> bool:
        chunks = len(server.asked)
        return chunks == 0 or chunks + CHUNKS_PER_REQUEST <= self._state.config.transfer_chunks

    def _ask(self, target: Target, peer: int, indexes: list[int]) -> None:
        state, server = self._state, target.servers[peer]
        for index in indexes:
            target.claim(index)
        if not indexes:
            return
        if not server.asked:
            server.since_us, server.brought = state.now_us, 0
        server.asked.update(dict.fromkeys(indexes))
        state.send(peer, FetchChunks(target.seq, tuple(indexes)))
        state.count("chunk_fetches", len(indexes))

    # Answers

    def on_manifest(self, sender: int, m: Manifest) -> None:
        """The description of the target's state."""
        target = self._target
        if target is None or not self.expects(sender, m):
            return
        if not m.data:
            target.manifest_from = None
            self._drop_server(target, sender)
            return
        target.manifest_checking = True
        self._state.emit(CheckManifest(sender, target.cert, m.data))

    def on_chunk(self, sender: int, m: Chunk) -> None:
        """A chunk that `sender` was asked for."""
        target = self._target
        if target is None or not self.expects(sender, m):
            return
        if not m.data:
            self._drop_server(target, sender)
            return
        server = target.servers[sender]
        server.brought += 1
        if server.brought >= CHUNKS_PER_REQUEST:
            server.since_us, server.brought = self._state.now_us, 0
            server.rests_until_us = 0
        server.owed.pop(m.index, None)
        if target.claim(m.index):
            target.checking[m.index] = sender
            self._state.emit(StageChunk(sender, target.seq, m.index, m.data))

    def _drop_server(self, target: Target, peer: int) -> None:
        """It does not serve the target, or not any more."""
        known = self._peers.get(peer)
        if known is not None and known.state == target.seq:
            known.state = 0  # until it says what it does serve
        target.drop(peer)

    # What the node found

    def on_manifest_checked(self, event: ManifestChecked) -> None:
        """The manifest is true; now its chunks are known."""
        target = self._target
        if target is None or event.seq != target.seq or not target.manifest_checking:
            return
        ensure(0 < event.chunks <= CHUNKS_MAX, f"a manifest of {event.chunks} chunks was accepted")
        target.manifest_from, target.manifest_checking = None, False
        target.chunks = event.chunks
        target.missing = dict.fromkeys(range(event.chunks))
        for index in event.have:
            target.missing.pop(index, None)
        self._state.count("chunks_kept", len(event.have))

    def on_manifest_refused(self, event: ManifestRefused) -> None:
        """The manifest is not that of the certificate."""
        target = self._target
        if target is None or event.seq != target.seq or not target.manifest_checking:
            return
        target.manifest_from, target.manifest_checking = None, False
        self._ban(target, event.sender, "bad-manifest")

    def on_chunk_staged(self, event: ChunkStaged) -> None:
        """A chunk is here to stay."""
        target = self._target
        if target is None or event.seq != target.seq:
            return
        if target.checking.pop(event.index, None) is not None:
            self._state.count("chunks_staged")

    def on_chunk_refused(self, event: ChunkRefused) -> None:
        """A chunk is not what the manifest says."""
        target = self._target
        if target is None or event.seq != target.seq:
            return
        if target.checking.pop(event.index, None) is not None:
            target.missing[event.index] = None
            self._ban(target, event.sender, "bad-chunk")

    def _ban(self, target: Target, peer: int, reason: str) -> None:
        """Never ask it again in this transfer; in the protocol it is heard as before."""
        if peer in self._banned:
            return
        self._state.emit(Blame(peer, reason))
        self._state.count("transfer_bans")
        self._banned[peer] = None
        self._drop_server(target, peer)

    # The end

    def on_installed(self, event: StateInstalled) -> None:
        """The state is there: go on from it."""
        state, target = self._state, self._target
        ensure(
            target is not None and target.installing and target.seq == event.seq,
            f"the state at {event.seq} is installed, and was not asked for",
        )
        if target is None:
            return
        cert = target.cert
        base = cert.seq if cert.seq > state.committed else 0
        state.committed = max(state.committed, cert.seq)
        state.executed = state.installed = cert.seq
        state.oldest = base + 1 if base else state.oldest
        state.snapshot = cert
        state.progress_us = state.now_us
        state.ingesting, state.target = False, 0
        self._target = None
        self._banned.clear()
        self._offers.clear()
        state.emit(SwapState(cert.seq, base))
        state.votes.finish_heal()
        self._checkpoints.install(cert)
        forgotten = self._ordering.install()
        if forgotten:
            state.emit(ForgetBatches(forgotten))
        state.count("states_installed")
