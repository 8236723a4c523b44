"""Applying blocks: which envelopes count, in which order things happen, what is written down."""

from dataclasses import replace

import numpy as np
import pytest

from consensus.primitives.crypto import digest
from consensus.primitives.errors import InvariantViolation, ProtocolError
from engine import commands
from engine.batch import encode_batch
from engine.commands import EXPIRY_NEVER, Deposit, GrantKey, OpenAccount, SetMarketStatus, Transfer
from engine.envelope import HEADER_SIZE, decode, encode_commands, encode_orders, orders_array
from engine.genesis import Genesis
from engine.journal import prove, verify_proof
from engine.layout import Scope
from engine.machine import Machine
from engine.markets.states import MarketStatus
from engine.records import EVERY_MARKET, Code, Kind, Op, Side
from tests.helpers.venue import CHAIN_ID, NEVER, SMALL, START_MS, Venue, cancel, new, signer

ORDER = [new(0, 1, 50, Side.BUY, 10, 1)]


@pytest.fixture
def venue():
    venue = Venue()
    venue.open_market(traders=2)
    return venue


def order_envelope(by="trader 1", chain=CHAIN_ID, account=1, nonce=1, expiry_ms=NEVER):
    return encode_orders(signer(by), chain, account, nonce, expiry_ms, orders_array(ORDER))


def tampered(data):
    return data[:96] + bytes([data[96] ^ 1]) + data[97:]


BAD_ENVELOPES = {
    "a signature that does not match": (tampered(order_envelope()), Code.BAD_SIGNATURE),
    "orders changed after signing": (
        order_envelope()[:HEADER_SIZE] + orders_array([new(0, 1, 51, Side.BUY, 10, 1)]).tobytes(),
        Code.BAD_SIGNATURE,
    ),
    "another chain": (order_envelope(chain=digest("another")), Code.WRONG_CHAIN),
    "a key nobody granted": (order_envelope(by="nobody"), Code.UNKNOWN_KEY),
    "an account that granted nothing": (order_envelope(account=2), Code.NOT_AUTHORISED),
    "an account that is not there": (order_envelope(account=2**32 - 1), Code.NOT_AUTHORISED),
    "expired": (order_envelope(expiry_ms=START_MS), Code.ENVELOPE_EXPIRED),
    "commands that are not msgpack": (
        encode_commands(signer("trader 1"), CHAIN_ID, 1, 1, NEVER, b"\xc1\xc1"),
        Code.MALFORMED,
    ),
    "commands in another spelling": (
        encode_commands(signer("trader 1"), CHAIN_ID, 1, 1, NEVER, b"\x91\x92\xa1a\xcc\x01"),
        Code.MALFORMED,
    ),
}


@pytest.mark.parametrize(("data", "code"), BAD_ENVELOPES.values(), ids=BAD_ENVELOPES.keys())
def test_bad_envelopes_get_their_code_and_change_nothing_else(venue, data, code):
    before = venue.machine.table_roots()
    result = venue.block(data)
    after = venue.machine.table_roots()
    assert {name for name in after if after[name] != before[name]} == {"counters"}, "only height and time"
    line = result.journal[0]
    assert (line["kind"], line["code"], line["qty"], line["fee"], line["detail"]) == (
        Kind.ENVELOPE,
        code,
        0,
        0,
        0,
    )
    assert len(result.journal) == 1
    assert result.counts.refused_envelopes == 1
    good = order_envelope(nonce=1)
    assert venue.block(good).counts.rejected == 0, "the nonce is still free"


def test_the_same_envelope_in_one_block_executes_once(venue):
    data = order_envelope()
    result = venue.block(data, data)
    assert result.journal["code"][:2].tolist() == [Code.OK, Code.NONCE_USED]
    assert (result.counts.orders, result.counts.refused_envelopes) == (1, 1)


