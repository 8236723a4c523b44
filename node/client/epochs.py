"""Following changes of validators: each is proved by the validators before it, so any node may tell."""

from typing import Any

import trio

from consensus.light import LightClient
from consensus.primitives.crypto import Verifier
from consensus.primitives.errors import InputError, ProtocolError
from consensus.proofs import Epoch, EpochProof
from node.client.errors import LinkLost, NotConnected
from node.client.link import Link
from node.client.nodes import Nodes
from node.receipts import RECEIPTS

ANSWER_SECONDS = 3.0  # for one node


class Follower:
    """What this client knows of validators: from genesis, by proofs alone."""

    def __init__(self, nodes: Nodes, verifier: Verifier | None = None) -> None:
        replicas = nodes.network.replicas
        self.light = LightClient(replicas.chain_id, replicas.record, verifier)
        self._nodes = nodes

    @property
    def weak_quorum(self) -> int:
        """Nodes of which one at least is honest, in the newest epoch known."""
        return self.light.replicas.weak_quorum

    async def follow(self, link: Link) -> bool:
        """Take the changes that one node shows; return whether there were any. Raises `ProtocolError` if
        they prove nothing."""
        known = self.light.epoch.number
        while True:
            before = self.light.epoch.number
            raw: Any = await link.call("epochs", [before + 1])
            if type(raw) is not list:
                raise ProtocolError("epochs are a list")
            for fields in raw:
                self.light.advance(RECEIPTS.from_fields(EpochProof, fields))
            if self.light.epoch.number == before:
                return before > known

    async def sync(self, timeout_s: float) -> Epoch:
        """Ask f+1 nodes, so that one liar cannot hide a change. Raises `NotConnected`."""
        heard: set[int] = set()
        last = "no node was tried"
        with trio.move_on_after(timeout_s):
            rotation = self._nodes.rotation()
            while len(heard) < self.weak_quorum:
                node_id = await rotation.next()
                try:
                    with trio.fail_after(ANSWER_SECONDS):
                        await self.follow(await self._nodes.link(node_id))
                    heard.add(node_id)
                except ProtocolError as error:
                    last = f"node {node_id} gave a bad proof: {error}"
                    self._nodes.distrust(node_id, last)
                except (LinkLost, InputError, trio.TooSlowError) as error:
                    last = f"node {node_id}: {error}"
            return self.light.epoch
        raise NotConnected(f"{len(heard)} of {self.weak_quorum} nodes told of validators: {last}")
