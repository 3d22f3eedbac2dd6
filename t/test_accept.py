"""Accepting another log in place of the last one: what it lacks is sent again, from any machine, in any order.

t/accept.t tests the same with the real tools.
"""

import pytest
from cspool import command, keys
from cspool.database.accept import accept
from cspool.database.replay import Replay
from cspool.errors import Contradiction, DataError
from log import ALICE, HOST, Device, Log

INBOX = "00" * 16


class Spool(Log):
    """A spool that can be restored from a backup."""

    def backup(self):
        self.end = len(self.records)

    def restore(self):
        del self.records[self.end :], self.bodies[self.end :], self.chains[self.end + 1 :]

    def all(self):
        return self.stream(0, len(self.records))


@pytest.fixture
def log():
    return Spool()


@pytest.fixture
def machines(tmp_path, log):
    machines = [Device(tmp_path, name) for name in ("laptop", "desktop")]
    machines[0].fetch(log)
    trust(machines[0], log, HOST)
    machines[1].fetch(log)
    return machines


def trust(device, log, key, do="trust"):
    comment = {"comment": "host"} if do == "trust" else {}
    push(device, log, {"do": do, "key": key.public.sign.hex(), **comment})


def push(device, log, *rows):
    device.change(*rows)
    device.push(log)
    device.fetch(log)


def deliver(log, name, mailbox=None, sender=HOST):
    log.append(command.deliver(f"Subject: {name}\r\n\r\n".encode(), 1, mailbox), sender)
    return command.delivery_id(mailbox or "INBOX", f"Subject: {name}\r\n\r\n".encode()).hex()


def test_a_mailbox_that_a_delivery_has_made(log, machines):
    laptop, _ = machines
    deliver(log, "a", "Lists")
    log.backup()
    deliver(log, "b", "Lists")
    laptop.fetch(log)
    before = laptop.state()
    log.restore()
    assert accept(laptop.db, [ALICE], log.all).lacking == 1
    assert sorted(name for name, _, _ in laptop.state()) == sorted(name for name, _, _ in before) == ["Lists"] * 2


def test_metadata_that_the_log_lacks(log, machines):
    laptop, desktop = machines
    push(laptop, log, {"do": "create", "name": "Work", "nonce": "01" * 16})
    work = command.create_id(b"\1" * 16, "Work")
    entries = [{"entry": "/shared/a"}, {"entry": "/shared/a", "mailbox": work.hex()}]
    push(laptop, log, *({"do": "set-metadata", "value": "00", **one} for one in entries))
    log.backup()
    changed = {"do": "set-metadata", "mailbox": INBOX, "entry": "/private/b", "value": ""}
    push(laptop, log, {"do": "set-metadata", "value": "01", **entries[1]}, changed)
    before = laptop.metadata()
    log.restore()
    accept(laptop.db, [ALICE], log.all)
    laptop.push(log)
    for machine in machines:
        machine.fetch(log)
    assert laptop.metadata() == desktop.metadata() == before and len(before) == 3


def test_what_a_checkpoint_states_and_another_machine_has_expunged_since(log, machines):
    laptop, desktop = machines
    a = deliver(log, "a")
    laptop.fetch(log)
    laptop.checkpoint(log)
    log.backup()
    deliver(log, "b")
    for one in machines:
        one.fetch(log)
    log.restore()
    assert accept(laptop.db, [ALICE], log.all).lacking == 1
    push(laptop, log, {"do": "expunge", "ids": a})
    accept(desktop.db, [ALICE], log.all)
    desktop.push(log)
    for one in machines:
        one.fetch(log)
    assert laptop.state() == desktop.state()


def test_a_copy_whose_original_is_to_go(log, machines):
    """The log has the original, but the view does not; accept must not take it for a copy from another machine."""
    laptop, _ = machines
    a = deliver(log, "a")
    laptop.fetch(log)
    log.backup()
    push(laptop, log, {"do": "copy", "ids": a, "mailbox": INBOX, "nonce": "01" * 16})
    laptop.change({"do": "expunge", "ids": a})
    log.restore()
    assert accept(laptop.db, [ALICE], log.all).lacking == 1
    assert sum(laptop.state().values()) == 1
    laptop.push(log)
    laptop.fetch(log)
    assert sum(laptop.state().values()) == 1


