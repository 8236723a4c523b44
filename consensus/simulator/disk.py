"""One replica's durable state, what a crash leaves of a commit under way, and what a bad disk does to it.

A commit is atomic, as LMDB's is: its records count once the last of them is whole, so that one torn by a
crash is as if it never was. What was not committed (pool, timers, inbox, memory of the replica) is
gone. Every record has a checksum, kept apart from it: one that was corrupted, or never written
because the write went astray, is noticed when it is read, and never taken for what it was.
"""

from collections.abc import Sequence
from random import Random
from typing import Any

from consensus.effects import Effect, Erase, ForgetBatches, Persist, StoreBatches, StoreBlock, SwapState
from consensus.messages import CommitCert
from consensus.primitives.errors import StorageError, ensure
from consensus.proofs import CheckpointCert
from consensus.simulator.options import DiskOptions
from consensus.simulator.snapshot import Snapshot

VOTE_LOG_MAX = 4096  # keys; a replica that never erases runs into it

Record = tuple[str, bytes | int]
DURABLE = (Persist, Erase, StoreBatches, StoreBlock, SwapState, ForgetBatches)


class DiskCorrupted(StorageError):
    """A record does not match its checksum: the node stops and says so."""


class Disk:
    """The vote log `votes`, committed `blocks` by seq, and micro-batch `batches` by digest.

    `faults` None is a disk that never errs. Readers that stand for the node use `read_*`, which detect;
    the fields show what was written, for those who watch from outside. Blocks below `oldest` are gone:
    `snapshot` stands for them. `staged` chunks and the state `ready` to be swapped in belong to a transfer.
    """

    def __init__(self, rng: Random, faults: DiskOptions | None = None) -> None:
        self.faults = faults
        self.counters: dict[str, int] = {}
        self._rng = rng
        self.wipe()

    def wipe(self) -> None:
        """Replace it by an empty one."""
        self.votes: dict[bytes, bytes] = {}
        self.blocks: dict[int, CommitCert] = {}
        self.listed: set[bytes] = set()  # batches that stand in a stored block; looked up, never iterated
        self.batches: dict[bytes, bytes] = {}
        self._rotten: dict[Record, Any] = {}  # what really is where the record should be
        self._journal: tuple[list[Effect], dict[bytes, bytes], list[bool]] | None = None
        self.oldest = 1
        self.snapshot: tuple[CheckpointCert, Snapshot] | None = None
        self.ready: tuple[CheckpointCert, Snapshot] | None = None
        self.staged: dict[bytes, bytes] = {}
        self._committed = 0

    @property
    def committed(self) -> int:
        """Highest seq up to which every block is stored."""
        seq = self._committed
        while seq + 1 in self.blocks:
            seq += 1
        self._committed = seq
        return seq

    # Writing

    def apply(self, effects: Sequence[Effect], pool: dict[bytes, bytes]) -> None:
        """Carry out one turn's durable effects; payloads to store are taken from `pool`."""
        for effect in effects:
            match effect:
                case Persist(key, value):
                    former = self.votes.get(key)
                    self.votes[key] = value
                    self._written(("vote", key), former)
                case Erase(key):
                    self.votes.pop(key, None)
                    self._rotten.pop(("vote", key), None)
                case StoreBatches(digests):
                    for name in digests:
                        if name not in self.batches:
                            ensure(name in pool, f"batch {name.hex()[:8]} is to be stored but not held")
                            self.batches[name] = pool[name]
                            self._written(("batch", name), None)
                case StoreBlock(cert):
                    former_cert = self.blocks.get(cert.block.seq)
                    self.blocks[cert.block.seq] = cert
                    self.listed.update(cert.block.batches)
                    self._written(("block", cert.block.seq), former_cert)
                case SwapState(seq, base):
                    self._swap(seq, base)
                case ForgetBatches(digests):
                    for name in digests:
                        self.listed.add(name)  # kept, and no longer announced after a restart
        ensure(
            len(self.votes) <= VOTE_LOG_MAX, f"{len(self.votes)} keys in the vote log; at most {VOTE_LOG_MAX}"
        )

    def _swap(self, seq: int, base: int) -> None:
        """The state that was made ready is this node's; blocks up to `base` may be missing from now on."""
        ensure(self.ready is not None and self.ready[1].height == seq, f"no state at {seq} is ready")
        self.snapshot, self.ready, self.staged = self.ready, None, {}
        if base:
            self._committed = max(self._committed, base)
            self.prune(base)

    def prune(self, last: int) -> None:
        """Drop all blocks up to `last`; a snapshot covers them."""
        self.oldest = max(self.oldest, last + 1)
        for seq in [seq for seq in self.blocks if seq <= last]:
            del self.blocks[seq]
            self._rotten.pop(("block", seq), None)

    def _written(self, record: Record, former: object) -> None:
        """A record went to disk, or somewhere else: then `former` is still there."""
        if self._rotten:
            self._rotten.pop(record, None)
        faults = self.faults
        if faults is None:
            return
        if faults.write_fault_rate and self._rng.random() < faults.write_fault_rate:
            self._rot(record, None, "corrupt_writes")
        if faults.misdirect_rate and self._rng.random() < faults.misdirect_rate:
            self._rot(record, former, "misdirected_writes")
            self._rot(self._any_record(), None, "misdirected_onto")

    def _any_record(self) -> Record:
        records: list[Record] = [("vote", key) for key in self.votes]
        records += [("block", seq) for seq in self.blocks]
        records += [("batch", name) for name in self.batches]
        return self._rng.choice(records)

    def _rot(self, record: Record, content: object, why: str) -> None:
        self._rotten[record] = content
        self._note(why)

    # Crashes

    def tear(self, effects: Sequence[Effect], pool: dict[bytes, bytes], torn_rate: float) -> None:
        """Power fails while `effects` are being written: each write may be whole or torn."""
        durable: list[Effect] = [effect for effect in effects if isinstance(effect, DURABLE)]
        whole = [self._rng.random() >= torn_rate for _ in durable]
        self._journal = (durable, dict(pool), whole)

    def recover(self) -> Sequence[Effect]:
        """At start: take the last commit if it is whole, and else drop it entirely. Return what was taken."""
        if self._journal is None:
            return ()
        effects, pool, whole = self._journal
        self._journal = None
        if all(whole):
            self._note("commits_completed")
            self.apply(effects, pool)
            return effects
        self._note("torn_commits_dropped")
        return ()

    # Reading

    def read_votes(self) -> dict[bytes, bytes]:
        """The whole vote log, checked."""
        votes = {}
        for key, value in self.votes.items():
            self._check(("vote", key))
            content = self._rotten.get(("vote", key), value)
            if content is not None:
                votes[key] = content
        return votes

    def read_block(self, seq: int) -> CommitCert:
        """The committed block `seq`, checked."""
        self._check(("block", seq))
        return self.blocks[seq]

    def read_batch(self, name: bytes) -> bytes | None:
        """The payload `name`, checked; None if it is not stored."""
        if name in self.batches:
            self._check(("batch", name))
        return self.batches.get(name)

    def _check(self, record: Record) -> None:
        faults = self.faults
        if self._rotten and record in self._rotten:
            self._note("corrupt_reads_detected")
            raise DiskCorrupted(f"{record[0]} record {record[1]!r} does not match its checksum")
        if faults is not None and faults.read_fault_rate and self._rng.random() < faults.read_fault_rate:
            self._note("read_errors_detected")
            raise DiskCorrupted(f"{record[0]} record {record[1]!r} was misread")

    def _note(self, what: str) -> None:
        name = f"disk.{what}"
        self.counters[name] = self.counters.get(name, 0) + 1
