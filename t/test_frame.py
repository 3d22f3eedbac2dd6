"""Frames and streams: they are read as they were written, and any damage is detected."""

import io

import pytest
from cspool import frame
from cspool.errors import DataError, TryAgain
from hypothesis import given
from hypothesis import strategies as st

records = st.lists(st.binary(min_size=1, max_size=200), max_size=5)


def stream_of(some):
    return b"".join(map(frame.encode, some)) + frame.encode_end(len(some))


def read(octets, **options):
    return [one.record for one in frame.read(io.BytesIO(octets), **options)]


@given(records)
def test_what_is_read_is_what_was_written(some):
    assert read(stream_of(some)) == some


@given(records, st.data())
def test_a_stream_cut_anywhere_is_to_be_tried_again(some, data):
    octets = stream_of(some)
    cut = data.draw(st.integers(0, len(octets) - 1))
    with pytest.raises(TryAgain):
        read(octets[:cut])


@given(records, st.data())
def test_a_changed_bit_is_seen(some, data):
    octets = bytearray(stream_of(some))
    octets[data.draw(st.integers(0, len(octets) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises((DataError, TryAgain)):
        read(bytes(octets))


@given(st.binary(max_size=400))
def test_garbage_is_refused(octets):
    with pytest.raises((DataError, TryAgain)):
        read(octets)


def test_what_follows_the_end_is_refused():
    with pytest.raises(DataError, match="something follows"):
        read(stream_of([b"x"]) * 2)


def test_a_frame_that_is_missing_is_seen():
    with pytest.raises(DataError, match="2 frames were written, 1 arrived"):
        read(frame.encode(b"x") + frame.encode_end(2))


def test_a_long_frame_is_refused_before_memory_is_spent():
    class Endless(io.RawIOBase):
        taken = 0

        def read(self, size=-1):
            self.taken += size
            return b"\xff" * size

    endless = Endless()
    with pytest.raises(DataError, match="more than the limit"):
        list(frame.read(endless))
    assert endless.taken == frame.HEADER_SIZE


def test_the_limit_can_be_set():
    assert read(stream_of([b"x" * 10]), limit=10) == [b"x" * 10]
    with pytest.raises(DataError):
        read(stream_of([b"x" * 11]), limit=10)


@given(st.lists(st.binary(min_size=1), min_size=2, max_size=5), st.data())
def test_the_chain_tells_two_logs_apart(some, data):
    def chain(log):
        value = frame.first_chain(bytes(16))
        for number, record in enumerate(log, 1):
            value = frame.next_chain(value, number, record)
        return value

    other = data.draw(st.permutations(some))
    assert (chain(some) == chain(other)) == (some == other)
    assert chain(some) != chain(some[:-1])
