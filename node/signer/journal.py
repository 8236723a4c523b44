"""The signer's file: frames appended to a zero-filled file, each synced before anybody acts on it.

    file    pages of 4096 bytes; a frame never crosses from one into the next; unused bytes are zero
    frame   complement of the length (2), length (2), body, checksum (8), end mark (1)

Each checksum covers the one before, so no frame can be lost, swapped or altered unnoticed, except
the last ones together (an older copy of the whole file looks like itself). What was being
written when power failed was never acted on. It is told from damage by what a torn write leaves
behind: its end is still zero, or a sector of it is. That is cut off; anything else stops the signer.

The file has its full size from the start, so that a sync moves data only and no metadata.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from blake3 import blake3

from consensus.primitives.errors import StorageError

PAGE = 4096
SECTOR = 512  # the smallest unit a disk writes whole
HEAD, CHECKSUM = 4, 8
MARK = 0xA5
BODY_MAX = PAGE - HEAD - CHECKSUM - 1
SIZE_MIN = 1 << 20
FILE_MAX = 64 << 20

DEAD_KEY = (
    "what its key signed is not known any more, so the key must not sign again:"
    " `kontor recover` makes a new validator, and an older copy of this file would be worse than none"
)
_SEED = bytes(CHECKSUM)


class Journal:
    """An open file of frames. One thread at a time may use it."""

    def __init__(self, path: Path, handle: int, size: int, end: int, chain: bytes) -> None:
        self.path = path
        self._handle = handle
        self._size = size
        self._end = end
        self._chain = chain
        self._failed = False

    @classmethod
    def create(cls, path: Path, bodies: Sequence[bytes]) -> "Journal":
        """Write a new file with these frames, durably and whole or not at all; replaces an older one."""
        content, chain = _render(bodies, 0, _SEED)
        size = max(SIZE_MIN, _round_up(2 * len(content)))
        partial = path.with_suffix(".partial")
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.unlink(missing_ok=True)
            handle = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                _write(handle, content + bytes(size - len(content)), 0)
                os.fsync(handle)
                os.replace(partial, path)
                sync_folder(path.parent)
            except BaseException:
                os.close(handle)
                raise
        return cls(path, handle, size, len(content), chain)

    @classmethod
    def open(cls, path: Path) -> tuple["Journal", list[bytes]]:
        """Open a file and return its frames. Raises `StorageError` if it is missing or damaged."""
        with _explained(path):
            handle = os.open(path, os.O_RDWR)
            try:
                size = os.fstat(handle).st_size
                if size > FILE_MAX:
                    raise _damage(path, f"it has {size} bytes; at most {FILE_MAX} are written")
                data = os.pread(handle, size, 0)
                data += bytes(-size % PAGE or (PAGE if size == 0 else 0))
                bodies, end, chain = _parse(path, data)
                if any(data[end:]):
                    _write(handle, bytes(len(data) - end), end)  # a torn frame
                    os.fdatasync(handle)
            except BaseException:
                os.close(handle)
                raise
        return cls(path, handle, len(data), end, chain), bodies

    def append(self, bodies: Sequence[bytes]) -> None:
        """Make frames durable, in order. Raises `StorageError`, and after that always."""
        if self._failed:
            raise StorageError(f"{self.path} could not be written before: nothing more is signed")
        self._failed = True  # a sync that failed may not be tried again: the system forgets what it lost
        self._append(bodies)
        self._failed = False

    def _append(self, bodies: Sequence[bytes]) -> None:
        first = 0
        while first < len(bodies):
            # One page a time: a page is there before anything of the next one is.
            start = _place(self._end, len(bodies[first]))
            count, end = 1, start + _frame_size(bodies[first])
            for body in bodies[first + 1 :]:
                if end % PAGE == 0 or _place(end, len(body)) != end:
                    break
                end += _frame_size(body)
                count += 1
            content, chain = _render(bodies[first : first + count], start, self._chain)
            with _explained(self.path):
                self._extend(start + len(content))
                _write(self._handle, content, start)
                os.fdatasync(self._handle)
            self._end, self._chain = end, chain
            first += count

    @property
    def is_full(self) -> bool:
        """Whether it should be written anew, with what still counts."""
        return self._end > self._size - 2 * PAGE

    def close(self) -> None:
        """Close the file; nothing may be called afterwards."""
        os.close(self._handle)

    def _extend(self, needed: int) -> None:
        if needed > self._size:
            size = _round_up(needed + SIZE_MIN)
            _write(self._handle, bytes(size - self._size), self._size)
            self._size = size


# Frames


def _frame_size(body: bytes) -> int:
    return HEAD + len(body) + CHECKSUM + 1


def _place(end: int, length: int) -> int:
    """Where a frame with a body of `length` bytes goes after `end`: into the next page if it must."""
    room = PAGE - end % PAGE
    return end if HEAD + length + CHECKSUM + 1 <= room else end + room


def _render(bodies: Sequence[bytes], start: int, chain: bytes) -> tuple[bytes, bytes]:
    """The bytes of these frames from offset `start` on, and the last checksum."""
    content = bytearray()
    for body in bodies:
        if not 0 < len(body) <= BODY_MAX:
            raise ValueError(f"a frame of {len(body)} bytes; between 1 and {BODY_MAX} fit")
        end = start + len(content)
        content += bytes(_place(end, len(body)) - end)
        chain = _checksum(chain, body)
        content += _head(len(body)) + body + chain + bytes([MARK])
    return bytes(content), chain


def _head(length: int) -> bytes:
    # The complement first: no sector of a frame can be all zeros, whatever its length.
    return (length ^ 0xFFFF).to_bytes(2, "big") + length.to_bytes(2, "big")


def _checksum(chain: bytes, body: bytes) -> bytes:
    return blake3(chain + body).digest(length=CHECKSUM)


def _parse(path: Path, data: bytes) -> tuple[list[bytes], int, bytes]:
    """Every frame, where they end, and the last checksum. Raises `StorageError` on damage."""
    bodies, chain, end = [], _SEED, 0
    for start, body, checksum in _frames(path, data):
        chain = _checksum(chain, body)
        if checksum != chain:
            raise _damage(path, f"the checksum of the frame at byte {start} is wrong")
        bodies.append(body)
        end = start + _frame_size(body)
    if not bodies:
        raise _damage(path, "it holds nothing")
    return bodies, end, chain


def _frames(path: Path, data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """(offset, body, checksum) of every whole frame; what follows must be zeros or one torn frame."""
    at = 0
    while at < len(data):
        page_end = at - at % PAGE + PAGE
        rest = data[at:page_end].rstrip(b"\0")
        length = _length(rest)
        size = HEAD + length + CHECKSUM + 1
        if not rest:
            at = page_end
        elif (
            length
            and len(data[at:page_end]) >= size
            and data[at + size - 1] == MARK
            and not _has_hole(data[at : at + size], at)
        ):
            yield at, data[at + HEAD : at + HEAD + length], data[at + HEAD + length : at + size - 1]
            at += size
        elif any(data[page_end:]) or not _is_torn(rest, at, length):
            raise _damage(path, f"the frame at byte {at} is not as it was written")
        else:
            return


def _length(rest: bytes) -> int:
    """The length a frame's head gives, or 0 if it gives none."""
    length = int.from_bytes(rest[2:4], "big")
    return length if rest[:4] == _head(length) and 0 < length <= BODY_MAX else 0


def _is_torn(rest: bytes, at: int, length: int) -> bool:
    """Whether a write that never ended left `rest` (zeros behind it cut off), at offset `at`."""
    is_cut = len(rest) < HEAD or (length > 0 and len(rest) < HEAD + length + CHECKSUM + 1)
    return is_cut or _has_hole(rest, at)


def _has_hole(content: bytes, at: int) -> bool:
    """Whether a sector's part of `content`, which starts at offset `at`, is all zeros."""
    edges = [0, *range(-at % SECTOR or SECTOR, len(content), SECTOR), len(content)]
    return any(not any(content[first:last]) for first, last in pairwise(edges))


# The disk


def _round_up(size: int) -> int:
    return (size + PAGE - 1) // PAGE * PAGE


def _write(handle: int, content: bytes, at: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(handle, view, at)
        view, at = view[written:], at + written


def sync_folder(path: Path) -> None:
    """Make names created or replaced in a folder durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _damage(path: Path, what: str) -> StorageError:
    return StorageError(f"{path} is damaged: {what}; {DEAD_KEY}")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say what the disk refused, on which path."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(
            f"{path} cannot be used ({error.strerror}): check its owner, and the disk's space"
        ) from error
