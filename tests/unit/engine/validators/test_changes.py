"""One change of validators at a time, at a checkpoint that everybody can foresee."""

import pytest

from engine.commands import (
    AddValidator,
    CommandNumber,
    GrantKey,
    MoveValidator,
    OpenAccount,
    RemoveValidator,
    ReplaceValidator,
    RotateValidatorKey,
    SetExclusionRule,
    Wedge,
)
from engine.layout import LAYOUT_VERSION, SCOPES_ALL, ChangeKind, Scope, ValidatorStatus
from engine.records import Code, Kind
from engine.validators.boundary import pending
from engine.validators.members import find_key, member_ids
from tests.helpers.venue import INTERVAL, NEVER, WINDOW, Venue, signer, validator_key

NEW = validator_key(100).public_key
NEWER = validator_key(101).public_key
ENDPOINT = (b"certificate", "new:7000", "new:7100")
BOUNDARY = 12  # of a command in block 1: the first multiple of 4 from 1 + 8 on


def order(venue: Venue, command: tuple, by=None, account: int = 0) -> Code:
    """Have one command executed; return its code."""
    venue.commands(command, by=by, account=account)
    journal = venue.block().journal
    return Code(int(journal["code"][journal["kind"] == Kind.COMMAND][0]))


def run_to(venue: Venue, height: int) -> None:
    while venue.machine.height < height:
        venue.block()


def status(venue: Venue, validator: int) -> ValidatorStatus:
    return ValidatorStatus(venue.machine.state.validators.columns["status"].item(validator))


def test_a_replacement_takes_effect_after_its_boundary_under_a_new_id():
    venue = Venue(validators=4)
    assert order(venue, ReplaceValidator(1, NEW, *ENDPOINT)) == Code.OK
    before = venue.machine.epoch()
    for height in range(2, BOUNDARY):
        venue.block()
        assert venue.machine.epoch() == before
        assert venue.machine.summary().boundary == BOUNDARY
        assert (status(venue, 1), status(venue, 4)) == (ValidatorStatus.LEAVING, ValidatorStatus.JOINING)
        assert height == venue.machine.height
    venue.block()
    epoch, summary = venue.machine.epoch(), venue.machine.summary()
    assert (epoch.number, epoch.first_seq) == (1, BOUNDARY + 1)
    assert [member.id for member in epoch.members] == [0, 2, 3, 4]
    assert epoch.members[-1].key == NEW
    assert (summary.boundary, summary.epoch) == (0, epoch.digest)
    assert (status(venue, 1), status(venue, 4)) == (ValidatorStatus.REMOVED, ValidatorStatus.ACTIVE)
    state = venue.machine.state
    assert find_key(state, 1, 0) == validator_key(1).public_key and find_key(state, 1, 1) is None
    assert find_key(state, 4, 0) is None and find_key(state, 4, 1) == NEW and find_key(state, 4, 2) is None


def test_the_journal_tells_who_changes_when_and_which_epoch_starts():
    venue = Venue(validators=4)
    venue.commands(ReplaceValidator(1, NEW, *ENDPOINT), Wedge(0))
    lines = venue.block().journal[1:]
    assert [tuple(line)[i] for line in lines[:1] for i in (5, 6, 7)] == [
        CommandNumber.REPLACE_VALIDATOR,
        1,
        4,
    ]
    assert (lines[0]["qty"], lines[0]["detail"]) == (1, BOUNDARY)
    assert lines[1]["code"] == Code.CHANGE_PENDING


@pytest.mark.parametrize("late", range(INTERVAL))
def test_whoever_votes_above_a_boundary_has_a_stable_checkpoint_that_covers_the_command(late):
    venue = Venue()
    run_to(venue, late)
    order(venue, RemoveValidator(0))
    place = venue.machine.summary().boundary
    assert place % INTERVAL == 0
    assert late + 1 + WINDOW <= place < late + 1 + WINDOW + INTERVAL


def test_one_change_waits_for_the_other():
    venue = Venue()
    assert order(venue, RotateValidatorKey(2, NEW)) == Code.OK
    for command in (
        AddValidator(NEWER, *ENDPOINT),
        RemoveValidator(1),
        ReplaceValidator(1, NEWER, *ENDPOINT),
        RotateValidatorKey(1, NEWER),
        MoveValidator(1, *ENDPOINT),
        Wedge(0),
    ):
        assert order(venue, command) == Code.CHANGE_PENDING
    run_to(venue, BOUNDARY)
    assert order(venue, RemoveValidator(1)) == Code.OK


def test_a_key_is_never_a_validators_twice():
    venue = Venue()
    order(venue, RotateValidatorKey(2, NEW))
    run_to(venue, BOUNDARY)
    state = venue.machine.state
    assert find_key(state, 2, 0) == validator_key(2).public_key and find_key(state, 2, 1) == NEW
    for key in (NEW, *[validator_key(row).public_key for row in (0, 2)]):
        assert order(venue, AddValidator(key, *ENDPOINT)) == Code.KEY_USED
        assert order(venue, RotateValidatorKey(1, key)) == Code.KEY_USED
        assert order(venue, ReplaceValidator(2, key, *ENDPOINT)) == Code.KEY_USED


