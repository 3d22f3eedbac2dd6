"""NOTIFY (RFC 5465): what a client is told of other mailboxes, and between its commands."""

import contextlib
import random

import pytest
from cspool.database import schema, view
from cspool.form import SPECIAL_USES
from imap import Client, Mailboxes, mail


@pytest.fixture
def boxes(tmp_path):
    boxes = Mailboxes(tmp_path / "mail.db")
    for name in ("Lists", "Lists/a", "Work"):
        boxes.create(name)
    return boxes


@pytest.fixture
def clients(boxes):
    with contextlib.ExitStack() as stack:

        def make(*commands):
            client = Client(boxes.path)
            stack.callback(client.close)
            for one in commands:
                client.ok(one)
            return client

        yield make


@pytest.fixture
def other(clients):
    return clients()


def told(client):
    """Return what a client is told of by its next command."""
    return client.ok("NOOP")


def test_other_mailboxes(boxes, clients):
    client = clients(
        "SELECT INBOX", "NOTIFY SET (selected (MessageNew MessageExpunge)) (personal (MessageNew MessageExpunge))"
    )
    boxes.append(mail("one"), "Work")
    assert client.answer() == b'* STATUS "Work" (MESSAGES 1 UIDNEXT 2 UIDVALIDITY %d)' % validity(boxes, "Work")
    boxes.append(mail("two"))
    assert client.answer() == b"* 1 EXISTS"
    assert client.answer() == b"* 1 RECENT"
    boxes.change_all(do="add-flags", flags=["\\Seen"])  # nobody asked for flags
    boxes.change_all(do="expunge")
    answers = {client.answer() for _ in range(2)}
    assert answers == {
        b"* 1 EXPUNGE",
        b'* STATUS "Work" (MESSAGES 0 UIDNEXT 2 UIDVALIDITY %d)' % validity(boxes, "Work"),
    }
    assert told(client) == []


def validity(boxes, name):
    return boxes.db.execute("SELECT uidvalidity FROM mailbox WHERE name = ?", (name,)).fetchone()[0]


def test_flags_of_other_mailboxes(boxes, clients):
    boxes.append(mail(), "Work")
    client = clients("NOTIFY SET (mailboxes Work (MessageNew MessageExpunge FlagChange))")
    boxes.change_all(do="add-flags", flags=["\\Seen"])
    answer = client.answer()
    assert answer.startswith(b'* STATUS "Work" (MESSAGES 1 UIDNEXT 2 UIDVALIDITY ')
    assert b" UNSEEN 0 HIGHESTMODSEQ " in answer


def test_the_state_from_which_it_begins(boxes, clients):
    boxes.append(mail(), "Lists/a")
    client = clients("SELECT Work")
    answers = client.ok("NOTIFY SET STATUS (subtree Lists (MessageNew MessageExpunge FlagChange)) (personal NONE)")
    assert [one.split(b" (")[0] for one in answers] == [b'STATUS "Lists"', b'STATUS "Lists/a"']
    assert all(word in one for one in answers for word in (b"MESSAGES", b"UIDNEXT", b"UIDVALIDITY", b"HIGHESTMODSEQ"))


def test_new_messages_come_with_what_was_asked_for(boxes, clients):
    client = clients(
        "SELECT INBOX",
        "NOTIFY SET (selected (MessageNew (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)]) MessageExpunge FlagChange))",
    )
    boxes.append(mail("one"))
    assert client.answer() == b"* 1 EXISTS"
    assert client.answer() == b"* 1 RECENT"
    assert client.answer() == (
        b"* 1 FETCH (FLAGS (\\Recent) BODY[HEADER.FIELDS (SUBJECT)] {16}\r\nSubject: one\r\n\r\n UID 1)"
    )
    # It is not told of what it does itself.
    assert client.ok("APPEND INBOX {}", mail("own")) == [b"2 EXISTS", b"2 RECENT"]
    assert client.ok("UID COPY 1 INBOX") == [b"3 EXISTS", b"3 RECENT"]
    boxes.change_all(do="add-flags", flags=["\\Seen"])
    assert [client.answer().split(b" (")[0] for _ in range(3)] == [b"* %d FETCH" % number for number in (1, 2, 3)]


