"""Octets in a charset as text, as a person sees them on the screen of a mail client.

A label means what mail programs mean by it, which is often a superset of the
standard of that name (WHATWG Encoding Standard: gb2312 is gb18030, iso-8859-1
is windows-1252). One octet outside the charset must not hide a whole text, so
nothing here fails.
"""

import codecs
import io
import re
from functools import lru_cache
from itertools import chain

# Labels that Python does not know, or knows as a smaller charset than mail programs do: in lower case, by codec.
_LABELS = {
    "cp1252": "ansi_x3.4-1968 ascii cp819 ibm819 iso-8859-1 iso-ir-100 iso8859-1 iso88591 iso_8859-1 iso_8859-1:1987"
    " l1 latin1 us-ascii windows-1252 x-cp1252 x-ansi x-user-defined",
    "cp1254": "iso-8859-9 iso-ir-148 iso8859-9 iso88599 iso_8859-9 l5 latin5 windows-1254 x-cp1254",
    "cp1250": "x-cp1250 win-1250 windows1250",
    "cp1251": "x-cp1251 win-1251 windows1251 cp-1251",
    "cp1253": "x-cp1253",
    "cp1255": "x-cp1255",
    "cp1256": "x-cp1256",
    "cp1257": "x-cp1257",
    "cp1258": "x-cp1258",
    "cp874": "windows-874 dos-874 iso-8859-11 iso8859-11 iso885911 tis-620 tis620",
    "koi8_u": "koi8-u koi8-ru",
    "koi8_r": "koi8-r koi koi8 cskoi8r",
    "iso8859_8": "iso88598 iso-8859-8-i iso-8859-8-e logical visual csiso88598i csiso88598e",
    "iso8859_6": "iso88596 csiso88596e csiso88596i iso-8859-6-i iso-8859-6-e",
    "mac_cyrillic": "x-mac-cyrillic x-mac-ukrainian",
    "iso8859_2": "iso88592",
    "iso8859_3": "iso88593",
    "iso8859_4": "iso88594",
    "iso8859_5": "iso88595",
    "iso8859_7": "iso88597 sun_eu_greek",
    "iso8859_10": "iso885910",
    "iso8859_13": "iso885913",
    "iso8859_14": "iso885914",
    "iso8859_15": "iso885915 csisolatin9",
    "utf-16-be": "unicodefffe",
    "mac_latin2": "x-mac-ce",
    "mac_roman": "macintosh mac x-mac-roman csmacintosh",
    "gb18030": "gb2312 gb_2312 gb_2312-80 chinese csgb2312 csiso58gb231280 iso-ir-58 gbk x-gbk cp936 ms936 windows-936"
    " euc-cn x-euc-cn gb18030",
    "big5hkscs": "big5 big5-hkscs cn-big5 csbig5 x-x-big5 x-big5 big-5 cp950 windows-950",
    "cp949": "euc-kr x-euc-kr cseuckr csksc56011987 korean ks_c_5601-1987 ks_c_5601-1989 ksc5601 ksc_5601 iso-ir-149"
    " windows-949 ms949 uhc x-windows-949",
    "cp932": "shift_jis shift-jis shiftjis csshiftjis sjis x-sjis ms_kanji ms932 windows-31j cswindows31j windows-932",
    "euc_jp": "euc-jp x-euc-jp x-euc cseucpkdfmtjapanese",
    "iso2022_jp": "iso-2022-jp csiso2022jp iso-2022-jp-1 iso-2022-jp-2 iso-2022-jp-ms x-iso-2022-jp",
    "utf-8": "utf-8 utf8 unicode-1-1-utf-8 unicode11utf8 unicode20utf8 x-unicode20utf8 unicode utf-8-mac cp65001",
    "utf-16": "utf-16 utf16 csunicode unicodefeff iso-10646-ucs-2 ucs-2",
    "utf_7": "utf-7 unicode-1-1-utf-7 x-unicode-2-0-utf-7 csunicode11utf7",
}
CODECS = {label: codec for codec, labels in _LABELS.items() for label in labels.split()}
# Where text is not in a charset, it may be in one of these, which are larger.
_LARGER = {"big5hkscs": ("cp950",), "cp932": ("shift_jis_2004",)}
# Codecs of Python that are not charsets of mail; some are slow on hostile input.
_NO_CHARSETS = {"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape"}
_ESCAPE = re.compile(rb"\x1b(\$[@-B]|\([BIJ]|\$\([@-D])")


def decode(octets: bytes, label: str) -> str:
    """Return octets in the charset of a label as text.

    If they are not in that charset, but in UTF-8, they are read as that; else
    what is not in the charset becomes U+FFFD, or in a text of UTF-8 what it is
    in windows-1252. The text has no lone surrogates, which UTF-7, for example,
    can hold, so it can be encoded in UTF-8.
    """
    codec = codec_of(label)
    if octets.isascii() and codec in ("cp1252", "utf-8"):
        return octets.decode("ascii")
    for strict in (codec, *_LARGER.get(codec, ())) if codec not in ("utf-8", "cp1252") else ():
        try:
            return _decode(octets, strict, "strict")
        except ValueError:
            continue
    try:
        # Also what says that it is in US-ASCII or ISO 8859-1: no text in these looks like UTF-8.
        return octets.decode("utf-8")
    except ValueError:
        if codec in ("utf-8", "cp1252"):
            return octets.decode(codec, "surrogateescape").translate(_WINDOWS)
        return _decode(octets, codec, "cspool-euro" if codec == "gb18030" else "replace")


