"""Metrics by the Prometheus conventions, and logs of one JSON object a line.

Every node has its own registry, so that several can run in one process. Logs carry plain values
only; whoever logs never passes seeds, private keys or envelope payloads.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import trio
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from node.network import Address

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
REQUEST_BYTES_MAX = 8192
REQUEST_SECONDS_MAX = 5
_SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.12, 0.25, 0.5, 1, 2, 5)


class Log:
    """Structured log of one node: `log.info("what happened", key=value)`."""

    def __init__(self, stream: TextIO, level: str, **context: Any) -> None:
        self._stream = stream
        self._threshold = LEVELS[level]
        self._context = context

    @classmethod
    def to_file(cls, path: Path, level: str, **context: Any) -> "Log":
        """Append to a file, line by line."""
        path.parent.mkdir(parents=True, exist_ok=True)
        return cls(path.open("a", buffering=1, encoding="utf-8"), level, **context)

    @classmethod
    def to_stderr(cls, level: str, **context: Any) -> "Log":
        """Write to standard error."""
        return cls(sys.stderr, level, **context)

    def debug(self, event: str, **values: Any) -> None:
        self._write("debug", event, values)

    def info(self, event: str, **values: Any) -> None:
        self._write("info", event, values)

    def warning(self, event: str, **values: Any) -> None:
        self._write("warning", event, values)

    def error(self, event: str, **values: Any) -> None:
        self._write("error", event, values)

    def close(self) -> None:
        """Close the file, unless it is standard error."""
        if self._stream is not sys.stderr:
            self._stream.close()

    def _write(self, level: str, event: str, values: dict[str, Any]) -> None:
        if LEVELS[level] < self._threshold:
            return
        line = {"time": round(time.time(), 6), "level": level, "event": event, **self._context, **values}
        try:
            self._stream.write(json.dumps(line, default=_plain) + "\n")
        except (OSError, ValueError):
            return  # a full disk must not stop a node because of its log


class Metrics:
    """Everything a node counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.peer_faults = self._counter("peer_faults", "Rules broken on peer links, by kind.", "kind")
        self.blamed = self._counter("blamed", "Protocol rules broken by validators.", "replica", "reason")
        self.signer_refusals = self._counter(
            "signer_refusals", "Votes that our own signer refused, by reason.", "code"
        )
        self.client_errors = self._counter("client_errors", "Requests of clients that were refused.", "code")
        self.peer_bytes = self._counter("peer_bytes", "Bytes on peer links.", "direction")
        self.peer_messages = self._counter("peer_messages", "Messages on peer links.", "direction")
        self.peer_drops = self._counter("peer_drops", "Frames dropped because a peer was slow or away.")
        self.turns = self._counter("turns", "Turns of the protocol loop.")
        self.blocks = self._counter("blocks", "Blocks executed.")
        self.envelopes = self._counter("envelopes", "Envelopes executed.")
        self.orders = self._counter("orders", "Order operations and commands executed.")
        self.fills = self._counter("fills", "Trades.")
        self.rejected = self._counter("rejected", "Order operations and commands refused at execution.")
        self.view_changes = self._counter("view_changes", "Views entered after the first.")
        self.height = self._gauge("height", "Last executed block.")
        self.view = self._gauge("view", "Current view.")
        self.peers = self._gauge("peers_connected", "Validators connected.")
        self.clients = self._gauge("clients_connected", "Client connections.")
        self._held = Gauge(
            "kontor_held_bytes", "Memory held for others, by what.", ["what"], registry=self.registry
        )
        self.halted = self._gauge("halted", "1 if this node no longer votes.")
        self.reply_seconds = self._histogram(
            "reply_seconds", "From an envelope's arrival until its receipt is ready."
        )
        self.commit_seconds = self._histogram("ledger_commit_seconds", "Durable transactions of the loop.")
        self.execute_seconds = self._histogram("execute_seconds", "Execution of a block.")
        self.step_seconds = self._histogram("step_seconds", "Protocol steps of one turn.")
        self.transfer_bytes = self._counter("transfer_received_bytes", "Bytes of states that were fetched.")
        self.transfer_served_bytes = self._counter(
            "transfer_served_bytes", "Bytes of states that were served."
        )
        self.transfer_dropped = self._counter(
            "transfer_dropped", "Parts of a state, or requests for them, that nobody waited for."
        )
        self.transfer_chunks = self._gauge("transfer_chunks", "Chunks of the state that is being fetched.")
        self.transfer_staged = self._gauge("transfer_staged_chunks", "Those of them that are here.")
        self.transfer_active = self._gauge("transfer_active", "1 while a state is being fetched.")
        self.transfer_seconds = self._histogram("transfer_seconds", "Fetching a state, until it can run.")
        self.snapshot_seconds = self._histogram("snapshot_seconds", "Writing a snapshot.")

    def watch_held(self, what: str, read: Callable[[], int]) -> None:
        """Show what `read` says is held, whenever somebody asks. Bytes."""
        self._held.labels(what).set_function(lambda: float(read()))

    def render(self) -> bytes:
        """All metrics in the text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(f"kontor_{name}", help, labels, registry=self.registry)

    def _gauge(self, name: str, help: str) -> Gauge:
        return Gauge(f"kontor_{name}", help, registry=self.registry)

    def _histogram(self, name: str, help: str) -> Histogram:
        return Histogram(f"kontor_{name}", help, registry=self.registry, buckets=_SECONDS)


async def serve_metrics(
    address: Address,
    metrics: Metrics,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer `GET /metrics` on a loopback address until cancelled."""

    async def answer(stream: trio.SocketStream) -> None:
        await _answer(stream, metrics.render)

    await trio.serve_tcp(answer, address.port, host=address.host, task_status=task_status)


async def _answer(stream: trio.SocketStream, render: Callable[[], bytes]) -> None:
    with trio.move_on_after(REQUEST_SECONDS_MAX):
        try:
            request = await _read_request(stream)
            if request.startswith(b"GET /metrics"):
                await stream.send_all(_response("200 OK", render(), CONTENT_TYPE_LATEST))
            else:
                await stream.send_all(_response("404 Not Found", b"try /metrics\n", "text/plain"))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
    await trio.aclose_forcefully(stream)


async def _read_request(stream: trio.SocketStream) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request and len(request) < REQUEST_BYTES_MAX:
        chunk = await stream.receive_some(REQUEST_BYTES_MAX)
        if not chunk:
            break
        request += chunk
    return request


def _response(status: str, body: bytes, kind: str) -> bytes:
    head = (
        f"HTTP/1.1 {status}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join((*head, "", "")).encode() + body


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)
