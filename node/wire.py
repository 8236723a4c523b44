"""The client port's language: length-prefixed frames, each one canonical msgpack array.

    request  [request_id, method, [param, …]]
    reply    [request_id, "ok", result]
             [request_id, "error", [code, message]]

A frame is a 4-byte little-endian length and that many bytes. Numbers are 0..2^63−1. Replies come in
any order; `request_id` pairs them. The first request on a connection is `hello`.


    hello(version, chain_id)        [version, chain_id, replica, clock in ms]
    submit(envelope, detail)        a receipt, once f+1 replicas attest what became of the envelope
    receipt(digest, detail)         the same for an envelope sent before, perhaps to another node
    will(envelope)                  nil; an envelope of CANCEL_ALL operations that the node submits when this
                                    connection ends, in place of one left before; an empty one: nothing
    status()                        node.views.StatusView
    assets(), markets()             lists of AssetView, MarketView
    account(id), key(public_key)    AccountView, KeyView
    balances(account), orders(account)   lists of BalanceView, OrderView
    validators(), convictions()     lists of ValidatorView, ConvictionView
    membership()                    MembershipView
    epochs(first)                   list of consensus.proofs.EpochProof
    checkpoint()                    the newest consensus.proofs.CheckpointCert; nil before the first
    balance_proof(account, asset)   BalanceAnswer: a certified checkpoint, and the page with the balance
    validators_proof()              ValidatorsAnswer: the same for how present validators are reached

Results are arrays of a dataclass's fields in order: `node.receipts`, `node.services` and `node.views`.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgpack

from consensus.primitives.codec import INT_MAX
from consensus.primitives.errors import InputError, ProtocolError

VERSION = 1
LENGTH_SIZE = 4
REQUEST_BYTES_MAX = 1 << 20  # an envelope has at most half of that
REPLY_BYTES_MAX = 8 << 20
PARAMS_MAX = 8
METHOD_CHARS_MAX = 32
MESSAGE_CHARS_MAX = 1024
NO_REQUEST = 0  # request id of an error that answers no request: the connection closes after it

_LENGTH = struct.Struct("<I")
_LISTS_MAX = 1 << 17  # items of one list in a reply


class Detail(StrEnum):
    """How much of the journal a receipt proves."""

    SUMMARY = "summary"  # the envelope's own line: its code, how many operations, how many accepted
    RESULTS = "results"  # and one line per operation


class Refused(StrEnum):
    """Why a node refuses a request at its door. Nothing refused here ever reaches the ledger.

    An envelope may also be refused with the name of an `engine.records.Code`, such as NONCE_USED,
    when the node can already see what the ledger would say.
    """

    # the connection closes after these
    BAD_FRAME = "BAD_FRAME"  # longer than allowed, not canonical msgpack, or its id is in use
    TOO_SLOW = "TOO_SLOW"  # a frame or a hello was not finished, answers not read, or nothing asked, in time
    HELLO_FIRST = "HELLO_FIRST"
    WRONG_VERSION = "WRONG_VERSION"
    TOO_MANY_CONNECTIONS = "TOO_MANY_CONNECTIONS"
    MISBEHAVED = "MISBEHAVED"  # too many bad requests in a short time
    INTERNAL = "INTERNAL"  # a defect of the node's, only counted: the connection just closes
    # what was asked
    UNKNOWN_METHOD = "UNKNOWN_METHOD"
    BAD_PARAMS = "BAD_PARAMS"
    # how much was asked
    RATE_LIMITED = "RATE_LIMITED"
    QUEUE_FULL = "QUEUE_FULL"
    # the node
    NOT_FOUND = "NOT_FOUND"
    NOT_PROVEN = "NOT_PROVEN"  # executed here, but the signatures that prove it are not held yet
    NOT_HELD = "NOT_HELD"  # executed before this node's history begins
    SYNCING = "SYNCING"  # the node is fetching its state from others
    HALTED = "HALTED"
    WEDGED = "WEDGED"  # the network was stopped for an upgrade
    OVERLOADED = "OVERLOADED"  # the protocol pushes back; admission waits, so clients see QUEUE_FULL


@dataclass(frozen=True, slots=True)
class Request:
    """One call: `id` is the caller's, above 0 and not in use."""

    id: int
    method: str
    params: list[Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to request `id`. `error` is None, or (code, message)."""

    id: int
    result: Any
    error: tuple[str, str] | None


def frame(body: bytes) -> bytes:
    """`body` with its length in front."""
    return _LENGTH.pack(len(body)) + body


def encode_request(request: Request) -> bytes:
    """The frame of a request."""
    return frame(msgpack.packb([request.id, request.method, request.params], use_bin_type=True))


def encode_result(request_id: int, result: Any) -> bytes:
    """The frame of a successful reply. `result` is plain: ints, bytes, strings, lists."""
    return frame(msgpack.packb([request_id, "ok", result], use_bin_type=True))


def encode_error(request_id: int, code: str, message: str) -> bytes:
    """The frame of a refusal."""
    return frame(msgpack.packb([request_id, "error", [code, message[:MESSAGE_CHARS_MAX]]], use_bin_type=True))


def decode_request(body: bytes | bytearray) -> Request:
    """Read a request. Raises `ProtocolError` unless `body` is exactly one, in its only spelling."""
    raw = _unpack(body, REQUEST_BYTES_MAX, PARAMS_MAX, lists_max=2)
    if len(raw) != 3 or not _is_id(raw[0]) or type(raw[1]) is not str or type(raw[2]) is not list:
        raise ProtocolError("a request is [request_id, method, [param, …]]")
    if len(raw[1]) > METHOD_CHARS_MAX:
        raise ProtocolError(f"a method name has at most {METHOD_CHARS_MAX} characters")
    if msgpack.packb(raw, use_bin_type=True) != body:
        raise ProtocolError("the request is not in canonical form")
    return Request(raw[0], raw[1], raw[2])


def decode_reply(body: bytes | bytearray) -> Reply:
    """Read a reply. Raises `ProtocolError` unless `body` is one."""
    raw = _unpack(body, REPLY_BYTES_MAX, _LISTS_MAX)
    if len(raw) == 3 and type(raw[0]) is int and raw[0] >= NO_REQUEST:
        request_id, kind, value = raw
        if kind == "ok":
            return Reply(request_id, value, None)
        if kind == "error" and type(value) is list and [type(item) for item in value] == [str, str]:
            return Reply(request_id, None, (value[0], value[1]))
    raise ProtocolError('a reply is [request_id, "ok", result] or [request_id, "error", [code, message]]')


def take_params(request: Request, *kinds: type) -> Sequence[Any]:
    """The parameters of a request, if they are exactly of these types; ints are 0..2^63−1."""
    wanted = ", ".join(kind.__name__ for kind in kinds) or "none"
    if [type(param) for param in request.params] != list(kinds):
        found = ", ".join(type(param).__name__ for param in request.params) or "none"
        raise InputError(Refused.BAD_PARAMS, f"{request.method} takes parameters ({wanted}), not ({found})")
    for param in request.params:
        if type(param) is int and not 0 <= param <= INT_MAX:
            raise InputError(Refused.BAD_PARAMS, f"{request.method} takes numbers 0..2^63-1, not {param}")
    return request.params


class FrameReader:
    """Cuts a byte stream into frames; never holds more than one frame's limit, `size_max`, and one read."""

    def __init__(self, size_max: int) -> None:
        self.size_max = size_max
        self._buffer = bytearray()

    @property
    def is_empty(self) -> bool:
        """Whether no part of a frame waits for its rest."""
        return not self._buffer

    def feed(self, data: bytes | bytearray) -> list[bytes]:
        """Take what arrived; return the frames it completes. Raises `ProtocolError` on a bad length."""
        buffer = self._buffer
        buffer += data
        frames: list[bytes] = []
        start = 0
        with memoryview(buffer) as view:
            while len(buffer) - start >= LENGTH_SIZE:
                (length,) = _LENGTH.unpack_from(buffer, start)
                if not 0 < length <= self.size_max:
                    raise ProtocolError(f"frame of {length} bytes; 1 to {self.size_max} are allowed")
                end = start + LENGTH_SIZE + length
                if end > len(buffer):
                    break
                frames.append(bytes(view[start + LENGTH_SIZE : end]))
                start = end
        del buffer[:start]
        return frames


def _unpack(
    body: bytes | bytearray, size_max: int, items_max: int, lists_max: int | None = None
) -> list[Any]:
    """Read one array. A list of a byte takes 56 in memory, so `lists_max` is checked while reading."""
    if len(body) > size_max:
        raise ProtocolError(f"message of {len(body)} bytes; at most {size_max} are allowed")
    count = 0

    def count_list(items: list[Any]) -> list[Any]:
        nonlocal count
        count += 1
        if lists_max is not None and count > lists_max:
            raise ProtocolError(f"the message has more than {lists_max} lists: parameters are no lists")
        return items

    try:
        raw = msgpack.unpackb(
            body,
            raw=False,
            max_map_len=0,
            max_ext_len=0,
            max_array_len=items_max,
            max_bin_len=size_max,
            max_str_len=4096,
            list_hook=None if lists_max is None else count_list,
        )
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise ProtocolError(f"not msgpack: {error}") from error
    if type(raw) is not list:
        raise ProtocolError("a message is an array")
    return raw


def _is_id(value: Any) -> bool:
    return type(value) is int and NO_REQUEST < value <= INT_MAX
