"""The form of commands and states: lines of JSON, and checks of the values in them. See cspool-commands(5).

A check takes a value as JSON has it, and returns it as we use it. It raises
ValueError, TypeError or DataError for a value that is not allowed.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from .errors import DataError

Check = Callable[[Any], Any]


class Optional:
    """A field that may be missing, and its value then."""

    def __init__(self, check: Check, default: Any) -> None:  # a NamedTuple would take longer to import
        self.check = check
        self.default = default


NAME_MAX = 1000  # octets of a mailbox name; characters of other texts
DATE_MAX = 253_402_128_000  # seconds since 1970: 9999-12-30
VALUE_MAX = 65536  # octets of a value of metadata
DEPTH_MAX = 4  # objects and lists inside each other: a change, its changes, one of them, its flags

# The special uses (RFC 6154 section 2) by the names that mailboxes for them have here.
SPECIAL_USES = {"Archive": "\\Archive", "Drafts": "\\Drafts", "Junk": "\\Junk", "Sent": "\\Sent", "Trash": "\\Trash"}
_FIRST_LEVELS = {name.lower(): name for name in ("INBOX", *SPECIAL_USES)}

FLAG = re.compile(r"(\\(Seen|Answered|Flagged|Deleted|Draft)|[!#$&'+-\[^-z|}~]+)", re.ASCII)  # RFC 9051 flag
FLAG_MAX = 100  # characters

_BAD_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]|^/|/$|//|^$|(?:^|/)\.{1,2}(?:/|$)")
_HEX = re.compile(r"(?:[0-9a-f]{2})*")
_ENTRY = re.compile(r"/(?:private|shared)(?:/[ -$&-)+-.0-@\[-~]+)+")  # RFC 5464 section 3.2, in lower case


_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def line(value: Any) -> bytes:
    """Return a value as a line of JSON (RFC 8259) in UTF-8, without its line end.

    As in RFC 8785 it has no spaces, and no escapes but those that are required.
    """
    return _ENCODER.encode(value).encode()


def read(octets: bytes) -> Any:
    """Return the value in a line of JSON, which must be the very line that `line` writes for it.

    So there is one text for a value, and all readers agree on it: integers
    from 0 to 2^63 - 1, no floats, no field twice, no lone surrogates, no
    spaces, at most DEPTH_MAX objects and lists inside each other. Raises
    ValueError for everything else.
    """
    try:
        value = _DECODER.decode(octets.decode())
        if not _is_deeper(value, DEPTH_MAX) and line(value) == octets:
            return value
    except RecursionError:
        pass
    raise ValueError("another form of JSON")


def _is_deeper(value: Any, levels: int) -> bool:
    """Return whether a value has more than this many levels of objects and lists."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return inside is not None and (levels == 0 or any(_is_deeper(one, levels - 1) for one in inside))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("two fields of one name")
    return fields


def _integer(digits: str) -> int:
    if len(digits) > 19 or not 0 <= (value := int(digits)) < 2**63:
        raise ValueError("an integer that is too large")
    return value


def _refuse(text: str) -> Any:
    raise ValueError("a float")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_integer, parse_float=_refuse, parse_constant=_refuse)


# Checks


def integer(value: Any) -> int:
    """A number from 0 to 2^63 - 1."""
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError
    return value


def size(value: Any) -> int:
    """A count of octets, at least 1."""
    if integer(value) < 1:
        raise ValueError
    return int(value)


def date(value: Any) -> int:
    """A time in seconds since 1970, up to DATE_MAX, so that its year has four digits."""
    if integer(value) > DATE_MAX:
        raise ValueError
    return int(value)


def text(value: Any) -> str:
    """A text of at most NAME_MAX characters, without the lone surrogates that JSON can hold."""
    if not isinstance(value, str) or len(value) > NAME_MAX:
        raise ValueError
    value.encode()
    return value


def mailbox_name(value: Any) -> str:
    """A mailbox name, returned in canonical form. Raises DataError when it is not allowed."""
    if not isinstance(value, str):
        raise ValueError
    name = canonical(value)
    if _BAD_NAME.search(name) or any(len(one.encode("utf-8", "replace")) > NAME_MAX for one in (value, name)):
        raise DataError(f"not a mailbox name: {name[:80]!a}")
    return name


def canonical(name: str) -> str:
    """Return a mailbox name in NFC, with its first level in the case of INBOX, or of the special-use name that it is.

    One program composes its letters and another does not (RFC 9051 section 5.1).
    The tables are those of Unicode 3.2, which each Python has: all machines
    must come to the same name. INBOX is one mailbox in any ASCII case (RFC 3501
    section 5.1). "sent" beside "Sent" would be two, of which the client writes
    to one and the user looks into the other.
    """
    if not name.isascii() and len(name) <= NAME_MAX:
        import unicodedata

        name = unicodedata.ucd_3_2_0.normalize("NFC", name)
    first, slash, rest = name.partition("/")
    return _FIRST_LEVELS.get(first.lower() if first.isascii() else first, first) + slash + rest


def special_use(value: Any) -> str:
    """Special uses of a mailbox (RFC 6154 section 2), at least one, each once, separated by a space."""
    if not isinstance(value, str):
        raise ValueError
    uses = value.split(" ")
    if len(set(uses)) < len(uses) or not set(uses) <= set(SPECIAL_USES.values()):
        raise ValueError
    return value


def flags(value: Any) -> list[str]:
    """A list of flags."""
    if not all(isinstance(flag, str) and is_flag(flag) for flag in array(value)):
        raise ValueError
    return array(value)


def is_flag(flag: str) -> bool:
    """Return whether a message can have this flag; a system flag counts only in its canonical case."""
    return len(flag) <= FLAG_MAX and FLAG.fullmatch(flag) is not None


def octets(length: int) -> Check:
    """Return a check for bytes of this length in lower-case hex."""

    def check(value: Any) -> bytes:
        if not isinstance(value, str) or len(value) != 2 * length or not _HEX.fullmatch(value):
            raise ValueError
        return bytes.fromhex(value)

    return check


def entry(value: Any) -> str:
    """The name of an entry of metadata (RFC 5464 section 3.2), in lower case: its case means nothing."""
    if not _ENTRY.fullmatch(text(value)):
        raise ValueError
    return str(value)


def metadata(value: Any) -> bytes:
    """A value of metadata: at most VALUE_MAX octets, in lower-case hex."""
    if not isinstance(value, str) or len(value) > 2 * VALUE_MAX or not _HEX.fullmatch(value):
        raise ValueError
    return bytes.fromhex(value)


def ids(value: Any) -> list[bytes]:
    """Ids of 16 octets in one string of hex digits. A list would be a tenth longer when deflated."""
    if not isinstance(value, str) or len(value) % 32 or not _HEX.fullmatch(value):
        raise ValueError
    found = bytes.fromhex(value)
    return [found[start : start + 16] for start in range(0, len(found), 16)]


def array(value: Any, check: Check = lambda one: one) -> list[Any]:
    """A list of values that pass a check."""
    if not isinstance(value, list):
        raise ValueError
    return [check(one) for one in value]


def or_null(check: Check) -> Check:
    """Return a check that returns None for null."""
    return lambda value: None if value is None else check(value)


def or_empty(check: Check) -> Check:
    """Return a check that returns its value for an empty text."""
    return lambda value: value if value == "" else check(value)
