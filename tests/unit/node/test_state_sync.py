"""Serving, staging and swapping a state: bounds, restarts, and damage."""

import os
from io import StringIO
from pathlib import Path
from typing import Any

import lmdb
import pytest
import trio
import trio.testing

from consensus.effects import SendChunks, SendManifest
from consensus.messages import CODEC, Chunk, Manifest
from consensus.primitives.errors import ProtocolError, StorageError
from consensus.proofs import CheckpointCert, Vote
from engine.machine import Machine
from engine.tables.manifest import decode_manifest, table_shapes
from node.ledger import Ledger, Turn
from node.snapshots import SnapshotMeta, Snapshots
from node.state_sync import serving, swap
from node.state_sync.serving import PIN_SECONDS, PINS_MAX, StateServer
from node.state_sync.staging import Staging
from node.telemetry import Log, Metrics
from tests.helpers.random_blocks import RandomBlocks

MIB = 1 << 20


class World:
    """A traded venue, its snapshot on disk, and what proves it."""

    def __init__(self, root: Path, seed: int = 1) -> None:
        self.blocks = RandomBlocks(seed)
        self.blocks.block()
        self.machine: Machine = self.blocks.venue.machine
        self.genesis = self.machine.genesis
        self.shapes = table_shapes(self.genesis)
        self.snapshots = Snapshots(root / "state", 64 * MIB)

    def save(self) -> CheckpointCert:
        """The state as it is now, on disk and certified."""
        machine, state = self.machine, self.machine.summary()
        meta = SnapshotMeta(machine.height, b"b" * 32, machine.journal_root, state, (Vote(0, b""),))
        self.snapshots.write(meta, machine.take_pages())
        cert = meta.cert
        assert cert is not None
        return cert

    def manifest(self, height: int) -> bytes:
        pin = self.snapshots.pin(height)
        assert pin is not None
        data = pin.manifest(self.shapes)
        pin.close()
        return data

    def chunks(self, height: int) -> list[tuple[int, bytes]]:
        pin = self.snapshots.pin(height)
        assert pin is not None
        count = len(decode_manifest(pin.manifest(self.shapes), self.shapes).places)
        found = [(index, pin.chunk(self.shapes, index)) for index in range(count)]
        assert pin.chunk(self.shapes, count) == b"" == pin.chunk(self.shapes, -1)
        pin.close()
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "server")


@pytest.fixture
def staging(tmp_path: Path, world: World) -> Staging:
    return Staging(tmp_path / "state.staging", 64 * MIB, world.shapes)


# Snapshots


def test_a_pinned_state_stays_as_it_was(world):
    first = world.save()
    pin = world.snapshots.pin(first.seq)
    assert pin is not None
    world.blocks.block()
    second = world.save()
    assert world.snapshots.pin(first.seq) is None
    newer = world.snapshots.pin(second.seq)
    assert newer is not None
    assert pin.manifest(world.shapes) != newer.manifest(world.shapes)
    pin.close()
    newer.close()


def test_a_state_without_a_certificate_is_not_served(world):
    machine = world.machine
    meta = SnapshotMeta(machine.height, b"b" * 32, machine.journal_root, machine.summary())
    world.snapshots.write(meta, machine.take_pages())
    assert meta.cert is None and world.snapshots.pin(machine.height) is None


def test_pages_that_changed_by_themselves_are_not_served(world):
    cert = world.save()
    *_, (table, page, data) = world.snapshots.pages()
    meta = world.snapshots.meta()
    assert meta is not None
    world.snapshots.write(meta, [(table, page, bytes([data[0] ^ 1]) + data[1:])])
    with pytest.raises(StorageError, match="damaged"):
        world.manifest(cert.seq)


# Staging


def test_a_staged_state_becomes_the_same_machine(world, staging):
    cert = world.save()
    count, have = staging.aim(cert, world.manifest(cert.seq))
    chunks = world.chunks(cert.seq)
    assert (count, have) == (len(chunks), ())
    assert staging.keep(chunks) == [True] * count
    machine = staging.finish(world.genesis, cert, 5)
    assert machine.full_state_root() == cert.state.root
    copy = Snapshots(staging.path, 64 * MIB)
    meta = copy.meta()
    assert meta is not None and meta.cert == cert
    copy.close()


def test_a_restart_goes_on_with_the_chunks_that_are_staged(tmp_path, world, staging):
    cert = world.save()
    manifest, chunks = world.manifest(cert.seq), world.chunks(cert.seq)
    staging.aim(cert, manifest)
    staging.keep(chunks[:3])
    staging.close()
    again = Staging(staging.path, 64 * MIB, world.shapes)
    assert again.aim(cert, manifest) == (len(chunks), (0, 1, 2))
    assert all(again.keep(chunks[3:]))
    assert again.finish(world.genesis, cert, 0).state_root() == cert.state.root


