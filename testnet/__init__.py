"""Local networks of real processes, the load that exercises them, and benches.

    cli.py             registers `testnet`, `flow`, `bench` and `sim` with `kontor`
    launcher.py        starts, watches, kills and stops real `kontor start` processes
    venue.py           lists a flow's assets and markets, opens and funds its accounts
    load.py            replays a flow through the client SDK and remembers what was acknowledged
    run.py             the bounded headless run and its verdict
    live.py            the live view of `testnet up`
    flows.py           the replayable order flow and its file format
    fences.py          where a replay must wait, because a block runs cancels first
    book_model.py      a slow, plain book: what an imported flow is expected to do
    accounts.py        who places which order of an anonymous feed
    importers/         recorded market data to flows, one module per format
    synthetic.py       the seeded synthetic flow
    bench_cluster.py, bench_engine.py, sim.py   the benches and the simulator's command

Read `flows.py`, then `run.py`.
"""
