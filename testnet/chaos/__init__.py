"""Real partitions, crashes, bad disks and wrong clocks on real processes.

    command      `kontor testnet chaos`: start here
    scenarios    what goes wrong when: small declarative values; the faults themselves are in `faults`
    run          one scenario from an empty directory to a verdict
    stage        carries faults out
    proxy        wires in user space: a TCP proxy for each pair of validators
    namespaces   wires in the kernel: a network namespace for each validator
    wires        what both can do; who belonged to a connected quorum, when
    disks        disks that fill up without privileges
    probes       clients that ask one node only and write down what they saw; `transfers` is their model
    observer     what nodes say of themselves meanwhile
    history      whether what the clients saw can have happened one operation after the other
    verdict      what every scenario must show, and the figures

Decisions

2026-11-24. Every probe asks one node only, so that what a cut-off node tells its clients is seen; the
order load beside them uses the SDK as users do, over all nodes. Clients reach nodes on their own ports,
which no scenario cuts: a partition between validators is then all that a scenario is about.

2026-11-24. Whether a quorum was connected is computed from the faults, not asked from the nodes: nodes
that wait although they are connected are what a scenario must find. A node that starts counts as
perhaps there until it sees a quorum, and neither waits nor answers are held against it.

2026-11-24. A slow disk and a wrong clock are injected inside the node (`node.faults`), everything else
from outside. Pulses of SIGSTOP would stop the whole node and not its disk; throttled block devices need
privileges and a device of one's own; and no system lets one process have another clock for less than
LD_PRELOAD, which needs a compiler.
"""
