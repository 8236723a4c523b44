"""When each command about validators is refused, and what it schedules."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from engine.authority import is_venue
from engine.commands import (
    AddValidator,
    MoveValidator,
    RemoveValidator,
    ReplaceValidator,
    RotateValidatorKey,
    SetExclusionRule,
    Wedge,
)
from engine.genesis import Genesis
from engine.layout import ADDRESS_BYTES_MAX, CERTIFICATE_BYTES_MAX, ChangeKind, ValidatorStatus
from engine.plugin import Context, Entry
from engine.records import Code
from engine.state import State
from engine.tables.table import Table
from engine.validators import boundary
from engine.validators.members import member_ids

MEMBERS_MIN = 4  # of a network that has so many: below, one crash would stop it
WEDGE_AHEAD_MAX = 100_000  # blocks: while a boundary is awaited, nothing else can be scheduled


class Endpoint(NamedTuple):
    """How a validator is reached."""

    certificate: bytes
    peer: str
    client: str


@dataclass(frozen=True)
class Changes:
    """The commands' rules under one genesis. `validate_*` write nothing, `apply_*` cannot fail."""

    genesis: Genesis

    def first_boundary(self, height: int) -> int:
        """The earliest boundary of a change scheduled by the block at `height`."""
        return boundary.first_boundary(height, self.genesis.checkpoint_interval, self.genesis.window)

    def validate_add(self, state: State, command: AddValidator, context: Context) -> Code:
        """There is room for one more, and nothing of it is somebody else's."""
        code = _check_free(state, context)
        if code:
            return code
        if len(member_ids(state)) >= self.genesis.members_max:
            return Code.TOO_MANY_VALIDATORS
        return _check_newcomer(state, command.key, Endpoint(*command[1:]))

    def apply_add(self, state: State, command: AddValidator, context: Context) -> Entry:
        """Append the newcomer."""
        newcomer = boundary.schedule_addition(state, command.key, self.first_boundary(context.height))
        _write_endpoint(state.validators, newcomer, Endpoint(*command[1:]))
        return _entry(state, newcomer)

    def validate_remove(self, state: State, command: RemoveValidator, context: Context) -> Code:
        """Enough others remain."""
        code = _check_target(state, command.validator, context)
        return code or check_shrink(state)

    def apply_remove(self, state: State, command: RemoveValidator, context: Context) -> Entry:
        """The validator votes until the boundary."""
        boundary.schedule_removal(state, command.validator, self.first_boundary(context.height))
        return _entry(state, command.validator)

    def validate_replace(self, state: State, command: ReplaceValidator, context: Context) -> Code:
        """Nothing of the newcomer is anybody's, not even of the one it replaces."""
        code = _check_target(state, command.validator, context)
        return code or _check_newcomer(state, command.key, Endpoint(*command[2:]))

    def apply_replace(self, state: State, command: ReplaceValidator, context: Context) -> Entry:
        """Append the newcomer; the other votes until the boundary."""
        newcomer = boundary.schedule_replacement(
            state, command.validator, command.key, self.first_boundary(context.height)
        )
        _write_endpoint(state.validators, newcomer, Endpoint(*command[2:]))
        return _entry(state, command.validator, newcomer)

    def validate_rotate(self, state: State, command: RotateValidatorKey, context: Context) -> Code:
        """The key is new."""
        code = _check_target(state, command.validator, context)
        return code or _check_key(state, command.key)

    def apply_rotate(self, state: State, command: RotateValidatorKey, context: Context) -> Entry:
        """Append the key; the present one signs until the boundary."""
        boundary.schedule_rotation(state, command.validator, command.key, self.first_boundary(context.height))
        return _entry(state, command.validator)

    def validate_move(self, state: State, command: MoveValidator, context: Context) -> Code:
        """Nobody else is there. What stays the same may be repeated."""
        code = _check_target(state, command.validator, context)
        return code or _check_endpoint(state, Endpoint(*command[1:]), command.validator)

    def apply_move(self, state: State, command: MoveValidator, context: Context) -> Entry:
        """Keep where it will be until the boundary."""
        boundary.schedule(state, ChangeKind.MOVE, self.first_boundary(context.height), command.validator)
        _write_endpoint(state.change, 0, Endpoint(*command[1:]))
        return _entry(state, command.validator)

    def validate_wedge(self, state: State, command: Wedge, context: Context) -> Code:
        """The height can still be announced in time, and is not out of sight."""
        code = _check_free(state, context)
        if code:
            return code
        is_near = command.height <= context.height + WEDGE_AHEAD_MAX
        is_late = 0 < command.height < context.height + self.genesis.window
        return Code.OK if is_near and not is_late else Code.HEIGHT_OUT_OF_RANGE

    def apply_wedge(self, state: State, command: Wedge, context: Context) -> Entry:
        """No block follows the boundary until nodes are told to go on."""
        wanted = boundary.round_up(command.height, self.genesis.checkpoint_interval)
        place = max(wanted, self.first_boundary(context.height))
        boundary.schedule(state, ChangeKind.WEDGE, place)
        return Entry(detail=place)

    def validate_rule(self, state: State, command: SetExclusionRule, context: Context) -> Code:
        """The venue governs."""
        return Code.OK if is_venue(state, context.key, context.time_ms) else Code.NOT_AUTHORISED

    def apply_rule(self, state: State, command: SetExclusionRule, context: Context) -> Entry:
        """From the end of this block on."""
        state.count["exclusion_rule"] = command.rule
        return Entry(detail=command.rule)


