"""What a client's command says: the grammar of RFC 3501 and RFC 9051, section 9, from left to right.

A command comes as pieces: a line, and behind each line that ends with {n} a
literal of n octets and the next line.
"""

import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from ..form import DATE_MAX
from ..mail import utf7

_ATOM = re.compile(rb'[^\x00-\x20(){%*"\\\]\x7f-\xff]+')
_ASTRING = re.compile(rb'[^\x00-\x20(){%*"\\\x7f-\xff]+')
_LIST_MAILBOX = re.compile(rb'[^\x00-\x20(){"\\\x7f-\xff]+')
_TAG = re.compile(rb'[^\x00-\x20(){%*"\\\]\x7f-\xff+]+')
_QUOTED = re.compile(rb'"((?:[^\r\n"\\]|\\["\\])*)"')
_ESCAPE = re.compile(rb'\\(["\\])')
_MODSEQ = re.compile(rb"[0-9]{1,19}")
_NUMBER = re.compile(rb"[0-9]{1,10}")
_SET = re.compile(
    rb"(?:[1-9][0-9]{0,9}|\*)(?::(?:[1-9][0-9]{0,9}|\*))?(?:,(?:[1-9][0-9]{0,9}|\*)(?::(?:[1-9][0-9]{0,9}|\*))?)*"
)
_FLAG = re.compile(rb'\\?[^\x00-\x20(){%*"\\\]\x7f-\xff]+')
_DATE = re.compile(rb"(\d\d?)-([A-Za-z]{3})-(\d{4})")
_DATE_TIME = re.compile(rb'"( \d|\d\d)-([A-Za-z]{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)"')
LITERAL = re.compile(rb"(~?)\{(\d{1,19})(\+?)\}\Z")  # with the marks of RFC 3516 and RFC 7888

