"""The command line of a tool, as its docstring says: the only module that touches docopt.

docopt takes about as long as Python to start, so tool.py does without it where
there are no options.
"""

import difflib

import docopt

from .errors import UsageError

Args = dict[str, object]


def read(doc: str, words: list[str]) -> Args:
    """Return what docopt reads in the arguments of a tool, by option or operand. Raises UsageError.

    The first "--" ends the options (POSIX.1-2017, Utility Syntax Guideline
    10). docopt would take it for an operand, and an operand behind it for an
    option, so it is given a stand-in for each.
    """
    end = words.index("--") if "--" in words else len(words)
    behind = {f"\0{number}": word for number, word in enumerate(words[end + 1 :])}
    try:
        # By position: docopt 0.6.2 and docopt-ng name the third argument differently.
        found = docopt.docopt(doc, [*words[:end], *behind], False)
    except docopt.DocoptExit:
        raise UsageError(_unknown_option(doc, words[:end]) or f"usage: {_synopsis(doc)}") from None
    return {
        key: [behind.get(one, one) for one in value] if isinstance(value, list) else behind.get(value, value)
        for key, value in found.items()
    }


def _unknown_option(doc: str, words: list[str]) -> str | None:
    """Return what to say of the first option that a tool does not have, and which it may have been meant to be."""
    usage = _usage(doc).replace("|", " ").replace("...", "")
    known = {word.strip("[]()").partition("=")[0] for word in usage.split() if "--" in word}
    for word in words:
        option = word.partition("=")[0]
        # docopt takes any unique beginning of an option for it.
        if option.startswith("-") and option != "-" and not any(one.startswith(option) for one in known):
            nearest = difflib.get_close_matches(option, sorted(known), 1, 0.7)
            return f"{option}: no such option: " + (f"did you mean {nearest[0]}?" if nearest else "see --help")
    return None


def _synopsis(doc: str) -> str:
    lines = [line.strip() for line in _usage(doc).splitlines()]
    return " or ".join(line for line in lines if "--help" not in line)


def _usage(doc: str) -> str:
    return doc.partition("Usage: ")[2].partition("\n\n")[0]
