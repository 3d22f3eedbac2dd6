"""The text of HTML, as it stands on the screen, for searching and for previews.

This is no parser: it takes tags away. It must take time in proportion to any
input, so no pattern here looks beyond the next "<".
"""

import re

# Tags within a word do not split it.
_INLINE = re.compile(
    r"</?(?:a|abbr|acronym|b|bdi|bdo|big|cite|code|em|font|i|ins|kbd|mark|o:p|q|s|samp|small|span|strike|strong|sub"
    r"|sup|tt|u|var|wbr)(?:[\s/][^<>]*+)?+>",
    re.IGNORECASE,
)
_TAG = re.compile(r"</?[a-z!?][^<>]*+>", re.IGNORECASE)
_HIDDEN = re.compile(r"<(?:(style|script)\b|!--)", re.IGNORECASE)


def text_of(html: str) -> str:
    """Return the text of HTML: blocks stand apart, and style, scripts and comments are gone."""
    shown = _TAG.sub(" ", _INLINE.sub("", _without_hidden(html)))
    return _unescape(shown) if "&" in shown else shown


def _without_hidden(html: str) -> str:
    """Return HTML without style, scripts and comments. One that does not end hides nothing."""
    opening = _HIDDEN.search(html)
    if not opening:
        return html
    lower = html.lower()
    if len(lower) != len(html):  # a few characters have a longer lower case
        lower = html
    kept, at = [], 0
    while opening:
        end = lower.find(f"</{opening[1].lower()}" if opening[1] else "-->", opening.end())
        if end < 0:
            break
        kept.append(html[at : opening.start()])
        at = end if opening[1] else end + 3
        opening = _HIDDEN.search(html, at)
    kept.append(html[at:])
    return " ".join(kept)


def _unescape(shown: str) -> str:
    from html import unescape

    try:
        return unescape(shown)
    except ValueError:  # a number of thousands of digits
        return shown
