"""Following changes of validators: each is proved by the validators before it, so any node may tell.

Who is believed to be newest must be recent: of a former epoch, f+1 stolen keys could sign receipts. So
a quorum of the newest epoch's members is asked before the first receipt is believed, and again
after `SYNC_SECONDS`: among them is an honest one even if f+1 lie.
"""

import math
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from consensus.light import LightClient
from consensus.primitives.crypto import Verifier
from consensus.primitives.errors import InputError, ProtocolError
from consensus.proofs import CheckpointCert, Epoch, EpochProof
from node.client.addresses import Addresses
from node.client.errors import LinkLost, NotConnected
from node.client.link import Link
from node.client.nodes import Nodes
from node.receipts import RECEIPTS

ANSWER_SECONDS = 3.0  # for one node
SYNC_SECONDS = 300.0  # then what is known is too old to believe receipts by; renewed from half of that on
SYNC_ATTEMPT_SECONDS = 30.0  # to hear from a quorum
ADDRESSES_SECONDS = 30.0  # to hear from f+1 nodes where newcomers are; the next change asks again


class Follower:
    """What this client knows of validators: from genesis or a later epoch that it trusts, by proofs alone."""

    def __init__(self, nodes: Nodes, verifier: Verifier | None = None, trusted: Epoch | None = None) -> None:
        replicas = nodes.network.replicas
        self.light = LightClient(replicas.chain_id, trusted or replicas.record, verifier)
        self._nodes = nodes
        nodes.keep(member.id for member in self.light.epoch.members)
        self._synced_s = -math.inf
        self._is_syncing = False
        self._tried = trio.Event()
        self._addresses = Addresses(nodes, self.light)
        self._is_asking = False

    @property
    def weak_quorum(self) -> int:
        """Nodes of which one at least is honest, in the newest epoch known."""
        return self.light.replicas.weak_quorum

    async def follow(self, link: Link) -> bool:
        """Take the changes and the checkpoint that one node shows; return whether either was news. Raises
        `ProtocolError` if they prove nothing."""
        known = self.light.epoch.number, self.light.reach
        newest: Any = await link.call("checkpoint", [])  # first, so that its epoch is among those told
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
        if newest is not None:
            cert = RECEIPTS.from_fields(CheckpointCert, newest)
            if cert.seq >= self.light.epoch.first_seq:  # else it says nothing new
                self.light.verify_checkpoint(cert)
        self._find_addresses()
        return (self.light.epoch.number, self.light.reach) > known

    def _find_addresses(self) -> None:
        """Learn where newcomers are, beside what is under way."""
        if not self._addresses.is_settled and not self._is_asking:
            self._is_asking = True
            self._nodes.run_beside(self._ask_for_addresses)

    async def _ask_for_addresses(self) -> None:
        try:
            with trio.move_on_after(ADDRESSES_SECONDS):
                rotation = self._nodes.survey()
                while not self._addresses.is_settled:
                    node_id = await rotation.next()
                    await self._try(node_id, self._follow_and_hear)
        finally:
            self._is_asking = False

    async def sync(self, timeout_s: float) -> Epoch:
        """Ask a quorum of the newest epoch's members, so that f+1 liars cannot hide a change. Raises
        `NotConnected`."""
        started_s = trio.current_time()
        heard: set[int] = set()
        last = "no node was tried"
        with trio.move_on_after(timeout_s):
            rotation = self._nodes.survey()
            while len(heard) < self.light.replicas.quorum:
                node_id, before = await rotation.next(), self.light.epoch
                why = await self._try(node_id, self.follow)
                if self.light.epoch != before:
                    heard.clear()  # who told of nothing newer did not tell of this one
                if not why and node_id in self.light.replicas:
                    heard.add(node_id)
                last = why or last
            self._synced_s = max(self._synced_s, started_s)
            return self.light.epoch
        raise NotConnected(
            f"{len(heard)} of {self.light.replicas.quorum} validators told of validators: {last}"
        )

    def freshen(self) -> None:
        """See that what is known of validators is recent, beside what is under way."""
        if not self._is_syncing and trio.current_time() >= self._synced_s + SYNC_SECONDS / 2:
            self._is_syncing = True
            self._nodes.run_beside(self._sync_beside)

    async def wait_fresh(self) -> None:
        """Until what is known of validators is recent enough to believe receipts by."""
        while trio.current_time() >= self._synced_s + SYNC_SECONDS:
            self.freshen()
            await self._tried.wait()

    async def _sync_beside(self) -> None:
        try:
            await self.sync(SYNC_ATTEMPT_SECONDS)
        except NotConnected:
            pass  # whoever still waits has it tried again
        finally:
            self._is_syncing = False
            self._tried.set()
            self._tried = trio.Event()

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
