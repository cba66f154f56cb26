# SPDX-License-Identifier: Apache-2.0
"""Accuracy × RAM × instructions of methods of learning: a picture for each task, and the line of those that nothing beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Protocol

from tinytrain.atomic import write_bytes

PER_LINE = 8                                              # names in the legend
SHOWN = 12.0                                              # points below the best: what is lower lies at the edge, with its number


class Point(Protocol):
    """Accuracies in %; `instructions` of the whole training."""

    task: str
    method: str
    mean: float
    worst: float
    ram_bytes: int
    instructions: float


def front(points: Sequence[Point]) -> list[Point]:
    """Those that no other beats in accuracy with as little RAM, by RAM."""
    found: list[Point] = []
    for one in sorted(points, key=lambda p: (p.ram_bytes, -p.mean)):
        if not found or one.mean > found[-1].mean:
            found.append(one)
    return found


def draw(path: Path, points: Sequence[Point]) -> None:
    """An SVG, the same bytes for the same points: RAM across, accuracy up to the worst seed below, a circle by the instructions, in it the
    number of the method, which the legend below names. What is far below the best is a triangle at the lower edge."""
    import matplotlib
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys(point.task for point in points))
    colours = matplotlib.colormaps["tab20"]
    numbers = {method: number for number, method in enumerate(dict.fromkeys(point.method for point in points), 1)}
    rows, columns = (len(tasks) + 1) // 2, min(2, len(tasks))
    with matplotlib.rc_context({"svg.hashsalt": "tinytrain", "font.size": 8, "svg.fonttype": "none"}):
        figure = Figure(figsize=(5.2 * columns, 4.0 * rows + 0.8), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).flat
        for plot, task in zip(axes, tasks, strict=False):
            here = [point for point in points if point.task == task]
            most = max(point.instructions for point in here)
            low = max(point.mean for point in here) - SHOWN
            best = front(here)
            plot.step([p.ram_bytes / 1024 for p in best], [max(p.mean, low) for p in best], where="post", color="0.75", zorder=0)
            for one in here:
                x, y, number = one.ram_bytes / 1024, max(one.mean, low), numbers[one.method]
                plot.plot([x, x], [max(one.worst, low), y], color="0.6", linewidth=0.8, zorder=1)
                plot.scatter(
                    [x], [y], s=60 + 240 * one.instructions / most, color=colours(number % colours.N), alpha=0.6, zorder=2,
                    marker="o" if y == one.mean else "v",
                )
                text, above = (f"{number}", 0) if y == one.mean else (f"{number}: {one.mean:.0f} %", 11)
                plot.annotate(text, (x, y), (0, above), textcoords="offset points", ha="center", va="center", fontsize=6, zorder=3)
            plot.set(title=task, xlabel="RAM in KB", ylabel="accuracy in %, line to the worst seed", xscale="log")
            for axis_format in (plot.xaxis.set_major_formatter, plot.xaxis.set_minor_formatter):
                axis_format("{x:,.0f}")                   # kilobytes, not powers of ten
            plot.margins(x=0.08)
            plot.grid(alpha=0.3)
        for plot in list(axes)[len(tasks):]:
            plot.set_visible(False)
        named = [f"{number} {method}" for method, number in numbers.items()]
        lines = [" · ".join(named[at : at + PER_LINE]) for at in range(0, len(named), PER_LINE)]
        figure.supxlabel("\n".join(lines), fontsize=8)
        path.parent.mkdir(parents=True, exist_ok=True)
        written = BytesIO()
        figure.savefig(written, format="svg", metadata={"Date": None})
    write_bytes(path, written.getvalue())
