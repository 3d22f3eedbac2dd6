"""Commands: what a record says once it is open. cspool-commands(5) is the definition.

    body = one line of JSON (UTF-8) "\\n" then octets

A command is `deliver` (one message, from a mail host or from the user),
`change` (what the user did, as a list of small changes), or `checkpoint-part`
or `checkpoint` (what the fold is). This module knows their form and the ids;
what they do to the fold is in fold.py and state.py.
"""

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

from . import message
from .errors import DataError, TooOld

Fields = dict[str, Any]

INBOX = bytes(16)  # the id that INBOX has in every spool
NAME_MAX = 1000  # octets of a mailbox name
DATE_MAX = 253_402_128_000  # seconds since 1970: 9999-12-30
FIRST = bytes(32)  # stands for the change before a device's first

# The special uses (RFC 6154 section 2), and the names that a mailbox for each has here.
SPECIAL_USES = {"Archive": "\\Archive", "Drafts": "\\Drafts", "Junk": "\\Junk", "Sent": "\\Sent", "Trash": "\\Trash"}

FLAG = re.compile(r"(\\(Seen|Answered|Flagged|Deleted|Draft)|[!#$&'+-\[^-z|}~]+)", re.ASCII)  # RFC 9051 flag
FLAG_MAX = 100  # characters
_ID = 32  # hex digits
_BAD_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]|^/|/$|//|^$")


# Ids: permanent, and computed from what they name, so that nobody can claim one.


def delivery_id(mailbox: str, octets: bytes) -> bytes:
    """Return the id of a delivered message: the same message to the same mailbox is one message."""
    content = message.without_delivery_date(octets)
    return _hash(b"cspool delivery", mailbox.encode() + b"\0" + content)


def append_id(nonce: bytes, octets: bytes) -> bytes:
    """Return the id of an appended message."""
    return _hash(b"cspool append", nonce + octets)


def copy_id(nonce: bytes, source: bytes) -> bytes:
    """Return the id of a copy of the message `source`."""
    return _hash(b"cspool copy", nonce + source)


def create_id(nonce: bytes, name: str) -> bytes:
    """Return the id of a mailbox that a user has created."""
    return _hash(b"cspool create", nonce + name.encode())


def delivered_mailbox_id(spool: bytes, number: int) -> bytes:
    """Return the id of a mailbox that the delivery in record `number` has made."""
    return _hash(b"cspool mailbox", spool + number.to_bytes(8, "big"))


def body_hash(body: bytes) -> bytes:
    """Return the hash by which a device's next change, and its outbox, know a change."""
    return hashlib.blake2b(body, digest_size=32).digest()


def _hash(person: bytes, data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16, person=person).digest()


# Making


def deliver(octets: bytes, date: int, mailbox: str | None = None, flags: list[str] | None = None) -> bytes:
    """Return the body that delivers a message, received at `date` (seconds since 1970).

    Raises DataError for a name that no mailbox can have.
    """
    fields: Fields = {"command": "deliver", "date": date}
    if mailbox is not None:
        fields["mailbox"] = mailbox_name(mailbox)
    if flags:
        fields["flags"] = flags
    return encode(fields, octets)


def encode(fields: Fields, octets: bytes = b"") -> bytes:
    """Return a body."""
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode() + b"\n" + octets


def mailbox_name(name: str) -> str:
    """Return a mailbox name as it is kept. Raises DataError when no mailbox can have it."""
    name = canonical(name)
    if _BAD_NAME.search(name) or len(name.encode("utf-8", "replace")) > NAME_MAX:
        raise DataError(f"not a mailbox name: {name[:80]!a}")
    return name


def canonical(name: str) -> str:
    """Return a mailbox name with INBOX, which is one in any (ASCII) case, as it is kept (RFC 3501 section 5.1)."""
    first = name[:6].partition("/")[0]
    return "INBOX" + name[5:] if first.isascii() and first.upper() == "INBOX" else name


# Reading


def decode(body: bytes, spool: bytes | None = None) -> tuple[Fields, bytes]:
    """Return the checked fields of a body and its octets.

    Hex becomes bytes and `ids` a list. Raises DataError with the reason for
    what is no command, or a change for another spool than this one; TooOld
    for one that a later version has brought.
    """
    line, _, octets = body.partition(b"\n")
    try:
        fields = json.loads(line.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise DataError("not a command (no line of JSON)") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("command"), str):
        raise DataError("not a command")
    kind = fields["command"]
    if kind not in _COMMANDS:
        raise TooOld(f"the command '{ascii(kind)[1:-1][:40]}' needs a newer cspool")
    if kind != "deliver" and spool is not None and fields.get("spool") != spool.hex():
        raise DataError(f"a {kind} for another spool")
    fields = _checked(fields, _COMMANDS[kind], kind)
    if kind in ("deliver", "checkpoint-part"):
        if not octets:
            raise DataError(f"{kind} without octets")
    elif sum(change["size"] for change in fields.get("changes", ()) if change["do"] == "append") != len(octets):
        raise DataError(f"{kind} with octets too few or too many")
    return fields, octets


def changes(rows: list[Fields]) -> list[Fields]:
    """Return small changes, checked as `decode` does."""
    found: list[Fields] = _changes(rows)
    return found


