"""A spool that lies: the message of cspool-apply for each lie, and that no part of it is applied.

The liar knows the format and has all the records, but no key. Alice's laptop
has applied the first SEEN records of a log of deliveries and changes.
"""

import subprocess
import sys

import pytest
from conftest import TOP
from cspool import command, frame, keys, record
from cspool.database import seen
from cspool.database.replay import Replay
from cspool.errors import Contradiction
from cspool.frame import Frame
from cspool.spool.files import Head
from log import ALICE, HOST, SPOOL, Device, Log

SEEN = 6
ALL = 10
OTHER_SPOOL = b"another spool id"


def deliver(text):
    return command.encode({"command": "deliver", "mailbox": "INBOX", "date": 0}, b"Subject: %s\r\n\r\n" % text)


def grow(log, names):
    for name in names:
        log.append(deliver(name.encode()), HOST)


@pytest.fixture
def truth(tmp_path):
    """A log of ALL records of Alice's spool: her desktop trusts a host, which delivers, and makes changes."""
    log, desktop = Log(), Device(tmp_path, "desktop")
    desktop.fetch(log)
    desktop.trust(log, HOST)
    grow(log, "abc")
    desktop.fetch(log)
    desktop.change({"do": "add-flags", "flags": ["\\Seen"], "ids": desktop.ids()[0].hex()})
    desktop.push(log)
    grow(log, "defgh")
    assert len(log.records) == ALL
    return log


class Stream:
    """A stream from the spool: a head, and frames."""

    def __init__(self, log, after=SEEN, end=ALL, spool=SPOOL, **head):
        values = {"next": end + 1, "chain": log.chains[end], "first": 1, **head}
        self.head = Head(spool, values["next"], values["chain"], values["first"], "-", 0, 0, bytes(32))
        self.frames = [Frame(n, log.chains[n - 1], log.records[n - 1]) for n in range(after + 1, end + 1)]

    def frames_with_head(self):
        return [Frame(frame.HEAD_NUMBER, frame.UNCHAINED, self.head.text()), *self.frames]

    def octets(self):
        frames = self.frames_with_head()
        written = b"".join(frame.encode(one.record, one.number, one.chain) for one in frames)
        return written + frame.encode_end(len(frames))


def chained(log, records, after=SEEN):
    """Return a stream with these records after those that were seen, numbered and chained as a spool does it."""
    lie = Log()
    lie.records, lie.chains = log.records[:after], log.chains[: after + 1]
    for one in records:
        lie.records.append(one)
        lie.chains.append(frame.next_chain(lie.chains[-1], len(lie.records), one))
    return Stream(lie, after, len(lie.records))


def dropped(log):
    stream = Stream(log)
    del stream.frames[1]
    return stream


def reordered(log):
    stream = Stream(log)
    stream.frames[0], stream.frames[1] = stream.frames[1], stream.frames[0]
    return stream


def renumbered(log):
    """Reordered, with the right numbers but the wrong chain."""
    stream = Stream(log)
    one, two = stream.frames[:2]
    stream.frames[:2] = [one._replace(record=two.record), two._replace(record=one.record)]
    return stream


def altered(log):
    stream = Stream(log)
    one = stream.frames[0]
    stream.frames[0] = one._replace(record=one.record[:-1] + bytes([one.record[-1] ^ 1]))
    return stream


def seen_altered(log):
    """A record that has been read before is replaced by another."""
    lie = Log()
    for number, one in enumerate(log.records, 1):
        lie.records.append(one[:-1] + b"x" if number == SEEN else one)
        lie.chains.append(frame.next_chain(lie.chains[-1], number, lie.records[-1]))
    return Stream(lie)


def behind_the_end(log):
    stream = Stream(log)
    stream.head = Stream(log, end=ALL - 1).head
    return stream


def last_altered(log):
    stream = Stream(log)
    one = stream.frames[-1]
    stream.frames[-1] = one._replace(record=one.record + b"x")
    return stream


def short(log):
    stream = Stream(log)
    del stream.frames[-1]
    return stream


def rolled_back(log):
    return Stream(log, after=0, end=SEEN - 1)


def rolled_back_and_grown(log):
    """Rolled back to before the last record that was seen, and grown again with other mail."""
    lie = Log()
    lie.records, lie.bodies, lie.chains = log.records[: SEEN - 1], [], log.chains[:SEEN]
    grow(lie, "xyz")
    return Stream(lie, after=SEEN, end=len(lie.records))


def forked_at_the_end(log):
    """As long as the log that was seen, but with another last record."""
    lie = Log()
    lie.records, lie.bodies, lie.chains = log.records[: SEEN - 1], [], log.chains[:SEEN]
    grow(lie, "x")
    return Stream(lie, after=SEEN, end=SEEN)


