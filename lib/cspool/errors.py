"""What can go wrong, each with the exit code a mail server or a script will see.

Library code raises these; only a tool prints and exits (see tool.py). The
text is what follows the tool's name on standard error: object, reason, lower
case, no full stop, and never a key or anything from a message. The codes are
those of sysexits(3); cspool(7) DIAGNOSTICS lists them for people.
"""

import os


class Failure(Exception):
    """Any error that a tool reports in one line. `code` is its exit code."""

    code = os.EX_SOFTWARE


class UsageError(Failure):
    """The command line makes no sense."""

    code = os.EX_USAGE


class DataError(Failure):
    """Input that is not what it should be; the same input will fail again."""

    code = os.EX_DATAERR


class NoInput(Failure):
    """A file that must be there is not, or cannot be read."""

    code = os.EX_NOINPUT


class TooOld(Failure):
    """The data is from a newer cspool than this one."""

    code = os.EX_UNAVAILABLE


class CannotCreate(Failure):
    """A file that was to be made cannot be, or is there already."""

    code = os.EX_CANTCREAT


class TryAgain(Failure):
    """Nothing was done or lost, and a later try may succeed."""

    code = os.EX_TEMPFAIL


class OverQuota(TryAgain):
    """The spool is as long as it may be; somebody may mend that."""


class Contradiction(Failure):
    """The log contradicts what this client has seen: promise 6 of cspool(7)."""

    code = os.EX_PROTOCOL


class NotAllowed(Failure):
    """The file or the peer does not let us."""

    code = os.EX_NOPERM


class BadConfig(Failure):
    """A key or a value in the home cannot be used."""

    code = os.EX_CONFIG


def reason(error: Exception) -> str:
    """Return what the system says of an error, as it stands in a line of ours: in lower case, without the file."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
