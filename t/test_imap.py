"""The IMAP server, verb by verb and extension by extension, and the ways in which small servers break clients."""

import base64
import re
import time
import zlib
from pathlib import Path

import pytest
from cspool.database import schema, vanished, view
from imap import Client, Mailboxes, mail


@pytest.fixture
def boxes(tmp_path):
    return Mailboxes(tmp_path / "mail.db")


@pytest.fixture
def clients(boxes):
    """Make clients on the database; they are closed after the test."""
    made = []

    def make(*commands):
        made.append(Client(boxes.path))
        for one in commands:
            made[-1].ok(one)
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def client(clients):
    return clients()


def numbers(answers, word):
    """The numbers of a SEARCH or SORT answer."""
    (found,) = [one for one in answers if one.startswith(word)]
    return [int(number) for number in found.split()[1:]]


# Mailboxes


def test_mailboxes_are_created_with_their_parents(client):
    client.ok("CREATE a/b/c")
    listed = client.ok('LIST "" "a*"')
    assert listed == [
        rb'LIST (\HasChildren) "/" "a"',
        rb'LIST (\HasChildren) "/" "a/b"',
        rb'LIST (\HasNoChildren) "/" "a/b/c"',
    ]
    assert b"[ALREADYEXISTS]" in client.no("CREATE a/b")
    assert b"[ALREADYEXISTS]" in client.no("CREATE inbox")
    assert client.no('CREATE ""')
    assert client.no("CREATE a//b")
    client.ok("CREATE x/")
    assert client.ok('LIST "" x') == [rb'LIST (\HasNoChildren) "/" "x"']


def test_a_parent_that_is_deleted_stays_for_its_children(client):
    client.ok("CREATE a/b")
    client.ok("DELETE a")
    assert client.ok('LIST "" a') == [rb'LIST (\NonExistent \Noselect \HasChildren) "/" "a"']
    assert client.no("SELECT a").startswith(b"NO [NONEXISTENT]")
    client.ok("DELETE a/b")
    assert client.ok('LIST "" a*') == []
    assert client.no("DELETE a")
    assert client.no("DELETE inbox")


def test_names_that_are_directories_to_others(client):
    """One such mailbox, and mbsync synchronizes nothing."""
    client.ok("CREATE a")
    for name in (".", "..", "a/..", "../a", "a/./b"):
        assert client.no(f"CREATE {name}")
        assert client.no(f"RENAME a {name}")
    client.ok("CREATE a/.b")


def test_rename_takes_children_along(client, boxes):
    client.ok("CREATE a/b")
    client.ok("APPEND a/b {}", mail("kept"))
    client.ok("RENAME a new/name")
    listed = client.ok('LIST "" "new*"')
    assert [one.split()[-1] for one in listed] == [b'"new"', b'"new/name"', b'"new/name/b"']
    assert not any(b"NonExistent" in one for one in listed)  # what is above the new name is made, as by CREATE
    assert b"(MESSAGES 1)" in client.ok("STATUS new/name/b (MESSAGES)")[0]
    assert client.no("RENAME nowhere x")
    assert client.no("RENAME new/name INBOX")
    assert client.no("RENAME new/name new/name/below")


def test_rename_of_inbox_moves_its_messages(client, boxes):
    boxes.append(mail())
    client.ok("RENAME INBOX old/mail")
    assert b"MESSAGES 1" in client.ok("STATUS old/mail (MESSAGES)")[0]
    assert b"MESSAGES 0" in client.ok("STATUS old (MESSAGES)")[0]
    assert b"MESSAGES 0" in client.ok("STATUS INBOX (MESSAGES)")[0]


def test_a_name_made_again_is_another_mailbox(client):
    client.ok("CREATE x")
    before = client.ok("STATUS x (UIDVALIDITY MAILBOXID)")
    client.ok("DELETE x")
    client.ok("CREATE x")
    after = client.ok("STATUS x (UIDVALIDITY MAILBOXID)")
    assert int(re.search(rb"UIDVALIDITY (\d+)", after[0])[1]) > int(re.search(rb"UIDVALIDITY (\d+)", before[0])[1])
    assert before[0].split()[-1] != after[0].split()[-1]


def test_subscriptions_are_names(client):
    client.ok("CREATE a/b")
    client.ok("SUBSCRIBE a/b")
    client.ok("CREATE later")
    client.ok("SUBSCRIBE later")
    client.ok("DELETE later")
    assert b"[NONEXISTENT]" in client.no("SUBSCRIBE latter")
    names = [one.split()[-1] for one in client.ok('LSUB "" *')]
    assert names == [b'"Archive"', b'"Drafts"', b'"INBOX"', b'"Junk"', b'"Sent"', b'"Trash"', b'"a/b"', b'"later"']
    assert client.ok('LSUB "" a%') == [rb'LSUB (\Noselect) "/" "a"']
    client.ok("UNSUBSCRIBE later")
    client.ok("UNSUBSCRIBE later")
    assert client.ok('LSUB "" later') == []


def test_list_forms(client):
    assert client.ok('LIST "" ""') == [rb'LIST (\Noselect) "/" ""']
    assert client.ok('LIST "" inBox') == [rb'LIST (\HasNoChildren) "/" "INBOX"']
    client.ok("CREATE a/b/c")
    names = lambda pattern, reference='""': [one.split()[-1] for one in client.ok(f"LIST {reference} {pattern}")]  # noqa: E731
    assert names('"a/%"') == [b'"a/b"']
    assert names("%", "a/") == [b'"a/b"']
    assert names('"*c"') == [b'"a/b/c"']
    assert names('"%/%/c"') == [b'"a/b/c"']


def test_special_use(client):
    listed = client.ok('LIST "" *')
    for name in (b"Archive", b"Drafts", b"Junk", b"Sent", b"Trash"):
        assert rb'LIST (\HasNoChildren \%b) "/" "%b"' % (name, name) in listed
    client.ok("APPEND Sent {}", mail())  # made at first use
    assert b"MESSAGES 1" in client.ok("STATUS Sent (MESSAGES)")[0]
    client.ok(r"CREATE Deleted (USE (\Trash))")
    assert client.ok('LIST (SPECIAL-USE) "" (%) RETURN (SUBSCRIBED)')[-1] == (
        rb'LIST (\HasNoChildren \Subscribed \Sent) "/" "Sent"'
    )
    assert b'"Trash"' not in b"".join(client.ok('LIST "" *'))  # another mailbox has its use now
    assert b"[USEATTR]" in client.no(r"CREATE y (USE (\Nonsense))")


def test_list_extended(client):
    client.ok("CREATE a/b")
    client.ok("SUBSCRIBE a/b")
    client.ok("CREATE gone")
    client.ok("SUBSCRIBE gone")
    client.ok("DELETE gone")
    assert client.ok('LIST (SUBSCRIBED) "" (INBOX a* gone)') == [
        rb'LIST (\HasNoChildren \Subscribed) "/" "INBOX"',
        rb'LIST (\HasNoChildren \Subscribed) "/" "a/b"',
        rb'LIST (\NonExistent \Noselect \HasNoChildren \Subscribed) "/" "gone"',
    ]
    assert client.ok('LIST (SUBSCRIBED RECURSIVEMATCH) "" "a"') == [
        rb'LIST (\HasChildren) "/" "a" ("CHILDINFO" ("SUBSCRIBED"))'
    ]
    client.ok("SUBSCRIBE a")
    assert client.ok('LIST (SUBSCRIBED RECURSIVEMATCH) "" a*') == [
        rb'LIST (\HasChildren \Subscribed) "/" "a" ("CHILDINFO" ("SUBSCRIBED"))',
        rb'LIST (\HasNoChildren \Subscribed) "/" "a/b"',
    ]
    assert client.ok('LIST (SUBSCRIBED RECURSIVEMATCH) "" %')[-1] == (
        rb'LIST (\NonExistent \Noselect \HasNoChildren \Subscribed) "/" "gone"'
    )
    assert rb'LIST (\HasChildren \Subscribed) "/" "a" ("CHILDINFO" ("SUBSCRIBED"))' in client.ok(
        'LIST (RECURSIVEMATCH SUBSCRIBED) "" %'
    )
    assert client.ok('LIST "" (INBOX a) RETURN (CHILDREN)') == [
        rb'LIST (\HasNoChildren) "/" "INBOX"',
        rb'LIST (\HasChildren) "/" "a"',
    ]
    assert client.ok('LIST "" INBOX RETURN ()')
    assert client.no('LIST (RECURSIVEMATCH) "" *').startswith(b"BAD")
    assert client.ok('LIST "" (INBOX) RETURN (STATUS (MESSAGES UIDNEXT))')[1] == (
        b'STATUS "INBOX" (MESSAGES 0 UIDNEXT 1)'
    )


def test_what_stands_above_what_is_subscribed(client):
    """Example 9 of RFC 5258 section 5."""
    client.ok("UNSUBSCRIBE INBOX")
    for name in ("foo2/bar1", "foo2/bar2", "baz2/bar2", "baz2/bar22", "baz2/bar222", "eps2/mamba", "qux2/bar2"):
        client.ok(f"CREATE {name}")
        client.ok(f"SUBSCRIBE {name}")
    client.ok("SUBSCRIBE eps2")

    def listed(pattern):
        found = {}
        for answer in client.ok(f'LIST (RECURSIVEMATCH SUBSCRIBED) "" {pattern}'):
            found[answer.split(b'"')[3].decode()] = (b"\\Subscribed" in answer, b"CHILDINFO" in answer)
        return found

    assert listed("*2") == {
        "foo2": (False, True),
        "foo2/bar2": (True, False),
        "baz2/bar2": (True, False),
        "baz2/bar22": (True, False),
        "baz2/bar222": (True, False),
        "eps2": (True, True),
        "qux2/bar2": (True, False),
    }
    assert listed("(foo2 foo2/*)") == {"foo2/bar1": (True, False), "foo2/bar2": (True, False)}
    assert listed("eps2*") == {"eps2": (True, True), "eps2/mamba": (True, False)}
    # Options in parentheses make it an extended LIST, in which the empty pattern names nothing.
    assert client.ok('LIST () "" ""') == []


