"""Who is newest: what a quorum of the newest epoch's own members says, and how recently."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest
import trio

from consensus.primitives.errors import InputError
from consensus.proofs import CheckpointCert, EpochProof
from node.client import epochs
from node.client.epochs import SYNC_SECONDS, Follower
from node.client.errors import NotConnected
from node.receipts import RECEIPTS
from tests.unit.consensus.test_light import CHAIN, FIRST, GENESIS, KEYS, SECOND, TO_FIRST, TO_SECOND, certify

pytestmark = pytest.mark.trio

SECOND_IDS = [member.id for member in SECOND.members]


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
        if method == "validators_proof":
            raise InputError("NOT_PROVEN", "no snapshot yet")
        assert method == "epochs"
        return [RECEIPTS.to_fields(proof) for proof in self._proofs[params[0] - 1 :]]


class Tellers:
    """Nodes that answer at once; those in `silent` never do."""

    def __init__(self, nursery: trio.Nursery, tellers: Sequence[Teller], silent: Sequence[int]) -> None:
        replicas = SimpleNamespace(chain_id=CHAIN, record=GENESIS, epoch=0)
        self.network = SimpleNamespace(replicas=replicas, validators=())
        self.asked: list[int] = []
        self.distrusted: list[int] = []
        self._nursery = nursery
        self._silent = silent
        self._tellers = {teller.node_id: teller for teller in tellers}

    def everybody(self) -> list[int]:
        return [*self._silent, *self._tellers]

    async def link(self, node_id: int) -> Teller:
        self.asked.append(node_id)
        if node_id in self._silent:
            await trio.sleep_forever()
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


def _follower(nursery, *tellers, trusted=None, silent=()) -> tuple[Follower, Tellers]:
    nodes = Tellers(nursery, tellers, silent)
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
    assert sorted(nodes.asked) == [0, 1, 2, 3]
    await follower.wait_fresh()
    assert len(nodes.asked) == 4
    await trio.sleep(SYNC_SECONDS + 1)
    await follower.wait_fresh()
    assert len(nodes.asked) == 8


async def test_nodes_that_do_not_answer_cost_nothing(nursery, autojump_clock):
    follower, _ = _follower(nursery, *(Teller(n, ()) for n in (1, 2, 3)), silent=(0, 7, -1))
    before = trio.current_time()
    assert await follower.sync(10) == GENESIS
    assert trio.current_time() == before


async def test_the_longest_chain_counts_whoever_shows_it(nursery, autojump_clock):
    """A stranger alone knows of both changes; the members of the newest epoch then say that it is."""
    both = (TO_FIRST, TO_SECOND)
    short = [Teller(n, ()) for n in (0, 1, 2)]
    follower, nodes = _follower(nursery, *short, Teller(-1, both), *(Teller(n, both) for n in SECOND_IDS))
    assert await follower.sync(10) == SECOND
    assert not nodes.distrusted


async def test_a_short_chain_fools_nobody_while_its_members_know_better(nursery, autojump_clock):
    """A stranger shows the first change and hides the second; members of the first epoch tell of it."""
    honest = [Teller(n, (TO_FIRST, TO_SECOND)) for n in SECOND_IDS]
    follower, _ = _follower(nursery, Teller(-1, (TO_FIRST,)), *honest)
    assert await follower.sync(10) == SECOND


async def test_who_shows_a_false_proof_is_left_alone_and_nobody_else(nursery, autojump_clock):
    forged = replace(TO_FIRST, cert=replace(TO_FIRST.cert, votes=TO_FIRST.cert.votes[1:]))
    follower, nodes = _follower(nursery, Teller(-1, (forged,)), *(Teller(n, ()) for n in (0, 1)))
    with pytest.raises(NotConnected, match="2 of 3"):
        await follower.sync(10)
    assert set(nodes.distrusted) == {-1} and follower.light.epoch == GENESIS


async def test_nothing_is_believed_while_no_quorum_answers(nursery, autojump_clock, monkeypatch):
    monkeypatch.setattr(epochs, "SYNC_ATTEMPT_SECONDS", 1)
    follower, _ = _follower(nursery)
    with trio.move_on_after(5) as waiting:
        await follower.wait_fresh()
    assert waiting.cancelled_caught
