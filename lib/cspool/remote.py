"""The same tool at the far end of ssh: for a spool named [user@]host:path.

ssh is the user's own, with the user's configuration, keys and agent.
"""

import os
import shlex

from .errors import TryAgain, UsageError

# What our tools exit with. All else that ssh returns (255 of its own, 127 for
# a far end without cspool, 128 and up for signals) is its or the network's
# trouble, and a mail server must keep the mail then.
SYSEXITS = range(os.EX_USAGE, os.EX_CONFIG + 1)


def is_remote(spool: str) -> bool:
    """Tell whether a spool is named as host:path; a path with a slash before the colon is local."""
    host, colon, _ = spool.partition(":")
    return bool(colon) and "/" not in host


def run(tool: str, options: list[str], spool: str) -> int:
    """Run `tool` on the far end's spool with our standard input and output; return its status.

    Raises TryAgain for whatever goes wrong on the way.
    """
    host, _, path = spool.partition(":")
    if not host or host.startswith("-"):
        raise UsageError(f"{spool}: no host before the colon")
    if path.startswith("-"):
        raise UsageError(f"{spool}: a path that looks like an option")
    there = [tool, *options] + ([path] if path else [])
    try:
        child = os.posix_spawnp("ssh", ["ssh", "--", host, shlex.join(there)], os.environ)
    except OSError as error:
        raise TryAgain(f"ssh: {(error.strerror or 'cannot be run').lower()}") from None
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 0 or status in SYSEXITS:
        return status
    if status == 127:
        raise TryAgain(f"{host}: {tool} is not installed there")
    raise TryAgain(f"{host}: ssh " + ("failed" if status == 255 else f"ended with status {status}"))
