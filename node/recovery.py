"""From what is on disk to a running state: newest snapshot, then the blocks committed after it."""

import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from consensus.durable import HEAL
from consensus.effects import BatchReady, Executed
from consensus.primitives.errors import ProtocolError, StorageError
from engine.batch import decode_batch
from engine.genesis import Genesis
from engine.machine import Machine
from node.executor import ExecutedBlock, apply_block
from node.history import History
from node.ledger import Ledger
from node.network import Rules
from node.records import history_block
from node.signatures import count_operations
from node.snapshots import Snapshots

REPORT_BLOCKS = 1000  # replayed blocks between two reports
REPLAY = "stop the node, remove that directory and start again; the state is replayed from the ledger"
HISTORY_BLOCKS = 64  # replayed blocks in one transaction of the history


@dataclass(frozen=True)
class Recovered:
    """What a node starts from. `executed` may lie below `committed` where a payload is missing.

    `results` are those of the snapshot and of the newest blocks run again, so that the replica can
    attest them anew. `checkpoint_time_ms` is the block time of the last checkpoint, `snapshot_epoch` the
    machine's epoch if the newest snapshot is of it, or -1. A node that is to be healed has the state of
    genesis, for want of another.
    """

    machine: Machine
    committed: int
    executed: int
    results: tuple[Executed, ...]
    checkpoint_time_ms: int = 0
    snapshot_epoch: int = 0


def recover(
    genesis: Genesis,
    rules: Rules,
    ledger: Ledger,
    snapshots: Snapshots,
    history: History,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Recovered:
    """Rebuild the state. `report(what, done, total)` tells of progress; called from this thread."""
    if HEAL in ledger.votes():
        committed = ledger.committed_after(ledger.base())
        return Recovered(Machine(genesis, index_seed=_index_seed()), committed, 0, ())
    machine = _restore(genesis, snapshots, history, ledger.base())
    start = machine.height
    checkpoint_time_ms = machine.time_ms
    committed = ledger.committed_after(start)
    results = deque(_snapshot_result(snapshots, machine), maxlen=rules.window)
    waiting: list[ExecutedBlock] = []
    for cert in ledger.blocks(start + 1, committed):
        if not all(ledger.has_batches(cert.block.batches)):
            break
        payloads = [None] * len(cert.block.batches)
        executed = apply_block(machine, cert.block, payloads, ledger, None, rules.checkpoint_interval)
        results.append(executed.event)
        if executed.state is not None:
            checkpoint_time_ms = machine.time_ms
        if cert.block.seq > history.height():
            waiting.append(executed)
        if len(waiting) >= HISTORY_BLOCKS:
            _flush(history, waiting)
        if (cert.block.seq - start) % REPORT_BLOCKS == 0:
            report("replaying blocks", cert.block.seq - start, committed - start)
    _flush(history, waiting)
    epoch = _snapshot_epoch(snapshots, machine)
    return Recovered(machine, committed, machine.height, tuple(results), checkpoint_time_ms, epoch)


def ready_batches(ledger: Ledger, replica: int) -> list[BatchReady]:
    """The stored payloads a replica must know of when it starts: those that no stored block lists.

    Not those of stored blocks: it would take them for new work. It knows what it delivered by itself.
    """
    ready = []
    for name in ledger.pending():
        payload = ledger.batch(name)
        if payload is not None:
            operations = sum(count_operations(envelope) for envelope in decode_batch(payload))
            ready.append(BatchReady(name, operations, len(payload), replica))
    return ready


def _restore(genesis: Genesis, snapshots: Snapshots, history: History, base: int) -> Machine:
    """The machine at the newest snapshot, or at genesis if the history must be rebuilt from there.

    Where blocks up to `base` are absent, the history begins at the snapshot instead.
    """
    meta = snapshots.meta()
    if base > (meta.height if meta else 0):
        raise StorageError(
            f"{snapshots.path} lacks the state at height {base}, and blocks up to there are not held:"
            " run `kontor heal` to have the state fetched again"
        )
    if meta is None or (history.height() < meta.height and not base):
        return Machine(genesis, index_seed=_index_seed())
    if history.height() < meta.height:
        history.begin(meta.height)
    try:
        machine = Machine.restore(genesis, snapshots.pages(), meta.state.root, index_seed=_index_seed())
    except ProtocolError as error:
        raise StorageError(f"{snapshots.path} is damaged ({error}): {REPLAY}") from error
    place = (machine.height, machine.journal_root)
    if place != (meta.height, meta.journal_root):
        raise StorageError(
            f"{snapshots.path} describes height {meta.height}, its pages {machine.height}: {REPLAY}"
        )
    return machine


def _index_seed() -> int:
    """A secret of this process: clients cannot choose ids that collide in its lookups."""
    return secrets.randbits(62)


def _snapshot_result(snapshots: Snapshots, machine: Machine) -> list[Executed]:
    """The checkpoint that the machine was restored from, if it was."""
    meta = snapshots.meta()
    if meta is None or meta.height != machine.height:
        return []
    return [Executed(meta.height, meta.block_digest, meta.journal_root, meta.state, machine.epoch())]


def _snapshot_epoch(snapshots: Snapshots, machine: Machine) -> int:
    """Epoch 0 needs no snapshot: the network file names its members."""
    epoch, meta = machine.epoch(), snapshots.meta()
    is_shown = meta is not None and meta.state.epoch == epoch.digest
    return epoch.number if is_shown or epoch.number == 0 else -1


def _flush(history: History, blocks: list[ExecutedBlock]) -> None:
    history.write([history_block(item.result) for item in blocks], ())
    blocks.clear()
