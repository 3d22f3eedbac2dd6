"""The text of HTML, as it stands on the screen, for searching and for previews.

This is no parser: it takes tags away. It must take time in proportion to any
input, so no pattern here looks beyond the next "<".
"""

import re
from collections.abc import Iterator

# Blocks stand apart; all other tags are within a line, and do not split a word.
_BLOCKS = frozenset(
    re.findall(
        "[a-z0-9]+",
        "address article aside blockquote body br button caption center col colgroup dd details dialog dir div dl dt"
        " fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html iframe"
        " legend li link listing main menu meta nav noscript ol optgroup option p plaintext pre section select summary"
        " table tbody td textarea tfoot th thead tr ul xmp",
    )
)
# Quotes may hold a ">", and may not be closed.
_TAG = re.compile(
    r"""<(?:/?([a-z][^\s<>/"']*+)|[!?])(?:>|(?:[^<>"']++|"[^"<]*+"|'[^'<]*+')*+>|[^<>]*+>)""", re.IGNORECASE
)
# An image is seen as its text where it is not loaded, and an emoji may be an image.
_IMAGE = re.compile(r"""<img\b[^<>]*?\salt\s*=\s*(?:"([^"<]*)"|'([^'<]*)')[^<>]*>""", re.IGNORECASE)
_HIDDEN = re.compile(r"<(?:(style|script|title)\b|!--(-?>)?)", re.IGNORECASE)
_COMMENT_END = re.compile(r"--!?>")


PIECE = 1 << 20  # characters of large HTML whose tags are taken away at a time
WINDOW = 1 << 16  # characters in which the end of what is hidden is searched at a time


def texts_of(html: str) -> Iterator[str]:
    """Yield the text of HTML: blocks stand apart, and style, scripts, the title and comments are gone."""
    waiting = ""
    for shown in _without_hidden(html):
        waiting += shown
        if len(waiting) > PIECE:
            end = waiting.rfind(">") + 1 or len(waiting)
            yield _text_of(waiting[:end])
            waiting = waiting[end:]
    yield _text_of(waiting)


def _text_of(shown: str) -> str:
    """Return HTML without its tags."""
    if "alt" in shown or "ALT" in shown:
        shown = _IMAGE.sub(lambda image: image[1] or image[2] or "", shown)
    shown = _TAG.sub(_space, shown)
    return _unescape(shown) if "&" in shown else shown


def _space(tag: re.Match[str]) -> str:
    """Return what stands for a tag."""
    return " " if tag[1] and tag[1].lower() in _BLOCKS else ""


def _without_hidden(html: str) -> Iterator[str]:
    """Yield HTML without style, scripts, title and comments, in pieces. One that does not end hides nothing."""
    at = 0
    opening = _HIDDEN.search(html)
    while opening:
        end = _end_of(opening, html)
        if end < 0:
            break
        yield from _cut(html, at, opening.start())
        if opening[1]:
            yield " "
        at = end
        opening = _HIDDEN.search(html, at)
    yield from _cut(html, at, len(html))


def _cut(html: str, start: int, end: int) -> Iterator[str]:
    for at in range(start, end, PIECE):
        yield html[at : min(end, at + PIECE)]


def _end_of(opening: re.Match[str], html: str) -> int:
    """Return where what is hidden ends; -1 if it does not."""
    if opening[1]:
        return _find(html, f"</{opening[1].lower()}", opening.end())
    if opening[2]:
        return opening.end()  # a comment of nothing
    found = _COMMENT_END.search(html, opening.end())
    return found.end() if found else -1


def _find(html: str, word: str, at: int) -> int:
    """Return where a word begins, in any case, from `at` on; -1 if it does not come."""
    size = 256
    while at < len(html):
        window = html[at : at + size]
        lower = window.lower()
        found = (lower if len(lower) == len(window) else window).find(word)  # a few characters have a longer lower case
        if found >= 0:
            return at + found
        at += max(1, len(window) - len(word) + 1)
        size = min(2 * size, WINDOW)
    return -1


def _unescape(shown: str) -> str:
    from html import unescape

    try:
        return unescape(shown)
    except ValueError:  # a number of thousands of digits
        return shown
