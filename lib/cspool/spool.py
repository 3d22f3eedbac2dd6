"""A spool directory: the log on disk. cspool-spool(5) is the definition.

The order of events is the whole of it. An append writes frames behind the
place that `head` names, syncs them, and then replaces `head`; a reader reads
only up to the place that `head` names. So what is behind that place was never
acknowledged and never read, and the next append leaves it there: it closes
that segment where `head` says and begins another. The list of segments is
written under a new name each time, so that `head`, replaced by one rename, is
all that ever changes hands.
"""

import fcntl
import hashlib
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple, Protocol

from . import disk, frame
from .errors import CannotCreate, DataError, OverQuota, TryAgain

ROTATE = 16 << 20  # octets after which a segment is closed
PIECE = 1 << 20  # octets copied at a time


class Head(NamedTuple):
    """The text of `head`: how far the log may be read."""

    spool: bytes  # id of the spool, 16 octets
    next: int  # the number that the next record will get
    chain: bytes  # h(next - 1)
    first: int  # the first number from which none is missing
    segment: str  # name of the last segment, "-" while there is none
    length: int  # octets of it that are synced
    list: int  # the segments are listed in the file `segments.<list>`
    digest: bytes  # BLAKE2b-256 of that file

    def text(self) -> bytes:
        """Return the head as the octets of its file."""
        return (
            f"cspool-head 1\nspool {self.spool.hex()}\nnext {self.next}\nchain {self.chain.hex()}\n"
            f"first {self.first}\nsegment {self.segment} {self.length}\nsegments {self.list} {self.digest.hex()}\n"
        ).encode()

    @classmethod
    def parse(cls, text: bytes, where: str) -> "Head":
        """Read a head. Raises DataError, which names `where`, when it is none."""
        try:
            lines = [line.split(" ") for line in text.decode("ascii").splitlines()]
            values = {line[0]: line[1:] for line in lines}
            head = cls(
                bytes.fromhex(values["spool"][0]),
                int(values["next"][0]),
                bytes.fromhex(values["chain"][0]),
                int(values["first"][0]),
                values["segment"][0],
                int(values["segment"][1]),
                int(values["segments"][0]),
                bytes.fromhex(values["segments"][1]),
            )
        except (ValueError, KeyError, IndexError):
            raise DataError(f"{where}: not a head of a spool, or damaged") from None
        # One head has one text, so nothing that we do not understand is passed over.
        if head.text() != text or len(head.spool) != 16 or not 0 < head.first <= head.next < frame.HEAD_NUMBER:
            raise DataError(f"{where}: not a head of a spool, or damaged")
        return head


class Segment(NamedTuple):
    """A line of a list of segments. Count and length are None for the last, which still grows."""

    name: str
    frames: int | None
    length: int | None

    @property
    def first(self) -> int:
        """The number of its first frame."""
        return int(self.name.split(".")[0])

    def line(self) -> str:
        """Return it as a line of the list."""
        return f"{self.name} {_number(self.frames)} {_number(self.length)}\n"


def parse_list(text: bytes, where: str, expected: bytes | None = None) -> list[Segment]:
    """Read a list of segments. Raises DataError, which names `where`, when it is none, or another one than expected."""
    try:
        rows = [line.split(" ") for line in text.decode("ascii").splitlines()]
        segments = [Segment(name, *(None if n == "-" else int(n) for n in numbers)) for name, *numbers in rows]
        sound = all(segment.first for segment in segments)
    except (TypeError, ValueError):
        sound = False
    if not sound or expected not in (None, digest(text)):
        raise DataError(f"{where}: damaged")
    return segments


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def create(path: str) -> None:
    """Make an empty spool with a new id. Raises CannotCreate when there is something at `path`."""
    try:
        os.mkdir(path, 0o700)
    except OSError as error:
        raise CannotCreate(f"{path}: {(error.strerror or 'cannot be made').lower()}") from None
    spool_id = os.urandom(16)
    try:
        disk.replace(f"{path}/segments.0", b"")
        disk.replace(f"{path}/head", Head(spool_id, 1, frame.first_chain(spool_id), 1, "-", 0, 0, digest(b"")).text())
        os.close(os.open(os.path.join(path, "lock"), os.O_CREAT | os.O_WRONLY, 0o666))
        # Last, since it makes the directory a spool.
        disk.replace(f"{path}/format", f"cspool-spool 1 {spool_id.hex()}\n".encode())
        disk.sync_directory(os.path.dirname(os.path.abspath(path)))
    except OSError:
        for name in os.listdir(path):
            os.unlink(os.path.join(path, name))
        os.rmdir(path)  # nobody can have used it yet
        raise


class Files(Protocol):
    """Where the files of a spool can be read. `where` names it for messages."""

    where: str

    def read(self, name: str, wait: int = 0) -> bytes:
        """Return a file; if it is the same as before and that costs less than asking often, after `wait` seconds.

        Raises FileNotFoundError, and TryAgain for whatever else may pass.
        """

    def pieces(self, name: str, start: int, end: int) -> Iterator[bytes]:
        """Yield the octets of a file from `start` to `end`. Raises as `read`, and TryAgain where some are missing."""


