"""Following changes of validators: each is proved by the validators before it, so any node may tell."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from consensus.light import LightClient
from consensus.primitives.crypto import Verifier
from consensus.primitives.errors import InputError, ProtocolError
from consensus.proofs import Epoch, EpochProof
from node.client.addresses import Addresses
from node.client.errors import LinkLost, NotConnected
from node.client.link import Link
from node.client.nodes import Nodes
from node.receipts import RECEIPTS

ANSWER_SECONDS = 3.0  # for one node
ADDRESSES_SECONDS = 30.0  # to hear from f+1 nodes where newcomers are; the next change asks again


class Follower:
    """What this client knows of validators: from genesis, by proofs alone."""

    def __init__(self, nodes: Nodes, verifier: Verifier | None = None) -> None:
        replicas = nodes.network.replicas
        self.light = LightClient(replicas.chain_id, replicas.record, verifier)
        self._nodes = nodes
        self._addresses = Addresses(nodes, self.light)
        self._is_asking = False

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
                break
            self._nodes.keep(member.id for member in self.light.epoch.members)
        self._find_addresses()
        return before > known

    def _find_addresses(self) -> None:
        """Learn where newcomers are, beside what is under way."""
        if not self._addresses.is_settled and not self._is_asking:
            self._is_asking = True
            self._nodes.run_beside(self._ask_for_addresses)

    async def _ask_for_addresses(self) -> None:
        try:
            with trio.move_on_after(ADDRESSES_SECONDS):
                rotation = self._nodes.rotation()
                while not self._addresses.is_settled:
                    node_id = await rotation.next()
                    await self._try(node_id, self._follow_and_hear)
        finally:
            self._is_asking = False

    async def sync(self, timeout_s: float) -> Epoch:
        """Ask f+1 nodes, so that one liar cannot hide a change. Raises `NotConnected`."""
        heard: set[int] = set()
        last = "no node was tried"
        with trio.move_on_after(timeout_s):
            rotation = self._nodes.rotation()
            while len(heard) < self.weak_quorum:
                node_id = await rotation.next()
                why = await self._try(node_id, self.follow)
                if why:
                    last = why
                else:
                    heard.add(node_id)
            return self.light.epoch
        raise NotConnected(f"{len(heard)} of {self.weak_quorum} nodes told of validators: {last}")

    async def _follow_and_hear(self, link: Link) -> None:
        await self.follow(link)
        await self._addresses.hear(link)

    async def _try(self, node_id: int, ask: Callable[[Link], Awaitable[object]]) -> str:
        """Ask a node; return why that did not work, or nothing."""
        try:
            with trio.fail_after(ANSWER_SECONDS):
                await ask(await self._nodes.link(node_id))
        except ProtocolError as error:
            why = f"node {node_id} gave a bad proof: {error}"
            self._nodes.distrust(node_id, why)
            return why
        except (LinkLost, InputError, trio.TooSlowError) as error:
            return f"node {node_id}: {error}"
        return ""
