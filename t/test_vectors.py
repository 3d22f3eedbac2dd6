"""The test vectors agree with the manual pages, and this implementation reads them."""

import io
import json
import subprocess
from pathlib import Path

import pytest
from cspool import command, frame, keys, record
from cspool.database import aside, checkpoint, digest, schema, seen
from cspool.database.replay import Replay
from cspool.errors import BadConfig, Contradiction, DataError, TooOld, TryAgain
from cspool.spool.append import Spool
from cspool.spool.compact import Keep
from cspool.spool.files import Head
from log import state_of
from reader import Reader

VECTORS = Path(__file__).resolve().parent / "vectors"
COMMANDS = sorted(VECTORS.glob("commands/*/*"))
BAD_RECORDS = sorted(path.name for path in VECTORS.glob("records/bad-*"))


@pytest.fixture
def secret(tmp_path):
    """Return a function that reads a secret key, from a copy with mode 600: a checkout does not keep the mode."""

    def read(name, passphrase=b""):
        path = tmp_path / name
        path.write_bytes((VECTORS / "keys" / name).read_bytes())
        path.chmod(0o600)
        return keys.read_secret(str(path), lambda _: passphrase)

    return read


def test_keys(secret):
    alice = secret("alice")
    assert alice.public == keys.read_public(str(VECTORS / "keys/alice.pub"))
    assert alice.public == keys.SecretKey(bytes(range(32)), "alice@laptop").public
    assert alice.public.box.hex() == "7bf7d600ee7a6c083046316ef99133b8bf8a5876fdc7a7553224f52c3036e77e"
    assert alice.public.sign.hex() == "13c5d60e4a0f7aaba6b0122616a61f6ccd9bf2530e9e3563661ec688b6242333"
    assert secret("alice-locked", b"correct horse battery staple").public == alice.public
    assert secret("host").public == keys.read_public(str(VECTORS / "keys/host.pub"))
    with pytest.raises(BadConfig):
        keys.read_public(str(VECTORS / "keys/mistyped.pub"))


@pytest.mark.parametrize("name, sender", [("deliver", "host"), ("deflated", "host"), ("change", "alice")])
def test_records(secret, name, sender):
    opened = record.open_with([secret("alice")], (VECTORS / "records" / name).read_bytes())
    assert opened.sender == secret(sender).public.sign
    assert opened.body == (VECTORS / f"records/{name}.body").read_bytes()
    assert command.decode(opened.body)[0]["command"] == name.replace("deflated", "deliver")


@pytest.mark.parametrize("name", BAD_RECORDS)
def test_bad_records(secret, name):
    with pytest.raises(DataError):
        record.open_with([secret("alice")], (VECTORS / "records" / name).read_bytes())


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_commands(tmp_path, secret, path):
    """Each body is what its directory says, as the record after one that trusts the host."""
    alice, host = secret("alice"), secret("host")
    spool, chain = bytes(15) + b"\1", frame.first_chain(bytes(15) + b"\1")
    trust = {"do": "trust", "key": host.public.sign.hex(), "comment": "mail@example.org"}
    fields = {"command": "change", "spool": spool.hex(), "device": "aa" * 16, "counter": 1, "previous": "00" * 32}
    first = command.encode({**fields, "number": 0, "chain": chain.hex(), "changes": [trust]})
    records = [
        record.seal(first, alice, alice.public),
        record.seal(path.read_bytes(), host if path.name.startswith("host-") else alice, alice.public),
    ]
    frames = []
    for number, sealed in enumerate(records, 1):
        frames.append(frame.Frame(number, chain, sealed))
        chain = frame.next_chain(chain, number, sealed)
    head = Head(spool, 3, chain, 1, "-", 0, 0, bytes(32))
    db = schema.open_database(str(tmp_path / "mail.db"), create=True)
    try:
        Replay(db, [alice]).run(iter([frame.Frame(frame.HEAD_NUMBER, frame.UNCHAINED, head.text()), *frames]))
        found = "aside" if aside.list_all(db) else "taken"
    except (TooOld, BadConfig, Contradiction):
        found = "stops"
    assert found == path.parent.name


def test_there_are_commands():
    assert {path.parent.name for path in COMMANDS} == {"taken", "aside", "stops"} and len(COMMANDS) > 70


def test_there_are_bad_records():
    assert len(BAD_RECORDS) == 8


