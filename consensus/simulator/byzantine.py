"""The strategies of Byzantine replicas, by name. Each bends what an otherwise correct core sends."""

from collections.abc import Callable

from consensus.simulator.liar import Identity, Liar
from consensus.simulator.lies import (
    Amnesiac,
    Equivocating,
    Repeating,
    Selective,
    Silent,
    Splitting,
    Withholding,
)
from consensus.simulator.noise import Flooding, Forging, Misleading, Mutating, Outdated, Replaying
from consensus.simulator.unfair import UNFAIR

LIARS: dict[str, Callable[[Identity], Liar]] = {
    "silent": Silent,
    "selective": Selective,
    "equivocate": Equivocating,
    "repeat": Repeating,
    "twins": Liar,  # two correct cores under one key: see `twins`
    "mutate": Mutating,
    "replay": Replaying,
    "stale": Outdated,
    "forge": Forging,
    "flood": Flooding,
    "withhold": Withholding,
    "amnesia": Amnesiac,
    "split": Splitting,
    "missync": Misleading,
    **UNFAIR,  # most of them lie in their cores: see `unfair`
}
