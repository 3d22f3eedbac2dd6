"""The files of a spool, as cspool-spool(5) defines them, and reading the log in them.

Words in the text files are separated by one space, numbers are decimal, and ids
and hashes are in lower-case hex. Frames are binary: see frame.py. Offsets and
lengths are in octets from the start of a file.
"""

import hashlib
import os
import re
import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple, Protocol

from .. import disk, frame
from ..errors import DataError, TryAgain

VERSION = "3"  # of the spool: in 1, dropped records left no hash; in 2, a checkpoint stood behind what it states
CHECKPOINT_LATEST = 1 << 16  # records after the last that it states, among which a checkpoint must stand
PIECE = 1 << 20  # octets copied at a time
LIST = re.compile(r"segments\.(\d{1,19})")  # names of the files of a spool
LOG = re.compile(r"\d{20}\.\d{1,9}\.log")


class Head(NamedTuple):
    """The file `head`: how far the log may be read."""

    spool: bytes  # id of the spool, 16 octets
    next: int  # the number that the next record will get
    chain: bytes  # h(next - 1), 32 octets
    first: int  # no record from this number on is missing
    segment: str  # name of the last segment, "-" if there is none
    length: int  # octets of it that are part of the log, and synced
    list: int  # the segments are listed in the file `segments.<list>`
    digest: bytes  # BLAKE2b-256 of that file
    stated: int = 0  # the checkpoint states the log up to this number; records up to it may have been dropped
    checkpoint_first: int = 0  # numbers of the first and the last record of the checkpoint; 0 and 0 for none
    checkpoint_end: int = 0

    def text(self) -> bytes:
        """Return the contents of the file."""
        return (
            f"cspool-head 2\nspool {self.spool.hex()}\nnext {self.next}\nchain {self.chain.hex()}\n"
            f"first {self.first}\ncheckpoint {self.stated} {self.checkpoint_first} {self.checkpoint_end}\n"
            f"segment {self.segment} {self.length}\nsegments {self.list} {self.digest.hex()}\n"
        ).encode()

    @classmethod
    def parse(cls, text: bytes, where: str) -> "Head":
        """Return the head in `text`. Raises DataError, which names `where`, when it is not one."""
        try:
            lines = [line.split(" ") for line in text.decode("ascii").splitlines()]
            values = {line[0]: line[1:] for line in lines}
            head = cls(
                bytes.fromhex(values["spool"][0]),
                _count(values["next"][0]),
                bytes.fromhex(values["chain"][0]),
                _count(values["first"][0]),
                values["segment"][0],
                _count(values["segment"][1]),
                _count(values["segments"][0]),
                bytes.fromhex(values["segments"][1]),
                _count(values["checkpoint"][0]),
                _count(values["checkpoint"][1]),
                _count(values["checkpoint"][2]),
            )
        except (ValueError, KeyError, IndexError):
            raise DataError(f"{where}: not a head of a spool, or damaged") from None
        sizes = (len(head.spool), len(head.chain), len(head.digest)) == (16, 32, 32)
        checkpoint = (head.stated, head.checkpoint_first, head.checkpoint_end)
        is_checkpoint = checkpoint == (0, 0, 0) or head.stated < head.checkpoint_first < head.checkpoint_end < head.next
        order = is_checkpoint and 0 < head.first <= head.next <= frame.NUMBER_MAX
        segment = head.segment == "-" or LOG.fullmatch(head.segment)
        # A head has exactly one text. So a line that we do not know is an error, and is not ignored.
        if head.text() != text or not (sizes and order and segment):
            raise DataError(f"{where}: not a head of a spool, or damaged")
        return head


class Header(NamedTuple):
    """The first line of a segment."""

    spool: bytes
    first: int  # no frame in the segment has a lower number
    chain: bytes  # h(first - 1)
    generation: int  # distinguishes segments with the same `first`
    stated: int  # the segment begins with a checkpoint that states the log up to this number; 0 and 0 for none
    checkpoint: int  # number of records of that checkpoint

    def text(self) -> bytes:
        """Return the line, with its line end."""
        return (
            f"cspool-segment 2 {self.spool.hex()} {self.first} {self.chain.hex()} {self.generation}"
            f" {self.stated} {self.checkpoint}\n"
        ).encode()

    @classmethod
    def parse(cls, line: bytes) -> "Header | None":
        """Return the header in a line with its line end, or None if it is not one."""
        try:
            _, _, spool, first, chain, *counts = line.decode("ascii").removesuffix("\n").split(" ")
            header = cls(bytes.fromhex(spool), _count(first), bytes.fromhex(chain), *map(_count, counts))
        except (ValueError, TypeError):
            return None
        # It has no checksum, and cspool-fsck may have to believe it.
        return header if header.text() == line and header.stated < max(1, header.first) else None