@pytest.mark.parametrize(
    "name, expected",
    [
        ("empty", []),
        ("two", [b"record one", b"record two"]),
        ("nothing", TryAgain),
        ("cut-in-header", TryAgain),
        ("cut-in-record", TryAgain),
        ("cut-before-end", TryAgain),
        ("bad-crc", DataError),
        ("bad-count", DataError),
        ("bad-tail", DataError),
        ("bad-length", DataError),
    ],
)
def test_streams(name, expected):
    stream = io.BytesIO((VECTORS / "streams" / name).read_bytes())
    if isinstance(expected, list):
        assert [one.record for one in frame.read(stream)] == expected
    else:
        with pytest.raises(expected):
            list(frame.read(stream))


def test_spool(secret):
    fetched = subprocess.run(["cspool-fetch", "--after=0", VECTORS / "spool"], stdout=subprocess.PIPE, check=True)
    assert fetched.stdout == (VECTORS / "streams/fetched").read_bytes()
    frames = list(frame.read(io.BytesIO(fetched.stdout)))
    head = Spool(str(VECTORS / "spool")).reader.head()
    assert frames[0].record == head.text()
    chain, lines = frame.first_chain(head.spool), []
    for one in frames[1:]:
        lines.append(f"{one.number} {chain.hex()}\n")
        assert one.chain == chain
        chain = frame.next_chain(chain, one.number, one.record)
    assert "".join([*lines, f"{head.next} {chain.hex()}\n"]) == (VECTORS / "spool-chain").read_text()
    assert head.chain == chain
    assert record.open_with([secret("alice")], frames[1].record).sender == secret("host").public.sign


def test_checkpoint(secret, tmp_path):
    """Replaying the log gives this state, and loading the checkpoint gives the same mailboxes."""
    octets = {path.name: path.read_bytes() for path in (VECTORS / "checkpoint").iterdir()}
    states = {}
    for name in ("log", "fetched"):
        with schema.opened(str(tmp_path / name), create=True) as db:
            Replay(db, [secret("alice")]).run(frame.read(io.BytesIO(octets[name])))
            cursor = seen.cursor(db)
            states[name] = state_of(db).splitlines()
            if name == "log":
                assert state_of(db) == octets["state"]
                history = db.execute("SELECT number, digest FROM history ORDER BY number")
                lines = "".join(f"{number} {one.hex()}\n" for number, one in history)
                assert lines.encode() == octets["digests"]
                assert Keep.of(cursor.spool, cursor.number, cursor.chain, checkpoint.kept(db)).text() == octets["keep"]
    rows = json.loads(b"[" + b",".join(states["log"]) + b"]")
    assert {row[0] for row in rows} == {rows.kind for rows in digest.ROWS} - {"lost", "checkpoint"}
    more = [line.split(b",")[0] for line in states["fetched"] if line not in states["log"]]
    assert set(states["log"]) <= set(states["fetched"]) and more == [b'["checkpoint"', b'["message"']
    keep, *records = frame.read(io.BytesIO(octets["stream"]))
    assert keep.number == frame.KEEP_NUMBER and keep.record == octets["keep"]
    bodies = [record.open_with([secret("alice")], one.record).body for one in records]
    fields, _ = command.decode(bodies[-1])
    assert fields["parts"] == [command.body_hash(body) for body in bodies[:-1]]
    assert b"".join(command.decode(body)[1] for body in bodies[:-1]) == octets["state"]


def test_ids():
    """Ids are permanent: these must never change."""
    message = b"From: bob@example.org\r\nSubject: vector\r\n\r\nThe quick brown fox.\r\n"
    assert command.delivery_id("INBOX", message).hex() == "1f4ed80a812c03c7ef88e2986f4ca39b"
    assert command.append_id(b"n" * 16, message).hex() == "521c32aa2bc903c16bc247cd00240dc6"
    assert command.copy_id(b"n" * 16, b"i" * 16).hex() == "448f31795f1fdedb80a79b34b8f29d50"
    assert command.delivered_mailbox_id(b"s" * 16, 7).hex() == "9286500aa01f34693d27898d202f83d2"


def test_the_second_reader():
    """It was written from the manual pages only."""
    octets = {path.name: path.read_bytes() for path in (VECTORS / "checkpoint").iterdir()}
    reader, loaded = Reader([bytes(range(32))]), Reader([bytes(range(32))])
    reader.read(octets["log"])
    assert reader.state() == octets["state"]
    assert "".join(f"{number} {one}\n" for number, one in sorted(reader.digests.items())).encode() == octets["digests"]
    loaded.read(octets["fetched"])
    assert loaded.messages.items() >= reader.messages.items() and len(loaded.messages) == len(reader.messages) + 1
    reader.read(octets["fetched"])
    assert loaded.state() == reader.state()
