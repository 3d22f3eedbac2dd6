"""What every tool does the same way."""

import io
import sys

from cspool.errors import Failure
from cspool.tool import Progress, complain
from hypothesis import given
from hypothesis import strategies as st


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(stream, *calls, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "argv", ["cspool-apply"])
    progress = Progress()
    for one in calls:
        progress(*one)
    return stream.getvalue()


def test_long_work_is_shown_on_a_terminal(monkeypatch):
    calls = [(1000, 100_000), (2000, 100_000), (100_000, 100_000), (100_000, 100_000)]
    assert shown(Terminal(), *calls, monkeypatch=monkeypatch) == (
        "cspool-apply: 1,000 of 100,000\rcspool-apply: 2,000 of 100,000\rcspool-apply: 100,000 of 100,000\n"
    )


def test_short_work_is_not(monkeypatch):
    assert shown(Terminal(), (3, 3), (3, 3), monkeypatch=monkeypatch) == ""


def test_nor_is_any_in_a_log(monkeypatch):
    assert shown(io.StringIO(), (1000, 100_000), (100_000, 100_000), monkeypatch=monkeypatch) == ""


@given(st.text())
def test_what_a_stranger_says_does_nothing_to_the_terminal(text):
    stream = io.StringIO()
    before, sys.stderr = sys.stderr, stream
    try:
        complain(Failure(f"the server sends us elsewhere ({text})"))
    finally:
        sys.stderr = before
    assert stream.getvalue()[:-1].isprintable()
