"""The load generator against a client that answers as it is told."""

import numpy as np
import pytest
import trio

from engine.envelope import decode
from engine.records import ORDER_OP, Code
from node.client import NotConnected, OutcomeUnknown, Refused, Rejected
from node.receipts import Outcome
from testnet.flows import Flow, FlowAsset, FlowMarket
from testnet.load import Pace, Tally, percentiles_ms, run_load
from testnet.sources import Places, RecordedSource
from tests.helpers.venue import CHAIN_ID, signer


class Client:
    """Plays `node.client.Client`: `script` holds what each submission does, then all succeed."""

    class network:
        chain_id = CHAIN_ID

    def __init__(self, *script: object) -> None:
        self.script = list(script)
        self.seen: list[bytes] = []
        self.under_way = 0
        self.most_under_way = 0

    async def submit_envelope(self, data: bytes, detail: object) -> Outcome:
        self.seen.append(data)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await trio.sleep(0.001)
        self.under_way -= 1
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Exception):
            raise step
        envelope = decode(data)
        count = len(envelope.orders())
        return Outcome(envelope.digest, 7, 0, 1, Code.OK, 0, envelope.nonce, count, count - 1, None)


def source(n: int = 20, fences: tuple[int, ...] = (), is_ordered: bool = False) -> RecordedSource:
    ops = np.zeros(n, ORDER_OP)
    ops["client_order_id"] = np.arange(n)
    flow = Flow(
        name="f",
        source="s",
        assets=(FlowAsset("A", 0), FlowAsset("B", 0)),
        markets=(FlowMarket("A-B", 0, 1, 1, 1, 10, 10),),
        ops=ops,
        fences=np.array(fences, np.int64),
        funding=np.zeros((1, 2), np.int64),
        is_ordered=is_ordered,
    )
    return RecordedSource(flow)


PLACES = Places(np.array([5]), np.array([9]))


def load(client: Client, what: RecordedSource, pace: Pace) -> Tally:
    tally = Tally()

    async def main() -> None:
        with trio.fail_after(20):
            await run_load([(client, signer("desk"))], what, PLACES, pace, tally)  # type: ignore[list-item]

    trio.run(main)
    return tally


def test_every_operation_is_sent_once_and_counted():
    client = Client()
    tally = load(client, source(20), Pace(8, window=2))
    orders = [order for data in client.seen for order in decode(data).orders()["client_order_id"].tolist()]
    assert sorted(orders) == list(range(20))
    assert (tally.envelopes_sent, tally.orders_sent, tally.orders_committed) == (3, 20, 20)
    assert tally.orders_accepted == 17
    assert set(tally.acknowledged) == {decode(data).digest for data in client.seen}
    assert set(tally.acknowledged.values()) == {7}


def test_operations_carry_the_ledgers_ids():
    client = Client()
    load(client, source(3), Pace(8))
    orders = decode(client.seen[0]).orders()
    assert set(orders["account"].tolist()) == {9} and set(orders["market"].tolist()) == {5}


def test_envelopes_end_at_fences():
    client = Client()
    load(client, source(10, fences=(3, 4), is_ordered=True), Pace(5))
    assert [len(decode(data).orders()) for data in client.seen] == [3, 1, 5, 1]


@pytest.mark.parametrize(("is_ordered", "most"), [(True, 1), (False, 3)])
def test_the_window_bounds_what_is_under_way(is_ordered, most):
    client = Client()
    load(client, source(60, is_ordered=is_ordered), Pace(5, window=3))
    assert client.most_under_way == most


def test_an_envelope_with_unknown_outcome_is_sent_again_byte_for_byte():
    client = Client(
        OutcomeUnknown(b"x" * 32, 1, "silence"), NotConnected("nobody"), Refused("QUEUE_FULL", "busy")
    )
    tally = load(client, source(4), Pace(8))
    assert len(client.seen) == 4 and len(set(client.seen)) == 1
    assert tally.retries == 3 and tally.envelopes_sent == 1 and len(tally.acknowledged) == 1


def test_final_refusals_are_counted_by_code_and_not_repeated():
    outcome = Outcome(b"x" * 32, 7, 0, 1, Code.NONCE_USED, 0, 1, 4, 0, None)
    client = Client(Refused("UNKNOWN_KEY", "no"), Rejected(Code.NONCE_USED, outcome, "it"))
    tally = load(client, source(8), Pace(4, window=1))
    assert tally.refused == {"UNKNOWN_KEY": 1, "NONCE_USED": 1}
    assert not tally.acknowledged and len(client.seen) == 2


def test_an_open_loop_sends_on_time_whatever_happens():
    client = Client()
    tally = load(client, source(20), Pace(4, envelopes_per_second=100))
    assert tally.orders_committed == 20
    assert tally.seconds >= 0.04  # five envelopes, 10 ms apart


def test_percentiles_are_nearest_rank():
    assert percentiles_ms([]) == {"p50": 0.0, "p99": 0.0}
    assert percentiles_ms([0.001]) == {"p50": 1.0, "p99": 1.0}
    assert percentiles_ms([i / 1000 for i in range(1, 101)]) == {"p50": 50.0, "p99": 99.0}
