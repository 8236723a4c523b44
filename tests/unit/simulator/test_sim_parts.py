"""Scheduler, disk, application, keys and mutation of the simulator."""

from random import Random

import pytest

from consensus.effects import Erase, Persist, StoreBatches, StoreBlock
from consensus.messages import Block, Commit, CommitCert, NewView, PrePrepare, batch_digest
from consensus.primitives.errors import InvariantViolation, SignatureError
from consensus.simulator.app import ChainApp
from consensus.simulator.crypto import SimKeyring
from consensus.simulator.disk import Disk
from consensus.simulator.mutation import mutate
from consensus.simulator.scheduler import Scheduler


def test_callbacks_run_by_time_and_then_in_order_of_scheduling() -> None:
    scheduler, seen = Scheduler(), list[str]()
    for name, time_us in (("late", 20), ("first", 10), ("second", 10)):
        scheduler.at(time_us, seen.append, name)
    scheduler.run_until(10)
    assert seen == ["first", "second"] and scheduler.now_us == 10
    scheduler.run_until(100)
    assert seen == ["first", "second", "late"] and scheduler.now_us == 100


def test_disk_applies_a_turn_and_counts_contiguous_blocks() -> None:
    disk, payload = Disk(Random(1)), b"payload"
    name = batch_digest(payload)
    certs = [CommitCert(0, Block(seq, 1, ()), ()) for seq in (1, 2, 4)]
    disk.apply([Persist(b"k", b"v"), StoreBatches((name,)), *map(StoreBlock, certs)], {name: payload})
    assert disk.votes == {b"k": b"v"} and disk.batches == {name: payload} and disk.committed == 2
    disk.apply([Erase(b"k"), StoreBlock(CommitCert(0, Block(3, 1, ()), ()))], {})
    assert disk.votes == {} and disk.committed == 4


def test_disk_refuses_to_store_a_payload_that_is_not_held() -> None:
    with pytest.raises(InvariantViolation, match="not held"):
        Disk(Random(1)).apply([StoreBatches((bytes(32),))], {})


def test_app_chains_blocks_and_runs_each_batch_once() -> None:
    once, twice = ChainApp(2), ChainApp(2)
    name, other = batch_digest(b"a"), batch_digest(b"b")
    first = once.apply(Block(1, 5, (name,)), [b"a"])
    assert first.journal_root and first.state is None
    last = once.apply(Block(2, 6, (other,)), [b"b"])
    twice.apply(Block(1, 5, (name,)), [b"a"])
    repeated = twice.apply(Block(2, 6, (name, other)), [b"a", b"b"])
    assert last.state == repeated.state is not None and twice.repeats == 1
    with pytest.raises(InvariantViolation, match="height 2"):
        once.apply(Block(4, 7, ()), [])


def test_a_signature_fits_one_key_and_one_message() -> None:
    keys = SimKeyring(seed=1, count=2)
    signature = keys.signers[0].sign(b"vote")
    keys.verify(keys.public_keys[0], b"vote", signature)
    for key, message in (
        (keys.public_keys[1], b"vote"),
        (keys.public_keys[0], b"veto"),
        (bytes(32), b"vote"),
    ):
        with pytest.raises(SignatureError):
            keys.verify(key, message, signature)


def test_mutation_changes_a_message_but_keeps_it_encodable() -> None:
    rng = Random(3)
    commit = Commit(1, 2, bytes(32), 3, bytes(64))
    nested = NewView(1, (), (PrePrepare(1, Block(1, 2, (bytes(32),)), b""),), 1, b"")
    assert sum(mutate(commit, rng) != commit for _ in range(200)) > 100
    assert sum(mutate(nested, rng) != nested for _ in range(200)) > 50
