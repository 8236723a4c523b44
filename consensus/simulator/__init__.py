"""Whole clusters in virtual time: real replicas; network, disks, clocks and liars simulated from one seed.

Read in this order:

    cluster.py     `Cluster` for scenarios
    trial.py       `run(seed)`: the random version, and the liveness check that ends it
    options.py     what a seed draws (swarm testing); chance.py: one stream of chance for each part
    node.py        inbox, turns, one durable commit a turn, timers, executor, crash; site.py: what it needs
    checker.py     the rules, recounted from outside: safety on every step; checks/ holds them by subject
    network.py     delay, loss, reordering, duplicates, replays, clogs, partitions
    disk.py        torn commits, corrupt and misdirected records, and how they are noticed
    snapshot.py    a state in chunks; sync.py takes, serves and fetches it
    faults.py      when what strikes
    operators.py   changes of validators, wedges, and healing, as people order them
    byzantine.py   replicas that lie, by strategy: liar.py, lies.py, noise.py, unfair.py, mutation.py
    twins.py       two cores under one key, on a schedule of leaders and partitions
    queues.py      every container of a replica and its bound
    coverage.py    paths that enough runs must have met
    replay.py      a run as one line of text; shrink.py makes a failing one smaller
    mutants.py     replicas with known bugs (`bugs.py`), which the checker must catch
    app.py, crypto.py, scheduler.py, trace.py   what they say

Decisions
---------
2026-11-24  Messages travel as objects, not bytes, and a small random share goes through the codec.
Encoding everything would halve the speed and find nothing more: messages are frozen.

2026-11-24  The checker looks at what leaves a node and what is on its disk, hardly ever inside the
replica. So it survives any rewrite of the replica, and a mutant cannot bend the rule with the bug.

2026-11-24  Byzantine replicas go on lying after the network healed: the protocol promises progress
with f of them. Only crashes and the network's faults stop.

2026-11-24  A client repeats a batch to another replica until f+1 executed it. Payloads that only
some replicas hold after that are theirs to fetch.

2026-11-24  A damaged record is always detected: the disk keeps checksums apart from records, as a
tree of pages with the checksum in the parent would. Whoever reads one stops, and an operator gives it
another try or an empty disk. A replica with an empty disk forgot its votes, so it is one of the f for
the rest of the run: the rules do not hold it to what it said before, and all others must bear it.

2026-11-24  Every part draws from a stream of its own. One stream for all would let any change of the
options change everything, and no failing run could be made smaller.
"""
