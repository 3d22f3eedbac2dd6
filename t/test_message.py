"""Messages, good and hostile: their parts, ENVELOPE, BODYSTRUCTURE, and the text for searching."""

import itertools
import re

import pytest
from cspool.database import content, schema
from cspool.mail import envelope, message, text
from cspool.octets import with_crlf, without_delivery_date
from hypothesis import given
from hypothesis import strategies as st
from imapclient.response_parser import parse_fetch_response


def crlf(octets):
    return with_crlf(octets)


def envelope_of(octets):
    fields = message.parse(octets).fields
    return envelope.envelope(fields, envelope.address_lists(fields))


def structure(octets):
    octets = crlf(octets)
    return envelope.structure(message.parse(octets))


def understood(octets):
    """Check the syntax of the FETCH answer for a message; return it as an independent library parses it."""
    octets = crlf(octets)
    root = message.parse(octets)
    answer = b"1 (UID 1 ENVELOPE %b BODYSTRUCTURE %b BODY %b)" % (
        envelope.envelope(root.fields, envelope.address_lists(root.fields)),
        envelope.structure(root),
        envelope.structure(root, extended=False),
    )
    # In the form that imapclient takes: literals apart from the lines around them.
    pieces, rest = [], answer
    while found := re.search(rb"\{(\d+)\}\r\n", rest):
        assert not re.search(rb"[\x00\r\n\x80-\xff]", rest[: found.start()])
        length = int(found[1])
        literal = rest[found.end() : found.end() + length]
        assert len(literal) == length
        assert b"\0" not in literal
        pieces.append((rest[: found.end() - 2], literal))
        rest = rest[found.end() + length :]
    assert not re.search(rb"[\x00\r\n\x80-\xff]", rest)
    parsed = parse_fetch_response([*pieces, rest], uid_is_key=False)[1]
    assert b"()" not in re.sub(rb'"(?:[^"\\]|\\.)*"', b'""', rest if not pieces else b"")
    return parsed


def stored(octets):
    """Return all that the database computes from a message, after a check that SQLite takes its texts (UTF-8)."""
    octets = crlf(octets)
    columns, texts, ordering = content.computed(message.parse(octets))
    for one in (*columns.values(), *texts, *ordering):
        assert not isinstance(one, str) or one.encode() is not None
    return columns, texts, ordering


# Octets


@given(st.binary())
def test_crlf_is_made_once(octets):
    once = crlf(octets)
    assert crlf(once) == once
    assert once.replace(b"\r\n", b"\n") == octets.replace(b"\r\n", b"\n")
    assert not re.search(rb"(?<!\r)\n", once)


def test_delivery_date_makes_no_other_message():
    one = (
        b"Return-path: <a@example.org>\r\nDelivery-date: one\r\n folded\r\nReceived: x\r\nDelivery-date: kept\r\n\r\nx"
    )
    assert without_delivery_date(one) == (
        b"Return-path: <a@example.org>\r\nReceived: x\r\nDelivery-date: kept\r\n\r\nx"
    )
    assert without_delivery_date(b"Delivery-date: x") == b"Delivery-date: x"


# Parts


def test_parts_are_numbered_as_rfc_9051_says():
    octets = crlf(
        b"Content-Type: multipart/mixed; boundary=a\n\nprologue\n--a\n\none\n--a\n"
        b"Content-Type: message/rfc822\n\nSubject: inner\nContent-Type: multipart/alternative; boundary=b\n\n"
        b"--b\n\ntwo one\n--b\nContent-Type: text/html\n\ntwo two\n--b--\n--a--\nepilogue\n"
    )
    root = message.parse(octets)

    def body(*path):
        part = root.find([*path])
        return part and octets[part.body : part.end]

    assert body(1) == b"one"
    assert body(2).startswith(b"Subject: inner")
    assert body(2, 1) == b"two one"
    assert body(2, 2) == b"two two"
    assert body(3) is body(1, 1) is body(0) is body(2, 3) is None


def test_a_message_that_is_no_multipart_has_part_1():
    octets = b"Subject: x\r\n\r\nbody"
    part = message.parse(octets).find([1])
    assert octets[part.body : part.end] == b"body"
    assert message.parse(octets).find([2]) is None


