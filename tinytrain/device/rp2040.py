# SPDX-License-Identifier: Apache-2.0
"""An RP2040 in rp2040js, an emulator in JavaScript: the UF2 that a kit takes, its UART0 as standard input and output of Node.js."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tinytrain.atomic import write_bytes
from tinytrain.device.flashers.uf2 import uf2_of
from tinytrain.device.process import ProcessTransport
from tinytrain.errors import ToolError
from tinytrain.target.board import Board

FOLDER = Path(__file__).resolve().parent / "rp2040js"


def start_rp2040(elf: Path, board: Board, *, icount: bool = False, more: Sequence[str] = ()) -> ProcessTransport:
    """Start the firmware. `icount`: every instruction takes 1 ns, as in QEMU. Raises ToolError where Node.js or the emulator is missing."""
    if more:
        message = f"Instructions of board {board.name} cannot be counted one by one: that needs QEMU, and it runs in rp2040js."
        raise ToolError(message, hint="Leave that out; its counter counts all of them.")
    if not shutil.which("node"):
        raise ToolError(f"Board {board.name} needs Node.js, which is not installed.", hint="Install it: apt-get install nodejs npm.")
    if not (FOLDER / "node_modules" / "rp2040js").is_dir():
        raise ToolError(f"Board {board.name} needs the emulator rp2040js, which is not installed.", hint=f"Run `npm ci` in {FOLDER}.")
    image = elf.with_suffix(".uf2")
    write_bytes(image, uf2_of(elf, board))
    command = ["node", str(FOLDER / "run.mjs"), str(image.resolve()), *(["--icount"] if icount else [])]
    return ProcessTransport(f"board {board.name} (rp2040js)", command)
