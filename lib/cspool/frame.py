"""Frames, streams of them, and the chain over a log: cspool-record(5) and cspool-spool(5).

    frame = length u32 | CRC-32 u32 | number u64 | chain before it (32) | record

All integers are big-endian. The CRC covers number, chain and record, and
catches what a bad disk or cable does; the chain catches what a bad operator
does. Number and chain are zero in a frame that no log has taken in yet.
"""

import hashlib
import os
import select
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from .errors import DataError, TryAgain

HEADER = struct.Struct(">IIQ32s")
HEADER_SIZE = HEADER.size  # 48
LIMIT = 64 << 20  # octets of a record; what a mail host accepts is less
HEAD_NUMBER = 2**64 - 1  # marks the head frame, whose record is the text of `head`
KEEP_NUMBER = 2**64 - 2  # marks the frame with the keep list that comes with a checkpoint (compact.py)
UNCHAINED = bytes(32)

SMALL = 1 << 20  # a record up to here is read at one go; see read_exactly
PATIENCE = 0.05  # seconds without input after which a reader must let go of what it holds


class Frame(NamedTuple):
    """One frame as it was read; `record` is still sealed."""

    number: int
    chain: bytes
    record: bytes


class Position(NamedTuple):
    """Where in a log a frame begins."""

    segment: str  # name
    offset: int  # octets into it


class Input:
    """Octets from a file descriptor; before each read `pause` is called, and told whether that has to wait."""

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
    """Return how messages name the records from `first` to `last`."""
    return f"record {last}" if first == last else f"records {first} to {last}"


def encode(record: bytes, number: int = 0, chain: bytes = UNCHAINED) -> bytes:
    """Return the frame of `record` as octets."""
    covered = struct.pack(">Q32s", number, chain)
    return HEADER.pack(len(record), zlib.crc32(record, zlib.crc32(covered)), number, chain) + record


def encode_head(text: bytes) -> bytes:
    """Return the head frame: what a stream read from a spool begins with."""
    return encode(text, HEAD_NUMBER)


def encode_keep(text: bytes) -> bytes:
    """Return the keep frame: what a checkpoint begins with on its way to a spool."""
    return encode(text, KEEP_NUMBER)


def encode_end(count: int) -> bytes:
    """Return the end frame of a stream in which `count` frames came before it."""
    return encode(b"", count)


def read(stream: BinaryIO | Input, name: str = "standard input", limit: int = LIMIT) -> Iterator[Frame]:
    """Yield the frames of a whole stream in order, without its end frame.

    What has been yielded is sound, each frame by itself. Raises TryAgain when
    the stream ends before its end frame, for then its writer died; DataError
    when it is not a stream, a frame is damaged, longer than `limit` octets or
    missing, or something follows the end frame.
    """
    count = 0
    while True:
        header = stream.read(HEADER_SIZE)
        if not header and not count:
            raise TryAgain(f"{name}: empty: whatever was to write it has failed")
        if len(header) < HEADER_SIZE:
            raise _cut(name, count)
        length, crc, number, chain = HEADER.unpack(header)
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


def read_exactly(stream: BinaryIO | Input, length: int) -> bytes:
    """Return `length` octets, or fewer at end of file.

    A length that somebody claims must not cost memory before the octets are
    there: a buffered read allocates what it is asked for, so long ones are
    read in pieces.
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
    return hashlib.blake2b(chain + struct.pack(">Q", number) + record_hash(record), digest_size=32).digest()


def chain_behind(one: Frame) -> bytes:
    """Return h(n) of a frame that is in a log."""
    return next_chain(one.chain, one.number, one.record)


def record_hash(record: bytes) -> bytes:
    """Return the hash by which a checkpoint knows a record."""
    return hashlib.blake2b(record, digest_size=32).digest()
