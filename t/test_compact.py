"""Compacting a spool: all records to be kept are there, and not much more, wherever the compaction stops."""

import io
import os
import shutil
import tempfile

import pytest
from cspool import frame
from cspool.errors import DataError, NotAllowed, TryAgain
from cspool.spool import scan
from cspool.spool.append import Spool, create
from cspool.spool.batch import Records
from cspool.spool.compact import Compaction, Keep
from cspool.spool.files import CHECKPOINT_LATEST
from hypothesis import given
from hypothesis import strategies as st
from test_fsck import OPERATIONS, damage, spans
from test_fsck import run as fsck
from test_power import Disk, after_crash

ROTATE = 2500
SIZES = [100, 3000, 50, 700, 700, 700, 20, 5000, 20, 900]  # octets of records


def record(number):
    return bytes([number % 251]) * SIZES[number % len(SIZES)]


class Checkpoint:
    """A checkpoint of a spool that keeps the records with these numbers, as cspool-checkpoint would make it now."""

    def __init__(self, path, numbers, records=(b"part" * 100, b"last")):
        head = Spool(path).reader.head()
        self.path = path
        self.keep = Keep.of(head.spool, head.next - 1, head.chain, sorted(numbers))
        self.stream = b"".join(map(frame.encode, records)) + frame.encode_end(len(records))

    def compact(self, grace=0.0, path=None):
        Compaction(path or self.path, self.keep, Records(io.BytesIO(self.stream)), grace).run()


def grow(path, count):
    for _ in range(count):
        Spool(path).append([record(Spool(path).reader.head().next)], rotate=ROTATE)


def read(path, after=0):
    """Return the head, and (number, record) for each frame after `after`, in the order in which a reader gets them."""
    reader = Spool(path).reader
    head, octets = reader.frames(after)
    stream = b"".join(octets)
    frames = list(frame.read(io.BytesIO(stream + frame.encode_end(reader.count))))
    # The chain leads from any cursor through all records, those that were dropped too, unless the head gives some up.
    log = [one for one in frames if one.number >= frame.DROPPED or one.number <= head.stated]
    log = log if head.first == 1 and head.stated else []
    expected, chain = after + 1, None
    for one in sorted(log, key=lambda one: frame.covered(one.number, len(one.record)).start):
        numbers = frame.covered(one.number, len(one.record))
        assert numbers.start == expected or (chain is None and after + 1 in numbers)
        assert chain in (None, one.chain)
        expected, chain = numbers.stop, frame.chain_behind(one)
    if log:
        assert expected == head.stated + 1
        assert all(one.chain == chain for one in frames if one.number == expected)
    return head, [(one.number, one.record) for one in frames if one.number < frame.DROPPED]


def octets_of_log(path):
    reader = Spool(path).reader
    head = reader.head()
    return sum(segment.length or 0 for segment in reader.segments(head)) + head.length


@pytest.fixture
def path(tmp_path):
    path = str(tmp_path / "spool")
    create(path)
    grow(path, 30)
    return path


@given(st.data())
def test_what_is_kept_is_there_and_no_more(data):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "spool")
        create(path)
        live, stated = set(), 0
        for _ in range(data.draw(st.integers(1, 4))):
            grow(path, data.draw(st.integers(0, 25)))
            last = Spool(path).reader.head().next - 1
            live |= set(range(max(stated + 3, 1) if stated else 1, last + 1))
            live = {number for number in live if data.draw(st.booleans())}
            if not last:
                continue
            Checkpoint(path, live).compact()
            stated = last
            head, found = read(path)
            assert (head.stated, head.checkpoint_end, head.first, head.next) == (last, last + 2, 1, last + 3)
            assert found[:2] == found[-2:] == [(last + 1, b"part" * 100), (last + 2, b"last")]
            assert found[2:] == sorted(found[2:]) and {number for number, _ in found[2:]} >= live
            assert all(octets == record(number) for number, octets in found[2:] if number in live)
            needed = sum(48 + len(octets) for number, octets in found[2:] if number in live or number > last)
            assert octets_of_log(path) <= needed * 1.06 + 200 * len(os.listdir(path))
            assert fsck(path) == os.EX_OK
            after = data.draw(st.integers(0, last))
            first = found[:2] if after < last else []
            assert read(path, after)[1] == first + [one for one in found[2:] if one[0] > after]
            assert read(path, last)[1] == found[:2]


def test_only_segments_with_garbage_are_written_anew(path):
    before = {name for name in os.listdir(path) if name.endswith(".log")}
    reader = Spool(path).reader
    kept = reader.segments(reader.head())[2]
    Checkpoint(path, [number for number in range(1, 31) if number != 2]).compact()
    assert kept.name in os.listdir(path)
    assert len(before & set(os.listdir(path))) >= len(before) - 2


