"""Canonical encoding of frozen dataclasses.

A message is a msgpack array `[tag, field, …]`; a nested dataclass is an array of its fields.
Decoding checks every type and bound, then encodes again and compares: a value has one spelling,
so a digest over the encoding is a digest over the value.
"""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgpack

from consensus.primitives.errors import ProtocolError

INT_MAX = 2**63 - 1
BYTES_MAX = 1 << 26  # the longest byte string in any message
ITEMS_MAX = 1 << 17  # the longest tuple in any message

T = TypeVar("T")
_Convert = Callable[[Any], Any]


class Codec:
    """Encodes and decodes the registered dataclasses. Fields: int, bool, bytes, str, tuple[X, ...],
    X | None, and other frozen dataclasses."""

    def __init__(self, *types: type) -> None:
        self._tags = {cls: tag for tag, cls in enumerate(types)}
        self._types = list(types)
        self._readers: dict[type, _Convert] = {}
        for cls in types:
            self._reader(cls)

    def encode(self, message: object) -> bytes:
        """Canonical bytes of a registered message."""
        return msgpack.packb([self._tags[type(message)], *_flatten(message)], use_bin_type=True)

    def decode(self, data: bytes, size_max: int = BYTES_MAX) -> Any:
        """Return the message in `data`; raise `ProtocolError` if it is not exactly one canonical message."""
        if len(data) > size_max:
            raise ProtocolError(f"message of {len(data)} bytes; at most {size_max} are allowed")
        try:
            raw = msgpack.unpackb(
                data,
                raw=False,
                use_list=True,
                strict_map_key=True,
                max_map_len=0,
                max_ext_len=0,
                max_array_len=ITEMS_MAX,
                max_bin_len=BYTES_MAX,
                max_str_len=4096,
            )
        except (ValueError, msgpack.UnpackException, RecursionError) as error:
            raise ProtocolError(f"not msgpack: {error}") from error
        if type(raw) is not list or not raw or type(raw[0]) is not int or not 0 <= raw[0] < len(self._types):
            raise ProtocolError("message has no known tag")
        message = self._reader(self._types[raw[0]])(raw[1:])
        if self.encode(message) != data:
            raise ProtocolError("message is not in canonical form")
        return message

    def to_fields(self, message: object) -> list[Any]:
        """The plain fields of a registered dataclass, for a format that names the type elsewhere."""
        return _flatten(message)

    def from_fields(self, cls: type[T], raw: Any) -> T:
        """Make a `cls` from its plain fields. Raises `ProtocolError` on a wrong type or bound."""
        return cast(T, self._reader(cls)(raw))

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


def _flatten(value: Any) -> list[Any]:
    return [_plain(getattr(value, name)) for name in value.__dataclass_fields__]


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is bytes or kind is int or kind is bool or kind is str or value is None:
        return value
    if kind is tuple:
        return [_plain(item) for item in value]
    return _flatten(value)


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
        return tuple(convert(item) for item in raw)

    return read


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
