"""A directory of mail: Maildir in all its layouts, MH, and the stores of mail programs, by what is there.

Maildir++    .Lists.a below a Maildir         Dovecot, Courier
fs           Lists/a                          Dovecot, mbsync (Verbatim)
Legacy       Lists/.a                         mbsync
KMail        Lists and .Lists.directory/a
Thunderbird  Lists and Lists.sbd/a            with a Maildir or an mbox for each folder
Apple Mail   Lists.mbox/a.mbox                with .emlx files
MH           a file with a number for each message
"""

import os
import re
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, NamedTuple

from ..errors import NoInput
from ..frame import LIMIT
from ..mail import utf7
from . import ArchivedMessage, LeftOut, maildir, marks, mbox

# Files beside mail that are none: indexes, settings and locks of servers and mail programs. An mbox may have any name.
_BESIDE = re.compile(
    r"(?!.*\.emlx?\Z)(?:\..*|dovecot[-.].*|courier(imap|pop3d).*|cyrus\..*|maildir(folder|size)|subscriptions|mailboxes"
    r"|.*\.(msf|index|ids|sorted|lock|plist)|(msgFilterRules|popstate|virtualFolders)\.dat|filterlog\.html"
    r"|folderTree\.json|table_of_contents|.*~)",
    re.IGNORECASE | re.DOTALL,
)
LINK = "left out: neither a file nor a directory, but a link or a device"
_BZIP2 = re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)")
_ZSTD, _LZ4 = b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_KMAIL, _SUBFOLDERS, _APPLE = re.compile(r"\.(.+)\.directory"), ".sbd", ".mbox"
_NUMBERS = re.compile(r"(\d{1,18})(?:-(\d{1,18}))?")


class Folder(NamedTuple):
    """A folder of a tree: the files that are its messages, in order, or one that is an mbox."""

    mailbox: str
    path: str
    files: list[str]
    is_mbox: bool = False


