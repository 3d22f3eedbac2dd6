"""Whatever octets a client sends, it gets answers that follow the grammar, and the server goes on or says BYE."""

import contextlib
import re
import sqlite3

import pytest
from cspool.imap import verbs
from cspool.imap.connection import Closed, Connection
from cspool.imap.grammar import BadCommand, No, Parser
from cspool.imap.passwords import Passwords
from cspool.imap.server import Server
from cspool.imap.session import Session
from hypothesis import given
from hypothesis import strategies as st
from imap import Mailboxes, mail

VERBS = [*verbs.VERBS, b"UID", b"NONSENSE"]
WORDS = [
    b"(", b")", b"()", b"*", b"%", b"$", b'""', b'"', b'"\\', b"{3+}\r\nabc", b"~{2+}\r\n\0\xff", b"{0+}\r\n", b"{5",
    b"NIL", b"INBOX", b'"other/x"', b"&AOQ-", b"&AAA", b"\xc3\xa4", b"1", b"0", b"1:*", b"*:1", b"4294967296", b"-1",
    b"1,2:3", b"ALL", b"NOT", b"OR", b"FLAGS", b"+FLAGS", b"-FLAGS.SILENT", b"(\\Seen key)", b"(\\Recent)", b"\\*",
    b"BODY[]", b"BODY[1.2]<0.5>", b"BODY[HEADER.FIELDS (To)]", b"BINARY[1]", b"ENVELOPE", b"BODYSTRUCTURE", b"RETURN",
    b"(MIN MAX ALL COUNT SAVE)", b"(PARTIAL 1:2)", b"CHARSET", b"UTF-8", b"SUBJECT", b"hello", b"SINCE", b"1-Jan-2026",
    b"MODSEQ", b"(CHANGEDSINCE 1 VANISHED)", b"(UNCHANGEDSINCE 0)", b"(QRESYNC (1 1))", b"(CONDSTORE)", b"QRESYNC",
    b"(MESSAGES UNSEEN)", b"(REVERSE DATE)", b"REFERENCES", b"(USE (\\Sent))", b"UTF8 (~{3+}\r\nabc)", b"IMAP4rev2",
    b'" 1-Jan-2026 00:00:00 +0000"', b"(SUBSCRIBED RECURSIVEMATCH)", b"DEFLATE", b"PLAIN", b"AGFsaWNlAHNlY3JldA==",
]  # fmt: skip

# Commands as they should be, of parts that some of the time are not.
PARTS = {
    "set": [b"1", b"1:*", b"*:1", b"2,3", b"$", b"1:4294967295", b"9"],
    "item": [
        b"ALL", b"FULL", b"(UID FLAGS)", b"ENVELOPE", b"BODYSTRUCTURE", b"BODY", b"BODY[]", b"BODY.PEEK[1]<0.5>",
        b"(BODY[HEADER.FIELDS (To {7+}\r\nSubject)] RFC822.SIZE)", b"BODY[1.HEADER.FIELDS.NOT (X)]", b"BODY[1.MIME]",
        b"BINARY[1]", b"BINARY.SIZE[2]", b"(PREVIEW (LAZY) EMAILID THREADID SAVEDATE)", b"RFC822", b"(MODSEQ)",
        b"FLAGS (CHANGEDSINCE 1 VANISHED)", b"FLAGS (PARTIAL -1:-2)", b"BODY[TEXT]<5.99>", b"INTERNALDATE",
    ],
    "name": [b"INBOX", b"other", b'"other/x"', b"&AOQ-", b"{2+}\r\nab", b"Sent", b"nowhere", b'"a\\"b"', b'""', b"x*"],
    "flags": [b"(\\Seen key)", b"()", b"\\Deleted", b"(\\Recent)", b"(\\*)", b"($Junk NonJunk)"],
    "key": [
        b"ALL", b"SEEN UNDELETED", b"NOT (OR 1 2)", b'SUBJECT "quote"', b"SUBJECT {2+}\r\n\xc3\xa4", b"KEYWORD key",
        b"SINCE 1-Jan-2026", b"MODSEQ 1", b"UID 1:*", b"LARGER 1", b"YOUNGER 9", b"HEADER X \"\"", b"EMAILID M0",
        b"BODY x", b"$",
    ],
    "return": [b"", b"RETURN () ", b"RETURN (MIN MAX COUNT ALL) ", b"RETURN (SAVE) ", b"RETURN (PARTIAL 1:2) "],
    "charset": [b"", b"CHARSET UTF-8 ", b"CHARSET x "],
    "list": [b'"" *', b'"" ""', b'"" (% x) RETURN (STATUS (MESSAGES))', b'(SUBSCRIBED RECURSIVEMATCH) "" *'],
    "uid": [b"", b"UID "],
    "in": [b"", b"IN (personal) ", b"IN (subtree (other {1+}\r\nx) selected) ", b"IN (mailboxes x) "],
    "group": [
        b"(selected (MessageNew (UID BODY.PEEK[HEADER.FIELDS ({2+}\r\nTo)]) MessageExpunge))", b"(personal NONE)",
        b"(selected-delayed (MessageNew MessageExpunge FlagChange))", b"(subscribed (SubscriptionChange MailboxName))",
        b"(subtree other (MessageNew MessageExpunge))", b"(inboxes (Nonsense))", b"(personal (MessageNew))",
    ],
}  # fmt: skip
# ^ stands for a line end.
FORMS = rb"""
<uid>FETCH <set> <item>|<uid>STORE <set> +FLAGS <flags>|<uid>STORE <set> (UNCHANGEDSINCE 1) FLAGS.SILENT <flags>
<uid>COPY <set> <name>|<uid>MOVE <set> <name>|UID EXPUNGE <set>|EXPUNGE|<uid>SEARCH <return><charset><key> <key>
<uid>SORT <return>(REVERSE DATE SUBJECT) UTF-8 <key>|<uid>THREAD REFERENCES UTF-8 <key>
<uid>THREAD ORDEREDSUBJECT UTF-8 <key>|SELECT <name>|EXAMINE <name> (CONDSTORE)|SELECT <name> (QRESYNC (1 1 1:9))
CREATE <name>|CREATE <name> (USE (\Sent))|DELETE <name>|RENAME <name> <name>|SUBSCRIBE <name>|UNSUBSCRIBE <name>
LIST <list>|LSUB "" <name>|STATUS <name> (MESSAGES RECENT UIDNEXT UNSEEN DELETED SIZE HIGHESTMODSEQ MAILBOXID)
APPEND <name> <flags> {6+}^A: b^^|<uid>REPLACE 1 <name> <flags> {6+}^A: b^^|APPEND <name> UTF8 (~{3+}^a@b)
ENABLE QRESYNC UTF8=ACCEPT|ENABLE IMAP4rev2
ESEARCH <in><return><charset><key>|NOTIFY SET <group>|NOTIFY SET STATUS <group> <group>|NOTIFY NONE
GETQUOTA "User quota"|GETQUOTAROOT <name>|STATUS <name> (DELETED DELETED-STORAGE)
CLOSE|UNSELECT|CHECK|IDLE^DONE|ID ("name" NIL)|NAMESPACE|LOGOUT
"""
FORMS = [form.replace(b"^", b"\r\n") for form in FORMS.strip().replace(b"\n", b"|").split(b"|")]


