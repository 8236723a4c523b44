"""The nodes of a network as a client sees them: one link to each, made when needed, with backoff.

Beside validators, whose certificates are known, there may be hints: addresses at which somebody of the
network is said to be. Nobody knows who answers there, so they are asked for proofs only, and count as nobody.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

import trio

from consensus.primitives.errors import InputError
from node.client.errors import LinkLost
from node.client.link import Link, open_link
from node.network import Address, Network, Validator
from node.wire import Refused

PAUSE_SECONDS_MIN = 0.05  # before all nodes are tried again; doubles
PAUSE_SECONDS_MAX = 1.0
RETRY_SECONDS_MAX = 5.0  # longest pause before a node is dialled again
DISTRUST_SECONDS = 60.0  # a node whose proofs do not verify is left alone for so long


@dataclass
class _Slot:
    validator: Validator
    lock: trio.Lock = field(default_factory=trio.Lock)
    link: Link | None = None
    failures: int = 0
    retry_at_s: float = 0.0
    why: str = ""


class Nodes:
    """Links to the validators' client ports. They live in `nursery`.

    At first those that the network file names; a client that follows the ledger's changes tells of others.
    """

    def __init__(
        self, network: Network, nursery: trio.Nursery, prefer: int = 0, hints: Sequence[Address] = ()
    ) -> None:
        self.network = network
        self._nursery = nursery
        self._slots = {validator.id: _Slot(validator) for validator in network.validators}
        self._members = set(self._slots)
        # Known by negative numbers, which no validator has.
        self._hints = {
            ~number: _Slot(Validator(~number, b"", b"", address, address))
            for number, address in enumerate(dict.fromkeys(hints))
        }
        self._current = prefer % len(self._slots)

    @property
    def count(self) -> int:
        """How many nodes are asked in turn."""
        return len(self._asked())

    def keep(self, members: Iterable[int]) -> None:
        """Ask these validators from now on, as far as it is known how to reach them. Others may still be
        asked by their id: a receipt is a receipt."""
        self._members = set(members)

    def admit(self, validator: Validator) -> None:
        """How a validator is reached from now on."""
        slot = self._slots.get(validator.id)
        if slot is not None and slot.validator == validator:
            return
        if slot is not None and slot.link is not None:
            slot.link.close()
        self._slots[validator.id] = _Slot(validator)

    def run_beside(self, work: Callable[[], Awaitable[object]]) -> None:
        """Run something as long as these links live."""
        self._nursery.start_soon(work)

    async def link(self, node_id: int) -> Link:
        """The link to a node, dialled if there is none. Raises `LinkLost`, at once while a node that failed
        rests, and `InputError` if the node says that we do not fit (another chain, another version)."""
        slot = self._slots.get(node_id) or self._hints.get(node_id)
        if slot is None:
            raise LinkLost(f"it is not known how to reach node {node_id}: no change of validators named it")
        if slot.link is not None and slot.link.is_open:
            return slot.link  # without the lock, which hands over to one task a turn
        async with slot.lock:
            if slot.link is not None and slot.link.is_open:
                return slot.link
            if trio.current_time() < slot.retry_at_s:
                raise LinkLost(slot.why)
            try:
                slot.link = await open_link(self.network, slot.validator, self._nursery)
            except LinkLost as error:
                self._rest(slot, str(error))
                raise
            except InputError as error:
                if error.code != Refused.TOO_MANY_CONNECTIONS:
                    raise
                self._rest(slot, error.message)
                raise LinkLost(f"node {node_id}: {error}") from error
            slot.failures = 0
            return slot.link

    def distrust(self, node_id: int, why: str) -> None:
        """A node said what it cannot prove: leave it alone for a while."""
        slot = self._slots.get(node_id) or self._hints[node_id]
        slot.retry_at_s = trio.current_time() + DISTRUST_SECONDS
        slot.why = why
        if slot.link is not None:
            slot.link.close()

    def order(self) -> list[int]:
        """Ids of the present validators that can be reached: the one that served last first."""
        asked = self._asked()
        first = next((place for place, node_id in enumerate(asked) if node_id >= self._current), 0)
        return asked[first:] + asked[:first]

    def rotation(self) -> "Rotation":
        """The nodes to send requests to, forever."""
        return Rotation(self.order)

    def everybody(self) -> list[int]:
        """Whoever may know the newest validators: all that were ever known, and hints."""
        return [*self._slots, *self._hints]

    def reached(self) -> list[Validator]:
        """The present validators that it is known how to reach."""
        return [self._slots[node_id].validator for node_id in sorted(self._members & self._slots.keys())]

    def served(self, node_id: int) -> None:
        """This node gave a good answer: ask it first from now on."""
        self._current = node_id

    def _asked(self) -> list[int]:
        """Present validators; all that were ever known if none of them can be reached."""
        return sorted(self._members & self._slots.keys()) or sorted(self._slots)

    @staticmethod
    def _rest(slot: _Slot, why: str) -> None:
        slot.failures += 1
        slot.why = why
        slot.retry_at_s = trio.current_time() + min(RETRY_SECONDS_MAX, 0.05 * 2**slot.failures)


class Rotation:
    """Node ids in turn, with a growing pause after each round; the next one has those found meanwhile."""

    def __init__(self, order: Callable[[], list[int]]) -> None:
        self._order = order
        self._left = order()
        self._pause_s = PAUSE_SECONDS_MIN

    async def next(self) -> int:
        """The node to try now."""
        if not self._left:
            await trio.sleep(self._pause_s)
            self._pause_s = min(PAUSE_SECONDS_MAX, 2 * self._pause_s)
            self._left = self._order()
        return self._left.pop(0)
