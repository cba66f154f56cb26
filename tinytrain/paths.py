# SPDX-License-Identifier: Apache-2.0
"""Where templates, runtime and boards lie: inside an installed wheel, or at the top of a source tree. And where results are kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

_PACKAGE = Path(__file__).resolve().parent


def data_dir(name: Literal["boards", "codegen", "runtime_c"]) -> Path:
    """The folder of that name: `tinytrain/_data/<name>` in a wheel, `<name>` beside the package in a source tree."""
    installed = _PACKAGE / "_data" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def licence() -> str:
    """The text of the licence of tinytrain, and of the C that it writes."""
    installed = _PACKAGE / "_data" / "LICENSE"
    return (installed if installed.is_file() else _PACKAGE.parent / "LICENSE").read_text(encoding="utf-8")


def cache_dir() -> Path:
    """The user's folder for what can be computed again: `$XDG_CACHE_HOME/tinytrain`, by default `~/.cache/tinytrain`. It need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinytrain"


def state_dir() -> Path:
    """The user's folder for what must last: `$XDG_STATE_HOME/tinytrain`, by default `~/.local/state/tinytrain`. It need not exist."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "tinytrain"


def config_dir() -> Path:
    """The user's own folder of settings and boards, as the system has it: `~/.config/tinytrain` on Linux. It need not exist."""
    from click import get_app_dir

    return Path(get_app_dir("tinytrain"))
