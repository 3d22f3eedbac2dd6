"""Several sessions on one mailbox, into which mail is delivered: each client is told the truth, and all of it.

Two forms of one test. In the first, commands follow each other, so that a
model knows what each answer must be, to the last flag. In the second, two
server processes and cspool-apply run at the same time, and each client checks
what must hold however they interleave.
"""

import os
import random
import re
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from cspool import command, disk, frame, keys
from cspool.database import outbox, schema, seen, view
from cspool.database.replay import Replay
from hypothesis import given, settings
from hypothesis import strategies as st
from imap import Client, mail
from log import ALICE, HOST, Log

FLAGS = ("\\Seen", "\\Deleted", "\\Flagged", "key")
MODES = ([], ["ENABLE CONDSTORE"], ["ENABLE QRESYNC"], ["ENABLE IMAP4rev2"])


class Mailbox:
    """What is in INBOX: the truth. UIDs are given in order; flags by UID."""

    def __init__(self):
        self.flags = {}
        self.uidnext = 1

    def arrive(self, flags=()):
        self.flags[self.uidnext] = set(flags)
        self.uidnext += 1
        return self.uidnext - 1


class Watcher:
    """What one client knows: its sequence numbers, and the flags it has been told. Checks each answer."""

    def __init__(self, client, mailbox, mode):
        self.client, self.mailbox = client, mailbox
        self.uids, self.flags, self.recent = [], {}, set()
        self.qresync, self.rev2 = mode == MODES[2], mode == MODES[3]
        for one in mode:
            client.ok(one)
        self.highest = 0  # UID seen by this client
        self.do("SELECT INBOX", expunges=False)
        if self.uids:
            self.do("UID FETCH 1:* FLAGS")

    def do(self, line, *literals, expunges=True):
        """Do a command; take in all that it tells; return its answers."""
        print(line)
        answers = self.client.ok(line, *literals)
        print(answers)
        self.take(answers, expunges)
        return answers

    def exists(self, count):
        new = [uid for uid in self.mailbox.flags if uid > self.highest]
        self.uids += new
        assert count == len(self.uids)
        self.highest = max(self.uids, default=self.highest)

    def take(self, answers, expunges):
        for one in answers:
            if found := re.fullmatch(rb"(\d+) EXPUNGE", one):
                assert expunges and not self.qresync
                self.forget(int(found[1]) - 1)
            elif found := re.fullmatch(rb"VANISHED ([\d:,]+)", one):
                assert expunges and self.qresync
                for uid in numbers(found[1]):
                    self.forget(self.index_of(uid))
            elif found := re.fullmatch(rb"(\d+) EXISTS", one):
                self.exists(int(found[1]))
            elif found := re.fullmatch(rb"(\d+) FETCH \((.*)\)", one):
                self.fetched(int(found[1]), found[2])

    def index_of(self, uid):
        return self.uids.index(uid)

    def forget(self, index):
        uid = self.uids.pop(index)
        assert uid not in self.mailbox.flags, "told of an expunge that was none"
        self.flags.pop(uid, None)

    def fetched(self, number, items):
        uid = self.uids[number - 1]
        said = re.search(rb"UID (\d+)", items)
        assert not said or int(said[1]) == uid
        flags = re.search(rb"FLAGS \((.*?)\)", items)
        if flags:
            now = set(flags[1].decode().split())
            if "\\Recent" in now:
                self.recent.add(uid)
            now.discard("\\Recent")
            assert now == self.mailbox.flags[uid]
            self.flags[uid] = now

    def check(self):
        """After NOOP the client knows all, flags included."""
        self.do("NOOP")
        assert self.uids == sorted(self.mailbox.flags)
        known = {uid: self.flags[uid] for uid in self.uids if uid in self.flags}
        assert known == {uid: self.mailbox.flags[uid] for uid in known}

    # Commands, each with its effect on the truth

    def some(self, draw):
        """A sequence set of messages this client knows, and their UIDs; None when there are none."""
        if not self.uids:
            return None
        first, last = sorted((draw(len(self.uids)), draw(len(self.uids))))
        return f"{first + 1}:{last + 1}", f"{self.uids[first]}:{self.uids[last]}", self.uids[first : last + 1]

    def store(self, draw):
        some = self.some(draw)
        if not some:
            return
        sign, silent, by_uid = ("+", "-", "")[draw(3)], (".SILENT", "")[draw(2)], draw(2)
        flags = {FLAGS[draw(len(FLAGS))], FLAGS[draw(len(FLAGS))]}
        changed = {"+": lambda now: now | flags, "-": lambda now: now - flags, "": lambda now: set(flags)}[sign]
        for uid in some[2]:
            if uid in self.mailbox.flags:
                self.mailbox.flags[uid] = changed(self.mailbox.flags[uid])
                if silent and uid in self.flags:
                    self.flags[uid] = changed(self.flags[uid])
        self.do(f"{'UID ' * by_uid}STORE {some[by_uid]} {sign}FLAGS{silent} ({' '.join(flags)})", expunges=bool(by_uid))

    def fetch(self, draw):
        some, by_uid = self.some(draw), draw(2)
        if not some:
            return
        answers = self.do(f"{'UID ' * by_uid}FETCH {some[by_uid]} (FLAGS UID)", expunges=bool(by_uid))
        there = {int(re.search(rb"UID (\d+)", one)[1]) for one in answers if b" FETCH " in one}
        assert there >= {uid for uid in some[2] if uid in self.mailbox.flags}

    def search(self, draw):
        flag, by_uid = FLAGS[draw(3)], draw(2)
        before = self.uids[:]
        answers = self.client.ok(f"{'UID ' * by_uid}SEARCH {flag[1:]}")
        expected = [uid for uid in before if flag in self.mailbox.flags.get(uid, ())]
        plain = [one for one in answers if one.startswith(b"SEARCH")]
        if plain:
            found = [int(one) for one in plain[0].split()[1:]]
        else:
            (answer,) = [one for one in answers if one.startswith(b"ESEARCH")]
            found = numbers(answer.rpartition(b"ALL ")[2]) if b"ALL " in answer else []
        assert found == (expected if by_uid else [before.index(uid) + 1 for uid in expected])
        self.take(answers, expunges=bool(by_uid))

    def expunge(self, draw):
        known = set(self.uids)
        if draw(2) and self.uids:
            some = self.some(draw)
            known, line = set(some[2]), f"UID EXPUNGE {some[1]}"
        else:
            line = "EXPUNGE"
        for uid in known:
            if "\\Deleted" in self.mailbox.flags.get(uid, ()):
                del self.mailbox.flags[uid]
        self.do(line)

    def append(self, draw):
        flags = [FLAGS[draw(len(FLAGS))]]
        uid = self.mailbox.arrive(flags)
        *answers, tagged = self.client(f"APPEND INBOX ({flags[0]}) {{}}", mail("appended"))
        assert b"APPENDUID" in tagged and tagged.split(b"]")[0].split()[-1] == b"%d" % uid
        self.take([one[2:] for one in answers], expunges=True)

    def copy(self, draw):
        some = self.some(draw)
        if not some:
            return
        sources = [uid for uid in some[2] if uid in self.mailbox.flags]
        copies = [self.mailbox.arrive(self.mailbox.flags[uid]) for uid in sources]
        *answers, tagged = self.client(f"UID COPY {some[1]} INBOX")
        if sources:
            *_, told, made = tagged.split(b"]")[0].split()
            assert (numbers(told), numbers(made)) == (sources, copies)
        self.take([one[2:] for one in answers], expunges=True)

    def move(self, draw):
        some = self.some(draw)
        if not some:
            return
        for uid in some[2]:
            self.mailbox.flags.pop(uid, None)
        self.do(f"UID MOVE {some[1]} other")

    def idle(self, draw):
        self.client.count += 1
        tag = b"t%d" % self.client.count
        self.client.send(tag + b" IDLE\r\n")
        answers = []
        while not answers or not answers[-1].startswith(b"+"):
            answers.append(self.client.answer())
        self.client.send(b"DONE\r\n")
        answers += self.client.until(tag)
        self.take([one[2:] for one in answers[:-1] if one.startswith(b"*")], expunges=True)


