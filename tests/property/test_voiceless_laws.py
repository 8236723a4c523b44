"""While a replica fetches its state it may say nothing; in the end that must have made no difference."""

from random import Random

import pytest

from consensus.effects import BatchReady
from consensus.messages import Commit, Message, Prepare, ViewChange
from tests.helpers.joiner import Joiner
from tests.helpers.votes import make_block, name_of


def _draw_news(joiner: Joiner, rng: Random) -> list[tuple[int, Message]]:
    """What peers say of views and blocks while one of them leads, is left, or is replaced; in any order."""
    voters, block = joiner.voters, make_block(41, 1)
    others = [replica for replica in (0, 1, 2) if rng.random() < 0.8]
    changes = [voters.view_change(replica, 1) for replica in (0, 1, 2)]
    kinds: list[list[Message]] = [
        [voters.pre_prepare(0, block), *[voters.prepare(r, 0, block) for r in others if r]],
        [voters.commit(replica, 0, block) for replica in others],
        [voters.complain(replica, 0) for replica in others],
        [changes[replica] for replica in others],
        [voters.view_change(1, 2, complaints=voters.complaints(1))],
        [voters.new_view(1, changes)],
    ]
    news = [m for kind in rng.sample(kinds, rng.randint(1, 3)) for m in kind]
    rng.shuffle(news)
    return [(getattr(m, "replica", 0), m) for m in news]


def _hear(joiner: Joiner, news: list[tuple[int, Message]]) -> None:
    for sender, message in news:
        since = len(joiner.effects)
        joiner.say(sender, message)
        joiner.fire_now(since)


@pytest.mark.parametrize("seed", range(60))
def test_who_hears_while_it_fetches_and_again_afterwards_ends_like_who_hears_afterwards(seed: int) -> None:
    """Peers repeat what they said until it helps; what is known already must not be lost on that account."""
    ends = []
    for hears_early in (True, False):
        joiner, rng = Joiner(), Random(seed)
        joiner.aim()
        joiner.step(BatchReady(name_of(1), 1, 100, 0))
        news = _draw_news(joiner, rng)
        if hears_early:
            _hear(joiner, news)
        since = len(joiner.effects)
        joiner.stop()
        joiner.fire_now(since)
        for _ in range(2):
            _hear(joiner, news)
        replica = joiner.replica
        last = [m for m in joiner.signed() if isinstance(m, Prepare | Commit) and m.view == replica.view]
        left = [m for m in joiner.signed() if isinstance(m, ViewChange) and not replica.active]
        said = {(type(m).__name__, m.view) for m in (*last, *left[-1:])}
        ends.append((replica.view, replica.active, said))
    assert ends[0] == ends[1]
