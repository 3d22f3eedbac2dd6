"""Checkpoints: what the log can drop after them, and what a lying spool can do with them.

Alice's laptop has applied the first SEEN records of her log when her desktop
makes a checkpoint, which keeps only some of the records.
"""

import json

import pytest
from cspool import command, frame, keys, record
from cspool.database import aside, checkpoint, digest, outbox, schema, seen
from cspool.database.replay import Replay
from cspool.errors import BadConfig, CheckpointDamaged, Contradiction, DataError, TryAgain
from cspool.frame import Frame
from cspool.spool.compact import Keep
from hypothesis import given
from hypothesis import strategies as st
from log import ALICE, HOST, SPOOL, Device, Log, read, state_of
from reader import Reader

SEEN = 4
DAY = 86400


def deliver(log, *names):
    for name in names:
        log.append(command.deliver(f"Subject: {name}\r\n\r\n".encode(), 1), HOST)


def flags(device, add="\\Seen"):
    return {"do": "add-flags", "flags": [add], "ids": b"".join(device.ids()).hex()}


def copy_and_expunge(device, log):
    source = command.delivery_id("INBOX", b"Subject: b\r\n\r\n").hex()
    device.change({"do": "copy", "ids": source, "mailbox": "00" * 16, "nonce": "01" * 16})
    device.change({"do": "expunge", "ids": source})
    device.push(log)
    device.fetch(log)


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def desktop(tmp_path, log):
    """A log of a trust, five messages (records 2 to 6; that of 2 is expunged), flags, an expunge and junk."""
    desktop = Device(tmp_path, "desktop")
    desktop.fetch(log)
    desktop.trust(log, HOST)
    deliver(log, *"abcde")
    desktop.fetch(log)
    one = next(one for one in desktop.ids() if one == command.delivery_id("INBOX", b"Subject: a\r\n\r\n"))
    for row in ({"do": "expunge", "ids": one.hex()}, flags(desktop)):
        desktop.change(row)
        desktop.push(log)
        desktop.fetch(log)
    log.append(b"not a command", ALICE)
    desktop.fetch(log)
    return desktop


@pytest.fixture
def laptop(tmp_path, log, desktop):
    laptop = Device(tmp_path, "laptop")
    laptop.fetch(log, SEEN)
    return laptop


def compacted(log, desktop):
    assert desktop.checkpoint(log)
    desktop.fetch(log)
    return log


def numbers(frames):
    """Return the first number that each frame stands for."""
    return [one.number % frame.DROPPED for one in frames]


def apply(device, frames):
    Replay(device.db, [ALICE]).run(iter(frames))


def same(one, other):
    return all(
        get(one) == get(other)
        for get in (
            Device.state,
            Device.mailboxes,
            Device.subscribed,
            Device.metadata,
            lambda device: state_of(device.db),
        )
    )


def test_who_is_behind_and_who_begins_have_the_same_as_who_was_there(tmp_path, log, desktop, laptop):
    compacted(log, desktop)
    new = Device(tmp_path, "new")
    uids = laptop.seen_by_imap()
    for device in (laptop, new):
        device.fetch(log)
        assert same(device, desktop)
        assert seen.cursor(device.db).number == len(log.records)
        assert not device.db.execute("SELECT 1 FROM part UNION ALL SELECT 1 FROM wanted").fetchone()
        assert [number for (number,) in device.db.execute("SELECT number FROM aside")] == [9]
    assert {one: row[1] for one, row in laptop.seen_by_imap().items() if one in uids}.items() <= {
        one: row[1] for one, row in uids.items()
    }.items()


def test_who_was_away_for_three_checkpoints_loads_the_last(log, desktop, laptop):
    for name in "xyz":
        compacted(log, desktop)
        deliver(log, name)
        desktop.fetch(log)
    compacted(log, desktop)
    laptop.fetch(log)
    assert same(laptop, desktop)


def compacted_late(log, desktop, *names):
    """Compact the log with a checkpoint that is appended after more mail has come."""
    desktop.fetch(log)
    made = list(checkpoint.bodies(desktop.db)), list(checkpoint.kept(desktop.db)), len(log.records)
    deliver(log, *names)
    log.compact(*made)
    return log


def test_one_that_is_appended_late(tmp_path, log, desktop, laptop):
    compacted_late(log, desktop, "f", "g")
    assert numbers(log.stream(SEEN, len(log.records)))[1:] == [12, 13, 5, 6, 7, 9, 10, 11, 12, 13]
    new, reader = Device(tmp_path, "new"), Reader([b"a" * 32])
    for device in (desktop, laptop, new):
        device.fetch(log)
        assert same(device, desktop) and sum(device.state().values()) == 6
    read(reader, log)
    assert reader.state() == state_of(new.db)
    for device in (new, desktop):
        device.change(flags(device, "more"))
        device.push(log)
    for device in (desktop, laptop, new):
        device.fetch(log)
        assert same(device, desktop)


@pytest.mark.parametrize("end", [7, 9, 10, 11, 13])
def test_a_stream_that_was_asked_for_before_another_apply_went_on(log, desktop, laptop, end):
    compacted_late(log, desktop, "f", "g")
    desktop.fetch(log)
    stream = list(log.stream(SEEN, len(log.records)))
    laptop.fetch(log, end)
    apply(laptop, stream)
    assert same(laptop, desktop)


