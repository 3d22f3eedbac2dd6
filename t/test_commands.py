"""Which change wins when two machines disagree: each row of the table in cspool-commands(5)."""

import pytest
from cspool import command
from log import ALICE, Device, Log

MAIL = b"Subject: x\r\n\r\n"
MESSAGE = command.delivery_id("INBOX", MAIL)
WORK = command.create_id(bytes(16), "Work")
PLAY = command.create_id(bytes(16), "Play")
NONCE = "01" * 16  # of the first machine; the second has another


def do(what, **fields):
    return {"do": what, **fields}


IDS = MESSAGE.hex()
SEEN, UNSEEN = do("add-flags", flags=["\\Seen"], ids=IDS), do("remove-flags", flags=["\\Seen"], ids=IDS)
FLAGGED = do("add-flags", flags=["\\Flagged"], ids=IDS)
EXPUNGE = do("expunge", ids=IDS)
TO_WORK, TO_PLAY = do("move", ids=IDS, mailbox=WORK.hex()), do("move", ids=IDS, mailbox=PLAY.hex())
COPY, COPY_TOO = (do("copy", ids=IDS, mailbox=WORK.hex(), nonce=nonce * 16) for nonce in ("01", "02"))
NEW, NEW_TOO = (do("create", name="New", nonce=nonce * 16) for nonce in ("01", "02"))
INTO_NEW = do("move", ids=IDS, mailbox=command.create_id(b"\2" * 16, "New").hex())
RENAME, RENAME_TOO = (do("rename", mailbox=WORK.hex(), name=name) for name in ("Old", "Older"))
PLAY_IS_OLD = do("rename", mailbox=PLAY.hex(), name="Old")
DELETE = do("delete", mailbox=WORK.hex(), ids="")
WORK_AGAIN = do("create", name="Work", nonce="03" * 16)
SUBSCRIBE, UNSUBSCRIBE = do("subscribe", name="Work"), do("unsubscribe", name="Work")
ALL = {"INBOX", "Play", "Work"}


@pytest.mark.parametrize(
    "first, second, messages, mailboxes",
    [
        ([SEEN], [UNSEEN], [("INBOX", "")], ALL),
        ([UNSEEN], [SEEN], [("INBOX", "\\Seen")], ALL),
        ([SEEN], [FLAGGED], [("INBOX", "\\Flagged \\Seen")], ALL),
        ([EXPUNGE], [FLAGGED], [], ALL),
        ([FLAGGED], [EXPUNGE], [], ALL),
        ([EXPUNGE], [TO_WORK], [], ALL),
        ([TO_WORK], [EXPUNGE], [], ALL),
        ([COPY], [EXPUNGE], [("Work", "")], ALL),
        ([EXPUNGE], [COPY], [], ALL),
        ([TO_WORK], [TO_PLAY], [("Play", "")], ALL),
        ([COPY], [COPY_TOO], [("INBOX", ""), ("Work", ""), ("Work", "")], ALL),
        ([NEW], [NEW_TOO, INTO_NEW], [("New", "")], ALL | {"New"}),
        ([RENAME], [RENAME_TOO], [("INBOX", "")], {"INBOX", "Play", "Older"}),
        ([TO_WORK, RENAME], [PLAY_IS_OLD], [("Old", "")], {"INBOX", "Old"}),
        ([TO_WORK, RENAME], [DELETE], [("INBOX", "")], {"INBOX", "Play"}),
        ([DELETE], [RENAME], [("INBOX", "")], {"INBOX", "Play"}),
        ([DELETE], [TO_WORK], [("INBOX", "")], {"INBOX", "Play"}),
        ([TO_WORK], [DELETE], [("INBOX", "")], {"INBOX", "Play"}),
        ([TO_WORK, {**DELETE, "ids": IDS}], [FLAGGED], [], {"INBOX", "Play"}),
        ([TO_WORK], [DELETE, WORK_AGAIN], [("INBOX", "")], ALL),
    ],
)
def test_two_machines(tmp_path, first, second, messages, mailboxes):
    log = Log()
    log.append(command.deliver(MAIL, 1), ALICE)
    one, two = Device(tmp_path, "one.db"), Device(tmp_path, "two.db")
    one.fetch(log)
    for name in ("Work", "Play"):
        one.change(do("create", name=name, nonce="00" * 16))
    one.push(log)
    for device, changes in ((one, first), (two, second)):
        device.fetch(log)
        for change in changes:
            device.change(change)
    for device in (one, two):
        device.push(log)
    for device in (one, two):
        device.fetch(log)
        state = sorted((name, flags) for name, _, flags in device.state().elements())
        assert (state, set(device.mailboxes().values())) == (messages, mailboxes)
        assert not device.db.execute("SELECT 1 FROM outbox").fetchone()


