"""Canonical encoding of frozen dataclasses.

A message is a msgpack array `[tag, field, …]`; a nested dataclass is an array of its fields.
Decoding checks every type and bound, then encodes again and compares: a value has one spelling,
so a digest over the encoding is a digest over the value.

What is not a message must cost next to nothing, however long it is: a byte of msgpack can become a list
of sixty. So the first two bytes, the type and how long it may be, are looked at before anything else;
and a long message is read item by item as its type says, up to the first that does not fit.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgpack

from consensus.primitives.errors import ProtocolError

INT_MAX = 2**63 - 1
BYTES_MAX = 1 << 26  # the longest byte string in any message
ITEMS_MAX = 1 << 17  # the longest tuple in any message
SMALL_BYTES = 4096  # up to this size a message is unpacked at once, which is faster
ITEM_BYTES_MIN = 8  # a long message has fewer items than its bytes divided by this
_FIXARRAY, _FIXINT_MAX, _NIL = 0x90, 0x7F, 0xC0  # msgpack
_LIMITS = {
    "raw": False,
    "strict_map_key": True,
    "max_map_len": 0,
    "max_ext_len": 0,
    "max_bin_len": BYTES_MAX,
    "max_str_len": 4096,
}

T = TypeVar("T")
_Convert = Callable[[Any], Any]
_Pull = Callable[["_Source"], Any]


class Codec:
    """Encodes and decodes the registered dataclasses. Fields: int, bool, bytes, str, tuple[X, ...],
    X | None, and other frozen dataclasses. `sizes` holds the longest encoding of types that have one."""

    def __init__(self, *types: type, sizes: Mapping[type, int] | None = None) -> None:
        self._sizes = sizes or {}
        self._tags = {cls: tag for tag, cls in enumerate(types)}
        self._types = list(types)
        self._counts = {cls: len(fields(cls)) for cls in types}
        self._writers: dict[type, _Convert] = {}
        self._readers: dict[type, _Convert] = {}
        self._pulls: dict[type, _Pull] = {}
        for cls in types:
            self._writer(cls)
            self._reader(cls)
            self._puller(cls)

    def encode(self, message: object) -> bytes:
        """Canonical bytes of a registered message."""
        cls = type(message)
        return msgpack.packb([self._tags[cls], *self._writers[cls](message)], use_bin_type=True)

    def decode(self, data: bytes, size_max: int = BYTES_MAX) -> Any:
        """Return the message in `data`; raise `ProtocolError` if it is not exactly one canonical message."""
        if len(data) > size_max:
            raise ProtocolError(f"message of {len(data)} bytes; at most {size_max} are allowed")
        cls = self._type_of(data)
        limit = self._sizes.get(cls, BYTES_MAX)
        if len(data) > limit:
            raise ProtocolError(f"{cls.__name__} of {len(data)} bytes; at most {limit} are allowed")
        try:
            if len(data) <= SMALL_BYTES:
                raw = msgpack.unpackb(data, use_list=True, max_array_len=ITEMS_MAX, **_LIMITS)
                message = self._reader(cls)(raw[1:])
            else:
                message = _Source(data).pull_message(self._puller(cls))
        except (ValueError, msgpack.UnpackException, RecursionError) as error:
            raise ProtocolError(f"not msgpack: {error}") from error
        if self.encode(message) != data:
            raise ProtocolError("message is not in canonical form")
        return message

    def _type_of(self, data: bytes) -> type:
        """The type of a message, from its first two bytes."""
        if len(data) < 2 or data[0] & 0xF0 != _FIXARRAY or data[1] >= len(self._types):
            raise ProtocolError("message has no known tag")
        cls = self._types[data[1]]
        count = self._counts[cls]
        if data[0] != _FIXARRAY + 1 + count:
            raise ProtocolError(f"{cls.__name__} is not an array of {count} fields")
        return cls

    def to_fields(self, message: object) -> list[Any]:
        """The plain fields of a registered dataclass, for a format that names the type elsewhere."""
        plain: list[Any] = self._writer(type(message))(message)
        return plain

    def from_fields(self, cls: type[T], raw: Any) -> T:
        """Make a `cls` from its plain fields. Raises `ProtocolError` on a wrong type or bound."""
        return cast(T, self._reader(cls)(raw))

    def _writer(self, cls: type) -> _Convert:
        if cls not in self._writers:
            hints = get_type_hints(cls)
            self._writers[cls] = _record_writer({f.name: self._flattener(hints[f.name]) for f in fields(cls)})
        return self._writers[cls]

    def _flattener(self, hint: Any) -> _Convert | None:
        """What makes a field plain; None for one that is."""
        if hint in _SCALARS:
            return None
        origin, args = get_origin(hint), get_args(hint)
        if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
            return _tuple_writer(self._flattener(args[0]))
        if origin in (Union, UnionType) and len(args) == 2 and NoneType in args:
            inner = self._flattener(args[0] if args[1] is NoneType else args[1])
            return inner and (lambda value: None if value is None else inner(value))
        if is_dataclass(hint):
            return self._writer(hint)  # type: ignore[arg-type]  # a dataclass *type*: hints hold no instances
        raise TypeError(f"codec cannot carry a field of type {hint!r}")

    def _reader(self, cls: type) -> _Convert:
        if cls not in self._readers:
            hints = get_type_hints(cls)
            converters = [self._converter(hints[f.name]) for f in fields(cls)]
            self._readers[cls] = _record_reader(cls, converters)
        return self._readers[cls]

    def _converter(self, hint: Any) -> _Convert:
        if hint in _SCALARS:
            return _SCALARS[hint]
        origin, args = get_origin(hint), get_args(hint)
        if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
            return _tuple_reader(self._converter(args[0]))
        if origin in (Union, UnionType) and len(args) == 2 and NoneType in args:
            inner = self._converter(args[0] if args[1] is NoneType else args[1])
            return lambda value: None if value is None else inner(value)
        if is_dataclass(hint):
            return self._reader(hint)  # type: ignore[arg-type]  # a dataclass *type*: hints hold no instances
        raise TypeError(f"codec cannot carry a field of type {hint!r}")

    def _puller(self, cls: type) -> _Pull:
        """Like `_reader`, for fields that are still to be read."""
        if cls not in self._pulls:
            hints = get_type_hints(cls)
            self._pulls[cls] = _fields_puller(cls, [self._pull(hints[f.name]) for f in fields(cls)])
        return self._pulls[cls]

    def _pull(self, hint: Any) -> _Pull:
        """Like `_converter`, for an item that is still to be read."""
        if hint in _SCALARS:
            convert = _SCALARS[hint]
            return lambda source: convert(source.unpack())
        origin, args = get_origin(hint), get_args(hint)
        if origin is tuple:
            return _tuple_puller(self._pull(args[0]))
        if origin in (Union, UnionType):
            inner = self._pull(args[0] if args[1] is NoneType else args[1])
            return lambda source: source.unpack() if source.is_at_none() else inner(source)
        return _record_puller(hint, self._puller(hint))


class _Source:
    """A long message that is read item by item; lists are only read where one is expected."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = len(data) // ITEM_BYTES_MIN
        self._unpacker = msgpack.Unpacker(max_buffer_size=len(data), max_array_len=0, **_LIMITS)
        self._unpacker.feed(data)
        self.unpack: Callable[[], Any] = self._unpacker.unpack

    def pull_message(self, pull: _Pull) -> Any:
        """The one message in the data; `pull` reads its fields, and its tag is known."""
        self.read_count()
        self.unpack()
        message = pull(self)
        if self._unpacker.tell() != len(self._data):
            raise ProtocolError("not msgpack: bytes behind the message")
        return message

    def read_count(self) -> int:
        """How many items the list that starts here has."""
        count: int = self._unpacker.read_array_header()
        self._left -= count
        if count > ITEMS_MAX or self._left < 0:
            raise ProtocolError(f"a message of {len(self._data)} bytes has too many items")
        return count

    def is_at_none(self) -> bool:
        """Whether the next item is nil."""
        place = self._unpacker.tell()
        return place < len(self._data) and self._data[place] == _NIL