@pytest.mark.parametrize(
    ("validators", "code"),
    [
        (1, Code.TOO_FEW_VALIDATORS),
        (2, Code.OK),
        (3, Code.OK),
        (4, Code.TOO_FEW_VALIDATORS),
        (5, Code.OK),
    ],
)
def test_nobody_is_removed_where_three_or_none_would_remain(validators, code):
    assert order(Venue(validators=validators), RemoveValidator(0)) == code


def test_no_more_validators_than_a_new_view_has_room_for():
    venue = Venue(validators=4, members_max=5)
    assert order(venue, AddValidator(NEW, *ENDPOINT)) == Code.OK
    run_to(venue, BOUNDARY)
    assert member_ids(venue.machine.state) == [0, 1, 2, 3, 4]
    assert order(venue, AddValidator(NEWER, b"other", "a:1", "a:2")) == Code.TOO_MANY_VALIDATORS
    assert order(venue, ReplaceValidator(0, NEWER, b"other", "a:1", "a:2")) == Code.OK


def test_two_validators_never_share_a_certificate_or_an_address():
    venue = Venue()
    order(venue, AddValidator(NEW, *ENDPOINT))
    run_to(venue, BOUNDARY)
    for endpoint in (
        (b"certificate", "a:1", "a:2"),
        (b"other", "new:7000", "a:2"),
        (b"other", "a:1", "new:7000"),
        (b"other", "a:1", "a:1"),
    ):
        assert order(venue, AddValidator(NEWER, *endpoint)) == Code.ENDPOINT_TAKEN
        assert order(venue, MoveValidator(0, *endpoint)) == Code.ENDPOINT_TAKEN
    assert order(venue, MoveValidator(5, b"certificate", "new:7000", "a:2")) == Code.OK  # its own may stay


def test_a_move_takes_effect_at_its_boundary_and_changes_no_vote():
    venue = Venue()
    members = venue.machine.epoch().members
    order(venue, MoveValidator(3, *ENDPOINT))
    columns = venue.machine.state.validators.columns
    run_to(venue, BOUNDARY - 1)
    assert columns["certificate_bytes"].item(3) == 0
    run_to(venue, BOUNDARY)
    assert columns["certificate"][3].tobytes().rstrip(b"\0") == b"certificate"
    assert columns["certificate_bytes"].item(3) == len(b"certificate")
    assert columns["peer_address"][3].tobytes().rstrip(b"\0") == b"new:7000"
    assert (venue.machine.epoch().number, venue.machine.epoch().members) == (1, members)


def test_who_is_not_a_validator_now_cannot_be_changed():
    venue = Venue()
    order(venue, RemoveValidator(4))
    run_to(venue, BOUNDARY)
    for validator in (4, 5, 2**31 - 1):
        for command in (
            RemoveValidator(validator),
            RotateValidatorKey(validator, NEW),
            MoveValidator(validator, *ENDPOINT),
            ReplaceValidator(validator, NEW, *ENDPOINT),
        ):
            assert order(venue, command) == Code.UNKNOWN_VALIDATOR


def test_only_admin_keys_of_the_venue_change_anything():
    venue = Venue()
    trader, clerk = signer("trader"), signer("clerk")
    order(venue, OpenAccount(trader.public_key))
    scopes = SCOPES_ALL - Scope.ADMIN
    order(venue, GrantKey(0, clerk.public_key, scopes, NEVER))
    for by, account in ((trader, 1), (clerk, 0)):
        for command in (
            AddValidator(NEW, *ENDPOINT),
            RemoveValidator(0),
            ReplaceValidator(0, NEW, *ENDPOINT),
            RotateValidatorKey(0, NEW),
            MoveValidator(0, *ENDPOINT),
            Wedge(0),
            SetExclusionRule(1),
        ):
            assert order(venue, command, by, account) == Code.NOT_AUTHORISED
    assert pending(venue.machine.state) == ChangeKind.NONE


def test_a_wedge_names_its_checkpoint_until_the_ledger_goes_on():
    venue = Venue()
    members = venue.machine.epoch()
    assert order(venue, Wedge(17)) == Code.OK
    run_to(venue, 19)
    assert venue.machine.summary().boundary == 20
    run_to(venue, 20)
    assert venue.machine.summary().boundary == 20  # stopped: nothing says what comes next
    assert venue.machine.epoch() == members
    venue.block()
    assert venue.machine.summary().boundary == 0
    assert order(venue, RemoveValidator(0)) == Code.OK


@pytest.mark.parametrize(
    ("height", "code"),
    [
        (0, Code.OK),
        (8, Code.HEIGHT_OUT_OF_RANGE),  # the command runs in block 1
        (9, Code.OK),
        (100_001, Code.OK),
        (100_002, Code.HEIGHT_OUT_OF_RANGE),
        (2**62, Code.HEIGHT_OUT_OF_RANGE),
    ],
)
def test_a_wedge_that_is_too_near_or_out_of_sight_is_refused(height, code):
    assert order(Venue(), Wedge(height)) == code


def test_the_layout_has_a_version_of_its_own():
    assert LAYOUT_VERSION == 4
