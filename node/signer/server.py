"""The signer as a process of its own: the key lives here, the node asks over a local socket.

A node that was broken into can then ask for votes, but not for two different ones at one place, and
never holds the key. Each answer waits for the disk, so a vote costs its round trip and one sync.
"""

import os
import socket
import stat
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from consensus.primitives.crypto import Signer
from consensus.primitives.errors import ConfigError, LedgerError, ProtocolError, StorageError
from consensus.signing import NUMBER_MAX, Floor, SignatureRefused
from node.signer.binding import LEDGER_ID_SIZE, Standing
from node.signer.local import Guard
from node.signer.record import SigningRecord
from node.signer.wire import FORMAT, TEXT_MAX, receive, send

SOCKET_PATH_MAX = 100  # bytes; systems allow 104 or 108
POLL_SECONDS = 0.5
SEND_SECONDS = 5.0
REFUSALS_LOGGED_MAX = 1000  # a node gone mad must not fill the disk

Report = Callable[[str], None]


class SignerServer:
    """Serves one node at a time at `path` until `stop`."""

    def __init__(self, signer: Signer, record: SigningRecord, path: Path, report: Report) -> None:
        self.refused = 0
        self._guard = Guard(signer, record.chain_id, record.votes)
        self._chain_id = record.chain_id
        self._record = record
        self._report = report
        self._stopping = threading.Event()
        self._busy = threading.Lock()
        self._failed = ""
        self._path = path
        self._socket = listen(path)

    def serve(self) -> None:
        """Answer until `stop`. Raises `StorageError` if the record cannot be written."""
        self._socket.settimeout(POLL_SECONDS)
        try:
            while not self._stopping.is_set() and not self._failed:
                try:
                    link, _ = self._socket.accept()
                except TimeoutError:
                    continue
                threading.Thread(target=self._serve_link, args=(link,), daemon=True).start()
        finally:
            self._stopping.set()
            self._socket.close()
            self._path.unlink(missing_ok=True)
            with self._busy:  # a vote under way is written down before the record closes
                pass
        if self._failed:
            raise StorageError(self._failed)

    def stop(self) -> None:
        """End `serve`; from a signal handler or another thread."""
        self._stopping.set()

    def _serve_link(self, link: socket.socket) -> None:
        with link:
            link.settimeout(SEND_SECONDS)
            try:
                check_peer(link)
                if not self._busy.acquire(blocking=False):
                    raise ProtocolError("another node is connected: one key signs for one node")
            except (ProtocolError, OSError) as error:
                self._report(f"connection refused: {error}")
                _hear_and_refuse(link, str(error))
                return
            try:
                self._report("node connected")
                self._answer_all(link)
                self._report("node disconnected")
            finally:
                self._busy.release()

    def _answer_all(self, link: socket.socket) -> None:
        """Answer request after request; the first must be a hello, and a ledger comes before votes."""
        done: set[str] = set()
        try:
            while not self._stopping.is_set():
                try:
                    request = _receive_patiently(link, self._stopping)
                    if request is None:
                        return
                    name, values = request
                    if name != "hello" and "hello" not in done:
                        raise ProtocolError("a node says hello first")
                    if name == "sign" and "bind" not in done:
                        raise ProtocolError("a node names its ledger before it has anything signed")
                    self._answer(link, name, values)
                    done.add(name)
                except ProtocolError as error:
                    self._report(f"connection closed: {error}")
                    _say_error(link, str(error))
                    return
        except OSError as error:
            self._report(f"connection lost: {error}")
        except LedgerError as error:
            self._failed = str(error)
            _say_error(link, self._failed)

    def _answer(self, link: socket.socket, name: str, values: tuple[Any, ...]) -> None:
        match name, values:
            case "hello", (version, chain_id):
                if version != FORMAT:
                    raise ProtocolError(
                        f"the node speaks format {version}, this signer {FORMAT}:"
                        " run one version of Kontor for both"
                    )
                if chain_id != self._chain_id:
                    raise ProtocolError(
                        f"the node is on chain {chain_id.hex()[:16]}, this signer signs for"
                        f" {self._chain_id.hex()[:16]}"
                    )
                self._say_ready(link)
            case "bind", (ledger_id, *numbers) if len(ledger_id) == LEDGER_ID_SIZE and _in_range(*numbers):
                try:
                    self._record.bind_ledger(Standing(ledger_id, *numbers))
                except ConfigError as error:
                    raise ProtocolError(str(error)) from error
                self._say_ready(link)
            case "sign", (turn, kind, epoch, view, seq, body) if _in_range(turn):
                self._sign(link, turn, kind, epoch, view, seq, body)
            case "floor", (view, seq) if _in_range(view, seq):
                self._guard.raise_floor(Floor(view, seq))
                self._say_ready(link)
            case _:
                raise ProtocolError(f"{name} is no request, or its numbers are out of range")

    def _sign(
        self, link: socket.socket, turn: int, kind: str, epoch: int, view: int, seq: int, body: bytes
    ) -> None:
        try:
            _, signature = self._guard.sign(kind, epoch, view, seq, body)
        except SignatureRefused as error:
            self.refused += 1
            if self.refused <= REFUSALS_LOGGED_MAX:
                self._report(f"refused #{self.refused}: {error}")
            send(link, "refused", error.code, str(error)[:TEXT_MAX])
            return
        if self._guard.has_fresh:
            self._record.append(*self._guard.take(), turn)
        send(link, "signed", signature)

    def _say_ready(self, link: socket.socket) -> None:
        send(link, "ready", self._guard.public_key)


def _in_range(*numbers: int) -> bool:
    return all(0 <= number < NUMBER_MAX for number in numbers)


def listen(path: Path) -> socket.socket:
    """Listen at `path` with mode 0600. The caller holds the lock of the signer's home."""
    if len(os.fsencode(path)) > SOCKET_PATH_MAX:
        raise ConfigError(
            f"{path} has more than {SOCKET_PATH_MAX} bytes, too many for a socket: use a shorter --listen"
        )
    if path.exists() and not stat.S_ISSOCK(path.lstat().st_mode):
        raise ConfigError(f"{path} exists and is no socket: choose another --listen")
    path.unlink(missing_ok=True)  # of a signer that was killed: the lock says that it is gone
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        server.bind(str(path))
    except OSError as error:
        server.close()
        raise ConfigError(f"cannot listen at {path} ({error.strerror}): choose another --listen") from error
    finally:
        os.umask(before)
    server.listen(4)
    return server


def check_peer(link: socket.socket) -> None:
    """Raise `ProtocolError` unless a process of our own user is at the other end, where the system tells."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return
    _, user, _ = struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    if user != os.getuid():
        raise ProtocolError(f"user {user} may not use this signer; it runs as user {os.getuid()}")


def _receive_patiently(link: socket.socket, stopping: threading.Event) -> tuple[str, tuple[Any, ...]] | None:
    """Wait for the next request however long it takes; None once the node, or this signer, is gone."""
    link.settimeout(POLL_SECONDS)
    while not stopping.is_set():
        try:
            if not link.recv(1, socket.MSG_PEEK):
                return None
        except TimeoutError:
            continue
        link.settimeout(SEND_SECONDS)
        return receive(link)
    return None


def _hear_and_refuse(link: socket.socket, text: str) -> None:
    """Let the other side say its hello first: a connection closed amid that would swallow the reason."""
    try:
        receive(link)
    except (ProtocolError, OSError):
        return
    _say_error(link, text)


def _say_error(link: socket.socket, text: str) -> None:
    try:
        send(link, "error", text[:TEXT_MAX])
    except OSError:
        return  # whoever broke the rules may have left already
