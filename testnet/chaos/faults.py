"""What can go wrong in a scenario: small values, carried out by `stage`.

Nodes are named by role. The roles are given once, when the first fault begins: `primary` is the primary
then, `second`, `third` and `fourth` are those that would follow it. `current` is the primary at that
moment, and `last` whoever the fault before was about.
"""

from dataclasses import dataclass

ROLES = ("primary", "second", "third", "fourth")
CURRENT, LAST = "current", "last"


@dataclass(frozen=True)
class Cut:
    """`group` neither hears the other nodes nor is heard by them; inside, all goes on."""

    group: tuple[str, ...]


@dataclass(frozen=True)
class Mute:
    """Nothing that `who` sends arrives; `who` hears the others."""

    who: str


@dataclass(frozen=True)
class Deafen:
    """Nothing that others send reaches `who`; they hear `who`."""

    who: str


@dataclass(frozen=True)
class Slow:
    """Every wire: so much delay, up to so much more at random, and so many KiB a second (0: no limit)."""

    delay_ms: int
    jitter_ms: int
    kib_per_second: int = 0


@dataclass(frozen=True)
class Reset:
    """The connections of `who` end; what was under way on them is lost."""

    who: str


@dataclass(frozen=True)
class Heal:
    """All wires carry everything again."""


@dataclass(frozen=True)
class Kill:
    """SIGKILL."""

    who: str


@dataclass(frozen=True)
class Start:
    """A killed node starts again."""

    who: str


@dataclass(frozen=True)
class Pause:
    """SIGSTOP: the process is there, and does nothing."""

    who: str


@dataclass(frozen=True)
class Resume:
    """SIGCONT."""

    who: str


@dataclass(frozen=True)
class KillAll:
    """SIGKILL to every node, as in a power cut."""


@dataclass(frozen=True)
class StartAll:
    """Every node starts again."""


@dataclass(frozen=True)
class SlowDisk:
    """Every transaction of the ledger of `who` takes so much longer; 0 undoes it."""

    who: str
    fsync_ms: int


@dataclass(frozen=True)
class Clock:
    """The clock of `who` jumps to so much off the true time; 0 is true again."""

    who: str
    offset_ms: int


@dataclass(frozen=True)
class FillDisk:
    """The disk of `who` has room for little more; it is to halt, and to say why."""

    who: str


@dataclass(frozen=True)
class FreeDisk:
    """The operator gives `who` room, and starts it again."""

    who: str


Fault = (
    Cut
    | Mute
    | Deafen
    | Slow
    | Reset
    | Heal
    | Kill
    | Start
    | Pause
    | Resume
    | KillAll
    | StartAll
    | SlowDisk
    | Clock
    | FillDisk
    | FreeDisk
)
