"""The scenarios: faults over time. What each must show is the same for all, see `verdict`.

Times are shares of the scenario's length, so that `--seconds` stretches it. The last step leaves
nothing broken.
"""

from dataclasses import dataclass

from testnet.chaos.faults import (
    CURRENT,
    LAST,
    Clock,
    Cut,
    Deafen,
    Fault,
    FillDisk,
    FreeDisk,
    Heal,
    Kill,
    KillAll,
    Mute,
    Pause,
    Reset,
    Resume,
    Slow,
    SlowDisk,
    Start,
    StartAll,
)

START, END = 0.15, 0.75  # most faults last from here to there


@dataclass(frozen=True)
class Step:
    """One fault, at a share of the scenario's length."""

    at: float
    fault: Fault


@dataclass(frozen=True)
class Scenario:
    """Faults over time. `seconds` is the usual length, of load and all."""

    name: str
    about: str
    steps: tuple[Step, ...]
    seconds: float = 12.0
    nodes: int = 4
    halts: str = ""  # the role that must halt, and say why
    fills_disk: bool = False  # data is to lie where a disk can be filled


def _between(fault: Fault, undo: Fault) -> tuple[Step, ...]:
    return (Step(START, fault), Step(END, undo))


def _flaps(group: tuple[str, ...], times: int) -> tuple[Step, ...]:
    """Cut and heal again and again, the connections reset every other time."""
    span = (END - START) / times
    steps: list[Step] = []
    for number in range(times):
        steps.append(Step(START + number * span, Cut(group)))
        if number % 2:
            steps.append(Step(START + (number + 0.25) * span, Reset(group[0])))
        steps.append(Step(START + (number + 0.5) * span, Heal()))
    return tuple(steps)


def _kills(roles: tuple[str, ...]) -> tuple[Step, ...]:
    """One after the other dies and comes back; each is up before the next dies."""
    span = (0.95 - START) / len(roles)
    steps: list[Step] = []
    for number, role in enumerate(roles):
        at = START + number * span
        steps += [Step(at, Kill(role)), Step(at + span / 4, Start(LAST))]
    return tuple(steps)


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "isolate-primary",
            "the primary is cut off; the others replace it and go on",
            _between(Cut(("primary",)), Heal()),
        ),
        Scenario(
            "isolate-minority",
            "a backup is cut off; nobody else notices",
            _between(Cut(("third",)), Heal()),
        ),
        Scenario(
            "split-2-2",
            "no side has a quorum: nothing is committed until it heals",
            _between(Cut(("primary", "second")), Heal()),
        ),
        Scenario(
            "flapping",
            "the primary's wires go down and up eight times, reset every other time",
            _flaps(("primary",), 8),
            seconds=16.0,
        ),
        Scenario(
            "one-way-loss",
            "the primary is not heard, then a backup hears nothing",
            (
                Step(START, Mute("primary")),
                Step(0.45, Heal()),
                Step(0.5, Deafen("third")),
                Step(END, Heal()),
            ),
            seconds=16.0,
        ),
        Scenario(
            "latency",
            "200 ms with 50 ms of jitter on every wire",
            _between(Slow(200, 50), Heal()),
            seconds=16.0,
        ),
        Scenario(
            "kill-loop",
            "kill -9 of primary and backups, one after the other",
            _kills((CURRENT, "third", CURRENT, "second")),
            seconds=32.0,
        ),
        Scenario(
            "pause",
            "the primary is stopped (SIGSTOP) and goes on later, a backup likewise",
            (
                Step(START, Pause("primary")),
                Step(0.45, Resume("primary")),
                Step(0.5, Pause("third")),
                Step(END, Resume("third")),
            ),
        ),
        Scenario(
            "full-disk",
            "a backup's disk fills up: it halts, says why, and returns once there is room",
            _between(FillDisk("third"), FreeDisk("third")),
            seconds=20.0,
            halts="third",
            fills_disk=True,
        ),
        Scenario(
            "slow-disk",
            "the primary's disk takes 400 ms a transaction, then every disk 100 ms",
            (
                Step(START, SlowDisk("primary", 400)),
                Step(0.45, SlowDisk("primary", 100)),
                Step(0.45, SlowDisk("second", 100)),
                Step(0.45, SlowDisk("third", 100)),
                Step(0.45, SlowDisk("fourth", 100)),
                Step(END, SlowDisk("primary", 0)),
                Step(END, SlowDisk("second", 0)),
                Step(END, SlowDisk("third", 0)),
                Step(END, SlowDisk("fourth", 0)),
            ),
        ),
        Scenario(
            "clock-jump",
            "clocks jump a minute forward and back, then back and forward: a backup's, then the primary's",
            (
                Step(0.1, Clock("third", 60_000)),
                Step(0.25, Clock("third", 0)),
                Step(0.3, Clock("third", -60_000)),
                Step(0.4, Clock("third", 0)),
                Step(0.45, Clock(CURRENT, 60_000)),
                Step(0.6, Clock(LAST, 0)),
                Step(0.65, Clock(CURRENT, -60_000)),
                Step(0.8, Clock(LAST, 0)),
            ),
            seconds=20.0,
        ),
        Scenario(
            "restart-all",
            "kill -9 of every node at once, as in a power cut",
            (Step(0.3, KillAll()), Step(0.4, StartAll())),
            seconds=16.0,
        ),
    )
}
