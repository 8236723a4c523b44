"""Evidence on the ledger: what counts, what it leaves, and who is excluded for it."""

import numpy as np

from consensus.evidence import KINDS, Evidence, Signed, check_evidence, decode_evidence
from consensus.primitives.crypto import Verifier
from consensus.primitives.errors import ProtocolError
from engine.commands import CommandNumber
from engine.envelope import Envelope
from engine.layout import NONE, ExclusionRule, ValidatorStatus
from engine.plugin import Entry, Outcome
from engine.records import Code
from engine.state import State
from engine.validators import boundary
from engine.validators.changes import check_shrink
from engine.validators.members import find_key

CONVICTIONS_MAX = 16  # of one validator


def execute_evidence(
    state: State, envelope: Envelope, chain_id: bytes, verdict: bool | None, verifier: Verifier
) -> tuple[Code, Outcome | None]:
    """What becomes of an envelope of evidence, and the line that it leaves if it counts.

    `verdict` True: a worker thread found both signatures good, under the keys of this ledger.
    """
    code = check(state, envelope, chain_id, verdict, verifier)
    if code:
        return code, None
    evidence = decode_evidence(bytes(envelope.payload))
    return Code.OK, (int(Code.OK), int(CommandNumber.CONVICT), *_convict(state, evidence))


def check(
    state: State, envelope: Envelope, chain_id: bytes, verdict: bool | None, verifier: Verifier
) -> Code:
    """Say whether evidence convicts somebody of something new; writes nothing."""
    if envelope.chain_id != chain_id:
        return Code.WRONG_CHAIN
    try:
        evidence = decode_evidence(bytes(envelope.payload))
    except ProtocolError:
        return Code.MALFORMED
    if find_key(state, evidence.replica, evidence.epoch) is None:
        return Code.BAD_EVIDENCE
    if find_conviction(state, evidence) != NONE:
        return Code.ALREADY_REPORTED
    convictions = state.validators.columns["convictions"].item(evidence.replica)
    if convictions >= CONVICTIONS_MAX or not state.has_room(state.evidence):
        return Code.LIMIT_REACHED
    if not verdict:
        try:
            check_evidence(
                chain_id, lambda replica, epoch: find_key(state, replica, epoch), verifier, evidence
            )
        except ProtocolError:
            return Code.BAD_EVIDENCE
    return Code.OK


def find_conviction(state: State, evidence: Evidence) -> int:
    """Row of the conviction for the same place, whatever proved it; NONE: there is none."""
    used, columns = state.count["evidence"], state.evidence.columns
    wanted = {
        "validator": evidence.replica,
        "kind": KINDS.index(evidence.kind),
        "view": evidence.view,
        "seq": evidence.seq,
    }
    same = np.logical_and.reduce([columns[name][:used] == value for name, value in wanted.items()])
    rows = np.flatnonzero(same)
    return int(rows[0]) if rows.shape[0] else NONE


def read_evidence(state: State, row: int) -> Evidence:
    """The proof of a conviction, as it was brought."""
    record = state.evidence.data[row]
    return Evidence(
        int(record["validator"]),
        int(record["epoch"]),
        KINDS[int(record["kind"])],
        int(record["view"]),
        int(record["seq"]),
        Signed(record["first_digest"].tobytes(), record["first_signature"].tobytes()),
        Signed(record["second_digest"].tobytes(), record["second_signature"].tobytes()),
    )


def exclude(state: State, place: int) -> None:
    """Under the automatic rule: schedule the removal of the first validator at `place` whose present key
    was convicted, if nothing is scheduled and enough others remain."""
    count = state.count
    if count["exclusion_rule"] != ExclusionRule.AUTOMATIC or not count["evidence"]:
        return
    if boundary.pending(state) or check_shrink(state):
        return
    convicted = _find_convicted(state)
    if convicted.shape[0]:
        boundary.schedule_removal(state, int(convicted.min()), place)


def _find_convicted(state: State) -> np.ndarray:
    """Active validators whom evidence convicts under the key that they sign with now.

    An older key may have been rotated away because it was stolen: what the thief signs must not exclude
    the honest owner.
    """
    used, columns = state.count["evidence"], state.evidence.columns
    signers = columns["validator"][:used]
    keys = state.validators.columns["key"][signers]
    is_present = columns["epoch"][:used] >= state.validator_keys.columns["first_epoch"][keys]
    is_active = state.validators.columns["status"][signers] == ValidatorStatus.ACTIVE
    return signers[is_present & is_active]


def _convict(state: State, evidence: Evidence) -> Entry:
    """Who, the block it is about, and the row that keeps the proof."""
    row = state.add_evidence()
    values = {
        "validator": evidence.replica,
        "kind": KINDS.index(evidence.kind),
        "epoch": evidence.epoch,
        "view": evidence.view,
        "seq": evidence.seq,
        "height": state.count["height"],
        "first_digest": evidence.first.digest,
        "first_signature": evidence.first.signature,
        "second_digest": evidence.second.digest,
        "second_signature": evidence.second.signature,
    }
    for name, value in values.items():
        state.evidence.columns[name][row] = value
    state.validators.columns["convictions"][evidence.replica] += 1
    state.validators.mark(evidence.replica)
    return Entry(account=evidence.replica, qty=evidence.seq, detail=row)
