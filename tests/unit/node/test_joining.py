"""A node that joins writes down only an id that f+1 present validators tell alike."""

from contextlib import asynccontextmanager

import pytest

from consensus.proofs import Epoch, Member
from node import joining
from node.client import NotConnected
from node.config import Home
from node.views import KeySpanView, ValidatorView

pytestmark = pytest.mark.trio
KEY, OTHER = b"k" * 32, b"o" * 32


def _row(validator: int, key: bytes = KEY) -> ValidatorView:
    return ValidatorView(validator, 1, b"", "", "", 1, None, 0, (KeySpanView(key, 1, None),))


class _Network:
    """Four nodes, of whom one may lie; `told` is what each says, None: it cannot be reached."""

    def __init__(self, *told):
        self.nodes, self.weak_quorum, self.timeout_s = list(range(len(told))), 2, 0.0
        self.told = list(told)
        self.is_alone = False
        self.epoch, self.reached = Epoch(0, 1, (Member(0, OTHER),)), []

    async def sync_epochs(self):
        if self.is_alone:
            raise NotConnected("no quorum")

    async def validators(self, node):
        if self.told[node] is None:
            raise NotConnected(f"node {node}")
        return self.told[node]


async def _find(network, tmp_path, monkeypatch, report=lambda text: None) -> int:
    @asynccontextmanager
    async def connect(*_, peers):
        yield network

    monkeypatch.setattr(joining, "open_client", connect)
    return await joining.find_id(Home(tmp_path), network, KEY, report)


@pytest.mark.parametrize(
    "told",
    [
        ([_row(9)], None, [_row(4)], [_row(4)]),
        ([_row(9), _row(9)], [_row(3, OTHER), _row(4)], [_row(4)], None),
    ],
    ids=["another id", "another id, twice"],
)
async def test_one_liar_makes_nobody_write_down_a_wrong_id(tmp_path, monkeypatch, told):
    assert await _find(_Network(*told), tmp_path, monkeypatch) == 4
    assert Home(tmp_path).validator_id.read_text() == "4\n"


async def test_nobody_is_believed_before_a_quorum_said_who_validates_now(
    tmp_path, monkeypatch, autojump_clock
):
    """f+1 who once were validators may tell anything."""
    network = _Network([_row(9)], [_row(9)], [_row(4)], [_row(4)])
    network.is_alone, told = True, []

    def report(text: str) -> None:
        told.append(text)
        network.is_alone = False
        network.told[:2] = [_row(4)], None

    assert await _find(network, tmp_path, monkeypatch, report) == 4
    assert len(told) == 1 and "no quorum" in told[0]


async def test_a_proved_epoch_that_names_the_key_needs_nobodys_word(tmp_path, monkeypatch):
    """As where the network waits for this very node to make a quorum."""
    network = _Network(None, None)
    network.is_alone, network.epoch = True, Epoch(1, 41, (Member(0, OTHER), Member(1, KEY)))
    assert await _find(network, tmp_path, monkeypatch) == 1


async def test_what_one_node_tells_is_not_written_until_another_tells_it_too(
    tmp_path, monkeypatch, autojump_clock
):
    network = _Network([_row(4)], [], None, [])

    def report(text: str) -> None:
        assert not Home(tmp_path).validator_id.exists()
        network.told[3] = [_row(4)]

    assert await _find(network, tmp_path, monkeypatch, report) == 4
