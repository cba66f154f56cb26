# SPDX-License-Identifier: Apache-2.0
"""How samples were read, said to whoever waits for what comes of them."""

from __future__ import annotations

from tinytrain.data.dataset import Dataset
from tinytrain.report.live import Progress


def say_how_read(samples: Dataset, progress: Progress) -> None:
    """One line of what was read and assumed, where it was a file; and one for each doubt about it."""
    if samples.summary:
        progress.say(f"data       {samples.summary}")
    for doubt in samples.doubts:
        progress.say(f"warning    {doubt}")
