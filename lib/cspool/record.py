"""Records: one command, signed and sealed, as cspool-record(5) defines it.

    signed    = "cspool record 1\\0" | recipient X25519 key (32) | BLAKE2b-512(body)
    signature = Ed25519(sender, signed)
    plaintext = sender Ed25519 key (32) | signature (64)
                | flags u8 | stored length u32 | stored body | zero padding
    record    = version u8 (1) | SealedBox(recipient).encrypt(plaintext)

Integers are unsigned and big-endian; sizes in parentheses are octets.

Each record is sealed with a fresh key that libsodium throws away, so its
sender cannot open it afterwards. The signature covers the recipient, so a
record cannot be sealed again to another recipient in the sender's name.
"""

import hashlib
import struct
import zlib
from contextlib import suppress
from typing import NamedTuple

from . import keys
from .errors import DataError
from .keys import PublicKey, SecretKey

VERSION = 1
CONTEXT = b"cspool record 1\0"
PREFIX = struct.Struct(">32s64sBI")  # sender, signature, flags, stored length
DEFLATED = 1  # bit 0 of flags
BODY_MAX = 72 << 20  # octets of a body: a message of 64 MiB, and a long line before it
PLAINTEXT_MIN = 1024  # octets, so that a change of flags looks like a short mail
SAMPLE = 4096  # octets that are deflated to decide whether to deflate the rest


class Box(NamedTuple):
    """An open box. Nothing in it is verified yet: `sender` (Ed25519, 32 octets) is who it says has signed it."""

    recipient: bytes  # X25519 key that it was sealed to
    sender: bytes
    signature: bytes
    flags: int
    stored: bytes  # the body, deflated or not


class Opened(NamedTuple):
    """An opened record: the key `sender` (Ed25519, 32 octets) signed `body`. Only the fold says whose key that is."""

    sender: bytes
    body: bytes


def seal(body: bytes, sender: SecretKey, recipient: PublicKey) -> bytes:
    """Return the record of `body`, signed by `sender` and sealed to `recipient`."""
    return bytes([VERSION]) + recipient.seal(signed_for(recipient, body, sender))


def signed_for(recipient: PublicKey, body: bytes, sender: SecretKey) -> bytes:
    """Return the plaintext of a record: sender, signature and body, deflated where that pays, and padding."""
    stored = _deflate(body)
    flags = DEFLATED if stored is not body else 0
    signature = sender.sign(_signed(recipient.box, body))
    plaintext = PREFIX.pack(sender.public.sign, signature, flags, len(stored)) + stored
    return plaintext + bytes(padded(len(plaintext)) - len(plaintext))


def open_box(own: list[SecretKey], record: bytes) -> Box:
    """Open the box of a record with the first key of `own` that can. It costs no more than the record's own size.

    Raises DataError with the reason.
    """
    if record[:1] != bytes([VERSION]):
        raise DataError("of an unknown version" if record else "empty")
    for key in own[:-1]:
        with suppress(DataError):
            return _box(key.public.box, key.open(record[1:]))
    return _box(own[-1].public.box, own[-1].open(record[1:]))


def _box(recipient: bytes, plaintext: bytes) -> Box:
    if len(plaintext) < PREFIX.size:
        raise DataError("too short")
    sender, signature, flags, length = PREFIX.unpack_from(plaintext)
    end = PREFIX.size + length
    if len(plaintext) < end or flags & ~DEFLATED or plaintext.count(0, end) < len(plaintext) - end:
        raise DataError("malformed inside")
    return Box(recipient, sender, signature, flags, plaintext[PREFIX.size : end])


def body_of(box: Box, limit: int = BODY_MAX) -> bytes:
    """Return the body in a box, of at most `limit` octets, after a check of its signature. Raises DataError."""
    body = _inflate(box.stored, limit) if box.flags & DEFLATED else box.stored
    if len(body) > limit:
        raise DataError(f"longer than the {limit} octets that it may have")
    if not keys.verify(box.sender, _signed(box.recipient, body), box.signature):
        raise DataError("its signature is wrong")
    return body


def open_with(own: list[SecretKey], record: bytes) -> Opened:
    """Open a record with the first key of `own` that can, and check its signature. Raises DataError."""
    box = open_box(own, record)
    return Opened(box.sender, body_of(box))


def padded(length: int) -> int:
    """Return the Padmé length for `length` octets, at least PLAINTEXT_MIN.

    Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and
    Communication with PURBs", PoPETs 2019, section 4: after its leading bit, a
    length has as many significant bits as its exponent has; the rest are 0.
    """
    if length <= PLAINTEXT_MIN:
        return PLAINTEXT_MIN
    exponent = length.bit_length() - 1
    mask = (1 << (exponent - exponent.bit_length())) - 1
    return (length + mask) & ~mask


def _signed(recipient: bytes, body: bytes) -> bytes:
    return CONTEXT + recipient + hashlib.blake2b(body).digest()


def _deflate(body: bytes) -> bytes:
    """Return `body` deflated where that pays, or else `body` itself.

    Text shrinks to half or less. Base64 shrinks only to three quarters, which
    is not worth the time. A sample from the middle tells which it is.
    """
    middle = len(body) // 2
    sample = body[max(0, middle - SAMPLE // 2) : middle + SAMPLE // 2]
    if len(body) > SAMPLE and len(zlib.compress(sample, 1)) > 0.7 * len(sample):
        return body
    deflated = zlib.compress(body, 1)
    return deflated if len(deflated) < len(body) else body


def _inflate(stored: bytes, limit: int) -> bytes:
    """Return what a zlib stream (RFC 1950) inflates to, up to one octet more than `limit`. Raises DataError."""
    inflater = zlib.decompressobj()
    try:
        body = inflater.decompress(stored, limit + 1)
    except zlib.error:
        raise DataError("malformed inside") from None
    if len(body) <= limit and (not inflater.eof or inflater.unused_data):
        raise DataError("malformed inside")
    return body