def test_list_of_special_uses_below(client):
    client.ok("CREATE a/b (USE (\\Junk))")
    client.ok("UNSUBSCRIBE a/b")
    assert client.ok('LIST (SPECIAL-USE RECURSIVEMATCH) "" a') == [
        rb'LIST (\HasChildren) "/" "a" ("CHILDINFO" ("SPECIAL-USE"))'
    ]
    assert client.ok('LIST (SPECIAL-USE SUBSCRIBED RECURSIVEMATCH) "" a') == []
    client.ok("SUBSCRIBE a/b")
    assert client.ok('LIST (SPECIAL-USE SUBSCRIBED RECURSIVEMATCH) "" a') == [
        rb'LIST (\HasChildren) "/" "a" ("CHILDINFO" ("SUBSCRIBED" "SPECIAL-USE"))'
    ]


def test_special_uses_are_the_same_in_any_case(boxes, client):
    client.ok("CREATE sent")
    assert client.ok('LIST "" sent') == [rb'LIST (\HasNoChildren \Sent) "/" "Sent"']
    assert b"[ALREADYEXISTS]" in client.no("CREATE SENT")
    boxes.create("junk")
    boxes.append(mail("one"), "Junk")
    client.ok("SELECT JUNK")
    client.ok("CREATE trash/old")
    assert client.ok('LIST "" Trash/%') == [rb'LIST (\HasNoChildren) "/" "Trash/old"']
    client.ok("CREATE a/sent")
    assert client.ok('LIST "" a/%') == [rb'LIST (\HasNoChildren) "/" "a/sent"']


def test_a_name_is_the_same_composed_or_not(client, boxes):
    composed, decomposed = "Entw\u00fcrfe/\u00e9", "Entwu\u0308rfe/e\u0301"
    client.ok("ENABLE UTF8=ACCEPT")
    client.ok(f'CREATE "{decomposed}"')
    assert client.no(f'CREATE "{composed}"').startswith(b"NO [ALREADYEXISTS]")
    listed = {answer.split(b'"')[3].decode() for answer in client.ok('LIST "" "Entwu\u0308rfe*"')}
    assert listed == {composed, "Entw\u00fcrfe"}
    client.ok(f'SUBSCRIBE "{decomposed}"')
    client.ok(f'RENAME "{composed}" "x\u0323\u0307"')
    assert client.ok('SELECT "x\u0307\u0323"')


def test_special_uses_are_subscribed_from_the_start(client):
    """Thunderbird shows only what is subscribed."""
    assert client.ok('LIST (SUBSCRIBED) "" Sent') == [rb'LIST (\HasNoChildren \Subscribed \Sent) "/" "Sent"']
    client.ok("UNSUBSCRIBE Sent")
    assert client.ok('LIST (SUBSCRIBED) "" Sent') == []
    assert client.ok('LSUB "" Sent') == []
    client.ok("SELECT Drafts")
    assert client.ok('LIST (SUBSCRIBED) "" Drafts')


def test_a_name_in_no_charset_is_refused(client):
    for verb in ("SELECT", "CREATE", "STATUS", "DELETE"):
        assert client.no(f"{verb} &2D0-{' (MESSAGES)' * (verb == 'STATUS')}").startswith(b"NO [CANNOT]")


def test_names_in_utf_7_and_utf_8(client):
    client.ok(b"CREATE &AOQ-/&-x")
    assert client.ok('LIST "" "&AOQ-*"')[-1] == rb'LIST (\HasNoChildren) "/" "&AOQ-/&-x"'
    client.ok("ENABLE UTF8=ACCEPT")
    assert client.ok('LIST "" {}', "ä*".encode())[-1] == 'LIST (\\HasNoChildren) "/" "ä/&x"'.encode()
    client.ok("SELECT {}", "ä/&x".encode())


def test_status_items(client, boxes):
    boxes.append(mail(), flags=["\\Seen"])
    boxes.append(mail("x" * 100), flags=["\\Deleted"])
    (answer,) = client.ok(
        "STATUS inbox (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN DELETED SIZE HIGHESTMODSEQ APPENDLIMIT MAILBOXID)"
    )
    size = len(mail()) + len(mail("x" * 100))
    assert re.fullmatch(
        rb'STATUS "INBOX" \(MESSAGES 2 RECENT 2 UIDNEXT 3 UIDVALIDITY \d+ UNSEEN 1 DELETED 1 SIZE %d'
        rb" HIGHESTMODSEQ 3 APPENDLIMIT 52428800 MAILBOXID \(F0{32}\)\)" % size,
        answer,
    )
    client.ok("SELECT INBOX")
    assert client.ok("STATUS INBOX (MESSAGES)") == [b'STATUS "INBOX" (MESSAGES 2)']
    assert client.no("STATUS INBOX ()").startswith(b"BAD")
    assert client.no("STATUS INBOX (NONSENSE)").startswith(b"BAD")


# SELECT


def test_select_says_what_there_is(client, boxes):
    boxes.append(mail(), flags=["\\Seen", "key"])
    boxes.append(mail("two"))
    *answers, tagged = client("SELECT INBOX")
    assert answers[:4] == [
        rb"* FLAGS (\Answered \Flagged \Deleted \Seen \Draft key)",
        b"* 2 EXISTS",
        b"* 2 RECENT",
        b"* OK [UNSEEN 2] First unseen message",
    ]
    assert rb"* OK [PERMANENTFLAGS (\Answered \Flagged \Deleted \Seen \Draft key \*)] Flags that are kept" in answers
    assert b"* OK [UIDNEXT 3] Next UID" in answers
    assert tagged == b"OK [READ-WRITE] SELECT completed"
    assert client("EXAMINE INBOX")[-1] == b"OK [READ-ONLY] EXAMINE completed"
    assert client("EXAMINE INBOX")[0].startswith(b"* OK [CLOSED]")
    client.no("SELECT nowhere")
    assert client.no("FETCH 1 FLAGS").startswith(b"BAD")  # nothing is selected after a SELECT that failed


def test_recent_goes_to_one_session(clients, boxes):
    boxes.append(mail())
    first, second = clients("EXAMINE INBOX"), clients()
    assert b"1 RECENT" in second.ok("SELECT INBOX")
    assert b"0 RECENT" in clients().ok("SELECT INBOX")
    boxes.append(mail("two"))
    assert second.ok("NOOP") == [b"2 EXISTS", b"2 RECENT"]
    assert b"0 RECENT" in clients().ok("SELECT INBOX")
    assert first.ok("FETCH 1 FLAGS")[0] == rb"1 FETCH (FLAGS (\Recent))"


def test_unselect_and_close(client, boxes):
    boxes.append(mail(), flags=["\\Deleted"])
    client.ok("SELECT INBOX")
    client.ok("UNSELECT")
    assert b"1 EXISTS" in client.ok("EXAMINE INBOX")
    client.ok("CLOSE")
    assert b"1 EXISTS" in client.ok("SELECT INBOX")
    assert client.ok("CLOSE") == []
    assert b"0 EXISTS" in client.ok("SELECT INBOX")


# FETCH


def test_partial_sections(client, boxes):
    boxes.append(b"Subject: x\r\n\r\n0123456789")
    client.ok("SELECT INBOX")
    fetch = lambda what: client.ok(f"FETCH 1 {what}")[0]  # noqa: E731
    assert fetch("BODY.PEEK[TEXT]<2.3>") == b"1 FETCH (BODY[TEXT]<2> {3}\r\n234)"
    assert fetch("BODY.PEEK[TEXT]<8.100>") == b"1 FETCH (BODY[TEXT]<8> {2}\r\n89)"
    assert fetch("BODY.PEEK[TEXT]<10.5>") == b"1 FETCH (BODY[TEXT]<10> {0}\r\n)"
    assert fetch("BODY.PEEK[]<4000000000.5>") == b"1 FETCH (BODY[]<4000000000> {0}\r\n)"
    assert fetch("(BODY.PEEK[TEXT]<0.1> BODY.PEEK[TEXT]<1.1>)") == (
        b"1 FETCH (BODY[TEXT]<0> {1}\r\n0 BODY[TEXT]<1> {1}\r\n1)"
    )
    assert client.no("FETCH 1 BODY[]<1.0>").startswith(b"BAD")


def test_header_fields_end_with_an_empty_line(client, boxes):
    boxes.append(b"Subject: x\r\nTo: a@example.org,\r\n b@example.org\r\nFrom : c\r\n\r\nbody")
    boxes.append(b"Subject: only a header")
    client.ok("SELECT INBOX")
    fetch = lambda what, n=1: client.ok(f"FETCH {n} BODY.PEEK[{what}]")[0].partition(b"}\r\n")[2][:-1]  # noqa: E731
    assert fetch("HEADER.FIELDS (TO)") == b"To: a@example.org,\r\n b@example.org\r\n\r\n"
    assert fetch("HEADER.FIELDS (from subject)") == b"Subject: x\r\nFrom : c\r\n\r\n"
    assert fetch("HEADER.FIELDS (X)") == b"\r\n"
    assert fetch("HEADER.FIELDS.NOT (To)") == b"Subject: x\r\nFrom : c\r\n\r\n"
    assert fetch("HEADER") == b"Subject: x\r\nTo: a@example.org,\r\n b@example.org\r\nFrom : c\r\n\r\n"
    assert fetch("HEADER.FIELDS (SUBJECT)", 2) == b"Subject: only a header\r\n\r\n"
    assert fetch("TEXT", 2) == b""
    assert b'BODY[HEADER.FIELDS ("a b")]' in client.ok('FETCH 1 BODY.PEEK[HEADER.FIELDS ("a b")]')[0]


