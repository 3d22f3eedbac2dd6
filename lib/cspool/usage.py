"""Reading the command line of a tool by the usage in its docstring: the only module that imports docopt.

docopt takes about as long to start as Python, so tool.py does without it if
there are no options.
"""

import difflib

import docopt

from .errors import UsageError

Args = dict[str, object]


def read(doc: str, words: list[str]) -> Args:
    """Return the values of all options and operands in the arguments of a tool. Raises UsageError.

    The first "--" ends the options (POSIX.1-2017, Utility Syntax Guideline
    10). docopt would read it as an operand, and an operand after it as an
    option. So docopt does not see it, and sees a placeholder for each argument
    after it.
    """
    end = words.index("--") if "--" in words else len(words)
    operands = {f"\0{number}": word for number, word in enumerate(words[end + 1 :])}  # by placeholder
    try:
        # By position: docopt 0.6.2 and docopt-ng name the third argument differently.
        found = docopt.docopt(doc, [*words[:end], *operands], False)
    except docopt.DocoptExit:
        raise UsageError(_wrong_option(doc, words[:end]) or f"usage: {_synopsis(doc)}") from None
    return {
        key: [operands.get(one, one) for one in value] if isinstance(value, list) else operands.get(value, value)
        for key, value in found.items()
    }


def _wrong_option(doc: str, words: list[str]) -> str | None:
    """Return the message for the first option that the tool does not have, or not in this form; None for none."""
    usage = _usage(doc).replace("|", " ").replace("...", "")
    known = {}  # with the name of the value, or ""
    for word in usage.split():
        option, _, value = word.strip("[]()").partition("=")
        if option.startswith("--"):
            known[option] = value
    for number, word in enumerate(words):
        option, equals, _ = word.partition("=")
        if not option.startswith("-") or option == "-":
            continue
        # docopt accepts any unique prefix of an option.
        meant = [option] if option in known else [one for one in known if one.startswith(option)]
        if not meant:
            nearest = difflib.get_close_matches(option, sorted(known), 1, 0.7)
            return f"{option}: no such option: " + (f"did you mean {nearest[0]}?" if nearest else "see --help")
        if len(meant) > 1:
            return f"{option}: which one: {', '.join(sorted(meant))}?"
        value = known[meant[0]]
        if value and not equals and number + 1 == len(words):
            return f"{option}: it needs a value: {meant[0]}={value}"
        if equals and not value:
            return f"{option}: it takes no value"
    return None


def _synopsis(doc: str) -> str:
    """Return the forms of the usage in one line, without that of --help. A long form goes on in the next line."""
    usage = _usage(doc)
    name = usage.split()[0]
    forms = [" ".join([name, *form.split()]) for form in usage.split(f"{name} ") if form.strip()]
    return " or ".join(form for form in forms if "--help" not in form)


def _usage(doc: str) -> str:
    return doc.partition("Usage: ")[2].partition("\n\n")[0]
