"""A second reader of a cspool spool, written from section 5 of the manual only; it shares no code with lib/.

Reader(seeds).read(stream) takes what cspool-fetch writes; Reader.state() is the state of cspool-commands(5).
"""

import json
import re
import struct
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from nacl import bindings as sodium
from nacl.exceptions import CryptoError

HEAD, KEEP, HASHES, LAST_NUMBER = 2**64 - 1, 2**64 - 2, 2**63, 2**63 - 3
RECORD_MAX, LINE_MAX = 2**26, 65536
BODY_MAX = {"user": 75497472, "host": 67174400}
DAYS30 = 30 * 86400
ZERO, INBOX = bytes(32), bytes(16)


class Stop(Exception):
    """The reader stops; status is its exit status."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Aside(Exception):
    """The record is set aside."""


class NoKey(Aside):
    """No key of the reader opens the record."""


def must(true: object, why: str, status: int = 0) -> None:
    """Stop with this status, or set the record aside, unless it is true."""
    if not true:
        raise Stop(status, why) if status else Aside(why)


def h256(octets: bytes) -> bytes:
    return blake2b(octets, digest_size=32).digest()


def digest(state: bytes) -> str:
    """The digest of a state, in hex: the sum of the hashes of its lines."""
    hashes = (int.from_bytes(h256(line), "little") for line in state.split(b"\n")[:-1])
    return (sum(hashes) % 2**256).to_bytes(32, "little").hex()


def make_id(person: bytes, octets: bytes) -> bytes:
    return blake2b(octets, digest_size=16, person=person).digest()


def crlf(message: bytes) -> bytes:
    return re.sub(rb"\r?\n", b"\r\n", message)


def without_delivery_date(message: bytes) -> bytes:
    """Leave out the field that Exim writes anew at each try; the line ends are CRLF."""
    at = 0
    while m := re.compile(rb"([^:\r\n]+):.*(?:\n[ \t].*)*\n?").match(message, at):
        if m[1].lower() == b"delivery-date":
            return message[:at] + message[m.end() :]
        if m[1].lower() not in (b"return-path", b"envelope-to", b"delivered-to", b"x-original-to"):
            break
        at = m.end()
    return message


def dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# Streams


@dataclass
class Frame:
    number: int
    chain: bytes
    record: bytes

    @property
    def first(self) -> int:
        return self.number - HASHES if HASHES < self.number < KEEP else self.number

    def links(self) -> Iterator[tuple[int, bytes, bytes, bytes | None]]:
        """Number, chain before and after it, and record or None, for each record that the frame stands for."""
        hashes = self.first != self.number
        digests = [self.record[i : i + 32] for i in range(0, len(self.record), 32)]
        chain = self.chain
        for number, one in enumerate(digests if hashes else [h256(self.record)], self.first):
            before, chain = chain, h256(chain + struct.pack(">Q", number) + one)
            yield number, before, chain, None if hashes else self.record


def parse_stream(octets: bytes) -> list[Frame]:
    """The frames of a whole stream, without its end frame."""
    frames: list[Frame] = []
    at = 0
    while True:
        must(len(octets) - at >= 48, "the stream was cut off", 75)
        length, crc, number = struct.unpack_from(">IIQ", octets, at)
        must(length <= RECORD_MAX, "a frame is too long", 65)
        end = at + 48 + length
        must(end <= len(octets), "the stream was cut off", 75)
        must(zlib.crc32(octets[at + 8 : end]) == crc, "a CRC-32 is wrong", 65)
        frame = Frame(number, octets[at + 16 : at + 48], octets[at + 48 : end])
        if not length:
            must(number == len(frames) and frame.chain == ZERO and end == len(octets), "the end is wrong", 65)
            return frames
        frames.append(frame)
        at = end


NUM, HEX = r"(0|[1-9][0-9]{0,18})", r"([0-9a-f]{64})"
HEAD_FORM = re.compile(
    rf"cspool-head 2\nspool ([0-9a-f]{{32}})\nnext {NUM}\nchain {HEX}\nfirst {NUM}\ncheckpoint {NUM} {NUM} {NUM}\n"
    rf"segment ([^ \n]+) {NUM}\nsegments {NUM} {HEX}\n".encode()
)


class Head:
    def __init__(self, frame: Frame) -> None:
        m = HEAD_FORM.fullmatch(frame.record)
        must(frame.number == HEAD and frame.chain == ZERO and m, "no head", 65)
        assert m
        self.spool, self.chain = bytes.fromhex(m[1].decode()), bytes.fromhex(m[3].decode())
        self.next, self.first, self.stated, self.begin, self.last = (int(m[i]) for i in (2, 4, 5, 6, 7))
        checkpoint = self.stated < self.begin < self.last < self.next or self.stated == self.begin == self.last == 0
        must(1 <= self.first <= self.next and checkpoint, "the head is wrong", 65)


# The form of commands


def matches(pattern: str) -> Callable[[Any], bool]:
    form = re.compile(pattern)
    return lambda value: isinstance(value, str) and form.fullmatch(value) is not None


def is_number(value: Any) -> bool:
    return type(value) is int


def is_date(value: Any) -> bool:
    return is_number(value) and value <= 253402128000


def is_list(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(test, value))


def is_name(value: Any) -> bool:
    return (
        isinstance(value, str)
        and 1 <= len(value.encode()) <= 1000
        and len(canonical(value).encode()) <= 1000
        and not {"", ".", ".."} & {*value.split("/")}
        and not any(unicodedata.category(c) == "Cc" for c in value)
    )


def is_use(value: Any) -> bool:
    one = matches(r"\\(Archive|Drafts|Junk|Sent|Trash)")
    return isinstance(value, str) and all(map(one, words := value.split(" "))) and len(set(words)) == len(words)


is_id, is_hash = matches("[0-9a-f]{32}"), matches("[0-9a-f]{64}")
is_flags = is_list(matches(r"\\(Seen|Answered|Flagged|Deleted|Draft)|[!#$&'+-\[^-z|}~]{1,100}"))
TYPES: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("spool", "device", "nonce", "mailbox"), is_id),
    **dict.fromkeys(("previous", "chain", "digest", "key", "sign", "box"), is_hash),
    **dict.fromkeys(("counter", "number"), is_number),
    **dict.fromkeys(("date", "sealed"), is_date),
    "size": lambda value: is_number(value) and value >= 1,
    "numbers": is_list(is_number),
    "parts": is_list(is_hash),
    "changes": is_list(lambda value: isinstance(value, dict)),
    "ids": matches("([0-9a-f]{32})*"),
    "flags": is_flags,
    "name": is_name,
    "comment": lambda value: isinstance(value, str) and len(value) <= 1000,
    "use": is_use,
    "entry": lambda value: matches(r"/(private|shared)(/[ -$&-)+-.0-@\[-~]+)+")(value) and len(value) <= 1000,
    "value": lambda value: matches("([0-9a-f]{2})*")(value) and len(value) <= 131072,
}
COMMANDS = {
    "deliver": "date sealed? mailbox? flags?",
    "change": "spool device counter previous number chain digest? changes",
    "checkpoint-part": "spool",
    "checkpoint": "spool number chain digest date parts",
}
CHANGES = {
    "add-flags": "flags ids",
    "remove-flags": "flags ids",
    "expunge": "ids",
    "move": "ids mailbox",
    "copy": "ids mailbox nonce",
    "append": "mailbox flags date size nonce",
    "create": "name nonce use?",
    "rename": "mailbox name",
    "delete": "mailbox ids",
    "subscribe": "name",
    "unsubscribe": "name",
    "set-metadata": "mailbox? entry value?",
    "trust": "key comment",
    "distrust": "key",
    "user-key": "sign box",
    "discard": "numbers",
}


def check_fields(value: dict[str, Any], word: str, table: str) -> None:
    names = {name.rstrip("?"): name.endswith("?") for name in table.split()}
    must(value.keys() <= {word, *names}, "unknown field")
    for name, optional in names.items():
        must(name in value or optional, f"no {name}")
        test = is_name if (value[word], name) == ("deliver", "mailbox") else TYPES[name]
        must(name not in value or test(value[name]), f"bad {name}")


def check_json(value: Any, depth: int = 0) -> None:
    must(value is not None and not isinstance(value, float), "null or a fraction")
    must(not is_number(value) or 0 <= value < 2**63, "bad number")
    if isinstance(value, (dict, list)):
        must(depth < 4, "nested too deep")
        for item in value.values() if isinstance(value, dict) else value:
            check_json(item, depth + 1)


def no_pair_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    must(len(dict(pairs)) == len(pairs), "a field twice")
    return dict(pairs)


def parse_line(line: bytes) -> Any:
    """The JSON of a line that has the one form."""
    try:
        value = json.loads(line.decode(), object_pairs_hook=no_pair_twice)
        check_json(value)
        must(dump(value).encode() == line, "not in the form of RFC 8785")
    except (ValueError, RecursionError) as error:
        raise Aside("not JSON") from error
    return value


def parse_body(body: bytes, role: str, spool: bytes) -> tuple[dict[str, Any], bytes]:
    """The command of a body and its octets, checked in the order of cspool-commands(5)."""
    line, lf, octets = body.partition(b"\n")
    must(lf and (role == "user" or len(line) <= LINE_MAX), "no line, or a long one")
    value = parse_line(line)
    must(isinstance(value, dict) and isinstance(value.get("command"), str), "no command")
    command = value["command"]
    later = 69 if role == "user" else 0
    must(command in COMMANDS, "unknown command", later)
    must(command == "deliver" or value.get("spool") == spool.hex(), "another spool")
    check_fields(value, "command", COMMANDS[command])
    for change in value.get("changes", []):
        must(isinstance(change.get("do"), str), "no do")
        must(change["do"] in CHANGES, "unknown change", later)
        check_fields(change, "do", CHANGES[change["do"]])
    if command == "change":
        fit = len(octets) == sum(c["size"] for c in value["changes"] if c["do"] == "append")
    else:
        fit = bool(octets) == (command != "checkpoint")
    must(fit and (command != "deliver" or len(line) <= LINE_MAX), "the octets do not fit")
    must(role == "user" or command == "deliver", "a host may not")
    return value, octets


def split_ids(text: str) -> list[bytes]:
    return [bytes.fromhex(text[i : i + 32]) for i in range(0, len(text), 32)]


def canonical(name: str) -> str:
    name = unicodedata.ucd_3_2_0.normalize("NFC", name)
    level, slash, rest = name.partition("/")
    for known in ("INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"):
        if re.fullmatch(f"(?ai:{known})", level):
            level = known
    return level + slash + rest


# The fold


@dataclass
class Message:
    mailbox: bytes
    flags: set[str]
    date: int
    number: int
    place: int
    octets: bytes

    def add(self, flags: list[str]) -> None:
        for flag in flags:
            if flag.lower() not in {f.lower() for f in self.flags}:
                self.flags.add(flag)

    def remove(self, flags: list[str]) -> None:
        self.flags = {f for f in self.flags if f.lower() not in {g.lower() for g in flags}}


@dataclass
class Mailbox:
    name: str | None
    use: str = ""
    other: bytes | None = None


@dataclass
class Fold:
    user: bytes
    lost: list[list[int]] = field(default_factory=list)
    checkpoints: dict[int, tuple[int, int]] = field(default_factory=dict)
    trust: dict[bytes, tuple[str, int]] = field(default_factory=dict)
    distrusted: dict[bytes, int] = field(default_factory=dict)
    devices: dict[bytes, tuple[int, str]] = field(default_factory=dict)
    mailboxes: dict[bytes, Mailbox] = field(default_factory=lambda: {INBOX: Mailbox("INBOX")})
    subscribed: set[str] = field(default_factory=lambda: {"INBOX"})
    metadata: dict[tuple[bytes, str], str] = field(default_factory=dict)
    gone: dict[bytes, int] = field(default_factory=dict)
    aside: dict[int, str] = field(default_factory=dict)
    messages: dict[bytes, Message] = field(default_factory=dict)

    def state(self) -> bytes:
        rows: list[list[Any]] = [["user", self.user.hex()]]
        rows += [["lost", *run] for run in sorted(self.lost)]
        rows += [["checkpoint", number, *row] for number, row in sorted(self.checkpoints.items())]
        rows += [["trust", key.hex(), *row] for key, row in sorted(self.trust.items())]
        rows += [["distrusted", key.hex(), number] for key, number in sorted(self.distrusted.items())]
        rows += [["device", id.hex(), *row] for id, row in sorted(self.devices.items())]
        for id, m in sorted(self.mailboxes.items()):
            rows.append(["mailbox", id.hex(), m.name, m.use, m.other.hex() if m.other is not None else None])
        rows += [["subscribed", name] for name in sorted(self.subscribed)]
        for (id, entry), hexed in sorted(self.metadata.items()):
            rows.append(["metadata", id.hex() or None, entry, hexed])
        rows += [["gone", id.hex(), number] for id, number in sorted(self.gone.items())]
        rows += [["aside", number] for number in sorted(self.aside)]
        for number, place, id in sorted((m.number, m.place, id) for id, m in self.messages.items()):
            m = self.messages[id]
            rows.append(["message", id.hex(), m.mailbox.hex(), " ".join(sorted(m.flags)), m.date, number, place])
        return "".join(dump(row) + "\n" for row in rows).encode()

    @classmethod
    def of_state(cls, octets: bytes) -> "Fold":
        """The fold that a state states; the octets of its messages are still missing. ValueError if it is none."""
        fold = cls(b"", mailboxes={}, subscribed=set())
        un = bytes.fromhex
        try:
            for word, first, *rest in map(json.loads, octets.split(b"\n")[:-1]):
                match word, rest:
                    case "user", []:
                        fold.user = un(first)
                    case "lost", [last]:
                        fold.lost.append([first, last])
                    case "checkpoint", [stated, date]:
                        fold.checkpoints[first] = (stated, date)
                    case "trust", [comment, number]:
                        fold.trust[un(first)] = (comment, number)
                    case "distrusted", [number]:
                        fold.distrusted[un(first)] = number
                    case "device", [counter, last]:
                        fold.devices[un(first)] = (counter, last)
                    case "mailbox", [name, use, other]:
                        fold.mailboxes[un(first)] = Mailbox(name, use, None if other is None else un(other))
                    case "subscribed", []:
                        fold.subscribed.add(first)
                    case "metadata", [entry, hexed]:
                        fold.metadata[b"" if first is None else un(first), entry] = hexed
                    case "gone", [number]:
                        fold.gone[un(first)] = number
                    case "aside", []:
                        fold.aside[first] = "a checkpoint says so"
                    case "message", [mailbox, flags, date, number, place]:
                        fold.messages[un(first)] = Message(un(mailbox), set(flags.split()), date, number, place, b"")
                    case _:
                        raise ValueError(word)
            names = [m.name for m in fold.mailboxes.values() if m.name is not None]
            if (
                fold.state() != octets
                or len(names) != len(set(names))
                or fold.mailboxes[INBOX].name != "INBOX"
                or any(fold.mailboxes[m.mailbox].name is None for m in fold.messages.values())
                or any(m.other is not None and m.other not in fold.mailboxes for m in fold.mailboxes.values())
            ):
                raise ValueError("not a state")
        except (TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError("not a state") from error
        return fold

    def knows(self, id: bytes) -> bool:
        return id in self.messages or id in self.gone

    def named(self, name: str) -> bytes | None:
        return next((id for id, m in self.mailboxes.items() if m.name == name), None)

    def resolve(self, text: str) -> bytes | None:
        """The mailbox that an id stands for, if it exists."""
        id = bytes.fromhex(text)
        while id in self.mailboxes and (other := self.mailboxes[id].other) is not None:
            id = other
        return id if id in self.mailboxes and self.mailboxes[id].name is not None else None

    def expunge(self, id: bytes, number: int) -> None:
        if self.messages.pop(id, None):
            self.gone[id] = number

    def move_all(self, source: bytes, target: bytes) -> None:
        for message in self.messages.values():
            if message.mailbox == source:
                message.mailbox = target

    def clear(self, mailbox: bytes) -> None:
        self.metadata = {key: one for key, one in self.metadata.items() if key[0] != mailbox}

    def lose(self, first: int, last: int) -> None:
        """The spool has lost these records."""
        if self.lost and self.lost[-1][1] == first - 1:
            first = self.lost.pop()[0]
        self.lost.append([first, last])
        self.devices = {id: (counter, "") for id, (counter, _) in self.devices.items()}

    def checkpoint(self, number: int, stated: int, date: int) -> None:
        """Note a checkpoint, and forget what it lets the fold forget."""
        self.checkpoints[number] = (stated, date)
        pivot = self.forgotten()
        self.gone = {id: n for id, n in self.gone.items() if n > pivot}
        self.distrusted = {key: n for key, n in self.distrusted.items() if n > pivot}
        needed = {max((n for n in self.checkpoints if n < one), default=0) for one in self.aside}
        self.checkpoints = {n: row for n, row in self.checkpoints.items() if n > pivot or n in needed}

    def last_checkpoint(self, below: int = LAST_NUMBER) -> tuple[int, int]:
        """Up to where the last checkpoint before a record states the log, and its date."""
        return self.checkpoints.get(max((n for n in self.checkpoints if n < below), default=0), (0, 0))

    def forgotten(self) -> int:
        """Tombstones up to this number leave the fold with the last checkpoint."""
        _, last = self.last_checkpoint()
        return max((stated for stated, date in self.checkpoints.values() if date + DAYS30 <= last), default=0)

    def lossy(self, number: int) -> bool:
        """Whether records up to this one are lost that the last checkpoint there does not state."""
        stated, _ = self.last_checkpoint(number + 1)
        return any(stated < last <= number for _, last in self.lost)

    def change(self, number: int, c: dict[str, Any], octets: bytes, place: int) -> None:
        """Do a small change, but for trust and user-key."""
        ids = split_ids(c.get("ids", ""))
        here = [id for id in ids if id in self.messages]
        box = self.resolve(c["mailbox"]) if "mailbox" in c else None
        name = canonical(c.get("name", ""))
        match c["do"]:
            case "add-flags" | "remove-flags":
                for id in here:
                    getattr(self.messages[id], c["do"].split("-")[0])(c["flags"])
            case "expunge":
                for id in here:
                    self.expunge(id, number)
            case "move":
                for id in here:
                    self.messages[id].mailbox = box or INBOX
            case "copy":
                for id in here:
                    m, new = self.messages[id], make_id(b"cspool copy", bytes.fromhex(c["nonce"]) + id)
                    if not self.knows(new):
                        self.messages[new] = Message(box or INBOX, set(m.flags), m.date, m.number, m.place, m.octets)
            case "append":
                message = octets[place : place + c["size"]]
                id = make_id(b"cspool append", bytes.fromhex(c["nonce"]) + crlf(message))
                if not self.knows(id):
                    self.messages[id] = Message(box or INBOX, set(), c["date"], number, place, message)
                    self.messages[id].add(c["flags"])
            case "create":
                id = make_id(b"cspool create", bytes.fromhex(c["nonce"]) + name.encode())
                if id not in self.mailboxes:
                    other = self.named(name)
                    self.mailboxes[id] = Mailbox(name, c.get("use", "")) if other is None else Mailbox(None, "", other)
            case "rename" if box not in (None, INBOX) and self.mailboxes[box].name != name:
                other = self.named(name)
                self.mailboxes[box].name, self.mailboxes[box].other = name if other is None else None, other
                if other is not None:
                    self.move_all(box, other)
                    self.clear(box)
            case "delete" if box not in (None, INBOX):
                for id in here:
                    if id in self.messages and self.messages[id].mailbox == box:
                        self.expunge(id, number)
                self.move_all(box, INBOX)
                self.mailboxes[box].name = None
                self.clear(box)
            case "subscribe":
                self.subscribed.add(name)
            case "unsubscribe":
                self.subscribed.discard(name)
            case "set-metadata" if "mailbox" not in c or box is not None:
                self.metadata.pop((box or b"", c["entry"]), None)
                if "value" in c:
                    self.metadata[box or b"", c["entry"]] = c["value"]
            case "distrust" if self.trust.pop(bytes.fromhex(c["key"]), None):
                self.distrusted[bytes.fromhex(c["key"])] = number
            case "discard":
                for n in c["numbers"]:
                    self.aside.pop(n, None)


# The reader


@dataclass
class Key:
    secret: bytes
    box: bytes
    sign: bytes


def make_key(seed: bytes) -> Key:
    secret = blake2b(seed, digest_size=32, person=b"cspool x25519").digest()
    sign = sodium.crypto_sign_seed_keypair(blake2b(seed, digest_size=32, person=b"cspool ed25519").digest())[0]
    return Key(secret, sodium.crypto_scalarmult_base(secret), sign)


@dataclass
class Plain:
    """An opened record whose signature has not been checked."""

    recipient: bytes
    sender: bytes
    signature: bytes
    deflated: bool
    stored: bytes

    def body(self, limit: int) -> bytes:
        body = self.stored
        if self.deflated:
            inflate = zlib.decompressobj()
            try:
                body = inflate.decompress(self.stored, limit + 1)
            except zlib.error as error:
                raise Aside("bad deflate") from error
            must(len(body) > limit or (inflate.eof and not inflate.unused_data), "bad deflate")
        must(len(body) <= limit, "the body is too long")
        return body

    def check(self, body: bytes) -> None:
        digest = blake2b(body, digest_size=64).digest()
        try:
            signed = b"cspool record 1\0" + self.recipient + digest
            sodium.crypto_sign_open(self.signature + signed, self.sender)
        except CryptoError as error:
            raise Aside("bad signature") from error


class Reader:
    def __init__(self, seeds: list[bytes]) -> None:
        self.keys = [make_key(seed) for seed in seeds]
        self.fold = Fold(self.keys[-1].sign)
        self.spool = b""
        self.cursor = self.loaded_until = 0
        self.chains: dict[int, bytes] = {}
        self.digests: dict[int, str] = {}
        self.records: dict[int, bytes] = {}
        self.parts: list[tuple[str, bytes]] = []
        self.missing: list[tuple[int, int]] = []

    @property
    def aside(self) -> dict[int, str]:
        return self.fold.aside

    @property
    def messages(self) -> dict[bytes, Message]:
        return self.fold.messages

    def state(self) -> bytes:
        return self.fold.state()

    def read(self, octets: bytes) -> None:
        frames = parse_stream(octets)
        must(frames and frames[0].number == HEAD, "no head frame", 65)
        batches: list[tuple[Head, list[Frame]]] = []
        for frame in frames:
            if frame.number == HEAD:
                batches.append((Head(frame), []))
                continue
            hashes = frame.first != frame.number
            count = len(frame.record) // 32 if hashes else 1
            must(frame.first >= 1 and frame.first + count - 1 <= LAST_NUMBER, "a number is wrong", 65)
            must(not hashes or len(frame.record) % 32 == 0, "hashes are cut off", 65)
            must(frame.first + count <= batches[-1][0].next, "a frame after what the head says", 65)
            batches[-1][1].append(frame)
        for head, batch in batches:
            self.read_batch(head, batch)

    def read_batch(self, head: Head, frames: list[Frame]) -> None:
        if not self.spool:
            self.spool = head.spool
            self.chains[0] = h256(b"cspool chain 1\0" + head.spool)
            self.digests[0] = digest(self.state())
        must(head.spool == self.spool, "another spool", 76)
        if self.cursor < head.stated:
            count = head.last - head.begin + 1
            self.load(head, frames[:count], [f for f in frames[count:] if f.first <= head.stated])
            frames = [f for f in frames[count:] if f.first > head.stated]
        elif self.cursor + 1 < head.begin:
            for number in range(head.begin, head.last + 1):  # they come again in their place
                frames = frames[1:] if frames and frames[0].number == number else frames
        for number, record in self.follow(frames, head.first, self.chains, self.cursor, self.lose):
            must(record is not None, f"record {number} was dropped", 76)
            assert record is not None
            self.apply(number, record)
            self.cursor = number
            self.digests[number] = digest(self.state())
            none = number == self.loaded_until and number not in self.fold.checkpoints
            must(not none, "the checkpoint that was loaded is none in its place", 76)
        if self.cursor < head.next - 1:
            must(head.next <= head.first, "records are missing at the end", 76)
            self.lose(self.cursor + 1, head.next - 1)
            self.chains[head.next - 1] = head.chain
        must(self.chains.get(head.next - 1, head.chain) == head.chain, "the head has another chain", 76)

    def lose(self, first: int, last: int) -> None:
        self.fold.lose(first, last)
        self.missing.append((first, last))
        self.parts, self.cursor = [], last
        self.digests[last] = digest(self.state())

    def follow(
        self, frames: list[Frame], first: int, chains: dict[int, bytes], at: int, lose: Callable[[int, int], None]
    ) -> Iterator[tuple[int, bytes | None]]:
        """The records after at, or None for a dropped one; compute the chain over them, and compare the others."""
        for frame in frames:
            for number, before, after, record in frame.links():
                if number > at + 1:
                    must(number <= first, f"records from {at + 1} on are missing", 76)
                    lose(at + 1, number - 1)
                    chains[number - 1] = before
                must(chains.get(number - 1, before) == before, f"another chain before {number}", 76)
                if number > at:
                    yield number, record
                    at = number
                must(chains.setdefault(number, after) == after, f"another record {number}", 76)

    # Records

    def opening(self) -> list[Key]:
        """The keys that open records here: the user key, and those before it."""
        return self.keys[[key.sign for key in self.keys].index(self.fold.user) :]

    def unseal(self, record: bytes, keys: list[Key] | None = None) -> Plain:
        must(record[:1] == b"\1", "another version")
        for key in (self.opening() if keys is None else keys) if len(record) > 48 else []:
            try:
                plain = sodium.crypto_box_seal_open(record[1:], key.box, key.secret)
            except CryptoError:
                continue
            must(len(plain) >= 101, "too short")
            end = 101 + int.from_bytes(plain[97:101], "big")
            must(plain[96] <= 1 and end <= len(plain) and not any(plain[end:]), "not the form of a record")
            return Plain(key.box, plain[:32], plain[32:96], plain[96] == 1, plain[101:end])
        raise NoKey("no key opens it")

    def parse(self, record: bytes) -> tuple[str, bytes, dict[str, Any], bytes]:
        """The role of the sender, the body, the command and its octets."""
        plain = self.unseal(record)
        role = "user" if plain.sender == self.fold.user else "host"
        must(role == "user" or plain.sender in self.fold.trust, "not trusted")
        body = plain.body(BODY_MAX[role])
        plain.check(body)
        return role, body, *parse_body(body, role, self.spool)

    def apply(self, number: int, record: bytes) -> None:
        self.records[number] = record
        parts, self.parts = self.parts, []
        try:
            role, body, value, octets = self.parse(record)
            match value["command"]:
                case "deliver":
                    self.deliver(number, role, value, octets)
                case "change":
                    self.change(number, body, value, octets)
                case "checkpoint-part":
                    self.parts = [*parts, (h256(body).hex(), octets)]
                case "checkpoint":
                    self.checkpoint(number, value, parts)
        except Aside as why:
            self.fold.aside[number] = str(why)
        except Stop:
            self.parts = parts
            raise

    def deliver(self, number: int, role: str, value: dict[str, Any], octets: bytes) -> None:
        fold, name = self.fold, canonical(value.get("mailbox", "INBOX"))
        id = make_id(b"cspool delivery", name.encode() + b"\0" + without_delivery_date(crlf(octets)))
        if fold.knows(id):
            must(role != "user" or id not in fold.gone, "its message is expunged")
            return
        _, last = fold.last_checkpoint(number)
        must("sealed" not in value or value["sealed"] + DAYS30 > last, "sealed too long ago")
        mailbox = fold.named(name)
        if mailbox is None:
            mailbox = make_id(b"cspool mailbox", self.spool + struct.pack(">Q", number))
            fold.mailboxes[mailbox] = Mailbox(name)
            fold.subscribed.add(name)
        fold.messages[id] = Message(mailbox, set(), value["date"], number, 0, octets)
        if role == "user":
            fold.messages[id].add(value.get("flags", []))

    def change(self, number: int, body: bytes, value: dict[str, Any], octets: bytes) -> None:
        fold, author, device = self.fold, value["number"], bytes.fromhex(value["device"])
        same = author < number and self.chains.get(author, bytes.fromhex(value["chain"])).hex() == value["chain"]
        must(same, "the author has seen another log", 76)
        if not fold.lossy(author) and "digest" in value:
            must(self.digests.get(author, value["digest"]) == value["digest"], "the author has another fold", 76)
        counter, previous = fold.devices.get(device, (0, "" if fold.lost else ZERO.hex()))
        if value["counter"] <= counter:
            return
        if previous:
            must(value["counter"] == counter + 1 and value["previous"] == previous, "not the next of its device")
        user = fold.user
        for c in value["changes"]:
            if c["do"] == "user-key":
                user = bytes.fromhex(c["sign"])
                known = [k for k in self.keys if k.sign == user or k.box.hex() == c["box"]]
                must(all(k.sign == user and k.box.hex() == c["box"] for k in known), "halves of two keys")
                must(known, "the new user key is missing", 78)
        place = 0
        for c in value["changes"]:
            fold.change(number, c, octets, place)
            place += c.get("size", 0)
            if c["do"] == "trust":
                self.trust(number, bytes.fromhex(c["key"]), c["comment"])
        fold.devices[device] = (value["counter"], h256(body).hex())
        if user != fold.user:
            before, fold.user = self.opening(), user
            self.deliver_early(before)

    def trust(self, number: int, key: bytes, comment: str) -> None:
        self.fold.trust[key] = (comment, number)
        self.fold.distrusted.pop(key, None)
        for n in sorted(self.fold.aside):
            try:
                if self.unseal(self.records[n]).sender == key:
                    self.deliver_again(n)
            except Aside:
                pass

    def deliver_early(self, before: list[Key]) -> None:
        """Deliver what these keys did not open, and those that the user has by now do."""
        for n in sorted(self.fold.aside):
            try:
                self.unseal(self.records[n], before)
            except Aside:
                self.deliver_again(n)

    def deliver_again(self, n: int) -> None:
        try:
            role, _, value, octets = self.parse(self.records[n])
            if value["command"] == "deliver":
                self.deliver(n, role, value, octets)
                del self.fold.aside[n]
        except (Aside, Stop):
            pass

    # Checkpoints

    def checkpoint(self, number: int, value: dict[str, Any], parts: list[tuple[str, bytes]]) -> None:
        stated, count = value["number"], len(value["parts"])
        must(count > 0 and [h for h, _ in parts[-count:]] == value["parts"], "not its parts")
        must(self.fold.last_checkpoint()[0] < stated < number - count, "not where a checkpoint may stand")
        must(number - stated <= 65536, "too late")
        chain = self.chains.get(stated, bytes.fromhex(value["chain"]))
        must(chain.hex() == value["chain"], "a checkpoint with another chain", 76)
        must(not any(a <= stated <= b for a, b in self.fold.lost) or stated in self.digests, "its end is lost", 76)
        found = {digest(b"".join(octets for _, octets in parts[-count:])), self.digests.get(stated, value["digest"])}
        must(found == {value["digest"]}, "a checkpoint with another state", 76)
        self.fold.checkpoint(number, stated, value["date"])

    def load(self, head: Head, frames: list[Frame], before: list[Frame]) -> None:
        """Replace the fold by the state of a checkpoint."""
        numbers = list(range(head.begin, head.last + 1))
        must([f.number for f in frames] == numbers, "the checkpoint is not whole", 76)
        missing: list[tuple[int, int]] = []
        chains, records = dict(self.chains), dict(self.records)
        lose = lambda first, last: missing.append((first, last))  # noqa: E731
        for number, record in self.follow(before, head.first, chains, self.cursor, lose):
            if record is not None:
                records[number] = record
        state, hashes, value, sender = b"", [], {}, b""
        for frame in frames:
            try:
                plain = self.unseal(frame.record, self.keys)
                body = plain.body(BODY_MAX["user"])
                plain.check(body)
                value, octets = parse_body(body, "user", self.spool)
            except Aside as why:
                raise Stop(78 if isinstance(why, NoKey) else 76, f"the checkpoint: {why}") from why
            kind = "checkpoint" if frame.number == head.last else "checkpoint-part"
            must(value["command"] == kind and sender in (b"", plain.sender), "not a checkpoint", 76)
            sender, state = plain.sender, state + octets
            hashes.append(h256(body).hex())
        try:
            fold = Fold.of_state(state)
        except ValueError as why:
            raise Stop(76, "the checkpoint has no state") from why
        ring = [key.sign for key in self.keys]
        must(fold.user == sender and sender in ring, "the checkpoint is not the user's", 76)
        must(ring.index(sender) <= ring.index(self.fold.user), "the checkpoint is of an older key", 76)
        if head.stated not in chains:
            must(head.stated < head.first, "records are missing before the checkpoint", 76)
            missing.append((max(n for n in chains if n < head.stated) + 1, head.stated))
            chains[head.stated] = bytes.fromhex(value["chain"])
        right = value["number"] == head.stated and value["chain"] == chains[head.stated].hex()
        must(right and value["parts"] == hashes[:-1], "another checkpoint", 76)
        must(value["digest"] == digest(state), "the checkpoint has another digest", 76)
        self.compare(fold)
        must(records.keys() >= fold.aside.keys(), "a record that is set aside is missing", 76)
        opened: dict[int, dict[int, bytes]] = {}
        for message in fold.messages.values():
            if message.number not in opened:
                must(message.number in records, f"record {message.number} is missing", 76)
                opened[message.number] = self.contents(records[message.number])
            must(message.place in opened[message.number], "no message there", 76)
            message.octets = opened[message.number][message.place]
        self.fold, self.chains, self.records, self.cursor = fold, chains, records, head.stated
        self.digests[head.stated] = digest(state)
        self.loaded_until = head.last
        self.parts, self.missing = [], self.missing + missing

    def compare(self, fold: Fold) -> None:
        """Stop if the state of a checkpoint cannot come from the fold that the reader has."""
        old = self.fold
        for id, (counter, last) in old.devices.items():
            new = fold.devices.get(id, (-1, ""))
            must(new[0] > counter or (new[0] == counter and last in ("", new[1])), "the device went back", 76)
        must(fold.mailboxes.keys() >= old.mailboxes.keys(), "a mailbox is missing", 76)
        if fold.forgotten() <= self.cursor:
            gone = all(fold.gone.get(id, 0) > self.cursor for id in old.messages.keys() - fold.messages.keys())
            must(gone and old.trust.keys() <= fold.trust.keys() | fold.distrusted.keys(), "a tombstone is missing", 76)

    def contents(self, record: bytes) -> dict[int, bytes]:
        """The messages that a record holds, by their places."""
        try:
            line, _, octets = self.unseal(record, self.keys).body(BODY_MAX["user"]).partition(b"\n")
            value, place, found = parse_line(line), 0, {}
            if value["command"] == "deliver":
                return {0: octets}
            for c in value["changes"]:
                if c["do"] == "append":
                    found[place] = octets[place : place + c["size"]]
                    place += c["size"]
            return found
        except (Aside, LookupError, TypeError) as why:
            raise Stop(78 if isinstance(why, NoKey) else 76, "a record of a message") from why
