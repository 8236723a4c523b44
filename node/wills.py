"""Cancel on disconnect: what clients asked to be done for them when their connection ends.

A client leaves a signed envelope of CANCEL_ALL operations with the node it talks to. The node cannot make
one, nor change it; it can only submit it, once the connection has ended, however it ended. A node that
dies with the connection forgets it: against that there is the dead man's switch in ledger time.
"""

from collections import deque
from collections.abc import Callable

import numpy as np
import trio

from consensus.primitives.errors import InputError
from engine.envelope import Envelope, EnvelopeKind
from engine.records import ORDER_OP, Op
from node.wire import Refused

WILL_BYTES_MAX = 4096  # of one connection's
WILLS_MAX = 65_536  # of connections that ended, and that wait for room
RETRY_SECONDS = 0.1
_FOR_NOW = frozenset({Refused.QUEUE_FULL.value, Refused.RATE_LIMITED.value, Refused.OVERLOADED.value})

Will = tuple[bytes, Envelope]


def check_will(data: bytes, envelope: Envelope, chain_id: bytes) -> None:
    """Raise `InputError` unless this may be left with a node: short, of this chain, nothing but cancels."""
    if len(data) > WILL_BYTES_MAX:
        raise InputError(Refused.BAD_PARAMS, f"a will of {len(data)} bytes; at most {WILL_BYTES_MAX}")
    if envelope.chain_id != chain_id:
        raise InputError(Refused.BAD_PARAMS, f"a will for another chain, {envelope.chain_id.hex()[:16]}")
    if envelope.kind != EnvelopeKind.ORDERS:
        raise InputError(Refused.BAD_PARAMS, "a will is an envelope of order operations")
    ops = np.frombuffer(envelope.payload, dtype=ORDER_OP)["op"]
    if not np.all(ops == Op.CANCEL_ALL):
        raise InputError(Refused.BAD_PARAMS, "a will holds nothing but CANCEL_ALL operations")


class Wills:
    """Submits the wills of connections that ended. One task runs `run`."""

    def __init__(self, submit: Callable[[bytes, Envelope], None], count: Callable[[str], None]) -> None:
        self._submit = submit
        self._count = count  # told the code of each that was refused for good
        self._due: deque[Will] = deque(maxlen=WILLS_MAX)
        self._has_some = trio.Event()

    def execute(self, will: Will) -> None:
        """The connection of whoever left this has ended."""
        self._due.append(will)
        self._has_some.set()

    async def run(self) -> None:
        """Submit what is due, until cancelled; again a little later what finds no room."""
        while True:
            await self._has_some.wait()
            while self._due:
                try:
                    self._submit(*self._due[0])
                except InputError as error:
                    if error.code in _FOR_NOW:
                        await trio.sleep(RETRY_SECONDS)
                        continue
                    self._count(error.code)
                self._due.popleft()
                await trio.lowlevel.checkpoint()
            self._has_some = trio.Event()
