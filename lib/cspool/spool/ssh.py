"""Running the same tool on the spool host over ssh, for a spool named [user@]host:path.

ssh is the user's own, with the user's configuration, keys and agent.
"""

import os

from .. import tool
from ..errors import TryAgain, UsageError, reason

# The exit statuses of our tools. Any other status means that ssh or the network
# failed (255 is ssh's own, 127 that cspool is not installed there, 128 and up
# are signals). A mail server must keep the mail then.
SYSEXITS = range(os.EX_USAGE, os.EX_CONFIG + 1)


SAID_MAX = 10_000  # octets that are read of the standard error of ssh
# Patterns in the messages of ssh for common troubles, and our messages for them.
TROUBLE = {
    "could not resolve hostname": "no such host, or no network",
    "host key verification failed": "its host key is not known, or has changed: `ssh` by hand shows which",
    "permission denied": "it refuses the key: see authorized_keys there",
    "connection refused|timed out|no route to host|unreachable": "cannot be reached",
}

# A network can fail silently: notice it after 45 seconds.
ALIVE = ["-oServerAliveInterval=15", "-oServerAliveCountMax=3"]


def run(name: str, options: list[str], spool: str, stays: bool = False) -> int:
    """Run the tool `name` on the spool host with our standard input and output; return its status.

    With `stays` it is ended when the reader of standard output has gone, and
    BrokenPipeError is raised. Raises UsageError for a bad `spool`, and TryAgain
    when ssh or the network fails.
    """
    import shlex
    import signal
    import tempfile

    host, _, path = spool.partition(":")
    if not host or host.startswith("-"):
        raise UsageError(f"{spool}: no host before the colon")
    if path.startswith("-"):
        raise UsageError(f"{spool}: a path that looks like an option")
    there = [name, *options] + ([path] if path else [])
    # Its standard error is kept, so that the messages of ssh become one line of ours.
    with tempfile.TemporaryFile() as said:
        try:
            command = ["ssh", *ALIVE, "--", host, shlex.join(there)]
            child = os.posix_spawnp("ssh", command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, said.fileno(), 2)])
        except OSError as error:
            raise TryAgain(f"ssh: {reason(error)}") from None
        # Pass SIGTERM on to ssh, which ends the tool on the spool host.
        signal.signal(signal.SIGTERM, lambda *_: _end_with(child))
        ended = stays and _ended_with_reader(child)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # before waitpid, after which its pid can be another process
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        text = said.read(SAID_MAX).decode(errors="replace")
    if ended:
        raise BrokenPipeError
    if status == 255:
        raise TryAgain(f"{host}: {_why(text)}")
    if status == 127:
        raise TryAgain(f"{host}: {name} is not installed there, or not in PATH")
    for line in text.splitlines():  # from the tool on the spool host
        tool.say(line)
    if status == 0 or status in SYSEXITS:
        return status
    raise TryAgain(f"{host}: ssh ended with status {status}")


def _end_with(child: int) -> None:
    """End a child and ourselves by SIGTERM, without a message about ssh."""
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for pid in (child, os.getpid()):
        os.kill(pid, signal.SIGTERM)


def _why(text: str) -> str:
    """Return why ssh failed: our message for a common trouble, or else its own last line."""
    import re

    for part, words in TROUBLE.items():
        if re.search(part, text, re.IGNORECASE):
            return words
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"ssh failed: {lines[-1][:200]}" if lines else "ssh failed"


def _ended_with_reader(child: int) -> bool:
    """Wait until a child has ended. If the reader of its output goes first, end the child and return True."""
    while not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if tool.nobody_reads(0.5):
            import signal

            os.kill(child, signal.SIGTERM)
            return True
    return False
