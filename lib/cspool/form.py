"""The form of what records say: lines of JSON, and what a value in them may be.

A check takes a value as JSON has it and returns it as we use it. It raises
ValueError, TypeError or DataError for one that may not stand there.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from .errors import DataError

Check = Callable[[Any], Any]

NAME_MAX = 1000  # octets of a mailbox name, characters of other texts
DATE_MAX = 253_402_128_000  # seconds since 1970: 9999-12-30

# The special uses (RFC 6154 section 2), and the names that a mailbox for each has here.
SPECIAL_USES = {"Archive": "\\Archive", "Drafts": "\\Drafts", "Junk": "\\Junk", "Sent": "\\Sent", "Trash": "\\Trash"}

FLAG = re.compile(r"(\\(Seen|Answered|Flagged|Deleted|Draft)|[!#$&'+-\[^-z|}~]+)", re.ASCII)  # RFC 9051 flag
FLAG_MAX = 100  # characters

_BAD_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]|^/|/$|//|^$")
_HEX = re.compile(r"(?:[0-9a-f]{2})*")


def line(value: Any) -> bytes:
    """Return the one line of JSON that we write for a value, without its line end (RFC 8259, UTF-8).

    There are no spaces in it, and nothing is escaped that need not be (as in RFC 8785).
    """
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def read(octets: bytes) -> Any:
    """Return what a line of JSON says. Raises ValueError, also for two fields of one name, and RecursionError."""
    return json.loads(octets.decode(), object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("two fields of one name")
    return fields


# Checks


def integer(value: Any) -> int:
    """A number from 0 to 2^63 - 1."""
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError
    return value


def date(value: Any) -> int:
    """A time in seconds since 1970, before the last days of the year 9999, so that its year has four digits."""
    if integer(value) > DATE_MAX:
        raise ValueError
    return int(value)


def text(value: Any) -> str:
    """A text of at most NAME_MAX characters that UTF-8 can encode: JSON can hold lone surrogates."""
    if not isinstance(value, str) or len(value) > NAME_MAX:
        raise ValueError
    value.encode()
    return value


def mailbox_name(value: Any) -> str:
    """A mailbox name; it is returned as it is kept. Raises DataError when no mailbox can have it."""
    if not isinstance(value, str):
        raise ValueError
    name = canonical(value)
    if _BAD_NAME.search(name) or len(name.encode("utf-8", "replace")) > NAME_MAX:
        raise DataError(f"not a mailbox name: {name[:80]!a}")
    return name


def canonical(name: str) -> str:
    """Return a mailbox name with INBOX, which is one in any (ASCII) case, as it is kept (RFC 3501 section 5.1)."""
    first = name[:6].partition("/")[0]
    return "INBOX" + name[5:] if first.isascii() and first.upper() == "INBOX" else name


def special_use(value: Any) -> str:
    """Special uses of a mailbox (RFC 6154 section 2), separated by spaces; none when missing."""
    if value is None or value == "":
        return ""
    if not isinstance(value, str) or not set(value.split(" ")) <= set(SPECIAL_USES.values()):
        raise ValueError
    return value


def flags(value: Any) -> list[str]:
    """A list of flags."""
    if not all(isinstance(flag, str) and is_flag(flag) for flag in array(value)):
        raise ValueError
    return array(value)


def is_flag(flag: str) -> bool:
    """Return whether a message can have this flag, in the case that it is kept in."""
    return len(flag) <= FLAG_MAX and FLAG.fullmatch(flag) is not None


def octets(length: int) -> Check:
    """Return the check for this many octets, which stand as lower-case hex digits."""

    def check(value: Any) -> bytes:
        if not isinstance(value, str) or len(value) != 2 * length or not _HEX.fullmatch(value):
            raise ValueError
        return bytes.fromhex(value)

    return check


def ids(value: Any) -> list[bytes]:
    """Ids of 16 octets, in one string of hex digits: a list would be a tenth longer when deflated."""
    if not isinstance(value, str) or len(value) % 32 or not _HEX.fullmatch(value):
        raise ValueError
    found = bytes.fromhex(value)
    return [found[start : start + 16] for start in range(0, len(found), 16)]


def array(value: Any, check: Check = lambda one: one) -> list[Any]:
    """A list, of values that pass a check."""
    if not isinstance(value, list):
        raise ValueError
    return [check(one) for one in value]


def optional(check: Check, default: Any = None) -> Check:
    """Return a check that also takes null, and a missing field, and returns `default` for them."""
    return lambda value: default if value is None else check(value)