def test_the_same_envelope_in_two_batches_and_in_a_later_block_executes_once(venue):
    data = order_envelope()
    height = venue.machine.height + 1
    batch = encode_batch([data])
    result = venue.machine.apply(height, bytes(32), START_MS + height, [batch, batch])
    assert result.journal["code"][:2].tolist() == [Code.OK, Code.NONCE_USED]
    assert venue.block(data).journal["code"].tolist() == [Code.NONCE_USED]


def test_nonces_may_come_in_any_order_within_the_window(venue):
    envelopes = [order_envelope(nonce=nonce) for nonce in (1500, 600, 476, 477, 1501)]
    codes = venue.block(*envelopes).journal["code"][:5].tolist()
    assert codes == [Code.OK, Code.OK, Code.NONCE_TOO_OLD, Code.OK, Code.OK]


@pytest.mark.parametrize(("verdict", "code"), [(True, Code.OK), (False, Code.BAD_SIGNATURE)])
def test_verdicts_of_worker_threads_are_believed(venue, verdict, code):
    data = tampered(order_envelope()) if verdict else order_envelope()
    height = venue.machine.height + 1
    verdicts = {decode(data).digest: verdict}
    result = venue.machine.apply(height, bytes(32), START_MS, [encode_batch([data])], verdicts)
    assert result.journal["code"][0] == code


def test_verdicts_that_agree_with_the_truth_change_no_root(venue):
    other = Machine.restore(venue.genesis, venue.machine.snapshot())
    envelopes = [order_envelope(), tampered(order_envelope(nonce=2))]
    verdicts = {decode(envelopes[0]).digest: True, decode(envelopes[1]).digest: False}
    height, batches = venue.machine.height + 1, [encode_batch(envelopes)]
    alone = venue.machine.apply(height, bytes(32), START_MS, batches)
    helped = other.apply(height, bytes(32), START_MS, batches, verdicts)
    assert alone.journal_root == helped.journal_root
    assert venue.machine.state_root() == other.state_root()


def test_commands_run_before_orders_that_were_listed_before_them(venue):
    late = signer("late")
    venue.orders(late, 1, [new(0, 1, 1, Side.BUY, 10, 1)])
    grant = GrantKey(1, late.public_key, Scope.TRADE, EXPIRY_NEVER)
    venue.commands(grant, by=signer("trader 1"), account=1)
    assert venue.block().counts.rejected == 0
    venue.orders(late, 1, [new(0, 1, 2, Side.BUY, 10, 1)])
    venue.commands(SetMarketStatus(0, MarketStatus.CLOSED))
    assert venue.block().counts.rejected == 1


def test_a_maker_leaves_before_being_hit_by_an_order_listed_before(venue):
    maker, taker = signer("trader 1"), signer("trader 2")
    venue.orders(maker, 1, [new(0, 1, 1, Side.SELL, 10, 5), new(0, 1, 2, Side.SELL, 11, 5)])
    venue.block()
    venue.orders(taker, 2, [new(0, 2, 1, Side.BUY, 11, 10)])
    venue.orders(maker, 1, [cancel(0, 1, 1), (Op.REDUCE, 0, 0, 1, 2, 0, 3)])
    journal = venue.block().journal
    fills = journal[journal["kind"] == Kind.FILL]
    assert fills["qty"].tolist() == [2]
    venue.machine.check_conservation()


def test_cancel_all_of_resting_orders_comes_first_too(venue):
    maker, taker = signer("trader 1"), signer("trader 2")
    venue.orders(maker, 1, [new(0, 1, 1, Side.SELL, 10, 5)])
    venue.block()
    venue.orders(taker, 2, [new(0, 2, 1, Side.BUY, 11, 10)])
    venue.orders(maker, 1, [(Op.CANCEL_ALL, 0, EVERY_MARKET, 1, 0, 0, 0)])
    result = venue.block()
    assert result.counts.fills == 0
    assert np.count_nonzero(result.journal["kind"] == Kind.CANCELLED) == 1


