"""Who is newest: what a quorum of the newest epoch's own members says, and how recently."""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import pytest
import trio

from consensus.proofs import CheckpointCert, EpochProof
from node.client import epochs
from node.client.epochs import SYNC_SECONDS, Follower
from node.client.errors import NotConnected
from node.receipts import RECEIPTS
from tests.unit.consensus.test_light import CHAIN, FIRST, GENESIS, KEYS, SECOND, TO_FIRST, TO_SECOND, certify

pytestmark = pytest.mark.trio


class Teller:
    """A link to one node that knows of some changes and a checkpoint."""

    def __init__(
        self, node_id: int, proofs: Sequence[EpochProof], checkpoint: CheckpointCert | None = None
    ) -> None:
        self.node_id, self._proofs, self._checkpoint = node_id, proofs, checkpoint

    async def call(self, method, params):
        await trio.lowlevel.checkpoint()
        if method == "checkpoint":
            return None if self._checkpoint is None else RECEIPTS.to_fields(self._checkpoint)
        if method == "validators":
            return []
        assert method == "epochs"
        return [RECEIPTS.to_fields(proof) for proof in self._proofs[params[0] - 1 :]]


class Tellers:
    """Nodes that are asked in the order given, again and again."""

    def __init__(self, nursery: trio.Nursery, tellers: Sequence[Teller]) -> None:
        replicas = SimpleNamespace(chain_id=CHAIN, record=GENESIS, epoch=0)
        self.network = SimpleNamespace(replicas=replicas, validators=())
        self.asked: list[int] = []
        self.distrusted: list[int] = []
        self._nursery = nursery
        self._tellers = {teller.node_id: teller for teller in tellers}

    def survey(self):
        return SimpleNamespace(next=self._next(iter(list(self._tellers) * 20)))

    @staticmethod
    def _next(ids: Iterator[int]):
        async def take() -> int:
            await trio.lowlevel.checkpoint()
            found = next(ids, None)
            if found is None:
                await trio.sleep_forever()
            return found

        return take

    async def link(self, node_id: int) -> Teller:
        self.asked.append(node_id)
        return self._tellers[node_id]

    def keep(self, members) -> None:
        pass

    def distrust(self, node_id: int, why: str) -> None:
        self.distrusted.append(node_id)

    def run_beside(self, work) -> None:
        self._nursery.start_soon(work)


@pytest.fixture
async def nursery():
    async with trio.open_nursery() as nursery:
        yield nursery
        nursery.cancel_scope.cancel()


def _follower(nursery, *tellers, trusted=None) -> tuple[Follower, Tellers]:
    nodes = Tellers(nursery, tellers)
    return Follower(nodes, KEYS, trusted), nodes


async def test_f_plus_one_who_deny_a_change_do_not_hide_it(nursery, autojump_clock):
    """Validators 0 and 1 of genesis are bad: a quorum has one more voice."""
    follower, _ = _follower(
        nursery, Teller(0, ()), Teller(1, ()), *(Teller(n, (TO_FIRST,)) for n in (2, 3, 4))
    )
    assert await follower.sync(10) == FIRST


async def test_who_is_no_member_of_the_newest_epoch_is_not_counted(nursery, autojump_clock):
    both = (TO_FIRST, TO_SECOND)
    follower, nodes = _follower(nursery, *(Teller(n, both) for n in (0, 1, 9, 10, 11, 12)))
    follower.light.advance(TO_FIRST)
    with pytest.raises(NotConnected, match="0 of 5"):
        await follower.sync(10)
    assert follower.light.epoch == SECOND and not nodes.distrusted


async def test_a_checkpoint_lets_f_plus_one_votes_reach_further(nursery):
    follower, _ = _follower(nursery)
    before = follower.light.reach
    assert await follower.follow(Teller(0, (), certify(GENESIS, 32, GENESIS)))
    assert follower.light.reach == before + 32
    assert not await follower.follow(Teller(0, (), certify(GENESIS, 32, GENESIS)))


async def test_a_node_behind_the_trusted_epoch_is_no_liar(nursery):
    follower, _ = _follower(nursery, trusted=FIRST)
    assert not await follower.follow(Teller(1, (TO_FIRST,), certify(GENESIS, 32, GENESIS)))
    assert follower.light.epoch == FIRST


async def test_a_quorum_is_asked_at_first_and_again_when_that_is_long_ago(nursery, autojump_clock):
    follower, nodes = _follower(nursery, *(Teller(n, ()) for n in range(4)))
    await follower.wait_fresh()
    assert sorted(nodes.asked) == [0, 1, 2]
    await follower.wait_fresh()
    assert len(nodes.asked) == 3
    await trio.sleep(SYNC_SECONDS + 1)
    await follower.wait_fresh()
    assert len(nodes.asked) == 6


async def test_nothing_is_believed_while_no_quorum_answers(nursery, autojump_clock, monkeypatch):
    monkeypatch.setattr(epochs, "SYNC_ATTEMPT_SECONDS", 1)
    follower, _ = _follower(nursery)
    with trio.move_on_after(5) as waiting:
        await follower.wait_fresh()
    assert waiting.cancelled_caught