class Segment(NamedTuple):
    """A line of a list of segments. Count and length are None for the last segment, which still grows."""

    name: str
    frames: int | None  # count
    length: int | None  # octets, with the header line

    @property
    def first(self) -> int:
        """The number of its first record, which may have been dropped since: its hash is there."""
        return int(self.name.split(".")[0])

    def line(self) -> str:
        """Return the line, with its line end."""
        return f"{self.name} {_number(self.frames)} {_number(self.length)}\n"


def parse_list(text: bytes, where: str, expected: bytes | None = None) -> list[Segment]:
    """Return the segments in a list, in order; `expected` is the digest in the head.

    Raises DataError, which names `where`, when it is not a list, or not the expected one.
    """
    try:
        rows = [line.split(" ") for line in text.decode("ascii").splitlines()]
        segments = [Segment(name, *(None if n == "-" else _count(n) for n in numbers)) for name, *numbers in rows]
        firsts = [segment.first for segment in segments if LOG.fullmatch(segment.name)]
        grows = [segment.frames is None for segment in segments if (segment.frames is None) == (segment.length is None)]
        sound = len(firsts) == len(segments) and all(a < b for a, b in pairwise([0, *firsts]))
        sound = sound and grows == [False] * (len(segments) - 1) + [True] * len(segments[-1:])
        sound = sound and "".join(segment.line() for segment in segments).encode() == text
    except (TypeError, ValueError):
        sound = False
    if not sound or expected not in (None, digest(text)):
        raise DataError(f"{where}: damaged")
    return segments


def _count(text: str) -> int:
    """Return a number in a file of a spool, which SQLite can keep too. Raises ValueError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 19) or int(text) >= 2**63:
        raise ValueError
    return int(text)


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


class Files(Protocol):
    """Access to the files of a spool. `where` is the spool's name in messages."""

    where: str

    def read(self, name: str, wait: int = 0) -> bytes:
        """Return the contents of a file.

        A server may wait up to `wait` seconds before it answers that the file
        has not changed. Raises FileNotFoundError, and OSError or TryAgain for
        other failures.
        """

    def pieces(self, name: str, start: int, end: int) -> Iterator[bytes]:
        """Yield the octets of a file from `start` to `end`. Raises as `read`, and TryAgain if the file is shorter."""


