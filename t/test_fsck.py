"""cspool-fsck: whatever happens to the files of a spool, whole records are kept, and readers and writers go on."""

import importlib.util
import io
import os
import shutil
import tempfile
from importlib.machinery import SourceFileLoader

import pytest
from conftest import TOP
from cspool import frame
from cspool.database import schema, seen
from cspool.database.replay import Replay
from cspool.errors import DataError, TryAgain
from cspool.spool.append import Spool, create
from hypothesis import given
from hypothesis import strategies as st
from log import ALICE

loader = SourceFileLoader("fsck", str(TOP / "bin" / "cspool-fsck"))
fsck = importlib.util.module_from_spec(importlib.util.spec_from_loader("fsck", loader))
loader.exec_module(fsck)


def run(path, repair=False):
    return fsck.main({"SPOOL": path, "--repair": repair, "--quiet": True, "--shared": False})


def frames(path, after=0):
    """Return the head, and the frames after `after` in the order in which a reader gets them."""
    reader = Spool(path).reader
    head, octets = reader.frames(after)
    stream = b"".join(octets)
    return head, list(frame.read(io.BytesIO(stream + frame.encode_end(reader.count))))


def apply(db, path):
    after = seen.cursor(db).number
    head, found = frames(path, after)
    one = frame.Frame(frame.HEAD_NUMBER, frame.UNCHAINED, head.text())
    Replay(db, [ALICE]).run(iter([one, *found]))


