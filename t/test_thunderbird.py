"""Thunderbird without a screen, driven over Marionette: it reads, flags, moves, deletes, searches and saves mail.

Each step is checked at the server, by another client.
"""

import itertools
import json
import os
import shutil
import socket
import subprocess
import time

import pytest
from conftest import Home
from imap import Client, Mailboxes, mail

PREFERENCES = {
    "mail.accountmanager.accounts": "account1,account2",
    "mail.accountmanager.defaultaccount": "account1",
    "mail.accountmanager.localfoldersserver": "server2",
    "mail.account.account1.identities": "id1",
    "mail.account.account1.server": "server1",
    "mail.account.account2.server": "server2",
    "mail.identity.id1.useremail": "alice@example.org",
    "mail.identity.id1.fullName": "Alice",
    "mail.identity.id1.valid": True,
    "mail.server.server1.type": "imap",
    "mail.server.server1.hostname": "127.0.0.1",
    "mail.server.server1.userName": "alice",
    "mail.server.server1.name": "alice",
    "mail.server.server1.socketType": 0,
    "mail.server.server1.authMethod": 3,
    "mail.server.server1.check_new_mail": False,
    "mail.server.server1.login_at_startup": False,
    "mail.server.server2.type": "none",
    "mail.server.server2.hostname": "Local Folders",
    "mail.server.server2.userName": "nobody",
    "mail.server.server2.name": "Local Folders",
    "mail.provider.suppress_dialog_on_startup": True,
    "mail.spotlight.firstRunDone": True,
    "datareporting.policy.dataSubmissionPolicyBypassNotification": True,
    "app.update.enabled": False,
    "app.donation.eoy.version.viewed": 999,
}

# What each script begins with. One that takes its time calls `done` with its result.
BEGIN = """
const given = [...arguments], done = given[given.length - 1];
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const server = MailServices.accounts.findServer("alice", "127.0.0.1", "imap");
const folder = name => name == "INBOX" ? server.rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox)
                                       : server.rootFolder.getChildNamed(name);
const message = (box, subject) => [...folder(box).messages].find(one => one.mime2DecodedSubject == subject);
const copied = { onStartCopy() {}, onProgress() {}, setMessageKey() {}, getMessageId() {}, onStopCopy: done };
"""


class Thunderbird:
    """A running Thunderbird; calls run a script in it, which calls `done` with its result."""

    def __init__(self, port):
        end = time.monotonic() + 120
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", port), timeout=120)
                break
            except ConnectionRefusedError:
                assert time.monotonic() < end
                time.sleep(0.2)
        self.file = self.socket.makefile("rb")
        self.count = itertools.count(1)
        self.read()
        self.command("WebDriver:NewSession", {"capabilities": {}})
        self.command("Marionette:SetContext", {"value": "chrome"})
        self.command("WebDriver:SetTimeouts", {"script": 90_000})

    def read(self):
        length = b""
        while (octet := self.file.read(1)) != b":":
            assert octet, "it has ended"
            length += octet
        return json.loads(self.file.read(int(length)))

    def command(self, name, parameters):
        number = next(self.count)
        octets = json.dumps([0, number, name, parameters]).encode()
        self.socket.sendall(b"%d:%b" % (len(octets), octets))
        _, answered, error, result = self.read()
        assert answered == number
        assert not error, error
        return result

    def run(self, script, *arguments, how="ExecuteScript"):
        parameters = {"script": BEGIN + script, "args": arguments, "sandbox": "system", "newSandbox": True}
        return self.command(f"WebDriver:{how}", parameters)["value"]

    def wait(self, script, *arguments):
        """Return what the script gives to `done`."""
        return self.run(script, *arguments, how="ExecuteAsyncScript")

    def mailboxes(self):
        """Return the names of the mailboxes that it knows, and look for new ones."""
        return self.run("server.performExpand(null); return server.rootFolder.subFolders.map(one => one.name).sort();")

    def subjects(self, name):
        """Return the subjects of the messages that it shows in a mailbox, and look for new ones."""
        return self.run("""
            const box = folder(given[0]);
            box.updateFolder(null);
            return [...box.messages].map(one => one.mime2DecodedSubject).sort();""", name)  # fmt: skip


def until(look, expected, every=0.1):
    """Look each so many seconds, until what is expected is returned."""
    end = time.monotonic() + 90
    while (seen := look()) != expected:
        assert time.monotonic() < end, seen
        time.sleep(every)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture
def boxes(tmp_path):
    boxes = Mailboxes(tmp_path / "mail.db")
    for number in range(1, 5):
        boxes.append(mail(f"message {number}", f"The text of {number}.", date="Fri, 27 Nov 2026 08:00:00 +0000",
                          message_id=f"<{number}@example.org>"))  # fmt: skip
    return boxes