def test_staged_chunks_of_another_boot_are_forgotten(monkeypatch, world, staging):
    cert = world.save()
    staging.aim(cert, world.manifest(cert.seq))
    staging.keep(world.chunks(cert.seq))
    staging.close()
    (staging.path / "boot").write_text("another")
    assert Staging(staging.path, 64 * MIB, world.shapes).aim(cert, world.manifest(cert.seq))[1] == ()


def test_chunks_that_are_damaged_on_disk_are_fetched_again(world, staging):
    cert = world.save()
    manifest, chunks = world.manifest(cert.seq), world.chunks(cert.seq)
    staging.aim(cert, manifest)
    staging.keep(chunks)
    staging.close()
    env = lmdb.open(str(staging.path), max_dbs=2, map_size=64 * MIB)
    pages = env.open_db(b"pages")
    with env.begin(write=True, db=pages) as txn:
        key, data = next(iter(txn.cursor()))
        txn.put(key, bytes([data[0] ^ 1]) + data[1:])
    env.close()
    _, have = Staging(staging.path, 64 * MIB, world.shapes).aim(cert, manifest)
    assert have == tuple(range(1, len(chunks)))


def test_a_newer_target_keeps_the_chunks_that_are_equal(world, staging):
    first = world.save()
    staging.aim(first, world.manifest(first.seq))
    staging.keep(world.chunks(first.seq))
    old = dict(world.chunks(first.seq))
    world.blocks.block()
    second = world.save()
    chunks = world.chunks(second.seq)
    _, have = staging.aim(second, world.manifest(second.seq))
    assert 0 not in have, "the counters changed"
    assert have and all(data in old.values() for index, data in chunks if index in have)
    assert all(staging.keep([item for item in chunks if item[0] not in have]))
    assert staging.finish(world.genesis, second, 0).state_root() == second.state.root


def test_lies_are_refused_and_change_nothing(world, staging):
    cert = world.save()
    manifest, chunks = world.manifest(cert.seq), world.chunks(cert.seq)
    with pytest.raises(ProtocolError):
        staging.aim(cert, manifest[:-1] + bytes([manifest[-1] ^ 1]))
    staging.aim(cert, manifest)
    wrong = [(0, chunks[1][1]), (1, chunks[1][1]), (len(chunks), chunks[0][1]), (2, b"")]
    assert staging.keep(wrong) == [False, True, False, False]
    staging.close()
    assert Staging(staging.path, 64 * MIB, world.shapes).aim(cert, manifest)[1] == (1,)


def test_a_state_that_is_not_whole_is_never_installed(world, staging):
    cert = world.save()
    staging.aim(cert, world.manifest(cert.seq))
    staging.keep(world.chunks(cert.seq)[:-1])
    with pytest.raises(StorageError):
        staging.finish(world.genesis, cert, 0)
    assert not staging.path.exists()


# Swapping


class Died(Exception):
    pass


