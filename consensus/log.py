"""What a replica holds of one place in the order, and of messages it cannot use yet."""

from collections import deque

from consensus.messages import (
    Ack,
    Chunk,
    CommitCert,
    FetchBatches,
    Manifest,
    Message,
    NewView,
    PrePrepare,
    ViewChange,
)
from consensus.proofs import Vote

PARTS = 16  # digests or signatures that take as much memory as a vote
BULK_UNIT = 4096  # so many bytes of a state do


class Tally:
    """Votes of one phase at one place: one a sender, counted by digest."""

    __slots__ = ("_counts", "_votes")

    def __init__(self) -> None:
        self._votes: dict[int, tuple[bytes, bytes, Message]] = {}
        self._counts: dict[bytes, int] = {}

    def digest_of(self, replica: int) -> bytes | None:
        """What `replica` voted for, if it did."""
        vote = self._votes.get(replica)
        return vote[0] if vote else None

    def message_of(self, replica: int) -> Message | None:
        """The vote of `replica` as it was sent."""
        vote = self._votes.get(replica)
        return vote[2] if vote else None

    def add(self, replica: int, digest: bytes, signature: bytes, message: Message) -> None:
        """Count the first vote of `replica`; a later one changes nothing."""
        if replica not in self._votes:
            self._votes[replica] = (digest, signature, message)
            self._counts[digest] = self._counts.get(digest, 0) + 1

    def count(self, digest: bytes) -> int:
        """Votes for `digest`."""
        return self._counts.get(digest, 0)

    def find(self, needed: int, besides: bytes = b"") -> bytes | None:
        """A digest other than `besides` with at least `needed` votes, if there is one."""
        for digest, count in self._counts.items():
            if count >= needed and digest != besides:
                return digest
        return None

    def votes(self, digest: bytes, needed: int) -> tuple[Vote, ...]:
        """`needed` votes for `digest`, those of the lowest replicas, in ascending order."""
        replicas = sorted(replica for replica, vote in self._votes.items() if vote[0] == digest)
        return tuple(Vote(replica, self._votes[replica][1]) for replica in replicas[:needed])


class Slot:
    """One place (view, seq) of the current view.

    `proposal`   the first block its primary proposed here, or None
    `fresh`      it came as a pre-prepare of its own, not in a new view: clock, size, order are checked
    `acks`       what proves the order of its batches, until it is prepared
    `ordered`    that order is proven, or needs no proof
    `offered_us` when it came
    `complete`   every payload it lists is held
    `refused`    it breaks a rule: never to be voted for
    `accepted`   this replica voted for it (its record is durable before the vote leaves)
    `prepared`   this replica holds its prepared certificate of this view
    `certified`  this replica holds q commits for it
    """

    __slots__ = (
        "accepted",
        "acks",
        "certified",
        "commits",
        "complete",
        "digest",
        "fresh",
        "offered_us",
        "ordered",
        "prepared",
        "prepares",
        "proposal",
        "refused",
        "seq",
    )

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.proposal: PrePrepare | None = None
        self.digest: bytes | None = None
        self.fresh = False
        self.acks: tuple[Ack, ...] = ()
        self.ordered = False
        self.offered_us = 0
        self.complete = False
        self.refused = False
        self.accepted = False
        self.prepared = False
        self.certified = False
        self.prepares = Tally()
        self.commits = Tally()


def weigh(message: Message) -> int:
    """How many votes take as much memory: some 4 KiB count one, so that long messages fill a queue sooner."""
    match message:
        case PrePrepare():
            return 1 + (len(message.block.batches) + sum(len(ack.items) for ack in message.acks)) // PARTS
        case CommitCert():
            return 1 + (len(message.block.batches) + len(message.commits)) // PARTS
        case Ack():
            return 1 + len(message.items) // PARTS
        case ViewChange():
            return 1 + sum(
                1 + (len(c.proposal.block.batches) + len(c.prepares)) // PARTS for c in message.prepared
            )
        case NewView():
            return 1 + sum(map(weigh, message.view_changes)) + sum(map(weigh, message.proposals))
        case FetchBatches():
            return 1 + len(message.digests) // PARTS
        case Chunk() | Manifest():
            return 1 + len(message.data) // BULK_UNIT
        case _:
            return 1


class Stash:
    """Messages for a later view or a higher window, kept until they fit: per peer, the newest up to
    `size_max` by weight. Dropping them silently would leave nobody to send them again (Fabric #1119)."""

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._queues: dict[int, deque[Message]] = {}
        self._weights: dict[int, int] = {}

    def put(self, sender: int, message: Message) -> None:
        """Keep `message`; the sender's oldest go when its queue is full."""
        queue = self._queues.setdefault(sender, deque())
        queue.append(message)
        weight = self._weights.get(sender, 0) + weigh(message)
        while weight > self._size_max and len(queue) > 1:
            weight -= weigh(queue.popleft())
        self._weights[sender] = weight

    def take(self) -> list[tuple[int, Message]]:
        """Empty the stash; return (sender, message) in order of sender, then arrival."""
        taken = [(sender, message) for sender, queue in sorted(self._queues.items()) for message in queue]
        self._queues.clear()
        self._weights.clear()
        return taken

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())
