"""The home directory of cspool: plain files, one value each, which cspool-home(5) lists.

An option or operand of a tool overrides each value but that in `imap.passwd`.
"""

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from .errors import BadConfig, NoInput, reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from .keys import SecretKey


def path(name: str) -> str:
    """Return the path of the file `name` in CSPOOL_HOME, or in ~/.cspool."""
    return os.path.join(os.environ.get("CSPOOL_HOME") or os.path.join(_user(), ".cspool"), name)


def _user() -> str:
    """Return the user's home directory: HOME, or that in passwd(5) if HOME belongs to another user."""
    directory = os.path.expanduser("~")
    with suppress(OSError, KeyError):
        if os.stat(directory).st_uid != os.getuid():  # inetd(8) and sudo(8) may leave the HOME of their own user
            import pwd

            return pwd.getpwuid(os.getuid()).pw_dir
    return directory


def value(name: str) -> str:
    """Return the first line of a file in the home. Raises NoInput or BadConfig."""
    file = path(name)
    try:
        with open(file, encoding="utf-8") as lines:
            line = lines.readline().strip()
    except OSError as error:
        raise NoInput(f"{file}: {reason(error)}") from None
    except UnicodeDecodeError:
        line = ""
    if not line:
        raise BadConfig(f"{file}: no value in its first line")
    return line


def spool(given: str | None) -> str:
    """Return where the spool is: `given`, or else what the file `spool` names. Raises as `value`."""
    return given or value("spool")


def spool_to_append(given: str | None) -> str:
    """Return where to append: `given`, or else what the file `append`, or else `spool`, names. Raises as `value`."""
    return given or value("append" if os.path.exists(path("append")) else "spool")


def is_remote(spool: str) -> bool:
    """Return whether a spool is named as [user@]host:path, to be reached by ssh.

    A name with a slash before the colon is a directory, and one with two slashes after it is a URL.
    """
    host, colon, path = spool.partition(":")
    return bool(colon) and "/" not in host and not path.startswith("//")


def is_url(spool: str) -> bool:
    """Return whether a spool is named by a URL, to be reached over HTTP."""
    return spool.lower().startswith(("http://", "https://"))


def user_keys(given: str | None) -> "list[SecretKey]":
    """Return the user's secret keys, the newest first, from the file `given` or `key`.

    If they are locked, one passphrase is asked for, which must open them all. Raises NoInput, BadConfig.
    """
    from . import keys

    return keys.read_ring(given or path("key"), ask_once())


def ask_once() -> "Callable[[str], bytes]":
    """Return a function that returns the passphrase of a key file, and asks for it only the first time."""
    said: list[bytes] = []

    def once(file: str) -> bytes:
        if not said:
            said.append(passphrase(file))
        return said[0]

    return once


def passphrase(key: str) -> bytes:
    """Return the passphrase of the key file `key`.

    It is what the command in CSPOOL_PASSPHRASE_COMMAND prints, without the last
    line end. If there is no command, it is asked for on the terminal, since
    standard input is the mail. Raises BadConfig if the command fails or there
    is no terminal.
    """
    import subprocess

    command = os.environ.get("CSPOOL_PASSPHRASE_COMMAND")
    if not command:
        return ask(f"Passphrase for {key}: ")
    # The command may read a descriptor that the caller has opened for it: `cat <&5`.
    done = subprocess.run(
        command, shell=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, close_fds=False, check=False
    )
    if done.returncode:
        raise BadConfig(f"{key}: CSPOOL_PASSPHRASE_COMMAND failed with status {done.returncode}")
    return done.stdout.removesuffix(b"\n").removesuffix(b"\r")


def ask(prompt: str) -> bytes:
    """Ask for a secret on the terminal. Raises BadConfig if there is no terminal or no answer."""
    import getpass

    try:
        with open("/dev/tty", "rb"):
            pass
    except OSError:
        raise BadConfig("a passphrase is needed, and there is no terminal to ask on") from None
    try:
        return getpass.getpass(prompt).encode("utf-8", "surrogateescape")
    except EOFError:
        raise BadConfig("a passphrase is needed, and none was given") from None


def ask_new(what: str) -> bytes:
    """Ask twice for a new secret. Raises BadConfig if the answers differ or are empty."""
    first = ask(f"New {what}: ")
    if not first or first != ask(f"New {what} again: "):
        raise BadConfig(f"the {what}s differ" if first else f"the {what} is empty")
    return first
