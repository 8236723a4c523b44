"""Where newcomers are: the table of validators says it, in a state that a quorum signed."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import trio

from consensus.light import LightClient
from consensus.primitives.crypto import ZERO_DIGEST, Ed25519Signer, digest
from consensus.primitives.errors import ProtocolError
from consensus.primitives.trees import PAGE_SIZE, PageProof
from consensus.proofs import CHECKPOINT, CheckpointCert, Epoch, EpochProof, Member, Vote, signing_digest
from engine.layout import VALIDATOR
from engine.machine import Machine
from node.client.addresses import Addresses
from node.client.nodes import Nodes
from node.keys import new_tls_identity
from node.network import Address, Capacity, Network, Rules, Validator
from node.receipts import RECEIPTS
from node.services import ValidatorsAnswer

pytestmark = pytest.mark.trio
CERTIFICATES = [new_tls_identity(f"v{number}").certificate for number in range(6)]
SIGNERS = [Ed25519Signer(digest("test.key", bytes([number]))) for number in range(20)]
KEYS = [signer.public_key for signer in SIGNERS]
FOUNDERS = tuple(
    Validator(n, KEYS[n], CERTIFICATES[n], Address("127.0.0.1", 100 + n), Address("127.0.0.1", 200 + n))
    for n in range(4)
)
NETWORK = Network(
    "test", FOUNDERS, (KEYS[19],), Rules(), Capacity(1000, 16, 2000, 16, 10_000, 2000, 100, 100)
)
MEMBERS = (0, 1, 2, 9)  # 9 is on the second page
LATER: dict[str, Any] = {"seq": 192, "voters": (0, 1, 9)}  # signed in the epoch itself
EPOCH = Epoch(1, 161, tuple(Member(n, KEYS[n]) for n in MEMBERS))


class Teller:
    """A link to one node that proves where validators are."""

    def __init__(self, answer: ValidatorsAnswer) -> None:
        self.node_id, self._answer = 3, answer

    async def call(self, method: str, params: list[Any]) -> Any:
        assert (method, params) == ("validators_proof", [])
        await trio.lowlevel.checkpoint()
        return RECEIPTS.to_fields(self._answer)


def _write(row: np.void, values: dict[str, bytes]) -> None:
    for name, value in values.items():
        row[name][:] = np.frombuffer(value.ljust(len(row[name]), b"\0"), dtype=np.uint8)
    row["certificate_bytes"] = len(values["certificate"])


def answer(
    epoch: Epoch = EPOCH,
    voters: Sequence[int] = (0, 1, 2),
    seq: int = 160,
    moved: int | None = None,
    **changes: bytes,
) -> ValidatorsAnswer:
    """What a snapshot says in which validator 9 is at :209 but for `changes`, and `moved` at :777."""
    machine = Machine(NETWORK.genesis)
    state = machine.state
    while state.count["validators"] <= 9:
        state.add_validator()
    row = {"certificate": CERTIFICATES[4], "peer_address": b"127.0.0.1:9", "client_address": b"127.0.0.1:209"}
    _write(state.validators.data[9], row | changes)
    if moved is not None:
        _write(state.validators.data[moved], row | {"client_address": b"127.0.0.1:777"})
    for page in (0, 1):
        state.validators.mark(8 * page)
    summary = replace(machine.summary(), epoch=epoch.digest)
    bare = CheckpointCert(seq, ZERO_DIGEST, ZERO_DIGEST, summary, ())
    signed_in = 0 if seq < 161 else 1
    message = signing_digest(NETWORK.chain_id, signed_in, CHECKPOINT, 0, seq, bare.result_digest)
    votes = tuple(Vote(voter, SIGNERS[voter].sign(message)) for voter in voters)
    pages = tuple(machine._tree.page_proof(state.validators, page) for page in (0, 1))
    return ValidatorsAnswer(replace(bare, votes=votes), pages)


@pytest.fixture
async def world():
    async with trio.open_nursery() as nursery:
        nodes = Nodes(NETWORK, nursery)
        light = LightClient(NETWORK.chain_id, NETWORK.replicas.record)
        addresses = Addresses(nodes, light)
        light.advance(EpochProof(EPOCH, answer().cert))
        nodes.keep(MEMBERS)
        yield SimpleNamespace(nodes=nodes, addresses=addresses)


@pytest.mark.parametrize("seq", [160, 192])
async def test_one_node_proves_where_all_members_are(world, seq):
    voters = (0, 1, 2) if seq == 160 else (0, 1, 9)
    assert world.nodes.order() == [0, 1, 2] and not world.addresses.is_settled
    await world.addresses.hear(Teller(answer(seq=seq, voters=voters)))
    assert world.nodes.order() == [0, 1, 2, 9] and world.addresses.is_settled
    assert world.nodes.reached()[3] == Validator(
        9, KEYS[9], CERTIFICATES[4], Address("127.0.0.1", 9), Address("127.0.0.1", 209)
    )


async def test_a_founder_that_moved_is_found_where_it_is_now_and_the_others_where_the_file_says(world):
    await world.addresses.hear(Teller(answer(**LATER, moved=0)))
    places = [item.client_address.port for item in world.nodes.reached()]
    assert places == [777, 201, 202, 209]
    assert world.nodes.reached()[1] == FOUNDERS[1]


async def test_a_snapshot_of_another_epoch_says_nothing_and_is_no_lie(world):
    await world.addresses.hear(Teller(answer(epoch=NETWORK.replicas.record)))
    assert not world.addresses.is_settled and world.nodes.order() == [0, 1, 2]


@pytest.mark.parametrize(
    "change",
    [{"certificate": b"no certificate"}, {"client_address": b"nowhere"}, {"client_address": b"\xff:1"}],
)
async def test_a_validator_that_cannot_be_reached_as_told_keeps_nobody_from_the_others(world, change):
    await world.addresses.hear(Teller(answer(**LATER, **change)))
    assert world.addresses.is_settled and world.nodes.order() == [0, 1, 2]


def _other_page(good: ValidatorsAnswer) -> ValidatorsAnswer:
    return replace(good, pages=(good.pages[0], answer(client_address=b"127.0.0.1:666").pages[1]))


def _with(proof: PageProof, **changes: Any) -> ValidatorsAnswer:
    good = answer()
    return replace(good, pages=(good.pages[0], replace(proof, **changes)))


LIES = {
    "another beginning of the epoch, by stolen keys": lambda good: answer(client_address=b"127.0.0.1:666"),
    "another row under the quorum's signature": lambda good: _other_page(good),
    "another state, signed by too few": lambda good: answer(voters=(0, 1), client_address=b"127.0.0.1:666"),
    "no page of one member": lambda good: replace(good, pages=good.pages[:1]),
    "no page": lambda good: replace(good, pages=()),
    "pages without end": lambda good: replace(good, pages=good.pages * 3),
    "another table": lambda good: _with(good.pages[1], name="accounts"),
    "another row size": lambda good: _with(good.pages[1], row_size=VALIDATOR.itemsize // 2),
    "the page of others in its place": lambda good: _with(good.pages[0], page=1),
    "zeros": lambda good: _with(good.pages[1], data=bytes(PAGE_SIZE)),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_a_lie_is_refused_and_changes_nothing(world, lie):
    with pytest.raises(ProtocolError):
        await world.addresses.hear(Teller(lie(answer())))
    assert not world.addresses.is_settled and world.nodes.order() == [0, 1, 2]


async def test_an_answer_that_is_none_is_refused(world):
    class Garbled(Teller):
        async def call(self, method: str, params: list[Any]) -> Any:
            return [[4], []]

    with pytest.raises(ProtocolError):
        await world.addresses.hear(Garbled(answer()))
