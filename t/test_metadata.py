"""METADATA (RFC 5464): what clients note of a mailbox, or of the server."""

import contextlib

import pytest
from cspool.form import VALUE_MAX
from cspool.imap import metadata
from imap import Client, Mailboxes


@pytest.fixture
def boxes(tmp_path):
    boxes = Mailboxes(tmp_path / "mail.db")
    boxes.create("Work")
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
def client(clients):
    return clients()


def test_it_is_said(client):
    assert b" METADATA " in client.ok("CAPABILITY")[0]


def test_values(client):
    """Each kind of string, for a mailbox and for the server, which have nothing to do with each other."""
    assert client.ok('SETMETADATA inbox (/PRIVATE/Comment "mine" /shared/comment {})', b"two\r\nlines") == []
    client.ok('SETMETADATA "" (/private/comment {})', "ünïcode".encode())
    (answer,) = client.ok("GETMETADATA INBOX (/private/COMMENT /shared/comment /shared/other)")
    assert answer == (
        b'METADATA "INBOX" (/private/comment "mine" /shared/comment {10}\r\ntwo\r\nlines /shared/other NIL)'
    )
    assert client.ok('GETMETADATA "" /private/comment') == ['METADATA "" (/private/comment {9}\r\nünïcode)'.encode()]
    client.ok('SETMETADATA INBOX (/private/comment NIL /shared/comment "" /shared/a "NIL")')
    (answer,) = client.ok("GETMETADATA INBOX (/private/comment /shared/comment /shared/a)")
    assert answer == b'METADATA "INBOX" (/private/comment NIL /shared/comment "" /shared/a "NIL")'
    client.ok('SETMETADATA INBOX ("/shared/with space" "x")')
    assert client.ok('GETMETADATA INBOX "/shared/with space"') == [b'METADATA "INBOX" ("/shared/with space" "x")']


def test_binary(client):
    client.send(b"a SETMETADATA INBOX (/shared/x ~{4+}\r\n\0\xff\r\n)\r\n")
    assert client.until(b"a")[-1].startswith(b"OK")
    assert client.ok("GETMETADATA INBOX /shared/x") == [b'METADATA "INBOX" (/shared/x ~{4}\r\n\0\xff\r\n)']
    assert client.no("SETMETADATA INBOX (/shared/y {})", b"\0") == b"BAD NUL"
    assert client.no("SETMETADATA {} (/shared/y NIL)", b"a\0") == b"BAD NUL"


def test_depth(client):
    for entry in ("/shared/a", "/shared/a/b", "/shared/a/b/c", "/shared/ab", "/private/a"):
        client.ok(f'SETMETADATA Work ({entry} "{entry[-1]}")')
    found = {
        "0": [b"/shared/a"],
        "1": [b"/shared/a", b"/shared/a/b"],
        "infinity": [b"/shared/a", b"/shared/a/b", b"/shared/a/b/c"],
    }
    for depth, entries in found.items():
        (answer,) = client.ok(f"GETMETADATA (DEPTH {depth}) Work /shared/a")
        assert answer.partition(b"(")[2].split()[::2] == entries
    assert client.ok("GETMETADATA (DEPTH 1) Work (/shared /private)") == [
        b'METADATA "Work" (/shared/a "a" /shared/ab "b" /private/a "a")'
    ]
    assert client.ok("GETMETADATA (DEPTH infinity) Work /shared/none") == []
    assert client.no("GETMETADATA (DEPTH 2) Work /shared/a").startswith(b"BAD")


def test_sizes(client, monkeypatch):
    long, short = "l" * 2199, "s"
    client.ok(f'SETMETADATA Work (/shared/long "{long}" /shared/short "{short}")')
    *answers, end = client("GETMETADATA (MAXSIZE 1024 DEPTH 1) Work /shared")
    assert answers == [b'* METADATA "Work" (/shared/short "s")'] and end.startswith(b"OK [METADATA LONGENTRIES 2199]")
    *answers, end = client("GETMETADATA (MAXSIZE 0) Work (/shared/long /shared/none)")
    assert answers == [b'* METADATA "Work" (/shared/none NIL)'] and b"LONGENTRIES 2199" in end
    client.ok("SETMETADATA Work (/shared/long {})", b"x" * VALUE_MAX)
    assert client.no("SETMETADATA Work (/shared/short NIL /shared/long {})", b"x" * (VALUE_MAX + 1)).startswith(
        b"NO [METADATA MAXSIZE 65536]"
    )
    monkeypatch.setattr(metadata, "ENTRIES_MAX", 3)
    client.ok('SETMETADATA Work (/shared/long "" /shared/third "")')
    assert client.no('SETMETADATA "" (/shared/fourth "")').startswith(b"NO [METADATA TOOMANY]")
    client.ok('SETMETADATA Work (/shared/third "again" /shared/long NIL)')
    client.ok('SETMETADATA "" (/shared/fourth "")')
    (answer,) = client.ok("GETMETADATA (DEPTH 1) Work /shared")
    assert answer == b'METADATA "Work" (/shared/short "s" /shared/third "again")'


