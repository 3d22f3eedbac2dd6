"""The forms in which texts are compared: for searching, and for sorting.

Both are i;unicode-casemap (RFC 5051), extended for searching to what people
mean: a phrase is found across line ends, and invisible characters do not count.
"""

import re
import unicodedata

LONGER = 3  # times the characters that a text may have in this form, and 100 more
PIECE = 1 << 18  # characters that are converted at a time
MARKS_MAX = 30  # combining marks behind each other (UAX #15, stream-safe text): sorting them takes quadratic time

# Soft hyphen, joiners, zero-width characters, marks of direction, variation selectors: nothing is seen of them.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\U000e0000-\U000e0fff]"
)
# What looks the same, and is written by one program and not by another: hyphens, and the wave dash of Japanese.
_ALIKE = {"\u2010": "-", "\u2011": "-", "\u2212": "-", "\u301c": "~", "\u2016": "\u2225", "\u0131": "i"}
_ALIKE_ONES = re.compile(f"[{''.join(_ALIKE)}]|i\u0307")
_MARKS = re.compile(r"[^\w\s\x00-\x7f]{31,}")  # that may be a run of combining marks


def searchable(text: str) -> str:
    """Return the form of a text in which a text that is searched is found.

    Normalized (NFKC) and case-folded; without what is not seen; each run of
    white space, no-break spaces and line ends is one space.
    """
    if len(text) <= PIECE:
        return _searchable(text)
    shown: list[str] = []
    start = 0
    while start < len(text):
        end = start + PIECE
        if end < len(text):  # better behind white space, across which nothing is composed
            end = max(text.rfind("\n", start, end), text.rfind(" ", start, end)) + 1 or end
        piece = _searchable(text[start:end])
        if shown and shown[-1].endswith(" "):
            piece = piece.removeprefix(" ")
        if piece:
            shown.append(piece)
        start = end
    return "".join(shown)


def _searchable(text: str) -> str:
    if text.isascii():
        return _spaced(text.lower())
    text = _MARKS.sub(_fewer_marks, _INVISIBLE.sub("", text))
    folded = unicodedata.normalize("NFKC", text).casefold()
    if len(folded) > LONGER * len(text) + 100:
        folded = text.casefold()  # a character may stand for eighteen
    folded = _ALIKE_ONES.sub(lambda found: _ALIKE.get(found[0], "i"), folded)
    return _spaced(_INVISIBLE.sub("", unicodedata.normalize("NFC", folded)))


def visible(text: str) -> str:
    """Return a text without the characters of which nothing is seen."""
    return text if text.isascii() else _INVISIBLE.sub("", text)


def _fewer_marks(run: re.Match[str]) -> str:
    """Return characters with at most MARKS_MAX combining marks behind each other."""
    text = run[0]
    kept, start, marks = [], 0, 0
    for at, character in enumerate(text):
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks > MARKS_MAX:
            if start < at:
                kept.append(text[start:at])
            start = at + 1
    return "".join([*kept, text[start:]])


def _spaced(text: str) -> str:
    """Return a text with one space for each run of white space."""
    words = " ".join(text.split())
    if not words:
        return text and " "
    return " " * text[0].isspace() + words + " " * text[-1].isspace()


def sortable(text: str) -> str:
    """Return the form of a text whose order by code points is i;unicode-casemap: in title case, decomposed (NFKD).

    RFC 5051 takes the simple mapping: a letter without one, like ß, stays.
    """
    if text.isascii():
        return text.upper()
    titled = "".join(other if len(other := one.title()) == 1 else one for one in text)
    return unicodedata.normalize("NFKD", _MARKS.sub(_fewer_marks, titled))
