"""PBFT as a pure state machine: events in, effects out.

Read in this order:

    primitives/      errors, canonical bytes, digests, signatures, Merkle proofs; imports nothing
    messages.py      the protocol's vocabulary, and what each signature covers
    effects.py       every event that enters a replica and every effect that leaves it
    quorum.py        replica sets and the arithmetic of quorums
    replica.py       `Replica.step`: the one dispatch, and the normal case
    simulator/       whole clusters in virtual time, from one seed

Nothing in here performs I/O, reads a clock, draws a random number or starts a thread (the simulator
alone holds one seeded generator). It orders opaque bytes: what they mean is the engine's affair.

Decisions
---------
2026-11-24  Blocks name no parent. PBFT may have to fill a gap before a prepared block with a null
block, which would break a hash link inside the proposal. The chain is formed after execution: the
journal root covers its predecessor and every replica attests it.

2026-11-24  A view change carries whole proposals in its prepared certificates rather than digests.
It costs some kilobytes in a rare message and saves a round of fetching when a primary is replaced.
"""
