"""The laws of the validators' tables; see `check_validators`."""

import numpy as np

from consensus.primitives.errors import ensure
from engine.genesis import Genesis
from engine.layout import CHANGE, NONE, ChangeKind, ValidatorStatus
from engine.state import State
from engine.validators.boundary import pending
from engine.validators.convictions import CONVICTIONS_MAX
from engine.validators.members import current_epoch, find_key, member_ids


def check_validators(state: State, genesis: Genesis) -> None:
    """Raise `InvariantViolation` unless:

    - between one and `members_max` validators vote, each with one key, which was no other's ever;
    - who joins or leaves does so by the pending change, and nobody else does;
    - a validator's keys follow one another epoch by epoch, without gap, from its first to its last;
    - a pending boundary is a checkpoint still to come;
    - convictions are counted right, and no two are about one place.
    """
    members = current_epoch(state).members  # refuses ids or keys that repeat
    ensure(len(members) <= genesis.members_max, f"{len(members)} validators vote")
    for member in members:
        known = find_key(state, member.id, state.count["epoch"])
        ensure(known == member.key, f"validator {member.id} votes with a key that is not its own")
    keys = state.validator_keys.columns["public_key"][: state.count["validator_keys"]].tolist()
    ensure(len(set(keys)) == len(keys), "a key was given to two validators")
    _check_change(state, genesis)
    for validator in range(state.count["validators"]):
        _check_keys(state, validator)
    _check_convictions(state)


def _check_change(state: State, genesis: Genesis) -> None:
    kind, change = pending(state), state.change.data[0]
    statuses = state.validators.columns["status"][: state.count["validators"]]
    joining = np.flatnonzero(statuses == ValidatorStatus.JOINING).tolist()
    leaving = np.flatnonzero(statuses == ValidatorStatus.LEAVING).tolist()
    validator, newcomer = int(change["validator"]), int(change["newcomer"])
    expected: dict[ChangeKind, tuple[list[int], list[int]]] = {
        ChangeKind.ADD: ([validator], []),
        ChangeKind.REMOVE: ([], [validator]),
        ChangeKind.REPLACE: ([newcomer], [validator]),
    }
    ensure(
        (joining, leaving) == expected.get(kind, ([], [])),
        f"{joining} join and {leaving} leave, while {kind.name} of {validator} is pending",
    )
    if kind == ChangeKind.NONE:
        ensure(change.tobytes() == bytes(CHANGE.itemsize), "something is left of a change that is done")
        return
    place, height = int(change["boundary"]), state.count["height"]
    is_checkpoint = place % genesis.checkpoint_interval == 0
    ensure(is_checkpoint and place > height, f"boundary {place} pending at height {height}")
    is_early = place < int(change["height"]) + genesis.window
    ensure(not is_early, f"boundary {place} cannot be known to all who vote above it")


def _check_keys(state: State, validator: int) -> None:
    used = state.count["validator_keys"]
    rows = np.flatnonzero(state.validator_keys.columns["validator"][:used] == validator)
    columns = {name: column[rows].tolist() for name, column in state.validator_keys.columns.items()}
    firsts, lasts = columns["first_epoch"], columns["last_epoch"]
    row = state.validators.data[validator]
    ends = (int(row["first_epoch"]), int(row["last_epoch"]))
    ensure((firsts[0], lasts[-1]) == ends, f"validator {validator} votes in epochs {ends}, its keys do not")
    gaps = [last + 1 != first for last, first in zip(lasts[:-1], firsts[1:], strict=True)]
    ensure(not any(gaps), f"validator {validator} has epochs without a key, or with two")
    is_over = row["status"] == ValidatorStatus.REMOVED
    ensure(is_over == (NONE != ends[1] < state.count["epoch"]), f"validator {validator} has a wrong status")
    ensure(
        validator not in member_ids(state) or ends[0] <= state.count["epoch"],
        f"validator {validator} votes before its first epoch",
    )


def _check_convictions(state: State) -> None:
    used, count = state.count["evidence"], state.count["validators"]
    columns = {name: column[:used] for name, column in state.evidence.columns.items()}
    counts = np.bincount(columns["validator"], minlength=count)
    ensure(
        np.array_equal(counts, state.validators.columns["convictions"][:count]),
        "convictions do not match their counter",
    )
    ensure(int(counts.max(initial=0)) <= CONVICTIONS_MAX, "a validator has too many convictions")
    places = {
        tuple(row)
        for row in zip(*(columns[n].tolist() for n in ("validator", "kind", "view", "seq")), strict=True)
    }
    ensure(len(places) == used, "two convictions are about one place")
