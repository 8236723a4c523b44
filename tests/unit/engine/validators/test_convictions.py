"""Evidence on the ledger: once for each place, proved by itself, and followed by what the venue decided."""

import pytest

from consensus.evidence import EVIDENCE_BYTES_MAX, check_evidence, decode_evidence
from consensus.primitives.crypto import Ed25519Verifier, digest
from consensus.primitives.errors import InvariantViolation, ProtocolError
from engine.batch import encode_batch
from engine.commands import (
    CommandNumber,
    RemoveValidator,
    ReplaceValidator,
    RotateValidatorKey,
    SetExclusionRule,
)
from engine.envelope import EnvelopeKind, decode, wrap_evidence
from engine.layout import ValidatorStatus
from engine.records import Code, Kind
from engine.validators.convictions import CONVICTIONS_MAX, read_evidence
from engine.validators.members import find_key
from tests.helpers.venue import CHAIN_ID, Venue, contradiction, validator_key

LIAR = validator_key(2)
NEW = validator_key(100)


def report(venue: Venue, *envelopes: bytes) -> list[Code]:
    """Have evidence executed; return what became of each envelope."""
    journal = venue.block(*envelopes).journal
    return [Code(int(code)) for code in journal["code"][journal["kind"] == Kind.ENVELOPE]]


def run_to(venue: Venue, height: int) -> None:
    while venue.machine.height < height:
        venue.block()


def status(venue: Venue, validator: int) -> ValidatorStatus:
    return ValidatorStatus(venue.machine.state.validators.columns["status"].item(validator))


def test_a_conviction_leaves_a_line_and_the_whole_proof():
    venue = Venue()
    envelope = contradiction(2, LIAR, 0, 7)
    result = venue.block(envelope)
    line = result.journal[1]
    assert (line["kind"], line["op"], line["account"]) == (Kind.COMMAND, CommandNumber.CONVICT, 2)
    assert (line["qty"], line["detail"], result.envelopes[0].lines) == (7, 0, 1)
    state = venue.machine.state
    evidence = read_evidence(state, 0)
    assert evidence == decode_evidence(bytes(decode(envelope).payload))
    key_of = lambda replica, epoch: find_key(state, replica, epoch)  # noqa: E731
    assert check_evidence(CHAIN_ID, key_of, Ed25519Verifier(), evidence) == 2
    assert state.evidence.columns["height"].item(0) == 1
    assert status(venue, 2) == ValidatorStatus.ACTIVE  # the rule is manual until the venue says otherwise


def test_one_place_is_reported_once_whatever_proves_it():
    venue = Venue()
    again = contradiction(2, LIAR, 0, 7)
    assert report(venue, again, again) == [Code.OK, Code.ALREADY_REPORTED]
    assert report(venue, again) == [Code.ALREADY_REPORTED]
    assert report(venue, contradiction(2, LIAR, 0, 8), contradiction(2, LIAR, 1, 7)) == [Code.OK, Code.OK]


def test_a_liar_cannot_fill_the_table():
    venue = Venue()
    codes = report(venue, *[contradiction(2, LIAR, 0, seq) for seq in range(1, CONVICTIONS_MAX + 3)])
    assert codes == [Code.OK] * CONVICTIONS_MAX + [Code.LIMIT_REACHED] * 2
    assert report(venue, contradiction(3, validator_key(3), 0, 1)) == [Code.OK]


@pytest.mark.parametrize(
    ("envelope", "code"),
    [
        (contradiction(2, validator_key(3), 0, 7), Code.BAD_EVIDENCE),
        (contradiction(9, LIAR, 0, 7), Code.BAD_EVIDENCE),
        (contradiction(2, LIAR, 1 << 32, 7, epoch=1), Code.BAD_EVIDENCE),
        (wrap_evidence(digest("tests.other"), bytes(8)), Code.WRONG_CHAIN),
        (wrap_evidence(CHAIN_ID, bytes(8)), Code.MALFORMED),
    ],
    ids=["another's signature", "nobody", "an epoch to come", "another chain", "not evidence"],
)
def test_what_proves_nothing_changes_nothing(envelope, code):
    venue = Venue()
    before = venue.machine.table_roots()
    assert report(venue, envelope) == [code]
    after = venue.machine.table_roots()
    assert {name for name in after if after[name] != before[name]} == {"counters"}


