"""The records of a stream that has been read to its end.

Only its end frame tells a complete stream from one whose writer has died. So
the whole stream is read before anything is done with its records.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import IO

from .. import frame
from ..errors import DataError, Failure

IN_MEMORY = 16 << 20  # octets
OVERHEAD = 128  # octets of memory that a record takes beside its own


class Room:
    """How many octets of frames may come, and the error for a stream that brings more."""

    def __init__(self, size: int, refusal: Failure) -> None:  # a NamedTuple would take longer to import
        self.size = size
        self.refusal = refusal


class Digesting:
    """A stream that is read through this, and the BLAKE2b-256 of its octets as far as it has been read."""

    def __init__(self, stream: frame.Stream) -> None:
        self.stream = stream
        self.digest = hashlib.blake2b(digest_size=32)

    def read(self, length: int, /) -> bytes:
        octets = self.stream.read(length)
        self.digest.update(octets)
        return octets


def acknowledgement(count: int, digest: bytes) -> bytes:
    """Return the line in which the party that has a stream of `count` records on its disk says so.

    `digest` is the BLAKE2b-256 of the stream. No notice of a login shell and
    no answer of another server is like it.
    """
    return f"cspool-appended {count} {digest.hex()}\n".encode()


class Records:
    """The records of a stream, which can be iterated over several times. Frames without a record are left out.

    `keep` is the keep list that comes with a checkpoint, `count` the number of
    records, `octets` their size as frames.
    """

    def __init__(
        self,
        stream: frame.Stream,
        name: str = "standard input",
        with_keep: bool = False,
        room: Room | None = None,
        in_memory: int = IN_MEMORY,
        progress: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Read a stream to its end. Raises as `frame.read`, and OSError.

        A keep list is a DataError unless `with_keep` is set. As soon as the
        records need more than `room`, its refusal is raised. More than
        `in_memory` octets of records are kept in a temporary file. `progress` is
        called with their count after each.
        """
        self._room = room
        self.keep: bytes | None = None
        self.count = 0
        self.size = 0
        self._waiting: list[bytes] = []
        self._most = in_memory
        self._in_memory = 0  # octets of memory that they take
        self._file: IO[bytes] | None = None
        for one in frame.read(stream, name):
            if one.number == frame.KEEP_NUMBER:
                if not with_keep or self.keep is not None:
                    raise DataError(f"{name}: a checkpoint, which is for cspool-compact")
                self.keep = one.record
            elif frame.has_record(one):
                self._add(one.record)
                progress(self.count)

    def __iter__(self) -> Iterator[bytes]:
        if self._file:
            self._file.seek(0)
            while header := self._file.read(frame.HEADER_SIZE):
                yield self._file.read(frame.HEADER.unpack(header)[0])
        yield from self._waiting

    def stream(self) -> Iterator[bytes]:
        """Yield the octets of a stream of these records."""
        yield from map(frame.encode, self)
        yield frame.encode_end(self.count)

    def _add(self, record: bytes) -> None:
        self.count += 1
        self.size += frame.HEADER_SIZE + len(record)
        if self._room and self.size > self._room.size:
            raise self._room.refusal
        self._waiting.append(record)
        self._in_memory += len(record) + OVERHEAD
        if self._in_memory > self._most:
            if not self._file:
                import tempfile

                self._file = tempfile.TemporaryFile()
            self._file.writelines(frame.encode(record) for record in self._waiting)
            self._waiting, self._in_memory = [], 0
