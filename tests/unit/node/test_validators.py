"""Validators as a node reads them from its ledger."""

from types import SimpleNamespace
from typing import Any

from engine.commands import MoveValidator, RemoveValidator, ReplaceValidator, RotateValidatorKey
from node.keys import new_tls_identity
from node.network import Address
from node.validators import Membership, read_validators
from tests.helpers.venue import INTERVAL, Venue, validator_key

CERTIFICATE = new_tls_identity("new.kontor").certificate
NEW = validator_key(100)


def _network(founders: int) -> Any:
    """A network file, as far as it is looked at here."""
    places = [
        SimpleNamespace(
            tls_certificate=b"founder %d" % row,
            peer_address=Address(f"founder{row}", 7000),
            client_address=Address(f"founder{row}", 7100),
        )
        for row in range(founders)
    ]
    return SimpleNamespace(validators=places)


def _run_to(venue: Venue, height: int) -> None:
    while venue.machine.height < height:
        venue.block()


def test_founders_are_reached_as_the_file_says_until_they_move():
    venue, network = Venue(), _network(5)
    assert read_validators(venue.machine, network).endpoints[3].peer == Address("founder3", 7000)
    venue.commands(MoveValidator(3, CERTIFICATE, "new:1", "new:2"))
    _run_to(venue, 12)
    moved = read_validators(venue.machine, network).endpoints
    assert (moved[3].peer, moved[3].certificate) == (Address("new", 1), CERTIFICATE)
    assert moved[2].peer == Address("founder2", 7000)


def test_a_newcomer_is_welcome_before_it_votes_and_who_left_until_the_next_checkpoint():
    venue, network = Venue(), _network(5)
    membership = Membership(venue.machine, network)
    seen: list[list[int]] = []
    membership.callbacks.append(lambda validators: seen.append(sorted(validators.endpoints)))
    venue.commands(ReplaceValidator(1, NEW.public_key, CERTIFICATE, "new:1", "new:2"))
    while venue.machine.height < 12 + 2 * INTERVAL:
        venue.block()
        membership.update(membership.read(venue.machine))
    *before, after = seen
    assert before[0] == before[-1] == [0, 1, 2, 3, 4, 5] and after == [0, 2, 3, 4, 5]
    assert membership.current.height == 12 + INTERVAL


def test_keys_are_known_by_epoch():
    venue = Venue()
    venue.commands(RotateValidatorKey(2, NEW.public_key))
    _run_to(venue, 12)
    venue.commands(RemoveValidator(0))
    _run_to(venue, 24)
    key_of = read_validators(venue.machine, _network(5)).key_of
    assert [key_of(2, epoch) for epoch in range(4)] == [
        validator_key(2).public_key, NEW.public_key, NEW.public_key, None,
    ]  # fmt: skip
    assert [key_of(0, epoch) is None for epoch in range(3)] == [False, False, True]
    assert key_of(9, 0) is None


def test_an_entry_that_no_library_reads_is_set_apart():
    venue, network = Venue(), _network(5)
    venue.commands(MoveValidator(3, b"no certificate", "new:1", "new:2"))
    _run_to(venue, 12)
    venue.commands(MoveValidator(4, CERTIFICATE, "nowhere", "new:4"))
    _run_to(venue, 24)
    validators = read_validators(venue.machine, network)
    assert sorted(validators.endpoints) == [0, 1, 2]
    assert sorted(validators.unreachable) == [3, 4]
