"""Commands: the bodies of records, as cspool-commands(5) defines them.

    body = one line of JSON (UTF-8) | LF | octets

A command is `deliver` (one message, from a mail host or the user), `change`
(what the user did, as a list of small changes), or `checkpoint-part` or
`checkpoint` (what the fold is). This module has their form and the ids. What
commands do to the fold is in database/: gates.py, layer.py and fold.py.

Ids have 16 octets, keys and hashes 32; in JSON they are lower-case hex. A number
within an id is unsigned and big-endian.
"""

import hashlib
from typing import Any

from . import form
from .errors import DataError, TooOld
from .form import Check, Optional
from .octets import without_delivery_date

Fields = dict[str, Any]

INBOX = bytes(16)  # the id that INBOX has in every spool
FIRST = bytes(32)  # `previous` of a device's first change

DELIVERY_LINE_MAX = 65536  # octets of the line of a delivery
DELIVERY_MAX = DELIVERY_LINE_MAX + (64 << 20)  # octets of a delivery


# Ids are permanent. Each is computed from what it names, so that an author cannot give it to something else.
# Messages are hashed with CRLF line ends.


def delivery_id(mailbox: str, octets: bytes) -> bytes:
    """Return the id of a message that is delivered to the mailbox of this name; delivered twice, it is one message."""
    content = without_delivery_date(octets)
    return _hash(b"cspool delivery", mailbox.encode() + b"\0" + content)


def append_id(nonce: bytes, octets: bytes) -> bytes:
    """Return the id of an appended message."""
    return _hash(b"cspool append", nonce + octets)


def copy_id(nonce: bytes, source: bytes) -> bytes:
    """Return the id of a copy of the message `source`."""
    return _hash(b"cspool copy", nonce + source)


def create_id(nonce: bytes, name: str) -> bytes:
    """Return the id of a mailbox that the user creates."""
    return _hash(b"cspool create", nonce + name.encode())


def delivered_mailbox_id(spool: bytes, number: int) -> bytes:
    """Return the id of a mailbox that the delivery in record `number` creates."""
    return _hash(b"cspool mailbox", spool + number.to_bytes(8, "big"))


def body_hash(body: bytes) -> bytes:
    """Return the BLAKE2b-256 by which a device's next change, and its outbox, identify a change."""
    return hashlib.blake2b(body, digest_size=32).digest()


def _hash(person: bytes, data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16, person=person).digest()


# Making


def deliver(
    octets: bytes, date: int, mailbox: str | None = None, flags: list[str] | None = None, sealed: int | None = None
) -> bytes:
    """Return the body that delivers a message, received at `date` and sealed at `sealed` (seconds since 1970).

    Raises DataError for a mailbox name that is not allowed.
    """
    fields: Fields = {"command": "deliver", "date": date}
    if sealed is not None:
        fields["sealed"] = sealed
    if mailbox is not None:
        fields["mailbox"] = form.mailbox_name(mailbox)
    if flags:
        fields["flags"] = flags
    return encode(fields, octets)


def encode(fields: Fields, octets: bytes = b"") -> bytes:
    """Return the body with these fields, as JSON has them, and these octets."""
    return form.line(fields) + b"\n" + octets


def checkpoint_part(spool: bytes, octets: bytes) -> bytes:
    """Return the body of a part of a checkpoint; `octets` are lines of the state (checkpoint.py)."""
    return encode({"command": "checkpoint-part", "spool": spool.hex()}, octets)


# Reading


def decode(body: bytes, spool: bytes | None = None, line_max: int | None = None) -> tuple[Fields, bytes]:
    """Return the fields of a body, checked, and its octets.

    In the fields hex has become bytes, and `ids` a list of them. Raises
    DataError with the reason when it is not a command, its line is longer than
    `line_max` octets, or it is a command for another spool than `spool` (only
    `deliver` is for any). Raises TooOld when
    the command, or a small change in it, is from a later version.
    """
    line, _, octets = body.partition(b"\n")
    if line_max is not None and len(line) > line_max:
        raise DataError(f"a command with a line longer than {line_max} octets")
    try:
        fields = form.read(line)
    except ValueError:
        raise DataError("not a command (no line of JSON in our form)") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("command"), str):
        raise DataError("not a command")
    kind = fields["command"]
    if kind not in _COMMANDS:
        raise TooOld(f"the command '{ascii(kind)[1:-1][:40]}' needs a newer cspool")
    if kind != "deliver" and spool is not None and fields.get("spool") != spool.hex():
        raise DataError(f"a {kind} for another spool")
    fields = _checked(fields, _COMMANDS[kind], kind)
    if kind == "deliver" and len(line) > DELIVERY_LINE_MAX:
        raise DataError(f"deliver with a line longer than {DELIVERY_LINE_MAX} octets")
    if kind in ("deliver", "checkpoint-part"):
        if not octets:
            raise DataError(f"{kind} without octets")
    elif sum(change["size"] for change in fields.get("changes", ()) if change["do"] == "append") != len(octets):
        raise DataError(f"{kind} with octets too few or too many")
    return fields, octets


