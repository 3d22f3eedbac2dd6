"""The records of one stream, taken in as a whole before anything is done with them.

Until the end frame has been seen nobody can tell a whole stream from one whose
writer has died.
"""

from collections.abc import Iterator
from typing import IO, BinaryIO

from .. import frame
from ..errors import DataError

IN_MEMORY = 16 << 20  # octets of records; what is longer waits in a temporary file
OVERHEAD = 128  # octets that a record in memory takes beside its own


class Records:
    """What a stream holds but for its head, which speaks of another log. Iterate over it as often as you like."""

    def __init__(self, stream: BinaryIO, name: str = "standard input", with_keep: bool = False) -> None:
        """Read a stream to its end. Raises what `frame.read` raises, and OSError.

        A checkpoint comes with a keep list, which is in `keep` then; whoever
        does not ask for it must not take it: DataError.
        """
        self.keep: bytes | None = None
        self.count = 0
        self.octets = 0  # as frames
        self._waiting: list[bytes] = []
        self._size = 0  # octets that they take
        self._file: IO[bytes] | None = None
        for one in frame.read(stream, name):
            if one.number == frame.KEEP_NUMBER:
                if not with_keep or self.keep is not None:
                    raise DataError(f"{name}: a checkpoint, which is for cspool-compact")
                self.keep = one.record
            elif one.number != frame.HEAD_NUMBER:
                self._add(one.record)

    def __iter__(self) -> Iterator[bytes]:
        if self._file:
            self._file.seek(0)
            while header := self._file.read(frame.HEADER_SIZE):
                yield self._file.read(frame.HEADER.unpack(header)[0])
        yield from self._waiting

    def _add(self, record: bytes) -> None:
        self.count += 1
        self.octets += frame.HEADER_SIZE + len(record)
        self._waiting.append(record)
        self._size += len(record) + OVERHEAD
        if self._size > IN_MEMORY:
            if not self._file:
                import tempfile

                self._file = tempfile.TemporaryFile()
            self._file.writelines(frame.encode(record) for record in self._waiting)
            self._waiting, self._size = [], 0
