"""Hostile octets of every kind cause no traceback. fuzz.py tries more of them."""

import io
import sys
import tracemalloc
from pathlib import Path

import hostile
import pytest
from cspool import command, frame, keys, record
from cspool.database import content
from cspool.mail import lines, message, text
from hypothesis import given
from hypothesis import strategies as st

VECTORS = Path(__file__).parent / "vectors"
ALICE = keys.SecretKey(b"a" * 32)
CHANGE = {
    "command": "change",
    "spool": "00" * 16,
    "device": "00" * 16,
    "counter": 1,
    "previous": "00" * 32,
    "number": 0,
    "chain": "00" * 32,
    "changes": [
        {"do": "append", "mailbox": "00" * 16, "flags": ["\\Seen"], "date": 0, "size": 3, "nonce": "11" * 16},
        {"do": "add-flags", "flags": ["x"], "ids": "22" * 32},
        {"do": "create", "name": "x", "nonce": "33" * 16},
        {"do": "trust", "key": "44" * 32, "comment": "c"},
        {"do": "discard", "numbers": [1, 2]},
        {"do": "user-key", "sign": "44" * 32, "box": "55" * 32},
    ],
}
ANSWER = (
    b"HTTP/1.1 206 Partial\r\nETag: x\r\nDate: Wed, 25 Nov 2026 13:00:00 GMT\r\nTransfer-Encoding: chunked\r\n"
    b"Last-Modified: Wed, 25 Nov 2026 12:00:00 GMT\r\nContent-Range: bytes 0-99/100\r\n\r\n64\r\n"
    + bytes(100)
    + b"\r\n0\r\n\r\n"
)
SETTLED = b"HTTP/1.1 200 OK\r\nETag: x\r\nDate: Wed, 25 Nov 2026 13:00:00 GMT\r\nContent-Length: 0\r\n"
SEEDS = {
    "mime": [(VECTORS.parent / "mail" / "1-hello.eml").read_bytes()],
    "imap": [b'b FETCH 1 (FLAGS BODY[1.MIME]<0.5>)\r\nc SEARCH OR SUBJECT "x" NOT SEEN\r\n'],
    "stream": [path.read_bytes() for path in (VECTORS / "streams").iterdir()],
    "segment": [path.read_bytes() for path in (VECTORS / "spool").glob("*.log")],
    "head": [path.read_bytes() for path in (VECTORS / "spool").iterdir() if path.suffix != ".log"]
    + [(VECTORS / "checkpoint" / "keep").read_bytes()],
    "sealed": [record.signed_for(ALICE.public, command.encode(CHANGE, b"abc" * 500), ALICE)],
    "commands": [
        command.encode(CHANGE, b"abc"),
        command.encode({"command": "deliver", "date": 0, "mailbox": "x"}, b"y"),
    ],
    "rows": [(VECTORS / "checkpoint" / "state").read_bytes()],
    "key": [path.read_bytes() for path in (VECTORS / "keys").iterdir() if path.is_file()],
    "server": [ANSWER],
}


@pytest.fixture(scope="module", autouse=True)
def prepared(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", "/nonexistent")
        hostile.prepare(str(tmp_path_factory.mktemp("hostile")))
        yield


@st.composite
def mutated(draw, seeds):
    """A seed with octets changed, removed, inserted or repeated."""
    octets = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(octets)))
        end = min(len(octets), at + draw(st.integers(0, 30)))
        octets[at:end] = draw(st.one_of(st.binary(max_size=10), st.just(bytes(octets[at:end] * 2))))
    return bytes(octets)


@pytest.mark.parametrize("target", hostile.TARGETS, ids=lambda target: target.__name__)
@given(st.data())
def test_nothing_but_a_failure(target, data):
    target(data.draw(st.one_of(mutated(SEEDS[target.__name__]), st.binary(max_size=300))))


def test_nor_where_fuzzing_found_one():
    hostile.server(SETTLED + b"Last-Modified: Wed, 23333333333335 Nov 2026 12:00:00 GMT\r\n\r\n")


def work(function, octets):
    """Return how many lines of cspool a call runs."""
    lines = 0

    def trace(stack, event, _):
        nonlocal lines
        if "/lib/cspool/" not in stack.f_code.co_filename:
            return None
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function(octets)
    finally:
        sys.settrace(before)
    return lines


LONG = {
    "header lines": lambda n: b"X: y\r\n" * n + b"\r\n",
    "a folded header": lambda n: b"To: a\r\n" + b" b@example.org,\r\n" * n + b"\r\n",
    "addresses": lambda n: b"To: " + b"a <b@example.org>, " * n + b"\r\n\r\n",
    "comments": lambda n: b"From: " + b"(" * n + b")" * n + b"\r\n\r\n",
    "quotes": lambda n: b'From: "' + b"\\" * n + b'"\r\n\r\n',
    "encoded words": lambda n: b"Subject: " + b"=?utf-8?q?x?= " * n + b"\r\n\r\n",
    "references": lambda n: b"References: " + b"<a@example.org> " * n + b"\r\n\r\n",
    "parts": lambda n: b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * n + b"--b--\r\n",
    "nested parts": lambda n: b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (i, i) for i in range(n)
    ),
    "parameters": lambda n: b"Content-Type: text/plain" + b"; a=b" * n + b"\r\n\r\n",
}


@pytest.mark.parametrize("kind", LONG)
def test_twice_the_message_is_at_most_twice_the_work(kind):
    """Work is counted in lines that are run, since time says little on a busy machine."""
    once, twice = (work(hostile.mime, LONG[kind](n)) for n in (1000, 2000))
    assert twice <= 2.3 * once + 1000


@pytest.mark.parametrize(
    "read, make",
    [
        (lambda octets: list(frame.read(io.BytesIO(octets))), lambda n: frame.encode(b"x") * n + frame.encode_end(n)),
        (hostile.head, lambda n: b"x.log 1 1\n" * n),
        (hostile.segment, lambda n: bytes(8) * n),
        (lambda octets: text.body_text(message.parse(octets)), lambda n: b"\r\n" + b"<b>" * n),
    ],
    ids=["frames", "list", "zeros", "markup"],
)
def test_nor_is_that_of_other_input(read, make):
    once, twice = (work(read, make(n)) for n in (1000, 2000))
    assert twice <= 2.3 * once + 1000


def part(kind, encoding, pattern):
    return f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode(), pattern


@pytest.mark.parametrize(
    "start, pattern",
    [
        part("application/x", "binary", b"\n"),
        part("text/html", "x-uuencode", b"a\n"),
        part("text/html", "base64", b"=41"),
        part("text/plain", "base64", b"--b\r\n"),
        part("text/plain", "quoted-printable", b" \r\n"),
        part("text/plain; charset=utf-7", "8bit", b"\xa4\xa2"),
        part("text/plain; charset=euc-jp", "8bit", b"\xa4\xa2"),
        part("text/plain", "7bit", b"\x1b$B!!\x1b(B"),
        part("text/plain", "7bit", b"to "),
        part("message/rfc822", "8bit", b"X: \xa4\n"),
        (b"From: ", b"a "),
        (b"From: ", b'"'),
        (b"To: ", b"=?utf-8?q?a?= "),
    ],
)
def test_memory_for_a_message(start, pattern):
    """Lists of small things take a hundred times their size: a message of 50 MB would take all that a machine has."""
    octets = start + pattern * ((1 << 20) // len(pattern))
    tracemalloc.start()
    try:
        stored = lines.canonical(octets)
        content.computed(message.parse(stored))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 * len(octets)
