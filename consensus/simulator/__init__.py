"""Whole clusters in virtual time: real replicas; network, disks, clocks and liars simulated from one seed.

Read in this order:

    cluster.py     `Cluster` for scenarios, `run(seed)` for the random version
    options.py     what a seed draws (swarm testing)
    node.py        inbox, turns, one durable commit a turn, timers, executor, crash and restart
    checker.py     the rules, recounted from outside: safety on every step
    network.py     delay, loss, reordering, duplicates, replays, clogs, partitions
    faults.py      when what strikes
    byzantine.py   replicas that lie, mutation.py bends their messages
    mutants.py     replicas with known bugs, which the checker must catch
    disk.py, app.py, crypto.py, scheduler.py, trace.py   what they say

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
"""
