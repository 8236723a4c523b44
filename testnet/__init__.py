"""Local networks of real processes, the load that exercises them, and benches.

    cli.py             registers `testnet`, `flow`, `bench` and `sim` with `kontor`
    launcher.py        starts, watches, kills and stops real `kontor start` processes
    session.py         from directories to a working load: what `up`, `run` and the benches share
    venue.py           lists a flow's assets and markets, opens and funds its accounts
    sources.py         where a load's orders come from
    load.py            sends them through the client SDK and remembers what was acknowledged
    audit.py           what a stopped node's disk says
    run.py             the bounded headless run and its verdict
    replacement.py     one validator takes another's place under load
    live.py            the live view of `testnet up`
    flows.py           the replayable order flow and its file format
    fences.py          where a replay must wait, because a block runs cancels first
    book_model.py      a slow, plain book: what an imported flow is expected to do
    accounts.py        who places which order of an anonymous feed
    importers/         recorded market data to flows, one module per format
    synthetic.py       the seeded synthetic flow
    flood.py           a lying validator, strangers and silent connections that flood a network
    chaos/             partitions, crashes, bad disks and wrong clocks, with a verdict
    prepared.py        a network that begins with a large state
    bench_cluster.py, bench_engine.py, bench_failover.py, bench_flood.py, bench_join.py   the benches
    sim.py             the simulator's command

Read `run.py`, then `flows.py`.

Decisions

2026-11-24. A run is judged by what lies on every node's disk after it stopped, not by what nodes say. A
node that lies or is wrong about itself could otherwise pass; the price is a second recovery per run.

2026-11-24. Recorded flow is replayed one envelope after the other. Its outcome depends on order, and
neither two envelopes under way nor a view change promise one. A block then holds one envelope, which is
slower than the ledger can go; throughput is measured with the synthetic flow.
"""