def spans(path):
    """Yield (number, name of the segment, start, end) for each frame; start and end are offsets."""
    reader = Spool(path).reader
    for segment in reader.segments(reader.head()):
        with open(os.path.join(path, segment.name), "rb") as file:
            position = len(file.readline())
            length = segment.length or reader.head().length
            while position < length:
                file.seek(position)
                header = frame.HEADER.unpack(file.read(frame.HEADER_SIZE))
                end = position + frame.HEADER_SIZE + header[0]
                yield header[2], segment.name, position, end
                position = end


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A spool of 30 records in several segments, with the remains of appends that were killed."""
    path = str(tmp_path_factory.mktemp("whole") / "spool")
    create(path)
    spool = Spool(path)
    for number in range(1, 31):
        spool.append([bytes([number]) * (97 * number % 700 + 20)], rotate=2500)
        if number % 11 == 0:
            last = max(name for name in os.listdir(path) if name.endswith(".log"))
            with open(os.path.join(path, last), "ab") as file:  # a whole frame that was never acknowledged
                file.write(frame.encode(b"dead", number + 1, spool.reader.head().chain))
    return path


OPERATIONS = st.one_of(
    st.tuples(st.just("flip"), st.integers(0, 5000)),
    st.tuples(st.just("zero"), st.integers(0, 5000), st.integers(1, 600)),
    st.tuples(st.just("write"), st.integers(0, 5000), st.binary(min_size=1, max_size=100)),
    st.tuples(st.just("cut"), st.integers(0, 5000)),
    st.tuples(st.just("remove")),
)


def damage(path, name, operation, *values):
    """Damage a file; return the offsets of the octets that may have changed."""
    file = os.path.join(path, name)
    with open(file, "rb") as old:
        octets = bytearray(old.read())
    at = min(values[0], len(octets) - 1) if values and octets else 0
    touched = range(at, len(octets))
    if operation == "flip" and octets:
        octets[at] ^= 1
        touched = range(at, at + 1)
    elif operation == "zero":
        octets[at : at + values[1]] = bytes(len(octets[at : at + values[1]]))
        touched = range(at, at + values[1])
    elif operation == "write":
        octets[at : at + len(values[1])] = values[1]
        touched = range(at, at + len(values[1]))
    elif operation == "cut":
        del octets[at:]
    else:
        os.unlink(file)
        return range(0, len(octets))
    with open(file, "wb") as new:
        new.write(octets)
    return touched


@given(st.data())
def test_what_is_whole_is_kept_and_everybody_goes_on(whole, data):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "spool")
        shutil.copytree(whole, path)
        original = {one.number: one.record for one in frames(path)[1]}
        at = list(spans(path))
        old = schema.open_database(os.path.join(directory, "old.db"), create=True)
        apply(old, path)
        half = schema.open_database(os.path.join(directory, "half.db"), create=True)
        head, found = frames(path)
        half_way = [frame.Frame(frame.HEAD_NUMBER, frame.UNCHAINED, head.text()), *found[:15]]
        with pytest.raises(TryAgain):
            Replay(half, [ALICE]).run(cut(half_way))

        logs = sorted(name for name in os.listdir(path) if name.endswith(".log"))
        lists = sorted(name for name in os.listdir(path) if name.startswith("segments."))
        hurt = set()
        for _ in range(data.draw(st.integers(1, 3))):
            name = data.draw(st.sampled_from(logs))
            if os.path.exists(os.path.join(path, name)):
                touched = damage(path, name, *data.draw(OPERATIONS))
                hurt |= {n for n, there, start, end in at if there == name and set(range(start, end)) & set(touched)}
        lists_too = data.draw(st.booleans())
        for name in lists if lists_too else []:
            damage(path, name, *data.draw(OPERATIONS))

        run(path, repair=True)
        assert run(path) == os.EX_OK
        head, found = frames(path)
        kept = {one.number: one.record for one in found}
        if lists_too:  # without lists, frames of a killed append look like others
            kept = {number: record for number, record in kept.items() if record != b"dead"}
        assert kept.items() <= original.items()
        assert original.keys() - hurt <= kept.keys()
        missing = original.keys() - kept.keys()
        assert not missing or head.first > max(missing)

        # A reader that has read all notices nothing, another is told of the lost records, and the log can grow.
        Spool(path).append([b"new"])
        for db, read in ((old, 30), (half, 14)):  # of 15, since the last frame before a cut is not applied
            apply(db, path)
            assert seen.cursor(db).number == 31
            lost = {n for first, last in db.execute("SELECT number, last FROM lost") for n in range(first, last + 1)}
            assert lost <= {n for n in missing if n > read}
            db.close()
        assert run(path) == os.EX_OK


def cut(found):
    yield from found
    raise TryAgain("cut off")


@given(st.lists(st.sampled_from(["head", "format", "list"]), unique=True), st.data())
def test_what_head_and_lists_say_is_found_again(whole, files, data):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "spool")
        shutil.copytree(whole, path)
        before, found = frames(path)
        for file in files:
            names = [name for name in os.listdir(path) if name.startswith("segments.")] if file == "list" else [file]
            for name in names:
                os.unlink(os.path.join(path, name))
        if {"head", "format"} <= set(files):
            with pytest.raises(DataError):
                run(path, repair=True)
            return
        assert run(path) == (os.EX_DATAERR if files else os.EX_OK)
        assert run(path, repair=True) == os.EX_OK
        head, again = frames(path)
        assert again == found and (head.next, head.chain, head.first) == (before.next, before.chain, 1)


def spool_of(tmp_path, *records):
    path = str(tmp_path / "spool")
    create(path)
    Spool(path).append(records)
    return path


def flip(path, name, at, bit=1):
    with open(os.path.join(path, name), "r+b") as file:
        file.seek(at)
        octet = file.read(1)[0]
        file.seek(at)
        file.write(bytes([octet ^ bit]))


def chained(first, count):
    """Return whole frames that follow each other, as a stranger can put them into a record."""
    octets, chain = b"", bytes(32)
    for number in range(first, first + count):
        octets += frame.encode(b"fake", number, chain)
        chain = frame.next_chain(chain, number, b"fake")
    return octets


@pytest.mark.parametrize(
    "fakes",
    [
        chained(3, 200),
        chained(4, 1),
        b"".join(frame.encode(b"fake", n, bytes(32)) for n in range(1, 200)),
        bytes(99_999),
    ],
)
def test_frames_inside_a_record_are_not_believed(tmp_path, fakes):
    path = spool_of(tmp_path, b"one", b"two", b"\1" + fakes, *[b"mail" * n for n in range(1, 8)])
    (name, at) = next((name, start) for number, name, start, _ in spans(path) if number == 3)
    flip(path, name, at)  # its length
    assert run(path) == 65
    assert run(path, repair=True) == 0
    assert [one.number for one in frames(path)[1]] == [1, 2, 4, 5, 6, 7, 8, 9, 10]


def test_two_damaged_frames_cost_two_records(tmp_path):
    """The frames between them do not lead to the end, and are believed all the same."""
    path = spool_of(tmp_path, *[b"mail" * n for n in range(1, 10)])
    at = {number: (name, start, end) for number, name, start, end in spans(path)}
    for number, offset in ((3, at[3][1]), (7, at[7][2] - 1)):
        flip(path, at[number][0], offset)
    assert run(path, repair=True) == 0
    assert [one.number for one in frames(path)[1]] == [1, 2, 4, 5, 6, 8, 9]


def test_an_append_after_a_repair_that_left_an_empty_segment(tmp_path):
    path = spool_of(tmp_path, b"one", b"two")
    (name, end) = [(name, end) for _, name, _, end in spans(path)][-1]
    flip(path, name, end - 1)
    assert run(path, repair=True) == 0
    last = Spool(path).reader.head().segment
    with open(os.path.join(path, last), "ab") as file:
        file.write(b"of an append that was killed")
    Spool(path).append([b"three"])
    assert [one.number for one in frames(path)[1]] == [1, 3] and run(path) == 0


def test_a_segment_is_damaged_and_format_is_gone(tmp_path):
    path = spool_of(tmp_path, b"one", b"two")
    (name, at) = next((name, end) for number, name, _, end in spans(path) if number == 1)
    flip(path, name, at - 1)
    os.unlink(os.path.join(path, "format"))
    assert run(path, repair=True) == 0 and [one.number for one in frames(path)[1]] == [2]


def test_one_bit_of_head(tmp_path):
    """What head.next has is not lost, and what a reader refuses is not sound."""
    path = spool_of(tmp_path, b"one", b"two", b"three")
    good = open(os.path.join(path, "head"), "rb").read()
    for at in range(len(good)):
        for bit in (1, 4):
            open(os.path.join(path, "head"), "wb").write(good)
            flip(path, "head", at, bit)
            assert run(path, repair=True) == 0
            assert [one.number for one in frames(path)[1]] == [1, 2, 3]
