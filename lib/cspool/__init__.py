"""cspool: an encrypted mail spool of small tools.

What two or more tools share. Imports point one way: errors, keys, frame,
record and message stand on nothing but the standard library and PyNaCl;
spool, command and database stand on them; imap stands on database; the
tools in bin/ stand on top.
"""

__version__ = "0.1"
