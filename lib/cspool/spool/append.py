"""Appending to the log of a spool in a local directory. cspool-spool(5) is the definition.

The order of events is the whole of it. An append writes frames behind the
place that `head` names, syncs them, and then replaces `head`; a reader reads
only up to the place that `head` names. So what is behind that place was never
acknowledged and never read, and the next append leaves it there: it closes
that segment where `head` says and begins another. The list of segments is
written under a new name each time, so that `head`, replaced by one rename, is
all that ever changes hands.
"""

import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from .. import disk, frame
from ..errors import CannotCreate, OverQuota, TryAgain, reason
from .files import Head, Header, Reader, Segment, SpoolDirectory, digest

ROTATE = 16 << 20  # octets after which a segment is closed
LIST = re.compile(r"segments\.(\d{1,19})")  # names of the files of a spool
LOG = re.compile(r"\d{20}\.\d{1,9}\.log")


def create(path: str) -> None:
    """Make an empty spool with a new id. Raises CannotCreate when there is something at `path`."""
    try:
        os.mkdir(path, 0o700)
    except OSError as error:
        raise CannotCreate(f"{path}: {reason(error)}") from None
    spool_id = os.urandom(16)
    try:
        disk.replace(f"{path}/segments.0", b"")
        head = Head(spool_id, 1, frame.first_chain(spool_id), 1, "-", 0, 0, digest(b""))
        disk.replace(f"{path}/head", head.text())
        os.close(os.open(os.path.join(path, "lock"), os.O_CREAT | os.O_WRONLY, 0o666))
        # Last, since it makes the directory a spool.
        disk.replace(f"{path}/format", f"cspool-spool 1 {spool_id.hex()}\n".encode())
        disk.sync_directory(os.path.dirname(os.path.abspath(path)))
    except OSError:
        for name in os.listdir(path):
            os.unlink(os.path.join(path, name))
        os.rmdir(path)  # nobody can have used it yet
        raise


class Spool:
    """A spool in a local directory, to append to. Raises TryAgain when there is none at `path`."""

    def __init__(self, path: str) -> None:
        self.files = SpoolDirectory(path)
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
                log = Writer(self.path, head, segments, rotate)
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


def new_segment(path: str, header: Header, frames: int, octets: bytes) -> Segment:
    """Write a whole segment, of the next generation, under a name that no file has; it is on disk then."""
    names = [name for name in os.listdir(path) if LOG.fullmatch(name) and int(name[:20]) == header.first]
    header = header._replace(generation=1 + max(map(generation, names), default=-1))
    name, text = f"{header.first:020}.{header.generation}.log", header.text()
    disk.create(os.path.join(path, name), text + octets, 0o666)
    return Segment(name, frames, len(text) + len(octets))


def generation(name: str) -> int:
    """Return the generation of a segment."""
    return int(name.split(".")[1])


def write_list(path: str, head: Head, segments: list[Segment]) -> Head:
    """Write the list of these segments, if it is not the one that `head` names; return a head that names it."""
    listing = "".join(segment.line() for segment in segments).encode()
    if digest(listing) != head.digest:
        head = head._replace(list=head.list + 1, digest=digest(listing))
        disk.replace(os.path.join(path, f"segments.{head.list}"), listing)
    return head


def write_head(path: str, head: Head, before: Head) -> None:
    """Let the readers see a head, all that it names being on disk, in place of the one before."""
    disk.replace(os.path.join(path, "head"), head.text())
    if head.list > before.list > 0:
        # The list of the one before stays, for a reader that has just read it.
        with suppress(OSError):  # all is on disk, come what may
            os.unlink(os.path.join(path, f"segments.{before.list - 1}"))


class Writer:
    """One append under the lock: frames into the last segment, or into new ones."""

    def __init__(
        self, path: str, head: Head, segments: list[Segment], rotate: int = ROTATE, checkpoint: int = 0
    ) -> None:
        """Begin an append; with `checkpoint` it is one of so many records, in a segment of its own."""
        self.path = path
        self.before = head
        self.next, self.chain = head.next, head.chain
        self.segments = segments
        self.rotate = rotate
        self.checkpoint = checkpoint
        self.fd = -1
        self.created: list[str] = []  # segments that no head names yet
        self.position = head.length
        if segments:
            fd = os.open(self._file(head.segment), os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK)
            size = os.fstat(fd).st_size
            if size < head.length:
                os.close(fd)
                raise TryAgain(f"{self._file(head.segment)}: shorter than it was: the spool is damaged")
            if size == head.length < rotate and head.next > head.checkpoint_end + 1 and not checkpoint:
                self.fd = fd
            else:
                # Full, or something unacknowledged stands behind its end, or a checkpoint begins or ends there.
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
        if self.checkpoint:
            head = head._replace(first=self.before.next, stated=self.before.next - 1, checkpoint_end=self.next - 1)
        head = write_list(self.path, head, self.segments)
        self.created = []
        write_head(self.path, head, self.before)

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
        checkpoint = self.checkpoint if self.next == self.before.next else 0
        self._write(Header(self.before.spool, self.next, self.chain, generation, checkpoint).text())

    def _close_segment(self) -> None:
        last = self.segments[-1]
        self.segments[-1] = Segment(last.name, self.next - last.first, self.position)

    def _write(self, octets: bytes) -> None:
        disk.write(self.fd, octets, self.path)
        self.position += len(octets)

    def _file(self, name: str) -> str:
        return os.path.join(self.path, name)
