"""What must be refused is refused, with its own code; what is valid passes."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from consensus.certificates import (
    Refused,
    check_attest,
    check_checkpoint,
    check_commit_cert,
    check_new_view,
    check_pre_prepare,
    check_prepared,
    check_view_change,
    compute_proposals,
    list_signatures,
    new_view_bytes_max,
    refusal_code,
)
from consensus.messages import (
    BATCHES_PER_BLOCK_MAX,
    CODEC,
    Block,
    Complain,
    NewView,
    PreparedCert,
    PrePrepare,
    ViewChange,
)
from consensus.primitives.crypto import ZERO_DIGEST, digest
from consensus.primitives.errors import ProtocolError, SignatureError
from consensus.proofs import PARTS_MAX, CheckpointCert, StateSummary, Vote
from consensus.quorum import ReplicaSet
from tests.helpers.votes import Voters, make_block, summarise

ROOT, STATE = digest("test.root"), digest("test.state")


WIDE = StateSummary(bytes(32), (bytes(32),) * PARTS_MAX, bytes(32), 1 << 62)


def code_of(check: Callable[[], None]) -> str:
    with pytest.raises(ProtocolError) as caught:
        check()
    return refusal_code(caught.value)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 10])
def test_honest_certificates_pass_at_every_size(n: int) -> None:
    voters = Voters(n)
    block = make_block(4, 1, 2)
    check_prepared(voters.authority, voters.prepared(0, block))
    check_commit_cert(voters.authority, voters.commit_cert(0, block))
    check_checkpoint(voters.authority, voters.checkpoint(block, ROOT, STATE))
    changes = [
        voters.view_change(i, 3, [voters.prepared(2, block)], complaints=voters.complaints(2))
        for i in range(voters.replicas.collect)
    ]
    check_new_view(voters.authority, voters.new_view(3, changes))


def test_a_proposal_of_anybody_but_the_primary_is_refused() -> None:
    voters = Voters()
    with pytest.raises(SignatureError):
        check_pre_prepare(voters.authority, voters.pre_prepare(0, make_block(1, 1), replica=2))


def test_a_vote_fits_no_other_place() -> None:
    """View, seq, digest and kind are all signed."""
    voters = Voters()
    block = make_block(1, 1)
    vote = voters.prepare(1, 0, block)
    check = voters.authority.check
    check(1, "prepare", 0, 1, block.digest, vote.signature)
    for kind, view, seq, body in (
        ("commit", 0, 1, block.digest),
        ("prepare", 1, 1, block.digest),
        ("prepare", 0, 2, block.digest),
        ("prepare", 0, 1, ZERO_DIGEST),
    ):
        with pytest.raises(SignatureError):
            check(1, kind, view, seq, body, vote.signature)
    assert code_of(lambda: check(9, "prepare", 0, 1, block.digest, vote.signature)) == "unknown-replica"


def test_prepared_certificates_need_q_distinct_replicas_with_the_primary_counted_once() -> None:
    voters = Voters()
    block = make_block(1, 1)
    good = voters.prepared(0, block)
    first, second = good.prepares
    own = voters.prepare(0, 0, block)
    refused = {
        "vote-count": replace(good, prepares=(first,)),
        "vote-order": replace(good, prepares=(first, first)),
        "primary-prepare": replace(good, prepares=(Vote(0, own.signature), second)),
        "bad-signature": replace(good, prepares=(first, Vote(3, second.signature))),
    }
    for code, cert in refused.items():
        assert code_of(lambda cert=cert: check_prepared(voters.authority, cert)) == code  # type: ignore[misc]
    forged = replace(good, proposal=voters.pre_prepare(0, block, replica=1))
    assert code_of(lambda: check_prepared(voters.authority, forged)) == "bad-signature"


def test_commit_certificates_need_exactly_q_equal_votes_in_order() -> None:
    voters = Voters()
    block = make_block(1, 1)
    good = voters.commit_cert(0, block)
    a, b, c = good.commits
    other = voters.commit(2, 0, make_block(1, 2))
    cases = [
        ("vote-count", replace(good, commits=(a, b))),
        ("vote-count", replace(good, commits=(a, b, c, c))),
        ("vote-order", replace(good, commits=(a, a, b))),
        ("vote-order", replace(good, commits=(b, a, c))),
        ("bad-signature", replace(good, commits=(a, b, Vote(2, other.signature)))),
        ("bad-signature", replace(good, view=1)),
        ("bad-signature", replace(good, block=make_block(1, 2))),
    ]
    for code, cert in cases:
        assert code_of(lambda cert=cert: check_commit_cert(voters.authority, cert)) == code  # type: ignore[misc]


def test_five_replicas_need_four_votes() -> None:
    """2f+1 = 3 of 5 would let two certificates share no honest replica."""
    voters = Voters(n=5)
    block = make_block(1, 1)
    good = voters.commit_cert(0, block)
    assert len(good.commits) == 4
    short = replace(good, commits=good.commits[:3])
    assert code_of(lambda: check_commit_cert(voters.authority, short)) == "vote-count"


def test_state_summaries_belong_to_checkpoints_alone() -> None:
    voters = Voters()
    check_attest(voters.authority, voters.attest(1, make_block(3), ROOT))
    check_attest(voters.authority, voters.attest(1, make_block(4), ROOT, STATE))
    for attest in (voters.attest(1, make_block(4), ROOT), voters.attest(1, make_block(3), ROOT, STATE)):
        assert code_of(lambda attest=attest: check_attest(voters.authority, attest)) == "state-summary"  # type: ignore[misc]
    cert = voters.checkpoint(make_block(3), ROOT, STATE)
    assert code_of(lambda: check_checkpoint(voters.authority, cert)) == "checkpoint-place"


def test_an_attestation_is_no_checkpoint_vote() -> None:
    """Their kinds differ, so votes without a state root never add up to a stable checkpoint."""
    voters = Voters()
    block = make_block(4)
    votes = tuple(Vote(i, voters.attest(i, block, ROOT).signature) for i in range(3))
    cert = CheckpointCert(4, block.digest, ROOT, summarise(STATE), votes)
    assert code_of(lambda: check_checkpoint(voters.authority, cert)) == "bad-signature"


def view_change_cases() -> list[tuple[str, Callable[[Voters], ViewChange]]]:
    def forged_cert(v: Voters) -> PreparedCert:
        good = v.prepared(0, make_block(1, 1))
        return replace(good, proposal=replace(good.proposal, block=make_block(1, 2)))

    def bad_checkpoint(v: Voters) -> CheckpointCert:
        good = v.checkpoint(make_block(4), ROOT, STATE)
        return replace(good, votes=good.votes[:2])

    return [
        ("view", lambda v: v.view_change(1, 0)),
        ("prepared-view", lambda v: v.view_change(1, 1, [v.prepared(1, make_block(1, 1))])),
        ("prepared-view", lambda v: v.view_change(1, 1, [v.prepared(2, make_block(1, 1))])),
        ("prepared-seq", lambda v: v.view_change(1, 1, [v.prepared(0, make_block(9, 1))])),
        ("prepared-seq", lambda v: v.view_change(1, 1, [v.prepared(0, make_block(0, 1))])),
        (
            "prepared-seq",
            lambda v: v.view_change(
                1, 1, [v.prepared(0, make_block(4, 1))], v.checkpoint(make_block(4), ROOT, STATE)
            ),
        ),
        ("prepared-order", lambda v: v.view_change(1, 1, [v.prepared(0, make_block(1, k)) for k in (1, 1)])),
        ("oversized", lambda v: v.view_change(1, 1, [v.prepared(0, make_block(k, k)) for k in range(1, 10)])),
        ("bad-signature", lambda v: v.view_change(1, 1, [forged_cert(v)])),
        ("bad-signature", lambda v: replace(v.view_change(1, 1), replica=2)),
        ("bad-signature", lambda v: replace(v.view_change(1, 1), view=2)),
        ("vote-count", lambda v: v.view_change(1, 1, stable=bad_checkpoint(v))),
        ("complaint-count", lambda v: v.view_change(1, 1, complaints=v.complaints(0)[:2])),
        ("complaint-view", lambda v: v.view_change(1, 2, complaints=v.complaints(0))),
        ("complaint-order", lambda v: v.view_change(1, 1, complaints=(v.complaints(0)[0],) * 3)),
    ]


@pytest.mark.parametrize(("code", "make"), view_change_cases())
def test_malformed_view_changes_are_refused(code: str, make: Callable[[Voters], ViewChange]) -> None:
    voters = Voters()
    assert code_of(lambda: check_view_change(voters.authority, make(voters))) == code


def new_view_cases() -> list[tuple[str, Callable[[Voters, list[ViewChange]], NewView]]]:
    return [
        ("view", lambda v, vcs: v.signed(replace(v.new_view(1, vcs), view=0, replica=0))),
        ("not-primary", lambda v, vcs: v.signed(replace(v.new_view(1, vcs), replica=2))),
        ("view-change-count", lambda v, vcs: v.new_view(1, vcs[:2])),
        ("view-change-count", lambda v, vcs: v.new_view(1, [*vcs, v.view_change(3, 1)])),
        ("view-change-order", lambda v, vcs: v.new_view(1, [vcs[0], vcs[1], vcs[1]])),
        ("view-change-order", lambda v, vcs: v.new_view(1, vcs[::-1])),
        ("view-change-view", lambda v, vcs: v.new_view(1, [*vcs[:2], v.view_change(2, 5)])),
        ("bad-signature", lambda v, vcs: replace(v.new_view(1, vcs), proposals=())),
        ("wrong-proposals", lambda v, vcs: v.new_view(1, vcs, [])),
        ("wrong-proposals", lambda v, vcs: v.new_view(1, vcs, [Block.null(1), Block.null(2)])),
        ("wrong-proposals", lambda v, vcs: v.new_view(1, vcs, [Block.null(1), make_block(2, 3)])),
        (
            "wrong-proposals",
            lambda v, vcs: v.new_view(1, vcs, [Block.null(1), make_block(2, 2), make_block(3, 3)]),
        ),
        (
            "prepared-view",
            lambda v, vcs: v.new_view(1, [v.view_change(0, 1, [v.prepared(1, make_block(2, 9))]), *vcs[1:]]),
        ),
    ]


@pytest.mark.parametrize(("code", "make"), new_view_cases())
def test_new_views_that_do_not_follow_are_refused(
    code: str, make: Callable[[Voters, list[ViewChange]], NewView]
) -> None:
    """Block 2 is prepared, block 1 is not: the new view must be [null, block 2] and nothing else."""
    voters = Voters()
    locked = voters.prepared(0, make_block(2, 2))
    changes = [voters.view_change(0, 1, [locked]), voters.view_change(1, 1), voters.view_change(2, 1)]
    check_new_view(voters.authority, voters.new_view(1, changes))
    assert code_of(lambda: check_new_view(voters.authority, make(voters, changes))) == code


def test_proposals_of_a_new_view_must_be_signed_by_its_primary() -> None:
    voters = Voters()
    changes = [voters.view_change(i, 1, [voters.prepared(0, make_block(1, 1))]) for i in range(3)]
    good = voters.new_view(1, changes)
    forged = voters.signed(replace(good, proposals=(voters.pre_prepare(1, make_block(1, 1), replica=3),)))
    assert code_of(lambda: check_new_view(voters.authority, forged)) == "bad-signature"


def test_the_highest_view_wins_and_gaps_become_null() -> None:
    voters = Voters()
    old, new, far = make_block(1, 1), make_block(1, 2), make_block(3, 3)
    changes = [
        voters.view_change(0, 3, [voters.prepared(0, old), voters.prepared(0, far)]),
        voters.view_change(1, 3, [voters.prepared(2, new)]),
        voters.view_change(2, 3, [voters.prepared(1, old)]),
    ]
    assert compute_proposals(changes) == (0, [new, Block.null(2), far])


def test_locks_at_or_below_the_base_are_settled() -> None:
    voters = Voters()
    stable = voters.checkpoint(make_block(4), ROOT, STATE)
    locked = [voters.prepared(0, make_block(seq, seq)) for seq in (3, 4, 5)]
    changes = [voters.view_change(0, 1, locked), voters.view_change(1, 1, stable=stable)]
    assert compute_proposals(changes) == (4, [make_block(5, 5)])


def test_nothing_prepared_leaves_nothing_to_repeat() -> None:
    voters = Voters()
    assert compute_proposals([voters.view_change(i, 1) for i in range(3)]) == (0, [])


def test_a_node_can_check_every_signature_ahead() -> None:
    """What is listed is exactly what the replica asks its verifier later."""
    voters = Voters()

    class Asked:
        def __init__(self) -> None:
            self.calls: list[tuple[bytes, bytes, bytes]] = []

        def verify(self, public_key: bytes, message: bytes, signature: bytes) -> None:
            self.calls.append((public_key, message, signature))
            voters.keyring.verify(public_key, message, signature)

    changes = [voters.view_change(i, 1, [voters.prepared(0, make_block(1, 1))]) for i in range(3)]
    new_view = voters.new_view(1, changes)
    listed = list_signatures(voters.authority, new_view)
    asked = Asked()
    authority = type(voters.authority)(voters.replicas, asked, 8, 4)
    check_new_view(authority, new_view)
    assert listed == asked.calls
    assert len(listed) == 1 + 3 * (1 + 3) + 1
    assert list_signatures(voters.authority, replace(new_view, view_changes=())) == []


def test_refusals_name_their_rule() -> None:
    assert refusal_code(Refused("vote-count", "text")) == "vote-count"
    assert refusal_code(SignatureError("text")) == "bad-signature"
    assert refusal_code(ProtocolError("text")) == "malformed"


def test_no_new_view_is_longer_than_its_bound() -> None:
    """And the bound is not far off: the window that it allows depends on it."""
    replicas = ReplicaSet.genesis(bytes(32), tuple(bytes([index + 1]) * 32 for index in range(4)))
    window, far, signature = 3, 1 << 62, bytes(64)
    votes = tuple(Vote(replica, signature) for replica in range(3))
    names = tuple(number.to_bytes(32, "big") for number in range(BATCHES_PER_BLOCK_MAX))
    proposal = PrePrepare(far, Block(far, far, names), signature)
    change = ViewChange(
        far,
        CheckpointCert(far, bytes(32), bytes(32), WIDE, votes),
        (PreparedCert(proposal, votes[:2]),) * window,
        (Complain(far, 3, signature),) * 3,
        3,
        signature,
    )
    longest = len(CODEC.encode(NewView(far, (change,) * 3, (proposal,) * window, 3, signature)))
    assert 0.99 * new_view_bytes_max(replicas, window) < longest <= new_view_bytes_max(replicas, window)