def _unique(pairs: list[tuple[str, Any]]) -> Fields:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("two fields of one name")
    return fields


def _checked(fields: Fields, form: dict[str, Callable[[Any], Any]], what: str) -> Fields:
    found = {}
    for name, check in form.items():
        try:
            found[name] = check(fields.get(name))
        except (ValueError, TypeError, DataError):
            raise DataError(f"{what} with a wrong '{name}'") from None
    return found


def checkpoint_part(spool: bytes, octets: bytes) -> bytes:
    """Return the body of a part of a checkpoint: rows of state.py."""
    return encode({"command": "checkpoint-part", "spool": spool.hex()}, octets)


def integer(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError
    return value


def date_of(value: Any) -> int:
    """A time in seconds since 1970, before the last days of the year 9999: dates have four digits for it."""
    if integer(value) > DATE_MAX:
        raise ValueError
    return int(value)


def text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > NAME_MAX:
        raise ValueError
    value.encode()  # JSON can hold lone surrogates, a database cannot
    return value


def name_of_mailbox(value: Any) -> str:
    return mailbox_name(text(value))


def special_use(value: Any) -> str:
    """Special uses of a mailbox (RFC 6154 section 2), separated by spaces; none when missing."""
    if value is None or value == "":
        return ""
    if not isinstance(value, str) or not set(value.split(" ")) <= set(SPECIAL_USES.values()):
        raise ValueError
    return value


def octets_of(octets: int) -> Callable[[Any], bytes]:
    def check(value: Any) -> bytes:
        if not isinstance(value, str) or not re.fullmatch(rf"[0-9a-f]{{{2 * octets}}}", value):
            raise ValueError
        return bytes.fromhex(value)

    return check


def _ids(value: Any) -> list[bytes]:
    """Ids stand in one string of hex digits: a list would be a tenth longer when deflated."""
    if not isinstance(value, str) or len(value) % _ID or not re.fullmatch(r"[0-9a-f]*", value):
        raise ValueError
    octets = bytes.fromhex(value)
    return [octets[start : start + 16] for start in range(0, len(octets), 16)]


def _hashes(value: Any) -> list[bytes]:
    return [octets_of(32)(one) for one in _list(value)]


def _numbers(value: Any) -> list[int]:
    return [integer(one) for one in _list(value)]


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError
    return value


def _flags(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(flag, str) and is_flag(flag) for flag in value):
        raise ValueError
    return value


def is_flag(flag: str) -> bool:
    """Tell whether this is a flag that a message can have, in the case that it is kept in."""
    return len(flag) <= FLAG_MAX and FLAG.fullmatch(flag) is not None


def _changes(value: Any) -> list[Fields]:
    found = []
    for row in _list(value):
        if not isinstance(row, dict) or not isinstance(row.get("do"), str):
            raise ValueError
        if row["do"] not in _CHANGES:
            raise TooOld(f"the change '{ascii(row['do'])[1:-1][:40]}' needs a newer cspool")
        found.append(_checked(row, _CHANGES[row["do"]], row["do"]))
    return found


_COMMANDS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "deliver": {
        "command": text,
        "date": date_of,
        "mailbox": lambda value: "INBOX" if value is None else name_of_mailbox(value),
        "flags": lambda value: [] if value is None else _flags(value),
    },
    "change": {
        "command": text,
        "spool": octets_of(16),
        "device": octets_of(16),
        "counter": integer,
        "previous": octets_of(32),
        "number": integer,
        "chain": octets_of(32),
        "changes": _changes,
    },
    "checkpoint-part": {"command": text, "spool": octets_of(16)},
    "checkpoint": {
        "command": text,
        "spool": octets_of(16),
        "number": integer,
        "chain": octets_of(32),
        "date": date_of,
        "parts": _hashes,
    },
}

_CHANGES: dict[str, dict[str, Callable[[Any], Any]]] = {
    "add-flags": {"do": text, "flags": _flags, "ids": _ids},
    "remove-flags": {"do": text, "flags": _flags, "ids": _ids},
    "expunge": {"do": text, "ids": _ids},
    "move": {"do": text, "ids": _ids, "mailbox": octets_of(16)},
    "copy": {"do": text, "ids": _ids, "mailbox": octets_of(16), "nonce": octets_of(16)},
    "append": {
        "do": text,
        "mailbox": octets_of(16),
        "flags": _flags,
        "date": date_of,
        "size": integer,
        "nonce": octets_of(16),
    },
    "create": {"do": text, "name": name_of_mailbox, "use": special_use, "nonce": octets_of(16)},
    "rename": {"do": text, "mailbox": octets_of(16), "name": name_of_mailbox},
    "delete": {"do": text, "mailbox": octets_of(16), "ids": _ids},
    "subscribe": {"do": text, "name": name_of_mailbox},
    "unsubscribe": {"do": text, "name": name_of_mailbox},
    "trust": {"do": text, "key": octets_of(32), "comment": text},
    "distrust": {"do": text, "key": octets_of(32)},
    "user-key": {"do": text, "sign": octets_of(32), "box": octets_of(32)},
    "discard": {"do": text, "numbers": _numbers},
}
