"""The user's machine: the message database, and how the log and the user's own changes get into it.

schema      the file: its tables, transactions
content     octets of messages, and what is computed of them once
layer       the rules of mailboxes and messages; fold and view are its two layers
outbox      changes made here that the log does not have yet
seen        what has been seen of the log, which it must not contradict
replay      a stream, frame by frame; gates: what each record may do; aside: records that are set aside
checkpoint  the fold as text; loading: a checkpoint in place of the log before it; replacement: of the fold
accept      a log that contradicts what has been seen, taken as the true one
"""
