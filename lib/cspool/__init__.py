"""cspool: an encrypted mail spool of small tools.

    errors disk tool home               what every tool needs
    keys record frame form command octets    what flows: sealed records, and what they say
    mail/       reads the octets of messages
    spool/      the operator's side; it has no key and can read nothing
    database/   the user's machine: how the log becomes mailboxes
    imap/       serves the database to mail clients
    pipeline archive                    running our own tools; other people's formats

Imports run one way, and t/test_imports.py says which.
"""

__version__ = "0.1"