class Directory:
    """The files of a spool in a local directory. Raises TryAgain when there is no spool at `path`."""

    def __init__(self, path: str) -> None:
        self.where = path
        try:
            words = self.read("format").decode("ascii", "replace").split()
        except (FileNotFoundError, NotADirectoryError):
            raise TryAgain(f"{path}: no spool here (no file 'format' in it)") from None
        if words[:2] != ["cspool-spool", "1"] or len(words) != 3:
            raise TryAgain(f"{path}: not a spool of this version")
        self.id = words[2]

    def read(self, name: str, wait: int = 0) -> bytes:
        with disk.open_plain(self.path(name)) as file:
            return file.read()

    def pieces(self, name: str, start: int, end: int) -> Iterator[bytes]:
        with disk.open_plain(self.path(name)) as file:
            file.seek(start)
            while start < end:
                piece = file.read(min(PIECE, end - start))
                if not piece:
                    raise TryAgain(f"{self.path(name)}: shorter than it was: the spool is damaged")
                start += len(piece)
                yield piece

    def path(self, name: str) -> str:
        """Return the path of a file of the spool."""
        return os.path.join(self.where, name)


class Reader:
    """Reads a log, wherever its files are. `count` is how many frames it has yielded."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.count = 0

    def head(self, wait: int = 0) -> Head:
        """Return the head, as `Files.read` does. Raises TryAgain."""
        try:
            return Head.parse(self.files.read("head", wait), f"{self.files.where}/head")
        except FileNotFoundError:
            raise TryAgain(f"{self.files.where}: no spool here (no file 'head' in it)") from None
        except DataError as error:
            raise TryAgain(str(error)) from None  # for a mail server: keep the mail until it is mended

    def frames(self, after: int, place: frame.Place | None = None) -> tuple[Head, Iterator[bytes]]:
        """Return the head, and as octets all frames it covers that are numbered above `after`.

        `place` is where the frame behind `after` begins, as far as the caller
        knows; it saves reading what is before it.
        """
        for _ in range(100):
            head = self.head()
            if head.next - 1 <= after:
                return head, iter(())
            try:
                return head, self._frames(head, self.segments(head), after, place)
            except FileNotFoundError:
                continue  # appends came in between, and the list is gone
        raise TryAgain(f"{self.files.where}: damaged (no list of segments)")

    def segments(self, head: Head) -> list[Segment]:
        """Return the list that `head` names. Raises FileNotFoundError, or TryAgain when it is damaged."""
        name = f"segments.{head.list}"
        try:
            return parse_list(self.files.read(name), f"{self.files.where}/{name}", head.digest)
        except DataError as error:
            raise TryAgain(str(error)) from None

    def _frames(self, head: Head, segments: list[Segment], after: int, place: frame.Place | None) -> Iterator[bytes]:
        ends = [segment.first for segment in segments[1:]] + [head.next]
        for segment, end in zip(segments, ends, strict=False):  # an empty log has an end too
            if end - 1 > after:
                length = head.length if segment.length is None else segment.length
                start = place.offset if place and place.segment == segment.name and place.offset < length else 0
                # Numbers may be missing between segments, and in those that were written anew.
                self.count += head.next - segment.first if segment.frames is None else segment.frames
                yield from self._copy(segment, start, length, after)

    def _copy(self, segment: Segment, start: int, length: int, after: int) -> Iterator[bytes]:
        """Yield the octets of a segment behind the frame numbered `after`, which is not before `start`."""
        try:
            octets = _Octets(self.files.pieces(segment.name, start, length))
            if not start:
                octets.read_line()
            elif octets.peek(frame.HEADER_SIZE)[8:16] == (after + 1).to_bytes(8, "big"):
                self.count -= after + 1 - segment.first
            else:
                # Not the log that the caller knows: whoever checks its chain must see that.
                yield from self._copy(segment, 0, length, after)
                return
            while (header := octets.peek(frame.HEADER_SIZE)) and frame.HEADER.unpack(header)[2] <= after:
                octets.skip(frame.HEADER_SIZE + frame.HEADER.unpack(header)[0])
                self.count -= 1
            yield from octets
        except (FileNotFoundError, struct.error):
            raise TryAgain(f"{self.files.where}/{segment.name}: missing or damaged") from None


class _Octets:
    """Octets that come in pieces, of which some in front are passed over."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._octets = b""

    def peek(self, length: int) -> bytes:
        """Return the next octets without consuming them; fewer at the end."""
        while len(self._octets) < length and (piece := next(self._pieces, b"")):
            self._octets += piece
        return self._octets[:length]

    def skip(self, length: int) -> None:
        while length > len(self._octets):
            length -= len(self._octets)
            self._octets = next(self._pieces, b"")
            if not self._octets:
                return
        self._octets = self._octets[length:]

    def read_line(self) -> None:
        """Pass over the line in front."""
        self.skip(self.peek(512).find(b"\n") + 1)

    def __iter__(self) -> Iterator[bytes]:
        if self._octets:
            yield self._octets
        yield from self._pieces


