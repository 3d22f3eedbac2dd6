"""Reading segments of a log without believing anything in them: for cspool-fsck.

A frame is sound if its checksum is right, its number is one that may stand
there, and its record is the one that the chain in the next frame, or in
`head`, speaks of. A frame that is found damaged is passed over by its length,
or else by looking for the next one.
"""

import mmap
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from .. import disk, frame
from ..errors import DataError
from .files import Header

Mapped = mmap.mmap
HEADER_LINE_MAX = 512  # octets


class WholeFrame(NamedTuple):
    """A frame in a segment: octets `start` to `end` of the file."""

    number: int
    chain: bytes  # before it
    after: bytes  # h(number)
    start: int
    end: int


class Span(NamedTuple):
    """A frame that has not been checked: octets `start` to `end` of the file."""

    number: int
    start: int
    end: int


def header(octets: mmap.mmap) -> tuple[Header | None, int]:
    """Return the header of a segment, and how many octets it takes; None and 0 where there is none."""
    end = octets.find(b"\n", 0, HEADER_LINE_MAX) + 1
    found = Header.parse(octets[:end])
    return found, end if found else 0


@contextmanager
def mapped(path: str) -> Iterator[mmap.mmap]:
    """Map a segment into memory, to read. Raises OSError, and ValueError where it is empty."""
    with disk.open_plain(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as octets:
        yield octets


def spans(octets: mmap.mmap, end: int) -> Iterator[Span]:
    """Yield the frames of a segment up to `end`, as they say themselves. Raises DataError where they make no sense."""
    _, start = header(octets)
    while start < end <= len(octets):
        length, _, number, _ = frame.HEADER.unpack_from(octets, start) if start + frame.HEADER_SIZE <= end else [0] * 4
        behind = start + frame.HEADER_SIZE + length
        if not length or behind > end:
            break
        yield Span(number, start, behind)
        start = behind
    if start != end:
        raise DataError("damaged")


def frames(octets: mmap.mmap, start: int, end: int, numbers: range) -> Iterator[WholeFrame]:
    """Yield the frames from `start` to `end` that have a good checksum and one of these numbers, in order."""
    position = start
    while position < end and numbers:
        found = _frame(octets, position, end, numbers)
        if found is None:
            position = _next(octets, position, end, numbers)
            continue
        yield found
        position, numbers = found.end, range(found.number + 1, numbers.stop)


def _frame(octets: mmap.mmap, start: int, end: int, numbers: range) -> WholeFrame | None:
    """Return the frame that begins there, None where there is none, or a damaged one."""
    body = start + frame.HEADER_SIZE
    if body > end:
        return None
    length, crc, number, chain = frame.HEADER.unpack_from(octets, start)
    if number not in numbers or not 0 < length <= end - body:
        return None
    record = octets[body : body + length]
    if zlib.crc32(record, zlib.crc32(octets[start + 8 : body])) != crc:
        return None
    return WholeFrame(number, chain, frame.next_chain(chain, number, record), start, body + length)


def _next(octets: mmap.mmap, position: int, end: int, numbers: range) -> int:
    """Return where the first good frame behind a damaged one begins, or `end`."""
    if position + frame.HEADER_SIZE <= end:
        length: int = frame.HEADER.unpack_from(octets, position)[0]
        behind = position + frame.HEADER_SIZE + length
        if _frame(octets, behind, end, numbers):
            return behind
    # Its length is damaged, too. Numbers that are near each other begin with the same octets.
    nearest = struct.pack(">Q", numbers.start)[:6], struct.pack(">Q", numbers.start + (1 << 16))[:6]
    at = position + 9
    while (at := min((n for front in nearest if (n := octets.find(front, at, end)) >= 0), default=-1)) >= 0:
        if _frame(octets, at - 8, end, numbers):
            return at - 8
        at += 1
    return end
