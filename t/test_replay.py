"""Machines converge, whatever they do, and in whatever order they push and fetch.

The second reader (reader.py) was written from the manual pages, by someone
who had not seen the code. It reads the same log, cut in other places.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

from cspool import command, keys, record
from cspool.database import checkpoint, content, outbox, schema, seen
from cspool.database.accept import accept
from cspool.database.replay import Replay
from cspool.errors import BadConfig, CheckpointDamaged, Contradiction, DataError, TryAgain
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule
from log import ALICE, HOST, Device, Log, read, state_of
from reader import Reader, make_key

CONTENTS = "SELECT id, content FROM message WHERE fold_mailbox NOTNULL"
STRANGER = keys.SecretKey(b"s" * 32)
JUNK = [b"", b"{}\n", b'{"command":"deliver","date":1}\n', b'{"command":"deliver","date":1,"x":1}\nx', b"mail"]
FLAGS = ["\\Seen", "\\Flagged", "keyword"]


names = st.sampled_from(["Lists/a", "Sent", "INBOX"])


class Machines(RuleBasedStateMachine):
    """Two to five machines and a mail host on one log."""

    machines = Bundle("machines")  # by number

    @initialize(target=machines, count=st.integers(2, 5))
    def start(self, count):
        self.directory = Path(tempfile.mkdtemp(prefix="cspool-t."))
        self.log = Log()
        self.keys = [ALICE]  # all machines have them, newest first
        self.rekeyed = 0  # the record with the last change of the key
        self.devices = [Device(self.directory, f"{number}.db", self.keys) for number in range(count)]
        self.now = 1_000_000_000  # what the clocks of the machines say
        checkpoint.time = SimpleNamespace(time=lambda: self.now)
        self.reader = Reader([b"a" * 32])
        self.serial = self.nonces = 0
        self.clock = 1_000_000_000
        self.late = None  # a checkpoint that has not been appended
        for device in self.devices:
            device.fetch(self.log)
        return multiple(*range(count))

    def teardown(self):
        checkpoint.time = time
        if hasattr(self, "devices"):
            self.converge()
            for device in self.devices:
                device.db.close()
            shutil.rmtree(self.directory)

    def nonce(self):
        """Return a nonce that is the same in each run, since messages are drawn in the order of their ids."""
        self.nonces += 1
        return hashlib.blake2b(b"%d" % self.nonces, digest_size=16).hexdigest()

    def some_ids(self, device, data):
        ids = device.ids()
        return data.draw(st.lists(st.sampled_from(ids), min_size=1, max_size=3, unique=True)) if ids else []

    def some_mailbox(self, device, data):
        """Draw a mailbox and return its id. The draw is by name, since ids differ between runs."""
        ids = {name: one for one, name in device.mailboxes().items()}
        return ids[data.draw(st.sampled_from(sorted(ids)))]

    @rule(mailbox=st.sampled_from([None, "Lists/a", "Lists/b"]), again=st.booleans(), by_host=st.booleans())
    def deliver(self, mailbox, again, by_host):
        self.serial += not again
        octets = f"Subject: {self.serial}\r\n\r\n".encode()
        sender = HOST if by_host else self.keys[0]
        self.log.append(command.deliver(octets, 1, mailbox, sealed=self.clock), sender)

    @rule(body=st.sampled_from(JUNK), sender=st.sampled_from([HOST, STRANGER, ALICE]))
    def junk(self, body, sender):
        self.log.append(body, sender)

    @rule()
    def deliver_as_a_stranger(self):
        self.serial += 1
        octets = f"Subject: {self.serial}\r\n\r\n".encode()
        self.log.append(command.deliver(octets, 1, sealed=self.clock), STRANGER)

    @rule(days=st.sampled_from([1, 29, 31]))
    def wait(self, days):
        """Time passes. Checkpoints have the time of the last delivery, and forget."""
        self.clock += days * 86400

    @rule(by_host=st.booleans())
    def deliver_to_the_next_key(self, by_host):
        """A host has been given a key of the user that the log does not know yet."""
        self.serial += 1
        body = command.deliver(f"Subject: {self.serial}\r\n\r\n".encode(), 1, sealed=self.clock)
        sender, new = HOST if by_host else self.keys[0], keys.SecretKey(b"a%d" % len(self.keys) * 16)
        self.log.append_sealed(record.seal(body, sender, new.public), body, sender)

    @rule(days=st.integers(-400, 400))
    def jump(self, days):
        """The clocks of the machines jump."""
        self.now = self.clock + days * 86400

    @precondition(lambda self: len(self.keys) < 3)
    @rule(device=machines, most=st.none() | st.integers(0, 2))
    def rekey(self, device, most):
        """Change the user key. All machines get it; some sign with the old one until they sync."""
        machine, seed = self.devices[device], b"a%d" % len(self.keys) * 16
        machine.fetch(self.log)
        machine.change(outbox.user_key(keys.SecretKey(seed).public))
        self.keys.insert(0, keys.SecretKey(seed))
        self.reader.keys.insert(0, make_key(seed))
        for _ in range(3):  # it may have to take a new id
            machine.push(self.log)
            machine.fetch(self.log)
        assert machine.user == self.keys[0]
        self.rekeyed = len(self.log.records)
        for other in self.devices if most is None else self.devices[:most]:
            other.fetch(self.log)

    @rule(device=machines)
    def accept(self, device):
        """Accept a log that needs no accepting."""
        accept(self.devices[device].db, self.keys, lambda: self.log.stream(0, len(self.log.records)))

    @rule(device=machines, kind=st.sampled_from(["drop", "swap", "alter", "repeat", "cut", "fork"]), data=st.data())
    def lie(self, device, kind, data):
        """The operator shows a machine another log. It takes nothing that is not in the true one."""
        machine = self.devices[device]
        head, *frames = self.log.stream(seen.reached(machine.db), len(self.log.records))
        if not frames:
            return
        place = data.draw(st.integers(0, len(frames) - 1))
        one = frames[place]
        if kind == "drop":
            del frames[place]
        elif kind == "swap":
            frames.insert(data.draw(st.integers(0, len(frames) - 1)), frames.pop(place))
        elif kind == "alter":
            frames[place] = one._replace(record=one.record[:-1] + bytes([one.record[-1] ^ 1]))
        elif kind == "repeat":
            frames[place] = one._replace(record=data.draw(st.sampled_from(frames)).record)
        elif kind == "cut":
            del frames[place:]
        else:
            forged = record.seal(command.deliver(b"Subject: forked\r\n\r\n", 1), HOST, ALICE.public)
            frames[place:] = [one._replace(record=forged)]
        with suppress(Contradiction, BadConfig, CheckpointDamaged, TryAgain, DataError):
            Replay(machine.db, self.keys).run(iter([head, *frames]))
        assert command.delivery_id("INBOX", b"Subject: forked\r\n\r\n") not in machine.ids()

    @rule(data=st.data())
    def repeat(self, data):
        """The operator, or a mail server, appends a delivery again."""
        deliveries = [one for one in self.log.bodies if b'"deliver"' in one[1][:30]]
        if deliveries:
            sender, body = data.draw(st.sampled_from(deliveries))
            self.log.append(body, sender)

    @rule(device=machines, data=st.data(), add=st.booleans(), flags=st.lists(st.sampled_from(FLAGS), min_size=1))
    def flag(self, device, data, add, flags):
        ids = self.some_ids(self.devices[device], data)
        row = {"do": "add-flags" if add else "remove-flags", "flags": flags, "ids": b"".join(ids).hex()}
        self.devices[device].change(row)

    @rule(device=machines, data=st.data())
    def expunge(self, device, data):
        ids = self.some_ids(self.devices[device], data)
        self.devices[device].change({"do": "expunge", "ids": b"".join(ids).hex()})

    @rule(device=machines, data=st.data())
    def copy(self, device, data):
        ids = self.some_ids(self.devices[device], data)
        mailbox = self.some_mailbox(self.devices[device], data)
        row = {"do": "copy", "mailbox": mailbox.hex(), "ids": b"".join(ids).hex(), "nonce": self.nonce()}
        self.devices[device].change(row)

    @rule(device=machines, data=st.data())
    def move(self, device, data):
        ids = self.some_ids(self.devices[device], data)
        mailbox = self.some_mailbox(self.devices[device], data)
        self.devices[device].change({"do": "move", "mailbox": mailbox.hex(), "ids": b"".join(ids).hex()})

    @rule(device=machines, name=names)
    def create(self, device, name):
        self.devices[device].change({"do": "create", "name": name, "nonce": self.nonce()})

    @rule(device=machines, name=names, data=st.data())
    def rename(self, device, name, data):
        mailbox = self.some_mailbox(self.devices[device], data)
        self.devices[device].change({"do": "rename", "mailbox": mailbox.hex(), "name": name})

    @rule(device=machines, data=st.data())
    def delete(self, device, data):
        machine = self.devices[device]
        mailbox = self.some_mailbox(machine, data)
        query = "SELECT id FROM message WHERE mailbox = (SELECT key FROM mailbox WHERE id = ?) ORDER BY id"
        ids = [one for (one,) in machine.db.execute(query, (mailbox,))]
        machine.change({"do": "delete", "mailbox": mailbox.hex(), "ids": b"".join(ids).hex()})

    @rule(device=machines, name=names, on=st.booleans())
    def subscribe(self, device, name, on):
        self.devices[device].change({"do": "subscribe" if on else "unsubscribe", "name": name})

    @rule(device=machines, value=st.sampled_from([None, b"", b"x"]), data=st.data(), of_server=st.booleans())
    def set_metadata(self, device, value, data, of_server):
        row = {"do": "set-metadata", "entry": "/private/comment"}
        if not of_server:
            row["mailbox"] = self.some_mailbox(self.devices[device], data).hex()
        self.devices[device].change(row if value is None else {**row, "value": value.hex()})

    @rule(device=machines, flags=st.lists(st.sampled_from(FLAGS), unique=True))
    def append(self, device, flags):
        octets = b"Subject: appended\r\n\r\n"
        row = {"do": "append", "mailbox": command.INBOX.hex(), "flags": flags, "date": 1, "size": len(octets),
               "nonce": self.nonce()}  # fmt: skip
        self.devices[device].change(row, octets=octets)

    @rule(device=machines, trusted=st.booleans(), key=st.sampled_from([HOST, STRANGER]))
    def trust(self, device, trusted, key):
        row = {"do": "trust" if trusted else "distrust", "key": key.public.sign.hex()}
        self.devices[device].change({**row, "comment": "host"} if trusted else row)

    @rule(device=machines, most=st.none() | st.integers(0, 2))
    def push(self, device, most):
        """Push all of the outbox, or `most` records of it. The same records may be pushed again any number of times."""
        self.devices[device].push(self.log, most)

    @rule(device=machines, data=st.data(), partial=st.booleans())
    def fetch(self, device, data, partial):
        machine = self.devices[device]
        first = seen.cursor(machine.db).number
        end = data.draw(st.integers(max(first, self.rekeyed), len(self.log.records))) if partial else None
        machine.fetch(self.log, end)

    @rule(data=st.data())
    def read(self, data):
        """The second reader reads up to somewhere."""
        end = data.draw(st.integers(self.reader.cursor, len(self.log.records)))
        if end:
            read(self.reader, self.log, end)

    @rule(device=machines, frames=st.integers(0, 10), commits=st.sets(st.integers(1, 10), max_size=3))
    def die_while_fetching(self, device, frames, commits):
        self.devices[device].fetch_and_die(self.log, frames, commits)

    @rule(device=machines)
    def come_back_unchanged(self, device):
        """A machine's own changes do not change its view when they are pushed and fetched at once."""
        machine = self.devices[device]
        machine.fetch(self.log)
        before = machine.seen_by_imap()
        trusts = machine.db.execute("SELECT count(*) FROM outbox WHERE changes LIKE '%trust\"%'").fetchone()[0]
        machine.push(self.log)
        machine.fetch(self.log)
        if not trusts:
            assert machine.seen_by_imap() == before

    @rule(device=machines)
    def compact(self, device):
        """Compact the log. Machines that have not read the records that are dropped load the checkpoint."""
        self.devices[device].fetch(self.log)
        assert self.devices[device].checkpoint(self.log)

    @rule(device=machines)
    def make_checkpoint(self, device):
        """Make a checkpoint, which may be appended later. Within another one there is none to be made."""
        machine = self.devices[device]
        stated = seen.cursor(machine.db).number
        if stated and not checkpoint.parts(machine.db):
            bodies, kept = list(checkpoint.bodies(machine.db)), list(checkpoint.kept(machine.db))
            self.late = (bodies, kept, stated, machine.user)

    # One that comes behind another change of the key is none: it is signed by a key that is no longer the user's.
    @precondition(lambda self: self.late and self.late[2] > self.log.stated and self.late[3] is self.keys[0])
    @rule()
    def append_checkpoint(self):
        """Append the checkpoint that was made last, wherever the log ends by now."""
        self.log.compact(*self.late)

    @rule(device=machines, frames=st.integers(0, 10), commits=st.sets(st.integers(1, 10), max_size=3))
    def compact_and_die_while_loading(self, device, frames, commits):
        for maker in self.devices:
            if maker is not self.devices[device] and maker.checkpoint(self.log):
                break
        self.devices[device].fetch_and_die(self.log, frames, commits)

    @rule(device=machines, changed=st.booleans())
    def back_up(self, device, changed):
        """Back up, then perhaps make a change, which the restored database will not know."""
        self.copy_database(device)
        if changed:
            self.append(device, [])

    def copy_database(self, device):
        target = schema.sqlite3.connect(str(self.directory / f"{device}.backup"))
        self.devices[device].db.backup(target)
        target.close()

    @rule(device=machines, changed=st.booleans())
    def restore(self, device, changed):
        """Restore from a backup. Later changes are in the log, but the database does not know them."""
        backup = self.directory / f"{device}.backup"
        if backup.exists():
            self.replace(device)
            shutil.copy(backup, self.devices[device].path)
            self.devices[device] = Device(self.directory, f"{device}.db", self.keys)
            if changed:
                self.append(device, [])

    @rule(source=machines, copied_to=machines)
    def copy_home(self, source, copied_to):
        """Copy a home with its outbox. Both issue its changes under one device id, until the log reveals that."""
        if source != copied_to:
            self.replace(copied_to)
            copy = schema.sqlite3.connect(str(self.directory / f"{copied_to}.db"))
            self.devices[source].db.backup(copy)
            copy.close()
            self.devices[copied_to] = Device(self.directory, f"{copied_to}.db", self.keys)

    @rule(device=machines)
    def rebuild(self, device):
        self.replace(device)
        self.devices[device] = Device(self.directory, f"{device}.db", self.keys)

    def replace(self, device):
        self.devices[device].push(self.log)
        self.devices[device].db.close()
        for name in (f"{device}.db", f"{device}.db-wal", f"{device}.db-shm"):
            (self.directory / name).unlink(missing_ok=True)

    @invariant()
    def view_is_fold_where_the_outbox_is_empty(self):
        for device in getattr(self, "devices", []):
            if not device.db.execute("SELECT 1 FROM outbox").fetchone():
                assert device.state() == device.state("fold_")
                assert device.mailboxes() == device.mailboxes("fold_")

    @invariant()
    def uids_are_unique_and_below_uidnext(self):
        for device in getattr(self, "devices", []):
            bad = device.db.execute(
                "SELECT 1 FROM message JOIN mailbox ON mailbox.key = mailbox"
                " WHERE uid IS NULL OR uid >= uidnext OR message.modseq > mailbox.modseq"
            )
            assert not bad.fetchone()
            of_a_load = "SELECT content FROM kept WHERE content NOTNULL"
            orphans = f"SELECT 1 FROM content WHERE key NOT IN (SELECT content FROM message UNION {of_a_load})"
            assert not device.db.execute(orphans).fetchone()

    def converge(self):
        for _ in range(2 + len(self.devices)):  # a device that must take a new id pushes once more
            for device in self.devices:
                device.fetch(self.log)
                device.push(self.log)
        new = Reader([b"a" * 32])
        new.keys = self.reader.keys
        for reader in (self.reader, new):
            read(reader, self.log)
        for device in self.devices:
            device.fetch(self.log)
            assert not device.db.execute("SELECT 1 FROM outbox").fetchone()
            assert state_of(device.db) == self.reader.state() == new.state()
            assert device.state() == device.state("fold_")
            assert device.mailboxes() == device.mailboxes("fold_")
            assert device.subscribed() == device.subscribed("fold")
            assert device.metadata() == device.metadata("fold")
            contents = {one: content.octets_of(device.db, key) for one, key in device.db.execute(CONTENTS)}
            assert contents == {one: message.octets for one, message in new.messages.items()}


