"""Running others of our tools, which lie beside the one that runs."""

import io
import os
import subprocess
import sys

from . import frame
from .errors import TryAgain
from .spool.files import Head

DIRECTORY = os.path.dirname(os.path.realpath(sys.argv[0]))


def path(name: str) -> str:
    """Return the path of a tool."""
    return os.path.join(DIRECTORY, name)


def head(spool: str) -> Head:
    """Return the head of a spool, wherever it is, as cspool-fetch gives it. Raises TryAgain."""
    command = [path("cspool-fetch"), f"--after={2**62}", spool]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").splitlines()
        raise TryAgain(lines[-1].removeprefix("cspool-fetch: ") if lines else "cspool-fetch failed")
    return Head.parse(next(frame.read(io.BytesIO(done.stdout), spool)).record, spool)
