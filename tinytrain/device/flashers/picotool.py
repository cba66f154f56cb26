# SPDX-License-Identifier: Apache-2.0
"""picotool: RP2040 and RP2350 in their USB boot loader. [flash] picotool = true."""

from __future__ import annotations

from pathlib import Path

from tinytrain.device.flashers.tool import Commands, Firmware, Flasher
from tinytrain.target.board import Board


class PicoTool(Flasher):
    name = "picotool"
    programs = ("picotool",)
    get = "apt-get install picotool (Debian 13), or build https://github.com/raspberrypi/picotool"
    where = "the serial number of the chip, where there are several"
    proof = r"\bOK\b"

    def fits(self, board: Board) -> bool:
        return bool(board.flash.get(self.name))

    def prepare(self, firmware: Firmware, where: str) -> tuple[dict[Path, bytes], Commands]:
        self.data(firmware.board, bool, "true")
        return {}, (["picotool", "load", "-v", "-x", str(firmware.elf), "-t", "elf", *(["--ser", where] if where else [])],)
