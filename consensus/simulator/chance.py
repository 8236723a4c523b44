"""Where a run's chance comes from: one seed, and a stream of its own for every part.

The network's losses do not move when the faults change, and so on: whoever takes one fault out of a
failing run leaves most of the rest as it was, which is what makes shrinking work.
"""

from random import Random


def stream(seed: int, name: str) -> Random:
    """The generator of the part `name` in the run of `seed`: the same on every machine."""
    return Random(f"kontor.sim/{seed}/{name}")