MONTHS = [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"]
NUMBER_MAX = 2**32 - 1

MODSEQ_MAX = 2**63 - 1  # RFC 7162 section 7

# Ranges of a sequence set, in which None stands for "*"; or None for "$", the saved result (RFC 5182).
SequenceSet = list[tuple[int | None, int | None]] | None

T = TypeVar("T")


# What ENABLE knows (RFC 5161), beside CONDSTORE, which other commands can enable too.
CONDSTORE, QRESYNC, UTF8, REV2 = "CONDSTORE", "QRESYNC", "UTF8=ACCEPT", "IMAP4REV2"


class No(Exception):
    """The command cannot be done: a NO answer with this text."""


class BadCommand(Exception):
    """The command does not follow the grammar; the text is for the BAD answer."""


class Section(NamedTuple):
    """A section of BODY[...] (RFC 3501 section 6.4.5): part numbers, then what of that part."""

    path: list[int]
    what: bytes  # b"", HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT, TEXT or MIME
    names: list[bytes]  # of HEADER.FIELDS, as the client wrote them
    raw: bytes  # how it is answered


class Parser:
    """Reads a command piece by piece; each method consumes what it returns, or raises BadCommand."""

    def __init__(self, pieces: list[bytes], utf8: bool = False) -> None:
        self.pieces = pieces  # lines at even places, literals at odd ones
        self.utf8 = utf8  # mailbox names are UTF-8 (RFC 6855, RFC 9051)
        self.line = pieces[0]
        self.place = 0
        self.position = 0

    # Basics

    def at(self, octets: bytes) -> bool:
        """Tell whether these octets (in any case) come next, and consume them if so."""
        end = self.position + len(octets)
        if self.line[self.position : end].upper() != octets:
            return False
        self.position = end
        return True

    def peek(self) -> bytes:
        """Return the next octet without consuming it, empty at the end."""
        return self.line[self.position : self.position + 1]

    def expect(self, octets: bytes) -> None:
        if not self.at(octets):
            raise BadCommand(f"Expected {octets.decode()!r}")

    def space(self) -> None:
        self.expect(b" ")

    def end(self) -> None:
        # Some clients send a space too many.
        if self.line[self.position :].strip(b" ") or self.place < len(self.pieces) - 1:
            raise BadCommand("Too many arguments")

    def _match(self, pattern: re.Pattern[bytes], what: str) -> re.Match[bytes]:
        found = pattern.match(self.line, self.position)
        if not found:
            raise BadCommand(f"Expected {what}")
        self.position = found.end()
        return found

    def parenthesized(self, item: Callable[[], T]) -> list[T]:
        """Return the items of a list in parentheses, which may be empty."""
        self.expect(b"(")
        found: list[T] = []
        while not self.at(b")"):
            if found:
                self.space()
            found.append(item())
        return found

    # Words

    def tag(self) -> bytes:
        return self._match(_TAG, "a tag")[0]

    def atom(self) -> bytes:
        """Return an atom, in upper case."""
        return self._match(_ATOM, "an atom")[0].upper()

    def number(self) -> int:
        number = int(self._match(_NUMBER, "a number")[0])
        if number > NUMBER_MAX:
            raise BadCommand("Number too large")
        return number

    def modseq(self) -> int:
        number = int(self._match(_MODSEQ, "a mod-sequence")[0])
        if number > MODSEQ_MAX:
            raise BadCommand("Number too large")
        return number

    def signed(self) -> int:
        """Return a number that may be negative (RFC 9394)."""
        negative = self.at(b"-")
        number = self.number()
        if not number:
            raise BadCommand("Numbers here start at 1")
        return -number if negative else number

    def string(self) -> bytes:
        """Return a quoted string or a literal."""
        if self.peek() == b'"':
            return _ESCAPE.sub(rb"\1", self._match(_QUOTED, "the end of a quoted string")[1])
        if not LITERAL.match(self.line, self.position):  # literal8 or not: here all may hold any octet
            raise BadCommand("Expected a string")
        literal = self.pieces[self.place + 1]
        self.place += 2
        self.line, self.position = self.pieces[self.place], 0
        return literal

    def astring(self) -> bytes:
        if self.peek() in (b'"', b"{"):
            return self.string()
        return self._match(_ASTRING, "a string")[0]

    def mailbox(self) -> str:
        """Return the name of a mailbox (RFC 3501 section 5.1)."""
        return self._mailbox(self.astring())

    def nil_or_string(self) -> bytes | None:
        return None if self.at(b"NIL") else self.string()

    def list_mailbox(self) -> str:
        """Return a mailbox pattern: a name in which * and % may stand."""
        if self.peek() in (b'"', b"{"):
            return self._mailbox(self.string())
        return self._mailbox(self._match(_LIST_MAILBOX, "a mailbox pattern")[0])

    def _mailbox(self, name: bytes) -> str:
        try:
            return name.decode("utf-8") if self.utf8 else utf7.decode(name)
        except ValueError:
            raise BadCommand("Mailbox name is not in " + ("UTF-8" if self.utf8 else "modified UTF-7")) from None

    # Sets, flags, dates

    def sequence_set(self) -> SequenceSet:
        if self.at(b"$"):
            return None
        ranges: list[tuple[int | None, int | None]] = []
        for part in self._match(_SET, "a sequence set")[0].split(b","):
            first, _, last = part.partition(b":")
            low, high = self._set_number(first), self._set_number(last or first)
            ranges.append((low, high))
        return ranges

    @staticmethod
    def _set_number(number: bytes) -> int | None:
        if number == b"*":
            return None
        if int(number) > NUMBER_MAX:
            raise BadCommand("Number too large")
        return int(number)

    def flag(self) -> str:
        return self._match(_FLAG, "a flag")[0].decode("ascii")

    def flags(self) -> list[str]:
        """Return flags in parentheses, or, as STORE allows, without."""
        if self.peek() == b"(":
            return self.parenthesized(self.flag)
        found = [self.flag()]
        while self.at(b" "):
            found.append(self.flag())
        return found

    def date(self) -> int:
        """Return a date as days since 1970-01-01."""
        quoted = self.at(b'"')
        day, month, year = self._match(_DATE, "a date").groups()
        if quoted:
            self.expect(b'"')
        return _days(int(day), month, int(year))

    def date_time(self) -> int:
        """Return a date-time as seconds since 1970; one that cannot be kept as the nearest that can."""
        found = self._match(_DATE_TIME, "a date and time")
        day, month, year, hour, minute, second, sign, zone_hours, zone_minutes = found.groups()
        if int(hour) > 23 or int(minute) > 59 or int(second) > 60 or int(zone_hours) > 23 or int(zone_minutes) > 59:
            raise BadCommand("No such time")
        zone = int(zone_hours) * 3600 + int(zone_minutes) * 60
        seconds = _days(int(day), month, int(year)) * 86400
        seconds += int(hour) * 3600 + int(minute) * 60 + int(second)
        return min(max(0, seconds - zone if sign == b"+" else seconds + zone), DATE_MAX)

    # FETCH

    def section(self) -> Section:
        """Return a section, whose "[" has been consumed."""
        start, path = self.position, []
        what: bytes = b""
        fields: list[bytes] = []
        while self.peek().isdigit():
            path.append(self.number())
            if not self.at(b"."):
                break
        else:
            if self.peek() != b"]":
                what = self._match(_ATOM, "a section")[0].upper()
            elif path:
                raise BadCommand("Expected a section")
        if what not in (b"", b"HEADER", b"HEADER.FIELDS", b"HEADER.FIELDS.NOT", b"TEXT", b"MIME"):
            raise BadCommand("Unknown section")
        if what == b"MIME" and not path:
            raise BadCommand("MIME needs a part number")
        raw = self.line[start : self.position].upper()
        if what.startswith(b"HEADER.FIELDS"):
            self.expect(b" (")
            while not fields or self.at(b" "):
                fields.append(self.astring())
            self.expect(b")")
            raw += b" (%b)" % b" ".join(map(_field_name, fields))
        self.expect(b"]")
        return Section(path, what, fields, raw)

    def partial(self) -> tuple[int, int] | None:
        """Return start and length of <start.length>, if that comes next."""
        if not self.at(b"<"):
            return None
        start = self.number()
        self.expect(b".")
        length = self.number()
        self.expect(b">")
        if not length:
            raise BadCommand("A partial fetch needs a length")
        return start, length

    def binary_section(self) -> list[int]:
        """Return the part numbers of BINARY[...] (RFC 3516 section 4.2), whose "[" has been consumed."""
        path = []
        if self.peek() != b"]":
            path.append(self.number())
            while self.at(b"."):
                path.append(self.number())
        self.expect(b"]")
        return path

    def partial_range(self) -> tuple[int, int]:
        """Return the range of PARTIAL (RFC 9394 section 3.1) as it stands, counted from the end where negative."""
        first = self.signed()
        self.expect(b":")
        last = self.signed()
        if (first < 0) != (last < 0):
            raise BadCommand("A range has one sign")
        return first, last


def _field_name(name: bytes) -> bytes:
    """Return a field name as it is answered: an atom where it can be one."""
    from ..mail.envelope import string

    return name if _ASTRING.fullmatch(name) else string(name)


def _days(day: int, month: bytes, year: int) -> int:
    import datetime

    try:
        date = datetime.date(year, MONTHS.index(month.lower()) + 1, day)
    except ValueError:
        raise BadCommand("No such date") from None
    return date.toordinal() - datetime.date(1970, 1, 1).toordinal()
