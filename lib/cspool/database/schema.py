"""The message database: one SQLite file, what is in it, and how it is opened.

The fold (what the log alone gives) and the view (what the user sees) stand
side by side. In mailbox and message, columns with fold_ hold the fold, and the
others hold the view. fold.py writes the fold record by record, loading.py
replaces it by what a checkpoint states, accept.py clears it. view.py writes
the view. A mailbox without a name is deleted, and so is a message without a
mailbox.

SQLite runs in WAL mode: one writer at a time, readers never wait for it. A
transaction is on disk when it returns.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..command import INBOX
from ..errors import BadConfig, NoInput, TryAgain
from . import digest
from .digest import EMPTY

VERSION = 4  # PRAGMA user_version
APPLICATION = 0x6373706C  # "cspl", PRAGMA application_id
LARGE = 4 << 20  # octets that are written with `fill`
PIECE = 1 << 18  # octets that it writes at a time
WAIT = 120  # seconds for the other writer; its transactions take one or two

# As conditions, for which there are indexes; no keyword begins with a backslash.
UNSEEN = r"instr(flags, '\Seen') = 0"
DELETED = r"instr(flags, '\Deleted') > 0"

SCHEMA = f"""
-- One row: how far this database has applied the log, and whose it is.
CREATE TABLE cursor (
    spool BLOB, number INTEGER NOT NULL, chain BLOB,     -- of the last record applied
    located INTEGER, segment TEXT, offset INTEGER,       -- the frame behind record `located` begins there
    log_end INTEGER NOT NULL DEFAULT 0,                  -- the last record that is known of
    synced INTEGER,                                      -- when all there was had been applied, seconds since 1970
    user BLOB,                                           -- the user's Ed25519 key
    digest BLOB NOT NULL DEFAULT x'{EMPTY.hex()}',       -- of the fold: digest.py
    sealed INTEGER,                                      -- the latest time of sealing that is known
    device BLOB NOT NULL,                                -- our own id in changes
    modseq INTEGER NOT NULL,                             -- the highest given (RFC 7162)
    log_size INTEGER NOT NULL DEFAULT 0,                 -- octets that the log has, as frames
    loading BLOB,                                        -- a checkpoint on its way in
    loaded INTEGER NOT NULL DEFAULT 0, loaded_chain BLOB -- and how far the log before it has come
);
-- Chain and digest behind recent records and behind every 1024th: witnesses of forks.
CREATE TABLE history (number INTEGER PRIMARY KEY, chain BLOB NOT NULL, digest BLOB NOT NULL);

