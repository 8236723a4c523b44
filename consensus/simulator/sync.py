"""State transfer as a node does it: takes snapshots, serves them, checks and stages those of others."""

from typing import TYPE_CHECKING

from consensus.durable import STABLE
from consensus.effects import (
    CheckManifest,
    ChunkRefused,
    ChunkStaged,
    Executed,
    InstallState,
    ManifestChecked,
    ManifestRefused,
    SendChunks,
    SendManifest,
    SnapshotTaken,
    StageChunk,
    StateInstalled,
)
from consensus.messages import CODEC, Chunk, Manifest
from consensus.primitives.crypto import digest
from consensus.primitives.errors import ensure
from consensus.proofs import CheckpointCert
from consensus.simulator.snapshot import Library, Snapshot

if TYPE_CHECKING:
    from consensus.simulator.node import SimNode

SNAPSHOT_EVERY = 2  # checkpoints; the same heights everywhere, so that peers hold the same state
TAKEN_MAX = 8


class StateSync:
    """What one node holds of states: `taken` wait for their certificate; staged chunks are on the disk."""

    def __init__(self, node: "SimNode", library: Library, interval: int) -> None:
        self._node = node
        self._library = library
        self._every = SNAPSHOT_EVERY * interval
        self._taken: dict[int, Snapshot] = {}
        self._meant: Snapshot | None = None

    # Taking

    def on_executed(self, result: Executed) -> None:
        """After a block: keep the state, if it is one that is served."""
        if result.seq % self._every == 0:
            self._taken[result.seq] = self._library.keep(self._node.app.take(result))
            if len(self._taken) > TAKEN_MAX:
                del self._taken[min(self._taken)]

    def on_stable(self, seq: int) -> None:
        """A checkpoint is stable: its state can be proven, so it can be served."""
        snapshot = self._taken.get(seq)
        if snapshot is None:
            return
        cert = CODEC.decode(self._node.disk.votes[STABLE])
        if not isinstance(cert, CheckpointCert) or cert.seq != seq:
            return
        self._node.disk.snapshot = (cert, snapshot)
        self._taken = {height: taken for height, taken in self._taken.items() if height > seq}
        self._node.tell(SnapshotTaken(cert))

    # Serving

    def send_manifest(self, effect: SendManifest) -> None:
        """Answer with the manifest, or an empty one."""
        snapshot = self._held(effect.seq)
        self._node.send(effect.to, Manifest(effect.seq, snapshot.manifest if snapshot else b""))

    def send_chunks(self, effect: SendChunks) -> None:
        """Answer with the chunks, or empty ones."""
        snapshot = self._held(effect.seq)
        for index in effect.indexes:
            known = snapshot is not None and index < len(snapshot.chunks)
            data = snapshot.chunks[index] if snapshot and known else b""
            self._node.send(effect.to, Chunk(effect.seq, index, data))

    def _held(self, seq: int) -> Snapshot | None:
        held = self._node.disk.snapshot
        return held[1] if held and held[1].height == seq else None

    # Fetching

    def check_manifest(self, effect: CheckManifest) -> None:
        """Compare a manifest with what its certificate attests."""
        snapshot, seq = self._library.find(effect.cert), effect.cert.seq
        if snapshot is None or snapshot.manifest != effect.data:
            self._node.tell(ManifestRefused(effect.sender, seq))
            return
        self._meant = snapshot
        staged = self._node.disk.staged
        have = tuple(index for index, name in enumerate(snapshot.digests) if name in staged)
        self._node.tell(ManifestChecked(effect.sender, seq, len(snapshot.chunks), have))

    def stage(self, effect: StageChunk) -> None:
        """Keep a chunk that is what the manifest says."""
        meant, name = self._meant, digest("kontor.sim-chunk", effect.data)
        fits = meant is not None and meant.height == effect.seq and effect.index < len(meant.digests)
        if meant is None or not fits or meant.digests[effect.index] != name:
            self._node.tell(ChunkRefused(effect.sender, effect.seq, effect.index))
            return
        self._node.disk.staged[name] = effect.data
        self._node.tell(ChunkStaged(effect.sender, effect.seq, effect.index))

    def install(self, effect: InstallState) -> None:
        """Every chunk is there: make the state ready to run."""
        snapshot = self._library.find(effect.cert)
        staged = self._node.disk.staged
        ensure(snapshot is not None, f"a state at {effect.cert.seq} is installed that nobody came to")
        if snapshot is None:
            return
        missing = sum(name not in staged for name in snapshot.digests)
        ensure(missing == 0, f"a state at {effect.cert.seq} is installed without {missing} of its chunks")
        self._node.disk.ready = (effect.cert, snapshot)
        self._node.tell(StateInstalled(snapshot.height, snapshot.epoch))
