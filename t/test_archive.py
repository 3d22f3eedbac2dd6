"""Mail of other programs comes in whole: with its folders, flags and times, or what is left out is said."""

import bz2
import gzip
import io
import lzma
import random
import subprocess
from pathlib import Path

import pytest
from cspool import form
from cspool.archive import LeftOut, labels, maildir, mbox
from cspool.archive.tree import Tree
from cspool.errors import NoInput
from hypothesis import given
from hypothesis import strategies as st

INTERNAL_DATA = "DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA"


def mail(subject, *fields):
    return "".join(f"{field}\n" for field in (*fields, f"Subject: {subject}", "From: ann@example.org")) + "\nbody\n"


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())


def read(root, **options):
    """Return {subject: (mailbox, flags)} of a tree, and the lines about what is left out."""
    left_out = LeftOut()
    found = {subject(one): (one.mailbox, one.flags) for one in Tree(str(root), "INBOX", left_out, **options)}
    return found, left_out.lines()


def subject(one):
    return next(line[9:] for line in one.octets.decode().split("\n") if line.startswith("Subject: "))


def read_mbox(text, mailbox="INBOX"):
    left_out = LeftOut()
    octets = text if isinstance(text, bytes) else text.encode()
    return list(mbox.messages(io.BytesIO(octets), mailbox, left_out)), left_out.lines()


# Trees

LAYOUTS = {
    "Maildir++": (
        {
            "cur/1.a:2,S": mail("in"),
            "new/2.a": mail("new"),
            ".Lists.a/cur/1.a:2,F": mail("list"),
            ".Entw&APw-rfe/cur/1.a:2,": mail("drafts"),
            ".Gr\u00fc\u00dfe/cur/1.a:2,": mail("utf-8"),
            "dovecot-uidlist": "x",
            "dovecot.index.log": "x",
            ".notmuch/xapian/x": "x",
        },
        {"in": "INBOX", "new": "INBOX", "list": "Lists/a", "drafts": "Entw\u00fcrfe", "utf-8": "Gr\u00fc\u00dfe"},
    ),
    "fs": ({"Lists/cur/1.a:2,S": mail("l"), "Lists/a.b/cur/1.a:2,S": mail("d")}, {"l": "Lists", "d": "Lists/a.b"}),
    "Legacy": ({"Lists/cur/1.a": mail("l"), "Lists/.a/cur/1.a": mail("s")}, {"l": "Lists", "s": "Lists/a"}),
    "KMail": (
        {"inbox/cur/1.a:2,S": mail("i"), ".inbox.directory/x/cur/1": mail("x"), ".top.directory/y/cur/1": mail("y")},
        {"i": "INBOX", "x": "INBOX/x", "y": "top/y"},
    ),
    "Thunderbird, Maildir": (
        {"Inbox/cur/1.eml": mail("i"), "Inbox.sbd/Sub/cur/1.eml": mail("s"), "Inbox.msf": "x"},
        {"i": "INBOX", "s": "INBOX/Sub"},
    ),
    "Thunderbird, mbox": (
        {
            "Inbox": f"From - Mon Oct  6 10:00:00 2025\n{mail('i')}\nFrom - Mon Oct  6 10:00:00 2025\n{mail('j')}\n",
            "Inbox.msf": "x",
            "Inbox.sbd/Sub": f"From - Mon Oct  6 10:00:00 2025\n{mail('s')}\n",
            "Inbox.sbd/Sub.msf": "x",
            "Drafts": "",
            "Drafts.msf": "x",
            "msgFilterRules.dat": "x",
        },
        {"i": "INBOX", "j": "INBOX", "s": "INBOX/Sub"},
    ),
    "Apple Mail": (
        {
            "V9/INBOX.mbox/0A-1B/Data/Messages/1.emlx": f"{len(mail('a'))}\n{mail('a')}<plist><key>flags</key>"
            "\n<integer>17</integer></plist>",
            "V9/Lists.mbox/x.mbox/0A/Data/1/Messages/2.emlx": f"{len(mail('b'))}\n{mail('b')}<plist/>",
        },
        {"a": "V9/INBOX", "b": "V9/Lists/x"},
    ),
    "MH": (
        {"inbox/1": mail("1"), "inbox/2": mail("2"), "lists/a/1": mail("a")},
        {"1": "INBOX", "2": "INBOX", "a": "lists/a"},
    ),
    "without new": ({"cur/1.a:2,S": mail("c"), ".Sent/cur/1.a:2,S": mail("s")}, {"c": "INBOX", "s": "Sent"}),
    "without cur": ({"new/1.a": mail("n")}, {"n": "INBOX"}),
    "an mbox for each folder": (
        {"lists/a": f"From a@b Mon Oct  6 10:00:00 2025\n{mail('1')}\nFrom a@b Mon Oct  6 10:00:00 2025\n{mail('2')}"},
        {"1": "lists/a", "2": "lists/a"},
    ),
    "one file with the line of a mail server": (
        {"ham/0001": f"From a@b Mon Oct  6 10:00:00 2025\n{mail('1')}"},
        {"1": "ham"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path, layout):
    files, expected = LAYOUTS[layout]
    write(tmp_path, files)
    found, said = read(tmp_path)
    assert {one: form.mailbox_name(mailbox) for one, (mailbox, _) in found.items()} == expected
    assert not said


def test_flags_of_files(tmp_path):
    separators = [":", ";", "!", "_", "-", "%3A", "\uf03a", "\u066b"]
    write(tmp_path, {f"cur/1.M{n}.h{one}2,FS": mail(str(n)) for n, one in enumerate(separators)})
    write(tmp_path, {"cur/2.M1.h,S=120,W=130:2,Sab": mail("k"), "dovecot-keywords": "0 work\n1 $Forwarded\n"})
    found, said = read(tmp_path)
    assert not said
    assert found.pop("k") == ("INBOX", ["\\Seen", "work", "$Forwarded"])
    assert set(map(str, found.values())) == {str(("INBOX", ["\\Flagged", "\\Seen"]))} and len(found) == len(separators)


def test_sequences_of_mh(tmp_path):
    write(tmp_path, {f"{n}": mail(str(n)) for n in range(1, 12)})
    write(tmp_path, {".mh_sequences": "unseen: 2 4-5\ncur: 1\nflagged: 1\nreplied: 1-2\nmine: 11\n"})
    found, _ = read(tmp_path)
    assert list(found) == [str(n) for n in range(1, 12)]
    assert [n for n, (_, flags) in found.items() if "\\Seen" not in flags] == ["2", "4", "5"]
    assert found["1"][1] == ["\\Seen", "\\Flagged", "\\Answered"] and found["11"][1] == ["\\Seen", "mine"]


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 9))))
def test_ranges_of_mh(tmp_path_factory, ranges):
    root = tmp_path_factory.mktemp("mh")
    text = " ".join(f"{first}-{first + more}" for first, more in ranges)
    write(root, {".mh_sequences": f"mine: {text}\n", **{f"{n}": mail(str(n)) for n in range(1, 31)}})
    has = {int(number) for number, (_, flags) in read(root)[0].items() if "mine" in flags}
    assert has == {n for first, more in ranges for n in range(first, first + more + 1)}


