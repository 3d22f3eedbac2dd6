"""The Date of a message: RFC 5322 section 3.3, with the obsolete forms of section 4.3 and what else senders write."""

import re
from calendar import timegm
from functools import lru_cache
from typing import NamedTuple

from .message import without_comments

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
# Hours, or minutes where an hour is not enough; RFC 5322 section 4.3 has the first line.
_ZONES = {
    **{"ut": 0, "utc": 0, "gmt": 0, "z": 0, "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6},
    **{"pst": -8, "pdt": -7, "wet": 0, "west": 1, "bst": 1, "cet": 1, "cest": 2, "met": 1, "mest": 2, "mez": 1},
    **{"mesz": 2, "eet": 2, "eest": 3, "msk": 3, "msd": 4, "sast": 2, "hkt": 8, "sgt": 8, "jst": 9, "kst": 9},
    **{"aest": 10, "aedt": 11, "nzst": 12, "nzdt": 13, "hst": -10, "akst": -9, "akdt": -8},
}
_LENGTH_MAX = 200  # octets of a Date that is looked at
_USUAL = re.compile(
    rb"(?:[A-Z][a-z]{2}, )? ?(\d{1,2}) ([A-Za-z]{3}) (\d{4}) ([01]\d|2[0-3]):([0-5]\d):([0-5]\d) ([+-])(\d\d)(\d\d)"
    rb"(?: \([^()]*\))?"
)
_TIME = r"(?P<hour>\d{1,2}) ?[:.] ?(?P<minute>\d{2})(?: ?[:.] ?(?P<second>\d{2})(?:[.,]\d+)?)?(?: ?(?P<half>[AP])M\b)?"
_ZONE = r"(?: ?(?P<zone>(?:GMT|UTC?|Z)? ?[+-] ?\d{1,2}(?::?\d{2})?|[A-Za-z]+)(?: ?\(?[^)]*\)?)?)?.*"
_FORMS = [
    re.compile(pattern, re.ASCII | re.IGNORECASE)
    for pattern in (
        r"(?:[a-z]+\.? ?,? ?)?(?P<day>\d{1,2})[ -]+(?P<month>[a-z]{3})[a-z]*[., -]+(?P<year>\d{2,4})[ ,]+"
        + _TIME + _ZONE,
        # The form of ctime(3), perhaps with a zone before the year.
        r"(?:[a-z]+ ?,? )?(?P<month>[a-z]{3})[a-z]* (?P<day>\d{1,2}),? " + _TIME
        + r"(?: (?P<zone>[+-]\d{4}|[A-Z]+))? (?P<year>\d{4})(?: .*)?",
        # The form of the United States, and of JavaScript.
        r"(?:[a-z]+\.? ?,? ?)?(?P<month>[a-z]{3})[a-z]* (?P<day>\d{1,2}),? (?P<year>\d{4}),? (?:at )?" + _TIME + _ZONE,
        # RFC 3339.
        r"(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})[T ]" + _TIME + _ZONE,
    )
]  # fmt: skip


class Sent(NamedTuple):
    """When a message was sent: in seconds since 1970, and in days since 1970 in the zone of its sender."""

    seconds: int
    day: int


def sent(value: bytes) -> Sent | None:
    """Return the time in a Date, or None if it has none."""
    usual = _USUAL.fullmatch(value)
    if usual:  # the same as below, quickly
        day, month, year, hour, minute, second, sign, hours, minutes = (part.decode() for part in usual.groups())
        if month.lower() in MONTHS and 1 <= int(day) <= 31 and int(year):
            first = _first_day(int(year), MONTHS.index(month.lower()) + 1)
            local = (first + int(day) - 1) * 86400 + int(hour) * 3600 + int(minute) * 60 + int(second)
            ahead = int(hours) * 3600 + int(minutes) * 60
            return Sent(local + (ahead if sign == "-" else -ahead), local // 86400)
    value = value[:_LENGTH_MAX]
    comment = re.search(rb"\(\s*([A-Za-z]{1,5})\s*\)", value)
    text = " ".join(without_comments(value).decode("ascii", "replace").split()).replace(" ,", ",")
    found = next(filter(None, (form.fullmatch(text) for form in _FORMS)), None)
    if not found:
        return None
    month = found["month"].lower()
    month = int(month) if month.isdigit() else MONTHS.index(month) + 1 if month in MONTHS else 0
    zone = found["zone"] or (comment[1].decode() if comment else "")
    day, year = int(found["day"]), _year(found["year"])
    hour, minute, second = (int(found[name] or 0) for name in ("hour", "minute", "second"))
    if found["half"] and hour <= 12:
        hour = hour % 12 + (12 if found["half"].upper() == "P" else 0)
    is_valid = 1 <= month <= 12 and 1 <= day <= 31 and year > 0 and hour <= 24 and minute <= 59 and second <= 60
    if not is_valid:
        return None
    # A leap second counts as the first one after it, and the 31st of a short month as the first of the next.
    local = (_first_day(year, month) + day - 1) * 86400 + hour * 3600 + minute * 60 + second
    return Sent(local - _offset(zone), local // 86400)


@lru_cache(100)
def _first_day(year: int, month: int) -> int:
    """Return the first day of a month, in days since 1970."""
    return timegm((year, month, 1, 0, 0, 0)) // 86400


def _year(digits: str) -> int:
    """Return a year; of two digits it is one of 1950 to 2049, and of three it counts from 1900."""
    year = int(digits)
    if len(digits) == 2:
        return year + (2000 if year < 50 else 1900)
    return year + 1900 if len(digits) == 3 else year


def _offset(zone: str) -> int:
    """Return the seconds that a zone is ahead of UTC; 0 for one that is not known."""
    digits = re.sub("[^0-9]", "", zone)
    if not digits:
        return _ZONES.get(zone.lower(), 0) * 3600
    digits = digits + "00" if len(digits) < 3 else digits
    seconds = int(digits[:-2]) * 3600 + int(digits[-2:]) * 60
    return -seconds if "-" in zone else seconds