def old_head(log):
    """New frames with the old head."""
    stream = Stream(log)
    stream.head = Stream(log, end=SEEN).head
    return stream


def fresh(log):
    lie = Log()
    lie.chains = [frame.first_chain(OTHER_SPOOL)]
    return Stream(lie, after=0, end=0, spool=OTHER_SPOOL)


def fresh_under_the_old_id(log):
    return Stream(Log(), after=0, end=0)


def claimed_lost_but_seen(log):
    """It claims that all records so far are lost, and continues with another log under the same numbers."""
    lie = Log()
    grow(lie, "uvwxyz12345678")
    return Stream(lie, after=SEEN, end=len(lie.records), first=SEEN)


CONTRADICTIONS = {
    dropped: "record 8 missing",
    reordered: "record 7 missing",
    renumbered: "record 8 does not follow the record before it",
    altered: "record 8 does not follow the record before it",
    seen_altered: "record 7 does not continue the log that has been seen",
    behind_the_end: "record 10 stands behind the end of the log, 9",
    last_altered: "the log up to record 10 is not the one that its head speaks of",
    short: "record 10 missing",
    rolled_back: "the log ends at record 5, but record 6 has been seen",
    rolled_back_and_grown: "record 7 does not continue the log that has been seen",
    forked_at_the_end: "the log up to record 6 is not the one that has been seen",
    old_head: "record 7 stands behind the end of the log, 6",
    fresh: f"the spool is another one: {OTHER_SPOOL.hex()}, not {SPOOL.hex()}",
    fresh_under_the_old_id: "the log ends at record 0, but record 6 has been seen",
    claimed_lost_but_seen: "record 7 does not continue the log that has been seen",
}


@pytest.fixture
def laptop(tmp_path, truth):
    laptop = Device(tmp_path, "laptop")
    laptop.fetch(truth, SEEN)
    (tmp_path / "key").write_text(keys.secret_line(b"a" * 32, "alice") + "\n")
    (tmp_path / "key").chmod(0o600)
    return laptop


def apply(device, octets):
    """Run cspool-apply; return its exit status and standard error."""
    command = [TOP / "bin" / "cspool-apply", "--db", device.path, "--key", device.path.replace("laptop", "key")]
    done = subprocess.run(command, input=octets, capture_output=True, check=False)
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize("lie", CONTRADICTIONS, ids=lambda lie: lie.__name__)
def test_a_contradiction_is_said_and_nothing_applied(truth, laptop, lie):
    state, cursor = laptop.state(), seen.cursor(laptop.db)
    assert apply(laptop, lie(truth).octets()) == (76, f"cspool-apply: {CONTRADICTIONS[lie]}\n")
    assert (laptop.state(), laptop.state("fold_"), seen.cursor(laptop.db)) == (state, state, cursor)
    assert laptop.db.execute("SELECT reason FROM contradiction").fetchall() == [(CONTRADICTIONS[lie],)]
    # The true log can still be applied from the same cursor.
    assert apply(laptop, Stream(truth).octets()) == (0, "")
    assert seen.cursor(laptop.db).chain == truth.chains[ALL]


# What is not a contradiction: it has no effect, or is reported.


def behind(log, *records):
    """Return a stream of the true log with more records after it."""
    return chained(log, [*log.records[SEEN:], *records])


def no_lie(log):
    return Stream(log)


def newest_withheld(log):
    return Stream(log, end=ALL - 1)


def frames_repeated(log):
    stream = Stream(log)
    stream.frames = [one for one in stream.frames for _ in range(2)] + stream.frames
    return stream


def delivery_repeated(log):
    return behind(log, *log.records[6:])


def change_repeated(log):
    return behind(log, log.records[0], log.records[4])


def of_another_user(log):
    bob = keys.SecretKey(b"b" * 32)
    return behind(log, record.seal(deliver(b"to bob"), HOST, bob.public))


def sealed_again(log):
    """A record that the host signed for Bob, sealed again to Alice."""
    bob = keys.SecretKey(b"b" * 32)
    honest = record.signed_for(bob.public, deliver(b"to bob"), HOST)
    return behind(log, bytes([record.VERSION]) + ALICE.public.seal(honest))


def of_another_spool(log):
    fields = {"command": "change", "spool": OTHER_SPOOL.hex(), "device": "00" * 16, "counter": 1, "previous": "00" * 32}
    fields |= {"number": 0, "chain": frame.first_chain(OTHER_SPOOL).hex(), "changes": []}
    return behind(log, record.seal(command.encode(fields, b""), ALICE, ALICE.public))


def by_a_host(log):
    """A change, which only Alice may make, signed with the key of a trusted host."""
    fields = {"command": "change", "spool": SPOOL.hex(), "device": "00" * 16, "counter": 1, "previous": "00" * 32}
    trust = {"do": "trust", "key": "11" * 32, "comment": "mine"}
    fields |= {"number": 0, "chain": frame.first_chain(SPOOL).hex(), "changes": [trust]}
    return behind(log, record.seal(command.encode(fields, b""), HOST, ALICE.public))