@pytest.mark.parametrize(
    "octets, count",
    [
        (b"--a\n\nx\n--ab\n\ny\n--a--\n", 2),  # what stands behind a delimiter does not count
        (b"--a\n\nx\n--a  behind it\n\ny\n--a-- and here\n", 2),
        (b"--a\nContent-Type: multipart/mixed; boundary=ab\n\n--ab\n\ny\n--ab--\n--a--\n", 1),  # a longer boundary
        (b"--a  \n\nx\n--a\t\n\ny\n--a-- \n", 2),  # white space after a delimiter
        (b"--a\n\nx\n--a\n\ny\n", 2),  # no closing delimiter
        (b"--a\n--a\n--a--\n", 2),  # parts without even an empty line
        (b"nothing", 1),  # no delimiter at all: one empty part
    ],
)
def test_boundaries(octets, count):
    root = message.parse(crlf(b"Content-Type: multipart/mixed; boundary=a\n\n" + octets))
    assert len(root.children) == count


def test_nesting_and_number_of_parts_are_bounded():
    deep = b""
    for number in range(10_000):
        deep += b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (number, number)
    assert understood(deep)
    wide = b"Content-Type: multipart/mixed; boundary=a\n\n" + b"--a\n\nx\n" * 100_000
    root = message.parse(crlf(wide))
    assert len(root.children) == message.PARTS_MAX - 1
    assert root.children[-1].end == len(crlf(wide))
    messages = b"Content-Type: message/rfc822\n\n" * 10_000
    assert understood(messages)


@pytest.mark.parametrize(
    "octets",
    [
        b"X: y\n" * 100_000,
        b"Subject: " + b"x" * 1_000_000,
        b"To: " + b"a@example.org, " * 60_000,
        b"To: " + b"(" * 300_000,
        b"To: " + b"<" * 300_000,
        b"To: " + b'"' * 300_001,
        b"To: " + b"a:;" * 100_000,
        b"To: " + b"\\" * 300_001,
        b"Content-Type: text/plain" + b'; a="x\\"' * 40_000,
        b"Content-Type: text/plain" + b";a" * 200_000,
        b"Content-Type: " + b"(" * 300_000,
        b"Content-Disposition: " + b"(\\" * 200_000,
        b"Subject: " + b"=?utf-8?q?" * 50_000,
        b"Subject: " + b"=?punycode?b?eHh4eHh4?= " * 20_000,
        b"Content-Type: multipart/mixed; boundary=a\n\n" + b"--a" * 200_000,
        b"Date: " + b"1 " * 200_000,
        b"From: a" + b" " * 300_000 + b"b",
        b'From: "a"' + b" " * 300_000 + b"b",
        b"Subject: " + b"(fwd)" * 100_000 + b"x",
        b"Subject: " + b"[a]" * 100_000 + b"x",
        b"Subject: " + b"[fwd:" * 100_000 + b"x" + b"]" * 100_000,
        b"Subject: " + b"re: " * 100_000,
        b"References: " + b"<a@b> " * 100_000,
        b"References: " + b"<" * 400_000,
        b"Content-Type: text/html\n\n" + b"<style" * 100_000,
        b"Content-Type: text/html\n\n" + b"<" * 400_000,
    ],
)
def test_hostile_mail_takes_no_longer_than_long_mail(octets):
    """Bad code takes quadratic time for each of these: minutes, so that the test would not end."""
    stored(octets)


mail = st.lists(
    st.sampled_from(
        [
            b"Subject: x\n",
            b"From: Bob <bob@example.org>\n",
            b"To: group: a@example.org, (c) b;\n",
            b'Cc: "q\\"" <@r:c@d>, =?utf-8?b?w6Q=?= <\xe4@x>, <>\n',
            b"Content-Type: multipart/mixed; boundary=a\n",
            b'Content-Type: multipart/alternative; boundary="b"\n',
            b"Content-Type: message/rfc822\n",
            b"Content-Type: text\n",
            b'Content-Type: text/plain; charset="x\\"y"; name*0=z\n',
            b"Content-Type: text/plain; charset=utf-7\n",
            b"Content-Type: text/html; charset=unicode_escape\n",
            b"Subject: =?utf-7?q?+2AA-?= =?raw-unicode-escape?q?\\ud800?=\n",
            b"+2AA- \\ud800 &#" + b"9" * 5000 + b";\n",
            b"Content-Type: (comment) ;;=\n",
            b"Content-Transfer-Encoding: base64\n",
            b"Content-Disposition: attachment; filename=\xff\n",
            b"Content-Disposition: ;\n",
            b"Content-Language: de, en\n",
            b"Content-ID: <\x00\x01>\n",
            b" folded\n",
            b"no field\n",
            b"\n",
            b"--a\n",
            b"--b\n",
            b"--a--\n",
            b"--b--\n",
            b"text\n",
            b"\r",
        ]
    )
    | st.binary(max_size=20),
    max_size=25,
).map(b"".join)


