"""The server: read a command, find its verb, answer it, until the client leaves (RFC 3501 section 2.2)."""

import sqlite3

from ..errors import Failure
from . import append, mailboxes, messages, metadata, notify, quota, searches, verbs  # noqa: F401 - the others register their verbs
from .connection import Closed
from .grammar import LITERAL, QRESYNC, BadCommand, No, Parser
from .session import Session

LITERALS_MAX = 1 << 20  # octets of a command with its literals, unless it brings messages
PIECE = 128  # octets of memory per literal, counted so that many short literals reach the limit too
BAD_MAX = 20  # BAD answers in a row, before BYE
IDLE_MAX = 30 * 60.0  # seconds of silence, RFC 3501 section 5.4


class Server:
    """One client, from greeting to BYE."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.connection = session.connection
        self.bad = 0

    def run(self) -> None:
        """Serve until the client logs out or is gone. Raises any error of ours, after a BYE unless it is a Failure."""
        try:
            self._greet()
            while not self.session.ended:
                self.connection.flush()
                self._command()
            self.connection.flush()
        except Closed as closed:
            self._bye(str(closed))
        except Failure:
            raise
        except Exception:
            self._bye("Internal error")
            raise

    def _greet(self) -> None:
        word = "PREAUTH" if self.session.authenticated else "OK"
        self.session.untagged(f"{word} [CAPABILITY {verbs.capabilities(self.session)}] cspool ready".encode())

    def _bye(self, text: str) -> None:
        self.connection.hurry()
        try:
            self.session.untagged(f"BYE {text}".encode())
            self.connection.flush()
        except Closed:
            pass

    def _command(self) -> None:
        """Read one command and answer it. Until it comes, send what NOTIFY has asked for."""
        listens = self.session.notify and self.session.notify.is_active
        if listens and not verbs.watch(self.session, expunges=False):
            raise Closed("Idle for too long")
        line = self.connection.read_line()
        if not line:
            return  # some clients send an empty line now and then
        parser = Parser([line])
        try:
            tag = parser.tag()
        except BadCommand:
            self._answer(b"*", b"BAD", "Expected a tag")
            return
        try:
            parser = self._with_literals(line)
            self.session.tag = parser.tag()
            text = self._do(parser)
            self.bad = 0
            self._answer(tag, b"OK", text)
        except No as no:
            self._answer(tag, b"NO", str(no))
        except BadCommand as bad:
            self._answer(tag, b"BAD", str(bad))
        except sqlite3.OperationalError as error:
            code = "OVERQUOTA" if error.sqlite_errorcode == sqlite3.SQLITE_FULL else "UNAVAILABLE"
            self._answer(tag, b"NO", f"[{code}] {error}")
        except (Failure, OSError) as error:
            if not self.session.authenticated:
                raise  # it is for who runs the server, and not for a stranger
            self._answer(tag, b"NO", f"[UNAVAILABLE] {error}")

    def _answer(self, tag: bytes, word: bytes, text: str) -> None:
        """Send the tagged answer, unless `text` is empty; BAD_MAX bad ones in a row end the session."""
        if text:
            self.connection.write(b"%b %b %b\r\n" % (tag, word, text.encode("ascii", "replace")))
        if word == b"BAD":
            self.bad += 1
            if self.bad >= BAD_MAX:
                self.connection.write(b"* BYE Too many bad commands\r\n")
                self.session.ended = True

    def _with_literals(self, line: bytes) -> Parser:
        """Read the literals of a command and the lines between them (RFC 9051 section 4.3).

        If the command grows too long, a literal for which the client waits is
        refused before it is sent. One that is sent without waiting (RFC 7888)
        is read and discarded, and the command is refused at its end.
        """
        pieces, size, too_long = [line], len(line), False
        words = line.upper().split(b" ", 3)
        verb = words[2:3] if words[1:2] == [b"UID"] else words[1:2]
        appends = self.session.authenticated and verb in ([b"APPEND"], [b"REPLACE"])
        most = verbs.APPEND_MAX if appends else LITERALS_MAX
        has_nul = b"\0" in line
        while found := LITERAL.search(pieces[-1]):
            length, asks = int(found[2]), not found[3]
            size += length
            too_long |= size > most
            if too_long and asks:
                break
            if asks:
                self.connection.write(b"+ Go ahead\r\n")
                self.connection.flush()
            if too_long:
                self.connection.skip(length)
                pieces = [self.connection.read_line()]
                continue
            pieces += [self.connection.read(length), self.connection.read_line()]
            size += len(pieces[-1]) + PIECE
            is_binary = bool(found[1]) and verb == [b"SETMETADATA"]
            has_nul |= b"\0" in pieces[-1] or (b"\0" in pieces[-2] and not is_binary)
        if too_long:
            raise No("[TOOBIG] Literal too long") if appends else BadCommand("Literal too long")
        if has_nul and not appends:
            raise BadCommand("NUL")  # only a message may have it, or a value in a literal8
        return Parser(pieces, self.session.utf8)

    def _do(self, parser: Parser) -> str:
        """Do a command, of which the tag has been read; return the text of its OK."""
        parser.space()
        name = parser.atom()
        if name == b"UID":
            parser.space()
            name = b"UID " + parser.atom()
        found = verbs.VERBS.get(name)
        if not found:
            raise BadCommand("Unknown command")
        if self._state() not in found.states:
            raise BadCommand(f"Not in the {self._state()} state")
        text = found.do(self.session, parser)
        if self.session.ended:
            return text  # nothing but the tagged answer follows a BYE (RFC 9051 section 7.1.5)
        self.session.tell(found.expunges)
        return self._expunges_wait() + text

    def _expunges_wait(self) -> str:
        """Return the HIGHESTMODSEQ code if the client knows changes that are later than expunges still untold.

        A client that took the MODSEQ of those changes for the state of the
        mailbox would never ask for the expunges (RFC 7162 section 3.2).
        """
        selected = self.session.selected
        if QRESYNC in self.session.enabled and selected and selected.expunges_wait():
            return f"[HIGHESTMODSEQ {selected.expunge_modseq}] "
        return ""

    def _state(self) -> str:
        if self.session.selected:
            return verbs.SELECTED
        return verbs.AUTHENTICATED if self.session.authenticated else verbs.NOT_AUTHENTICATED
