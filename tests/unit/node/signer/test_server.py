"""The signer as a process of its own, and the node's end of it: here two threads and a real socket."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from consensus.certificates import COMPLAIN, PREPARE
from consensus.durable import STABLE
from consensus.messages import CODEC
from consensus.primitives.crypto import Ed25519Signer, Ed25519Verifier, digest
from consensus.primitives.errors import ConfigError, StorageError
from consensus.proofs import CheckpointCert, StateSummary, signing_digest
from consensus.signing import Floor, Place, SignatureRefused
from node.signer import server as module
from node.signer.record import SigningRecord
from node.signer.remote import RemoteSigner
from node.signer.server import SignerServer
from node.signer.wire import FORMAT, FRAME_MAX, receive, send
from tests.helpers.voting_ledger import VotingLedger

KEY = Ed25519Signer(bytes(32))
CHAIN, A, B = digest("test.chain"), digest("test.a"), digest("test.b")


class Desk:
    """A server in a thread, with what it said."""

    def __init__(self, folder: Path) -> None:
        self.record_path, self.path = folder / "record", folder / "socket"
        if not self.record_path.exists():
            SigningRecord.create(self.record_path, KEY.public_key, CHAIN).close()
        self.record = SigningRecord.open(self.record_path)
        self.lines: list[str] = []
        self.server = SignerServer(KEY, self.record, self.path, self.lines.append)
        self.thread = threading.Thread(target=self._serve)
        self.error = ""
        self.thread.start()

    def _serve(self) -> None:
        try:
            self.server.serve()
        except StorageError as error:
            self.error = str(error)

    def close(self) -> None:
        self.server.stop()
        self.thread.join(20)
        self.record.close()


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)
    desk = Desk(tmp_path)
    yield desk
    desk.close()


@pytest.fixture
def signer(desk: Desk) -> Iterator[RemoteSigner]:
    signer = connect(desk.path)
    yield signer
    signer.close()


def vote(signer: RemoteSigner, seq: int, body: bytes, view: int = 0) -> bytes:
    return signer.sign_vote(PREPARE, 0, view, seq, body, b"")


def test_a_vote_is_on_the_signers_disk_before_the_node_has_it(desk: Desk, signer: RemoteSigner) -> None:
    signature = vote(signer, 1, A)
    message = signing_digest(CHAIN, 0, PREPARE, 0, 1, A)
    Ed25519Verifier().verify(signer.public_key, message, signature)
    again = SigningRecord.open(desk.record_path)
    assert again.votes.places == {Place(PREPARE, 0, 1): message}
    again.close()


def test_refusals_arrive_as_refusals_and_are_said_on_both_sides(desk: Desk, signer: RemoteSigner) -> None:
    seen: list[str] = []
    signer.on_refused = lambda error: seen.append(error.code)
    vote(signer, 1, A)
    with pytest.raises(SignatureRefused, match=r"contradiction.*another prepare at \(view 0, seq 1\)"):
        vote(signer, 1, B)
    signer.raise_floor(2, 8)
    with pytest.raises(SignatureRefused, match="below-floor"):
        vote(signer, 9, A, view=1)
    with pytest.raises(SignatureRefused, match="malformed"):
        vote(signer, -1, A)
    assert vote(signer, 9, A, view=2)
    assert signer.sign_vote(COMPLAIN, 0, 0, 0, b"", b"")
    assert seen == ["contradiction", "below-floor", "malformed"]
    assert desk.server.refused == 3
    assert [line for line in desk.lines if "refused #1" in line]


def test_the_floor_and_the_votes_survive_the_signer(tmp_path: Path, desk: Desk) -> None:
    first = connect(desk.path)
    vote(first, 1, A)
    first.raise_floor(0, 3)
    vote(first, 4, A)
    first.close()
    desk.close()
    stable = CheckpointCert(3, A, A, StateSummary(A, (), A, 0), ())
    again = Desk(tmp_path)
    try:
        second = connect(again.path, VotingLedger(log={STABLE: CODEC.encode(stable)}))
        with pytest.raises(SignatureRefused, match="contradiction"):
            vote(second, 4, B)
        with pytest.raises(SignatureRefused, match="below-floor"):
            vote(second, 3, A)
        second.close()
        assert again.record.votes.floor == Floor(0, 3)
    finally:
        again.close()
    desk.record = SigningRecord.open(desk.record_path)


def test_one_node_at_a_time(desk: Desk, signer: RemoteSigner) -> None:
    with pytest.raises(ConfigError, match="another node is connected"):
        RemoteSigner(desk.path, CHAIN)
    assert vote(signer, 1, A)


def test_a_node_of_another_chain_is_turned_away(desk: Desk) -> None:
    with pytest.raises(ConfigError, match="on chain"):
        RemoteSigner(desk.path, B)


def test_a_signer_that_is_not_there_is_said_with_its_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no signer answers.*'signer.socket'"):
        RemoteSigner(tmp_path / "nothing", CHAIN)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x00",
        (FRAME_MAX + 1).to_bytes(2, "big"),
        b"\x00\x03abc",
        b"\x00\x01\xc1",
        b"\x00\x06\x95\xa4sign",
        b"\x00\x07\x91\xa5hello",
    ],
)
def test_garbage_ends_the_connection_and_nothing_else(desk: Desk, garbage: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(10)
        link.connect(str(desk.path))
        link.sendall(garbage)
        link.shutdown(socket.SHUT_WR)
        answer = receive(link)
        assert answer is not None
        assert answer[0] == "error"
        assert receive(link) is None
    signer = connect(desk.path)
    assert vote(signer, 1, A)
    signer.close()


def connect(path: Path, ledger: VotingLedger | None = None) -> RemoteSigner:
    """Connect as soon as the signer noticed that the last one left, and name a ledger."""
    while True:
        try:
            signer = RemoteSigner(path, CHAIN)
        except ConfigError as error:
            if "another node" not in str(error):
                raise
        else:
            break
    try:
        signer.bind(ledger or VotingLedger())
    except ConfigError:
        signer.close()
        raise
    return signer


def test_a_ledger_that_is_empty_or_older_gets_no_vote(desk: Desk) -> None:
    ledger = VotingLedger(turns=6)
    signer = connect(desk.path, ledger)
    vote(signer, 1, A)
    signer.close()
    with pytest.raises(ConfigError, match="not the one the key voted with"):
        connect(desk.path, VotingLedger(id=b"another's ledger"))
    with pytest.raises(ConfigError, match="older copy"):
        connect(desk.path, VotingLedger(turns=5))
    again = connect(desk.path, ledger)  # the signer goes on serving whoever is right
    assert vote(again, 2, A)
    again.close()


@pytest.mark.parametrize("bound", [(b"short", 0, 0, 0), (b"x" * 16, -1, 0, 0), (b"x" * 16, 0, 0, 1 << 63)])
def test_a_ledger_out_of_range_is_refused(desk: Desk, bound: tuple[bytes, int, int, int]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(10)
        link.connect(str(desk.path))
        send(link, "hello", FORMAT, CHAIN)
        assert receive(link) == ("ready", (KEY.public_key,))
        send(link, "bind", *bound)
        answer = receive(link)
    assert answer is not None
    assert answer[0] == "error"
    assert not desk.record.ledger_id


def test_nothing_is_signed_before_a_ledger_is_named(desk: Desk) -> None:
    signer = RemoteSigner(desk.path, CHAIN)
    with pytest.raises(StorageError, match="names its ledger"):
        vote(signer, 1, A)
    signer.close()
    assert not desk.record.votes.places


def test_nothing_is_signed_before_the_greeting(desk: Desk) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(10)
        link.connect(str(desk.path))
        send(link, "sign", 1, PREPARE, 0, 0, 1, A)
        answer = receive(link)
    assert answer == ("error", ("a node says hello first",))
    assert not desk.record.votes.places


def test_the_socket_is_for_its_owner_alone(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert desk.path.stat().st_mode & 0o777 == 0o600
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    with pytest.raises(ConfigError, match="may not use this signer"):
        RemoteSigner(desk.path, CHAIN)


def test_a_record_that_cannot_be_written_stops_the_signer(
    desk: Desk, signer: RemoteSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(desk.record, "append", fail)
    with pytest.raises(StorageError, match="the disk is full"):
        vote(signer, 1, A)
    with pytest.raises(StorageError, match="the disk is full"):
        vote(signer, 2, A)
    desk.thread.join(20)
    assert desk.error == "the disk is full"


def test_a_signer_that_goes_away_is_noticed_without_a_vote(desk: Desk, signer: RemoteSigner) -> None:
    async def watch() -> str:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, desk.server.stop)
                return await signer.watch()
        raise AssertionError

    assert "gone" in trio.run(watch)
    with pytest.raises(StorageError, match="restart the signer"):
        vote(signer, 1, A)


@pytest.mark.parametrize("name", ["x" * 120, "file"])
def test_a_socket_that_cannot_be_is_refused(desk: Desk, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="--listen"):
        module.listen(tmp_path / name)
