"""Changes one field of a message, at any depth, to something else of the same type."""

from dataclasses import fields, is_dataclass, replace
from random import Random
from typing import Any

from consensus.messages import CODEC, Message
from consensus.primitives.codec import INT_MAX
from consensus.primitives.errors import ProtocolError


def mutate(message: Message, rng: Random) -> Message:
    """Return a changed copy that the wire can still carry, or the message itself if none was found."""
    try:
        bent = _mutated(message, rng)
        return CODEC.decode(CODEC.encode(bent))
    except (ProtocolError, ValueError, OverflowError):
        return message


def _mutated(value: Any, rng: Random) -> Any:
    match value:
        case bool():
            return not value
        case int():
            return rng.choice((max(value - 1, 0), min(value + 1, INT_MAX), value // 2, 0, INT_MAX))
        case bytes():
            return _mutated_bytes(value, rng)
        case tuple():
            return _mutated_tuple(value, rng)
        case _ if is_dataclass(value) and not isinstance(value, type):
            name = rng.choice([field.name for field in fields(value)])
            return replace(value, **{name: _mutated(getattr(value, name), rng)})
        case _:
            return value


def _mutated_bytes(value: bytes, rng: Random) -> bytes:
    if not value:
        return rng.randbytes(32)
    changed = bytearray(value)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return rng.choice((bytes(changed), value[:-1], b""))


def _mutated_tuple(value: tuple[Any, ...], rng: Random) -> tuple[Any, ...]:
    if not value:
        return value
    index = rng.randrange(len(value))
    return rng.choice(
        (
            value[:index] + value[index + 1 :],
            (*value, value[index]),
            value[::-1],
            (*value[:index], _mutated(value[index], rng), *value[index + 1 :]),
        )
    )
