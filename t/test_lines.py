"""Line ends: text has CRLF, and binary parts come back octet for octet, by APPEND, over the log, and by export."""

import pytest
from cspool import command
from cspool.database import content
from cspool.mail.lines import canonical, with_lf
from cspool.octets import with_crlf
from hypothesis import given
from hypothesis import strategies as st
from log import ALICE, Device, Log


def message(binary, line_end=b"\r\n", encoding=b"binary"):
    lines = [b"Subject: x", b"Content-Type: multipart/mixed; boundary=b", b"", b"--b", b"", b"text", b"--b"]
    lines += [b"Content-Type: application/octet-stream", b"Content-Transfer-Encoding: " + encoding, b"", binary]
    return line_end.join([*lines, b"--b--", b""])


@given(st.binary(max_size=60).filter(lambda octets: b"--b" not in octets), st.sampled_from([b"\n", b"\r\n"]))
def test_a_binary_part_stays(octets, line_end):
    octets = b"<" + octets + b">"
    stored = canonical(message(octets, line_end))
    assert stored == message(octets)
    assert canonical(stored) == stored
    assert with_lf(stored) == message(octets, b"\n")


@given(st.binary(max_size=60), st.sampled_from([b"7bit", b"8bit", b"base64"]))
def test_other_parts_are_text(octets, encoding):
    octets = message(octets, b"\n", encoding)
    assert canonical(octets) == with_crlf(octets)


@given(st.binary(max_size=200))
def test_any_octets(octets):
    octets = b"Content-Transfer-Encoding: binary\n" + octets
    assert canonical(canonical(octets)) == canonical(octets)


@pytest.mark.parametrize("by", ["append", "delivery"])
def test_on_all_machines(tmp_path, by):
    log, one, two = Log(), Device(tmp_path, "one"), Device(tmp_path, "two")
    octets = message(b"a\nb\r\nc\rd\0\n\xff")
    one.fetch(log)
    if by == "append":
        row = {"do": "append", "mailbox": "00" * 16, "flags": [], "date": 1, "size": len(octets), "nonce": "01" * 16}
        one.change(row, octets=octets)
        one.push(log)
    else:
        log.append(command.deliver(octets, 1), ALICE)
    for device in (one, two):
        device.fetch(log)
    one.checkpoint(log)
    three = Device(tmp_path, "three")
    three.fetch(log)
    for device in (one, two, three):
        (key,) = device.db.execute("SELECT content FROM message").fetchone()
        assert content.octets_of(device.db, key) == octets
        assert device.db.execute("SELECT size FROM content").fetchone() == (len(octets),)
