"""The operator's side: the `kontor` command line.

    cli.py      the parser, how errors become one line and an exit status, commands from elsewhere
    nodes.py    init, start, keys
    signing.py  signer, recover: a validator's key apart from its node, and when it is lost
    validators.py   validator: who votes, and changing it while the network runs
    evidence.py     evidence: convictions and their proofs
    peers.py    --peer: where else the network can be reached
    prices.py   breakers, oracle: what stopped, stopping it, feeds of prices
    status.py   status: what running nodes say about themselves
    debug.py    heal, debug replay: a node whose state went wrong
    checks.py   test: format, lint, types and tests

Read `cli.py` first. This package reaches running nodes only through `node.client`, as any client
does. Packages to its right add their commands through the entry-point group `kontor.commands`: an
installed plugin needs no change here.

Decisions

2026-11-24. A command imports what it needs when it runs, not when it registers. `kontor --help`
then answers in a tenth of a second, although some commands pull in numba; the price is imports
inside functions.
"""