def test_what_is_dropped_stays_for_the_grace_period(path):
    before = {name for name in os.listdir(path) if name.endswith(".log")}
    checkpoint = Checkpoint(path, [5, 6])
    checkpoint.compact(100)
    assert before <= set(os.listdir(path))
    for name in before:
        os.utime(os.path.join(path, name), (0, os.stat(os.path.join(path, name)).st_mtime - 50))
    checkpoint.compact(100)
    assert before <= set(os.listdir(path))
    for name in before:
        os.utime(os.path.join(path, name), (0, os.stat(os.path.join(path, name)).st_mtime - 60))
    checkpoint.compact(100)
    assert not before & set(os.listdir(path))
    assert [number for number, _ in read(path)[1]] == [31, 32, 5, 6, 31, 32]


def test_a_reader_goes_on_in_segments_that_were_replaced(path):
    head, octets = Spool(path).reader.frames(0)
    first = next(octets)
    Checkpoint(path, [29]).compact(100)
    found = list(frame.read(io.BytesIO(first + b"".join(octets) + frame.encode_end(30))))
    assert [one.record for one in found] == [record(number) for number in range(1, 31)]
    assert head.next == 31


def test_a_record_to_be_kept_that_is_not_there(path):
    Checkpoint(path, range(15, 31)).compact()
    before = read(path)
    with pytest.raises(DataError, match="1 of the records to be kept are not here"):
        Checkpoint(path, [2, 20]).compact()
    assert read(path) == before


def test_a_record_to_be_kept_that_is_damaged(path):
    reader = Spool(path).reader
    name = os.path.join(path, reader.segments(reader.head())[1].name)
    with scan.mapped(name) as octets:
        last = list(scan.spans(octets, len(octets)))[-1]
    number, end = last.numbers.start, last.end
    with open(name, "r+b") as file:
        file.seek(end - 1)
        file.write(b"!")
    with pytest.raises(DataError, match="damaged: see cspool-fsck"):
        Checkpoint(path, [number]).compact()
    assert fsck(path) == os.EX_DATAERR and fsck(path, repair=True) == os.EX_OK


def test_a_bit_of_head_is_mended_and_loses_nothing(path):
    """`head` has no checksum, but the segments have the same values."""
    Checkpoint(path, range(1, 31, 2)).compact()
    grow(path, 2)
    before = read(path)
    with open(os.path.join(path, "head"), "rb") as file:
        text = file.read()
    for line in (b"spool ", b"chain ", b"checkpoint "):
        place = text.index(b"\n" + line) + 1 + len(line)
        for bit in range(3):
            flipped = bytearray(text)
            flipped[place] ^= 1 << bit
            with open(os.path.join(path, "head"), "wb") as file:
                file.write(flipped)
            assert fsck(path) == os.EX_DATAERR
            assert fsck(path, repair=True) == os.EX_OK
            after = read(path)
            assert after[1] == before[1]
            assert after[0][:3] + after[0][-2:] == before[0][:3] + before[0][-2:]


def test_another_checkpoint_of_the_same_number(path):
    """The spool has lied to one of two machines. The records that the first checkpoint keeps stay."""
    one, other = Checkpoint(path, [5, 6]), Checkpoint(path, [7], (b"other", b"last"))
    one.compact()
    before = read(path)
    other.compact()
    assert read(path) == before


def test_a_checkpoint_of_a_fork_with_the_same_number(path):
    fork = path + "2"
    shutil.copytree(path, fork)
    grow(path, 1)
    Spool(fork).append([b"other"])
    Checkpoint(path, [5, 6]).compact()
    before = read(path)
    with pytest.raises(NotAllowed, match="of another log"):
        Checkpoint(fork, [7], (b"other", b"last")).compact(path=path)
    assert read(path) == before


