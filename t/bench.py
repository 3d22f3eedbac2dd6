"""Benchmarks: the cost of each step, beside the least it could cost and the cost of other programs, in one run.

Usage: python t/bench.py [MESSAGES] [--json]     (make bench MESSAGES=10000)

The times of one machine say little; the ratios count. Programs that are not
installed (age, gpg, dovecot, mbsync) are left out, and named. The mail is that
in CSPOOL_CORPUS or else t/mail, repeated as often as needed, each message with
a number of its own.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "lib"))

import cspool
import history
import nacl.public
import nacl.signing
from cspool.octets import without_envelope

HISTORY = TOP / ".bench-history"  # beside it is the picture
RUNS = 15  # of a short command
INDEX = "DATE FROM SENDER SUBJECT TO CC MESSAGE-ID REFERENCES CONTENT-TYPE IN-REPLY-TO REPLY-TO LIST-POST"
GROWS = ("search of text", "SORT", "THREAD")  # have a cost for each message
IMAP = {
    "SELECT": "SELECT INBOX",
    "STATUS": "STATUS INBOX (MESSAGES UNSEEN UIDNEXT)",
    "flags of all": "FETCH 1:* (UID FLAGS)",
    "ENVELOPE of all": "FETCH 1:* ENVELOPE",
    "BODYSTRUCTURE of all": "FETCH 1:* BODYSTRUCTURE",
    "index headers of all": f"FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS ({INDEX})])",
    "headers of all": "FETCH 1:* BODY.PEEK[HEADER]",
    "bodies of all": "FETCH 1:* BODY.PEEK[]",
    "one body": "FETCH 7 BODY.PEEK[]",
    "search of text": "SEARCH TEXT nowhere-to-be-found",
    "SORT": "SORT (SUBJECT DATE) UTF-8 ALL",
    "THREAD": "THREAD REFERENCES UTF-8 ALL",
    "STORE of one": "STORE 3 %FLAGS (one)",
    "STORE of all": "STORE 1:* %FLAGS.SILENT (all)",
    "APPEND": None,
}
# In a small process of its own: ru_maxrss includes the memory that a process had before exec.
MEASURE = """
import resource, subprocess, sys, time
begun = time.perf_counter()
subprocess.run(sys.argv[1], shell=True, check=True)
print(time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
SIGNS = "+-+-"  # of STORE, in turn, since setting a flag that is set costs nothing; the first is not counted


class Bench:
    def __init__(self, directory, count):
        self.directory = Path(directory)
        self.count = count
        self.results = []  # (section, what, seconds, what it is compared with, seconds of that)
        self.left_out = []
        self.environment = {**os.environ, "HOME": directory, "CSPOOL_HOME": f"{directory}/laptop"}
        # Installed as for a user, with compiled modules.
        make = ["make", "-s", "-C", TOP, "install", f"PREFIX={directory}/usr", f"PYTHON={sys.executable}"]
        subprocess.run(make, check=True)
        self.environment["PATH"] = f"{directory}/usr/bin:{os.environ['PATH']}"

    def say(self, section, what, seconds, beside=None, of_that=None):
        self.results.append((section, what, seconds, beside, of_that))
        ratio = f"  {seconds / of_that:6.2f} x {beside}" if beside else ""
        print(f"{section:8} {what:32} {show(seconds):>12}{ratio}", flush=True)

    def say_bulk(self, what, seconds, beside, of_that):
        self.say("bulk", what, seconds, beside, of_that)
        messages, octets = self.count / seconds, self.octets / 1e6 / seconds
        print(f"         {messages:,.0f} messages and {octets:,.1f} MB a second", flush=True)

    def has(self, program):
        if shutil.which(program) or os.path.exists(program):
            return True
        self.left_out.append(program)
        return False

    def run(self, command, stdin=None, **options):
        """Run a shell command; return the seconds that it took."""
        begun = time.perf_counter()
        subprocess.run(
            command, shell=True, check=True, stdin=stdin, cwd=self.directory, env=self.environment, **options
        )
        return time.perf_counter() - begun

    def apply(self):
        """Fetch and apply; return the seconds. `memory` becomes the octets of the largest process."""
        command = [sys.executable, "-c", MEASURE, "cspool-fetch | cspool-apply"]
        done = subprocess.run(command, check=True, cwd=self.directory, env=self.environment, stdout=subprocess.PIPE)
        took, kibibytes = done.stdout.split()
        self.memory = int(kibibytes) << 10
        return float(took)

    # What is there

    def prepare(self):
        """Create the homes, a spool, and the mail as a directory of files."""
        self.run(
            "mkdir -m 700 laptop host mail && cspool-keygen laptop/key && cspool-keygen host/key"
            " && cspool-mkspool spool && echo $PWD/spool | tee laptop/spool > host/spool"
            " && cp laptop/key.pub host/recipient && cspool-fetch | cspool-apply"
            " && cspool-trust host/key.pub && cspool-sync"
        )
        corpus = Path(os.environ.get("CSPOOL_CORPUS") or TOP / "t" / "mail")
        mails = [path.read_bytes() for path in sorted(corpus.rglob("*")) if path.is_file()]
        mails = [without_envelope(mail) for mail in mails if 0 < len(mail) < 100_000]
        self.octets = 0
        for number in range(self.count):
            mail = b"X-Number: %d\n" % number + mails[number % len(mails)].replace(b"\r\n", b"\n")
            self.octets += len(mail)
            (self.directory / "mail" / str(number)).write_bytes(mail)
        print(f"{self.count:,} messages, {self.octets / 1e6:,.1f} MB\n")

    # (a)

    def one_message(self):
        commands = {
            "python -c pass": f"{sys.executable} -c pass",
            "cspool-seal": "CSPOOL_HOME=host cspool-seal < mail/0 > sealed",
            "cspool-append": "CSPOOL_HOME=host cspool-append < sealed",
        }
        if self.has("age"):
            self.run("age-keygen -o age.key 2>/dev/null && age-keygen -y age.key > age.pub")
            commands["age -r"] = "age -R age.pub < mail/0 > /dev/null"
        if self.has("gpg"):
            os.mkdir(self.directory / ".gnupg", 0o700)
            quiet = "gpg --batch --quiet --pinentry-mode loopback --passphrase ''"
            self.run(f"{quiet} --quick-generate-key alice@example.org default default 2>/dev/null")
            commands["gpg --sign --encrypt"] = (
                f"{quiet} --trust-model always -r alice@example.org --sign --encrypt < mail/0 > /dev/null"
            )
        times = {name: [] for name in commands}
        for _ in range(RUNS):  # in turn, so that a slow moment of the machine slows all of them
            for name, command in commands.items():
                times[name].append(self.run(command))
        bare = statistics.median(times["python -c pass"])
        for name in commands:
            self.say("one", name, statistics.median(times[name]), "a bare start", bare)
        if "gpg" not in self.left_out:
            subprocess.run(["gpgconf", "--kill", "gpg-agent"], env=self.environment, check=False)

    # (b)

    def bulk(self):
        sealing, opening = self.cryptography()
        sealed = self.run("cspool-seal --maildir=mail --from=laptop/key --to=laptop/key.pub > stream")
        self.say_bulk("cspool-seal", sealed, "bare sealing", sealing)
        appended = self.run("cspool-append < stream")
        self.say_bulk("cspool-append", appended, "write, sync", self.write_and_sync())
        seal = "cspool-seal --maildir=mail --from=laptop/key --to=laptop/key.pub"
        both = self.run(f"cspool-mkspool other && {seal} | cspool-append other")
        self.say_bulk("seal | append", both, "bare sealing", sealing)
        self.say_bulk("cspool-fetch", self.run("cspool-fetch > fetched"), "write, sync", self.write_and_sync())
        applied = self.apply()
        self.say_bulk("fetch | apply", applied, "bare opening", opening)
        log = sum(path.stat().st_size for path in (self.directory / "spool").glob("*.log"))
        disk = sum(path.stat().st_size for path in (self.directory / "laptop").glob("mail.db*"))
        print(f"         apply: peak {self.memory / 1e6:,.0f} MB")
        print(
            f"         an octet of mail: {log / self.octets:.2f} in the spool, {disk / self.octets:.2f} in the database"
        )
        if self.dovecot() and self.has("mbsync"):
            (self.directory / "mbsyncrc").write_text(
                f'IMAPStore far\nTunnel "{self.dovecot()}"\n\nMaildirStore near\nPath pulled/\nInbox pulled/INBOX\n\n'
                "Channel c\nFar :far:\nNear :near:\nSync Pull\nCreate Near\nSyncState *\n"
            )
            os.mkdir(self.directory / "pulled")
            pulled = self.run("mbsync -q -c mbsyncrc c")
            self.say("bulk", "fetch | apply", applied, "mbsync from dovecot", pulled)

    def cryptography(self):
        """Return the seconds that PyNaCl takes to sign and seal all mail, and to open and verify it."""
        sign, box = nacl.signing.SigningKey.generate(), nacl.public.PrivateKey.generate()
        sealer, opener, verifier = nacl.public.SealedBox(box.public_key), nacl.public.SealedBox(box), sign.verify_key
        mails = [(self.directory / "mail" / str(number)).read_bytes() for number in range(self.count)]
        begun = time.perf_counter()
        sealed = [sealer.encrypt(mail + sign.sign(mail[:64]).signature) for mail in mails]
        between = time.perf_counter()
        for one, mail in zip(sealed, mails, strict=True):
            verifier.verify(mail[:64], opener.decrypt(one)[-64:])
        return between - begun, time.perf_counter() - between

    def write_and_sync(self):
        octets = (self.directory / "stream").read_bytes()
        begun = time.perf_counter()
        with (self.directory / "written").open("wb") as file:
            file.write(octets)
            file.flush()
            os.fdatasync(file.fileno())
        return time.perf_counter() - begun

    # (c)

    def dovecot(self):
        """Return the command of a Dovecot that serves the same mail, or None if it is not installed."""
        if not self.has("/usr/lib/dovecot/imap"):
            return None
        inbox = self.directory / "dovecot"
        prefix = ""
        if not inbox.exists():
            for part in ("cur", "new", "tmp"):
                (inbox / part).mkdir(parents=True)
            for number in range(self.count):
                shutil.copy(self.directory / "mail" / str(number), inbox / "cur" / f"{number + 1:07}.M{number}.host:2,")
            (self.directory / "dovecot.conf").write_text(
                f"base_dir = {self.directory}/run\nlog_path = /dev/null\nssl = no\nprotocols = imap\n"
                f"mail_location = maildir:{inbox}\nimap_capability = +SORT THREAD=REFERENCES\n"
                "first_valid_uid = 1\nmail_uid = nobody\nmail_gid = nogroup\n"
            )
            if not os.geteuid():
                self.run(
                    "chown -R nobody:nogroup dovecot && chmod 755 . && touch dovecot.log && chown nobody dovecot.log"
                )
        if not os.geteuid():  # Dovecot refuses to serve root
            prefix = "setpriv --reuid=nobody --regid=nogroup --clear-groups "
        return f"{prefix}env HOME={inbox} USER=nobody /usr/lib/dovecot/imap -c {self.directory}/dovecot.conf"

    def imap(self):
        servers = {"cspool-imapd": "cspool-imapd --preauth"}
        if self.dovecot():
            servers["dovecot"] = self.dovecot()
        mail = (self.directory / "mail" / "0").read_bytes().replace(b"\n", b"\r\n")
        times = {name: {} for name in servers}
        for name, command in servers.items():
            starts = []
            for _ in range(7):
                begun = time.perf_counter()
                client = Client(command, self)
                starts.append(time.perf_counter() - begun)
                client.close()
            times[name]["start to greeting"] = statistics.median(starts)
        for _ in range(2):  # in the first round Dovecot writes its caches
            for name, command in servers.items():
                client = Client(command, self)
                for what, line in IMAP.items():
                    times[name][what] = client.best_of(line, mail)
                client.close()
        ratios = []
        for what, seconds in times["cspool-imapd"].items():
            if "dovecot" in times:
                self.say("imap", what, seconds, "dovecot", times["dovecot"][what])
                ratios.append(seconds / times["dovecot"][what])
            else:
                self.say("imap", what, seconds)
        if ratios:
            print(f"         geometric mean {statistics.geometric_mean(ratios):.2f} x dovecot")

    # (d)

    def grow(self):
        """Return the microseconds that each step costs for a message, and the memory (MB) and disk that all need."""
        self.prepare()
        sealed = self.run("cspool-seal --maildir=mail --from=laptop/key --to=laptop/key.pub | cspool-append")
        costs = {"seal | append": sealed, "fetch | apply": self.apply()}
        disk = sum(path.stat().st_size for path in (self.directory / "laptop").glob("mail.db*"))
        client = Client("cspool-imapd --preauth", self)
        client.do(IMAP["SELECT"], b"")
        for what, line in IMAP.items():
            if what == "SORT":
                reading = client.peak()
            if what.endswith("of all") or what in GROWS:
                costs[what] = client.best_of(line, b"")
        peak = client.peak()
        client.close()
        costs = {what: seconds / self.count * 1e6 for what, seconds in costs.items()}
        return costs, {
            "apply, peak MB": self.memory / 1e6,
            "imapd, peak MB, FETCH and SEARCH": reading / 1e6,
            "imapd, peak MB, all of these": peak / 1e6,
            "disk / mail": disk / self.octets,
        }

    # (e)

    def idle(self):
        """Count the requests, octets and seconds of a sync over HTTP that finds nothing new."""
        self.run("mkdir -p root && mv spool root/alice && cspool-httpd --new-token=append,fetch root alice > token")
        server = subprocess.Popen(
            ["cspool-httpd", "--listen=127.0.0.1:0", "root"], cwd=self.directory, env=self.environment,
            stderr=(self.directory / "access.log").open("wb"),
        )  # fmt: skip
        try:
            self.poll(server)
        finally:
            server.terminate()
            server.wait()

    def poll(self, server):
        port = listening(server.pid)
        token = (self.directory / "token").read_text().strip()
        (self.directory / ".netrc").write_text(f"machine 127.0.0.1 login alice password {token}\n")
        (self.directory / ".netrc").chmod(0o600)
        (self.directory / "laptop" / "spool").write_text(f"http://127.0.0.1:{port}/alice\n")
        self.run("cspool-sync")
        before = len((self.directory / "access.log").read_bytes())
        took = self.run("cspool-sync")
        log = (self.directory / "access.log").read_bytes()[before:].decode()
        answers = [line.split()[-1] for line in log.splitlines() if '" 2' in line or '" 3' in line]
        octets = sum(int(one) for one in answers if one.isdigit())
        print(f"idle     nothing new, over HTTP: {len(answers)} request, {octets} octets of body, {show(took)}")


def listening(pid):
    """Wait until a process listens, and return its port."""
    while True:
        inodes = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in inodes:
                return int(words[1].rpartition(":")[2], 16)
        time.sleep(0.05)


def growth(sizes):
    """Print and return what a message costs in databases of these sizes. Bars of equal length mean linear growth."""
    found = {}
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="cspool-bench.") as directory:
            found[size] = Bench(directory, size).grow()
    print(
        f"{'growth':8} {'microseconds a message at':33}"
        + "".join(f"{size:>10,}" for size in sizes)
        + "   the last to the first"
    )
    for what in found[sizes[0]][0]:
        costs = [found[size][0][what] for size in sizes]
        ratio = costs[-1] / costs[0]
        print(
            f"{'growth':8} {what:33}"
            + "".join(f"{cost:10.2f}" for cost in costs)
            + f"   {ratio:5.2f} "
            + "#" * round(20 * ratio)
        )
    for what in found[sizes[0]][1]:
        print(f"{'growth':8} {what:33}" + "".join(f"{found[size][1][what]:10.2f}" for size in sizes))
    return found


