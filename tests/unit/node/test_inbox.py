"""The inbox and the timers of the loop."""

import pytest
import trio
import trio.testing

from consensus.effects import Received, TimerFired
from consensus.messages import FetchBlocks
from node.inbox import PEER_EVENTS_MAX, TURN_EVENTS_MAX, Inbox
from node.timers import Timers

pytestmark = pytest.mark.trio


def _message(sender: int) -> Received:
    return Received(sender, FetchBlocks(1, 1))


async def test_events_come_out_in_order_and_a_turn_is_bounded() -> None:
    inbox = Inbox()
    events = [TimerFired(str(number)) for number in range(TURN_EVENTS_MAX + 1)]
    for event in events:
        inbox.put(event)
    await inbox.wait()
    assert inbox.take() == events[:-1]
    assert inbox.take() == events[-1:]
    assert inbox.take() == []


async def test_a_flooding_peer_waits_and_another_does_not() -> None:
    inbox = Inbox()
    for _ in range(PEER_EVENTS_MAX):
        await inbox.put_received(_message(1))
    admitted: list[str] = []

    async def put(sender: int, name: str) -> None:
        await inbox.put_received(_message(sender))
        admitted.append(name)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(put, 1, "flood")
            nursery.start_soon(put, 2, "other")
            await trio.testing.wait_all_tasks_blocked()
            assert admitted == ["other"]
            assert len(inbox.take()) == TURN_EVENTS_MAX
            await trio.testing.wait_all_tasks_blocked()
            assert admitted == ["other", "flood"]


async def test_waiting_ends_when_an_event_arrives() -> None:
    inbox = Inbox()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inbox.wait)
            await trio.testing.wait_all_tasks_blocked()
            inbox.put(TimerFired("now"))


async def test_timers_fire_in_order_of_deadline(autojump_clock: trio.testing.MockClock) -> None:
    timers = Timers()
    timers.set("late", 3_000_000)
    timers.set("early", 1_000_000)
    timers.set("moved", 1_000)
    timers.set("moved", 2_000_000)
    timers.set("gone", 500)
    timers.cancel("gone")
    timers.cancel("never set")
    assert timers.take_due() == []
    await trio.sleep_until(timers.next_deadline())
    assert timers.take_due() == ["early"]
    await trio.sleep(5)
    assert timers.take_due() == ["moved", "late"]
    assert timers.next_deadline() == float("inf")