def test_evidence_is_judged_under_the_key_of_its_epoch():
    venue = Venue()
    venue.commands(RotateValidatorKey(2, NEW.public_key))
    run_to(venue, 12)
    assert report(venue, contradiction(2, NEW, 0, 7)) == [Code.BAD_EVIDENCE]
    assert report(venue, contradiction(2, LIAR, 1 << 32, 15, epoch=1)) == [Code.BAD_EVIDENCE]
    assert report(venue, contradiction(2, LIAR, 0, 7)) == [Code.OK]
    assert report(venue, contradiction(2, NEW, 1 << 32, 15, epoch=1)) == [Code.OK]


def test_a_validator_that_left_is_still_convicted():
    venue = Venue()
    venue.commands(RemoveValidator(2))
    run_to(venue, 12)
    assert report(venue, contradiction(2, LIAR, 0, 7)) == [Code.OK]


def test_a_good_verdict_from_elsewhere_is_believed_and_a_bad_one_is_not():
    """Only good verdicts are remembered between threads; execution decides for itself otherwise."""
    good, forged = contradiction(2, LIAR, 0, 7), contradiction(2, validator_key(3), 0, 8)
    venue = Venue()
    verdicts = {decode(good).digest: False}
    result = venue.machine.apply(1, bytes(32), 1, [encode_batch([good, forged])], verdicts)
    assert result.journal["code"][:2].tolist() == [Code.OK, Code.BAD_EVIDENCE]


def test_the_automatic_rule_removes_the_convicted_one_after_the_other():
    venue = Venue(validators=6)
    venue.commands(SetExclusionRule(1))
    report(
        venue,
        *venue.pending,
        contradiction(3, validator_key(3), 0, 1),
        contradiction(1, validator_key(1), 0, 1),
    )
    venue.pending.clear()
    assert status(venue, 1) == ValidatorStatus.LEAVING and status(venue, 3) == ValidatorStatus.ACTIVE
    run_to(venue, 12)
    assert status(venue, 1) == ValidatorStatus.REMOVED and status(venue, 3) == ValidatorStatus.ACTIVE
    assert venue.machine.summary().boundary == 0  # a boundary never announces the next one as well
    run_to(venue, 13)
    assert status(venue, 3) == ValidatorStatus.LEAVING
    run_to(venue, 24)
    assert [member.id for member in venue.machine.epoch().members] == [0, 2, 4, 5]


def test_where_four_are_left_the_convicted_wait_for_a_replacement():
    venue = Venue(validators=4)
    venue.commands(SetExclusionRule(1))
    report(venue, *venue.pending, contradiction(2, LIAR, 0, 1))
    venue.pending.clear()
    run_to(venue, 20)
    assert venue.machine.epoch().number == 0
    venue.commands(ReplaceValidator(2, NEW.public_key, b"certificate", "a:1", "a:2"))
    run_to(venue, 40)
    assert [member.id for member in venue.machine.epoch().members] == [0, 1, 3, 4]


def test_a_stolen_key_that_was_rotated_away_convicts_its_owner_but_does_not_exclude_it():
    venue = Venue(validators=6)
    venue.commands(SetExclusionRule(1), RotateValidatorKey(2, NEW.public_key))
    run_to(venue, 12)
    assert report(venue, contradiction(2, LIAR, 0, 5)) == [Code.OK]
    run_to(venue, 30)
    assert status(venue, 2) == ValidatorStatus.ACTIVE and venue.machine.epoch().number == 1
    assert report(venue, contradiction(2, NEW, 1 << 32, 15, epoch=1)) == [Code.OK]
    run_to(venue, 60)
    assert status(venue, 2) == ValidatorStatus.REMOVED


def test_a_wrong_count_of_convictions_is_found():
    venue = Venue()
    report(venue, contradiction(2, LIAR, 0, 7))
    venue.machine.check_conservation()
    venue.machine.state.validators.columns["convictions"][3] += 1
    with pytest.raises(InvariantViolation, match="convictions"):
        venue.machine.check_conservation()


def test_evidence_has_one_envelope_and_no_sender():
    data = contradiction(2, LIAR, 0, 7)
    envelope = decode(data)
    assert (envelope.kind, envelope.account, envelope.nonce) == (EnvelopeKind.EVIDENCE, 0, 0)
    padded = wrap_evidence(CHAIN_ID, bytes(envelope.payload) + b"x")
    for whole, at in [(data, at) for at in (40, 72, 80, 88, 96)] + [(padded, len(padded) - 1)]:
        changed = bytearray(whole)
        changed[at] ^= 1  # of key, account, nonce, expiry, signature, padding
        with pytest.raises(ProtocolError, match=r"evidence|padding"):
            decode(bytes(changed))
    with pytest.raises(ProtocolError, match=r"evidence has up to"):
        decode(wrap_evidence(CHAIN_ID, bytes(EVIDENCE_BYTES_MAX + 1)))