def test_uid_fetch_says_the_uid(client, boxes):
    boxes.append(mail())
    client.ok("SELECT INBOX")
    assert client.ok("UID FETCH 1 (FLAGS)") == [rb"1 FETCH (UID 1 FLAGS (\Recent))"]
    assert client.ok("UID FETCH 1 (UID FLAGS UID)") == [rb"1 FETCH (UID 1 FLAGS (\Recent))"]
    assert client.ok("UID FETCH 7:9 FLAGS") == []
    assert client.ok("UID FETCH 7:* UID") == [b"1 FETCH (UID 1)"]
    assert client.ok("FETCH 5:* UID") == [b"1 FETCH (UID 1)"]
    assert client.no("FETCH 5 UID").startswith(b"BAD")


def test_sizes_agree(client, boxes):
    boxes.append(b"Subject: x\n\nunix line ends\n\0and NUL\xff")
    client.ok("SELECT INBOX")
    (answer,) = client.ok("FETCH 1 (RFC822.SIZE BODY.PEEK[] RFC822.HEADER BODY.PEEK[TEXT])")
    size = int(re.search(rb"RFC822.SIZE (\d+)", answer)[1])
    assert b"BODY[] {%d}\r\nSubject: x\r\n\r\nunix line ends\r\n\0and NUL\xff" % size in answer
    assert re.search(rb"RFC822.HEADER \{(\d+)\}", answer)[1] == b"14"
    assert re.search(rb"BODY\[TEXT\] \{(\d+)\}", answer)[1] == b"%d" % (size - 14)


def test_status_counts_again_what_has_changed(client, boxes):
    """It has counted before in this session, and what has been counted is kept."""
    status = "STATUS INBOX (MESSAGES UNSEEN DELETED RECENT)"
    for number in range(1, 4):
        boxes.append(mail(body=f"{number}"))
        assert client.ok(status)[0].startswith(b'STATUS "INBOX" (MESSAGES %d UNSEEN %d DELETED 0' % (number, number))
    client.ok("SELECT INBOX")
    client.ok("STORE 1 +FLAGS (\\Seen \\Deleted)")
    assert b"(MESSAGES 3 UNSEEN 2 DELETED 1 " in b"".join(client.ok(status))
    client.ok("EXPUNGE")
    assert b"(MESSAGES 2 UNSEEN 2 DELETED 0 " in b"".join(client.ok(status))


def test_preview_savedate_and_object_ids(client, boxes):
    boxes.append(mail(body="A preview\r\n\r\nof the text, " + "long " * 100))
    client.ok("SELECT INBOX")
    client.ok("COPY 1 INBOX")
    one, two = client.ok("FETCH 1:2 (PREVIEW (LAZY) SAVEDATE EMAILID THREADID)")
    assert re.search(rb'PREVIEW "(A preview of the text, long [^"]*)"', one)[1].__len__() == 200
    assert re.search(rb'SAVEDATE "[ \d]\d-\w{3}-\d{4} [\d:]{8} [+-]\d{4}"', one)
    assert re.search(rb"EMAILID \(M[0-9a-f]{32}\)", one)[0] == re.search(rb"EMAILID \(M[0-9a-f]{32}\)", two)[0]
    assert re.search(rb"THREADID \(T[0-9a-f]{32}\)", one)[0] == re.search(rb"THREADID \(T[0-9a-f]{32}\)", two)[0]
    email_id = re.search(rb"EMAILID \((\w+)\)", one)[1].decode()
    assert numbers(client.ok(f"SEARCH EMAILID {email_id}"), b"SEARCH") == [1, 2]


def test_a_conversation_has_one_thread_id(client, boxes):
    boxes.append(mail("a", message_id="<1@example.org>"))
    boxes.append(mail("Re: a", message_id="<2@example.org>", in_reply_to="<1@example.org>"))
    boxes.append(mail("Re: a", message_id="<3@example.org>", references="<1@example.org> <2@example.org>"))
    boxes.append(mail("b", message_id="<4@example.org>"))
    boxes.append(mail("no id"))
    boxes.append(mail("no id"))
    client.ok("SELECT INBOX")
    threads = [re.search(rb"THREADID \((T\w+)\)", one)[1] for one in client.ok("FETCH 1:* (THREADID)")]
    assert len(set(threads)) == 4 and len(set(threads[:3])) == 1
    assert numbers(client.ok(b"SEARCH THREADID " + threads[0]), b"SEARCH") == [1, 2, 3]
    assert numbers(client.ok(b"SEARCH THREADID " + threads[5]), b"SEARCH") == [6]


def test_quota(client, boxes):
    root, quota = client.ok("GETQUOTAROOT INBOX")
    assert root == b'QUOTAROOT "INBOX" "User quota"'
    used, limit = map(int, re.fullmatch(rb'QUOTA "User quota" \(STORAGE (\d+) (\d+)\)', quota).groups())
    assert 0 < used < limit
    assert client.ok('GETQUOTA "User quota"')[0].startswith(b'QUOTA "User quota" (STORAGE ')
    assert client.ok("GETQUOTAROOT nowhere")[0] == b'QUOTAROOT "nowhere" "User quota"'
    assert client.no("GETQUOTA other").startswith(b"NO [NONEXISTENT]")
    assert client.no("SETQUOTA x ()").startswith(b"BAD")
    boxes.append(mail())
    boxes.append(mail(body="x" * 1000))
    boxes.change_all(do="add-flags", flags=["\\Deleted"])
    (status,) = client.ok("STATUS INBOX (DELETED DELETED-STORAGE)")
    assert status == b'STATUS "INBOX" (DELETED 2 DELETED-STORAGE %d)' % (len(mail()) + len(mail(body="x" * 1000)))


def test_pieces_are_those_of_the_whole(client, boxes):
    """Each section, read in pieces, is what it is when it is read at once; also across the end of the header."""
    inner = base64.encodebytes(b"Subject: inner\n\n" + b"within " * 20).replace(b"\n", b"\r\n")
    boxes.append(
        b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + b"text " * 50 + b"\r\n--b\r\n"
        b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + inner + b"\r\n--b\r\n"
        b"Content-Type: message/rfc822\r\n\r\nSubject: y\r\n\r\nplain\r\n--b--\r\n"
    )
    client.ok("SELECT INBOX")
    literal = lambda answer: answer.partition(b"}\r\n")[2][: int(re.search(rb"\{(\d+)\}", answer)[1])]  # noqa: E731
    sections = [
        "",
        "TEXT",
        "HEADER",
        "HEADER.FIELDS (SUBJECT)",
        "1",
        "1.MIME",
        "2",
        "2.HEADER",
        "2.TEXT",
        "2.1",
        "3",
        "3.1",
    ]
    for section in [*sections, "3.HEADER.FIELDS (SUBJECT)", "3.HEADER"]:
        (whole,) = client.ok(f"FETCH 1 BODY.PEEK[{section}]")
        whole = literal(whole)
        for size in (7, 1000):
            pieces = b""
            for start in range(0, len(whole) + size, size):
                (answer,) = client.ok(f"FETCH 1 BODY.PEEK[{section}]<{start}.{size}>")
                assert b"<%d> {" % start in answer
                pieces += literal(answer)
            assert pieces == whole, section
    assert client.ok("FETCH 1 BODY.PEEK[9]<0.5>") == [b"1 FETCH (BODY[9]<0> NIL)"]
    assert client.ok("FETCH 1 BODY.PEEK[1.HEADER]<0.5>") == [b"1 FETCH (BODY[1.HEADER]<0> NIL)"]
    assert client.ok("FETCH 1 BODY.PEEK[9]<0.5>") == [b"1 FETCH (BODY[9]<0> NIL)"]


def test_a_new_keyword_is_named_first(client, boxes):
    """Before a FETCH has it: by our own STORE, by another session, and with a new message."""
    boxes.append(mail(), flags=["old"])
    client.ok("SELECT INBOX")
    named, flags = client.ok("STORE 1 +FLAGS (new)")
    assert named.startswith(b"FLAGS (") and named.endswith(b"new old)") and b" new old))" in flags
    assert len(client.ok("STORE 1 -FLAGS (new)")) == len(client.ok("STORE 1 +FLAGS (new)")) == 1
    boxes.change_all(do="add-flags", flags=["theirs"])
    named, flags = client.ok("NOOP")
    assert named.startswith(b"FLAGS (") and b" theirs)" in named and b"theirs" in flags
    boxes.append(mail(), flags=["arrived"])
    assert client.ok("NOOP")[0].startswith(b"FLAGS (") and client.ok("NOOP") == []