@pytest.fixture
def thunderbird(tmp_path, boxes):
    if not shutil.which("thunderbird"):
        if os.environ.get("CSPOOL_NO_SKIP"):
            pytest.fail("must not be skipped: thunderbird is not installed")
        pytest.skip("thunderbird is not installed")
    home = Home(tmp_path)
    home.pipe("echo secret | cspool-imapd --set-password")
    port, marionette = free_port(), free_port()
    profile = tmp_path / "profile"
    profile.mkdir()
    preferences = {**PREFERENCES, "mail.server.server1.port": port, "marionette.port": marionette}
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in preferences.items()]
    (profile / "user.js").write_text("".join(lines))
    environment = {**home.environment, "HOME": str(tmp_path), "MOZ_HEADLESS": "1", "MOZ_CRASHREPORTER_DISABLE": "1"}
    with (
        subprocess.Popen(["cspool-imapd", f"--listen=127.0.0.1:{port}"], env=environment) as server,
        (tmp_path / "thunderbird.log").open("wb") as log,
        subprocess.Popen(
            ["thunderbird", "--headless", "--no-remote", "--marionette", "--remote-allow-system-access",
             "--profile", profile],
            env=environment, stdout=log, stderr=log, start_new_session=True,
        ) as process,
    ):  # fmt: skip
        try:
            yield Thunderbird(marionette)
        finally:
            os.killpg(process.pid, 9)
            server.terminate()


@pytest.fixture
def other(boxes):
    """Another client, which sees what is at the server."""
    client = Client(boxes.path)
    yield client
    client.close()


def test_a_day_with_thunderbird(thunderbird, boxes, other, tmp_path):
    def found(mailbox, keys):
        other.ok(f"EXAMINE {mailbox}")
        return other.ok(f"SEARCH {keys}")[0].decode()

    thunderbird.wait("""
        const login = Cc["@mozilla.org/login-manager/loginInfo;1"].createInstance(Ci.nsILoginInfo);
        login.init("imap://127.0.0.1", null, "imap://127.0.0.1", "alice", "secret", "", "");
        Services.logins.addLoginAsync(login).then(done, done);""")
    # It reads, and shows the mailboxes that everybody has.
    until(lambda: thunderbird.subjects("INBOX"), [f"message {number}" for number in range(1, 5)])
    until(thunderbird.mailboxes, ["Archive", "Drafts", "INBOX", "Junk", "Sent", "Trash"], every=1)
    text = thunderbird.wait("""
        const uri = folder("INBOX").getUriForMsg(message("INBOX", "message 1"));
        MailServices.messageServiceFromURI(uri).streamMessage(uri, {
            text: "", onStartRequest() {}, onStopRequest() { done(this.text); },
            onDataAvailable(_, stream, __, count) {
                const reader = Cc["@mozilla.org/scriptableinputstream;1"].createInstance(Ci.nsIScriptableInputStream);
                reader.init(stream);
                this.text += reader.read(count);
            }}, null, null, false, "");""")
    assert "The text of 1." in text

    thunderbird.run('folder("INBOX").markMessagesFlagged([message("INBOX", "message 2")], true)')
    until(lambda: found("INBOX", 'FLAGGED SUBJECT "message 2"'), "SEARCH 2")

    status = thunderbird.wait("""
        MailServices.copy.copyMessages(folder("INBOX"), [message("INBOX", "message 3")], folder("Archive"), true,
                                       copied, null, false);""")
    assert status == 0
    until(lambda: found("Archive", 'SUBJECT "message 3"'), "SEARCH 1")
    assert found("INBOX", 'SUBJECT "message 3"') == "SEARCH"

    thunderbird.run('folder("INBOX").deleteMessages([message("INBOX", "message 4")], null, false, false, null, true)')
    until(lambda: found("Trash", 'SUBJECT "message 4"'), "SEARCH 1")
    assert found("INBOX", "UNDELETED ALL") == "SEARCH 1 2"

    hits = thunderbird.wait("""
        const session = Cc["@mozilla.org/messenger/searchSession;1"].createInstance(Ci.nsIMsgSearchSession);
        session.addScopeTerm(Ci.nsMsgSearchScope.onlineMail, folder("INBOX"));
        const term = session.createTerm(), value = term.value;
        term.attrib = value.attrib = Ci.nsMsgSearchAttrib.Body;
        value.str = "text of 2";
        term.value = value;
        term.op = Ci.nsMsgSearchOp.Contains;
        session.appendTerm(term);
        const hits = [];
        session.registerListener({ onNewSearch() {}, onSearchHit(one) { hits.push(one.mime2DecodedSubject); },
                                   onSearchDone() { done(hits); } });
        session.search(null);""")
    assert hits == ["message 2"]

    (tmp_path / "sent.eml").write_bytes(mail("sent", "From here.", message_id="<sent@example.org>"))
    status = thunderbird.wait("""
        const file = Cc["@mozilla.org/file/local;1"].createInstance(Ci.nsIFile);
        file.initWithPath(given[0]);
        MailServices.copy.copyFileMessage(file, folder("Sent"), null, false, Ci.nsMsgMessageFlags.Read, "",
                                          copied, null);
        """, str(tmp_path / "sent.eml"))  # fmt: skip
    assert status == 0
    until(lambda: found("Sent", "SUBJECT sent"), "SEARCH 1")

    # What comes later, and what another client does, reaches it.
    boxes.append(mail("message 5", "Text 5."))
    until(lambda: thunderbird.subjects("INBOX"), ["message 1", "message 2", "message 5"])
    other.ok("SELECT INBOX")
    other.ok("STORE 1 +FLAGS (\\Flagged)")
    flagged = 'folder("INBOX").updateFolder(null); return message("INBOX", "message 1").isFlagged;'
    until(lambda: thunderbird.run(flagged), True)
