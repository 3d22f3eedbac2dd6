"""Mailbox names on the wire: modified UTF-7 (RFC 3501 section 5.1.3), and LIST patterns."""

import re

_SHIFTED = re.compile(r"&([^-]*)-")
_SPECIAL = re.compile(r"&|[^\x20-\x7e]+")


def encode(name: str) -> bytes:
    """Return a name in modified UTF-7."""
    return _SPECIAL.sub(_shift, name).encode("ascii")


def _shift(found: re.Match[str]) -> str:
    import binascii

    if found[0] == "&":
        return "&-"
    base64 = binascii.b2a_base64(found[0].encode("utf-16-be", "surrogatepass"), newline=False)
    return "&" + base64.decode().rstrip("=").replace("/", ",") + "-"


def decode(name: bytes) -> str:
    """Return a name that a client has sent; one with 8-bit octets is read as UTF-8. Raises ValueError."""
    if not name.isascii():
        return name.decode("utf-8")
    return _SHIFTED.sub(_unshift, name.decode("ascii"))


def _unshift(found: re.Match[str]) -> str:
    import binascii

    if not found[1]:
        return "&"
    base64 = found[1].replace(",", "/")
    octets = binascii.a2b_base64(base64 + "=" * (-len(base64) % 4))
    return octets.decode("utf-16-be")


def matches(pattern: str, name: str) -> bool:
    """Return whether LIST with this pattern shows this name (RFC 3501 section 6.3.8).

    All possible ends of a match are followed at once, so the time is bounded by
    the length of the pattern times that of the name.
    """
    inbox = 5 if name == "INBOX" or name.startswith("INBOX/") else 0  # characters whose case does not matter
    ends = {0}
    for wanted in pattern:
        if wanted == "*":
            ends = set(range(min(ends), len(name) + 1))
        elif wanted == "%":
            further: set[int] = set()
            for end in ends:
                slash = name.find("/", end)
                further.update(range(end, len(name) + 1 if slash < 0 else slash + 1))
            ends = further
        else:
            ends = {end + 1 for end in ends if name[end : end + 1] == (wanted.upper() if end < inbox else wanted)}
        if not ends:
            return False
    return len(name) in ends