def test_a_trust_that_was_taken_back_stays_so(log, machines):
    laptop, desktop = machines
    log.backup()
    trust(laptop, log, HOST, "distrust")
    log.restore()
    accept(laptop.db, [ALICE], log.all)
    laptop.push(log)
    desktop.fetch(log)
    deliver(log, "a")
    for one in machines:
        one.fetch(log)
        assert not one.state()


def test_a_trust_that_another_machine_has_given_since_stays_given(log, machines):
    laptop, desktop = machines
    log.backup()
    deliver(log, "a")
    for one in machines:
        one.fetch(log)
    log.restore()
    accept(laptop.db, [ALICE], log.all)
    laptop.push(log)
    laptop.fetch(log)
    other = keys.SecretKey(b"o" * 32)
    trust(laptop, log, other)
    accept(desktop.db, [ALICE], log.all)
    desktop.push(log)
    deliver(log, "b", sender=other)
    for one in machines:
        one.fetch(log)
        assert sum(one.state().values()) == 2


def test_what_is_sent_again_fits_into_records(tmp_path, log, monkeypatch):
    """An entry must not come out longer than a record may be, or nothing of this machine is ever sent again."""
    monkeypatch.setattr("cspool.database.accept.ENTRY_OCTETS", 1000)
    laptop = Device(tmp_path, "laptop")
    log.append(command.deliver(b"Subject: kept\r\n\r\n", 1), ALICE)
    log.backup()
    for size in (900, 600, 300, 5000, 100):
        log.append(command.deliver(b"Subject: x\r\n\r\n" + b"x" * size, 1), ALICE)
    laptop.fetch(log)
    log.restore()
    assert accept(laptop.db, [ALICE], log.all).lacking == 5
    sizes = [size for (size,) in laptop.db.execute("SELECT length(octets) FROM outbox ORDER BY key")]
    assert len(sizes) == 4 and all(size <= 1000 or size > 5000 for size in sizes)


def test_a_message_that_is_too_long_to_be_sent_again_stops_all(tmp_path, log, monkeypatch):
    monkeypatch.setattr("cspool.database.accept.MESSAGE_MAX", 1000)
    laptop = Device(tmp_path, "laptop")
    log.backup()
    log.append(command.deliver(b"Subject: x\r\n\r\n" + b"x" * 2000, 1), ALICE)
    laptop.fetch(log)
    before = laptop.state()
    log.append(command.deliver(b"Subject: y\r\n\r\n", 1), ALICE)
    log.restore()
    log.append(command.deliver(b"Subject: z\r\n\r\n", 1), ALICE)
    with pytest.raises(DataError, match="too long to be sent again: export it first"):
        accept(laptop.db, [ALICE], log.all)
    assert laptop.state() == before


def test_a_damaged_checkpoint_costs_no_mail(tmp_path, log, machines):
    """A record of it is lost. What was dropped is not known any more, but sealed messages are found."""
    for name in "abc":
        deliver(log, name)
    laptop = machines[0]
    laptop.fetch(log)
    assert laptop.checkpoint(log)
    laptop.fetch(log)
    deliver(log, "d")
    new = Device(tmp_path, "new")

    def frames():
        head, *rest = log.stream(0, len(log.records))
        head = head._replace(record=log.head(len(log.records))._replace(first=log.checkpoint_end).text())
        return iter([head, *(one for one in rest if one.number != log.stated + 1)])

    with pytest.raises(Contradiction, match="is not the next one of the checkpoint"):
        Replay(new.db, [ALICE]).run(frames())
    accepted = accept(new.db, [ALICE], frames)
    assert "is not the next one" in accepted.without_checkpoint
    assert sum(new.state().values()) == 3  # the fourth came after it, and waits for a trust


def test_a_log_that_has_lost_the_trust_gives_each_message_once(log, machines):
    """Its deliveries are set aside there. They are not sent again as well as delivered by the trust that is."""
    laptop, other = machines[0], Spool()
    for name in ("a", "b"):
        deliver(log, name)
    laptop.fetch(log)
    expunged = command.delivery_id("INBOX", b"Subject: b\r\n\r\n").hex()
    push(laptop, log, {"do": "expunge", "ids": expunged})
    for name in ("a", "b", "c"):
        deliver(other, name)
    assert accept(laptop.db, [ALICE], other.all).lacking == 1
    laptop.push(other)
    laptop.fetch(other)
    assert len(laptop.ids()) == 2 and bytes.fromhex(expunged) not in laptop.ids()
