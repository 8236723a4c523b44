"""Who votes in which epoch, under which key. Reads tables, writes only the founders' rows."""

import numpy as np

from consensus.proofs import Epoch, Member
from engine.layout import NONE, ValidatorStatus
from engine.state import State

_VOTES = (ValidatorStatus.ACTIVE, ValidatorStatus.LEAVING)


def add_founders(state: State, epoch: Epoch) -> None:
    """Write the rows that a ledger starts with."""
    for member in epoch.members:
        append_validator(state, member.key, epoch.number, ValidatorStatus.ACTIVE)
    state.count["epoch_first"] = epoch.first_seq


def append_validator(state: State, key: bytes, first_epoch: int, status: ValidatorStatus) -> int:
    """Append a validator who votes with `key` from `first_epoch` on; return its id."""
    validator = state.add_validator()
    columns = state.validators.columns
    columns["status"][validator] = status
    columns["first_epoch"][validator] = first_epoch
    columns["last_epoch"][validator] = NONE
    columns["key"][validator] = append_key(state, validator, key, first_epoch)
    return validator


def append_key(state: State, validator: int, key: bytes, first_epoch: int) -> int:
    """Append a key that `validator` signs with from `first_epoch` on; return its row."""
    row = state.add_validator_key(key)
    columns = state.validator_keys.columns
    columns["validator"][row] = validator
    columns["first_epoch"][row] = first_epoch
    columns["last_epoch"][row] = NONE
    return row


def member_ids(state: State) -> list[int]:
    """Who votes in the present epoch, ascending."""
    status = state.validators.columns["status"][: state.count["validators"]]
    ids: list[int] = np.flatnonzero(np.isin(status, _VOTES)).tolist()
    return ids


def current_epoch(state: State) -> Epoch:
    """The validators for the next block."""
    keys, public = state.validators.columns["key"], state.validator_keys.columns["public_key"]
    members = tuple(Member(row, public[keys.item(row)].tobytes()) for row in member_ids(state))
    return Epoch(state.count["epoch"], state.count["epoch_first"], members)


def find_key(state: State, validator: int, epoch: int) -> bytes | None:
    """The key of `validator` in a past epoch or the present one; None: it did not vote then."""
    if epoch > state.count["epoch"]:
        return None
    used = state.count["validator_keys"]
    columns = {name: column[:used] for name, column in state.validator_keys.columns.items()}
    last = columns["last_epoch"]
    is_then = (columns["first_epoch"] <= epoch) & ((last == NONE) | (last >= epoch))
    rows = np.flatnonzero((columns["validator"] == validator) & is_then)
    return columns["public_key"][rows[0]].tobytes() if rows.shape[0] else None
