"""One state that is being fetched: what of it is missing, who was asked for what, and who still may be.

A chunk is in one place at a time: missing, asked of one server, being checked, or staged.
"""

from dataclasses import dataclass, field

from consensus.proofs import CheckpointCert


@dataclass(slots=True)
class Server:
    """A peer that serves the target: what it was asked for, what it brought since `since_us`."""

    asked: dict[int, None] = field(default_factory=dict)
    owed: dict[int, None] = field(default_factory=dict)  # asked, passed on to others since, still welcome
    since_us: int = 0
    brought: int = 0
    rests_until_us: int = 0


@dataclass(slots=True)
class Target:
    """The state at one checkpoint."""

    cert: CheckpointCert
    servers: dict[int, Server]
    manifest_from: int | None = None
    manifest_us: int = 0
    manifest_checking: bool = False
    chunks: int = 0  # 0: the manifest is not here yet
    missing: dict[int, None] = field(default_factory=dict)
    checking: dict[int, int] = field(default_factory=dict)  # chunk -> who sent it
    installing: bool = False

    @property
    def seq(self) -> int:
        """The checkpoint."""
        return self.cert.seq

    @property
    def staged(self) -> int:
        """Chunks that are here to stay."""
        asked = sum(len(server.asked) for server in self.servers.values())
        return self.chunks - len(self.missing) - len(self.checking) - asked

    def awake(self, now_us: int) -> list[int]:
        """Servers that may be asked; those that rest only if nobody else is there."""
        awake = [peer for peer, server in self.servers.items() if server.rests_until_us <= now_us]
        return awake or list(self.servers)

    def claim(self, index: int) -> bool:
        """Take chunk `index` from wherever it was to come from; False if it is here already."""
        if index in self.missing:
            del self.missing[index]
            return True
        for server in self.servers.values():
            if index in server.asked:
                del server.asked[index]
                server.owed[index] = None
                return True
        return False

    def take_back(self, server: Server) -> None:
        """What `server` was asked for is missing again; it may still come."""
        self.missing.update(server.asked)
        server.owed.update(server.asked)
        server.asked.clear()

    def drop(self, peer: int) -> None:
        """It serves nothing of this any more, or must not."""
        server = self.servers.pop(peer, None)
        if server is not None:
            self.take_back(server)

    def find_late(self, idle: Server, since_us: int) -> list[int]:
        """Chunks that others have owed since `since_us`, and that `idle` was never asked for."""
        return [
            index
            for server in self.servers.values()
            if server.since_us <= since_us
            for index in server.asked
            if index not in idle.owed
        ]