def numbers(octets):
    """The numbers of a set, in order."""
    found = []
    for part in octets.split(b","):
        first, _, last = part.partition(b":")
        found += range(int(first), int(last or first) + 1)
    return found


COMMANDS = (Watcher.store, Watcher.fetch, Watcher.search, Watcher.expunge, Watcher.append, Watcher.copy, Watcher.move)
COMMANDS += (Watcher.store, Watcher.store, Watcher.idle, lambda watcher, draw: watcher.do("NOOP"))


class Apply:
    """What cspool-apply does, on a log in memory."""

    def __init__(self, path):
        self.log = Log()
        self.db = schema.open_database(path, create=True)
        trust = {"do": "trust", "key": HOST.public.sign.hex(), "comment": ""}
        Replay(self.db, [ALICE]).run(self.log.stream(0, 0))
        with schema.writing(self.db):
            view.change(self.db, [trust, {"do": "create", "name": "other", "nonce": "00" * 16}])
        for body in outbox.bodies(self.db):
            self.log.append(body, ALICE)
        self.run()

    def deliver(self, count):
        for _ in range(count):
            subject = f"message {len(self.log.records)}"
            self.log.append(command.deliver(mail(subject), 1795507200), HOST)

    def run(self):
        number = seen.cursor(self.db).number
        Replay(self.db, [ALICE]).run(self.log.stream(number, len(self.log.records)))


