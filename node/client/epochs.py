"""Following changes of validators: each is proved by the validators before it, so any node may tell.

Everybody is asked at once: members, former ones, and whoever answers at an address given by hand. The longest
chain of changes that verifies is taken from whomever it comes.

Who is believed to be newest must be recent: of a former epoch, f+1 stolen keys could sign receipts. So
a quorum of the newest epoch's members must tell of nothing newer before the first receipt is believed, and
again after `SYNC_SECONDS`: among them is an honest one even if f+1 lie. A liar's short chain fools nobody
for good: its last members, as far as they are honest, tell of what followed, or the quorum is not reached.
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
from node.client.link import Link, name_of
from node.client.nodes import PAUSE_SECONDS_MAX, PAUSE_SECONDS_MIN, Nodes
from node.receipts import RECEIPTS

ANSWER_SECONDS = 3.0  # for one node
SYNC_SECONDS = 300.0  # then what is known is too old to believe receipts by; renewed from half of that on
SYNC_ATTEMPT_SECONDS = 30.0  # to hear from a quorum
ADDRESSES_SECONDS = 30.0  # to have it proved where newcomers are; the next change asks again
Ask = Callable[[Link], Awaitable[object]]


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
        self._last = "no node was tried"  # why one that was asked last told nothing

    @property
    def weak_quorum(self) -> int:
        """Nodes of which one at least is honest, in the newest epoch known."""
        return self.light.replicas.weak_quorum

    async def follow(self, link: Link) -> bool:
        """Take the changes and the checkpoint that one node shows; return whether either was news. Raises
        `ProtocolError` if they prove nothing."""
        known = self.light.epoch.number, self.light.reach
        await self._follow(link)
        self._find_addresses()
        return (self.light.epoch.number, self.light.reach) > known

    async def _follow(self, link: Link) -> int:
        """The same; return the epoch after which this node knew of none."""
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
        return before

    def _find_addresses(self) -> None:
        """Learn where newcomers are, beside what is under way."""
        if not self._addresses.is_settled and not self._is_asking:
            self._is_asking = True
            self._nodes.run_beside(self._ask_for_addresses)

    async def _ask_for_addresses(self) -> None:
        try:
            with trio.move_on_after(ADDRESSES_SECONDS):
                await self._ask_everybody(self._follow_and_hear, lambda: self._addresses.is_settled)
        finally:
            self._is_asking = False

    async def sync(self, timeout_s: float) -> Epoch:
        """Ask until a quorum of the newest epoch's members told of nothing newer, so that f+1 liars cannot
        hide a change. Raises `NotConnected`."""
        started_s = trio.current_time()
        told: dict[int, int] = {}  # by whom: the epoch after which it knew of none

        async def hear(link: Link) -> None:
            told[link.node_id] = await self._follow(link)
            await self._addresses.hear(link)

        def count() -> int:
            replicas = self.light.replicas
            return sum(told.get(member) == replicas.epoch for member in replicas.ids)

        with trio.move_on_after(timeout_s):
            await self._ask_everybody(hear, lambda: count() >= self.light.replicas.quorum)
            self._synced_s = max(self._synced_s, started_s)
            self._find_addresses()
            return self.light.epoch
        raise NotConnected(
            f"{count()} of {self.light.replicas.quorum} validators said who validates now: {self._last}"
        )

    async def _ask_everybody(self, ask: Ask, is_done: Callable[[], bool]) -> None:
        """Ask all nodes at once, each again after a pause, and those found meanwhile, until `is_done`."""
        asked: set[int] = set()
        async with trio.open_nursery() as nursery:

            async def keep_asking(node_id: int) -> None:
                pause_s = PAUSE_SECONDS_MIN
                while not is_done():
                    self._last = await self._try(node_id, ask) or self._last
                    found = [other for other in self._nodes.everybody() if other not in asked]
                    asked.update(found)
                    for other in found:
                        nursery.start_soon(keep_asking, other)
                    if is_done():
                        break
                    await trio.sleep(pause_s)
                    pause_s = min(PAUSE_SECONDS_MAX, 2 * pause_s)
                nursery.cancel_scope.cancel()

            asked.update(self._nodes.everybody())
            for node_id in sorted(asked):
                nursery.start_soon(keep_asking, node_id)
            if not asked:
                await trio.sleep_forever()

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

    async def _try(self, node_id: int, ask: Ask) -> str:
        """Ask a node; return why that did not work, or nothing."""
        try:
            with trio.fail_after(ANSWER_SECONDS):
                await ask(await self._nodes.link(node_id))
        except ProtocolError as error:
            why = f"{name_of(node_id)} gave a bad proof: {error}"
            self._nodes.distrust(node_id, why)
            return why
        except (LinkLost, InputError, trio.TooSlowError) as error:
            return f"{name_of(node_id)}: {error}"
        return ""
