"""A command that is run when mail has come: what cspool-sync --exec does."""

import json
import subprocess
import tempfile
from contextlib import suppress

from . import tool
from .database import schema, seen, view
from .errors import Failure, reason


class Hook:
    """Runs a command of the shell when mail has come since the last time, one at a time.

    On its standard input it has a line of JSON for each mailbox: view.come_since.
    """

    def __init__(self, command: str, database: str) -> None:
        self.command = command
        self.database = database
        self.number = self._look(None)  # of the last record looked at; None before the first sync
        self.process: subprocess.Popen[bytes] | None = None

    def look(self) -> None:
        """Run the command if mail has come, unless it still runs: then the next look is for all that has come."""
        if not self.process or self.process.poll() is not None:
            self._end()
            self.number = self._look(self.number)

    def finish(self) -> None:
        """Wait for the command."""
        if self.process:
            self.process.wait()
            self._end()

    def _look(self, since: int | None) -> int | None:
        """Run the command for what has come behind record `since`; return the number of the last record.

        What the first sync of a machine brings is not new.
        """
        with suppress(Failure), schema.opened(self.database) as db, schema.reading(db):
            cursor = seen.cursor(db)
            if since is not None and cursor.number > since:
                self._run([json.dumps(row, ensure_ascii=False) for row in view.come_since(db, since)])
            return cursor.number if cursor.spool else None
        return since

    def _run(self, lines: list[str]) -> None:
        """Begin to run the command. If it cannot be run, as on a full disk, that is said, and mail goes on to come."""
        if lines:
            try:
                with tempfile.TemporaryFile() as file:  # for a command need not read
                    file.write("".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))
                    file.seek(0)
                    self.process = subprocess.Popen(["/bin/sh", "-c", self.command], stdin=file)
            except OSError as error:
                tool.say(f"{tool.name()}: --exec: {reason(error)}")

    def _end(self) -> None:
        """Report how the command has ended, if that was not well."""
        if self.process and self.process.returncode:
            code = self.process.returncode
            tool.say(
                f"{tool.name()}: --exec: the command ended with "
                + (f"status {code}" if code > 0 else f"signal {-code}")
            )
        self.process = None
