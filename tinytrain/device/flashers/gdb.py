# SPDX-License-Identifier: Apache-2.0
"""gdb with any GDB server: that of ST-LINK, J-Link, pyOCD, OpenOCD, QEMU or rp2040js. Fits every board; --via says where it listens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tinytrain.device.flashers.tool import Commands, Firmware, Flasher, unverified
from tinytrain.errors import ToolError
from tinytrain.target.board import Board

_ADDRESS = re.compile(r"([\w.-]+|\[[0-9a-fA-F:]+\]):\d{1,5}")   # gdb itself would take a "| command" there
_READ_BACK = re.compile(r"^Section (\S+), range .*: (matched|MIS-MATCHED)", re.MULTILINE)
_LOADED = re.compile(r"^Start address .*, load size \d+", re.MULTILINE)     # without a server gdb compares the file with itself
_SILENT = re.compile(r"\S+:\d+: .*(timed out|refused|unreachable|not known)")
# Servers differ in what resets a chip; each says that it does not know the other one. Detaching lets the processor go on.
_START = ("monitor system_reset", "monitor reset", "detach")


class Gdb(Flasher):
    name = "gdb"
    programs = ("gdb-multiarch", "arm-none-eabi-gdb", "riscv64-unknown-elf-gdb", "gdb")
    get = "apt-get install gdb-multiarch"
    where = "HOST:PORT of a GDB server"

    def fits(self, board: Board) -> bool:
        return False

    def prepare(self, firmware: Firmware, where: str) -> tuple[dict[Path, bytes], Commands]:
        if not _ADDRESS.fullmatch(where):
            message = f"--via gdb:{where} does not say where the GDB server is; expected gdb:HOST:PORT."
            raise ToolError(message, hint="Example: --via gdb:localhost:3333, where OpenOCD listens.")
        words = ("set confirm off", f"target extended-remote {where}", "load", "compare-sections", *_START)
        given = [word for command in words for word in ("-ex", command)]
        program = self.program() or self.programs[0]
        return {}, ([program, "-nx", "-iex", "set auto-load no", "-batch", *given, str(firmware.elf)],)

    def reason(self, lines: Sequence[str]) -> Sequence[str]:
        """Without a server the first line says all; gdb goes on to commands that make no sense then."""
        return lines[:1] if lines and _SILENT.match(lines[0]) else super().reason(lines)

    def verified(self, firmware: Firmware, output: str) -> str:
        found = _READ_BACK.findall(output)
        if not _LOADED.search(output) or not found or any(result != "matched" for _, result in found):
            raise unverified(firmware, self.name)
        return f"read back by gdb: {', '.join(section for section, _ in found)}"
