"""What is changed in the octets of a message: line ends, the envelope line, and the field Delivery-date."""

import re

# The time in a "From " line: month, day, hour, minute, second, zone in hours and minutes, year.
FROM_DATE = (
    rb" ([A-Z][a-z]{2}) +(\d{1,2}) +(\d\d):(\d\d)(?::(\d\d))?(?: +[A-Z]{1,5})?(?: +([+-]\d\d)(\d\d))? +(\d{4})\b"
)
_DATE_FIRST = (  # compiled where it is used: cspool-seal does not
    rb"(?i)(?:(?:return-path|envelope-to|delivered-to|x-original-to):[^\n]*\n(?:[ \t][^\n]*\n)*)*"
    rb"(delivery-date:[^\n]*\n(?:[ \t][^\n]*\n)*)"
)


def without_envelope(octets: bytes) -> bytes:
    """Return a message without the mbox "From " line that a mail server may put before it.

    That has a date. So a field "From :" (RFC 5322 section 4.5) and a text that
    begins "From here on" stay.
    """
    if not octets.startswith(b"From "):
        return octets
    line, _, rest = octets.partition(b"\n")
    is_envelope = not line[4:].lstrip().startswith(b":") and re.search(FROM_DATE, line)
    return rest if is_envelope else octets


def with_crlf(octets: bytes) -> bytes:
    """Return a message with CRLF for each LF. A CR without an LF is not a line end, and stays."""
    if octets.count(b"\r\n") == octets.count(b"\n"):
        return octets
    if b"\r" in octets:
        octets = octets.replace(b"\r\n", b"\n")
    return octets.replace(b"\n", b"\r\n")


def without_delivery_date(octets: bytes) -> bytes:
    """Return a message without the Delivery-date among its first fields: see Ids in cspool-commands(5).

    Exim writes a new one at each delivery attempt, and a retry must not make
    another message.
    """
    found = re.match(_DATE_FIRST, octets)
    return octets[: found.start(1)] + octets[found.end(1) :] if found else octets