@pytest.mark.parametrize(
    "command, answer",
    [
        ('SETMETADATA nowhere (/shared/a "")', b"NO [NONEXISTENT]"),
        ("GETMETADATA nowhere /shared/a", b"NO [NONEXISTENT]"),
        ('SETMETADATA Work (/other/a "")', b"BAD"),
        ('SETMETADATA Work (/shared "")', b"BAD"),
        ('SETMETADATA Work (/shared/ "")', b"BAD"),
        ('SETMETADATA Work (/shared//a "")', b"BAD"),
        ('SETMETADATA Work ("/shared/%" "")', b"BAD"),
        ('SETMETADATA Work ("/shared/*" "")', b"BAD"),
        ("SETMETADATA Work (/shared/a word)", b"BAD"),
        ("SETMETADATA Work ()", b"BAD"),
        ("SETMETADATA Work", b"BAD"),
        ("GETMETADATA Work ()", b"OK"),
        ("GETMETADATA (MAXSIZE) Work /shared/a", b"BAD"),
        ("GETMETADATA (LARGE 1) Work /shared/a", b"BAD"),
        ("GETMETADATA (MAXSIZE infinity) Work /shared/a", b"BAD"),
    ],
)
def test_syntax(client, command, answer):
    assert client(command)[-1].startswith(answer)


def test_it_stays_with_its_mailbox(client):
    client.ok('SETMETADATA Work (/shared/a "x")')
    client.ok("RENAME Work Job")
    assert client.ok("GETMETADATA Job /shared/a") == [b'METADATA "Job" (/shared/a "x")']
    client.ok("CREATE Work")
    assert client.ok("GETMETADATA Work /shared/a") == [b'METADATA "Work" (/shared/a NIL)']
    client.ok("DELETE Job")
    client.ok("CREATE Job")
    assert client.ok("GETMETADATA Job /shared/a") == [b'METADATA "Job" (/shared/a NIL)']


def test_who_enables_it_is_told_what_others_change(clients, client):
    listener, other = clients("ENABLE METADATA"), clients()
    other.ok('SETMETADATA Work (/shared/a "x" /private/b "y")')
    assert listener.ok("NOOP") == [b'METADATA "Work" /private/b /shared/a']
    assert listener.ok("NOOP") == []
    other.ok('SETMETADATA Work (/shared/a "x" /private/b NIL)')
    assert listener.ok('SETMETADATA "" (/shared/own "z")') == [b'METADATA "Work" /private/b']  # and not its own
    assert client.ok("NOOP") == []
    other.ok("RENAME Work Job")
    other.ok("DELETE Job")
    assert listener.ok("NOOP") == []
    listener.send(b"a IDLE\r\n")
    assert listener.answer() == b"+ idling"
    other.ok('SETMETADATA "" (/shared/own NIL)')
    assert listener.answer() == b'* METADATA "" /shared/own'
    listener.send(b"DONE\r\n")
    listener.until(b"a")


def test_notify(clients):
    mailboxes = clients("NOTIFY SET (mailboxes Work (MailboxMetadataChange))", "ENABLE METADATA")
    server = clients("NOTIFY SET (personal (ServerMetadataChange))")
    other = clients()
    other.ok('SETMETADATA INBOX (/shared/a "x")')
    other.ok('SETMETADATA Work (/shared/a "x")')
    assert mailboxes.answer() == b'* METADATA "Work" /shared/a'
    other.ok('SETMETADATA "" (/shared/a "x")')
    assert server.answer() == b'* METADATA "" /shared/a'
    assert mailboxes.ok('SETMETADATA Work (/shared/a "own")') == []
    for client in (mailboxes, server):
        assert client.ok("NOOP") == []
