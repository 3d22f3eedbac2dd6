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
BODY_MAX = 128 << 20  # octets that a deflated body may inflate to
PLAINTEXT_MIN = 1024  # octets, so that a change of flags looks like a short mail
SAMPLE = 4096  # octets that are deflated to decide whether to deflate the rest


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


def open_with(key: SecretKey, record: bytes) -> Opened:
    """Open `record` and check its signature. Raises DataError with the reason."""
    if record[:1] != bytes([VERSION]):
        raise DataError("of an unknown version" if record else "empty")
    plaintext = key.open(record[1:])
    if len(plaintext) < PREFIX.size:
        raise DataError("too short")
    sender, signature, flags, length = PREFIX.unpack_from(plaintext)
    stored = plaintext[PREFIX.size : PREFIX.size + length]
    if len(stored) < length or flags & ~DEFLATED:
        raise DataError("malformed inside")
    body = _inflate(stored) if flags & DEFLATED else stored
    if not keys.verify(sender, _signed(key.public.box, body), signature):
        raise DataError("its signature is wrong")
    return Opened(sender, body)


def open_with_any(own: list[SecretKey], record: bytes) -> Opened:
    """Open `record` with the first key of `own` that can. Raises DataError with the reason of the last key."""
    for key in own[:-1]:
        with suppress(DataError):
            return open_with(key, record)
    return open_with(own[-1], record)


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


def _inflate(stored: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        body = inflater.decompress(stored, BODY_MAX)
    except zlib.error:
        body = b""
    if not inflater.eof or inflater.unused_data:
        raise DataError("malformed inside")
    return body
