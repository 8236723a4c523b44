"""What this node saw of lying validators: kept in `data/evidence`, and brought before the ledger.

Each piece is a file with one line of hex (`consensus.evidence`). It goes out as a micro-batch of its own,
again after every start, until the ledger has convicted its signer for that place; then the file is
removed, since the ledger keeps the whole proof. All who saw the same send the same bytes, so it travels once.
Each replica has room of its own: one liar cannot use up that of another's evidence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from consensus.evidence import (
    EVIDENCE_BYTES_MAX,
    Evidence,
    check_evidence,
    decode_evidence,
    encode_evidence,
    make_evidence,
)
from consensus.messages import Message
from consensus.primitives.crypto import Verifier, digest
from consensus.primitives.errors import InputError, LedgerError, ProtocolError
from consensus.proofs import MEMBERS_MAX
from engine.batch import encode_batch
from engine.envelope import Envelope, decode, wrap_evidence
from engine.machine import Machine
from engine.records import Code
from engine.validators import convictions
from node.services import Services
from node.telemetry import Log
from node.validators import Membership

FILES_PER_REPLICA = 4  # one suffices to convict
FILES_MAX = FILES_PER_REPLICA * MEMBERS_MAX
RETRY_SECONDS = 2.0  # between two looks at whether the ledger has it


@dataclass(frozen=True)
class _Piece:
    """Evidence that the ledger may not have yet, and where it is kept."""

    replica: int
    envelope: bytes
    path: Path


class Reports:
    """Evidence on its way to the ledger. `add` keeps it; `run` submits what is kept."""

    def __init__(
        self, folder: Path, chain_id: bytes, membership: Membership, verifier: Verifier, log: Log
    ) -> None:
        self._folder = folder
        self._chain_id = chain_id
        self._membership = membership
        self._verifier = verifier
        self._log = log
        self._open: dict[bytes, _Piece] = {}  # by envelope digest
        self._filled = trio.Event()

    def add(self, replica: int, messages: Sequence[Message]) -> None:
        """Keep what two messages of `replica` prove, if they prove anything to others."""
        evidence = self._make(replica, messages)
        if evidence is None:
            return
        data = encode_evidence(evidence)
        path = self._folder / f"{evidence.kind}-{replica}-{digest('kontor.evidence', data).hex()[:16]}.hex"
        self._take(data, path)
        try:
            self._folder.mkdir(exist_ok=True)
            if not path.exists() and self._has_room(replica):
                path.write_text(data.hex() + "\n", "ascii")
        except OSError as error:  # it is lost if we stop before the ledger has it, and nothing else
            self._log.error("evidence not kept", path=str(path), error=str(error))

    async def run(self, services: Services) -> None:
        """Submit until cancelled."""
        for path, data in await trio.to_thread.run_sync(self._load):
            self._take(data, path)
        while True:
            await self._filled.wait()
            self._filled = trio.Event()
            await self._submit(services)
            if self._open:
                with trio.move_on_after(RETRY_SECONDS):
                    await self._filled.wait()
                self._filled.set()

    async def _submit(self, services: Services) -> None:
        for name, piece in list(self._open.items()):
            envelope = decode(piece.envelope)
            try:
                code = await services.query(partial(self._judge, envelope=envelope))
                if code is Code.OK:
                    services.submit_batch(encode_batch([piece.envelope]), 1)
                    continue
            except InputError:
                continue  # the protocol pushes back, or this node has halted
            except (LedgerError, OSError):
                continue  # logged where it failed
            del self._open[name]
            self._remove(piece.path)
            self._log.info("evidence settled", envelope=name.hex()[:16], code=code.name)

    def _judge(self, machine: Machine, envelope: Envelope) -> Code:
        return convictions.check(machine.state, envelope, self._chain_id, None, self._verifier)

    def _take(self, data: bytes, path: Path) -> None:
        piece = _Piece(decode_evidence(data).replica, wrap_evidence(self._chain_id, data), path)
        same = sum(other.replica == piece.replica for other in self._open.values())
        if len(self._open) < FILES_MAX and same < FILES_PER_REPLICA:
            self._open.setdefault(decode(piece.envelope).digest, piece)
            self._filled.set()

    def _has_room(self, replica: int) -> bool:
        files = len(list(self._folder.iterdir()))
        return files < FILES_MAX and len(list(self._folder.glob(f"*-{replica}-*.hex"))) < FILES_PER_REPLICA

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:  # the ledger is asked about it once more after the next start
            self._log.error("evidence not removed", path=str(path), error=str(error))

    def _make(self, replica: int, messages: Sequence[Message]) -> Evidence | None:
        """Votes on results name no epoch: it is the present one, or the one before while it ends."""
        validators = self._membership.current
        for epoch in (validators.epoch.number, validators.epoch.number - 1):
            try:
                evidence = make_evidence(replica, epoch, *messages)
                check_evidence(self._chain_id, validators.key_of, self._verifier, evidence)
            except ProtocolError:
                continue
            return evidence
        return None

    def _load(self) -> list[tuple[Path, bytes]]:
        """In a worker thread: what earlier runs kept. A file that is none of ours is left alone."""
        found = []
        for path in sorted(self._folder.glob("*.hex"))[:FILES_MAX]:
            try:
                found.append((path, read_proof(path)))
            except (ProtocolError, OSError) as error:
                self._log.warning("evidence not read", path=str(path), error=str(error))
        return found


def read_proof(path: Path) -> bytes:
    """The encoded evidence in a file. Raises `ProtocolError` if it is none, and `OSError`."""
    with path.open("rb") as file:
        text = file.read(2 * EVIDENCE_BYTES_MAX + 2)
    try:
        data = bytes.fromhex(text.decode("ascii").strip())
    except ValueError as error:
        raise ProtocolError(f"{path} is not a proof: it must hold one line of hex") from error
    decode_evidence(data)
    return data