class SpoolDirectory:
    """The files of a spool in a local directory; `id` is its id in hex. Raises TryAgain if `path` is not a spool."""

    def __init__(self, path: str) -> None:
        self.where = path
        try:
            words = self.read("format").decode("ascii", "replace").split()
        except (FileNotFoundError, NotADirectoryError):
            raise TryAgain(f"{path}: no spool here (no file 'format' in it)") from None
        if words[:2] != ["cspool-spool", VERSION] or len(words) != 3:
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
    """Reads a log. `count` is the number of frames that `frames` has yielded in all, valid after an iterator's end."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.count = 0

    def head(self, wait: int = 0) -> Head:
        """Return the head; `wait` is as in `Files.read`. Raises TryAgain, and OSError."""
        try:
            return Head.parse(self.files.read("head", wait), f"{self.files.where}/head")
        except FileNotFoundError:
            raise TryAgain(f"{self.files.where}: no spool here (no file 'head' in it)") from None
        except DataError as error:
            raise TryAgain(str(error)) from None  # so that a mail server keeps the mail until it is repaired

    def frames(self, after: int, position: frame.Position | None = None) -> tuple[Head, Iterator[bytes]]:
        """Return the head, and an iterator over the octets of all frames that it covers with numbers above `after`.

        The order is that of READING in cspool-spool(5): if the checkpoint
        states more than `after`, its frames come first, and again in their place. `position` is where
        the caller expects the frame `after` + 1; if it is right, nothing before
        it is read. Raises TryAgain, also while the frames are read.
        """
        for _ in range(100):
            head = self.head()
            if head.next - 1 <= after:
                return head, iter(())
            try:
                return head, self._frames(head, self.segments(head), after, position)
            except FileNotFoundError:
                continue  # the list has been removed by appends since the head was read
        raise TryAgain(f"{self.files.where}: damaged (no list of segments)")

    def segments(self, head: Head) -> list[Segment]:
        """Return the segments that `head` names, in order. Raises FileNotFoundError, or TryAgain for a damaged list."""
        name = f"segments.{head.list}"
        try:
            segments = parse_list(self.files.read(name), f"{self.files.where}/{name}", head.digest)
        except DataError as error:
            raise TryAgain(str(error)) from None
        if [segment.name for segment in segments[-1:]] != [head.segment][: head.segment != "-"]:
            raise TryAgain(f"{self.files.where}/{name}: damaged: it ends with another segment than the head")
        return segments

    def _frames(
        self, head: Head, segments: list[Segment], after: int, position: frame.Position | None
    ) -> Iterator[bytes]:
        wanted = _segments_after(after, head, segments)
        if after < head.stated:
            # A reader must have the checkpoint, which has segments of its own, before what it keeps of the log.
            wanted = [one for one in wanted if head.checkpoint_first <= one.first <= head.checkpoint_end] + wanted
            position = None
        for segment in wanted:
            try:
                octets, count = self._open_after(after, head, segment, position)
                self.count += count
                yield from octets
            except (FileNotFoundError, struct.error):
                raise TryAgain(f"{self.files.where}/{segment.name}: missing or damaged") from None

    def _open_after(
        self, after: int, head: Head, segment: Segment, position: frame.Position | None
    ) -> tuple["_SegmentOctets", int]:
        """Return the octets of a segment from its first frame numbered above `after` on, and the count of frames."""
        length = head.length if segment.length is None else segment.length
        # The list has the counts, since a frame can stand for many dropped records. The last segment has none of those.
        count = head.next - segment.first if segment.frames is None else segment.frames
        if position and position.segment == segment.name and 0 < position.offset < length:
            octets = _SegmentOctets(self.files.pieces(segment.name, position.offset, length))
            if octets.next_number() == after + 1:
                return octets, count - (after + 1 - segment.first)
            # This is not the log that the caller has read. It will notice that by the chain, so it gets the frames.
        octets = _SegmentOctets(self.files.pieces(segment.name, 0, length))
        octets.skip_line()
        return octets, count - octets.skip_frames(after)


def _segments_after(after: int, head: Head, segments: list[Segment]) -> list[Segment]:
    """Return the segments that can have frames numbered above `after`, in order."""
    ends = [segment.first for segment in segments[1:]] + [head.next]  # a log without segments has an end too
    return [segment for segment, end in zip(segments, ends, strict=False) if end - 1 > after]


class _SegmentOctets:
    """The octets of a segment, which come in pieces. The first can be skipped; iterating yields the rest."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._octets = b""

    def peek(self, length: int) -> bytes:
        """Return the next `length` octets without consuming them, or fewer at the end."""
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

    def skip_line(self) -> None:
        self.skip(self.peek(512).find(b"\n") + 1)

    def next_number(self) -> int | None:
        """Return the number of the next frame, or None if no whole header is left."""
        header = self.peek(frame.HEADER_SIZE)
        return int(frame.HEADER.unpack(header)[2]) if len(header) == frame.HEADER_SIZE else None

    def skip_frames(self, after: int) -> int:
        """Skip the frames up to number `after`, and return their count. Raises struct.error for a cut header."""
        count = 0
        while header := self.peek(frame.HEADER_SIZE):
            length, _, number, _ = frame.HEADER.unpack(header)
            if frame.covered(number, length).stop - 1 > after:
                break
            self.skip(frame.HEADER_SIZE + length)
            count += 1
        return count

    def __iter__(self) -> Iterator[bytes]:
        if self._octets:
            yield self._octets
        yield from self._pieces


def format_of(spool: bytes) -> bytes:
    """Return the contents of the file `format` of the spool with this id."""
    return f"cspool-spool {VERSION} {spool.hex()}\n".encode()


def digest(text: bytes) -> bytes:
    """Return the digest in a head of the list of segments `text`."""
    return hashlib.blake2b(text, digest_size=32).digest()
