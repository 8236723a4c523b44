"""What a signer knows of a ledger, without a disk."""

from dataclasses import dataclass, field

from node.signer.binding import Standing


@dataclass
class VotingLedger:
    """A ledger with an empty vote log, after `turns` transactions."""

    id: bytes = b"ledger of a test"
    turns: int = 0
    log: dict[bytes, bytes] = field(default_factory=dict)

    def votes(self) -> dict[bytes, bytes]:
        return self.log


NEW = Standing(VotingLedger.id, 0, 0, 0)
