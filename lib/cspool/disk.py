"""Writing files so that they and their names are on disk when the call returns."""

import errno
import os
import stat
import sys
from contextlib import suppress
from typing import BinaryIO

from .errors import CannotCreate, reason


def create(path: str, text: bytes, mode: int, like: str | None = None) -> None:
    """Create a file with these octets; `like` is as for `replace`.

    Raises CannotCreate when `path` exists or cannot be created.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except OSError as error:
        raise CannotCreate(f"{path}: {reason(error)}") from None
    try:
        _write(fd, path, text, like)
        sync_directory(os.path.dirname(path) or ".")
    except BaseException:
        os.unlink(path)
        raise


def replace(path: str, text: bytes, like: str | None = None) -> None:
    """Replace a file atomically: after a power cut it is either the old or the new one.

    The new one has mode, group and, if we are root, owner of the file `like`:
    they must not depend on who writes, or on the umask.
    """
    new = path + ".new"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    _write(fd, new, text, like)
    os.rename(new, path)
    sync_directory(os.path.dirname(path) or ".")


def imitate(fd: int, like: str) -> None:
    """Give an open file that we own the mode, the group and, if we are root, the owner of the file `like`."""
    model, own = os.stat(like), os.fstat(fd)
    if os.geteuid() == 0:
        os.fchown(fd, model.st_uid, model.st_gid)
    elif own.st_gid != model.st_gid:
        with suppress(PermissionError):  # a group that we are not in
            os.fchown(fd, -1, model.st_gid)
    if own.st_uid in (os.geteuid(), 0):
        os.fchmod(fd, model.st_mode & 0o666)


def replace_private(path: str, text: bytes) -> None:
    """Replace a file as `replace` does, with one that only its owner can read."""
    new = path + ".new"
    if os.path.lexists(new):
        os.unlink(new)
    create(new, text, 0o600)
    os.rename(new, path)
    sync_directory(os.path.dirname(path) or ".")


def open_plain(path: str, dir_fd: int | None = None) -> BinaryIO:
    """Open a plain file for reading, without following a link and without blocking. Raises OSError."""
    if not stat.S_ISREG(os.stat(path, dir_fd=dir_fd, follow_symlinks=False).st_mode):
        raise OSError(errno.ELOOP, "not a plain file", path)
    # The flags guard against a file that has been replaced since.
    return open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=dir_fd), "rb")


def version(path: str) -> tuple[int, ...]:
    """Return what changes when a file is replaced or grows: time in ns, size, inode; () if there is none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return ()
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def write(fd: int, octets: bytes, path: str) -> None:
    """Write all of these octets to an open file; an OSError names `path`."""
    view = memoryview(octets)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as error:
        error.filename = path
        raise


def sync(fd: int, path: str) -> None:
    """Sync an open file to disk; an OSError names `path`."""
    try:
        _sync(fd)
    except OSError as error:
        error.filename = path
        raise


def _write(fd: int, path: str, text: bytes, like: str | None = None) -> None:
    """Write a whole file, sync and close it."""
    try:
        if like:
            imitate(fd, like)
        write(fd, text, path)
        sync(fd, path)
    finally:
        os.close(fd)


def sync_file(path: str) -> None:
    """Sync a file to disk. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        _sync(fd)
    finally:
        os.close(fd)


def _sync(fd: int) -> None:
    if sys.platform == "darwin":
        _full_sync(fd)
    else:
        getattr(os, "fdatasync", os.fsync)(fd)  # not all systems have the first


def _full_sync(fd: int) -> None:
    """Sync to the disk itself: on macOS, fsync(2) leaves the octets in the cache of the disk."""
    import fcntl

    try:
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # type: ignore[attr-defined]
    except OSError:  # a file system that has no such thing; or the disk is broken, and then this fails too
        os.fsync(fd)


def sync_directory(directory: str) -> None:
    """Sync the names in a directory to disk. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
