"""The daemon: everything that waits, listens, writes or knows the time.

Read `services` first (what a running node offers), then `runtime` (the loop).

    network     the file all share: validators, rules, chain id
    config      one node's settings, and where things lie in its home
    keys, tls   seeds and certificates on disk; pinned TLS contexts
    setup       make homes, or a whole local network
    storage     LMDB helpers, the lock on a home
    ledger      votes, blocks, payloads: durable before anything is sent
    versions    what two versions of Kontor must agree on, and where one takes over from another
    snapshots   the newest checkpoint of the state; `state_proofs` proves what stands in it
    history     journals and receipts by height: an index that can be rebuilt
    transport   links between validators
    validators  who votes, by what keys, reached where: as the ledger says
    joining     the id of a node that was no founder; `introduction`: who validates now, for one that is alone
    reports     what this node saw of lying validators, on its way to the ledger
    payloads    micro-batches from peers: checked in threads, then held in `pool`
    votes       a verifier that remembers, and attestations gathered into proofs
    executor    committed blocks through the engine, in order, off the loop
    recovery    from disk to a running state
    runtime     the loop: events, one durable transaction, then the effects it releases
    telemetry   metrics and logs
    memory      what the C allocator keeps for itself; `remembered` is a bounded memory of names
    admission   envelopes of clients into micro-batches; `signatures` checks many, `limits` slows keys down
    ingress     the client port; its language is in `wire`, its answers in `queries`,
                `views` and `receipts`
    faults      what a test makes go wrong inside a node, read from a file that the environment names
    desk        who waits for which envelope, and the answer each of them gets
    client      the SDK

What others can make a node hold in memory

    a peer      frame being read     `FRAME_BYTES_MAX` at most (`network`)
                payloads unchecked   `QUEUE_MAX` (`payloads`); then its link is not read
                payloads checked     `peers.pool_bytes`, and `COUNT_MAX` of them (`pool`): with n validators,
                                     n times as much; what ran is let go of
                messages             `PEER_EVENTS_MAX` by weight (`inbox`); then its link is not read
                frames to it         `peers.queue_bytes` and one frame; beyond it the link is closed.
                                     Away: `AWAY_BYTES_MAX` (`transport`)
                answers to it        `ANSWERS_MAX` at a time, none beyond `QUEUED_BYTES_MAX` (`answers`)
                state it fetches     `QUEUE_MAX` requests (`state_sync.serving`),
                                     `BULK_BYTES_MAX` of answers (`transport`)
    a stranger  connections          `HANDSHAKES_MAX` to the peer port, `STRANGERS_MAX` to the client port;
                                     `HELLO_BYTES_MAX` and `GREETING_BYTES_MAX` of each are read
    a client    requests             `admission.client_queue_bytes`, `REQUESTS_MAX`, `QUERIES_MAX` (`ingress`)
                answers              `REPLY_BYTES_MAX`, of all together `REPLIES_BYTES_MAX` (`ingress`)
    clients     not yet admitted     `admission.queue_bytes`, of all together
    anybody     valid signatures     `VERDICTS_MAX` (`services`), `REMEMBERED_MAX` (`votes`): 160 bytes each
                names of what ran    `DONE_MAX` (`pool`), 160 bytes each; `ENVELOPES_KEPT` (`recent`),
                                     350 bytes each, and as many that were refused
                rates of keys        `names_max` (`limits`), 340 bytes each, until they are full again
                receive times        `TIMES_MAX` of each validator (`consensus.receive_times`), 500 bytes each
    itself      newest results       `PROVEN_BYTES_MAX` (`recent`), `UNPROVEN_BYTES_MAX` (`votes`) of journals

In sum: see "Memory" in docs/operating.md.

Decisions

2026-11-24. One duplex connection for each pair of validators; the lower id dials. Two simplex links
would need no rule about who dials, but twice the handshakes and sockets.

2026-11-24. Three LMDB environments in a home. LMDB has one writer at a time, and votes must wait
neither behind a snapshot nor behind the history. Their sizes are bounded apart.

2026-11-24. The history is written without fsync: it can be recomputed from the ledger, and is, if the
machine (not only the process) went down before it was closed. Costs a replay from genesis then.

2026-11-24. A state root is attested at every checkpoint, but pages go to disk only every few seconds.
The rule "snapshot before Checkpoint vote" exists because a stable checkpoint lets older blocks go; our
ledger keeps every block at least until a durable snapshot covers it, so the state behind a checkpoint
vote can always be replayed. Saves writing every touched page a few times a second.

2026-11-24. The chain id covers what replicas must agree on (keys, admin keys, rules, capacities), not
addresses and TLS certificates, so a validator can move without leaving its chain.

2026-11-24. Admission asks the current state about key and nonce, though the ledger decides again. It keeps
replays and strangers out of the blocks, and a client that repeats an envelope gets the receipt it missed.
Only valid signatures are remembered, so a flood of bad ones pushes no good verdict out.

2026-11-24. A micro-batch goes at once while fewer than four of our own are under way; from then on
envelopes are gathered for `batch_ms`. A lone order pays no waiting, and a loaded node shares one round.

2026-11-24. The clock follows the system's clock back. It used to be kept from going back, and a node that
was ahead for a moment then stayed ahead: its proposals were refused, and it refused those of others.
Rising block times are the protocol's business, and what it measures by this clock copes with a jump.

2026-11-24. `peers.routes` stands in config.toml and not in network.toml: how one validator reaches
another (NAT, a proxy, a private line) is between these two, and network.toml is the same everywhere.

2026-11-24. A validator to come is given its id by the ledger, so its home has none: the node asks the
validators' client ports under which id its key stands, and keeps the answer. Nobody has to edit a config
between two steps of an admission.

2026-11-24. Who validates now, and where, is proved and not voted on: by the chain of epochs, and by rows of
the table of validators in a state that names the newest one. A node or client that knows founders only,
all of whom left, therefore needs a single address of anybody in the network, who may even lie.
A chain cut short is not believed for long: a quorum of its last members must say that nothing followed.
Every epoch begins with a snapshot for that, since an idle chain would have no other for a long time.

2026-11-24. A ledger says under which protocol and layout it was written, and only a wedge that the operator
names leads to another protocol: started too early, a new version would otherwise find no peer and,
worse, could vote by other rules in blocks that the old ones still decide. See `versions` on layouts.

2026-11-24. A removed validator keeps its links until the next epoch's first checkpoint. Dropped at the
boundary itself, it would race with the news of its removal, and often never hear it.

2026-11-24. The C allocator is told to keep less (`memory`). Under a flood most of what grew was no longer
ours: pieces of heaps that were free and not given back. A pause of some milliseconds every ten seconds
pays for it; a copying or pooled buffer of our own would cost more, and not reach what libraries allocate.

2026-11-24. What only saves work (valid signatures, names of what ran) is remembered in two generations
rather than in order of use: a third of the memory, nothing to move on a hit, and no more to promise.
"""
