"""What the checker raises, and what it counts."""

from typing import NoReturn

from consensus.primitives.errors import InvariantViolation
from consensus.simulator.node import SimNode


class SafetyViolation(InvariantViolation):
    """A replica broke a rule that no fault within the model excuses."""


class LivenessViolation(InvariantViolation):
    """A healed cluster did not finish its work in time."""


class Notes:
    """How often something happened that a rule speaks of."""

    def __init__(self) -> None:
        self.counters: dict[str, int] = {}

    def add(self, what: str) -> None:
        """It happened once more."""
        name = f"checker.{what}"
        self.counters[name] = self.counters.get(name, 0) + 1


def fail(node: SimNode, what: str) -> NoReturn:
    """This node broke a rule."""
    raise SafetyViolation(f"replica {node.id} {what}")
