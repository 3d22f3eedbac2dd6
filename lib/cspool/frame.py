"""Frames, streams of frames, and the chain over a log, as cspool-record(5) defines them.

    frame = length u32 | CRC-32 u32 | number u64 | chain before it (32) | record

Integers are unsigned and big-endian; sizes in parentheses are octets. The
length is that of the record. The CRC covers number, chain and record. It
detects a bad disk or cable; the chain detects a bad operator. Number and chain
are zero in a frame that is in no log.
"""

import hashlib
import os
import select
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from .errors import DataError, TryAgain

HEADER = struct.Struct(">IIQ32s")
HEADER_SIZE = HEADER.size  # 48
LIMIT = 64 << 20  # octets of a record; what a mail host accepts is less
HEAD_NUMBER = 2**64 - 1  # marks the head frame, whose record is the text of `head`
KEEP_NUMBER = 2**64 - 2  # marks the frame with the keep list that comes with a checkpoint (compact.py)
DROPPED = 2**63  # added to a number, marks a frame with the hashes of dropped records, from that number on
NUMBER_MAX = 2**63 - 3  # of a record; so that each number marks one kind of frame
UNCHAINED = bytes(32)
HASH_SIZE = 32  # octets of a record's hash

SMALL = 1 << 20  # octets; a longer record is read in pieces of this size: see read_exactly
PATIENCE = 0.05  # seconds without input after which a reader must release its locks


class Stream(Protocol):
    """Something to read octets from."""

    def read(self, length: int, /) -> bytes:
        """Return this many octets, or fewer at the end."""


class Frame(NamedTuple):
    """One frame as it was read; `record` is still sealed."""

    number: int
    chain: bytes
    record: bytes


class Position(NamedTuple):
    """The position in a log at which a frame begins."""

    segment: str  # name
    offset: int  # octets into it


class Input:
    """Octets from a file descriptor.

    `pause` is called before each read, with True if PATIENCE seconds have
    passed without input, so that the read is going to block.
    """

    def __init__(self, fd: int, pause: Callable[[bool], None]) -> None:
        self.fd = fd
        self.pause = pause
        self._octets, self._used = b"", 0

    def read(self, length: int) -> bytes:
        """Return this many octets, or fewer at the end."""
        pieces = [self._take(length)]
        missing = length - len(pieces[0])
        while missing > 0:
            self._octets, self._used = self._more(), 0
            if not self._octets:
                break
            pieces.append(self._take(missing))
            missing -= len(pieces[-1])
        return b"".join(pieces)

    def _take(self, most: int) -> bytes:
        start, self._used = self._used, min(self._used + most, len(self._octets))
        return self._octets[start : self._used]

    def _more(self) -> bytes:
        ready = select.select([self.fd], [], [], PATIENCE)[0]
        self.pause(not ready)
        if not ready:
            select.select([self.fd], [], [])
        return os.read(self.fd, SMALL)


def records(first: int, last: int) -> str:
    """Return the name of the records `first` to `last` in messages."""
    return f"record {last}" if first == last else f"records {first} to {last}"


def encode(record: bytes, number: int = 0, chain: bytes = UNCHAINED) -> bytes:
    """Return the octets of the frame of `record`; `chain` is h(number - 1)."""
    covered = struct.pack(">Q32s", number, chain)
    return HEADER.pack(len(record), zlib.crc32(record, zlib.crc32(covered)), number, chain) + record


def encode_head(text: bytes) -> bytes:
    """Return the head frame, with which a stream that was read from a spool begins; `text` is that of `head`."""
    return encode(text, HEAD_NUMBER)


def encode_keep(text: bytes) -> bytes:
    """Return the keep frame, with which a checkpoint sent to a spool begins; `text` is the keep list."""
    return encode(text, KEEP_NUMBER)


def encode_dropped(first: int, chain: bytes, hashes: bytes) -> bytes:
    """Return the frame that stands for the dropped records from `first` on: `chain` is h(first - 1)."""
    return encode(hashes, DROPPED + first, chain)


def has_record(one: Frame) -> bool:
    """Return whether a frame has a record, and not a head, a keep list, or the hashes of dropped records."""
    return one.number < DROPPED