@pytest.mark.parametrize("place", range(1, 7))  # later, another one waits
def test_another_apply_goes_on_while_one_is_loaded(tmp_path, log, desktop, laptop, place):
    compacted_late(log, desktop, "f", "g")
    desktop.fetch(log)
    replay = Replay(laptop.db, [ALICE])

    def stream():
        for index, one in enumerate(log.stream(SEEN, len(log.records))):
            if index == place:
                replay.commit()
                Device(tmp_path, "laptop").fetch(log, 10)
            yield one

    replay.run(stream())
    assert same(laptop, desktop)


def test_what_stands_before_a_late_one_cannot_be_kept_back(log, desktop, laptop):
    """Neither from who loads it, nor from who is past what it states."""
    compacted_late(log, desktop, "f", "g")
    frames = [one for one in log.stream(SEEN, len(log.records)) if one.number not in (10, 11)]
    with pytest.raises(Contradiction, match="records 10 to 11 missing"):
        apply(laptop, frames)
    with pytest.raises(Contradiction, match="records 10 to 11 missing"):
        apply(desktop, frames)


def test_one_for_a_place_before_the_last_one(tmp_path, log, desktop):
    """The operator, or a spool that was asked twice, appends an older one again: it can state nothing new."""
    old = list(checkpoint.bodies(desktop.db))
    deliver(log, "f")
    desktop.fetch(log)
    compacted(log, desktop)
    for body in old:
        log.append(body, ALICE)
    desktop.fetch(log)
    assert aside.list_all(desktop.db)[-1].reason == "a checkpoint for another place in the log"


def test_two_machines_make_one_at_the_same_time(tmp_path, log, desktop, laptop):
    """Who loads the second does not know what the log had come to where the first states it."""
    laptop.fetch(log)
    first = list(checkpoint.bodies(laptop.db)), list(checkpoint.kept(laptop.db)), len(log.records)
    deliver(log, "f")
    desktop.fetch(log)
    second = list(checkpoint.bodies(desktop.db)), list(checkpoint.kept(desktop.db)), len(log.records)
    log.compact(*first)
    log.compact(*second)
    new, reader = Device(tmp_path, "new"), Reader([b"a" * 32])
    for device in (desktop, laptop, new):
        device.fetch(log)
        assert same(device, desktop)
    read(reader, log)
    assert reader.state() == state_of(new.db)


def test_hashes_that_reach_over_what_it_states_prove_nothing(tmp_path, log, desktop):
    """The operator seals a message to the user and puts it in the place of a kept one."""
    desktop.change(flags(desktop, "x"))
    desktop.push(log)
    desktop.fetch(log)
    compacted_late(log, desktop, "f")
    forged = record.seal(command.deliver(b"Subject: e\r\n\r\npay me\r\n", 1), keys.SecretKey(b"e" * 32), ALICE.public)
    frames = list(log.stream(0, len(log.records)))
    place = next(index for index, one in enumerate(frames) if one.number == 9)
    frames[place] = frames[place]._replace(record=forged)
    over = Frame(frame.DROPPED + 10, frame.chain_behind(frames[place]), log.hash(10) + log.hash(11))
    frames[place + 1 : place + 3] = [over]
    new = Device(tmp_path, "new")
    with pytest.raises(Contradiction):
        apply(new, frames)
    assert not new.ids()


def test_before_a_gap_only_an_id_proves_a_message(tmp_path, log, desktop):
    """The operator says that a record is lost, and forges the one before it."""
    compacted(log, desktop)
    for forges in (False, True):
        frames = [one for one in log.stream(0, len(log.records)) if one.number != 6]
        frames[0] = frames[0]._replace(record=log.head(len(log.records))._replace(first=7).text())
        if forges:
            place = next(index for index, one in enumerate(frames) if one.number == 4)
            octets = command.deliver(b"Subject: c\r\n\r\npay me\r\n", 1)
            forged = record.seal(octets, keys.SecretKey(b"e" * 32), ALICE.public)
            frames[place] = frames[place]._replace(record=forged)
            follows = frames[place + 1]
            frames[place + 1] = follows._replace(chain=frame.chain_behind(frames[place]))
        new = Device(tmp_path, f"new{forges}")
        with pytest.raises(Contradiction, match="missing, which the checkpoint in records 10 to 11 keeps") as caught:
            apply(new, frames)
        assert ("record 4 and 2 more" in str(caught.value)) == forges
        assert not new.ids()


def test_a_thief_of_the_old_key_states_nothing_behind_the_change_of_the_key(tmp_path, log, desktop, laptop):
    new = keys.SecretKey(b"n" * 32)
    made = list(checkpoint.bodies(desktop.db)), list(checkpoint.kept(desktop.db)), len(log.records)
    desktop.change(outbox.user_key(new.public))
    desktop.push(log)
    for one in (desktop, laptop):
        one.own = (new, ALICE)
    log.compact(*made)  # signed by the old key
    before = laptop.state()
    with pytest.raises(Contradiction, match="which was loaded, is none in its place"):
        laptop.fetch(log)
    assert laptop.state() == before
    # Nor does it help to say that it is lost where it stands.
    end = len(log.records)
    frames = list(log.stream(seen.reached(laptop.db), end))[:-2]
    frames[0] = frames[0]._replace(record=log.head(end)._replace(first=end + 1).text())
    with pytest.raises(Contradiction, match="which was loaded, is missing in its place"):
        Replay(laptop.db, list(laptop.own)).run(iter(frames))
    assert laptop.state() == before
    desktop.fetch(log)
    assert desktop.checkpoint(log)
    for one in (laptop, desktop):
        one.fetch(log)
    assert same(laptop, desktop)


