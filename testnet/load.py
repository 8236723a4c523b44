"""The load generator: desks that send envelopes through the client SDK and remember what was promised.

A desk is one session key. It keeps a window of envelopes under way (closed loop), or sends one every
so often whatever happens (open loop: latency then counts from when it was due, so a stall is not
forgotten). An envelope whose outcome is unknown is sent again, the same bytes, until it is known: the
ledger executes it once.
"""

import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import trio

from consensus.primitives.crypto import Signer
from engine.envelope import encode_orders
from node.client import Client, NotConnected, OutcomeUnknown, Refused, Rejected
from node.receipts import Outcome
from node.wire import Detail
from node.wire import Refused as Door
from testnet.sources import Places, Source

EXPIRY_SECONDS = 600.0
RETRY_SECONDS = 0.05
TEMPORARY = {Door.QUEUE_FULL, Door.RATE_LIMITED, Door.HALTED, Door.NOT_PROVEN}
RECENT_SECONDS = 10.0  # what the live figures look back on


@dataclass
class Tally:
    """What became of a load so far, over all desks."""

    envelopes_sent: int = 0
    orders_sent: int = 0
    orders_committed: int = 0
    orders_accepted: int = 0
    retries: int = 0
    refused: dict[str, int] = field(default_factory=dict)  # codes of envelopes that had no effect
    acknowledged: dict[bytes, int] = field(default_factory=dict)  # envelope digest -> height
    latencies_s: list[float] = field(default_factory=list)
    recent: deque[tuple[float, int, float]] = field(default_factory=deque)  # (time, orders, latency)
    started_s: float = 0.0
    ended_s: float = 0.0

    def note(self, outcome: Outcome, latency_s: float) -> None:
        """An envelope was proven executed."""
        now = time.monotonic()
        self.acknowledged[outcome.envelope_digest] = outcome.height
        self.orders_committed += outcome.operations
        self.orders_accepted += outcome.accepted
        self.latencies_s.append(latency_s)
        self.ended_s = now
        self.recent.append((now, outcome.operations, latency_s))
        while self.recent and self.recent[0][0] < now - RECENT_SECONDS:
            self.recent.popleft()

    @property
    def seconds(self) -> float:
        """From the first envelope to the last answer."""
        return max(0.0, self.ended_s - self.started_s)

    @property
    def orders_per_second(self) -> float:
        """Committed orders over the whole load."""
        return self.orders_committed / self.seconds if self.seconds else 0.0

    def recent_rate(self) -> float:
        """Committed orders per second, of late."""
        if not self.recent:
            return 0.0
        now = time.monotonic()
        since = max(now - RECENT_SECONDS, self.started_s)
        return sum(orders for at, orders, _ in self.recent if at >= since) / max(now - since, 0.1)

    def recent_latencies_ms(self) -> dict[str, float]:
        """Latency percentiles, of late."""
        return percentiles_ms([latency for _, _, latency in self.recent])


@dataclass(frozen=True)
class Pace:
    """How a load is sent. `envelopes_per_second` (all desks together) makes it open-loop;
    `envelopes_per_second_max` only keeps a closed loop from being faster."""

    orders_per_envelope: int = 1000
    window: int = 4  # envelopes under way per desk
    envelopes_per_second: float | None = None
    envelopes_per_second_max: float | None = None


def percentiles_ms(latencies_s: list[float]) -> dict[str, float]:
    """p50 and p99 by nearest rank, in milliseconds; zeros for no samples."""
    ordered = sorted(latencies_s)
    return {name: round(1000 * _rank(ordered, share), 3) for name, share in (("p50", 0.50), ("p99", 0.99))}


async def run_load(
    clients: list[tuple[Client, Signer]], source: Source, places: Places, pace: Pace, tally: Tally
) -> None:
    """Send everything `source` gives, one desk per client; returns when every envelope is answered.

    Cancel it to stop earlier: `tally` is right at any moment.
    """
    tally.started_s = tally.ended_s = time.monotonic()
    async with trio.open_nursery() as nursery:
        for number, (client, signer) in enumerate(clients):
            chunks = source.chunks(places, number, pace.orders_per_envelope)
            desk = _Desk(client, signer, tally)
            if pace.envelopes_per_second is not None:
                interval = len(clients) / pace.envelopes_per_second
                nursery.start_soon(desk.run_paced, chunks, interval, interval * number / len(clients))
                continue
            if pace.envelopes_per_second_max is not None:
                desk.slow_down(len(clients) / pace.envelopes_per_second_max)
            for _ in range(1 if source.is_ordered else pace.window):
                nursery.start_soon(desk.run_closed, chunks)


class _Desk:
    """One key and its nonces."""

    def __init__(self, client: Client, signer: Signer, tally: Tally) -> None:
        self._client = client
        self._signer = signer
        self._tally = tally
        self._nonce = time.time_ns() // 1000
        self._interval_s = 0.0
        self._due = trio.current_time()

    def slow_down(self, interval_s: float) -> None:
        """Let the closed loop send one chunk every `interval_s` at most, on average."""
        self._interval_s = interval_s

    async def run_closed(self, chunks: Iterator[np.ndarray]) -> None:
        """Send the next chunk as soon as this one is answered."""
        for ops in chunks:
            self._due += self._interval_s
            if self._interval_s:
                await trio.sleep_until(self._due - self._interval_s)
            await self._send(ops, time.monotonic())

    async def run_paced(self, chunks: Iterator[np.ndarray], interval_s: float, offset_s: float) -> None:
        """Send one chunk every `interval_s`, answered or not."""
        due = trio.current_time() + offset_s
        async with trio.open_nursery() as nursery:
            for ops in chunks:
                await trio.sleep_until(due)
                late_s = trio.current_time() - due
                nursery.start_soon(self._send, ops, time.monotonic() - late_s)
                due += interval_s

    async def _send(self, ops: np.ndarray, due_s: float) -> None:
        tally, client = self._tally, self._client
        self._nonce += 1
        expiry_ms = int((time.time() + EXPIRY_SECONDS) * 1000)
        chain_id = client.network.chain_id
        account = int(ops["account"][0])
        data = encode_orders(self._signer, chain_id, account, self._nonce, expiry_ms, ops)
        tally.envelopes_sent += 1
        tally.orders_sent += len(ops)
        while True:
            try:
                outcome = await client.submit_envelope(data, Detail.SUMMARY)
            except (OutcomeUnknown, NotConnected):
                tally.retries += 1
            except Refused as error:
                if error.code not in TEMPORARY:
                    return self._give_up(error.code)
                tally.retries += 1
            except Rejected as error:
                return self._give_up(error.code.name)
            else:
                return tally.note(outcome, time.monotonic() - due_s)
            await trio.sleep(RETRY_SECONDS)

    def _give_up(self, code: str) -> None:
        self._tally.refused[code] = self._tally.refused.get(code, 0) + 1


def _rank(ordered: list[float], share: float) -> float:
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]
