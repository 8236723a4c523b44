"""Named timers of the protocol, by trio's clock."""

import math

import trio


class Timers:
    """Each name has at most one deadline. There are few, so finding the next is a scan."""

    def __init__(self) -> None:
        self._deadlines: dict[str, float] = {}

    def set(self, name: str, delay_us: int) -> None:
        """Fire `name` after `delay_us`; replaces an earlier deadline."""
        self._deadlines[name] = trio.current_time() + delay_us / 1_000_000

    def cancel(self, name: str) -> None:
        """Forget `name`, if it is set."""
        self._deadlines.pop(name, None)

    def next_deadline(self) -> float:
        """When to look again; infinity if nothing is set."""
        return min(self._deadlines.values(), default=math.inf)

    def take_due(self) -> list[str]:
        """Names whose time has come, in order of deadline; they are forgotten."""
        now = trio.current_time()
        due = sorted((deadline, name) for name, deadline in self._deadlines.items() if deadline <= now)
        for _, name in due:
            del self._deadlines[name]
        return [name for _, name in due]