def test_a_client_that_counts_messages_is_told_of_expunges_later(boxes, clients):
    for _ in range(2):
        boxes.append(mail())
    client = clients("SELECT INBOX", "NOTIFY SET (selected-delayed (MessageNew MessageExpunge))")
    boxes.change_all(do="expunge")
    boxes.append(mail())
    assert client.answer() == b"* 3 EXISTS"
    client.answer()
    assert client.ok("FETCH 3 (UID)") == [b"3 FETCH (UID 3)"]
    assert told(client) == [b"2 EXPUNGE", b"1 EXPUNGE"]
    boxes.change_all(do="expunge")
    client.send(b"i IDLE\r\n")
    assert client.answer() == b"+ idling"
    assert client.answer() == b"* 1 EXPUNGE"
    client.send(b"DONE\r\n")
    client.until(b"i")


def test_names_and_subscriptions(boxes, clients, other):
    client = clients(
        "NOTIFY SET (personal (MailboxName SubscriptionChange)) (subtree Lists (MessageNew MessageExpunge))"
    )
    other.ok("CREATE Lists/b")
    assert {client.answer() for _ in range(2)} == {
        b'* LIST (\\HasChildren) "/" "Lists"',
        b'* LIST (\\HasNoChildren) "/" "Lists/b"',
    }
    other.ok("SUBSCRIBE Lists/b")
    assert client.answer() == b'* LIST (\\HasNoChildren \\Subscribed) "/" "Lists/b"'
    other.ok("RENAME Lists News")
    assert client.answer() == b'* LIST (\\HasChildren) "/" "News" ("OLDNAME" ("Lists"))'  # none for those below
    other.ok("DELETE Work")
    assert client.answer() == b'* LIST (\\NonExistent \\Noselect \\HasNoChildren) "/" "Work"'
    # Nor is it told of what it does itself.
    assert client.ok("CREATE Own") == []
    assert client.ok("SUBSCRIBE Own") == []
    assert client.ok("APPEND News/a {}", mail()) == []
    assert told(client) == []


def test_what_others_did_before_its_own_change_is_told(boxes, clients, other):
    client = clients("NOTIFY SET (personal (MessageNew MessageExpunge))", "NOTIFY NONE")
    client.ok("NOTIFY SET (selected-delayed (MessageNew MessageExpunge)) (personal (MessageNew MessageExpunge))")
    with schema.writing(boxes.db):  # so that the client's own change comes right behind this one
        boxes.append(mail(), "Work")
        client.send(b"a APPEND Work {9+}\r\nX: own\r\n\r\n\r\n")
    answers = client.until(b"a")
    assert answers[-1].startswith(b"OK [APPENDUID")
    assert [one.split(b" UIDV")[0] for one in answers[:-1]] == [b'* STATUS "Work" (MESSAGES 1 UIDNEXT 2']


@pytest.mark.parametrize("form", ["NOTIFY NONE", "NOTIFY SET (selected NONE)", "NOTIFY SET (personal (MailboxName))"])
def test_who_asks_for_nothing_hears_nothing(boxes, clients, form):
    boxes.append(mail("old"))
    client = clients("SELECT INBOX", form)
    boxes.append(mail())
    boxes.append(mail(), "Work")
    boxes.change_all(do="add-flags", flags=["\\Flagged"])
    assert told(client) == []
    assert client.ok("FETCH 1 (UID)") == [b"1 FETCH (UID 1)"]
    # But what it does itself is answered.
    client.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
    assert b"1 EXPUNGE" in client.ok("EXPUNGE")
    # And what has come since is there when NOTIFY is given again.
    boxes.append(mail("new"))
    assert b"2 EXISTS" in client.ok("NOTIFY SET (selected (MessageNew MessageExpunge))")