@given(mail)
def test_whatever_comes_the_answer_is_syntactically_correct(octets):
    parsed = understood(octets)
    assert parsed[b"ENVELOPE"] and parsed[b"BODYSTRUCTURE"] and parsed[b"BODY"]
    stored(octets)


@given(mail)
def test_parts_lie_inside_each_other(octets):
    octets = crlf(octets)
    waiting = [message.parse(octets)]
    while waiting:
        part = waiting.pop()
        assert 0 <= part.start <= part.body <= part.end <= len(octets)
        inside = [part.message] if part.message else part.children
        for one, following in itertools.pairwise(inside):
            assert part.body - 2 <= one.start and one.end <= following.start and one.end <= part.end
        waiting += inside


# ENVELOPE and BODYSTRUCTURE


@pytest.mark.parametrize(
    "field, expected",
    [
        (b"a@example.org", [(None, None, b"a", b"example.org")]),
        (b"Alice <a@example.org>", [(b"Alice", None, b"a", b"example.org")]),
        (b'"Liddell, \\"A\\"" <a@example.org>', [(b'Liddell, "A"', None, b"a", b"example.org")]),
        (b"a@example.org (Alice (in Wonderland))", [(b"Alice (in Wonderland)", None, b"a", b"example.org")]),
        (b"<@one,@two:a@example.org>", [(None, b"@one,@two", b"a", b"example.org")]),
        (b'"a b"@example.org', [(None, None, b"a b", b"example.org")]),
        (b"a@[127.0.0.1]", [(None, None, b"a", b"[127.0.0.1]")]),
        (b"alice", [(None, None, b"alice", b"")]),
        (b"undisclosed-recipients:;", [(None, None, b"undisclosed-recipients", None), (None,) * 4]),
        (
            b"team: a@example.org, Bob <b@example.org>; c@example.org",
            [
                (None, None, b"team", None),
                (None, None, b"a", b"example.org"),
                (b"Bob", None, b"b", b"example.org"),
                (None,) * 4,
                (None, None, b"c", b"example.org"),
            ],
        ),
        (b"team: a@example.org", [(None, None, b"team", None), (None, None, b"a", b"example.org"), (None,) * 4]),
        (b"A. Liddell <a@example.org>, ,", [(b"A. Liddell", None, b"a", b"example.org")]),
        (b"a @ example . org", [(None, None, b"a", b"example.org")]),
        (b"", []),
        (b"<>", []),
    ],
)
def test_addresses(field, expected):
    assert envelope.addresses(field) == expected


ONE = st.text(st.sampled_from('ab .,;:<>@"\\()[]'), max_size=20)


@given(st.lists(st.sampled_from(["a@b", "A B <a@b>", '"A, B" <a@b>', "<a@b>", " a@b ", ""]) | ONE, max_size=5))
def test_the_quick_way_through_addresses_is_the_same(parts):
    value = ",".join(parts).encode()
    assert envelope.addresses(value) == list(envelope._parse_addresses(value))


def test_envelope_quotes_and_falls_back_on_from():
    octets = crlf(b'Subject: a "quoted" \\ one\nFrom: a@example.org\nReply-To:\n\n')
    assert envelope_of(octets) == (
        rb'(NIL "a \"quoted\" \\ one" ((NIL NIL "a" "example.org")) ((NIL NIL "a" "example.org"))'
        rb' ((NIL NIL "a" "example.org")) NIL NIL NIL NIL NIL)'
    )


def test_8_bit_and_nul():
    octets = crlf(b"Subject: \xe4\0x\nMessage-ID: a\rb\n\n")
    assert envelope_of(octets) == (b"(NIL {2}\r\n\xe4x NIL NIL NIL NIL NIL NIL NIL {3}\r\na\rb)")


