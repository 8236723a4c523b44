"""Measures the engine on one core: no network, no disk, no signatures.

Two layers over the same flow. *Matching*: the compiled call alone, with funds, fees and journal records.
*Machine*: `Machine.apply` from encoded micro-batches to the journal root, which adds decoding, nonces, grants
and hashing; signatures count as checked, since worker threads do that before ordering. The state
root is timed apart, since it is due at checkpoints only.

Figures are medians over blocks. Wall time is what counts on a quiet machine; CPU time is given beside it,
because it is the better guess on a busy one.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from consensus.primitives.crypto import Ed25519Signer, digest
from engine.batch import encode_batch
from engine.commands import Deposit, ListMarket, OpenAccount, RegisterAsset, encode
from engine.envelope import encode_commands, encode_orders
from engine.genesis import Genesis
from engine.layout import PriceStatus
from engine.machine import Machine
from engine.matching.kernels import run_orders
from engine.perpetuals.commands import ListPerpetual
from engine.records import AMOUNT_MAX, Kind
from testnet.synthetic import SHAPES, FlowShape, SyntheticFlow

BATCHES = (1000, 10_000, 50_000)
ENVELOPE_ORDERS = 1000
BATCH_ENVELOPES = 32  # of 1,000 orders: just under a micro-batch's megabyte
COMMANDS_PER_ENVELOPE = 4000
PREFILL_CHUNK = 50_000
NEVER_MS = 2**62
START_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
SEED = 23


@dataclass(frozen=True)
class Figures:
    """One scenario at one block size. ns are per operation, medians over blocks."""

    scenario: str
    batch: int
    blocks: int
    matching_ns: float
    matching_cpu_ns: float
    matching_mops: float
    machine_ns: float
    machine_cpu_ns: float
    machine_mops: float
    state_root_ms: float
    fills_per_op: float
    refused: float  # share of operations
    resting: int


class _AlreadyChecked:
    """Verdicts of signature threads that have looked at everything."""

    def get(self, envelope_digest: bytes, /) -> bool | None:
        """Every signature is good."""
        return True


class _Bench:
    """A funded machine and the flow that it executes."""

    def __init__(self, shape: FlowShape) -> None:
        self.signer = Ed25519Signer(digest("kontor.bench"))
        self.machine = Machine(Genesis(digest("kontor.bench.chain"), (self.signer.public_key,)))
        self.flow = SyntheticFlow(shape, SEED)
        self._nonce = 0
        self._open(shape)
        self._apply_orders(self.flow.fill_book())

    def measure(self, scenario: str, batch: int, blocks: int) -> Figures:
        """Run `blocks` blocks of `batch` operations through each layer."""
        matching, events, refused = [], 0, 0
        for _ in range(blocks + 1):
            ops = self.flow.take(batch)
            took, (results, trades) = _timed(partial(self._match, ops))
            matching.append(took)
            events += int(np.count_nonzero(trades["kind"] == Kind.FILL))
            refused += int(np.count_nonzero(results["code"]))
        machine, roots = [], []
        for _ in range(blocks + 1):
            batches = self._encode(self.flow.take(batch))
            machine.append(_timed(partial(self._apply, batches))[0])
            roots.append(_timed(self.machine.state_root)[0][0])
        match_ns, match_cpu = _per_op(matching, batch)
        apply_ns, apply_cpu = _per_op(machine, batch)
        return Figures(
            scenario=scenario,
            batch=batch,
            blocks=blocks,
            matching_ns=round(match_ns, 1),
            matching_cpu_ns=round(match_cpu, 1),
            matching_mops=round(1e3 / match_ns, 2),
            machine_ns=round(apply_ns, 1),
            machine_cpu_ns=round(apply_cpu, 1),
            machine_mops=round(1e3 / apply_ns, 2),
            state_root_ms=round(median(roots[1:]) / 1e6, 2),
            fills_per_op=round(events / batch / (blocks + 1), 3),
            refused=round(refused / batch / (blocks + 1), 4),
            resting=int(self.machine.state.count["orders_live"]),
        )

    def _match(self, ops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        state = self.machine.state
        state.reserve_for_orders(len(ops))
        return run_orders(state.core(), ops, np.zeros(len(ops), dtype=np.uint8))

    def _apply(self, batches: list[bytes]) -> None:
        machine = self.machine
        height = machine.height + 1
        machine.apply(height, digest("kontor.bench.block"), START_MS + height, batches, _AlreadyChecked())

    def _apply_orders(self, ops: np.ndarray) -> None:
        for start in range(0, len(ops), PREFILL_CHUNK):
            self._apply(self._encode(ops[start : start + PREFILL_CHUNK]))

    def _encode(self, ops: np.ndarray) -> list[bytes]:
        envelopes = []
        for start in range(0, len(ops), ENVELOPE_ORDERS):
            orders = ops[start : start + ENVELOPE_ORDERS]
            self._nonce += 1
            envelopes.append(
                encode_orders(self.signer, self.machine.genesis.chain_id, 1, self._nonce, NEVER_MS, orders)
            )
        return _in_batches(envelopes)

    def _open(self, shape: FlowShape) -> None:
        """Assets, markets, and accounts whose funds no flow can exhaust, all traded by one key."""
        funds = AMOUNT_MAX // (2 * shape.accounts)
        accounts, assets = range(1, shape.accounts + 1), range(shape.markets + 1)
        commands: list[tuple[Any, ...]] = [RegisterAsset(f"ASSET{number}", 0, 0) for number in assets]
        commands += [_listing(shape, number) for number in range(shape.markets)]
        commands += [OpenAccount(self.signer.public_key) for _ in accounts]
        commands += [Deposit(account, asset, funds) for account in accounts for asset in assets]
        for start in range(0, len(commands), COMMANDS_PER_ENVELOPE):
            payload = encode(commands[start : start + COMMANDS_PER_ENVELOPE])
            self._nonce += 1
            chain_id = self.machine.genesis.chain_id
            self._apply(
                [encode_batch([encode_commands(self.signer, chain_id, 0, self._nonce, NEVER_MS, payload)])]
            )
        if shape.perpetual:  # what an oracle would say, all the time
            columns = self.machine.state.markets.columns
            columns["mark_price"][: shape.markets] = columns["index_price"][: shape.markets] = (
                shape.price_max // 2
            )
            columns["price_status"][: shape.markets] = PriceStatus.VALID


def _listing(shape: FlowShape, number: int) -> ListMarket | ListPerpetual:
    """A spot market, or a contract with wide limits, in which nearly every order of the flow may stand."""
    terms = (f"MARKET{number}", number + 1, 0, 1000)
    if not shape.perpetual:
        return ListMarket(*terms, 1000, shape.price_max, 1 << 20, 0, 200, 500)
    margin = (500_000, 250_000, 0, 500_000)  # initial, maintenance, scan, collar: ppm
    limits = (1 << 30, 1 << 30, HOUR_MS, 5000)  # lots of one and of all, funding interval and cap
    return ListPerpetual(*terms, 100, shape.price_max, 1 << 20, 0, 200, 500, *margin, *limits, 0, 0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kontor bench engine`."""
    parser.add_argument(
        "--scenario",
        choices=[*SHAPES, "all"],
        default="all",
        help="base: one busy book; sym100: 100 books; deep: a million orders rest; take: a third takes; "
        "perp: base in a perpetual contract; demo: the flow of the local network (all)",
    )
    parser.add_argument(
        "--batch",
        type=int,
        action="append",
        metavar="N",
        help=f"operations per block; may be given several times ({', '.join(map(str, BATCHES))})",
    )
    parser.add_argument(
        "--repeat", type=int, default=15, metavar="N", help="blocks timed per figure, after one more (15)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run_command(args: argparse.Namespace) -> int:
    """Measure and print."""
    if args.repeat < 1 or min(args.batch or BATCHES) < 1:
        print("--repeat and --batch count from 1", file=sys.stderr)
        return 2
    scenarios = [name for name in SHAPES if args.scenario in (name, "all")]
    figures: list[Figures] = []
    for name in scenarios:
        print(f"{name}: filling the book …", file=sys.stderr)
        bench = _Bench(SHAPES[name])
        figures += [bench.measure(name, batch, args.repeat) for batch in args.batch or BATCHES]
    if args.json:
        print(json.dumps({"machine": _machine(), "figures": [asdict(item) for item in figures]}))
    else:
        _print_table(figures)
    return 0


def _timed(work: Callable[[], Any]) -> tuple[tuple[int, int], Any]:
    """((wall ns, CPU ns of this thread), what `work` returned)."""
    wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
    result = work()
    return (time.perf_counter_ns() - wall, time.thread_time_ns() - cpu), result


def _per_op(samples: list[tuple[int, int]], batch: int) -> tuple[float, float]:
    """Median wall and CPU ns per operation. The first block, which may compile, does not count."""
    return (
        median(wall for wall, _ in samples[1:]) / batch,
        median(cpu for _, cpu in samples[1:]) / batch,
    )


def _in_batches(envelopes: list[bytes]) -> list[bytes]:
    return [
        encode_batch(envelopes[start : start + BATCH_ENVELOPES])
        for start in range(0, len(envelopes), BATCH_ENVELOPES)
    ]


def _machine() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def _print_table(figures: list[Figures]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Engine on one core, medians; ns per operation, wall (CPU)")
    for column in ("scenario", "block", "matching ns", "M ops/s", "machine ns", "M ops/s", "state root ms"):
        table.add_column(column, justify="left" if column == "scenario" else "right")
    for item in figures:
        table.add_row(
            item.scenario,
            f"{item.batch:,}",
            f"{item.matching_ns:.0f} ({item.matching_cpu_ns:.0f})",
            f"{item.matching_mops:.2f}",
            f"{item.machine_ns:.0f} ({item.machine_cpu_ns:.0f})",
            f"{item.machine_mops:.2f}",
            f"{item.state_root_ms:.1f}",
        )
    console = Console()
    console.print(table)
    machine = _machine()
    console.print(f"{machine['cpus']} cores, load {machine['load']}; say what else ran when you quote this")
