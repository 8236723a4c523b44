"""Answering peers that lack payloads or blocks, without holding up the loop or filling memory."""

from collections.abc import Sequence

import trio

from consensus.messages import CODEC, BatchPayload, CommitCert
from node.ledger import Ledger
from node.pool import PayloadPool
from node.transport import Transport
from node.wire import frame

ANSWERS_MAX = 8  # requests of one peer under way; more are dropped, and the peer asks again
QUEUED_BYTES_MAX = 16 << 20  # an answer stops when this much waits for the peer
BLOCKS_PER_READ = 64


class Answers:
    """Sends stored payloads and commit certificates to peers."""

    def __init__(self, ledger: Ledger, pool: PayloadPool, transport: Transport) -> None:
        self._ledger = ledger
        self._pool = pool
        self._transport = transport
        self._under_way: dict[int, int] = {}

    async def send_batches(self, to: int, digests: Sequence[bytes]) -> None:
        """Send those payloads that are held or stored, in the order asked for."""
        if not self._begin(to):
            return
        try:
            for name in digests:
                payload = self._pool.get(name)
                if payload is None:
                    payload = await trio.to_thread.run_sync(self._ledger.batch, name)
                if self._transport.queued_bytes(to) > QUEUED_BYTES_MAX:
                    return
                if payload is not None:
                    self._transport.send(to, frame(CODEC.encode(BatchPayload(payload))))
        finally:
            self._under_way[to] -= 1

    async def send_blocks(self, to: int, first: int, last: int) -> None:
        """Send stored commit certificates first..last, up to the first gap."""
        if not self._begin(to):
            return
        try:
            for start in range(first, last + 1, BLOCKS_PER_READ):
                end = min(last, start + BLOCKS_PER_READ - 1)
                certs = await trio.to_thread.run_sync(self._read_blocks, start, end)
                if self._transport.queued_bytes(to) > QUEUED_BYTES_MAX:
                    return
                for cert in certs:
                    self._transport.send(to, frame(CODEC.encode(cert)))
                if len(certs) < end - start + 1:
                    return
        finally:
            self._under_way[to] -= 1

    def _read_blocks(self, first: int, last: int) -> list[CommitCert]:
        return list(self._ledger.blocks(first, last))

    def _begin(self, to: int) -> bool:
        if self._under_way.get(to, 0) >= ANSWERS_MAX:
            return False
        self._under_way[to] = self._under_way.get(to, 0) + 1
        return True