def test_what_is_seen_is_found(client, boxes):
    """test_text.py has each kind; here they go all the way through the server."""
    html = "Content-Type: text/html; charset=gb2312\r\n\r\n<p>annual<br>\r\n  re<b>port</b> &eacute;</p>"
    named = "Content-Type: application/pdf; name*=utf-8''r%C3%A9sum%C3%A9.pdf\r\n\r\n%"
    octets = f"--b\r\n{html}\r\n--b\r\n{named}\r\n--b--\r\n".encode()
    header = (
        "Subject: =?utf-8?Q?R=C3=A9union_de?=\r\n\t=?utf-8?Q?_lundi?=\r\nCc: a@example.org\r\nCc: b@example.org\r\n"
    )
    boxes.append(f"{header}Content-Type: multipart/mixed; boundary=b\r\n\r\n".encode() + octets)
    client.ok("SELECT INBOX")
    for key, wanted in (
        ("BODY", "Annual report é"),
        ("TEXT", "RÉSUMÉ.pdf"),
        ("SUBJECT", "réunion de  lundi"),
        ("SUBJECT", "re\u0301union"),
        ("CC", "b@example.org"),
    ):
        assert numbers(client.ok(f"SEARCH CHARSET UTF-8 {key} {{}}", wanted.encode()), b"SEARCH") == [1], wanted
    assert numbers(client.ok("SEARCH BODY br"), b"SEARCH") == []
    (answer,) = client.ok("FETCH 1 ENVELOPE")
    assert b'((NIL NIL "a" "example.org")(NIL NIL "b" "example.org"))' in answer


def test_a_message_enclosed_in_base64(client, boxes):
    inner = base64.encodebytes(b"Subject: inner\n\nwithin\n").replace(b"\n", b"\r\n")
    boxes.append(b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + inner)
    client.ok("SELECT INBOX")
    (answer,) = client.ok("FETCH 1 (BODYSTRUCTURE BODY.PEEK[1] BODY.PEEK[1.HEADER] BODY.PEEK[1.1] BINARY.PEEK[1])")
    assert b'("message" "rfc822" NIL NIL NIL "base64" %d (NIL "inner"' % len(inner) in answer
    assert b"BODY[1] {%d}\r\n%b" % (len(inner), inner) in answer
    assert b"BODY[1.HEADER] {18}\r\nSubject: inner\r\n\r\n" in answer
    assert b"BODY[1.1] {8}\r\nwithin\r\n" in answer
    assert b"BINARY[1] {23}\r\nSubject: inner\n\nwithin\n" in answer


def test_binary_parts_come_back_as_they_are(client):
    octets = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: binary\r\n\r\na\nb\0\r\n"
    client.send(b"x APPEND INBOX ~{%d+}\r\n%b\r\n" % (len(octets), octets))
    assert client.until(b"x")[-1].startswith(b"OK [APPENDUID")
    client.ok("SELECT INBOX")
    (answer,) = client.ok("FETCH 1 (RFC822.SIZE BINARY.PEEK[1] BODYSTRUCTURE)")
    assert b"RFC822.SIZE %d " % len(octets) in answer and b"BINARY[1] ~{6}\r\na\nb\0\r\n" in answer
    assert b'"binary" 6 2 ' in answer


def test_binary(client, boxes):
    boxes.append(
        b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Transfer-Encoding: base64\r\n\r\nAGhpAA==\r\n"
        b"--a\r\nContent-Transfer-Encoding: x-unknown\r\n\r\nx\r\n--a--\r\n"
    )
    client.ok("SELECT INBOX")
    assert client.ok("FETCH 1 (BINARY.PEEK[1] BINARY.SIZE[1])") == [
        b"1 FETCH (BINARY[1] ~{4}\r\n\0hi\0 BINARY.SIZE[1] 4)"
    ]
    assert client.ok("FETCH 1 BINARY.PEEK[1]<1.2>") == [b"1 FETCH (BINARY[1]<1> {2}\r\nhi)"]
    assert client.ok("FETCH 1 BINARY.PEEK[9]") == [b"1 FETCH (BINARY[9] NIL)"]
    assert client.no("FETCH 1 BINARY[2]").startswith(b"NO [UNKNOWN-CTE]")
    for section in ("BODY[0]", "BODY[1.0]", "BINARY[0]", "BODY[0.MIME]"):
        assert client.no(f"FETCH 1 {section}").startswith(b"BAD")
    boxes.append(b"Content-Transfer-Encoding: base64;\r\n\r\naGVsbG8gd\r\n")
    client.ok("NOOP")
    assert client.no("FETCH 2 BINARY.PEEK[1]").startswith(b"NO [PARSE]")
    client.send(b"x APPEND INBOX ~{5+}\r\na\0b\0c\r\n")
    assert client.until(b"x")[-1].startswith(b"OK [APPENDUID")


# STORE


def test_only_what_was_sent_is_seen(client, clients, boxes):
    """A part that cannot be decoded ends FETCH; with NOTIFY it is only left out."""
    good = mail(content_type="text/plain", content_transfer_encoding="base64", body="YWJj")
    bad = mail(content_type="text/plain", content_transfer_encoding="base64", body="!")
    listener = clients("SELECT INBOX", "NOTIFY SET (selected (MessageNew (BINARY[1]) MessageExpunge))")
    for octets in (good, bad, good):
        boxes.append(octets)
    client.ok("SELECT INBOX")
    listener.ok("NOOP")
    assert numbers(client.ok("SEARCH SEEN"), b"SEARCH") == [1, 3]
    client.ok("STORE 1:3 -FLAGS (\\Seen)")
    *sent, tagged = client("FETCH 1:3 BINARY[1]")
    assert len(sent) == 1 and tagged.startswith(b"NO [PARSE]")
    assert numbers(client.ok("SEARCH SEEN"), b"SEARCH") == [1]


def test_store_forms(client, boxes):
    boxes.append(mail())
    client.ok("SELECT INBOX")
    flags = lambda: re.search(rb"FLAGS \((?:\\Recent ?)?([^)]*)\)", client.ok("FETCH 1 FLAGS")[0])[1]  # noqa: E731
    assert client.ok(r"STORE 1 +FLAGS (\flagged Key)")[1:] == [rb"1 FETCH (FLAGS (\Recent Key \Flagged))"]
    assert client.ok("STORE 1 -FLAGS.SILENT key") == []
    assert flags() == rb"\Flagged"
    assert client.ok(r"UID STORE 1 FLAGS (\Seen a b)")[1:] == [rb"1 FETCH (UID 1 FLAGS (\Recent \Seen a b))"]
    assert client.ok("STORE 1 FLAGS ()") == [rb"1 FETCH (FLAGS (\Recent))"]
    assert client.ok("NOOP") == []  # what it has been told, it is not told again


def test_one_store_is_one_change(client, boxes):
    for number in range(50):
        boxes.append(mail(str(number)))
    before = boxes.db.execute("SELECT count(*) FROM outbox").fetchone()[0]
    client.ok("SELECT INBOX")
    client.ok(r"STORE 1:* +FLAGS (\Seen)")
    assert boxes.db.execute("SELECT count(*) FROM outbox").fetchone()[0] == before + 1
    client.ok(r"STORE 1:* +FLAGS (\Seen)")
    assert boxes.db.execute("SELECT count(*) FROM outbox").fetchone()[0] == before + 1


# Several sessions


def test_expunge_is_told_only_where_it_may_be(clients, boxes):
    for number in range(4):
        boxes.append(mail(str(number)))
    one, two = clients("SELECT INBOX"), clients("SELECT INBOX")
    one.ok(r"STORE 2 +FLAGS (\Deleted)")
    assert one.ok("EXPUNGE") == [b"2 EXPUNGE"]
    # FETCH, STORE and SEARCH by sequence number: numbers stay as they were.
    assert two.ok("FETCH 3 UID") == [b"3 FETCH (UID 3)"]
    assert [one.split()[0] for one in two.ok("FETCH 1:4 FLAGS")] == [b"1", b"3", b"4"]
    assert numbers(two.ok("SEARCH ALL"), b"SEARCH") == [1, 3, 4]
    assert two.ok(r"STORE 4 +FLAGS.SILENT (\Flagged)") == []
    boxes.append(mail("new"))
    assert two.ok("FETCH 4 UID") == [b"4 FETCH (UID 4)", b"5 EXISTS", b"1 RECENT"]
    assert two.ok("NOOP") == [b"2 EXPUNGE"]
    assert two.ok("FETCH 4 UID") == [b"4 FETCH (UID 5)"]
    assert one.ok("NOOP") == [rb"3 FETCH (UID 4 FLAGS (\Recent \Flagged))", b"4 EXISTS", b"3 RECENT"]


def test_idle_tells_within_a_second(clients, boxes):
    client = clients("SELECT INBOX")
    client.send(b"i IDLE\r\n")
    assert client.answer() == b"+ idling"
    started = time.monotonic()
    boxes.append(mail())
    assert client.answer() == b"* 1 EXISTS"
    assert client.answer() == b"* 1 RECENT"
    boxes.change_all(do="add-flags", flags=["\\Seen"])
    assert client.answer() == rb"* 1 FETCH (UID 1 FLAGS (\Recent \Seen))"
    boxes.change_all(do="expunge")
    assert client.answer() == b"* 1 EXPUNGE"
    assert time.monotonic() - started < 10  # three times a poll, on the busiest machine
    client.send(b"DONE\r\n")
    assert client.until(b"i") == [b"OK IDLE completed"]


# Searching


@pytest.fixture
def library(boxes, client):
    boxes.append(mail("=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "base text", From="Alice <alice@example.org>",
                      Date="Tue, 24 Nov 2026 00:30:00 +0200"), flags=["\\Seen", "$Label"], date=1000000000)  # fmt: skip
    boxes.append(mail("two", "Needle = in\r\nhay", To="bob@example.org", Cc="carol@example.org"), date=1700000000)
    boxes.append(
        b"Subject: three\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\nK=E4se n=\r\needle\r\n",
        flags=["\\Flagged"],
        date=1795507200,
    )
    client.ok("SELECT INBOX")
    return client