def test_apple_flags(tmp_path):
    write(tmp_path, LAYOUTS["Apple Mail"][0])
    assert {subject: flags for subject, (_, flags) in read(tmp_path)[0].items()} == {
        "a": ["\\Seen", "\\Flagged"],
        "b": [],
    }


def test_compressed_files(tmp_path):
    write(
        tmp_path,
        {
            "cur/1.gz:2,S": gzip.compress(mail("gzip").encode()),
            "cur/2.bz2:2,S": bz2.compress(mail("bzip2").encode()),
            "cur/3.xz:2,S": lzma.compress(mail("xz").encode()),
            "cur/4.zst:2,S": b"\x28\xb5\x2f\xfd" + bytes(20),
            "cur/5.no:2,S": b"BZh: x\nSubject: no\n\nonly begins like one\n",
        },
    )
    found, said = read(tmp_path)
    assert set(found) == {"gzip", "bzip2", "xz", "no"}
    assert [line.partition(": ")[2] for line in said] == ["left out: compressed with zstd or lz4; unpack it first"]


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_file_that_is_not_whole(tmp_path, compress):
    """The first half of a message would come in as if it were the message."""
    octets = compress(b"Subject: x\n\n" + random.Random(1).randbytes(100_000))
    damaged = octets[:20_000] + b"damage" + octets[20_006:]
    write(tmp_path, {"cur/1.a": octets[:-40_000], "cur/2.a": damaged, "cur/3.a": octets + octets})
    found, said = read(tmp_path)
    assert not found
    assert [line.partition(": ")[2] for line in said] == ["left out: compressed, and damaged or cut off"]
    assert "and 2 more" in said[0]