def test_a_strangers_parts_cost_their_own_size(tmp_path, log, desktop):
    stranger = keys.SecretKey(b"s" * 32)
    lie = forged(log, stranger, rows=b'["user","%s"]\n' % (b"0" * 64) * 100_000)
    new = Device(tmp_path, "new")
    with pytest.raises(Contradiction, match="signed by a key that is not the user's"):
        apply(new, lie.stream(0, 11))
    assert not new.db.execute("SELECT 1 FROM loading_part").fetchone()


def test_none_is_made_within_another(log, desktop):
    for body in list(checkpoint.bodies(desktop.db))[:-1]:
        log.append(body, ALICE)
    desktop.fetch(log)
    with pytest.raises(TryAgain, match="ends within another checkpoint"):
        list(checkpoint.bodies(desktop.db))
    deliver(log, "f")
    desktop.fetch(log)
    assert desktop.checkpoint(log)


def test_the_record_before_a_late_one_is_lost(log, desktop, laptop):
    compacted_late(log, desktop, "f", "g")
    laptop.fetch(log, 10)
    frames = [one for one in log.stream(10, len(log.records)) if one.number != 11]
    frames[0] = frames[0]._replace(record=log.head(len(log.records))._replace(first=12).text())
    apply(laptop, frames)
    assert seen.cursor(laptop.db).number == 13 and b'["lost",11,11]' in state_of(laptop.db)


def test_a_load_forgets_what_a_bad_spool_has_shown(tmp_path, log, desktop):
    """One that lacks a kept record for a while, and a mirror that alters the hashes."""
    compacted(log, desktop)
    new = Device(tmp_path, "new")
    with pytest.raises(Contradiction, match="records 5 to 6 missing"):
        apply(new, [one for one in log.stream(0, len(log.records)) if one.number not in (5, 6)])
    new.fetch(log)
    assert same(new, desktop)
    other = Device(tmp_path, "other")
    frames = list(log.stream(0, len(log.records)))
    frames[3] = frames[3]._replace(record=bytes(64))

    def cut():
        yield from frames[:4]
        yield frames[4]._replace(chain=frame.chain_behind(frames[3]))
        raise TryAgain("cut off")

    with pytest.raises(TryAgain):
        apply(other, cut())
    with pytest.raises(TryAgain, match="is loaded from its beginning"):
        apply(other, log.stream(seen.reached(other.db), len(log.records)))
    other.fetch(log)
    assert same(other, desktop)


def test_a_log_that_was_accepted_anew_while_a_frame_waited(tmp_path, log, desktop, laptop):
    from cspool.database.accept import accept

    def stream():
        for one in log.stream(SEEN, len(log.records)):
            yield one
            if one.number == 6:
                replay.commit()
                accept(Device(tmp_path, "laptop").db, [ALICE], lambda: log.stream(0, 2))

    replay = Replay(laptop.db, [ALICE])
    with pytest.raises(TryAgain, match="accepted anew"):
        replay.run(stream())
    assert seen.cursor(laptop.db).number == 2


def test_what_it_does_not_keep_is_not_needed(tmp_path, log, desktop):
    compacted(log, desktop)
    assert log.kept == [3, 4, 5, 6, 9]
    for number in (1, 2, 7, 8):
        log.hash(number)
        log.records[number - 1] = b"dropped"
    new = Device(tmp_path, "new")
    new.fetch(log)
    assert same(new, desktop)


def test_what_waits_in_the_outbox_is_kept_and_sent(log, desktop, laptop):
    laptop.change(flags(laptop, "mine"))
    device = seen.cursor(laptop.db).device
    compacted(log, desktop)
    laptop.fetch(log)
    assert laptop.db.execute("SELECT count(*) FROM outbox").fetchone() == (1,)
    laptop.push(log)
    for one in (laptop, desktop):
        one.fetch(log)
    assert same(laptop, desktop)
    assert any("mine" in text for _, _, text in desktop.state())
    assert not laptop.db.execute("SELECT 1 FROM outbox").fetchone()
    assert seen.cursor(laptop.db).device == device


def test_what_was_pushed_before_it_leaves_the_outbox(log, desktop, laptop):
    for name in ("one", "two", "three"):
        laptop.change(flags(laptop, name))
        laptop.push(log)
    del log.records[-1], log.chains[-1], log.bodies[-1]  # the last one was lost on its way
    device = seen.cursor(laptop.db).device
    desktop.fetch(log)
    desktop.change({"do": "remove-flags", "flags": ["two"], "ids": b"".join(desktop.ids()).hex()})
    desktop.push(log)
    desktop.fetch(log)
    compacted(log, desktop)
    laptop.fetch(log)
    assert [counter for (counter,) in laptop.db.execute("SELECT counter FROM outbox")] == [3]
    assert seen.cursor(laptop.db).device == device
    texts = {text for _, _, text in laptop.state() if "one" in text}
    assert texts and not any("two" in text for text in texts)  # not done again after the later change


def test_a_database_that_was_restored_goes_on_under_a_new_id(tmp_path, log, desktop, laptop):
    laptop.change(flags(laptop, "one"))
    backup = schema.sqlite3.connect(str(tmp_path / "restored"))
    laptop.db.backup(backup)
    backup.close()
    laptop.change(flags(laptop, "two"))
    laptop.push(log)
    desktop.fetch(log)
    compacted(log, desktop)
    restored = Device(tmp_path, "restored")
    device = seen.cursor(restored.db).device
    restored.fetch(log)
    assert seen.cursor(restored.db).device != device
    restored.push(log)
    for one in (restored, desktop, laptop):
        one.fetch(log)
    assert same(restored, desktop) and same(laptop, desktop)


