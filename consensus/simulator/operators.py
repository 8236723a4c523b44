"""What people do to a cluster while faults strike: they change validators, wedge the chain and lead it on,
and have nodes healed.

They keep to what the protocol bears. Whoever is faulty stays within f of the validators that are left,
whichever of the changes under way comes to pass; and nobody heals a node that the others cannot spare.
"""

from functools import partial
from random import Random

from consensus.durable import HEAL
from consensus.simulator.app import REMOVED
from consensus.simulator.cluster import Cluster
from consensus.simulator.node import SimNode
from consensus.simulator.scheduler import SECOND_US

WATCH_US = 400_000  # how often somebody looks whether the chain stands at a wedge


class Operators:
    """Draws from `rng`; acts on `cluster`."""

    def __init__(self, cluster: Cluster, rng: Random) -> None:
        self._cluster = cluster
        self._rng = rng
        self._watches = False

    # Validators

    def change(self) -> None:
        """Order one change of the validators that are known by now; twins are meant more often."""
        cluster, rng = self._cluster, self._rng
        newest = cluster.checker.newest
        twins = [node_id for node_id in cluster.twins if node_id in newest]
        chosen = rng.choice(twins if twins and rng.random() < 0.5 else newest.ids)
        newcomer = max(cluster.options.n, max(newest.ids) + 1)
        kind = rng.choice(("replace", "replace", "add", "remove", "remove", "rotate"))
        if kind in ("replace", "add") and newcomer >= cluster.ids_max:
            kind = "rotate"
        if kind == "remove" and not cluster.may_leave(chosen):
            kind = "rotate"
        cluster.count(f"change.{kind}")
        if chosen in twins and kind != "add":
            cluster.count(f"twins.{kind}")
        if kind == "rotate":
            rotated = newest.keys[chosen] == cluster.key(chosen)
            cluster.change((chosen, cluster.key(chosen, rotated)))
            return
        joins, leaves = [], [(chosen, REMOVED)] if kind != "add" else []
        if kind == "remove":
            cluster.note_leaving(chosen)
        else:
            cluster.restart(cluster.addresses(newcomer)[0])
            joins = [(newcomer, cluster.key(newcomer))]
        cluster.change(*leaves, *joins)

    # Wedges

    def wedge(self) -> None:
        """Order the chain to stop, and look after it from now on."""
        self._cluster.count("wedge.ordered")
        self._cluster.change()
        if not self._watches:
            self._watches = True
            self._watch()

    def _watch(self) -> None:
        """Lead the chain on once it stands: every node is stopped and started, each in its own time."""
        cluster = self._cluster
        heights = [node.replica.boundary for node in cluster.live() if node.replica.wedged]
        height = max(heights, default=0)
        if height > cluster.config.resume_after:
            cluster.count("wedge.resumed")
            cluster.say(f"resume after {height}")
            cluster.name_wedge(height)
            for node in cluster.nodes:
                delay_us = self._rng.randrange(SECOND_US)
                cluster.scheduler.after(delay_us, cluster.reboot, node.address)
        cluster.scheduler.after(WATCH_US, self._watch)

    # Healing

    def heal(self, address: int) -> None:
        """Have a node fetch a state, as `kontor heal` does, unless the others need it."""
        cluster, node = self._cluster, self._cluster.nodes[address]
        if node in cluster.honest and self._is_spared(node):
            cluster.count("operator.heals")
            cluster.say(f"heal {address}")
            cluster.crash(address)
            node.plan_heal()
            cluster.scheduler.after(self._rng.randrange(SECOND_US), partial(cluster.restart, address))

    def _is_spared(self, node: SimNode) -> bool:
        """Whether enough others have a state that they can serve, and go on without this one."""
        newest = self._cluster.checker.newest
        sound = [
            other
            for other in self._cluster.honest
            if other is not node and other.id in newest and other.id not in self._cluster.faulty
        ]
        serving = [other for other in sound if HEAL not in other.disk.votes and _serves(other, node)]
        return len(serving) >= newest.quorum


def _serves(server: SimNode, node: SimNode) -> bool:
    """Whether it has a state from which the blocks stored by `node` lead on."""
    held = server.disk.snapshot
    return held is not None and held[1].height + 1 >= node.disk.oldest