def test_a_new_order_of_this_block_cannot_leave_early(venue):
    maker, taker = signer("trader 1"), signer("trader 2")
    venue.orders(maker, 1, [new(0, 1, 1, Side.SELL, 10, 5)])
    venue.orders(taker, 2, [new(0, 2, 1, Side.BUY, 11, 3)])
    venue.orders(maker, 1, [cancel(0, 1, 1)])
    result = venue.block()
    assert (result.counts.fills, result.counts.rejected) == (1, 0)


def test_time_never_runs_backwards(venue):
    assert venue.block(time_ms=START_MS + 5000).time_ms == START_MS + 5000
    assert venue.block(time_ms=START_MS).time_ms == START_MS + 5000


def test_blocks_follow_one_another(venue):
    with pytest.raises(InvariantViolation, match="cannot follow"):
        venue.machine.apply(venue.machine.height + 2, bytes(32), START_MS, [])


def test_a_malformed_batch_is_refused_before_anything_changes(venue):
    before = venue.machine.state_root()
    with pytest.raises(ProtocolError):
        venue.machine.apply(
            venue.machine.height + 1, bytes(32), START_MS, [encode_batch([order_envelope()])[:-8]]
        )
    assert venue.machine.state_root() == before


def test_an_empty_block_only_moves_height_time_and_journal(venue):
    before = venue.machine.table_roots()
    result = venue.block()
    after = venue.machine.table_roots()
    assert {name for name in after if after[name] != before[name]} == {"counters"}
    assert len(result.journal) == 0 and result.journal_root != result.previous_root


def test_envelope_lines_tell_whose_results_stand_where(venue):
    trader, other = signer("trader 1"), signer("trader 2")
    first = venue.orders(trader, 1, [new(0, 1, n, Side.BUY, 10, 1) for n in (1, 1, 2)])
    orders_of_other = venue.commands(Transfer(1, 2, 0, 5), Transfer(1, 2, 0, 2**61), by=trader, account=1)
    last = venue.orders(other, 2, [new(0, 2, 1, Side.BUY, 10, 1)])
    result = venue.block()
    lines = result.journal
    assert lines["kind"].tolist() == [Kind.ENVELOPE] * 3 + [Kind.RESULT] * 4 + [Kind.COMMAND] * 2
    assert lines["detail"][:3].tolist() == [3, 7, 6]
    assert lines["qty"][:3].tolist() == [3, 2, 1]
    assert lines["fee"][:3].tolist() == [2, 1, 1]
    for place, data in zip(result.envelopes, (first, orders_of_other, last), strict=True):
        name = decode(data).digest
        line = lines[place.record_index]
        assert place.digest == name
        assert (place.first_result, place.lines) == (line["detail"], line["qty"])
        assert line["counter_order_id"] == int.from_bytes(name[:8], "little") & (2**63 - 1)
        assert line["price"] == int.from_bytes(name[8:16], "little") & (2**63 - 1)


def test_the_journal_root_chains_and_proves_lines(venue):
    first = venue.block()
    venue.orders(signer("trader 1"), 1, [new(0, 1, n, Side.BUY, 10, 1) for n in range(200)])
    second = venue.block()
    assert second.previous_root == first.journal_root
    assert venue.machine.journal_root == second.journal_root
    place = second.envelopes[0]
    proved = verify_proof(prove(second, place.first_result + 150), second.journal_root)
    assert proved["client_order_id"][(place.first_result + 150) % 64] == 150
    with pytest.raises(ProtocolError):
        verify_proof(replace(prove(second, 0), height=99), second.journal_root)