class Tree:
    """The mail in a directory and the folders below it. Iterating yields the messages.

    A folder becomes the mailbox that is named by its path. A name in ASCII that
    is modified UTF-7 is read as that, unless `utf8` is set. `count` is the
    number of files when it was made. What is not taken is counted in
    `left_out`. Raises NoInput if `path` is not a directory, and OSError.
    """

    def __init__(self, path: str, mailbox: str, left_out: LeftOut, utf8: bool = False) -> None:
        if not os.path.isdir(path):
            raise NoInput(f"{path}: no such directory")
        self.mailbox, self.left_out, self.utf8 = mailbox, left_out, utf8
        self.folders: list[Folder] = []
        self._scan(path, [])
        self.folders.sort(key=lambda folder: folder.mailbox)
        self.count = sum(len(folder.files) for folder in self.folders)

    def __iter__(self) -> Iterator[ArchivedMessage]:
        for folder in self.folders:
            if folder.is_mbox:
                with open(folder.files[0], "rb") as file:
                    yield from mbox.messages(file, folder.mailbox, self.left_out, f"{folder.files[0]}: message")
                continue
            flags = _Flags(folder.path)
            for path in folder.files:
                one = self._read(path, folder)
                if one:
                    yield one._replace(flags=list(dict.fromkeys([*flags.of(path), *one.flags])))

    # Folders

    def _scan(self, path: str, levels: list[str], apple: bool = False) -> None:
        """Find the folders in a directory, which stands for these levels of a mailbox name."""
        with os.scandir(path) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        inside = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        names = [entry.name for entry in entries if entry.is_file()]
        for entry in entries:
            if entry.name not in names and not entry.is_dir(follow_symlinks=False):
                self.left_out.add(entry.path, LINK)
        if maildir.is_maildir(path):
            self._add_maildir(path, levels, names)
            inside = [name for name in inside if name not in ("cur", "new", "tmp")]
        else:
            self._add_files(path, levels, names)
        for name in inside:
            below = os.path.join(path, name)
            more = self._levels(name, below, levels, [*inside, *names], apple)
            if more is not None:
                self._scan(below, [*levels, *more], apple or name.endswith(_APPLE))

    def _levels(self, name: str, path: str, above: list[str], beside: list[str], apple: bool) -> list[str] | None:
        """Return the levels that a directory adds to the name of a mailbox; None if it is none of mail."""
        kmail = _KMAIL.fullmatch(name)
        if kmail:
            return [self._level(kmail[1])]
        if name.startswith("."):
            if not _has_maildir(path):
                return None  # an index of notmuch, or a repository
            # Only Maildir++ has all levels in one name, and no other dot in it.
            return [self._level(part) for part in ([name[1:]] if above else name[1:].split(".")) if part]
        if name.endswith(_SUBFOLDERS):
            plain = name.removesuffix(_SUBFOLDERS)
            if plain in beside or f"{plain}.msf" in beside:
                return [self._level(plain)]
        if name.endswith(_APPLE):
            return [self._level(name.removesuffix(_APPLE))]
        return [] if apple else [self._level(name)]

    def _level(self, name: str) -> str:
        return maildir.mailbox_of(self._decoded(name).replace("%2e", "."))

    def _decoded(self, name: str) -> str:
        octets = os.fsencode(name)
        if not self.utf8 and octets.isascii() and b"&" in octets:
            try:
                decoded = utf7.decode(octets)
                if utf7.encode(decoded) == octets:
                    return decoded
            except ValueError:
                pass
        return octets.decode("utf-8", "replace")

    def _name(self, levels: list[str]) -> str:
        return marks.under(self.mailbox, "/".join(levels)) if levels else self.mailbox

    # Files

    def _add_maildir(self, path: str, levels: list[str], names: list[str]) -> None:
        for name in names:
            if not _BESIDE.fullmatch(name):
                self.left_out.add(os.path.join(path, name), "left out: in a Maildir, but neither in cur nor in new")
        for part in ("cur", "new"):
            below = os.path.join(path, part)
            for name in sorted(os.listdir(below)) if os.path.isdir(below) else ():
                entry = os.path.join(below, name)
                if os.path.isdir(entry):
                    self.left_out.add(entry, f"left out: a directory in {part} of a Maildir")
                elif not os.path.isfile(entry):
                    self.left_out.add(entry, LINK)
        self.folders.append(Folder(self._name(levels), path, maildir.files(path)))

    def _add_files(self, path: str, levels: list[str], names: list[str]) -> None:
        """Add the messages that stand alone in a directory, and each file that is an mbox."""
        is_thunderbird = any(name.endswith(".msf") for name in names)
        messages = []
        for name in names:
            file = os.path.join(path, name)
            if name.startswith((",", "#")) and name[1:].isdigit():
                self.left_out.add(file, "left out: a message that was deleted in MH")
            elif name.endswith(".partial.emlx"):
                self.left_out.add(file, "left out: only a part of a message is here; let Apple Mail download the rest")
            elif self._is_mbox(file, name, names):
                more = [] if name == "mbox" and levels else [self._level(name.removesuffix(_APPLE))]
                self.folders.append(Folder(self._name([*levels, *more]), path, [file], is_mbox=True))
            elif _BESIDE.fullmatch(name):
                continue
            elif not is_thunderbird:
                messages.append(file)
            elif os.path.getsize(file):
                self.left_out.add(file, "left out: no mailbox, beside those of Thunderbird")
        if messages:
            self.folders.append(Folder(self._name(levels), path, sorted(messages, key=maildir.order)))

    def _is_mbox(self, path: str, name: str, beside: list[str]) -> bool:
        """Return whether a file is an mbox, and not one message with the line that a mail server put before it."""
        with open(path, "rb") as file:
            if file.read(5) != b"From ":
                return False
            file.seek(0)
            is_named = name in ("mbox", "mbx") or name.endswith((_APPLE, ".mbx")) or f"{name}.msf" in beside
            return is_named or mbox.has_several(file)

    def _read(self, path: str, folder: Folder) -> ArchivedMessage | None:
        """Return a message, with the flags in its header; None if it is gone. A change of its flags has renamed it."""
        for _ in range(5):
            try:
                with open(path, "rb") as file:
                    octets = file.read(LIMIT + 1)
                    date = max(0, int(os.fstat(file.fileno()).st_mtime))
                break
            except FileNotFoundError:
                again = [one for one in maildir.files(folder.path) if maildir.base(one) == maildir.base(path)]
                if not again:
                    return None
                path = again[0]
        else:
            self.left_out.add(path, "left out: its name changes again and again; try again when nothing uses it")
            return None
        if octets[:4] in (_ZSTD, _LZ4):
            self.left_out.add(path, "left out: compressed with zstd or lz4; unpack it first")
            return None
        unpacked = _unpacked(octets)
        if unpacked is None:
            self.left_out.add(path, "left out: compressed, and damaged or cut off")
            return None
        octets, flags = _emlx(octets) if path.endswith(".emlx") else (unpacked, [])
        end = _HEADER_END.search(octets)
        found = marks.of_own(octets[: end.start() if end else 0])
        if found.is_expunged:
            self.left_out.add(path, "left out: expunged, but still in its file")
            return None
        return ArchivedMessage(path, octets, date, folder.mailbox, flags + found.flags)


