"""Getting an envelope executed exactly once, and knowing it: the client's side of retries.

The same envelope may go to any number of nodes; the ledger executes it once. What is believed is only
what a receipt proves, or what f+1 nodes say alike: one of them is honest. A receipt of an epoch that is
over is believed if f+1 present validators show it alike: f+1 of its keys may have been stolen since.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trio

from consensus.light import Unproven
from consensus.primitives.errors import InputError, ProtocolError
from engine.envelope import Envelope
from node.client.epochs import Follower
from node.client.errors import LinkLost, NotConnected, NotFound, OutcomeUnknown, Refused, Rejected
from node.client.link import Link
from node.client.nodes import Nodes, Rotation
from node.receipts import RECEIPTS, Outcome, Receipt, ReceiptVerifier
from node.wire import Detail
from node.wire import Refused as Door

ATTEMPT_SECONDS = 3.0  # then the envelope goes to another node, too
# Refusals that are about the node, not about the envelope: others may take it.
_BUSY = frozenset({Door.QUEUE_FULL.value, Door.HALTED.value, Door.NOT_PROVEN.value, Door.RATE_LIMITED.value})


class _Unanswered(Exception):
    """The request was sent and may take effect, but there is no answer that counts."""


class Submitter:
    """Sends envelopes and asks for receipts until the outcome is proven."""

    def __init__(self, nodes: Nodes, follower: Follower) -> None:
        self._nodes = nodes
        self._follower = follower
        self._receipts = ReceiptVerifier(follower.light)

    async def submit(self, data: bytes, envelope: Envelope, detail: Detail, timeout_s: float) -> Outcome:
        """Have an envelope executed; return what the ledger made of it.

        Raises `Rejected` if the ledger refused the envelope as a whole, `Refused`, `NotConnected`, or
        `OutcomeUnknown` once `timeout_s` is over.
        """
        self._follower.freshen()
        attempt = _Attempt(self._nodes.count, self._follower.weak_quorum)
        with trio.move_on_after(timeout_s):
            rotation = self._nodes.rotation()
            while True:
                node_id = await rotation.next()
                outcome = await self._try(node_id, data, envelope.digest, detail, attempt)
                if outcome is None:
                    continue
                attempt.was_sent = True
                attempt.last = f"{outcome.code.name}, which {self._follower.weak_quorum} nodes must confirm"
                return await self._settle(node_id, outcome, detail)
        if attempt.was_sent:
            raise OutcomeUnknown(envelope.digest, envelope.expiry_ms, attempt.last)
        attempt.raise_refusal()
        raise NotConnected(f"no node could be reached in {timeout_s} s: {attempt.last}")

    async def receipt(self, envelope_digest: bytes, detail: Detail, timeout_s: float) -> Outcome:
        """What became of an envelope sent before. Raises `NotFound` if f+1 nodes know nothing of it."""
        self._follower.freshen()
        missing: set[int] = set()
        last = "no node was tried"
        with trio.move_on_after(timeout_s):
            rotation = self._nodes.rotation()
            while len(missing) < self._follower.weak_quorum:
                node_id = await rotation.next()
                try:
                    outcome = await self._ask(node_id, "receipt", envelope_digest, detail)
                except (LinkLost, _Unanswered, InputError) as error:
                    last = f"node {node_id}: {error}"
                    if isinstance(error, InputError) and error.code == Door.NOT_FOUND:
                        missing.add(node_id)
                    continue
                return await self._settle(node_id, outcome, detail)
            raise NotFound(
                f"{len(missing)} nodes executed no envelope {envelope_digest.hex()[:16]}:"
                " until it expires, submit the same envelope again"
            )
        raise NotConnected(f"no receipt within {timeout_s} s: {last}")

    async def _try(
        self, node_id: int, data: bytes, envelope_digest: bytes, detail: Detail, attempt: "_Attempt"
    ) -> Outcome | None:
        """One node, one attempt. None: try the next."""
        try:
            link = await self._nodes.link(node_id)
            with attempt.waiting(node_id):
                return await self._call(link, "submit", envelope_digest, detail, data)
        except LinkLost as error:
            attempt.last = str(error)
        except _Unanswered as error:
            attempt.was_sent = True
            attempt.last = str(error)
        except InputError as error:
            attempt.note(node_id, error)
        return None

    async def _settle(self, node_id: int, outcome: Outcome, detail: Detail) -> Outcome:
        """The outcome of a copy that was executed, if any node shows one; else raise `Rejected`.

        One receipt settles it if it tells of an execution in this epoch. A proven refusal is about one copy
        of the envelope, and a lying node may have made that copy; what an epoch that is over signed may be
        signed by thieves. These take f+1 present validators who tell alike; nodes that never
        executed the block in question do not count.
        """
        light = self._follower.light
        told: dict[tuple[int, int] | None, set[int]] = {}
        rotation = self._nodes.rotation()
        while True:
            if not outcome.is_refused_copy and outcome.height >= light.epoch.first_seq:
                return outcome
            place = None if outcome.is_refused_copy else (outcome.height, outcome.line)
            alike = told.setdefault(place, set())
            if node_id in light.replicas:
                alike.add(node_id)
            if len(alike) >= self._follower.weak_quorum:
                break
            node_id, outcome = await self._ask_another(rotation, alike, outcome.envelope_digest, detail)
        if outcome.is_refused_copy:
            raise Rejected(outcome.code, outcome, "the envelope")
        return outcome

    async def _ask_another(
        self, rotation: Rotation, but: set[int], envelope_digest: bytes, detail: Detail
    ) -> tuple[int, Outcome]:
        """What the next node shows that shows anything."""
        while True:
            node_id = await rotation.next()
            if node_id in but:
                continue
            try:
                return node_id, await self._ask(node_id, "receipt", envelope_digest, detail)
            except (LinkLost, _Unanswered, InputError):
                continue

    async def _ask(self, node_id: int, method: str, envelope_digest: bytes, detail: Detail) -> Outcome:
        """Ask one node, and check what it answers. Raises `LinkLost` only if nothing was sent."""
        return await self._call(await self._nodes.link(node_id), method, envelope_digest, detail)

    async def _call(
        self, link: Link, method: str, envelope_digest: bytes, detail: Detail, data: bytes | None = None
    ) -> Outcome:
        node_id = link.node_id
        params: list[Any] = [envelope_digest if data is None else data, detail.value]
        with trio.move_on_after(ATTEMPT_SECONDS):
            try:
                raw = await link.call(method, params)
                outcome = await self._verify(
                    link, RECEIPTS.from_fields(Receipt, raw), envelope_digest, detail
                )
            except ProtocolError as error:
                self._nodes.distrust(node_id, f"node {node_id} gave a bad receipt: {error}")
                raise _Unanswered(f"node {node_id} gave a bad receipt: {error}") from error
            except LinkLost as error:
                raise _Unanswered(str(error)) from error
            self._nodes.served(node_id)
            return outcome
        raise _Unanswered(f"node {node_id} did not answer within {ATTEMPT_SECONDS} s")

    async def _verify(self, link: Link, receipt: Receipt, envelope_digest: bytes, detail: Detail) -> Outcome:
        """What a receipt proves. If the validators we know did not sign it, others may have followed them:
        whoever gave the receipt can prove that, too."""
        await self._follower.wait_fresh()
        try:
            return self._receipts.verify(receipt, envelope_digest, detail)
        except Unproven:
            if not await self._follower.follow(link):
                raise
        return self._receipts.verify(receipt, envelope_digest, detail)


class _Attempt:
    """What is known about one submission so far."""

    def __init__(self, nodes: int, weak_quorum: int) -> None:
        self.was_sent = False  # to a node that may have passed it on
        self.last = "no node was tried"
        self._nodes = nodes
        self._weak_quorum = weak_quorum
        self._opinions: dict[int, InputError] = {}

    @contextmanager
    def waiting(self, node_id: int) -> Iterator[None]:
        """While a node has the request and did not answer: should our time run out now, it was sent."""
        try:
            yield
        except trio.Cancelled:
            self.was_sent = True
            self.last = f"node {node_id} did not answer in time"
            raise

    def note(self, node_id: int, error: InputError) -> None:
        """A node refused. Raises `Refused` when that settles it."""
        self.last = f"node {node_id}: {error}"
        self._opinions[node_id] = error
        if self.was_sent:
            return  # another node may have passed it on: only a receipt settles it now
        alike = [item for item in self._opinions.values() if item.code == error.code]
        needed = self._nodes if error.code in _BUSY else self._weak_quorum
        if len(alike) >= needed or len(self._opinions) == self._nodes:
            self.raise_refusal()

    def raise_refusal(self) -> None:
        """Raise the newest refusal, if there is one."""
        if self._opinions:
            error = list(self._opinions.values())[-1]
            raise Refused(error.code, error.message) from error
