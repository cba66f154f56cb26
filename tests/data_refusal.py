# SPDX-License-Identifier: Apache-2.0
"""What is said of samples that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinytrain.data.dataset import Layout, Target, load_dataset
from tinytrain.errors import DataError


def refusal(path: Path, target: Target, layout: Layout) -> str:
    """One sentence that names the file, without its name; what to try stands below it."""
    with pytest.raises(DataError) as caught:
        load_dataset(path, layout, target)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2, "one sentence and what to try"
    assert str(path) in lines[0] and lines[0].endswith(".") and lines[0].isprintable()
    return lines[0].removeprefix(str(path))
