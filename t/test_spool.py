"""Reading a log, with and without the position at which to begin."""

import pytest
from cspool.frame import Position
from cspool.spool.append import Spool, create
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def spool(tmp_path_factory):
    """Nine records in several segments."""
    path = str(tmp_path_factory.mktemp("spool") / "spool")
    create(path)
    made = Spool(path)
    for number in range(9):
        made.append([bytes([number]) * 100 * (number + 1)], rotate=1500)
    return made


def read(spool, after, position=None):
    return b"".join(spool.reader.frames(after, position)[1])


def test_the_place_of_a_frame_saves_reading_and_changes_nothing(spool):
    head = spool.reader.head()
    everything = read(spool, 0)
    for after in range(10):
        assert everything.endswith(read(spool, after))
    assert read(spool, 9, Position(head.segment, head.length)) == b""


@given(st.integers(0, 9), st.integers(0, 4), st.integers(1, 3000))
def test_a_wrong_place_changes_nothing(spool, after, segment, offset):
    """It may be from another log. The reader must get the frames of this one, to detect that by the chain."""
    segments = spool.reader.segments(spool.reader.head())
    position = Position(segments[segment % len(segments)].name, offset)
    assert read(spool, after, position) == read(spool, after)