def changes(rows: list[Fields]) -> list[Fields]:
    """Return small changes, checked as `decode` checks them. Raises ValueError, DataError or TooOld."""
    found: list[Fields] = _changes(rows)
    return found


def _checked(fields: Fields, checks: dict[str, Check | Optional], what: str) -> Fields:
    """Return the fields as their checks return them. Raises DataError for one that is wrong, missing or not known."""
    for name in sorted(fields.keys() - checks.keys()):
        raise DataError(f"{what} with an unknown field '{ascii(name)[1:-1][:40]}'")
    found = {}
    for name, check in checks.items():
        if isinstance(check, Optional):
            if name not in fields:
                found[name] = check.default
                continue
            check = check.check  # noqa: PLW2901
        try:
            found[name] = check(fields.get(name))
        except (ValueError, TypeError, DataError):
            raise DataError(f"{what} with a wrong '{name}'") from None
    return found


def _changes(value: Any) -> list[Fields]:
    found = []
    for row in form.array(value):
        if not isinstance(row, dict) or not isinstance(row.get("do"), str):
            raise ValueError
        if row["do"] not in _CHANGES:
            raise TooOld(f"the change '{ascii(row['do'])[1:-1][:40]}' needs a newer cspool")
        found.append(_checked(row, _CHANGES[row["do"]], row["do"]))
    return found


_ID, _KEY, _HASH = form.octets(16), form.octets(32), form.octets(32)

_COMMANDS: dict[str, dict[str, Check | Optional]] = {
    "deliver": {
        "command": form.text,
        "date": form.date,
        "sealed": Optional(form.date, None),
        "mailbox": Optional(form.mailbox_name, "INBOX"),
        "flags": Optional(form.flags, []),
    },
    "change": {
        "command": form.text,
        "spool": _ID,
        "device": _ID,
        "counter": form.integer,
        "previous": _HASH,
        "number": form.integer,
        "chain": _HASH,
        "digest": Optional(_HASH, None),
        "changes": _changes,
    },
    "checkpoint-part": {"command": form.text, "spool": _ID},
    "checkpoint": {
        "command": form.text,
        "spool": _ID,
        "number": form.integer,
        "chain": _HASH,
        "digest": _HASH,
        "date": form.date,
        "parts": lambda value: form.array(value, _HASH),
    },
}

_CHANGES: dict[str, dict[str, Check | Optional]] = {
    "add-flags": {"do": form.text, "flags": form.flags, "ids": form.ids},
    "remove-flags": {"do": form.text, "flags": form.flags, "ids": form.ids},
    "expunge": {"do": form.text, "ids": form.ids},
    "move": {"do": form.text, "ids": form.ids, "mailbox": _ID},
    "copy": {"do": form.text, "ids": form.ids, "mailbox": _ID, "nonce": _ID},
    "append": {
        "do": form.text,
        "mailbox": _ID,
        "flags": form.flags,
        "date": form.date,
        "size": form.size,
        "nonce": _ID,
    },
    "create": {"do": form.text, "name": form.mailbox_name, "use": Optional(form.special_use, ""), "nonce": _ID},
    "rename": {"do": form.text, "mailbox": _ID, "name": form.mailbox_name},
    "delete": {"do": form.text, "mailbox": _ID, "ids": form.ids},
    "subscribe": {"do": form.text, "name": form.mailbox_name},
    "unsubscribe": {"do": form.text, "name": form.mailbox_name},
    "set-metadata": {
        "do": form.text,
        "mailbox": Optional(_ID, None),
        "entry": form.entry,
        "value": Optional(form.metadata, None),
    },
    "trust": {"do": form.text, "key": _KEY, "comment": form.text},
    "distrust": {"do": form.text, "key": _KEY},
    "user-key": {"do": form.text, "sign": _KEY, "box": _KEY},
    "discard": {"do": form.text, "numbers": lambda value: form.array(value, form.integer)},
}
