"""Keys, and all that is done with libsodium: no other module touches PyNaCl.

A key is a 32-octet seed. Its X25519 half opens what was sealed to it, its
Ed25519 half signs; both are derived from the seed with BLAKE2b under two
`person` strings. Key files are one line of text, defined in cspool-home(5):

    cspool-secret-key-1 <base64 of seed (32) | check (4)> comment
    cspool-locked-key-1 <base64 of opslimit u32 | memlimit u32 | salt (16) | secret box (72)> comment
    cspool-key-1 <base64 of X25519 (32) | Ed25519 (32) | check (4)> comment

The check is the BLAKE2b-32 of what stands before it: mail sealed to a
mistyped key would be lost for ever.

PyNaCl takes longer to import than Python to start, so each function imports
what it needs, and of that the functions of libsodium themselves (nacl.bindings).
"""

import base64
import binascii
import hashlib
import os
import stat
import struct
from collections.abc import Callable
from typing import NamedTuple

from .errors import BadConfig, DataError, NoInput, reason

PUBLIC = "cspool-key-1"
SECRET = "cspool-secret-key-1"
LOCKED = "cspool-locked-key-1"
LINE_MAX = 65536  # octets read of a key file

LOCK = struct.Struct(">II16s")  # argon2id opslimit, memlimit in octets, salt
MEMLIMIT_MAX = 1 << 30  # a key file cannot make us allocate more


class PublicKey(NamedTuple):
    """Both public halves of a key: `box` to seal to, `sign` to know its signatures by."""

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
        """Return what a person knows this key by: the comment, or the start of the key."""
        return self.comment or short(self.sign)


class SecretKey:
    """A secret key: opens and signs. Python cannot wipe it from memory afterwards."""

    def __init__(self, seed: bytes, comment: str = "") -> None:
        from nacl import bindings

        self._box = hashlib.blake2b(seed, digest_size=32, person=b"cspool x25519").digest()
        signing = hashlib.blake2b(seed, digest_size=32, person=b"cspool ed25519").digest()
        sign, self._sign = bindings.crypto_sign_seed_keypair(signing)
        self.public = PublicKey(bindings.crypto_scalarmult_base(self._box), sign, comment)

    def open(self, sealed: bytes) -> bytes:
        """Return what was sealed to this key. Raises DataError when it was not."""
        from nacl import bindings, exceptions

        try:
            return bytes(bindings.crypto_box_seal_open(sealed, self.public.box, self._box))
        except (exceptions.CryptoError, ValueError, TypeError):
            raise DataError("does not open with this key") from None

    def sign(self, message: bytes) -> bytes:
        """Return the Ed25519 signature (64 octets) of `message`."""
        from nacl import bindings

        return bytes(bindings.crypto_sign(message, self._sign)[:64])


def verify(sign: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether `signature` over `message` was made with the Ed25519 key `sign`."""
    from nacl import bindings, exceptions

    if len(sign) != 32 or len(signature) != 64:
        return False  # libsodium does not look
    try:
        bindings.crypto_sign_open(signature + message, sign)
    except (exceptions.CryptoError, ValueError, TypeError):
        return False
    return True


def short(sign: bytes) -> str:
    """Return a short text for an Ed25519 key that nobody has named, for messages."""
    return base64.b64encode(sign[:9]).decode()


def generate(comment: str) -> tuple[bytes, SecretKey]:
    """Return a new random seed and the key made of it."""
    seed = os.urandom(32)
    return seed, SecretKey(seed, comment)


# Key files


def secret_line(seed: bytes, comment: str, passphrase: bytes | None = None) -> str:
    """Return the line of a secret key file, locked with the passphrase if one is given."""
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
    """Read a secret key file; `passphrase` is asked with `path` when it is locked.

    Raises NoInput when it cannot be read, BadConfig when it is none, when
    others than its owner could read it or when the passphrase is wrong.
    """
    return _secret(path, *_read(path, private=True), passphrase)


def read_secrets(path: str, passphrase: Callable[[str], bytes]) -> list[SecretKey]:
    """Read a file with a secret key in each line. Raises as `read_secret`."""
    lines = _octets(path, private=True).splitlines()
    return [_secret(path, *_words(line), passphrase) for line in lines]


def _secret(path: str, kind: str, data: bytes, comment: str, passphrase: Callable[[str], bytes]) -> SecretKey:
    seed = _unlock(path, data, passphrase) if kind == LOCKED else _unchecked(data) if kind == SECRET else None
    if seed is None or len(seed) != 32:
        raise BadConfig(f"{path}: not a secret key of cspool, or damaged")
    return SecretKey(seed, comment)


def is_locked(path: str) -> bool:
    """Tell whether a secret key file is locked with a passphrase. Raises NoInput or BadConfig."""
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
    """Return the key that a passphrase makes. Raises ValueError for a damaged lock, and MemoryError."""
    from nacl.exceptions import CryptoError
    from nacl.pwhash import argon2id

    opslimit, memlimit, salt = LOCK.unpack(lock)
    try:
        return argon2id.kdf(32, passphrase, salt, opslimit, min(memlimit, MEMLIMIT_MAX))
    except CryptoError as error:
        if isinstance(error, ValueError):
            raise
        raise MemoryError from None  # libsodium says no more than that it failed


def _read(path: str, private: bool = False) -> tuple[str, bytes, str]:
    """Return the first word, the decoded second and the rest of a key file."""
    return _words(_octets(path, private))


def _octets(path: str, private: bool) -> bytes:
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            octets = file.read(LINE_MAX)
    except OSError as error:
        raise NoInput(f"{path}: {reason(error)}") from None
    if private and stat.S_ISREG(mode) and mode & 0o077:
        raise BadConfig(f"{path}: readable by others than its owner: chmod 600 {path}")
    return octets


def _words(octets: bytes) -> tuple[str, bytes, str]:
    words = [*octets.decode("utf-8", "replace").split(None, 2), "", "", ""]
    try:
        data = base64.b64decode(words[1], validate=True)
        if base64.b64encode(data).decode() != words[1]:
            data = b""  # another text for the same octets: a typo, all the same
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
    """Return an argon2id hash of a password in libsodium's text form."""
    from nacl.pwhash import argon2id

    return argon2id.str(password, argon2id.OPSLIMIT_INTERACTIVE, argon2id.MEMLIMIT_INTERACTIVE).decode()


def check_password(hashed: str, password: bytes) -> bool:
    """Tell whether `password` is the one that was hashed. Raises BadConfig for a damaged hash."""
    from nacl.exceptions import CryptoError
    from nacl.pwhash import argon2id

    if not hashed.startswith("$argon2id$"):
        raise BadConfig("imap.passwd: no argon2id hash in it: cspool-imapd --set-password")
    try:
        return argon2id.verify(hashed.encode(), password)
    except (CryptoError, ValueError):
        return False