def test_a_trust_that_it_states_delivers_what_was_set_aside_here(tmp_path, log):
    desktop, laptop = Device(tmp_path, "desktop"), Device(tmp_path, "laptop")
    deliver(log, "early")
    for one in (laptop, desktop):
        one.fetch(log)
    desktop.trust(log, HOST)
    desktop.fetch(log)
    compacted(log, desktop)
    laptop.fetch(log)
    assert same(laptop, desktop) and sum(laptop.state().values()) == 1


def test_a_copy_of_what_is_gone_is_made_of_what_is_here(tmp_path, log, desktop, laptop):
    """The laptop has already read the record with its content, which is not sent again."""
    copy_and_expunge(desktop, log)
    compacted(log, desktop)
    laptop.fetch(log)
    assert same(laptop, desktop)


def test_what_was_appended_here_and_is_gone_again_elsewhere(log, desktop, laptop):
    """Its copy is made from the record: the message on the laptop is from its outbox and not yet from the log."""
    octets = b"Subject: x\r\n\r\n"
    row = {"do": "append", "mailbox": "00" * 16, "flags": [], "date": 1, "size": len(octets), "nonce": "02" * 16}
    laptop.change(row, octets=octets)
    laptop.push(log)
    desktop.fetch(log)
    source = command.append_id(bytes([2]) * 16, octets).hex()
    desktop.change(
        {"do": "copy", "ids": source, "mailbox": "00" * 16, "nonce": "03" * 16}, {"do": "expunge", "ids": source}
    )
    desktop.push(log)
    desktop.fetch(log)
    compacted(log, desktop)
    laptop.fetch(log)
    assert same(laptop, desktop)
    compacted(log, laptop)
    desktop.fetch(log)


def test_gone_is_forgotten_after_thirty_days(tmp_path, log, desktop):
    """Until then a late retry does not bring expunged mail back. All machines forget at the same record."""
    new = Device(tmp_path, "new")
    for days, expected in ((0, 1), (29, 1), (30, 0)):
        bodies = list(checkpoint.bodies(desktop.db))
        last = json.loads(bodies[-1])
        bodies[-1] = command.encode({**last, "date": 1_000_000_000 + days * DAY})
        log.compact(bodies, list(checkpoint.kept(desktop.db)))
        for one in (desktop, new):
            one.fetch(log)
            assert one.db.execute("SELECT count(*) FROM tombstone").fetchone() == (expected,)
    deliver(log, "a")
    for one in (desktop, new):
        one.fetch(log)
    assert same(desktop, new) and sum(new.state().values()) == 5


def test_a_record_under_the_hash_of_another(tmp_path, log, desktop):
    """The operator sends the hash of a kept record, and a forged record of that number after it."""
    compacted(log, desktop)
    stranger = keys.SecretKey(b"s" * 32)
    kept = min(checkpoint.kept(desktop.db))
    forged = record.seal(command.deliver(b"Subject: forged\r\n\r\n", 1), stranger, ALICE.public)

    def stream():
        for one in log.stream(0, len(log.records)):
            if one.number == kept:
                yield Frame(frame.DROPPED + kept, one.chain, frame.record_hash(one.record))
                yield Frame(kept, one.chain, forged)
            else:
                yield one

    new = Device(tmp_path, "new")
    with pytest.raises(Contradiction):
        Replay(new.db, [ALICE]).run(stream())
    assert not new.ids()


def test_a_gap_is_said_also_after_a_load_that_was_cut(tmp_path, log, desktop):
    compacted(log, desktop)
    numbers = [one.number for one in log.compacted(0)]
    lost = (
        next(one for one in numbers[1:] if one < frame.DROPPED and one not in checkpoint.kept(desktop.db)) if 0 else 2
    )
    new, said = Device(tmp_path, "new"), []

    def stream(end):
        for index, one in enumerate(log.stream(seen.reached(new.db), len(log.records))):
            if index == end:
                raise TryAgain("cut off")
            if one.number == frame.HEAD_NUMBER:
                head = log.head(len(log.records))._replace(first=lost + 1)
                yield one._replace(record=head.text())
            elif lost not in frame.covered(one.number, len(one.record)):
                yield one

    for end in (6, None):
        try:
            Replay(new.db, [ALICE], complain=said.append).run(stream(end))
        except (TryAgain, Contradiction) as error:
            said.append(str(error))
    assert any("lost" in line or "missing" in line for line in said[1:])


def test_an_older_head_after_a_load_that_was_cut(tmp_path, log, desktop):
    """The parts that have come of the newer checkpoint are not those of the older one in the log."""
    for _ in range(2):
        for body in list(checkpoint.bodies(desktop.db)):
            log.append(body, ALICE)
        desktop.fetch(log)
    end = len(log.records)
    compacted(log, desktop)
    new = Device(tmp_path, "new")
    new.fetch_and_die(log, 3, {2})
    assert new.db.execute("SELECT count(*) FROM loading_part").fetchone() == (1,)
    new.fetch(log, end)
    assert len(aside.list_all(new.db)) == len(aside.list_all(desktop.db))
    new.fetch(log)
    assert same(new, desktop)