def _has_maildir(path: str) -> bool:
    """Return whether a directory is a Maildir, or has one below it."""
    return any(maildir.is_maildir(below) for below, _, _ in os.walk(path))


def _unpacked(octets: bytes) -> bytes | None:
    """Return a message that its server has compressed, other octets as they are; None for what is not whole."""
    decoder: Any
    if octets[:2] == b"\x1f\x8b":
        import zlib

        decoder = zlib.decompressobj(31)
    elif _BZIP2.match(octets):
        import bz2

        decoder = bz2.BZ2Decompressor()
    elif octets[:6] == b"\xfd7zXZ\0":
        import lzma

        decoder = lzma.LZMADecompressor()
    else:
        return octets
    try:
        found: bytes = decoder.decompress(octets, LIMIT + 1)
    except Exception:  # each module has errors of its own
        return None
    return found if len(found) > LIMIT or (decoder.eof and not decoder.unused_data) else None


_EMLX_FLAGS = {0: "\\Seen", 2: "\\Answered", 4: "\\Flagged", 6: "\\Draft", 8: "$Forwarded"}  # by bit
_EMLX = re.compile(rb"<key>flags</key>\s*<integer>(\d{1,18})</integer>")


def _emlx(octets: bytes) -> tuple[bytes, list[str]]:
    """Return the message in a file of Apple Mail, which has its length in front and its flags behind it."""
    length, _, rest = octets.partition(b"\n")
    if not length.strip().isdigit():
        return octets, []
    message = rest[: int(length)]
    found = _EMLX.search(rest, len(message))
    bits = int(found[1]) if found else 0
    return message, [flag for bit, flag in _EMLX_FLAGS.items() if bits >> bit & 1]


class _Flags:
    """The flags of the messages of a folder, by their files."""

    def __init__(self, folder: str) -> None:
        self._keywords = maildir.Keywords(folder)
        self._sequences = _sequences(folder)

    def of(self, path: str) -> list[str]:
        """Return the flags of a message: from its name, or from the sequences of MH."""
        flags = self._keywords.flags(path)
        name = os.path.basename(path)
        if self._sequences is not None and name.isdigit():
            own = [sequence for sequence, numbers in self._sequences.items() if numbers.have(int(name))]
            if "unseen" not in own:
                flags.append("\\Seen")
            flags += [_MH_FLAGS.get(sequence, sequence) for sequence in own if sequence not in ("unseen", "cur")]
        return flags


class _Numbers:
    """The numbers in ranges, as a sequence of MH has them."""

    def __init__(self, ranges: list[range]) -> None:
        ranges.sort(key=lambda one: one.start)
        self._starts = [one.start for one in ranges]
        self._stops = list(accumulate((one.stop for one in ranges), max))

    def have(self, number: int) -> bool:
        """Return whether a number is in one of them."""
        at = bisect_right(self._starts, number)
        return at > 0 and number < self._stops[at - 1]


_MH_FLAGS = {"replied": "\\Answered", "flagged": "\\Flagged", "forwarded": "$Forwarded"}


def _sequences(folder: str) -> dict[str, _Numbers] | None:
    """Return the sequences of an MH folder; None if it has none."""
    try:
        with open(os.path.join(folder, ".mh_sequences"), encoding="utf-8", errors="replace") as file:
            rows = [line.partition(":") for line in file]
    except OSError:
        return None
    return {
        name.strip(): _Numbers([range(int(first), int(last or first) + 1) for first, last in _NUMBERS.findall(numbers)])
        for name, _, numbers in rows
    }
