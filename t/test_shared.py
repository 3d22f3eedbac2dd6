"""Two mounts of one directory: coherent ones hold, and each kind of cache that loses mail is found out."""

import errno
import fcntl
import os

import pytest
from cspool.errors import CannotCreate, DataError, TryAgain
from cspool.spool import shared
from cspool.spool.files import SpoolDirectory


@pytest.fixture
def mounts(tmp_path):
    """Return two paths of one directory."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").symlink_to("one")
    return str(tmp_path / "one"), str(tmp_path / "two")


def test_one_file_system_holds(mounts):
    trial = shared.try_out(*mounts, appends=20)
    assert trial == (40, 0, 0, True) and trial.holds
    assert not os.listdir(mounts[0])


def test_two_directories(tmp_path, mounts):
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="not the same directory"):
        shared.try_out(mounts[0], str(tmp_path / "other"))
    assert not os.listdir(mounts[0])


def test_where_nothing_can_be_made(tmp_path):
    with pytest.raises(CannotCreate):
        shared.try_out(str(tmp_path / "none"), str(tmp_path))


def test_appends_that_fail_prove_nothing(mounts, monkeypatch):
    """A full disk is no reason to say that the two are not one file system, and none to say that they are."""
    append = shared.Spool.append

    def full(self, records):
        if records[0][-1:] in b"02468":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return append(self, records)

    monkeypatch.setattr(shared.Spool, "append", full)
    with pytest.raises(TryAgain, match="20 of 40 appends failed"):
        shared.try_out(*mounts, appends=20)
    assert not os.listdir(mounts[0])


def test_names_that_are_remembered_lose_mail(mounts, monkeypatch):
    """The second mount remembers which file `head` is, for three looks at it."""
    read, kept = SpoolDirectory.read, {}

    def remembers(self, name, wait=0):
        if name != "head" or not self.where.startswith(mounts[1]):
            return read(self, name, wait)
        octets, looks = kept.get(self.where, (b"", 0))
        kept[self.where] = (octets, looks - 1) if looks else (read(self, name, wait), 3)
        return kept[self.where][0]

    monkeypatch.setattr(SpoolDirectory, "read", remembers)
    trial = shared.try_out(*mounts, appends=20)
    assert trial.lost > 0 and trial.late > 0 and not trial.holds


def test_locks_of_its_own(mounts, monkeypatch):
    """Each mount locks for itself, as NFS does with nolock."""
    flock = fcntl.flock

    def locks(fd, operation):
        if mounts[0] not in os.readlink(f"/proc/self/fd/{fd}") or operation & fcntl.LOCK_NB == 0:
            return flock(fd, operation)
        return None

    monkeypatch.setattr(fcntl, "flock", locks)
    assert not shared.try_out(*mounts, appends=4).holds