@pytest.mark.parametrize("ends", [[], [1], [2], [3], [1, 2, 3], [2, 3]])
def test_where_a_run_ends_does_not_enter_the_fold(tmp_path, log, desktop, ends):
    """A copy stays in the record of its original, also when that is forgotten, and delivered again in another."""
    message_id = command.delivery_id("INBOX", b"Subject: b\r\n\r\n")
    stops = [len(log.records)]
    desktop.change(
        {"do": "copy", "ids": message_id.hex(), "mailbox": "00" * 16, "nonce": "07" * 16},
        {"do": "expunge", "ids": message_id.hex()},
    )
    desktop.push(log)
    for days in (0, 31, 62):
        stops.append(len(log.records))
        desktop.fetch(log)
        bodies = list(checkpoint.bodies(desktop.db))
        last = json.loads(bodies[-1])
        bodies[-1] = command.encode({**last, "date": 1_000_000_000 + days * DAY})
        for body in bodies:
            log.append(body, ALICE)
    log.append(command.deliver(b"Subject: b\r\n\r\n", 2), HOST)
    other = Device(tmp_path, "other")
    for end in [stops[one] for one in ends] + [len(log.records)]:
        other.fetch(log, end)
    desktop.fetch(log)
    assert message_id in desktop.ids()
    assert state_of(other.db) == state_of(desktop.db)


def test_a_record_that_is_repeated_after_its_tombstone_is_forgotten(tmp_path, log, desktop):
    """Mail that was sealed since then comes, and what a host had sent before it was trusted."""
    old, day = 1_000_000_000, 86400

    def send(octets, sealed, sender=HOST):
        log.append(command.deliver(octets, 1, sealed=sealed), sender)

    stranger = keys.SecretKey(b"s" * 32)
    send(b"Subject: old\r\n\r\n", old)
    send(b"Subject: set aside\r\n\r\n", old, stranger)
    desktop.fetch(log)
    message_id = command.delivery_id("INBOX", b"Subject: old\r\n\r\n")
    repeated = log.bodies[-2]
    desktop.change({"do": "expunge", "ids": message_id.hex()})
    desktop.push(log)
    for days in (1, 32, 63):
        send(b"Subject: %d\r\n\r\n" % days, old + days * day)
        desktop.fetch(log)
        for body in list(checkpoint.bodies(desktop.db)):
            log.append(body, ALICE)
    log.append(repeated[1], HOST)
    desktop.fetch(log)
    assert not desktop.db.execute("SELECT 1 FROM tombstone").fetchone()
    assert message_id not in desktop.ids()
    assert aside.list_all(desktop.db)[-1].reason.startswith("sealed so long ago")
    # Another trust of its host does not deliver it, on no machine, and later checkpoints do not change that.
    for body in list(checkpoint.bodies(desktop.db)):
        log.append(body, ALICE)
    desktop.fetch(log)
    desktop.change({"do": "trust", "key": HOST.public.sign.hex(), "comment": "again"})
    desktop.push(log)
    desktop.fetch(log)
    assert message_id not in desktop.ids()
    send(b"Subject: 32\r\n\r\n", old)  # known
    send(b"Subject: new\r\n\r\n", old + 40 * day)
    desktop.change({"do": "trust", "key": stranger.public.sign.hex(), "comment": "x"})
    desktop.push(log)
    desktop.fetch(log)
    for octets in (b"Subject: new\r\n\r\n", b"Subject: set aside\r\n\r\n"):
        assert command.delivery_id("INBOX", octets) in desktop.ids()
    compacted(log, desktop)
    new, reader = Device(tmp_path, "new"), Reader([b"a" * 32])
    new.fetch(log)
    assert same(new, desktop)
    read(reader, log)
    for one in (new, desktop):
        one.change({"do": "trust", "key": HOST.public.sign.hex(), "comment": "on a loaded machine"})
        one.push(log)
    for one in (new, desktop):
        one.fetch(log)
        assert message_id not in one.ids()
    read(reader, log)
    assert state_of(new.db) == state_of(desktop.db) == reader.state()


def test_a_clock_that_is_ahead_makes_no_mail_too_old(log, desktop, monkeypatch):
    deliver = command.deliver(b"Subject: now\r\n\r\n", 1, sealed=1_000_000_000)
    log.append(deliver, HOST)
    desktop.fetch(log)
    monkeypatch.setattr(checkpoint.time, "time", lambda: 2_000_000_000.0)
    for body in list(checkpoint.bodies(desktop.db)):
        log.append(body, ALICE)
    log.append(command.deliver(b"Subject: next\r\n\r\n", 1, sealed=1_000_000_100), HOST)
    desktop.fetch(log)
    assert command.delivery_id("INBOX", b"Subject: next\r\n\r\n") in desktop.ids()


def test_what_was_forgotten_and_came_again_while_a_machine_was_away(log, desktop, laptop):
    """That machine still has the message, but from a record that has been dropped, and with another date."""
    message_id = command.delivery_id("INBOX", b"Subject: b\r\n\r\n")
    desktop.change({"do": "expunge", "ids": message_id.hex()})
    desktop.push(log)
    desktop.fetch(log)
    for days in (0, 31, 62):
        bodies = list(checkpoint.bodies(desktop.db))
        last = json.loads(bodies[-1])
        bodies[-1] = command.encode({**last, "date": 1_000_000_000 + days * DAY})
        log.compact(bodies, list(checkpoint.kept(desktop.db)))
        desktop.fetch(log)
    assert message_id not in desktop.ids()
    log.append(command.deliver(b"Subject: b\r\n\r\n", 2), HOST)
    desktop.fetch(log)
    assert message_id in desktop.ids()
    compacted(log, desktop)
    assert message_id in laptop.ids()
    laptop.fetch(log)
    assert same(laptop, desktop)
    date = "SELECT date FROM message WHERE id = ?"
    assert laptop.db.execute(date, (message_id,)).fetchone() == (2,)
    compacted(log, laptop)
    desktop.fetch(log)


