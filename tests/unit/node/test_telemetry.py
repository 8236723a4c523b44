"""Logs of one JSON object a line, and metrics over loopback HTTP."""

import json
from io import StringIO
from pathlib import Path

import pytest
import trio

from node.network import Address
from node.telemetry import Log, Metrics, serve_metrics


def test_a_log_line_is_one_json_object_with_its_context() -> None:
    stream = StringIO()
    Log(stream, "info", node=3).info("peer connected", peer=1, digest=b"\x01\xff", text="two\nlines")
    line = json.loads(stream.getvalue())
    assert line.pop("time") > 0
    assert line == {
        "level": "info",
        "event": "peer connected",
        "node": 3,
        "peer": 1,
        "digest": "01ff",
        "text": "two\nlines",
    }
    assert stream.getvalue().count("\n") == 1


def test_what_is_held_is_read_when_somebody_asks() -> None:
    metrics, held = Metrics(), [5]
    metrics.watch_held("payloads", lambda: held[0])
    held[0] = 7
    assert b'kontor_held_bytes{what="payloads"} 7.0' in metrics.render()


def test_lines_below_the_level_are_left_out() -> None:
    stream = StringIO()
    log = Log(stream, "warning")
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["c", "d"]


def test_a_log_that_cannot_be_written_does_not_stop_the_node() -> None:
    stream = StringIO()
    stream.close()
    Log(stream, "info").error("nobody reads this")


def test_a_log_file_is_appended_to(tmp_path: Path) -> None:
    for number in range(2):
        log = Log.to_file(tmp_path / "deep" / "node.log", "info")
        log.info("start", number=number)
        log.close()
    assert len((tmp_path / "deep" / "node.log").read_text().splitlines()) == 2


async def _request(port: int, data: bytes) -> bytes:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(data)
    await stream.send_eof()
    answer = b""
    while chunk := await stream.receive_some():
        answer += chunk
    return answer


@pytest.mark.trio
async def test_metrics_are_served_and_everything_else_is_refused() -> None:
    metrics = Metrics()
    metrics.orders.inc(42)
    metrics.peer_faults.labels("bad_hello").inc()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(serve_metrics, Address("127.0.0.1", 0), metrics)
            port = listeners[0].socket.getsockname()[1]
            answer = (await _request(port, b"GET /metrics HTTP/1.1\r\n\r\n")).decode()
            assert answer.startswith("HTTP/1.1 200 OK")
            assert "kontor_orders_total 42.0" in answer
            assert 'kontor_peer_faults_total{kind="bad_hello"} 1.0' in answer
            assert b"404" in await _request(port, b"POST / HTTP/1.1\r\n\r\n")
            assert b"404" in await _request(port, b"\x00" * 8192)
            nursery.cancel_scope.cancel()
