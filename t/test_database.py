"""The transactions of a message database."""

import sqlite3

import pytest
from cspool.database import schema, seen


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
