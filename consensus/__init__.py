"""PBFT as a pure state machine: events in, effects out.

Read in this order:

    primitives/      errors, canonical bytes, digests, signatures, Merkle proofs; imports nothing
    messages.py      the protocol's vocabulary, and what each signature covers
    effects.py       every event that enters a replica and every effect that leaves it
    signing.py       what a signer may sign: one body for each place, nothing below a floor
    quorum.py        replica sets and the arithmetic of quorums
    replica.py       `Replica.step`: the one dispatch; lists the parts it stands on, `ordering.py` first
    light.py         a light client: proofs.py and primitives are all it needs
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

2026-11-24  The low water mark follows any valid stable certificate at once, even on a replica that has
not executed so far: it votes above it and fetches what lies below. Waiting would cost the others its
vote just when they may need it. Nothing is pruned on the strength of a checkpoint that is not held:
`Stable` is emitted only once this replica executed the same result itself.

2026-11-24  Two deadlines instead of one per request: "nothing was delivered although something waits"
finds a dead primary fast, "this batch waited too long" (longer) finds one that censors. A single short
deadline per batch would depose an honest primary whenever load builds a queue.

2026-11-24  A block whose time is far from this replica's clock is not refused for good: f+1 prepares
of others overrule the clock, since one of those is honest and saw it fresh. A replica with a wrong
clock then lags nobody.

2026-11-24  A view change that carries n−f complaints takes its receivers along. The proof is as good
as having heard the complaints, and no replica is left behind because they were lost on the way.

2026-11-24  A signer keeps a record of its own, which a crash may leave one turn ahead of the vote log (the
two are flushed side by side, or the signer is another process). So nothing is signed whose content a
replay could change: a view change and a new view are written to the vote log first and signed a turn
later (a timer of no time); that costs one commit in a rare event. Proposals and prepares are signed at
once, since each block would pay that commit; there the signer may refuse, and the replica withholds:
a primary proposes nothing more in its view and complains with the others, a backup lets the prepares
of others count. Results are deterministic; where damage was repaired in between, the attestation is
withheld. Any other refusal means that this disk is older than what was signed, and stops the replica.

2026-11-24  Receive times are signed by the turn, not by the batch, and shown whole: a proposal carries
the acks that cover its batches. Times under a Merkle root would let it carry less, and cost hashing for
every batch of every replica. A primary checks an ack's signature only when it is about to show it, so
a flood of acks costs room alone, and that is bounded.

2026-11-24  A fresh proposal whose order is not proven to this replica is not refused for good: f+1
prepares of others stand for the proof, as for the clock. So nobody has to keep acks, and a proposal can
be passed on, repeated or proposed again without them.

2026-11-24  An epoch change is a stable checkpoint, no protocol of its own. A change takes effect a whole
window after it is ordered, so whoever may vote above the boundary holds a certificate that tells of it,
and nothing is ever proposed that two sets of validators could claim. Cost: up to window + K blocks of
delay, empty ones if need be.

2026-11-24  Until the next checkpoint only our own state tells of a new boundary. That suffices to hasten
towards it: a backup that has not executed so far keeps an empty proposal back rather than refuse it.

2026-11-24  Results above the window may be those of validators unknown here. Whoever sends one is not
blamed for it but asked for the changes of validators, each of which proves itself.

2026-11-24  The proofs of all epochs stay in the vote log: a kilobyte a change, written in one turn with the
switch, and all it takes to lead a sleeper or a light client from genesis to now.

2026-11-24  A light client takes the journal's and the state's trees from `primitives/trees.py`. The
core still orders opaque bytes; but what a checkpoint's parts and an attested root stand for must be
checkable without an engine, and two implementations of one hash would drift apart.

2026-11-24  Two view changes or two new views of one replica for one view convict it, as two votes do. There
is no honest way to sign two: both are written down whole before they are signed, a restart signs what
is written, and a lost log does not lose the signer's record. The simulator fails a run in which anybody
holds proof against a replica that forgot nothing. View changes told to others come to light when a
new view cites them.

2026-11-24  Where a liar's batches are all that waits, it can have an honest primary replaced: it sends them
to backups first and to the primary later, and nobody else's were served that would show the primary to be
prompt. That rule stays, since a primary which makes the only client wait gives the same picture. What
holds against the liar: while nobody else has batches it delays nobody's; f+1 origins, or one that was
served in this view, end it; a replacement takes eight proposals at least, and timeouts do not double,
since each of these views delivers; as primary itself it is held to the same pace. To hand a lone
origin's batches over as soon as they are late, and to count from there, might close it, for one more
message a batch from every backup; not done, as it would blur what an honest lone client is promised.

2026-11-24  A replica that fetches its state hears everything and says nothing, and peers do not know that:
they send what they have to say once, or again and again the same, which is known and looked at no more.
So nothing that depends on the right to vote is decided when a message comes: view changes of others are
looked at after every step, and `Replica._take_up` says what was kept back, once the right is there (a
state was fetched, a transfer gave way to blocks, a key came). Cost: a look at n view changes at most after
each step, and only where somebody is in a later view.
"""
