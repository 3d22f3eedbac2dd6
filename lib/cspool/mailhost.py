"""Setting up the mail host over ssh: a home there with a key of its own, and the line that delivers through it."""

import base64
import os
import shlex
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable
from typing import NamedTuple

from . import home, keys, pipeline
from .database import schema, view
from .errors import BadConfig, CannotCreate, DataError, NoInput, TryAgain, UsageError
from .keys import PublicKey

SSH_FAILED = 255
MAIL_PATH = ("/usr/bin", "/bin")  # where a mail server finds programs
FILES = (".cspool/key.pub", ".cspool/recipient", ".cspool/spool", ".forward")
MARK = "cspool-setup:"  # begins each line that we ask for; a login may print others
# Prints the working directory, where the tools are, and the lines of each file that is there.
LOOK = (
    f'echo "{MARK}cwd $PWD"; echo "{MARK}tool $(command -v cspool-seal)";'
    f' [ ! -e .cspool ] || echo "{MARK}there .cspool";'
    f" for f in {' '.join(FILES)}; do"
    f' [ ! -e "$f" ] || {{ echo "{MARK}there $f"; sed "s|^|{MARK}in $f |" "$f"; echo; }}; done'
)
PATIENCE = 120  # seconds in which a test message has to arrive

Say = Callable[[str, str], None]  # shows why something is done, and the command that does it


class There(NamedTuple):
    """What is on the mail host: the home directory of the account, where the tools are, and the files, by name."""

    directory: str
    tools: str
    files: dict[str, str]


def ssh(host: str, script: str, given: bytes = b"") -> bytes:
    """Run a script there, in the home directory; return what it prints. Raises TryAgain with its last error."""
    command = ["ssh", host, f"sh -c {shlex.quote(script)}"]  # the login shell may be another one
    done = subprocess.run(command, input=given, capture_output=True, check=False)
    if done.returncode == SSH_FAILED:
        raise TryAgain(f"{host}: {pipeline.last_line(done.stderr, 'ssh')}: does ssh {host} work by itself?")
    if done.returncode:
        raise TryAgain(f"{host}: {pipeline.last_line(done.stderr, 'sh')}")
    return done.stdout


def look(host: str) -> There:
    """Return what is on the mail host. Raises TryAgain, also if cspool is not installed there."""
    directory, tool, files = "", "", {}
    for line in ssh(host, LOOK).decode("utf-8", "replace").splitlines():
        word, _, rest = line.removeprefix(MARK).partition(" ")
        if not line.startswith(MARK):
            continue
        if word == "cwd":
            directory = rest
        elif word == "tool":
            tool = rest
        elif word == "there":
            files[rest] = ""
        elif word == "in":
            name, _, text = rest.partition(" ")
            files[name] += text + "\n"
    if not tool.startswith("/"):
        raise TryAgain(f"{host}: cspool is not installed there, or not in PATH")
    return There(directory, os.path.dirname(tool), files)


def set_up(host: str, with_forward: bool, say: Say) -> None:
    """Set up the mail host, and trust its key. What is there already is left alone, and not shown.

    Raises BadConfig if it seals to another key, or CannotCreate for a .forward with other lines.
    """
    public, there = keys.read_public(home.path("key.pub")), look(host)
    spool = spool_there(host, there)
    _check_recipient(host, there, public)

    def run(why: str, script: str) -> None:
        say(why, f"ssh {host} {_quoted(script)}")
        ssh(host, script)

    if ".cspool" not in there.files:
        run("A home for cspool on the mail host.", "mkdir -m 700 .cspool")
    if not there.files.get(".cspool/key.pub", "").strip():
        run("A key of its own, which can only deliver.", "cspool-keygen .cspool/key")
    if not there.files.get(".cspool/recipient", "").strip():
        run("Your public key, to which it seals.", f"echo {shlex.quote(public.line())} >.cspool/recipient")
    if there.files.get(".cspool/spool", "").strip() != spool:
        run("Where it appends.", f"echo {shlex.quote(spool)} >.cspool/spool")
    _trust(host, look(host).files.get(".cspool/key.pub", ""), say)
    line = forward_line(there)
    lines = [one for one in there.files.get(".forward", "").splitlines() if one.strip() and not one.startswith("#")]
    if with_forward and not any("cspool-seal" in one for one in lines):
        if lines:
            raise CannotCreate(f"{host}: .forward there has other lines: add {line} by hand, and run this again")
        run("From now on, each message goes through it.", f"echo {shlex.quote(line)} >.forward")