def test_uidvalidity_of_a_name_made_again(boxes, clients, other):
    client = clients("NOTIFY SET (personal (MessageNew MessageExpunge FlagChange))")
    before = validity(boxes, "Work")
    with schema.writing(boxes.db):
        (old,) = boxes.db.execute("SELECT id FROM mailbox WHERE name = 'Work'").fetchone()
        view.change(boxes.db, [{"do": "delete", "mailbox": old.hex(), "ids": ""}])
        view.change(boxes.db, [{"do": "create", "name": "Work", "nonce": "77" * 16}])
    assert b"UIDVALIDITY %d" % validity(boxes, "Work") in client.answer()
    assert before != validity(boxes, "Work")


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("NOTIFY", b"BAD"),
        ("NOTIFY SOME", b"BAD"),
        ("NOTIFY SET", b"BAD"),
        ("NOTIFY SET (personal)", b"BAD"),
        ("NOTIFY SET (personal (MessageNew))", b"BAD"),
        ("NOTIFY SET (personal (MessageExpunge))", b"BAD"),
        ("NOTIFY SET (personal (FlagChange))", b"BAD"),
        ("NOTIFY SET (personal (MessageNew (UID) MessageExpunge))", b"BAD"),
        ("NOTIFY SET (selected (MailboxName))", b"BAD"),
        ("NOTIFY SET (selected NONE) (selected-delayed NONE)", b"BAD"),
        ("NOTIFY SET (mailboxes () (MailboxName))", b"BAD"),
        ("NOTIFY SET (elsewhere (MailboxName))", b"BAD"),
        ("NOTIFY SET (selected (MessageNew (NONSENSE) MessageExpunge))", b"BAD"),
        ("NOTIFY SET (personal (AnnotationChange MessageNew MessageExpunge))", b"NO [BADEVENT (MessageNew "),
        ("NOTIFY SET (personal (Nonsense))", b"NO [BADEVENT (MessageNew "),
        ("NOTIFY SET (mailboxes nowhere (MailboxName)) ", b"OK"),
        ("NOTIFY SET status (inboxes (mailboxname)) (subscribed (SubscriptionChange))", b"OK"),
    ],
)
def test_syntax(clients, command, answer):
    assert clients()(command)[-1].startswith(answer)


class Model:
    """What a client knows of other mailboxes from answers alone: names, subscriptions, and numbers of messages."""

    def __init__(self, client):
        self.client = client
        self.names, self.messages = set(), {}
        self.subscribed = {answer.split(b'"')[3] for answer in client.ok('LSUB "" *')}
        for answer in client.ok('LIST "" * RETURN (SUBSCRIBED STATUS (MESSAGES))'):
            self.take(answer)

    def take(self, answer):
        kind, _, rest = answer.partition(b" ")
        if kind == b"STATUS":
            self.messages[rest.split(b'"')[1]] = int(rest.split(b"MESSAGES ")[1].split()[0].rstrip(b")"))
        elif kind == b"LIST":
            attributes, _, words = rest.partition(b") ")
            name, *old = words.split(b'"')[3::2]
            if old:
                self.rename(old[1], name)
            (self.names.discard if b"\\NonExistent" in attributes else self.names.add)(name)
            (self.subscribed.add if b"\\Subscribed" in attributes else self.subscribed.discard)(name)
            if name not in self.names:
                self.messages.pop(name, None)

    def rename(self, old, new):
        for name in [one for one in self.names if one == old or one.startswith(old + b"/")]:
            self.names.discard(name)
            self.names.add(new + name[len(old) :])
            self.messages[new + name[len(old) :]] = self.messages.pop(name, 0)

    def seen(self):
        return self.names, self.subscribed, {name: count for name, count in self.messages.items() if count}


@pytest.mark.parametrize("seed", range(8))
def test_a_client_that_only_listens_knows_it_all(boxes, clients, other, seed):
    choose = random.Random(seed)
    client = clients()
    listener = Model(client)
    client.ok("NOTIFY SET (personal (MessageNew MessageExpunge MailboxName SubscriptionChange))")
    for step in range(40):
        names = sorted(listener.names - {b"INBOX"})
        name, new = (choose.choice(names) for _ in range(2)) if names else (b"Work", b"Work")
        act = choose.choice(["CREATE %d", "CREATE %b/%d", "DELETE %b", "RENAME %b %d", "SUBSCRIBE %b", "UNSUBSCRIBE %b",
                             "append", "append", "expunge", "copy", "RENAME %b %b/%d"])  # fmt: skip
        if act == "DELETE %b" and name.decode() in SPECIAL_USES:
            continue  # it is listed as before, and made again at first use: there is no word for that
        if act == "append":
            other(b"APPEND %b {}" % name, mail())
        elif act == "expunge":
            boxes.change_all(do="expunge")
        elif act == "copy":
            other(b"SELECT %b" % name)
            other(b"COPY 1:* %b" % new)
            other("UNSELECT")
        else:
            line = act.encode().replace(b"%b", name, 1).replace(b"%b", new, 1)
            other(line.replace(b"%d", b"%d" % step))
        if choose.random() < 0.5:
            for answer in told(client):
                listener.take(answer)
    for answer in told(client):
        listener.take(answer)
    assert listener.seen() == Model(clients()).seen()