@pytest.mark.parametrize(
    "octets, expected",
    [
        (b"\nx\ny\n", b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 6 2 NIL NIL NIL NIL)'),
        (b"Content-Type: image/PNG\n\nx", b'("image" "png" NIL NIL NIL "7bit" 1 NIL NIL NIL NIL)'),
        (b"Content-Type: nonsense\n\nx", b'("application" "octet-stream" NIL NIL NIL "7bit" 1 NIL NIL NIL NIL)'),
        (
            b'Content-Type: text/html; charset="utf-8"\nContent-Disposition: inline; filename=x\n'
            b"Content-Language: de, en\nContent-Transfer-Encoding: Quoted-Printable\n\n",
            b'("text" "html" ("charset" "utf-8") NIL NIL "quoted-printable" 0 0'
            b' NIL ("inline" ("filename" "x")) ("de" "en") NIL)',
        ),
        (
            b"Content-Type: multipart/mixed; boundary=a\n\n--a\n\nx\n--a--\n",
            b'(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0 NIL NIL NIL NIL)'
            b' "mixed" ("boundary" "a") NIL NIL NIL)',
        ),
        (
            b"Content-Type: message/rfc822\n\nSubject: in\n\nx\n",
            b'("message" "rfc822" NIL NIL NIL "7bit" 18 (NIL "in" NIL NIL NIL NIL NIL NIL NIL NIL)'
            b' ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 1 NIL NIL NIL NIL) 3 NIL NIL NIL NIL)',
        ),
    ],
)
def test_bodystructure(octets, expected):
    assert structure(octets) == expected


def test_a_fault_in_what_is_computed_stops_no_mail(tmp_path, monkeypatch):
    body_text = text.body_text
    monkeypatch.setattr(text, "body_text", lambda root: body_text(root) if not root.octets else 1 / 0)
    db = schema.open_database(str(tmp_path / "mail.db"), create=True)
    with schema.writing(db):
        key = content.add(db, b"id", crlf(b"Subject: x\n\ntext\n"), 1, 0)
    header, body = db.execute("SELECT header, body FROM octets WHERE content = ?", (key,)).fetchone()
    assert header + body == b"Subject: x\r\n\r\ntext\r\n"


# What is computed of a message is a small multiple of its size, whoever sends it.

FIELD = b"From: " + b"\n ".join([b":;" * 480] * 100)
HOSTILE = {
    "groups": FIELD + b"\n\nx\n",
    "groups in an enclosed message": b"Content-Type: message/rfc822\n\n" + FIELD + b"\n\nx\n",
    "named groups": b"To: " + b"\n ".join([b"a:;" * 300] * 100) + b"\n\nx\n",
    "short addresses": b"From: " + b"\n ".join([b"a@b," * 200] * 100) + b"\n\nx\n",
    "a digest": b"Content-Type: multipart/digest; boundary=x\n\n" + b"--x\n\n" * 20_000,
    "a digest of senders": b"Content-Type: multipart/digest; boundary=x\n\n" + b"--x\n\nFrom:a@b,c@d,e@f\n\n" * 5000,
    "small parts": b"Content-Type: multipart/mixed; boundary=x\n\n" + b"--x\n\n" * 20_000,
    "parameters": b"Content-Type: text/plain" + b";\n a=b" * 20_000 + b"\n\nx\n",
    "capitals that fold into more": b"Subject: x\nContent-Type: text/plain; charset=utf-8\n\n"
    + "\ufb03".encode() * 30_000,
}


@pytest.mark.parametrize("octets", HOSTILE.values(), ids=HOSTILE)
def test_what_is_computed_is_a_small_multiple(octets):
    octets = with_crlf(octets)
    columns, texts, ordering = content.computed(message.parse(octets))
    kept = [*columns.values(), *texts, *ordering]
    size = sum(len(one) for one in kept if isinstance(one, (bytes, str)))
    assert size < 5 * len(octets) + 100_000


def test_a_message_that_no_limit_has_foreseen(tmp_path, monkeypatch):
    """It is there, octet for octet, and it is said."""
    monkeypatch.setattr(content, "COMPUTED_MAX", 100)
    monkeypatch.setattr(content, "COMPUTED_RATIO", 0)
    db = schema.open_database(str(tmp_path / "mail.db"), create=True)
    octets = with_crlf(b"Subject: x\n\n" + b"y" * 1000)
    key = content.add(db, bytes(16), octets, 7, 0)
    assert content.octets_of(db, key) == octets
    assert content.reduced(db, 0) == [7] and content.reduced(db, 7) == []
