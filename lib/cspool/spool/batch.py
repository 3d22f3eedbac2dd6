"""The records of a stream that has been read to its end.

Only its end frame tells a complete stream from one whose writer has died. So
the whole stream is read before anything is done with its records.
"""

from collections.abc import Iterator
from typing import IO

from .. import frame
from ..errors import DataError

IN_MEMORY = 16 << 20  # octets; more records than that are kept in a temporary file
OVERHEAD = 128  # octets of memory that a record takes beside its own


class Records:
    """The records of a stream, which can be iterated over several times. Its head frames, of another log, are left out.

    `keep` is the keep list that comes with a checkpoint, `count` the number of
    records, `octets` their size as frames.
    """

    def __init__(self, stream: frame.Stream, name: str = "standard input", with_keep: bool = False) -> None:
        """Read a stream to its end. Raises as `frame.read`, and OSError.

        A keep list is a DataError unless `with_keep` is set.
        """
        self.keep: bytes | None = None
        self.count = 0
        self.size = 0
        self._waiting: list[bytes] = []
        self._in_memory = 0  # octets of memory that they take
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
        self.size += frame.HEADER_SIZE + len(record)
        self._waiting.append(record)
        self._in_memory += len(record) + OVERHEAD
        if self._in_memory > IN_MEMORY:
            if not self._file:
                import tempfile

                self._file = tempfile.TemporaryFile()
            self._file.writelines(frame.encode(record) for record in self._waiting)
            self._waiting, self._in_memory = [], 0
