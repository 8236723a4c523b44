"""Every queue of a replica has a bound: measured from outside, whatever the replica is made of.

The walk follows the replica's own objects and finds each container by the name of the attribute that
holds it. A container nobody named here must stay within a bound that follows from the window and the
number of replicas; so a new one is covered before anybody thinks of it.
"""

from collections import deque
from functools import cache
from typing import Any

from consensus.batches import SETTLED_MAX
from consensus.certificates import REMEMBERED_DIGESTS_MAX
from consensus.receive_times import TIMES_MAX
from consensus.replica import Replica
from consensus.state import ReplicaConfig

DEPTH_MAX = 8
CONTAINERS = (dict, list, set, deque)

Trail = tuple[Any, str]  # (trail of what holds it, name)
Found = list[tuple[Trail, str, int]]


class Bounds:
    """What each container may hold under `config` with `n` replicas.

    Named ones have the bound that the replica's own documentation promises; the rest `other`.
    """

    def __init__(self, config: ReplicaConfig, n: int) -> None:
        work = n * config.batches_max + 256 * config.window
        self.other = 2 * config.window + 2 * config.catch_up_blocks + 4 * n + 64
        self.named = {
            "slots": config.window,
            "_queues.*": config.stash_max,
            "received": n,
            "_complaints": n,
            "peers": n,
            "_votes": max(n, config.window),
            "held": work,
            "pending": work,
            "waiting.*": work,
            "wanted": work,
            "_assigned": work,
            "_stored": work,
            "ready": work,
            "_untold": work,
            "_told": n * TIMES_MAX,
            "_acks.*": TIMES_MAX,
            "_settled": SETTLED_MAX,
            "_digests": REMEMBERED_DIGESTS_MAX,
            "_places": REMEMBERED_DIGESTS_MAX,
            "places": 6 * config.window + 2 * config.catch_up_blocks + 4 * n + 64,
            "counters": 256,
        }

    def list_excesses(self, replica: Replica) -> list[str]:
        """Containers that hold more than they may."""
        return [
            f"{spell(trail)} holds {size}; at most {most}"
            for trail, name, size in measure(replica)
            if size > (most := self.named.get(name, self.other))
        ]


def measure(owner: object) -> Found:
    """(trail, attribute name, length) of every container that `owner` and its parts hold."""
    found: Found = []
    _walk(owner, ((), type(owner).__name__), 0, {id(owner)}, found)
    return found


def spell(trail: Trail) -> str:
    """The names along a trail."""
    holder, name = trail
    return f"{spell(holder)}.{name}" if holder else name


def _walk(owner: object, trail: Trail, depth: int, seen: set[int], found: Found) -> None:
    for name in _attributes(owner):
        value = getattr(owner, name, None)
        if not _ends_walk(type(value)):  # type: ignore[arg-type]  # any type is hashable
            _visit(value, (trail, name), name, depth, seen, found)


def _visit(value: Any, trail: Trail, name: str, depth: int, seen: set[int], found: Found) -> None:
    if id(value) in seen or depth > DEPTH_MAX:
        return
    seen.add(id(value))
    if not isinstance(value, CONTAINERS):
        _walk(value, trail, depth + 1, seen, found)
        return
    found.append((trail, name, len(value)))
    inside = list(value.values() if isinstance(value, dict) else value)
    if all(map(_ends_walk, set(map(type, inside)))):
        return
    for inner in inside:
        if not _ends_walk(type(inner)):  # type: ignore[arg-type]
            _visit(inner, (trail, "*"), f"{name}.*", depth + 1, seen, found)


@cache
def _ends_walk(kind: type) -> bool:
    """Whether such an object is neither a container nor one of the replica's own mutable objects:
    messages are frozen."""
    parameters = getattr(kind, "__dataclass_params__", None)
    is_part = kind.__module__.startswith("consensus.") and not (parameters and parameters.frozen)
    return not is_part and not issubclass(kind, CONTAINERS)


def _attributes(owner: object) -> list[str]:
    names = list(vars(owner)) if hasattr(owner, "__dict__") else []
    slots = getattr(type(owner), "__slots__", ())
    return [*names, slots] if isinstance(slots, str) else [*names, *slots]
