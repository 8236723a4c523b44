"""Tallies, and the stash for messages that come too early."""

from dataclasses import replace

from consensus.log import Stash, Tally, weigh
from consensus.messages import Complain
from consensus.primitives.crypto import ZERO_DIGEST
from consensus.proofs import Vote
from tests.helpers.votes import Voters, make_block, name_of

A, B = bytes([1]) * 32, bytes([2]) * 32


def vote(replica: int) -> Complain:
    return Complain(0, replica, bytes([replica]))


def test_a_tally_counts_the_first_vote_of_each_sender_only() -> None:
    tally = Tally()
    tally.add(1, A, b"x", vote(1))
    tally.add(1, A, b"x", vote(1))
    tally.add(1, B, b"y", vote(1))
    assert (tally.count(A), tally.count(B)) == (1, 0)
    assert tally.digest_of(1) == A
    assert tally.digest_of(2) is None


def test_a_tally_gives_votes_of_one_digest_in_order_of_replica() -> None:
    tally = Tally()
    for replica, digest in ((3, A), (0, B), (2, A), (1, A)):
        tally.add(replica, digest, bytes([replica]), vote(replica))
    assert tally.votes(A, 2) == (Vote(1, b"\x01"), Vote(2, b"\x02"))
    assert tally.find(3) == A
    assert tally.find(1, besides=A) == B
    assert tally.find(2, besides=A) is None
    assert tally.count(ZERO_DIGEST) == 0


def test_the_stash_bounds_each_peer_by_itself() -> None:
    stash = Stash(2)
    for number in range(5):
        stash.put(1, vote(number))
    stash.put(0, vote(9))
    assert len(stash) == 3
    assert stash.take() == [(0, vote(9)), (1, vote(3)), (1, vote(4))]
    assert len(stash) == 0


def test_a_stash_counts_long_messages_for_what_they_take() -> None:
    voters = Voters()
    times = [(name_of(number), 1) for number in range(160)]
    long = replace(voters.pre_prepare(0, make_block(1, 1)), acks=(voters.ack(0, times),))
    stash = Stash(25)
    for _ in range(5):
        stash.put(3, long)
    assert weigh(long) == 11 and len(stash) == 2
    stash.put(3, voters.prepare(1, 0, make_block(1, 1)))
    assert len(stash) == 3
    assert len(stash.take()) == 3 and len(stash) == 0
