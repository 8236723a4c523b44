"""What a stopped node's disk says: the ledger is opened, recovered and read from the first block on.

Nothing the node said over the network is used. The audit answers: which state and journal roots does
this ledger lead to, is value conserved, and which envelopes did it execute, how often.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from consensus.primitives.errors import InvariantViolation, StorageError
from engine.records import Code
from node.config import Home, load_config
from node.joining import own_id
from node.network import load_network
from node.records import load_result
from node.recovery import recover
from node.start import Stores, open_stores
from node.storage import HomeLock


@dataclass(frozen=True)
class Audit:
    """Findings about one node.

    One that fetched a state tells nothing of the blocks up to `base`: the effects and totals are those of
    the blocks above.
    """

    node: int
    height: int
    state_root: bytes
    journal_root: bytes
    conserved: bool
    problem: str = ""  # what is not conserved, or which root differs from a full recomputation
    executed: Mapping[bytes, int] = field(default_factory=dict)  # envelope digest -> times it took effect
    orders: int = 0
    fills: int = 0
    rejected: int = 0
    base: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether it tells of every block."""
        return self.base == 0


def audit_home(home: Home) -> Audit:
    """Audit one stopped node. Blocking: call it in a thread."""
    config, network = load_config(home.config), load_network(home.network)
    config = replace(config, node=replace(config.node, id=own_id(home, config)))
    with HomeLock(home.data), open_stores(home, config, network) as stores:
        recovered = recover(network.genesis, network.rules, stores.ledger, stores.snapshots, stores.history)
        machine = recovered.machine
        problem = ""
        try:
            machine.check_conservation()
            if machine.full_state_root() != machine.state_root():
                problem = "the incremental state root differs from the full one"
        except InvariantViolation as error:
            problem = str(error)
        base = stores.history.base()
        executed, totals = _count_effects(stores, base + 1, machine.height)
        return Audit(
            node=config.node.id,
            height=machine.height,
            state_root=machine.state_root(),
            journal_root=machine.journal_root,
            conserved=not problem,
            problem=problem,
            executed=executed,
            base=base,
            **totals,
        )


def _count_effects(stores: Stores, first: int, height: int) -> tuple[Mapping[bytes, int], dict[str, int]]:
    """How often each envelope took effect in blocks first..height, and totals of these blocks."""
    executed: Counter[bytes] = Counter()
    totals = {"orders": 0, "fills": 0, "rejected": 0}
    for number in range(first, height + 1):
        result = load_result(stores.history, number)
        if result is None:
            raise StorageError(
                f"{stores.history.path} lacks block {number}: start the node once to rebuild it"
            )
        for item in result.envelopes:
            if result.journal["code"][item.record_index] == Code.OK:
                executed[item.digest] += 1
        for name in totals:
            totals[name] += getattr(result.counts, name)
    return executed, totals
