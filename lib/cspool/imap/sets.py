"""Sets of UIDs, as ranges and as text."""

from collections.abc import Iterable

Ranges = list[tuple[int, int]]  # of UIDs: ascending and disjoint, both ends included


def merged(ranges: Ranges) -> Ranges:
    """Return ranges in order, and those that touch as one."""
    found: Ranges = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


def within(uids: Iterable[int], ranges: Ranges) -> list[int]:
    """Return those of some UIDs, in ascending order, that are in these ranges."""
    found, place = [], 0
    for uid in uids:
        while place < len(ranges) and ranges[place][1] < uid:
            place += 1
        if place < len(ranges) and ranges[place][0] <= uid:
            found.append(uid)
    return found


def uid_set(uids: Iterable[int]) -> bytes:
    """Return UIDs, in their order, as a uid-set: runs as ranges."""
    ranges: list[list[int]] = []
    for uid in uids:
        if ranges and uid == ranges[-1][1] + 1:
            ranges[-1][1] = uid
        else:
            ranges.append([uid, uid])
    return b",".join(b"%d" % first if first == last else b"%d:%d" % (first, last) for first, last in ranges)