@pytest.mark.parametrize(
    "key, expected",
    [
        ("ALL", [1, 2, 3]),
        ("SEEN", [1]),
        ("UNSEEN FLAGGED", [3]),
        ("KEYWORD $label", [1]),
        ("UNKEYWORD $label", [2, 3]),
        ("NOT SEEN", [2, 3]),
        ("OR SEEN FLAGGED", [1, 3]),
        ("(OR (SEEN) (FLAGGED)) 1", [1]),
        ("2:*", [2, 3]),
        ("UID 1,3", [1, 3]),
        ("FROM alice", [1]),
        ("FROM ALICE@example", [1]),
        ("TO bob", [2]),
        ("CC carol", [2]),
        ("BCC x", []),
        ("SUBJECT two", [2]),
        ('HEADER Subject ""', [1, 2, 3]),
        ('HEADER To ""', [2]),
        ("BODY needle", [2, 3]),
        ("TEXT three", [3]),
        ("BODY three", []),
        ("BEFORE 1-Jan-2010", [1]),
        ("SINCE 1-Jan-2020", [2, 3]),
        ("ON 14-Nov-2023", [2]),
        ("SENTON 24-Nov-2026", [1]),
        ("SENTSINCE 25-Nov-2026", []),
        ("SENTBEFORE 25-Nov-2026", [1]),
        ("SMALLER 10", []),
        ("LARGER 10", [1, 2, 3]),
        ("OLDER 5000000", [1, 2]),
        ("SAVEDBEFORE 1-Jan-2100", [1, 2, 3]),
        ("NEW", [2, 3]),
        ("OLD", []),
    ],
)
def test_search(library, key, expected):
    assert numbers(library.ok(f"SEARCH {key}"), b"SEARCH") == expected


def test_a_search_finds_nothing_where_no_message_has_the_number(library):
    count = len(library.ok("UID FETCH 1:* UID"))
    assert library.ok(f"SEARCH {count + 1}") == library.ok(f"SEARCH {count + 1}:{count + 5}") == [b"SEARCH"]
    assert library.ok(f"SEARCH {count}:{count + 5}") == library.ok(f"SEARCH {count + 5}:*") == [b"SEARCH %d" % count]
    assert library.no(f"FETCH {count + 1} UID").startswith(b"BAD")


def test_search_for_8_bit_text(library):
    for text in ("GRÜSSE", "grüße"):
        assert numbers(library.ok("SEARCH CHARSET UTF-8 SUBJECT {}", text.encode()), b"SEARCH") == [1]
    assert numbers(library.ok("SEARCH BODY {}", "käse".encode()), b"SEARCH") == [3]
    assert library.no("SEARCH BODY {}", b"\xff").startswith(b"BAD")
    assert library.no("SEARCH CHARSET US-ASCII BODY {}", "ä".encode()).startswith(b"BAD")


def test_esearch(library):
    esearch = lambda what: library.ok(what)[0].partition(b") ")[2]  # noqa: E731
    assert esearch("SEARCH RETURN () ALL") == b"ALL 1:3"
    assert esearch("SEARCH RETURN (MIN MAX COUNT) UNSEEN") == b"MIN 2 MAX 3 COUNT 2"
    assert esearch("UID SEARCH RETURN (ALL) OR SEEN FLAGGED") == b"UID ALL 1,3"
    assert library.ok("SEARCH RETURN (MIN ALL) KEYWORD nowhere") == [b'ESEARCH (TAG "t5")']
    assert esearch("SEARCH RETURN (COUNT) KEYWORD nowhere") == b"COUNT 0"
    assert esearch("UID SEARCH RETURN (PARTIAL 2:9) ALL") == b"UID PARTIAL (2:9 2:3)"
    assert esearch("SEARCH RETURN (PARTIAL -1:-2) ALL") == b"PARTIAL (-1:-2 2:3)"
    assert esearch("SEARCH RETURN (PARTIAL 7:9) ALL") == b"PARTIAL (7:9 NIL)"
    assert library.ok("UID FETCH 1:* (UID) (PARTIAL -1:-1)") == [b"3 FETCH (UID 3)"]
    assert library.no("SEARCH RETURN (NONSENSE) ALL").startswith(b"BAD")


def test_multisearch(clients, boxes):
    for name in ("Lists", "Lists/a", "Lists/a/b", "Work"):
        boxes.create(name)
        boxes.append(mail("hit"), name)
        boxes.append(mail("miss"), name)
    client = clients("SELECT Work")

    def found(line):
        return [re.search(rb'MAILBOX "([^"]+)" UIDVALIDITY \d+\) UID (.*)', one).groups() for one in client.ok(line)]

    assert found("ESEARCH SUBJECT hit") == [(b"Work", b"ALL 1")]
    everywhere = [b"Lists", b"Lists/a", b"Lists/a/b", b"Work"]
    assert found("ESEARCH IN (personal) SUBJECT hit") == [(name, b"ALL 1") for name in everywhere]
    assert [name for name, _ in found("ESEARCH IN (subtree Lists) ALL")] == everywhere[:3]
    assert [name for name, _ in found("ESEARCH IN (subtree-one (Lists Work)) ALL")] == [*everywhere[:2], b"Work"]
    assert [name for name, _ in found("ESEARCH IN (mailboxes (Lists/a nowhere) selected) ALL")] == [b"Lists/a", b"Work"]
    assert found("ESEARCH IN (inboxes) RETURN (COUNT MIN) SUBJECT miss")[0] == (b"Lists", b"MIN 2 COUNT 1")
    assert found("ESEARCH IN (mailboxes nowhere) ALL") == []
    client.ok("ESEARCH IN (selected) RETURN (SAVE) 2")
    assert client.ok("FETCH $ (UID)") == [b"2 FETCH (UID 2)"]
    for line in (
        "IN (personal) 1",
        "IN (personal) $",
        "IN (personal) RETURN (SAVE) ALL",
        "IN (selected-delayed) ALL",
        "IN (personal) NONSENSE",
        "IN (mailboxes nowhere) NONSENSE",
        "IN () ALL",
    ):
        assert client.no(f"ESEARCH {line}").startswith(b"BAD"), line
    client.ok("UNSELECT")
    assert client.no("ESEARCH ALL").startswith(b"BAD")
    assert len(client.ok("ESEARCH IN (personal) CHARSET UTF-8 SUBJECT hit")) == 4


def test_searchres(library):
    library.ok("SEARCH RETURN (SAVE) UNSEEN")
    assert library.ok("FETCH $ UID") == [b"2 FETCH (UID 2)", b"3 FETCH (UID 3)"]
    assert numbers(library.ok("SEARCH $ FLAGGED"), b"SEARCH") == [3]
    assert numbers(library.ok("UID SEARCH UID $"), b"SEARCH") == [2, 3]
    library.ok("SEARCH RETURN (SAVE MIN) ALL")
    assert library.ok("UID FETCH $ UID") == [b"1 FETCH (UID 1)"]
    library.ok(r"STORE $ +FLAGS.SILENT (\Deleted)")
    library.ok("EXPUNGE")
    assert library.ok("FETCH $ UID") == []


def test_sort_by_unicode_casemap(boxes, client):
    for subject in ("_", "=?utf-8?Q?=C3=84pfel?=", "zebra", "Birnen", "apfel"):
        boxes.append(mail(subject))
    client.ok("SELECT INBOX")
    assert numbers(client.ok("SORT (SUBJECT) UTF-8 ALL"), b"SORT") == [5, 2, 4, 3, 1]


def test_a_day_of_one_digit_without_its_blank(client):
    """Some clients send it, though RFC 9051 wants two characters."""
    client.ok('APPEND INBOX "7-Nov-2016 10:00:00 +0000" {}', mail())
    client.ok("SELECT INBOX")
    assert (
        b'"07-Nov-2016' in client.ok("FETCH 1 INTERNALDATE")[0]
        or b'" 7-Nov-2016' in client.ok("FETCH 1 INTERNALDATE")[0]
    )


def test_sort(boxes, client):
    boxes.append(mail("Re: b", From="zoe@example.org", Date="Tue, 24 Nov 2026 10:00:00 +0000"), date=3)
    boxes.append(mail("[list] A", From='"Ann" <x@example.org>', Date="Tue, 24 Nov 2026 09:00:00 +0000"), date=1)
    boxes.append(mail("Fwd: [x] b (fwd)", "longer", From="mo@example.org"), date=2)
    client.ok("SELECT INBOX")
    sort = lambda keys: numbers(client.ok(f"SORT ({keys}) UTF-8 ALL"), b"SORT")  # noqa: E731
    assert sort("ARRIVAL") == [2, 3, 1]
    assert sort("REVERSE ARRIVAL") == [1, 3, 2]
    assert sort("DATE") == [3, 2, 1]
    assert sort("SUBJECT") == [2, 1, 3]
    assert sort("SUBJECT REVERSE ARRIVAL") == [2, 1, 3]
    assert sort("SUBJECT ARRIVAL") == [2, 3, 1]
    assert sort("FROM") == [3, 2, 1]
    assert sort("DISPLAYFROM") == [2, 3, 1]
    assert client.ok("UID SORT RETURN (ALL MIN COUNT) (ARRIVAL) US-ASCII ALL")[0].endswith(
        b"UID MIN 2 ALL 2:3,1 COUNT 3"
    )
    assert client.no("SORT (NONSENSE) UTF-8 ALL").startswith(b"BAD")
    assert client.no("SORT (DATE) KOI8-R ALL").startswith(b"NO [BADCHARSET")


