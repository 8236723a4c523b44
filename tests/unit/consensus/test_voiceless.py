"""A replica without a voice, as it fetches its state: what it hears meanwhile counts once it may vote."""

from collections.abc import Callable

import pytest

from consensus.effects import BatchReady, SetTimer, TimerFired
from consensus.messages import Prepare, ViewChange
from tests.helpers.joiner import Joiner
from tests.helpers.votes import make_block, name_of

End = Callable[[Joiner], None]


@pytest.mark.parametrize("end", [Joiner.stop, Joiner.complete])
@pytest.mark.parametrize("proven", [True, False])
def test_a_view_that_others_left_while_a_state_was_fetched_is_left_afterwards(end: End, proven: bool) -> None:
    """Their view changes come again, and are known then: whoever looks at new ones alone stays for ever."""
    joiner = Joiner()
    joiner.aim()
    complaints = joiner.voters.complaints(0) if proven else ()
    changes = [joiner.voters.view_change(peer, 1, complaints=complaints) for peer in (1, 2)]
    for _ in range(2):
        joiner.say(1, changes[0])
        joiner.say(2, changes[1])
    assert (joiner.replica.view, joiner.replica.active) == (0, True)
    since = len(joiner.effects)
    end(joiner)
    joiner.fire_now(since)
    assert (joiner.replica.view, joiner.replica.active) == (1, False)
    assert [(type(m), m.view) for m in joiner.signed()] == [(ViewChange, 1)]


@pytest.mark.parametrize("end", [Joiner.stop, Joiner.complete])
def test_a_view_change_that_was_to_be_signed_as_a_transfer_began_is_signed_when_it_ends(end: End) -> None:
    joiner = Joiner()
    for peer in (0, 1, 2):
        joiner.say(peer, joiner.voters.complain(peer, 0))
    (name,) = [e.name for e in joiner.effects if isinstance(e, SetTimer) and e.delay_us == 0]
    joiner.aim()
    joiner.step(TimerFired(name))
    assert not any(isinstance(m, ViewChange) for m in joiner.signed())
    since = len(joiner.effects)
    end(joiner)
    joiner.fire_now(since)
    assert [m.view for m in joiner.signed() if isinstance(m, ViewChange)] == [1]


def test_a_proposal_that_came_while_a_state_was_fetched_is_voted_for_afterwards() -> None:
    joiner = Joiner()
    joiner.aim()
    joiner.step(BatchReady(name_of(1), 1, 100, 0))
    joiner.say(0, joiner.voters.pre_prepare(0, make_block(41, 1)))
    assert not joiner.signed()
    joiner.stop()
    assert [(type(m), m.seq) for m in joiner.signed()] == [(Prepare, 41)]
