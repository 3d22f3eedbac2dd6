"""Trying whether two mounts of one directory are one coherent file system: for cspool-fsck --shared.

An append relies on a rename that all processes see at once, and on a lock that
all of them respect. Where hosts cache names or attributes, or lock for
themselves, an append that was acknowledged is lost, without an error. So this
appends to a scratch spool, by turns and at once, and counts.
"""

import fcntl
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from .. import frame
from ..errors import CannotCreate, DataError, Failure, TryAgain, reason
from . import append
from .append import Spool

APPENDS = 200  # by turns, and as many at once


class Trial(NamedTuple):
    """What has come of the appends."""

    appended: int  # records whose append was acknowledged
    lost: int  # of those, by the end
    late: int  # of those by turns, not seen at the other mount when the append had returned
    locks: bool  # a lock that is held at one mount is respected at the other

    @property
    def holds(self) -> bool:
        """Whether spools there may be used at both mounts."""
        return self.locks and not self.lost and not self.late


def try_out(one: str, two: str, appends: int = APPENDS) -> Trial:
    """Append to a scratch spool in the directory `one`, which is the directory `two` by another mount.

    The scratch spool is removed. Raises CannotCreate if it cannot be made,
    DataError if it is not seen in `two`, and TryAgain if none of the appends was
    lost, but some failed: on a full disk, say.
    """
    with _scratch(one) as name:
        paths = [os.path.join(one, name), os.path.join(two, name)]
        if not os.path.exists(os.path.join(paths[1], "format")):
            raise DataError(f"{two}: what is made in {one} is not seen here: not the same directory")
        locks = _locks(*paths)
        appended, late = _append_by_turns(paths, appends)
        appended |= _append_at_once(paths, appends)
        lost = max(len(appended - _read(path)) for path in paths)
        trial, failed = Trial(len(appended), lost, late, locks), 2 * appends - len(appended)
        if trial.holds and failed:
            raise TryAgain(f"{one}: {failed} of {2 * appends} appends failed, and prove nothing: is the disk full?")
        return trial


@contextmanager
def _scratch(path: str) -> Iterator[str]:
    """Make an empty spool in a directory, and remove it after the block; the value is its name."""
    name = f"cspool-shared.{os.getpid()}"
    try:
        append.create(os.path.join(path, name))
    except OSError as error:
        raise CannotCreate(f"{path}: {reason(error)}") from None
    try:
        yield name
    finally:
        shutil.rmtree(os.path.join(path, name), ignore_errors=True)


def _locks(path: str, other: str) -> bool:
    with append.locked(path):
        fd = os.open(os.path.join(other, "lock"), os.O_WRONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
    return False


def _append_by_turns(paths: list[str], appends: int) -> tuple[set[bytes], int]:
    """Append records at one path and the other; return those acknowledged, and how many were not seen at once."""
    appended, late = set(), 0
    for number in range(appends):
        record = b"by turns %d" % number
        with suppress(Failure, OSError):
            Spool(paths[number % 2]).append([record])
            appended.add(record)
            late += record not in _read(paths[1 - number % 2])
    return appended, late


def _append_at_once(paths: list[str], appends: int) -> set[bytes]:
    """Append records at both paths by two processes; return those acknowledged."""
    output, input_ = os.pipe()
    children = []
    for path in paths:
        child = os.fork()
        if not child:
            try:
                for number in range(appends // 2):
                    record = b"at once %d %d" % (os.getpid(), number)
                    with suppress(Failure, OSError):
                        Spool(path).append([record])
                        os.write(input_, record + b"\n")
            finally:
                os._exit(os.EX_OK)  # also when it is interrupted: what is behind this is the parent's
        children.append(child)
    os.close(input_)
    with open(output, "rb") as lines:
        appended = set(lines.read().splitlines())
    for child in children:
        os.waitpid(child, 0)
    return appended


def _read(path: str) -> set[bytes]:
    """Return the records of the spool, as a reader at this path finds them, as far as the chain goes."""
    found = set()
    with suppress(Failure, OSError):
        reader = Spool(path).reader
        head, octets = reader.frames(0)
        chain = frame.first_chain(head.spool)
        stream = b"".join(octets)
        for one in frame.read(io.BytesIO(stream + frame.encode_end(reader.count))):
            if one.chain != chain:
                break
            chain = frame.chain_behind(one)
            found.add(one.record)
    return found
