"""Keys, and everything that is done with libsodium: no other module uses PyNaCl.

A key is a 32-octet seed. Its X25519 half opens what was sealed to it, its
Ed25519 half signs; both are derived from the seed with BLAKE2b under two
`person` strings. A key file is a line of text, as cspool-home(5) defines it:

    cspool-secret-key-1 <base64 of seed (32) | check (4)> comment
    cspool-locked-key-1 <base64 of opslimit u32 | memlimit u32 | salt (16) | secret box (72)> comment
    cspool-key-1 <base64 of X25519 (32) | Ed25519 (32) | check (4)> comment

Integers are unsigned and big-endian; sizes in parentheses are octets. The check
is the BLAKE2b-32 of the octets before it, since mail sealed to a mistyped key
would be lost for ever.

PyNaCl takes longer to import than Python to start. So each function imports
what it needs itself, where possible only nacl.bindings, the bare functions of
libsodium.
"""

import base64
import binascii
import hashlib
import os
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from .errors import BadConfig, DataError, NoInput, reason

PUBLIC = "cspool-key-1"
SECRET = "cspool-secret-key-1"
LOCKED = "cspool-locked-key-1"
FILE_MAX = 65536  # octets of a key file: a ring of some 400 keys

LOCK = struct.Struct(">II16s")  # argon2id opslimit, memlimit in octets, salt
# A key file cannot make us work for longer, or with more memory: both are more than libsodium's "sensitive".
OPSLIMIT_MAX = 16
MEMLIMIT_MAX = 1 << 30


class PublicKey(NamedTuple):
    """The public halves of a key: `box` (X25519) to seal to it, `sign` (Ed25519) to verify its signatures."""

    box: bytes
    sign: bytes
    comment: str = ""

    def seal(self, plaintext: bytes) -> bytes:
        """Return a libsodium sealed box that only the secret key opens."""
        from nacl import bindings

        return bytes(bindings.crypto_box_seal(plaintext, self.box))

    def line(self) -> str:
        """Return the line of a public key file, without its line end."""
        return _line(PUBLIC, _checked(self.box + self.sign), self.comment)

    def name(self) -> str:
        """Return the name of this key in messages: its comment, or else the start of the key."""
        return self.comment or short(self.sign)


class SecretKey:
    """A secret key, which opens and signs. Python cannot wipe it from memory afterwards."""

    def __init__(self, seed: bytes, comment: str = "") -> None:
        from nacl import bindings

        _forbid_core_dumps()

        self._box = hashlib.blake2b(seed, digest_size=32, person=b"cspool x25519").digest()
        signing = hashlib.blake2b(seed, digest_size=32, person=b"cspool ed25519").digest()
        sign, self._sign = bindings.crypto_sign_seed_keypair(signing)
        self.public = PublicKey(bindings.crypto_scalarmult_base(self._box), sign, comment)

    def open(self, sealed: bytes) -> bytes:
        """Return the plaintext of a sealed box. Raises DataError when it was not sealed to this key."""
        from nacl import bindings, exceptions

        try:
            return bytes(bindings.crypto_box_seal_open(sealed, self.public.box, self._box))
        except (exceptions.CryptoError, ValueError, TypeError):
            raise DataError("does not open with this key") from None

    def sign(self, message: bytes) -> bytes:
        """Return the Ed25519 signature (64 octets) of `message`."""
        from nacl import bindings

        return bytes(bindings.crypto_sign(message, self._sign)[:64])


