"""The forms in which texts are compared: for searching, and for sorting.

Both are i;unicode-casemap (RFC 5051), extended for searching to what people
mean: a phrase is found across line ends, and invisible characters do not count.
"""

import re
import unicodedata

LONGER = 3  # times the characters that a text may have in this form
# Soft hyphen, joiners, zero-width characters, marks of direction, variation selectors: nothing is seen of them.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
_TITLE = str.maketrans("ǄǇǊǱ", "ǅǈǋǲ")  # where title case is not upper case


def searchable(text: str) -> str:
    """Return the form of a text in which a text that is searched is found.

    Normalized (NFKC) and case-folded; without what is not seen; each run of
    white space, no-break spaces and line ends is one space.
    """
    if text.isascii():
        return _spaced(text.lower())
    folded = unicodedata.normalize("NFKC", text).casefold().replace("i\u0307", "i")
    if len(folded) > LONGER * len(text):
        folded = text.casefold()  # a character may stand for eighteen
    return _spaced(_INVISIBLE.sub("", unicodedata.normalize("NFC", folded)))


def _spaced(text: str) -> str:
    words = " ".join(text.split())
    if not words:
        return " " if text else ""
    return " " * text[0].isspace() + words + " " * text[-1].isspace()


def sortable(text: str) -> str:
    """Return the form of a text whose order by code points is i;unicode-casemap: in title case, decomposed (NFKD)."""
    if text.isascii():
        return text.upper()
    return unicodedata.normalize("NFKD", text.upper().translate(_TITLE))