def test_thread(boxes, client):
    def add(number, subject, refs="", date=0):
        boxes.append(mail(subject, Message_Id=f"<{number}@x>", References=refs,
                          Date=f"Tue, 24 Nov 2026 10:{date or number:02}:00 +0000"))  # fmt: skip

    add(1, "root")
    add(2, "Re: root", "<1@x>")
    add(3, "Re: root", "<1@x> <2@x>")
    add(4, "Re: root", "<1@x>")
    add(5, "alone")
    add(6, "Re: lost", "<lost@x>")
    add(7, "Re: lost", "<lost@x>")
    add(8, "RE: alone")
    client.ok("SELECT INBOX")
    thread = lambda how: client.ok(f"THREAD {how} UTF-8 ALL")[0]  # noqa: E731
    assert thread("REFERENCES") == b"THREAD (1 (2 3)(4))(5 8)((6)(7))"
    assert thread("ORDEREDSUBJECT") == b"THREAD (1 (2)(3)(4))(5 8)(6 7)"
    assert client.ok("UID THREAD REFERENCES UTF-8 KEYWORD nowhere") == [b"THREAD"]
    assert client.no("THREAD NONSENSE UTF-8 ALL").startswith(b"BAD")


def test_thread_breaks_a_loop_of_references(boxes, client):
    """RFC 5256 step 1.B: what others said of a message is forgotten even if what it says itself makes a loop."""
    for one, named in (("a", "c"), ("b", "a"), ("c", "a b")):
        boxes.append(mail(one, message_id=f"<{one}@x>", references=" ".join(f"<{other}@x>" for other in named.split())))
    client.ok("SELECT INBOX")
    assert client.ok("THREAD REFERENCES UTF-8 ALL") == [b"THREAD (3 1 2)"]
    boxes.append(mail("d", message_id="<d@x>"))
    boxes.append(mail("e", message_id="<e@x>", references="<d@x> <f@x>"))
    boxes.append(mail("f", message_id="<f@x>", references="<e@x>"))
    client.ok("NOOP")
    assert client.ok("THREAD REFERENCES UTF-8 4:6") == [b"THREAD (4)(6 5)"]


def test_the_first_command_with_modseq_is_told_the_highest(boxes, clients):
    """So that a client knows from where on its MODSEQs count (RFC 7162 section 3.1)."""
    boxes.append(mail())
    for first in (
        "FETCH 1 MODSEQ", "FETCH 1 FLAGS (CHANGEDSINCE 1)", "SEARCH MODSEQ 1", "STATUS INBOX (HIGHESTMODSEQ)",
        "STORE 1 (UNCHANGEDSINCE 1) +FLAGS (\\Seen)", "ENABLE CONDSTORE",
    ):  # fmt: skip
        client = clients("SELECT INBOX")
        told = [one for one in client.ok(first) if one.startswith(b"OK [HIGHESTMODSEQ ")]
        assert len(told) == 1
        assert not any(b"OK [HIGHESTMODSEQ " in one for one in client.ok(first))


def test_nothing_is_told_behind_bye(boxes, client):
    client.ok("SELECT INBOX")
    boxes.append(mail())
    client.send(b"bye LOGOUT\r\n")
    assert client.file.read() == b"* BYE Logging out\r\nbye OK LOGOUT completed\r\n"


def test_a_nul_is_in_no_command(client):
    assert client.no("CREATE {}", b"a\0b").startswith(b"BAD")
    client.ok("NOOP")


def test_threads_as_deep_as_the_mailbox(boxes, client):
    for number in range(1, 300):
        boxes.append(mail("x", Message_Id=f"<{number}@x>", In_Reply_To=f"<{number - 1}@x>"), date=number)
    client.ok("SELECT INBOX")
    assert (
        client.ok("THREAD REFERENCES UTF-8 ALL")[0] == b"THREAD (" + b" ".join(b"%d" % n for n in range(1, 300)) + b")"
    )


def test_a_loop_of_references(boxes, client):
    boxes.append(mail("a", Message_Id="<1@x>", References="<2@x>"))
    boxes.append(mail("b", Message_Id="<2@x>", References="<1@x>"))
    boxes.append(mail("c", Message_Id="<3@x>", References="<3@x>"))
    boxes.append(mail("d", Message_Id="<3@x>"))
    client.ok("SELECT INBOX")
    (answer,) = client.ok("THREAD REFERENCES UTF-8 ALL")
    assert sorted(map(int, re.findall(rb"\d+", answer))) == [1, 2, 3, 4]


# UIDPLUS, MOVE, MULTIAPPEND


def test_uidplus_and_move(client, boxes):
    for number in range(3):
        boxes.append(mail(str(number)))
    client.ok("CREATE other")
    client.ok("SELECT INBOX")
    assert re.match(rb"OK \[COPYUID \d+ 1:2 1:2\]", client("COPY 1:2 other")[-1])
    code, first, second = client.ok("MOVE 1,3 other")
    assert re.match(rb"OK \[COPYUID \d+ 1,3 3:4\]", code)
    assert (first, second) == (b"3 EXPUNGE", b"1 EXPUNGE")
    assert client.ok("FETCH 1:* UID") == [b"1 FETCH (UID 2)"]
    client.ok(r"STORE 1 +FLAGS.SILENT (\Deleted)")
    assert client.ok("UID EXPUNGE 1") == []
    assert client.ok("UID EXPUNGE 1:9") == [b"1 EXPUNGE"]
    assert b"MESSAGES 4" in client.ok("STATUS other (MESSAGES)")[0]
    assert client.no("MOVE 1 other").startswith(b"BAD")
    assert client.no("UID MOVE 2 nowhere").startswith(b"NO [TRYCREATE]")


def test_move_to_the_same_mailbox(client, boxes):
    """The messages get new UIDs, and are the same for the log: nothing is in the outbox."""
    for number in range(3):
        boxes.append(mail(str(number)))
    client.ok("SELECT INBOX")
    queued = boxes.db.execute("SELECT count(*) FROM outbox").fetchone()
    (email_id,) = client.ok("FETCH 1 (EMAILID)")
    code, *rest = client.ok("MOVE 1,3 INBOX")
    assert re.match(rb"OK \[COPYUID \d+ 1,3 4:5\]", code)
    assert rest[:3] == [b"3 EXPUNGE", b"1 EXPUNGE", b"3 EXISTS"]
    assert client.ok("FETCH 1:* (UID)") == [b"1 FETCH (UID 2)", b"2 FETCH (UID 4)", b"3 FETCH (UID 5)"]
    assert client.ok("FETCH 2 (EMAILID)")[0].split(b" ", 1)[1] == email_id.split(b" ", 1)[1]
    assert boxes.db.execute("SELECT count(*) FROM outbox").fetchone() == queued
    with schema.writing(boxes.db):
        view.refresh(boxes.db, [])
    assert client.ok("UID SEARCH ALL") == [b"SEARCH 2 4 5"]


def test_what_another_session_has_expunged_is_said(clients, boxes):
    for _ in range(3):
        boxes.append(mail())
    one, two = clients("SELECT INBOX"), clients("SELECT INBOX")
    one.ok(r"STORE 2 +FLAGS.SILENT (\Deleted)")
    one.ok("EXPUNGE")
    assert two.ok("FETCH 1:3 (UID)") == [b"%d FETCH (UID %d)" % (number, number) for number in (1, 2, 3)]
    *answers, tagged = two("FETCH 1:3 (RFC822.SIZE)")
    assert len(answers) == 2 and tagged.startswith(b"OK [EXPUNGEISSUED]")
    assert two.ok("NOOP") == [b"2 EXPUNGE"]
    assert two("FETCH 1:2 (RFC822.SIZE)")[-1] == b"OK FETCH completed"


def test_replace(boxes, client):
    """A draft that is saved again: the new one is there before the old one is gone."""
    for subject in ("one", "draft", "three"):
        boxes.append(mail(subject))
    client.ok("CREATE other")
    client.ok("SELECT INBOX")
    answers = client.ok("UID REPLACE 2 INBOX (\\Draft \\Seen) {}", mail("new draft"))
    assert re.fullmatch(rb"OK \[APPENDUID \d+ 4\] .*", answers[0])
    assert answers[1:3] == [b"2 EXPUNGE", b"3 EXISTS"]
    assert b"new draft" in b"".join(client.ok("UID FETCH 4 BODY[]"))
    assert numbers(client.ok("UID SEARCH ALL"), b"SEARCH") == [1, 3, 4]
    assert client.ok("REPLACE * other {}", mail("moved"))[-1] == b"3 EXPUNGE"
    assert b"(MESSAGES 1)" in client.ok("STATUS other (MESSAGES)")[0]


def test_replace_that_is_refused_changes_nothing(boxes, client):
    boxes.append(mail())
    boxes.append(mail())
    client.ok("SELECT INBOX")
    assert client.no("UID REPLACE 7 INBOX {}", mail()).startswith(b"NO [NONEXISTENT]")
    assert client.no("REPLACE 1 nowhere {}", mail()).startswith(b"NO [TRYCREATE]")
    assert client.no("REPLACE 1:2 INBOX {}", mail()).startswith(b"BAD")
    assert client.no("REPLACE 9 INBOX {}", mail()).startswith(b"BAD")
    assert client.no("REPLACE 1 INBOX {}", b"").startswith(b"NO")
    assert client.no("SEARCH REPLACE {}", b"x" * (2 << 20)).startswith(b"BAD")  # its literals are those of SEARCH
    client.ok("EXAMINE INBOX")
    assert client.no("REPLACE 1 INBOX {}", mail()).startswith(b"NO [READ-ONLY]")
    assert client.ok("STATUS INBOX (MESSAGES UIDNEXT)") == [b'STATUS "INBOX" (MESSAGES 2 UIDNEXT 3)']
    big = mail(body="x" * (3 << 20))
    client.ok("SELECT INBOX")
    client.ok("REPLACE 1 INBOX {}", big)