def test_a_copy_in_the_outbox_of_what_a_checkpoint_has_from_the_log(tmp_path, log, desktop, laptop):
    """The content of the copy is then in that record, which the next checkpoint must keep."""
    octets = b"Subject: x\r\n\r\n"
    row = {"do": "append", "mailbox": "00" * 16, "flags": [], "date": 1, "size": len(octets), "nonce": "02" * 16}
    laptop.change(row, octets=octets)
    laptop.push(log)
    source = command.append_id(bytes([2]) * 16, octets).hex()
    laptop.change({"do": "copy", "ids": source, "mailbox": "00" * 16, "nonce": "03" * 16})
    desktop.fetch(log)
    compacted(log, desktop)
    laptop.fetch(log)
    laptop.push(log)
    laptop.change({"do": "expunge", "ids": source})
    laptop.push(log)
    for one in (laptop, desktop):
        one.fetch(log)
    compacted(log, laptop)
    new = Device(tmp_path, "new")
    for one in (desktop, new):
        one.fetch(log)
        assert same(one, laptop)


def test_nothing_is_stated_whose_record_is_not_known(desktop):
    """Such a state would be a bug, and must not cause mail to be dropped from the spool."""
    desktop.db.execute("UPDATE content SET number = NULL WHERE number = 3")
    with pytest.raises(DataError, match="record of a message here is not known"):
        list(checkpoint.bodies(desktop.db))


def test_what_is_discarded_is_not_kept(tmp_path, log, desktop):
    desktop.change({"do": "discard", "numbers": [9, 99]})
    desktop.push(log)
    desktop.fetch(log)
    assert list(checkpoint.kept(desktop.db)) == [3, 4, 5, 6]
    compacted(log, desktop)
    new = Device(tmp_path, "new")
    new.fetch(log)
    assert same(new, desktop)


def test_a_load_goes_on_where_it_was_cut_off(tmp_path, log, desktop):
    compacted(log, desktop)
    new = Device(tmp_path, "new")
    for expected in (2, 3, 4):
        new.fetch_and_die(log, 6, {5})
        assert seen.cursor(new.db).number == 0 and seen.reached(new.db) == expected
    assert numbers(log.stream(4, len(log.records)))[1:] == [10, 11, 5, 6, 7, 9, 10, 11]
    new.fetch(log)
    assert same(new, desktop)


@pytest.mark.parametrize("frames", [4, 6, 7, 8])
def test_an_older_head_while_one_is_loaded(tmp_path, log, desktop, frames):
    """An old mirror, for example, has one. After it has been applied, the load begins again."""
    compacted(log, desktop)
    new = Device(tmp_path, "new")
    new.fetch_and_die(log, frames, {frames - 1})
    new.fetch(log, 5)
    assert seen.cursor(new.db).number == 5
    new.fetch(log)
    assert same(new, desktop)


def test_a_newer_one_while_one_is_loaded(tmp_path, log, desktop):
    compacted(log, desktop)
    new = Device(tmp_path, "new")
    new.fetch_and_die(log, 6, {5})
    assert 0 < seen.reached(new.db) < 9
    deliver(log, "new")
    desktop.fetch(log)
    compacted(log, desktop)
    with pytest.raises(TryAgain, match="begins anew"):
        apply(new, log.stream(seen.reached(new.db), len(log.records)))
    new.fetch(log)
    assert same(new, desktop)
    assert not new.db.execute("SELECT 1 FROM content WHERE key NOT IN (SELECT content FROM message)").fetchone()


# Lies


def lies(log, frames):
    """Yield (name of the lie, frames, message about it); `frames` are what cspool-fetch writes."""
    where = {number: place for place, number in reversed(list(enumerate(numbers(frames))))}
    closing, part, kept, dropped = where[11], where[10], where[5], where[7]

    def without(place):
        return frames[:place] + frames[place + 1 :]

    def instead(place, **changed):
        return [*frames[:place], frames[place]._replace(**changed), *frames[place + 1 :]]

    name = "the checkpoint in records 10 to 11"
    yield "no part", without(part), f"record 11 is not the next one of {name}"
    yield "no closing record", without(closing), f"record 5 is not the next one of {name}"
    yield "no checkpoint at all", frames[:part] + frames[kept:], f"record 5 is not the next one of {name}"
    yield "nothing but the head", frames[:1], f"{name} is missing"
    yield "a kept record missing", without(kept), "record 5 missing"
    yield "two of them", frames[:kept] + frames[kept + 2 :], "records 5 to 6 missing"
    hashes = frame.record_hash(frames[kept].record)
    instead_of_it = Frame(frame.DROPPED + 5, frames[kept].chain, hashes)
    yield (
        "a kept record dropped",
        [*frames[:kept], instead_of_it, *frames[kept + 1 :]],
        f"record 5 missing, which {name} keeps",
    )
    yield "dropped records missing", without(dropped), "records 7 to 8 missing"
    yield (
        "the hash of a dropped record altered",
        instead(dropped, record=bytes(64)),
        "record 9 does not continue the log that has been seen",
    )
    yield "the last record missing", without(where[9]), f"record 9 missing, before {name}"
    yield (
        "the last record altered",
        instead(where[9], record=b"x" * 1100),
        f"{name} is of another log than has been seen",
    )
    altered = frames[kept].record[:-1] + bytes([frames[kept].record[-1] ^ 1])
    yield (
        "a kept record altered",
        instead(kept, record=altered),
        "record 6 does not continue the log that has been seen",
    )
    again = record.seal(command.deliver(b"Subject: d\r\n\r\n", 1), HOST, ALICE.public)
    yield (
        "the same message in another record",
        instead(kept, record=again),
        "record 6 does not continue the log that has been seen",
    )
    yield "another chain", instead(closing, chain=bytes(32)), f"record 11 is not the next one of {name}"
    # This cannot be told from a checkpoint that is sealed to a key which we do not have.
    no_part = f"record 10, of {name}: does not open with this key: is a newer key missing? (cspool-rekey(1))"
    yield "a part altered", instead(part, record=altered), no_part
    rechained = Frame(11, frame.chain_behind(Frame(10, frames[part].chain, altered)), frames[closing].record)
    yield "and chained", [*frames[:part], Frame(10, frames[part].chain, altered), rechained, *frames[kept:]], no_part


