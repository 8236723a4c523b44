"""However a fenced flow is cut into blocks, it fills as if run one by one."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.records import Op, Side, TimeInForce
from testnet.book_model import BookModel
from testnet.flows import FlowAsset, FlowMarket
from testnet.importers.base import Step, World, build_flow

WORLD = World("w", "s", (FlowAsset("B", 0), FlowAsset("Q", 0)), (FlowMarket("B-Q", 0, 1, 1, 1, 50, 50),))
TIFS = (TimeInForce.GTC, TimeInForce.GTC, TimeInForce.POST_ONLY, TimeInForce.POST_ONLY, TimeInForce.IOC)


def random_steps(seed: int, count: int) -> list[Step]:
    rng = random.Random(seed)
    steps: list[Step] = []
    for _ in range(count):
        op = rng.choices((Op.NEW, Op.CANCEL, Op.REDUCE, Op.REPLACE), (50, 35, 8, 7))[0]
        key = rng.randrange(40) if op != Op.NEW or rng.random() < 0.2 else rng.randrange(1000)
        if op != Op.NEW and steps and rng.random() < 0.7:
            key = rng.choice(steps[-20:]).key
        side, tif = Side(rng.randrange(2)), rng.choice(TIFS) if op == Op.NEW else TimeInForce.GTC
        steps.append(Step(op, key, 0, side, tif, rng.randrange(46, 55), rng.randrange(1, 6)))
    return steps


def run(steps: list[Step], cuts: list[int]) -> tuple[list, dict]:
    """Run `steps` block by block, leaving early as a block does. Returns fills and outcomes."""
    book = BookModel(50, 50)
    fills: list[tuple[int, int, int, int]] = []
    outcomes = {}
    bounds = sorted({0, len(steps), *cuts})
    for start, stop in itertools.pairwise(bounds):
        early = []
        for position in range(start, stop):
            step = steps[position]
            if step.op in (Op.CANCEL, Op.REDUCE) and step.key in book.orders:
                early.append(position)
                outcomes[position] = apply(book, step).accepted
        for position in range(start, stop):
            if position not in early:
                outcome = apply(book, steps[position])
                outcomes[position] = outcome.accepted
                fills += [(steps[position].key, *fill) for fill in outcome.fills]
    return fills, outcomes


def apply(book: BookModel, step: Step):
    return book.apply(step.op, step.key, step.side, step.tif, step.price, step.qty)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**9), st.lists(st.integers(1, 150), max_size=12))
def test_every_cut_gives_the_fills_of_a_run_in_order(seed, cuts):
    steps = random_steps(seed, 150)
    flow = build_flow(WORLD, steps, 150)
    fences = flow.fences.tolist()
    in_order = run(steps, list(range(len(steps))))
    assert run(steps, [*cuts, *fences]) == in_order
    assert flow.fills_expected == len(in_order[0])


def test_without_fences_some_cut_differs():
    def differs(seed: int) -> bool:
        steps = random_steps(seed, 150)
        return run(steps, [50, 100]) != run(steps, list(range(len(steps))))

    assert any(differs(seed) for seed in range(20))


@pytest.mark.parametrize("seed", range(5))
def test_no_order_trades_with_one_of_its_own_account(seed):
    steps = random_steps(seed, 150)
    flow = build_flow(WORLD, steps, 150)
    owner = {step.key: account for step, account in zip(steps, flow.ops["account"].tolist(), strict=True)}
    fills, _ = run(steps, list(range(len(steps))))
    assert fills and all(owner[taker] != owner[maker] for taker, maker, _, _ in fills)