def test_multiappend(client):
    client.ok("SELECT INBOX")
    *_, tagged = client(r'APPEND INBOX (\Seen) {} "24-Nov-2026 08:00:00 +0100" {} {}', mail("1"), mail("2"), mail("3"))
    assert re.match(rb"OK \[APPENDUID \d+ 1:3\]", tagged)
    answers = client.ok("FETCH 1:3 (FLAGS INTERNALDATE)")
    assert [rb"\Seen" in one for one in answers] == [True, False, False]
    assert b'"24-Nov-2026 07:00:00 +0000"' in answers[1]
    assert client.no("APPEND INBOX {} {}", mail("4"), b"").startswith(b"NO")
    assert client.no("APPEND INBOX {} nonsense", mail("4")).startswith(b"BAD")
    assert client.ok("FETCH 3 UID") == [b"3 FETCH (UID 3)"]
    assert client.no("FETCH 4 UID")
    client.ok("APPEND INBOX UTF8 (~{})", "Subject: ä\r\n\r\n".encode())


# CONDSTORE and QRESYNC


def test_condstore(clients, boxes):
    for number in range(3):
        boxes.append(mail(str(number)))
    client = clients()
    answers = client.ok("SELECT INBOX (CONDSTORE)")
    highest = int(next(re.search(rb"HIGHESTMODSEQ (\d+)", one)[1] for one in answers if b"HIGHESTMODSEQ" in one))
    assert client.ok("FETCH 1 (FLAGS)") == [rb"1 FETCH (FLAGS (\Recent) MODSEQ (2))"]
    assert client.ok(r"STORE 1 (UNCHANGEDSINCE 2) +FLAGS.SILENT (\Seen)") == [b"1 FETCH (MODSEQ (%d))" % (highest + 1)]
    *_, tagged = client(rf"STORE 1:3 (UNCHANGEDSINCE {highest}) +FLAGS (\Flagged)")
    assert tagged.startswith(b"OK [MODIFIED 1]")
    assert client.ok(f"FETCH 1:* (UID) (CHANGEDSINCE {highest})") == [
        b"1 FETCH (UID 1 MODSEQ (%d))" % (highest + 1),
        b"2 FETCH (UID 2 MODSEQ (%d))" % (highest + 2),
        b"3 FETCH (UID 3 MODSEQ (%d))" % (highest + 2),
    ]
    assert client.ok(f"SEARCH MODSEQ {highest + 2}") == [b"SEARCH 2 3 (MODSEQ %d)" % (highest + 2)]
    assert client.ok(f'SEARCH MODSEQ "/flags/\\\\seen" all {highest + 2}')[0].startswith(b"SEARCH 2 3")
    assert client.ok("SEARCH MODSEQ 9999") == [b"SEARCH"]
    other = clients("SELECT INBOX")
    other.ok(r"STORE 1 -FLAGS (\Seen)")
    assert client.ok("NOOP") == [rb"1 FETCH (UID 1 FLAGS (\Recent) MODSEQ (%d))" % (highest + 3)]


def test_modseq_moves_once_for_a_net_difference(client, boxes):
    boxes.append(mail())
    before = client.ok("STATUS INBOX (HIGHESTMODSEQ)")
    client.ok("SELECT INBOX")
    client.ok(r"STORE 1 -FLAGS (\Seen)")  # it has none
    assert client.ok("STATUS INBOX (HIGHESTMODSEQ)") == before


def test_qresync(clients, boxes):
    for number in range(6):
        boxes.append(mail(str(number)))
    client = clients("ENABLE QRESYNC")
    answers = client.ok("SELECT INBOX")
    uidvalidity, highest = (
        int(next(re.search(rb"%b (\d+)" % word, one)[1] for one in answers if word in one))
        for word in (b"UIDVALIDITY", b"HIGHESTMODSEQ")
    )
    other = clients("SELECT INBOX")
    other.ok(r"STORE 2:4 +FLAGS.SILENT (\Deleted)")
    other.ok("EXPUNGE")
    other.ok(r"STORE 1 +FLAGS.SILENT (\Seen)")
    told = client.ok("NOOP")
    assert told[0] == b"VANISHED 2:4"
    assert told[1] == rb"1 FETCH (UID 1 FLAGS (\Recent \Seen) MODSEQ (%d))" % (highest + 3)
    assert client.ok("FETCH 2 UID") == [b"2 FETCH (UID 5)"]
    again = clients("ENABLE QRESYNC")
    answers = again.ok(f"SELECT INBOX (QRESYNC ({uidvalidity} {highest} 1:6 (1,2 1,2)))")
    assert answers[-2] == b"VANISHED (EARLIER) 2:4"
    assert answers[-1] == rb"1 FETCH (UID 1 FLAGS (\Seen) MODSEQ (%d))" % (highest + 3)
    answers = again.ok(f"SELECT INBOX (QRESYNC ({uidvalidity + 1} {highest}))")
    assert not any(b"VANISHED" in one for one in answers)
    assert again.ok(f"UID FETCH 1:3 (FLAGS) (CHANGEDSINCE {highest} VANISHED)")[0] == b"VANISHED (EARLIER) 2:3"
    again.ok(r"STORE 1 +FLAGS.SILENT (\Deleted)")
    *answers, tagged = again("EXPUNGE")
    assert answers == [b"* VANISHED 1"]
    assert tagged.startswith(b"OK [HIGHESTMODSEQ ")
    assert clients().no("SELECT INBOX (QRESYNC (1 1))").startswith(b"BAD")


# IMAP4rev2, and the connection itself


def test_expunges_that_are_forgotten(boxes, clients, monkeypatch):
    """Who comes back late is told of all that is no more; who is there, of all that has gone."""
    monkeypatch.setattr(vanished, "KEPT", 5)
    client = clients("ENABLE QRESYNC", "SELECT INBOX")
    watcher = clients("SELECT INBOX")
    modseq = 0
    for number in range(30):
        boxes.append(mail(str(number)))
        if number == 5:
            modseq = int(client.ok("STATUS INBOX (HIGHESTMODSEQ)")[0].split()[-1].rstrip(b")"))
        client.ok("NOOP")
        if number % 3:
            client.ok(f"UID STORE {number + 1} +FLAGS (\\Deleted)")
            client.ok("EXPUNGE")
    (count,) = boxes.db.execute("SELECT count(*) FROM vanished").fetchone()
    assert count <= 10
    left = {uid for uid in range(1, 31) if uid % 3 == 1}
    (validity,) = boxes.db.execute("SELECT uidvalidity FROM mailbox WHERE name = 'INBOX'").fetchone()
    answers = client.ok(f"SELECT INBOX (QRESYNC ({validity} {modseq} 1:31))")
    (gone,) = [one for one in answers if one.startswith(b"VANISHED")]
    assert uids(gone.split()[-1]) == set(range(1, 31)) - left
    (gone,) = client.ok(f"UID FETCH 10:20 (UID) (CHANGEDSINCE {modseq + 1000} VANISHED)")[:1] or [b""]
    assert not gone
    watcher.ok("NOOP")
    assert watcher.ok("UID SEARCH ALL") == [b"SEARCH " + b" ".join(b"%d" % uid for uid in sorted(left))]
    client.ok("CREATE x")
    client.ok("APPEND x {}", mail())
    client.ok("DELETE x")
    assert boxes.db.execute("SELECT max(mailbox) FROM vanished").fetchone() == (1,)


def uids(octets):
    found = set()
    for part in octets.split(b","):
        first, _, last = part.partition(b":")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def test_imap4rev2(client, boxes):
    boxes.append(mail())
    assert client.ok("ENABLE IMAP4rev2 NONSENSE") == [b"ENABLED IMAP4rev2"]
    answers = client.ok("SELECT INBOX")
    assert not any(b"RECENT" in one or b"UNSEEN" in one for one in answers)
    assert b'LIST () "/" "INBOX"' in answers
    assert client.ok("FETCH 1 FLAGS") == [b"1 FETCH (FLAGS ())"]
    assert client.ok("SEARCH ALL")[0].endswith(b"ALL 1")
    assert client.ok("STATUS INBOX (MESSAGES DELETED SIZE)") == [b'STATUS "INBOX" (MESSAGES 1 DELETED 0 SIZE 24)']


def test_compress(clients):
    client = clients()
    client.send(b"c COMPRESS DEFLATE\r\n")
    assert client.until(b"c") == [b"OK Deflating"]
    deflater, inflater = zlib.compressobj(wbits=-15), zlib.decompressobj(wbits=-15)
    client.send(deflater.compress(b"d NOOP\r\ne COMPRESS DEFLATE\r\n") + deflater.flush(zlib.Z_SYNC_FLUSH))
    answers = b""
    while not answers.endswith(b"on already\r\n"):
        answers += inflater.decompress(client.socket.recv(1000))
    assert answers == b"d OK NOOP completed\r\ne NO [COMPRESSIONACTIVE] It is on already\r\n"


def test_id_namespace_capability(client):
    assert client.ok('ID ("name" "x" "version" NIL)')[0].startswith(b'ID ("name" "cspool"')
    assert client.ok("ID NIL")
    assert client.ok("NAMESPACE") == [b'NAMESPACE (("" "/")) NIL NIL']
    assert b"IMAP4rev1" in client.ok("CAPABILITY")[0]


def test_the_manual_lists_all_extensions(client):
    page = (Path(__file__).parent.parent / "man/cspool-imapd.8").read_text()
    listed = set(re.findall(r"^\.It (\S+) Ta RFC", page, re.MULTILINE))
    (answer,) = client.ok("CAPABILITY")
    said = {word.decode() for word in answer.split()[1:]} - {"IMAP4rev1", "IMAP4rev2", "QUOTA=RES-STORAGE"}
    said = {word.partition("=")[0] if word.startswith(("THREAD=", "APPENDLIMIT=")) else word for word in said}
    assert listed == said