def test_names_that_are_like_those_of_indexes(tmp_path):
    """What a file holds says what it is: folders for a mailing list of a mail server, and subjects as names."""
    lists = "".join(f"From - Mon Oct  6 10:00:00 2025\n{mail('list')}\n" for _ in range(2))
    names = ["dovecot", "dovecot-news", "courier-users", "Subscriptions", ".hidden", "old~", "mailboxes", "x.index"]
    write(tmp_path, {name: lists.replace("list", name) for name in names})
    plain = [".NET news.eml", "Dovecot 2.4.eml", "dovecot-3.eml", "courier.eml", "x.lock.eml"]
    write(tmp_path, {name: mail(name) for name in plain})
    write(tmp_path, {"dovecot-uidlist": "3 V1\n", "courierimapsubscribed": "INBOX\n", ".subscriptions": "a\n"})
    found, said = read(tmp_path)
    assert set(found) == {*names, *plain} and said == []
    assert found["Subscriptions"] == ("Subscriptions", [])


def test_what_is_left_out_is_said_by_kind(tmp_path):
    write(
        tmp_path,
        {
            "md/cur/1.a:2,S": mail("1"),
            "md/cur/sub/1": mail("inside"),
            "md/stray": mail("stray"),
            "mh/1": mail("m"),
            "mh/,2": mail("deleted"),
            "mh/#3": mail("deleted"),
            "tb/Inbox": f"From - Mon Oct  6 10:00:00 2025\n{mail('t')}",
            "tb/Inbox.msf": "x",
            "tb/stray": "x",
            "apple/x.mbox/Messages/1.partial.emlx": "x",
        },
    )
    (tmp_path / "md/cur/link").symlink_to("/nowhere")
    (tmp_path / "mh/link").symlink_to("/nowhere")
    found, said = read(tmp_path)
    assert set(found) == {"1", "m", "t"}
    assert sorted(line.replace(f"{tmp_path}/", "") for line in said) == [
        "apple/x.mbox/Messages/1.partial.emlx: left out: only a part of a message is here;"
        " let Apple Mail download the rest",
        "md/cur/link and 1 more: left out: neither a file nor a directory, but a link or a device",
        "md/cur/sub: left out: a directory in cur of a Maildir",
        "md/stray: left out: in a Maildir, but neither in cur nor in new",
        "mh/#3 and 1 more: left out: a message that was deleted in MH",
        "tb/stray: left out: no mailbox, beside those of Thunderbird",
    ]


def test_names(tmp_path):
    write(tmp_path, {"R&D/cur/1.a": mail("amp"), "&AMQ-rger/cur/1.a": mail("utf-7"), "%2efoo/cur/1.a": mail("ours")})
    assert {one: name for one, (name, _) in read(tmp_path)[0].items()} == {
        "amp": "R&D",
        "utf-7": "\u00c4rger",
        "ours": ".foo",
    }
    assert {one: name for one, (name, _) in read(tmp_path, utf8=True)[0].items()}["utf-7"] == "&AMQ-rger"


