"""Keys beside one another: made once, opened all, never overwritten."""

import pytest

from consensus.certificates import PREPARE
from consensus.primitives.crypto import digest
from consensus.primitives.errors import ConfigError
from consensus.proofs import signing_digest
from consensus.signing import Place
from node.config import Home
from node.keys import load_signer, new_seed, write_seed
from node.signer.local import LocalSigner
from node.signer.opening import begin_record, open_record
from node.signer.record import SigningRecord
from node.signer.ring import KEYS_MAX, KeyRing, make_next_key, rotated
from tests.helpers.voting_ledger import NEW, VotingLedger

CHAIN = digest("test.chain")


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path)
    write_seed(home.consensus_seed, new_seed())
    begin_record(home, load_signer(home.consensus_seed).public_key)
    return home


@pytest.fixture
def ring(home):
    with open_record(home, CHAIN) as record:
        ring = KeyRing(home, CHAIN, LocalSigner(load_signer(home.consensus_seed), CHAIN, record))
        ring.bind(VotingLedger())
        yield ring
        ring.close()


def test_a_key_that_no_change_used_is_used_next_time(home):
    key = make_next_key(home, CHAIN, ())
    assert make_next_key(home, CHAIN, ()) == key and rotated(home) == [2]
    assert make_next_key(home, CHAIN, {key}) != key and rotated(home) == [2, 3]
    assert load_signer(home.root / "keys" / "consensus-2.seed").public_key == key


def test_a_key_made_while_the_ring_is_open_signs_into_its_own_record(home, ring):
    assert ring.open_more() == []
    key = make_next_key(home, CHAIN, ())
    (signer,) = ring.open_more()
    assert ring.open_more() == [] and signer.public_key == key != ring.public_key
    message = signing_digest(CHAIN, 1, PREPARE, 1 << 32, 9, CHAIN)
    signer.sign_vote(PREPARE, 1, 1 << 32, 9, CHAIN, message)
    assert ring.is_urgent and not ring.is_settled
    ring.begin()
    ring.finish()
    assert ring.is_settled
    first, second = (SigningRecord.open(home.signer / name) for name in ("record", "record-2"))
    assert first.ledger_id == second.ledger_id == NEW.ledger_id and second.turn == 1
    assert not first.votes.places and second.votes.places == {Place(PREPARE, 1 << 32, 9): message}
    first.close()
    second.close()


def test_a_record_whose_seed_never_came_gives_way_and_one_that_signed_does_not(home, ring):
    make_next_key(home, CHAIN, ())
    seed = home.root / "keys" / "consensus-2.seed"
    seed.unlink()
    make_next_key(home, CHAIN, ())
    (signer,) = ring.open_more()
    message = signing_digest(CHAIN, 0, PREPARE, 0, 1, CHAIN)
    signer.sign_vote(PREPARE, 0, 0, 1, CHAIN, message)
    ring.begin()
    ring.finish()
    seed.unlink()
    with pytest.raises(ConfigError, match="put the seed back"):
        make_next_key(home, CHAIN, ())


def test_a_home_holds_only_so_many_keys(home):
    for number in range(2, KEYS_MAX + 2):
        write_seed(home.root / "keys" / f"consensus-{number}.seed", new_seed())
    with pytest.raises(ConfigError, match="replace this validator"):
        rotated(home)
