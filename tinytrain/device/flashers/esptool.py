# SPDX-License-Identifier: Apache-2.0
"""esptool: Espressif chips by their serial boot loader. [flash] esptool = { chip = "esp32c3", address = 0 }."""

from __future__ import annotations

from pathlib import Path

from tinytrain.device.flashers.tool import Commands, Firmware, Flasher, entry
from tinytrain.target.image import flat, segments


class EspTool(Flasher):
    name = "esptool"
    programs = ("esptool", "esptool.py")                  # the second is how versions before 5 are called
    get = "pip install 'tinytrain[flash]'"
    where = "the serial port, where it should not look for it"
    proof = r"Hash of data verified"

    def prepare(self, firmware: Firmware, where: str) -> tuple[dict[Path, bytes], Commands]:
        """A flat image from `address` on, which runs where it lies; esptool compares a hash of what was written."""
        table, board = self.data(firmware.board, dict, "a table with chip and address"), firmware.board
        chip, address = entry(table, "chip", str, "a chip of esptool", board), entry(table, "address", int, "an address in flash", board)
        file, (_, image) = firmware.elf.with_suffix(".bin"), flat(segments(firmware.elf))
        port = ["--port", where] if where else []
        return {file: image}, ([self.program() or self.programs[0], "--chip", chip, *port, self._write(), f"0x{address:x}", str(file)],)

    def _write(self) -> str:
        return "write_flash" if self.program() == "esptool.py" else "write-flash"
