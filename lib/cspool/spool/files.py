"""The files of a spool, and reading the log in them. cspool-spool(5) is the definition.

Only `append.py` and `compact.py` write.
"""

import hashlib
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from .. import disk, frame
from ..errors import DataError, TryAgain

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
    stated: int = 0  # a checkpoint states the log up to this record; up to it, records may be gone
    checkpoint_end: int = 0  # the number of its last record; the first is behind `stated`

    def text(self) -> bytes:
        """Return the head as the octets of its file."""
        return (
            f"cspool-head 1\nspool {self.spool.hex()}\nnext {self.next}\nchain {self.chain.hex()}\n"
            f"first {self.first}\ncheckpoint {self.stated} {self.checkpoint_end}\n"
            f"segment {self.segment} {self.length}\nsegments {self.list} {self.digest.hex()}\n"
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
                int(values["checkpoint"][0]),
                int(values["checkpoint"][1]),
            )
        except (ValueError, KeyError, IndexError):
            raise DataError(f"{where}: not a head of a spool, or damaged") from None
        # One head has one text, so nothing that we do not understand is passed over.
        sound = len(head.spool) == 16 and 0 <= head.stated <= head.checkpoint_end < head.next < frame.HEAD_NUMBER
        if head.text() != text or not sound or not head.stated < head.first <= head.next:
            raise DataError(f"{where}: not a head of a spool, or damaged")
        return head


class Header(NamedTuple):
    """The first line of a segment."""

    spool: bytes
    first: int  # no frame in the segment has a number below
    chain: bytes  # h(first - 1)
    generation: int
    checkpoint: int  # the segment begins with a checkpoint of so many records

    def text(self) -> bytes:
        """Return the line as octets."""
        return (
            f"cspool-segment 1 {self.spool.hex()} {self.first} {self.chain.hex()} {self.generation} {self.checkpoint}\n"
        ).encode()

    @classmethod
    def parse(cls, line: bytes) -> "Header | None":
        """Return the header that a line with its end is, or None where it is none."""
        try:
            _, _, spool, first, chain, generation, checkpoint = line.decode("ascii").split(" ")
            header = cls(bytes.fromhex(spool), int(first), bytes.fromhex(chain), int(generation), int(checkpoint))
        except ValueError:
            return None
        return header if header.text() == line else None


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


class Files(Protocol):
    """Where the files of a spool can be read. `where` names it for messages."""

    where: str

    def read(self, name: str, wait: int = 0) -> bytes:
        """Return a file; if it is the same as before and that costs less than asking often, after `wait` seconds.

        Raises FileNotFoundError, and TryAgain for whatever else may pass.
        """

    def pieces(self, name: str, start: int, end: int) -> Iterator[bytes]:
        """Yield the octets of a file from `start` to `end`. Raises as `read`, and TryAgain where some are missing."""


class SpoolDirectory:
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

    def frames(self, after: int, place: frame.Position | None = None) -> tuple[Head, Iterator[bytes]]:
        """Return the head, and as octets all frames it covers that are numbered above `after`.

        Where a checkpoint states more than that, its frames come first.
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

    def _frames(self, head: Head, segments: list[Segment], after: int, place: frame.Position | None) -> Iterator[bytes]:
        ends = [segment.first for segment in segments[1:]] + [head.next]
        places = list(zip(segments, ends, strict=False))  # an empty log has an end too
        if after < head.stated:
            # What the checkpoint says is to be known before the records that it keeps. It has segments of its own.
            place = None
            places.sort(key=lambda one: (not head.stated < one[0].first <= head.checkpoint_end, one[0].first))
        for segment, end in places:
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


def digest(text: bytes) -> bytes:
    """Return what a head says of a list of segments."""
    return hashlib.blake2b(text, digest_size=32).digest()