def test_lies_are_said_and_nothing_is_loaded(tmp_path, log, desktop, laptop):
    compacted(log, desktop)
    frames = list(log.stream(SEEN, len(log.records)))
    assert numbers(frames)[1:] == [10, 11, 5, 6, 7, 9, 10, 11]
    names = set()
    for name, lie, said in lies(log, frames):
        before = (laptop.state(), seen.cursor(laptop.db), laptop.state("fold_"))
        with pytest.raises((Contradiction, BadConfig)) as caught:
            apply(laptop, lie)
        assert str(caught.value) == said, name
        assert before == (laptop.state(), seen.cursor(laptop.db), laptop.state("fold_")), name
        names.add(name)
    assert len(names) == 16
    apply(laptop, frames)
    assert same(laptop, desktop)


def forged(log, sender, number=None, chain=None, spool=SPOOL, rows=None, stated_digest=None):
    """Return the log, compacted with a forged checkpoint that `sender` has signed."""
    number = len(log.records) if number is None else number
    rows = rows or b'["user","%s"]\n' % sender.public.sign.hex().encode()
    part = command.checkpoint_part(spool, rows)
    fields = {"command": "checkpoint", "spool": spool.hex(), "number": number, "date": 1}
    fields |= {"chain": (chain or log.chains[number]).hex(), "parts": [command.body_hash(part).hex()]}
    fields["digest"] = (stated_digest or digest.of(rows.splitlines())).hex()
    lie = Log()
    lie.records, lie.chains, lie.bodies = log.records[:], log.chains[:], log.bodies[:]
    lie.stated = len(lie.records)
    lie.checkpoint_first = len(lie.records) + 1
    for body in (part, command.encode(fields)):
        lie.append(body, sender)
    lie.checkpoint_end = len(lie.records)
    return lie


def test_a_fork_whose_difference_was_dropped_does_not_get_past_it(tmp_path, log, desktop):
    """The operator shows one machine a delivery, and the others a record without effect, which no checkpoint keeps."""
    fork = Log()
    fork.records, fork.chains, fork.bodies = log.records[:], log.chains[:], log.bodies[:]
    deliver(fork, "only here")
    other = Device(tmp_path, "other")
    other.fetch(fork)
    log.append(log.bodies[2][1], HOST)  # a message that is there already
    for name in "stuvwxyz":
        deliver(log, name)
    desktop.fetch(log)
    compacted(log, desktop)
    before = other.state()
    with pytest.raises(Contradiction, match="does not continue the log that has been seen"):
        apply(other, log.stream(seen.reached(other.db), len(log.records)))
    assert other.state() == before


def test_a_message_that_others_have_lost_does_not_vanish(tmp_path, log, desktop, laptop):
    """The spool lost its record before they read it. The checkpoint of such a machine does not know of it."""
    laptop.fetch(log)
    lost = Log()
    lost.records, lost.chains, lost.bodies = log.records[:], log.chains[:], log.bodies[:]
    late = Device(tmp_path, "late")
    frames = [one for one in lost.stream(0, len(log.records)) if one.number != 5]
    frames[0] = frames[0]._replace(record=lost.head(len(log.records))._replace(first=6).text())
    apply(late, frames)
    deliver(log, "f")
    late.fetch(log)
    log.compact(list(checkpoint.bodies(late.db)), list(checkpoint.kept(late.db)))
    before = laptop.state()
    with pytest.raises(Contradiction, match="does not know of 1 message that this machine has"):
        apply(laptop, log.stream(seen.reached(laptop.db), len(log.records)))
    assert laptop.state() == before


def test_only_the_user_can_make_one(tmp_path, log, desktop, laptop):
    """Not a mail host, a stranger, or the holder of an old key of the user."""
    old = keys.SecretKey(b"o" * 32)
    said = "signed by a key that is not the user's"
    for sender, own in ((HOST, [ALICE]), (keys.SecretKey(b"s" * 32), [ALICE]), (old, [ALICE, old])):
        with pytest.raises(Contradiction, match=said):
            Replay(laptop.db, own).run(forged(log, sender).stream(SEEN, 11))
        # A device that replays the log sets it aside.
        before = desktop.state()
        replayed = Device(tmp_path, sender.public.sign.hex()[:8])
        replayed.fetch(log)
        Replay(replayed.db, [ALICE]).run(forged(log, sender).stream(9, 11))
        assert replayed.state() == before
        assert [number for (number,) in replayed.db.execute("SELECT number FROM aside ORDER BY number")] == [9, 10, 11]


