"""Guessing passwords takes longer with each try: the file `imap.failures` of cspool-home(5).

A line of it has a network, the number of wrong passwords that came from there,
and the time of the last, in seconds since 1970. All processes share the file.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from ..errors import TryAgain

if TYPE_CHECKING:
    from ..listen import Address

COUNT_MAX = 5  # failures that count: after the nth there is a delay of 2 to the nth seconds
DECAY = 60  # seconds without a failure in which one is forgotten
NETWORKS_MAX = 1000  # in the file; the one whose last failure is oldest makes room
PATIENCE = 60  # seconds that a login waits for its turn

T = TypeVar("T")


def take_turn(
    path: str, peer: "Address | None", check: Callable[[], T | None], sleep: Callable[[float], None]
) -> T | None:
    """Return what `check` returns, None for a wrong password, once the delay of the peer's network has passed.

    One password is checked at a time: a hash takes much memory. If the file
    cannot be written, there is no delay, for a full disk must not keep the user
    from the mail. Raises TryAgain if others of this network keep us waiting.
    """
    from ..listen import network  # most clients have not to log in

    stranger = network(peer)
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with _locked(path) as fd:
                failures = _read(fd)
                count, last = failures.get(stranger, (0, 0))
                passed = time.time() - last  # less than 0 if the clock was wrong
                count = max(0, count - int(passed // DECAY))
                wait = 2**count - passed if count and passed >= 0 else 0.0
                if wait <= 0:
                    result = check()
                    failures.pop(stranger, None)  # what comes back is the newest
                    if result is None:
                        failures[stranger] = (min(count + 1, COUNT_MAX), int(time.time()))
                    if result is None or count:
                        _write(fd, failures)
                    return result
        except OSError:
            return check()
        if time.monotonic() + wait > end:
            raise TryAgain("too many wrong passwords from this address: try again in a minute")
        sleep(wait)


@contextmanager
def _locked(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def _read(fd: int) -> dict[str, tuple[int, int]]:
    """Return the failures and the time of the last for each network, the oldest first; a line that is none is left."""
    found = {}
    for line in os.pread(fd, 1 << 20, 0).decode("ascii", "replace").splitlines():
        words = line.split()
        if len(words) == 3 and words[1].isdigit() and words[2].isdigit():
            count, last = min(int(words[1][:9]), COUNT_MAX), int(words[2][:12])
            if time.time() - last < count * DECAY:
                found[words[0]] = (count, last)
    return found


def _write(fd: int, failures: dict[str, tuple[int, int]]) -> None:
    """Write the file in place, without a sync: after a crash guessing may begin anew."""
    rows = [f"{network} {count} {last}\n" for network, (count, last) in failures.items()]
    text = "".join(rows[-NETWORKS_MAX:]).encode()
    os.pwrite(fd, text, 0)
    os.ftruncate(fd, len(text))
