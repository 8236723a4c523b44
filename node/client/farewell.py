"""Cancel on disconnect, the client's side: a signed cancel of everything lies with the node we talk to.

It is renewed before it expires and before its nonce is too old, and left anew with the next node when a
connection ends; the node of the one that ended then submits its copy.
"""

from collections.abc import Callable

import trio

from consensus.primitives.errors import InputError
from engine.layout import NONCE_WINDOW
from node.client.errors import LinkLost
from node.client.link import Link
from node.client.nodes import Nodes

RENEW_SECONDS = 600.0
LIFE_SECONDS = 3600
LOOK_SECONDS = 0.5  # how often it is seen to
_NONCES = NONCE_WINDOW // 4

Sign = Callable[[], tuple[bytes, int]]  # the envelope, and its nonce


class Farewell:
    """Keeps a will with one node. `run` must be running."""

    def __init__(self, nodes: Nodes, sign: Sign, nonce: Callable[[], int]) -> None:
        self._nodes = nodes
        self._sign = sign
        self._nonce = nonce
        self._scope = trio.CancelScope()
        self._is_left = trio.Event()
        self._link: Link | None = None

    async def run(self) -> None:
        """Leave it, watch it, leave it again; until `stop`."""
        with self._scope:
            rotation = self._nodes.rotation()
            while True:
                node_id = await rotation.next()
                try:
                    self._link = await self._nodes.link(node_id)
                    await self._keep(self._link)
                except (LinkLost, InputError):
                    continue
                rotation = self._nodes.rotation()

    async def wait_left(self) -> None:
        """Until some node has it."""
        await self._is_left.wait()

    async def stop(self) -> None:
        """Take it back, so that nothing happens when the connection ends."""
        self._scope.cancel()
        if self._link is not None and self._link.is_open:
            await self._link.call("will", [b""])

    async def _keep(self, link: Link) -> None:
        while link.is_open:
            data, nonce = self._sign()
            await link.call("will", [data])
            self._is_left.set()
            with trio.move_on_after(RENEW_SECONDS):
                while link.is_open and self._nonce() - nonce < _NONCES:
                    await trio.sleep(LOOK_SECONDS)
