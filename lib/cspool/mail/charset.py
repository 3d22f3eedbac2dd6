"""Octets in a charset as text, as a person sees them on the screen of a mail client.

A label means what mail programs mean by it, which is often a superset of the
standard of that name (WHATWG Encoding Standard: gb2312 is gb18030, iso-8859-1
is windows-1252). One octet outside the charset must not hide a whole text, so
nothing here fails.
"""

import codecs
import re

# Labels that Python does not know, or knows as a smaller charset than mail programs do: in lower case, by codec.
_LABELS = {
    "cp1252": "ansi_x3.4-1968 ascii cp819 ibm819 iso-8859-1 iso-ir-100 iso8859-1 iso88591 iso_8859-1 iso_8859-1:1987"
    " l1 latin1 us-ascii windows-1252 x-cp1252 x-ansi x-user-defined",
    "cp1254": "iso-8859-9 iso-ir-148 iso8859-9 iso88599 iso_8859-9 l5 latin5 windows-1254 x-cp1254",
    "cp1250": "x-cp1250",
    "cp1251": "x-cp1251",
    "cp1253": "x-cp1253",
    "cp1255": "x-cp1255",
    "cp1256": "x-cp1256",
    "cp1257": "x-cp1257",
    "cp1258": "x-cp1258",
    "cp874": "windows-874 dos-874 iso-8859-11 iso8859-11 iso885911 tis-620 tis620",
    "koi8_u": "koi8-u koi8-ru",
    "koi8_r": "koi8-r koi koi8 cskoi8r",
    "iso8859_8": "iso-8859-8-i iso-8859-8-e logical visual csiso88598i csiso88598e",
    "iso8859_6": "iso-8859-6-i iso-8859-6-e",
    "mac_cyrillic": "x-mac-cyrillic x-mac-ukrainian",
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
    "utf-16": "utf-16 utf16 csunicode iso-10646-ucs-2 ucs-2",
    "utf_7": "utf-7 unicode-1-1-utf-7 x-unicode-2-0-utf-7 csunicode11utf7",
}
CODECS = {label: codec for codec, labels in _LABELS.items() for label in labels.split()}
# Where text is not in a charset, it may be in one of these, which are larger.
_LARGER = {"big5hkscs": ("cp950",), "euc_jp": ("euc_jis_2004",), "cp932": ("shift_jis_2004",)}
# Codecs of Python that are not charsets of mail; some are slow on hostile input.
_NO_CHARSETS = {"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape"}
_ESCAPE = re.compile(rb"\x1b([$(][@-BIJ]|\$\([@-D])")


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
        return _decode(octets, codec, "cspool-windows" if codec in ("utf-8", "cp1252") else "replace")


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


def _iso_2022_jp(octets: bytes, errors: str) -> str:
    """Decode ISO-2022-JP with the characters of NEC and IBM, which senders put into it."""
    shown = []
    mode, start = b"(B", 0
    for escape in [*_ESCAPE.finditer(octets), None]:
        piece = octets[start : escape.start() if escape else len(octets)]
        if mode.startswith(b"$"):
            # The same characters in EUC-JP have the high bit.
            upper = bytes(octet | 0x80 if 0x21 <= octet <= 0x7E else octet for octet in piece)
            try:
                shown.append(upper.decode("euc_jp"))
            except ValueError:
                shown.append(upper.decode("euc_jis_2004", errors))
        elif mode == b"(I":
            shown.append(bytes(octet | 0x80 if octet >= 0x21 else octet for octet in piece).decode("cp932", errors))
        else:
            shown.append(piece.decode("ascii", errors))
        if escape:
            mode, start = escape[1], escape.end()
    return "".join(shown)


def _as_windows(error: UnicodeError) -> tuple[str, int]:
    """Read the octets of an error in windows-1252, and those that it lacks in ISO 8859-1."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    wrong = error.object[error.start : error.end]
    return "".join(_WINDOWS.get(octet) or chr(octet) for octet in wrong), error.end


_WINDOWS = {octet: bytes([octet]).decode("cp1252", "ignore") for octet in range(0x80, 0xA0)}
codecs.register_error("cspool-windows", _as_windows)
