"""The transactions of a message database."""

import sqlite3
import time

import pytest
from cspool.database import outbox, schema, seen


def test_a_commit_that_fails_leaves_no_transaction_behind(tmp_path):
    # Else the next change would become part of that transaction: it would be acknowledged, and never committed.
    db = schema.open_database(str(tmp_path / "mail.db"), create=True)
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("CREATE TABLE above (key INTEGER PRIMARY KEY)")
    db.execute("CREATE TABLE below (key INTEGER REFERENCES above DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(sqlite3.IntegrityError), schema.writing(db):
        db.execute("INSERT INTO below VALUES (1)")  # this fails only at COMMIT
    assert not db.in_transaction
    assert db.execute("SELECT count(*) FROM below").fetchone() == (0,)


def test_a_transaction_within_another_is_a_part_of_it(tmp_path):
    db = schema.open_database(str(tmp_path / "mail.db"), create=True)
    with pytest.raises(KeyboardInterrupt), schema.writing(db):
        with schema.writing(db):
            db.execute("UPDATE cursor SET number = 7")
        with schema.reading(db):
            assert seen.cursor(db).number == 7
        assert db.in_transaction
        raise KeyboardInterrupt
    assert seen.cursor(db).number == 0


def test_a_time_in_the_future_counts_as_never(tmp_path):
    """A clock that was a year ahead for one sync must not keep a machine silent for a year."""
    db = schema.open_database(str(tmp_path / "mail.db"), create=True)
    outbox.add(db, [{"do": "subscribe", "name": "x"}], b"")
    for synced, known in ((int(time.time()) - 5, True), (int(time.time()) + 1000, False)):
        db.execute("UPDATE cursor SET synced = ?", (synced,))
        assert (seen.progress(db).synced is not None) is known
        assert bool(outbox.mark(db)) is known


@pytest.mark.parametrize("clock", [0, 1, 2**32 - 1, 2**32, 2**40, 253402300799])
def test_uidvalidity_has_32_bits_whatever_the_clock_says(tmp_path, monkeypatch, clock):
    monkeypatch.setattr("cspool.database.schema.time.time", lambda: float(clock))
    db = schema.open_database(str(tmp_path / "mail.db"), create=True)
    for number in range(3):
        schema.add_mailbox(db, bytes([number + 1]) * 16)
    found = [one for (one,) in db.execute("SELECT uidvalidity FROM mailbox")]
    assert len(set(found)) == 4 and all(0 < one < 2**32 for one in found)


def test_what_another_tool_is_making_is_not_seen_half_made(tmp_path):
    """The numbers that say what it is are read in one transaction."""
    schema.open_database(str(tmp_path / "mail.db"), create=True).close()
    db, within = sqlite3.connect(str(tmp_path / "mail.db"), isolation_level=None), []
    db.set_trace_callback(lambda text: within.append(db.in_transaction) if "PRAGMA" in text else None)
    assert schema._version(db) == ((schema.APPLICATION, schema.VERSION), False)
    assert within == [True, True]
