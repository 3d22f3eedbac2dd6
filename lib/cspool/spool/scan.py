"""Reading segments of a log that may be damaged, for cspool-fsck and cspool-compact.

A frame is whole if its checksum is right and its number is an expected one;
fsck.py also checks the chain. After a damaged frame, reading goes on where its
length says, or else at the first run of whole frames that is believed. Offsets
are in octets from the start of the file.
"""

import mmap
import re
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
LARGE = 1 << 16  # octets of a record
RUNS_MAX = 1000  # of frames, behind a damaged one
CHECKED_MAX = 64  # times the octets behind a damaged frame that checksums of large candidates may cost


class WholeFrame(NamedTuple):
    """A frame in a segment: octets `start` to `end` of the file. It stands for the records `number` to `last`."""

    number: int
    last: int
    chain: bytes  # h(number - 1)
    after: bytes  # h(last)
    start: int
    end: int


class Span(NamedTuple):
    """A frame that has not been checked: octets `start` to `end` of the file. It stands for the records `numbers`."""

    numbers: range
    is_dropped: bool  # it has their hashes
    start: int
    end: int


def header(octets: mmap.mmap) -> tuple[Header | None, int]:
    """Return the header of a segment and its length in octets, or None and 0 if it has none."""
    end = octets.find(b"\n", 0, HEADER_LINE_MAX) + 1
    found = Header.parse(octets[:end])
    return found, end if found else 0


@contextmanager
def mapped(path: str) -> Iterator[mmap.mmap]:
    """Map a segment into memory for reading. Raises OSError, and ValueError if it is empty."""
    with disk.open_plain(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as octets:
        yield octets


def spans(octets: mmap.mmap, end: int) -> Iterator[Span]:
    """Yield the frames up to `end` by their headers alone. Raises DataError if these do not lead to `end`."""
    _, start = header(octets)
    while start < end <= len(octets):
        length, _, number, _ = frame.HEADER.unpack_from(octets, start) if start + frame.HEADER_SIZE <= end else [0] * 4
        after = start + frame.HEADER_SIZE + length
        numbers = frame.covered(number, length)
        if not length or after > end or not numbers:
            break
        yield Span(numbers, number >= frame.DROPPED, start, after)
        start = after
    if start != end:
        raise DataError("damaged")


def frames(
    octets: mmap.mmap, start: int, end: int, numbers: range, before: bytes | None = None, after: bytes | None = None
) -> Iterator[WholeFrame]:
    """Yield the frames between `start` and `end` with a good checksum and one of these numbers, in rising order.

    `before` is the chain before the first number and `after` that at `end`,
    where they are known.
    """
    offset = start
    while offset < end and numbers:
        found = _frame(octets, offset, end, numbers)
        if found is None:
            offset = _next(octets, offset, end, numbers, before, after)
            continue
        yield found
        offset, numbers, before = found.end, range(found.last + 1, numbers.stop), found.after


def _frame(octets: mmap.mmap, start: int, end: int, numbers: range) -> WholeFrame | None:
    """Return the frame that begins at `start`, or None if there is none or it is damaged."""
    body = start + frame.HEADER_SIZE
    if body > end:
        return None
    length, crc, number, chain = frame.HEADER.unpack_from(octets, start)
    covered = frame.covered(number, length)
    if covered.start not in numbers or covered.stop > numbers.stop or not 0 < length <= end - body:
        return None
    record = octets[body : body + length]
    if zlib.crc32(record, zlib.crc32(octets[start + 8 : body])) != crc:
        return None
    after = frame.chain_behind(frame.Frame(number, chain, record))
    return WholeFrame(covered.start, covered.stop - 1, chain, after, start, body + length)


def _next(octets: mmap.mmap, damaged: int, end: int, numbers: range, before: bytes | None, after: bytes | None) -> int:
    """Return the offset of the first whole frame after the damaged one at offset `damaged`, or `end`.

    A record can hold whole frames, put there by its sender. So of all runs of
    frames that follow each other, those are believed that lead to `end`, where
    the chain is `after`, and then the longest ones that go with them.
    """
    if damaged + frame.HEADER_SIZE <= end:
        length: int = frame.HEADER.unpack_from(octets, damaged)[0]
        behind = damaged + frame.HEADER_SIZE + length
        if _frame(octets, behind, end, numbers):
            return behind
    runs: list[_Run] = []
    skip, checked = damaged + 1, 0  # `checked`: octets of candidates that were none
    for found in _candidates(numbers).finditer(octets, damaged + 1, end):
        start = found.start()
        length = frame.HEADER.unpack_from(octets, start)[0] if start + frame.HEADER_SIZE <= end else 0
        if start < skip or (length > LARGE and checked > CHECKED_MAX * (end - damaged)):
            continue
        first = last = _frame(octets, start, end, numbers)
        if not first or not last:
            checked += length
            continue
        while following := _frame(octets, last.end, end, range(last.last + 1, numbers.stop)):
            if following.chain != last.after:
                break
            last = following
        skip = last.end
        if first.number > numbers.start or before in (None, first.chain):
            runs.append(_Run(last.end == end and after in (None, last.after), first, last))
            if runs[-1].leads_to_end:
                break
    return _believed(runs, end)


class _Run(NamedTuple):
    """Frames that follow each other; whether they lead to the end of the segment."""

    leads_to_end: bool
    first: WholeFrame
    last: WholeFrame

    def goes_with(self, other: "_Run") -> bool:
        """Return whether both can be in one log: what is earlier in the file has the lower numbers."""
        before, behind = sorted((self, other), key=lambda one: one.first.start)
        return before.last.end <= behind.first.start and before.last.last < behind.first.number


def _believed(runs: list[_Run], end: int) -> int:
    """Return the offset of the first run that is believed, or `end` if there is none."""
    chosen: list[_Run] = []
    longest = sorted(runs, key=lambda one: (not one.leads_to_end, one.first.start - one.last.end))
    for run in longest[:RUNS_MAX]:
        if all(run.goes_with(one) for one in chosen):
            chosen.append(run)
    return min((one.first.start for one in chosen), default=end)


def _candidates(numbers: range) -> "re.Pattern[bytes]":
    """Return a pattern for the begin of a frame: a length up to 64 MiB, a checksum, a number near the expected ones.

    The next 2^16 numbers begin with one of two sequences of 6 octets, and so
    do those of frames for dropped records.
    """
    starts = numbers.start, numbers.start + (1 << 16)
    fronts = {re.escape(struct.pack(">Q", start + kind)[:6]) for start in starts for kind in (0, frame.DROPPED)}
    return re.compile(rb"(?s)(?=(?!\0{4})[\0-\4].{7}(?:" + b"|".join(sorted(fronts)) + rb"))")
