"""One meaning for a stranger's record, at the price of its own size; and one form of JSON for all readers."""

import struct
import zlib

import pytest
from cspool import command, form, frame, keys, record
from cspool.database import aside, checkpoint, outbox
from cspool.errors import DataError
from hypothesis import given
from hypothesis import strategies as st
from log import ALICE, HOST, Device, Log, state_of

STRANGER = keys.SecretKey(b"s" * 32)


def sealed(body, signer, deflated=None):
    """Return a record of any body, deflated as it is given here."""
    stored = zlib.compress(body, 9) if deflated is None else deflated
    signature = signer.sign(record._signed(ALICE.public.box, body))
    plaintext = struct.pack(">32s64sBI", signer.public.sign, signature, 1, len(stored)) + stored
    return b"\1" + ALICE.public.seal(plaintext + bytes(record.padded(len(plaintext)) - len(plaintext)))


def put(log, one):
    """Append a sealed record to a log in memory."""
    log.records.append(one)
    log.bodies.append((None, None))
    log.chains.append(frame.next_chain(log.chains[-1], len(log.records), one))


def mail(text):
    return command.deliver(b"Subject: x\r\n\r\n" + text, 1)


@pytest.fixture
def log():
    return Log()


def trust(device, key):
    device.change({"do": "trust", "key": key.public.sign.hex(), "comment": ""})


def test_a_strangers_record_of_a_later_version_stops_nobody(tmp_path, log):
    """Not the machine that replays it, nor one that loads a checkpoint which keeps it."""
    put(log, sealed(b'{"command":"future"}\n', STRANGER))
    log.append(mail(b"mail"), ALICE)
    first, new = Device(tmp_path, "first"), Device(tmp_path, "new")
    first.fetch(log)
    assert [one.number for one in aside.list_all(first.db)] == [1]
    log.compact(list(checkpoint.bodies(first.db)), list(checkpoint.kept(first.db)))
    first.fetch(log)
    new.fetch(log)
    assert len(first.ids()) == len(new.ids()) == 1
    assert aside.list_all(new.db) == aside.list_all(first.db)


def test_a_strangers_record_costs_its_own_size(tmp_path, log):
    """130 kB may inflate to 128 MiB, of brackets or of mail: it is neither inflated nor kept inflated."""
    put(log, sealed(b'{"command":"deliver","date":1}\n' + bytes(64 << 20), STRANGER))
    put(log, sealed(b'{"command":"deliver","date":1,"x":[' + b"[]," * (20 << 20) + b"[]]}\nx", STRANGER))
    device = Device(tmp_path, "one")
    device.fetch(log)
    rows = device.db.execute("SELECT length(sealed) FROM aside ORDER BY number").fetchall()
    assert rows == [(len(one),) for one in log.records]


def test_what_a_host_had_sent_before_it_was_trusted(tmp_path, log):
    """Each record is delivered whole, or stays set aside; and the trust takes effect in any case."""
    nested = b'{"command":"deliver","date":1,"x":' + b"[" * 970 + b"]" * 970 + b"}\nFrom: h@x\n\nm\n"
    long_line = b'{"command":"deliver","date":1,"flags":[' + b'"a",' * 20000 + b'"a"]}\nx'
    for body in (mail(b"one"), nested, long_line, b'{"command":"future"}\n', mail(b"two")):
        put(log, sealed(body, HOST))
    put(log, sealed(b"x" * 100, HOST, zlib.compress(b"x" * 100)[:-3]))
    device = Device(tmp_path, "one")
    device.fetch(log)
    assert len(aside.list_all(device.db)) == 6 and not device.ids()
    trust(device, HOST)
    device.push(log)
    device.fetch(log)
    assert len(device.ids()) == 2
    assert [one.number for one in aside.list_all(device.db)] == [2, 3, 4, 6]
    assert device.db.execute("SELECT counter FROM device").fetchall() == [(1,)]
    # A machine that loads all this knows the same, and delivers nothing else on another trust.
    log.compact(list(checkpoint.bodies(device.db)), list(checkpoint.kept(device.db)))
    device.fetch(log)
    new = Device(tmp_path, "new")
    new.fetch(log)
    for one in (device, new):
        trust(one, HOST)
    device.push(log)
    for one in (device, new):
        one.fetch(log)
        assert len(one.ids()) == 2 and len(aside.list_all(one.db)) == 4


def test_many_records_are_one_line(tmp_path, log):
    for _ in range(50):
        put(log, sealed(b"x", STRANGER))
    device = Device(tmp_path, "one")
    device.fetch(log)
    (kind,) = aside.kinds(device.db)
    assert aside.describe(kind) == f"50 records from 1 to 50 are set aside: {kind.reason}"
    assert aside.untrusted(device.db) == {STRANGER.public.sign: 50}