class Spool:
    """A spool in a local directory, to append to. Raises TryAgain when there is none at `path`."""

    def __init__(self, path: str) -> None:
        self.files = Directory(path)
        self.reader = Reader(self.files)
        self.path = path

    def append(self, records: Iterable[bytes], octets: int = 0, most: int | None = None, rotate: int = ROTATE) -> None:
        """Append records and return once they are on disk.

        The log is then as before or holds them all, whatever happens in
        between. Records are numbered on from the last. Their frames take
        `octets`; raises OverQuota where that makes the log longer than `most`.
        """
        with locked(self.path):
            head = self.reader.head()
            if head.spool.hex() != self.files.id:
                raise TryAgain(f"{self.path}: head and format name different spools")
            try:
                segments = self.reader.segments(head)
                used = sum(segment.length or 0 for segment in segments) + head.length
                if most is not None and used + octets > most:
                    raise OverQuota(f"{self.path}: over its quota: {used} octets of {most}, and {octets} were to come")
                log = _Writer(self, head, segments, rotate)
            except FileNotFoundError as error:
                raise TryAgain(f"{error.filename}: missing: the spool is damaged") from None
            try:
                for record in records:
                    log.write(record)
                log.commit()
            finally:
                log.close()


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Keep everybody else from appending."""
    lock = os.open(os.path.join(path, "lock"), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


class _Writer:
    """One append under the lock: frames into the last segment, or into new ones."""

    def __init__(self, spool: Spool, head: Head, segments: list[Segment], rotate: int) -> None:
        self.path = spool.path
        self.before = head
        self.next, self.chain = head.next, head.chain
        self.segments = segments
        self.rotate = rotate
        self.fd = -1
        self.created: list[str] = []  # segments that no head names yet
        self.position = head.length
        if segments:
            fd = os.open(self._file(head.segment), os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK)
            size = os.fstat(fd).st_size
            if size < head.length:
                os.close(fd)
                raise TryAgain(f"{self._file(head.segment)}: shorter than it was: the spool is damaged")
            if size == head.length < rotate:
                self.fd = fd
            else:
                # Full, or something unacknowledged stands behind its end.
                os.close(fd)
                self._close_segment()

    def write(self, record: bytes) -> None:
        if self.fd < 0 or self.position >= self.rotate:
            self._new_segment()
        self._write(frame.encode(record, self.next, self.chain))
        self.chain = frame.next_chain(self.chain, self.next, record)
        self.next += 1

    def commit(self) -> None:
        """Sync what was written, then let the readers see it."""
        if self.next == self.before.next:
            return
        disk.sync(self.fd, self.path)
        head = self.before._replace(
            next=self.next, chain=self.chain, segment=self.segments[-1].name, length=self.position
        )
        listing = "".join(segment.line() for segment in self.segments).encode()
        if digest(listing) != head.digest:
            head = head._replace(list=head.list + 1, digest=digest(listing))
            disk.replace(self._file(f"segments.{head.list}"), listing)
        self.created = []
        disk.replace(self._file("head"), head.text())
        if head.list > self.before.list > 0:
            # The one before stays, for a reader that has just read the old head.
            with suppress(OSError):  # all is on disk, come what may
                os.unlink(self._file(f"segments.{self.before.list - 1}"))

    def close(self) -> None:
        """Close the log; segments that a failed append has made are of no use to anybody."""
        self._close()
        for name in self.created:
            os.unlink(self._file(name))

    def _close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _new_segment(self) -> None:
        if self.fd >= 0:
            disk.sync(self.fd, self.path)
            self._close()
            self._close_segment()
        for generation in range(1 << 16):
            name = f"{self.next:020}.{generation}.log"
            try:
                self.fd = os.open(self._file(name), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o666)
                break
            except FileExistsError:
                continue  # left behind by an append that was killed; no reader knows it
        self.created.append(name)
        self.position = 0
        self.segments.append(Segment(name, None, None))
        self._write(
            f"cspool-segment 1 {self.before.spool.hex()} {self.next} {self.chain.hex()} {generation}\n".encode()
        )

    def _close_segment(self) -> None:
        last = self.segments[-1]
        self.segments[-1] = Segment(last.name, self.next - last.first, self.position)

    def _write(self, octets: bytes) -> None:
        disk.write(self.fd, octets, self.path)
        self.position += len(octets)

    def _file(self, name: str) -> str:
        return os.path.join(self.path, name)


def digest(text: bytes) -> bytes:
    """Return what a head says of a list of segments."""
    return hashlib.blake2b(text, digest_size=32).digest()
