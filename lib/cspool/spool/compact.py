"""Compacting the log of a spool, for cspool-compact: see COMPACTING in cspool-spool(5). It needs no key.

A checkpoint comes with a keep list: the numbers of the records that its state
needs. The checkpoint is appended. Then each earlier segment with enough garbage
is written anew with the records that are kept, as they are, and the hashes of
the others. Each of these steps ends when `head` is renamed. So a process that is
killed leaves a whole spool, and a run with the same or the next checkpoint does
the rest.
"""

import os
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import pairwise, zip_longest
from typing import NamedTuple

from .. import disk, frame
from ..errors import DataError, NotAllowed, TryAgain
from ..frame import Frame
from . import append, scan
from .append import Writer, locked, write_head, write_list
from .batch import Records
from .files import CHECKPOINT_LATEST, LIST, LOG, Head, Reader, Segment, SpoolDirectory
from .scan import Span

GARBAGE = 0.05  # share of the octets of a segment up to which it stays as it is
DAY = 86400


class Keep(NamedTuple):
    """A keep list: the numbers of the records to be kept, of those up to `number`."""

    spool: bytes
    number: int
    chain: bytes  # h(number)
    ranges: list[range]  # in order

    @classmethod
    def of(cls, spool: bytes, number: int, chain: bytes, numbers: Iterable[int]) -> "Keep":
        """Return the list of these numbers, which must rise."""
        ranges: list[range] = []
        for one in numbers:
            if ranges and ranges[-1].stop == one:
                ranges[-1] = range(ranges[-1].start, one + 1)
            else:
                ranges.append(range(one, one + 1))
        return cls(spool, number, chain, ranges)

    def text(self) -> bytes:
        """Return the list as it is sent with a checkpoint."""
        lines = [f"cspool-keep 1\nspool {self.spool.hex()}\nnumber {self.number}\nchain {self.chain.hex()}\n"]
        lines += [f"{one.start} {one.stop - 1}\n" for one in self.ranges]
        return "".join(lines).encode()

    @classmethod
    def parse(cls, text: bytes, where: str) -> "Keep":
        """Return the keep list in `text`. Raises DataError, which names `where`, when it is not one."""
        try:
            lines = [line.split(" ") for line in text.decode("ascii").splitlines()]
            values = [value for _, value in lines[:4]]
            ranges = [range(int(first), int(last) + 1) for first, last in lines[4:]]
            keep = cls(bytes.fromhex(values[1]), int(values[2]), bytes.fromhex(values[3]), ranges)
        except (ValueError, IndexError):
            raise DataError(f"{where}: not a keep list") from None
        ends = [0, *(end for one in ranges for end in (one.start, one.stop)), keep.number + 2]
        if keep.text() != text or any(a >= b for a, b in pairwise(ends)):
            raise DataError(f"{where}: not a keep list")
        return keep

    def holds(self, number: int) -> bool:
        """Return whether a record is to be kept: one that came after `number` always is."""
        if number > self.number:
            return True
        at = bisect_right(self.ranges, number, key=lambda one: one.start)
        return at > 0 and number in self.ranges[at - 1]


