"""Carrying out what a replica decided, in the order `consensus.effects` asks for."""

from collections.abc import Sequence

from consensus.effects import (
    Effect,
    Erase,
    Execute,
    ForgetBatches,
    Persist,
    StoreBatches,
    StoreBlock,
    SwapState,
)
from node.ledger import Turn
from node.pool import PayloadPool


def durable_part(effects: Sequence[Effect], pool: PayloadPool) -> Turn:
    """Everything of a turn that must be on disk before anything of it is sent."""
    turn = Turn()
    for effect in effects:
        match effect:
            case Persist(key, value):
                turn.votes[key] = value
            case Erase(key):
                turn.votes[key] = None
            case StoreBatches(digests):
                turn.batches.update(pool.take_volatile(digests))
            case StoreBlock(cert):
                turn.blocks.append(cert)
            case Execute(block):
                # Whoever caught up never stored these for a vote; a restart must find them.
                turn.batches.update(pool.take_volatile(block.batches))
                turn.ordered.extend(block.batches)
            case ForgetBatches(digests):
                turn.ordered.extend(digests)
            case SwapState(seq, base):
                turn.swap, turn.base = seq, base
    return turn
