"""The keys by which SORT and THREAD compare messages (RFC 5256, RFC 5957), made once, when a message arrives."""

import hashlib
import re
from typing import NamedTuple

from . import envelope
from .casemap import sortable
from .charset import decode
from .text import decode_words

_TRAILER = re.compile(r"(?:\s*\(fwd\))+\s*$")
_LEADER = re.compile(r"^(?:\[[^][]*\]\s*)*(?:re|fwd?)\s*(?:\[[^][]*\]\s*)?:\s*")
_BLOB = re.compile(r"^\[[^][]*\]\s*(?=\S)")
_WRAPPED = re.compile(r"^\[fwd:(.*)\]$")
_MESSAGE_ID = re.compile(rb"<[^<>\s]{1,500}>")
SUBJECT_MAX = 1000  # characters: matching the patterns above takes quadratic time
REFERENCES_MAX = 200  # of a message: the first and the last 199


class Order(NamedTuple):
    """The keys of a message; texts are in the form of casemap.sortable."""

    subject: str  # base subject, RFC 5256 section 2.1
    reply: bool  # whether the subject was that of a reply or a forward
    first_from: str  # mailbox of the first address
    first_to: str
    first_cc: str
    display_from: str  # RFC 5957: display name of the first address, else the address
    display_to: str
    message_id: bytes
    references: bytes  # message ids, oldest first, separated by spaces
    thread: bytes  # 16 octets, the same for all messages of a conversation; nothing for one without any message id


def order(fields: dict[bytes, bytes], lists: envelope.Lists, label: str = "utf-8") -> Order:
    """Return the keys of a message with these fields (names in lower case, values unfolded) and addresses.

    8-bit text that is not UTF-8 is in the charset of `label`.
    """
    subject, reply = base_subject(decode_words(fields.get(b"subject", b""), label).lower())
    own = _MESSAGE_ID.findall(fields.get(b"message-id", b""))
    references = _MESSAGE_ID.findall(fields.get(b"references", b""))
    if not references:
        references = _MESSAGE_ID.findall(fields.get(b"in-reply-to", b""))[:1]
    root = (references or own)[:1]
    if len(references) > REFERENCES_MAX:
        references = references[:1] + references[1 - REFERENCES_MAX :]
    return Order(
        sortable(subject),
        reply,
        _mailbox(lists[b"from"]),
        _mailbox(lists[b"to"]),
        _mailbox(lists[b"cc"]),
        _display(lists[b"from"], label),
        _display(lists[b"to"], label),
        own[0] if own else b"",
        b" ".join(references),
        hashlib.blake2b(root[0], digest_size=16).digest() if root else b"",
    )


def base_subject(subject: str) -> tuple[str, bool]:
    """Return the base subject of a decoded, case-folded subject, and whether that is of a reply or a forward."""
    reply = False
    subject = " ".join(subject[:SUBJECT_MAX].split())
    while True:
        before = subject
        subject = _TRAILER.sub("", subject)
        reply |= subject != before
        while True:
            shorter = _LEADER.sub("", subject)
            reply |= shorter != subject
            shorter = _BLOB.sub("", shorter)
            if shorter == subject:
                break
            subject = shorter
        wrapped = _WRAPPED.match(subject)
        if not wrapped:
            return subject, reply
        subject, reply = wrapped[1].strip(), True


def _mailbox(addresses: list[envelope.Address]) -> str:
    mailbox = addresses[0].mailbox if addresses else None
    return sortable(decode(mailbox or b"", "utf-8").lower())


def _display(addresses: list[envelope.Address], label: str) -> str:
    if not addresses:
        return ""
    name, _, mailbox, host = addresses[0]
    shown = decode_words(name, label) if name else decode(b"%b@%b" % (mailbox or b"", host or b""), "utf-8")
    return sortable(" ".join(shown.lower().split()))