def _record_writer(flatteners: Mapping[str, _Convert | None]) -> _Convert:
    names = list(flatteners)
    nested = [(place, flatten) for place, flatten in enumerate(flatteners.values()) if flatten is not None]
    take = attrgetter(*names)

    def write(record: Any) -> list[Any]:
        plain = list(take(record)) if len(names) > 1 else [take(record)]
        for place, flatten in nested:
            plain[place] = flatten(plain[place])
        return plain

    return write


def _tuple_writer(flatten: _Convert | None) -> _Convert:
    if flatten is None:
        return list
    return lambda value: [flatten(item) for item in value]


def _record_reader(cls: type, converters: list[_Convert]) -> _Convert:
    def read(raw: Any) -> Any:
        if type(raw) is not list or len(raw) != len(converters):
            raise ProtocolError(f"{cls.__name__} is not an array of {len(converters)} fields")
        try:
            return cls(*[convert(item) for convert, item in zip(converters, raw, strict=True)])
        except ValueError as error:
            raise ProtocolError(f"{cls.__name__}: {error}") from error

    return read


def _tuple_reader(convert: _Convert) -> _Convert:
    def read(raw: Any) -> Any:
        if type(raw) is not list:
            raise ProtocolError("a list was expected")
        return tuple([convert(item) for item in raw])

    return read


def _fields_puller(cls: type, pulls: list[_Pull]) -> _Pull:
    def pull(source: _Source) -> Any:
        values = [pull_field(source) for pull_field in pulls]
        try:
            return cls(*values)
        except ValueError as error:
            raise ProtocolError(f"{cls.__name__}: {error}") from error

    return pull


def _record_puller(cls: type, pull_fields: _Pull) -> _Pull:
    count = len(fields(cls))

    def pull(source: _Source) -> Any:
        if source.read_count() != count:
            raise ProtocolError(f"{cls.__name__} is not an array of {count} fields")
        return pull_fields(source)

    return pull


def _tuple_puller(pull_item: _Pull) -> _Pull:
    return lambda source: tuple([pull_item(source) for _ in range(source.read_count())])


def _exactly(kind: type) -> _Convert:
    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise ProtocolError(f"{kind.__name__} expected, was {type(value).__name__}")
        return value

    return read


def _read_int(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= INT_MAX:
        raise ProtocolError("an integer in 0..2^63-1 was expected")
    return value


_SCALARS: dict[Any, _Convert] = {
    int: _read_int,
    bool: _exactly(bool),
    bytes: _exactly(bytes),
    str: _exactly(str),
}