@pytest.mark.parametrize("dies_at", range(6))
def test_a_swap_that_is_cut_short_anywhere_is_finished_at_the_next_start(tmp_path, monkeypatch, dies_at):
    for name, content in ((swap.STATE, "old"), (swap.STAGING, "new"), (swap.OLD, "older")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text(content)
    ledger = Ledger(tmp_path / "ledger", bytes(32), 0, 16 * MIB)
    ledger.commit(Turn(swap=40, base=40))
    steps = []

    def dying(original: Any) -> Any:
        def step(*args: Any, **values: Any) -> None:
            if len(steps) == dies_at:
                raise Died
            steps.append(original.__name__)
            original(*args, **values)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(swap.os, "rename", dying(os.rename))
        patch.setattr(swap.shutil, "rmtree", dying(swap.shutil.rmtree))
        patch.setattr(swap, "sync_directory", dying(swap.sync_directory))
        try:
            swap.finish_swap(tmp_path, ledger)
        except Died:
            assert ledger.swap() == 40
    swap.finish_swap(tmp_path, ledger)
    assert (tmp_path / swap.STATE / "content").read_text() == "new"
    assert not (tmp_path / swap.STAGING).exists() and not (tmp_path / swap.OLD).exists()
    assert (ledger.swap(), ledger.base()) == (0, 40)
    ledger.close()


def test_without_a_decided_swap_a_staged_state_stays_where_it_is(tmp_path):
    (tmp_path / swap.STAGING).mkdir()
    ledger = Ledger(tmp_path / "ledger", bytes(32), 0, 16 * MIB)
    swap.finish_swap(tmp_path, ledger)
    assert (tmp_path / swap.STAGING).exists() and not (tmp_path / swap.STATE).exists()
    ledger.commit(Turn(swap=40))
    (tmp_path / swap.STAGING).rmdir()
    with pytest.raises(StorageError, match="kontor heal"):
        swap.finish_swap(tmp_path, ledger)
    ledger.close()


# Serving


class Wire:
    """A transport that takes everything, or nothing."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, Any]] = []
        self.moved = trio.Event()
        self.is_up = True

    async def send_bulk(self, peer: int, framed: bytes) -> bool:
        await trio.lowlevel.checkpoint()
        self.sent.append((peer, CODEC.decode(framed[4:])))
        self.moved.set()
        return self.is_up


class Served:
    def __init__(self, world: World) -> None:
        self.wire, self.trouble = Wire(), list[str]()
        self.metrics = Metrics()
        self.server = StateServer(
            world.snapshots,
            world.shapes,
            self.wire,  # type: ignore[arg-type]
            1 << 30,
            self._tell,
            self.metrics,
            Log(StringIO(), "info"),
        )

    def _tell(self, trouble: str) -> None:
        self.trouble.append(trouble)
        self.wire.moved.set()

    async def ask(self, nursery: trio.Nursery, *requests: SendManifest | SendChunks, answers: int) -> list:
        before = len(self.wire.sent)
        for request in requests:
            self.server.request(request)
        with trio.fail_after(10):
            while len(self.wire.sent) < before + answers and not self.trouble:
                self.wire.moved = trio.Event()
                await self.wire.moved.wait()
        return [message for _, message in self.wire.sent[before:]]


@pytest.mark.trio
async def test_a_peer_gets_manifest_and_chunks_of_the_newest_state(world):
    cert = world.save()
    served = Served(world)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(served.server.run)
        await trio.testing.wait_all_tasks_blocked()
        (manifest,) = await served.ask(nursery, SendManifest(1, cert.seq), answers=1)
        assert manifest == Manifest(cert.seq, world.manifest(cert.seq))
        chunks = await served.ask(nursery, SendChunks(1, cert.seq, (1, 0)), answers=2)
        expected = dict(world.chunks(cert.seq))
        assert chunks == [Chunk(cert.seq, index, expected[index]) for index in (1, 0)]
        # It goes on being served while newer ones come, and then "not any more".
        world.blocks.block()
        world.save()
        assert (await served.ask(nursery, SendChunks(2, cert.seq, (0,)), answers=1))[0].data == expected[0]
        assert (await served.ask(nursery, SendManifest(2, 999), answers=1)) == [Manifest(999, b"")]
        served.server.unpin()
        assert (await served.ask(nursery, SendChunks(2, cert.seq, (0, 1)), answers=1))[0].data == b""
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_few_states_are_pinned_and_only_while_they_are_asked_for(world, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(serving.time, "monotonic", lambda: clock[0])
    served = Served(world)
    certs = []
    for _ in range(PINS_MAX + 1):
        world.blocks.block()
        certs.append(world.save())
        assert served.server._manifest(len(certs), certs[-1].seq)
        assert len(served.server._pins) <= PINS_MAX
    clock[0] += PIN_SECONDS + 1
    assert served.server._manifest(1, certs[-1].seq)
    served.server._sweep()
    assert list(served.server._pins) == [certs[-1].seq]
    served.server.unpin()


def test_the_newest_state_takes_the_place_of_the_one_that_the_fewest_use(world):
    """One peer that pinned a state and asks for it for ever would keep newer ones from all others."""
    served = Served(world)
    certs = []
    for peers in ((1, 2), (3,), (4,)):
        world.blocks.block()
        certs.append(world.save())
        assert all(served.server._manifest(peer, certs[-1].seq) for peer in peers)
    assert list(served.server._pins) == [certs[0].seq, certs[2].seq]
    assert not served.server._manifest(3, certs[1].seq)
    assert served.server._manifest(1, certs[2].seq) and served.server._manifest(2, certs[2].seq)
    world.blocks.block()
    assert served.server._manifest(4, world.save().seq)
    assert certs[0].seq not in served.server._pins, "whoever asks for another state uses the former no more"
    served.server.unpin()


@pytest.mark.trio
async def test_a_flood_of_requests_is_dropped_and_counted(world):
    cert = world.save()
    served = Served(world)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(served.server.run)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(serving.QUEUE_MAX + 10):
            served.server.request(SendManifest(1, cert.seq))
        assert b"kontor_transfer_dropped_total 10.0" in served.metrics.render()
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_a_state_that_cannot_be_read_is_trouble(world):
    cert = world.save()
    served = Served(world)
    *_, (table, page, data) = world.snapshots.pages()
    meta = world.snapshots.meta()
    assert meta is not None
    world.snapshots.write(meta, [(table, page, bytes([data[0] ^ 1]) + data[1:])])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(served.server.run)
        await trio.testing.wait_all_tasks_blocked()
        await served.ask(nursery, SendManifest(1, cert.seq), answers=1)
        nursery.cancel_scope.cancel()
    assert served.trouble and "damaged" in served.trouble[0]