def test_a_restored_machine_behaves_as_the_one_it_came_from(venue):
    venue.orders(signer("trader 1"), 1, [new(0, 1, n, Side.BUY, 10 + n % 3, 5) for n in range(100)])
    venue.block()
    root = venue.machine.state_root()
    copy = Machine.restore(venue.genesis, venue.machine.snapshot(), root)
    assert (copy.height, copy.time_ms, copy.journal_root) == (
        venue.machine.height,
        venue.machine.time_ms,
        venue.machine.journal_root,
    )
    replayed = order_envelope(nonce=1)
    data = venue.orders(signer("trader 2"), 2, [new(0, 2, 1, Side.SELL, 10, 300), cancel(0, 2, 1)])
    opening = venue.commands(OpenAccount(bytes(32)), Deposit(3, 0, 5))
    batch = [encode_batch([data, opening, replayed])]
    here = venue.machine.apply(venue.machine.height + 1, bytes(32), START_MS + 99, batch)
    there = copy.apply(copy.height + 1, bytes(32), START_MS + 99, batch)
    assert here.counts.fills == 60
    assert here.journal.tobytes() == there.journal.tobytes()
    assert here.journal_root == there.journal_root
    assert venue.machine.state_root() == copy.state_root() == copy.full_state_root()
    copy.check_conservation()


def test_pages_taken_at_checkpoints_make_the_same_machine(venue):
    stored = {(table, page): data for table, page, data in venue.machine.take_pages()}
    for number in range(3):
        venue.orders(signer("trader 1"), 1, [new(0, 1, 100 * number + n, Side.BUY, 10, 5) for n in range(90)])
        venue.block()
        stored |= {(table, page): data for table, page, data in venue.machine.take_pages()}
    pages = [(*key, data) for key, data in stored.items()]
    assert Machine.restore(venue.genesis, pages).state_root() == venue.machine.state_root()


def test_every_admin_key_of_genesis_runs_the_venue():
    keys = [signer(name) for name in ("one", "two", "three")]
    genesis = Genesis(CHAIN_ID, tuple(key.public_key for key in keys))
    machine = Machine(genesis)
    payload = commands.encode([OpenAccount(bytes(32))])
    batch = encode_batch([encode_commands(key, CHAIN_ID, 0, 1, NEVER, payload) for key in keys])
    assert machine.apply(1, bytes(32), START_MS, [batch]).counts.rejected == 0


def test_an_order_that_meets_more_makers_than_the_buffer_holds_is_still_written_down(venue):
    maker, taker = signer("trader 1"), signer("trader 2")
    for base in range(0, 4000, 2000):
        venue.orders(maker, 1, [new(0, 1, base + n, Side.SELL, 10, 1) for n in range(2000)])
    venue.block()
    sweeps = [new(0, 2, n, Side.BUY, 10, 1000) for n in range(4)]
    venue.orders(taker, 2, sweeps)
    result = venue.block()
    assert result.counts.fills == 4000
    assert result.journal["qty"][1:5].tolist() == [1000] * 4
    venue.machine.check_conservation()


def test_a_full_order_table_refuses_alike_however_it_grew():
    """The limit is that of genesis, not of whatever a node happens to have reserved."""
    capacity = replace(SMALL, orders=256)
    venue = Venue(capacity)
    venue.open_market(traders=2)
    trader = signer("trader 1")
    venue.orders(trader, 1, [new(0, 1, n, Side.BUY, 10, 1) for n in range(200)])
    venue.block()
    copy = Machine.restore(venue.genesis, venue.machine.snapshot(), venue.machine.state_root())
    venue.orders(trader, 1, [new(0, 1, 1000 + n, Side.BUY, 10, 1) for n in range(100)])
    venue.orders(trader, 1, [cancel(0, 1, 0), new(0, 1, 2000, Side.BUY, 10, 1)])
    here = venue.block()
    there = copy.apply(*venue.applied[-1])
    codes = here.journal["code"][here.journal["kind"] == Kind.RESULT].tolist()
    assert codes == [Code.OK] * 57 + [Code.LIMIT_REACHED] * 43 + [Code.OK, Code.LIMIT_REACHED]
    assert here.journal_root == there.journal_root
    assert venue.machine.state_root() == copy.state_root()