TestMachines = Machines.TestCase
TestMachines.settings = settings(
    parent=settings.get_profile("long" if os.environ.get("CSPOOL_LONG") else "check"),
    max_examples=3_000 if os.environ.get("CSPOOL_LONG") else 200,
    stateful_step_count=40,
)


def test_ten_thousand_flags_are_a_small_record(tmp_path):
    """They fit into one record of at most 200 kB."""
    device = Device(tmp_path, "mail.db")
    device.fetch(Log())
    ids = os.urandom(160_000).hex()
    device.change({"do": "add-flags", "flags": ["\\Seen"], "ids": ids})
    (body,) = outbox.bodies(device.db)
    assert len(record.seal(body, ALICE, ALICE.public)) < 200_000


def test_a_host_cannot_stop_a_client_with_a_command_of_the_future(tmp_path):
    log, device = Log(), Device(tmp_path, "mail.db")
    log.append(json.dumps({"command": "explode"}).encode() + b"\n", HOST)
    log.append(command.deliver(b"x", 1), ALICE)
    device.fetch(log)
    assert sum(device.state().values()) == 1


def test_what_two_copies_of_a_home_issue_takes_effect_once(tmp_path):
    """Copied before the first fetch, both seal the same changes on their own: in other bodies, with the same ids."""
    log, one = Log(), Device(tmp_path, "one.db")
    octets = b"Subject: appended\r\n\r\n"
    message_id = command.append_id(bytes(16), octets)
    work = command.create_id(bytes(16), "Work")
    one.change({"do": "create", "name": "Work", "nonce": "00" * 16})
    row = {"do": "append", "mailbox": work.hex(), "flags": [], "date": 1, "size": len(octets), "nonce": "00" * 16}
    one.change(row, octets=octets)
    one.change({"do": "copy", "mailbox": work.hex(), "ids": message_id.hex(), "nonce": "00" * 16})
    log.append(command.deliver(b"x", 1), ALICE)
    copy = schema.sqlite3.connect(str(tmp_path / "two.db"))
    one.db.backup(copy)
    copy.close()
    one.fetch(log)
    one.push(log)
    one.fetch(log)
    one.change({"do": "rename", "mailbox": work.hex(), "name": "Old"})
    one.change({"do": "expunge", "ids": message_id.hex()})
    one.change({"do": "create", "name": "Work", "nonce": "01" * 16})
    one.push(log)
    one.fetch(log)
    expected = one.state()
    two = Device(tmp_path, "two.db")
    for device in (two, two, one):
        device.fetch(log)
        device.push(log)
        device.fetch(log)
    reader = Reader([b"a" * 32])
    read(reader, log)
    assert one.state() == two.state() == expected
    assert state_of(one.db) == reader.state()
    assert set(one.mailboxes().values()) == {"INBOX", "Old", "Work"}
    assert len(expected) == 2