def check_shrink(state: State) -> Code:
    """Whether a validator may go without another coming."""
    left = len(member_ids(state)) - 1
    return Code.TOO_FEW_VALIDATORS if left == 0 or left == MEMBERS_MIN - 1 else Code.OK


def _check_free(state: State, context: Context) -> Code:
    if not is_venue(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    return Code.CHANGE_PENDING if boundary.pending(state) else Code.OK


def _check_target(state: State, validator: int, context: Context) -> Code:
    code = _check_free(state, context)
    if code:
        return code
    known = validator < state.count["validators"]
    if not known or state.validators.columns["status"].item(validator) != ValidatorStatus.ACTIVE:
        return Code.UNKNOWN_VALIDATOR
    return Code.OK


def _check_newcomer(state: State, key: bytes, endpoint: Endpoint) -> Code:
    code = _check_key(state, key) or _check_endpoint(state, endpoint, None)
    if code:
        return code
    return Code.OK if state.has_room(state.validators) else Code.LIMIT_REACHED


def _check_key(state: State, key: bytes) -> Code:
    if key in state.validator_key_rows:
        return Code.KEY_USED
    return Code.OK if state.has_room(state.validator_keys) else Code.LIMIT_REACHED


def _check_endpoint(state: State, endpoint: Endpoint, validator: int | None) -> Code:
    """Refuse what a present validator other than `validator` has, as far as the ledger knows it.

    Founders that never moved are reached as the network file says, which nodes compare by themselves.
    """
    if endpoint.peer == endpoint.client:
        return Code.ENDPOINT_TAKEN
    others = np.array([row for row in member_ids(state) if row != validator], dtype=np.int64)
    columns = state.validators.columns
    wanted = _pack(endpoint)
    addresses = {wanted["peer_address"], wanted["client_address"]}
    for name in ("certificate", "peer_address", "client_address"):
        values = {value.tobytes() for value in columns[name][others]}
        if values & ({wanted[name]} if name == "certificate" else addresses):
            return Code.ENDPOINT_TAKEN
    return Code.OK


def _write_endpoint(table: Table, row: int, endpoint: Endpoint) -> None:
    for name, value in _pack(endpoint).items():
        table.columns[name][row] = value
    table.columns["certificate_bytes"][row] = len(endpoint.certificate)
    table.mark(row)


def _pack(endpoint: Endpoint) -> dict[str, bytes]:
    return {
        "certificate": endpoint.certificate.ljust(CERTIFICATE_BYTES_MAX, b"\0"),
        "peer_address": endpoint.peer.encode("ascii").ljust(ADDRESS_BYTES_MAX, b"\0"),
        "client_address": endpoint.client.encode("ascii").ljust(ADDRESS_BYTES_MAX, b"\0"),
    }


def _entry(state: State, validator: int, newcomer: int = 0) -> Entry:
    """Who, the epoch that will start, and the last block before it."""
    epoch, place = state.count["epoch"] + 1, state.change.columns["boundary"].item(0)
    return Entry(account=validator, counter_account=newcomer, qty=epoch, detail=place)