def test_mail_to_a_new_key_that_came_before_the_log_knew_it(tmp_path, log):
    """A machine that has the new key already, and one that gets it later, come to the same."""
    new = keys.SecretKey(b"n" * 32)
    early, late = Device(tmp_path, "early", (new, ALICE)), Device(tmp_path, "late")
    late.fetch(log)
    trust(late, HOST)
    late.push(log)
    for text, sender in ((b"1", HOST), (b"2", STRANGER), (b"3", HOST)):
        body = mail(text)
        log.append_sealed(record.seal(body, sender, new.public), body, sender)
    late.fetch(log)
    assert [one.reason for one in aside.list_all(late.db)] == ["does not open with this key"] * 3
    late.change(outbox.user_key(new.public))
    late.push(log)
    late.own = (new, ALICE)
    for device in (early, late):
        device.fetch(log)
        assert len(device.ids()) == 2
    assert state_of(early.db) == state_of(late.db)
    assert aside.untrusted(late.db) == {STRANGER.public.sign: 1}
    trust(late, STRANGER)
    late.push(log)
    for device in (early, late):
        device.fetch(log)
        assert len(device.ids()) == 3


def test_a_user_key_whose_halves_are_of_two_keys(tmp_path, log):
    device = Device(tmp_path, "one")
    log.append(mail(b"x"), ALICE)
    device.fetch(log)
    other = keys.SecretKey(b"o" * 32)
    device.change({"do": "user-key", "sign": ALICE.public.sign.hex(), "box": other.public.box.hex()})
    device.push(log)
    device.fetch(log)
    (one,) = aside.list_all(device.db)
    assert one.reason == "change with a user-key whose halves are not of one key"


# The form

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2**63 - 1) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=3), inner, max_size=3),
    max_leaves=10,
).filter(lambda value: depth(value) <= form.DEPTH_MAX)


def depth(value):
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inside is None else 1 + max(map(depth, inside), default=0)


@given(VALUES)
def test_what_is_written_is_read(value):
    assert form.read(form.line(value)) == value


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" 1",
        b"1 ",
        b'{"a": 1}',
        b"1.0",
        b"1e3",
        b"-0",
        b"-1",
        b"01",
        b"NaN",
        b"Infinity",
        b"9223372036854775808",
        b"1" * 5000,
        b'{"a":1,"a":1}',
        b'{"x":{"a":1,"a":1}}',
        b'"\\u0041"',
        b'"\\/"',
        b'"\\ud800"',
        b'"\xff"',
        b"\xef\xbb\xbf1",
        b"[" * 100_000 + b"]" * 100_000,
        b"[" * 960 + b"]" * 960 + b" ",
        b'{"a":1}{}',
        b"[[[[[]]]]]",
        b"'a'",
    ],
    ids=lambda line: line[:20].decode("latin-1"),
)
def test_another_form_of_json_is_none(line):
    with pytest.raises(ValueError):
        form.read(line)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"command":"deliver","date":1,"x":1}', "unknown field 'x'"),
        ('{"command":"deliver","date":1,"mailbox":null}', "wrong 'mailbox'"),
        ('{"command":"deliver","date":1,"flags":null}', "wrong 'flags'"),
        ('{"command":"deliver","date":1,"flags":["\\\\seen"]}', "wrong 'flags'"),
        ('{"command":"deliver"}', "wrong 'date'"),
        ('{"command":"deliver","date":253402128001}', "wrong 'date'"),
        ('{"command":"deliver","date":1,"mailbox":"a//b"}', "wrong 'mailbox'"),
    ],
)
def test_a_delivery_has_the_fields_that_it_has(line, reason):
    with pytest.raises(DataError, match=reason):
        command.decode(line.encode() + b"\nx")


@pytest.mark.parametrize(
    "change",
    [
        {"do": "append", "mailbox": "00" * 16, "flags": [], "date": 1, "size": 0, "nonce": "00" * 16},
        {"do": "create", "name": "a", "nonce": "00" * 16, "use": ""},
        {"do": "create", "name": "a", "nonce": "00" * 16, "use": "\\Sent \\Sent"},
        {"do": "create", "name": "a", "nonce": "00" * 16, "use": "\\Sent  \\Junk"},
        {"do": "trust", "key": "00" * 32},
        {"do": "expunge", "ids": "00" * 16, "x": 1},
        {"do": "expunge", "ids": "AA" * 16},
    ],
    ids=str,
)
def test_a_small_change_has_the_fields_that_it_has(change):
    with pytest.raises((DataError, ValueError)):
        command.changes([change])
