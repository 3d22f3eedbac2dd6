"""The history of `make bench`: a line of JSON for each run, and a picture of how the steps have changed.

What is kept of a step is how many times longer it takes than what it is
measured beside in the same run: that says something on any machine.
"""

import json
import time
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEGEND = 900, 26, 320  # pixels of the picture, of a step, and of its name
COLOUR = "#1c5a8a"


def add(path, version, count, results):
    """Append a run to the file; `results` are rows of section, what, seconds, beside, of_that."""
    steps = {f"{section} {what}": seconds / of_that for section, what, seconds, _, of_that in results if of_that}
    with Path(path).open("a") as file:
        file.write(json.dumps({"date": int(time.time()), "version": version, "messages": count, "steps": steps}) + "\n")


def read(path):
    """Return the runs, oldest first."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def picture(runs):
    """Return an SVG with a line for each step of the last run, through all runs that had it."""
    names = list(runs[-1]["steps"])
    rows = [row for number, name in enumerate(names) for row in _step(runs, name, number * HEIGHT + 30)]
    size = f'width="{WIDTH}" height="{len(names) * HEIGHT + 40}"'
    title = f"{len(runs)} runs, to {time.strftime('%Y-%m-%d', time.gmtime(runs[-1]['date']))}"
    style = 'font-family="sans-serif" font-size="12"'
    return "\n".join(
        [f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>', _text(4, 16, title), *rows, "</svg>\n"]
    )


def _step(runs, name, y):
    """Yield the elements for a step: its name, its line between its least and its greatest, and its last value."""
    points = [(index, run["steps"][name]) for index, run in enumerate(runs) if name in run["steps"]]
    least, most = min(value for _, value in points), max(value for _, value in points)
    across = (WIDTH - LEGEND - 80) / max(1, len(runs) - 1)
    drawn = [
        (LEGEND + index * across, y + HEIGHT - 8 - (HEIGHT - 12) * ((value - least) / (most - least or 1)))
        for index, value in points
    ]
    yield _text(4, y + 16, name)
    line = " ".join(f"{x:.1f},{height:.1f}" for x, height in drawn)
    yield f'<polyline points="{line}" fill="none" stroke="{COLOUR}" stroke-width="1.5"/>'
    x, height = drawn[-1]
    yield f'<circle cx="{x:.1f}" cy="{height:.1f}" r="2.5" fill="{COLOUR}"/>'
    yield _text(WIDTH - 72, y + 16, f"{points[-1][1]:.2f}")


def _text(x, y, text):
    return f'<text x="{x}" y="{y}">{escape(text)}</text>'
