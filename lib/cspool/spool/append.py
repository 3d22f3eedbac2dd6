"""Appending to the log of a spool in a local directory: see APPENDING in cspool-spool(5).

An append writes frames at the end of the log, which `head` names, syncs them,
and then replaces `head`. A reader reads only up to the end that `head` names.
So octets after that end were never acknowledged and never read. The next append
leaves them where they are: it closes that segment at the length in `head` and
begins another one. Each list of segments has a new name. So readers see a
change only when `head` is replaced, by one rename.
"""

import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from .. import disk, frame
from ..errors import CannotCreate, DataError, OverQuota, TryAgain, reason
from .batch import Room
from .files import LOG, Head, Header, Reader, Segment, SpoolDirectory, digest, format_of

LOCK_WAIT = 60.0  # seconds until a mail server had better try again
LOCK_LOOK = 0.01  # seconds between two looks at the lock
ROTATE = 16 << 20  # octets at which a segment is full


def create(path: str) -> None:
    """Create an empty spool with a new id. Raises CannotCreate when the directory `path` cannot be created."""
    try:
        os.mkdir(path, 0o700)
    except OSError as error:
        raise CannotCreate(f"{path}: {reason(error)}") from None
    spool_id = os.urandom(16)
    try:
        disk.replace(f"{path}/segments.0", b"")
        head = Head(spool_id, 1, frame.first_chain(spool_id), 1, "-", 0, 0, digest(b""))
        disk.replace(f"{path}/head", head.text())
        os.close(os.open(os.path.join(path, "lock"), os.O_CREAT | os.O_WRONLY, 0o600))
        # Last, since a directory with this file is a spool.
        disk.replace(f"{path}/format", format_of(spool_id))
        disk.sync_directory(os.path.dirname(os.path.abspath(path)))
    except OSError:
        for name in os.listdir(path):
            os.unlink(os.path.join(path, name))
        os.rmdir(path)  # no tool can have used it yet
        raise


class Spool:
    """A spool in a local directory, to append to. Raises TryAgain if `path` is not a spool."""

    def __init__(self, path: str) -> None:
        self.files = SpoolDirectory(path)
        self.reader = Reader(self.files)
        self.path = path

    def room(self, most: int | None) -> Room:
        """Return how much a stream may bring, so that no more of it is kept waiting than can be appended.

        The log may become `most` octets long (None for no quota). Raises
        TryAgain for a damaged spool, and OSError.
        """
        status = os.statvfs(self.path)
        free = Room(status.f_bavail * status.f_frsize, TryAgain(f"{self.path}: no space left on device"))
        if most is None:
            return free
        head = self.reader.head()
        try:
            used = _used(head, self.reader.segments(head))
        except FileNotFoundError:  # appends came in between; `append` looks again
            used = 0
        text = f"{self.path}: over its quota: {used} octets of {most}, and more than {max(0, most - used)} were to come"
        return min(free, Room(max(0, most - used), OverQuota(text)), key=lambda room: room.size)

    def append(self, records: Iterable[bytes], size: int = 0, most: int | None = None, rotate: int = ROTATE) -> None:
        """Append records, in order, and return once they are on disk.

        The log has either all of them or none, also after a crash. `size` is that
        of their frames, in octets: raises OverQuota if the log would become
        longer than `most` octets. Raises TryAgain for a damaged spool, and
        OSError. `rotate` is the size at which a segment is full.
        """
        with locked(self.path):
            head = self.reader.head()
            if head.spool.hex() != self.files.id:
                raise TryAgain(f"{self.path}: head and format name different spools")
            try:
                segments = self.reader.segments(head)
                used = _used(head, segments)
                if most is not None and used + size > most:
                    raise OverQuota(f"{self.path}: over its quota: {used} octets of {most}, and {size} were to come")
                log = Writer(self.path, head, segments, rotate)
            except FileNotFoundError as error:
                raise TryAgain(f"{error.filename}: missing: the spool is damaged") from None
            try:
                for record in records:
                    log.write(record)
                log.commit()
            finally:
                log.close()


