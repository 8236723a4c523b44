"""Membership over random commands and evidence: what the ledger derives is what the plain rulebook says."""

import random
from typing import Any

import pytest

from consensus.primitives.errors import ProtocolError
from engine.commands import (
    AddValidator,
    MoveValidator,
    RemoveValidator,
    ReplaceValidator,
    RotateValidatorKey,
    SetExclusionRule,
    Wedge,
)
from engine.machine import Machine
from engine.records import Code, Kind
from engine.validators.members import find_key
from tests.helpers.slow_validators import SlowValidators
from tests.helpers.venue import INTERVAL, WINDOW, Venue, contradiction, validator_key

KEYS = 60
MEMBERS_MAX = 6


class Twins:
    """A venue and its slow twin, fed the same."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        founders = (1, 2, 4, 5, 6, 6)[seed % 6]
        self.venue = Venue(validators=founders, members_max=MEMBERS_MAX)
        keys = [validator_key(number).public_key for number in range(founders)]
        self.slow = SlowValidators(keys, INTERVAL, WINDOW, MEMBERS_MAX)
        self.codes: set[Code] = set()

    def block(self) -> None:
        """One more random block; compares what became of everything in it."""
        machine, slow = self.venue.machine, self.slow
        height = machine.height + 1
        expected = []
        for _ in range(self.random.choice((0, 0, 1, 1, 2, 3))):
            expected.append(self._evidence() if self.random.random() < 0.4 else self._command(height))
        result = self.venue.block()
        lines = result.journal[result.journal["kind"] == Kind.ENVELOPE]
        found = []
        for line in lines:
            is_whole = line["qty"] == 1
            found.append(Code(int(result.journal["code"][line["detail"]] if is_whole else line["code"])))
        slow.end(height)
        assert found == expected
        self.codes |= set(found)

    def _command(self, height: int) -> Code:
        command = self._choose(height)
        self.venue.commands(command)
        return self.slow.command(height, command)

    def _evidence(self) -> Code:
        rng, slow = self.random, self.slow
        replica = rng.randrange(len(slow.endpoints) + 1)
        epoch = rng.randrange(len(slow.epochs) + 1) if rng.random() < 0.3 else len(slow.epochs) - 1
        key = validator_key(rng.randrange(KEYS))
        known = slow.epochs[min(epoch, len(slow.epochs) - 1)].get(replica)
        if known is not None and rng.random() < 0.8:
            key = next(k for k in map(validator_key, range(KEYS)) if k.public_key == known)
        view, seq = (epoch << 32) + rng.randrange(2), rng.randrange(1, 4)
        self.venue.pending.append(contradiction(replica, key, view, seq, epoch))
        return slow.evidence(replica, epoch, key.public_key, view, seq)

    def _choose(self, height: int) -> tuple[Any, ...]:
        rng = self.random
        validator = rng.randrange(len(self.slow.endpoints) + 1)
        key = validator_key(rng.randrange(KEYS)).public_key
        endpoint = (f"cert {rng.randrange(12)}".encode(), f"h:{rng.randrange(20)}", f"h:{rng.randrange(20)}")
        return rng.choice(
            (
                AddValidator(key, *endpoint),
                RemoveValidator(validator),
                ReplaceValidator(validator, key, *endpoint),
                RotateValidatorKey(validator, key),
                MoveValidator(validator, *endpoint),
                Wedge(rng.choice((0, height + rng.randrange(3 * WINDOW), height + 10**6))),
                SetExclusionRule(rng.randrange(2)),
            )
        )

    def check(self) -> None:
        """Present and past agree."""
        machine, slow = self.venue.machine, self.slow
        machine.check_conservation()
        epoch, summary = machine.epoch(), machine.summary()
        assert (epoch.number, epoch.first_seq) == (len(slow.epochs) - 1, slow.first_seq)
        assert {member.id: member.key for member in epoch.members} == slow.members
        assert summary.boundary == slow.boundary(machine.height)
        assert summary.epoch == epoch.digest
        assert summary.root == machine.full_state_root()
        for number, members in enumerate(slow.epochs):
            for validator in range(len(slow.endpoints) + 1):
                assert find_key(machine.state, validator, number) == members.get(validator)


@pytest.mark.parametrize("seed", range(8))
def test_epochs_boundaries_and_verdicts_are_those_of_the_slow_twin(seed):
    twins = Twins(seed)
    for _ in range(90):
        twins.block()
        twins.check()
    assert len(twins.slow.epochs) > 2


def test_random_commands_meet_every_refusal():
    met: set[Code] = set()
    for seed in range(8):
        twins = Twins(seed)
        for _ in range(90):
            twins.block()
        met |= twins.codes
    assert met >= {
        Code.OK,
        Code.CHANGE_PENDING,
        Code.UNKNOWN_VALIDATOR,
        Code.KEY_USED,
        Code.ENDPOINT_TAKEN,
        Code.TOO_FEW_VALIDATORS,
        Code.TOO_MANY_VALIDATORS,
        Code.HEIGHT_OUT_OF_RANGE,
        Code.BAD_EVIDENCE,
        Code.ALREADY_REPORTED,
    }


@pytest.mark.parametrize("seed", range(100, 104))
def test_a_machine_restored_in_the_middle_of_a_change_goes_the_same_way(seed):
    twins = Twins(seed)
    machine = twins.venue.machine
    copy = Machine.restore(twins.venue.genesis, machine.snapshot(), machine.state_root())
    restored_while_pending = 0
    for _ in range(60):
        twins.block()
        copy.apply(*twins.venue.applied[-1])
        assert copy.summary() == machine.summary()
        assert copy.epoch() == machine.epoch()
        if twins.slow.pending:
            restored_while_pending += 1
            copy = Machine.restore(twins.venue.genesis, copy.snapshot(), machine.state_root())
    assert restored_while_pending > 5


def test_a_restored_machine_with_other_validators_is_refused():
    twins = Twins(1)
    twins.block()
    root = twins.venue.machine.state_root()
    with pytest.raises(ProtocolError):
        Machine.restore(Venue(validators=4).genesis, Venue(validators=3).machine.snapshot(), root)