-- The rest of the fold: who may deliver, and where each device's line stands.
CREATE TABLE trust (key BLOB PRIMARY KEY, comment TEXT NOT NULL, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE distrust (key BLOB PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE device (id BLOB PRIMARY KEY, counter INTEGER NOT NULL, hash BLOB NOT NULL) WITHOUT ROWID;
-- Records set aside, sealed as they came; no sender: the box does not open.
CREATE TABLE aside (number INTEGER PRIMARY KEY, reason TEXT NOT NULL, sender BLOB, sealed BLOB NOT NULL);
CREATE INDEX aside_sender ON aside (sender, number);
-- Records that the spool has lost before they could be applied.
CREATE TABLE lost (number INTEGER PRIMARY KEY, last INTEGER NOT NULL, noticed INTEGER NOT NULL);
-- What the spool has shown that contradicts what had been applied: when, what, and its head.
CREATE TABLE contradiction (noticed INTEGER NOT NULL, reason TEXT NOT NULL, head TEXT);
-- Messages that the log has expunged: neither a late retry of their delivery nor
-- a change issued again (by a copy of a home, say) must bring them back.
CREATE TABLE tombstone (id BLOB PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
-- Checkpoints, as long as they tell what of that may be forgotten; date: seconds since 1970.
CREATE TABLE checkpoint (number INTEGER PRIMARY KEY, stated INTEGER NOT NULL, date INTEGER NOT NULL);
-- Records that are set aside or hold messages, and others: octets as a frame.
CREATE TABLE record (number INTEGER PRIMARY KEY, size INTEGER NOT NULL);
-- Parts of a checkpoint in their place in the log, until the last of its records comes.
CREATE TABLE part (
    number INTEGER PRIMARY KEY, hash BLOB NOT NULL, digest BLOB NOT NULL, size INTEGER NOT NULL
);
-- A checkpoint on its way in: its parts, the records that it keeps and we lack,
-- and the contents that are here.
CREATE TABLE loading_part (
    number INTEGER PRIMARY KEY, hash BLOB NOT NULL, digest BLOB NOT NULL, body BLOB NOT NULL,
    loader BLOB NOT NULL                                 -- of several processes, the one that has read it
);
CREATE TABLE wanted (number INTEGER PRIMARY KEY);
CREATE TABLE kept (
    number INTEGER, offset INTEGER, content INTEGER,
    sealed BLOB,                                         -- to be set aside, once the state replaces the fold
    PRIMARY KEY (number, offset)
) WITHOUT ROWID;

-- A mailbox without a name is deleted, or its id is an alias of another one (same_as).
CREATE TABLE mailbox (
    key INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    fold_name TEXT UNIQUE, fold_same_as INTEGER, fold_use TEXT NOT NULL DEFAULT '',
    name TEXT UNIQUE, same_as INTEGER, use TEXT NOT NULL DEFAULT '',  -- use: RFC 6154 attributes
    created INTEGER NOT NULL DEFAULT 0,                  -- 1: in the log, which uses an id only once
    uidvalidity INTEGER NOT NULL,
    uidnext INTEGER NOT NULL DEFAULT 1,
    recent INTEGER NOT NULL DEFAULT 1,                   -- no session has had UIDs from here on as \\Recent
    modseq INTEGER NOT NULL DEFAULT 1,                   -- HIGHESTMODSEQ
    forgotten INTEGER NOT NULL DEFAULT 0                 -- the highest MODSEQ that `vanished` has lost
);

CREATE TABLE subscription (name TEXT PRIMARY KEY, fold INTEGER NOT NULL, view INTEGER NOT NULL) WITHOUT ROWID;

-- Entries of metadata of a mailbox, or of the server (RFC 5464), and their values.
CREATE TABLE metadata (
    mailbox INTEGER NOT NULL,                            -- 0: the server
    entry TEXT NOT NULL, fold BLOB, view BLOB,
    PRIMARY KEY (mailbox, entry)
) WITHOUT ROWID;

-- Flags are one text, separated by spaces.
CREATE TABLE message (
    key INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    content INTEGER NOT NULL,
    date INTEGER NOT NULL,                               -- INTERNALDATE, seconds since 1970
    fold_mailbox INTEGER, fold_flags TEXT,
    mailbox INTEGER, flags TEXT,
    uid INTEGER, modseq INTEGER,
    saved INTEGER                                        -- SAVEDATE (RFC 8514)
);
CREATE UNIQUE INDEX message_uid ON message (mailbox, uid) WHERE mailbox IS NOT NULL;
CREATE INDEX message_modseq ON message (mailbox, modseq) WHERE mailbox IS NOT NULL;
CREATE INDEX message_unseen ON message (mailbox, uid) WHERE mailbox IS NOT NULL AND {UNSEEN};
CREATE INDEX message_deleted ON message (mailbox, uid) WHERE mailbox IS NOT NULL AND {DELETED};
CREATE INDEX message_content ON message (content);

-- UIDs that are no more: vanished.py.
CREATE TABLE vanished (mailbox INTEGER, modseq INTEGER, uid INTEGER, PRIMARY KEY (mailbox, modseq, uid))
    WITHOUT ROWID;

-- What is computed once of a message, and its octets with CRLF line ends.
-- Copies share it. In several tables, for a row is read from its start.
CREATE TABLE content (
    key INTEGER PRIMARY KEY,
    number INTEGER, offset INTEGER NOT NULL,             -- record that holds it, octets into it; NULL: none yet
    size INTEGER NOT NULL,
    sent INTEGER, sent_day INTEGER,                      -- Date: seconds, and days in its own zone, since 1970
    id BLOB NOT NULL,                                    -- EMAILID (RFC 8474): id of the first message with it
    reduced INTEGER NOT NULL,                            -- 1: what follows is that of an empty message
    envelope BLOB NOT NULL, structure BLOB NOT NULL, preview BLOB NOT NULL  -- as IMAP sends them
);
CREATE INDEX content_number ON content (number, offset);
CREATE INDEX content_reduced ON content (number) WHERE reduced;
CREATE TABLE ordering (                                  -- order.py says what these are
    content INTEGER PRIMARY KEY,
    subject TEXT NOT NULL, reply INTEGER NOT NULL,
    first_from TEXT NOT NULL, first_to TEXT NOT NULL, first_cc TEXT NOT NULL,
    display_from TEXT NOT NULL, display_to TEXT NOT NULL,
    message_id BLOB NOT NULL, refs BLOB NOT NULL, thread BLOB NOT NULL
);
CREATE TABLE octets (content INTEGER PRIMARY KEY, header BLOB NOT NULL, body BLOB NOT NULL);
CREATE TABLE text (content INTEGER PRIMARY KEY, header TEXT NOT NULL, body TEXT NOT NULL);

-- Changes made here that have not yet taken effect in the log, in order.
-- Once it is frozen, the body of its command is frozen, line end, octets.
CREATE TABLE outbox (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    changes TEXT NOT NULL,
    queued INTEGER NOT NULL,                             -- when, seconds since 1970
    counter INTEGER, frozen BLOB, hash BLOB,
    octets BLOB NOT NULL                                 -- the last, for schema.fill
);
-- Messages on which view and fold may differ because of the outbox.
CREATE TABLE overlay (id BLOB PRIMARY KEY) WITHOUT ROWID;
"""


def open_database(path: str, create: bool = False) -> sqlite3.Connection:
    """Open a message database; with `create` make it first if it is not there.

    Raises NoInput when it is missing, BadConfig when it is something else.
    """
    if not os.path.exists(path):
        if not create:
            raise NoInput(f"{path}: no message database (cspool-apply makes it)")
        # Before SQLite would make it with the rights that umask leaves; its other files follow it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    try:
        db = sqlite3.connect(path, timeout=WAIT, isolation_level=None)
    except sqlite3.OperationalError as error:  # it cannot be opened: no rights, or no descriptors left
        raise TryAgain(f"{path}: {error}") from None
    try:
        digest.install(db)
        version, is_empty = _version(db)
        if create and version == (0, 0):
            _create(db)
            version, is_empty = _version(db)
        elif version == (0, 0) and is_empty:
            raise NoInput(f"{path}: not made to its end (cspool-apply makes it)")
        if version != (APPLICATION, VERSION):
            raise BadConfig(f"{path}: not a message database of this version")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA fullfsync = ON")  # macOS: as in disk.py
        db.execute("PRAGMA temp_store = MEMORY")
    except sqlite3.OperationalError as error:
        raise TryAgain(f"{path}: {error}") from None
    except sqlite3.DatabaseError as error:
        raise BadConfig(f"{path}: not a message database ({error})") from None
    return db


def _version(db: sqlite3.Connection) -> tuple[tuple[int, int], bool]:
    """Return application and version, and whether nothing is there, of one moment: another tool may be making it."""
    with reading(db):
        is_empty = not db.execute("SELECT 1 FROM sqlite_schema").fetchone()
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        return (application, version), is_empty


def _create(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    with writing(db):
        if _version(db)[0] != (0, 0):
            return  # another tool was faster
        for statement in [*SCHEMA.split(";\n"), *digest.triggers()]:
            db.execute(statement)
        db.execute("INSERT INTO cursor (number, device, modseq) VALUES (0, ?, 1)", (os.urandom(16),))
        add_mailbox(db, INBOX)
        db.execute("UPDATE mailbox SET name = 'INBOX', fold_name = 'INBOX', created = 1")
        db.execute("INSERT INTO subscription VALUES ('INBOX', 1, 1)")
        db.execute(f"PRAGMA application_id = {APPLICATION}")
        db.execute(f"PRAGMA user_version = {VERSION}")


@contextmanager
def writing(db: sqlite3.Connection) -> Iterator[None]:
    """A write transaction: on disk when the block ends, undone when it raises; within another, a part of that."""
    if db.in_transaction:
        yield
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        roll_back(db)
        raise


@contextmanager
def reading(db: sqlite3.Connection) -> Iterator[None]:
    """A snapshot: all that the block reads is of one moment; within another transaction, a part of that."""
    if db.in_transaction:
        yield
        return
    db.execute("BEGIN")
    try:
        yield
    finally:
        roll_back(db)


def roll_back(db: sqlite3.Connection) -> None:
    """Undo the transaction, unless SQLite has already done so, as it does on a full disk."""
    if db.in_transaction:
        db.execute("ROLLBACK")


@contextmanager
def opened(path: str, create: bool = False) -> Iterator[sqlite3.Connection]:
    """Open a message database as `open_database` does, and close it after the block.

    When SQLite cannot read or write in the block, TryAgain is raised: the disk
    is full or broken, or another writer does not end. BadConfig is raised when
    the file is damaged.
    """
    db = open_database(path, create)
    try:
        yield db
    except sqlite3.OperationalError as error:
        raise TryAgain(f"{path}: {error}") from None
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:
            raise  # a fault of ours
        raise BadConfig(f"{path}: damaged ({error}); a new one can be made from the spool") from None
    finally:
        db.close()


def fill(db: sqlite3.Connection, table: str, column: str, key: int, octets: "bytes | bytearray | memoryview") -> None:
    """Write many octets into an empty column of a row, piece by piece: SQLite would make two copies of them.

    It makes none of zeros that are in the last column.
    """
    db.execute(f"UPDATE {table} SET {column} = zeroblob(?) WHERE rowid = ?", (len(octets), key))
    with db.blobopen(table, column, key) as blob:
        for start in range(0, len(octets), PIECE):
            blob.write(octets[start : start + PIECE])


def mailbox(db: sqlite3.Connection, mailbox_id: bytes) -> int:
    """Return the key of a mailbox by its id; add it if it is new here."""
    found = db.execute("SELECT key FROM mailbox WHERE id = ?", (mailbox_id,)).fetchone()
    return int(found[0]) if found else add_mailbox(db, mailbox_id)


def add_mailbox(db: sqlite3.Connection, mailbox_id: bytes) -> int:
    """Add a mailbox that has no name yet; return its key.

    Its UIDVALIDITY is the time, or one more than the last: never one that a
    mailbox of this name had before, in this database or in one that it replaces.
    """
    taken = {one for (one,) in db.execute("SELECT uidvalidity FROM mailbox")}
    value = max([int(time.time()), *(one + 1 for one in taken)])
    while not 0 < value < 2**32 or value in taken:  # it has 32 bits (RFC 3501 section 2.3.1.1), and a clock may not
        value = (value + 1) % 2**32
    row = (mailbox_id, value)
    key = db.execute("INSERT INTO mailbox (id, uidvalidity) VALUES (?, ?)", row).lastrowid
    assert key is not None
    return key
