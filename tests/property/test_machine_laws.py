"""Laws of the machine over random blocks."""

import pytest

from engine.envelope import decode
from engine.machine import Machine
from engine.records import Kind
from tests.helpers.random_blocks import RandomBlocks
from tests.helpers.venue import START_MS


@pytest.mark.parametrize("seed", range(12))
def test_value_is_conserved_and_the_incremental_root_is_the_full_root(seed):
    blocks = RandomBlocks(seed)
    machine = blocks.venue.machine
    for number in range(25):
        blocks.block()
        machine.check_conservation()
        if number % 3 == 0:
            assert machine.state_root() == machine.full_state_root()
    assert machine.state_root() == machine.full_state_root()


@pytest.mark.parametrize("seed", range(100, 108))
def test_a_machine_restored_at_any_height_goes_the_same_way(seed):
    blocks = RandomBlocks(seed)
    machine = blocks.venue.machine
    copy = Machine.restore(blocks.venue.genesis, machine.snapshot(), machine.state_root())
    stored = {(table, page): data for table, page, data in machine.take_pages()}
    for number in range(20):
        here = blocks.block()
        there = copy.apply(*blocks.venue.applied[-1])
        assert here.journal.tobytes() == there.journal.tobytes()
        assert here.journal_root == there.journal_root
        if number % 5 == 4:
            assert copy.state_root() == machine.state_root()
            stored |= {(table, page): data for table, page, data in machine.take_pages()}
            pages = [(*key, data) for key, data in stored.items()]
            copy = Machine.restore(blocks.venue.genesis, pages, machine.state_root())


@pytest.mark.parametrize("seed", range(200, 204))
def test_no_envelope_executes_twice(seed):
    blocks = RandomBlocks(seed)
    executed: list[bytes] = []
    for _ in range(40):
        result = blocks.block()
        lines = result.journal
        executed += [e.digest for e in result.envelopes if lines["code"][e.record_index] == 0]
        assert (lines["kind"][: len(result.envelopes)] == Kind.ENVELOPE).all()
    assert len(executed) == len(set(executed)) > 20
    machine = blocks.venue.machine
    idle = Machine.restore(blocks.venue.genesis, machine.snapshot(), machine.state_root())
    # One that was refused may be sent again, and may have become good meanwhile.
    done = set(executed)
    sent = [envelope for envelope in blocks.sent if decode(envelope).digest in done]
    for start in range(0, len(sent), 100):
        again = blocks.venue.block(*sent[start : start + 100], time_ms=START_MS + 10**6)
        assert again.counts.refused_envelopes == again.counts.envelopes
        idle.apply(again.height, again.block_digest, again.time_ms, [])
    # Time passes and boundaries are reached as in empty blocks; only the journal's root differs.
    after, expected = machine.table_roots(), idle.table_roots()
    assert {name for name in after if after[name] != expected[name]} == {"counters"}