def covered(number: int, length: int) -> range:
    """Return the numbers of the records that a frame of a log stands for, by its number and the length of its record.

    It is empty for a frame that is in no log, or makes no sense.
    """
    if 0 < number <= NUMBER_MAX:
        return range(number, number + 1)
    first, count = number - DROPPED, length // HASH_SIZE
    if 0 < first <= NUMBER_MAX - count and length == count * HASH_SIZE:
        return range(first, first + count)
    return range(0)


def encode_end(count: int) -> bytes:
    """Return the end frame of a stream of `count` other frames."""
    return encode(b"", count)


def read(stream: Stream, name: str = "standard input", limit: int = LIMIT) -> Iterator[Frame]:
    """Yield the frames of a stream in order, except its end frame.

    Each frame that is yielded has the right checksum; whether the stream is
    complete is known only at its end. Raises TryAgain when it ends before its
    end frame, because its writer died. Raises DataError when it is not a
    stream, a frame is damaged or missing, a record is longer than `limit`
    octets, or something follows the end frame. `name` is that of the stream in
    messages.
    """
    count = 0
    while True:
        header = stream.read(HEADER_SIZE)
        if not header and not count:
            raise TryAgain(f"{name}: empty: what writes it has failed")
        if len(header) < HEADER_SIZE:
            raise _cut(name, count)
        length, crc, number, chain = HEADER.unpack(header)
        if length > limit and not count and header[:4].isascii():
            line = header.decode("ascii", "replace").split("\n")[0].strip()
            raise DataError(f"{name}: text where a stream must begin: {line!r} (of a .bashrc or a motd?)")
        if length > limit:
            raise DataError(
                f"{name}: frame {count + 1}: {length} octets, more than the limit of {limit} (or no cspool stream)"
            )
        record = read_exactly(stream, length)
        if len(record) < length:
            raise _cut(name, count)
        if zlib.crc32(record, zlib.crc32(header[8:])) != crc:
            raise DataError(f"{name}: frame {count + 1}: damaged, or no cspool stream")
        if length:
            yield Frame(number, chain, record)
            count += 1
            continue
        if number != count or chain != UNCHAINED:
            raise DataError(f"{name}: {number} frames were written, {count} arrived")
        if stream.read(1):
            raise DataError(f"{name}: something follows the end of the stream")
        return


def _cut(name: str, count: int) -> TryAgain:
    return TryAgain(f"{name}: cut off after frame {count}")


def read_exactly(stream: Stream, length: int) -> bytes:
    """Return `length` octets, or fewer at end of file.

    A buffered read allocates as much memory as it is asked for. Long reads are
    done in pieces, so that a false length in a frame cannot use up memory.
    """
    if length <= SMALL:
        return stream.read(length)
    pieces = []
    while length > 0:
        piece = stream.read(min(length, SMALL))
        if not piece:
            break
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)


def first_chain(spool_id: bytes) -> bytes:
    """Return h(0), the chain before record 1 of the spool with this id (16 octets)."""
    return hashlib.blake2b(b"cspool chain 1\0" + spool_id, digest_size=32).digest()


def next_chain(chain: bytes, number: int, record: bytes) -> bytes:
    """Return h(n) = BLAKE2b-256(h(n-1) | n | BLAKE2b-256(record))."""
    return chain_after(chain, number, record_hash(record))


def chain_after(chain: bytes, number: int, hashes: bytes) -> bytes:
    """Return the chain after the records from `number` on that have these hashes, where it was `chain` before them."""
    for start in range(0, len(hashes), HASH_SIZE):
        data = chain + struct.pack(">Q", number) + hashes[start : start + HASH_SIZE]
        chain = hashlib.blake2b(data, digest_size=32).digest()
        number += 1
    return chain


def hashes(one: Frame) -> bytes:
    """Return the hashes of the records that a frame of a log stands for, one after the other."""
    return one.record if one.number >= DROPPED else record_hash(one.record)


def chain_behind(one: Frame) -> bytes:
    """Return the chain after a frame of a log."""
    return chain_after(one.chain, covered(one.number, len(one.record)).start, hashes(one))


def record_hash(record: bytes) -> bytes:
    """Return the BLAKE2b-256 (32 octets) by which a checkpoint identifies a record."""
    return hashlib.blake2b(record, digest_size=32).digest()
