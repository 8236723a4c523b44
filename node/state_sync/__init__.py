"""Whole states between nodes: what a replica decides in `consensus.state_transfer`, carried out.

    serving    the durable snapshot under a pinned read transaction: manifest and chunks, in a thread
    staging    `data/state.staging`: chunks that were checked; a restart goes on with them
    fetching   checks and stages what arrives, makes the machine, and leaves the rest to one transaction
    swap       the staged state in place of the old one, whatever crash comes between

Decisions

2026-11-24. The ledger and the state are two LMDB environments, so no transaction covers both. The ledger's
decides: the turn that raises the replica to the target also writes `swap`, and from then on the staged
directory is the state. Renaming it is repeated at every start until `swap` is erased.

2026-11-24. The machine is made from the staged pages, and compared with the certificate, before that
transaction. A state that cannot be read back costs a transfer, not a node.

2026-11-24. A snapshot is written only once its checkpoint is stable with this node's own result. Then
what is on disk is never a state that others would call wrong, a divergence always has a good base to be
replayed from, and whatever is held can be served with its certificate. Pages wait in memory meanwhile.

2026-11-24. Which checkpoints become snapshots follows from block times and a shared rule, so peers hold the
same ones and a joiner can ask all of them for chunks of one state.

2026-11-24. Chunks are not compressed, but pages of zeros are left out.
"""
