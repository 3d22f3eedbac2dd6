"""What is done to the octets of a message before anything else: line ends, envelope lines, fields that change."""

import re

_DATE_FIRST = re.compile(
    rb"(?:(?:return-path|envelope-to|delivered-to|x-original-to):[^\n]*\n(?:[ \t][^\n]*\n)*)*"
    rb"(delivery-date:[^\n]*\n(?:[ \t][^\n]*\n)*)",
    re.IGNORECASE,
)


def without_envelope(octets: bytes) -> bytes:
    """Return a message without the mbox "From " line that a mail server may put before it."""
    if not octets.startswith(b"From "):
        return octets
    return octets.partition(b"\n")[2]


def with_crlf(octets: bytes) -> bytes:
    """Return a message with CRLF for each LF; a CR that stands alone is no line end and stays."""
    if b"\r" in octets:
        octets = octets.replace(b"\r\n", b"\n")
    return octets.replace(b"\n", b"\r\n")


def without_delivery_date(octets: bytes) -> bytes:
    """Return a message without a Delivery-date among the fields on top.

    Exim puts a new one there each time it tries a delivery, and the same
    message must stay the same.
    """
    found = _DATE_FIRST.match(octets)
    return octets[: found.start(1)] + octets[found.end(1) :] if found else octets
