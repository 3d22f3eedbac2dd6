"""Running the same tool on the spool host over ssh, for a spool named [user@]host:path.

ssh is the user's own, with the user's configuration, keys and agent.
"""

import hashlib
import os
from contextlib import suppress

from .. import tool
from ..errors import TryAgain, UsageError, reason
from .batch import Records, acknowledgement

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

# A network can fail silently, and a host can accept a connection and say nothing: options that notice it, and how
# `ssh -G` shows that the user's configuration has none.
WATCHFUL = {
    "connecttimeout none": ["-oConnectTimeout=30"],
    "serveraliveinterval 0": ["-oServerAliveInterval=15", "-oServerAliveCountMax=3"],
}
ANSWER_MAX = 10_000  # octets that are read of what the far end says to an append


def run(
    name: str, options: list[str], spool: str, reads: bool = True, stays: bool = False, until_eof: bool = False
) -> int:
    """Run the tool `name` on the spool host with our standard output, and input if it `reads`; return its status.

    With `stays` it is ended when the reader of standard output has gone, with
    `until_eof` also when the writer of standard input has gone, and
    BrokenPipeError is raised. Raises UsageError for a bad `spool`, and TryAgain
    when ssh or the network fails.
    """
    import signal
    import tempfile

    command, host = _command(name, options, spool)
    # Its standard error is kept, so that the messages of ssh become one line of ours.
    with tempfile.TemporaryFile() as said:
        try:
            files: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [(os.POSIX_SPAWN_DUP2, said.fileno(), 2)]
            if not reads:  # else ssh takes the input of a script that called us
                files.append((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0))
            child = os.posix_spawnp("ssh", command, os.environ, file_actions=files)
        except OSError as error:
            raise TryAgain(f"ssh: {reason(error)}") from None
        # Pass SIGTERM on to ssh, which ends the tool on the spool host.
        signal.signal(signal.SIGTERM, lambda *_: _end_with(child))
        ended = stays and _ended_alone(child, until_eof)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # before waitpid, after which its pid can be another process
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        text = said.read(SAID_MAX).decode(errors="replace")
    if ended:
        raise BrokenPipeError
    return _status(name, host, status, text)


def append(spool: str, records: Records) -> int:
    """Append records to the spool on the host; return the exit status of cspool-append there.

    0 only if that says that it has these records on its disk: a far end whose
    login shell or forced command ends with 0 has said nothing of the kind.
    Raises UsageError for a bad `spool`, and TryAgain.
    """
    import subprocess
    import tempfile

    command, host = _command("cspool-append", ["--ack"], spool)
    digest = hashlib.blake2b(digest_size=32)
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as answer:
        try:
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=answer, stderr=said)
        except OSError as error:
            raise TryAgain(f"ssh: {reason(error)}") from None
        assert child.stdin
        with suppress(BrokenPipeError), child.stdin as stdin:  # an ssh that has ended early says why
            for octets in records.stream():
                digest.update(octets)
                stdin.write(octets)
        status = child.wait()
        said.seek(0)
        answer.seek(0)
        code = _status("cspool-append", host, status, said.read(SAID_MAX).decode(errors="replace"))
        words = answer.read(ANSWER_MAX)
    if code == os.EX_OK and not words.endswith(acknowledgement(records.count, digest.digest())):
        line = tool.printable(words.decode(errors="replace").strip().split("\n")[0][:80])
        shown = f"only {line!r}: is a .bashrc or a forced command in the way?" if line else "nothing"
        raise TryAgain(f"{host}: it has not said that the records are on its disk, {shown}")
    return code


def _command(name: str, options: list[str], spool: str) -> tuple[list[str], str]:
    """Return the command that runs a tool on the spool host, and the host. Raises UsageError."""
    import shlex

    host, _, path = spool.partition(":")
    if not host or host.startswith("-"):
        raise UsageError(f"{spool}: no host before the colon")
    if path.startswith("-"):
        raise UsageError(f"{spool}: a path that looks like an option")
    there = [name, *options] + ([path] if path else [])
    return ["ssh", *_watchful(host), "--", host, shlex.join(there)], host


def _watchful(host: str) -> list[str]:
    """Return our options for a silent network, without those that the user's configuration has for this host."""
    import subprocess

    try:
        done = subprocess.run(["ssh", "-G", "--", host], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError as error:
        raise TryAgain(f"ssh: {reason(error)}") from None
    lines = set(done.stdout.decode(errors="replace").lower().splitlines())
    return [option for line, ours in WATCHFUL.items() if done.returncode or line in lines for option in ours]


def _status(name: str, host: str, status: int, text: str) -> int:
    """Return the exit status of a tool on the host, and repeat what it has said. Raises TryAgain for one of ssh's."""
    if status == 255:
        raise TryAgain(f"{host}: {_why(text)}")
    if status == 127:
        raise TryAgain(f"{host}: {name} is not installed there, or not in PATH")
    for line in text.splitlines():
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


def _ended_alone(child: int, until_eof: bool) -> bool:
    """Wait until a child has ended. If we are alone first, end the child and return True."""
    while not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if tool.is_alone(0.5, until_eof):
            import signal

            os.kill(child, signal.SIGTERM)
            return True
    return False
