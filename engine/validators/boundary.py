"""When a change takes effect, and what happens then."""

import numpy as np

from engine.layout import CHANGE, ChangeKind, ValidatorStatus
from engine.state import State
from engine.validators.members import append_key, append_validator

_ENDPOINT = ("certificate_bytes", "certificate", "peer_address", "client_address")


def first_boundary(height: int, checkpoint_interval: int, window: int) -> int:
    """The earliest boundary of a change that the block at `height` schedules."""
    return round_up(height + window, checkpoint_interval)


def round_up(height: int, checkpoint_interval: int) -> int:
    """The first checkpoint at or above `height`."""
    return -(-height // checkpoint_interval) * checkpoint_interval


def pending(state: State) -> ChangeKind:
    """What is scheduled."""
    return ChangeKind(state.change.columns["kind"].item(0))


def next_boundary(state: State) -> int:
    """What a checkpoint at the present height says: the boundary to come, the height itself where the
    ledger is wedged, else 0."""
    if pending(state):
        return state.change.columns["boundary"].item(0)
    height = state.count["height"]
    return height if state.count["wedged_at"] == height else 0


def schedule(
    state: State, kind: ChangeKind, boundary: int, validator: int = 0, newcomer: int = 0, key: int = 0
) -> None:
    """Make `kind` the pending change. The caller has seen that none is pending."""
    values = {"kind": kind, "boundary": boundary, "height": state.count["height"]}
    values |= {"validator": validator, "newcomer": newcomer, "key": key}
    for name, value in values.items():
        state.change.columns[name][0] = value
    state.change.mark(0)


def schedule_removal(state: State, validator: int, boundary: int) -> None:
    """A validator votes until `boundary`."""
    _let_go(state, validator)
    schedule(state, ChangeKind.REMOVE, boundary, validator)


def schedule_addition(state: State, key: bytes, boundary: int) -> int:
    """A new validator votes after `boundary`; return its id. Its endpoint is still to be written."""
    newcomer = append_validator(state, key, state.count["epoch"] + 1, ValidatorStatus.JOINING)
    schedule(state, ChangeKind.ADD, boundary, newcomer)
    return newcomer


def schedule_replacement(state: State, validator: int, key: bytes, boundary: int) -> int:
    """Both at once; return the newcomer's id. Its endpoint is still to be written."""
    newcomer = append_validator(state, key, state.count["epoch"] + 1, ValidatorStatus.JOINING)
    _let_go(state, validator)
    schedule(state, ChangeKind.REPLACE, boundary, validator, newcomer)
    return newcomer


def schedule_rotation(state: State, validator: int, key: bytes, boundary: int) -> None:
    """A validator signs with `key` after `boundary`."""
    epoch = state.count["epoch"]
    _end_key(state, state.validators.columns["key"].item(validator), epoch)
    row = append_key(state, validator, key, epoch + 1)
    schedule(state, ChangeKind.ROTATE, boundary, validator, key=row)


def reach(state: State, height: int) -> None:
    """Carry out the pending change, if the block at `height` is its boundary."""
    kind = pending(state)
    change = state.change.columns
    if kind == ChangeKind.NONE or change["boundary"].item(0) != height:
        return
    if kind == ChangeKind.WEDGE:
        state.count["wedged_at"] = height
    else:
        _carry_out(state, kind, change["validator"].item(0), change["newcomer"].item(0))
        state.count["epoch"] += 1
        state.count["epoch_first"] = height + 1
    state.change.data[0] = np.zeros((), dtype=CHANGE)
    state.change.mark(0)


def _carry_out(state: State, kind: ChangeKind, validator: int, newcomer: int) -> None:
    columns, change = state.validators.columns, state.change.columns
    match kind:
        case ChangeKind.ADD:
            columns["status"][validator] = ValidatorStatus.ACTIVE
        case ChangeKind.REMOVE:
            columns["status"][validator] = ValidatorStatus.REMOVED
        case ChangeKind.REPLACE:
            columns["status"][validator] = ValidatorStatus.REMOVED
            columns["status"][newcomer] = ValidatorStatus.ACTIVE
            state.validators.mark(newcomer)
        case ChangeKind.ROTATE:
            columns["key"][validator] = change["key"].item(0)
        case ChangeKind.MOVE:
            for name in _ENDPOINT:
                columns[name][validator] = change[name][0]
    state.validators.mark(validator)


def _let_go(state: State, validator: int) -> None:
    """The present epoch is this validator's last."""
    epoch, columns = state.count["epoch"], state.validators.columns
    columns["status"][validator] = ValidatorStatus.LEAVING
    columns["last_epoch"][validator] = epoch
    state.validators.mark(validator)
    _end_key(state, columns["key"].item(validator), epoch)


def _end_key(state: State, row: int, epoch: int) -> None:
    state.validator_keys.columns["last_epoch"][row] = epoch
    state.validator_keys.mark(row)