def _used(head: Head, segments: list[Segment]) -> int:
    return sum(segment.length or 0 for segment in segments) + head.length


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the lock of the spool at `path`, so that no other process appends or compacts.

    An append that a power cut has interrupted between its two names is ended
    first. Raises TryAgain when another process holds the lock for LOCK_WAIT
    seconds, and OSError.
    """
    lock = os.open(os.path.join(path, "lock"), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        end = time.monotonic() + LOCK_WAIT
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise TryAgain(f"{path}/lock: held by another process for {LOCK_WAIT:.0f} seconds") from None
                time.sleep(LOCK_LOOK)
        _finish_head(path)
        yield
    finally:
        os.close(lock)


def new_segment(path: str, header: Header, frames: int, octets: bytes) -> Segment:
    """Write and sync a segment of these frames, as the generation after all files with the same first number."""
    names = [name for name in os.listdir(path) if LOG.fullmatch(name) and int(name[:20]) == header.first]
    header = header._replace(generation=1 + max(map(generation, names), default=-1))
    name, text = f"{header.first:020}.{header.generation}.log", header.text()
    disk.create(os.path.join(path, name), text + octets, 0o666, _format(path))
    return Segment(name, frames, len(text) + len(octets))


def generation(name: str) -> int:
    """Return the generation in the name of a segment."""
    return int(name.split(".")[1])


def write_list(path: str, head: Head, segments: list[Segment]) -> Head:
    """Write the list of these segments, unless it is the one that `head` names; return the head with its name."""
    listing = "".join(segment.line() for segment in segments).encode()
    if digest(listing) != head.digest:
        head = head._replace(list=head.list + 1, digest=digest(listing))
        disk.replace(os.path.join(path, f"segments.{head.list}"), listing, _format(path))
    return head


def write_head(path: str, head: Head, before: Head | None) -> None:
    """Replace the head `before` by `head`, which readers then see. All that it names must be on disk.

    It is on disk as `head.next` before any reader sees it as `head`: what a
    reader has seen, a power cut cannot take back (see `_finish_head`).
    """
    for name in ("head.next", "head"):
        disk.replace(os.path.join(path, name), head.text(), _format(path))
    if before and head.list > before.list > 0:
        # The list that `before` names stays, for a reader that has just read that head.
        with suppress(OSError):  # the append is on disk, and an old list does no harm
            os.unlink(os.path.join(path, f"segments.{before.list - 1}"))


def _finish_head(path: str) -> None:
    """Show the head that is on disk as `head.next` and that a power cut has kept from being `head`."""
    try:
        heads = []
        for name in ("head", "head.next"):
            with disk.open_plain(os.path.join(path, name)) as file:
                heads.append(Head.parse(file.read(), name))
    except (OSError, DataError):
        return  # a new spool has no head.next; cspool-fsck looks at damage
    head, following = heads
    if head.spool == following.spool and (head.next, head.list) < (following.next, following.list):
        disk.replace(os.path.join(path, "head"), following.text(), _format(path))


def _format(path: str) -> str:
    """Return the file whose mode and owner those of the other files follow."""
    return os.path.join(path, "format")


class Writer:
    """One append under the lock: frames into the last segment, or into new ones."""

    def __init__(
        self,
        path: str,
        head: Head,
        segments: list[Segment],
        rotate: int = ROTATE,
        stated: int = 0,
        checkpoint: int = 0,
    ) -> None:
        """Begin an append.

        `stated` and `checkpoint` are the last number that it states and its
        number of records if it is a checkpoint, which has segments of its own.
        """
        self.path = path
        self.before = head
        self.next, self.chain = head.next, head.chain
        self.segments = segments
        self.rotate = rotate
        self.stated, self.checkpoint = stated, checkpoint
        self.fd = -1
        self.created: list[str] = []  # names of segments that no head names yet
        self.length = head.length  # octets of the last segment
        if segments:
            fd, size = self._open_last(head.segment)
            if size < head.length:
                os.close(fd)
                raise TryAgain(f"{self._file(head.segment)}: shorter than it was: the spool is damaged")
            if fd >= 0 and size == head.length < rotate and head.next > head.checkpoint_end + 1 and not checkpoint:
                self.fd = fd
            else:
                # It is another user's, or full, or has unacknowledged octets after its end, or a checkpoint begins or
                # ends there.
                if fd >= 0:
                    os.close(fd)
                self._close_segment()

    def _open_last(self, name: str) -> tuple[int, int]:
        """Return a descriptor and the size of the last segment; -1 for the first where it is not ours to write to."""
        try:
            fd = os.open(self._file(name), os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK)
        except PermissionError:
            return -1, os.stat(self._file(name), follow_symlinks=False).st_size
        return fd, os.fstat(fd).st_size

    def write(self, record: bytes) -> None:
        if self.fd < 0 or self.length >= self.rotate:
            self._new_segment()
        self._write(frame.encode(record, self.next, self.chain))
        self.chain = frame.next_chain(self.chain, self.next, record)
        self.next += 1

    def commit(self) -> None:
        """Sync the new frames, then replace `head`, so that readers see them."""
        if self.next == self.before.next:
            return
        disk.sync(self.fd, self.path)
        head = self.before._replace(
            next=self.next, chain=self.chain, segment=self.segments[-1].name, length=self.length
        )
        if self.checkpoint:
            head = head._replace(stated=self.stated, checkpoint_first=self.before.next, checkpoint_end=self.next - 1)
        head = write_list(self.path, head, self.segments)
        self.created = []
        write_head(self.path, head, self.before)

    def close(self) -> None:
        """Close the segment, and remove those that a failed append has created."""
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
                continue  # left by an append that was killed; no head names it
        self.created.append(name)
        disk.imitate(self.fd, _format(self.path))
        self.length = 0
        self.segments.append(Segment(name, None, None))
        checkpoint = (self.stated, self.checkpoint) if self.next == self.before.next else (0, 0)
        self._write(Header(self.before.spool, self.next, self.chain, generation, *checkpoint).text())

    def _close_segment(self) -> None:
        last = self.segments[-1]
        if self.next == last.first:  # it is empty, and the new one begins with the same number
            self.segments.pop()
            return
        self.segments[-1] = Segment(last.name, self.next - last.first, self.length)

    def _write(self, octets: bytes) -> None:
        disk.write(self.fd, octets, self.path)
        self.length += len(octets)

    def _file(self, name: str) -> str:
        return os.path.join(self.path, name)
