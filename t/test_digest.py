"""The running digest of the fold: machines that disagree notice it at the first change."""

import json

import pytest
from cspool import command
from cspool.database import aside, checkpoint, digest, outbox, schema, seen
from cspool.database.accept import accept
from cspool.database.replay import Replay
from cspool.errors import Contradiction, DataError
from hypothesis import given
from hypothesis import strategies as st
from log import ALICE, HOST, Device, Log, state_of

LINES = st.lists(st.binary(max_size=20))


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def desktop(tmp_path, log):
    desktop = Device(tmp_path, "desktop")
    desktop.fetch(log)
    desktop.trust(log, HOST)
    for name in "abc":
        log.append(command.deliver(f"Subject: {name}\r\n\r\n".encode(), 1), HOST)
    desktop.fetch(log)
    return desktop


def flag(device, name="x"):
    device.change({"do": "add-flags", "flags": [name], "ids": b"".join(device.ids()).hex()})


@given(LINES, LINES, st.randoms(use_true_random=False))
def test_it_is_a_sum(some, others, random):
    both = [*some, *others]
    random.shuffle(both)
    assert digest.of(both) == digest.total([digest.of(some), digest.of(others)])
    assert digest.of([]) == digest.EMPTY and len(digest.of(both)) == digest.SIZE


def test_it_is_what_the_manual_says():
    """One row, and the same row twice, which does not cancel out."""
    one = "1580155b44804bfba7d0c7b3869a7bd8cc6c51fdb8e56e55945fed71e7b8d070"  # what b2sum -l 256 prints
    row = digest.row("subscribed", "INBOX")
    assert row == b'["subscribed","INBOX"]'
    number = int.from_bytes(digest.of([row]), "little")
    assert digest.of([row, row]) == (2 * number % 2**256).to_bytes(32, "little") != digest.of([row])
    assert digest.of([row]).hex() == one


def test_every_kind_of_row_is_watched(tmp_path, log, desktop):
    """A row that comes, changes or goes, by whatever statement, is in the digest: state_of compares them."""
    db = desktop.db
    assert {rows.table for rows in digest.ROWS} >= {"message", "mailbox", "tombstone", "aside", "device", "lost"}
    ids = b"".join(desktop.ids()[:2]).hex()
    for row in (
        {"do": "create", "name": "Work", "nonce": "01" * 16},
        {"do": "create", "name": "Work", "nonce": "02" * 16},
        {"do": "rename", "name": "Old", "mailbox": command.create_id(b"\1" * 16, "Work").hex()},
        {"do": "move", "ids": ids, "mailbox": command.create_id(b"\2" * 16, "Work").hex()},
        {"do": "copy", "ids": ids, "mailbox": "00" * 16, "nonce": "03" * 16},
        {"do": "subscribe", "name": "x"},
        {"do": "unsubscribe", "name": "x"},
        {"do": "set-metadata", "entry": "/private/comment", "value": "00"},
        {"do": "set-metadata", "entry": "/private/comment", "value": ""},
        {"do": "set-metadata", "entry": "/private/comment"},
        {"do": "distrust", "key": HOST.public.sign.hex()},
        {"do": "trust", "key": HOST.public.sign.hex(), "comment": "again"},
        {"do": "delete", "ids": ids, "mailbox": command.create_id(b"\1" * 16, "Work").hex()},
    ):
        before = seen.cursor(db).digest
        desktop.change(row)
        desktop.push(log)
        desktop.fetch(log)
        assert seen.cursor(db).digest != before, row
        state_of(db)
    log.append(b"junk", HOST)
    desktop.fetch(log)
    log.compact(list(checkpoint.bodies(db)), list(checkpoint.kept(db)))
    desktop.fetch(log)
    state_of(db)
    with schema.writing(db):
        for rows in reversed(digest.ROWS):  # a message names its mailbox, and an alias another one
            if rows.table not in ("cursor", "mailbox"):
                db.execute(f"DELETE FROM {rows.table}")
    assert digest.of(digest.state(db)) == seen.cursor(db).digest


def test_what_a_client_does_costs_the_fold_nothing(desktop):
    before = seen.cursor(desktop.db).digest
    flag(desktop)
    assert seen.cursor(desktop.db).digest == before


