"""Sets of UIDs: as ranges, and as IMAP writes them."""

from collections.abc import Iterable

Ranges = list[tuple[int, int]]  # of UIDs, both ends included; ascending and disjoint, except where `merged` takes them


def merged(ranges: Ranges) -> Ranges:
    """Return ranges, given in any order, as ascending and disjoint ones; those that touch become one."""
    found: Ranges = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


def within(uids: Iterable[int], ranges: Ranges) -> list[int]:
    """Return the UIDs that are in these ranges. Both are ascending."""
    found, index = [], 0
    for uid in uids:
        while index < len(ranges) and ranges[index][1] < uid:
            index += 1
        if index < len(ranges) and ranges[index][0] <= uid:
            found.append(uid)
    return found


def uid_set(uids: Iterable[int]) -> bytes:
    """Return UIDs or sequence numbers, in their order, as a set of RFC 9051 section 9; ascending runs become ranges."""
    ranges: list[list[int]] = []
    for uid in uids:
        if ranges and uid == ranges[-1][1] + 1:
            ranges[-1][1] = uid
        else:
            ranges.append([uid, uid])
    return b",".join(b"%d" % first if first == last else b"%d:%d" % (first, last) for first, last in ranges)
