"""Files that are on disk, names included, when a call returns."""

import errno
import os
import stat
from typing import BinaryIO

from .errors import CannotCreate, reason


def create(path: str, text: bytes, mode: int) -> None:
    """Make a file with these octets. Raises CannotCreate when there is something at `path`, or no way to it."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except OSError as error:
        raise CannotCreate(f"{path}: {reason(error)}") from None
    try:
        _write(fd, path, text)
        sync_directory(os.path.dirname(path) or ".")
    except BaseException:
        os.unlink(path)
        raise


def replace(path: str, text: bytes) -> None:
    """Replace a file as a whole, so that it is the old or the new one after a power cut."""
    new = path + ".new"
    _write(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666), new, text)
    os.rename(new, path)
    sync_directory(os.path.dirname(path) or ".")


def replace_private(path: str, text: bytes) -> None:
    """Replace a file that is for its owner only, as `replace` does."""
    new = path + ".new"
    if os.path.lexists(new):
        os.unlink(new)
    create(new, text, 0o600)
    os.rename(new, path)
    sync_directory(os.path.dirname(path) or ".")


def open_plain(path: str, dir_fd: int | None = None) -> BinaryIO:
    """Open a plain file to read; no link is followed, and nothing is waited for. Raises OSError."""
    if not stat.S_ISREG(os.stat(path, dir_fd=dir_fd, follow_symlinks=False).st_mode):
        raise OSError(errno.ELOOP, "not a plain file", path)
    # Lest it has become something else meanwhile.
    return open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=dir_fd), "rb")


def write(fd: int, octets: bytes, path: str) -> None:
    """Write all of it to a file; errors name `path`."""
    view = memoryview(octets)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as error:
        error.filename = path
        raise


def sync(fd: int, path: str) -> None:
    """Make sure that what is in an open file is on disk; errors name `path`."""
    try:
        os.fdatasync(fd)
    except OSError as error:
        error.filename = path
        raise


def _write(fd: int, path: str, text: bytes) -> None:
    """Write a whole file, sync and close it."""
    try:
        write(fd, text, path)
        sync(fd, path)
    finally:
        os.close(fd)


def sync_file(path: str) -> None:
    """Make sure that what is in a file is on disk."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)


def sync_directory(directory: str) -> None:
    """Make sure that the names in a directory are on disk."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
