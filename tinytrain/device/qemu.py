# SPDX-License-Identifier: Apache-2.0
"""Boards emulated by QEMU: the board's first serial port is QEMU's standard input and output, or what its caller says."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tinytrain.device.process import ProcessTransport
from tinytrain.errors import ToolError
from tinytrain.target.board import Board

_PACKAGES = {"qemu-system-arm": "qemu-system-arm", "qemu-system-riscv32": "qemu-system-misc"}


def qemu_command(
    elf: Path | None, board: Board, *, icount: bool = False, more: Sequence[str] = (), line: str = "stdio,signal=off"
) -> list[str]:
    """`icount`: every instruction takes 1 ns of virtual time, so that the board's counter gives exact, repeatable instruction counts.

    `more` are further arguments of QEMU, `line` is its character device behind the serial port. Without `elf` the board is empty.
    """
    return [
        *board.machine,
        *("-display", "none", "-monitor", "none", "-nic", "none"),
        *("-chardev", f"{line},id=link", "-serial", "chardev:link"),
        *(("-icount", "shift=0") if icount else ()),
        *(board.sharing.counting if icount and board.cores > 1 else ()),
        *more,
        *(("-kernel", str(elf.resolve())) if elf else ()),
    ]


def start_qemu(elf: Path | None, board: Board, *, icount: bool = False, more: Sequence[str] = ()) -> ProcessTransport:
    """Start the firmware. Raises ToolError where the board has no emulator, or QEMU is not installed."""
    if not board.machine:
        message = f"Board {board.name} has no emulator; expected one that this computer can run."
        raise ToolError(message, hint="Compile for --board host, or for one that `tinytrain boards` lists with an "
                        "emulator, or give the --port of the real one.")
    program = board.machine[0]
    if not shutil.which(program):
        raise ToolError(
            f"Board {board.name} needs the emulator {program}, which is not installed.",
            hint=f"Install it: apt-get install {_PACKAGES.get(program, program)}.",
        )
    return ProcessTransport(f"board {board.name} (QEMU)", qemu_command(elf, board, icount=icount, more=more))
