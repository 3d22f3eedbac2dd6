"""cspool: an encrypted mail spool of small tools.

    errors disk tool home       for every tool
    keys record frame           what flows: sealed records in frames
    command form octets         the contents of records
    mail/                       the octets of messages
    spool/                      the operator's side: it has no key, and cannot open a record
    database/                   the user's machine: how the log becomes mailboxes
    imap/                       serving the database to mail clients
    pipeline sync hook          running our own tools, and a command of the user's
    listen serve                taking connections, and serving them
    archive/                    other people's formats
    export                      writing them

Imports go one way only: see t/test_imports.py.
"""

__version__ = "0.1"
