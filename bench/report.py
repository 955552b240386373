# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""From collected results to a Markdown table."""
import statistics

import plan

# What a published table lies between.
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


class Results:
    """Numbers by (case, peer, key); each a list with one entry per round."""

    def __init__(self):
        self.values = {}
        self.failures = {}  # (case, peer): message
        self.repeated = 0  # runs that were disturbed

    def add(self, case, peer, line):
        for key, value in line.items():
            if isinstance(value, (int, float)):
                self.values.setdefault((case, peer, key), []).append(value)

    def fail(self, case, peer, why):
        self.failures[case, peer] = why

    def median(self, case, key, peer=plan.OURS):
        values = self.values.get((case, peer, key))
        return statistics.median(values) if values else None

    def spread(self, case, key, peer=plan.OURS):
        """Half of the range, relative to the median."""
        values = self.values.get((case, peer, key), [])
        median = statistics.median(values) if values else 0
        return (max(values) - min(values)) / 2 / median if median and len(values) > 1 else None

    def as_json(self):
        return {
            "repeated": self.repeated,
            "results": [{"case": c, "peer": p, "key": k, "values": v}
                        for (c, p, k), v in sorted(self.values.items())],
            "failures": [{"case": c, "peer": p, "why": why}
                         for (c, p), why in sorted(self.failures.items())],
        }


def number(value):
    if value is None:
        return ""
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def with_spread(results, place):
    case, key, *peer = place
    text = number(results.median(case, key, *peer))
    spread = results.spread(case, key, *peer)
    return f"{text} ±{spread * 100:.0f}%" if text and spread is not None else text


def holds(value, target):
    relation, bound = target
    return {">=": value >= bound, "<=": value <= bound, "<": value < bound}[relation]


def other_side(results, row):
    """The number ours is compared with, and how it is written."""
    if row.against is None:
        return None, ""
    places = row.against if isinstance(row.against, list) else [row.against]
    values = [results.median(*place) for place in places]
    if None in values:
        failed = results.failures.get((places[0][0], places[0][2]))
        return None, "fails" if failed else ""
    text = with_spread(results, places[0]) if len(places) == 1 else number(sum(values))
    return sum(values), text


def table_line(results, row):
    ours = results.median(*row.value)
    theirs, theirs_text = other_side(results, row)
    if ours is None:
        if (row.value[0], plan.OURS) not in results.failures:
            return None
        return f"| {row.name} | {row.unit} | FAILS | {theirs_text} | | | no |"
    ratio = ours / theirs if theirs else None
    target, met = "", ""
    if row.target:
        target = f"{row.target[0]} {row.target[1]:.3g}"
        compared = ours if row.against is None else ratio
        if compared is not None:
            met = "yes" if holds(compared, row.target) else "**no**"
    return (f"| {row.name} | {row.unit} | {with_spread(results, row.value)} | {theirs_text} | "
            f"{number(ratio)} | {target} | {met} |")


def table(results):
    lines = ["| workload | unit | ours | other | ratio | target | met |",
             "|---|---|---|---|---|---|---|"]
    lines += [line for line in (table_line(results, row) for row in plan.ROWS) if line]
    return "\n".join(lines)