def test_the_user_cannot_state_nonsense_unnoticed(tmp_path, log, desktop, laptop):
    """Neither by a bug, nor with one for another number, log or spool. Loading and comparing both detect it."""
    cases = {
        "is for another place in the log": {"number": 5},
        "another spool": {"spool": b"another spool id"},
        "does not know of devices": {},
        "not the digest of what it states": {"stated_digest": bytes(32)},
        "not understood": {"rows": b'["message","x"]\n'},
    }
    for said, case in cases.items():
        lie = forged(log, ALICE, **case)
        with pytest.raises((Contradiction, CheckpointDamaged), match=said):
            apply(laptop, lie.stream(SEEN, 11))
    with pytest.raises(Contradiction, match="states other mailboxes than the log before it"):
        apply(desktop, forged(log, ALICE).stream(9, 11))
    with pytest.raises(Contradiction, match="is of another log than has been seen"):
        apply(desktop, forged(log, ALICE, chain=bytes(32)).stream(9, 11))


def test_an_old_one_served_again(tmp_path, log, desktop, laptop):
    compacted(log, desktop)
    laptop.fetch(log)
    old = list(log.stream(0, len(log.records)))
    deliver(log, "new")
    laptop.fetch(log)
    with pytest.raises(Contradiction, match="the log ends at record 11, but record 12 has been seen"):
        apply(laptop, old)
    # Its records, appended to the log again, are only junk.
    for body in (log.bodies[9], log.bodies[10]):
        log.append(body[1], ALICE)
    state_before = laptop.state()
    laptop.fetch(log)
    assert laptop.state() == state_before
    assert laptop.db.execute("SELECT reason FROM aside WHERE number = 14").fetchone() == (
        "a checkpoint for another place in the log",
    )


def test_a_fork_does_not_get_past_it(tmp_path, log, desktop, laptop):
    """The laptop was shown a fork in its last record; the checkpoint is from the true log."""
    fork = Log()
    fork.records, fork.chains, fork.bodies = log.records[: SEEN - 1], log.chains[:SEEN], log.bodies[: SEEN - 1]
    deliver(fork, "forked")
    other = Device(tmp_path, "other")
    other.fetch(fork)
    compacted(log, desktop)
    with pytest.raises(Contradiction, match="record 5 does not continue the log that has been seen"):
        apply(other, log.stream(SEEN, len(log.records)))


def test_accepting_a_log_that_lacks_what_it_keeps_sends_it_again(tmp_path, log, desktop, laptop):
    """A record that a checkpoint keeps is lost: a new machine stops, and a machine with the mail can repair that."""
    from cspool.database.accept import accept

    deliver(log, "f")
    desktop.fetch(log)
    compacted(log, desktop)
    del log.kept[log.kept.index(5)]
    with pytest.raises(Contradiction, match="record 5 missing"):
        apply(laptop, log.stream(SEEN, len(log.records)))
    expected = sorted(desktop.state().values())
    assert accept(desktop.db, [ALICE], lambda: log.stream(0, len(log.records))).lacking == 1
    desktop.push(log)
    desktop.fetch(log)
    compacted(log, desktop)
    laptop.fetch(log)
    assert same(laptop, desktop) and sorted(laptop.state().values()) == expected


def test_accepting_a_backup_with_a_checkpoint_sends_what_it_lacks(log, desktop, laptop):
    """Also a message with a change in the outbox, for which the view is rebuilt."""
    from cspool.database.accept import accept

    compacted(log, desktop)
    end = len(log.records)
    deliver(log, "f", "g")
    desktop.fetch(log)
    desktop.change(flags(desktop, "\\Flagged"))
    expected = desktop.state()
    assert accept(desktop.db, [ALICE], lambda: log.stream(0, end)).lacking == 2
    assert sorted(flags for _, _, flags in desktop.state()) == sorted(flags for _, _, flags in expected)
    del log.records[end:], log.bodies[end:], log.chains[end + 1 :]
    desktop.push(log)
    for one in (desktop, laptop):
        one.fetch(log)
    assert same(laptop, desktop) and sum(laptop.state().values()) == sum(expected.values())


def test_a_copy_whose_original_is_gone_survives_a_backup(tmp_path, log, desktop, laptop):
    """When the log is replayed, the copy is there already, but its content is in no record."""
    from cspool.database.accept import accept

    copy_and_expunge(desktop, log)
    assert accept(desktop.db, [ALICE], lambda: log.stream(0, len(log.records))).lacking == 0
    desktop.fetch(log)
    compacted(log, desktop)
    new = Device(tmp_path, "new")
    for one in (laptop, new):
        one.fetch(log)
        assert same(one, desktop)


def test_a_keep_list_is_what_it_says():
    keep = Keep.of(SPOOL, 20, bytes(32), [1, 2, 3, 7, 19, 20])
    assert keep.ranges == [range(1, 4), range(7, 8), range(19, 21)]
    assert Keep.parse(keep.text(), "it") == keep
    assert [number for number in range(23) if keep.holds(number)] == [1, 2, 3, 7, 19, 20, 21, 22]


@pytest.mark.parametrize(
    "old, new",
    [
        (b"1 3\n", b"0 3\n"),
        (b"7 7", b"3 7"),
        (b"19 20", b"19 21"),
        (b"7 7", b"7 6"),
        (b"7 7\n", b"7  7\n"),
        (b"keep 1", b"keep 2"),
        (b"7 7\n", b"7\n"),
        (b"chain 00", b"chain 0"),
    ],
)
def test_a_bad_keep_list(old, new):
    text = Keep.of(SPOOL, 20, bytes(32), [1, 2, 3, 7, 19, 20]).text()
    assert old in text
    with pytest.raises(DataError):
        Keep.parse(text.replace(old, new), "it")


@given(st.sets(st.integers(1, 60)))
def test_keep_lists(numbers):
    keep = Keep.of(SPOOL, 60, bytes(32), sorted(numbers))
    assert {number for number in range(63) if keep.holds(number)} == {*numbers, 61, 62}
    assert Keep.parse(keep.text(), "it") == keep
