"""The errors, each with the exit code that a mail server or a script sees.

The library raises them; only a tool prints them and exits (see tool.py). The
text follows the tool's name on standard error: object, reason, lower case, no
full stop, and never a key or any part of a message. The codes are those of
sysexits(3); DIAGNOSTICS in cspool(7) explains them.
"""

import os


class Failure(Exception):
    """Any error that a tool reports in one line. `code` is its exit code."""

    code = os.EX_SOFTWARE


class UsageError(Failure):
    """The command line makes no sense."""

    code = os.EX_USAGE


class DataError(Failure):
    """The input is bad, and will fail again."""

    code = os.EX_DATAERR


class NoInput(Failure):
    """A file is missing or cannot be read."""

    code = os.EX_NOINPUT


class TooOld(Failure):
    """The data is from a newer cspool than this one."""

    code = os.EX_UNAVAILABLE


class CannotCreate(Failure):
    """A file exists already, or cannot be created."""

    code = os.EX_CANTCREAT


class TryAgain(Failure):
    """Nothing was done or lost, and a later try may succeed."""

    code = os.EX_TEMPFAIL


class OverQuota(TryAgain):
    """The log would grow beyond its quota, which the operator can raise."""


class Contradiction(Failure):
    """The log contradicts what this client has seen: promise 6 of cspool(7)."""

    code = os.EX_PROTOCOL


class CheckpointDamaged(Contradiction):
    """A record of the checkpoint that the head names is missing, or is not one: the log may be sound without it."""


class NotAllowed(Failure):
    """The tool, or the system, does not permit this."""

    code = os.EX_NOPERM


class BadConfig(Failure):
    """A key or a value in the home cannot be used."""

    code = os.EX_CONFIG


def reason(error: Exception) -> str:
    """Return the system's text for an error as our messages have it: in lower case, without the file name."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