def _quoted(script: str) -> str:
    """Return a script as a word of the shell, in the quotes that are easier to read."""
    return f'"{script}"' if "'" in script and not set('"$`\\!') & set(script) else shlex.quote(script)


def _check_recipient(host: str, there: There, public: PublicKey) -> None:
    if there.files.get(".cspool/key.pub", "").split()[1:2] == public.line().split()[1:2]:
        raise BadConfig(f"{host}: .cspool there is the home of a machine of yours: the mail host needs one of its own")
    recipient = there.files.get(".cspool/recipient", "").strip()
    if not recipient:
        return
    key = recipient.split()[1:2]
    if key and key == there.files.get(".cspool/key.pub", "").split()[1:2]:
        raise BadConfig(
            f"{host}: .cspool/recipient there is the key of that host: only it could read the mail: remove it"
        )
    if key != public.line().split()[1:2]:
        raise BadConfig(
            f"{host}: .cspool/recipient there is another key than yours: remove it, if mail there is for you"
        )


def spool_there(host: str, there: There) -> str:
    """Return where the mail host appends: the spool as it is named there. Raises UsageError if that is not known."""
    spool = home.spool_to_append(None)
    if home.is_remote(spool):
        server, _, path = spool.partition(":")
        if server == host:
            if not path:
                raise UsageError(
                    f"{spool}: where it is on {host} is not known: write {spool}PATH into {home.path('spool')}"
                )
            return os.path.join(there.directory, path)
    elif not home.is_url(spool):
        raise UsageError(f"{spool}: a directory here, which {host} cannot reach")
    return spool


def forward_line(there: There) -> str:
    """Return the line for .forward, with the paths of tools that the mail server would not find."""
    where = "" if there.tools in MAIL_PATH else f"{there.tools}/"
    return f'"|{where}cspool-seal | {where}cspool-append || exit 75"'


def _trust(host: str, public: str, say: Say) -> None:
    """Trust the key of the mail host, which is the text of its key.pub, unless that is so already."""
    with tempfile.NamedTemporaryFile("w", prefix="mailhost.", suffix=".pub") as file:
        file.write(public)
        file.flush()
        sign = base64.b64encode(keys.read_public(file.name).sign).decode()
        listed = pipeline.run(["cspool-trust", "--list"], stdout=subprocess.PIPE).stdout.decode(errors="replace")
        if any(line.split()[:2] in (["trusted", sign], ["trust-pending", sign]) for line in listed.splitlines()):
            return
        say("It may deliver to you.", f"ssh {host} cat .cspool/key.pub >mailhost.pub && cspool-trust mailhost.pub")
        if pipeline.run(["cspool-trust", file.name]).returncode:
            raise DataError(f"{host}: its key cannot be trusted")


def remember(host: str) -> None:
    """Note the mail host in the home, for `test`."""
    with open(home.path("mailhost"), "w") as file:
        file.write(f"{host}\n")


def test(say: Say) -> float:
    """Send a message through the mail server of the mail host; return in how many seconds it was here.

    Raises TryAgain if it has not come in PATIENCE seconds.
    """
    try:
        host = home.value("mailhost")
    except NoInput:
        raise UsageError("--test: which mail host is not known: cspool-setup --mail-host=HOST first") from None
    message_id = f"<{uuid.uuid4()}@cspool.invalid>"
    script = 'sendmail -i "$(id -un)"'
    say("A test message, through the mail server there.", f"ssh {host} {shlex.quote(script)} <message")
    text = f"Message-ID: {message_id}\nSubject: cspool test\n\nThis message has come all the way.\n"
    begun = time.monotonic()
    ssh(host, f"PATH=$PATH:/usr/sbin:/usr/lib; {script}", text.encode())
    known, why = 0, "the log of the mail server there says why"
    while time.monotonic() - begun <= PATIENCE:
        try:
            end = pipeline.head(home.spool(None)).next
        except TryAgain as error:
            end, why = known, str(error)
        if end != known:  # a sync may ask for the passphrase: only when there is something
            done = pipeline.run(["cspool-sync"], stderr=subprocess.PIPE)
            if done.returncode:
                why = pipeline.last_line(done.stderr, "cspool-sync")
            if done.returncode not in (os.EX_OK, os.EX_DATAERR, os.EX_TEMPFAIL):
                break
            known = known if done.returncode == os.EX_TEMPFAIL else end
            with schema.opened(home.path("mail.db")) as db:
                if view.has_message(db, message_id.encode()):
                    return time.monotonic() - begun
        time.sleep(0.5)
    raise TryAgain(f"the test message has not come: {why}; mailq on {host} shows what waits")