def by_a_stranger(log):
    return behind(log, record.seal(deliver(b"forged"), keys.SecretKey(b"s" * 32), ALICE.public))


def junk(log):
    return behind(log, b"junk", b"\x01" + bytes(2000), b"\xff" * 100)


def said_to_be_lost(log):
    stream = Stream(log, first=9)
    del stream.frames[1]
    return stream


HARMLESS = {
    no_lie: (0, ""),
    newest_withheld: (0, ""),
    frames_repeated: (0, ""),
    delivery_repeated: (0, ""),
    change_repeated: (0, ""),
    of_another_user: (65, "record 11 is set aside: does not open with this key"),
    sealed_again: (65, "record 11 is set aside: its signature is wrong"),
    of_another_spool: (65, "record 11 is set aside: a change for another spool"),
    by_a_host: (
        65,
        f"record 11 is set aside: a change by a key that is not the user's ({keys.short(HOST.public.sign)})",
    ),
    by_a_stranger: (65, "record 11 is set aside: signed by a key that is not trusted"),
    junk: (65, "2 records from 11 to 13 are set aside: of an unknown version"),
    said_to_be_lost: (65, "record 8 lost by the spool before it could be read"),
}


@pytest.mark.parametrize("lie", HARMLESS, ids=lambda lie: lie.__name__)
def test_what_is_no_contradiction_does_no_harm(tmp_path, truth, laptop, lie):
    honest = Device(tmp_path, "honest")
    honest.fetch(truth, ALL - 1 if lie is newest_withheld else ALL)
    code, said = apply(laptop, lie(truth).octets())
    assert code == HARMLESS[lie][0]
    assert said.startswith(f"cspool-apply: {HARMLESS[lie][1]}" if HARMLESS[lie][1] else "") and bool(said) == bool(code)
    if lie is said_to_be_lost:
        assert laptop.state() < honest.state()
    else:
        assert laptop.state() == honest.state()
        assert (
            laptop.db.execute("SELECT * FROM trust").fetchall() == honest.db.execute("SELECT * FROM trust").fetchall()
        )


def test_a_withheld_change_of_our_own_stays_in_the_outbox(truth, laptop):
    laptop.change({"do": "add-flags", "flags": ["mine"], "ids": laptop.ids()[0].hex()})
    assert apply(laptop, Stream(truth).octets()) == (0, "")
    assert laptop.db.execute("SELECT count(*) FROM outbox").fetchone() == (1,)
    assert any("mine" in flags for _, _, flags in laptop.state())


def test_two_who_were_shown_different_logs_cannot_be_brought_together_again(tmp_path, truth, laptop):
    """The desktop has seen a fork, which its next change reveals when it is appended to the true log."""
    fork = Log()
    fork.records, fork.chains = truth.records[:SEEN], truth.chains[: SEEN + 1]
    grow(fork, "xy")
    desktop = Device(tmp_path, "desktop2")
    desktop.fetch(fork)
    desktop.change({"do": "add-flags", "flags": ["\\Flagged"], "ids": desktop.ids()[0].hex()})
    apply(laptop, Stream(truth).octets())
    state = laptop.state()
    desktop.push(truth)
    expected = "cspool-apply: the device that wrote record 11 has seen another log up to record 8\n"
    assert apply(laptop, Stream(truth, ALL, ALL + 1).octets()) == (76, expected)
    assert laptop.state() == state
    with pytest.raises(Contradiction, match="record 9 does not continue"):
        Replay(desktop.db, [ALICE]).run(iter(Stream(truth, SEEN + 2, ALL + 1).frames_with_head()))


@pytest.mark.parametrize("octets", [b"\xff", b"\0", b"A", b"\1\0\0\0"], ids=repr)
def test_endless_data_costs_no_memory(laptop, octets):
    """An endless stream is refused, or read without being kept in memory, within 200 MB."""
    script = (
        "import resource, subprocess, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (200 << 20, 200 << 20))\n"
        "with subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE) as apply:\n"
        "    try:\n"
        "        for _ in range(300): apply.stdin.write(bytes.fromhex(sys.argv[1]) * 250_000)\n"
        "    except BrokenPipeError: pass\n"
        "    finally:\n"
        "        try: apply.stdin.close()\n"
        "        except BrokenPipeError: pass\n"
        "sys.exit(apply.returncode)"
    )
    tool = [TOP / "bin" / "cspool-apply", "--db", laptop.path, "--key", laptop.path.replace("laptop", "key")]
    done = subprocess.run([sys.executable, "-c", script, octets.hex(), *tool], capture_output=True, check=False)
    assert done.returncode == 65 and len(done.stderr.splitlines()) == 1
