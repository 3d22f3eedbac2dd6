"""The passwords of cspool-imapd, one for each device: the file `imap.passwd` of cspool-home(5)."""

import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from .. import disk, keys
from ..errors import BadConfig, NoInput, UsageError, reason
from .guesses import take_turn

if TYPE_CHECKING:
    from ..listen import Address

LINE = re.compile(r"(\S+) (\$argon2id\$\S+)\n?")
DEVICE = re.compile(r"[0-9A-Za-z._@+-]{1,64}")


class Login(NamedTuple):
    """What a client has logged in with. `record` is a line for Recent.learn."""

    device: str
    hashed: str
    record: bytes = b""


class Recent:
    """Passwords that were right, so that the slow hash is computed once for all connections of a device.

    They are only in memory, as hashes with a random key. A process that has
    checked a password sends a record to the one from which others are forked.
    """

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._logins: dict[str, Login] = {}

    def find(self, password: bytes) -> Login | None:
        """Return the login with this password, which may be out of date, or None."""
        return self._logins.get(self._digest(password))

    def login(self, password: bytes, device: str, hashed: str) -> Login:
        """Return the login of a device with this password, which is right."""
        return Login(device, hashed, f"{self._digest(password)} {device} {hashed}".encode())

    def learn(self, record: bytes) -> None:
        """Take the record of a login."""
        digest, device, hashed = record.decode().split(" ")
        for old in [known for known, login in self._logins.items() if login.device == device]:
            del self._logins[old]
        self._logins[digest] = Login(device, hashed)

    def _digest(self, password: bytes) -> str:
        return hashlib.blake2b(password, key=self._key, digest_size=32).hexdigest()


class Passwords:
    """The file at `path`, read again when it has changed, for a client at the address `peer`, or None on this machine.

    `failures` is the file of guesses.py.
    """

    def __init__(self, path: str, failures: str, peer: "Address | None" = None, recent: Recent | None = None) -> None:
        self._path = path
        self._failures = failures
        self._peer = peer
        self._recent = recent or Recent()
        self._version: tuple[int, ...] = ()
        self._hashes: dict[str, str] = {}

    def are_set(self) -> bool:
        """Return whether any device has a password. Raises BadConfig."""
        self._read()
        return bool(self._hashes)

    def log_in(self, password: bytes, sleep: Callable[[float], None]) -> Login | None:
        """Return the login with this password, or None if no device has it. It may sleep, as take_turn() does.

        Raises BadConfig, TryAgain.
        """
        return take_turn(self._failures, self._peer, lambda: self._find(password), sleep)

    def _find(self, password: bytes) -> Login | None:
        recent = self._recent.find(password)
        if recent and self.allow(recent):
            return recent
        self._read()
        for device, hashed in self._hashes.items():
            if keys.check_password(hashed, password):
                return self._recent.login(password, device, hashed)
        return None

    def allow(self, login: Login) -> bool:
        """Return whether the device of a login still has the password that it had then. Raises BadConfig."""
        self._read()
        return self._hashes.get(login.device) == login.hashed

    def _read(self) -> None:
        try:
            version = disk.version(self._path)
            if version != self._version:
                self._hashes = _read(self._path)
                self._version = version
        except OSError as error:
            raise BadConfig(f"{self._path}: {reason(error)}") from None


def set_password(path: str, device: str, password: bytes) -> None:
    """Give a device a password. Raises UsageError for a bad name, BadConfig if another device has the password."""
    if not DEVICE.fullmatch(device):
        raise UsageError(f"--device={device}: a name has letters, digits and ._@+-")
    with _locked(path):
        hashes = _read(path)
        for other, hashed in hashes.items():
            if other != device and keys.check_password(hashed, password):
                raise BadConfig(f"this is the password of {other}: each device has one of its own")
        _write(path, {**hashes, device: keys.hash_password(password)})


def forget(path: str, device: str) -> None:
    """Take the password of a device away. Raises NoInput if it has none."""
    with _locked(path):
        hashes = _read(path)
        if device not in hashes:
            known = f"; there are {', '.join(hashes)}" if hashes else ""
            raise NoInput(f"{device}: no device has this name{known}")
        del hashes[device]
        _write(path, hashes)


def _read(path: str) -> dict[str, str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = list(file)
    except FileNotFoundError:
        return {}
    found = [LINE.fullmatch(line) for line in lines]
    if None in found:
        raise BadConfig(f"{path}:{found.index(None) + 1}: not a device and an argon2id hash: remove this line")
    return {row[1]: row[2] for row in found if row}


def _write(path: str, hashes: dict[str, str]) -> None:
    """Replace the file; without any password there is none."""
    text = "".join(f"{device} {hashed}\n" for device, hashed in hashes.items())
    disk.replace_private(path, text.encode())


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """Hold a lock on the directory of the file, which itself is replaced."""
    fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
