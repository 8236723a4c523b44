"""A replica that fetches its state: the test plays its peers and its disk."""

from consensus.effects import (
    Blame,
    Broadcast,
    CheckManifest,
    ChunkRefused,
    ChunkStaged,
    Effect,
    Erase,
    Event,
    InstallState,
    ManifestChecked,
    Persist,
    Received,
    Send,
    SetTimer,
    StageChunk,
    StateInstalled,
    TimerFired,
)
from consensus.messages import (
    Attest,
    Chunk,
    Commit,
    Complain,
    FetchChunks,
    FetchManifest,
    Manifest,
    Message,
    Prepare,
    Status,
    ViewChange,
)
from consensus.primitives.crypto import digest
from consensus.proofs import CheckpointCert
from consensus.replica import Replica, ReplicaConfig
from consensus.state_transfer import TRANSFER
from tests.helpers.votes import TIME_MS, Voters, make_block

CONFIG = ReplicaConfig(window=8, checkpoint_interval=4, transfer_gap=16)
ME = 3
SIGNED = (Prepare, Commit, Attest, Complain, ViewChange)


class Joiner:
    """Replica 3 of 4 on its own; the test plays its peers and its disk."""

    def __init__(
        self, durable: dict[bytes, bytes] | None = None, committed: int = 0, oldest: int = 1
    ) -> None:
        self.voters = Voters(4, CONFIG.window, CONFIG.checkpoint_interval)
        self.disk = dict(durable or {})
        self.now_us = TIME_MS * 1000
        self.effects: list[Effect] = []
        self.replica = Replica(
            ME,
            self.voters.replicas,
            [self.voters.keyring.signers[ME]],
            self.voters.keyring,
            CONFIG,
            self.disk,
            committed,
            0,
            oldest=oldest,
        )
        self._take(self.replica.start(self.now_us))

    def _take(self, effects: list[Effect]) -> None:
        self.effects += effects
        for effect in effects:
            if isinstance(effect, Persist):
                self.disk[effect.key] = effect.value
            elif isinstance(effect, Erase):
                self.disk.pop(effect.key, None)

    def step(self, *events: Event) -> list[Effect]:
        """Feed events; return what they caused."""
        before = len(self.effects)
        for event in events:
            self._take(self.replica.step(event, self.now_us))
        return self.effects[before:]

    def say(self, sender: int, *messages: Message) -> list[Effect]:
        return self.step(*[Received(sender, message) for message in messages])

    def wait(self, duration_us: int) -> list[Effect]:
        self.now_us += duration_us
        return self.step(TimerFired(TRANSFER))

    # What peers hold

    def cert(self, seq: int) -> CheckpointCert:
        return self.voters.checkpoint(
            make_block(seq, seq), digest("journal", bytes([seq])), digest("state", bytes([seq]))
        )

    def offer(self, peer: int, seq: int, height: int | None = None, oldest: int = 1) -> list[Effect]:
        """A peer proves a checkpoint and says that it serves the state there."""
        status = Status(0, True, seq if height is None else height, None, False, oldest, seq)
        return self.say(peer, self.cert(seq), status)

    def of(self, kind: type) -> list[Effect]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def sent(self, kind: type, since: int = 0) -> list[tuple[int, Message]]:
        found = [e for e in self.effects[since:] if isinstance(e, Send) and isinstance(e.message, kind)]
        return [(e.to, e.message) for e in found]

    def signed(self) -> list[Message]:
        messages = [e.message for e in self.effects if isinstance(e, Send | Broadcast)]
        return [m for m in messages if isinstance(m, SIGNED) and m.replica == ME]

    def blames(self) -> list[tuple[int, str]]:
        return [(e.replica, e.reason) for e in self.effects if isinstance(e, Blame)]

    # A transfer, step by step

    def aim(self, seq: int = 40, peers: tuple[int, ...] = (0, 1, 2)) -> None:
        for peer in peers:
            self.offer(peer, seq)

    def take_manifest(self, chunks: int, have: tuple[int, ...] = ()) -> None:
        """Whoever was asked for the manifest sends a true one."""
        to, m = self.sent(FetchManifest)[-1]
        (check,) = [e for e in self.say(to, Manifest(m.seq, b"manifest")) if isinstance(e, CheckManifest)]
        assert check.cert == self.cert(m.seq)
        self.step(ManifestChecked(to, m.seq, chunks, have))

    def serve(self, peers: tuple[int, ...] = (0, 1, 2), liars: tuple[int, ...] = ()) -> None:
        """Peers answer every request for chunks, until no request is left; liars send rubbish."""
        done = 0
        while done < len(self.effects):
            effect = self.effects[done]
            done += 1
            match effect:
                case Send(to, FetchChunks(seq, indexes)) if to in peers or to in liars:
                    for index in indexes:
                        self.say(to, Chunk(seq, index, b"bad" if to in liars else b"good"))
                case StageChunk(sender, seq, index, data):
                    kind = ChunkStaged if data == b"good" else ChunkRefused
                    self.step(kind(sender, seq, index))

    def install(self) -> list[Effect]:
        (effect,) = self.of(InstallState)
        return self.step(StateInstalled(effect.cert.seq, self.voters.replicas.record))

    # How a transfer ends

    def stop(self) -> None:
        """Nobody serves the state any more, and blocks will do."""
        for peer in (0, 1, 2):
            self.say(peer, Status(0, True, 8, None, False))
        for _ in range(3):
            self.say(self.sent(FetchManifest)[-1][0], Manifest(40, b""))
        self.step(TimerFired(TRANSFER))
        assert self.replica.transfer is None

    def complete(self) -> None:
        """The whole state comes."""
        self.take_manifest(1)
        self.serve()
        self.install()

    def fire_now(self, since: int) -> None:
        """Timers of no time: the turn that set them is durable. Whoever sets one twice gets it once."""
        timers = [effect for effect in self.effects[since:] if isinstance(effect, SetTimer)]
        for name in dict.fromkeys(timer.name for timer in timers if timer.delay_us == 0):
            self.step(TimerFired(name))
