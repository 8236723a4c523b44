"""Changes of rules wait, and cannot be hurried, smuggled or piled up."""

import pytest

from engine.commands import EXPIRY_NEVER, GrantKey, RevokeKey
from engine.layout import SCOPES_ALL, Scope
from engine.machine import Machine
from engine.oracle.commands import SetFeed, SetFeedReporter
from engine.records import Code, Kind
from engine.timelock.plugin import CancelChange, SetTimelockDelay
from engine.timelock.queue import CHANGES_MAX
from tests.helpers.reporting import ReportedVenue, command_codes
from tests.helpers.venue import signer

HOUR = 3_600_000
CHANGE = SetFeed(0, 20_000, 5, 6)


@pytest.fixture
def venue():
    venue = ReportedVenue(reporters=1)
    venue.commands(SetTimelockDelay(HOUR))
    venue.step()
    return venue


def applied(result):
    lines = result.journal[result.journal["kind"] == Kind.APPLIED]
    return list(zip(lines["detail"].tolist(), lines["code"].tolist(), strict=True))


def test_without_a_delay_changes_are_in_force_at_once():
    venue = ReportedVenue(reporters=1)
    venue.commands(CHANGE)
    assert applied(venue.step()) == []
    assert venue.feed("stale_ms") == 20_000


def test_a_change_is_in_force_at_the_end_of_the_first_block_that_is_late_enough(venue):
    venue.commands(CHANGE)
    result = venue.step()
    line = result.journal[result.journal["kind"] == Kind.COMMAND][0]
    assert (line["code"], line["qty"], line["detail"]) == (0, venue.now_ms + HOUR, 1)
    due = venue.now_ms + HOUR
    assert applied(venue.at(due - 1)) == []
    assert venue.feed("stale_ms") == 10_000
    assert applied(venue.at(due)) == [(1, 0)]
    assert venue.feed("stale_ms") == 20_000
    assert applied(venue.at(due + HOUR)) == []


def test_a_bad_change_is_refused_at_once(venue):
    venue.commands(CHANGE._replace(feed=5), CHANGE._replace(stale_ms=1))
    assert command_codes(venue.step()) == [Code.UNKNOWN_FEED, Code.BAD_ARGUMENT]
    venue.commands(CHANGE, by=venue.reporters[0], account=1)
    assert command_codes(venue.step()) == [Code.NOT_AUTHORISED]
    assert venue.machine.state.count["changes_waiting"] == 0


def test_a_change_that_became_impossible_is_dropped(venue):
    for _ in range(2):
        venue.commands(SetFeedReporter(0, 0, 0))
    venue.step()
    assert applied(venue.step(HOUR)) == [(1, 0), (2, Code.NOTHING_TO_DO)]


def test_what_a_stolen_key_proposed_ends_with_its_grant(venue):
    thief = signer("thief")
    venue.commands(GrantKey(0, thief.public_key, SCOPES_ALL, EXPIRY_NEVER))
    venue.commands(CHANGE, by=thief)
    assert command_codes(venue.step()) == [0, 0]
    venue.commands(RevokeKey(0, thief.public_key))
    venue.step()
    assert applied(venue.step(HOUR)) == [(1, Code.NOT_AUTHORISED)]
    assert venue.feed("stale_ms") == 10_000


def test_the_delay_itself_waits_as_long_as_it_says(venue):
    venue.commands(SetTimelockDelay(0), CHANGE)
    venue.step()
    venue.commands(CHANGE)
    venue.step(HOUR - 1)
    assert venue.feed("stale_ms") == 10_000
    venue.step(1)
    venue.commands(CHANGE._replace(stale_ms=30_000))
    assert applied(venue.step()) == []
    assert venue.feed("stale_ms") == 30_000


def test_cancelled_changes_never_happen_and_guardians_may_cancel_but_not_propose(venue):
    guardian = signer("guardian")
    venue.commands(GrantKey(0, guardian.public_key, Scope.GUARD, EXPIRY_NEVER), CHANGE, CHANGE)
    venue.step()
    venue.commands(CancelChange(1), CancelChange(1), CHANGE, SetTimelockDelay(0), by=guardian)
    assert command_codes(venue.step()) == [0, Code.UNKNOWN_CHANGE, Code.NOT_AUTHORISED, Code.NOT_AUTHORISED]
    venue.commands(CancelChange(2), by=venue.reporters[0], account=1)
    venue.commands(CancelChange(2))
    assert command_codes(venue.step()) == [Code.NOT_AUTHORISED, 0]
    assert applied(venue.step(2 * HOUR)) == []


def test_the_queue_is_bounded_and_its_rows_are_used_again(venue):
    venue.commands(*[CHANGE] * (CHANGES_MAX + 1))
    assert command_codes(venue.step()) == [0] * CHANGES_MAX + [Code.LIMIT_REACHED]
    venue.commands(CancelChange(3), CHANGE, CHANGE)
    assert command_codes(venue.step()) == [0, 0, Code.LIMIT_REACHED]
    venue.machine.check_conservation()
    numbers = [number for number, _ in applied(venue.step(HOUR))]
    assert numbers == [n for n in range(1, CHANGES_MAX + 2) if n != 3]
    assert venue.machine.state.count["changes_waiting"] == 0
    venue.machine.check_conservation()


def test_what_waits_survives_a_restore(venue):
    venue.commands(CHANGE)
    venue.step()
    machine = venue.machine
    venue.machine = Machine.restore(venue.genesis, machine.snapshot(), machine.state_root())
    assert applied(venue.step(HOUR)) == [(1, 0)]
    assert venue.feed("stale_ms") == 20_000


def test_a_delay_has_a_limit(venue):
    venue.commands(SetTimelockDelay(2**40))
    assert command_codes(venue.step()) == [Code.BAD_ARGUMENT]
