"""Reading a log, with and without the position at which to begin."""

import pytest
from cspool.errors import DataError
from cspool.frame import Position
from cspool.spool.append import Spool, create
from cspool.spool.files import Head, digest, parse_list
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


SEGMENT = "00000000000000000001.0.log"
HEAD = Head(bytes(16), 9, bytes(32), 1, SEGMENT, 100, 3, bytes(32), 0, 0)


def test_a_head_has_one_text():
    assert Head.parse(HEAD.text(), "head") == HEAD
    for text in (HEAD.text() + b"x 1\n", HEAD.text().replace(b" 9\n", b" 09\n"), HEAD.text()[:-1], b""):
        with pytest.raises(DataError):
            Head.parse(text, "head")


@pytest.mark.parametrize(
    "changed",
    [
        {"next": 2**63},
        {"next": -9},
        {"length": 2**63},
        {"length": -5},
        {"list": -1},
        {"list": 10**30},
        {"first": 2**63, "next": 2**63 - 1},
        {"first": 10},
        {"first": 0},
        {"stated": 5, "checkpoint_end": 4, "first": 6},
        {"stated": 5, "checkpoint_end": 9, "first": 6},
        {"segment": "../other"},
        {"segment": "1.0.log"},
        {"spool": bytes(15)},
        {"chain": bytes(31)},
        {"digest": b""},
    ],
    ids=str,
)
def test_what_an_operator_may_write_into_a_head(changed):
    """Numbers must fit into SQLite, and be those of a log."""
    with pytest.raises(DataError):
        Head.parse(HEAD._replace(**changed).text(), "head")


@pytest.mark.parametrize(
    "rows",
    [
        f"{SEGMENT} -9 -9\n{SEGMENT} - -\n",
        "-5.0.log - -\n",
        f"99999999999999999999999.0.log 1 1\n{SEGMENT} - -\n",
        f"{SEGMENT} {10**30} 5\n00000000000000000005.0.log - -\n",
        f"{SEGMENT} 1 5\n",
        f"{SEGMENT} - -\n00000000000000000005.0.log - -\n",
        f"00000000000000000005.0.log 1 5\n{SEGMENT} - -\n",
        f"{SEGMENT} - 5\n",
        f"{SEGMENT} - -",
        f"{SEGMENT}\n",
        "../../etc/passwd - -\n",
    ],
)
def test_what_an_operator_may_write_into_a_list(rows):
    with pytest.raises(DataError):
        parse_list(rows.encode(), "list", digest(rows.encode()))
