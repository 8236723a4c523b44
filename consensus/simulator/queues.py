"""Every queue of a replica has a bound: measured from outside, whatever the replica is made of.

The walk follows the replica's own objects and finds each container by the name of the attribute that
holds it. A container nobody named here must stay within a bound that follows from the window and the
number of replicas; so a new one is covered before anybody thinks of it.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any

from consensus.batches import SETTLED_MAX
from consensus.certificates import REMEMBERED_DIGESTS_MAX
from consensus.receive_times import TIMES_MAX
from consensus.replica import Replica
from consensus.state import ReplicaConfig

DEPTH_MAX = 8
CONTAINERS = (dict, list, set, deque)


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
            f"{path} holds {size}; at most {most}"
            for path, name, size in measure(replica)
            if size > (most := self.named.get(name, self.other))
        ]


def measure(owner: object) -> Iterator[tuple[str, str, int]]:
    """(path, attribute name, length) of every container that `owner` and its parts hold."""
    seen = {id(owner)}
    yield from _walk(owner, type(owner).__name__, 0, seen)


def _walk(owner: object, path: str, depth: int, seen: set[int]) -> Iterator[tuple[str, str, int]]:
    for name in _attributes(owner):
        value = getattr(owner, name, None)
        yield from _visit(value, f"{path}.{name}", name, depth, seen)


def _visit(value: Any, path: str, name: str, depth: int, seen: set[int]) -> Iterator[tuple[str, str, int]]:
    if id(value) in seen or depth > DEPTH_MAX:
        return
    if isinstance(value, CONTAINERS):
        seen.add(id(value))
        yield path, name, len(value)
        for inner in list(value.values() if isinstance(value, dict) else value):
            if isinstance(inner, CONTAINERS) or _is_part(inner):
                yield from _visit(inner, f"{path}.*", f"{name}.*", depth + 1, seen)
    elif _is_part(value):
        seen.add(id(value))
        yield from _walk(value, path, depth + 1, seen)


def _is_part(value: object) -> bool:
    """Whether it is one of the replica's own mutable objects: messages are frozen, and end a walk."""
    kind = type(value)
    parameters = getattr(kind, "__dataclass_params__", None)
    return kind.__module__.startswith("consensus.") and not (parameters and parameters.frozen)


def _attributes(owner: object) -> list[str]:
    names = list(vars(owner)) if hasattr(owner, "__dict__") else []
    slots = getattr(type(owner), "__slots__", ())
    return [*names, slots] if isinstance(slots, str) else [*names, *slots]
