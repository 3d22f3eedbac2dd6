"""Checking a spool without trusting anything in it, and repairing it from its sound parts: for cspool-fsck.

A frame is sound if scan.py finds it whole, and if the chain in the next frame,
or in `head`, confirms its record. A repair replaces `head`, and `format` if
that is damaged. No segment is removed or overwritten.
"""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from .. import disk, frame
from ..errors import DataError
from . import append, files, scan
from .append import generation
from .files import LIST, LOG, VERSION, Head, Header, Segment, digest, parse_list
from .scan import Mapped, WholeFrame


class Run(NamedTuple):
    """Consecutive sound frames of a segment, without damage between them."""

    segment: int  # its index in the list
    first: WholeFrame
    last: WholeFrame
    frames: int


class Checkpoint(NamedTuple):
    """The last number that a checkpoint states, and those of its first and last record; zeros for none."""

    stated: int
    first: int
    end: int

    @property
    def records(self) -> int:
        """The number of its records."""
        return self.end - self.first + 1 if self.end else 0


NO_CHECKPOINT = Checkpoint(0, 0, 0)


class SpoolCheck:
    """What is in the spool at `path`, and what is wrong with it. Raises DataError if the id of the spool is lost.

    `problems` has a line for each. `head` (None if it is lost) and `segments`
    are corrected as far as the rest of the spool tells what they must be.
    """

    def __init__(self, path: str, head: str = "head") -> None:
        self.path = path
        self.head_name = head
        self.problems: list[str] = []
        self._check_rights()
        self.head = self._read_head()
        self.id = self._read_id()
        self.segments = self._read_list()
        self.checkpoint = self._find_checkpoint()
        self.damaged: dict[int, str] = {}  # why a segment cannot stay as it is, by its index
        self.counts: Counter[int] = Counter()  # sound frames, by index of their segment
        self.checkpoint_frames = 0  # sound records of the checkpoint
        self.runs: list[Run] = []
        self.lost: list[range] = []  # numbers without a sound frame, except those that the head gives up
        self._read_frames()
        for index, reason in self.damaged.items():
            self._say(f"{self.segments[index].name}: {reason}")
        if self.checkpoint_frames < self.checkpoint.records:
            name = frame.records(self.checkpoint.first, self.checkpoint.end)
            # No repair can mend this.
            self._say(f"the checkpoint in {name}: damaged: make another, on a machine that is up to date")

    def lost_records(self) -> list[str]:
        """Return the names of the lost records in messages."""
        return [span(numbers) for numbers in self.lost]

    def _say(self, problem: str) -> None:
        self.problems.append(problem)

    # The small files

    def read(self, name: str) -> bytes:
        """Return the contents of a small file, or nothing if it cannot be read."""
        with suppress(OSError), disk.open_plain(os.path.join(self.path, name)) as file:
            return file.read()
        return b""

    def _check_rights(self) -> None:
        owner = os.stat(self.path).st_uid
        for entry in [*os.scandir(self.path)]:
            status = entry.stat(follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                self._say(f"{entry.name}: not a plain file")
            elif status.st_uid != owner:
                self._say(f"{entry.name}: belongs to another user than the directory")
            elif status.st_mode & stat.S_IWOTH:
                self._say(f"{entry.name}: others may write to it")
        if os.stat(self.path).st_mode & stat.S_IWOTH:
            self._say("others may write to the directory")

    def _read_head(self) -> Head | None:
        try:
            return Head.parse(self.read(self.head_name), self.head_name)
        except DataError:
            self._say(f"{self.head_name}: missing or damaged")
            return None

    def _read_id(self) -> bytes:
        words = self.read("format").decode("ascii", "replace").split()
        given = words[2] if words[:2] == ["cspool-spool", VERSION] and len(words) == 3 else None
        if given and self.head and given != self.head.spool.hex() and self._all_segments_are_of(given):
            self._say("head: belongs to another spool")
            self.head = self.head._replace(spool=bytes.fromhex(given))
        elif not given or (self.head and given != self.head.spool.hex()):
            self._say("format: missing, damaged, or of another spool")
        if self.head:
            return self.head.spool
        if given:
            return bytes.fromhex(given)
        raise DataError(f"{self.path}: no spool here, or both format and head are lost")

    def _all_segments_are_of(self, spool: str) -> bool:
        headers = [self._header(name) for name in filter(LOG.fullmatch, os.listdir(self.path))]
        return {header.spool.hex() for header in headers if header} == {spool}

    def _header(self, name: str) -> Header | None:
        with suppress(OSError, ValueError), scan.mapped(os.path.join(self.path, name)) as octets:
            return scan.header(octets)[0]
        return None

    def _read_list(self) -> list[Segment]:
        """Return the segments in the list that head names, or else those that older lists and the file names tell."""
        if self.head:
            name = f"segments.{self.head.list}"
            with suppress(DataError):
                segments = parse_list(self.read(name), name, self.head.digest)
                last = segments[-1].name if segments else "-"
                if last != self.head.segment:
                    self._say("head: names another last segment than the list")
                    self.head = self.head._replace(segment=last)
                return segments
            with suppress(DataError):
                newer = Head.parse(self.read(self.head_name), self.head_name)
                if newer != self.head:  # appends have replaced it since, and removed the list
                    self.head = newer
                    return self._read_list()
            self._say(f"{name}: missing or damaged")
        return self._guess_list()

    def _guess_list(self) -> list[Segment]:
        """Return the segments of the newest list that is whole, and after them the later ones, which are in no list."""
        names = os.listdir(self.path)
        listed: dict[int, str] = {}
        for number in sorted((int(found[1]) for found in map(LIST.fullmatch, names) if found), reverse=True):
            with suppress(DataError):
                old = [one.name for one in parse_list(self.read(f"segments.{number}"), "list")]
                if set(old) <= set(filter(LOG.fullmatch, names)):
                    listed = {int(name[:20]): name for name in old}
                    break
        last = max(listed, default=0)
        # If several have the same first number, the last generation counts.
        newer = [name for name in sorted(filter(LOG.fullmatch, names), key=generation) if int(name[:20]) > last]
        listed |= {int(name[:20]): name for name in newer}
        return [Segment(listed[first], None, None) for first in sorted(listed)]

    def _find_checkpoint(self) -> Checkpoint:
        """Return the checkpoint that head names. If that is not there, correct head by the headers of the segments."""
        if not self.head:
            return self._last_checkpoint()
        if self.head.checkpoint_end and not self._has_checkpoint(self.head):
            found = self._last_checkpoint()
            if 0 < found.end < self.head.next:  # else the one that head names has been lost
                self._say("head: names a checkpoint that is not there")
                self.head = self.head._replace(
                    stated=found.stated, checkpoint_first=found.first, checkpoint_end=found.end
                )
        return _named(self.head)

    def _has_checkpoint(self, head: Head) -> bool:
        """Return whether the segments do not deny that the checkpoint is where `head` says.

        A checkpoint begins a segment and ends one. That decides if `head` and
        the header of the segment, which have no checksum, disagree.
        """
        ends = [segment.first - 1 for segment in self.segments] + [head.next - 1]
        for segment in self.segments:
            if segment.first == head.checkpoint_first:
                header = self._header(segment.name)
                said = _begun(header) if header else NO_CHECKPOINT
                agree = not header or said[1:] == _named(head)[1:]
                if agree and header and said.stated >= self._dropped() > head.stated:
                    return False  # what was dropped tells which of the two is right
                return agree or (head.checkpoint_end in ends and said.end not in ends)
        return False

    def _dropped(self) -> int:
        """Return the number of the last record that was dropped, as far as the headers of frames tell; 0 for none."""
        last = 0
        for segment in self.segments:
            with suppress(OSError, ValueError, DataError), scan.mapped(os.path.join(self.path, segment.name)) as octets:
                for found in scan.spans(octets, segment.length or len(octets)):
                    last = max(last, found.numbers.stop - 1) if found.is_dropped else last
        return last

    def _last_checkpoint(self) -> Checkpoint:
        """Return the last checkpoint that the header of a segment names and whose records are there."""
        for segment in reversed(self.segments):
            header = self._header(segment.name)
            if header and header.checkpoint and self._is_there(_begun(header)):
                return _begun(header)
        return NO_CHECKPOINT

    def _is_there(self, checkpoint: Checkpoint) -> bool:
        """Return whether all records of a checkpoint are there, by the headers of frames: an append may have died."""
        found = set()
        for segment in self.segments:
            if checkpoint.first <= segment.first <= checkpoint.end:
                path = os.path.join(self.path, segment.name)
                with suppress(OSError, ValueError, DataError), scan.mapped(path) as octets:
                    for span in scan.spans(octets, len(octets)):
                        found.add(span.numbers.start)
        return found >= set(range(checkpoint.first, checkpoint.end + 1))

    # The frames

    def _read_frames(self) -> None:
        """Fill counts, runs and lost."""
        expected = 1
        for index, found in self._sound():
            self._note_gap(range(expected, found.number))
            last = self.runs[-1] if self.runs else None
            if last and last.segment == index and last.last.end == found.start:
                self.runs[-1] = last._replace(last=found, frames=last.frames + 1)
            else:
                self.runs.append(Run(index, found, found, 1))
            expected = found.last + 1
            self.counts[index] += 1
            self.checkpoint_frames += self.checkpoint.first <= found.number <= self.checkpoint.end
        if self.head:
            self._note_gap(range(expected, self.head.next))

    def _note_gap(self, gap: range) -> None:
        """Note that these numbers have no sound frame, except those that the head gives up."""
        given_up = self.head.first if self.head else 1
        gap = range(max(gap.start, given_up), gap.stop)
        if gap:
            self._say(f"{span(gap)}: damaged or missing")
            self.lost.append(gap)

    def _sound(self) -> Iterator[tuple[int, WholeFrame]]:
        """Yield (index of its segment, frame) for each frame whose record the next chain confirms."""
        before: tuple[int, WholeFrame] | None = None  # not yet confirmed by the next frame
        for index, found in self._whole():
            if found.number == 1 and found.chain != frame.first_chain(self.id):
                self.damaged[index] = "of another log"
            elif before is None or found.number != before[1].last + 1 or found.chain == before[1].after:
                if before:
                    yield before
                before = index, found
            elif self.head:  # one of the two is not of this log; the later one leads to the end that head names
                self.damaged[before[0]] = "altered"
                before = index, found
            else:
                self.damaged[index] = "altered"
        if before:
            self._check_end(before[1])
            yield before

    def _check_end(self, last: WholeFrame) -> None:
        """Correct the chain in head by the last frame if they differ: the frame has a checksum, and head has none."""
        if self.head and last.last == self.head.next - 1 and last.after != self.head.chain:
            self._say("head: its chain is not that of the last record")
            self.head = self.head._replace(chain=last.after)

    def _whole(self) -> Iterator[tuple[int, WholeFrame]]:
        """Yield (index of its segment, frame) for each frame with a good checksum, in the order of numbers."""
        expected, stop = 1, self.head.next if self.head else frame.HEAD_NUMBER
        chain = frame.first_chain(self.id)  # before the record that is expected
        for index, segment in enumerate(self.segments):
            following = self.segments[index + 1].first if index + 1 < len(self.segments) else stop
            after = self._chain_at_end(index)
            try:
                with scan.mapped(os.path.join(self.path, segment.name)) as octets:
                    for found in self._whole_of(index, octets, range(expected, following), chain, after):
                        expected, chain = found.last + 1, found.after
                        yield index, found
            except (OSError, ValueError):
                self.damaged[index] = "missing, or cannot be read"

    def _chain_at_end(self, index: int) -> bytes | None:
        """Return the chain at the end of a segment, as the next one or the head has it; None if it is not known."""
        if index + 1 < len(self.segments):
            header = self._header(self.segments[index + 1].name)
            return header.chain if header else None
        return self.head.chain if self.head else None

    def _whole_of(
        self, index: int, octets: Mapped, numbers: range, before: bytes, after: bytes | None
    ) -> Iterator[WholeFrame]:
        segment = self.segments[index]
        length = self.head.length if self.head and segment.name == self.head.segment else segment.length
        header, position = scan.header(octets)
        begun = self.checkpoint if segment.first == self.checkpoint.first else NO_CHECKPOINT

        is_right = header and (header[:2] == (self.id, segment.first)) and (not begun.end or _begun(header) == begun)
        if not is_right:
            self.damaged[index] = "its header is damaged"
        if length is not None and length > len(octets):
            self.damaged[index] = "shorter than it was"
        end = min(length or len(octets), len(octets))
        for found in scan.frames(octets, position, end, numbers, before, after):
            if found.start != position:
                self.damaged.setdefault(index, "damaged")
            position = found.end
            yield found
        if position != end and length is not None:  # else nothing says where it ended
            self.damaged.setdefault(index, "damaged")


def _named(head: Head) -> Checkpoint:
    """Return the checkpoint that a head names."""
    return Checkpoint(head.stated, head.checkpoint_first, head.checkpoint_end)


def _begun(header: Header) -> Checkpoint:
    """Return the checkpoint that a segment begins with, as its header says."""
    if not header.checkpoint:
        return NO_CHECKPOINT
    return Checkpoint(header.stated, header.first, header.first + header.checkpoint - 1)


def check(path: str) -> SpoolCheck:
    """Return what is in a spool by its head, or by `head.next`, the same text, if less is lost by that."""
    found = SpoolCheck(path)
    if found.problems and found.read("head.next") not in (b"", found.read("head")):
        other = SpoolCheck(path, "head.next")
        if not other.problems or sum(map(len, other.lost)) < sum(map(len, found.lost)):
            other.problems.insert(0, "head: damaged: head.next is better")
            return other
    return found


def span(numbers: range) -> str:
    """Return the name of a range of records in messages."""
    return frame.records(numbers.start, numbers.stop - 1)


def repair(check: SpoolCheck) -> list[str]:
    """Make a sound spool of the sound parts; return the names of the damaged segments, which are kept.

    The sound frames of a damaged segment are written to new segments. A new
    list and a new head name what is sound. A reader sees either the old spool
    or the new one. The caller holds the lock.
    """
    path, head = check.path, check.head
    form = files.format_of(check.id)
    if check.read("format") != form:  # first, for new files have its mode and owner
        disk.replace(os.path.join(path, "format"), form, path)
    rows = [row for index in range(len(check.segments)) for row in _rows(check, index)]
    last = check.runs[-1].last if check.runs else None
    found = (last.last + 1, last.after) if last else (1, frame.first_chain(check.id))
    next_, chain = (head.next, head.chain) if head else found
    if next_ > found[0] or (rows and rows[-1].frames != next_ - rows[-1].first):
        # For new records: readers take the last segment for one without gaps and without dropped records.
        rows.append(_new_segment(check, next_, chain, 0, b""))
    segment = rows[-1] if rows else Segment("-", 0, 0)
    rows[-1:] = [Segment(segment.name, None, None)] * len(rows[-1:])
    text = "".join(row.line() for row in rows).encode()
    number = 1 + max(int(old[1]) for old in map(LIST.fullmatch, ["segments.0", *os.listdir(path)]) if old)
    checkpoint = check.checkpoint if check.checkpoint.end < next_ else NO_CHECKPOINT
    first = max([head.first if head else 1, *(lost.stop for lost in check.lost)])
    disk.replace(os.path.join(path, f"segments.{number}"), text, os.path.join(path, "format"))
    new = Head(
        check.id, next_, chain, first, segment.name, segment.length or 0, number, digest(text), *checkpoint
    )  # fmt: skip
    append.write_head(path, new, None)
    names = [check.segments[index].name for index in sorted(check.damaged)]
    return [name for name in names if os.path.exists(os.path.join(path, name))]


def _rows(check: SpoolCheck, index: int) -> Iterator[Segment]:
    """Yield the rows for a segment in the new list: a damaged one is replaced by a new one for each run."""
    path = os.path.join(check.path, check.segments[index].name)
    for _, first, last, frames in (run for run in check.runs if run.segment == index):
        if index in check.damaged:
            with scan.mapped(path) as octets:
                yield _new_segment(check, first.number, first.chain, frames, octets[first.start : last.end])
        else:
            disk.sync_file(path)
            yield Segment(check.segments[index].name, frames, last.end)


def _new_segment(check: SpoolCheck, first: int, chain: bytes, frames: int, octets: bytes) -> Segment:
    """Write a new segment, whose header names the checkpoint if that begins there."""
    begun = (check.checkpoint.stated, check.checkpoint.records) if first == check.checkpoint.first else (0, 0)
    return append.new_segment(check.path, Header(check.id, first, chain, 0, *begun), frames, octets)