@pytest.mark.parametrize("first, second, subscribed", [(SUBSCRIBE, UNSUBSCRIBE, False), (UNSUBSCRIBE, SUBSCRIBE, True)])
def test_subscriptions(tmp_path, first, second, subscribed):
    log = Log()
    devices = [Device(tmp_path, name) for name in ("one.db", "two.db")]
    for device, change in zip(devices, (first, second), strict=True):
        device.fetch(log, 0)
        device.change(change)
    for device in devices:
        device.push(log)
    for device in devices:
        device.fetch(log)
        assert ("Work" in device.subscribed()) is subscribed


def test_metadata(tmp_path):
    """It goes with its mailbox: kept by a rename, gone with a delete, and with a rename to a name that is taken."""
    log, one, two = Log(), Device(tmp_path, "one.db"), Device(tmp_path, "two.db")
    one.fetch(log)
    entry = {"entry": "/private/comment"}
    for name in ("Work", "Play"):
        one.change(do("create", name=name, nonce="00" * 16))
    play = command.create_id(bytes(16), "Play")
    for mailbox in (WORK, play, command.INBOX):
        one.change(do("set-metadata", **entry, mailbox=mailbox.hex(), value=mailbox.hex()))
    one.change(do("set-metadata", **entry, value=""))
    one.push(log)
    two.fetch(log)
    every = {(None, "/private/comment"): b""}
    every |= {(mailbox, "/private/comment"): mailbox for mailbox in (WORK, play, command.INBOX)}
    assert two.metadata() == every
    one.change(do("rename", mailbox=WORK.hex(), name="Job"))
    assert one.metadata() == every
    one.change(do("rename", mailbox=WORK.hex(), name="Play"))  # its id stands for the other one's from here on
    two.change(do("set-metadata", **entry, mailbox=WORK.hex(), value="00"))
    two.change(do("set-metadata", **entry))
    for device in (one, two):
        device.push(log)
    for device in (one, two):
        device.fetch(log)
        assert device.metadata() == {(play, "/private/comment"): b"\0", (command.INBOX, "/private/comment"): bytes(16)}
    one.change(do("delete", mailbox=WORK.hex(), ids=""))
    assert list(one.metadata()) == [(command.INBOX, "/private/comment")]
    one.push(log)
    two.change(do("set-metadata", **entry, mailbox=play.hex(), value="01"))  # too late
    two.push(log)
    for device in (one, two):
        device.fetch(log)
        assert list(device.metadata()) == [(command.INBOX, "/private/comment")]


def test_a_delivery_makes_a_deleted_mailbox_again(tmp_path):
    log, one = Log(), Device(tmp_path, "one.db")
    one.fetch(log)
    one.change(do("create", name="Work", nonce="00" * 16))
    one.change(DELETE)
    one.push(log)
    log.append(command.deliver(MAIL, 1, "Work"), ALICE)
    one.fetch(log)
    assert list(one.mailboxes()) != [command.INBOX, WORK]
    assert [(name, flags) for name, _, flags in one.state()] == [("Work", "")]