class Client:
    """A client of an IMAP server on a pipe."""

    def __init__(self, command, bench):
        self.server = subprocess.Popen(
            ["sh", "-c", f"exec {command}"], cwd=bench.directory, env=bench.environment, bufsize=0,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.read_to(b"* ")

    def read_to(self, start):
        """Read to the end of a line that begins with `start`, and return that line."""
        tail = b"\r\n"
        while True:
            piece = self.server.stdout.read(1 << 18)
            assert piece, "the server has gone"
            tail = (tail + piece)[-2000:]
            last = tail[tail.rfind(b"\r\n", 0, -2) + 2 :]
            if tail.endswith(b"\r\n") and last.startswith(start):
                return last

    def best_of(self, line, mail):
        return min([self.do(line and line.replace("%", sign), mail) for sign in SIGNS][1:])

    def do(self, line, mail):
        begun = time.perf_counter()
        if line is None:
            self.server.stdin.write(b"a APPEND INBOX {%d+}\r\n%s\r\n" % (len(mail), mail))
        else:
            self.server.stdin.write(b"a " + line.encode() + b"\r\n")
        answer = self.read_to(b"a ")
        assert answer.startswith(b"a OK"), (line, answer)
        return time.perf_counter() - begun

    def peak(self):
        """Return the peak memory of the server in octets."""
        return int(Path(f"/proc/{self.server.pid}/status").read_text().partition("VmHWM:")[2].split()[0]) << 10

    def close(self):
        self.server.stdin.write(b"z LOGOUT\r\n")
        self.server.stdin.close()
        self.server.stdout.read()
        self.server.wait()


def show(seconds):
    return f"{seconds * 1000:,.1f} ms" if seconds < 10 else f"{seconds:,.1f} s"


def main(arguments):
    numbers = [int(one) for one in arguments if one.isdigit()]
    count = numbers[0] if numbers else 10_000
    with tempfile.TemporaryDirectory(prefix="cspool-bench.") as directory:
        bench = Bench(directory, count)
        bench.prepare()
        for step in (bench.one_message, bench.bulk, bench.imap, bench.idle):
            step()
            print()
        if bench.left_out:
            print("not installed, and left out:", ", ".join(sorted(set(bench.left_out))))
        history.add(HISTORY, cspool.__version__, count, bench.results)
        HISTORY.with_suffix(".svg").write_text(history.picture(history.read(HISTORY)))
        print(f"This run is in {HISTORY}, and all of them in {HISTORY.with_suffix('.svg')}\n")
        grown = growth([max(1, count // 10), count, 10 * count])
        if "--json" in arguments:
            names = ("section", "what", "seconds", "beside", "of_that")
            rows = [dict(zip(names, row, strict=True)) for row in bench.results]
            print(json.dumps({"steps": rows, "growth": grown}))


if __name__ == "__main__":
    main(sys.argv[1:])
