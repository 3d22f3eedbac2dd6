"""What each token allows over HTTP: the file `tokens` of cspool-httpd(8).

A line has a spool, rights separated by commas, and the BLAKE2b-256 of a token
in hex. Tokens are random and long, so a plain hash is as good as a slow one:
a reader of the file cannot find the tokens.
"""

import fcntl
import hashlib
import hmac
import os
import secrets
import threading

from .. import disk

RIGHTS = {"append", "fetch"}


def add(path: str, spool: str, rights: str) -> str:
    """Return a new token, after its line has been added to the file at `path` and synced. Raises OSError."""
    token = secrets.token_urlsafe(32)
    with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600), "rb+", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        line = f"{spool} {rights} {_digest(token.encode()).hex()}\n".encode()
        # After a crash the last line may lack its end. It is not a token then.
        text = file.read()
        file.write(line if text.endswith(b"\n") or not text else b"\n" + line)
        disk.sync(file.fileno(), path)
    return token


class Tokens:
    """The file at `path`, read again when it has changed. A line that is not understood allows nothing."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._version: tuple[int, ...] = ()
        self._digests: dict[str, list[tuple[set[str], bytes]]] = {}
        self.in_use: dict[tuple[str, bytes], threading.Semaphore] = {}  # by spool and token: httpd.py

    def rights(self, spool: str, token: bytes) -> set[str]:
        """Return the RIGHTS that a token gives for a spool. Raises OSError."""
        self._read()
        digest, found = _digest(token), set[str]()
        for rights, known in self._digests.get(spool, []):
            if hmac.compare_digest(known, digest):  # in constant time
                found |= rights
        return found

    def _read(self) -> None:
        version = disk.version(self._path)
        if version != self._version:
            self._digests = _read(self._path) if version else {}
            self._version = version


def _read(path: str) -> dict[str, list[tuple[set[str], bytes]]]:
    """Return the rights and digests of the tokens for each spool. Raises OSError."""
    found: dict[str, list[tuple[set[str], bytes]]] = {}
    with open(path, encoding="ascii", errors="replace") as file:
        for words in map(str.split, file):
            if len(words) == 3:
                try:
                    row = (RIGHTS.intersection(words[1].split(",")), bytes.fromhex(words[2]))
                except ValueError:
                    continue
                found.setdefault(words[0], []).append(row)
    return found


def _digest(token: bytes) -> bytes:
    return hashlib.blake2b(token, digest_size=32).digest()
