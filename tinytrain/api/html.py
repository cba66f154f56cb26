# SPDX-License-Identifier: Apache-2.0
"""Small views for notebooks: tables and curves that take colours and letters from the page around them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tinytrain.errors import printable

WIDTH, HEIGHT, EDGE = 320, 80, 4                          # pixels of a curve


def table(rows: Sequence[Sequence[object]], *, heading: bool = False) -> str:
    """Rows of cells; columns of numbers stand to the right. `heading`: the first row names the columns."""
    body = rows[1:] if heading else rows
    sides = ["right" if any(isinstance(row[i], (int, float)) for row in body) else "left" for i in range(len(rows[0]))]
    lines = []
    for i, row in enumerate(rows):
        kind = "th" if heading and not i else "td"
        cells = (f'<{kind} style="text-align:{side}">{_text(cell)}</{kind}>' for cell, side in zip(row, sides, strict=True))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table>{''.join(lines)}</table>"


def curve(name: str, values: Sequence[float]) -> str:
    """One line over equal steps, from the least to the largest value, named for those who do not see it."""
    least, most = min(values), max(values)
    span, step = (most - least) or 1.0, (WIDTH - 2 * EDGE) / max(len(values) - 1, 1)
    points = " ".join(
        f"{EDGE + i * step:.1f},{HEIGHT - EDGE - (value - least) / span * (HEIGHT - 2 * EDGE):.1f}" for i, value in enumerate(values)
    )
    label = escape(f"{name} from {values[0]:.4g} to {values[-1]:.4g}")
    return (
        f'<svg role="img" aria-label="{label}" width="{WIDTH}" height="{HEIGHT}"><title>{label}</title>'
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="1.5"/></svg>'
    )


def _text(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:.4g}"
    return f"{cell:,}" if isinstance(cell, int) else escape(printable("" if cell is None else str(cell)))
