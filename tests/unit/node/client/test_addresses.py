"""Where newcomers are: f+1 present validators must tell alike, and the epoch must name the key."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import trio

from consensus.light import LightClient
from consensus.primitives.errors import ProtocolError
from consensus.proofs import Epoch, Member
from consensus.quorum import ReplicaSet
from node.client.addresses import ROWS_MAX, Addresses
from node.client.nodes import Nodes
from node.keys import new_tls_identity
from node.network import Address, Capacity, Network, Rules, Validator

pytestmark = pytest.mark.trio
CERTIFICATES = [new_tls_identity(f"v{number}").certificate for number in range(6)]
KEYS = [bytes([number + 1]) * 32 for number in range(6)]
FOUNDERS = tuple(
    Validator(n, KEYS[n], CERTIFICATES[n], Address("127.0.0.1", 100 + n), Address("127.0.0.1", 200 + n))
    for n in range(4)
)


def row(number, certificate, client, key, founder=False):
    """A `ValidatorView` as it travels."""
    certificate, peer = (b"", "") if founder else (certificate, "127.0.0.1:9")
    return [number, 2, certificate, peer, "" if founder else client, 0, None, 0, [[key, 0, None]]]


HONEST = [row(n, b"", "", KEYS[n], founder=True) for n in range(3)]
HONEST.append(row(4, CERTIFICATES[4], "127.0.0.1:204", KEYS[4]))


class Teller:
    """A link to one node that tells of validators."""

    def __init__(self, node_id, rows):
        self.node_id, self._rows = node_id, rows

    async def call(self, method, params):
        assert (method, params) == ("validators", [])
        return self._rows


@pytest.fixture
async def world():
    network = Network("test", FOUNDERS, (KEYS[5],), Rules(), Capacity())
    async with trio.open_nursery() as nursery:
        nodes = Nodes(network, nursery)
        light = LightClient(network.chain_id, network.replicas.record)
        addresses = Addresses(nodes, light)
        members = tuple(Member(n, KEYS[n]) for n in (0, 1, 2, 4))
        light._epochs.append(ReplicaSet(network.chain_id, Epoch(1, 161, members)))
        nodes.keep(member.id for member in members)
        yield SimpleNamespace(nodes=nodes, addresses=addresses)


async def test_one_word_is_not_enough_and_two_alike_are(world):
    await world.addresses.hear(Teller(0, HONEST))
    assert world.nodes.order() == [0, 1, 2] and not world.addresses.is_settled
    await world.addresses.hear(Teller(0, HONEST))  # says the same again, and still is one
    assert not world.addresses.is_settled
    await world.addresses.hear(Teller(1, HONEST))
    assert world.nodes.order() == [0, 1, 2, 4] and world.addresses.is_settled


async def test_a_liar_about_an_address_is_outvoted(world):
    lie = [*HONEST[:3], row(4, CERTIFICATES[5], "127.0.0.1:666", KEYS[4])]
    await world.addresses.hear(Teller(2, lie))
    await world.addresses.hear(Teller(0, HONEST))
    assert world.nodes.order() == [0, 1, 2]
    await world.addresses.hear(Teller(1, HONEST))
    assert world.nodes._slots[4].validator.client_address == Address("127.0.0.1", 204)


async def test_who_left_and_another_key_than_the_epoch_names_count_for_nothing(world):
    await world.addresses.hear(Teller(3, HONEST))
    other_key = [*HONEST[:3], row(4, CERTIFICATES[4], "127.0.0.1:204", KEYS[5])]
    await world.addresses.hear(Teller(0, other_key))
    await world.addresses.hear(Teller(1, HONEST))
    assert world.nodes.order() == [0, 1, 2]


async def test_a_founder_that_moved_is_found_where_it_is_now(world):
    moved = [*HONEST[1:], row(0, CERTIFICATES[0], "127.0.0.1:777", KEYS[0])]
    for number in (1, 2):
        await world.addresses.hear(Teller(number, moved))
    expected = replace(FOUNDERS[0], peer_address=Address("127.0.0.1", 9))
    assert world.nodes._slots[0].validator == replace(expected, client_address=Address("127.0.0.1", 777))


@pytest.mark.parametrize(
    "rows",
    [
        {},
        [HONEST[0]] * (ROWS_MAX + 1),
        [row(4, b"no certificate", "127.0.0.1:204", KEYS[4])],
        [row(4, CERTIFICATES[4], "nowhere", KEYS[4])],
        [[4]],
    ],
)
async def test_nonsense_is_refused(world, rows):
    with pytest.raises(ProtocolError):
        await world.addresses.hear(Teller(0, rows))
