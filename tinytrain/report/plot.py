# SPDX-License-Identifier: Apache-2.0
"""Pictures by matplotlib, which is an extra."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from tinytrain.errors import ToolError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure() -> Figure:
    """An empty one of 6 by 4 inches. Raises ToolError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ToolError("--plot needs matplotlib, which is not installed.", hint="Install it: pip install 'tinytrain[plot]'.") from None
    return Figure(figsize=(6, 4), layout="constrained")


def png(drawn: Figure) -> bytes:
    """The same bytes for the same picture."""
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
