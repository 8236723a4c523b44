"""Validators in plain Python, told in the words of the rulebook: the slow twin of `engine.validators`.

It keeps each epoch's members whole, so that what the ledger derives from first and last epochs can
be compared with what was true when it happened.
"""

from dataclasses import dataclass, field
from typing import Any

from engine.commands import (
    AddValidator,
    MoveValidator,
    RemoveValidator,
    ReplaceValidator,
    RotateValidatorKey,
    SetExclusionRule,
    Wedge,
)
from engine.records import Code

Endpoint = tuple[bytes, str, str]  # certificate, peer, client
NOWHERE: Endpoint = (b"", "", "")


@dataclass
class SlowValidators:
    """`members` are {id: key} of the present epoch; `epochs[e]` those of epoch e."""

    founders: list[bytes]
    interval: int
    window: int
    members_max: int
    epochs: list[dict[int, bytes]] = field(default_factory=list)
    first_seq: int = 1
    pending: tuple[Any, int, int] | None = None  # command, boundary, newcomer
    wedged_at: int = 0
    automatic: bool = False
    convicted: dict[int, dict[tuple[int, int], bytes]] = field(default_factory=dict)  # key by (view, seq)
    endpoints: dict[int, Endpoint] = field(default_factory=dict)
    used: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.epochs.append(dict(enumerate(self.founders)))
        self.endpoints = dict.fromkeys(range(len(self.founders)), NOWHERE)
        self.used = set(self.founders)

    @property
    def members(self) -> dict[int, bytes]:
        return self.epochs[-1]

    def boundary(self, height: int) -> int:
        """What a checkpoint at `height` announces."""
        if self.pending:
            return self.pending[1]
        return height if height == self.wedged_at else 0

    def command(self, height: int, command: Any) -> Code:
        """Judge a command of the venue; carry it out if it is well."""
        if isinstance(command, SetExclusionRule):
            self.automatic = bool(command.rule)
            return Code.OK
        code = self._judge(height, command)
        if code is Code.OK:
            self._begin(height, command)
        return code

    def _judge(self, height: int, command: Any) -> Code:
        if self.pending:
            return Code.CHANGE_PENDING
        if isinstance(command, Wedge):
            is_possible = command.height == 0 or command.height >= height + self.window
            is_possible = is_possible and command.height <= height + 100_000
            return Code.OK if is_possible else Code.HEIGHT_OUT_OF_RANGE
        if isinstance(command, AddValidator):
            if len(self.members) == self.members_max:
                return Code.TOO_MANY_VALIDATORS
        elif command.validator not in self.members:
            return Code.UNKNOWN_VALIDATOR
        if isinstance(command, RemoveValidator):
            return Code.OK if self._may_shrink() else Code.TOO_FEW_VALIDATORS
        if not isinstance(command, MoveValidator) and command.key in self.used:
            return Code.KEY_USED
        if not isinstance(command, RotateValidatorKey):
            but = command.validator if isinstance(command, MoveValidator) else None
            return Code.OK if self._is_free(command, but) else Code.ENDPOINT_TAKEN
        return Code.OK

    def _may_shrink(self) -> bool:
        return len(self.members) not in (1, 4)

    def _is_free(self, command: Any, but: int | None) -> bool:
        taken = [self.endpoints[member] for member in self.members if member != but]
        places = {place for _, peer, client in taken for place in (peer, client)}
        is_free = command.certificate not in {certificate for certificate, _, _ in taken}
        return is_free and command.peer != command.client and not places & {command.peer, command.client}

    def _begin(self, height: int, command: Any) -> None:
        boundary = next(h for h in range(height + self.window, 10**9) if h % self.interval == 0)
        if isinstance(command, Wedge) and command.height:
            boundary = next(h for h in range(command.height, 10**9) if h % self.interval == 0)
        newcomer = -1
        if isinstance(command, AddValidator | ReplaceValidator):
            newcomer = len(self.endpoints)
            self.endpoints[newcomer] = (command.certificate, command.peer, command.client)
        if isinstance(command, AddValidator | ReplaceValidator | RotateValidatorKey):
            self.used.add(command.key)
        self.pending = (command, boundary, newcomer)

    def evidence(self, replica: int, epoch: int, key: bytes, view: int, seq: int) -> Code:
        """Judge two votes signed with `key`."""
        if epoch >= len(self.epochs) or replica not in self.epochs[epoch]:
            return Code.BAD_EVIDENCE
        before = self.convicted.setdefault(replica, {})
        if (view, seq) in before:
            return Code.ALREADY_REPORTED
        if len(before) == 16:
            return Code.LIMIT_REACHED
        if self.epochs[epoch][replica] != key:
            return Code.BAD_EVIDENCE
        before[view, seq] = key
        return Code.OK

    def end(self, height: int) -> None:
        """After the block at `height`."""
        convicted = [
            member
            for member, key in sorted(self.members.items())
            if key in self.convicted.get(member, {}).values()
        ]
        if self.automatic and convicted and not self.pending and self._may_shrink():
            self._begin(height, RemoveValidator(convicted[0]))
        if self.pending and self.pending[1] == height:
            self._change(height, *self.pending)
            self.pending = None

    def _change(self, height: int, command: Any, _boundary: int, newcomer: int) -> None:
        if isinstance(command, Wedge):
            self.wedged_at = height
            return
        members = dict(self.members)
        if isinstance(command, RemoveValidator | ReplaceValidator):
            del members[command.validator]
        if isinstance(command, AddValidator | ReplaceValidator):
            members[newcomer] = command.key
        if isinstance(command, RotateValidatorKey):
            members[command.validator] = command.key
        if isinstance(command, MoveValidator):
            self.endpoints[command.validator] = (command.certificate, command.peer, command.client)
        self.epochs.append(members)
        self.first_seq = height + 1
