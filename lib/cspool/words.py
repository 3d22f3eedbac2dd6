"""Numbers, sizes and times in the words of people."""

import time

DAY = 86400  # seconds


def counted(number: int, what: str, plural: str = "s") -> str:
    """Return a number with the name of what is counted."""
    return f"{number:,} {what}{'' if number == 1 else plural}"


def size(octets: float) -> str:
    """Return a size as people say it, with two digits at least."""
    for unit in ("octets", "kB", "MB", "GB"):
        if octets < 999.5 or unit == "GB":
            break
        octets /= 1000
    return f"{octets:,.0f} {unit}" if unit == "octets" or octets >= 10 else f"{octets:.1f} {unit}"


def age(since: float) -> str:
    """Return how long ago a time was, in the largest unit of which at least two have passed."""
    seconds = max(0, int(time.time() - since))
    for unit, length in (("day", DAY), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length:
            return counted(seconds // length, unit)
    return counted(seconds, "second")