def _forbid_core_dumps() -> None:
    """Keep the secret keys in our memory out of core files, which stay on disk for weeks."""
    import resource

    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def verify(sign: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether `signature` over `message` was made with the Ed25519 key `sign`."""
    from nacl import bindings, exceptions

    if len(sign) != 32 or len(signature) != 64:
        return False  # libsodium does not check the sizes
    try:
        bindings.crypto_sign_open(signature + message, sign)
    except (exceptions.CryptoError, ValueError, TypeError):
        return False
    return True


def up_to(ring: list[SecretKey], sign: bytes | None) -> list[SecretKey]:
    """Return the keys of a ring, newest first, without those newer than the one with this Ed25519 half."""
    signs = [key.public.sign for key in ring]
    return ring[signs.index(sign) :] if sign in signs else ring


def short(sign: bytes) -> str:
    """Return the start of an Ed25519 key, which names it in messages when it has no comment."""
    return base64.b64encode(sign[:9]).decode()


def generate(comment: str) -> tuple[bytes, SecretKey]:
    """Return a new random seed (32 octets) and its key."""
    seed = os.urandom(32)
    return seed, SecretKey(seed, comment)


# Key files


def secret_line(seed: bytes, comment: str, passphrase: bytes | None = None) -> str:
    """Return the line of a secret key file, without its line end; locked if there is a passphrase."""
    if passphrase is None:
        return _line(SECRET, _checked(seed), comment)
    from nacl.pwhash import argon2id
    from nacl.secret import SecretBox

    lock = LOCK.pack(argon2id.OPSLIMIT_MODERATE, argon2id.MEMLIMIT_MODERATE, os.urandom(16))
    return _line(LOCKED, lock + bytes(SecretBox(_argon2id(lock, passphrase)).encrypt(seed)), comment)


def read_public(path: str) -> PublicKey:
    """Read a public key file. Raises NoInput or BadConfig."""
    kind, data, comment = _read(path)
    if kind in (SECRET, LOCKED):
        raise BadConfig(f"{path}: a secret key where the public one (.pub) belongs")
    return _public(path, kind, data, comment)


def _public(path: str, kind: str, data: bytes, comment: str) -> PublicKey:
    halves = _unchecked(data)
    if kind != PUBLIC or halves is None or len(halves) != 64:
        raise BadConfig(f"{path}: not a public key of cspool, or damaged")
    return PublicKey(halves[:32], halves[32:], comment)


def read_secret(path: str, passphrase: Callable[[str], bytes]) -> SecretKey:
    """Read the newest key of a secret key file. Raises as `read_ring`."""
    kind, data, comment = _read(path, private=True)
    return _secret(path, kind, data, comment, passphrase)


def read_ring(path: str, passphrase: Callable[[str], bytes]) -> list[SecretKey]:
    """Return the keys of a secret key file, the newest first; if they are locked, `passphrase(path)` opens them all.

    Raises NoInput when it cannot be read; BadConfig when a line is not a secret
    key, users other than its owner can read it, or the passphrase is wrong.
    """
    lines = _octets(path, private=True).splitlines()
    return [_secret(path, *_words(line), passphrase) for line in lines or [b""]]


def ring_with(path: str, new: str, passphrase: Callable[[str], bytes]) -> bytes:
    """Return the key file at `path` with the keys of the file `new` as the newest. Raises as `read_ring`.

    Raises BadConfig for a key that is there as an old one: the order of a ring
    is that in which its keys became the user's.
    """
    newest = {key.public.sign for key in read_ring(new, passphrase)}
    old = _octets(path, private=True).splitlines()
    signs = [_secret(path, *_words(line), passphrase).public.sign for line in old]
    if newest & set(signs[1:]):
        raise BadConfig(f"{new}: an old key of the user: make a new one (cspool-keygen)")
    kept = [line for line, sign in zip(old, signs, strict=True) if sign not in newest]
    return b"".join(line + b"\n" for line in _octets(new, private=True).splitlines() + kept)


def _secret(path: str, kind: str, data: bytes, comment: str, passphrase: Callable[[str], bytes]) -> SecretKey:
    seed = _unlock(path, data, passphrase) if kind == LOCKED else _unchecked(data) if kind == SECRET else None
    if seed is None or len(seed) != 32:
        raise BadConfig(f"{path}: not a secret key of cspool, or damaged")
    return SecretKey(seed, comment)


def is_locked(path: str) -> bool:
    """Return whether a secret key file is locked with a passphrase. Raises NoInput or BadConfig."""
    return _read(path, private=True)[0] == LOCKED


def _unlock(path: str, data: bytes, passphrase: Callable[[str], bytes]) -> bytes | None:
    from nacl.exceptions import CryptoError
    from nacl.secret import SecretBox

    lock, sealed = data[: LOCK.size], data[LOCK.size :]
    if len(sealed) != SecretBox.NONCE_SIZE + SecretBox.MACBYTES + 32:
        return None
    try:
        box = SecretBox(_argon2id(lock, passphrase(path)))
    except ValueError:
        return None
    try:
        return bytes(box.decrypt(sealed))
    except CryptoError:
        raise BadConfig(f"{path}: wrong passphrase") from None


def _argon2id(lock: bytes, passphrase: bytes) -> bytes:
    """Derive a key from a passphrase. Raises ValueError for a damaged lock, and MemoryError."""
    from nacl.exceptions import CryptoError
    from nacl.pwhash import argon2id

    opslimit, memlimit, salt = LOCK.unpack(lock)
    if opslimit > OPSLIMIT_MAX or memlimit > MEMLIMIT_MAX:
        raise ValueError("a lock that takes too long, or too much memory")
    try:
        return argon2id.kdf(32, passphrase, salt, opslimit, memlimit)
    except CryptoError as error:
        if isinstance(error, ValueError):
            raise
        raise MemoryError from None  # libsodium does not say why it failed


def _read(path: str, private: bool = False) -> tuple[str, bytes, str]:
    """Return the first word, the second decoded from base64, and the rest of a key file."""
    return _words((_octets(path, private).splitlines() or [b""])[0])


def _octets(path: str, private: bool) -> bytes:
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            octets = file.read(FILE_MAX + 1)
    except OSError as error:
        raise NoInput(f"{path}: {reason(error)}") from None
    if len(octets) > FILE_MAX:
        raise BadConfig(f"{path}: not a key of cspool: longer than {FILE_MAX} octets")
    if private and stat.S_ISREG(mode) and mode & 0o077:
        raise BadConfig(f"{path}: readable by others than its owner: chmod 600 {path}")
    return octets


def _words(octets: bytes) -> tuple[str, bytes, str]:
    words = [*octets.decode("utf-8", "replace").split(None, 2), "", "", ""]
    try:
        data = base64.b64decode(words[1], validate=True)
        if base64.b64encode(data).decode() != words[1]:
            data = b""  # these octets, but not their only encoding: still a typo
    except (binascii.Error, ValueError):
        data = b""
    return words[0], data, words[2].strip()


def _line(kind: str, data: bytes, comment: str) -> str:
    return f"{kind} {base64.b64encode(data).decode()} {comment}".rstrip()


def _checked(data: bytes) -> bytes:
    return data + hashlib.blake2b(data, digest_size=4).digest()


def _unchecked(data: bytes) -> bytes | None:
    return data[:-4] if _checked(data[:-4]) == data else None


# Passwords for IMAP


def hash_password(password: bytes) -> str:
    """Return the argon2id hash of a password in libsodium's text form."""
    from nacl.pwhash import argon2id

    return argon2id.str(password, argon2id.OPSLIMIT_INTERACTIVE, argon2id.MEMLIMIT_INTERACTIVE).decode()


def check_password(hashed: str, password: bytes) -> bool:
    """Return whether `hashed` is the argon2id hash of `password`."""
    from nacl.exceptions import CryptoError
    from nacl.pwhash import argon2id

    try:
        return argon2id.verify(hashed.encode(), password)
    except (CryptoError, ValueError):
        return False
