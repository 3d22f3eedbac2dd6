"""The text of HTML, as it stands on the screen, for searching and for previews.

This is no parser: it takes tags away. It must take time in proportion to any
input, so no pattern here looks beyond the next "<".
"""

import re

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


def text_of(html: str) -> str:
    """Return the text of HTML: blocks stand apart, and style, scripts, the title and comments are gone."""
    shown = _without_hidden(html)
    if "alt" in shown or "ALT" in shown:
        shown = _IMAGE.sub(lambda image: image[1] or image[2] or "", shown)
    shown = _TAG.sub(_space, shown)
    return _unescape(shown) if "&" in shown else shown


def _space(tag: re.Match[str]) -> str:
    """Return what stands for a tag."""
    return " " if tag[1] and tag[1].lower() in _BLOCKS else ""


def _without_hidden(html: str) -> str:
    """Return HTML without style, scripts, title and comments. One that does not end hides nothing."""
    opening = _HIDDEN.search(html)
    if not opening:
        return html
    lower = html.lower()
    if len(lower) != len(html):  # a few characters have a longer lower case
        lower = html
    kept, at = [], 0
    while opening:
        end = _end_of(opening, lower)
        if end < 0:
            break
        kept.append(html[at : opening.start()])
        if opening[1]:
            kept.append(" ")
        at = end
        opening = _HIDDEN.search(html, at)
    kept.append(html[at:])
    return "".join(kept)


def _end_of(opening: re.Match[str], lower: str) -> int:
    """Return where what is hidden ends; -1 if it does not."""
    if opening[1]:
        return lower.find(f"</{opening[1].lower()}", opening.end())
    if opening[2]:
        return opening.end()  # a comment of nothing
    found = _COMMENT_END.search(lower, opening.end())
    return found.end() if found else -1


def _unescape(shown: str) -> str:
    from html import unescape

    try:
        return unescape(shown)
    except ValueError:  # a number of thousands of digits
        return shown