@settings(max_examples=2000 if os.environ.get("CSPOOL_LONG") else 60)
@given(st.randoms(use_true_random=False), st.lists(st.sampled_from(MODES), min_size=2, max_size=3))
def test_each_session_is_told_the_truth(source, modes):
    draw = source.randrange
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "mail.db"
        apply, mailbox, clients = Apply(path), Mailbox(), []
        try:
            watchers = []
            for mode in modes:
                clients.append(Client(path))
                watchers.append(Watcher(clients[-1], mailbox, mode))
            for _ in range(draw(40)):
                if draw(5):
                    COMMANDS[draw(len(COMMANDS))](watchers[draw(len(watchers))], draw)
                else:
                    count = draw(3)
                    apply.deliver(count)
                    for _ in range(count):
                        mailbox.arrive()
                    apply.run()
            for watcher in watchers:
                watcher.check()
            for one in watchers:
                for other in watchers:
                    assert one is other or not one.recent & other.recent
        finally:
            for client in clients:
                client.close()
            apply.db.close()


class Follower(Watcher):
    """A client that does not know what the others do: it asks for the UIDs of what is new."""

    def exists(self, count):
        assert count >= len(self.uids), "EXISTS must not take messages away"
        self.uids += [None] * (count - len(self.uids))

    def index_of(self, uid):
        """VANISHED may name a message whose UID was not asked for yet: then it is any one between its neighbours."""
        if uid in self.uids:
            return self.uids.index(uid)
        after = next((index for index, one in enumerate(self.uids) if one and one > uid), len(self.uids))
        assert after and self.uids[after - 1] is None, "told of an expunge of a message never heard of"
        return after - 1

    def forget(self, index):
        self.flags.pop(self.uids.pop(index), None)

    def do(self, line, *literals, expunges=True):
        answers = super().do(line, *literals, expunges=expunges)
        while None in self.uids:
            # FETCH, not UID FETCH: numbers cannot move before it ends. What it passes over is expunged.
            super().do(f"FETCH {self.uids.index(None) + 1}:* (UID FLAGS)", expunges=False)
            super().do("NOOP")
        return answers

    def fetched(self, number, items):
        uid = int(re.search(rb"UID (\d+)", items)[1]) if b"UID" in items else self.uids[number - 1]
        if self.uids[number - 1] is None:
            self.uids[number - 1] = uid
        assert self.uids[number - 1] == uid
        if flags := re.search(rb"FLAGS \((.*?)\)", items):
            self.flags[uid] = set(flags[1].decode().split()) - {"\\Recent"}

    def act(self, draw):
        some = self.some(draw)
        if some:
            sequence, uids, those = some
            sign, flag, silent = ("+", "-", "")[draw(3)], FLAGS[draw(len(FLAGS))], (".SILENT", "")[draw(2)]
            choice = draw(8)
            if choice < 4:
                changed = {"+": lambda now: now | {flag}, "-": lambda now: now - {flag}, "": lambda now: {flag}}[sign]
                if silent:
                    self.flags |= {uid: changed(self.flags[uid]) for uid in those}
                words = f"STORE {sequence}" if choice < 2 else f"UID STORE {uids}"
                self.do(f"{words} {sign}FLAGS{silent} ({flag})", expunges=choice >= 2)
            elif choice == 4:
                self.do(("EXPUNGE", f"UID EXPUNGE {uids}")[draw(2)])
            elif choice == 5:
                self.do(f"UID COPY {those[0]} INBOX")
            elif choice == 6:
                self.do(f"FETCH {sequence} FLAGS", expunges=False)
            else:
                self.search_anything(flag)
        elif draw(2):
            self.do("APPEND INBOX {}", mail("appended"))
        else:
            self.do("NOOP")

    def search_anything(self, flag):
        before = len(self.uids)
        answers = self.do(
            f"SEARCH {flag.replace(chr(92), '')}" if flag != "key" else "SEARCH KEYWORD key", expunges=False
        )
        (found,) = [one for one in answers if one.startswith((b"SEARCH", b"ESEARCH"))]
        if found.startswith(b"SEARCH"):
            assert all(0 < int(number) <= before for number in found.split()[1:])


