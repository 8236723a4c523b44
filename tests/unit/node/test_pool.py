"""The payload pool: one quota for each origin, and no payload taken twice."""

from consensus.messages import batch_digest
from consensus.state import ReplicaConfig
from node.pool import COUNT_MAX, WANTED_MAX, PayloadPool


def _payload(number: int, size: int = 10) -> tuple[bytes, bytes]:
    payload = number.to_bytes(4, "big") + bytes(size - 4)
    return batch_digest(payload), payload


def test_a_payload_is_held_once_and_found_by_digest() -> None:
    pool = PayloadPool(100)
    name, payload = _payload(1)
    assert pool.add(name, payload, 0)
    assert not pool.add(name, payload, 1)
    assert pool.get(name) == payload
    assert pool.size_bytes == 10


def test_an_origin_that_floods_fills_only_its_own_share() -> None:
    pool = PayloadPool(25)
    assert pool.add(*_payload(1), 0)
    assert pool.add(*_payload(2), 0)
    assert not pool.add(*_payload(3), 0)
    assert pool.add(*_payload(3), 1)
    assert (pool.used(0), pool.used(1)) == (20, 10)


def test_what_was_asked_for_is_taken_beyond_the_quota() -> None:
    pool = PayloadPool(15)
    assert pool.add(*_payload(1), 0)
    name, payload = _payload(2)
    pool.want((name,))
    assert pool.add(name, payload, 0)
    assert not pool.add(*_payload(3), 0)


def test_executed_payloads_are_let_go_and_late_copies_not_taken_again() -> None:
    pool = PayloadPool(100)
    name, payload = _payload(1)
    pool.add(name, payload, 0)
    pool.done((name,))
    assert pool.get(name) is None
    assert pool.used(0) == 0
    assert not pool.add(name, payload, 0)
    pool.want((name,))
    assert pool.add(name, payload, 0)


def test_a_payload_is_given_to_the_disk_once() -> None:
    pool = PayloadPool(100)
    name, payload = _payload(1)
    pool.add(name, payload, 0)
    assert pool.take_volatile((name, bytes(32))) == {name: payload}
    assert pool.take_volatile((name,)) == {}
    assert pool.get(name) == payload


def test_tiny_payloads_of_one_origin_are_bounded_in_number_below_what_a_replica_notes() -> None:
    pool = PayloadPool(1 << 30)
    taken = [pool.add(number.to_bytes(32, "big"), b"tiny", 0) for number in range(COUNT_MAX + 1)]
    assert taken == [True] * COUNT_MAX + [False]
    assert ReplicaConfig().batches_max >= COUNT_MAX + WANTED_MAX
    pool.done(((0).to_bytes(32, "big"),))
    assert pool.add(*_payload(1), 0)


def test_what_was_let_go_is_gone_until_it_comes_again() -> None:
    pool = PayloadPool(100)
    name, payload = _payload(1)
    assert not pool.is_gone(name), "it may be stored"
    pool.add(name, payload, 0)
    assert not pool.is_gone(name)
    pool.done((name,))
    assert pool.is_gone(name)
    pool.want((name,))
    pool.add(name, payload, 0)
    assert not pool.is_gone(name)