def test_a_record_whose_number_is_damaged_when_it_goes_on(path, monkeypatch):
    """By its wrong number, it would be dropped."""
    checkpoint = Checkpoint(path, [5, 6])
    with monkeypatch.context() as killed:
        killed.setattr(Compaction, "_rewrite", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            checkpoint.compact()
    reader = Spool(path).reader
    for segment in reader.segments(reader.head()):
        name = os.path.join(path, segment.name)
        with scan.mapped(name) as octets:
            spans = scan.spans(octets, segment.length or len(octets))
            starts = [one.start for one in spans if one.numbers == range(5, 6)]
        if starts:
            with open(name, "r+b") as file:
                file.seek(starts[0] + 15)
                file.write(b"\x45")
    with pytest.raises(DataError, match="a record is damaged: see cspool-fsck"):
        checkpoint.compact()
    assert fsck(path) == os.EX_DATAERR


def test_an_empty_segment(path):
    reader = Spool(path).reader
    open(os.path.join(path, reader.segments(reader.head())[0].name), "wb").close()
    with pytest.raises(DataError, match="damaged: see cspool-fsck"):
        Checkpoint(path, [5]).compact()


def test_one_that_the_log_has_overtaken_and_one_of_a_fork(path):
    """One may be appended late, but not when machines can no longer know what the log had come to there."""
    late = Checkpoint(path, [1])
    grow(path, 5)
    late.compact()
    head, found = read(path)
    assert (head.stated, head.checkpoint_first, head.checkpoint_end, head.next) == (30, 36, 37, 38)
    assert [number for number, _ in found] == [36, 37, 1, *range(31, 38)]
    assert fsck(path) == os.EX_OK
    too_late = Checkpoint(path, [1])
    Spool(path).append([b"x"] * (CHECKPOINT_LATEST - 1))
    with pytest.raises(TryAgain, match="has gone on too far"):
        too_late.compact()


def test_one_of_a_fork(path):
    fork = path + "2"
    shutil.copytree(path, fork)
    grow(fork, 1)
    Spool(path).append([b"other"])
    with pytest.raises(NotAllowed, match="of another log"):
        Checkpoint(fork, [1]).compact(path=path)


def test_the_power_fails_at_every_step(tmp_path, monkeypatch):
    """A compaction that is killed leaves the same as a power cut after which all unsynced octets are kept."""
    path = str(tmp_path / "spool")
    first, second = set(range(1, 30, 3)), {4, 7, 33, 35}
    with monkeypatch.context() as patch:
        disk = Disk(path, patch)
        create(path)
        grow(path, 30)
        begin = len(disk.steps)
        Checkpoint(path, first).compact()
        grow(path, 5)
        Checkpoint(path, second).compact()
    crashed = str(tmp_path / "crashed")
    for at in range(begin, len(disk.steps) + 1):
        for kept in ("all", "nothing", "zeros", "cut") if at % 3 == 0 else ("all", "nothing"):
            shutil.rmtree(crashed, ignore_errors=True)
            os.mkdir(crashed)
            for name, octets in after_crash(disk.steps[:at], kept).items():
                with open(os.path.join(crashed, name), "wb") as file:
                    file.write(octets)
            head, found = read(crashed)
            wanted = {0: set(), 30: first, 37: second}[head.stated]
            assert dict(found).keys() >= wanted | set(range(head.stated + 1, head.next))
            assert all(octets == record(number) for number, octets in found if number in wanted)
            assert head.next > 30 and fsck(crashed) == os.EX_OK
            # Compaction can be run again.
            grow(crashed, 1)
            Checkpoint(crashed, wanted).compact()
            assert dict(read(crashed)[1]).keys() >= wanted and fsck(crashed) == os.EX_OK


@given(st.data())
def test_a_compacted_spool_is_repaired(data):
    """Whole records are kept. If `head` is lost, the segments say where the checkpoint is."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "spool")
        create(path)
        grow(path, 20)
        Checkpoint(path, {4, 5, 6, 9, 12, 13, 19, 20}).compact()
        grow(path, 6)
        head, found = read(path)
        at = list(spans(path))
        logs = sorted(name for name in os.listdir(path) if name.endswith(".log"))
        hurt, times = set(), data.draw(st.integers(0, 2))
        for _ in range(times):
            name = data.draw(st.sampled_from(logs))
            if os.path.exists(os.path.join(path, name)):
                touched = damage(path, name, *data.draw(OPERATIONS))
                hurt |= {n for n, there, start, end in at if there == name and set(range(start, end)) & set(touched)}
        lost = data.draw(st.sampled_from([(), ("head",), ("list",), ("head", "list")]))
        for name in os.listdir(path):
            if name.split(".")[0].replace("segments", "list") in lost:
                os.unlink(os.path.join(path, name))
        fsck(path, repair=True)
        head_now, found_now = read(path)
        # No repair can make up for a checkpoint that is damaged. All else is sound then.
        kept = {number for number, _ in found_now}
        is_damaged = not set(range(head_now.stated + 1, head_now.checkpoint_end + 1)) <= kept
        assert fsck(path) == (os.EX_DATAERR if is_damaged else os.EX_OK)
        assert not is_damaged or hurt & {21, 22}
        assert set(found_now) <= set(found)
        assert {number for number, _ in found} - hurt <= dict(found_now).keys()
        if not hurt and not (times and "head" in lost):  # else the checkpoint's segment may have a damaged header
            assert (found_now, head_now[:4], head_now[-2:]) == (found, head[:4], head[-2:])
        grow(path, 1)
        assert fsck(path) == (os.EX_DATAERR if is_damaged else os.EX_OK)
