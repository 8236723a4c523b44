"""A chain that is told to stop at a height, and goes on when its operators say so."""

from dataclasses import replace

import pytest

from consensus.certificates import check_checkpoint
from consensus.effects import Executed
from consensus.messages import Block
from consensus.primitives.errors import ConfigError
from consensus.proofs import CheckpointCert
from consensus.replica import ReplicaConfig
from consensus.state import ReplicaState
from tests.helpers.group import CONFIG, Group
from tests.helpers.votes import Voters, make_block

ROOT = b"r" * 32


class Wedged(Group):
    """Its state names a wedge at `height` until that block, from the start."""

    height = 8

    def _run(self, replica_id: int, block: Block) -> Executed:
        result = super()._run(replica_id, block)
        boundary = self.height if block.seq <= self.height else 0
        state = replace(result.state, boundary=boundary) if result.state else None
        return replace(result, state=state, boundary=boundary)


def state_of(voters: Voters, resume_after: int) -> ReplicaState:
    config = replace(CONFIG, resume_after=resume_after)
    return ReplicaState(3, voters.replicas, [voters.keyring.signers[3]], voters.keyring, config, {})


def certify(voters: Voters, seq: int) -> CheckpointCert:
    return voters.checkpoint(make_block(seq), ROOT, ROOT)


@pytest.mark.parametrize("resume_after", [40, 80])
def test_a_wedge_that_a_later_one_was_named_after_is_passed(resume_after: int) -> None:
    """A node that lags by two wedges follows with the number of the second alone."""
    voters = Voters()
    state = state_of(voters, resume_after)
    state.learn_boundary(40, replace(certify(voters, 40).state, boundary=40))
    assert state.boundary == 0
    check_checkpoint(state.authority, certify(voters, 44))


def test_naming_a_height_never_removes_a_boundary_that_lies_ahead() -> None:
    voters = Voters()
    state = state_of(voters, resume_after=40)
    state.learn_boundary(40, replace(certify(voters, 40).state, boundary=44))
    assert state.boundary == 44


def test_an_idle_chain_is_not_driven_to_a_wedge_far_ahead() -> None:
    """Only the last blocks before a boundary are hastened by empty ones."""
    group = Wedged(4, ReplicaConfig(window=8, checkpoint_interval=4))
    group.height = 400
    group.submit(1)
    group.wait(60_000_000)
    assert group.heights() == [1] * 4
    group.height = 12
    group.submit(2)
    group.wait(1_000_000)
    assert group.heights() == [12] * 4


def test_a_restart_without_the_acknowledged_height_says_which_setting_is_missing() -> None:
    group = Wedged(4, ReplicaConfig(window=8, checkpoint_interval=4, resume_after=8))
    while max(group.heights()) < 10:
        group.submit(max(group.heights()) + 1)
        group.run()
    group.crash(2)
    group.config = replace(group.config, resume_after=0)
    with pytest.raises(ConfigError, match="resume_after is 0: put back 8"):
        group.start(2)
    group.config = replace(group.config, resume_after=8)
    group.start(2)
    assert not group[2].wedged
