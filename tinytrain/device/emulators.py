# SPDX-License-Identifier: Apache-2.0
"""Which program stands for a board: the host twin, or the emulator of the kind that its file names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tinytrain.device.hosttwin import start_twin
from tinytrain.device.node import start_node
from tinytrain.device.process import ProcessTransport
from tinytrain.device.qemu import start_qemu
from tinytrain.device.rp2040 import start_rp2040
from tinytrain.target.board import Board

_STARTS = {"qemu": start_qemu, "rp2040js": start_rp2040, "node": start_node}


def start_device(elf: Path, board: Board, *, icount: bool = False, more: Sequence[str] = ()) -> ProcessTransport:
    """Start the firmware. `icount`: every instruction takes 1 ns; `more` are arguments of QEMU. Raises ToolError without an emulator."""
    return start_twin(elf) if board.emulator == "twin" else _STARTS[board.emulator](elf, board, icount=icount, more=more)