@st.composite
def commands(draw):
    form = draw(st.sampled_from(FORMS))
    octets = re.sub(rb"<(\w+)>", lambda part: draw(st.sampled_from(PARTS[part[1].decode()])), form)
    if draw(st.integers(0, 4)) == 0:
        place, length = draw(st.integers(0, len(octets))), draw(st.integers(0, 5))
        octets = (
            octets[:place]
            + draw(st.sampled_from([b"", b" ", b'"', b"(", b"\0", b"{3+}\r\nabc"]))
            + octets[place + length :]
        )
    return b"a " + octets + b"\r\n"


noise = st.lists(st.sampled_from(WORDS) | st.binary(max_size=5), max_size=7).map(b" ".join)
noise = st.tuples(st.sampled_from([b"a", b"+", b""]), st.sampled_from(VERBS), noise).map(b" ".join)
lines = commands() | commands() | commands() | noise.map(lambda line: line + b"\r\n")


class Pipe(Connection):
    """A client that has said all that it will, and keeps what it is told."""

    def __init__(self, said):
        super().__init__(-1, -1, 0)
        self._input = said
        self.told = []

    def wait(self, timeout):
        return True

    def _fill(self):
        raise Closed("End of input")

    def compress(self):
        """Not here: the answers are to be read."""

    def flush(self):
        self.told, self._output, self._size = self.told + self._output, [], 0


ANSWER = re.compile(rb"(?:\* |[^\x00-\x20(){%*\"\\\]\x7f-\xff+]+ (?:OK|NO|BAD) |\+ )[^\r\n\0]+|\+ ")


def check_syntax(octets):
    """Every answer begins as it must, and literals, quotes and parentheses in it are balanced."""
    place = 0
    while place < len(octets):
        end = octets.index(b"\r\n", place)
        line, depth = b"", 0
        while found := re.search(rb"\{(\d+)\}\Z", octets[place:end]):
            line += octets[place : end - len(found[0])] + b'""'
            place = end + 2 + int(found[1])
            end = octets.index(b"\r\n", place)
        line += octets[place:end]
        assert ANSWER.fullmatch(line), line
        if line.startswith(b"* ") and not re.match(rb"\* (OK|NO|BAD|BYE|PREAUTH) ", line):
            bare = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", line)
            assert b'"' not in bare, line
            for mark in re.findall(rb"[()]", bare):
                depth += 1 if mark == b"(" else -1
                assert depth >= 0, line
            assert depth == 0, line
        place = end + 2


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("grammar") / "mail.db"
    boxes = Mailboxes(path)
    boxes.append(mail('quote " and \\', "text", From='"A \\" B" <a@example.org>, g: c@example.org;'), flags=["\\Seen"])
    boxes.append(b"Subject: \xff\xfe\0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n1\r\n--x--\r\n")
    boxes.append(b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nText.\r\n", flags=["\\Deleted", "key"])
    return boxes.db


@given(st.lists(lines, max_size=8), st.booleans(), st.booleans())
def test_any_input_is_answered_by_the_grammar(library, said, selected, rev2):
    octets = b"a SELECT INBOX\r\n" * selected + b"a ENABLE IMAP4rev2\r\n" * rev2 + b"".join(said)
    connection = Pipe(octets)
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        library.backup(db)
        session = Session(lambda: db, connection, Passwords("/nonexistent", "/nonexistent"))
        session.authenticate()
        Server(session).run()
    check_syntax(b"".join(connection.told))
    assert b"Internal error" not in b"".join(connection.told)


METHODS = ["tag", "atom", "astring", "mailbox", "list_mailbox", "sequence_set", "flags", "date", "date_time"]
METHODS += ["section", "partial", "binary_section", "partial_range", "modseq", "signed", "nil_or_string"]


@given(st.binary(max_size=60), st.booleans())
def test_the_parser_raises_nothing_but_bad_command_and_no(line, utf8):
    for method in METHODS:
        parser = Parser([line, b"\xff\0", b" x"], utf8)
        with contextlib.suppress(BadCommand, No):
            getattr(parser, method)()
        assert 0 <= parser.offset <= len(parser.line)
