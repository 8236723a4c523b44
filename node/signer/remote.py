"""The node's end of a signer that runs as a process of its own.

A vote waits inside `Replica.step` for the answer, which comes after the signer's disk has it; the node does
nothing else meanwhile. On two busy cores and an ext4 disk a vote took 0.27 ms (median) and 1.2 ms (99 %),
of that 0.06 ms for the way there and back; signing inside the node takes 0.03 ms, and 0.22 ms beside
the ledger's transaction for its record.
"""

import select
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from consensus.primitives.errors import ConfigError, ProtocolError, StorageError
from consensus.signing import SignatureRefused
from node.signer.binding import VotingLedger, standing_of
from node.signer.wire import FORMAT, receive, send

ANSWER_SECONDS = 10.0
_LOST = "restart the signer, then this node"


class RemoteSigner:
    """A signer reached over the local socket at `path`. All methods are called by the node's loop."""

    def __init__(
        self,
        path: Path,
        chain_id: bytes,
        on_refused: Callable[[SignatureRefused], None] = lambda error: None,
    ) -> None:
        """Connect. Raises `ConfigError` if no signer, or another one, is there."""
        self.on_refused = on_refused
        self._path = path
        self._lost = ""
        self._ledger: VotingLedger | None = None
        self._link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._link.settimeout(ANSWER_SECONDS)
        try:
            self._link.connect(str(path))
            (public_key,) = self._ask("hello", FORMAT, chain_id)
        except (OSError, StorageError) as error:
            self._link.close()
            raise ConfigError(
                f"no signer answers at {path} ({error}): start `kontor signer` with that --listen,"
                " or correct 'signer.socket' in config.toml"
            ) from error
        self._public_key: bytes = public_key

    @property
    def public_key(self) -> bytes:
        return self._public_key

    def bind(self, ledger: VotingLedger) -> None:
        """Name the ledger that votes from now on. Raises `ConfigError` if the signer knows another."""
        try:
            self._ask("bind", *standing_of(ledger))
        except StorageError as error:
            raise ConfigError(str(error)) from error
        self._ledger = ledger

    def sign_vote(self, kind: str, epoch: int, view: int, seq: int, body: bytes, message: bytes) -> bytes:
        """Have a vote signed, and written down. Raises `SignatureRefused` or `StorageError`."""
        turn = self._ledger.turns + 1 if self._ledger else 0  # without one the signer refuses
        try:
            (signature,) = self._ask("sign", turn, kind, epoch, view, seq, body)
        except SignatureRefused as error:
            self.on_refused(error)
            raise
        return bytes(signature)

    def raise_floor(self, view: int, seq: int) -> None:
        """The checkpoint at `seq` is stable and durable, and so is `view`."""
        self._ask("floor", view, seq)

    is_urgent = False
    is_settled = True

    def begin(self) -> None:
        """Nothing is left to write: the signer did before it answered."""

    def finish(self) -> None:
        """See `begin`."""

    async def watch(self) -> str:
        """Return, with the reason, once the signer is gone: also while nothing is signed."""
        while not self._lost:
            await trio.lowlevel.wait_readable(self._link)
            # An answer that is awaited is read in the same breath: what waits here is the end.
            readable, _, _ = select.select([self._link], [], [], 0)
            if readable:
                self._lost = f"the signer at {self._path} is gone: {_LOST}"
        return self._lost

    def close(self) -> None:
        """Hang up."""
        self._link.close()

    def _ask(self, name: str, *values: object) -> Any:
        """One request and its answer. Raises `SignatureRefused`, or `StorageError` if there is none."""
        if self._lost:
            raise StorageError(self._lost)
        try:
            send(self._link, name, *values)
            answer = receive(self._link)
        except (OSError, ProtocolError) as error:
            self._lost = f"the signer at {self._path} does not answer ({error}): {_LOST}"
            raise StorageError(self._lost) from error
        expected = "signed" if name == "sign" else "ready"
        match answer:
            case "refused", (code, text) if name == "sign":
                raise SignatureRefused(code, _reason(text))
            case answered, fields if answered == expected:
                return fields
            case "error", (text,):
                self._lost = f"the signer at {self._path} ended the connection: {text}"
            case None:
                self._lost = f"the signer at {self._path} is gone: {_LOST}"
            case _:
                self._lost = f"the signer at {self._path} gave another answer than was asked: {_LOST}"
        raise StorageError(self._lost)


def _reason(text: str) -> str:
    """What the signer said, without the words that `SignatureRefused` puts before it."""
    return text.partition("): ")[2] or text