@lru_cache(256)
def codec_of(label: str) -> str:
    """Return the name of the codec for a label; that of UTF-8 for an unknown one."""
    label = label.strip(" \t\"'").lower()
    if label in CODECS:
        return CODECS[label]
    try:
        name = codecs.lookup(label).name
        if name not in _NO_CHARSETS:
            b"x".decode(name, "replace")
            return CODECS.get(name, name)
    except (LookupError, ValueError):  # it is unknown, or not for text
        pass
    return "utf-8"


def _decode(octets: bytes, codec: str, errors: str) -> str:
    if codec == "iso2022_jp":
        text = _iso_2022_jp(octets, errors)
    elif codec == "euc_jp":
        text = _euc_jp(octets, errors)
    elif codec == "utf-16":
        text = octets.decode(_byte_order(octets), errors)
    else:
        text = octets.decode(codec, errors)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _byte_order(octets: bytes) -> str:
    """Return the codec for UTF-16: by its mark, else the order in which more of the text is Latin."""
    if octets[:2] in (b"\xfe\xff", b"\xff\xfe"):
        return "utf-16"
    sample = octets[:1000]
    return "utf-16-le" if sample[1::2].count(0) > sample[::2].count(0) else "utf-16-be"


_SETS = {b"$B": "jis", b"$@": "jis", b"$(D": "jis0212", b"$A": "gb2312", b"$(C": "euc_kr", b"(I": "kana"}


def _iso_2022_jp(octets: bytes, errors: str) -> str:
    """Decode ISO-2022-JP with the characters of NEC and IBM, which senders put into it, and ISO-2022-JP-2."""
    shown = io.StringIO()
    mode, start = b"(B", 0
    for escape in chain(_ESCAPE.finditer(octets), [None]):
        piece = octets[start : escape.start() if escape else len(octets)]
        upper = bytes(octet | 0x80 if 0x21 <= octet <= 0x7E else octet for octet in piece)
        match _SETS.get(mode):
            case "jis":
                shown.write(_euc_jp(upper, errors))
            case "jis0212":
                shown.write(re.sub(rb"[\xa1-\xfe]{2}", rb"\x8f\g<0>", upper).decode("euc_jp", errors))
            case "gb2312" | "euc_kr" as codec:
                shown.write(upper.decode(codec, errors))
            case "kana":
                shown.write(upper.decode("cp932", errors))
            case _:
                shown.write(piece.decode("ascii", errors))
        if escape:
            mode, start = escape[1], escape.end()
    return shown.getvalue()


# Possessive: else the matcher remembers each pair.
_PAIR = re.compile(
    rb"((?:[\xa1-\xfe]{2})++)|((?:\x8f[\xa1-\xfe]{2}|\x8e[\xa1-\xdf])++)"
    rb"|([^\xa1-\xfe\x8e\x8f]+|[\x8e\x8f\xa1-\xfe])"
)


def _euc_jp(octets: bytes, errors: str) -> str:
    """Decode EUC-JP. JIS X 0208 goes through Shift_JIS, whose codec has the rows of NEC and IBM (WHATWG jis0208)."""
    shown = io.StringIO()
    for found in _PAIR.finditer(octets):
        if found[1]:
            shown.write(_shift_jis(found[1]).decode("cp932", errors))
        else:
            shown.write((found[2] or found[3]).decode("euc_jp", errors))
    return shown.getvalue()


def _shift_jis(pairs: bytes) -> bytes:
    """Return characters of EUC-JP, two octets each, in Shift_JIS."""
    found = bytearray()
    for first, second in zip(pairs[::2], pairs[1::2], strict=True):
        row, cell = first - 0xA1, second - 0xA1
        found.append(row // 2 + (0x81 if row < 62 else 0xC1))
        found.append(cell + (0x9F if row % 2 else 0x40 + (cell >= 63)))
    return bytes(found)


# Octets that "surrogateescape" has found outside the charset: in windows-1252, and what that lacks in ISO 8859-1.
_WINDOWS = {0xDC00 + octet: bytes([octet]).decode("cp1252", "ignore") or chr(octet) for octet in range(0x80, 0x100)}


def _euro(error: UnicodeError) -> tuple[str, int]:
    """Read the octet 0x80 as the euro, which it is in the charsets of China, too; replace all others."""
    found = codecs.replace_errors(error)
    if isinstance(error, UnicodeDecodeError) and error.object[error.start : error.end] == b"\x80":
        return "€", error.end
    return str(found[0]), found[1]


codecs.register_error("cspool-euro", _euro)
