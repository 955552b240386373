# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Plots as SVG, written by hand: groups of bars with a logarithmic or linear axis."""
import html
import math
import re

import plan

# The first text of a plot.
TITLE = re.compile(r">([^<]+)</text>")
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 320, 60, 40, 50
COLOURS = {plan.OURS: "#1f6fb2", plan.REF: "#c8642b", plan.KERNEL: "#4b8b3b"}


def text(x, y, words, anchor="middle", size=12):
    return (f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" '
            f'font-size="{size}">{html.escape(words)}</text>')


def scale(values, logarithmic):
    """A function from value to the height of its bar, and the ticks."""
    top = max(values)
    room = HEIGHT - BOTTOM - TOP
    if logarithmic:
        low = math.floor(math.log10(min(values)) - 0.3)
        high = math.ceil(math.log10(top))
        ticks = [10.0 ** e for e in range(low, high + 1)]
        return lambda v: room * (math.log10(v) - low) / (high - low), ticks
    step = 10 ** math.floor(math.log10(top))
    if top / step < 3:
        step /= 2
    ticks = [step * i for i in range(int(top / step) + 2)]
    return lambda v: room * v / ticks[-1], ticks


def legend(peers):
    parts = []
    if len(peers) < 2:
        return parts
    for i, peer in enumerate(peers):
        x = WIDTH - 200 + 95 * i
        parts.append(f'<rect x="{x}" y="24" width="12" height="12" '
                     f'fill="{COLOURS[peer]}"/>')
        parts.append(text(x + 17, 35, peer, "start"))
    return parts


def bars(title, unit, groups, logarithmic=False):
    """groups: [(label, {peer: value})]. Return the SVG, or None without numbers."""
    groups = [(label, {p: v for p, v in by.items() if v}) for label, by in groups]
    values = [v for _, by in groups for v in by.values()]
    if not values:
        return None
    height, ticks = scale(values, logarithmic)
    peers = [peer for peer in COLOURS if any(peer in by for _, by in groups)]
    base = HEIGHT - BOTTOM
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
             'font-family="sans-serif">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
             text(LEFT, 18, f"{title} ({unit})", "start", 14)]
    for tick in ticks:
        y = base - height(tick)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - 10}" stroke="#ddd"/>')
        parts.append(text(LEFT - 6, y + 4, f"{tick:g}", "end"))
    room = (WIDTH - LEFT - 10) / len(groups)
    for g, (label, by) in enumerate(groups):
        width = room * 0.7 / 2
        for i, peer in enumerate(peers):
            if peer not in by:
                continue
            x = LEFT + room * (g + 0.15) + i * width
            h = height(by[peer])
            parts.append(f'<rect x="{x:.1f}" y="{base - h:.1f}" width="{width - 2:.1f}" '
                         f'height="{h:.1f}" fill="{COLOURS[peer]}"/>')
            parts.append(text(x + width / 2, base - h - 4, f"{by[peer]:.3g}", size=10))
        parts.append(text(LEFT + room * (g + 0.5), base + 18, label))
    return "\n".join(parts + legend(peers) + ["</svg>\n"])


def both(results, case, key):
    return {peer: results.median(case, key, peer) for peer in COLOURS}


def sized(results, kind):
    return [(f"{n} B" if n < 1024 else f"{n // 1024} KiB",
             both(results, kind if n == plan.SIZES[-1] else f"{kind}_{n}", "gbit_per_s"))
            for n in plan.SIZES]


def write_all(results, directory):
    """Write each plot that has numbers; the names of the files and what they show."""
    plots = {
        "throughput-g2h": bars("Guest to host by packet size", "Gb/s, logarithmic",
                               sized(results, "g2h"), True),
        "throughput-h2g": bars("Host to guest by size of the program's writes",
                               "Gb/s, logarithmic", sized(results, "h2g"), True),
        "latency": bars("Request and response of 1 byte", "µs, logarithmic",
                        [(q, both(results, "rr", k)) for q, k in
                         (("p50", "p50_us"), ("p99", "p99_us"), ("p99.9", "p999_us"))], True),
        "connections": bars("Memory of an idle connection", "bytes, logarithmic",
                            [(n, both(results, f"idle_{n}", "bytes_each"))
                             for n in ("10k", "20k", "100k")], True),
        "vms": bars("Memory of the daemon per idle VM", "KiB, logarithmic",
                    [(f"{n} VMs", both(results, f"vms_{n}", "anon_kib_per_vm"))
                     for n in (1, 16, 256, 1024)], True),
        "kernel-bulk": bars("Bulk, our daemon and the kernel's device, by instructions", "Gb/s",
                            [(told, both(results, f"{case}_counted", "gbit_per_s"))
                             for told, case in (("guest to host", "g2h"),
                                                ("host to guest, 3776", "h2g"),
                                                ("host to guest, 4140", "h2g_4140"))]),
        "workers": bars("Two VMs, guest to host, all together", "Gb/s",
                        [(f"{n} worker{'s' * (n > 1)}", both(results, f"workers_{n}",
                                                             "gbit_per_s")) for n in (1, 2)]),
    }
    plots = {name: svg for name, svg in plots.items() if svg}
    for name, svg in plots.items():
        (directory / f"{name}.svg").write_text(svg)
    return {name: html.unescape(TITLE.search(svg).group(1)) for name, svg in plots.items()}
