"""The simulated disk: commits are whole or not there, and a damaged record is never taken for a good one."""

from random import Random

import pytest

from consensus.effects import Effect, Erase, Persist, StoreBatches, StoreBlock
from consensus.messages import Block, CommitCert, batch_digest
from consensus.simulator.disk import Disk, DiskCorrupted
from consensus.simulator.options import DiskOptions

PAYLOAD = b"payload"
NAME = batch_digest(PAYLOAD)
TURN: list[Effect] = [
    Persist(b"view", b"new"),
    Erase(b"old"),
    StoreBatches((NAME,)),
    StoreBlock(CommitCert(0, Block(1, 1, (NAME,)), ())),
]


def make_disk(faults: DiskOptions | None = None, seed: int = 1) -> Disk:
    disk = Disk(Random(seed), faults)
    disk.apply([Persist(b"view", b"former"), Persist(b"old", b"x")], {})
    return disk


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("torn_rate", [0.0, 0.3, 1.0])
def test_a_commit_amid_which_the_power_failed_is_there_wholly_or_not_at_all(
    seed: int, torn_rate: float
) -> None:
    disk = make_disk(seed=seed)
    disk.tear(TURN, {NAME: PAYLOAD}, torn_rate)
    assert disk.votes[b"view"] == b"former"
    taken = list(disk.recover())
    whole = disk.votes == {b"view": b"new"} and disk.batches == {NAME: PAYLOAD} and disk.committed == 1
    nothing = disk.votes == {b"view": b"former", b"old": b"x"} and not disk.batches and not disk.blocks
    assert (whole and taken == TURN) or (nothing and taken == [])
    assert whole if torn_rate == 0 else (nothing if torn_rate == 1 else True)
    assert list(disk.recover()) == []


def test_corrupt_writes_are_noticed_by_every_reader_until_written_anew() -> None:
    disk = make_disk(DiskOptions(write_fault_rate=1.0))
    disk.apply(TURN, {NAME: PAYLOAD})
    for read in (disk.read_votes, lambda: disk.read_block(1), lambda: disk.read_batch(NAME)):
        with pytest.raises(DiskCorrupted, match="checksum"):
            read()
    disk.faults = None
    disk.apply([Persist(b"view", b"new")], {})
    assert disk.read_votes() == {b"view": b"new"}
    disk.wipe()
    assert disk.read_votes() == {} and disk.read_batch(NAME) is None


def test_a_misdirected_write_spoils_where_it_should_have_gone_and_where_it_went() -> None:
    disk = make_disk()
    disk.faults = DiskOptions(misdirect_rate=1.0)
    disk.apply([Persist(b"view", b"new")], {})
    disk.faults = None
    with pytest.raises(DiskCorrupted):
        disk.read_votes()
    assert disk.counters["disk.misdirected_writes"] == disk.counters["disk.misdirected_onto"] == 1


def test_a_misread_passes_when_read_again() -> None:
    disk = make_disk(DiskOptions(read_fault_rate=1.0))
    with pytest.raises(DiskCorrupted, match="misread"):
        disk.read_votes()
    disk.faults = None
    assert disk.read_votes()[b"view"] == b"former"
