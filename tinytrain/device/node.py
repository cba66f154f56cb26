# SPDX-License-Identifier: Apache-2.0
"""Board `browser` without a browser: Node.js runs the WebAssembly module, on the same engine as Chromium does."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tinytrain.device.process import ProcessTransport
from tinytrain.errors import ToolError
from tinytrain.target.board import Board

RUN = Path(__file__).resolve().parent / "browser" / "run.mjs"


def start_node(module: Path, board: Board, *, icount: bool = False, more: Sequence[str] = ()) -> ProcessTransport:
    """Start the module. Nothing counts its instructions, with `icount` neither. Raises ToolError where they are asked for one by one, or
    Node.js is missing.
    """
    if more:
        message = f"Instructions of board {board.name} cannot be counted one by one: that needs QEMU, and it runs in Node.js."
        raise ToolError(message, hint="Leave that out, or compile for a board that QEMU emulates (tinytrain boards).")
    if not shutil.which("node"):
        raise ToolError(f"Board {board.name} needs Node.js, which is not installed.", hint="Install it: apt-get install nodejs.")
    return ProcessTransport(f"board {board.name} (Node.js)", ["node", str(RUN), str(module.resolve())])