class Compaction:
    """One checkpoint with its keep list, for the spool at `path`. Raises TryAgain if that is not a spool.

    A segment that was replaced stays for at least `grace` seconds.
    """

    def __init__(self, path: str, keep: Keep, checkpoint: Records, grace: float) -> None:
        self.path = path
        self.keep = keep
        self.checkpoint = checkpoint
        self.grace = grace
        self.files = SpoolDirectory(path)
        self.reader = Reader(self.files)

    def run(self) -> None:
        """Append the checkpoint, drop the records that it does not keep, and return when that is on disk.

        A checkpoint older than the last is ignored, and so is a different one
        with the same number, which may keep other records. Raises NotAllowed
        for a checkpoint of another log, TryAgain if the log has grown too much
        since it was made, and DataError if a record is damaged, or one that it
        keeps is missing.
        """
        with locked(self.path):
            head = self.reader.head()
            if self.keep.spool != head.spool:
                raise NotAllowed(f"{self.path}: the checkpoint is of another spool")
            if self.keep.number >= head.stated:
                self._check_chain(head)
            is_in_log = self.keep.number == head.stated > 0 and self._is_in_log(head)
            if self.keep.number > head.stated:
                self._check_records(head)
                self._append(head)
                is_in_log = True
        if is_in_log:
            for segment in self._segments():
                if segment.first <= self.keep.number:
                    self._rewrite(segment.name)
        remove_old(self.path, self.grace)

    def _segments(self) -> list[Segment]:
        return self.reader.segments(self.reader.head())

    def _map(self, name: str) -> AbstractContextManager[scan.Mapped]:
        path = self.files.path(name)
        if not os.path.getsize(path):
            raise DataError(f"{path}: damaged: see cspool-fsck")
        return scan.mapped(path)

    def _is_in_log(self, head: Head) -> bool:
        """Return whether the checkpoint in the log is this one. Another one may keep records that this one drops."""
        pairs = zip_longest(self._logged_checkpoint(head), self.checkpoint)
        return all(logged and logged.record == record for logged, record in pairs)

    def _logged_checkpoint(self, head: Head) -> Iterator[Frame]:
        """Yield the frames of the checkpoint that is in the log."""
        for segment in self._segments():
            if not head.checkpoint_first <= segment.first <= head.checkpoint_end:
                continue
            with self._map(segment.name) as octets:
                for span in self._spans(octets, segment, head):
                    if span.numbers.start <= head.checkpoint_end:
                        yield _frame(octets, span)

    def _check_chain(self, head: Head) -> None:
        """Check that the checkpoint was made of this log: the next frame, or else the head, has the chain there."""
        next_ = self.keep.number + 1
        chain = head.chain if next_ == head.next else None
        for segment in [one for one in self._segments() if one.first <= next_][-1:]:
            with self._map(segment.name) as octets:
                for span in self._spans(octets, segment, head):
                    if span.numbers.start == next_:
                        chain = _frame(octets, span).chain
        if chain != self.keep.chain:
            raise NotAllowed(f"{self.path}: the checkpoint is of another log")

    def _check_records(self, head: Head) -> None:
        """Check that the log has all records that are to be kept, and has not gone on too far since."""
        if head.next - 1 + self.checkpoint.count - self.keep.number > CHECKPOINT_LATEST:
            raise TryAgain(f"{self.path}: the log has gone on too far since the checkpoint was made")
        found = 0
        for segment in self._segments():
            with self._map(segment.name) as octets:
                for span in self._spans(octets, segment, head):
                    first = span.numbers.start
                    found += not span.is_dropped and first <= self.keep.number and self.keep.holds(first)
        wanted = sum(map(len, self.keep.ranges))
        if found != wanted:
            raise DataError(f"{self.path}: {wanted - found:,} of the records to be kept are not here: see cspool-fsck")

    def _spans(self, octets: scan.Mapped, segment: Segment, head: Head) -> list[Span]:
        try:
            return list(scan.spans(octets, head.length if segment.length is None else segment.length))
        except DataError:
            raise DataError(f"{self.files.path(segment.name)}: damaged: see cspool-fsck") from None

    def _append(self, head: Head) -> None:
        log = Writer(self.path, head, self._segments(), stated=self.keep.number, checkpoint=self.checkpoint.count)
        try:
            for record in self.checkpoint:
                log.write(record)
            log.commit()
        finally:
            log.close()

    def _rewrite(self, name: str) -> None:
        """Write a segment anew if it has enough garbage."""
        with locked(self.path):
            head = self.reader.head()
            segments = self.reader.segments(head)
            index = next((n for n, one in enumerate(segments) if one.name == name), None)
            if index is None:
                return  # another cspool-compact has replaced it
            with self._map(name) as octets:
                spans = self._spans(octets, segments[index], head)
                dropped = [span for span in spans if not span.is_dropped and not self.keep.holds(span.numbers.start)]
                saved = sum(span.end - span.start - frame.HASH_SIZE for span in dropped)
                if saved <= GARBAGE * len(octets):
                    return
                self._check_sound(octets, spans)
                segments[index] = self._new_segment(octets, spans)
            os.utime(self.files.path(name), follow_symlinks=False)  # the grace period begins now
            write_head(self.path, write_list(self.path, head, segments), head)
            if not self.grace:
                os.unlink(self.files.path(name))

    def _check_sound(self, octets: scan.Mapped, spans: list[Span]) -> None:
        """Raise DataError for any damage, even in a record to be dropped: its number may be what is damaged."""
        sound = scan.header(octets)[0] and all(
            next(scan.frames(octets, span.start, span.end, span.numbers), None) for span in spans
        )
        if not sound:
            raise DataError(f"{self.path}: a record is damaged: see cspool-fsck")

    def _new_segment(self, octets: scan.Mapped, spans: list[Span]) -> Segment:
        """Write the segment anew: what is kept as it is, and one frame with the hashes of each run that is dropped."""
        header, _ = scan.header(octets)
        assert header
        pieces: list[bytes] = []
        run: list[bytes] = []  # hashes of records that are dropped, and follow each other
        first, chain = 0, b""  # where the run begins

        def end_run() -> None:
            if run:
                pieces.append(frame.encode_dropped(first, chain, b"".join(run)))
                run.clear()

        expected = 0
        for span in spans:
            one = _frame(octets, span)
            if span.numbers.start != expected:
                end_run()  # the spool has lost records there
            expected = span.numbers.stop
            if not span.is_dropped and self.keep.holds(span.numbers.start):
                end_run()
                pieces.append(octets[span.start : span.end])
                continue
            if not run:
                first, chain = span.numbers.start, one.chain
            run.append(frame.hashes(one))
        end_run()
        return append.new_segment(self.path, header._replace(stated=0, checkpoint=0), len(pieces), b"".join(pieces))


def _frame(octets: scan.Mapped, span: Span) -> Frame:
    """Return the frame in a span."""
    _, _, number, chain = frame.HEADER.unpack_from(octets, span.start)
    return Frame(number, chain, octets[span.start + frame.HEADER_SIZE : span.end])


def remove_old(path: str, grace: float) -> None:
    """Remove the segments and lists that are no longer used, if they are at least `grace` seconds old."""
    files = SpoolDirectory(path)
    with locked(path):
        head = Reader(files).head()
        named = {segment.name for segment in Reader(files).segments(head)}
        named |= {f"segments.{number}" for number in (head.list, head.list - 1)}
        for name in os.listdir(path):
            ours = LOG.fullmatch(name) or LIST.fullmatch(name)
            if ours and name not in named and time.time() - os.lstat(files.path(name)).st_mtime >= grace:
                os.unlink(files.path(name))
        disk.sync_directory(path)