class Process(Client):
    """A client of cspool-imapd in a process of its own."""

    @staticmethod
    def serve(path, server, authenticated, timeout):
        with server:
            done = subprocess.run(
                ["cspool-imapd", f"--db={path}", "--preauth"], stdin=server, stdout=server, check=False
            )
            assert done.returncode == 0


CLIENTS, SECONDS = (10, 300) if os.environ.get("CSPOOL_LONG") else (3, 0)
DELIVERIES = 6  # at least


def test_sessions_and_apply_at_the_same_time(tmp_path):
    path, key, delivered = tmp_path / "mail.db", tmp_path / "key", threading.Event()
    disk.create(str(key), keys.secret_line(b"a" * 32, "alice").encode(), 0o600)
    apply = Apply(path)
    followers, failures = [], []

    def run(number):
        try:
            draw = random.Random(number).randrange
            while not delivered.is_set():
                followers[number].act(draw)
                acted[number].set()
        except BaseException as error:
            failures.append(error)
            raise

    for number in range(CLIENTS):
        followers.append(Follower(Process(path), None, (MODES[0], MODES[2], MODES[1])[number % 3]))
    ends = time.monotonic() + SECONDS
    acted = [threading.Event() for _ in followers]
    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(followers))]
    for thread in threads:
        thread.start()
    deliveries = 0
    while deliveries < DELIVERIES or time.monotonic() < ends:
        deliveries += 1
        # Each client does something between two deliveries, however slow the machine is.
        for one in acted:
            while not one.wait(0.1) and not failures:
                pass
            one.clear()
        if failures:
            break
        number = len(apply.log.records)
        apply.deliver(5)
        stream = b"".join(
            frame.encode(one.record, one.number, one.chain) for one in apply.log.stream(number, number + 5)
        )
        subprocess.run(
            ["cspool-apply", f"--db={path}", f"--key={key}"],
            input=stream + frame.encode_end(6),
            check=True,
            timeout=120,
        )
    delivered.set()
    for thread in threads:
        thread.join()
    assert not failures
    # Once all is quiet, all know the same, and it is what the database has.
    for _ in range(2):
        for follower in followers:
            follower.do("NOOP")
    rows = apply.db.execute("SELECT uid, flags FROM message WHERE mailbox = 1 ORDER BY uid")
    truth = {uid: set(flags.split()) for uid, flags in rows}
    assert len(apply.log.records) >= 5 * deliveries
    for follower in followers:
        assert follower.uids == list(truth)
        assert follower.flags == truth
        follower.client.close()
    apply.db.close()
