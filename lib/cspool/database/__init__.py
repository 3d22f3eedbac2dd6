"""The user's machine: the message database, and how the log and the user's own changes get into it."""
