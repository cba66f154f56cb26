# SPDX-License-Identifier: Apache-2.0
"""Where templates, runtime and boards lie: inside an installed wheel, or at the top of a source tree."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

_PACKAGE = Path(__file__).resolve().parent


def data_dir(name: Literal["boards", "codegen", "runtime_c"]) -> Path:
    """The folder of that name: `tinytrain/_data/<name>` in a wheel, `<name>` beside the package in a source tree."""
    installed = _PACKAGE / "_data" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name
