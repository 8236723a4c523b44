"""The client wire: one spelling, named limits, and nothing that is not a frame gets through."""

import tracemalloc

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.primitives.errors import InputError, ProtocolError
from node import wire


def _body(framed: bytes) -> bytes:
    return framed[wire.LENGTH_SIZE :]


def _pack(value: object) -> bytes:
    return msgpack.packb(value, use_bin_type=True)


def test_a_request_comes_out_as_it_went_in():
    request = wire.Request(7, "submit", [b"\x00" * 200, "summary"])
    assert wire.decode_request(_body(wire.encode_request(request))) == request


def test_results_and_errors_come_out_as_they_went_in():
    assert wire.decode_reply(_body(wire.encode_result(3, [1, b"x", "y"]))) == wire.Reply(
        3, [1, b"x", "y"], None
    )
    assert wire.decode_reply(_body(wire.encode_error(3, "A", "b"))) == wire.Reply(3, None, ("A", "b"))


def test_long_error_messages_are_cut():
    reply = wire.decode_reply(_body(wire.encode_error(1, "A", "x" * 5000)))
    assert reply.error == ("A", "x" * wire.MESSAGE_CHARS_MAX)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not msgpack"),
        (b"\xc1", "not msgpack"),
        (b"GET / HTTP/1.1\r\n", "not msgpack"),
        (b"\x91" * 5000, "not msgpack"),
        (_pack(5), "is an array"),
        (_pack([1, "status"]), "a request is"),
        (_pack([0, "status", []]), "a request is"),
        (_pack([True, "status", []]), "a request is"),
        (_pack([2**63, "status", []]), "a request is"),
        (_pack([1, b"status", []]), "a request is"),
        (_pack([1, "status", 5]), "a request is"),
        (_pack([1, "s" * 33, []]), "at most 32 characters"),
        (_pack([1, "status", list(range(9))]), "not msgpack"),
        (_pack([1, "status", [[]]]), "parameters are no lists"),
        (_pack([[], "status", []]), "parameters are no lists"),
        (_pack([1, "status", []]) + b"\x00", "not msgpack"),
        (_pack([1, "status", [{}]]).replace(b"\x80", b"\x81\x01\x01"), "not msgpack"),
        (b"\x93\xcc\x01\xa6status\x90", "canonical"),
    ],
)
def test_what_is_not_one_canonical_request_is_refused(body, why):
    with pytest.raises(ProtocolError, match=why):
        wire.decode_request(body)


def test_nested_lists_are_refused_before_they_take_memory():
    nested: list[object] = []
    for _ in range(6):
        nested = [nested] * 8  # 262,144 lists in 300 KB
    body = _pack([1, "status", [nested]])
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match="parameters are no lists"):
            wire.decode_request(body)
        assert tracemalloc.get_traced_memory()[1] < 1 << 16
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_read_as_exactly_itself(body):
    try:
        request = wire.decode_request(body)
    except ProtocolError:
        return
    assert _body(wire.encode_request(request)) == body


@pytest.mark.parametrize(
    "body",
    [_pack([1, "ok"]), _pack([1, "fine", 1]), _pack([-1, "ok", 1]), _pack([1, "error", ["A"]]), _pack("x")],
)
def test_what_is_not_a_reply_is_refused(body):
    with pytest.raises(ProtocolError):
        wire.decode_reply(body)


def test_parameters_of_another_number_type_or_range_are_refused():
    assert wire.take_params(wire.Request(1, "m", [1, b"x"]), int, bytes) == [1, b"x"]
    for params in ([], [1], [b"x", 1], [True, b"x"], [-1, b"x"], [2**63, b"x"]):
        with pytest.raises(InputError) as caught:
            wire.take_params(wire.Request(1, "m", params), int, bytes)
        assert caught.value.code == "BAD_PARAMS"


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=12), st.data())
def test_frames_survive_any_cut_of_the_stream(bodies, data):
    stream = b"".join(map(wire.frame, bodies))
    reader = wire.FrameReader(40)
    found = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += reader.feed(stream[:size])
        stream = stream[size:]
    assert found == bodies
    assert reader.is_empty


@pytest.mark.parametrize("length", [0, 41, 2**32 - 1])
def test_a_frame_length_out_of_bounds_is_refused_at_once(length):
    with pytest.raises(ProtocolError, match="1 to 40 are allowed"):
        wire.FrameReader(40).feed(length.to_bytes(4, "little"))
