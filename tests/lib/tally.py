# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""How much a test has tried: what scripts/reliability writes into docs/reliability.md.

Whoever sends or compares counts it here; a fixture adds the counts to the test's record.
"""

from collections import Counter

_counts = Counter()


def add(what, count=1):
    """Note that a test has done something once more."""
    _counts[what] += count


def take():
    """All counts since the last call."""
    taken = dict(_counts)
    _counts.clear()
    return taken