def test_literals_are_asked_for_or_not(client):
    client.send(b"a LOGIN {1}\r\n")
    assert client.answer().startswith(b"+")
    client.send(b"x {1+}\r\ny\r\n")
    assert client.until(b"a")[-1].startswith(b"BAD Not in the authenticated state")
    client.send(b"b SEARCH {2000000+}\r\n" + b"x" * 2000000 + b"\r\nc NOOP\r\n")
    assert client.until(b"b")[-1] == b"BAD Literal too long"
    assert client.until(b"c")[-1].startswith(b"OK")


def test_commands_sent_ahead(client, boxes):
    for number in range(3):
        boxes.append(mail(str(number)))
    client.send(
        b"a SELECT INBOX\r\nb STORE 1 +FLAGS.SILENT (\\Deleted)\r\nc EXPUNGE\r\nd FETCH 1 UID\r\n"
        b"e UID FETCH 2 FLAGS\r\n"
    )
    assert client.until(b"a")[-1].startswith(b"OK")
    assert client.until(b"b") == [b"OK STORE completed"]
    assert client.until(b"c") == [b"* 1 EXPUNGE", b"OK EXPUNGE completed"]
    assert client.until(b"d") == [b"* 1 FETCH (UID 2)", b"OK FETCH completed"]
    assert client.until(b"e") == [rb"* 1 FETCH (UID 2 FLAGS (\Recent))", b"OK FETCH completed"]


@pytest.mark.parametrize("command", [None, b"t IDLE\r\n"])
def test_a_client_that_is_silent_for_too_long_is_left(boxes, command):
    client = Client(boxes.path, timeout=0.1)
    if command:
        client.send(command)
        assert client.answer() == b"+ idling"
    assert client.answer() == b"* BYE Idle for too long"
    client.close()


# What an independent reader of the server found


def test_changedsince_and_implicit_seen(boxes, client):
    for _ in range(3):
        boxes.append(mail())
    client.ok("SELECT INBOX (CONDSTORE)")
    assert client.ok("FETCH 1:* BODY[HEADER.FIELDS (SUBJECT)] (CHANGEDSINCE 100)") == []
    assert not any(b"Seen" in one for one in client.ok("FETCH 1:* FLAGS"))
    (answer,) = client.ok("FETCH 1 BODY[TEXT]")
    assert b"\\Seen" in answer and b"MODSEQ (" in answer
    client.ok("ENABLE QRESYNC")
    (answer,) = client.ok("FETCH 2 BODY[TEXT]")
    assert b"\\Seen" in answer and b"MODSEQ (" in answer and b"UID 2" in answer


def test_a_fetch_that_fails_leaves_no_flag_untold(boxes, client):
    boxes.append(mail(Content_Transfer_Encoding="x-unknown"))
    client.ok("SELECT INBOX")
    assert b"UNKNOWN-CTE" in client.no("FETCH 1 BINARY[1]")
    told = client.ok("NOOP")
    assert (rb"\Seen" in b" ".join(told)) == (rb"\Seen" in client.ok("FETCH 1 FLAGS")[0])


def test_uidnext_stays_when_the_last_message_goes(boxes, client):
    for _ in range(5):
        boxes.append(mail())
    client.ok("SELECT INBOX")
    client.ok(r"STORE 4:5 +FLAGS.SILENT (\Deleted)")
    client.ok("EXPUNGE")
    assert b"OK [UIDNEXT 6] Next UID" in client.ok("SELECT INBOX")
    assert client.ok("STATUS INBOX (UIDNEXT)")[0].endswith(b"(UIDNEXT 6)")


def test_what_vanished_at_the_end_is_told(boxes, client):
    for _ in range(5):
        boxes.append(mail())
    client.ok("ENABLE QRESYNC")
    client.ok("SELECT INBOX")
    client.ok(r"STORE 4:5 +FLAGS.SILENT (\Deleted)")
    client.ok("EXPUNGE")
    for modifiers in ("VANISHED", "VANISHED PARTIAL 1:100"):
        answers = client.ok(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 {modifiers})")
        assert b"VANISHED (EARLIER) 4:5" in answers


def test_a_client_that_could_not_hear_of_an_expunge_keeps_an_older_modseq(boxes, client, clients):
    for _ in range(3):
        boxes.append(mail())
    client.ok("ENABLE QRESYNC")
    client.ok("SELECT INBOX")
    other = clients()
    other.ok("SELECT INBOX")
    other.ok(r"UID STORE 2 +FLAGS.SILENT (\Deleted)")
    client.ok("NOOP")
    other.ok("EXPUNGE")
    other.ok(r"UID STORE 1 +FLAGS.SILENT (\Flagged)")
    *answers, tagged = client("FETCH 1 (FLAGS)")
    modseq = int(re.search(rb"MODSEQ \((\d+)\)", answers[-1])[1])
    held = re.search(rb"OK \[HIGHESTMODSEQ (\d+)\]", tagged)
    assert held and int(held[1]) < modseq - 1  # the expunge came before the flag
    assert b"VANISHED 2" in client.ok("NOOP")


def test_a_literal_behind_too_long_a_line_is_no_command(boxes, client, clients):
    boxes.append(mail())
    client.ok("SELECT INBOX")
    client.send(b"a SEARCH SUBJECT " + b"x" * 70_000 + b" BODY {28+}\r\nz STORE 1 +FLAGS (\\Deleted)\r\n")
    assert client.answer() == b"* BYE Line too long"
    other = clients()
    other.ok("SELECT INBOX")
    assert b"Deleted" not in other.ok("FETCH 1 FLAGS")[0]


def test_literals_without_end_are_not_kept(client):
    client.send(b"a LOGIN {0+}\r\n" + (b"x" * 8000 + b"{0+}\r\n") * 300 + b"\r\n")
    assert client.until(b"a")[-1].startswith(b"BAD Literal too long")


def test_names_of_inbox_in_any_case(boxes, client):
    boxes.create("Inbox/lists")
    client.ok("CREATE a/lists")
    for pattern in ("%/lists", "*lists", "inBox/%"):
        assert any(b"INBOX/lists" in one for one in client.ok(f'LIST "" {pattern}')), pattern
    assert client.ok("STATUS inbox/lists (MESSAGES)")


def test_a_mailbox_with_the_name_of_a_special_use_has_it(boxes, client):
    client.ok("CREATE Archive/2026")
    boxes.create("Junk")
    listed = b"\n".join(client.ok('LIST "" *'))
    assert re.search(rb'Archive\) "/" "?Archive"?$', listed, re.MULTILINE)
    assert re.search(rb'Junk\) "/" "?Junk"?$', listed, re.MULTILINE)
    client.ok("RENAME Drafts Entw&APw-rfe")
    assert any(b"Drafts)" in one and b"Entw" in one for one in client.ok('LIST "" *'))


def test_times_that_are_none(boxes, client):
    assert client.no('APPEND INBOX "31-Dec-2026 99:99:99 +0000" {}', mail()).startswith(b"BAD")
    client.ok('APPEND INBOX "31-Dec-9999 23:59:59 -1200" {}', mail())
    client.ok("SELECT INBOX")
    assert re.search(rb'INTERNALDATE "[ \d]\d-Dec-9999 ', client.ok("FETCH 1 INTERNALDATE")[0])


def test_the_saved_result_after_a_no(boxes, client):
    for date in range(3):
        boxes.append(mail(), date=date)
    client.ok("SELECT INBOX")
    client.ok("SEARCH RETURN (SAVE) ALL")
    assert client.no("SEARCH RETURN (SAVE) CHARSET KOI8-R ALL").startswith(b"NO")
    assert client.ok("FETCH $ UID") == []
    client.ok("UID SORT RETURN (SAVE MIN) (REVERSE ARRIVAL) UTF-8 ALL")
    assert client.ok("FETCH $ UID") == [b"3 FETCH (UID 3)"]


def test_modseq_of_the_messages_that_are_returned(boxes, client):
    for _ in range(3):
        boxes.append(mail())
    client.ok("SELECT INBOX (CONDSTORE)")
    first, _, last = (int(re.search(rb"\((\d+)\)", one)[1]) for one in client.ok("FETCH 1:3 MODSEQ"))
    assert client.ok("SEARCH RETURN (MIN) MODSEQ 1")[0].endswith(b"MIN 1 MODSEQ %d" % first)
    assert client.ok("SEARCH RETURN (MIN COUNT) MODSEQ 1")[0].endswith(b"MODSEQ %d" % last)


def test_small_things(boxes, client):
    for _ in range(3):
        boxes.append(mail())
    client.ok("SELECT INBOX")
    assert client.ok("SEARCH RETURN (PARTIAL -2:-1) ALL")[0].endswith(b"PARTIAL (-2:-1 2:3)")
    assert client.ok("SEARCH RETURN (PARTIAL 9:2) ALL")[0].endswith(b"PARTIAL (9:2 2:3)")
    assert client.ok("SEARCH ALL ") == [b"SEARCH 1 2 3"]
    assert client.ok("FETCH 1 PREVIEW (CHANGEDSINCE 1)")
    client.ok(r"STORE 1 +FLAGS (\Seen)")
    assert b"MODSEQ" in client.ok(r"STORE 1 (UNCHANGEDSINCE 50) +FLAGS.SILENT (\Seen)")[0]


def test_no_message_is_missing_from_its_thread(boxes, client):
    boxes.append(mail(Message_Id="<2@x>", References="<1@x>"))
    boxes.append(mail(Message_Id="<1@x>", References="<a@x> <a@x>"))
    boxes.append(mail(Message_Id="<3@x>", References="<3@x> <b@x> <3@x> <2@x> <b@x>"))
    client.ok("SELECT INBOX")
    threads = client.ok("THREAD REFERENCES UTF-8 ALL")[0]
    assert sorted(re.findall(rb"\d+", threads)) == [b"1", b"2", b"3"]
