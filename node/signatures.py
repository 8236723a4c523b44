"""Checking many envelope signatures in a worker thread; libsodium releases the GIL meanwhile.

Only valid signatures are remembered: whoever floods a node with invalid ones cannot push good
verdicts out of the cache.
"""

from collections.abc import Sequence

from consensus.primitives.crypto import Verifier
from engine.envelope import Envelope, EnvelopeKind
from engine.records import ORDER_OP
from node.services import VerdictCache


def check_signatures(envelopes: Sequence[Envelope], verdicts: VerdictCache, verifier: Verifier) -> list[bool]:
    """For each envelope, whether its signature is valid. Call it in a worker thread.

    Evidence has none of its own: it is checked where keys of validators are at hand.
    """
    return [_is_signed(item, verdicts, verifier) for item in envelopes]


def count_operations(envelope: Envelope) -> int:
    """How much of a block an envelope takes: its order operations, or as many as its commands weigh."""
    return max(1, len(envelope.payload) // ORDER_OP.itemsize)


def _is_signed(envelope: Envelope, verdicts: VerdictCache, verifier: Verifier) -> bool:
    if verdicts.get(envelope.digest) or envelope.kind == EnvelopeKind.EVIDENCE:
        return True
    if not envelope.is_signed(verifier):
        return False
    verdicts.add(envelope.digest)
    return True