@given(
    st.lists(
        st.text(st.characters(exclude_characters="/", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20),
        min_size=1,
        max_size=3,
    )
)
def test_names_in_maildir_plus_plus_come_back(levels):
    name = "/".join(levels)
    if name.lower().startswith("inbox"):
        return
    written = maildir.dotted_name(name)
    assert written.startswith(".") and "/" not in written and written.isascii()
    tree = Tree.__new__(Tree)
    tree.utf8 = False
    assert "/".join(tree._level(part) for part in written[1:].split(".")) == name


# An mbox


@pytest.mark.parametrize(
    "line",
    [
        "From ann@example.org Mon Oct  6 10:00:00 2025",
        "From ann@example.org  Mon Oct 06 10:00:00 +0000 2025",
        "From ann@example.org Mon Oct  6 10:00 GMT 2025",
        "From ann@example.org Mon, 6 Oct 2025 10:00:00 +0000",
        "From ann@example.org 6 Oct 2025 10:00:00 +0000",
        "From ann@example.org 2025-10-06T10:00:00Z",
        "From - Mon Oct 6 10:00:00 2025",
        "From ann smith Mon Oct 6 10:00:00 2025",
        "From ann!host Mon Oct  6 10:00:00 2025 remote from host",
    ],
)
@pytest.mark.parametrize("between", ["\n", ""])
def test_from_lines(line, between):
    found, said = read_mbox(f"{line}\n{mail('1')}{between}{line}\n{mail('2')}{between}")
    assert [subject(one) for one in found] == ["1", "2"] and not said
    assert {one.date for one in found} == {1759744800}
    assert {one.octets.decode()[-5:] for one in found} == {"body\n"}


@pytest.mark.parametrize("line", ["From -", "From ann@example.org", "From ???@???", "From "])
def test_from_lines_without_a_date(line):
    """The time is that of the Date, then."""
    found, said = read_mbox(f"{line}\n{mail('1', 'Date: Mon, 6 Oct 2025 10:00:00 +0000')}\nFrom -\n{mail('2')}")
    assert [subject(one) for one in found] == ["1", "2"] and not said
    assert [one.date for one in found] == [1759744800, None]


def test_text_that_looks_like_a_separator_is_said():
    text = "From here on it is text.\n\nFrom here too\nFrom ann@example.org\nSubject: quoted\n\nFrom a b\nSubject: x\n"
    found, said = read_mbox(f"From a Mon Oct  6 10:00:00 2025\n{mail('1')}\n{text}")
    assert len(found) == 1 and text in found[0].octets.decode()
    assert said == ['line 10 and 1 more: a "From " line that was taken for text, not for the next message']


def test_quotes_and_line_ends():
    octets = f"From a Mon Oct  6 10:00:00 2025\n{mail('1')}\n>From x\n>>From y\n > From z\n\n".replace(
        "\n", "\r\n"
    ).encode()
    (one,), said = read_mbox(octets + octets.replace(b": 1", b": 2"))[0][:1], []
    assert one.octets.endswith(b"\r\nFrom x\r\n>From y\r\n > From z\r\n") and not said


def test_marks():
    start = "From - Mon Oct  6 10:00:00 2025\n"

    def flags(*fields):
        found, said = read_mbox(start + mail("x", *fields))
        return (found[0].flags if found else None), said

    assert flags("Status: RO", "X-Status: AF") == (["\\Seen", "\\Answered", "\\Flagged"], [])
    assert flags("X-Keywords: a $Label1  ") == (["a", "$Label1"], [])
    assert flags("X-Mozilla-Status: 1007", "X-Mozilla-Keys: $label1 work   ")[0] == [
        *("\\Seen", "\\Answered", "\\Flagged", "$Forwarded", "$label1", "work"),
    ]
    assert flags("X-Mozilla-Status: 0009") == (None, ["message 1: left out: expunged, but still in its file"])
    assert flags("Received: by x", "X-Mozilla-Status: 0009") == ([], [])  # the sender wrote it
    assert flags("X-Mozilla-Status: zzzz") == ([], [])


def test_data_of_a_mail_program_is_only_the_first_message():
    """A sender can write that subject, too; so it is said even there."""
    data = f"From - Mon Oct  6 10:00:00 2025\n{mail(INTERNAL_DATA)}\n"
    found, said = read_mbox(data + data + data.replace("Subject: ", "Subject: Re: "))
    assert [subject(one) for one in found] == [INTERNAL_DATA, f"Re: {INTERNAL_DATA}"]
    assert said == ["message 1: left out: no message, but data of a mail program"]
    assert mbox.has_several(io.BytesIO((data + data).encode()))


def test_no_mbox():
    with pytest.raises(NoInput):
        read_mbox("x\n")
    assert read_mbox("") == ([], [])


@given(st.text(st.sampled_from("From >:a@\n 1Subject"), max_size=200))
def test_no_octet_of_an_mbox_is_lost(text):
    """What is no message line is in a message, but for quotes and the empty line before the next one."""
    octets = f"From a Mon Oct  6 10:00:00 2025\n{text}"
    found, _ = read_mbox(octets)
    kept = "".join(one.octets.decode() for one in found)
    plain = text.replace(">From ", "From ")
    assert len(kept) >= len(plain) - 2 * len(found) - sum(
        len(line) + 1 for line in plain.split("\n") if "From " in line
    )


# Gmail


@pytest.mark.parametrize(
    "value, mailbox, flags",
    [
        ("Inbox,Unread", "INBOX", []),
        ("Inbox,Opened,Important", "INBOX", ["\\Seen"]),
        ("Sent,Opened", "Sent", ["\\Seen"]),
        ("Trash,Inbox", "Trash", ["\\Seen"]),
        ("Spam,Unread", "Junk", []),
        ("Drafts", "Drafts", ["\\Seen", "\\Draft"]),
        ("Archived,Category Promotions", "Archive", ["\\Seen"]),
        ("Starred,Inbox,Work/Project", "INBOX", ["\\Seen", "\\Flagged", "Work/Project"]),
        ("Work/Project,Home,Opened", "Work/Project", ["\\Seen", "Home"]),
        ('"a, b",Inbox', "INBOX", ["\\Seen", "a_b"]),
        ("=?UTF-8?Q?Posteingang,Ungelesen,Caf=C3=A9?=", "INBOX", ["Caf_"]),
        ("=?UTF-8?Q?Gesendet,Ge=C3=B6ffnet?=", "Sent", ["\\Seen"]),
        ("=?UTF-8?Q?Entw=C3=BCrfe?=", "Drafts", ["\\Seen", "\\Draft"]),
        ("=?UTF-8?Q?Bo=C3=AEte_de_r=C3=A9ception,Non_lus?=", "INBOX", []),
        ("Recibidos,Destacados,Abiertos", "INBOX", ["\\Seen", "\\Flagged"]),
    ],
)
def test_labels(value, mailbox, flags):
    assert labels.read(value.encode()) == (mailbox, flags)


# All the way


def run(*command, octets=b"", code=0):
    done = subprocess.run([str(word) for word in command], input=octets, capture_output=True, check=False)
    assert done.returncode == code, (command, done.stderr[-500:])
    return done.stdout


@pytest.fixture
def home(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("CSPOOL_HOME", str(home))
    run("cspool-keygen", home / "key")
    run("cspool-mkspool", tmp_path / "spool")
    (home / "spool").write_text(f"{tmp_path}/spool\n")
    return home


def test_a_takeout_goes_in_and_out_again(tmp_path, home):
    """3,000 mails with labels in two languages; then out, and into another user's home, the same."""
    kinds = [
        "Inbox,Unread",
        "Inbox,Opened",
        "Sent",
        "Work,Opened,Starred",
        "=?UTF-8?Q?Posteingang,Ge=C3=B6ffnet?=",
        "Papierkorb",
    ]
    takeout = "".join(
        f"From {n}@xxx Mon Oct 06 10:00:00 +0000 2025\nX-GM-THRID: {n}\nX-Gmail-Labels: {kinds[n % 6]}\n{mail(n)}\n"
        for n in range(3000)
    )
    seal = ["cspool-seal", f"--to={home}/key.pub"]
    run("cspool-append", octets=run(*seal, "--mbox", octets=takeout.encode()))
    run("cspool-sync", "--quiet")
    for layout in ("--maildir=out", "--maildir=out++"):
        options = ["--maildir++"] if layout.endswith("++") else []
        run("cspool-export", layout.replace("out", f"{tmp_path}/out"), *options)
    trees = [list(Tree(str(tmp_path / name), "INBOX", LeftOut())) for name in ("out", "out++")]
    rows = [sorted((one.mailbox, one.octets, one.date, one.flags) for one in tree) for tree in trees]
    assert rows[0] == rows[1] and len(rows[0]) == 3000
    count = {name: sum(row[0] == name for row in rows[0]) for name in ("INBOX", "Sent", "Work", "Trash")}
    assert count == {"INBOX": 1500, "Sent": 500, "Work": 500, "Trash": 500}
    assert {row[2] for row in rows[0]} == {1759744800}
    assert sum("\\Seen" not in row[3] for row in rows[0]) == 500 == sum("\\Flagged" in row[3] for row in rows[0])
    assert {row[1] for row in rows[0]} == {
        f"X-GM-THRID: {n}\nX-Gmail-Labels: {kinds[n % 6]}\n{mail(n)}".encode() for n in range(3000)
    }


def test_the_status_says_that_something_is_left_out(tmp_path, home):
    write(tmp_path / "mh", {"1": mail("1"), ",2": mail("2")})
    stream = run("cspool-seal", f"--to={home}/key.pub", f"--maildir={tmp_path}/mh", code=65)
    run("cspool-append", octets=stream)
    assert Path(tmp_path / "spool").is_dir()