def disagree(tmp_path, log, desktop):
    """Return a machine that has come to another fold: by a fault of its own, the log is the same."""
    laptop = Device(tmp_path, "laptop")
    laptop.fetch(log)
    with schema.writing(laptop.db):
        laptop.db.execute("UPDATE message SET fold_flags = 'wrong', flags = 'wrong' WHERE id = ?", laptop.ids()[:1])
    # What it had come to at its cursor is known by then.
    laptop.db.execute("UPDATE history SET digest = (SELECT digest FROM cursor) WHERE number = 4")
    assert state_of(laptop.db) != state_of(desktop.db)
    return laptop


@pytest.mark.parametrize("author", ["laptop", "desktop"])
def test_a_machine_that_disagrees_is_noticed_at_the_first_change(tmp_path, log, desktop, author):
    devices = {"laptop": disagree(tmp_path, log, desktop), "desktop": desktop}
    flag(devices[author])
    devices[author].push(log)
    devices[author].fetch(log)  # who made it agrees with itself
    (other,) = (one for name, one in devices.items() if name != author)
    before = other.state()
    with pytest.raises(Contradiction, match=r"record 5 .* other mailboxes at record 4: a fork, or a fault"):
        other.fetch(log)
    assert other.state() == before
    # Accepting the log heals both.
    for one in (other, devices[author]):
        accept(one.db, [ALICE], lambda: log.stream(0, len(log.records)))
    assert not aside.list_all(other.db)
    for _ in range(2):
        for one in devices.values():
            one.push(log)
            one.fetch(log)
    assert state_of(other.db) == state_of(devices[author].db)


def test_who_has_lost_records_states_nothing_and_compares_nothing(tmp_path, log, desktop):
    """Those who had them before may have come to something else, and nobody is at fault."""
    frames = [one for one in log.stream(0, 4) if one.number != 3]
    frames[0] = frames[0]._replace(record=log.head(4)._replace(first=4).text())
    late = Device(tmp_path, "late")
    Replay(late.db, [ALICE]).run(iter(frames))
    assert seen.is_lossy(late.db, 4) and not seen.is_lossy(late.db, 2)
    assert state_of(late.db) != state_of(desktop.db)
    flag(late)
    (body,) = outbox.bodies(late.db)
    assert "digest" not in json.loads(body.partition(b"\n")[0])
    late.push(log)
    flag(desktop, "y")
    desktop.push(log)
    for one in (late, desktop):
        one.fetch(log)
    # A checkpoint must say the same on all machines: that of one who has them brings the other back.
    desktop.checkpoint(log)
    with pytest.raises(Contradiction, match="states other mailboxes"):
        late.fetch(log)
    accept(late.db, [ALICE], lambda: log.stream(0, len(log.records)))
    assert state_of(late.db).count(b'["message"') == 3
    late.fetch(log)
    desktop.fetch(log)
    assert state_of(late.db) == state_of(desktop.db) and not seen.is_lossy(late.db, len(log.records))


def test_a_load_that_is_cut_off_leaves_the_fold_alone(tmp_path, log, desktop):
    """Also what it sets aside: until the state replaces the fold, a change states the digest of what was there."""
    log.append(b"junk", HOST)
    for name in "def":
        log.append(command.deliver(f"Subject: {name}\r\n\r\n".encode(), 1), HOST)
    desktop.fetch(log)
    desktop.checkpoint(log)
    new = Device(tmp_path, "new")
    new.fetch(log, 0)
    before = state_of(new.db)
    new.fetch_and_die(log, 10, {9})
    assert seen.reached(new.db) == 5 and state_of(new.db) == before
    new.fetch(log)
    desktop.fetch(log)
    assert state_of(new.db) == state_of(desktop.db) and b'["aside",5]' in state_of(new.db)


def test_a_digest_that_went_wrong_makes_no_checkpoint(desktop):
    desktop.db.execute("UPDATE cursor SET digest = zeroblob(32)")
    with pytest.raises(DataError, match="digest of the mailboxes is wrong"):
        list(checkpoint.bodies(desktop.db))
